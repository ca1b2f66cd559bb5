"""Normalisation of each image by itself: layer, group and instance normalisation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv import memory
from cyconv._dispatch import group_normalization as kernels
from cyconv.functional._arrays import NHWC, Axes, empty_ordered, flat
from cyconv.threads import threads_for

Shape = tuple[int, ...]
Gradients = tuple[NDArray, NDArray | None, NDArray | None]


def group_norm(
    x: ArrayLike,
    num_groups: int,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> NDArray:
    """Normalise groups of channels of each image, then scale and shift each channel.

    Parameters
    ----------
    x : array_like of shape (N, C, ...)
        float32 or float64.
    num_groups : int
        Into how many groups of neighbours the channels are divided.
    weight, bias : array_like of shape (C,), optional
        Factor and summand of each channel; default 1 and 0.
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        If `num_groups` does not divide C, a shape does not fit, or `eps` is not positive.

    Notes
    -----
    ``y = weight (x - mean) / sqrt(var + eps) + bias``, mean and (biased) variance those of the group in one image
    (Wu and He 2018). Sums are taken in float64 in an order that the shape fixes.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.group_norm(np.array([[1.0, 3.0, 10.0, 30.0]]), 2).round(4)
    array([[-1.,  1., -1.,  1.]])
    """
    return _forward("group_norm", x, num_groups, weight, bias, eps)


def group_norm_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    num_groups: int,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> Gradients:
    """Return the gradients of `group_norm` with respect to x, weight and bias.

    Parameters
    ----------
    grad_output : array_like of the shape of `x`
        Gradient of the result.
    x, num_groups, weight, bias, eps
        As in the forward.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray or None
        None for a weight or bias that is absent.

    Raises
    ------
    TypeError, ValueError
        As `group_norm`, and for a `grad_output` of another shape.

    Notes
    -----
    With z the normalised x, u = weight * grad_output and means over the group: ``grad_x = (u - mean(u) - z mean(u z)) /
    sqrt(var + eps)``; ``grad_weight = sum grad_output z``, ``grad_bias = sum grad_output`` over images and positions.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> grad_x, _, _ = F.group_norm_backward(np.array([[1.0, 1.0, 0.0, 1.0]]), np.array([[0.0, 2.0, 0.0, 2.0]]), 2)
    >>> abs(grad_x).round(4)
    array([[0., 0., 0., 0.]])
    """
    return _backward("group_norm_backward", grad_output, x, num_groups, weight, bias, eps)


def instance_norm(
    x: ArrayLike, weight: ArrayLike | None = None, bias: ArrayLike | None = None, eps: float = 1e-5
) -> NDArray:
    """Normalise each channel of each image, then scale and shift it.

    Parameters
    ----------
    x : array_like of shape (N, C, ...)
        float32 or float64.
    weight, bias : array_like of shape (C,), optional
        Factor and summand of each channel; default 1 and 0.
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError, ValueError
        As `group_norm`.

    Notes
    -----
    `group_norm` with a group for each channel (Ulyanov, Vedaldi and Lempitsky 2016).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.instance_norm(np.array([[[1.0, 3.0], [10.0, 30.0]]])).round(4)
    array([[[-1.,  1.],
            [-1.,  1.]]])
    """
    return _forward("instance_norm", x, None, weight, bias, eps)


def instance_norm_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> Gradients:
    """Return the gradients of `instance_norm` with respect to x, weight and bias.

    Parameters
    ----------
    grad_output : array_like of the shape of `x`
        Gradient of the result.
    x, weight, bias, eps
        As in the forward.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray or None
        None for a weight or bias that is absent.

    Raises
    ------
    TypeError, ValueError
        As `instance_norm`, and for a `grad_output` of another shape.

    Notes
    -----
    As `group_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> x = np.array([[[1.0, 3.0]]])
    >>> F.instance_norm_backward(np.array([[[0.0, 1.0]]]), x, np.ones(1), np.zeros(1))[1:]
    (array([0.999995]), array([1.]))
    """
    return _backward("instance_norm_backward", grad_output, x, None, weight, bias, eps)


def layer_norm(
    x: ArrayLike,
    normalized_shape: int | Shape,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> NDArray:
    """Normalise over the last axes, then scale and shift each element of them.

    Parameters
    ----------
    x : array_like of shape (..., *normalized_shape)
        float32 or float64.
    normalized_shape : int or tuple of int
        Extents of the last axes, as many as are normalised over.
    weight, bias : array_like of shape `normalized_shape`, optional
        Factors and summands; default 1 and 0.
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        If a shape does not fit, or `eps` is not positive.

    Notes
    -----
    ``y = weight (x - mean) / sqrt(var + eps) + bias``, mean and (biased) variance over those axes (Ba, Kiros and Hinton
    2016).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.layer_norm(np.array([[1.0, 3.0], [10.0, 30.0]]), 2).round(4)
    array([[-1.,  1.],
           [-1.,  1.]])
    """
    x, weight, bias, axes, inner, eps = _check_layer("layer_norm", x, normalized_shape, weight, bias, eps)
    out = empty_ordered(x.shape, axes, x.dtype)
    if x.size:
        size = math.prod(x.shape[x.ndim - len(inner) :])
        affine = _elements(weight, 1, size, inner, x.dtype), _elements(bias, 0, size, inner, x.dtype)
        rows = flat(x, axes).reshape(-1, size), flat(out, axes).reshape(-1, size)
        kernels.layer(rows[0], *affine, eps, rows[1], threads_for(2 * x.size))
    return out


def layer_norm_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    normalized_shape: int | Shape,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> Gradients:
    """Return the gradients of `layer_norm` with respect to x, weight and bias.

    Parameters
    ----------
    grad_output : array_like of the shape of `x`
        Gradient of the result.
    x, normalized_shape, weight, bias, eps
        As in the forward.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray or None
        None for a weight or bias that is absent.

    Raises
    ------
    TypeError, ValueError
        As `layer_norm`, and for a `grad_output` of another shape.

    Notes
    -----
    The formulas of `group_norm_backward`, with means over the last axes and sums over the others.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> x, grad = np.array([[1.0, 3.0]]), np.array([[0.0, 1.0]])
    >>> F.layer_norm_backward(grad, x, 2, np.ones(2), np.zeros(2))[2]
    array([0., 1.])
    """
    op = "layer_norm_backward"
    x, weight, bias, axes, inner, eps = _check_layer(op, x, normalized_shape, weight, bias, eps)
    grad = _check_gradient(op, grad_output, x)
    size = math.prod(x.shape[x.ndim - len(inner) :])
    grad_x = empty_ordered(x.shape, axes, x.dtype)
    sums = memory.zeros((2, size), x.dtype)
    if x.size:
        arrays = (flat(array, axes).reshape(-1, size) for array in (grad, x))
        results = flat(grad_x, axes).reshape(-1, size), *sums
        kernels.layer_backward(
            *arrays, _elements(weight, 1, size, inner, x.dtype), eps, *results, threads_for(4 * x.size)
        )
    grad_weight, grad_bias = (
        None if parameter is None else _unordered(total, parameter.shape, inner)
        for parameter, total in zip((weight, bias), sums, strict=True)
    )
    return grad_x, grad_weight, grad_bias


def _unordered(values: NDArray, shape: Shape, inner: Axes) -> NDArray:
    """Return flat values in the memory order of the normalised axes as an array of `shape`."""
    inverse = sorted(range(len(inner)), key=inner.__getitem__)
    return values.reshape([shape[axis] for axis in inner]).transpose(inverse)


def _elements(values: NDArray | None, default: float, size: int, inner: Axes, dtype: np.dtype) -> NDArray:
    """Return a number for each normalised element, in the memory order of x."""
    return np.full(size, default, dtype) if values is None else np.ascontiguousarray(values.transpose(inner)).ravel()


def _check_layer(
    op: str, x: Any, normalized_shape: Any, weight: Any, bias: Any, eps: Any
) -> tuple[NDArray, NDArray | None, NDArray | None, Axes, Axes, float]:
    """Return the arrays, the order in which the axes of x lie, that of the last ones among themselves, and eps."""
    x = check.as_float_array(op, "x", x)
    wanted = normalized_shape if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    shape = tuple(check.as_int(op, "normalized_shape", extent) for extent in wanted)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ValueError(f"{op}: the last axes of `x` must be {shape}, the `normalized_shape`, got shape {x.shape}")
    parameters = []
    for name, values in (("weight", weight), ("bias", bias)):
        array = None if values is None else check.as_float_array(op, name, values)
        if array is not None:
            check.check_same_dtype(op, x=x, **{name: array})
            check.check_shape(op, name, array, shape, " (the `normalized_shape`)")
        parameters.append(array)
    whole_image = x.ndim == 4 and len(shape) == 3
    axes = NHWC if whole_image else tuple(range(x.ndim))
    inner = (1, 2, 0) if whole_image else tuple(range(len(shape)))
    return x, *parameters, axes, inner, check.as_number(op, "eps", eps, 0, open_minimum=True)


def _check_gradient(op: str, grad_output: Any, x: NDArray) -> NDArray:
    grad = check.as_float_array(op, "grad_output", grad_output)
    check.check_same_dtype(op, grad_output=grad, x=x)
    check.check_shape(op, "grad_output", grad, x.shape, " (that of `x`)")
    return grad


def _check(
    op: str, x: Any, num_groups: Any, weight: Any, bias: Any, eps: Any
) -> tuple[NDArray, int, NDArray | None, NDArray | None, float]:
    x = check.as_float_array(op, "x", x)
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise ValueError(f"{op}: `x` must have the shape (N, C, ...), only N may be 0, got {x.shape}")
    C = x.shape[1]
    groups = C if num_groups is None else check.as_int(op, "num_groups", num_groups)
    if C % groups:
        raise ValueError(f"{op}: `num_groups` must divide the {C} channels of `x`, got {groups}")
    parameters = []
    for name, values in (("weight", weight), ("bias", bias)):
        array = None if values is None else check.as_float_array(op, name, values, 1)
        if array is not None:
            check.check_same_dtype(op, x=x, **{name: array})
            check.check_shape(op, name, array, (C,), f" (one per channel of `x` {x.shape})")
        parameters.append(array)
    return x, groups, *parameters, check.as_number(op, "eps", eps, 0, open_minimum=True)


def as_pixels(x: NDArray) -> NDArray:
    """Return (N, C, ...) as [N, P, C]: a view where the channels lie last, else a copy."""
    axes = (0, *range(2, x.ndim), 1)
    return flat(x, axes).reshape(x.shape[0], math.prod(x.shape[2:]), x.shape[1])


def _empty_like(x: NDArray) -> NDArray:
    return empty_ordered(x.shape, (0, *range(2, x.ndim), 1), x.dtype)


def _means(sums: NDArray, groups: int, count: int) -> NDArray:
    """Return the sums [N, C] of each channel as the mean of its group's `count` numbers, [N, C]."""
    N, C = sums.shape
    by_group = sums.reshape(N, groups, C // groups).sum(axis=2) / count
    return np.repeat(by_group, C // groups, axis=1)


def channel_sums(a: NDArray, b: NDArray | None, mean_a: NDArray, mean_b: NDArray) -> NDArray[np.float64]:
    """Return the sums over pixels of (a - mean_a)(b - mean_b), or of a alone: [N, P, C] -> [N, C]."""
    out = np.empty((a.shape[0], a.shape[2]))
    kernels.sums(a, b, mean_a, mean_b, out, threads_for(a.size))
    return out


def scaled(x: NDArray, factor: NDArray, shift: NDArray) -> NDArray:
    """Return factor * x + shift, both [N, C]."""
    out, zero = _empty_like(x), np.zeros(x.shape[:2])
    if x.size:
        kernels.scale(as_pixels(x), None, factor, zero, zero, shift, as_pixels(out), threads_for(x.size))
    return out


def _moments(pixels: NDArray, groups: int, eps: float) -> tuple[NDArray, NDArray, NDArray]:
    """Return each channel's group's mean, rounded to the dtype, the rest of it, and 1 / standard deviation, [N, C]."""
    N, P, C = pixels.shape
    zero, count = np.zeros((N, C)), P * C // groups
    mean = _means(channel_sums(pixels, None, zero, zero), groups, count)
    rounded = mean.astype(pixels.dtype).astype(np.float64)  # what the kernels subtract
    rest = mean - rounded
    variance = _means(channel_sums(pixels, pixels, rounded, rounded), groups, count) - rest**2
    return rounded, rest, 1 / np.sqrt(variance + eps)


def _forward(op: str, x: ArrayLike, num_groups: Any, weight: Any, bias: Any, eps: Any) -> NDArray:
    x, groups, weight, bias, eps = _check(op, x, num_groups, weight, bias, eps)
    out = _empty_like(x)
    if x.size:
        pixels = as_pixels(x)
        mean, rest, factor = _moments(pixels, groups, eps)
        if weight is not None:
            factor = factor * weight
        shift = -factor * rest
        if bias is not None:
            shift += bias
        kernels.scale(pixels, None, factor, mean, shift, shift, as_pixels(out), threads_for(x.size))
    return out


def _backward(
    op: str, grad_output: ArrayLike, x: ArrayLike, num_groups: Any, weight: Any, bias: Any, eps: Any
) -> Gradients:
    x, groups, weight, bias, eps = _check(op, x, num_groups, weight, bias, eps)
    grad = _check_gradient(op, grad_output, x)
    grad_x, C = _empty_like(x), x.shape[1]
    by_product = by_grad = np.zeros((1, C))
    if x.size:
        pixels, grad_pixels = as_pixels(x), as_pixels(grad)
        mean, rest, rstd = _moments(pixels, groups, eps)
        zero, count = np.zeros_like(mean), pixels.shape[1] * C // groups
        by_grad = channel_sums(grad_pixels, None, zero, zero)
        by_product = (channel_sums(grad_pixels, pixels, zero, mean) - by_grad * rest) * rstd
        factor = np.ones_like(mean) if weight is None else np.broadcast_to(weight, mean.shape).astype(np.float64)
        shift = -rstd * _means(by_grad * factor, groups, count)
        slope = -(rstd**2) * _means(by_product * factor, groups, count)
        shift -= slope * rest
        arrays = pixels, np.ascontiguousarray(rstd * factor), mean, slope, shift
        kernels.scale(grad_pixels, *arrays, as_pixels(grad_x), threads_for(2 * x.size))
    grad_weight = None if weight is None else by_product.sum(axis=0).astype(x.dtype)
    grad_bias = None if bias is None else by_grad.sum(axis=0).astype(x.dtype)
    return grad_x, grad_weight, grad_bias
