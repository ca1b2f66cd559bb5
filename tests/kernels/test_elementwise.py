import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cyconv
from cyconv import memory
from cyconv._dispatch import elementwise
from cyconv.functional import _arrays
from tests.memory_formats import FORMATS

SHAPES = [(3, 5, 7, 11), (1, 33, 16, 40), (2, 3, 64, 64), (4, 512, 1, 1), (2, 1, 5, 9), (0, 3, 4, 4), (2, 0, 4, 4)]
TYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
THREADS = pytest.mark.parametrize("threads", [1, 2, 3])


def normal(shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@TYPES
@THREADS
@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_channels_last(shape, fmt, threads, dtype, small_work_threaded):
    x = normal(shape, dtype)
    formatted = FORMATS[fmt](x)
    if fmt in ("big_endian", "misaligned"):  # validation has made these native before
        formatted = formatted.astype(dtype)
    with cyconv.num_threads(threads):
        pixels, fresh = _arrays.channels_last(formatted), _arrays.copied_channels_last(formatted)
    np.testing.assert_array_equal(pixels, x.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(fresh, pixels)
    assert pixels.flags.c_contiguous
    assert not np.shares_memory(fresh, formatted)
    if fmt == "channels_last" and x.size:
        assert np.shares_memory(pixels, formatted)


@given(st.tuples(*(st.integers(0, 40) for _ in range(4))), st.permutations(range(4)), st.permutations(range(4)))
@settings(max_examples=50, deadline=None)
def test_copy_between_any_orders(shape, source_order, target_order):
    source = normal(shape, np.float32).transpose(source_order)
    target = np.full(source.shape, np.nan, np.float32).transpose(target_order)
    target = np.full(target.shape, np.nan, np.float32).transpose(np.argsort(target_order))
    _arrays.copy(source, target)
    np.testing.assert_array_equal(target, source)


@pytest.mark.parametrize(
    ("array", "axes"),
    [
        (np.ones((2, 3, 4, 5)), (0, 1, 2, 3)),
        (np.ones((2, 4, 5, 3)).transpose(0, 3, 1, 2), (0, 2, 3, 1)),
        (np.ones((2, 3, 1, 1)), (0, 2, 3, 1)),  # both: channels-last is preferred
        (np.ones((2, 3, 4, 5))[:, :, ::2], (0, 2, 3, 1)),  # neither
        (np.ones((2, 3, 4, 5)).transpose(3, 1, 0, 2), (2, 1, 3, 0)),
        (np.ones((4, 5)).T, (1, 0)),
        (np.ones((4, 5))[::-1], (0, 1)),
        (np.ones(()), ()),
    ],
)
def test_memory_axes(array, axes):
    assert _arrays.memory_axes(array) == axes
    like = _arrays.empty_ordered(array.shape, axes, np.float32)
    assert like.shape == array.shape
    assert like.transpose(axes).flags.c_contiguous
    np.testing.assert_array_equal(_arrays.flat(array, axes), array.transpose(axes).ravel())


@TYPES
@pytest.mark.parametrize("fmt", ["channels_last", "contiguous", "negative_strides", "slice"])
def test_add(fmt, dtype, small_work_threaded):
    a, b = normal((3, 17, 30, 40), dtype), normal((3, 17, 30, 40), dtype, 1)
    for threads in (1, 2, 3):
        with cyconv.num_threads(threads):
            total = _arrays.add(FORMATS[fmt](a), b)
        np.testing.assert_array_equal(total, a + b)


@TYPES
@pytest.mark.parametrize("C", [1, 3, 16, 17, 64, 300, 2050])
@pytest.mark.parametrize("P", [0, 1, 5, 1000])
def test_sum_channels(P, C, dtype):
    x = normal((P, C), dtype)
    results = []
    for threads in (1, 2, 3):
        out = memory.empty((C,), dtype)
        elementwise.sum_channels(x, out, threads)
        results.append(out)
    tolerance = (1e-6 if dtype == np.float32 else 1e-15) * max(1, P) ** 0.5
    np.testing.assert_allclose(results[0], x.astype(np.float64).sum(0), atol=tolerance * 4)
    assert all(np.array_equal(results[0], other) for other in results)


def test_sum_channels_keeps_digits_in_long_sums():
    x = np.full((2_000_000, 1), 0.1, np.float32)
    np.testing.assert_allclose(_arrays.sum_channels(x), [x.astype(np.float64).sum()], rtol=3e-7)


def test_sum_of_no_channels():
    assert _arrays.sum_channels(np.ones((4, 0), np.float32)).shape == (0,)
