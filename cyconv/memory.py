"""Result arrays from the caching allocator, and what a user may see and say of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cyconv import _memory
from cyconv._validation import as_int

__all__ = ["empty_cache", "reset_peak", "set_cache_limit", "statistics"]


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    """Return an uninitialised C-contiguous array whose memory comes from, and goes back to, the cache."""
    dtype = np.dtype(dtype)
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    if size >= 2**62:
        raise MemoryError(f"cyconv: an array of shape {shape} and dtype {dtype} needs {size} bytes")
    return np.ndarray(shape, dtype, _memory.Block(size))


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    """Return a zero-filled array from the cache."""
    array = empty(shape, dtype)
    array.fill(0)
    return array


def statistics() -> dict[str, int | None]:
    """Return what the allocator holds, in bytes.

    Returns
    -------
    dict
        ``used`` (in live arrays), ``cached`` (free, kept for reuse), ``peak`` (highest ``used``), ``limit`` (of
        ``cached``, None for none) and ``system_allocations`` (how often the system was asked).

    Examples
    --------
    >>> import cyconv
    >>> sorted(cyconv.memory.statistics())
    ['cached', 'limit', 'peak', 'system_allocations', 'used']
    """
    return _memory.statistics()


def empty_cache() -> None:
    """Give every cached block back to the system; live arrays are untouched.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.memory.empty_cache()
    >>> cyconv.memory.statistics()["cached"]
    0
    """
    _memory.trim(0)


def reset_peak() -> None:
    """Start the recorded peak anew from what is in use now.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.memory.reset_peak()
    >>> used = cyconv.memory.statistics()
    >>> used["peak"] == used["used"]
    True
    """
    _memory.reset_peak()


def set_cache_limit(limit: int | None) -> None:
    """Bound the bytes kept for reuse.

    Parameters
    ----------
    limit : int or None
        Most bytes to keep; 0 keeps nothing, None (the default state) leaves only the automatic bound: what is used
        and cached together stays within 1.25 times the peak of use plus 64 MiB.

    Raises
    ------
    TypeError, ValueError
        If `limit` is not an integer, or out of range.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.memory.set_cache_limit(2**30)
    >>> cyconv.memory.statistics()["limit"]
    1073741824
    >>> cyconv.memory.set_cache_limit(None)
    """
    if limit is not None:
        limit = as_int("set_cache_limit", "limit", limit, 0, 2**63 - 1)
    _memory.set_cache_limit(limit)
