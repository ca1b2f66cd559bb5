"""What schedules have in common: the optimizer's own rate, what they make of it together, and the time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cyconv._validation import as_choice, as_int, as_number
from cyconv.training import Callback, Run


class RateKeeper(Callback):
    """Notes the optimizer's own learning rate, and gives it back when the training ends.

    A subclass says what it makes of a rate at the time of the run, and calls `_set` when that has changed.
    """

    def __init__(self) -> None:
        self._initial: float | None = None

    def _rate(self, run: Run, initial: float) -> float:
        raise NotImplementedError

    def _set(self, run: Run) -> None:
        """Give the optimizer what this and all other callbacks of its kind make of its own rate."""
        keepers = [callback for callback in run.callbacks if isinstance(callback, RateKeeper)]
        if self not in keepers:  # called by another callback
            keepers.append(self)
        rate = self._initial
        if rate is not None:
            for keeper in keepers:
                rate = keeper._rate(run, rate)
            run.optimizer.learning_rate = rate

    def on_train_begin(self, run: Run) -> None:
        """Note the initial rate."""
        if run.epoch == 0 or self._initial is None:
            self._initial = run.optimizer.learning_rate

    def on_train_end(self, run: Run) -> None:
        """Give the optimizer its own rate back."""
        if self._initial is not None:
            run.optimizer.learning_rate = self._initial

    def state_dict(self) -> dict[str, Any]:
        """Return the initial rate."""
        return {"initial": self._initial}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set what `state_dict` returned."""
        initial, op = state["initial"], f"{type(self).__name__}: state to load"
        self._initial = None if initial is None else as_number(op, "initial", initial, 0)


def as_rate(op: str, initial: Any, t: Any) -> tuple[float, float]:
    """Return the initial rate and the time of a formula."""
    return as_number(op, "initial", initial, 0), as_number(op, "t", t, 0)


class Schedule(RateKeeper):
    """A learning rate by a formula of the optimizer's own and of the time; a subclass writes `rate`.

    As a callback it sets the rate before each epoch or each step, and gives the optimizer its own back when the
    training ends. By itself, ``optimizer.learning_rate = schedule.rate(initial, t)`` does the same. With another before
    it among the callbacks, `initial` is the rate which that one gives.

    Parameters
    ----------
    per : {"epoch", "step"}, default "epoch"
        What time counts: epochs, or steps of the optimizer.

    Raises
    ------
    ValueError
        If `per` is another.

    Examples
    --------
    >>> from cyconv.schedules import Schedule
    >>> class InverseRoot(Schedule):
    ...     def rate(self, initial, t):
    ...         return initial / (1 + t) ** 0.5
    >>> InverseRoot(per="step").rate(0.1, 99)
    0.01
    """

    def __init__(self, per: str = "epoch") -> None:
        super().__init__()
        self.per = as_choice(type(self).__name__, "per", per, ("epoch", "step"))
        self._steps = 0

    def rate(self, initial: float, t: float) -> float:
        """Return the rate at time `t`, which begins with 0, of an optimizer whose own is `initial`."""
        raise NotImplementedError(f"{type(self).__name__}: `rate` is not written")

    def on_train_begin(self, run: Run) -> None:
        """Note the initial rate, and begin to count steps."""
        super().on_train_begin(run)
        if run.epoch == 0:
            self._steps = 0

    def on_epoch_begin(self, run: Run) -> None:
        """Set the rate of the epoch, or of its first step."""
        self._set(run)

    def on_batch_end(self, run: Run) -> None:
        """Set the rate of the next step."""
        self._steps += run.updated
        if self.per == "step":
            self._set(run)

    def _rate(self, run: Run, initial: float) -> float:
        return self.rate(initial, run.epoch - 1 if self.per == "epoch" else self._steps)

    def state_dict(self) -> dict[str, Any]:
        """Return the initial rate, and the steps so far."""
        return {**super().state_dict(), "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set what `state_dict` returned."""
        super().load_state_dict(state)
        self._steps = as_int(f"{type(self).__name__}: state to load", "steps", state["steps"], 0, 2**62)
