"""Where windows lie along an axis, as tables for the kernels: see _kernels/windows.pxd for their columns.

Kernels are given these tables and know nothing of stride, padding, ceil_mode or adaptive bounds. Tables depend on sizes
only, and are remembered from call to call.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cyconv._geometry import adaptive_bounds
from cyconv._window import Axis
from cyconv.memory import remembered, require


@remembered
def windows(axis: Axis) -> NDArray[np.intp]:
    """Return [output, 3]: position of tap 0 (negative: in the padding), first tap inside the input, end of those."""
    require(10 * axis.output * np.dtype(np.intp).itemsize)
    if axis.adaptive:
        bounds = [adaptive_bounds(index, axis.size, axis.output) for index in range(axis.output)]
        origin, stop = np.array(bounds, np.intp).T
        length = stop - origin
    else:
        origin = np.arange(axis.output, dtype=np.intp) * axis.stride - axis.before
        length = np.full_like(origin, axis.kernel)
    first = np.clip(-(origin // axis.dilation), 0, length)  # ceil(-origin / dilation)
    stop = np.clip(-((origin - axis.size) // axis.dilation), first, length)
    return _frozen(np.stack([origin, first, stop], axis=1))


@remembered
def readers(axis: Axis) -> NDArray[np.intp]:
    """Return [size, 2]: the first window that reads each position, and the last + 1; `axis` has no dilation."""
    origin, first, stop = windows(axis).T
    position = np.arange(axis.size)
    ended, begun = np.searchsorted(origin + stop, position, "right"), np.searchsorted(origin + first, position, "right")
    return _frozen(np.stack([ended, begun], axis=1).astype(np.intp))


@remembered
def covering(axis: Axis) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return start [size + 1] and pairs [M, 2]: rows start[i] to start[i + 1] are position i's readers (window, tap).

    Windows ascend within a position, so a sum over them has one order whatever the number of threads.
    """
    window, tap, position = _reads(axis)
    order = np.argsort(position, kind="stable")
    start = np.searchsorted(position[order], np.arange(axis.size + 1)).astype(np.intp)
    pairs = np.stack([window[order], tap[order]], axis=1).astype(np.intp)
    return _frozen(start), _frozen(pairs if len(pairs) else np.zeros((1, 2), np.intp))  # kernels take its address


@remembered
def are_apart(axis: Axis) -> bool:
    """Return whether each window ends before the next one begins."""
    origin, first, stop = windows(axis).T
    return bool((origin[:-1] + (stop[:-1] - 1) * axis.dilation < origin[1:] + first[1:] * axis.dilation).all())


@remembered
def most_readers(axis: Axis) -> int:
    """Return how many windows read a position, at most."""
    origin, first, stop = windows(axis).T
    step = min(axis.dilation, axis.size)  # from one position that a window reads to its next
    rows = -(-axis.size // step) + 1
    begin = (origin + first * axis.dilation)[stop > first]
    end = begin + (stop - first)[stop > first] * step
    change = np.bincount(begin, minlength=rows * step) - np.bincount(end, minlength=rows * step)
    return int(change.reshape(rows, step).cumsum(axis=0).max())


def _reads(axis: Axis) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return window, tap and input position of every read along the axis."""
    origin, first, stop = windows(axis).T
    taps = stop - first
    window = np.repeat(np.arange(axis.output, dtype=np.intp), taps)
    tap = np.arange(window.size) - np.repeat(np.cumsum(taps) - taps - first, taps)
    return window, tap, origin[window] + tap * axis.dilation


def _frozen(array: NDArray) -> NDArray:
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array
