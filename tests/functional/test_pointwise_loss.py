import numpy as np
import pytest

from cyconv import functional as F
from tests import numerical
from tests.memory_formats import FORMATS

RNG = np.random.default_rng(0)
X, T, YES = RNG.standard_normal((3, 4)) * 2, RNG.standard_normal((3, 4)), RNG.uniform(0, 1, (3, 4))
WEIGHT, POS_WEIGHT = RNG.uniform(0.5, 2, (3, 1)), RNG.uniform(0.5, 2, 4)
IMAGE = RNG.standard_normal((2, 3, 4, 5))


def smooth_l1(x, t, beta=1.0):
    distance = np.abs(x - t)
    return np.where(distance < beta, distance**2 / (2 * beta or 1), distance - beta / 2)


def binary(x, t, weight=1.0, pos_weight=1.0):
    yes = 1 / (1 + np.exp(-x))
    return -weight * (pos_weight * t * np.log(yes) + (1 - t) * np.log(1 - yes))


OPS = [
    ("mse_loss", T, {}, lambda x, t: (x - t) ** 2),
    ("smooth_l1_loss", T, {}, smooth_l1),
    ("smooth_l1_loss", T, {"beta": 0.3}, smooth_l1),
    ("smooth_l1_loss", T, {"beta": 0.0}, smooth_l1),
    ("binary_cross_entropy_with_logits", YES, {}, binary),
    ("binary_cross_entropy_with_logits", YES, {"weight": WEIGHT}, binary),
    ("binary_cross_entropy_with_logits", YES, {"weight": WEIGHT, "pos_weight": POS_WEIGHT}, binary),
]
REDUCE = {"mean": np.mean, "sum": np.sum, "none": np.asarray}
CASES = pytest.mark.parametrize(("op", "target", "options", "reference"), OPS)


def cast(options, dtype):
    return {k: v.astype(dtype) if isinstance(v, np.ndarray) else v for k, v in options.items()}


@CASES
@pytest.mark.parametrize("reduction", REDUCE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_and_gradients(op, target, options, reference, reduction, dtype):
    forward, backward = getattr(F, op), getattr(F, f"{op}_backward")
    x, t, tolerance = X.astype(dtype), target.astype(dtype), 1e-6 if dtype == np.float32 else 1e-12
    result = forward(x, t, reduction, **cast(options, dtype))
    np.testing.assert_allclose(
        result, REDUCE[reduction](reference(X, target, **options)), rtol=10 * tolerance, atol=tolerance
    )
    assert result.dtype == dtype if reduction == "none" else type(result) is float
    grad = RNG.standard_normal(X.shape) if reduction == "none" else 0.7
    expected = numerical.gradient(lambda x: (grad * REDUCE[reduction](reference(x, target, **options))).sum(), X)
    grad = grad.astype(dtype) if reduction == "none" else grad
    gradient = backward(grad, x, t, reduction, **cast(options, dtype))
    assert gradient.dtype == dtype
    np.testing.assert_allclose(gradient, expected, atol=1e-7 if dtype == np.float64 else 2e-6)


@CASES
def test_they_are_pytorchs(op, target, options, reference):
    torch = pytest.importorskip("torch")
    for reduction in ("mean", "sum"):
        x = torch.tensor(X).requires_grad_()
        theirs = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        loss = getattr(torch.nn.functional, op)(x, torch.tensor(target), reduction=reduction, **theirs)
        loss.backward()
        assert getattr(F, op)(X, target, reduction, **options) == pytest.approx(loss.item(), rel=1e-12)
        gradient = getattr(F, f"{op}_backward")(1.0, X, target, reduction, **options)
        np.testing.assert_allclose(gradient, x.grad.numpy(), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("op", ["mse_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits"])
def test_memory_order_is_kept_and_arguments_left_alone(op):
    x = np.ascontiguousarray(IMAGE.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    t = np.abs(IMAGE) % 1
    x.flags.writeable = t.flags.writeable = False
    for array in (x, t):
        before = array.copy()
        losses = getattr(F, op)(x, t, "none")
        gradient = getattr(F, f"{op}_backward")(1.0, x, t)
        np.testing.assert_array_equal(array, before)
    assert gradient.transpose(0, 2, 3, 1).flags.c_contiguous
    assert losses.shape == x.shape
    np.testing.assert_array_equal(gradient, getattr(F, f"{op}_backward")(1.0, IMAGE, t))
    empty = np.zeros((0, 3))
    assert np.isnan(getattr(F, op)(empty, empty))
    assert getattr(F, f"{op}_backward")(1.0, empty, empty).shape == (0, 3)


def test_large_scores_do_not_overflow():
    x, t = np.array([1e4, -1e4, 1e4, -1e4]), np.array([1.0, 0.0, 0.0, 1.0])
    np.testing.assert_array_equal(F.binary_cross_entropy_with_logits(x, t, "none"), [0, 0, 1e4, 1e4])
    np.testing.assert_array_equal(F.binary_cross_entropy_with_logits_backward(1.0, x, t, "sum"), [0, 0, 1, -1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.smooth_l1_loss(X, T[:2]), r"smooth_l1_loss: `target` must have shape \(3, 4\)"),
        (lambda: F.smooth_l1_loss(X, T, beta=-1), "smooth_l1_loss: `beta` must be at least 0, got -1"),
        (lambda: F.smooth_l1_loss(X, T, "max"), "smooth_l1_loss: `reduction` must be one of"),
        (lambda: F.smooth_l1_loss_backward(np.ones(2), X, T, "none"), "smooth_l1_loss_backward: `grad_output` must"),
        (
            lambda: F.binary_cross_entropy_with_logits(X, YES, weight=np.ones(3)),
            r"binary_cross_entropy_with_logits: `weight` must broadcast to the shape of `x`, \(3, 4\), got \(3,\)",
        ),
        (
            lambda: F.binary_cross_entropy_with_logits(X, YES, pos_weight=np.ones(4, np.float32)),
            "binary_cross_entropy_with_logits: all arrays must have the same dtype",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("loss", [F.mse_loss, F.smooth_l1_loss, F.binary_cross_entropy_with_logits])
def test_sums_are_the_same_in_any_memory_order(loss, reduction):
    x, target = np.random.default_rng(7).random((2, 3, 5, 60, 70))
    expected = loss(x, target, reduction)
    for change in FORMATS.values():
        assert loss(change(x), target, reduction) == loss(x, change(target), reduction) == expected
