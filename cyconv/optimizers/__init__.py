"""Optimizers: how gradients change parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cyconv._validation import as_choice
from cyconv.optimizers.adam import AdaBound, Adam, Adamax, AdamW, NAdam
from cyconv.optimizers.adaptive import Adadelta, Adagrad, RMSprop
from cyconv.optimizers.base import Optimizer, ParameterGroup, Step
from cyconv.optimizers.descent import SGD
from cyconv.optimizers.hooks import L1, L2, ClipNorm, ClipValue

__all__ = [
    "L1",
    "L2",
    "SGD",
    "AdaBound",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "ClipNorm",
    "ClipValue",
    "NAdam",
    "Optimizer",
    "ParameterGroup",
    "RMSprop",
    "Step",
]

OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "sgd": SGD,
    "momentum": partial(SGD, momentum=0.9),
    "nesterov": partial(SGD, momentum=0.9, nesterov=True),
    "adagrad": Adagrad,
    "adadelta": Adadelta,
    "rmsprop": RMSprop,
    "adam": Adam,
    "amsgrad": partial(Adam, amsgrad=True),
    "adamw": AdamW,
    "adamax": Adamax,
    "nadam": NAdam,
    "adabound": AdaBound,
}


def as_optimizer(op: str, optimizer: Optimizer | str) -> Optimizer:
    """Return the optimizer itself, or the one of that name with its defaults."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    return OPTIMIZERS[as_choice(op, "optimizer", optimizer, tuple(OPTIMIZERS))]()
