"""Learning rates that change while training, as callbacks, and as formulas by themselves.

Several of them compose: in the order of the callbacks each takes for the initial rate what those before it give, so
that a warm-up scales what another decides.
"""

import cyconv.layers  # noqa: F401  (whole, before its parts: see cyconv/__init__.py)
from cyconv.schedules.base import Schedule
from cyconv.schedules.formulas import (
    CosineDecay,
    ExponentialDecay,
    LinearDecay,
    MultiStepDecay,
    OneCycle,
    StepDecay,
    WarmUp,
)
from cyconv.schedules.plateau import ReduceOnPlateau

__all__ = [
    "CosineDecay",
    "ExponentialDecay",
    "LinearDecay",
    "MultiStepDecay",
    "OneCycle",
    "ReduceOnPlateau",
    "Schedule",
    "StepDecay",
    "WarmUp",
]
