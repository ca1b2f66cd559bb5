"""Metrics: how often a classifier is right, and how well regions overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv._validation import as_array, as_choice, as_float_array, as_int, as_int_array, as_number

__all__ = ["accuracy", "confusion_matrix", "dice", "f1", "iou", "precision", "recall", "top_k_accuracy"]


MOST_CLASSES = 2**15  # of a confusion matrix, which then takes 8 GiB


def accuracy(output: ArrayLike, target: ArrayLike, *, ignore_index: int | None = None) -> float:
    """Return the share of right answers.

    Parameters
    ----------
    output : array-like of shape (N, K), (N, K, H, W), or that of `target`
        Scores along axis 1, the largest of which is the answer; or the answers, as integers.
    target : array-like of int of shape (N,) or (N, H, W)
        The right classes.
    ignore_index : int, optional
        A class in `target` that is left out.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If the classes are not integers, the shapes do not belong together, or there is nothing to average.

    Examples
    --------
    >>> from cyconv.metrics import accuracy
    >>> accuracy([[0.1, 0.9], [0.8, 0.2]], [1, 1])
    0.5
    """
    answers, right = _answers("accuracy", output, target)
    counted = _counted("accuracy", right, ignore_index)
    return float(np.mean(answers[counted] == right[counted]))


def top_k_accuracy(output: ArrayLike, target: ArrayLike, k: int = 5, *, ignore_index: int | None = None) -> float:
    """Return the share of targets that are among the k classes of the largest scores.

    Parameters
    ----------
    output : array-like of shape (N, K) or (N, K, H, W), float32 or float64
        Scores along axis 1; of equal ones the first counts as larger.
    target : array-like of int of shape (N,) or (N, H, W)
        The right classes.
    k : int, default 5
        How many answers are allowed.
    ignore_index : int, optional
        A class in `target` that is left out.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If the classes are not integers from 0 to K - 1, the shapes do not belong together, or there is nothing to
        average.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.metrics import top_k_accuracy
    >>> scores = np.array([[0.5, 0.3, 0.2], [0.6, 0.1, 0.3]])
    >>> [top_k_accuracy(scores, [1, 1], k=k) for k in (1, 2, 3)]
    [0.0, 0.5, 1.0]
    """
    op = "top_k_accuracy"
    scores, right = as_float_array(op, "output", output), as_int_array(op, "target", target)
    if scores.ndim < 2 or scores.shape[:1] + scores.shape[2:] != right.shape:
        raise ValueError(
            f"{op}: `output` must have a row of scores for each of `target`'s {right.shape}, got {scores.shape}"
        )
    K, counted = scores.shape[1], _counted(op, right, ignore_index)
    right, scores = right[counted], np.moveaxis(scores, 1, -1)[counted]  # [P], [P, K]
    if right.min() < 0 or right.max() >= K:
        raise ValueError(f"{op}: `target` must be classes from 0 to {K - 1}, got {right.min()} to {right.max()}")
    rank = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1)
    return float(np.mean(np.take_along_axis(rank, right[:, np.newaxis], axis=1) < as_int(op, "k", k)))


def confusion_matrix(
    output: ArrayLike, target: ArrayLike, num_classes: int | None = None, *, ignore_index: int | None = None
) -> NDArray[np.int64]:
    """Count how often each class (row) was taken for each class (column).

    Parameters
    ----------
    output, target : array-like
        As for `accuracy`.
    num_classes : int, optional
        Rows and columns; by default the number of scores, or the largest class that occurs plus one.
    ignore_index : int, optional
        A class in `target` that is left out.

    Returns
    -------
    ndarray of shape (num_classes, num_classes), int64

    Raises
    ------
    TypeError, ValueError
        If the classes are not integers from 0 to num_classes - 1, or the shapes do not belong together.

    Examples
    --------
    >>> from cyconv.metrics import confusion_matrix
    >>> confusion_matrix([0, 1, 1, 1], [0, 0, 1, 1])
    array([[1, 1],
           [0, 2]])
    """
    return _table("confusion_matrix", output, target, num_classes, ignore_index)


def precision(
    output: ArrayLike,
    target: ArrayLike,
    *,
    average: str | None = "macro",
    num_classes: int | None = None,
    ignore_index: int | None = None,
    zero_division: float = 0.0,
) -> float | NDArray[np.float64]:
    """Return which share of a class's answers is right.

    Parameters
    ----------
    output, target, num_classes, ignore_index
        As for `confusion_matrix`.
    average : {"macro", "micro", "weighted"} or None, default "macro"
        The mean over the classes; the number of all decisions together; the mean with each class as often as it is
        right; or one number a class.
    zero_division : float, default 0
        What 0/0 is, for a class that does not occur; NaN leaves it out of a mean.

    Returns
    -------
    float, or ndarray of shape (num_classes,)

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or out of range, as for `confusion_matrix`.

    Notes
    -----
    ``right answers / answers`` of each class, as scikit-learn's ``precision_score``.

    Examples
    --------
    >>> from cyconv.metrics import precision
    >>> precision([0, 1, 1, 1], [0, 0, 1, 1], average=None)
    array([1.        , 0.66666667])
    """
    right, answered, _, weight = _decisions("precision", output, target, average, num_classes, ignore_index)
    return _averaged("precision", right, answered, weight, average, zero_division)


def recall(
    output: ArrayLike,
    target: ArrayLike,
    *,
    average: str | None = "macro",
    num_classes: int | None = None,
    ignore_index: int | None = None,
    zero_division: float = 0.0,
) -> float | NDArray[np.float64]:
    """Return which share of a class is found.

    Parameters
    ----------
    output, target, num_classes, ignore_index
        As for `confusion_matrix`.
    average : {"macro", "micro", "weighted"} or None, default "macro"
        The mean over the classes; the number of all decisions together; the mean with each class as often as it is
        right; or one number a class.
    zero_division : float, default 0
        What 0/0 is, for a class that does not occur; NaN leaves it out of a mean.

    Returns
    -------
    float, or ndarray of shape (num_classes,)

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or out of range, as for `confusion_matrix`.

    Notes
    -----
    ``right answers / members`` of each class, as scikit-learn's ``recall_score``.

    Examples
    --------
    >>> from cyconv.metrics import recall
    >>> recall([0, 1, 1, 1], [0, 0, 1, 1], average=None)
    array([0.5, 1. ])
    """
    right, _, actual, weight = _decisions("recall", output, target, average, num_classes, ignore_index)
    return _averaged("recall", right, actual, weight, average, zero_division)


def f1(
    output: ArrayLike,
    target: ArrayLike,
    *,
    average: str | None = "macro",
    num_classes: int | None = None,
    ignore_index: int | None = None,
    zero_division: float = 0.0,
) -> float | NDArray[np.float64]:
    """Return the harmonic mean of precision and recall.

    Parameters
    ----------
    output, target, num_classes, ignore_index
        As for `confusion_matrix`.
    average : {"macro", "micro", "weighted"} or None, default "macro"
        The mean over the classes; the number of all decisions together; the mean with each class as often as it is
        right; or one number a class.
    zero_division : float, default 0
        What 0/0 is, for a class that does not occur; NaN leaves it out of a mean.

    Returns
    -------
    float, or ndarray of shape (num_classes,)

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or out of range, as for `confusion_matrix`.

    Notes
    -----
    ``2 right answers / (answers + members)`` of each class, as scikit-learn's ``f1_score``. Of regions it is `dice`.

    Examples
    --------
    >>> from cyconv.metrics import f1
    >>> f1([0, 1, 1, 1], [0, 0, 1, 1], average=None)
    array([0.66666667, 0.8       ])
    """
    right, answered, actual, weight = _decisions("f1", output, target, average, num_classes, ignore_index)
    return _averaged("f1", 2 * right, answered + actual, weight, average, zero_division)


def iou(
    output: ArrayLike,
    target: ArrayLike,
    *,
    average: str | None = "macro",
    num_classes: int | None = None,
    ignore_index: int | None = None,
    zero_division: float = 0.0,
) -> float | NDArray[np.float64]:
    """Return how much of the union of predicted and true regions is common to them.

    Parameters
    ----------
    output, target, num_classes, ignore_index
        As for `confusion_matrix`.
    average : {"macro", "micro", "weighted"} or None, default "macro"
        The mean over the classes; the number of all decisions together; the mean with each class as often as it is
        right; or one number a class.
    zero_division : float, default 0
        What 0/0 is, for a class that does not occur; NaN leaves it out of a mean.

    Returns
    -------
    float, or ndarray of shape (num_classes,)

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or out of range, as for `confusion_matrix`.

    Notes
    -----
    ``right answers / (answers + members - right answers)`` of each class, counted over all pixels of all images: as
    scikit-learn's ``jaccard_score`` (Jaccard 1901).

    Examples
    --------
    >>> from cyconv.metrics import iou
    >>> iou([0, 1, 1, 1], [0, 0, 1, 1], average=None)
    array([0.5       , 0.66666667])
    """
    right, answered, actual, weight = _decisions("iou", output, target, average, num_classes, ignore_index)
    return _averaged("iou", right, answered + actual - right, weight, average, zero_division)


dice = f1  # of segmentations the usual name (Dice 1945)


def _decisions(
    op: str,
    output: ArrayLike,
    target: ArrayLike,
    average: str | None,
    num_classes: int | None,
    ignore_index: int | None,
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return right answers, answers, and members of each class, summed if they count together, and its weight."""
    if average is not None:
        as_choice(op, "average", average, ("macro", "micro", "weighted"))
    table = _table(op, output, target, num_classes, ignore_index)
    counts = [np.diag(table), table.sum(axis=0), table.sum(axis=1)]
    weight = counts[2] if average == "weighted" else np.ones(len(table))
    if average == "micro":
        counts, weight = [count.sum(keepdims=True) for count in counts], np.ones(1)
    return counts[0], counts[1], counts[2], weight


def _table(
    op: str, output: ArrayLike, target: ArrayLike, num_classes: int | None, ignore_index: int | None
) -> NDArray[np.int64]:
    """Return the confusion matrix."""
    answers, right = _answers(op, output, target)
    if ignore_index is not None and right.size:
        counted = _counted(op, right, ignore_index)
        answers, right = answers[counted], right[counted]
    lowest = min(answers.min(initial=0), right.min(initial=0))
    highest = max(answers.max(initial=-1), right.max(initial=-1))
    scores = np.shape(output)
    if num_classes is None:
        K = scores[1] if len(scores) > np.ndim(target) else int(highest) + 1
    else:
        K = as_int(op, "num_classes", num_classes)
    if K > MOST_CLASSES:
        raise ValueError(f"{op}: `output` and `target` may have at most {MOST_CLASSES} classes, got {K}")
    if lowest < 0 or highest >= K:
        raise ValueError(f"{op}: `output` and `target` must be classes from 0 to {K - 1}, got {lowest} to {highest}")
    return np.bincount((right * K + answers).ravel(), minlength=K * K).reshape(K, K)


def _averaged(
    op: str, above: NDArray, below: NDArray, weight: NDArray, average: str | None, zero_division: float
) -> float | NDArray[np.float64]:
    if not (isinstance(zero_division, float) and np.isnan(zero_division)):
        zero_division = as_number(op, "zero_division", zero_division)
    shares = np.divide(above, below, out=np.full(len(above), float(zero_division)), where=below > 0)
    if average is None:
        return shares
    defined = ~np.isnan(shares)
    total = weight[defined].sum()
    return float((shares * weight)[defined].sum() / total) if total else float(zero_division)


def _counted(op: str, right: NDArray, ignore_index: int | None) -> NDArray[np.bool_]:
    """Return which targets count; raise where none does."""
    ignored = None if ignore_index is None else as_int(op, "ignore_index", ignore_index, -(2**63), 2**63 - 1)
    counted = np.ones(right.shape, bool) if ignored is None else right != ignored
    if not counted.any():
        raise ValueError(f"{op}: `target` is empty" + ("" if ignored is None else f" without {ignored}"))
    return counted


def _answers(op: str, output: ArrayLike, target: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return what was answered and what is right, both as classes."""
    right, given = as_int_array(op, "target", target), as_array(op, "output", output)
    if given.ndim == right.ndim + 1 and given.ndim > 1:
        given = given.argmax(axis=1)
    answers = as_int_array(op, "output", given)
    if answers.shape != right.shape:
        raise ValueError(
            f"{op}: `output` must have a row of scores or one class for each of `target`'s {right.shape}, "
            f"got {np.shape(output)}"
        )
    return answers, right
