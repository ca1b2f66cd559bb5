"""Figures, and images laid out on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL = 1.3  # inches of an image among many


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure that no window system and no global state knows of.

    Parameters
    ----------
    width, height : float
        In inches.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise ImportError('cyconv.visualize needs matplotlib: pip install "cyconv[plot]"') from error
    return Figure(figsize=(width, height), dpi=120, layout=ConstrainedLayoutEngine(wspace=0.1))


def new_grid(count: int, columns: int, shape: tuple[int, int], cell: float = CELL) -> tuple[Figure, list[Any]]:
    """Return a figure with axes without frames, row by row, for images of one shape.

    Parameters
    ----------
    count, columns : int
        How many there are, and how many in a row.
    shape : (int, int)
        Height and width of the images, in pixels.
    cell : float
        Inches of the longer side.
    """
    rows = -(-count // columns)
    height, width = (cell * extent / max(shape) for extent in shape)
    figure = new_figure(max(2.0, columns * (width + 0.1)), rows * (height + 0.3) + 0.4)
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for each in axes:
        each.set_axis_off()
    return figure, axes[:count]


def names_of(op: str, name: str, value: Sequence[str]) -> list[str]:
    """Return a user's names as a list of text.

    Parameters
    ----------
    op, name : str
        Whom and what errors name.
    value : sequence of str
        What the user says.
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable) or getattr(value, "shape", None) == ():
        raise TypeError(f"{op}: `{name}` must be a sequence of names, got {type(value).__name__}")
    return [str(each) for each in value]


def titles_of(op: str, names: Sequence[str] | None, default: Sequence[str]) -> list[str]:
    """Return what stands above each image.

    Parameters
    ----------
    op : str
        Whom errors name.
    names : sequence of str or None
        What the user says.
    default : sequence of str
        What stands there otherwise.
    """
    titles = list(default) if names is None else names_of(op, "names", names)
    if len(titles) != len(default):
        raise ValueError(f"{op}: `names` must be {len(default)}, one for each image, got {len(titles)}")
    return titles


def pixels_of(image: NDArray) -> NDArray:
    """Return an image as matplotlib takes it: (H, W) in grey levels, or (H, W, 3).

    Parameters
    ----------
    image : ndarray of shape (1, H, W) or (3, H, W)
    """
    return image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
