"""Activation functions: results lie in memory in the order of their input."""

from __future__ import annotations

from collections.abc import Callable

from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv._dispatch import activation as kernels
from cyconv._dispatch import softmax as softmax_kernels
from cyconv.functional._arrays import Axes, empty_ordered, flat, memory_axes
from cyconv.functional._calls import AT_ONCE, Calls
from cyconv.threads import threads_for

EXP_COST = 8  # operations that one exponential counts for


def _forward(op: str, kind: int, x: ArrayLike, slope: float = 0.0, cost: int = 1, calls: Calls = AT_ONCE) -> NDArray:
    x = check.as_float_array(op, "x", x)
    axes = memory_axes(x)
    out = empty_ordered(x.shape, axes, x.dtype, calls)
    calls(kernels.forward, kind, flat(x, axes), flat(out, axes), slope, threads_for(x.size * cost))
    return out


def rectified(x: ArrayLike, calls: Calls = AT_ONCE) -> NDArray:
    """Do what `relu` does."""
    return _forward("relu", kernels.RELU, x, calls=calls)


def gradient_and_saved(op: str, grad_output: ArrayLike, name: str, saved: ArrayLike) -> tuple[NDArray, NDArray]:
    """Return both arrays, checked to be of one shape and dtype."""
    grad = check.as_float_array(op, "grad_output", grad_output)
    saved = check.as_float_array(op, name, saved)
    check.check_shape(op, "grad_output", grad, saved.shape, f" (that of `{name}`)")
    check.check_same_dtype(op, **{"grad_output": grad, name: saved})
    return grad, saved


def _backward(
    op: str, kind: int, grad_output: ArrayLike, saved: ArrayLike, name: str = "output", slope: float = 0.0
) -> NDArray:
    grad, saved = gradient_and_saved(op, grad_output, name, saved)
    axes = memory_axes(saved)
    grad_x = empty_ordered(saved.shape, axes, saved.dtype)
    kernels.backward(kind, flat(grad, axes), flat(saved, axes), flat(grad_x, axes), slope, threads_for(saved.size))
    return grad_x


def relu(x: ArrayLike) -> NDArray:
    """Replace negative numbers by zero.

    Parameters
    ----------
    x : array_like of any shape
        float32 or float64.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other dtypes.

    Notes
    -----
    ``y = max(0, x)``; NaN stays NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return rectified(x)


def relu_backward(grad_output: ArrayLike, output: ArrayLike) -> NDArray:
    """Return the gradient of `relu` with respect to `x`.

    Parameters
    ----------
    grad_output, output : array_like of one shape
        Gradient of the result, and the result itself; of one dtype.

    Returns
    -------
    ndarray of the shape of `output`

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For different shapes.

    Notes
    -----
    ``grad_x = 0 where output <= 0 else grad_output``: at the kink the gradient is 0; a NaN lets it pass, as in PyTorch.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.relu_backward(np.array([3.0, 4.0]), F.relu(np.array([-1.0, 2.0])))
    array([0., 4.])
    """
    return _backward("relu_backward", kernels.RELU, grad_output, output)


def leaky_relu(x: ArrayLike, negative_slope: float = 0.01) -> NDArray:
    """Scale negative numbers by a slope.

    Parameters
    ----------
    x : array_like of any shape
        float32 or float64.
    negative_slope : float, default 0.01
        Factor of negative numbers.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other dtypes, or a slope that is not a number.
    ValueError
        For a slope that is not finite.

    Notes
    -----
    ``y = x where x >= 0 else negative_slope * x`` (Maas, Hannun and Ng 2013).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.leaky_relu(np.array([-1.0, 2.0]), 0.5)
    array([-0.5,  2. ])
    """
    slope = check.as_number("leaky_relu", "negative_slope", negative_slope)
    return _forward("leaky_relu", kernels.LEAKY_RELU, x, slope)


def leaky_relu_backward(grad_output: ArrayLike, x: ArrayLike, negative_slope: float = 0.01) -> NDArray:
    """Return the gradient of `leaky_relu` with respect to `x`.

    Parameters
    ----------
    grad_output, x : array_like of one shape
        Gradient of the result, and the forward's input; of one dtype.
    negative_slope : float, default 0.01
        As in the forward.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For different shapes.

    Notes
    -----
    ``grad_x = grad_output * (1 where x > 0 else negative_slope)``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.leaky_relu_backward(np.array([3.0, 4.0]), np.array([-1.0, 2.0]), 0.5)
    array([1.5, 4. ])
    """
    slope = check.as_number("leaky_relu_backward", "negative_slope", negative_slope)
    return _backward("leaky_relu_backward", kernels.LEAKY_RELU, grad_output, x, "x", slope)


def sigmoid(x: ArrayLike) -> NDArray:
    """Apply the logistic function.

    Parameters
    ----------
    x : array_like of any shape
        float32 or float64.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other dtypes.

    Notes
    -----
    ``y = 1 / (1 + exp(-x))``, within 2.5 units in the last place of the exact value; one too small for a normal number
    may be 0.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.sigmoid(np.array([0.0, 1000.0]))
    array([0.5, 1. ])
    """
    return _forward("sigmoid", kernels.SIGMOID, x, cost=EXP_COST)


def sigmoid_backward(grad_output: ArrayLike, output: ArrayLike) -> NDArray:
    """Return the gradient of `sigmoid` with respect to `x`.

    Parameters
    ----------
    grad_output, output : array_like of one shape
        Gradient of the result, and the result itself; of one dtype.

    Returns
    -------
    ndarray of the shape of `output`

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For different shapes.

    Notes
    -----
    ``grad_x = grad_output * output * (1 - output)``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.sigmoid_backward(np.array([4.0]), F.sigmoid(np.array([0.0])))
    array([1.])
    """
    return _backward("sigmoid_backward", kernels.SIGMOID, grad_output, output)


def tanh(x: ArrayLike) -> NDArray:
    """Apply the hyperbolic tangent.

    Parameters
    ----------
    x : array_like of any shape
        float32 or float64.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other dtypes.

    Notes
    -----
    ``y = (1 - e) / (1 + e)`` with ``e = exp(-2 |x|)``, and the sign of `x`: within 2.5 units in the last place of the
    exact value for every `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.tanh(np.array([0.0, -1000.0]))
    array([ 0., -1.])
    """
    return _forward("tanh", kernels.TANH, x, cost=EXP_COST)


def tanh_backward(grad_output: ArrayLike, output: ArrayLike) -> NDArray:
    """Return the gradient of `tanh` with respect to `x`.

    Parameters
    ----------
    grad_output, output : array_like of one shape
        Gradient of the result, and the result itself; of one dtype.

    Returns
    -------
    ndarray of the shape of `output`

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For different shapes.

    Notes
    -----
    ``grad_x = grad_output * (1 - output^2)``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.tanh_backward(np.array([4.0]), F.tanh(np.array([0.0])))
    array([4.])
    """
    return _backward("tanh_backward", kernels.TANH, grad_output, output)


def _row_axes(op: str, x: NDArray, axis: int) -> Axes:
    """Return the order of axes with `axis` last: (N, C, H, W) and axis 1 give N, H, W, C."""
    if x.ndim == 0:
        raise ValueError(f"{op}: `x` must have at least 1 dimension")
    last = check.as_int(op, "axis", axis, -x.ndim, x.ndim - 1) % x.ndim
    return (*(other for other in range(x.ndim) if other != last), last)


def _along_rows(kernel: Callable[..., None], arrays: tuple[NDArray, ...], axes: Axes, logarithm: bool) -> NDArray:
    x = arrays[0]
    out = empty_ordered(x.shape, axes, x.dtype)
    if x.size:
        rows = (flat(array, axes).reshape(-1, x.shape[axes[-1]]) for array in (*arrays, out))
        kernel(*rows, logarithm, threads_for(x.size * EXP_COST))
    return out


def _softmax(op: str, x: ArrayLike, axis: int, logarithm: bool) -> NDArray:
    x = check.as_float_array(op, "x", x)
    return _along_rows(softmax_kernels.softmax, (x,), _row_axes(op, x, axis), logarithm)


def _softmax_backward(op: str, grad_output: ArrayLike, output: ArrayLike, axis: int, logarithm: bool) -> NDArray:
    pair = gradient_and_saved(op, grad_output, "output", output)
    return _along_rows(softmax_kernels.softmax_backward, pair, _row_axes(op, pair[1], axis), logarithm)


def softmax(x: ArrayLike, axis: int = 1) -> NDArray:
    """Turn numbers along an axis into probabilities.

    Parameters
    ----------
    x : array_like of at least 1 dimension
        float32 or float64.
    axis : int, default 1
        The axis whose entries add up to 1: the channels of (N, C, H, W), the classes of (N, K).

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other dtypes, or an axis that is not an integer.
    ValueError
        For an axis that `x` has not.

    Notes
    -----
    ``y = exp(x - m) / sum exp(x - m)`` with m the largest entry along the axis.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.softmax(np.array([[1000.0, 1000.0]]))
    array([[0.5, 0.5]])
    """
    return _softmax("softmax", x, axis, False)


def softmax_backward(grad_output: ArrayLike, output: ArrayLike, axis: int = 1) -> NDArray:
    """Return the gradient of `softmax` with respect to `x`.

    Parameters
    ----------
    grad_output, output : array_like of one shape
        Gradient of the result, and the result itself; of one dtype.
    axis : int, default 1
        As in the forward.

    Returns
    -------
    ndarray of the shape of `output`

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For different shapes, or an axis they have not.

    Notes
    -----
    ``grad_x = output * (grad_output - sum(grad_output * output))``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.softmax_backward(np.array([[4.0, 0.0]]), np.array([[0.5, 0.5]]))
    array([[ 1., -1.]])
    """
    return _softmax_backward("softmax_backward", grad_output, output, axis, False)


def log_softmax(x: ArrayLike, axis: int = 1) -> NDArray:
    """Return the logarithm of `softmax`, accurate for small probabilities.

    Parameters
    ----------
    x : array_like of at least 1 dimension
        float32 or float64.
    axis : int, default 1
        The axis whose exponentials add up to 1.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other dtypes, or an axis that is not an integer.
    ValueError
        For an axis that `x` has not.

    Notes
    -----
    ``y = (x - m) - log sum exp(x - m)`` with m the largest entry along the axis.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.log_softmax(np.array([[0.0, 1000.0]]))
    array([[-1000.,     0.]])
    """
    return _softmax("log_softmax", x, axis, True)


def log_softmax_backward(grad_output: ArrayLike, output: ArrayLike, axis: int = 1) -> NDArray:
    """Return the gradient of `log_softmax` with respect to `x`.

    Parameters
    ----------
    grad_output, output : array_like of one shape
        Gradient of the result, and the result itself; of one dtype.
    axis : int, default 1
        As in the forward.

    Returns
    -------
    ndarray of the shape of `output`

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For different shapes, or an axis they have not.

    Notes
    -----
    ``grad_x = grad_output - exp(output) * sum(grad_output)``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.log_softmax_backward(np.array([[1.0, 0.0]]), F.log_softmax(np.zeros((1, 2))))
    array([[ 0.5, -0.5]])
    """
    return _softmax_backward("log_softmax_backward", grad_output, output, axis, True)
