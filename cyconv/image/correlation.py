"""Correlation and convolution of an image with a kernel of the caller's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from cyconv import _validation as check
from cyconv._boundary import BOUNDARIES
from cyconv._geometry import Pair
from cyconv.image import _sums

MODES = ("same", "valid", "full")
# Numbers of a kernel that take as long as a second pass: nine in one pass took 2.5 ms and three and three in two 1.9,
# six, Sobel's, 2.6 ms and three and two 2.5 (uint8, 2048x2048, one thread).
PASS_COST = 1


def correlate(
    image: ArrayLike,
    kernel: ArrayLike,
    mode: str = "same",
    boundary: str = "constant",
    cval: float = 0.0,
    origin: int | tuple[int, int] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray:
    """Slide a kernel over an image and sum the products at each place.

    Parameters
    ----------
    image : array_like of shape (H, W) or (H, W, C)
        uint8, float32 or float64; each channel is filtered by itself.
    kernel : array_like of shape (KH, KW)
        Real numbers.
    mode : {"same", "valid", "full"}, default "same"
        The places where the result is wanted: one for each pixel; those at which the kernel lies inside the image; or
        all at which it touches the image.
    boundary : {"constant", "reflect", "mirror", "nearest", "wrap"}, default "constant"
        How the image ``a b c d`` goes on over its edges, as in scipy.ndimage: with `cval`; ``d c b a|a b c d|d c b a``;
        ``d c b|a b c d|c b a``; ``a a a|a b c d|d d d``; or ``b c d|a b c d|a b c``. Of no effect in mode "valid".
    cval : float, default 0.0
        What surrounds the image with `boundary` "constant".
    origin : int or (vertical, horizontal), optional
        In mode "same", by how much the kernel's centre, its number ``K // 2`` along either axis, is moved towards its
        end: from ``-(K // 2)`` to ``(K - 1) // 2``. Default: 0 but, with `boundary` "constant", -1 for even K.
    dtype : {uint8, float32, float64}, optional
        Of the result. Default: the image's.

    Returns
    -------
    ndarray of shape (OH, OW) or (OH, OW, C)
        H, ``H - KH + 1`` or ``H + KH - 1`` rows by `mode`, and so for the columns. uint8 is rounded to the nearest (of
        two to the even number) and saturates at 0 and 255.

    Raises
    ------
    TypeError
        For other dtypes, or parameters that are not numbers.
    ValueError
        For other numbers of axes; for a kernel without numbers or, in mode "valid", larger than the image; and for
        parameters out of range.

    See Also
    --------
    convolve : The same with the kernel turned half round.
    cyconv.functional.conv2d : Batches of images, channels mixed, with gradients.

    Notes
    -----
    ``y[i, j] = sum over k, l of kernel[k, l] x[i + k, j + l]`` in mode "valid". In mode "same" that is scipy.ndimage's
    `correlate` and, with `boundary` "constant", scipy.signal's `correlate2d`: they differ in the centre of kernels of
    an even size, and `origin` = 0 chooses scipy.ndimage's there too.

    It is computed in float32 or, where image or result are float64, in that. A kernel that is the outer product of a
    column and a row may be applied as these two, one after the other; numbers of a kernel that are zero are left out,
    so that they do not meet infinities.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.image import correlate
    >>> correlate(np.array([[1.0, 2.0, 4.0]]), [[-1, 0, 1]])
    array([[ 2.,  3., -2.]])
    >>> correlate(np.array([[1.0, 2.0, 4.0]]), [[-1, 0, 1]], boundary="nearest")
    array([[1., 3., 2.]])
    >>> correlate(np.array([[10, 200, 90]], np.uint8), [[1, 1]], mode="valid")
    array([[210, 255]], dtype=uint8)
    """
    return _filtered("correlate", image, kernel, mode, boundary, cval, origin, dtype, turned=False)


def convolve(
    image: ArrayLike,
    kernel: ArrayLike,
    mode: str = "same",
    boundary: str = "constant",
    cval: float = 0.0,
    origin: int | tuple[int, int] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray:
    """Convolve an image with a kernel.

    Parameters
    ----------
    image : array_like of shape (H, W) or (H, W, C)
        uint8, float32 or float64; each channel is filtered by itself.
    kernel : array_like of shape (KH, KW)
        Real numbers.
    mode, boundary, cval, origin, dtype
        As for `correlate`.

    Returns
    -------
    ndarray of shape (OH, OW) or (OH, OW, C)
        As from `correlate`.

    Raises
    ------
    TypeError, ValueError
        As for `correlate`.

    Notes
    -----
    ``y[i, j] = sum over k, l of kernel[k, l] x[i - k, j - l]`` in mode "full". In mode "same" that is scipy.ndimage's
    `convolve` and, with `boundary` "constant", scipy.signal's `convolve2d`, as `correlate` is their namesake.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.image import convolve
    >>> convolve(np.array([[1.0, 2.0, 4.0]]), [[1, 10]], mode="full")
    array([[ 1., 12., 24., 40.]])
    >>> convolve(np.array([[1.0, 2.0, 4.0]]), [[1, 10]])
    array([[ 1., 12., 24.]])
    """
    return _filtered("convolve", image, kernel, mode, boundary, cval, origin, dtype, turned=True)


def _filtered(
    op: str,
    image: ArrayLike,
    kernel: ArrayLike,
    mode: Any,
    boundary: Any,
    cval: Any,
    origin: Any,
    dtype: DTypeLike | None,
    *,
    turned: bool,
) -> NDArray:
    pixels = check.as_pixels(op, "image", image)
    numbers = _as_kernel(op, kernel)
    mode = check.as_choice(op, "mode", mode, MODES)
    boundary = check.as_choice(op, "boundary", boundary, BOUNDARIES)
    (KH, KW), (H, W) = numbers.shape, pixels.shape[:2]
    size = None
    if mode == "same":
        before = _as_before(op, origin, numbers.shape, turned, boundary)
    elif origin is not None:
        raise ValueError(f'{op}: `origin` is for `mode` "same", got {check.brief(origin)} with {check.brief(mode)}')
    elif mode == "valid":
        before, size = (0, 0), (H - KH + 1, W - KW + 1)
        if min(size) < 1:
            raise ValueError(
                f'{op}: `kernel` of shape {(KH, KW)} must fit into `image` of {H} rows and {W} columns in mode "valid"'
            )
    else:
        before, size = (KH - 1, KW - 1), (H + KH - 1, W + KW - 1)
        if min(H, W) < 1:
            raise ValueError(f'{op}: `image` must have pixels in mode "full", got shape {pixels.shape}')
    numbers = numbers[::-1, ::-1] if turned else numbers
    factors = factored(numbers)
    sums = _sums.dense(numbers) if factors is None else _sums.separable(*factors)
    return _sums.apply(op, pixels, sums, boundary, cval, dtype, before=before, size=size)


def _as_kernel(op: str, kernel: ArrayLike) -> NDArray[np.float64]:
    """Return a kernel as float64."""
    numbers = check.as_array(op, "kernel", kernel)
    if numbers.dtype.kind not in "iuf":
        raise TypeError(f"{op}: `kernel` must be real numbers, got {numbers.dtype}")
    if numbers.ndim != 2 or 0 in numbers.shape:
        raise ValueError(f"{op}: `kernel` must have two dimensions and numbers in it, got shape {numbers.shape}")
    return numbers.astype(np.float64)


def _as_before(op: str, origin: Any, size: Pair, turned: bool, boundary: Any) -> Pair:
    """Return how many rows and columns of a kernel, turned if it is to be, lie before its centre."""
    if origin is None:
        origin = tuple(extent % 2 - 1 for extent in size) if boundary == "constant" else (0, 0)
    pair = check.as_pair(op, "origin", origin, -check.LARGEST)
    for extent, moved in zip(size, pair, strict=True):
        check.as_int(op, "origin", moved, -(extent // 2), (extent - 1) // 2)
    if turned:
        return (size[0] - 1) // 2 - pair[0], (size[1] - 1) // 2 - pair[1]
    return size[0] // 2 + pair[0], size[1] // 2 + pair[1]


def factored(kernel: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return a column and a row whose outer product the kernel is, up to rounding, where two passes are faster."""
    i, j = np.unravel_index(np.argmax(np.abs(kernel)), kernel.shape)
    if not np.isfinite(kernel).all() or kernel[i, j] == 0:
        return None
    column, row = kernel[:, j] / kernel[i, j], kernel[i]
    if np.count_nonzero(kernel) <= np.count_nonzero(column) + np.count_nonzero(row) + PASS_COST:
        return None
    within = 4 * np.finfo(np.float64).eps * abs(kernel[i, j])
    return (column, row) if np.all(np.abs(column[:, None] * row - kernel) <= within) else None
