"""Result arrays from the caching allocator, tables that are kept, and what a user may see and say of both."""

from __future__ import annotations

import os
from _thread import allocate_lock  # threading is slow to import
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cyconv import _memory
from cyconv._validation import as_int

__all__ = ["empty_cache", "reset_peak", "set_cache_limit", "statistics"]

TABLES_LIMIT = 32 << 20  # bytes of tables that are kept
LARGE = 1 << 30  # bytes from which on `require` asks
ENTRY = 400  # bytes of a kept result besides its arrays, about

F = TypeVar("F", bound=Callable[..., Any])
_MISSING = object()
_kept: list[dict[Any, Any]] = []
_tables_lock = allocate_lock()
_tables_bytes = 0
_tables_limit = TABLES_LIMIT


def _renew_lock() -> None:
    """In the child of a fork nobody would open a lock that another thread held."""
    global _tables_lock
    _tables_lock = allocate_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    """Return an uninitialised C-contiguous array whose memory comes from, and goes back to, the cache."""
    dtype = np.dtype(dtype)
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    if size >= 2**62:
        raise MemoryError(f"cyconv: an array of shape {shape} and dtype {dtype} needs {size} bytes")
    return np.ndarray(shape, dtype, _memory.Block(size))


def require(size: int) -> None:
    """Raise MemoryError unless the system would grant `size` bytes at once: before they are taken in smaller parts."""
    if size > LARGE and not _memory.would_grant(size):
        raise MemoryError(f"cyconv: could not allocate {size} bytes")


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    """Return a zero-filled array from the cache."""
    array = empty(shape, dtype)
    array.fill(0)
    return array


def remembered(function: F) -> F:
    """Keep a function's results, by its positional arguments, within a bound on the bytes that all such hold together.

    For functions of sizes, whose results are tables for kernels. Results must not be changed; of arguments that are
    equal, as True and 1 are, one stands for the other. At the bound all are forgotten, which costs less than to know
    the oldest at every call.
    """
    values: dict[Any, Any] = {}
    _kept.append(values)

    @wraps(function)
    def remembering(*key: Any) -> Any:
        value = values.get(key, _MISSING)
        if value is _MISSING:
            value = function(*key)
            _keep(values, key, value)
        return value

    return cast(F, remembering)


def _keep(values: dict[Any, Any], key: Any, value: Any) -> None:
    global _tables_bytes
    size = ENTRY + _size(value)
    with _tables_lock:
        if key in values:  # another thread was faster
            return
        if _tables_bytes + size > _tables_limit:
            _forget_tables()
        if size <= _tables_limit:
            values[key] = value
            _tables_bytes += size


def _size(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    return sum(map(_size, value)) if isinstance(value, (tuple, list)) else 0


def _forget_tables() -> None:
    global _tables_bytes
    for values in _kept:
        values.clear()
    _tables_bytes = 0


def statistics() -> dict[str, int | None]:
    """Return what the allocator and the tables of operations hold, in bytes.

    Returns
    -------
    dict
        ``used`` (in live arrays), ``cached`` (free, kept for reuse), ``peak`` (highest ``used``), ``limit`` (of
        ``cached``, None for none), ``system_allocations`` (how often the system was asked) and ``tables`` (of windows,
        interpolation and the like, made once for each size: 32 MiB at most).

    Examples
    --------
    >>> import cyconv
    >>> sorted(cyconv.memory.statistics())
    ['cached', 'limit', 'peak', 'system_allocations', 'tables', 'used']
    """
    return {**_memory.statistics(), "tables": _tables_bytes}


def empty_cache() -> None:
    """Give every cached block back to the system, and forget the tables; live arrays are untouched.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.memory.empty_cache()
    >>> used = cyconv.memory.statistics()
    >>> used["cached"], used["tables"]
    (0, 0)
    """
    with _tables_lock:
        _forget_tables()
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
        and cached together stays within 1.25 times the peak of use plus 64 MiB. Tables are bounded apart from that, by
        the same number or 32 MiB, whichever is less.

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
    global _tables_limit
    if limit is not None:
        limit = as_int("set_cache_limit", "limit", limit, 0, 2**63 - 1)
    with _tables_lock:
        _tables_limit = TABLES_LIMIT if limit is None else min(limit, TABLES_LIMIT)
        if _tables_bytes > _tables_limit:
            _forget_tables()
    _memory.set_cache_limit(limit)
