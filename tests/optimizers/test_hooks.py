"""Clipping and penalties."""

import numpy as np
import pytest

from cyconv.optimizers import L1, L2, SGD, ClipNorm, ClipValue
from cyconv.parameter import Parameter
from tests.optimizers.updates import SHAPE, trainable


def test_clipping_is_pytorchs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    gradients = [rng.standard_normal(SHAPE), rng.standard_normal(7)]
    for maximum in (0.5, 1e3):
        for ours, peer in ((ClipNorm, "clip_grad_norm_"), (ClipValue, "clip_grad_value_")):
            parameters = {str(i): Parameter(gradient) for i, gradient in enumerate(gradients)}
            tensors = [torch.tensor(gradient).requires_grad_() for gradient in gradients]
            for parameter, tensor, gradient in zip(parameters.values(), tensors, gradients, strict=True):
                parameter.grad, tensor.grad = gradient, torch.tensor(gradient)
            norm = ours(maximum)(parameters)
            their_norm = getattr(torch.nn.utils, peer)(tensors, maximum)
            if norm is not None:
                assert norm == pytest.approx(their_norm.item(), rel=1e-12)
            for parameter, tensor in zip(parameters.values(), tensors, strict=True):
                np.testing.assert_allclose(parameter.grad, tensor.grad.numpy(), rtol=1e-12)


def test_clipping_leaves_given_arrays_alone():
    gradient = np.array([3.0, 4.0])
    parameters = trainable(a=2, b=2)
    for parameter in parameters.values():
        parameter.grad = gradient
    ClipNorm(1.0)(parameters)
    np.testing.assert_array_equal(gradient, [3, 4])
    np.testing.assert_allclose(parameters["a"].grad, gradient / np.sqrt(50), rtol=1e-6)
    np.testing.assert_array_equal(parameters["a"].grad, parameters["b"].grad)


def test_penalties_add_their_gradients():
    rng = np.random.default_rng(0)
    for penalty in (L1(0.3, "*.weight"), L2(0.3, "*.weight")):
        parameters = {name: Parameter(rng.standard_normal(SHAPE)) for name in ("a.weight", "a.bias")}
        for parameter in parameters.values():
            parameter.grad = np.ones(SHAPE)
        penalty(parameters)
        np.testing.assert_array_equal(parameters["a.bias"].grad, 1)
        weight = parameters["a.weight"]
        for index in ((0, 0, 0, 0), (3, 2, 1, 0)):  # central differences
            centre, sides = weight.read()[index], []
            for step in (1e-5, -1e-5):
                weight.data[index] = centre + step
                sides.append(penalty.value(parameters))
            weight.data[index] = centre
            assert weight.grad[index] == pytest.approx(1 + (sides[0] - sides[1]) / 2e-5, rel=1e-6)


def test_l2_is_weight_decay():
    first, second = trainable(w=3), trainable(w=3)
    SGD(0.1, weight_decay=0.5).step(first)
    SGD(0.1).add_hook(L2(0.5)).step(second)
    np.testing.assert_allclose(first["w"].read(), second["w"].read())
