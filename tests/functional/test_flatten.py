import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cyconv
from cyconv import functional as F
from tests.memory_formats import FORMATS


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("shape", [(3, 5, 7, 11), (2, 35, 4, 18), (4, 3, 1, 1), (2, 1, 3, 3)])
def test_rows_are_in_nchw_order(shape, fmt, threads, dtype, small_work_threaded):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    given_x = FORMATS[fmt](x)
    with cyconv.num_threads(threads):
        rows = F.flatten(given_x)
        back = F.flatten_backward(rows, shape)
    np.testing.assert_array_equal(rows, x.reshape(shape[0], -1))
    assert rows.dtype == back.dtype == dtype
    assert rows.flags.c_contiguous
    np.testing.assert_array_equal(back, x)
    assert back.transpose(0, 2, 3, 1).flags.c_contiguous
    assert not np.shares_memory(rows, given_x)
    assert not np.shares_memory(back, rows)


@given(st.tuples(*(st.integers(0, 20) for _ in range(4))))
def test_random_shapes(shape):
    x = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    rows = F.flatten(x)
    np.testing.assert_array_equal(rows, x.reshape(shape[0], int(np.prod(shape[1:]))))
    np.testing.assert_array_equal(F.flatten_backward(rows, shape), x)


def test_backward_of_a_strided_gradient():
    grad = np.random.default_rng(1).standard_normal((6, 24))[::-2, ::2]
    np.testing.assert_array_equal(F.flatten_backward(grad, (3, 3, 2, 2)), grad.reshape(3, 3, 2, 2))


def test_errors():
    with pytest.raises(ValueError, match=r"flatten: `x` must have 4 dimensions \(N, C, H, W\), got shape \(2, 3\)"):
        F.flatten(np.ones((2, 3)))
    with pytest.raises(TypeError, match=r"flatten: `x` must be float32 or float64, got int64"):
        F.flatten(np.ones((1, 1, 1, 1), np.int64))
    with pytest.raises(
        ValueError, match=r"flatten_backward: `grad_output` must have shape \(2, 12\) \(of `input_shape`"
    ):
        F.flatten_backward(np.ones((2, 3)), (2, 3, 2, 2))
    with pytest.raises(ValueError, match=r"flatten_backward: `input_shape` must be \(N, C, H, W\), got \(2, 3\)"):
        F.flatten_backward(np.ones((2, 3)), (2, 3))
    with pytest.raises(ValueError, match=r"flatten_backward: `input_shape` must be \(N, C, H, W\), got 12"):
        F.flatten_backward(np.ones((2, 12)), 12)
