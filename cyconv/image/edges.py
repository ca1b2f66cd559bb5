"""Derivatives of an image: where its brightness changes, and how."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from cyconv import _validation as check
from cyconv.image import _sums

DIFFERENCE, SMOOTHING = np.array([-1.0, 0.0, 1.0]), np.array([1.0, 2.0, 1.0])
LAPLACIAN = np.array([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])


def sobel(
    image: ArrayLike,
    axis: int | None = None,
    boundary: str = "reflect",
    cval: float = 0.0,
    dtype: DTypeLike | None = None,
) -> NDArray:
    """Find edges with Sobel's smoothed differences.

    Parameters
    ----------
    image : array_like of shape (H, W) or (H, W, C)
        uint8, float32 or float64; each channel is filtered by itself.
    axis : {0, 1}, optional
        0 for the difference of the rows below and above, 1 for that of the columns right and left. Default: the length
        of both, as of a vector: how strong the edge is, whatever its direction.
    boundary : {"constant", "reflect", "mirror", "nearest", "wrap"}, default "reflect"
        How the image goes on over its edges: see `correlate`.
    cval : float, default 0.0
        What surrounds the image with `boundary` "constant".
    dtype : {uint8, float32, float64}, optional
        Of the result. Default: the image's but, as differences may be negative and large, float32 for uint8. With uint8
        they are rounded to the nearest and saturate at 0 and 255.

    Returns
    -------
    ndarray of the image's shape

    Raises
    ------
    TypeError
        For other dtypes, or parameters that are not numbers.
    ValueError
        For other numbers of axes, or parameters out of range.

    Notes
    -----
    Correlation with ``[[-1, -2, -1], [0, 0, 0], [1, 2, 1]]`` (axis 0), its transpose (axis 1), or the root of both
    results' squares summed. scipy.ndimage's `sobel` is the same for one axis, but a `cval` other than 0 surrounds there
    the image of the differences too.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.image import sobel
    >>> image = np.array([[0, 0, 9], [0, 0, 9], [0, 0, 9]], np.uint8)
    >>> sobel(image, axis=1)
    array([[ 0., 36., 36.],
           [ 0., 36., 36.],
           [ 0., 36., 36.]], dtype=float32)
    >>> sobel(np.array([[0.0, 0.0], [0.0, 4.0]]))
    array([[ 5.65685425, 12.64911064],
           [12.64911064, 16.97056275]])
    """
    pixels = check.as_pixels("sobel", "image", image)
    kernels = [np.outer(DIFFERENCE, SMOOTHING), np.outer(SMOOTHING, DIFFERENCE)]
    if axis is None:
        sums = _sums.length(_sums.dense(kernels[0]), _sums.dense(kernels[1]))
    else:
        sums = _sums.dense(kernels[check.as_int("sobel", "axis", axis, 0, 1)])
    return _sums.apply("sobel", pixels, sums, boundary, cval, _signed(pixels, dtype))


def laplacian(
    image: ArrayLike, boundary: str = "reflect", cval: float = 0.0, dtype: DTypeLike | None = None
) -> NDArray:
    """Sum the second differences of an image along both axes.

    Parameters
    ----------
    image : array_like of shape (H, W) or (H, W, C)
        uint8, float32 or float64; each channel is filtered by itself.
    boundary, cval, dtype
        As for `sobel`.

    Returns
    -------
    ndarray of the image's shape

    Raises
    ------
    TypeError, ValueError
        As for `sobel`.

    Notes
    -----
    Correlation with ``[[0, 1, 0], [1, -4, 1], [0, 1, 0]]``: scipy.ndimage's `laplace`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.image import laplacian
    >>> laplacian(np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    array([[ 0.,  1.,  0.],
           [ 1., -4.,  1.],
           [ 0.,  1.,  0.]])
    """
    pixels = check.as_pixels("laplacian", "image", image)
    return _sums.apply("laplacian", pixels, _sums.dense(LAPLACIAN), boundary, cval, _signed(pixels, dtype))


def _signed(pixels: NDArray, dtype: Any) -> Any:
    """Return the dtype that is asked for, else one that holds negative numbers."""
    return np.float32 if dtype is None and pixels.dtype == np.uint8 else dtype
