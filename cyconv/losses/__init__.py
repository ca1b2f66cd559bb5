"""Losses: how wrong a batch of outputs is, as one number, and its gradient."""

from __future__ import annotations

import cyconv.functional  # noqa: F401  (whole, before its parts: see cyconv/__init__.py)
from cyconv._validation import as_choice
from cyconv.losses.base import Loss, weighted
from cyconv.losses.cross_entropy import CrossEntropyLoss
from cyconv.losses.dice import DiceLoss
from cyconv.losses.pointwise import BinaryCrossEntropyLoss, MSELoss, SmoothL1Loss

__all__ = [
    "BinaryCrossEntropyLoss",
    "CrossEntropyLoss",
    "DiceLoss",
    "Loss",
    "MSELoss",
    "SmoothL1Loss",
    "weighted",
]

LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropyLoss,
    "binary_cross_entropy": BinaryCrossEntropyLoss,
    "mse": MSELoss,
    "smooth_l1": SmoothL1Loss,
    "dice": DiceLoss,
}


def as_loss(op: str, loss: Loss | str) -> Loss:
    """Return the loss itself, or the one of that name."""
    return loss if isinstance(loss, Loss) else LOSSES[as_choice(op, "loss", loss, tuple(LOSSES))]()
