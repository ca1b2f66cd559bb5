"""Boxes around objects: their place relative to a proposal, their overlap, and the loss of who learns to find them.

A box is four numbers, its left, top, right and bottom edge, in pixels from the image's upper left corner: the pixel in
row 0 and column 0 fills (0, 0, 1, 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import functional as F
from cyconv._validation import as_float_array, as_int, as_int_array, as_number, check_same_dtype, check_shape
from cyconv.losses import Loss

__all__ = ["BoxLoss", "decode", "detect", "encode", "iou", "nms", "targets"]

LABEL, OFFSETS = "label", "offsets"  # fields of targets


def encode(boxes: ArrayLike, proposals: ArrayLike) -> NDArray:
    """Return where boxes lie relative to proposals: what a network learns to predict (Girshick et al. 2014).

    Parameters
    ----------
    boxes : array-like of shape (..., 4), float32 or float64
        Ground truth G.
    proposals : array-like of shape (..., 4), of that dtype
        Proposals P, one for each box, or any shape that broadcasts.

    Returns
    -------
    ndarray of shape (..., 4)
        ``t = ((Gx - Px) / Pw, (Gy - Py) / Ph, log(Gw / Pw), log(Gh / Ph))`` with the centres (x, y), widths w and
        heights h.

    Raises
    ------
    TypeError, ValueError
        If dtypes are others or differ, the last axis is not 4 long, shapes do not broadcast, or a box is not finite, or
        not wider and higher than 0.

    Examples
    --------
    >>> from cyconv import boxes
    >>> boxes.encode([48.0, 16.0, 64.0, 32.0], [0.0, 0.0, 64.0, 64.0]).round(3)
    array([ 0.375, -0.125, -1.386, -1.386])
    """
    truth, given = _pair("encode", boxes, proposals, ("boxes", "proposals"))
    (x, y, w, h), (px, py, pw, ph) = _centred("encode", "boxes", truth), _centred("encode", "proposals", given)
    return np.stack([(x - px) / pw, (y - py) / ph, np.log(w / pw), np.log(h / ph)], axis=-1)


def decode(offsets: ArrayLike, proposals: ArrayLike) -> NDArray:
    """Return the boxes that lie so relative to proposals: the inverse of `encode`.

    Parameters
    ----------
    offsets : array-like of shape (..., 4), float32 or float64
        As `encode` returns them, or a network.
    proposals : array-like of shape (..., 4), of that dtype
        One for each, or any shape that broadcasts.

    Returns
    -------
    ndarray of shape (..., 4)
        Of centre ``(Px + Pw tx, Py + Ph ty)``, width ``Pw exp(tw)`` and height ``Ph exp(th)``; not finite where
        offsets are not, or too large.

    Raises
    ------
    TypeError, ValueError
        As for `encode`.

    Examples
    --------
    >>> from cyconv import boxes
    >>> boxes.decode([0.375, -0.125, 0.0, 0.0], [0.0, 0.0, 64.0, 64.0])
    array([24., -8., 88., 56.])
    """
    moved, given = _pair("decode", offsets, proposals, ("offsets", "proposals"))
    px, py, pw, ph = _centred("decode", "proposals", given)
    tx, ty, tw, th = np.moveaxis(moved, -1, 0)
    with np.errstate(over="ignore", invalid="ignore"):
        x, y, w, h = px + pw * tx, py + ph * ty, pw * np.exp(tw) / 2, ph * np.exp(th) / 2
        return np.stack([x - w, y - h, x + w, y + h], axis=-1)


def iou(boxes: ArrayLike, others: ArrayLike) -> NDArray:
    """Return the intersection over the union of boxes: 1 where they are the same, 0 where they do not touch.

    Parameters
    ----------
    boxes, others : array-like of shape (..., 4), float32 or float64
        Compared one by one, broadcast; ``iou(a[:, None], b)`` compares each of `a` with each of `b`.

    Returns
    -------
    ndarray of shape (...), without the last axis
        0 also for two boxes without area.

    Raises
    ------
    TypeError, ValueError
        If dtypes are others or differ, the last axis is not 4 long, shapes do not broadcast, or a right edge lies left
        of the left one, or a bottom edge above the top.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import boxes
    >>> float(boxes.iou([0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]))
    0.3333333333333333
    """
    left, right = _pair("iou", boxes, others, ("boxes", "others"))
    _check_order("iou", "boxes", left)
    _check_order("iou", "others", right)
    return _overlap(left, right)


def nms(boxes: ArrayLike, scores: ArrayLike, threshold: float = 0.5) -> NDArray[np.int64]:
    """Return which boxes are left if each removes those of lower scores that overlap it: non-maximum suppression.

    Parameters
    ----------
    boxes : array-like of shape (N, 4), float32 or float64
        Boxes of one class.
    scores : array-like of shape (N,), of that dtype
        How sure each is; of equal ones the first counts as surer.
    threshold : float, default 0.5
        Intersection over union, 0 to 1, beyond which a box is removed.

    Returns
    -------
    ndarray of int64
        Indices of the boxes that are left, those of the highest scores first.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, shape or range, or a score is NaN.

    Examples
    --------
    >>> from cyconv import boxes
    >>> boxes.nms([[0.0, 0.0, 8.0, 8.0], [1.0, 0.0, 9.0, 8.0], [20.0, 0.0, 28.0, 8.0]], [0.7, 0.9, 0.8])
    array([1, 2])
    """
    given, sure = as_float_array("nms", "boxes", boxes, 2), as_float_array("nms", "scores", scores, 1)
    check_same_dtype("nms", boxes=given, scores=sure)
    given, _ = _pair("nms", given, given, ("boxes", "boxes"))
    check_shape("nms", "scores", sure, given.shape[:1], " (one for each box)")
    if np.isnan(sure).any():
        raise ValueError("nms: `scores` must not be NaN")
    most = as_number("nms", "threshold", threshold, 0, 1)
    _check_order("nms", "boxes", given)
    order, kept = np.argsort(-sure, kind="stable"), []
    while order.size:
        best, *_ = order
        kept.append(best)
        order = order[1:][_overlap(given[best], given[order[1:]]) <= most]
    return np.array(kept, np.int64)


def targets(labels: ArrayLike, boxes: ArrayLike, proposals: ArrayLike) -> NDArray:
    """Return classes and boxes as the targets that `BoxLoss` takes.

    Parameters
    ----------
    labels : array-like of int of shape (N,)
        Class of what each proposal shows.
    boxes : array-like of shape (N, 4), float32 or float64
        Box around it; that of a proposal which shows nothing may be any.
    proposals : array-like of shape (N, 4) or (4,), of that dtype
        What the network sees of the image.

    Returns
    -------
    ndarray of shape (N,)
        A structured array of the labels and of what `encode` returns: it can be indexed, shuffled and cut into batches
        as labels can.

    Raises
    ------
    TypeError, ValueError
        If the labels are no integers, or as for `encode`.

    Examples
    --------
    >>> from cyconv import boxes
    >>> boxes.targets([7], [[48.0, 16.0, 64.0, 32.0]], [0.0, 0.0, 64.0, 64.0])["label"]
    array([7])
    """
    classes, offsets = as_int_array("targets", "labels", labels, 1), encode(boxes, proposals)
    check_shape("targets", "boxes", offsets, (len(classes), 4), " (one for each of `labels`)")
    target = np.empty(len(classes), [(LABEL, classes.dtype), (OFFSETS, offsets.dtype, 4)])
    target[LABEL], target[OFFSETS] = classes, offsets
    return target


def detect(output: ArrayLike, proposals: ArrayLike) -> tuple[NDArray[np.int64], NDArray]:
    """Return the likeliest class of each proposal, and the box for that class.

    Parameters
    ----------
    output : array-like of shape (N, 5 K), float32 or float64
        Of a network that was trained with `BoxLoss`.
    proposals : array-like of shape (N, 4) or (4,), of that dtype
        What the network saw.

    Returns
    -------
    labels : ndarray of shape (N,), int64
    boxes : ndarray of shape (N, 4)

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or shape.

    Examples
    --------
    >>> from cyconv import boxes
    >>> boxes.detect([[0.1, 0.9, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0]], [0.0, 0.0, 64.0, 64.0])
    (array([1]), array([[32.,  0., 96., 64.]]))
    """
    array = as_float_array("detect", "output", output, 2)
    scores, offsets = _parts("detect", array)
    labels = scores.argmax(axis=1)
    return labels, decode(offsets[np.arange(len(labels)), labels], proposals)


class BoxLoss(Loss):
    """Cross entropy of the classes, and smooth absolute error of the right class's box (Girshick 2015).

    The network has an output for each class and, behind these, four for each class, its box relative to the proposal:
    (N, K + 4 K), as `cyconv.layers.Heads` joins them. Targets are those of `targets`.

    Parameters
    ----------
    weight : float, default 1.0
        How much the boxes count against the classes.
    beta : float, default 1.0
        Where the square goes over into the absolute value.
    background : int, optional
        Class of proposals that show nothing, and so have no box.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, or out of range.

    Notes
    -----
    ``loss = mean(-log softmax(scores)[label] + weight * [label != background] * sum(smooth_l1(t[label] - target)))``, t
    the four numbers of `encode`. R. Girshick, Fast R-CNN, ICCV, 2015, equations 1 to 3.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.boxes import BoxLoss, targets
    >>> target = targets([1], [[48.0, 0.0, 112.0, 64.0]], [0.0, 0.0, 64.0, 64.0])  # of x 0.75
    >>> print(f"{BoxLoss().forward(np.zeros((1, 10)), target):.4f}")  # log(2) + 0.75^2 / 2
    0.9744
    """

    classifies: bool = True

    def __init__(self, weight: float = 1.0, beta: float = 1.0, background: int | None = None) -> None:
        self.weight, self.beta = as_number("BoxLoss", "weight", weight, 0), as_number("BoxLoss", "beta", beta, 0)
        self.background = None if background is None else as_int("BoxLoss", "background", background, 0)

    def forward(self, output: NDArray, target: ArrayLike) -> float:
        """Return the mean of the two losses' sum."""
        scores, offsets = self._parts(output, target)
        rows, labels, wanted = self._boxes(target, output.dtype)
        loss = float(F.cross_entropy(scores, self.labels(target)))
        boxes = F.smooth_l1_loss(offsets[rows, labels], wanted, reduction="sum", beta=self.beta)
        return loss + self.weight * float(boxes) / len(output)

    def backward(self, output: NDArray, target: ArrayLike) -> NDArray:
        """Return the gradient, zero for the boxes of classes that are not the right one."""
        scores, offsets = self._parts(output, target)
        rows, labels, wanted = self._boxes(target, output.dtype)
        gradient = np.zeros_like(output)
        for_scores, for_offsets = _parts("BoxLoss", gradient)
        for_scores[...] = F.cross_entropy_backward(1.0, scores, self.labels(target))
        for_offsets[rows, labels] = F.smooth_l1_loss_backward(
            self.weight / len(output), offsets[rows, labels], wanted, reduction="sum", beta=self.beta
        )
        return gradient

    def _parts(self, output: NDArray, target: ArrayLike) -> tuple[NDArray, NDArray]:
        """Return the scores and the boxes in an output, which the targets fit."""
        parts = _parts("BoxLoss", output)
        self.check_target("BoxLoss", np.asarray(target), output.shape[1:])
        return parts

    def _boxes(self, target: ArrayLike, dtype: np.dtype) -> tuple[NDArray, NDArray, NDArray]:
        """Return the rows that have a box, their classes, and what the network should say."""
        labels, offsets = self.labels(target), np.asarray(target)[OFFSETS]
        rows = np.flatnonzero(labels != (-1 if self.background is None else self.background))
        return rows, labels[rows], offsets[rows].astype(dtype, copy=False)

    def labels(self, target: ArrayLike) -> NDArray:
        """Return the classes."""
        return np.asarray(target)[LABEL]

    def scores(self, output: NDArray) -> NDArray:
        """Return the outputs that are the classes' scores."""
        return _parts("BoxLoss", output)[0]

    def check_target(self, op: str, target: NDArray, output_shape: tuple[int, ...]) -> None:
        """Raise unless `target` holds the classes and boxes of `targets`."""
        if target.dtype.names != (LABEL, OFFSETS):
            raise TypeError(f"{op}: `y` must come from `cyconv.boxes.targets` for the boxes' loss, got {target.dtype}")
        K, rest = divmod(output_shape[0], 5)
        if len(output_shape) != 1 or rest:
            raise ValueError(f"{op}: the boxes' loss needs a network of K + 4 K outputs, not of shape {output_shape}")
        labels = target[LABEL]
        if labels.size and not 0 <= labels.min() <= labels.max() < K:
            raise ValueError(f"{op}: `y` must be classes from 0 to {K - 1}, got {labels.min()} to {labels.max()}")


def _parts(op: str, output: NDArray) -> tuple[NDArray, NDArray]:
    """Return the scores, [N, K], and the boxes, [N, K, 4], in an output, as views."""
    K, rest = divmod(output.shape[1], 5)
    if rest:
        raise ValueError(f"{op}: `output` must have K scores and 4 K numbers of boxes, got {output.shape[1]} columns")
    return output[:, :K], output[:, K:].reshape(len(output), K, 4)


def _check_finite(op: str, name: str, boxes: NDArray) -> None:
    """Raise unless edges, and with them what lies between, are far from overflow."""
    largest = np.sqrt(np.finfo(boxes.dtype).max) / 4
    if not np.all(np.abs(boxes) <= largest):  # NaN is not either
        raise ValueError(f"{op}: `{name}` must be finite numbers of at most {largest:.1e}")


def _check_order(op: str, name: str, boxes: NDArray) -> None:
    _check_finite(op, name, boxes)
    if not np.all(boxes[..., 2:] >= boxes[..., :2]):
        raise ValueError(f"{op}: `{name}` must be (left, top, right, bottom) with left <= right and top <= bottom")


def _overlap(boxes: NDArray, others: NDArray) -> NDArray:
    sides = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(boxes[..., :2], others[..., :2])
    common = np.prod(np.maximum(sides, 0), axis=-1)
    areas = [np.prod(array[..., 2:] - array[..., :2], axis=-1) for array in (boxes, others)]
    union = areas[0] + areas[1] - common
    return np.divide(common, union, out=np.zeros_like(union), where=union > 0)


def _pair(op: str, first: ArrayLike, second: ArrayLike, names: tuple[str, str]) -> tuple[NDArray, NDArray]:
    """Return two arrays of boxes that broadcast."""
    arrays = [as_float_array(op, name, value) for name, value in zip(names, (first, second), strict=True)]
    check_same_dtype(op, **dict(zip(names, arrays, strict=True)))
    for name, array in zip(names, arrays, strict=True):
        if array.shape[-1:] != (4,):
            raise ValueError(f"{op}: `{name}` must have shape (..., 4), got {array.shape}")
    try:
        np.broadcast_shapes(*(array.shape for array in arrays))
    except ValueError:
        shapes = " and ".join(str(array.shape) for array in arrays)
        raise ValueError(f"{op}: `{names[0]}` and `{names[1]}` must broadcast, got {shapes}") from None
    return arrays[0], arrays[1]


def _centred(op: str, name: str, boxes: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return centres, widths and heights."""
    _check_finite(op, name, boxes)
    left, top, right, bottom = np.moveaxis(boxes, -1, 0)
    width, height = right - left, bottom - top
    if not (np.all(width > 0) and np.all(height > 0)):
        raise ValueError(f"{op}: `{name}` must be (left, top, right, bottom) with left < right and top < bottom")
    return (left + right) / 2, (top + bottom) / 2, width, height
