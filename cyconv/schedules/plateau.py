"""A learning rate that falls when a run no longer improves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from cyconv._validation import as_int, as_number, brief
from cyconv.callbacks import Monitor
from cyconv.schedules.base import RateKeeper
from cyconv.training import Run


class ReduceOnPlateau(RateKeeper):
    """Multiply the learning rate by a factor when a recorded number no longer improves.

    Parameters
    ----------
    monitor : str, default "val_loss"
        What is watched.
    factor : float, default 0.1
        What the rate is multiplied by; below 1.
    patience : int, default 10
        Epochs without improvement that are borne.
    threshold : float, default 1e-4
        Share of the best number by which another must be better to count as an improvement.
    cooldown : int, default 0
        Epochs after a reduction that are not judged.
    minimum : float, default 0
        The rate does not fall below it.
    mode : {"auto", "min", "max"}, default "auto"
        Whether the number is to shrink or to grow; "auto" knows the usual names, such as loss and error, accuracy, IoU
        and F1.

    Raises
    ------
    TypeError, ValueError
        If one is of another kind or out of range, or "auto" does not know the name; in `fit`, if `monitor` is not
        recorded.

    Notes
    -----
    An epoch improves on the best if ``number < best - threshold * |best|``, or if it is to grow
    ``number > best + threshold * |best|``. For positive numbers the rules are those of PyTorch's ReduceLROnPlateau.

    Examples
    --------
    >>> from cyconv.schedules import ReduceOnPlateau
    >>> plateau, rate = ReduceOnPlateau(patience=1, factor=0.5), 1.0
    >>> for loss in (3.0, 2.0, 2.0, 2.0, 2.0):
    ...     rate = plateau.next_rate(rate, loss)
    >>> rate
    0.5
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        minimum: float = 0.0,
        mode: str = "auto",
    ) -> None:
        super().__init__()
        op = "ReduceOnPlateau"
        self._monitor = Monitor(op, monitor, mode)
        self.monitor, self.mode = monitor, mode
        self.factor = as_number(op, "factor", factor, 0, 1, open_maximum=True)
        self.patience = as_int(op, "patience", patience, 0)
        self.threshold = as_number(op, "threshold", threshold, 0)
        self.cooldown = as_int(op, "cooldown", cooldown, 0)
        self.minimum = as_number(op, "minimum", minimum, 0)
        self._best: float | None = None
        self._wait = self._resting = self._reductions = 0

    def next_rate(self, rate: float, value: float) -> float:
        """Return the rate after an epoch that had `rate` and came to `value`."""
        rate = as_number("ReduceOnPlateau", "rate", rate, 0)
        if not isinstance(value, Real):  # NaN is a number that a run may come to
            raise TypeError(f"ReduceOnPlateau: `value` must be a number, got {brief(value)}")
        return self._reduced(rate) if self._is_time(float(value)) else rate

    def _reduced(self, rate: float) -> float:
        return max(rate * self.factor, self.minimum)

    def _is_time(self, value: float) -> bool:
        """Return whether the rate is to be reduced after an epoch that came to `value`."""
        best = self._monitor.worst if self._best is None else self._best
        margin = self.threshold * abs(best) if math.isfinite(best) else 0.0
        if self._monitor.improves(value, best, margin):
            self._best, self._wait = value, 0
        else:
            self._wait += 1
        if self._resting:
            self._resting, self._wait = self._resting - 1, 0
        if self._wait <= self.patience:
            return False
        self._resting, self._wait = self.cooldown, 0
        return True

    def on_train_begin(self, run: Run) -> None:
        """Note the initial rate; forget former runs, unless this one is resumed."""
        super().on_train_begin(run)
        if run.epoch == 0:
            self._best, self._wait, self._resting, self._reductions = None, 0, 0, 0

    def on_epoch_end(self, run: Run) -> None:
        """Compare with the best epoch, and set the next one's rate."""
        if self._is_time(self._monitor.value(run)):
            self._reductions += 1
            self._set(run)

    def _rate(self, run: Run, initial: float) -> float:
        for _ in range(self._reductions):
            initial = self._reduced(initial)
        return initial

    def state_dict(self) -> dict[str, Any]:
        """Return the initial rate, how often it was reduced, the best number, and the epochs since."""
        counts = {"wait": self._wait, "resting": self._resting, "reductions": self._reductions}
        return {**super().state_dict(), "best": self._best, **counts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set what `state_dict` returned."""
        super().load_state_dict(state)
        op, best = "ReduceOnPlateau: state to load", state["best"]
        self._best = None if best is None else as_number(op, "best", best)
        self._wait, self._resting = as_int(op, "wait", state["wait"], 0), as_int(op, "resting", state["resting"], 0)
        self._reductions = as_int(op, "reductions", state["reductions"], 0)
