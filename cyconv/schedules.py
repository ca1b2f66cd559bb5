"""Learning rates that change while training, as callbacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cyconv._validation import as_number
from cyconv.training import Callback, Run

__all__ = ["LinearDecay"]


class LinearDecay(Callback):
    """Let the learning rate fall linearly, epoch by epoch, from the optimizer's own in the first towards zero.

    Epoch e of E, from 1, has the rate ``initial * (1 - (e - 1) / E)``. Large steps find the region, small
    ones settle in it. The optimizer has its own rate again when the training ends.

    Examples
    --------
    >>> from cyconv.schedules import LinearDecay
    >>> [LinearDecay.rate(0.1, epoch, epochs=4) for epoch in (1, 4)]
    [0.1, 0.025]
    """

    def __init__(self) -> None:
        self._initial: float | None = None

    @staticmethod
    def rate(initial: float, epoch: int, epochs: int) -> float:
        """Return the rate of an epoch."""
        return initial * (1 - (epoch - 1) / epochs)

    def on_train_begin(self, run: Run) -> None:
        """Note the initial rate."""
        if run.epoch == 0 or self._initial is None:
            self._initial = run.optimizer.learning_rate

    def on_epoch_begin(self, run: Run) -> None:
        """Set the epoch's rate."""
        if self._initial is not None:
            run.optimizer.learning_rate = self.rate(self._initial, run.epoch, run.epochs)

    def on_train_end(self, run: Run) -> None:
        """Give the optimizer its own rate back."""
        if self._initial is not None:
            run.optimizer.learning_rate = self._initial

    def state_dict(self) -> dict[str, Any]:
        """Return the initial rate."""
        return {"initial": self._initial}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set what `state_dict` returned."""
        initial = state["initial"]
        self._initial = None if initial is None else as_number("LinearDecay: state to load", "initial", initial, 0)
