"""Cross-entropy of softmax, with its gradient."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv import memory
from cyconv._dispatch import softmax as kernels
from cyconv.functional._arrays import NHWC, empty_ordered, flat
from cyconv.functional.activation import EXP_COST
from cyconv.threads import threads_for

REDUCTIONS = ("mean", "sum", "none")
IGNORE_INDEX = -100


class Classification:
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
        sample_weight: ArrayLike | None,
        name: str = "logits",
    ):
        check.as_choice(op, "reduction", reduction, REDUCTIONS)
        logits = check.as_float_array(op, name, logits, (2, 4))
        target = check.as_int_array(op, "target", target)
        self.axes = NHWC if logits.ndim == 4 else (0, 1)
        N, K, *image = logits.shape
        check.check_shape(op, "target", target, (N, *image), f" (one label for each of `{name}` {logits.shape})")
        self.ignore_index = check.as_int(op, "ignore_index", ignore_index, -(2**63), 2**63 - 1)
        self.smoothing = check.as_number(op, "label_smoothing", label_smoothing, 0, 1)
        self.weighted = weight is not None or sample_weight is not None
        if weight is None:
            self.weight = np.ones(K, logits.dtype)
        else:
            self.weight = np.ascontiguousarray(check.as_float_array(op, "weight", weight, 1))
            check.check_shape(op, "weight", self.weight, (K,), " (one per class)")
            check.check_same_dtype(op, logits=logits, weight=self.weight)
        self.logits = logits
        self.target = np.ascontiguousarray(target).reshape(-1)
        self.count, first = kernels.survey(self.target, K, self.ignore_index)
        if first >= 0:
            where = np.unravel_index(first, target.shape)
            raise ValueError(
                f"{op}: `target` must be 0 to {K - 1}, got {self.target[first]} at {tuple(map(int, where))}"
            )
        self.samples: NDArray | None = None
        if sample_weight is not None:
            samples = check.as_float_array(op, "sample_weight", sample_weight)
            check.check_shape(op, "sample_weight", samples, target.shape, " (that of `target`)")
            check.check_same_dtype(op, logits=logits, sample_weight=samples)
            self.samples = np.ascontiguousarray(samples).reshape(-1)
        self.threads = threads_for(logits.size * EXP_COST)

    def rows(self, array: NDArray) -> NDArray:
        """Return an array of the shape of the logits with a row for each label."""
        return flat(array, self.axes).reshape(-1, self.logits.shape[1])

    def norm(self) -> float:
        """Return what a mean divides by: the weights of the labels that count."""
        if not self.weighted:
            return float(self.count)
        counted = self.target != self.ignore_index
        weights = self.weight[self.target[counted]]
        if self.samples is not None:
            weights = weights * self.samples[counted]
        return float(weights.sum(dtype=np.float64))

    def losses(self) -> NDArray:
        """Return the loss of each label."""
        losses = memory.empty(self.target.shape, self.logits.dtype)
        if self.logits.size:
            kernels.cross_entropy(self.rows(self.logits), *self.settings(), losses, self.threads)
        if self.samples is not None:
            losses *= self.samples
        return losses

    def mean(self, norm: float) -> float:
        """Return the mean loss, NaN where no label counts."""
        total = float(self.losses().sum(dtype=np.float64))
        return total / norm if norm else float("nan")

    def gradient(self, grads: NDArray) -> NDArray:
        """Return the gradient by the logits from that of each label's loss."""
        grad_logits = empty_ordered(self.logits.shape, self.axes, self.logits.dtype)
        if self.samples is not None:
            grads = grads * self.samples
        if self.logits.size:
            rows = self.rows(self.logits), *self.settings(), self.rows(grad_logits)
            kernels.cross_entropy_backward(grads, *rows, self.threads)
        return grad_logits

    def shares(self, scale: float, norm: float) -> NDArray:
        """Return the gradient of each label's loss by `scale` times the mean."""
        return np.full(self.target.shape, scale / norm if norm else np.nan, self.logits.dtype)

    def settings(self) -> tuple[NDArray, NDArray, int, float]:
        """Return what the kernels need besides the logits."""
        return self.target, self.weight, self.ignore_index, self.smoothing


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    *,
    weight: ArrayLike | None = None,
    ignore_index: int = IGNORE_INDEX,
    label_smoothing: float = 0.0,
    sample_weight: ArrayLike | None = None,
) -> float | NDArray:
    """Return how improbable softmax(logits) makes the true labels.

    Parameters
    ----------
    logits : array_like of shape (N, K) or (N, K, H, W)
        Scores of K classes, before softmax; float32 or float64.
    target : array_like of int of shape (N,) or (N, H, W)
        True classes, 0 to K - 1.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is weighted by the weights and leaves out ignored labels; it is NaN if none is left.
    weight : array_like of shape (K,), optional
        Weight of each class, of the dtype of `logits`. Default: ones.
    ignore_index : int, default -100
        A label that does not count.
    label_smoothing : float, default 0
        Share of the target that is spread evenly over all classes.
    sample_weight : array_like of the shape of `target`, optional
        Factor of each label's loss, of the dtype of `logits`; a mean is weighted by it. Default: ones.

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
    and label smoothing s (Szegedy et al. 2016), as in PyTorch, times the label's own weight, as in Ronneberger et al.
    2015, equation 1. Logits are shifted by their largest: none overflows.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> round(F.cross_entropy(np.zeros((2, 10)), [3, 7]), 6)
    2.302585
    """
    options = weight, ignore_index, label_smoothing, sample_weight
    call = Classification("cross_entropy", logits, target, reduction, *options)
    if reduction == "none":
        return call.losses().reshape(call.logits.shape[:1] + call.logits.shape[2:])
    return call.mean(1.0 if reduction == "sum" else call.norm())


def cross_entropy_backward(
    grad_output: ArrayLike,
    logits: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    *,
    weight: ArrayLike | None = None,
    ignore_index: int = IGNORE_INDEX,
    label_smoothing: float = 0.0,
    sample_weight: ArrayLike | None = None,
) -> NDArray:
    """Return the gradient of `cross_entropy` with respect to `logits`.

    Parameters
    ----------
    grad_output : float, or array_like of the shape of `target` if `reduction` is "none"
        Gradient of the loss, usually 1.
    logits, target, reduction, weight, ignore_index, label_smoothing, sample_weight
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
    call = Classification(op, logits, target, reduction, weight, ignore_index, label_smoothing, sample_weight)
    if reduction == "none":
        grads = check.as_float_array(op, "grad_output", grad_output)
        shape = call.logits.shape[:1] + call.logits.shape[2:]
        check.check_shape(op, "grad_output", grads, shape, " (that of `target`)")
        check.check_same_dtype(op, grad_output=grads, logits=call.logits)
        return call.gradient(np.ascontiguousarray(grads).reshape(-1))
    scale = check.as_number(op, "grad_output", grad_output)
    return call.gradient(call.shares(scale, call.norm() if reduction == "mean" else 1.0))
