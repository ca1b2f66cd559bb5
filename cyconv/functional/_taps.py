"""Which image pixels a convolution's kernel positions read: sums over taps, for it and for its adjoint."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cyconv._geometry import Padding, Pair
from cyconv.memory import remembered

FEW_PHASES = 4  # of a stride, whose outputs are filled one by one, even with nothing


class Geometry(NamedTuple):
    """All that the computations need to know of a convolution besides its arrays."""

    in_size: Pair
    out_size: Pair
    kernel: Pair
    stride: Pair
    padding: Padding
    dilation: Pair
    groups: int
    depthwise: bool
    algorithm: str


class Sum(NamedTuple):
    """A sum over taps: rows and columns of displacements, each tap's kernel position, and where the outputs lie."""

    taps: NDArray[np.intp]
    positions: NDArray[np.intp]
    start: Pair = (0, 0)


def _reaches(tap: int, step: int, outputs: int, inputs: int) -> bool:
    """Whether a tap reads the image at any output position; one that never does only widens the border of zeros."""
    return tap < inputs and (outputs - 1) * step + tap >= 0


@remembered
def forward_sum(geometry: Geometry) -> Sum:
    """Return the taps of the convolution itself: kernel position (kh, kw) reads kh*dilation - padding further."""

    def taps(axis: int, before: int) -> list[tuple[int, int]]:
        dilation, stride = geometry.dilation[axis], geometry.stride[axis]
        return [
            (k * dilation - before, k)
            for k in range(geometry.kernel[axis])
            if _reaches(k * dilation - before, stride, geometry.out_size[axis], geometry.in_size[axis])
        ]

    return _sum(geometry, taps(0, geometry.padding.top), taps(1, geometry.padding.left), (0, 0))


def _sum(geometry: Geometry, rows: list[tuple[int, int]], columns: list[tuple[int, int]], start: Pair) -> Sum:
    """Return the sum over all pairs of (displacement, kernel row) and (displacement, kernel column)."""
    pairs = [(dh, dw, kh * geometry.kernel[1] + kw) for dh, kh in rows for dw, kw in columns]
    table = np.array(pairs, np.intp).reshape(-1, 3)
    return Sum(np.ascontiguousarray(table[:, :2].T), np.ascontiguousarray(table[:, 2]), start)


@remembered
def adjoint_sums(geometry: Geometry) -> list[Sum]:
    """Return the sums of the input gradient, one for each phase of the stride; of many, those that receive anything.

    Input row ih = r + s*q receives grad_output row oh through kernel row kh when oh*s + kh*d - p = ih, so phase r has
    the kernel rows with (r + p - kh*d) divisible by s, displaced by that quotient; columns likewise.
    """

    def phases(axis: int, before: int) -> dict[int, list[tuple[int, int]]]:
        stride, dilation, size = geometry.stride[axis], geometry.dilation[axis], geometry.in_size[axis]
        found: dict[int, list[tuple[int, int]]] = {}
        for k in range(geometry.kernel[axis]):
            r = (k * dilation - before) % stride
            tap = (r + before - k * dilation) // stride
            if r < size and _reaches(tap, 1, -(-(size - r) // stride), geometry.out_size[axis]):
                found.setdefault(r, []).append((tap, k))
        return found if stride > FEW_PHASES else {r: found.get(r, []) for r in range(min(stride, size))}

    return [
        _sum(geometry, sorted(rows), sorted(columns), (r_h, r_w))
        for r_h, rows in sorted(phases(0, geometry.padding.top).items())
        for r_w, columns in sorted(phases(1, geometry.padding.left).items())
    ]


@remembered
def filtered_sums(geometry: Geometry, adjoint: bool) -> list[Sum]:
    """Return the sums as minimal filtering computes them, of a square kernel without dilation, each with its first tap.

    Of stride S they are sums over n x n taps, of a kernel that zeros make Sn x Sn: for the convolution one sum, whose
    positions are those of each phase of the image in turn; for its adjoint a sum for each phase of the outputs.
    """
    stride, n = geometry.stride[0], taps_a_side(geometry)

    def sums(axis: int, before: int) -> list[tuple[int, int, list[list[int]]]]:
        """Start, first displacement and the phases' kernel lines in the order of rising displacements."""
        if not adjoint:
            return [(0, -before, [list(range(phase, stride * n, stride)) for phase in range(stride)])]
        return [
            ((r, (r + before) // stride - n + 1, [list(range((r + before) % stride, stride * n, stride))[::-1]]))
            for r in range(min(stride, geometry.in_size[axis]))
        ]

    return [
        Sum(
            np.array([[dh], [dw]], np.intp),
            np.array([kh * stride * n + kw for R in rows for C in columns for kh in R for kw in C], np.intp),
            (r_h, r_w),
        )
        for r_h, dh, rows in sums(0, geometry.padding.top)
        for r_w, dw, columns in sums(1, geometry.padding.left)
    ]


def taps_a_side(geometry: Geometry) -> int:
    """Return how many taps a side each phase of the stride has."""
    return -(-geometry.kernel[0] // geometry.stride[0])


@remembered
def phases(geometry: Geometry, adjoint: bool) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return all sums' taps, and [first tap, taps, first row, first column] of each sum; there must be a sum."""
    sums = adjoint_sums(geometry) if adjoint else [forward_sum(geometry)]
    counts = [len(total.positions) for total in sums]
    table = [(sum(counts[:i]), counts[i], *total.start) for i, total in enumerate(sums)]
    taps = np.concatenate([total.taps for total in sums], axis=1)
    return np.ascontiguousarray(taps), np.array(table, np.intp)
