"""Dice loss of regions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import functional as F
from cyconv._validation import as_bool, as_float_array, as_int, as_number, check_shape
from cyconv.functional.loss import IGNORE_INDEX
from cyconv.losses.base import Loss, Shape, check_labels, check_positions, output_and_target, parted


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
