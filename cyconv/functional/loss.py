"""Losses, each with its gradient."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv import memory
from cyconv._dispatch import elementwise
from cyconv._dispatch import softmax as kernels
from cyconv.functional._arrays import NHWC, empty_ordered, flat, memory_axes
from cyconv.functional.activation import EXP_COST
from cyconv.threads import threads_for

REDUCTIONS = ("mean", "sum", "none")
IGNORE_INDEX = -100


class _Classification:
    """Checked arguments of a cross-entropy, as rows of logits with one target each."""

    def __init__(
        self,
        op: str,
        logits: ArrayLike,
        target: ArrayLike,
        reduction: str,
        weight: ArrayLike | None,
        ignore_index: int,
        label_smoothing: float,
    ):
        check.as_choice(op, "reduction", reduction, REDUCTIONS)
        logits = check.as_float_array(op, "logits", logits, (2, 4))
        target = check.as_int_array(op, "target", target)
        self.axes = NHWC if logits.ndim == 4 else (0, 1)
        N, K, *image = logits.shape
        check.check_shape(op, "target", target, (N, *image), f" (one label for each of `logits` {logits.shape})")
        self.ignore_index = check.as_int(op, "ignore_index", ignore_index, -(2**63), 2**63 - 1)
        self.smoothing = check.as_number(op, "label_smoothing", label_smoothing, 0, 1)
        if weight is None:
            self.weight = np.ones(K, logits.dtype)
        else:
            self.weight = np.ascontiguousarray(check.as_float_array(op, "weight", weight, 1))
            check.check_shape(op, "weight", self.weight, (K,), " (one per class)")
            check.check_same_dtype(op, logits=logits, weight=self.weight)
        self.logits = logits
        self.target = np.ascontiguousarray(target).reshape(-1)
        self.counted = self.target != self.ignore_index
        bad = self.counted & ((self.target < 0) | (self.target >= K))
        if bad.any():
            first = int(bad.argmax())
            where = np.unravel_index(first, target.shape)
            raise ValueError(
                f"{op}: `target` must be 0 to {K - 1}, got {self.target[first]} at {tuple(map(int, where))}"
            )
        self.threads = threads_for(logits.size * EXP_COST)

    def rows(self, array: NDArray) -> NDArray:
        return flat(array, self.axes).reshape(-1, self.logits.shape[1])

    def norm(self) -> float:
        """Return what a mean divides by: the weights of the labels that count."""
        return float(self.weight[self.target[self.counted]].sum(dtype=np.float64))

    def settings(self) -> tuple[NDArray, NDArray, int, float]:
        return self.target, self.weight, self.ignore_index, self.smoothing


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    *,
    weight: ArrayLike | None = None,
    ignore_index: int = IGNORE_INDEX,
    label_smoothing: float = 0.0,
) -> float | NDArray:
    """Return how improbable softmax(logits) makes the true labels.

    Parameters
    ----------
    logits : array_like of shape (N, K) or (N, K, H, W)
        Scores of K classes, before softmax; float32 or float64.
    target : array_like of int of shape (N,) or (N, H, W)
        True classes, 0 to K - 1.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is weighted by `weight` and leaves out ignored labels; it is NaN if none is left.
    weight : array_like of shape (K,), optional
        Weight of each class, of the dtype of `logits`. Default: ones.
    ignore_index : int, default -100
        A label that does not count.
    label_smoothing : float, default 0
        Share of the target that is spread evenly over all classes.

    Returns
    -------
    float, or ndarray of the shape of `target` if `reduction` is "none"

    Raises
    ------
    TypeError
        For other or mixed dtypes, or labels that are not integers.
    ValueError
        For shapes that do not fit, labels or settings out of range.

    Notes
    -----
    ``loss = (1 - s) w_t (-log p_t) + s / K sum_c w_c (-log p_c)`` with p = softmax(logits), label t, class weights w
    and label smoothing s (Szegedy et al. 2016), as in PyTorch. Logits are shifted by their largest: none overflows.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> round(F.cross_entropy(np.zeros((2, 10)), [3, 7]), 6)
    2.302585
    """
    call = _Classification("cross_entropy", logits, target, reduction, weight, ignore_index, label_smoothing)
    losses = memory.empty(call.target.shape, call.logits.dtype)
    if call.logits.size:
        kernels.cross_entropy(call.rows(call.logits), *call.settings(), losses, call.threads)
    if reduction == "none":
        return losses.reshape(call.logits.shape[:1] + call.logits.shape[2:])
    total = float(losses.sum(dtype=np.float64))
    if reduction == "sum":
        return total
    norm = call.norm()
    return total / norm if norm else float("nan")


def cross_entropy_backward(
    grad_output: ArrayLike,
    logits: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    *,
    weight: ArrayLike | None = None,
    ignore_index: int = IGNORE_INDEX,
    label_smoothing: float = 0.0,
) -> NDArray:
    """Return the gradient of `cross_entropy` with respect to `logits`.

    Parameters
    ----------
    grad_output : float, or array_like of the shape of `target` if `reduction` is "none"
        Gradient of the loss, usually 1.
    logits, target, reduction, weight, ignore_index, label_smoothing
        As in the forward.

    Returns
    -------
    ndarray of the shape of `logits`

    Raises
    ------
    TypeError
        For other or mixed dtypes, or labels that are not integers.
    ValueError
        For shapes that do not fit, labels or settings out of range.

    Notes
    -----
    Without weights and smoothing ``grad_logits = grad_output (softmax(logits) - one_hot(target))``, divided by the
    number of labels for a mean.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.cross_entropy_backward(1.0, np.zeros((1, 2)), [1])
    array([[ 0.5, -0.5]])
    """
    op = "cross_entropy_backward"
    call = _Classification(op, logits, target, reduction, weight, ignore_index, label_smoothing)
    grad_logits = empty_ordered(call.logits.shape, call.axes, call.logits.dtype)
    if reduction == "none":
        grads = check.as_float_array(op, "grad_output", grad_output)
        shape = call.logits.shape[:1] + call.logits.shape[2:]
        check.check_shape(op, "grad_output", grads, shape, " (that of `target`)")
        check.check_same_dtype(op, grad_output=grads, logits=call.logits)
        grads = np.ascontiguousarray(grads).reshape(-1)
    else:
        scale = check.as_number(op, "grad_output", grad_output)
        norm = call.norm() if reduction == "mean" else 1.0
        grads = np.full(call.target.shape, scale / norm if norm else np.nan, call.logits.dtype)
    if call.logits.size:
        rows = call.rows(call.logits), *call.settings(), call.rows(grad_logits)
        kernels.cross_entropy_backward(grads, *rows, call.threads)
    return grad_logits


def _check_pair(op: str, x: ArrayLike, target: ArrayLike) -> tuple[NDArray, NDArray]:
    x, target = check.as_float_array(op, "x", x), check.as_float_array(op, "target", target)
    check.check_shape(op, "target", target, x.shape, " (that of `x`)")
    check.check_same_dtype(op, x=x, target=target)
    return x, target


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
    axes = memory_axes(x)
    if reduction == "none":
        losses = empty_ordered(x.shape, axes, x.dtype)
        np.subtract(x, target, out=losses)
        return np.multiply(losses, losses, out=losses)
    total = elementwise.squared_distance(flat(x, axes), flat(target, axes), threads_for(x.size))
    if reduction == "sum":
        return total
    return total / x.size if x.size else float("nan")


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
    reduction = check.as_choice(op, "reduction", reduction, REDUCTIONS)
    axes = memory_axes(x)
    grad_x = empty_ordered(x.shape, axes, x.dtype)
    if reduction == "none":
        grads = check.as_float_array(op, "grad_output", grad_output)
        check.check_shape(op, "grad_output", grads, x.shape, " (that of `x`)")
        check.check_same_dtype(op, grad_output=grads, x=x)
        np.subtract(x, target, out=grad_x)
        grad_x *= grads
        grad_x *= 2
        return grad_x
    scale = 2 * check.as_number(op, "grad_output", grad_output) / (x.size or 1 if reduction == "mean" else 1)
    elementwise.scaled_difference(flat(x, axes), flat(target, axes), flat(grad_x, axes), scale, threads_for(x.size))
    return grad_x
