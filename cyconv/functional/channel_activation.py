"""Activations that treat channels differently: PReLU's learned slopes, and maxout over groups of channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv import memory
from cyconv._dispatch import channel_activation as kernels
from cyconv.functional._arrays import Axes, empty_ordered, flat, memory_axes, usual_axes
from cyconv.threads import threads_for


def _channel_axes(ndim: int) -> Axes:
    """Return the order of axes with the channels last."""
    return (0, *range(2, ndim), 1)


def prelu(x: ArrayLike, weight: ArrayLike) -> NDArray:
    """Scale negative numbers by a learned slope.

    Parameters
    ----------
    x : array_like of shape (N, C, ...), or any where there is one slope
        float32 or float64.
    weight : array_like of shape (C,) or (1,)
        A slope for each channel, or one for all; of the same dtype.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For a number of slopes that is neither 1 nor C.

    Notes
    -----
    ``y = x where x >= 0 else weight * x`` (He, Zhang, Ren and Sun 2015).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.prelu(np.array([[-1.0, -1.0]]), np.array([0.25, 0.5]))
    array([[-0.25, -0.5 ]])
    """
    x, slopes, axes = _check_prelu("prelu", x, weight)
    out = empty_ordered(x.shape, axes, x.dtype)
    if x.size:
        rows = (flat(array, axes).reshape(-1, slopes.size) for array in (x, out))
        x_rows, out_rows = rows
        kernels.prelu(x_rows, slopes, out_rows, threads_for(x.size))
    return out


def prelu_backward(grad_output: ArrayLike, x: ArrayLike, weight: ArrayLike) -> tuple[NDArray, NDArray]:
    """Return the gradients of `prelu` with respect to `x` and `weight`.

    Parameters
    ----------
    grad_output, x : array_like of one shape
        Gradient of the result, and the forward's input.
    weight : array_like of shape (C,) or (1,)
        As in the forward.

    Returns
    -------
    grad_x : ndarray of the shape of `x`
    grad_weight : ndarray of the shape of `weight`

    Raises
    ------
    TypeError, ValueError
        As `prelu`, and for a `grad_output` of another shape.

    Notes
    -----
    ``grad_x = grad_output * (1 where x > 0 else weight)``, ``grad_weight`` the sum of ``grad_output * x`` where x is
    not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.prelu_backward(np.array([[1.0, 2.0]]), np.array([[3.0, -4.0]]), np.array([0.25]))
    (array([[1. , 0.5]]), array([-8.]))
    """
    op = "prelu_backward"
    x, slopes, axes = _check_prelu(op, x, weight)
    axes = axes if slopes.size > 1 else usual_axes(x.ndim)  # a sum's order is that of the axes
    grad = check.as_float_array(op, "grad_output", grad_output)
    check.check_same_dtype(op, grad_output=grad, x=x)
    check.check_shape(op, "grad_output", grad, x.shape, " (that of `x`)")
    grad_x = empty_ordered(x.shape, axes, x.dtype)
    grad_slopes = np.zeros(slopes.size)
    if x.size:
        arrays = [flat(array, axes).reshape(-1, slopes.size) for array in (grad, x, grad_x)]
        kernels.prelu_backward(arrays[0], arrays[1], slopes, arrays[2], grad_slopes, threads_for(x.size))
    return grad_x, _fresh(grad_slopes, x.dtype)


def maxout(x: ArrayLike, pieces: int) -> NDArray:
    """Keep the largest of each run of `pieces` channels.

    Parameters
    ----------
    x : array_like of shape (N, units * pieces, ...)
        float32 or float64.
    pieces : int
        How many neighbouring channels, affine functions of the layer before, make up one unit.

    Returns
    -------
    ndarray of shape (N, units, ...)

    Raises
    ------
    TypeError
        For other dtypes.
    ValueError
        If `pieces` does not divide the channels.

    Notes
    -----
    ``y_u = max over j of x_(u * pieces + j)`` (Goodfellow, Warde-Farley, Mirza, Courville and Bengio 2013). NaN wins
    over every number.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.maxout(np.array([[1.0, 3.0, -2.0, -5.0]]), 2)
    array([[ 3., -2.]])
    """
    x, pieces, axes = _check_maxout("maxout", x, pieces)
    return _maxout(x, pieces, axes)[0]


def maxout_backward(grad_output: ArrayLike, x: ArrayLike, pieces: int) -> NDArray:
    """Return the gradient of `maxout` with respect to `x`: it goes to the piece that won, the first of equals.

    Parameters
    ----------
    grad_output : array_like of shape (N, units, ...)
        Gradient of the result.
    x, pieces
        As in the forward.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError, ValueError
        As `maxout`, and for a `grad_output` of another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.maxout_backward(np.array([[5.0, 6.0]]), np.array([[1.0, 3.0, -2.0, -5.0]]), 2)
    array([[0., 5., 6., 0.]])
    """
    op = "maxout_backward"
    x, pieces, axes = _check_maxout(op, x, pieces)
    grad = check.as_float_array(op, "grad_output", grad_output)
    check.check_same_dtype(op, grad_output=grad, x=x)
    units = x.shape[1] // pieces
    check.check_shape(op, "grad_output", grad, (x.shape[0], units, *x.shape[2:]))
    _, winners = _maxout(x, pieces, axes)
    grad_x = empty_ordered(x.shape, axes, x.dtype)
    if x.size:
        rows = flat(grad, axes).reshape(-1, units), winners, flat(grad_x, axes).reshape(-1, x.shape[1])
        kernels.maxout_backward(*rows, threads_for(x.size))
    return grad_x


def _maxout(x: NDArray, pieces: int, axes: Axes) -> tuple[NDArray, NDArray[np.int32]]:
    """Return the maxima, and in rows which piece each is."""
    units = x.shape[1] // pieces
    out = empty_ordered((x.shape[0], units, *x.shape[2:]), axes, x.dtype)
    winners = memory.empty((out.size // units, units), np.int32)
    if out.size:
        rows = flat(x, axes).reshape(-1, x.shape[1]), flat(out, axes).reshape(-1, units)
        kernels.maxout(*rows, winners, threads_for(x.size))
    return out, winners


def _check_maxout(op: str, x: Any, pieces: Any) -> tuple[NDArray, int, Axes]:
    x = check.as_float_array(op, "x", x)
    if x.ndim < 2 or x.shape[1] == 0:
        raise ValueError(f"{op}: `x` must have the shape (N, channels, ...), got {x.shape}")
    pieces = check.as_int(op, "pieces", pieces)
    if x.shape[1] % pieces:
        raise ValueError(f"{op}: `pieces` must divide the {x.shape[1]} channels of `x`, got {pieces}")
    return x, pieces, _channel_axes(x.ndim)


def _check_prelu(op: str, x: Any, weight: Any) -> tuple[NDArray, NDArray[np.float64], Axes]:
    """Return x, the slopes in float64, and the order of axes in which slopes repeat."""
    x = check.as_float_array(op, "x", x)
    weight = check.as_float_array(op, "weight", weight, 1)
    check.check_same_dtype(op, x=x, weight=weight)
    if weight.size == 1:
        return x, weight.astype(np.float64), memory_axes(x)
    if x.ndim < 2 or weight.size != x.shape[1]:
        raise ValueError(
            f"{op}: `weight` must have one slope, or one for each channel of `x` {x.shape}, got shape {weight.shape}"
        )
    return x, weight.astype(np.float64), _channel_axes(x.ndim)


def _fresh(values: NDArray, dtype: np.dtype) -> NDArray:
    out = memory.empty(values.shape, dtype)
    out[...] = values
    return out
