"""What losses have in common, and the checks of their arguments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv._validation import as_array, as_float_array, check_shape

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
