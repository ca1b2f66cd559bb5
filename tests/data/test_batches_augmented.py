"""Batches that are augmented, sampled, and prepared by several threads."""

import threading
import time

import numpy as np
import pytest

from cyconv.data import BalancedSampler, Batches, WeightedSampler
from cyconv.data.augmentation import ColorJitter, ElasticTransform, RandomCrop, RandomHorizontalFlip
from tests.data.test_batches import joined, wait_for_threads_to_end

N = 23
X = np.random.default_rng(0).integers(0, 256, (N, 3, 6, 5), dtype=np.uint8)
Y = np.arange(N)
AUGMENT = [RandomHorizontalFlip(), RandomCrop((6, 5), padding=2), ElasticTransform(1), ColorJitter(0.2, 0.2)]


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    wait_for_threads_to_end()


def record(x, y, rng):
    """A transform that adds to the images what its generator gives."""
    return x + rng.random((len(x), 1, 1, 1), dtype=np.float32), y


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_number_of_threads_and_of_batches_ahead_change_nothing(shuffle):
    def epochs(**keywords):
        batches = Batches(X, Y, 4, shuffle=shuffle, rng=7, augment=AUGMENT, **keywords)
        return [[(x.tobytes(), y.tobytes()) for x, y in batches] for _ in range(2)]

    expected = epochs(prefetch=0)
    assert expected[0] != expected[1]
    for keywords in ({}, {"prefetch": 5}, {"workers": 3}, {"workers": 2, "prefetch": 9}, {"workers": 4, "prefetch": 1}):
        assert epochs(**keywords) == expected


def test_each_batch_has_a_generator_of_its_own():
    noise = [x[:, 0, 0, 0] for x, _ in Batches(np.zeros_like(X), Y, 4, rng=0, augment=record)]
    assert len(np.unique(np.concatenate(noise))) == N
    again = [x[:, 0, 0, 0] for x, _ in Batches(np.zeros_like(X), Y, 4, rng=0, augment=record)]
    np.testing.assert_array_equal(np.concatenate(noise), np.concatenate(again))


def test_an_epoch_draws_from_the_generator_at_its_start_only():
    rng = np.random.default_rng(3)
    batches = Batches(X, Y, 4, shuffle=True, rng=rng, augment=record)
    before = rng.bit_generator.state
    iterator = iter(batches)
    started = rng.bit_generator.state
    list(iterator)
    assert before != started == rng.bit_generator.state
    rng.bit_generator.state = before  # which is all it takes to have the same epoch again
    first = joined(batches)
    rng.bit_generator.state = before
    np.testing.assert_array_equal(first[0], joined(batches)[0])


def test_batches_without_augmentation_draw_what_they_did():
    rng, twin = np.random.default_rng(3), np.random.default_rng(3)
    list(Batches(X, Y, 4, shuffle=True, rng=rng))
    twin.permutation(N)
    assert rng.bit_generator.state == twin.bit_generator.state


def test_transforms_see_numbers_from_0_to_1_and_their_targets():
    def seen(x, y, rng):
        assert x.dtype == np.float32
        assert x.transpose(0, 2, 3, 1).flags.c_contiguous
        np.testing.assert_array_equal(x, X[y] / np.float32(255))
        return x[:, :1], -y

    x, y = joined(Batches(X, Y, 4, shuffle=True, rng=0, augment=[seen]))
    assert x.shape == (N, 1, 6, 5)
    assert sorted(-y) == list(Y)


def test_several_threads_prepare_at_once():
    gate = threading.Barrier(3, timeout=10)

    def together(x, y, rng):
        gate.wait()  # passes only if three are here
        return x, y

    assert len(list(Batches(X, Y, 4, augment=together, workers=3))) == 6


def test_an_early_end_leaves_no_thread():
    def slow(x, y, rng):
        time.sleep(0.01)
        return x, y

    for x, _ in Batches(X, Y, 1, augment=slow, workers=3):
        assert x.shape == (1, 3, 6, 5)
        break


def test_data_set_in_channels_last_memory():
    last = np.ascontiguousarray(X.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for expected, batch in zip(
        Batches(X, Y, 4, shuffle=True, rng=0), Batches(last, Y, 4, shuffle=True, rng=0), strict=True
    ):
        np.testing.assert_array_equal(batch[0], expected[0])
        np.testing.assert_array_equal(batch[1], expected[1])
        assert batch[0].transpose(0, 2, 3, 1).flags.c_contiguous


# Sampling


def test_a_sampler_says_which_rows():
    labels = np.repeat([0, 1], [20, 3])
    sampler = BalancedSampler(labels, 30)
    batches = Batches(X, Y, 8, sampler=sampler, rng=5)
    assert (len(batches), batches.images) == (4, 30)
    x, rows = joined(batches)
    np.testing.assert_array_equal(rows, sampler(np.random.default_rng(5)))
    np.testing.assert_array_equal(x, X[rows] / np.float32(255))
    assert [labels[y].mean() for _, y in batches] == [0.5, 0.5, 0.5, 0.5]
    assert [len(y) for _, y in Batches(X, Y, 8, sampler=sampler, drop_last=True)] == [8, 8, 8]


class Backwards:
    """A sampler of one's own."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return 3

    def __call__(self, rng):
        return self.rows


def test_any_function_with_a_length_is_a_sampler():
    assert [y.tolist() for _, y in Batches(X, Y, 2, sampler=Backwards([5, 4, 4]))] == [[5, 4], [4]]


# Errors


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"augment": 3}, TypeError, r"^Batches: `augment` must be transforms, callables of \(x, y, rng\), got 3"),
        ({"augment": RandomHorizontalFlip}, TypeError, "^Batches: `augment` must be .*; call the class to make one"),
        ({"augment": [3]}, TypeError, r"^Batches: `augment` must be .*, got 3"),
        ({"sampler": 3}, TypeError, "^Batches: `sampler` must be a function of a generator that has a length, got 3"),
        ({"sampler": len}, TypeError, "^Batches: `sampler` must be a function of a generator that has a length"),
        ({"sampler": WeightedSampler}, TypeError, "^Batches: `sampler` must be .*; call the class to make one"),
        (
            {"sampler": Backwards([1]), "shuffle": True},
            ValueError,
            "^Batches: `sampler` gives an order already",
        ),
        ({"workers": 0}, ValueError, "^Batches: `workers` must be at least 1, got 0"),
    ],
)
def test_refuses(change, error, message):
    with pytest.raises(error, match=message):
        Batches(X, Y, 4, **change)


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize(
    ("augment", "error", "message"),
    [
        (lambda x, y, rng: x, TypeError, r"^Batches: `augment` must return a pair \(x, y\), got ndarray"),
        (lambda x, y, rng: (x, y, y), TypeError, r"^Batches: `augment` must return a pair \(x, y\), got tuple"),
        (lambda x, y, rng: (None, y), TypeError, "^Batches: augment: `x` must be an array, got None"),
        (
            lambda x, y, rng: (x.astype(int), y),
            TypeError,
            "^Batches: `augment` must return images of floating point numbers, got int64",
        ),
        (
            lambda x, y, rng: (x, y[1:]),
            ValueError,
            r"^Batches: `augment` must return as many images as targets, got shapes \(4, 3, 6, 5\) and \(3,\)",
        ),
    ],
)
def test_what_augment_must_return(augment, error, message, prefetch):
    with pytest.raises(error, match=message):
        list(Batches(X, Y, 4, augment=augment, prefetch=prefetch))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([1, 2], r"^Batches: `sampler` must return as many integers as its length, 3, got int64 of shape \(2,\)"),
        ([1.0, 2.0, 3.0], "^Batches: `sampler` must return as many integers as its length, 3, got float64 of shape"),
        ([1, 2, N], "^Batches: `sampler` must return rows from 0 to 22, got 1 to 23"),
        ([-1, 2, 3], "^Batches: `sampler` must return rows from 0 to 22, got -1 to 3"),
    ],
)
def test_what_samplers_must_return(rows, message):
    with pytest.raises(ValueError, match=message):
        iter(Batches(X, Y, 2, sampler=Backwards(rows)))
