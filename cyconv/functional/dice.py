"""Dice loss, with its gradient: how little two regions overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv import memory
from cyconv.functional.group_normalization import as_pixels, channel_sums, scaled
from cyconv.functional.loss import REDUCTIONS


def dice_loss(
    probabilities: ArrayLike, target: ArrayLike, reduction: str = "mean", *, smooth: float = 1.0
) -> float | NDArray:
    """Return how little regions given by probabilities overlap with the true ones.

    Parameters
    ----------
    probabilities : array_like of shape (N, C) or (N, C, H, W)
        How probable each pixel is to lie in each of C regions, as from softmax or sigmoid; float32 or float64.
    target : array_like of the shape and dtype of `probabilities`
        1 inside, 0 outside.
    reduction : {"mean", "sum", "none"}, default "mean"
        Over images and regions; the mean of none is NaN.
    smooth : float, default 1
        Added above and below, so that two empty regions are alike.

    Returns
    -------
    float, or ndarray of shape (N, C) if `reduction` is "none"

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For different shapes, another reduction, or a negative `smooth`.

    Notes
    -----
    ``loss = 1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth)`` over the pixels of each image and region; 0/0 is
    no loss.

    F. Milletari, N. Navab, S.-A. Ahmadi, V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image
    Segmentation, 3DV 2016, section 3, with sums instead of sums of squares below; L. R. Dice, Ecology 26, 1945.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> p, t = np.array([[[[0.0, 1.0, 1.0, 0.0]]]]), np.array([[[[0.0, 0.0, 1.0, 1.0]]]])
    >>> F.dice_loss(p, t, smooth=0.0)
    0.5
    """
    op = "dice_loss"
    p, t, smooth = _checked(op, probabilities, target, reduction, smooth)
    both, size = _sums(p, t, smooth)
    losses = memory.empty(both.shape, p.dtype)
    losses[...] = 1 - np.divide(both, size, out=np.ones_like(both), where=size > 0)
    if reduction == "none":
        return losses
    total = float(losses.sum(dtype=np.float64))
    return total if reduction == "sum" else total / losses.size if losses.size else float("nan")


def dice_loss_backward(
    grad_output: ArrayLike,
    probabilities: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    *,
    smooth: float = 1.0,
) -> NDArray:
    """Return the gradient of `dice_loss` with respect to `probabilities`.

    Parameters
    ----------
    grad_output : float, or array_like of shape (N, C) if `reduction` is "none"
        Gradient of the loss, usually 1.
    probabilities, target, reduction, smooth
        As in the forward.

    Returns
    -------
    ndarray of the shape of `probabilities`

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For different shapes, another reduction, or a negative `smooth`.

    Notes
    -----
    With ``a = 2 sum(p t) + smooth`` and ``b = sum(p) + sum(t) + smooth``, ``grad = grad_output (a / b^2 - 2 t / b)``,
    divided by the number of regions for a mean.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> p, t = np.array([[[[0.5, 0.5]]]]), np.array([[[[0.0, 1.0]]]])
    >>> F.dice_loss_backward(1.0, p, t, smooth=0.0)
    array([[[[ 0.25, -0.75]]]])
    """
    op = "dice_loss_backward"
    p, t, smooth = _checked(op, probabilities, target, reduction, smooth)
    both, size = _sums(p, t, smooth)
    if reduction == "none":
        grads = check.as_float_array(op, "grad_output", grad_output)
        check.check_shape(op, "grad_output", grads, both.shape, " (images and regions)")
        check.check_same_dtype(op, grad_output=grads, probabilities=p)
        scale = grads.astype(np.float64)
    else:
        number = check.as_number(op, "grad_output", grad_output)
        scale = np.full(both.shape, number / (both.size or 1 if reduction == "mean" else 1))
    inverse = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
    return scaled(t, -2 * scale * inverse, scale * both * inverse**2)


def _checked(
    op: str, probabilities: ArrayLike, target: ArrayLike, reduction: str, smooth: float
) -> tuple[NDArray, NDArray, float]:
    p = check.as_float_array(op, "probabilities", probabilities, (2, 4))
    t = check.as_float_array(op, "target", target)
    check.check_shape(op, "target", t, p.shape, " (that of `probabilities`)")
    check.check_same_dtype(op, probabilities=p, target=t)
    check.as_choice(op, "reduction", reduction, REDUCTIONS)
    return p, t, check.as_number(op, "smooth", smooth, 0)


def _sums(p: NDArray, t: NDArray, smooth: float) -> tuple[NDArray, NDArray]:
    """Return what the loss divides, and by what, for each image and region, (N, C)."""
    zero, p, t = np.zeros(p.shape[:2]), as_pixels(p), as_pixels(t)
    shared = channel_sums(p, t, zero, zero)
    size = channel_sums(p, None, zero, zero) + channel_sums(t, None, zero, zero)
    return 2 * shared + smooth, size + smooth
