"""Metrics: how often a classifier is right."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv._validation import as_array, as_int, as_int_array

__all__ = ["accuracy", "confusion_matrix"]


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
    if ignore_index is not None:
        counted = right != as_int("accuracy", "ignore_index", ignore_index, -(2**63), 2**63 - 1)
        answers, right = answers[counted], right[counted]
    if right.size == 0:
        raise ValueError("accuracy: `target` is empty" + ("" if ignore_index is None else f" without {ignore_index}"))
    return float(np.mean(answers == right))


def confusion_matrix(output: ArrayLike, target: ArrayLike, num_classes: int | None = None) -> NDArray[np.int64]:
    """Count how often each class (row) was taken for each class (column).

    Parameters
    ----------
    output, target : array-like
        As for `accuracy`.
    num_classes : int, optional
        Rows and columns; by default the number of scores, or the largest class that occurs plus one.

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
    answers, right = _answers("confusion_matrix", output, target)
    lowest = min(answers.min(initial=0), right.min(initial=0))
    highest = max(answers.max(initial=-1), right.max(initial=-1))
    scores = np.shape(output)
    if num_classes is None:
        K = scores[1] if len(scores) > right.ndim else int(highest) + 1
    else:
        K = as_int("confusion_matrix", "num_classes", num_classes)
    if K > MOST_CLASSES:
        raise ValueError(f"confusion_matrix: there may be at most {MOST_CLASSES} classes, got {K}")
    if lowest < 0 or highest >= K:
        raise ValueError(f"confusion_matrix: classes must be 0 to {K - 1}, got {lowest} to {highest}")
    return np.bincount((right * K + answers).ravel(), minlength=K * K).reshape(K, K)


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
