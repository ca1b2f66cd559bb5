import contextlib
import gc
import multiprocessing
import os
import threading
import time
import tracemalloc

import numpy as np
import pytest

from cyconv import memory
from cyconv.data import Batches

N = 23


@pytest.fixture
def x():
    return np.random.default_rng(0).integers(0, 256, (N, 3, 5, 4), dtype=np.uint8)


@pytest.fixture
def y():
    return np.arange(N)


def wait_for_threads_to_end():
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("cyconv-batches") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "the prefetching thread lives on"
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    wait_for_threads_to_end()


def joined(batches):
    images, targets = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(targets)


@pytest.mark.parametrize("prefetch", [0, 1, 4, 100])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, ">f4"])
def test_every_image_once_in_order(x, y, dtype, prefetch):
    data = x if dtype is np.uint8 else (x / 255).astype(dtype)
    images, targets = joined(Batches(data, y, 5, prefetch=prefetch))
    np.testing.assert_array_equal(images, (x / np.float32(255)).astype(np.float32))
    np.testing.assert_array_equal(targets, y)


def test_batches_are_float32_in_channels_last_memory(x, y):
    for images, targets in Batches(x, y, 5):
        assert images.dtype == np.float32
        assert images.shape[1:] == (3, 5, 4)
        assert images.transpose(0, 2, 3, 1).flags.c_contiguous
        assert len(images) == len(targets)


def test_grey_images_get_a_channel_axis(x, y):
    images, _ = next(iter(Batches(x[:, 0], y, 4)))
    assert images.shape == (4, 1, 5, 4)


@pytest.mark.parametrize("shuffle", [False, True])
def test_vectors_stay_vectors(x, y, shuffle):
    vectors = x.reshape(N, -1)
    for rows, targets in Batches(vectors, y, 4, shuffle=shuffle, rng=0):
        assert rows.flags.c_contiguous
        np.testing.assert_array_equal(rows, vectors[targets] / np.float32(255))


@pytest.mark.parametrize(
    ("size", "drop_last", "expected"),
    [
        (5, False, [5, 5, 5, 5, 3]),
        (5, True, [5, 5, 5, 5]),
        (N, True, [N]),
        (100, False, [N]),
        (100, True, []),
        (1, False, [1] * N),
    ],
)
@pytest.mark.parametrize("prefetch", [0, 2])
def test_lengths(x, y, size, drop_last, expected, prefetch):
    batches = Batches(x, y, size, drop_last=drop_last, prefetch=prefetch)
    assert [len(targets) for _, targets in batches] == expected
    assert len(batches) == len(expected)


def test_no_images_no_batches(x, y):
    assert list(Batches(x[:0], y[:0], 4)) == []


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_shuffling_is_the_generators_permutation_anew_each_epoch(x, y, prefetch):
    batches = Batches(x, y, 4, shuffle=True, rng=7, prefetch=prefetch)
    rng = np.random.default_rng(7)
    for _ in range(3):
        images, targets = joined(batches)
        np.testing.assert_array_equal(targets, rng.permutation(N))
        np.testing.assert_array_equal(images, joined(Batches(x, y, N))[0][targets])


def test_the_generator_is_used_at_the_start_of_an_iteration_only(x, y):
    rng = np.random.default_rng(3)
    before = rng.bit_generator.state
    batches = Batches(x, y, 4, shuffle=True, rng=rng)
    assert rng.bit_generator.state == before
    iterator = iter(batches)
    started = rng.bit_generator.state
    assert started != before
    list(iterator)
    assert rng.bit_generator.state == started
    list(Batches(x, y, 4, rng=rng))
    assert rng.bit_generator.state == started


def test_results_are_fresh(x, y):
    data = x.astype(np.float32)
    before = data.copy()
    held = [(images, images.copy()) for images, _ in Batches(data, y, 5)]
    assert all(np.array_equal(images, copy) for images, copy in held)
    for images, targets in Batches(data, y, N):
        images[:] = -1
        targets[:] = -1
    np.testing.assert_array_equal(data, before)
    np.testing.assert_array_equal(y, np.arange(N))


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_data_set_is_never_copied(tmp_path, shuffle):
    mapped = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (2000, 3, 64, 64))
    mapped[:] = np.arange(2000).reshape(-1, 1, 1, 1) % 256
    before = memory.statistics()["used"]
    memory.reset_peak()
    tracemalloc.start()
    try:
        for images, targets in Batches(np.load(tmp_path / "x.npy", mmap_mode="r"), np.arange(2000), 10, shuffle, rng=0):
            np.testing.assert_array_equal(images[:, 1, 5, 5], (targets % 256).astype(np.float32) / 255)
        used = tracemalloc.get_traced_memory()[1] + memory.statistics()["peak"] - before
    finally:
        tracemalloc.stop()
    assert used < mapped.nbytes / 8  # a batch as float32 takes 0.5 MB, the set 25 MB in bytes


def test_targets_may_be_images(x):
    for images, targets in Batches(x, x, 5, shuffle=True, rng=1):
        assert targets.dtype == np.uint8
        np.testing.assert_array_equal(images, targets / np.float32(255))


@pytest.mark.parametrize("prefetch", [0, 1, 50])
def test_the_consumer_may_stop_early(x, y, prefetch):
    batches = Batches(x, y, 2, prefetch=prefetch)
    for _, targets in batches:
        if targets[0] == 4:
            break
    wait_for_threads_to_end()
    with contextlib.suppress(RuntimeError):
        for _ in batches:
            raise RuntimeError
    wait_for_threads_to_end()
    iterator = iter(batches)
    next(iterator)
    del iterator
    wait_for_threads_to_end()
    assert len(list(batches)) == 12


def test_an_iterator_in_a_reference_cycle_is_collected(x, y):
    cycle = [iter(Batches(x, y, 2))]
    cycle.append(cycle)
    next(cycle[0])
    del cycle
    gc.collect()
    wait_for_threads_to_end()


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_an_exception_reaches_the_consumer_at_its_batch(x, y, prefetch, monkeypatch):
    batches = Batches(x, y, 4, prefetch=prefetch)
    prepare = batches._prepare

    def failing(rows, seed):
        if rows.start == 8:
            raise OSError("the disk is gone")
        return prepare(rows, seed)

    monkeypatch.setattr(batches, "_prepare", failing)
    iterator = iter(batches)
    assert [next(iterator)[1][0] for _ in range(2)] == [0, 4]
    with pytest.raises(OSError, match="the disk is gone"):
        next(iterator)


def test_preparing_runs_while_the_consumer_works(x, y, monkeypatch):
    batches = Batches(x, y, 4, prefetch=2)
    prepare, prepared = batches._prepare, threading.Semaphore(0)

    def counting(rows, seed):
        assert threading.current_thread() is not threading.main_thread()
        batch = prepare(rows, seed)
        prepared.release()
        return batch

    monkeypatch.setattr(batches, "_prepare", counting)
    iterator = iter(batches)
    next(iterator)
    for _ in range(3):  # the batch in hand, and two ahead of it
        assert prepared.acquire(timeout=5)
    assert not prepared.acquire(timeout=0.05)
    iterator.close()


def _finish(iterator, queue):
    queue.put([targets.tolist() for _, targets in iterator])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("started", [False, True])
def test_a_forked_child_goes_on_where_its_parent_was(x, y, started):
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    iterator = iter(Batches(x, y, 6, prefetch=2))
    if started:
        next(iterator)
    child = context.Process(target=_finish, args=(iterator, queue))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    expected = [y[start : start + 6].tolist() for start in range(6 * started, N, 6)]
    assert queue.get() == expected
    assert [targets.tolist() for _, targets in iterator] == expected


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"x": np.zeros((N, 1, 4, 4), np.int64)},
            TypeError,
            "Batches: `x` must be uint8, float32 or float64, got int64",
        ),
        (
            {"x": np.zeros(N)},
            ValueError,
            r"Batches: `x` must have the shape \(N, C, H, W\), \(N, H, W\) or \(N, features\), got \(23,\)",
        ),
        ({"y": np.zeros(22)}, ValueError, r"Batches: `y` must have a row for each of the 23 in `x`, got \(22,\)"),
        ({"y": 1.0}, ValueError, r"Batches: `y` must have a row for each of the 23 in `x`, got \(\)"),
        ({"batch_size": 0}, ValueError, "Batches: `batch_size` must be at least 1, got 0"),
        ({"batch_size": 2.0}, TypeError, "Batches: `batch_size` must be an integer, got 2.0"),
        ({"prefetch": -1}, ValueError, "Batches: `prefetch` must be at least 0, got -1"),
        ({"rng": -1}, ValueError, "Batches: `rng` must be at least 0, got -1"),
        ({"dtype": np.int64}, TypeError, "Batches: `dtype` must be float32 or float64, got int64"),
    ],
)
def test_refuses(x, y, change, error, message):
    with pytest.raises(error, match=message):
        Batches(**{"x": x, "y": y, "batch_size": 4, **change})


@pytest.mark.parametrize("name", ["shuffle", "drop_last"])
def test_what_is_said_with_yes_or_no(name):
    with pytest.raises(TypeError, match=f"^Batches: `{name}` must be True or False, got 'no'$"):
        Batches(np.zeros((2, 3)), [0, 1], 1, **{name: "no"})


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        (4, {}, [4, 4, 1]),
        (4, {"min_batch": 2}, [4, 5]),
        (4, {"min_batch": 1}, [4, 4, 1]),
        (4, {"min_batch": 2, "drop_last": True}, [4, 4]),
        (7, {"min_batch": 2}, [7, 2]),
        (7, {"min_batch": 3}, [9]),
        (10, {"min_batch": 20}, [9]),
        (3, {"min_batch": 2}, [3, 3, 3]),
        (10, {"drop_last": True}, []),
    ],
)
@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_small_last_batch_is_kept_joined_or_left_out(size, options, expected, prefetch):
    rows = np.arange(9)
    for more in ({}, {"shuffle": True, "rng": 0}):
        batches = Batches(rows[:, np.newaxis].astype(np.float32), rows, size, prefetch=prefetch, **options, **more)
        taken = [y for _, y in batches]
        assert [len(y) for y in taken] == expected
        assert len(batches) == len(expected)
        assert batches.smallest == min(expected, default=0)
        seen = np.concatenate([*taken, []]).astype(int)
        assert len({*seen}) == len(seen) == sum(expected)
        if not more:
            np.testing.assert_array_equal(seen, rows[: sum(expected)])


def test_the_shape_of_an_image_is_known_unless_it_may_change():
    x = np.zeros((2, 5, 6), np.uint8)
    assert Batches(x, [0, 1], 2).shape == (1, 5, 6)
    assert Batches(x, [0, 1], 2, augment=lambda x, y, rng: (x[..., :3], y)).shape is None
