"""Losses: how wrong a batch of outputs is, as one number, and its gradient."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

import cyconv.functional  # noqa: F401  (whole, before its parts: see cyconv/__init__.py)
from cyconv import functional as F
from cyconv._validation import as_array, as_bool, as_choice, as_int, as_number
from cyconv.functional.loss import IGNORE_INDEX, mean_cross_entropy_and_gradient

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

    A subclass writes `forward` and `backward`.

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

    def count(self, target: ArrayLike) -> int:
        """Return how many targets of a batch count: the weight of its loss in a mean over batches."""
        return len(np.asarray(target))

    def labels(self, target: ArrayLike) -> NDArray:
        """Return the targets that an accuracy is to be computed from: labels without their weights."""
        return _parted(target)[0]

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


def _parted(target: ArrayLike) -> tuple[NDArray, NDArray | None]:
    """Return labels, and their weights where they have some."""
    array = np.asarray(target)
    return (array[LABEL], array[WEIGHT]) if array.dtype.names == (LABEL, WEIGHT) else (array, None)


class CrossEntropyLoss(Loss):
    """Softmax and negative log-likelihood of the right class, from scores (N, K) or (N, K, H, W) and class numbers.

    Parameters
    ----------
    weight : array-like of K numbers, optional
        How much each class counts; by default all count the same.
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
    `weighted`: weighted by that); its
    gradient is ``(softmax(scores) - one_hot(target)) / count``. The whole formula: `cyconv.functional.cross_entropy`.

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
        self.weight = None if weight is None else _numbers(op, weight, np.dtype(np.float64), "weight").copy()
        if self.weight is not None and (self.weight.ndim != 1 or not np.all(self.weight >= 0)):
            raise ValueError(f"{op}: `weight` must be a list of numbers that are at least 0, got {weight!r}")
        self.label_smoothing = as_number(op, "label_smoothing", label_smoothing, 0, 1)
        self.ignore_index = as_int(op, "ignore_index", ignore_index, -(2**63), 2**63 - 1)

    def forward(self, output: NDArray, target: ArrayLike) -> float:
        """Return the mean of minus the log-probability of the right class."""
        if not self.count(target):
            return 0.0
        labels, keywords = self._arguments(output, target)
        return float(F.cross_entropy(output, labels, **keywords))

    def backward(self, output: NDArray, target: ArrayLike) -> NDArray:
        """Return (softmax(output) - one-hot target) / number of targets, or its weighted, smoothed form."""
        if not self.count(target):
            return np.zeros_like(output)
        labels, keywords = self._arguments(output, target)
        return F.cross_entropy_backward(1.0, output, labels, **keywords)

    def with_gradient(self, output: NDArray, target: ArrayLike) -> tuple[float, NDArray | None]:
        """Return what `forward` and `backward` return, the target looked at once."""
        labels, keywords = self._arguments(output, target)
        return mean_cross_entropy_and_gradient(output, labels, **keywords)

    def _arguments(self, output: NDArray, target: ArrayLike) -> tuple[NDArray, dict[str, Any]]:
        labels, samples = _parted(target)
        return labels, {
            "weight": None if self.weight is None else self.weight.astype(output.dtype),
            "label_smoothing": self.label_smoothing,
            "ignore_index": self.ignore_index,
            "sample_weight": None if samples is None else samples.astype(output.dtype),
        }

    def count(self, target: ArrayLike) -> int:
        """Return how many labels there are, those to be ignored and those of no weight left out."""
        labels, samples = _parted(target)
        counted = labels != self.ignore_index
        return int(np.count_nonzero(counted if samples is None else counted & (samples > 0)))

    def check_target(self, op: str, target: NDArray, output_shape: Shape) -> None:
        """Raise unless `target` holds class numbers, in the shape of the output without its class axis."""
        K = _check_labels(op, "cross entropy", _parted(target)[0], output_shape, self.ignore_index)
        if self.weight is not None and len(self.weight) != K:
            raise ValueError(f"{op}: the loss has weights for {len(self.weight)} classes, but the network {K} outputs")


def _check_labels(op: str, name: str, labels: NDArray, output_shape: Shape, ignore_index: int) -> int:
    """Raise unless labels are class numbers in the shape of the output without its class axis; return how many."""
    K, *positions = output_shape
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{op}: `y` must be integers, the classes' numbers, for {name}, got {labels.dtype}")
    _check_positions(op, labels, tuple(positions))
    counted = labels[labels != ignore_index]
    if not counted.size:
        raise ValueError(f"{op}: `y` holds no class, only the `ignore_index` {ignore_index}")
    lowest, highest = int(counted.min()), int(counted.max())
    if lowest < 0 or highest >= K:
        raise ValueError(f"{op}: `y` must be class numbers from 0 to {K - 1}, got {lowest} to {highest}")
    return K


class _PointwiseLoss(Loss):
    """A mean over all numbers of output and target, which have one shape."""

    called: ClassVar[str]

    def check_target(self, op: str, target: NDArray, output_shape: Shape) -> None:
        """Raise unless `target` holds numbers in the shape of the output."""
        if target.dtype.kind not in "fiu":
            raise TypeError(f"{op}: `y` must be numbers for {self.called}, got {target.dtype}")
        _check_positions(op, target, output_shape)

    def _target(self, target: ArrayLike, output: NDArray) -> NDArray:
        return _numbers(type(self).__name__, target, output.dtype)


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
        return float(F.mse_loss(output, self._target(target, output)))

    def backward(self, output: NDArray, target: ArrayLike) -> NDArray:
        """Return 2 (output - target) / number of outputs."""
        return F.mse_loss_backward(1.0, output, self._target(target, output))


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
        return float(F.smooth_l1_loss(output, self._target(target, output), beta=self.beta))

    def backward(self, output: NDArray, target: ArrayLike) -> NDArray:
        """Return the difference in units of beta, at most 1, / number of outputs."""
        return F.smooth_l1_loss_backward(1.0, output, self._target(target, output), beta=self.beta)


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
        self.pos_weight = None if pos_weight is None else _numbers(op, pos_weight, np.dtype(np.float64), "pos_weight")
        if self.pos_weight is not None and not np.all(self.pos_weight >= 0):
            raise ValueError(f"{op}: `pos_weight` must be numbers that are at least 0, got {pos_weight!r}")

    def forward(self, output: NDArray, target: ArrayLike) -> float:
        """Return the mean of minus the log-probability of what is right."""
        weight = self._weight(output)
        return float(F.binary_cross_entropy_with_logits(output, self._target(target, output), pos_weight=weight))

    def backward(self, output: NDArray, target: ArrayLike) -> NDArray:
        """Return (sigmoid(output) - target) / number of outputs, or its weighted form."""
        target, weight = self._target(target, output), self._weight(output)
        return F.binary_cross_entropy_with_logits_backward(1.0, output, target, pos_weight=weight)

    def _weight(self, output: NDArray) -> NDArray | None:
        return None if self.pos_weight is None else self.pos_weight.astype(output.dtype)

    def check_target(self, op: str, target: NDArray, output_shape: Shape) -> None:
        """Raise unless `target` holds numbers from 0 to 1 in the shape of the output."""
        super().check_target(op, target, output_shape)
        if target.size and not (target.min() >= 0 and target.max() <= 1):
            raise ValueError(f"{op}: `y` must be 0 to 1 for {self.called}, got {target.min()} to {target.max()}")


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
        raw = F.sigmoid(output) if self.binary else F.softmax(output, axis=1)
        if self.binary:
            regions = _numbers("DiceLoss", target, output.dtype)
        else:
            labels = as_array("DiceLoss", "target", target)
            if labels.dtype.kind not in "iu":
                raise TypeError(f"DiceLoss: `target` must be integers, got {labels.dtype}")
            classes = np.arange(output.shape[1]).reshape(-1, *(1,) * (output.ndim - 2))
            regions = (labels[:, np.newaxis] == classes).astype(output.dtype)  # [N, K, ...]
        counted = self._counted(target)
        if counted.all():
            return raw, regions, raw
        return raw * counted, regions * counted, raw

    def check_target(self, op: str, target: NDArray, output_shape: Shape) -> None:
        """Raise unless `target` holds class numbers or, binary, numbers from 0 to 1 in the shape of the output."""
        if not self.binary:
            _check_labels(op, "the Dice loss", target, output_shape, self.ignore_index)
            return
        if target.dtype.kind not in "fiu":
            raise TypeError(f"{op}: `y` must be numbers for the Dice loss, got {target.dtype}")
        _check_positions(op, target, output_shape)
        counted = target[target != self.ignore_index]
        if counted.size and not (counted.min() >= 0 and counted.max() <= 1):
            raise ValueError(f"{op}: `y` must be 0 to 1 for the Dice loss, got {counted.min()} to {counted.max()}")


def _numbers(op: str, values: ArrayLike, dtype: np.dtype, name: str = "target") -> NDArray:
    array = as_array(op, name, values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{op}: `{name}` must be numbers, got {array.dtype}")
    return array.astype(dtype, copy=False)


def _check_positions(op: str, target: NDArray, shape: Shape) -> None:
    if target.shape[1:] != shape:
        raise ValueError(
            f"{op}: `y` must have shape {('N', *shape)} for this network, got {target.shape}".replace("'", "")
        )


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
