import inspect
import pickle

import numpy as np
import pytest

from cyconv import optimizers
from cyconv.optimizers import (
    L1,
    L2,
    OPTIMIZERS,
    SGD,
    AdaBound,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    ClipNorm,
    ClipValue,
    NAdam,
    Optimizer,
    ParameterGroup,
    RMSprop,
    as_optimizer,
)
from cyconv.parameter import Parameter

SHAPE = (4, 3, 2, 2)


def sgd(w, g, state, t, learning_rate, momentum=0.0, nesterov=False, weight_decay=0.0):
    d = g + weight_decay * w
    state["v"] = momentum * state.get("v", 0) + d
    return w - learning_rate * (d + momentum * state["v"] if nesterov else state["v"])


def adagrad(
    w, g, state, t, learning_rate, learning_rate_decay=0.0, epsilon=1e-10, weight_decay=0.0, initial_accumulator=0.0
):
    g = g + weight_decay * w
    state["s"] = state.get("s", initial_accumulator) + g**2
    return w - learning_rate / (1 + (t - 1) * learning_rate_decay) * g / (np.sqrt(state["s"]) + epsilon)


def adadelta(w, g, state, t, learning_rate=1.0, rho=0.9, epsilon=1e-6, weight_decay=0.0):
    g = g + weight_decay * w
    state["s"] = rho * state.get("s", 0) + (1 - rho) * g**2
    d = np.sqrt(state.get("u", 0) + epsilon) / np.sqrt(state["s"] + epsilon) * g
    state["u"] = rho * state.get("u", 0) + (1 - rho) * d**2
    return w - learning_rate * d


def rmsprop(w, g, state, t, learning_rate, alpha=0.99, epsilon=1e-8, weight_decay=0.0, momentum=0.0, centered=False):
    g = g + weight_decay * w
    state["s"] = alpha * state.get("s", 0) + (1 - alpha) * g**2
    state["a"] = alpha * state.get("a", 0) + (1 - alpha) * g
    root = np.sqrt(state["s"] - state["a"] ** 2 if centered else state["s"])
    state["b"] = momentum * state.get("b", 0) + g / (root + epsilon)
    return w - learning_rate * state["b"]


def moments(g, state, beta1, beta2):
    state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * g
    state["v"] = beta2 * state.get("v", 0) + (1 - beta2) * g**2
    return state["m"], state["v"]


def adam(w, g, state, t, learning_rate, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0, amsgrad=False):
    m, v = moments(g + weight_decay * w, state, beta1, beta2)
    if amsgrad:
        v = state["largest"] = np.maximum(state.get("largest", 0), v)
    return w - learning_rate * m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + epsilon)


def adamw(w, g, state, t, learning_rate, weight_decay=0.01, **keywords):
    return adam(w, g, state, t, learning_rate, **keywords) - learning_rate * weight_decay * w


def adamax(w, g, state, t, learning_rate=0.002, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0):
    m, _ = moments(g + weight_decay * w, state, beta1, beta2)
    u = state["u"] = np.maximum(beta2 * state.get("u", 0), np.abs(g + weight_decay * w) + epsilon)
    return w - learning_rate / (1 - beta1**t) * m / u


def nadam(w, g, state, t, learning_rate, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0, momentum_decay=0.004):
    g = g + weight_decay * w
    m, v = moments(g, state, beta1, beta2)
    mu = beta1 * (1 - 0.5 * 0.96 ** (np.arange(1, t + 2) * momentum_decay))  # mu_1 ... mu_(t+1)
    ahead = mu[t] / (1 - mu.prod()) * m + (1 - mu[t - 1]) / (1 - mu[:t].prod()) * g
    return w - learning_rate * ahead / (np.sqrt(v / (1 - beta2**t)) + epsilon)


def adabound(
    w, g, state, t, learning_rate, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0,
    final_learning_rate=0.1, gamma=0.001,
):  # fmt: skip
    m, v = moments(g + weight_decay * w, state, beta1, beta2)
    rate = learning_rate * np.sqrt(1 - beta2**t) / (1 - beta1**t) / (np.sqrt(v) + epsilon)
    final = final_learning_rate
    return w - np.clip(rate, final * (1 - 1 / (gamma * t + 1)), final * (1 + 1 / (gamma * t))) * m


BETAS = {"beta1": 0.5, "beta2": 0.6, "epsilon": 0.1, "weight_decay": 0.3}
CASES = [
    (SGD, sgd, {"learning_rate": 0.1}),
    (SGD, sgd, {"learning_rate": 0.1, "weight_decay": 0.3}),
    (SGD, sgd, {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.3}),
    (SGD, sgd, {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    (Adagrad, adagrad, {"learning_rate": 0.1}),
    (Adagrad, adagrad, {"learning_rate": 0.1, "learning_rate_decay": 0.5, "epsilon": 0.1, "weight_decay": 0.3}),
    (Adagrad, adagrad, {"learning_rate": 0.1, "initial_accumulator": 0.5}),
    (Adadelta, adadelta, {"learning_rate": 1.0}),
    (Adadelta, adadelta, {"learning_rate": 0.5, "rho": 0.6, "epsilon": 0.01, "weight_decay": 0.3}),
    (RMSprop, rmsprop, {"learning_rate": 0.1}),
    (RMSprop, rmsprop, {"learning_rate": 0.1, "alpha": 0.6, "epsilon": 0.1, "weight_decay": 0.3, "momentum": 0.9}),
    (RMSprop, rmsprop, {"learning_rate": 0.1, "alpha": 0.6, "centered": True}),
    (RMSprop, rmsprop, {"learning_rate": 0.1, "alpha": 0.6, "centered": True, "momentum": 0.5}),
    (Adam, adam, {"learning_rate": 0.1}),
    (Adam, adam, {"learning_rate": 0.1, **BETAS}),
    (Adam, adam, {"learning_rate": 0.1, "beta2": 0.6, "amsgrad": True}),
    (AdamW, adamw, {"learning_rate": 0.1}),
    (AdamW, adamw, {"learning_rate": 0.1, "weight_decay": 0.3, "beta2": 0.6, "amsgrad": True}),
    (Adamax, adamax, {"learning_rate": 0.1}),
    (Adamax, adamax, {"learning_rate": 0.1, **BETAS}),
    (NAdam, nadam, {"learning_rate": 0.1}),
    (NAdam, nadam, {"learning_rate": 0.1, "momentum_decay": 2.0, **BETAS}),
    (AdaBound, adabound, {"learning_rate": 0.1}),
    (AdaBound, adabound, {"learning_rate": 0.1, "final_learning_rate": 0.2, "gamma": 3.0, **BETAS}),
]


def test_every_optimizer_has_its_rows():
    """One of the tables above and one of the names for every class, and nothing else."""
    public = [getattr(optimizers, name) for name in optimizers.__all__]
    kinds = {each for each in public if inspect.isclass(each) and issubclass(each, Optimizer)} - {Optimizer}
    assert {kind for kind, _, _ in CASES} == kinds
    assert {type(make()) for make in OPTIMIZERS.values()} == kinds
    assert {kind for kind, _ in THEIRS.values()} == {kind.__name__ for kind in kinds - {AdaBound}}
    assert [*OPTIMIZERS] == [
        "sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "amsgrad", "adamw", "adamax", "nadam",
        "adabound",
    ]  # fmt: skip


# PyTorch's optimizer and its arguments beside ours by name.
THEIRS = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "adagrad": ("Adagrad", {}),
    "adadelta": ("Adadelta", {}),
    "rmsprop": ("RMSprop", {}),
    "adam": ("Adam", {}),
    "amsgrad": ("Adam", {"amsgrad": True}),
    "adamw": ("AdamW", {}),
    "adamax": ("Adamax", {}),
    "nadam": ("NAdam", {}),
}
RENAMED = {
    "learning_rate": "lr",
    "epsilon": "eps",
    "learning_rate_decay": "lr_decay",
    "initial_accumulator": "initial_accumulator_value",
}


def theirs(torch, kind, weights, arguments):
    """Return PyTorch's optimizer with our arguments."""
    betas = {"betas": tuple(arguments[f"beta{i}"] for i in (1, 2))} if "beta1" in arguments else {}
    renamed = {RENAMED.get(k, k): v for k, v in arguments.items() if not k.startswith("beta")}
    return getattr(torch.optim, kind)(weights, **renamed, **betas)


@pytest.mark.parametrize(("kind", "_", "arguments"), [case for case in CASES if case[0] is not AdaBound])
def test_each_step_is_pytorchs(kind, _, arguments):
    torch = pytest.importorskip("torch")
    ours = kind(**arguments)
    parameter = Parameter(np.random.default_rng(1).standard_normal(SHAPE))
    weight = torch.tensor(parameter.read()).requires_grad_()
    peer = theirs(torch, kind.__name__, [weight], ours.hyper_parameters)
    rng = np.random.default_rng(2)
    for _ in range(30):
        gradient = rng.standard_normal(SHAPE)
        parameter.grad, weight.grad = gradient, torch.tensor(gradient)
        ours.step({"w": parameter})
        peer.step()
        tolerance = 1e-5 if kind is NAdam else 1e-10  # it keeps the product of its momenta in single precision
        np.testing.assert_allclose(parameter.read(), weight.detach().numpy(), rtol=tolerance, atol=tolerance / 100)


@pytest.mark.parametrize("name", THEIRS)
def test_defaults_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    kind, arguments = THEIRS[name]
    defaults = getattr(torch.optim, kind)([torch.zeros(1)], **arguments).defaults
    ours = as_optimizer("fit", name).hyper_parameters
    for argument, value in ours.items():
        if argument == "learning_rate" and kind == "SGD":
            value = 0.001  # ours is ten times that
        if argument in ("beta1", "beta2"):
            assert defaults["betas"][argument == "beta2"] == value
        else:
            assert defaults[RENAMED.get(argument, argument)] == value, argument


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
    single = dtype == np.float32
    np.testing.assert_allclose(parameter.data, expected, rtol=1e-4 if single else 1e-12, atol=1e-5 if single else 1e-14)


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
        (Adam, {"amsgrad": 1}, "Adam: `amsgrad` must be True or False, got 1"),
        (Adagrad, {"learning_rate_decay": -1}, "Adagrad: `learning_rate_decay` must be at least 0, got -1.0"),
        (Adagrad, {"epsilon": 0}, "Adagrad: `epsilon` must be above 0, got 0.0"),
        (Adadelta, {"rho": 1}, "Adadelta: `rho` must be at least 0 and below 1, got 1.0"),
        (RMSprop, {"alpha": 1}, "RMSprop: `alpha` must be at least 0 and below 1, got 1.0"),
        (RMSprop, {"centered": 0}, "RMSprop: `centered` must be True or False, got 0"),
        (Adamax, {"epsilon": 0}, "Adamax: `epsilon` must be above 0, got 0.0"),
        (NAdam, {"momentum_decay": -1}, "NAdam: `momentum_decay` must be at least 0, got -1.0"),
        (AdaBound, {"gamma": 0}, "AdaBound: `gamma` must be above 0, got 0.0"),
        (AdaBound, {"learning_rate": 0}, "AdaBound: `base_learning_rate` must be above 0, got 0.0"),
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
    with pytest.raises(
        ValueError, match=r"fit: `optimizer` must be one of 'sgd', 'momentum', .*, 'adabound', got 'magic'"
    ):
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


def trainable(**shapes):
    """Return parameters of ones with gradients of ones."""
    parameters = {name.replace("__", "."): Parameter(np.ones(shape)) for name, shape in shapes.items()}
    for parameter in parameters.values():
        parameter.grad = np.ones(parameter.shape)
    return parameters


def values(parameters):
    return {name: parameter.read().flat[0] for name, parameter in parameters.items()}


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SGD().add_group("head"), "SGD: `group` must be a ParameterGroup, got 'head'"),
        (lambda: SGD().add_hook(3), "SGD: `hook` must be callable, got 3"),
        (lambda: SGD().add_hook(ClipNorm), "SGD: `hook` must be callable, got .*; call the class to make one"),
        (lambda: ParameterGroup(3), "ParameterGroup: `names` must be a prefix or a pattern, got 3"),
        (lambda: ParameterGroup("a", -1), "ParameterGroup: `learning_rate_scale` must be at least 0, got -1"),
        (lambda: ParameterGroup("a", weight_decay=-1), "ParameterGroup: `weight_decay` must be at least 0, got -1"),
        (lambda: ParameterGroup("a", frozen=1), "ParameterGroup: `frozen` must be True or False, got 1"),
        (lambda: ClipNorm(0), "ClipNorm: `maximum` must be above 0, got 0.0"),
        (lambda: ClipValue(-1), "ClipValue: `maximum` must be above 0, got -1.0"),
        (lambda: L1(-1), "L1: `strength` must be at least 0, got -1.0"),
        (lambda: L2(1, ""), "L2: `names` must be a prefix or a pattern, got ''"),
        (
            lambda: SGD().add_group(ParameterGroup("haed")).step(trainable(head=1)),
            "SGD: no parameter's name matches the group 'haed'",
        ),
    ],
)
def test_bad_groups_and_hooks_are_named(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_bounds_follow_a_schedule():
    """Halving the rate halves every later step of AdaBound, as with the authors' program."""
    whole, half = AdaBound(0.1), AdaBound(0.05, base_learning_rate=0.1)
    a, b = trainable(w=3), trainable(w=3)
    whole.step(a)
    half.step(b)
    np.testing.assert_allclose(1 - b["w"].read(), (1 - a["w"].read()) / 2, rtol=1e-9)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_that_was_unpickled_into_read_only_memory_goes_on(name):
    optimizer, twin = OPTIMIZERS[name](), OPTIMIZERS[name]()
    weights = {"w": Parameter(np.linspace(-1, 1, 8))}, {"w": Parameter(np.linspace(-1, 1, 8))}
    for each, parameters in zip((optimizer, twin), weights, strict=True):
        parameters["w"].accumulate(np.full(8, 0.5))
        each.step(parameters)
    buffers = []
    content = pickle.dumps(optimizer, 5, buffer_callback=buffers.append)
    optimizer = pickle.loads(content, buffers=[buffer.raw().tobytes() for buffer in buffers])
    for each, parameters in zip((optimizer, twin), weights, strict=True):
        each.step(parameters)
    np.testing.assert_array_equal(weights[0]["w"].data, weights[1]["w"].data)
