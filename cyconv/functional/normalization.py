"""Batch normalisation, alone and fused with the ReLU that follows it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv._dispatch import normalization as kernels
from cyconv.functional._arrays import pixels_of
from cyconv.functional._calls import AT_ONCE, Calls
from cyconv.threads import threads_for


def _as_images(op: str, name: str, value: ArrayLike) -> NDArray:
    return check.as_float_array(op, name, value, (2, 3, 4, 5))


def _as_channels(op: str, name: str, value: ArrayLike, x: NDArray) -> NDArray:
    array = check.as_float_array(op, name, value, 1)
    if array.shape[0] != x.shape[1]:
        check.check_shape(op, name, array, (x.shape[1],), f" (one per channel of `x` {x.shape})")
    return array


def _as_optional(op: str, name: str, value: ArrayLike | None, x: NDArray) -> NDArray | None:
    return None if value is None else _as_channels(op, name, value, x)


def _pixels(x: NDArray) -> NDArray:
    """Return (N, C, ...) as [P, C]: a view of what `_empty_like` made, else perhaps a copy."""
    C = x.shape[1]
    ordered = np.ascontiguousarray(x) if x.ndim == 2 else pixels_of(x)
    return ordered.reshape(x.size // max(1, C), C)


def _empty_like(x: NDArray, calls: Calls = AT_ONCE) -> NDArray:
    N, C, *size = x.shape
    return np.moveaxis(calls.empty((N, *size, C), x.dtype), -1, 1)


def _normalize(
    op: str,
    x: NDArray,
    statistics: tuple[NDArray, NDArray] | None,
    weight: ArrayLike | None,
    bias: ArrayLike | None,
    eps: float,
    residual: NDArray | None = None,
    relu: bool = False,
    calls: Calls = AT_ONCE,
) -> tuple[NDArray, NDArray, NDArray]:
    """Return the output, and the mean and variance that it was made with: `statistics`, or else those of `x`."""
    weight, bias = _as_optional(op, "weight", weight, x), _as_optional(op, "bias", bias, x)
    check.check_same_dtype(op, x=x, weight=weight, bias=bias, residual=residual)
    eps = check.as_number(op, "eps", eps, 0, open_minimum=True)
    out = _empty_like(x, calls)
    mean, var = _moments(x.shape[1]) if statistics is None else np.array(statistics, np.float64)
    if out.size:
        added = None if residual is None else _pixels(residual)
        parameters = _dense(weight), _dense(bias), eps, added
        threads = threads_for(x.size)
        calls(kernels.forward, _pixels(x), mean, var, *parameters, _pixels(out), relu, statistics is None, threads)
    return out, mean, var


def _moments(C: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return zeros for the means and variances of an empty batch, to be overwritten by those of another."""
    mean, var = np.zeros((2, C))
    return mean, var


def _dense(values: NDArray | None) -> NDArray | None:
    return None if values is None else np.ascontiguousarray(values)


def batch_norm_statistics(x: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the biased variance of each channel.

    Parameters
    ----------
    x : array_like of shape (N, C) or (N, C, ...), with up to three more axes
        float32 or float64.

    Returns
    -------
    mean, var : ndarray of shape (C,)
        Always float64; zeros for an empty batch.

    Raises
    ------
    TypeError
        For other dtypes.
    ValueError
        For another number of dimensions.

    Notes
    -----
    One pass, in pieces merged by the formula of Chan, Golub and LeVeque (1979), so a mean far from zero costs no
    accuracy. The same bits for any number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.batch_norm_statistics(np.array([[1.0, 5.0], [3.0, 5.0]]))
    (array([2., 5.]), array([1., 0.]))
    """
    x = _as_images("batch_norm_statistics", "x", x)
    mean, var = _moments(x.shape[1])
    if x.size:
        kernels.forward(_pixels(x), mean, var, None, None, 0, None, None, False, True, threads_for(x.size))
    return mean, var


def _as_residual(op: str, residual: ArrayLike | None, x: NDArray) -> NDArray | None:
    if residual is not None:
        residual = _as_images(op, "residual", residual)
        check.check_shape(op, "residual", residual, x.shape, " (that of `x`)")
    return residual


def normalized(
    op: str,
    x: ArrayLike,
    mean: ArrayLike,
    var: ArrayLike,
    weight: ArrayLike | None,
    bias: ArrayLike | None,
    eps: float,
    residual: ArrayLike | None,
    relu: bool,
    calls: Calls = AT_ONCE,
) -> NDArray:
    """Normalise by given statistics, add a residual and apply ReLU, each if wanted."""
    x = _as_images(op, "x", x)
    statistics = _as_channels(op, "mean", mean, x), _as_channels(op, "var", var, x)
    return _normalize(op, x, statistics, weight, bias, eps, _as_residual(op, residual, x), relu, calls)[0]


def _check_count(op: str, x: NDArray) -> None:
    """Raise ValueError for a single value per channel: its variance says nothing."""
    if x.size == x.shape[1] != 0:
        raise ValueError(f"{op}: more than 1 value per channel is needed when `training`, got `x` of shape {x.shape}")


def follow(
    running_mean: NDArray | None, running_var: NDArray | None, mean: NDArray, var: NDArray, x: NDArray, momentum: float
) -> None:
    """Let the running statistics, where there are any, follow those of the batch `x`: the variance without its bias."""
    count = x.size // x.shape[1]
    with np.errstate(all="ignore"):
        if running_mean is not None:
            running_mean[...] = (1 - momentum) * running_mean + momentum * mean
        if running_var is not None:
            running_var[...] = (1 - momentum) * running_var + momentum * count / (count - 1) * var


def batch_norm(
    x: ArrayLike,
    running_mean: NDArray | None,
    running_var: NDArray | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> NDArray:
    """Normalise each channel to mean 0 and variance 1, then scale and shift it.

    Parameters
    ----------
    x : array_like of shape (N, C) or (N, C, ...), with up to three more axes
        float32 or float64.
    running_mean, running_var : ndarray of shape (C,) or None
        float32 or float64. Used to normalise, or, when `training`, updated in place if given.
    weight, bias : array_like of shape (C,), optional
        Of the dtype of `x`. Default: ones and zeros.
    training : bool, default False
        Normalise by the statistics of this batch.
    momentum : float, default 0.1
        Weight of this batch in the running statistics, which take the unbiased variance.
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other or mixed dtypes, or running statistics that are not ndarrays.
    ValueError
        For shapes that do not fit, or a single value per channel when `training`.

    Notes
    -----
    ``y = (x - mean) / sqrt(var + eps) * weight + bias`` (Ioffe and Szegedy 2015).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.batch_norm(np.array([[1.0], [3.0]]), None, None, training=True, eps=1e-12)
    array([[-1.],
           [ 1.]])
    """
    op = "batch_norm"
    x = _as_images(op, "x", x)
    mean, var = _as_optional(op, "running_mean", running_mean, x), _as_optional(op, "running_var", running_var, x)
    momentum = check.as_number(op, "momentum", momentum, 0, 1)
    if not check.as_bool(op, "training", training):
        if mean is None or var is None:
            raise ValueError(f"{op}: `running_mean` and `running_var` are needed unless `training`")
        return _normalize(op, x, (mean, var), weight, bias, eps)[0]
    for name, array in (("running_mean", running_mean), ("running_var", running_var)):
        if array is not None and not (isinstance(array, np.ndarray) and array.flags.writeable):
            raise TypeError(f"{op}: `{name}` must be a writeable ndarray when `training`, got {type(array).__name__}")
    _check_count(op, x)
    out, mean, var = _normalize(op, x, None, weight, bias, eps)
    if out.size:
        follow(running_mean, running_var, mean, var, x, momentum)
    return out


def batch_norm_with_statistics(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    residual: ArrayLike | None = None,
    relu: bool = False,
) -> tuple[NDArray, NDArray[np.float64], NDArray[np.float64]]:
    """Normalise by the statistics of this batch and return them too: what a layer keeps for `batch_norm_backward`.

    Parameters
    ----------
    x, weight, bias, eps
        As in `batch_norm`.
    residual : array_like of the shape of `x`, optional
        Of the dtype of `x`; added to the result. Default: none.
    relu : bool, default False
        Set negative numbers to zero, last.

    Returns
    -------
    output : ndarray of the shape of `x`
    mean, var : ndarray of shape (C,)
        As from `batch_norm_statistics`, gathered on the way.

    Raises
    ------
    TypeError, ValueError
        As `batch_norm` when `training`, and for a `residual` of another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.batch_norm_with_statistics(np.array([[1.0], [3.0]]))[1:]
    (array([2.]), array([1.]))
    """
    op = "batch_norm_with_statistics"
    x = _as_images(op, "x", x)
    _check_count(op, x)
    relu = check.as_bool(op, "relu", relu)
    return _normalize(op, x, None, weight, bias, eps, _as_residual(op, residual, x), relu)


def batch_norm_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike | None,
    mean: ArrayLike,
    var: ArrayLike,
    eps: float = 1e-5,
    training: bool = True,
) -> tuple[NDArray, NDArray | None, NDArray]:
    """Return the gradients of `batch_norm` with respect to `x`, `weight` and `bias`.

    Parameters
    ----------
    grad_output, x : array_like of shape (N, C) or (N, C, ...), with up to three more axes
        float32 or float64.
    weight : array_like of shape (C,) or None
        Of the same dtype.
    mean, var : array_like of shape (C,)
        What the forward normalised by: `batch_norm_statistics` of `x` when `training`, else the running statistics.
    eps : float, default 1e-5
        As in the forward.
    training : bool, default True
        Whether `mean` and `var` depend on `x`.

    Returns
    -------
    grad_x : ndarray of the shape of `x`
    grad_weight : ndarray of shape (C,), None without a weight
    grad_bias : ndarray of shape (C,)

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For shapes that do not fit.

    Notes
    -----
    With ``r = 1 / sqrt(var + eps)`` and n values per channel: ``grad_bias = sum g``,
    ``grad_weight = r sum g (x - mean)`` and, when `training`,
    ``grad_x = weight r (g - grad_bias / n - (x - mean) r grad_weight / n)``, else ``weight r g``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> x = np.array([[1.0], [3.0]])
    >>> F.batch_norm_backward(np.ones_like(x), x, np.ones(1), *F.batch_norm_statistics(x))[2]
    array([2.])
    """
    return _backward("batch_norm_backward", grad_output, x, weight, None, mean, var, eps, False, training)


def _backward(
    op: str,
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike | None,
    bias: ArrayLike | None,
    mean: ArrayLike,
    var: ArrayLike,
    eps: float,
    relu: bool,
    training: bool,
) -> tuple[NDArray, NDArray | None, NDArray]:
    x, grad = _as_images(op, "x", x), _as_images(op, "grad_output", grad_output)
    check.check_shape(op, "grad_output", grad, x.shape, " (that of `x`)")
    weight, bias = _as_optional(op, "weight", weight, x), _as_optional(op, "bias", bias, x)
    check.check_same_dtype(op, grad_output=grad, x=x, weight=weight, bias=bias)
    mean, var = _as_channels(op, "mean", mean, x), _as_channels(op, "var", var, x)
    eps = check.as_number(op, "eps", eps, 0, open_minimum=True)
    C = x.shape[1]
    grad_x, grad_bias = _empty_like(x), np.zeros(C, x.dtype)
    grad_weight = None if weight is None else np.zeros(C, x.dtype)
    if x.size:
        mean, var = np.ascontiguousarray(mean, np.float64), np.ascontiguousarray(var, np.float64)
        parameters = mean, var, _dense(weight), _dense(bias), eps, relu, check.as_bool(op, "training", training)
        results = _pixels(grad_x), grad_weight, grad_bias
        kernels.backward(_pixels(grad), _pixels(x), *parameters, *results, threads_for(x.size))
    return grad_x, grad_weight, grad_bias


def batch_norm_relu(
    x: ArrayLike,
    mean: ArrayLike,
    var: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    residual: ArrayLike | None = None,
) -> NDArray:
    """Normalise by given statistics, add a residual and apply ReLU, in one pass over memory.

    Parameters
    ----------
    x : array_like of shape (N, C) or (N, C, ...), with up to three more axes
        float32 or float64.
    mean, var : array_like of shape (C,)
        float32 or float64: `batch_norm_statistics` of `x` in training, else the running statistics.
    weight, bias : array_like of shape (C,), optional
        Of the dtype of `x`. Default: ones and zeros.
    eps : float, default 1e-5
        Added to the variance.
    residual : array_like of the shape of `x`, optional
        Of the dtype of `x`. Default: none.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For shapes that do not fit.

    Notes
    -----
    ``y = max(0, (x - mean) / sqrt(var + eps) * weight + bias + residual)``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.batch_norm_relu(np.array([[1.0], [4.0]]), np.array([2.0]), np.array([1.0]), eps=1e-12)
    array([[0.],
           [2.]])
    """
    return normalized("batch_norm_relu", x, mean, var, weight, bias, eps, residual, relu=True)


def batch_norm_relu_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike | None,
    bias: ArrayLike | None,
    mean: ArrayLike,
    var: ArrayLike,
    eps: float = 1e-5,
    training: bool = True,
) -> tuple[NDArray, NDArray | None, NDArray]:
    """Return the gradients of `batch_norm_relu` (without a residual) with respect to `x`, `weight` and `bias`.

    Parameters
    ----------
    grad_output, x, weight, mean, var, eps, training
        As in `batch_norm_backward`.
    bias : array_like of shape (C,) or None
        As given to `batch_norm_relu`.

    Returns
    -------
    grad_x, grad_weight, grad_bias
        As from `batch_norm_backward`.

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For shapes that do not fit.

    Notes
    -----
    The ReLU passes a gradient where the output is not zero, which is found out from `x`: the output need not be kept.
    With a residual, the gradient that passes is the residual's own: take it from `relu_backward` and hand it to
    `batch_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> x, mean, var = np.array([[1.0], [3.0]]), np.array([2.0]), np.array([1.0])
    >>> F.batch_norm_relu_backward(np.ones_like(x), x, None, None, mean, var)[2]
    array([1.])
    """
    return _backward("batch_norm_relu_backward", grad_output, x, weight, bias, mean, var, eps, True, training)
