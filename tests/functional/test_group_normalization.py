import numpy as np
import pytest

import cyconv
from cyconv import functional as F
from cyconv.gradient_check import check_gradients
from tests.memory_formats import FORMATS


def normalized(x, axes, eps=1e-5):
    x = x.astype(np.float64)
    return (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + eps)


def group_norm(x, groups, weight, bias, eps=1e-5):
    N, C = x.shape[:2]
    split = x.reshape(N, groups, C // groups, *x.shape[2:])
    y = normalized(split, tuple(range(2, split.ndim)), eps).reshape(x.shape)
    shape = (1, C, *(1 for _ in x.shape[2:]))
    return y * weight.astype(np.float64).reshape(shape) + bias.astype(np.float64).reshape(shape)


def parameters(shape, dtype=np.float64):
    rng = np.random.default_rng(9)
    return rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_norm_equals_reference(groups, fmt, dtype, small_work_threaded):
    x = (np.random.default_rng(0).standard_normal((3, 6, 5, 7)) * 3 + 5).astype(dtype)
    weight, bias = parameters(6, dtype)
    results = []
    for threads in (1, 2, 3):
        with cyconv.num_threads(threads):
            results.append(F.group_norm(FORMATS[fmt](x), groups, weight, bias))
    assert results[0].dtype == dtype
    assert all(np.array_equal(results[0], other) for other in results)
    tolerance = {np.float32: 5e-6, np.float64: 1e-13}[dtype]
    np.testing.assert_allclose(results[0], group_norm(x, groups, weight, bias), rtol=tolerance, atol=tolerance)
    if groups == 6:
        np.testing.assert_array_equal(F.instance_norm(FORMATS[fmt](x), weight, bias), results[0])


@pytest.mark.parametrize("shape", [(4, 6), (2, 6, 5), (2, 6, 3, 4), (2, 6, 2, 3, 2)])
def test_gradients(shape):
    x = np.random.default_rng(1).standard_normal(shape) * 2 + 1
    weight, bias = parameters(6)
    for groups in (1, 2, 3):
        keywords = {"num_groups": groups}
        check_gradients(_group, x, weight, bias, backward=_group_backward, **keywords)
    if len(shape) > 2:
        check_gradients(F.instance_norm, x, weight, bias, backward=F.instance_norm_backward)
    for axes in range(1, len(shape)):
        inner = shape[axes:]
        check_gradients(_layer, x, *parameters(inner), backward=_layer_backward, normalized_shape=inner)


def _group(x, weight, bias, num_groups):
    return F.group_norm(x, num_groups, weight, bias)


def _group_backward(grad, x, weight, bias, num_groups):
    return F.group_norm_backward(grad, x, num_groups, weight, bias)


def _layer(x, weight, bias, normalized_shape):
    return F.layer_norm(x, normalized_shape, weight, bias)


def _layer_backward(grad, x, weight, bias, normalized_shape):
    return F.layer_norm_backward(grad, x, normalized_shape, weight, bias)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_layer_norm_equals_reference(axes, fmt, small_work_threaded):
    x = np.random.default_rng(2).standard_normal((3, 6, 5, 7)) * 3 + 5
    weight, bias = parameters(x.shape[axes:])
    found = F.layer_norm(FORMATS[fmt](x), x.shape[axes:], FORMATS[fmt](weight) if axes == 0 else weight, bias)
    np.testing.assert_allclose(found, normalized(x, tuple(range(axes, 4))) * weight + bias, atol=1e-12)


def test_without_parameters():
    x = np.random.default_rng(3).standard_normal((2, 4, 3, 3))
    assert F.group_norm_backward(x, x, 2)[1:] == (None, None)
    assert F.layer_norm_backward(x, x, 3)[1:] == (None, None)
    np.testing.assert_allclose(F.instance_norm(x), normalized(x, (2, 3)), atol=1e-13)


def test_a_mean_far_from_zero_costs_no_accuracy():
    x = np.random.default_rng(4).standard_normal((2, 4, 100, 101)).astype(np.float32) + np.float32(1000)
    ones, zeros = np.ones(4, np.float32), np.zeros(4, np.float32)
    np.testing.assert_allclose(F.group_norm(x, 2), group_norm(x, 2, ones, zeros), atol=2e-4)
    assert np.abs(F.group_norm(x, 2).mean(axis=(2, 3), dtype=np.float64).reshape(2, 2, 2).sum(axis=2)).max() < 1e-5


def test_large_images_in_chunks():
    rng = np.random.default_rng(5)
    x, grad = rng.standard_normal((2, 1, 6, 150, 201))
    weight, bias = parameters(6)
    np.testing.assert_allclose(F.group_norm(x, 3, weight, bias), group_norm(x, 3, weight, bias), atol=1e-12)
    by_weight, by_bias = F.group_norm_backward(grad, x, 3, weight, bias)[1:]
    np.testing.assert_allclose(by_bias, grad.sum(axis=(0, 2, 3)), rtol=1e-10)
    plain = group_norm(x, 3, np.ones(6), np.zeros(6))
    np.testing.assert_allclose(by_weight, (grad * plain).sum(axis=(0, 2, 3)), rtol=1e-9)


def test_empty_batch():
    x, ones = np.zeros((0, 4, 3, 3)), np.ones(4)
    assert F.group_norm(x, 2).shape == x.shape
    assert [a.shape for a in F.group_norm_backward(x, x, 2, ones, ones)] == [x.shape, (4,), (4,)]
    assert F.layer_norm(x, 3).shape == x.shape
    assert [a.shape for a in F.layer_norm_backward(x, x, 3, np.ones(3), np.ones(3))] == [x.shape, (3,), (3,)]


def test_against_torch():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x, grad = np.random.default_rng(6).standard_normal((2, 3, 6, 5, 7))
    weight, bias = parameters(6)
    tensors = [torch.from_numpy(array).requires_grad_() for array in (x, weight, bias)]
    theirs = functional.group_norm(tensors[0], 2, *tensors[1:])
    expected = torch.autograd.grad(theirs, tensors, torch.from_numpy(grad))
    for ours, peer in zip(F.group_norm_backward(grad, x, 2, weight, bias), expected, strict=True):
        np.testing.assert_allclose(ours, peer.numpy(), atol=1e-11)


X = np.ones((2, 4, 3, 3))
WRONG = [
    (lambda: F.group_norm(X, 3), ValueError, "group_norm: `num_groups` must divide the 4 channels of `x`, got 3"),
    (lambda: F.group_norm(X, 2, np.ones(3)), ValueError, r"group_norm: `weight` must have shape \(4,\)"),
    (lambda: F.group_norm(X, 2, eps=0), ValueError, "group_norm: `eps` must be above 0"),
    (lambda: F.instance_norm(X[0, 0, 0]), ValueError, r"instance_norm: `x` must have the shape \(N, C, ...\)"),
    (lambda: F.layer_norm(X, 4), ValueError, r"layer_norm: the last axes of `x` must be \(4,\)"),
    (lambda: F.layer_norm(X, ()), ValueError, r"layer_norm: the last axes of `x` must be \(\)"),
    (lambda: F.layer_norm(X, 3, np.ones(2)), ValueError, r"layer_norm: `weight` must have shape \(3,\)"),
    (lambda: F.layer_norm_backward(X[:1], X, 3), ValueError, r"`grad_output` must have shape \(2, 4, 3, 3\)"),
    (lambda: F.instance_norm(X, np.ones(4, np.float32)), TypeError, "all arrays must have the same dtype"),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_wrong_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
