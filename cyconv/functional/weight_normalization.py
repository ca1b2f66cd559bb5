"""Weight normalisation: the length and the direction of each filter as two parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv import memory


def weight_norm(v: ArrayLike, g: ArrayLike, dim: int = 0) -> NDArray:
    """Return filters of given lengths and directions.

    Parameters
    ----------
    v : array_like of at least 1 dimension
        Directions: filters of any length but 0; float32 or float64.
    g : array_like
        Lengths, of the shape of `v` with all extents but that of `dim` 1; of the same dtype.
    dim : int, default 0
        The axis that counts the filters.

    Returns
    -------
    ndarray of the shape of `v`

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        If a shape or `dim` does not fit.

    Notes
    -----
    ``w = g v / ||v||``, the Euclidean norm over all axes but `dim` (Salimans and Kingma 2016), summed in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.weight_norm(np.array([[3.0, 4.0]]), np.array([[10.0]]))
    array([[6., 8.]])
    """
    v, g, axes = _check("weight_norm", v, g, dim)
    return _fresh(v * (g / _norms(v, axes)), v.dtype)


def weight_norm_backward(grad_output: ArrayLike, v: ArrayLike, g: ArrayLike, dim: int = 0) -> tuple[NDArray, NDArray]:
    """Return the gradients of `weight_norm` with respect to v and g.

    Parameters
    ----------
    grad_output : array_like of the shape of `v`
        Gradient of the filters.
    v, g, dim
        As in the forward.

    Returns
    -------
    grad_v : ndarray of the shape of `v`
    grad_g : ndarray of the shape of `g`

    Raises
    ------
    TypeError, ValueError
        As `weight_norm`, and for a `grad_output` of another shape.

    Notes
    -----
    ``grad_g = sum(grad_output v) / ||v||``, ``grad_v = g / ||v|| (grad_output - grad_g v / ||v||)``: orthogonal to v.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> grad_v, grad_g = F.weight_norm_backward(np.array([[1.0, 0.0]]), np.array([[3.0, 4.0]]), np.array([[5.0]]))
    >>> grad_v.round(4), grad_g.round(4)
    (array([[ 0.64, -0.48]]), array([[0.6]]))
    """
    op = "weight_norm_backward"
    v, g, axes = _check(op, v, g, dim)
    grad = check.as_float_array(op, "grad_output", grad_output)
    check.check_same_dtype(op, grad_output=grad, v=v)
    check.check_shape(op, "grad_output", grad, v.shape, " (that of `v`)")
    norms = _norms(v, axes)
    grad_g = (_wide(grad) * _wide(v)).sum(axis=axes, keepdims=True) / norms
    return _fresh((grad - v * (grad_g / norms)) * (g / norms), v.dtype), _fresh(grad_g, v.dtype)


def lengths(v: NDArray, dim: int = 0) -> NDArray:
    """Return the Euclidean norms of filters, in the shape of `weight_norm`'s g."""
    return _norms(v, tuple(axis for axis in range(v.ndim) if axis != dim)).astype(v.dtype)


def _norms(v: NDArray, axes: tuple[int, ...]) -> NDArray[np.float64]:
    return np.sqrt(np.square(_wide(v)).sum(axis=axes, keepdims=True))


def _wide(values: NDArray) -> NDArray[np.float64]:
    """Return an array in float64 and C order: sums run in the order of the memory."""
    return np.asarray(values, np.float64, order="C")


def _fresh(values: NDArray, dtype: np.dtype) -> NDArray:
    out = memory.empty(values.shape, dtype)
    out[...] = values
    return out


def _check(op: str, v: Any, g: Any, dim: Any) -> tuple[NDArray, NDArray, tuple[int, ...]]:
    """Return both arrays, and the axes to sum over."""
    v, g = check.as_float_array(op, "v", v), check.as_float_array(op, "g", g)
    check.check_same_dtype(op, v=v, g=g)
    if v.ndim == 0:
        raise ValueError(f"{op}: `v` must have at least 1 dimension")
    kept = check.as_int(op, "dim", dim, -v.ndim, v.ndim - 1) % v.ndim
    shape = tuple(extent if axis == kept else 1 for axis, extent in enumerate(v.shape))
    check.check_shape(op, "g", g, shape, " (a length for each filter)")
    return v, g, tuple(axis for axis in range(v.ndim) if axis != kept)
