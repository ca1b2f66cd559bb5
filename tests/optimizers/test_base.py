"""What all optimizers share: which parameters are updated, groups, and states."""

import numpy as np
import pytest

from cyconv import optimizers
from cyconv.optimizers import SGD, Adam, ParameterGroup
from cyconv.parameter import Parameter
from tests.optimizers.updates import SHAPE, steps, trainable, values


def test_parameters_without_gradient_or_frozen_stay():
    frozen, idle = Parameter(np.ones(2)), Parameter(np.ones(2))
    frozen.trainable = False
    frozen.grad = np.ones(2)
    SGD(1.0).step({"frozen": frozen, "idle": idle})
    np.testing.assert_array_equal([frozen.data, idle.data], 1)


def test_the_learning_rate_may_change():
    optimizer, parameter = SGD(1.0), Parameter(np.zeros(1))
    parameter.grad = np.ones(1)
    optimizer.learning_rate = 0.5
    optimizer.step({"w": parameter})
    assert parameter.data[0] == -0.5
    with pytest.raises(ValueError, match="SGD: `learning_rate` must be at least 0, got nan"):
        optimizer.learning_rate = np.nan


def test_foreign_states_are_refused():
    optimizer, parameter = Adam(), Parameter(np.ones(SHAPE, np.float32))
    steps(optimizer, parameter, 1)
    with pytest.raises(ValueError, match="SGD: the state to load is that of Adam"):
        SGD().load_state_dict(optimizer.state_dict())
    state = optimizer.state_dict()
    del state["arrays"]["w.v"]
    with pytest.raises(ValueError, match="Adam: the state to load lacks arrays of `w`"):
        Adam().load_state_dict(state)
    other = Parameter(np.ones(3, np.float32))
    other.grad = np.ones(3, np.float32)
    fresh = Parameter(np.zeros(3))
    fresh.grad = np.ones(3)
    with pytest.raises(ValueError, match="Adam: the state kept for `w` is that of another parameter; each net"):
        optimizer.step({"new": fresh, "w": other})
    np.testing.assert_array_equal(fresh.data, 0)


@pytest.mark.parametrize("part", ["kind", "hyper_parameters", "steps", "arrays"])
def test_incomplete_states_are_refused(part):
    state = {**Adam().state_dict(), part: None}
    with pytest.raises(ValueError, match=f"Adam: the state to load lacks `{part}`"):
        Adam().load_state_dict(state)
    with pytest.raises(ValueError, match="Adam: the state to load lacks `kind`"):
        Adam().load_state_dict(None)


@pytest.mark.parametrize(("arrays", "message"), [({"w.m": 3, "w.v": 3}, "lacks arrays of `w`"), ({}, "lacks arrays")])
def test_states_without_arrays_are_refused(arrays, message):
    with pytest.raises(ValueError, match=message):
        Adam().load_state_dict({**Adam().state_dict(), "steps": {"w": 1}, "arrays": arrays})


def test_groups_have_settings_of_their_own():
    parameters = trainable(body__0__weight=2, body__0__bias=1, bodywork=1, head__weight=3, head__bias=1)
    optimizer = (
        SGD(1.0, weight_decay=0.5)
        .add_group(ParameterGroup("body", learning_rate_scale=0.1))
        .add_group(ParameterGroup("*.bias", weight_decay=0.0))
        .add_group(ParameterGroup("head.weight", frozen=True))
    )
    optimizer.step(parameters)
    expected = {"body.0.weight": 0.85, "body.0.bias": 0.9, "bodywork": -0.5, "head.weight": 1.0, "head.bias": 0.0}
    assert values(parameters) == pytest.approx(expected)
    copy = SGD()
    copy.load_state_dict(optimizer.state_dict())
    copy.step(parameters)
    assert values(parameters)["body.0.bias"] == pytest.approx(0.8)
    assert values(parameters)["head.weight"] == 1


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_groups_are_pytorchs(kind):
    torch = pytest.importorskip("torch")
    parameters = trainable(a=3, b=3)
    tensors = [torch.ones(3, dtype=torch.float64).requires_grad_() for _ in range(2)]
    peer = getattr(torch.optim, kind)(
        [{"params": tensors[0], "lr": 0.01, "weight_decay": 0.3}, {"params": tensors[1]}], lr=0.1
    )
    ours = getattr(optimizers, kind)(0.1).add_group(ParameterGroup("a", learning_rate_scale=0.1, weight_decay=0.3))
    for step in range(5):
        for parameter, tensor in zip(parameters.values(), tensors, strict=True):
            parameter.grad = np.array([1.0, -2.0, step])
            tensor.grad = torch.tensor([1.0, -2.0, step], dtype=torch.float64)
        ours.step(parameters)
        peer.step()
    for parameter, tensor in zip(parameters.values(), tensors, strict=True):
        np.testing.assert_allclose(parameter.read(), tensor.detach().numpy(), rtol=1e-12)
