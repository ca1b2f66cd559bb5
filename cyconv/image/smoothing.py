"""Means over the surroundings of each pixel, and sharpening, which is what they take away added once more."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from cyconv import _validation as check
from cyconv.image import _sums

LARGEST_RADIUS = 2**13 - 1  # workspace, and how long Ctrl-C waits, grow with it
LARGEST_SIZE = 2 * LARGEST_RADIUS + 1


def gaussian(
    image: ArrayLike,
    sigma: float | tuple[float, float],
    truncate: float = 4.0,
    boundary: str = "reflect",
    cval: float = 0.0,
    dtype: DTypeLike | None = None,
) -> NDArray:
    """Blur an image with a Gaussian.

    Parameters
    ----------
    image : array_like of shape (H, W) or (H, W, C)
        uint8, float32 or float64; each channel is filtered by itself.
    sigma : float or (vertical, horizontal)
        Standard deviation in pixels; 0 leaves that axis as it is.
    truncate : float, default 4.0
        Where the Gaussian ends, in standard deviations: its radius is ``int(truncate * sigma + 0.5)``, 8191 at most.
    boundary : {"constant", "reflect", "mirror", "nearest", "wrap"}, default "reflect"
        How the image goes on over its edges: see `correlate`.
    cval : float, default 0.0
        What surrounds the image with `boundary` "constant".
    dtype : {uint8, float32, float64}, optional
        Of the result. Default: the image's.

    Returns
    -------
    ndarray of the image's shape
        uint8 is rounded to the nearest, of two to the even number.

    Raises
    ------
    TypeError
        For other dtypes, or parameters that are not numbers.
    ValueError
        For other numbers of axes, or parameters out of range.

    Notes
    -----
    The weights are ``exp(-x^2 / (2 sigma^2))`` over their sum, for ``x = -radius, ..., radius`` along each axis, as
    those of scipy.ndimage's `gaussian_filter`; that rounds to the image's dtype after either axis, this at the end
    alone.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.image import gaussian
    >>> image = np.zeros((5, 5), np.uint8)
    >>> image[2, 2] = 255
    >>> gaussian(image, 0.5)
    array([[  0,   0,   0,   0,   0],
           [  0,   3,  21,   3,   0],
           [  0,  21, 158,  21,   0],
           [  0,   3,  21,   3,   0],
           [  0,   0,   0,   0,   0]], dtype=uint8)
    """
    pixels = check.as_pixels("gaussian", "image", image)
    column, row = _gaussians("gaussian", sigma, truncate)
    return _sums.apply("gaussian", pixels, _sums.separable(column, row), boundary, cval, dtype)


def box(
    image: ArrayLike,
    size: int | tuple[int, int] = 3,
    boundary: str = "reflect",
    cval: float = 0.0,
    dtype: DTypeLike | None = None,
) -> NDArray:
    """Replace each pixel by the mean of those in a rectangle around it.

    Parameters
    ----------
    image : array_like of shape (H, W) or (H, W, C)
        uint8, float32 or float64; each channel is filtered by itself.
    size : int or (vertical, horizontal), default 3
        Of the rectangle, in pixels, at most 16383; the pixel is its number ``size // 2`` along either axis.
    boundary, cval, dtype
        As for `gaussian`.

    Returns
    -------
    ndarray of the image's shape
        uint8 is rounded to the nearest, of two to the even number.

    Raises
    ------
    TypeError, ValueError
        As for `gaussian`.

    Notes
    -----
    scipy.ndimage's `uniform_filter`, which carries its rounding errors along the rows and columns; here a mean depends
    on its own pixels alone.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.image import box
    >>> box(np.array([[0.0, 3.0, 9.0]]), (1, 3))
    array([[1., 4., 7.]])
    """
    pixels = check.as_pixels("box", "image", image)
    KH, KW = (check.as_int("box", "size", extent, 1, LARGEST_SIZE) for extent in check.as_pair("box", "size", size))
    return _sums.apply("box", pixels, _sums.window(KH, KW), boundary, cval, dtype)


def sharpen(
    image: ArrayLike,
    sigma: float | tuple[float, float] = 1.0,
    amount: float = 1.0,
    truncate: float = 4.0,
    boundary: str = "reflect",
    cval: float = 0.0,
    dtype: DTypeLike | None = None,
) -> NDArray:
    """Sharpen an image: add what a Gaussian blur takes away (unsharp masking).

    Parameters
    ----------
    image : array_like of shape (H, W) or (H, W, C)
        uint8, float32 or float64; each channel is filtered by itself.
    sigma : float or (vertical, horizontal), default 1.0
        Standard deviation of the Gaussian in pixels: the size of the details that are raised.
    amount : float, default 1.0
        How many times they are added.
    truncate, boundary, cval, dtype
        As for `gaussian`.

    Returns
    -------
    ndarray of the image's shape
        uint8 is rounded to the nearest and saturates at 0 and 255.

    Raises
    ------
    TypeError, ValueError
        As for `gaussian`.

    Notes
    -----
    ``y = x + amount * (x - gaussian(x, sigma))``, in one pass and rounded once.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.image import sharpen
    >>> sharpen(np.array([[10, 10, 10, 90, 90, 90]], np.uint8), sigma=(0, 0.5))
    array([[10, 10,  1, 99, 90, 90]], dtype=uint8)
    """
    pixels = check.as_pixels("sharpen", "image", image)
    column, row = _gaussians("sharpen", sigma, truncate)
    times = check.as_number("sharpen", "amount", amount)
    sums = _sums.with_center(_sums.separable(-times * column, row), 1 + times)
    return _sums.apply("sharpen", pixels, sums, boundary, cval, dtype)


def _gaussians(op: str, sigma: Any, truncate: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weights of a Gaussian along the columns, and of one along the rows."""
    cut = check.as_number(op, "truncate", truncate, 0)
    pair = sigma.tolist() if isinstance(sigma, np.ndarray) else sigma  # of an array without axes: the number
    if not isinstance(pair, (tuple, list)):
        pair = (pair, pair)
    if len(pair) != 2:
        raise ValueError(f"{op}: `sigma` must be a number or a pair of numbers, got {check.brief(sigma)}")
    deviations = [check.as_number(op, "sigma", value, 0) for value in pair]
    if max(deviations) * cut > LARGEST_RADIUS:
        raise ValueError(
            f"{op}: `sigma` times `truncate` must be at most {LARGEST_RADIUS}, got {max(deviations)} times {cut}"
        )
    column, row = (_gaussian(deviation, int(cut * deviation + 0.5)) for deviation in deviations)
    return column, row


def _gaussian(sigma: float, radius: int) -> NDArray[np.float64]:
    if radius == 0:
        return np.ones(1)
    with np.errstate(over="ignore", under="ignore"):
        weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()
