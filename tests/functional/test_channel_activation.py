import numpy as np
import pytest

import cyconv
from cyconv import functional as F
from cyconv.gradient_check import check_gradients
from tests.memory_formats import FORMATS


def slopes_of(weight, x):
    return weight.reshape(1, -1, *(1 for _ in x.shape[2:])) if weight.size > 1 else weight


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("slopes", [1, 5])
def test_prelu_equals_reference(slopes, fmt, dtype, small_work_threaded):
    rng = np.random.default_rng(0)
    x, grad = (rng.standard_normal((3, 5, 7, 11)).astype(dtype) for _ in range(2))
    weight = rng.standard_normal(slopes).astype(dtype)
    wide = slopes_of(weight.astype(np.float64), x)
    expected = np.where(x >= 0, x, wide * x)
    grad_weight = np.where(x > 0, 0, grad.astype(np.float64) * x).sum(axis=(0, 2, 3) if slopes > 1 else None)
    results = []
    for threads in (1, 2, 3):
        with cyconv.num_threads(threads):
            results.append(
                (F.prelu(FORMATS[fmt](x), weight), *F.prelu_backward(FORMATS[fmt](grad), FORMATS[fmt](x), weight))
            )
    y, grad_x, by_weight = results[0]
    assert y.dtype == grad_x.dtype == by_weight.dtype == dtype
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    np.testing.assert_allclose(grad_x, np.where(x > 0, grad, wide * grad), rtol=1e-6)
    np.testing.assert_allclose(by_weight, grad_weight.reshape(-1), rtol=1e-4)
    assert all(np.array_equal(a, b) for other in results for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("shape", [(4, 6), (2, 6, 5), (2, 6, 3, 4), (2, 6, 2, 3, 2)])
def test_gradients(shape):
    rng = np.random.default_rng(1)
    x = rng.permutation(int(np.prod(shape))).reshape(shape) / 10 - 3.05  # no zeros, no equals
    check_gradients(F.prelu, x, rng.standard_normal(6), backward=F.prelu_backward)
    check_gradients(F.prelu, x, rng.standard_normal(1), backward=F.prelu_backward)
    check_gradients(F.maxout, x, backward=F.maxout_backward, pieces=3)


def test_large_sums_in_chunks():
    rng = np.random.default_rng(2)
    x, grad = rng.standard_normal((2, 2, 3, 300, 301)).astype(np.float32)
    weight = np.zeros(3, np.float32)
    found = F.prelu_backward(grad, x, weight)[1]
    np.testing.assert_allclose(found, np.where(x > 0, 0, grad.astype(np.float64) * x).sum(axis=(0, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("pieces", [1, 2, 3, 6])
def test_maxout_equals_reference(pieces, fmt, small_work_threaded):
    x = np.random.default_rng(3).standard_normal((2, 6, 4, 5))
    expected = x.reshape(2, 6 // pieces, pieces, 4, 5).max(axis=2)
    np.testing.assert_array_equal(F.maxout(FORMATS[fmt](x), pieces), expected)


def test_nan_wins_in_maxout():
    x = np.array([[1.0, np.nan, 2.0, np.nan, 3.0, np.nan]])
    np.testing.assert_array_equal(F.maxout(x, 3), [[np.nan, np.nan]])
    np.testing.assert_array_equal(F.maxout_backward(np.ones((1, 2)), x, 3), [[0, 1, 0, 1, 0, 0]])
    np.testing.assert_array_equal(F.prelu(x, np.ones(1)), x)


def test_empty_batch():
    x = np.zeros((0, 4, 3, 3))
    assert F.prelu(x, np.ones(4)).shape == (0, 4, 3, 3)
    assert [a.shape for a in F.prelu_backward(x, x, np.ones(4))] == [(0, 4, 3, 3), (4,)]
    assert F.maxout(x, 2).shape == (0, 2, 3, 3)
    assert F.maxout_backward(np.zeros((0, 2, 3, 3)), x, 2).shape == x.shape


X = np.ones((2, 4))
WRONG = [
    (lambda: F.prelu(X, np.ones(3)), ValueError, r"prelu: `weight` must have one slope, or one for each channel"),
    (lambda: F.prelu(X, np.ones(4, np.float32)), TypeError, "prelu: all arrays must have the same dtype"),
    (lambda: F.prelu_backward(X[:1], X, np.ones(1)), ValueError, r"`grad_output` must have shape \(2, 4\)"),
    (lambda: F.maxout(X, 3), ValueError, "maxout: `pieces` must divide the 4 channels of `x`, got 3"),
    (lambda: F.maxout(X[0], 2), ValueError, r"maxout: `x` must have the shape \(N, channels, ...\), got \(4,\)"),
    (lambda: F.maxout_backward(X, X, 2), ValueError, r"maxout_backward: `grad_output` must have shape \(2, 2\)"),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_wrong_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("slopes", [1, 3])
def test_prelu_at_special_values(slopes, dtype):
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0] * 9, dtype)
    x, weight = np.repeat(special[:, np.newaxis], 3, axis=1), np.full(slopes, 0.5, dtype)
    grad_x, grad_weight = F.prelu_backward(np.full_like(x, 2), x, weight)
    for channel in range(3):
        np.testing.assert_array_equal(grad_x[:, channel], np.array([1, 2, 1, 1, 1] * 9, dtype))
    assert np.isnan(grad_weight).all()
    np.testing.assert_array_equal(F.prelu(x, weight)[:, 0], np.array([np.nan, np.inf, -np.inf, 0, 0] * 9, dtype))
    without = x[2:3]
    np.testing.assert_array_equal(F.prelu_backward(np.ones_like(without), without, weight)[1], np.full(slopes, -np.inf))


def test_gradient_of_one_slope_is_the_same_in_any_memory_order():
    x, grad = np.random.default_rng(4).standard_normal((2, 3, 5, 30, 40)).astype(np.float32)
    weight = np.full(1, 0.25, np.float32)
    expected = F.prelu_backward(grad, x, weight)
    for change in FORMATS.values():
        found = F.prelu_backward(change(grad), change(x), weight)
        np.testing.assert_array_equal(found[0], expected[0])
        assert found[1].tobytes() == expected[1].tobytes()
