"""All optimizers: their updates against formulas and PyTorch's, their arguments and states."""

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
from tests.optimizers.updates import CASES, RENAMED, SHAPE, THEIRS, steps, theirs, trainable


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


def test_names():
    assert isinstance(as_optimizer("fit", "adamw"), AdamW)
    with pytest.raises(
        ValueError, match=r"fit: `optimizer` must be one of 'sgd', 'momentum', .*, 'adabound', got 'magic'"
    ):
        as_optimizer("fit", "magic")
    with pytest.raises(NotImplementedError, match="Optimizer: `update` is not written"):
        Optimizer(1.0).update(np.ones(1), np.ones(1), step=1)
    assert repr(SGD(0.1)) == "SGD(learning_rate=0.1, momentum=0.0, nesterov=False, weight_decay=0.0)"


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
