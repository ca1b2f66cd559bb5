"""Batch normalisation, alone and fused with the ReLU that follows it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv._dispatch import normalization as kernels
from cyconv.functional._arrays import NHWC, channels_last, empty_ordered
from cyconv.functional.activation import relu_backward
from cyconv.threads import threads_for


def _as_images(op: str, name: str, value: ArrayLike) -> NDArray:
    return check.as_float_array(op, name, value, (2, 4))


def _as_channels(op: str, name: str, value: ArrayLike, x: NDArray) -> NDArray:
    array = check.as_float_array(op, name, value, 1)
    check.check_shape(op, name, array, (x.shape[1],), f" (one per channel of `x` {x.shape})")
    return array


def _as_optional(op: str, name: str, value: ArrayLike | None, x: NDArray) -> NDArray | None:
    return None if value is None else _as_channels(op, name, value, x)


def _pixels(x: NDArray) -> NDArray:
    """Return (N, C, H, W) or (N, C) as [P, C]: a view of what `_empty_like` made, else perhaps a copy."""
    C = x.shape[1]
    ordered = channels_last(x) if x.ndim == 4 else np.ascontiguousarray(x)
    return ordered.reshape(x.size // max(1, C), C)


def _empty_like(x: NDArray) -> NDArray:
    return empty_ordered(x.shape, NHWC if x.ndim == 4 else (0, 1), x.dtype)


def _statistics(x: NDArray) -> tuple[NDArray, NDArray]:
    C = x.shape[1]
    mean, var = np.zeros(C), np.zeros(C)
    if x.size:
        kernels.statistics(_pixels(x), mean, var, threads_for(x.size))
    return mean, var


def _normalize(
    op: str,
    x: NDArray,
    mean: NDArray,
    var: NDArray,
    weight: ArrayLike | None,
    bias: ArrayLike | None,
    eps: float,
    residual: NDArray | None = None,
    relu: bool = False,
) -> NDArray:
    weight, bias = _as_optional(op, "weight", weight, x), _as_optional(op, "bias", bias, x)
    check.check_same_dtype(op, x=x, weight=weight, bias=bias, residual=residual)
    eps = check.as_number(op, "eps", eps, 0, open_minimum=True)
    with np.errstate(all="ignore"):  # infinities and NaN travel on
        scale = (1.0 if weight is None else weight) / np.sqrt(np.add(var, eps, dtype=np.float64))
        shift = (0.0 if bias is None else bias) - mean * scale
    out = _empty_like(x)
    if out.size:
        added = None if residual is None else _pixels(residual)
        kernels.normalize(_pixels(x), scale, shift, added, _pixels(out), relu, threads_for(x.size))
    return out


def batch_norm_statistics(x: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the biased variance of each channel.

    Parameters
    ----------
    x : array_like of shape (N, C, H, W) or (N, C)
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
    return _statistics(_as_images("batch_norm_statistics", "x", x))


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
    x : array_like of shape (N, C, H, W) or (N, C)
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
    if not training:
        if mean is None or var is None:
            raise ValueError(f"{op}: `running_mean` and `running_var` are needed unless `training`")
        return _normalize(op, x, mean, var, weight, bias, eps)
    running = {"running_mean": running_mean, "running_var": running_var}
    for name, array in running.items():
        if array is not None and not (isinstance(array, np.ndarray) and array.flags.writeable):
            raise TypeError(f"{op}: `{name}` must be a writeable ndarray when `training`, got {type(array).__name__}")
    count = x.size // max(1, x.shape[1])
    if count == 1:
        raise ValueError(f"{op}: more than 1 value per channel is needed when `training`, got `x` of shape {x.shape}")
    mean, var = _statistics(x)
    out = _normalize(op, x, mean, var, weight, bias, eps)
    if count:
        with np.errstate(all="ignore"):
            for array, latest in zip(running.values(), (mean, var * (count / (count - 1))), strict=True):
                if array is not None:
                    array[...] = (1 - momentum) * array + momentum * latest
    return out


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
    grad_output, x : array_like of shape (N, C, H, W) or (N, C)
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
    return _backward("batch_norm_backward", grad_output, None, x, weight, mean, var, eps, training)


def _backward(
    op: str,
    grad_output: ArrayLike,
    output: ArrayLike | None,
    x: ArrayLike,
    weight: ArrayLike | None,
    mean: ArrayLike,
    var: ArrayLike,
    eps: float,
    training: bool,
) -> tuple[NDArray, NDArray | None, NDArray]:
    x, grad = _as_images(op, "x", x), _as_images(op, "grad_output", grad_output)
    check.check_shape(op, "grad_output", grad, x.shape, " (that of `x`)")
    if output is not None:
        output = _as_images(op, "output", output)
        check.check_shape(op, "output", output, x.shape, " (that of `x`)")
    weight = _as_optional(op, "weight", weight, x)
    check.check_same_dtype(op, grad_output=grad, output=output, x=x, weight=weight)
    mean, var = _as_channels(op, "mean", mean, x), _as_channels(op, "var", var, x)
    eps = check.as_number(op, "eps", eps, 0, open_minimum=True)
    C, P, threads = x.shape[1], x.size // max(1, x.shape[1]), threads_for(x.size)
    grad_x, sum_g, sum_gx = _empty_like(x), np.zeros(C), np.zeros(C)
    if x.size:
        pixels, grads = _pixels(x), _pixels(grad)
        outputs = None if output is None else _pixels(output)
        mean = np.ascontiguousarray(mean, np.float64)
        kernels.gradient_sums(grads, pixels, outputs, mean, sum_g, sum_gx, threads)
        with np.errstate(all="ignore"):
            r = 1 / np.sqrt(np.add(var, eps, dtype=np.float64))
            a = r if weight is None else weight * r
            sum_gx *= r
            factors = np.empty((3, C))
            factors[0] = a
            factors[1] = a * r * sum_gx / -P
            factors[2] = a * sum_g / -P - factors[1] * mean
        if training:
            kernels.input_gradient(grads, pixels, outputs, factors, _pixels(grad_x), threads)
        else:
            grads = grads if outputs is None else relu_backward(grads, outputs)
            kernels.normalize(grads, a, np.zeros(C), None, _pixels(grad_x), False, threads)
    return grad_x, None if weight is None else sum_gx.astype(x.dtype), sum_g.astype(x.dtype)


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
    x : array_like of shape (N, C, H, W) or (N, C)
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
    op = "batch_norm_relu"
    x = _as_images(op, "x", x)
    mean, var = _as_channels(op, "mean", mean, x), _as_channels(op, "var", var, x)
    if residual is not None:
        residual = _as_images(op, "residual", residual)
        check.check_shape(op, "residual", residual, x.shape, " (that of `x`)")
    return _normalize(op, x, mean, var, weight, bias, eps, residual, relu=True)


def batch_norm_relu_backward(
    grad_output: ArrayLike,
    output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike | None,
    mean: ArrayLike,
    var: ArrayLike,
    eps: float = 1e-5,
    training: bool = True,
) -> tuple[NDArray, NDArray | None, NDArray]:
    """Return the gradients of `batch_norm_relu` (without a residual) with respect to `x`, `weight` and `bias`.

    Parameters
    ----------
    grad_output, output : array_like of the shape of `x`
        Of the dtype of `x`; `output` is what the forward returned.
    x, weight, mean, var, eps, training
        As in `batch_norm_backward`.

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
    The ReLU passes a gradient where the output is not zero. With a residual, that masked gradient is the residual's
    own: take it from `relu_backward` and hand it to `batch_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> x, mean, var = np.array([[1.0], [3.0]]), np.array([2.0]), np.array([1.0])
    >>> y = F.batch_norm_relu(x, mean, var)
    >>> F.batch_norm_relu_backward(np.ones_like(x), y, x, None, mean, var)[2]
    array([1.])
    """
    return _backward("batch_norm_relu_backward", grad_output, output, x, weight, mean, var, eps, training)
