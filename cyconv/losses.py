"""Losses: how wrong a batch of outputs is, as one number, and its gradient."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

import cyconv.functional  # noqa: F401  (whole, before its parts: see cyconv/__init__.py)
from cyconv import functional as F
from cyconv._validation import (
    as_array,
    as_bool,
    as_choice,
    as_float_array,
    as_int,
    as_int_array,
    as_number,
    check_shape,
)
from cyconv.functional.loss import IGNORE_INDEX, Classification

__all__ = [
    "BinaryCrossEntropyLoss",
    "CrossEntropyLoss",
    "DiceLoss",
    "Loss",
    "MSELoss",
    "SmoothL1Loss",
    "weighted",
]

Shape = tuple[int, ...]


class Loss:
    """A function of a network's output and the target, averaged over the batch. It keeps nothing.

    A subclass writes `forward` and `backward`. Where its mean is not one over the images of a batch, all counting the
    same, it writes `total_weight` too: what the mean divides by. With that, accumulated gradients are those of one
    large batch, and the loss that `fit` and `evaluate` report does not depend on the batch size.

    Attributes
    ----------
    classifies : bool
        Whether targets are class numbers, so that there is an accuracy to report.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.losses import Loss
    >>> class AbsoluteLoss(Loss):
    ...     def forward(self, output, target):
    ...         return float(np.abs(output - target).mean())
    ...     def backward(self, output, target):
    ...         return np.sign(output - target) / output.size
    >>> AbsoluteLoss().forward(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]))
    1.0
    """

    classifies: bool = False

    def forward(self, output: NDArray, target: ArrayLike) -> float:
        """Return the loss."""
        raise NotImplementedError(f"{type(self).__name__}: `forward` is not written")

    def backward(self, output: NDArray, target: ArrayLike) -> NDArray:
        """Return the gradient of the loss with respect to `output`."""
        raise NotImplementedError(f"{type(self).__name__}: `backward` is not written")

    def __init_subclass__(cls, **keywords: Any) -> None:
        # Who writes a `forward` or `backward` anew means it, also where both could be had in one.
        super().__init_subclass__(**keywords)
        if {"forward", "backward"} & vars(cls).keys() and "with_gradient" not in vars(cls):
            cls.with_gradient = Loss.with_gradient  # type: ignore[method-assign]

    def with_gradient(self, output: NDArray, target: ArrayLike) -> tuple[float, NDArray | None]:
        """Return what `forward` and `backward` return; no gradient if the loss is not finite."""
        value = self.forward(output, target)
        return value, self.backward(output, target) if math.isfinite(value) else None

    def total_weight(self, target: ArrayLike) -> float:
        """Return what the mean over a batch divides by: the sum of its targets' weights, or their number.

        ``sum(loss_b * total_weight_b) / sum(total_weight_b)`` over batches b is the loss of all of them as one batch,
        and the same holds for gradients.
        """
        return self.count(target)

    def count(self, target: ArrayLike) -> int:
        """Return how many targets of a batch count: the weight of its accuracy in a mean over batches."""
        return len(rows(type(self).__name__, target))

    def labels(self, target: ArrayLike) -> NDArray:
        """Return the targets that an accuracy is to be computed from: labels without their weights."""
        return parted(type(self).__name__, target)[0]

    def scores(self, output: NDArray) -> NDArray:
        """Return the outputs that an accuracy is to be computed from: all, unless there are others than scores."""
        return output

    def check_target(self, op: str, target: NDArray, output_shape: Shape) -> None:
        """Raise unless `target` is right for a network whose output for one image has `output_shape`."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


LABEL, WEIGHT = "label", "weight"  # fields of weighted labels


def weighted(labels: ArrayLike, weight: ArrayLike) -> NDArray:
    """Return labels that carry weights of their own, as targets for `CrossEntropyLoss`.

    Parameters
    ----------
    labels : array-like of int
        Numbers of the classes, of images (N,) or of pixels (N, H, W).
    weight : array-like of that shape, or one that broadcasts to it
        How much each label counts; at least 0.

    Returns
    -------
    ndarray of the shape of `labels`
        A structured array: it can be indexed, shuffled and cut into batches as labels can.

    Raises
    ------
    TypeError, ValueError
        If the labels are no integers, or the weights are not finite numbers that are at least 0, or do not fit.

    Examples
    --------
    The border between touching cells counts more, as in the training of U-Net:

    >>> import numpy as np
    >>> from cyconv.losses import CrossEntropyLoss, weighted
    >>> scores, labels = np.array([[[[2.0, 0.0]], [[0.0, 0.0]]]]), np.array([[[0, 1]]])
    >>> print(f"{CrossEntropyLoss().forward(scores, weighted(labels, [[[1.0, 10.0]]])):.4f}")
    0.6417
    """
    classes, factors = as_array("weighted", "labels", labels), as_array("weighted", "weight", weight)
    if classes.dtype.kind not in "iu":
        raise TypeError(f"weighted: `labels` must be integers, got {classes.dtype}")
    if not classes.ndim:
        raise ValueError(f"weighted: `labels` must be an array of labels, got {classes}")
    if factors.dtype.kind not in "fiu":
        raise TypeError(f"weighted: `weight` must be numbers, got {factors.dtype}")
    if not np.all((factors >= 0) & np.isfinite(factors)):
        raise ValueError("weighted: `weight` must be finite numbers that are at least 0")
    target = np.empty(classes.shape, [(LABEL, classes.dtype), (WEIGHT, np.result_type(factors, np.float32))])
    try:
        target[WEIGHT] = factors
    except ValueError:
        needed = f"must broadcast to the labels' {classes.shape}, got {factors.shape}"
        raise ValueError(f"weighted: `weight` {needed}") from None
    target[LABEL] = classes
    return target


def rows(op: str, target: ArrayLike) -> NDArray:
    """Return a target that has a row for each image."""
    array = as_array(op, "target", target)
    if not array.ndim:
        raise ValueError(f"{op}: `target` must have a row for each image, got a single {array.dtype}")
    return array


def parted(op: str, target: ArrayLike) -> tuple[NDArray, NDArray | None]:
    """Return labels, and their weights where they have some; of booleans, the classes 0 and 1."""
    array = rows(op, target)
    labels, samples = (array[LABEL], array[WEIGHT]) if array.dtype.names == (LABEL, WEIGHT) else (array, None)
    return labels.astype(np.int64) if labels.dtype.kind == "b" else labels, samples


def check_labels(op: str, name: str, labels: NDArray, output_shape: Shape, ignore_index: int) -> int:
    """Raise unless labels are class numbers in the shape of the output without its class axis; return how many."""
    K, *positions = output_shape
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{op}: `y` must be integers, the classes' numbers, for {name}, got {labels.dtype}")
    check_positions(op, labels, tuple(positions))
    counted = labels[labels != ignore_index]
    if not counted.size:
        raise ValueError(f"{op}: `y` holds no class, only the `ignore_index` {ignore_index}")
    lowest, highest = int(counted.min()), int(counted.max())
    if lowest < 0 or highest >= K:
        raise ValueError(f"{op}: `y` must be class numbers from 0 to {K - 1}, got {lowest} to {highest}")
    return K


def as_weights(op: str, name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Return a copy of factors that are finite and at least 0."""
    array = as_array(op, name, values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{op}: `{name}` must be numbers, got {array.dtype}")
    if not np.all((array >= 0) & np.isfinite(array)):
        raise ValueError(f"{op}: `{name}` must be finite numbers that are at least 0")
    return array.astype(np.float64)


def output_and_target(op: str, output: NDArray, target: ArrayLike) -> tuple[NDArray, NDArray]:
    """Return two arrays of one shape, the target, numbers or booleans, in the dtype of the output."""
    output, values = as_float_array(op, "output", output), as_array(op, "target", target)
    if values.dtype.kind not in "fiub":
        raise TypeError(f"{op}: `target` must be numbers, got {values.dtype}")
    check_shape(op, "target", values, output.shape, " (that of `output`)")
    return output, values.astype(output.dtype, copy=False)


def check_positions(op: str, target: NDArray, shape: Shape) -> None:
    """Raise unless there is a target for each position of the output."""
    if target.shape[1:] != shape:
        raise ValueError(
            f"{op}: `y` must have shape {('N', *shape)} for this network, got {target.shape}".replace("'", "")
        )


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


class DiceLoss(Loss):
    """How little predicted and true regions overlap, from scores: each class counts the same, however few its pixels.

    Parameters
    ----------
    smooth : float, default 1
        Added above and below, so that two empty regions are alike.
    binary : bool, default False
        Whether each output is a region by itself, with sigmoid and targets 0 or 1 in the output's shape; otherwise the
        outputs (N, K, H, W) are scores of K classes, with softmax, and targets are their numbers (N, H, W).
    ignore_index : int, default -100
        A label that does not count.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, or out of range.

    Notes
    -----
    ``loss = 1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth)``, the sums over the pixels of an image, averaged
    over images and classes (Milletari et al. 2016).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.losses import DiceLoss
    >>> scores, labels = np.zeros((1, 2, 2, 2)), np.array([[[0, 0], [1, 1]]])
    >>> DiceLoss(smooth=0).forward(scores, labels)
    0.5
    """

    def __init__(self, smooth: float = 1.0, binary: bool = False, *, ignore_index: int = IGNORE_INDEX) -> None:
        self.smooth = as_number("DiceLoss", "smooth", smooth, 0)
        self.binary = as_bool("DiceLoss", "binary", binary)
        self.ignore_index = as_int("DiceLoss", "ignore_index", ignore_index, -(2**63), 2**63 - 1)
        self.classifies = not self.binary

    def forward(self, output: NDArray, target: ArrayLike) -> float:
        """Return the mean over images and classes of what is missing to a full overlap."""
        probabilities, regions, _ = self._regions(output, target)
        return float(F.dice_loss(probabilities, regions, smooth=self.smooth))

    def backward(self, output: NDArray, target: ArrayLike) -> NDArray:
        """Return the gradient of the overlap, through softmax or sigmoid."""
        probabilities, regions, raw = self._regions(output, target)
        gradient = F.dice_loss_backward(1.0, probabilities, regions, smooth=self.smooth)
        if raw is not probabilities:  # what does not count was cut out
            gradient *= self._counted(target)
        return F.sigmoid_backward(gradient, raw) if self.binary else F.softmax_backward(gradient, raw, axis=1)

    def _counted(self, target: ArrayLike) -> NDArray:
        counted = np.asarray(target) != self.ignore_index
        return counted if self.binary else counted[:, np.newaxis]

    def _regions(self, output: NDArray, target: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
        """Return the regions' probabilities, the true ones, and the probabilities before anything was cut out."""
        output = as_float_array("DiceLoss", "output", output, (2, 4))
        raw = F.sigmoid(output) if self.binary else F.softmax(output, axis=1)
        if self.binary:
            output, regions = output_and_target("DiceLoss", output, target)
        else:
            labels = parted("DiceLoss", target)[0]
            if labels.dtype.kind not in "iu":
                raise TypeError(f"DiceLoss: `target` must be integers, got {labels.dtype}")
            shape = output.shape[:1] + output.shape[2:]
            check_shape("DiceLoss", "target", labels, shape, f" (one label for each of `output` {output.shape})")
            classes = np.arange(output.shape[1]).reshape(-1, *(1,) * (output.ndim - 2))
            regions = (labels[:, np.newaxis] == classes).astype(output.dtype)  # [N, K, ...]
        counted = self._counted(target)
        if counted.all():
            return raw, regions, raw
        return raw * counted, regions * counted, raw

    def check_target(self, op: str, target: NDArray, output_shape: Shape) -> None:
        """Raise unless `target` holds class numbers or, binary, numbers from 0 to 1 in the shape of the output."""
        if not self.binary:
            check_labels(op, "the Dice loss", parted(op, target)[0], output_shape, self.ignore_index)
            return
        if target.dtype.kind not in "fiub":
            raise TypeError(f"{op}: `y` must be numbers for the Dice loss, got {target.dtype}")
        check_positions(op, target, output_shape)
        counted = target[target != self.ignore_index]
        if counted.size and not (counted.min() >= 0 and counted.max() <= 1):
            raise ValueError(f"{op}: `y` must be 0 to 1 for the Dice loss, got {counted.min()} to {counted.max()}")


class _PointwiseLoss(Loss):
    """A mean over all numbers of output and target, which have one shape."""

    called: ClassVar[str]

    def total_weight(self, target: ArrayLike) -> float:
        """Return the number of elements of the target."""
        return rows(type(self).__name__, target).size

    def check_target(self, op: str, target: NDArray, output_shape: Shape) -> None:
        """Raise unless `target` holds numbers in the shape of the output."""
        if target.dtype.kind not in "fiub":
            raise TypeError(f"{op}: `y` must be numbers for {self.called}, got {target.dtype}")
        check_positions(op, target, output_shape)

    def _pair(self, output: NDArray, target: ArrayLike) -> tuple[NDArray, NDArray]:
        """Return output and target, checked, in one dtype."""
        return output_and_target(type(self).__name__, output, target)


class MSELoss(_PointwiseLoss):
    """Mean squared difference between output and target.

    Notes
    -----
    ``loss = mean((output - target)^2)`` over all numbers of the batch; its gradient is ``2 (output - target) / count``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.losses import MSELoss
    >>> MSELoss().forward(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]))
    2.0
    """

    called: ClassVar[str] = "the mean squared error"

    def forward(self, output: NDArray, target: ArrayLike) -> float:
        """Return the mean of the squared differences."""
        return float(F.mse_loss(*self._pair(output, target)))

    def backward(self, output: NDArray, target: ArrayLike) -> NDArray:
        """Return 2 (output - target) / number of outputs."""
        return F.mse_loss_backward(1.0, *self._pair(output, target))


class SmoothL1Loss(_PointwiseLoss):
    """Mean absolute difference, but the square of small ones: outliers pull no harder than others (Girshick 2015).

    Parameters
    ----------
    beta : float, default 1
        Where the square goes over into the absolute value; 0 for the absolute value alone.

    Raises
    ------
    TypeError, ValueError
        If `beta` is not a number that is at least 0.

    Notes
    -----
    With ``d = |output - target|`` the mean of ``d^2 / (2 beta)`` if ``d < beta``, else ``d - beta / 2``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.losses import SmoothL1Loss
    >>> SmoothL1Loss().forward(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]))
    0.75
    """

    called: ClassVar[str] = "the smooth absolute error"

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = as_number("SmoothL1Loss", "beta", beta, 0)

    def forward(self, output: NDArray, target: ArrayLike) -> float:
        """Return the mean of the smoothed differences."""
        return float(F.smooth_l1_loss(*self._pair(output, target), beta=self.beta))

    def backward(self, output: NDArray, target: ArrayLike) -> NDArray:
        """Return the difference in units of beta, at most 1, / number of outputs."""
        return F.smooth_l1_loss_backward(1.0, *self._pair(output, target), beta=self.beta)


class BinaryCrossEntropyLoss(_PointwiseLoss):
    """Sigmoid and negative log-likelihood of yes or no, for each output by itself.

    Parameters
    ----------
    pos_weight : array-like that broadcasts to the outputs, optional
        Factor of the part for yes, to make up for rare ones: a number, or one for each of the outputs.

    Raises
    ------
    TypeError, ValueError
        If `pos_weight` are not numbers that are at least 0.

    Notes
    -----
    ``loss = -(p t log(sigmoid(x)) + (1 - t) log(1 - sigmoid(x)))`` for output x, target t from 0 to 1 and pos_weight p,
    averaged over all outputs.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.losses import BinaryCrossEntropyLoss
    >>> print(f"{BinaryCrossEntropyLoss().forward(np.zeros((2, 1)), np.array([[0], [1]])):.4f}")  # log(2)
    0.6931
    """

    called: ClassVar[str] = "binary cross entropy"

    def __init__(self, pos_weight: ArrayLike | None = None) -> None:
        op = type(self).__name__
        self.pos_weight = None if pos_weight is None else as_weights(op, "pos_weight", pos_weight)

    def forward(self, output: NDArray, target: ArrayLike) -> float:
        """Return the mean of minus the log-probability of what is right."""
        output, target = self._pair(output, target)
        return float(F.binary_cross_entropy_with_logits(output, target, pos_weight=self._weight(output)))

    def backward(self, output: NDArray, target: ArrayLike) -> NDArray:
        """Return (sigmoid(output) - target) / number of outputs, or its weighted form."""
        output, target = self._pair(output, target)
        return F.binary_cross_entropy_with_logits_backward(1.0, output, target, pos_weight=self._weight(output))

    def _weight(self, output: NDArray) -> NDArray | None:
        return None if self.pos_weight is None else self.pos_weight.astype(output.dtype)

    def check_target(self, op: str, target: NDArray, output_shape: Shape) -> None:
        """Raise unless `target` holds numbers from 0 to 1 in the shape of the output."""
        super().check_target(op, target, output_shape)
        if target.size and not (target.min() >= 0 and target.max() <= 1):
            raise ValueError(f"{op}: `y` must be 0 to 1 for {self.called}, got {target.min()} to {target.max()}")


LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropyLoss,
    "binary_cross_entropy": BinaryCrossEntropyLoss,
    "mse": MSELoss,
    "smooth_l1": SmoothL1Loss,
    "dice": DiceLoss,
}


def as_loss(op: str, loss: Loss | str) -> Loss:
    """Return the loss itself, or the one of that name."""
    return loss if isinstance(loss, Loss) else LOSSES[as_choice(op, "loss", loss, tuple(LOSSES))]()
