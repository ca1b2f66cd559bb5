"""Cross-entropy of classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv._validation import as_float_array, as_int, as_int_array, as_number
from cyconv.functional.loss import IGNORE_INDEX, Classification
from cyconv.losses.base import Loss, Shape, as_weights, check_labels, parted


class CrossEntropyLoss(Loss):
    """Softmax and negative log-likelihood of the right class, from scores (N, K) or (N, K, H, W) and class numbers.

    Parameters
    ----------
    weight : array-like of K numbers, optional
        How much each class counts; by default all count the same. Labels of a class of weight 0 have no loss.
    label_smoothing : float, default 0
        Share of the target that is spread over all classes (Szegedy et al. 2016).
    ignore_index : int, default -100
        A label that does not count, for pixels of no class: it has no part in mean, gradient or accuracy. The loss of a
        batch in which none counts is 0, and so is its gradient.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, or out of range.

    Notes
    -----
    ``loss = -log softmax(scores)[target]``, averaged over the labels that count (with `weight`, or targets that are
    `weighted`: weighted by that, so that the mean divides by the sum of the weights); its gradient is
    ``(softmax(scores) - one_hot(target)) / count``. The whole formula: `cyconv.functional.cross_entropy`; there, as in
    PyTorch, smoothing gives a loss to labels of a class of weight 0 too.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.losses import CrossEntropyLoss
    >>> print(f"{CrossEntropyLoss().forward(np.zeros((2, 10)), np.array([3, 7])):.4f}")  # log(10)
    2.3026
    """

    classifies: bool = True

    def __init__(
        self, weight: ArrayLike | None = None, label_smoothing: float = 0.0, *, ignore_index: int = IGNORE_INDEX
    ) -> None:
        op = type(self).__name__
        self.weight = None if weight is None else as_weights(op, "weight", weight)
        if self.weight is not None and (self.weight.ndim != 1 or not self.weight.size):
            raise ValueError(f"{op}: `weight` must be a list of one number a class, got shape {self.weight.shape}")
        self.label_smoothing = as_number(op, "label_smoothing", label_smoothing, 0, 1)
        self.ignore_index = as_int(op, "ignore_index", ignore_index, -(2**63), 2**63 - 1)

    def forward(self, output: NDArray, target: ArrayLike) -> float:
        """Return the mean of minus the log-probability of the right class."""
        call, weight = self._call(output, target)
        return call.mean(weight) if weight else 0.0

    def backward(self, output: NDArray, target: ArrayLike) -> NDArray:
        """Return (softmax(output) - one-hot target) / number of targets, or its weighted, smoothed form."""
        call, weight = self._call(output, target)
        return call.gradient(call.shares(1.0, weight)) if weight else np.zeros_like(output)

    def with_gradient(self, output: NDArray, target: ArrayLike) -> tuple[float, NDArray | None]:
        """Return what `forward` and `backward` return, the target looked at once."""
        call, weight = self._call(output, target)
        if not weight:
            return 0.0, np.zeros_like(output)
        return call.mean(weight), call.gradient(call.shares(1.0, weight))

    def _call(self, output: NDArray, target: ArrayLike) -> tuple[Classification, float]:
        """Return the cross-entropy to compute, and what its mean divides by."""
        op = type(self).__name__
        output = as_float_array(op, "output", output, (2, 4))
        labels, samples = parted(op, target)
        weight = None if self.weight is None else self.weight.astype(output.dtype)
        if weight is not None and self.label_smoothing:  # which is a loss also where the label's own class has none
            labels = as_int_array(op, "target", labels)
            labels = np.where(np.isin(labels, np.flatnonzero(weight == 0)), self.ignore_index, labels)
        samples = None if samples is None else samples.astype(output.dtype)
        call = Classification(
            op, output, labels, "mean", weight, self.ignore_index, self.label_smoothing, samples, name="output"
        )
        return call, call.norm()

    def total_weight(self, target: ArrayLike) -> float:
        """Return the sum of the weights of the labels, 0 for those to be ignored: their number, if there are none."""
        labels, samples = self._labels(target)
        counted = labels != self.ignore_index
        weights: NDArray = counted if samples is None else counted * samples.astype(np.float64)
        if self.weight is not None:
            weights = weights * self.weight.take(labels, mode="clip")
        return float(weights.sum())

    def count(self, target: ArrayLike) -> int:
        """Return how many labels there are, those to be ignored and those of no weight left out."""
        return int(np.count_nonzero(self.labels(target) != self.ignore_index))

    def labels(self, target: ArrayLike) -> NDArray:
        """Return the labels without their weights, those of no weight as ones to be ignored."""
        labels, samples = self._labels(target)
        return labels if samples is None else np.where(samples > 0, labels, self.ignore_index)

    def _labels(self, target: ArrayLike) -> tuple[NDArray[np.int64], NDArray | None]:
        op = type(self).__name__
        labels, samples = parted(op, target)
        return as_int_array(op, "target", labels), samples

    def check_target(self, op: str, target: NDArray, output_shape: Shape) -> None:
        """Raise unless `target` holds class numbers, in the shape of the output without its class axis."""
        K = check_labels(op, "cross entropy", parted(op, target)[0], output_shape, self.ignore_index)
        if self.weight is not None and len(self.weight) != K:
            raise ValueError(f"{op}: the loss has weights for {len(self.weight)} classes, but the network {K} outputs")
