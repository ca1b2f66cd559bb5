import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cyconv
from cyconv import functional as F
from tests import numerical
from tests.memory_formats import FORMATS

SHAPES = [(7, 10), (3, 1000), (2, 21, 5, 7)]
SETTINGS = [
    {},
    {"weight": True},
    {"label_smoothing": 0.1},
    {"ignore_index": 1},
    {"weight": True, "label_smoothing": 0.3, "ignore_index": 0},
]


def problem(shape, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    N, K, *image = shape
    logits = rng.standard_normal(shape) * 3
    return logits.astype(dtype), rng.integers(0, K, (N, *image)), rng.uniform(0.5, 2, K).astype(dtype)


def keywords(settings, weight):
    return {**settings, "weight": weight if settings.get("weight") else None}


def reference(logits, target, reduction, weight=None, ignore_index=-100, label_smoothing=0.0):
    logits = np.moveaxis(logits.astype(np.float64), 1, -1)
    K = logits.shape[-1]
    w = np.ones(K) if weight is None else weight.astype(np.float64)
    top = logits.max(-1, keepdims=True)
    minus_log = np.log(np.exp(logits - top).sum(-1, keepdims=True)) + top - logits
    counted = target != ignore_index
    label = np.where(counted, target, 0)
    hard = w[label] * np.take_along_axis(minus_log, label[..., None], -1)[..., 0]
    losses = ((1 - label_smoothing) * hard + label_smoothing / K * (minus_log * w).sum(-1)) * counted
    if reduction == "none":
        return losses
    return losses.sum() / ((w[label] * counted).sum() if reduction == "mean" else 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(settings) or "plain")
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy(shape, settings, reduction, dtype, small_work_threaded):
    logits, target, weight = problem(shape, dtype)
    settings = keywords(settings, weight)
    results = []
    for threads in (1, 2, 3):
        with cyconv.num_threads(threads):
            results.append(F.cross_entropy(logits, target, reduction, **settings))
    expected = reference(logits, target, reduction, **settings)
    np.testing.assert_allclose(results[0], expected, rtol=3e-6 if dtype == np.float32 else 1e-13)
    assert all(np.array_equal(results[0], other) for other in results)
    if reduction == "none":
        assert results[0].dtype == dtype
    else:
        assert type(results[0]) is float


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(settings) or "plain")
@pytest.mark.parametrize("shape", [(4, 5), (2, 18), (2, 3, 2, 2)])
def test_cross_entropy_backward(shape, settings, reduction, small_work_threaded):
    logits, target, weight = problem(shape)
    settings = keywords(settings, weight)
    grad = np.random.default_rng(1).standard_normal(target.shape) if reduction == "none" else 0.7
    expected = numerical.gradient(lambda x: (grad * reference(x, target, reduction, **settings)).sum(), logits)
    results = []
    for threads in (1, 2, 3):
        with cyconv.num_threads(threads):
            results.append(F.cross_entropy_backward(grad, logits, target, reduction, **settings))
    np.testing.assert_allclose(results[0], expected, atol=1e-8)
    assert all(np.array_equal(results[0], other) for other in results)
    settings["weight"] = None if settings["weight"] is None else weight.astype(np.float32)
    grad = grad.astype(np.float32) if reduction == "none" else grad
    single = F.cross_entropy_backward(grad, logits.astype(np.float32), target, reduction, **settings)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, atol=2e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fmt", FORMATS)
def test_memory_formats(fmt, dtype):
    logits, target, weight = problem((2, 5, 3, 4), dtype)
    other, _, _ = problem((2, 5, 3, 4), dtype, 1)
    formatted, formatted_other = FORMATS[fmt](logits), FORMATS[fmt](other)
    strided = np.repeat(target, 2, axis=2).astype(np.uint8)[:, :, ::2]
    assert F.cross_entropy(formatted, strided, weight=weight) == F.cross_entropy(logits, target, weight=weight)
    result = F.cross_entropy_backward(1.0, formatted, strided)
    np.testing.assert_array_equal(result, F.cross_entropy_backward(1.0, logits, target))
    np.testing.assert_array_equal(formatted, logits)
    expected = ((logits.astype(np.float64) - other) ** 2).mean()
    np.testing.assert_allclose(F.mse_loss(formatted, formatted_other), expected, rtol=1e-6)
    result = F.mse_loss_backward(1.0, formatted, formatted_other)
    np.testing.assert_allclose(result, 2 * (logits - other) / logits.size, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logits(dtype):
    top = np.finfo(dtype).max / 4
    logits = np.array([[top, -top], [top, -top], [0, -1000]], dtype)
    losses = F.cross_entropy(logits, [0, 1, 1], "none")
    np.testing.assert_allclose(losses, [0, 2 * float(top), 1000], rtol=1e-6)
    assert np.isfinite(F.cross_entropy_backward(1.0, logits, [0, 1, 1])).all()
    logits[0, 0] = np.nan
    assert np.isnan(F.cross_entropy(logits, [1, 1, 1]))


def test_nothing_counts():
    logits, target, _ = problem((4, 3))
    assert np.isnan(F.cross_entropy(logits, np.full(4, -100)))
    assert F.cross_entropy(logits, np.full(4, -100), "sum") == 0
    np.testing.assert_array_equal(F.cross_entropy_backward(1.0, logits, np.full(4, -100)), np.zeros((4, 3)))
    assert np.isnan(F.cross_entropy(logits[:0], target[:0]))
    assert F.cross_entropy(logits[:0], target[:0], "none").shape == (0,)
    assert F.cross_entropy_backward(1.0, logits[:0], target[:0]).shape == (0, 3)
    assert np.isnan(F.mse_loss(logits[:0], logits[:0]))
    assert F.mse_loss(logits[:0], logits[:0], "sum") == 0
    assert F.mse_loss_backward(1.0, logits[:0], logits[:0]).shape == (0, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse_loss(reduction, dtype, small_work_threaded):
    rng = np.random.default_rng(2)
    x, target = (rng.standard_normal((3, 5, 37, 41)).astype(dtype) for _ in range(2))
    grad = rng.standard_normal(x.shape).astype(dtype) if reduction == "none" else 0.7
    difference = x.astype(np.float64) - target
    losses = {"mean": (difference**2).mean(), "sum": (difference**2).sum(), "none": difference**2}
    results = []
    for threads in (1, 2, 3):
        with cyconv.num_threads(threads):
            results.append((F.mse_loss(x, target, reduction), F.mse_loss_backward(grad, x, target, reduction)))
    tolerance = 1e-6 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(results[0][0], losses[reduction], rtol=tolerance)
    expected = 2 * grad * difference / (x.size if reduction == "mean" else 1)
    np.testing.assert_allclose(results[0][1], expected, rtol=tolerance, atol=tolerance * 1e-3)
    for loss, gradient in results[1:]:
        np.testing.assert_array_equal(loss, results[0][0])
        np.testing.assert_array_equal(gradient, results[0][1])


@given(st.integers(0, 40), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_random_shapes(N, K, seed):
    logits, target, _ = problem((N, K), seed=seed)
    losses = F.cross_entropy(logits, target, "none")
    np.testing.assert_allclose(losses, reference(logits, target, "none"), rtol=1e-12, atol=1e-14)
    gradient = F.cross_entropy_backward(np.ones(N), logits, target, "none")
    np.testing.assert_allclose(gradient.sum(1), 0, atol=1e-13)


def test_against_torch():
    torch = pytest.importorskip("torch")
    for shape in SHAPES:
        logits, target, weight = problem(shape)
        for settings in SETTINGS:
            for reduction in ("mean", "sum"):
                chosen = keywords(settings, weight)
                peer = {**chosen, "weight": None if chosen["weight"] is None else torch.from_numpy(weight)}
                t = torch.from_numpy(logits).requires_grad_()
                loss = torch.nn.functional.cross_entropy(t, torch.from_numpy(target), reduction=reduction, **peer)
                loss.backward()
                ours = F.cross_entropy(logits, target, reduction, **chosen)
                np.testing.assert_allclose(ours, loss.item(), rtol=1e-12)
                gradient = F.cross_entropy_backward(1.0, logits, target, reduction, **chosen)
                np.testing.assert_allclose(gradient, t.grad.numpy(), atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(settings) or "plain")
def test_sample_weights(shape, settings):
    logits, target, weight = problem(shape)
    settings = keywords(settings, weight)
    samples = np.random.default_rng(1).uniform(0, 2, target.shape)
    each = reference(logits, target, "none", **settings) * samples
    ignored = settings.get("ignore_index", -100)
    norm = (samples * (1 if settings["weight"] is None else weight[target]))[target != ignored].sum()
    for reduction, expected in (("none", each), ("sum", each.sum()), ("mean", each.sum() / norm)):
        result = F.cross_entropy(logits, target, reduction, sample_weight=samples, **settings)
        np.testing.assert_allclose(result, expected, rtol=1e-12)
    by_hand = F.cross_entropy_backward(samples / norm, logits, target, "none", **settings)
    ours = F.cross_entropy_backward(1.0, logits, target, sample_weight=samples, **settings)
    np.testing.assert_allclose(ours, by_hand, rtol=1e-12, atol=1e-15)
    with pytest.raises(ValueError, match="cross_entropy: `sample_weight` must have shape"):
        F.cross_entropy(logits, target, sample_weight=samples[:1])


def test_errors():
    logits, target, weight = problem((3, 4))
    with pytest.raises(ValueError, match=r"cross_entropy: `target` must be 0 to 3, got 4 at \(1,\)"):
        F.cross_entropy(logits, [0, 4, -1])
    with pytest.raises(ValueError, match=r"cross_entropy_backward: `target` must be 0 to 1, got -1 at \(0, 1, 0\)"):
        F.cross_entropy_backward(1.0, np.ones((1, 2, 2, 2)), [[[0, 1], [-1, 0]]])
    with pytest.raises(TypeError, match=r"cross_entropy: `target` must be integers, got float64"):
        F.cross_entropy(logits, np.ones(3))
    with pytest.raises(ValueError, match=r"cross_entropy: `target` must have shape \(3,\) \(one label for each of"):
        F.cross_entropy(logits, target[:2])
    with pytest.raises(ValueError, match=r"cross_entropy: `logits` must have 2 or 4 dimensions, got shape \(3,\)"):
        F.cross_entropy(np.ones(3), target)
    with pytest.raises(
        ValueError, match=r"cross_entropy: `weight` must have shape \(4,\) \(one per class\), got \(3,\)"
    ):
        F.cross_entropy(logits, target, weight=weight[:3])
    with pytest.raises(
        TypeError, match=r"cross_entropy: all arrays must have the same dtype, got `logits` float64, `w"
    ):
        F.cross_entropy(logits, target, weight=weight.astype(np.float32))
    with pytest.raises(ValueError, match=r"cross_entropy: `label_smoothing` must be at least 0 and at most 1, got 2"):
        F.cross_entropy(logits, target, label_smoothing=2)
    with pytest.raises(ValueError, match=r"cross_entropy: `reduction` must be one of 'mean', 'sum', 'none', got 'max'"):
        F.cross_entropy(logits, target, "max")
    with pytest.raises(
        ValueError, match=r"cross_entropy_backward: `grad_output` must have shape \(3,\) \(that of `targe"
    ):
        F.cross_entropy_backward(np.ones(2), logits, target, "none")
    with pytest.raises(ValueError, match=r"mse_loss: `target` must have shape \(3, 4\) \(that of `x`\), got \(2, 4\)"):
        F.mse_loss(logits, logits[:2])
    with pytest.raises(ValueError, match=r"mse_loss_backward: `reduction` must be one of"):
        F.mse_loss_backward(1.0, logits, logits, "max")
    with pytest.raises(
        TypeError, match=r"mse_loss: all arrays must have the same dtype, got `x` float64, `target` flo"
    ):
        F.mse_loss(logits, logits.astype(np.float32))
