"""The fully connected layer against NumPy in extended or double precision; tolerances as for convolutions."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cyconv
from cyconv import functional as F
from cyconv import threads
from cyconv.functional.linear import matmul
from cyconv.gradient_check import check_gradients
from tests.convolutions import assert_close, assert_same_bits_for_any_threads

DTYPES = [np.float32, np.float64]
SHAPES = {  # rows, in_features, out_features
    "one number": (1, 1, 1),
    "one row": (1, 784, 128),
    "one column": (300, 40, 1),
    "one wide row": (1, 30, 3000),
    "tall": (500, 7, 3),
    "rows about a tile": (15, 33, 17),
    "columns about a panel": (8, 9, 65),
    "several panels": (40, 50, 200),
    "a chunk of K": (3, 2048, 5),
    "beyond a chunk": (5, 2049, 3),
    "several chunks": (6, 5000, 9),
    "several chunks, more columns": (3, 5000, 70),
    "rows a page apart": (20, 1024, 40),
    "classifier": (32, 512, 10),
    "no rows": (0, 5, 4),
    "no input features": (3, 0, 4),
    "no output features": (3, 5, 0),
    "nothing": (0, 0, 0),
}


def operands(M, K, N, dtype=np.float64):
    """Return x, weight, bias and a gradient of the output, the same numbers in float32 and float64."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(np.float32).astype(dtype) for shape in ((M, K), (N, K), (N,), (M, N))]


def expected_of_linear(x, weight, bias, grad_output):
    """Return (output, grad_x, grad_weight, grad_bias) in float64, by sums over one axis at a time."""
    x, weight, bias, grad_output = (array.astype(np.float64) for array in (x, weight, bias, grad_output))
    output = np.stack([(weight * row).sum(axis=1) for row in x]) if len(x) else np.zeros(grad_output.shape)
    grad_x, grad_weight = np.zeros(x.shape), np.zeros(weight.shape)
    for n in range(weight.shape[0]):
        grad_x += grad_output[:, n, np.newaxis] * weight[n]
        grad_weight[n] = (grad_output[:, n, np.newaxis] * x).sum(axis=0)
    return output + bias, grad_x, grad_weight, grad_output.sum(axis=0)


def run_linear(x, weight, bias, grad_output):
    return F.linear(x, weight, bias), *F.linear_backward(grad_output, x, weight, bias)


def assert_all_close(results, arrays, dtype):
    (M, K), N = arrays[0].shape, arrays[1].shape[0]
    for actual, expected, count in zip(results, expected_of_linear(*arrays), (K, N, M, M), strict=True):
        assert_close(actual, expected, dtype, count)


@pytest.mark.usefixtures("small_work_threaded")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SHAPES)
def test_equals_reference(name, dtype):
    arrays = operands(*SHAPES[name], dtype)
    results = assert_same_bits_for_any_threads(lambda: run_linear(*arrays), (1, 2, 3, 8))
    assert_all_close(results, arrays, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_bias(dtype):
    x, weight, bias, grad_output = operands(6, 30, 20, dtype)
    expected = expected_of_linear(x, weight, np.zeros_like(bias), grad_output)
    assert_close(F.linear(x, weight), expected[0], dtype, 30)
    gradients = F.linear_backward(grad_output, x, weight)
    assert gradients[2] is None
    for actual, wanted, count in zip(gradients[:2], expected[1:3], (20, 6), strict=True):
        assert_close(actual, wanted, dtype, count)


STRIDED = {
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "reversed": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "every second": lambda a: np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "read-only": lambda a: _locked(a.copy()),
    "misaligned": lambda a: _misaligned(a),
    "offset": lambda a: np.pad(a, 1)[1:-1, 1:-1],
}


def _locked(array):
    array.flags.writeable = False
    return array


def _misaligned(array):
    view = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", STRIDED)
def test_any_strides(name, dtype):
    arrays = operands(12, 37, 19, dtype)
    lay_out = STRIDED[name]
    given_arrays = [lay_out(a) if a.ndim == 2 else lay_out(a[np.newaxis])[0] for a in arrays]
    results = run_linear(*given_arrays)
    assert_all_close(results, arrays, dtype)
    for given_array, array in zip(given_arrays, arrays, strict=True):
        np.testing.assert_array_equal(given_array, array)


def test_broadcast_arguments():
    x, weight = np.broadcast_to(np.float64(2), (3, 4)), np.broadcast_to(np.arange(4.0), (5, 4))
    np.testing.assert_array_equal(F.linear(x, weight), np.full((3, 5), 12.0))


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), (2, 3, 2, 4), (0, 3, 4), (2, 0, 4)])
def test_leading_axes(shape):
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal(shape), rng.standard_normal((5, 4)), rng.standard_normal(5)
    output = F.linear(x, weight, bias)
    assert output.shape == (*shape[:-1], 5)
    np.testing.assert_allclose(output, np.einsum("...k,nk->...n", x, weight) + bias, atol=1e-14)
    grad_output = rng.standard_normal(output.shape)
    grad_x, grad_weight, grad_bias = F.linear_backward(grad_output, x, weight, bias)
    np.testing.assert_allclose(grad_x, np.einsum("...n,nk->...k", grad_output, weight), atol=1e-14)
    rows, grad_rows = x.reshape(-1, 4) if x.size else np.zeros((0, 4)), grad_output.reshape(-1, 5)
    np.testing.assert_allclose(grad_weight, np.einsum("mn,mk->nk", grad_rows, rows), atol=1e-14)
    np.testing.assert_allclose(grad_bias, grad_rows.sum(axis=0), atol=1e-14)


@pytest.mark.parametrize("transposed", [False, True])
def test_leading_axes_of_a_strided_array(transposed):
    x = np.arange(24.0).reshape(2, 3, 4)
    strided = x.transpose(2, 1, 0).copy().transpose(2, 1, 0) if transposed else np.repeat(x, 2, axis=2)[..., ::2]
    weight = np.random.default_rng(0).standard_normal((5, 4))
    np.testing.assert_array_equal(F.linear(strided, weight), F.linear(x, weight))


@pytest.mark.parametrize("needs", list(itertools.product([False, True], repeat=3)), ids=str)
def test_needs_selects_gradients(needs):
    x, weight, bias, grad_output = operands(4, 5, 6)
    every = F.linear_backward(grad_output, x, weight, bias)
    some = F.linear_backward(grad_output, x, weight, bias, needs=needs)
    for wanted, one, other in zip(needs, every, some, strict=True):
        if wanted:
            np.testing.assert_array_equal(one, other)
        else:
            assert other is None


@settings(max_examples=100, deadline=None)
@given(st.tuples(*[st.integers(0, 80)] * 3), st.sampled_from(DTYPES), st.integers(1, 4))
def test_equals_reference_for_any_shape(shape, dtype, num_threads):
    arrays = operands(*shape, dtype)
    with pytest.MonkeyPatch.context() as patch, cyconv.num_threads(num_threads):
        patch.setattr(threads, "GRAIN", 1)
        results = run_linear(*arrays)
    assert_all_close(results, arrays, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("K", [0, 1, 17, 2049])
@pytest.mark.parametrize("N", [1, 3, 15, 16, 17, 31, 32, 33, 64, 65, 130])
@pytest.mark.parametrize("M", [1, 2, 7, 8, 13, 14, 15, 29, 65])
@pytest.mark.usefixtures("small_work_threaded")
def test_every_combination_of_extents(M, N, K):
    for dtype in DTYPES:
        arrays = operands(M, K, N, dtype)
        assert_all_close(assert_same_bits_for_any_threads(lambda a=arrays: run_linear(*a)), arrays, dtype)


def test_gradients_equal_difference_quotients():
    arrays = operands(5, 7, 4)[:3]
    check_gradients(F.linear, *arrays, backward=F.linear_backward, epsilon=1e-2, tolerance=1e-9)


def test_matmul_takes_any_strides():
    a, b = operands(30, 40, 50)[:2]
    expected = np.einsum("mk,nk->mn", a, b)
    np.testing.assert_allclose(matmul(a, b.T), expected, atol=1e-12)
    np.testing.assert_allclose(matmul(a[:, ::-1], b[::-1, ::-1].T), expected[:, ::-1], atol=1e-12)
    np.testing.assert_allclose(matmul(b, np.asfortranarray(a).T), expected.T, atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_input_reaches_its_row_only(value):
    x, weight, bias, grad_output = operands(9, 20, 33)
    clean = F.linear(x, weight, bias)
    x[4, 7] = value
    output, _, grad_weight, _ = run_linear(x, weight, bias, grad_output)
    expected, _, expected_weight, _ = expected_of_linear(x, weight, bias, grad_output)
    np.testing.assert_array_equal(output[4], expected[4])
    np.testing.assert_array_equal(np.delete(output, 4, 0), np.delete(clean, 4, 0))
    np.testing.assert_array_equal(grad_weight[:, 7], expected_weight[:, 7])
    assert np.isfinite(np.delete(grad_weight, 7, 1)).all()


def test_arguments_stay_as_they_are_and_results_are_fresh():
    arrays = operands(3, 1, 1)
    before = [array.copy() for array in arrays]
    first = run_linear(*arrays)
    kept = [array.copy() for array in first]
    second = run_linear(*[-array for array in arrays])
    for array, copy in zip((*arrays, *first), (*before, *kept), strict=True):
        np.testing.assert_array_equal(array, copy)
    everything = [*arrays, *first, *second]
    for i, array in enumerate(everything[4:], 4):
        assert not any(np.shares_memory(array, other) for j, other in enumerate(everything) if j != i)


# Errors

X, WEIGHT, BIAS, GRAD = operands(3, 4, 5)

WRONG_SHAPES = {
    "features": (
        (X[:, :3], WEIGHT, BIAS),
        r"`weight` of shape \(5, 4\) expects 4 input features, but `x` has shape \(3, 3\)",
    ),
    "a number": ((np.float64(1), WEIGHT, BIAS), r"expects 4 input features, but `x` has shape \(\)"),
    "weight of 1 axis": ((X, WEIGHT[0], BIAS), r"`weight` must have 2 dimensions .*, got shape \(4,\)"),
    "weight of 3 axes": ((X, WEIGHT[np.newaxis], BIAS), r"`weight` must have 2 dimensions"),
    "bias too short": (
        (X, WEIGHT, BIAS[:4]),
        r"`bias` must have shape \(5,\) \(one per output feature\), got \(4,\)",
    ),
    "bias of 2 axes": ((X, WEIGHT, BIAS[np.newaxis]), r"`bias` must have 1 dimensions, got shape \(1, 5\)"),
}

WRONG_DTYPES = {
    "integers": ((X.astype(int), WEIGHT, BIAS), r"`x` must be float32 or float64, got int64; cast it with"),
    "complex": ((X, WEIGHT.astype(complex), BIAS), r"`weight` must be float32 or float64, got complex128"),
    "half": ((X, WEIGHT, BIAS.astype(np.float16)), r"`bias` must be float32 or float64, got float16"),
    "mixed": (
        (X.astype(np.float32), WEIGHT, BIAS),
        r"all arrays must have the same dtype, got `x` float32, `weight` float64, `bias` float64; cast one",
    ),
}


@pytest.mark.parametrize("name", WRONG_SHAPES)
def test_wrong_shapes(name):
    arrays, message = WRONG_SHAPES[name]
    with pytest.raises(ValueError, match=f"^linear: .*{message}"):
        F.linear(*arrays)
    with pytest.raises(ValueError, match=f"^linear_backward: .*{message}"):
        F.linear_backward(GRAD, *arrays)


@pytest.mark.parametrize("name", WRONG_DTYPES)
def test_wrong_dtypes(name):
    arrays, message = WRONG_DTYPES[name]
    with pytest.raises(TypeError, match=f"^linear: {message}"):
        F.linear(*arrays)
    with pytest.raises(TypeError, match=f"^linear_backward: {message}"):
        F.linear_backward(GRAD, *arrays)


def test_wrong_gradient():
    with pytest.raises(ValueError, match=r"^linear_backward: `grad_output` must have shape \(3, 5\), got \(3, 4\)"):
        F.linear_backward(X, X, WEIGHT, BIAS)
    with pytest.raises(TypeError, match=r"^linear_backward: .*same dtype, got `x` float64, `grad_output` float32"):
        F.linear_backward(GRAD.astype(np.float32), X, WEIGHT, BIAS)
