"""Figures of training: curves, filters, confusions. Each function returns a matplotlib figure and shows nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv._validation import as_array, as_float_array, check_shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cyconv.training import History

# By the prefix of their names in a history: what the curves are called, and their colours.
CURVES = {"": ("training", "#1f5fa8"), "val_": ("validation", "#d9601a"), "test_": ("test", "#3c8d40")}
MOST_ANNOTATED_CLASSES = 30  # with more, the numbers in a confusion matrix's cells run into each other


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches, that no window system and no global state knows of."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise ImportError('cyconv.visualize needs matplotlib: pip install "cyconv[plot]"') from error
    return Figure(figsize=(width, height), dpi=120, layout=ConstrainedLayoutEngine(wspace=0.1))


def learning_curves(history: History) -> Figure:
    """Plot loss and accuracy over the epochs, of the training and, where recorded, of other data.

    Parameters
    ----------
    history : History
        As `Network.fit` returns it: names in ``val_`` are those of the validation data, in ``test_`` of test data.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If no epoch was finished.
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
    epochs = history.epochs
    if not epochs:
        raise ValueError("learning_curves: `history` has no finished epoch")
    panels = [(name, title) for name, title in (("loss", "Loss"), ("accuracy", "Accuracy")) if name in epochs[0]]
    figure = _figure(4.6 * len(panels), 3.6)
    for axes, (name, title) in zip(np.ravel(figure.subplots(1, len(panels), squeeze=False)), panels, strict=True):
        for prefix, (label, color) in CURVES.items():
            _curve(axes, epochs, prefix + name, label, color)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.set_ylabel("mean over the images" if name == "loss" else "share of images right")
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


def filters(weights_before: ArrayLike, weights_after: ArrayLike) -> Figure:
    """Show a first layer's filters before and after training, side by side.

    Parameters
    ----------
    weights_before, weights_after : ndarray of shape (OC, IC, KH, KW), float32 or float64
        Weights of a convolution with IC = 1 (shown in grey levels, each side on its own scale) or IC = 3 (in colour).

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        If an array has another dtype or shape, or the two differ in shape.
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import visualize
    >>> before, after = np.random.default_rng(0).standard_normal((2, 6, 1, 5, 5))
    >>> figure = visualize.filters(before, after)
    """
    before = as_float_array("filters", "weights_before", weights_before, 4)
    after = as_float_array("filters", "weights_after", weights_after, 4)
    check_shape("filters", "weights_after", after, before.shape, " as `weights_before`")
    OC, IC, KH, KW = before.shape
    if IC not in (1, 3) or before.size == 0:
        raise ValueError(
            f"filters: `weights_before` must have 1 or 3 input channels and no extent 0, got {before.shape}"
        )
    columns = int(np.ceil(np.sqrt(OC)))
    rows = -(-OC // columns)
    width = 4.4
    figure = _figure(2 * width, width * (rows * (KH + 1)) / (columns * (KW + 1)) + (0.8 if IC == 1 else 0.4))
    from matplotlib.patches import Rectangle  # after _figure, which says what to do if there is none

    titles = ("before training", "after training")
    for axes, weights, title in zip(figure.subplots(1, 2), (before, after), titles, strict=True):
        largest = float(np.abs(weights).max()) or 1.0
        tiles = _mosaic(weights, rows, columns)
        if IC == 3:
            axes.imshow((tiles / largest + 1) / 2, interpolation="nearest")
        else:
            image = axes.imshow(tiles[..., 0], cmap="gray", vmin=-largest, vmax=largest, interpolation="nearest")
            figure.colorbar(
                image, ax=axes, location="bottom", shrink=0.8, aspect=40, ticks=[-largest, 0, largest], format="%.3g"
            )
        for row, column in (divmod(index, columns) for index in range(OC)):  # white numbers end where the page begins
            corner = column * (KW + 1) - 0.5, row * (KH + 1) - 0.5
            axes.add_patch(Rectangle(corner, KW, KH, fill=False, edgecolor="0.6", linewidth=0.8, clip_on=False))
        axes.set_title(f"{OC} filters of {KH}x{KW}, {title}")
        axes.set_axis_off()
    return figure


def _mosaic(weights: NDArray, rows: int, columns: int) -> NDArray:
    """Lay the filters out on a grid, a NaN (empty) pixel between neighbours: [OC, IC, KH, KW] -> [H, W, IC]."""
    OC, IC, KH, KW = weights.shape
    tiles = np.full((rows * columns, IC, KH + 1, KW + 1), np.nan)
    tiles[:OC, :, :KH, :KW] = weights
    grid = tiles.reshape(rows, columns, IC, KH + 1, KW + 1).transpose(0, 3, 1, 4, 2)
    return grid.reshape(rows * (KH + 1), columns * (KW + 1), IC)[:-1, :-1]


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
    ValueError
        If `matrix` is not square, has a negative entry, or `class_names` another length.
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
    K = len(class_names)
    check_shape("confusion_matrix", "matrix", counts, (K, K), f" for {K} class names")
    if counts.dtype.kind not in "iu" or counts.size == 0 or counts.min() < 0:
        raise ValueError("confusion_matrix: `matrix` must hold non-negative integers, at least one")
    total, right = int(counts.sum()), int(np.trace(counts))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    size = max(4.0, 0.45 * min(K, MOST_ANNOTATED_CLASSES) + 1.5)
    figure = _figure(size + 1, size)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    axes.set_title(f"Confusion matrix: {right} of {total} right ({right / max(total, 1):.2%})")
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    long_names = max(map(len, class_names)) > 3
    axes.set_xticks(range(K), class_names, rotation=45 if long_names else 0, ha="right" if long_names else "center")
    axes.set_yticks(range(K), class_names)
    if K <= MOST_ANNOTATED_CLASSES:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8)
    return figure
