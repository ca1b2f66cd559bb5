"""Figures of images with what a network makes of them: saliency, segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv._validation import as_array, as_float_array, as_int_array, check_shape
from cyconv.visualize.figure import names_of, new_grid, pixels_of, titles_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["saliency", "segmentation"]

OPACITY = 0.45  # of classes that are laid over an image
WRONG = (0.9, 0.1, 0.1)
MOST_COLORS = 20  # that can be told apart


def saliency(images: ArrayLike, maps: ArrayLike, names: Sequence[str] | None = None) -> Figure:
    """Show images, and below each how much every pixel matters.

    Parameters
    ----------
    images : ndarray of shape (N, C, H, W) or (N, H, W), float32, float64 or uint8
        In grey levels, C = 1, or in colour, C = 3; each from its darkest to its brightest number.
    maps : ndarray of shape (N, H, W), float32 or float64
        As `cyconv.analysis.saliency` returns them.
    names : sequence of str, optional
        What stands above each image.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        If an array has another dtype or shape, or `names` another length.
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import analysis, models, visualize
    >>> images = np.random.default_rng(0).random((3, 1, 32, 32), np.float32)
    >>> figure = visualize.saliency(images, analysis.saliency(models.lenet5(seed=0), images), ["a", "b", "c"])
    """
    op = "saliency"
    importance = as_float_array(op, "maps", maps, 3)
    pictures = _real(op, "images", images)
    N, H, W = importance.shape
    if pictures.shape not in ((N, H, W), (N, 1, H, W), (N, 3, H, W)) or importance.size == 0:
        raise ValueError(
            f"{op}: `images` must have shape (N, 1 or 3, H, W) as `maps` {importance.shape} has, got {pictures.shape}"
        )
    titles = titles_of(op, names, [""] * N)
    figure, axes = new_grid(2 * N, N, (H, W), 1.8)
    for i, picture in enumerate(pictures.reshape(N, -1, H, W)):
        axes[i].imshow(pixels_of(_stretched(picture)), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes[i].set_title(titles[i], fontsize=9)
        axes[N + i].imshow(importance[i], cmap="inferno", vmin=0, interpolation="nearest")
    return figure


def segmentation(
    image: ArrayLike,
    prediction: ArrayLike,
    truth: ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Lay the classes of pixels over an image: those predicted and, where given, the true ones and the differences.

    Parameters
    ----------
    image : ndarray of shape (H, W), (1, H, W) or (3, H, W), float32, float64 or uint8
        From its darkest to its brightest number.
    prediction : array-like of int of shape (H, W)
        Classes from 0; negative numbers are left uncoloured.
    truth : array-like of int of shape (H, W), optional
        The true ones; negative numbers, and those from the number of classes on, count as not known.
    class_names : sequence of str, optional
        Names of the classes; by default their numbers.

    Returns
    -------
    matplotlib.figure.Figure
        The title of the last panel tells the share of the pixels that are right.

    Raises
    ------
    TypeError, ValueError
        If an array has another dtype or shape, a class has no name, or there are more than 20 or none.
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import visualize
    >>> image, truth = np.random.default_rng(0).random((8, 8)), np.eye(8, dtype=int)
    >>> figure = visualize.segmentation(image, 0 * truth, truth, ["cell", "membrane"])
    >>> [axes.get_title() for axes in figure.axes]
    ['image', 'predicted', 'true', 'wrong: 12.50%']
    """
    op = "segmentation"
    classes = as_int_array(op, "prediction", prediction, 2)
    H, W = classes.shape
    picture = _real(op, "image", image)
    if picture.shape not in ((H, W), (1, H, W), (3, H, W)) or classes.size == 0:
        raise ValueError(
            f"{op}: `image` must have shape (1 or 3, H, W) as `prediction` {classes.shape} has, got {picture.shape}"
        )
    if classes.max() < 0:
        raise ValueError(f"{op}: `prediction` must hold a class, got negative numbers only")
    given = None if class_names is None else names_of(op, "class_names", class_names)
    K = int(classes.max()) + 1 if given is None else len(given)
    right = None
    if truth is not None:
        right = as_int_array(op, "truth", truth)
        check_shape(op, "truth", right, (H, W), " (that of `prediction`)")
        K = max(K, int(right.max()) + 1) if given is None else K
    if classes.max() >= K or K > MOST_COLORS:
        raise ValueError(
            f"{op}: classes in `prediction`, and `class_names`, must be below {min(K, MOST_COLORS)}, got up to "
            f"{max(classes.max(), K - 1)}"
        )
    names = [str(index) for index in range(K)] if given is None else given

    base = _stretched(picture.reshape(-1, H, W))
    grey = np.broadcast_to(pixels_of(base)[..., np.newaxis] if len(base) == 1 else pixels_of(base), (H, W, 3))
    panels = {"image": grey}
    figure, axes = new_grid(2 if right is None else 4, 2, (H, W), 3.2)
    from matplotlib import colormaps  # after new_grid, which says what to do if there is no matplotlib
    from matplotlib.patches import Patch

    colors = colormaps["tab10" if K <= 10 else "tab20"](np.arange(K))[:, :3]
    panels["predicted"] = _overlay(grey, classes, colors)
    if right is not None:
        panels["true"] = _overlay(grey, right, colors)
        known = (right >= 0) & (right < K)
        wrong = known & (right != classes)
        panels[f"wrong: {wrong.sum() / max(1, known.sum()):.2%}"] = _overlay(grey, wrong - 1, np.array([WRONG]))
    for each, (title, panel) in zip(axes, panels.items(), strict=True):
        each.imshow(panel, interpolation="nearest")
        each.set_title(title)
    patches = [Patch(facecolor=color, label=name) for color, name in zip(colors, names, strict=True)]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(K, 5), frameon=False)
    return figure


def _real(op: str, name: str, value: ArrayLike) -> NDArray:
    array = as_array(op, name, value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{op}: `{name}` must be real numbers, got {array.dtype}")
    return array


def _stretched(picture: NDArray) -> NDArray:
    """Return an image whose darkest number is 0 and whose brightest is 1."""
    low, high = float(picture.min()), float(picture.max())
    return (picture - np.float64(low)) / ((high - low) or 1.0)


def _overlay(grey: NDArray, classes: NDArray, colors: NDArray) -> NDArray:
    """Return an image tinted with the colours of the classes; others stay as they are."""
    known = (classes >= 0) & (classes < len(colors))
    tinted = (1 - OPACITY) * grey + OPACITY * colors[np.where(known, classes, 0)]
    return np.where(known[..., np.newaxis], tinted, grey)
