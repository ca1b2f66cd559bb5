import numpy as np
import pytest

from cyconv import functional as F
from tests import numerical

RNG = np.random.default_rng(0)
P = RNG.uniform(0, 1, (2, 3, 4, 5))
T = (RNG.uniform(0, 1, P.shape) > 0.5).astype(float)
REDUCE = {"mean": np.mean, "sum": np.sum, "none": np.asarray}


def reference(p, t, smooth=1.0):
    losses = np.empty(p.shape[:2])
    for n, c in np.ndindex(losses.shape):
        shared = sum(a * b for a, b in zip(p[n, c].flat, t[n, c].flat, strict=True))
        losses[n, c] = 1 - (2 * shared + smooth) / (sum(p[n, c].flat) + sum(t[n, c].flat) + smooth)
    return losses


@pytest.mark.parametrize("reduction", REDUCE)
@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_and_gradients(reduction, smooth, dtype):
    result = F.dice_loss(P.astype(dtype), T.astype(dtype), reduction, smooth=smooth)
    np.testing.assert_allclose(result, REDUCE[reduction](reference(P, T, smooth)), rtol=1e-6)
    grad = RNG.standard_normal((2, 3)) if reduction == "none" else 0.7
    expected = numerical.gradient(lambda p: (grad * REDUCE[reduction](reference(p, T, smooth))).sum(), P)
    grad = grad.astype(dtype) if reduction == "none" else grad
    gradient = F.dice_loss_backward(grad, P.astype(dtype), T.astype(dtype), reduction, smooth=smooth)
    assert gradient.dtype == dtype
    np.testing.assert_allclose(gradient, expected, atol=1e-8 if dtype == np.float64 else 1e-6)


def test_it_is_pytorchs_algebra():
    torch = pytest.importorskip("torch")
    p, t = torch.tensor(P).requires_grad_(), torch.tensor(T)
    shared, sizes = (p * t).sum((2, 3)), p.sum((2, 3)) + t.sum((2, 3))
    loss = (1 - (2 * shared + 1) / (sizes + 1)).mean()
    loss.backward()
    assert F.dice_loss(P, T) == pytest.approx(loss.item(), rel=1e-12)
    np.testing.assert_allclose(F.dice_loss_backward(1.0, P, T), p.grad.numpy(), rtol=1e-10)


def test_extremes():
    nothing = np.zeros((1, 1, 2, 2))
    assert F.dice_loss(nothing, nothing, smooth=0) == 0
    np.testing.assert_array_equal(F.dice_loss_backward(1.0, nothing, nothing, smooth=0), nothing)
    assert F.dice_loss(T, T) == 0
    assert F.dice_loss(T, 1 - T, smooth=0) == 1
    assert np.isnan(F.dice_loss(P[:0], T[:0]))
    assert F.dice_loss_backward(1.0, P[:0], T[:0]).shape == (0, 3, 4, 5)
    rows = F.dice_loss(P[:, :, 0, 0], T[:, :, 0, 0], "none")  # vectors are regions of one pixel
    np.testing.assert_allclose(rows, reference(P[:, :, :1, :1], T[:, :, :1, :1]))
    pixels = np.ascontiguousarray(P.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    gradient = F.dice_loss_backward(1.0, pixels, T)
    assert gradient.transpose(0, 2, 3, 1).flags.c_contiguous
    np.testing.assert_allclose(gradient, F.dice_loss_backward(1.0, P, T))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.dice_loss(P[0], T[0]), "dice_loss: `probabilities` must have 2 or 4 dimensions"),
        (lambda: F.dice_loss(P, T[:1]), "dice_loss: `target` must have shape"),
        (lambda: F.dice_loss(P, T.astype(np.float32)), "dice_loss: all arrays must have the same dtype"),
        (lambda: F.dice_loss(P, T, "max"), "dice_loss: `reduction` must be one of"),
        (lambda: F.dice_loss(P, T, smooth=-1), "dice_loss: `smooth` must be at least 0, got -1"),
        (lambda: F.dice_loss_backward(np.ones(2), P, T, "none"), "dice_loss_backward: `grad_output` must have shape"),
    ],
)
def test_errors(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
