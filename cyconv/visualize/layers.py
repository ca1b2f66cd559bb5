"""Figures of what layers hold and do: filters, feature maps, and images that filters respond to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv._validation import as_float_array, check_shape
from cyconv.visualize.figure import new_figure, new_grid, pixels_of, titles_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["feature_maps", "filters", "maximizing_images"]

DEVIATIONS = 2.5  # from the mean, that are shown as black and white


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
    figure = new_figure(2 * width, width * (rows * (KH + 1)) / (columns * (KW + 1)) + (0.8 if IC == 1 else 0.4))
    from matplotlib.patches import Rectangle  # after new_figure, which says what to do if there is none

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


def feature_maps(maps: ArrayLike) -> Figure:
    """Show what a layer makes of an image, channel by channel, each on its own scale from dark to bright.

    Parameters
    ----------
    maps : ndarray of shape (C, H, W), float32 or float64
        As one image's entry of `cyconv.analysis.activations`.

    Returns
    -------
    matplotlib.figure.Figure
        The number of the channel stands above each map; one that is the same everywhere is dark.

    Raises
    ------
    TypeError, ValueError
        If the array has another dtype or shape.
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import analysis, models, visualize
    >>> image = np.random.default_rng(0).random((1, 1, 32, 32), np.float32)
    >>> maps = analysis.activations(models.lenet5(seed=0), image, ["0"])["0"]
    >>> figure = visualize.feature_maps(maps[0])
    >>> len(figure.axes)
    6
    """
    channels = as_float_array("feature_maps", "maps", maps, 3)
    if channels.size == 0:
        raise ValueError(f"feature_maps: `maps` must have no extent 0, got shape {channels.shape}")
    C, H, W = channels.shape
    figure, axes = new_grid(C, min(8, int(np.ceil(np.sqrt(C)))), (H, W))
    for index, (each, map_) in enumerate(zip(axes, channels, strict=True)):
        low, high = float(map_.min()), float(map_.max())
        each.imshow(map_, cmap="viridis", vmin=low, vmax=high if high > low else low + 1, interpolation="nearest")
        each.set_title(str(index), fontsize=8)
    return figure


def maximizing_images(images: ArrayLike, names: Sequence[str] | None = None) -> Figure:
    """Show images that filters respond to, each around its mean in units of its standard deviation.

    Parameters
    ----------
    images : ndarray of shape (N, C, H, W), float32 or float64
        In grey levels, C = 1, or in colour, C = 3; as `cyconv.analysis.maximizing_images` returns them.
    names : sequence of str, optional
        What stands above each; by default its number.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        If the array has another dtype or shape, or `names` another length.
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> from cyconv import analysis, models, visualize
    >>> images = analysis.maximizing_images(models.lenet5(seed=0), "0", [0, 1, 5], steps=5)
    >>> figure = visualize.maximizing_images(images, ["first", "second", "last"])
    """
    op = "maximizing_images"
    pictures = as_float_array(op, "images", images, 4)
    N, C, H, W = pictures.shape
    if C not in (1, 3) or pictures.size == 0:
        raise ValueError(f"{op}: `images` must have 1 or 3 channels and no extent 0, got shape {pictures.shape}")
    titles = titles_of(op, names, [str(index) for index in range(N)])
    figure, axes = new_grid(N, min(8, int(np.ceil(np.sqrt(N)))), (H, W))
    for each, picture, title in zip(axes, pictures, titles, strict=True):
        centred = picture - picture.mean()
        spread = DEVIATIONS * (float(picture.std()) or 1.0)
        grey = np.clip(centred / (2 * spread) + 0.5, 0, 1)
        each.imshow(pixels_of(grey), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        each.set_title(title, fontsize=8)
    return figure
