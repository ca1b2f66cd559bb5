"""Valid calls of public callables, and values that no argument expects.

A module's table maps the name of each public callable, and of each public method, to a function that returns a fresh
callable and valid arguments for it, by name. `test_arguments.py` puts every hostile value in the place of every
argument. To add a module: a table here, and its row in `TABLES`.
"""

from __future__ import annotations

import importlib
import inspect
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from cyconv import (
    analysis,
    averaging,
    callbacks,
    diagnose,
    layers,
    losses,
    models,
    nas,
    optimizers,
    schedules,
    training,
)
from cyconv.network import Network
from cyconv.parameter import Parameter

Call = tuple[Callable[..., Any], dict[str, Any]]
Table = dict[str, Callable[[], Call]]

LONGEST = 4000  # characters of a message: it may list the names of a small network's weights
SECONDS = 20  # in which any call must come to an end
FILES = {"path", "resume"}  # arguments that name files, which there may not be
ALSO = {"input_size": "input_shape", "name": "names"}  # what errors may call an argument
WORK = {"epochs", "steps", "controller_steps", "candidates"}  # of which many take long


class Odd:
    """An object of no kind that is known, whose parts are none either."""

    def __repr__(self) -> str:
        return "Odd()"


HOSTILE: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "text": lambda: "x",
    "bytes": lambda: b"x",
    "object": Odd,
    "class": lambda: Odd,
    "empty list": list,
    "list of objects": lambda: [Odd(), None],
    "ragged list": lambda: [[1.0], [1.0, 2.0]],
    "long list": lambda: [1.5] * 100_000,
    "dict": lambda: {"x": 1},
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "negative": lambda: -1,
    "fraction": lambda: 0.5,
    "huge": lambda: 10**30,
    "large": lambda: 2**62,
    "NumPy's int8": lambda: np.int8(127),
    "complex": lambda: 1j,
    "text array": lambda: np.array(["x"]),
    "object array": lambda: np.array([None, Odd()]),
    "complex array": lambda: np.ones((2, 3), complex),
    "half array": lambda: np.ones((2, 3), np.float16),
    "bool array": lambda: np.array([True, False]),
    "array without axes": lambda: np.array(1.5, np.float32),
    "array of many axes": lambda: np.ones((1, 2, 1, 2, 1, 2, 1), np.float32),
    "empty array": lambda: np.ones((0, 3), np.float32),
    "integers": lambda: np.array([[7, 8]], np.int8),
    "structured array": lambda: np.zeros(2, [("a", int), ("b", float)]),
}


# Tables

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((4, 3)).astype(np.float32), np.array([0, 1, 2, 0])
IMAGES = RNG.random((2, 1, 8, 8)).astype(np.float32)


def network() -> Network:
    return Network([layers.Linear(3, 4), layers.ReLU(), layers.Linear(4, 3)], input_shape=(3,), seed=0)


def convnet() -> Network:
    return Network([layers.Conv2d(1, 2, 3), layers.ReLU(), layers.Flatten(), layers.Linear(72, 3)], (1, 8, 8), seed=0)


def written(what: Any) -> str:
    """Return the name of a file in the working folder, in which something has saved itself."""
    what.save("saved")
    return "saved"


def parameters() -> dict[str, Parameter]:
    made = {"a.weight": Parameter(np.ones(3))}
    made["a.weight"].accumulate(np.ones(3))
    return made


def constructor(make: Callable[..., Any], /, **arguments: Any) -> Callable[[], Call]:
    """Return the row of a callable whose defaults are valid, but for those given."""
    own = {
        name: parameter.default
        for name, parameter in inspect.signature(make).parameters.items()
        if parameter.default is not parameter.empty
    }
    return lambda: (make, {**own, **arguments})


def method(make: Callable[[], Any], name: str, /, **arguments: Any) -> Callable[[], Call]:
    return lambda: (getattr(make(), name), dict(arguments))


def losses_table() -> Table:
    made = {
        "CrossEntropyLoss": (lambda: losses.CrossEntropyLoss([1, 2, 3], 0.1), X, Y),
        "DiceLoss": (losses.DiceLoss, X, Y),
        "MSELoss": (losses.MSELoss, X, X),
        "SmoothL1Loss": (losses.SmoothL1Loss, X, X),
        "BinaryCrossEntropyLoss": (losses.BinaryCrossEntropyLoss, X, (X > 0)),
    }
    table = {"weighted": constructor(losses.weighted, labels=Y, weight=np.ones(4))}
    for name, (make, output, target) in made.items():
        table[name] = constructor(getattr(losses, name))
        for each in ("forward", "backward", "with_gradient"):
            table[f"{name}.{each}"] = method(make, each, output=output, target=target)
        for each in ("count", "labels", "total_weight"):
            table[f"{name}.{each}"] = method(make, each, target=target)
    table["CrossEntropyLoss"] = constructor(losses.CrossEntropyLoss, weight=[1, 2, 3])
    return table


def optimizers_table() -> Table:
    table: Table = {}
    for name in optimizers.__all__:
        kind = getattr(optimizers, name)
        if inspect.isclass(kind) and issubclass(kind, optimizers.Optimizer) and kind is not optimizers.Optimizer:
            table[name] = constructor(kind)
            table[f"{name}.step"] = method(kind, "step", parameters=parameters())
    table |= {
        "Optimizer": constructor(optimizers.Optimizer, learning_rate=0.1),
        "SGD.add_group": method(optimizers.SGD, "add_group", group=optimizers.ParameterGroup("a")),
        "SGD.add_hook": method(optimizers.SGD, "add_hook", hook=optimizers.ClipNorm(1.0)),
        "SGD.check_parameters": method(optimizers.SGD, "check_parameters", parameters=parameters()),
        "SGD.fresh_state": method(optimizers.SGD, "fresh_state", size=3, dtype=np.dtype(np.float32)),
        "Adam.load_state_dict": method(optimizers.Adam, "load_state_dict", state=optimizers.Adam().state_dict()),
        "ParameterGroup": constructor(optimizers.ParameterGroup, names="a"),
        "ClipNorm": constructor(optimizers.ClipNorm, maximum=1.0),
        "ClipNorm.__call__": method(lambda: optimizers.ClipNorm(1.0), "__call__", parameters=parameters()),
        "ClipValue": constructor(optimizers.ClipValue, maximum=1.0),
        "ClipValue.__call__": method(lambda: optimizers.ClipValue(1.0), "__call__", parameters=parameters()),
        "L1": constructor(optimizers.L1, strength=0.1),
        "L1.value": method(lambda: optimizers.L1(0.1), "value", parameters=parameters()),
        "L1.__call__": method(lambda: optimizers.L1(0.1), "__call__", parameters=parameters()),
        "L2": constructor(optimizers.L2, strength=0.1),
        "L2.value": method(lambda: optimizers.L2(0.1), "value", parameters=parameters()),
        "L2.__call__": method(lambda: optimizers.L2(0.1), "__call__", parameters=parameters()),
    }
    return table


def schedules_table() -> Table:
    made: dict[str, dict[str, Any]] = {
        "CosineDecay": {"total": 5},
        "ExponentialDecay": {"factor": 0.5},
        "MultiStepDecay": {"milestones": [2, 3]},
        "OneCycle": {"total": 5},
        "StepDecay": {"every": 2},
        "WarmUp": {"length": 2, "then": schedules.StepDecay(2)},
    }
    table: Table = {}
    for name, arguments in made.items():
        kind = getattr(schedules, name)
        table[name] = constructor(kind, **arguments)
        table[f"{name}.rate"] = method(partial(kind, **arguments), "rate", initial=0.1, t=3)
    table |= {
        "Schedule": constructor(schedules.Schedule),
        "LinearDecay": constructor(schedules.LinearDecay),
        "LinearDecay.rate": lambda: (schedules.LinearDecay.rate, {"initial": 0.1, "epoch": 1, "epochs": 3}),
        "ReduceOnPlateau": constructor(schedules.ReduceOnPlateau),
        "ReduceOnPlateau.next_rate": method(schedules.ReduceOnPlateau, "next_rate", rate=0.1, value=1.0),
    }
    return table


def callbacks_table() -> Table:
    return {
        "Callback": constructor(callbacks.Callback),
        "ProgressBar": constructor(callbacks.ProgressBar),
        "EarlyStopping": constructor(callbacks.EarlyStopping),
        "Checkpoint": constructor(callbacks.Checkpoint, path="run.safetensors"),
    }


def averaging_table() -> Table:
    def applied(network: Any) -> None:
        average = averaging.WeightAverage()
        average.update(globals()["network"]())
        with average.applied(network):
            pass

    return {
        "AverageWeights": constructor(averaging.AverageWeights),
        "WeightAverage": constructor(averaging.WeightAverage),
        "WeightAverage.update": lambda: (averaging.WeightAverage().update, {"network": network()}),
        "WeightAverage.applied": lambda: (applied, {"network": network()}),
    }


def training_table() -> Table:
    def run() -> training.Run:
        return training.Run(network(), losses.CrossEntropyLoss(), optimizers.SGD(), np.random.default_rng(0), epochs=1)

    def parts() -> dict[str, Any]:
        return {"network": network(), "x": X, "y": Y, "loss": losses.CrossEntropyLoss(), "optimizer": optimizers.SGD()}

    return {
        **callbacks_table(),
        "History": constructor(training.History, epochs=[{"loss": 1.0}]),
        "History.load": lambda: (training.History.load, {"path": written(training.History())}),
        "History.save": lambda: (training.History().save, {"path": "history"}),
        "train_step": lambda: (training.train_step, parts()),
        "evaluate": lambda: (
            training.evaluate,
            {"network": network(), "batches": [(X, Y)], "loss": losses.CrossEntropyLoss()},
        ),
        "train": lambda: (training.train, {"run": run(), "batches": [(X, Y)], "validate": lambda: {}}),
    }


def network_table() -> Table:
    fit = inspect.signature(Network.fit).parameters
    own = {name: each.default for name, each in fit.items() if each.default is not each.empty}
    table: Table = {
        "Network": lambda: (Network, {"layers": [layers.Linear(3, 2)], "input_shape": (3,), "seed": 0}),
        "Network.fit": lambda: (
            network().fit,
            {**own, "x": X, "y": Y, "batch_size": 2, "validation_data": (X, Y), "progress": False, "seed": 0},
        ),
        "Network.evaluate": lambda: (network().evaluate, {"x": X, "y": Y, "loss": "cross_entropy", "batch_size": 2}),
        "Network.save": lambda: (network().save, {"path": "weights"}),
    }
    for name in ("predict", "predict_proba", "predict_log_proba"):
        table[f"Network.{name}"] = lambda name=name: (getattr(network(), name), {"x": X, "batch_size": 2})
    return table


def diagnose_table() -> Table:
    made: dict[str, dict[str, Any]] = {
        "activation_statistics": {},
        "dead_relus": {},
        "gradients": {"y": Y, "max_entries": 2},
        "initial_loss": {"y": Y},
        "overfit": {"y": Y, "steps": 2},
        "update_ratios": {"y": Y},
    }

    def row(name: str, arguments: dict[str, Any]) -> Callable[[], Call]:
        return lambda: constructor(getattr(diagnose, name), network=network(), x=X, **arguments)()

    return {name: row(name, arguments) for name, arguments in made.items()}


def analysis_table() -> Table:
    conv = {"in_channels": 3, "out_channels": 4, "kernel_size": 3}

    def row(name: str, /, **arguments: Any) -> Callable[[], Call]:
        return lambda: constructor(getattr(analysis, name), layer=convnet(), **arguments)()

    return {
        "activations": row("activations", x=IMAGES, names=["0"]),
        "conv_flops": constructor(analysis.conv_flops, **conv, size=8),
        "conv_parameters": constructor(analysis.conv_parameters, **conv),
        "linear_flops": constructor(analysis.linear_flops, in_features=3, out_features=4),
        "linear_parameters": constructor(analysis.linear_parameters, in_features=3, out_features=4),
        "count_flops": row("count_flops", input_shape=(1, 8, 8)),
        "count_parameters": row("count_parameters"),
        "input_gradient": row("input_gradient", x=IMAGES, target=[0, 1]),
        "saliency": row("saliency", x=IMAGES, target=[0, 1]),
        "maximizing_images": row("maximizing_images", name="0", channels=[0], input_shape=(1, 8, 8), steps=2),
        "receptive_field": row("receptive_field", input_shape=(1, 8, 8), name="0"),
        "receptive_fields": row("receptive_fields", input_shape=(1, 8, 8)),
        "stack_windows": constructor(analysis.stack_windows, windows=[(3, 1), (3, 2)]),
        "summary": row("summary", input_shape=(1, 8, 8)),
    }


def nas_table() -> Table:
    x, y = RNG.random((4, 1, 8, 8)).astype(np.float32), np.array([0, 1, 0, 1])
    macro = nas.MacroSpace(2)
    options = {"validation_data": (x, y), "epochs": 1, "batch_size": 2, "channels": 2, "controller_steps": 1}

    def controller() -> nas.Controller:
        return nas.Controller([nas.Decision("x", 2), nas.Decision("y", 3)], hidden_size=4, rng=0)

    return {
        "Controller": constructor(nas.Controller, decisions=[nas.Decision("x", 2)], hidden_size=4),
        "MacroSpace": constructor(nas.MacroSpace),
        "MacroSpace.architecture": lambda: (macro.architecture, {"choices": [0, 1, 0]}),
        "MicroSpace": constructor(nas.MicroSpace),
        "SharedWeights": constructor(nas.SharedWeights, in_channels=1, num_classes=2, channels=2),
        "architecture_from": constructor(nas.architecture_from, content=macro.sample(0).as_dict()),
        "build": constructor(
            nas.build, architecture=macro.sample(0), input_shape=(1, 8, 8), num_classes=2, channels=2, seed=0
        ),
        "search": lambda: constructor(
            nas.search, space="macro", x=x, y=y, **options, candidates=1, seed=0, progress=False
        )(),
    }


def models_table() -> Table:
    table = {name: constructor(getattr(models, name)) for name in models.__all__}
    small = models.resnet18(2, width=2, seed=0)
    state = {theirs: small.state_dict()[ours] for ours, theirs in models.torchvision_names(small).items()}
    table["load_torchvision"] = lambda: (models.load_torchvision, {"network": small, "state": state})
    table["torchvision_names"] = lambda: (models.torchvision_names, {"network": small})
    return table


TABLES: dict[str, Callable[[], Table]] = {
    "analysis": analysis_table,
    "averaging": averaging_table,
    "callbacks": callbacks_table,
    "diagnose": diagnose_table,
    "losses": losses_table,
    "models": models_table,
    "nas": nas_table,
    "network": network_table,
    "optimizers": optimizers_table,
    "schedules": schedules_table,
    "training": training_table,
}


# Finding and calling


def public(module: str) -> dict[str, Any]:
    """Return the public callables of a module by name, and the public methods of its classes as "Class.method"."""
    part = importlib.import_module(f"cyconv.{module}")
    found = {}
    for name in part.__all__:
        value = getattr(part, name)
        if callable(value):
            found[name] = value
        if inspect.isclass(value):
            for base in value.__mro__:
                if base.__module__.startswith("cyconv"):
                    own = [each for each in vars(base) if not each.startswith("_") and callable(getattr(value, each))]
                    found |= {f"{name}.{each}": getattr(value, each) for each in own}
    return found


class TooLong(Exception):
    """A call did not come to an end in time; not a TimeoutError, which is an OSError."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    def end(*_: Any) -> None:
        raise TooLong(f"it takes more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(row: Callable[[], Call], changes: Mapping[str, Callable[[], Any]]) -> str | None:
    """Return what is wrong with the outcome of a call with some arguments changed, None where nothing is."""
    function, arguments = row()
    arguments |= {name: make() for name, make in changes.items()}
    try:
        with limited(SECONDS):
            function(**arguments)
    except (ValueError, TypeError) as error:
        said = str(error)
        if not any(re.search(rf"\b({name}|{ALSO.get(name, name)})\b", said) for name in changes):
            return f"does not name it: {type(error).__name__}: {said[:150]}"
        return f"is {len(said)} characters long" if len(said) > LONGEST else None
    except FloatingPointError:
        return None  # a loss that is not finite: of numbers that are legal and large
    except OSError:
        return None if FILES & changes.keys() else "OSError"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:150]}"
    return None
