"""The matrix product: what it does before it stores, for every order of memory and size of its chunks."""

import numpy as np
import pytest

from cyconv._dispatch import gemm


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("added", [None, "other", "C", "transposed"])
@pytest.mark.parametrize(
    ("M", "K", "N"),
    [
        (1, 1, 1),
        (64, 30, 10),
        (9, 40, 70),
        (33, 0, 5),
        (3, 5000, 40),
        (40, 4100, 3),
        (1, 84, 10),
        (4, 7, 33),
        (2, 0, 3),
    ],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_gemm(M, K, N, added, with_bias, relu, threads, dtype, order):
    rng = np.random.default_rng(0)
    A, B, bias, other = (rng.standard_normal(shape).astype(dtype) for shape in ((M, K), (K, N), (N,), (M, N)))
    C = np.array(other if added == "C" else np.full((M, N), np.nan, dtype), order=order)
    addend = {None: None, "other": other, "C": C, "transposed": np.asfortranarray(other)}[added]
    wanted = A.astype(np.float64) @ B
    if with_bias:
        wanted += bias
    if added:
        wanted += other
    if relu:
        wanted = np.maximum(wanted, 0)
    gemm.gemm(A, B, bias if with_bias else None, addend, C, relu, threads)
    np.testing.assert_allclose(C, wanted, atol=(2e-6 if dtype == np.float32 else 1e-14) * (K + 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("K", [0, 1, 3, 16, 37, 84, 400])
@pytest.mark.parametrize("M", [1, 4])
def test_few_rows_by_contiguous_columns(M, K, dtype):
    rng = np.random.default_rng(0)
    A, weight, bias, other = (rng.standard_normal(shape).astype(dtype) for shape in ((M, K), (35, K), (35,), (M, 35)))
    wanted = np.maximum(A.astype(np.float64) @ weight.T + bias + other, 0)
    for threads in (1, 3):
        C = np.full((M, 35), np.nan, dtype)
        gemm.gemm(A, weight.T, bias, other, C, True, threads)
        np.testing.assert_allclose(C, wanted, atol=(2e-6 if dtype == np.float32 else 1e-14) * (K + 1))
        every_second = np.repeat(A, 2, axis=1)[:, ::2]
        again = np.empty_like(C)
        gemm.gemm(every_second, weight.T, bias, other, again, True, threads)
        np.testing.assert_array_equal(again, C)


def test_numbers_beside_a_row_play_no_part():
    rows = np.full((3, 24), np.nan, np.float32)
    rows[:, 2:21] = 1
    C = np.empty((1, 3), np.float32)
    gemm.gemm(rows[:1, 2:21], rows[:, 2:21].T, None, None, C, False, 1)
    np.testing.assert_array_equal(C, [[19, 19, 19]])
