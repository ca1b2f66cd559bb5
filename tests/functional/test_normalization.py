import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cyconv
from cyconv import functional as F
from tests import numerical
from tests.memory_formats import FORMATS

CHANNELS = [1, 3, 16, 17, 64, 300]
TOLERANCE = {np.float32: 3e-5, np.float64: 1e-11}


def channelwise(x):
    """Return (N, C, H, W) or (N, C) as float64 [C, P]."""
    return np.moveaxis(x.astype(np.float64), 1, 0).reshape(x.shape[1], -1)


def along(values, x):
    """Return per-channel values shaped to broadcast against x."""
    return np.asarray(values, np.float64).reshape(1, -1, *(1,) * (x.ndim - 2))


def reference(x, mean, var, weight, bias, eps=1e-5):
    r = 1 / np.sqrt(along(var, x) + eps)
    return (x - along(mean, x)) * r * along(weight, x) + along(bias, x)


def reference_training(x, weight, bias, eps=1e-5):
    rows = channelwise(x)
    return reference(x, rows.mean(1), rows.var(1), weight, bias, eps)


def problem(C, dtype, shape=(5, 13, 11), seed=0):
    rng = np.random.default_rng(seed)
    N, H, W = shape
    x = rng.standard_normal((N, C, H, W)) * rng.uniform(0.5, 2, (C, 1, 1)) + rng.uniform(-3, 3, (C, 1, 1))
    return [array.astype(dtype) for array in (x, rng.standard_normal(C), rng.standard_normal(C))]


def for_threads(function):
    """Return the results for 1 thread after checking that 2 and 3 give the same bits."""
    results = []
    for threads in (1, 2, 3):
        with cyconv.num_threads(threads):
            results.append(function())
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(first, second)
    return results[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("C", CHANNELS)
def test_statistics(C, dtype, small_work_threaded):
    x, *_ = problem(C, dtype, (7, 31, 33))
    mean, var = for_threads(lambda: F.batch_norm_statistics(x))
    assert mean.dtype == var.dtype == np.float64
    np.testing.assert_allclose(mean, channelwise(x).mean(1), rtol=0, atol=TOLERANCE[dtype] / 50)
    np.testing.assert_allclose(var, channelwise(x).var(1), rtol=TOLERANCE[dtype] / 10)


@pytest.mark.parametrize("offset", [1e3, -1e5])
def test_statistics_far_from_zero(offset):
    x = (np.random.default_rng(1).standard_normal((8, 5, 64, 64)) + offset).astype(np.float32)
    mean, var = F.batch_norm_statistics(x)
    np.testing.assert_allclose(mean, channelwise(x).mean(1), rtol=1e-9)
    np.testing.assert_allclose(var, channelwise(x).var(1), rtol=1e-6)


def test_statistics_of_a_signal_that_drifts_and_jumps():
    """Each panel is centred on the mean of those before it: the worst case is a late jump."""
    ramp = np.linspace(-1000, 1000, 16 * 64 * 64).reshape(16, 1, 64, 64)
    jump = np.where(np.arange(16) < 15, 1.0, 1e4).reshape(16, 1, 1, 1) * (1 + 1e-3 * np.sin(ramp))
    x = np.concatenate([ramp, jump], axis=1).astype(np.float32)
    mean, var = F.batch_norm_statistics(x)
    np.testing.assert_allclose(mean, channelwise(x).mean(1), rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(var, channelwise(x).var(1), rtol=2e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("C", CHANNELS)
def test_training_forward(C, dtype, small_work_threaded):
    x, weight, bias = problem(C, dtype)
    running_mean, running_var = np.full(C, 2, dtype), np.full(C, 3, dtype)

    def forward():
        mean, var = running_mean.copy(), running_var.copy()
        return F.batch_norm(x, mean, var, weight, bias, training=True, momentum=0.3), mean, var

    y, mean, var = for_threads(forward)
    assert y.dtype == dtype
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(y, reference_training(x, weight, bias), atol=tolerance)
    np.testing.assert_allclose(mean, 0.7 * 2 + 0.3 * channelwise(x).mean(1), atol=tolerance)
    np.testing.assert_allclose(var, 0.7 * 3 + 0.3 * channelwise(x).var(1, ddof=1), rtol=tolerance)


@pytest.mark.parametrize("C", [3, 64])
def test_output_with_statistics_equals_the_two_apart(C, small_work_threaded):
    x, weight, bias = problem(C, np.float32, (7, 31, 33))
    y, mean, var = for_threads(lambda: F.batch_norm_with_statistics(x, weight, bias))
    np.testing.assert_array_equal((mean, var), F.batch_norm_statistics(x))
    np.testing.assert_array_equal(y, F.batch_norm(x, mean, var, weight, bias))
    np.testing.assert_array_equal(y, F.batch_norm(x, None, None, weight, bias, training=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fmt", FORMATS)
def test_memory_formats(fmt, dtype, small_work_threaded):
    x, weight, bias = problem(6, dtype)
    mean, var = channelwise(x).mean(1), channelwise(x).var(1)
    grad = np.random.default_rng(3).standard_normal(x.shape).astype(dtype)
    given_x, given_grad = FORMATS[fmt](x), FORMATS[fmt](grad)
    y = F.batch_norm(given_x, mean, var, weight, bias)
    assert y.dtype == dtype
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    assert not np.shares_memory(y, given_x)
    np.testing.assert_array_equal(y, F.batch_norm(x, mean, var, weight, bias))
    np.testing.assert_array_equal(F.batch_norm_statistics(given_x)[1], F.batch_norm_statistics(x)[1])
    expected = F.batch_norm_backward(grad, x, weight, mean, var)
    for result, same in zip(F.batch_norm_backward(given_grad, given_x, weight, mean, var), expected, strict=True):
        np.testing.assert_array_equal(result, same)
    np.testing.assert_array_equal(given_x, x)
    np.testing.assert_array_equal(given_grad, grad)


def test_running_statistics_may_be_big_endian_or_strided():
    x, weight, bias = problem(4, np.float32)
    mean, var = np.zeros(4, ">f4"), np.ones((4, 2))[:, 0]
    F.batch_norm(x, mean, var, weight, bias, training=True, momentum=1)
    np.testing.assert_allclose(mean, channelwise(x).mean(1), rtol=1e-5)
    np.testing.assert_allclose(var, channelwise(x).var(1, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(
        F.batch_norm(x, mean, var, weight, bias), reference(x, mean, var, weight, bias), atol=1e-5
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_read_only_arrays(dtype):
    x, weight, bias = problem(4, dtype)
    mean, var = channelwise(x).mean(1).astype(dtype), channelwise(x).var(1).astype(dtype)
    expected = F.batch_norm(x, mean, var, weight, bias)
    for array in (x, mean, var, weight, bias):
        array.flags.writeable = False
    np.testing.assert_array_equal(F.batch_norm(x, mean, var, weight, bias), expected)
    np.testing.assert_array_equal(F.batch_norm_relu(x, mean, var, weight, bias), np.maximum(expected, 0))
    assert F.batch_norm_backward(x, x, weight, mean, var)[0].shape == x.shape


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("shape", [(3, 4, 2, 3), (5, 4)])
def test_backward_equals_central_differences(shape, relu, training):
    rng = np.random.default_rng(4)
    x, grad = rng.standard_normal(shape) + 2, rng.standard_normal(shape)
    weight, bias = rng.uniform(0.5, 2, 4), rng.standard_normal(4)
    rows = channelwise(x)
    mean, var = (rows.mean(1), rows.var(1)) if training else (rng.standard_normal(4), rng.uniform(1, 2, 4))

    def loss(x, weight, bias):
        moments = (channelwise(x).mean(1), channelwise(x).var(1)) if training else (mean, var)
        y = reference(x, *moments, weight, bias)
        return ((np.maximum(y, 0) if relu else y) * grad).sum()

    if relu:
        result = F.batch_norm_relu_backward(grad, x, weight, bias, mean, var, training=training)
    else:
        result = F.batch_norm_backward(grad, x, weight, mean, var, training=training)
    expected = (
        numerical.gradient(lambda x: loss(x, weight, bias), x),
        numerical.gradient(lambda weight: loss(x, weight, bias), weight),
        numerical.gradient(lambda bias: loss(x, weight, bias), bias),
    )
    for gradient, numeric in zip(result, expected, strict=True):
        np.testing.assert_allclose(gradient, numeric, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("C", CHANNELS)
def test_backward_formula(C, dtype, small_work_threaded):
    x, weight, _ = problem(C, dtype, (7, 31, 33))
    grad = np.random.default_rng(5).standard_normal(x.shape).astype(dtype)
    mean, var = channelwise(x).mean(1), channelwise(x).var(1)
    grad_x, grad_weight, grad_bias = for_threads(lambda: F.batch_norm_backward(grad, x, weight, mean, var))
    normalized, rows = channelwise(reference(x, mean, var, np.ones(C), np.zeros(C))), channelwise(grad)
    count = rows.shape[1]
    scale, total = np.sqrt(count), TOLERANCE[dtype]
    np.testing.assert_allclose(grad_bias / scale, rows.sum(1) / scale, atol=total)
    np.testing.assert_allclose(grad_weight / scale, (rows * normalized).sum(1) / scale, atol=total)
    inner = rows - rows.mean(1)[:, None] - normalized * (rows * normalized).mean(1)[:, None]
    expected = inner * (weight / np.sqrt(var + 1e-5))[:, None]
    np.testing.assert_allclose(channelwise(grad_x), expected, atol=total)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("C", [3, 64])
def test_fused_equals_separate(C, dtype, small_work_threaded):
    x, weight, bias = problem(C, dtype)
    residual, grad = (np.random.default_rng(seed).standard_normal(x.shape).astype(dtype) for seed in (6, 7))
    mean, var = F.batch_norm_statistics(x)
    plain = F.batch_norm(x, mean, var, weight, bias)
    y = F.batch_norm_relu(x, mean, var, weight, bias)
    np.testing.assert_array_equal(y, F.relu(plain))
    both = F.batch_norm_relu(x, mean, var, weight, bias, residual=FORMATS["contiguous"](residual))
    np.testing.assert_array_equal(both, F.relu(plain + residual))
    for training in (True, False):
        fused = for_threads(lambda t=training: F.batch_norm_relu_backward(grad, x, weight, bias, mean, var, training=t))
        apart = F.batch_norm_backward(F.relu_backward(grad, y), x, weight, mean, var, training=training)
        for first, second in zip(fused, apart, strict=True):
            np.testing.assert_array_equal(first, second)


def test_without_weight_and_bias():
    x, *_ = problem(3, np.float64)
    y = F.batch_norm(x, None, None, training=True)
    np.testing.assert_allclose(y, reference_training(x, np.ones(3), np.zeros(3)), atol=1e-12)
    grad_x, grad_weight, grad_bias = F.batch_norm_backward(y, x, None, *F.batch_norm_statistics(x))
    assert grad_weight is None
    assert grad_bias.shape == (3,)
    expected = F.batch_norm_backward(y, x, np.ones(3), *F.batch_norm_statistics(x))[0]
    np.testing.assert_array_equal(grad_x, expected)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (0, 3), (2, 0, 4, 4), (2, 3, 0, 4)])
def test_empty(shape):
    x, C = np.ones(shape, np.float32), shape[1]
    ones, zeros = np.ones(C, np.float32), np.zeros(C, np.float32)
    mean, var = zeros.copy(), ones.copy()
    assert F.batch_norm(x, mean, var, ones, zeros, training=True).shape == shape
    np.testing.assert_array_equal(mean, zeros)
    np.testing.assert_array_equal(var, ones)
    assert F.batch_norm(x, mean, var, ones, zeros).shape == shape
    grad_x, grad_weight, grad_bias = F.batch_norm_backward(x, x, ones, *F.batch_norm_statistics(x))
    assert grad_x.shape == shape
    np.testing.assert_array_equal(grad_weight, zeros)
    np.testing.assert_array_equal(grad_bias, zeros)


def test_nan_and_infinity_stay_in_their_channel():
    x, weight, bias = problem(3, np.float32)
    x[0, 0, 0, 0], x[0, 1, 0, 0] = np.nan, np.inf
    mean, var = F.batch_norm_statistics(x)
    assert np.isnan(mean[0])
    assert not np.isfinite(mean[1])
    assert np.isfinite(mean[2])
    y = F.batch_norm(x, None, None, weight, bias, training=True)
    assert np.isnan(y[:, :2]).all()
    assert np.isfinite(y[:, 2]).all()
    assert np.isnan(F.batch_norm_relu(x, mean, var, weight, bias)[:, :2]).all()


@given(st.tuples(*(st.integers(0, 9) for _ in range(4))), st.integers(0, 2**32 - 1))
def test_random_shapes(shape, seed):
    N, C, H, W = shape
    x, weight, bias = problem(C, np.float64, (N, H, W), seed)
    if N * H * W == 1:
        return
    y = F.batch_norm(x, None, None, weight, bias, training=True)
    assert y.shape == shape
    if x.size:
        np.testing.assert_allclose(y, reference_training(x, weight, bias), atol=1e-9)


def test_against_torch():
    torch = pytest.importorskip("torch")
    x, weight, bias = problem(5, np.float64)
    grad = np.random.default_rng(8).standard_normal(x.shape)
    for training in (True, False):
        ours = np.full(5, 0.5), np.full(5, 2.0)
        theirs = [torch.from_numpy(array.copy()) for array in ours]
        inputs = [torch.from_numpy(array).requires_grad_() for array in (x, weight, bias)]
        y = torch.nn.functional.batch_norm(inputs[0], *theirs, *inputs[1:], training=training)
        mean, var = F.batch_norm_statistics(x) if training else [array.copy() for array in ours]
        np.testing.assert_allclose(F.batch_norm(x, *ours, weight, bias, training), y.detach().numpy(), atol=1e-12)
        for mine, their in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, their.numpy(), rtol=1e-13)
        gradients = F.batch_norm_backward(grad, x, weight, mean, var, training=training)
        for mine, their in zip(gradients, torch.autograd.grad(y, inputs, torch.from_numpy(grad)), strict=True):
            np.testing.assert_allclose(mine, their.numpy(), atol=1e-10)


def test_errors():
    x = np.ones((2, 3, 4, 4), np.float32)
    ones = np.ones(3, np.float32)
    with pytest.raises(ValueError, match=r"batch_norm: `x` must have 2, 3, 4 or 5 dimensions, got shape \(3,\)"):
        F.batch_norm(ones, ones, ones)
    with pytest.raises(ValueError, match=r"batch_norm: `weight` must have shape \(3,\) \(one per channel of `x`"):
        F.batch_norm(x, ones, ones, ones[:2])
    with pytest.raises(
        TypeError, match=r"batch_norm: all arrays must have the same dtype, got `x` float32, `weight` fl"
    ):
        F.batch_norm(x, ones, ones, np.ones(3))
    with pytest.raises(ValueError, match=r"batch_norm: `running_mean` and `running_var` are needed unless `training`"):
        F.batch_norm(x, None, None)
    with pytest.raises(ValueError, match=r"batch_norm: more than 1 value per channel is needed when `training`"):
        F.batch_norm(x[:1, :, :1, :1], None, None, training=True)
    with pytest.raises(ValueError, match=r"batch_norm_with_statistics: more than 1 value per channel is needed"):
        F.batch_norm_with_statistics(x[:1, :, :1, :1])
    with pytest.raises(
        TypeError, match=r"batch_norm: `running_var` must be a writeable ndarray when `training`, got l"
    ):
        F.batch_norm(x, ones, [1.0, 1.0, 1.0], training=True)
    with pytest.raises(ValueError, match=r"batch_norm: `momentum` must be at least 0 and at most 1, got 2"):
        F.batch_norm(x, ones, ones, momentum=2)
    with pytest.raises(ValueError, match=r"batch_norm: `eps` must be above 0, got 0"):
        F.batch_norm(x, ones, ones, eps=0)
    with pytest.raises(
        ValueError, match=r"batch_norm_backward: `grad_output` must have shape \(2, 3, 4, 4\) \(that of"
    ):
        F.batch_norm_backward(x[:1], x, ones, ones, ones)
    with pytest.raises(ValueError, match=r"batch_norm_relu_backward: `bias` must have shape \(3,\) \(one per"):
        F.batch_norm_relu_backward(x, x, ones, ones[:1], ones, ones)
    with pytest.raises(ValueError, match=r"batch_norm_relu: `residual` must have shape \(2, 3, 4, 4\) \(that of `x`\)"):
        F.batch_norm_relu(x, ones, ones, residual=x[:1])
    with pytest.raises(TypeError, match=r"batch_norm_statistics: `x` must be float32 or float64, got int64"):
        F.batch_norm_statistics(np.ones((2, 3), np.int64))
