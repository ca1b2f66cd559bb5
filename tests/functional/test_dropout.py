import numpy as np
import pytest

import cyconv
from cyconv import functional as F
from tests.memory_formats import FORMATS

MASK = 2**64 - 1


def splitmix64(seed, index):
    """Number `index` of the sequence, in Python's unbounded integers."""
    z = (seed + (index + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def kept(count, p, seed, offset):
    return np.array([splitmix64(seed, offset + i) >> 32 >= round(p * 2**32) for i in range(count)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(("seed", "offset"), [(0, 0), (12345, 7), (MASK, 2**63), (3, MASK - 20)])
def test_mask_is_the_documented_one(seed, offset, p, dtype):
    x = np.random.default_rng(0).standard_normal(777).astype(dtype)
    scale = dtype(1 / (1 - p)) if p < 1 else dtype(0)
    y = F.dropout(x, p, seed=seed, offset=offset)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, x * scale * kept(777, p, seed, offset))


def test_the_first_numbers_of_the_published_sequence():
    assert [splitmix64(1234567, i) for i in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@pytest.mark.parametrize("fmt", FORMATS)
def test_mask_depends_on_neither_threads_nor_memory(fmt, small_work_threaded):
    x = np.random.default_rng(1).standard_normal((3, 17, 29, 31)).astype(np.float32)
    mask = kept(x.size, 0.3, 5, 9).reshape(3, 29, 31, 17).transpose(0, 3, 1, 2)
    for threads in (1, 2, 3):
        with cyconv.num_threads(threads):
            y = F.dropout(FORMATS[fmt](x), 0.3, seed=5, offset=9)
            grad = F.dropout_backward(FORMATS[fmt](x), 0.3, seed=5, offset=9)
        np.testing.assert_array_equal(y, x * np.float32(1 / 0.7) * mask)
        np.testing.assert_array_equal(grad, y)
        assert y.transpose(0, 2, 3, 1).flags.c_contiguous


def test_rate_and_independence():
    ones = np.ones(1_000_000, np.float32)
    for p in (0.1, 0.5, 0.8):
        y = F.dropout(ones, p, seed=11)
        assert abs((y == 0).mean() - p) < 5 * np.sqrt(p * (1 - p) / ones.size)
        assert abs(y.mean() - 1) < 0.01
    first, second = (F.dropout(ones, 0.5, seed=11, offset=offset) for offset in (0, ones.size))
    neighbours = np.corrcoef(first[:-1], first[1:])[0, 1]
    other_seed = np.corrcoef(first, F.dropout(ones, 0.5, seed=12))[0, 1]
    assert max(abs(neighbours), abs(other_seed), abs(np.corrcoef(first, second)[0, 1])) < 0.005


@pytest.mark.parametrize("shape", [(), (0,), (0, 3, 4, 4), (5, 7), (2, 2, 2, 2, 2)])
def test_any_shape(shape):
    assert F.dropout(np.ones(shape), seed=1).shape == shape


def test_errors():
    x = np.ones(3)
    with pytest.raises(ValueError, match=r"dropout: `p` must be at least 0 and at most 1, got 1.5"):
        F.dropout(x, 1.5, seed=0)
    with pytest.raises(ValueError, match=r"dropout: `seed` must be at least 0, got -1"):
        F.dropout(x, seed=-1)
    with pytest.raises(ValueError, match=r"dropout_backward: `offset` must be at most 18446744073709551615, got 1844"):
        F.dropout_backward(x, seed=0, offset=2**64)
    with pytest.raises(TypeError, match=r"dropout: `seed` must be an integer, got 0.5"):
        F.dropout(x, seed=0.5)
    with pytest.raises(TypeError, match=r"dropout_backward: `grad_output` must be float32 or float64, got bool"):
        F.dropout_backward(np.ones(3, bool), seed=0)
