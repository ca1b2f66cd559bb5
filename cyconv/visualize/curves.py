"""Figures of how training went: curves, and which classes are taken for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from cyconv._validation import as_array, check_shape
from cyconv.history import History
from cyconv.visualize.figure import names_of, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["confusion_matrix", "learning_curves"]

# By the prefix of their names in a history: what the curves are called, and their colours.
CURVES = {"": ("training", "#1f5fa8"), "val_": ("validation", "#d9601a"), "test_": ("test", "#3c8d40")}
MEANS = {"loss": "mean over the images", "accuracy": "share of images right"}
MOST_ANNOTATED_CLASSES = 30  # with more, the numbers in a confusion matrix's cells run into each other


def learning_curves(history: History) -> Figure:
    """Plot what was recorded over the epochs, of the training and, where recorded, of other data.

    Parameters
    ----------
    history : History
        As `Network.fit` returns it: names in ``val_`` are those of the validation data, in ``test_`` of test data.
        Loss and accuracy come first, then whatever else callbacks recorded; seconds are left out.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        If `history` is no History, or no epoch was finished.
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> from cyconv import visualize
    >>> from cyconv.training import History
    >>> history = History([{"loss": 2.3, "accuracy": 0.1}, {"loss": 0.4, "accuracy": 0.9}])
    >>> figure = visualize.learning_curves(history)
    >>> [axes.get_title() for axes in figure.axes]
    ['Loss', 'Accuracy']
    """
    if not isinstance(history, History):
        raise TypeError(f"learning_curves: `history` must be a History, got {type(history).__name__}")
    epochs = history.epochs
    if not epochs:
        raise ValueError("learning_curves: `history` has no finished epoch")
    prefixes = tuple(filter(None, CURVES))
    names = {name.removeprefix(next(filter(name.startswith, prefixes), "")) for name in history.names} - {"seconds"}
    panels = [*(name for name in MEANS if name in names), *sorted(names - MEANS.keys())]
    figure = new_figure(4.6 * len(panels), 3.6)
    for axes, name in zip(np.ravel(figure.subplots(1, len(panels), squeeze=False)), panels, strict=True):
        for prefix, (label, color) in CURVES.items():
            _curve(axes, epochs, prefix + name, label, color)
        axes.set_title(name.replace("_", " ").capitalize())
        axes.set_xlabel("epoch")
        axes.set_ylabel(MEANS.get(name, ""))
        axes.set_xlim(0.5, len(epochs) + 0.5)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return figure


def _curve(axes: Axes, epochs: Sequence[Mapping[str, float]], key: str, label: str, color: str) -> None:
    """Draw the recorded values of `key`, if there are any, and put the last one in the legend."""
    points = [(number, epoch[key]) for number, epoch in enumerate(epochs, 1) if key in epoch]
    if points:
        label = f"{label}, last {points[-1][1]:.4f}"
        axes.plot(*zip(*points, strict=True), color=color, label=label, marker="o", markersize=3, linewidth=1.5)


def confusion_matrix(matrix: ArrayLike, class_names: Sequence[str]) -> Figure:
    """Draw a confusion matrix: counts as numbers, each row's shares as colour.

    Parameters
    ----------
    matrix : array-like of shape (K, K), non-negative integers
        ``matrix[i, j]`` images of class i were taken for class j.
    class_names : sequence of str
        Names of the K classes.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        If `matrix` is not square, has a negative entry, or `class_names` are no names or of another number.
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> from cyconv import visualize
    >>> figure = visualize.confusion_matrix([[9, 1], [0, 10]], ["cat", "dog"])
    >>> figure.axes[0].get_title()
    'Confusion matrix: 19 of 20 right (95.00%)'
    """
    counts = as_array("confusion_matrix", "matrix", matrix)
    names = names_of("confusion_matrix", "class_names", class_names)
    K = len(names)
    check_shape("confusion_matrix", "matrix", counts, (K, K), f", a row for each of the {K} `class_names`")
    if counts.dtype.kind not in "iu" or counts.size == 0 or counts.min() < 0:
        raise ValueError("confusion_matrix: `matrix` must hold non-negative integers, at least one")
    total, right = int(counts.sum()), int(np.trace(counts))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    size = max(4.0, 0.45 * min(K, MOST_ANNOTATED_CLASSES) + 1.5)
    figure = new_figure(size + 1, size)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    axes.set_title(f"Confusion matrix: {right} of {total} right ({right / max(total, 1):.2%})")
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    long_names = max(map(len, names)) > 3
    axes.set_xticks(range(K), names, rotation=45 if long_names else 0, ha="right" if long_names else "center")
    axes.set_yticks(range(K), names)
    if K <= MOST_ANNOTATED_CLASSES:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8)
    return figure
