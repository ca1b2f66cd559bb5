"""Sanity checks of a network, its data and its settings, before hours of training or when training goes wrong.

Each works on a copy, so the network stays as it is, to the last bit, and returns a report. That prints as a few lines,
and its `ok` tells whether all is as it should be. After A. Karpathy, Stanford's course CS231n, and "A recipe for
training neural networks", 2019.
"""

import cyconv.analysis
import cyconv.layers  # noqa: F401  (whole, before its parts: see cyconv/__init__.py)
from cyconv.diagnose.activity import (
    Activations,
    ActivationStatistics,
    DeadReLUs,
    activation_statistics,
    dead_relus,
)
from cyconv.diagnose.learning import InitialLoss, Overfit, initial_loss, overfit
from cyconv.diagnose.report import Report
from cyconv.diagnose.steps import Gradients, UpdateRatios, gradients, update_ratios

__all__ = [
    "ActivationStatistics",
    "Activations",
    "DeadReLUs",
    "Gradients",
    "InitialLoss",
    "Overfit",
    "Report",
    "UpdateRatios",
    "activation_statistics",
    "dead_relus",
    "gradients",
    "initial_loss",
    "overfit",
    "update_ratios",
]
