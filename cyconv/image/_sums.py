"""Kernels as the weighted sums that `_kernels/filter2d` forms, and running them over an image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cyconv import _validation as check
from cyconv import memory
from cyconv._boundary import BOUNDARIES, sources
from cyconv._dispatch import filter2d as kernels
from cyconv._geometry import Pair
from cyconv.threads import threads_for

EMPTY = np.empty(0, np.intp)
# Of a window's sides, up to which plain passes are faster: 2.8 against 3.0 ms for 3x3, 3.3 against 3.4 for 5x5, 4.0
# against 3.6 for 7x7, 13.3 against 5.2 for 31x31 (uint8, 2048x2048, one thread).
LARGEST_PASSES = 10


class Sums(NamedTuple):
    """A kernel of (KH, KW) numbers: taps of an image's rows and, as rows from KH on, of sums along each of these."""

    size: Pair
    tap_h: NDArray[np.intp]
    tap_w: NDArray[np.intp]
    weights: NDArray[np.float64]
    along_level: NDArray[np.intp] = EMPTY  # of the sum along a row; a level's numbers are sums of 2^level pixels
    along_w: NDArray[np.intp] = EMPTY
    along: NDArray[np.float64] = np.empty(0)
    running: bool = False  # the result is the sum of all KH sums along rows
    first: int | None = None  # taps of the first of two sums, whose root of squares is the result
    divisor: float = 1.0


def dense(kernel: NDArray[np.float64]) -> Sums:
    """Return the sum over all numbers of a kernel that are not zero."""
    tap_h, tap_w = map(np.ascontiguousarray, np.nonzero(kernel))
    return Sums(kernel.shape, tap_h, tap_w, kernel[tap_h, tap_w])


def separable(column: NDArray[np.float64], row: NDArray[np.float64], divisor: float = 1.0) -> Sums:
    """Return the sums along the rows, then along the columns, of the kernel column[:, None] * row / divisor."""
    KH, KW = len(column), len(row)
    if 1 in (KH, KW):
        return dense(column[:, None] * row)._replace(divisor=divisor)
    (taps,), (along_w,) = column.nonzero(), row.nonzero()
    level, tap_w = np.zeros_like(along_w), np.zeros_like(taps)
    return Sums((KH, KW), KH + taps, tap_w, column[taps], level, along_w, row[along_w], divisor=divisor)


def window(KH: int, KW: int) -> Sums:
    """Return the mean over a rectangle, of which larger ones take hardly more additions than small ones."""
    if KH + KW <= LARGEST_PASSES:
        return separable(np.ones(KH), np.ones(KW), KH * KW)
    level = np.array([level for level in range(KW.bit_length()) if KW >> level & 1], np.intp)
    along_w = np.cumsum(2**level) - 2**level
    return Sums((KH, KW), EMPTY, EMPTY, np.empty(0), level, along_w, np.ones(len(level)), True, divisor=KH * KW)


def with_center(sums: Sums, weight: float) -> Sums:
    """Return `sums` with the middle pixel, times `weight`, added."""
    middle = (extent // 2 for extent in sums.size)
    tap_h, tap_w = (np.append(taps, at) for taps, at in zip((sums.tap_h, sums.tap_w), middle, strict=True))
    return sums._replace(tap_h=tap_h, tap_w=tap_w, weights=np.append(sums.weights, weight))


def length(a: Sums, b: Sums) -> Sums:
    """Return sqrt(a^2 + b^2) of two dense sums of one size."""
    tap_h, tap_w, weights = (np.concatenate(pair) for pair in zip(a[1:4], b[1:4], strict=True))
    return Sums(a.size, tap_h, tap_w, weights, first=len(a.weights))


def folded(sums: Sums, boundary: str, image: Pair, output: Pair, before: Pair) -> tuple[Sums, Pair]:
    """Return a kernel larger than image and output together as one that is not, and what lies before its centre.

    Taps that read the same pixel at every place become one. Kernels of 3x3, those with two sums among them, stay.
    """
    if all(extent <= own + out + 1 for extent, own, out in zip(sums.size, image, output, strict=True)):
        return sums, before
    if sums.running:
        sums = separable(np.ones(sums.size[0]), np.ones(sums.size[1]), sums.divisor)
    KH, kept = sums.size[0], sums.tap_h < sums.size[0]  # the others are sums along rows
    own_taps = np.where(kept, sums.tap_h, sums.tap_h - KH)
    tap_h, rows, top = _nearer(boundary, own_taps, before[0], image[0], output[0])
    tap_w, columns, left = _nearer(boundary, sums.tap_w, before[1], image[1], output[1])
    along_w, _, _ = _nearer(boundary, sums.along_w, before[1], image[1], output[1])
    keys, weights = _merged(np.where(kept, tap_h * columns + tap_w, (rows + tap_h) * columns), sums.weights)
    along_w, along = _merged(along_w, sums.along)
    merged = Sums((rows, columns), keys // columns, keys % columns, weights, np.zeros_like(along_w), along_w, along)
    return merged._replace(divisor=sums.divisor), (top, left)


def _merged(taps: NDArray[np.intp], weights: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the taps without repetitions, each with the sum of its weights."""
    found, which = np.unique(taps, return_inverse=True)
    return found, np.bincount(which, weights, len(found)).astype(np.float64)


def _nearer(
    boundary: str, taps: NDArray[np.intp], before: int, size: int, count: int
) -> tuple[NDArray[np.intp], int, int]:
    """Return taps that read the same pixels of an axis, their bound, and what lies before the first place."""
    if boundary in ("constant", "nearest"):  # all taps that read outside at every of the `count` places are alike
        return np.clip(taps - before, -count, size) + count, count + size + 1, count
    period = {"wrap": size, "reflect": 2 * size}.get(boundary, max(2 * size - 2, 1))
    return taps % period, period, before


def apply(
    op: str,
    image: NDArray,
    sums: Sums,
    boundary: Any,
    cval: Any,
    dtype: DTypeLike | None,
    *,
    before: Pair | None = None,
    size: Pair | None = None,
) -> NDArray:
    """Return the sums at `size` places (default: the image's), from `before` pixels over its edge on (default: half).

    `dtype` is that of the result, None for the image's.
    """
    boundary = check.as_choice(op, "boundary", boundary, BOUNDARIES)
    kind = image.dtype if dtype is None else check.as_pixel_dtype(op, "dtype", dtype)
    wide = np.float64 in (image.dtype, kind)
    cval = check.as_fill_value(op, "cval", cval, np.dtype(np.float64 if wide else np.float32))
    pixels = image if image.ndim == 3 else image[:, :, None]
    IH, IW = image.shape[:2]
    OH, OW = size or (IH, IW)
    output = memory.empty((OH, OW, *image.shape[2:]), kind)
    if output.size:
        center = before or (sums.size[0] // 2, sums.size[1] // 2)
        sums, (top, left) = folded(sums, boundary, (IH, IW), (OH, OW), center)
        KH, KW = sums.size
        kernels.filter2d(
            pixels,
            sources(boundary, IH, top, OH + KH - 1),
            sources(boundary, IW, left, OW + KW - 1),
            left,
            cval,
            sums.along_level,
            sums.along_w,
            sums.along,
            sums.along_level.max(initial=0),
            sums.running,
            sums.tap_h,
            sums.tap_w,
            sums.weights,
            len(sums.weights) if sums.first is None else sums.first,
            sums.divisor,
            wide,
            output.reshape(-1, 1).view(np.uint8),
            OH,
            OW,
            threads_for(output.size * (len(sums.weights) + len(sums.along) + 4)),
        )
    return output
