import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import cyconv
from cyconv import functional as F
from tests import numerical
from tests.memory_formats import FORMATS

SHAPE = (3, 5, 7, 11)


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


# name: (forward, backward, oracle in float64, whether backward takes the output)
OPS = {
    "relu": (F.relu, F.relu_backward, lambda x: np.maximum(x, 0), True),
    "leaky_relu": (
        lambda x: F.leaky_relu(x, 0.2),
        lambda g, x: F.leaky_relu_backward(g, x, 0.2),
        lambda x: np.where(x > 0, x, 0.2 * x),
        False,
    ),
    "sigmoid": (F.sigmoid, F.sigmoid_backward, lambda x: 1 / (1 + np.exp(-x)), True),
    "tanh": (F.tanh, F.tanh_backward, np.tanh, True),
    "softmax": (F.softmax, F.softmax_backward, softmax, True),
    "log_softmax": (F.log_softmax, F.log_softmax_backward, lambda x: np.log(softmax(x)), True),
}
ELEMENTWISE = [name for name in OPS if "softmax" not in name]
TOLERANCE = {np.float32: 2e-6, np.float64: 4e-15}


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal(SHAPE) * 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("op", OPS)
def test_forward_equals_reference(op, fmt, dtype, x, small_work_threaded):
    forward, _, reference, _ = OPS[op]
    x = x.astype(dtype)
    given_x = FORMATS[fmt](x)
    results = []
    for threads in (1, 2, 3):
        with cyconv.num_threads(threads):
            results.append(forward(given_x))
    y = results[0]
    assert y.dtype == dtype
    assert y.shape == SHAPE
    assert all(np.array_equal(y, other) for other in results)
    np.testing.assert_allclose(y, reference(x.astype(np.float64)), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    np.testing.assert_array_equal(given_x, x)
    assert not np.shares_memory(y, given_x)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("op", OPS)
def test_backward_equals_central_differences(op, fmt, small_work_threaded):
    forward, backward, reference, takes_output = OPS[op]
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 3, 2, 3))
    x += 0.1 * np.sign(x)  # away from the kink
    grad = rng.standard_normal(x.shape)
    expected = numerical.gradient(lambda x: (reference(x) * grad).sum(), x)
    saved = FORMATS[fmt](forward(x) if takes_output else x)
    results = []
    for threads in (1, 2, 3):
        with cyconv.num_threads(threads):
            results.append(backward(FORMATS[fmt](grad), saved))
    np.testing.assert_allclose(results[0], expected, atol=1e-8)
    assert all(np.array_equal(results[0], other) for other in results)
    single = backward(grad.astype(np.float32), saved.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, atol=1e-5)


@pytest.mark.parametrize("op", ELEMENTWISE)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (0, 3, 4, 4), (2, 3, 4), (2, 2, 2, 2, 2)])
def test_any_number_of_dimensions(op, shape):
    forward, backward, reference, _ = OPS[op]
    x = np.random.default_rng(2).standard_normal(shape)
    y = forward(x)
    assert y.shape == shape
    np.testing.assert_allclose(y, reference(np.asarray(x)), rtol=1e-13)
    assert backward(np.ones(shape), y).shape == shape


@pytest.mark.parametrize("op", ELEMENTWISE)
def test_memory_order_is_kept(op):
    x = np.ones((2, 3, 4, 5), np.float32)
    channels_last = FORMATS["channels_last"](x)
    assert OPS[op][0](x).flags.c_contiguous
    assert OPS[op][0](channels_last).strides == channels_last.strides
    assert OPS[op][0](x[0].T).strides == x[0].T.strides


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", ["sigmoid", "tanh"])
def test_full_relative_accuracy_everywhere(op, dtype):
    limit = 110 if dtype == np.float32 else 750
    tiny = np.finfo(dtype).tiny
    small = np.geomspace(tiny, limit, 100_000, dtype=dtype)
    x = np.concatenate([np.linspace(-limit, limit, 400_001, dtype=dtype), small, -small])
    wide = x.astype(np.longdouble)
    with np.errstate(over="ignore", under="ignore"):
        expected = np.tanh(wide) if op == "tanh" else 1 / (1 + np.exp(-wide))
        ulp = np.spacing(np.maximum(np.abs(expected).astype(dtype), tiny)).astype(np.longdouble)
    y = OPS[op][0](x)
    normal = np.abs(expected) >= tiny
    # Where long double is plain double, its own error of an ulp or two comes on top.
    limit = 2.5 if np.finfo(np.longdouble).nmant > 52 else 4
    assert np.max((np.abs(y - expected) / ulp)[normal]) < limit
    assert np.all(np.abs(y)[~normal] <= tiny)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("relu", [np.nan, np.inf, 0, 0, 0]),
        ("leaky_relu", [np.nan, np.inf, -np.inf, 0, 0]),
        ("sigmoid", [np.nan, 1, 0, 0.5, 0.5]),
        ("tanh", [np.nan, 1, -1, 0, 0]),
    ],
)
def test_special_values(op, expected, dtype):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0] * 9, dtype)  # in vectors and in their tail
    np.testing.assert_array_equal(OPS[op][0](x), np.array(expected * 9, dtype))


def test_sign_of_zero_passes_tanh():
    assert np.signbit(F.tanh(np.array([-0.0])))[0]


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -3])
def test_softmax_along_any_axis(axis, x):
    y = F.softmax(x, axis)
    np.testing.assert_allclose(y, np.moveaxis(softmax(np.moveaxis(x, axis, 1)), 1, axis), rtol=1e-13)
    grad = np.random.default_rng(3).standard_normal(x.shape)
    expected = y * (grad - (y * grad).sum(axis, keepdims=True))
    np.testing.assert_allclose(F.softmax_backward(grad, y, axis), expected, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_of_extremes(dtype):
    top = np.finfo(dtype).max
    x = np.array([[top, top, -top], [-top, -top, -top], [0, -1000, -np.inf], [0, 1, np.nan]], dtype)
    expected = np.array([[0.5, 0.5, 0], [1 / 3] * 3, [1, 0, 0], [np.nan] * 3], dtype)
    np.testing.assert_allclose(F.softmax(x), expected, rtol=1e-6)
    y = F.log_softmax(np.array([[0, -1000, 0]], dtype))
    np.testing.assert_allclose(y, [[-np.log(2), -1000 - np.log(2), -np.log(2)]], rtol=1e-6)


@pytest.mark.parametrize("shape", [(0, 10), (3, 0), (0, 4, 2, 2)])
def test_softmax_of_nothing(shape):
    assert F.softmax(np.ones(shape)).shape == shape
    assert F.softmax_backward(np.ones(shape), np.ones(shape)).shape == shape


@given(hnp.array_shapes(max_dims=5, max_side=9), st.floats(0, 50), st.integers(0, 2**32 - 1))
def test_random_shapes(shape, scale, seed):
    x = np.random.default_rng(seed).uniform(-scale, scale, shape)
    for op in ELEMENTWISE:
        np.testing.assert_allclose(OPS[op][0](x), OPS[op][2](x), rtol=1e-13, atol=1e-300)
    y = F.softmax(x, -1)
    assert (y >= 0).all()
    np.testing.assert_allclose(y.sum(-1), 1, rtol=1e-13)
    np.testing.assert_allclose(np.exp(F.log_softmax(x, -1)), y, rtol=1e-12, atol=1e-300)


def test_against_torch(x):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    t = torch.from_numpy(x).requires_grad_()
    peers = {
        "relu": functional.relu,
        "leaky_relu": lambda t: functional.leaky_relu(t, 0.2),
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "softmax": lambda t: functional.softmax(t, 1),
        "log_softmax": lambda t: functional.log_softmax(t, 1),
    }
    grad = np.random.default_rng(4).standard_normal(x.shape)
    for op, peer in peers.items():
        forward, backward, _, takes_output = OPS[op]
        theirs = peer(t)
        (their_grad,) = torch.autograd.grad(theirs, t, torch.from_numpy(grad))
        y = forward(x)
        np.testing.assert_allclose(y, theirs.detach().numpy(), rtol=1e-12)
        np.testing.assert_allclose(backward(grad, y if takes_output else x), their_grad.numpy(), atol=1e-12)


def test_errors():
    x = np.ones((2, 3))
    with pytest.raises(TypeError, match=r"relu: `x` must be float32 or float64, got int64"):
        F.relu(np.ones(3, np.int64))
    with pytest.raises(ValueError, match=r"tanh_backward: `grad_output` must have shape \(2, 3\) \(that of `output`\)"):
        F.tanh_backward(np.ones(2), x)
    with pytest.raises(TypeError, match=r"leaky_relu_backward: all arrays must have the same dtype, got .*`x` float64"):
        F.leaky_relu_backward(np.ones((2, 3), np.float32), x)
    with pytest.raises(TypeError, match=r"leaky_relu: `negative_slope` must be a number, got 'a'"):
        F.leaky_relu(x, "a")
    with pytest.raises(ValueError, match=r"leaky_relu: `negative_slope` must be finite, got nan"):
        F.leaky_relu(x, np.nan)
    with pytest.raises(ValueError, match=r"softmax: `axis` must be at most 1, got 2"):
        F.softmax(x, 2)
    with pytest.raises(ValueError, match=r"log_softmax_backward: `axis` must be at least -2, got -3"):
        F.log_softmax_backward(x, x, -3)
    with pytest.raises(ValueError, match=r"softmax: `x` must have at least 1 dimension"):
        F.softmax(1.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("backward", "expected"),  # at NaN, +inf, -inf, 0, -0, 1 and -1 of what it takes
    [
        (F.relu_backward, [2, 2, 0, 0, 0, 2, 0]),
        (lambda g, x: F.leaky_relu_backward(g, x, 0.25), [0.5, 2, 0.5, 0.5, 0.5, 2, 0.5]),
        (lambda g, x: F.leaky_relu_backward(g, x, -3.0), [-6, 2, -6, -6, -6, 2, -6]),
        (F.sigmoid_backward, [np.nan, -np.inf, -np.inf, 0, 0, 0, -4]),  # 2 y (1 - y) of an output y
        (F.tanh_backward, [np.nan, -np.inf, -np.inf, 2, 2, 0, 0]),  # 2 (1 - y^2)
    ],
)
def test_gradients_at_special_values(backward, expected, dtype):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0] * 9, dtype)
    np.testing.assert_array_equal(backward(np.full_like(x, 2), x), np.array(expected * 9, dtype))
