"""The caching allocator: alignment, reuse, counters, bounds."""

import gc
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

import cyconv
from cyconv import functional as F
from cyconv import memory
from cyconv._memory import Block
from tests import processes

MEGABYTE = 2**20
SLACK = 64 * MEGABYTE  # what may be cached beyond 1.25 times the peak


@pytest.fixture(autouse=True)
def _fresh_cache():
    """Start with an empty cache, a fresh peak and no limit, and leave it so."""
    gc.collect()
    memory.set_cache_limit(None)
    memory.empty_cache()
    memory.reset_peak()
    yield
    memory.set_cache_limit(None)
    memory.empty_cache()
    memory.reset_peak()


def address(array):
    return array.__array_interface__["data"][0]


def counter(name):
    return memory.statistics()[name]


def convolve(N=2, C=8, size=12):
    x, weight = np.ones((N, C, size, size), np.float32), np.ones((C, C, 3, 3), np.float32)
    return F.conv2d(x, weight, padding=1), F.conv2d_backward(x, x, weight, padding=1)


# Arrays


@pytest.mark.parametrize("size", [1, 3, 64, 65, 255, 256, 257, 511, 513, 1000, 4097, 10**6, 3 * 2**21, 2**24 + 1])
def test_blocks_are_aligned_and_do_not_overlap(size):
    arrays = [memory.empty((size,), np.uint8) for _ in range(4)]
    starts = sorted(address(array) for array in arrays)
    assert all(start % 64 == 0 for start in starts)
    assert all(after - before >= size for before, after in pairwise(starts))
    for i, array in enumerate(arrays):
        array.fill(i)
    assert all((array == i).all() for i, array in enumerate(arrays))


def test_result_is_an_ordinary_writeable_array():
    array = memory.empty((2, 3), np.float32)
    assert type(array) is np.ndarray
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.dtype == np.float32
    assert isinstance(array.base, Block) or isinstance(getattr(array.base, "obj", None), Block)


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), ()])
def test_arrays_without_or_with_one_element(shape):
    array = memory.empty(shape, np.float64)
    assert array.shape == shape
    array[...] = 1


def test_zeros_are_zero_also_in_used_memory():
    dirty = memory.empty((1000,), np.float64)
    dirty.fill(7)
    where = address(dirty)
    del dirty
    clean = memory.zeros((1000,), np.float64)
    assert address(clean) == where
    assert not clean.any()


def test_results_of_operations_are_aligned():
    output, gradients = convolve()
    for array in (output, *gradients[:2]):
        assert address(array) % 64 == 0


# Reuse


def test_freed_block_is_used_again():
    first = memory.empty((1000,), np.float32)
    where, calls = address(first), counter("system_allocations")
    del first
    for size in (1000, 990, 1000):
        again = memory.empty((size,), np.float32)
        assert address(again) == where
        del again
    assert counter("system_allocations") == calls


def test_view_keeps_its_block():
    array = memory.empty((1000,), np.float32)
    array.fill(3)
    view = array[::2]
    del array
    other = memory.empty((1000,), np.float32)
    other.fill(5)
    assert (view == 3).all()


def test_repeated_operations_ask_the_system_once():
    for _ in range(3):
        convolve()
    calls, used = counter("system_allocations"), counter("used")
    for _ in range(1000):
        convolve(1, 3, 5)
    convolve()
    assert counter("system_allocations") - calls < 30  # the blocks of the smaller shapes
    assert counter("used") == used


def test_failed_operation_leaves_nothing_behind():
    x, weight = np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3))
    used = counter("used")
    for _ in range(10):
        with pytest.raises(ValueError, match="`grad_output` must have shape"):
            F.conv2d_backward(x, x, weight)
        with pytest.raises(MemoryError, match="cyconv"):
            F.conv2d(x, weight, padding=2**23)
    assert counter("used") == used


# Counters


def test_counters_follow_use():
    memory.reset_peak()
    used = counter("used")
    array = memory.empty((MEGABYTE,), np.uint8)
    now = counter("used")
    assert MEGABYTE <= now - used <= 1.125 * MEGABYTE
    assert counter("peak") == now
    cached = counter("cached")
    del array
    assert counter("used") == used
    assert counter("peak") == now
    assert counter("cached") - cached == now - used
    memory.reset_peak()
    assert counter("peak") == used


def test_empty_cache_spares_live_arrays():
    kept = memory.zeros((1000,), np.float32)
    del_me = memory.empty((5000,), np.float32)
    del del_me
    used = counter("used")
    memory.empty_cache()
    assert counter("cached") == 0
    assert counter("used") == used
    assert not kept.any()


# Bounds


def test_cache_stays_bounded_under_varying_shapes():
    for step in range(300):
        array = memory.empty((MEGABYTE * 4 + step * 200_000,), np.uint8)
        del array
        statistics = memory.statistics()
        assert statistics["used"] + statistics["cached"] <= 1.25 * statistics["peak"] + SLACK


def test_cache_stays_bounded_under_operations_of_varying_shapes():
    for step in range(60):
        convolve(1, 1 + step % 7, 100 + 3 * step)
        statistics = memory.statistics()
        assert statistics["used"] + statistics["cached"] <= 1.25 * statistics["peak"] + SLACK


def test_limit_of_nothing_caches_nothing():
    memory.set_cache_limit(0)
    assert counter("limit") == 0
    convolve()
    assert counter("cached") == 0


def test_limit_evicts_the_oldest_small_blocks_first():
    arrays = [memory.empty((size,), np.uint8) for size in (2**16, 2**17, 2**18)]
    places = [address(array) for array in arrays]
    while arrays:
        del arrays[0]
    memory.set_cache_limit(2**17 + 2**18)
    assert counter("cached") == 2**17 + 2**18
    assert [address(memory.empty((size,), np.uint8)) for size in (2**17, 2**18)] == places[1:]


def test_limit_evicts_only_what_it_must_of_large_blocks():
    array = memory.empty((8 * MEGABYTE,), np.uint8)
    array.fill(1)
    where = address(array)
    del array
    memory.set_cache_limit(5 * MEGABYTE // 2)
    assert 2 * MEGABYTE <= counter("cached") <= 5 * MEGABYTE // 2
    again = memory.empty((8 * MEGABYTE,), np.uint8)
    assert address(again) == where
    again.fill(2)
    assert (again == 2).all()


# Large blocks


def test_freed_neighbours_become_one():
    arrays = [memory.empty((3 * MEGABYTE,), np.uint8) for _ in range(4)]
    places, calls = sorted(map(address, arrays)), counter("system_allocations")
    del arrays[1], arrays[1]
    both = memory.empty((6 * MEGABYTE,), np.uint8)
    assert address(both) in places
    assert counter("system_allocations") == calls


def test_a_larger_piece_serves_and_keeps_the_rest():
    large = memory.empty((8 * MEGABYTE,), np.uint8)
    where = address(large)
    fence = memory.empty((2 * MEGABYTE,), np.uint8)
    del large
    parts = [memory.empty((2 * MEGABYTE,), np.uint8) for _ in range(4)]
    assert sorted(map(address, parts)) == [where + i * 2 * MEGABYTE for i in range(4)]
    del fence


def test_the_lowest_piece_that_is_large_enough_serves():
    arrays = [memory.empty((size * MEGABYTE,), np.uint8) for size in (2, 1, 9, 1, 4, 1)]
    where = address(arrays[2])
    for i in (4, 2, 0):
        del arrays[i]
    assert address(memory.empty((3 * MEGABYTE,), np.uint8)) == where


def test_random_use_never_overlaps_and_ends_empty():
    rng = np.random.default_rng(0)
    used = counter("used")
    live = []
    for step in range(2000):
        if live and rng.random() < 0.5:
            array, value = live.pop(rng.integers(len(live)))
            assert array[0] == array[-1] == value
        else:
            array = memory.empty((int(rng.integers(1, 4 * MEGABYTE)),), np.uint8)
            array[0] = array[-1] = step % 251
            live.append((array, step % 251))
        if step % 100 == 0:
            memory.set_cache_limit(int(rng.integers(0, 64 * MEGABYTE)))
        if step % 333 == 0:
            memory.empty_cache()
            assert counter("cached") == 0
    places = sorted((address(array), array.size) for array, _ in live)
    assert all(start + size <= after for (start, size), (after, _) in pairwise(places))
    del array
    live.clear()
    memory.empty_cache()
    assert counter("used") == used
    assert counter("cached") == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_pages_are_given_back():
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    before = resident()
    array = memory.zeros((64 * MEGABYTE,), np.uint8)
    fence = memory.zeros((MEGABYTE,), np.uint8)
    assert resident() - before > 60 * MEGABYTE
    del array
    memory.empty_cache()
    assert resident() - before < 8 * MEGABYTE
    assert not fence.any()


def test_limit_holds_for_each_release():
    memory.set_cache_limit(MEGABYTE)
    arrays = [memory.empty((300_000,), np.uint8) for _ in range(10)]
    while arrays:
        arrays.pop()
        assert counter("cached") <= MEGABYTE
    too_large = memory.empty((2 * MEGABYTE,), np.uint8)
    del too_large
    assert counter("cached") <= MEGABYTE


def test_limit_can_be_lifted():
    memory.set_cache_limit(0)
    memory.set_cache_limit(None)
    assert counter("limit") is None
    convolve()
    assert counter("cached") > 0


def test_wrong_limits():
    with pytest.raises(ValueError, match=r"^set_cache_limit: `limit` must be at least 0, got -1$"):
        memory.set_cache_limit(-1)
    with pytest.raises(ValueError, match="set_cache_limit: `limit` must be at most"):
        memory.set_cache_limit(2**70)
    for limit in (1.5, "1 MB", True):
        with pytest.raises(TypeError, match=r"^set_cache_limit: `limit` must be an integer"):
            memory.set_cache_limit(limit)
    assert counter("limit") is None


@pytest.mark.parametrize("shape", [(2**50,), (2**62,), (2**40, 2**40), (2**31, 2**31, 2**31)])
def test_huge_requests_fail_at_once(shape):
    used = counter("used")
    with pytest.raises(MemoryError, match=r"^cyconv: "):
        memory.empty(shape, np.float64)
    assert counter("used") == used
    assert memory.zeros((3,), np.float64).tolist() == [0, 0, 0]


def test_failed_request_gives_the_cache_back_first():
    large = memory.empty((MEGABYTE,), np.uint8)
    del large
    with pytest.raises(MemoryError):
        memory.empty((2**50,), np.float64)
    assert counter("cached") == 0


def test_statistics_are_public():
    assert cyconv.memory.statistics().keys() == {"used", "cached", "peak", "limit", "system_allocations", "tables"}


# Requests beyond the machine


def machine_bytes():
    """Return memory and swap space together."""
    with open("/proc/meminfo") as file:
        fields = dict(line.split(":") for line in file)
    return sum(int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "SwapTotal"))


def promises_anything():
    with open("/proc/sys/vm/overcommit_memory") as file:
        return file.read().strip() == "1"


@pytest.mark.skipif(not sys.platform.startswith("linux") or promises_anything(), reason="the system's own rule")
@pytest.mark.parametrize("factor", [1.1, 10, 400])
def test_what_the_system_refuses_is_refused(factor):
    size = int(factor * machine_bytes())
    with pytest.raises(MemoryError):
        np.empty(size, np.uint8)
    used = counter("used")
    with pytest.raises(MemoryError, match=rf"^cyconv: could not allocate {size} bytes$"):
        memory.empty((size,), np.uint8)
    with pytest.raises(MemoryError, match=r"^cyconv: could not allocate \d+ bytes$"):
        memory.require(size)
    assert counter("used") == used


@pytest.mark.skipif(not sys.platform.startswith("linux") or promises_anything(), reason="the system's own rule")
@pytest.mark.parametrize(
    "call",
    [
        lambda side: F.pad(np.ones((1, 1, 1, 1), np.float32), (side, 0, side, 0)),
        lambda side: F.interpolate(np.ones((1, 1, 1, 1)), (side, side)),
        lambda side: F.conv2d(np.ones((1, 1, 1, 1)), np.ones((1, 1, 1, 1)), padding=side),
        lambda side: F.conv_transpose2d(np.ones((1, 1, 2, 2)), np.ones((1, 1, 1, 1)), stride=side),
        lambda side: F.im2col(np.ones((1, 1, 1, 1)), 1, padding=side),
        lambda side: F.max_unpool2d(np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1), int), side),
        lambda side: F.interpolate(np.ones((1, 1, 1, 1)), (2**31 - 1, 1)),
    ],
)
def test_operations_refuse_what_the_system_does(call):
    side = int((machine_bytes() / 4) ** 0.5)
    used = counter("used")
    with pytest.raises(MemoryError):
        call(side * 2)
    assert counter("used") == used


def test_segments_are_reserved_where_memory_is_limited():
    """A limit on addresses below that of a segment: large arrays are granted all the same."""
    resource = pytest.importorskip("resource")
    code = f"""
        import resource
        import numpy as np
        from cyconv import memory
        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * {os.sysconf("SC_PAGE_SIZE")}
        resource.setrlimit(resource.RLIMIT_AS, (size + 2**30, {resource.RLIM_INFINITY}))
        array = memory.empty((600 * 2**20,), np.uint8)
        array[:] = 1
        try:
            memory.empty((600 * 2**20,), np.uint8)
        except MemoryError:
            print("refused", array[-1])
    """
    assert processes.output(code) == "refused 1\n"


# Tables


def test_tables_are_counted_and_forgotten():
    assert counter("tables") == 0
    F.max_pool2d(np.ones((1, 1, 64, 64)), 3, 1)
    once = counter("tables")
    assert once > 62 * 3 * 8
    F.max_pool2d(np.ones((1, 1, 64, 64)), 3, 1)
    assert counter("tables") == once
    memory.empty_cache()
    assert counter("tables") == 0


def test_tables_stay_below_their_bound():
    calls = []

    @memory.remembered
    def table(number, size=0):
        calls.append(number)
        return np.empty(size, np.uint8), [np.empty(size, np.uint8)]

    for number in range(50):
        table(number, MEGABYTE)
        assert counter("tables") <= memory.TABLES_LIMIT
    assert table(49, MEGABYTE)[0] is table(49, MEGABYTE)[0]
    assert len(calls) == 50
    assert table(50, memory.TABLES_LIMIT)[0] is not table(50, memory.TABLES_LIMIT)[0]  # too large to be kept
    assert counter("tables") <= memory.TABLES_LIMIT
    assert table.__name__ == "table"


def test_limit_bounds_tables_too():
    F.avg_pool2d(np.ones((1, 1, 64, 64)), 3, 1)
    memory.set_cache_limit(0)
    assert counter("tables") == 0
    F.avg_pool2d(np.ones((1, 1, 64, 64)), 3, 1)
    assert counter("tables") == 0


def test_tables_in_many_threads():
    def use(seed):
        rng = np.random.default_rng(seed)
        for _ in range(200):
            size = int(rng.integers(8, 40))
            assert F.avg_pool2d(np.ones((1, 1, size, size)), 3, 1).shape[2] == size - 2
            if rng.random() < 0.05:
                memory.empty_cache()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(8)))
    memory.empty_cache()
    assert counter("tables") == 0
