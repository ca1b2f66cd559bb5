"""Losses of each number by itself, with their gradients: squared, smooth absolute, binary cross-entropy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv._dispatch import elementwise
from cyconv.functional._arrays import empty_ordered, flat, memory_axes, usual_axes
from cyconv.functional.activation import sigmoid
from cyconv.functional.loss import REDUCTIONS
from cyconv.threads import threads_for


def _check_pair(op: str, x: ArrayLike, target: ArrayLike) -> tuple[NDArray, NDArray]:
    x, target = check.as_float_array(op, "x", x), check.as_float_array(op, "target", target)
    check.check_shape(op, "target", target, x.shape, " (that of `x`)")
    check.check_same_dtype(op, x=x, target=target)
    return x, target


def _difference(x: NDArray, target: NDArray) -> NDArray:
    """Return x - target in the memory order of x."""
    return np.subtract(x, target, out=empty_ordered(x.shape, memory_axes(x), x.dtype))


def _reduced(losses: NDArray, reduction: str) -> float | NDArray:
    if reduction == "none":
        return losses
    total = float(flat(losses, usual_axes(losses.ndim)).sum(dtype=np.float64))  # in one order, whatever the memory's
    return _mean(total, losses.size) if reduction == "mean" else total


def _mean(total: float, count: int) -> float:
    return total / count if count else float("nan")


def _scale(op: str, grad_output: ArrayLike, x: NDArray, reduction: str) -> float | NDArray:
    """Return the gradient of each number's loss."""
    check.as_choice(op, "reduction", reduction, REDUCTIONS)
    if reduction == "none":
        grads = check.as_float_array(op, "grad_output", grad_output)
        check.check_shape(op, "grad_output", grads, x.shape, " (that of `x`)")
        check.check_same_dtype(op, grad_output=grads, x=x)
        return grads
    return check.as_number(op, "grad_output", grad_output) / (x.size or 1 if reduction == "mean" else 1)


def mse_loss(x: ArrayLike, target: ArrayLike, reduction: str = "mean") -> float | NDArray:
    """Return the squared difference of two arrays.

    Parameters
    ----------
    x, target : array_like of one shape
        float32 or float64.
    reduction : {"mean", "sum", "none"}, default "mean"
        Over all elements; the mean of none is NaN.

    Returns
    -------
    float, or ndarray of the shape of `x` if `reduction` is "none"

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For different shapes or another reduction.

    Notes
    -----
    ``loss = (x - target)^2``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.mse_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    2.0
    """
    op = "mse_loss"
    x, target = _check_pair(op, x, target)
    reduction = check.as_choice(op, "reduction", reduction, REDUCTIONS)
    if reduction == "none":
        losses = _difference(x, target)
        return np.multiply(losses, losses, out=losses)
    axes = usual_axes(x.ndim)
    total = elementwise.squared_distance(flat(x, axes), flat(target, axes), threads_for(x.size))
    return _mean(total, x.size) if reduction == "mean" else total


def mse_loss_backward(grad_output: ArrayLike, x: ArrayLike, target: ArrayLike, reduction: str = "mean") -> NDArray:
    """Return the gradient of `mse_loss` with respect to `x`.

    Parameters
    ----------
    grad_output : float, or array_like of the shape of `x` if `reduction` is "none"
        Gradient of the loss, usually 1.
    x, target, reduction
        As in the forward.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For different shapes or another reduction.

    Notes
    -----
    ``grad_x = 2 grad_output (x - target)``, divided by the number of elements for a mean.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.mse_loss_backward(1.0, np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    array([ 0., -2.])
    """
    op = "mse_loss_backward"
    x, target = _check_pair(op, x, target)
    scale = _scale(op, grad_output, x, reduction)
    if isinstance(scale, np.ndarray):
        grad_x = _difference(x, target)
        grad_x *= scale
        grad_x *= 2
        return grad_x
    axes = memory_axes(x)
    grad_x = empty_ordered(x.shape, axes, x.dtype)
    elementwise.scaled_difference(flat(x, axes), flat(target, axes), flat(grad_x, axes), 2 * scale, threads_for(x.size))
    return grad_x


def smooth_l1_loss(x: ArrayLike, target: ArrayLike, reduction: str = "mean", beta: float = 1.0) -> float | NDArray:
    """Return the absolute difference of two arrays, but the square of a small one.

    Parameters
    ----------
    x, target : array_like of one shape
        float32 or float64.
    reduction : {"mean", "sum", "none"}, default "mean"
        Over all elements; the mean of none is NaN.
    beta : float, default 1
        Where the square goes over into the absolute value; 0 for the absolute value alone.

    Returns
    -------
    float, or ndarray of the shape of `x` if `reduction` is "none"

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For different shapes, another reduction, or a negative `beta`.

    Notes
    -----
    With ``d = |x - target|``: ``d^2 / (2 beta)`` if ``d < beta``, else ``d - beta / 2``.

    R. Girshick, Fast R-CNN, ICCV 2015, equation 3, where beta is 1.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.smooth_l1_loss(np.array([1.0, 2.0]), np.array([1.5, 5.0]), "none")
    array([0.125, 2.5  ])
    """
    op = "smooth_l1_loss"
    x, target = _check_pair(op, x, target)
    check.as_choice(op, "reduction", reduction, REDUCTIONS)
    beta = check.as_number(op, "beta", beta, 0)
    if reduction != "none":
        axes = usual_axes(x.ndim)
        total = elementwise.smooth_distance(flat(x, axes), flat(target, axes), beta, threads_for(x.size))
        return _mean(total, x.size) if reduction == "mean" else total
    distance = _difference(x, target)
    np.abs(distance, out=distance)
    if beta > 0:
        small = distance < beta
        distance = np.where(small, distance * distance * (0.5 / beta), distance - 0.5 * beta)
    return distance


def smooth_l1_loss_backward(
    grad_output: ArrayLike, x: ArrayLike, target: ArrayLike, reduction: str = "mean", beta: float = 1.0
) -> NDArray:
    """Return the gradient of `smooth_l1_loss` with respect to `x`.

    Parameters
    ----------
    grad_output : float, or array_like of the shape of `x` if `reduction` is "none"
        Gradient of the loss, usually 1.
    x, target, reduction, beta
        As in the forward.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For different shapes, another reduction, or a negative `beta`.

    Notes
    -----
    ``grad_x = grad_output clip((x - target) / beta, -1, 1)``, divided by the number of elements for a mean; without
    `beta` the sign of the difference.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.smooth_l1_loss_backward(1.0, np.array([1.0, 2.0]), np.array([1.5, 5.0]), "sum")
    array([-0.5, -1. ])
    """
    op = "smooth_l1_loss_backward"
    x, target = _check_pair(op, x, target)
    scale = _scale(op, grad_output, x, reduction)
    beta = check.as_number(op, "beta", beta, 0)
    grad_x = _difference(x, target)
    if beta == 0:
        np.sign(grad_x, out=grad_x)
    else:
        grad_x /= beta
        np.clip(grad_x, -1, 1, out=grad_x)
    grad_x *= scale
    return grad_x


def _check_binary(
    op: str, x: ArrayLike, target: ArrayLike, weight: ArrayLike | None, pos_weight: ArrayLike | None
) -> tuple[NDArray, NDArray, NDArray | None, NDArray | None]:
    x, target = _check_pair(op, x, target)
    factors: list[NDArray | None] = []
    for name, factor in (("weight", weight), ("pos_weight", pos_weight)):
        if factor is not None:
            factor = check.as_float_array(op, name, factor)
            check.check_same_dtype(op, **{"x": x, name: factor})
            try:
                factor = np.broadcast_to(factor, x.shape)
            except ValueError:
                raise ValueError(
                    f"{op}: `{name}` must broadcast to the shape of `x`, {x.shape}, got {np.shape(factor)}"
                ) from None
        factors.append(factor)
    return x, target, factors[0], factors[1]


def binary_cross_entropy_with_logits(
    x: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    *,
    weight: ArrayLike | None = None,
    pos_weight: ArrayLike | None = None,
) -> float | NDArray:
    """Return how improbable sigmoid(x) makes each yes or no.

    Parameters
    ----------
    x : array_like
        Scores, before sigmoid; float32 or float64.
    target : array_like of the shape and dtype of `x`
        Probabilities of yes, usually 0 or 1.
    reduction : {"mean", "sum", "none"}, default "mean"
        Over all elements, whatever their weights; the mean of none is NaN.
    weight : array_like that broadcasts to the shape of `x`, optional
        Factor of each element's loss. Default: ones.
    pos_weight : array_like that broadcasts to the shape of `x`, optional
        Factor of the part for yes, to make up for rare ones. Default: ones.

    Returns
    -------
    float, or ndarray of the shape of `x` if `reduction` is "none"

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For shapes that do not fit, or another reduction.

    Notes
    -----
    ``loss = -w (p t log(sigmoid(x)) + (1 - t) log(1 - sigmoid(x)))`` with target t, weight w and pos_weight p, computed
    from ``log(sigmoid(x)) = min(x, 0) - log(1 + e^-|x|)``: nothing overflows. As in PyTorch.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> round(F.binary_cross_entropy_with_logits(np.zeros(4), np.array([0.0, 1.0, 1.0, 0.0])), 6)
    0.693147
    """
    op = "binary_cross_entropy_with_logits"
    x, target, weight, pos_weight = _check_binary(op, x, target, weight, pos_weight)
    check.as_choice(op, "reduction", reduction, REDUCTIONS)
    losses = np.log1p(np.exp(-np.abs(x))) + np.maximum(-x, 0)  # -log(sigmoid(x))
    if pos_weight is not None:
        losses *= 1 + (pos_weight - 1) * target
    losses += (1 - target) * x
    if weight is not None:
        losses *= weight
    return _reduced(losses, reduction)


def binary_cross_entropy_with_logits_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    *,
    weight: ArrayLike | None = None,
    pos_weight: ArrayLike | None = None,
) -> NDArray:
    """Return the gradient of `binary_cross_entropy_with_logits` with respect to `x`.

    Parameters
    ----------
    grad_output : float, or array_like of the shape of `x` if `reduction` is "none"
        Gradient of the loss, usually 1.
    x, target, reduction, weight, pos_weight
        As in the forward.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For shapes that do not fit, or another reduction.

    Notes
    -----
    ``grad_x = grad_output w ((1 - t + p t) sigmoid(x) - p t)``, divided by the number of elements for a mean.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.binary_cross_entropy_with_logits_backward(1.0, np.zeros(2), np.array([0.0, 1.0]))
    array([ 0.25, -0.25])
    """
    op = "binary_cross_entropy_with_logits_backward"
    x, target, weight, pos_weight = _check_binary(op, x, target, weight, pos_weight)
    scale = _scale(op, grad_output, x, reduction)
    grad_x = sigmoid(x)
    if pos_weight is None:
        grad_x -= target
    else:
        positive = pos_weight * target
        grad_x *= 1 - target + positive
        grad_x -= positive
    if weight is not None:
        grad_x *= weight
    grad_x *= scale
    return grad_x
