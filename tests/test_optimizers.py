import numpy as np
import pytest

from cyconv.optimizers import SGD, Adam, AdamW, Optimizer, as_optimizer
from cyconv.parameter import Parameter

SHAPE = (4, 3, 2, 2)


def sgd(w, g, state, t, learning_rate, momentum=0.0, nesterov=False, weight_decay=0.0):
    d = g + weight_decay * w
    state["v"] = momentum * state.get("v", 0) + d
    return w - learning_rate * (d + momentum * state["v"] if nesterov else state["v"])


def adam(w, g, state, t, learning_rate, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0):
    g = g + weight_decay * w
    state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * g
    state["v"] = beta2 * state.get("v", 0) + (1 - beta2) * g**2
    return w - learning_rate * state["m"] / (1 - beta1**t) / (np.sqrt(state["v"] / (1 - beta2**t)) + epsilon)


def adamw(w, g, state, t, learning_rate, weight_decay=0.01, **keywords):
    return adam(w, g, state, t, learning_rate, **keywords) - learning_rate * weight_decay * w


CASES = [
    (SGD, sgd, {"learning_rate": 0.1}),
    (SGD, sgd, {"learning_rate": 0.1, "weight_decay": 0.3}),
    (SGD, sgd, {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.3}),
    (SGD, sgd, {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    (Adam, adam, {"learning_rate": 0.1}),
    (Adam, adam, {"learning_rate": 0.1, "beta1": 0.5, "beta2": 0.6, "epsilon": 0.1, "weight_decay": 0.3}),
    (AdamW, adamw, {"learning_rate": 0.1}),
    (AdamW, adamw, {"learning_rate": 0.1, "weight_decay": 0.3}),
]


def steps(optimizer, parameter, count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        parameter.grad = rng.standard_normal(SHAPE).astype(parameter.dtype)  # C order, unlike the weight
        optimizer.step({"w": parameter})


@pytest.mark.parametrize(("kind", "reference", "arguments"), CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_updates_are_those_of_the_formulas(kind, reference, arguments, dtype):
    start = np.random.default_rng(1).standard_normal(SHAPE)
    parameter, expected, state, rng = Parameter(start.astype(dtype)), start, {}, np.random.default_rng(0)
    for t in range(1, 6):
        expected = reference(expected, rng.standard_normal(SHAPE), state, t, **arguments)
    steps(kind(**arguments), parameter, 5)
    np.testing.assert_allclose(parameter.data, expected, rtol=1e-12 if dtype == np.float64 else 2e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "_", "arguments"), CASES)
def test_state_round_trip_gives_the_same_bits(kind, _, arguments):
    a, b = (Parameter(np.ones(SHAPE, np.float32)) for _ in range(2))
    whole, first, second = kind(**arguments), kind(**arguments), kind(learning_rate=9)
    steps(whole, a, 3)
    steps(whole, a, 3, seed=1)
    steps(first, b, 3)
    second.load_state_dict(first.state_dict())
    steps(second, b, 3, seed=1)
    np.testing.assert_array_equal(a.data, b.data)
    assert repr(second) == repr(whole)


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


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (SGD, {"learning_rate": -1}, "SGD: `learning_rate` must be at least 0, got -1.0"),
        (SGD, {"learning_rate": "fast"}, "SGD: `learning_rate` must be a number, got 'fast'"),
        (SGD, {"momentum": 1}, "SGD: `momentum` must be at least 0 and below 1, got 1.0"),
        (SGD, {"weight_decay": np.inf}, "SGD: `weight_decay` must be at least 0, got inf"),
        (SGD, {"nesterov": 1}, "SGD: `nesterov` must be True or False, got 1"),
        (SGD, {"nesterov": True}, "SGD: `nesterov` needs a `momentum` above 0"),
        (Adam, {"beta1": np.nan}, "Adam: `beta1` must be at least 0 and below 1, got nan"),
        (AdamW, {"beta2": 1}, "AdamW: `beta2` must be at least 0 and below 1, got 1.0"),
        (Adam, {"epsilon": -1}, "Adam: `epsilon` must be at least 0, got -1.0"),
    ],
)
def test_bad_arguments_are_named(kind, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        kind(**arguments)


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


def test_names():
    assert isinstance(as_optimizer("fit", "adamw"), AdamW)
    with pytest.raises(ValueError, match="fit: `optimizer` must be one of 'sgd', 'adam', 'adamw', got 'magic'"):
        as_optimizer("fit", "magic")
    with pytest.raises(NotImplementedError, match="Optimizer: `update` is not written"):
        Optimizer(1.0).update(np.ones(1), np.ones(1), step=1)
    assert repr(SGD(0.1)) == "SGD(learning_rate=0.1, momentum=0.0, nesterov=False, weight_decay=0.0)"


def test_momentum_may_be_turned_on_and_off():
    optimizer, parameter = SGD(1.0), Parameter(np.zeros(1))
    for momentum, expected in ((0.0, -1.0), (0.5, -2.0), (0.5, -3.5), (0.0, -4.5)):
        optimizer.momentum = momentum
        parameter.grad = np.ones(1)
        optimizer.step({"w": parameter})
        assert parameter.data[0] == expected
        assert len(optimizer.state_dict()["arrays"]) == (momentum > 0)
