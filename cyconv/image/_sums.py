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
    """A kernel of (KH, KW) numbers: taps of an image's rows and, as row KH and on, of sums of these."""

    size: Pair
    tap_h: NDArray[np.intp]
    tap_w: NDArray[np.intp]
    weights: NDArray[np.float64]
    vertical_h: NDArray[np.intp] = EMPTY
    vertical: NDArray[np.float64] = np.empty(0)
    running: bool = False  # the sum along the columns is that of all KH rows
    levels: int = 0  # of sums of 2^level of its numbers, which are the rows from KH + 1 on
    first: int | None = None  # taps of the first of two sums, whose root of squares is the result
    divisor: float = 1.0


def dense(kernel: NDArray[np.float64]) -> Sums:
    """Return the sum over all numbers of a kernel that are not zero."""
    tap_h, tap_w = map(np.ascontiguousarray, np.nonzero(kernel))
    return Sums(kernel.shape, tap_h, tap_w, kernel[tap_h, tap_w])


def separable(column: NDArray[np.float64], row: NDArray[np.float64], divisor: float = 1.0) -> Sums:
    """Return the sums along the columns, then along the rows, of the kernel column[:, None] * row / divisor."""
    if 1 in (len(column), len(row)):
        return dense(column[:, None] * row)._replace(divisor=divisor)
    vertical_h, tap_w = column.nonzero()[0], row.nonzero()[0]
    tap_h = np.full_like(tap_w, len(column))
    return Sums((len(column), len(row)), tap_h, tap_w, row[tap_w], vertical_h, column[vertical_h], divisor=divisor)


def window(KH: int, KW: int) -> Sums:
    """Return the mean over a rectangle, of which larger ones take hardly more additions than small ones."""
    if KH + KW <= LARGEST_PASSES:
        return separable(np.ones(KH), np.ones(KW), KH * KW)
    levels = [level for level in range(KW.bit_length()) if KW >> level & 1]
    widths = 2 ** np.array(levels, np.intp)
    tap_h, tap_w = KH + np.array(levels, np.intp), np.cumsum(widths) - widths
    weights = np.ones(len(levels))
    return Sums((KH, KW), tap_h, tap_w, weights, running=True, levels=levels[-1], divisor=KH * KW)


def with_center(sums: Sums, weight: float) -> Sums:
    """Return `sums` with the middle pixel, times `weight`, added."""
    middle = (extent // 2 for extent in sums.size)
    tap_h, tap_w = (np.append(taps, at) for taps, at in zip((sums.tap_h, sums.tap_w), middle, strict=True))
    return sums._replace(tap_h=tap_h, tap_w=tap_w, weights=np.append(sums.weights, weight))


def length(a: Sums, b: Sums) -> Sums:
    """Return sqrt(a^2 + b^2) of two dense sums of one size."""
    joined = (np.concatenate(pair) for pair in zip(a[1:4], b[1:4], strict=True))
    return Sums(a.size, *joined, first=len(a.weights))


def apply(
    op: str,
    image: NDArray,
    sums: Sums,
    boundary: Any,
    cval: Any,
    dtype: DTypeLike,
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
    (KH, KW), (top, left) = sums.size, before or (sums.size[0] // 2, sums.size[1] // 2)
    IH, IW, C = pixels.shape
    OH, OW = size or (IH, IW)
    output = memory.empty((OH, OW, *image.shape[2:]), kind)
    if output.size:
        kernels.filter2d(
            pixels,
            sources(boundary, IH, top, OH + KH - 1),
            sources(boundary, IW, left, OW + KW - 1),
            left,
            cval,
            sums.vertical_h,
            sums.vertical,
            sums.running,
            sums.levels,
            sums.tap_h,
            sums.tap_w,
            sums.weights,
            len(sums.weights) if sums.first is None else sums.first,
            sums.divisor,
            wide,
            output.reshape(-1, 1).view(np.uint8),
            OH,
            OW,
            threads_for(output.size * (len(sums.weights) + len(sums.vertical) + sums.levels + 3)),
        )
    return output
