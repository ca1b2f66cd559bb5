"""How many threads cyconv's kernels use: the process's number, or a ``with`` block's, that parallel loops are given.

Python threads that call kernels at once share the cores: each gets its part of them, so that none keeps the others
waiting. Before work that is worth several threads, these are kept from waking up on one core if there is one for each.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from cyconv import _cpu, _runtime

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


def _usable_cores() -> tuple[int, str]:
    """Return how many cores kernels may use and where that number came from."""
    quota = _cgroup_quota()
    if quota is not None and quota < _runtime.CORES:
        return quota, "control group's CPU quota"
    return min(_runtime.CORES, MAX_THREADS), "usable cores"


def _default() -> tuple[int, str]:
    """Return the number of threads to start with and where it came from."""
    if not _cpu.OPENMP_VERSION:
        return 1, "built without OpenMP"
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isdecimal() and int(first) > 0:
        return min(int(first), MAX_THREADS), "OMP_NUM_THREADS"
    return _usable_cores()


_count, _source = _default()
_block: ContextVar[int | None] = ContextVar("cyconv.num_threads", default=None)  # the innermost block's number
_shared_cores = _usable_cores()[0]  # dealt to the callers; 0: each gets what it asks for
_spread = _cpu.CAN_SPREAD and "OMP_PROC_BIND" not in os.environ


def get_num_threads() -> int:
    """Return the number of threads a kernel may use in the calling thread.

    Returns
    -------
    int
        What the innermost `num_threads` block says, else what `set_num_threads` set; before that OMP_NUM_THREADS, else
        the cores that the process may use. It is lower where ``threadpoolctl.threadpool_limits`` says so, or where the
        limits on memory and processes let the calling thread start fewer.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.get_num_threads() >= 1
    True
    """
    return _cpu.limited(_block.get() or _count)


def source() -> str:
    """Return where the thread count came from, in words."""
    wanted = _block.get()
    said = _source if wanted is None else "num_threads"
    if get_num_threads() == (wanted or _count):
        return said
    return f"{said}, lowered to what the OpenMP runtime or the limits on memory or processes allow"


def placement() -> str:
    """Return who chooses the cores that threads run on, in words."""
    if not _cpu.CAN_SPREAD:
        return "the system's"
    return "spread over the cores" if _spread else "the system's (OMP_PROC_BIND is set)"


def set_num_threads(count: int) -> None:
    """Set the number of threads a kernel may use, for the whole process.

    Results do not depend on it, bit for bit. Inside a `num_threads` block it holds for that block instead.

    Python threads that call kernels at once share the cores: of eight callers on eight cores each runs on one thread,
    whatever the number, and one that is alone runs on all. Only a `num_threads` block gets its number in any case.

    More threads than the calling thread has had are tried out: the OpenMP runtime would end the process if it could not
    start them. On Linux threads that woke up on one core are sent to several, and those that other programs leave no
    core are left out for a while; OMP_PROC_BIND in the environment, as in ``OMP_PROC_BIND=false``, leaves it all to the
    system.

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
    global _count, _source
    checked = _checked("set_num_threads", count)
    if _block.get() is None:
        _count, _source = checked, "set_num_threads"
    else:
        _block.set(checked)


@contextmanager
def num_threads(count: int) -> Iterator[None]:
    """Use `count` threads inside a ``with`` block, then what was set before.

    The number is the calling thread's (or asyncio task's): other Python threads keep theirs. A thread started inside
    the block has the process's number, unless it runs in a copy of the context (`contextvars.copy_context`), as those
    do that prepare the batches of `cyconv.data.Batches`. The cores are not shared with other callers.

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
    checked, before = _checked("num_threads", count), _block.get()
    _block.set(checked)
    try:
        yield
    finally:
        _block.set(before)


def _checked(op: str, count: int) -> int:
    """Return a number of threads that can be started."""
    try:
        if isinstance(count, bool):
            raise TypeError
        checked = operator.index(count)
    except TypeError:
        raise TypeError(f"{op}: `count` must be an integer, got {count!r:.60}") from None
    if not 1 <= checked <= MAX_THREADS:
        raise ValueError(f"{op}: `count` must be 1 to {MAX_THREADS}, got {checked}")
    if checked > max(_cpu.started_threads(), 1):
        possible = 1 + _cpu.startable_threads(checked - 1)
        if possible < checked:
            raise ValueError(
                f"{op}: `count` must be at most {possible}, got {checked}: the limits on memory or processes allow no "
                "more threads here"
            )
    return checked


def threads_for(work: int) -> int:
    """Return how many threads `work` operations are worth: small work runs serially."""
    wanted = _block.get()
    count = min(wanted or _count, work // GRAIN)
    if count < 2:
        return 1
    return _cpu.team(count, 0 if wanted else _shared_cores, _spread)


@contextmanager
def whole_teams() -> Iterator[None]:
    """Give kernels all threads they may use, whoever else keeps the cores busy: for calls to be replayed later."""
    before = _cpu.whole_teams(True)
    try:
        yield
    finally:
        _cpu.whole_teams(before)
