import numpy as np
import pytest

import cyconv
from cyconv import functional as F
from cyconv.gradient_check import check_gradients
from tests.memory_formats import FORMATS


def response_norm(x, size, alpha, beta, k):
    y = np.empty(x.shape)
    for c in range(x.shape[1]):
        window = x[:, max(0, c - size // 2) : c + (size - 1) // 2 + 1].astype(np.float64)
        y[:, c] = x[:, c] / (k + alpha / size * (window**2).sum(axis=1)) ** beta
    return y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize(("size", "beta"), [(1, 0.75), (5, 0.75), (4, 0.5), (9, 0.75), (40, 1.25)])
def test_equals_reference(size, beta, fmt, dtype, small_work_threaded):
    x = (np.random.default_rng(0).standard_normal((2, 9, 4, 5)) * 3).astype(dtype)
    expected = response_norm(x, size, 0.7, beta, 2)
    for threads in (1, 2, 3):
        with cyconv.num_threads(threads):
            found = F.local_response_norm(FORMATS[fmt](x), size, 0.7, beta, 2)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol={np.float32: 1e-6, np.float64: 1e-14}[dtype])


@pytest.mark.parametrize(("size", "beta"), [(1, 0.75), (5, 0.75), (4, 0.6), (9, 1.0)])
def test_gradients(size, beta):
    x = np.random.default_rng(1).standard_normal((2, 7, 3, 2)) * 2
    options = {"size": size, "alpha": 1.3, "beta": beta, "k": 1.5}
    check_gradients(F.local_response_norm, x, backward=F.local_response_norm_backward, **options)


def test_against_torch():
    torch = pytest.importorskip("torch")
    x, grad = np.random.default_rng(2).standard_normal((2, 2, 7, 3, 2))
    t = torch.from_numpy(x).requires_grad_()
    for size in (3, 4, 5):
        theirs = torch.nn.functional.local_response_norm(t, size, 0.9, 0.75, 2.0)
        (expected,) = torch.autograd.grad(theirs, t, torch.from_numpy(grad))
        found = F.local_response_norm_backward(grad, x, size, 0.9, 0.75, 2.0)
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-12)


def test_empty_batch():
    x = np.zeros((0, 4, 3, 3))
    assert F.local_response_norm(x, 5).shape == F.local_response_norm_backward(x, x, 5).shape == x.shape


X = np.ones((2, 4, 3, 3))
WRONG = [
    (lambda: F.local_response_norm(X, 0), ValueError, "local_response_norm: `size` must be at least 1, got 0"),
    (lambda: F.local_response_norm(X, 5, k=0), ValueError, "local_response_norm: `k` must be above 0, got 0"),
    (lambda: F.local_response_norm(X, 5, -1), ValueError, "local_response_norm: `alpha` must be at least 0, got -1"),
    (lambda: F.local_response_norm_backward(X[:1], X, 5), ValueError, r"must have shape \(2, 4, 3, 3\)"),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_wrong_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_window_wider_than_the_channels_is_all_of_them():
    x, grad = np.random.default_rng(3).standard_normal((2, 2, 9, 4, 5))
    size = 10**9
    expected = response_norm(x, size, 1e9, 0.75, 2)
    np.testing.assert_allclose(F.local_response_norm(x, size, 1e9, 0.75, 2), expected, rtol=1e-13)
    found = F.local_response_norm_backward(grad, x, size, size * 3.0, 0.75, 2)
    np.testing.assert_allclose(found, F.local_response_norm_backward(grad, x, 17, 17 * 3.0, 0.75, 2), rtol=1e-12)


def test_size_of_numpys_own_kind():
    x = np.random.default_rng(4).standard_normal((1, 3, 2, 2))
    size = np.int8(100)
    np.testing.assert_array_equal(F.local_response_norm(x, size), F.local_response_norm(x, 100))
    np.testing.assert_array_equal(F.local_response_norm_backward(x, x, size), F.local_response_norm_backward(x, x, 100))
