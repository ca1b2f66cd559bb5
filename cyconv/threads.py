"""How many threads cyconv's kernels use: one number, cyconv's own, that every parallel loop is given.

Before work that is worth several, they are kept from waking up on one core where there is one for each.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager

from cyconv import _cpu

__all__ = ["get_num_threads", "num_threads", "set_num_threads"]

MAX_THREADS = 1024  # more than the largest machines have
# Operations (multiply-adds, or elements touched) below which waking another thread costs more than it saves.
GRAIN = 32_768


def _cgroup_quota() -> int | None:
    """Return the CPU quota of this process's control group in whole cores, None where there is none."""
    try:
        quota, period = _read("/sys/fs/cgroup/cpu.max").split()
        return None if quota == "max" else max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        pass
    try:
        quota_us = int(_read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))
        period_us = int(_read("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))
        return None if quota_us <= 0 else max(1, math.ceil(quota_us / period_us))
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _read(path: str) -> str:
    with open(path) as file:  # not pathlib, which takes milliseconds to import
        return file.read()


def _default() -> tuple[int, str]:
    """Return the number of threads to start with and where it came from."""
    if not _cpu.OPENMP_VERSION:
        return 1, "built without OpenMP"
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isdecimal() and int(first) > 0:
        return min(int(first), MAX_THREADS), "OMP_NUM_THREADS"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    if quota is not None and quota < cores:
        return quota, "control group's CPU quota"
    return min(cores, MAX_THREADS), "usable cores"


_count, _source = _default()
_spread = _cpu.CAN_SPREAD and "OMP_PROC_BIND" not in os.environ
_startable = 1  # threads that are known to be possible at once


def get_num_threads() -> int:
    """Return the number of threads a kernel may use.

    Returns
    -------
    int
        What `set_num_threads` or `num_threads` set; before that OMP_NUM_THREADS, else the cores that the process may
        use. These two are lowered at the first use if the limits on memory and processes allow fewer.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.get_num_threads() >= 1
    True
    """
    return _count


def source() -> str:
    """Return where the thread count came from, in words."""
    return _source


def placement() -> str:
    """Return who chooses the cores that threads run on, in words."""
    if not _cpu.CAN_SPREAD:
        return "the system's"
    return "spread over the cores" if _spread else "the system's (OMP_PROC_BIND is set)"


def set_num_threads(count: int) -> None:
    """Set the number of threads a kernel may use, for the whole process.

    Results do not depend on it, bit for bit. A larger count than any before is tried out: the OpenMP runtime would end
    the process if it could not start its threads. On Linux threads that woke up on one core are sent to several, and
    those that other programs leave no core are left out for a while; OMP_PROC_BIND in the environment, as in
    ``OMP_PROC_BIND=false``, leaves it all to the system.

    Parameters
    ----------
    count : int
        1 to 1024; more than there are cores does not help.

    Raises
    ------
    TypeError, ValueError
        If `count` is not an integer, out of range, or more than the limits on memory and processes let this process
        start.

    Examples
    --------
    >>> import cyconv
    >>> before = cyconv.get_num_threads()
    >>> cyconv.set_num_threads(1)
    >>> cyconv.get_num_threads()
    1
    >>> cyconv.set_num_threads(before)
    """
    global _count, _source, _startable
    try:
        if isinstance(count, bool):
            raise TypeError
        checked = operator.index(count)
    except TypeError:
        raise TypeError(f"set_num_threads: `count` must be an integer, got {count!r}") from None
    if not 1 <= checked <= MAX_THREADS:
        raise ValueError(f"set_num_threads: `count` must be 1 to {MAX_THREADS}, got {checked}")
    if checked > _startable:
        possible = 1 + _cpu.startable_threads(checked - 1)
        if possible < checked:
            raise ValueError(
                f"set_num_threads: `count` must be at most {possible}, got {checked}: the limits on memory or "
                "processes allow no more threads here"
            )
        _startable = checked
    _count, _source = checked, "set_num_threads"


@contextmanager
def num_threads(count: int) -> Iterator[None]:
    """Use `count` threads inside a ``with`` block, then what was set before.

    The number is the whole process's: it holds for other Python threads too while the block runs.

    Parameters
    ----------
    count : int
        As for `set_num_threads`.

    Raises
    ------
    TypeError, ValueError
        As `set_num_threads`.

    Examples
    --------
    >>> import cyconv
    >>> with cyconv.num_threads(1):
    ...     cyconv.get_num_threads()
    1
    """
    global _count, _source
    before = _count, _source
    set_num_threads(count)
    try:
        yield
    finally:
        _count, _source = before


def threads_for(work: int) -> int:
    """Return how many threads `work` operations are worth: small work runs serially."""
    count = min(_count, work // GRAIN)
    if count < 2:
        return 1
    if count > _startable:
        _lower_to_startable()
        count = min(_count, count)
    return _cpu.spread(count) if _spread else count


def are_left_out() -> bool:
    """Return whether large kernels get fewer threads at present than they may use: others keep the cores busy."""
    return threads_for(_count * GRAIN) < _count


def _lower_to_startable() -> None:
    """Lower the count that nobody has tried out, OMP_NUM_THREADS or the number of cores, to what can be started."""
    global _count, _source, _startable
    possible = 1 + _cpu.startable_threads(_count - 1)
    if possible < _count:
        # Half of them, for the other half's memory is needed too.
        _count, _source = (possible + 1) // 2, f"{_source}, lowered to what the limits on memory or processes allow"
    _startable = max(_startable, _count)
