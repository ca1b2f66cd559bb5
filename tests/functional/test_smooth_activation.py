import numpy as np
import pytest
from scipy import special

import cyconv
from cyconv import functional as F
from cyconv.gradient_check import check_gradients
from tests.memory_formats import FORMATS

SHAPE = (3, 5, 7, 11)


def normal_cdf(x):
    return special.erfc(-x / np.sqrt(2.0)) / 2


# name: (op, keywords, reference in float64)
OPS = {
    "elu": ("elu", {}, lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
    "elu 0.3": ("elu", {"alpha": 0.3}, lambda x: np.where(x > 0, x, 0.3 * np.expm1(np.minimum(x, 0)))),
    "selu": (
        "selu",
        {},
        lambda x: 1.0507009873554804934 * np.where(x > 0, x, 1.6732632423543772848 * np.expm1(np.minimum(x, 0))),
    ),
    "gelu": ("gelu", {}, lambda x: x * normal_cdf(x)),
    "gelu tanh": (
        "gelu",
        {"approximate": "tanh"},
        lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    ),
    "silu": ("silu", {}, lambda x: x / (1 + np.exp(-x))),
    "softplus": ("softplus", {}, lambda x: np.logaddexp(x, 0)),
    "softplus 2": ("softplus", {"beta": 2.0}, lambda x: np.logaddexp(2 * x, 0) / 2),
}


def functions(name):
    op, keywords, reference = OPS[name]
    return getattr(F, op), getattr(F, f"{op}_backward"), keywords, reference


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal(SHAPE) * 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("name", OPS)
def test_forward_equals_reference(name, fmt, dtype, x, small_work_threaded):
    forward, _, keywords, reference = functions(name)
    x = x.astype(dtype)
    given = FORMATS[fmt](x)
    results = []
    for threads in (1, 2, 3):
        with cyconv.num_threads(threads):
            results.append(forward(given, **keywords))
    assert results[0].dtype == dtype
    assert all(np.array_equal(results[0], other) for other in results)
    tolerance = {np.float32: 2e-6, np.float64: 5e-15}[dtype]
    np.testing.assert_allclose(results[0], reference(x.astype(np.float64)), rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(given, x)
    assert not np.shares_memory(results[0], given)


@pytest.mark.parametrize("name", OPS)
def test_gradients(name):
    forward, backward, keywords, _ = functions(name)
    x = np.random.default_rng(1).standard_normal((2, 3, 4, 5)) * 2
    check_gradients(forward, x, backward=backward, tolerance=1e-7, **keywords)
    x, grad = x.astype(np.float32), np.ones_like(x, np.float32)
    single, double = backward(grad, x, **keywords), backward(grad.astype(float), x.astype(float), **keywords)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "lowest", "ulps"),
    [("elu", -100, 2), ("gelu", -13, 5), ("silu", -85, 3), ("softplus", -86, 3)],
)
def test_full_relative_accuracy_in_float32(name, lowest, ulps):
    """Against float64: also in the left tail, where results are tiny."""
    forward, _, _, reference = functions(name)
    x = np.concatenate(
        [np.linspace(lowest, 20, 300_001), np.geomspace(1e-30, 1, 10_000), -np.geomspace(1e-30, 1, 10_000)]
    )
    x = x.astype(np.float32)
    expected = reference(x.astype(np.float64))
    kept = np.abs(expected) > np.finfo(np.float32).tiny
    error = np.abs(forward(x) - expected) / np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
    assert error[kept].max() < ulps


def test_accuracy_in_float64():
    """Where SciPy's functions, themselves within an ulp or two, tell."""
    x = np.linspace(-37, 30, 200_001)
    tail = special.log_ndtr(x[x < -1])
    assert np.max(np.abs(F.gelu(x) / (x * special.ndtr(x)) - 1)[(x != 0) & (x > -1)]) < 2e-15
    np.testing.assert_allclose(np.log(-F.gelu(x[x < -1])), tail + np.log(-x[x < -1]), rtol=2e-15, atol=1e-15)
    np.testing.assert_allclose(F.softplus(x), -special.log_expit(-x), rtol=2e-15)
    np.testing.assert_allclose(F.silu(x), x * special.expit(x), rtol=2e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("elu", [np.nan, np.inf, -1, 0]),
        ("gelu", [np.nan, np.inf, 0, 0]),
        ("gelu tanh", [np.nan, np.inf, 0, 0]),
        ("silu", [np.nan, np.inf, 0, 0]),
        ("softplus", [np.nan, np.inf, 0, np.log(2)]),
    ],
)
def test_special_values(name, expected, dtype):
    forward, backward, keywords, _ = functions(name)
    x = np.array([np.nan, np.inf, -np.inf, 0.0] * 9, dtype)
    np.testing.assert_allclose(forward(x, **keywords), np.array(expected * 9, dtype), rtol=1e-6)
    slopes = backward(np.ones_like(x), x, **keywords)
    at_zero = 1.0 if name == "elu" else 0.5
    np.testing.assert_allclose(slopes[1:4], [1, 0, at_zero], atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("backward", "expected"),  # at NaN, +inf, -inf, 0 and -0
    [
        (lambda g, x: F.elu_backward(g, x, 1.5), [np.nan, 2, 0, 3, 3]),
        (F.selu_backward, [np.nan, 2.1014019747, 0, 3.5161986947, 3.5161986947]),
        (F.gelu_backward, [np.nan, 2, 0, 1, 1]),
        (lambda g, x: F.gelu_backward(g, x, "tanh"), [np.nan, 2, 0, 1, 1]),
        (F.silu_backward, [np.nan, 2, 0, 1, 1]),
        (lambda g, x: F.softplus_backward(g, x, 3.0), [np.nan, 2, 0, 1, 1]),
    ],
)
def test_gradients_at_special_values(backward, expected, dtype):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0] * 9, dtype)
    np.testing.assert_allclose(backward(np.full_like(x, 2), x), np.array(expected * 9, dtype), rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_selu_and_elu_keep_nan_and_infinities(dtype):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0] * 9, dtype)
    np.testing.assert_allclose(F.elu(x, 1.5), np.array([np.nan, np.inf, -1.5, 0, 0] * 9, dtype), rtol=1e-6)
    np.testing.assert_allclose(F.selu(x), np.array([np.nan, np.inf, -1.7580993408, 0, 0] * 9, dtype), rtol=1e-6)


def test_against_torch(x):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    peers = {
        "elu": functional.elu,
        "selu": functional.selu,
        "gelu": functional.gelu,
        "gelu tanh": lambda t: functional.gelu(t, approximate="tanh"),
        "silu": functional.silu,
        "softplus": lambda t: functional.softplus(t, threshold=1e9),
    }
    t, grad = torch.from_numpy(x).requires_grad_(), np.random.default_rng(4).standard_normal(x.shape)
    for name, peer in peers.items():
        forward, backward, keywords, _ = functions(name)
        theirs = peer(t)
        (their_grad,) = torch.autograd.grad(theirs, t, torch.from_numpy(grad))
        np.testing.assert_allclose(forward(x, **keywords), theirs.detach().numpy(), atol=1e-12)
        np.testing.assert_allclose(backward(grad, x, **keywords), their_grad.numpy(), atol=1e-12)


@pytest.mark.parametrize("shape", [(), (0,), (5,), (0, 3, 4, 4), (2, 3, 4)])
@pytest.mark.parametrize("name", OPS)
def test_any_number_of_dimensions(name, shape):
    forward, backward, keywords, _ = functions(name)
    x = np.ones(shape)
    assert forward(x, **keywords).shape == backward(x, x, **keywords).shape == shape


WRONG = [
    (lambda: F.gelu(np.ones(3, int)), TypeError, "gelu: `x` must be float32 or float64, got int64"),
    (lambda: F.gelu(np.ones(3), "erf"), ValueError, "gelu: `approximate` must be one of 'none', 'tanh', got 'erf'"),
    (lambda: F.elu(np.ones(3), "a"), TypeError, "elu: `alpha` must be a number, got 'a'"),
    (lambda: F.softplus(np.ones(3), 0), ValueError, "softplus: `beta` must be above 0, got 0"),
    (
        lambda: F.silu_backward(np.ones(2), np.ones(3)),
        ValueError,
        r"silu_backward: `grad_output` must have shape \(3,\) \(that of `x`\), got \(2,\)",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_wrong_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
