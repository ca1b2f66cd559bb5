"""Learning rates that change while training, as callbacks, and as formulas by themselves.

Several of them compose: in the order of the callbacks each takes for the initial rate what those before it give, so
that a warm-up scales what another decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import cyconv.layers  # noqa: F401  (whole, before its parts: see cyconv/__init__.py)
from cyconv._validation import as_choice, as_int, as_list, as_number, brief
from cyconv.callbacks import Monitor
from cyconv.training import Callback, Run

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


class RateKeeper(Callback):
    """Notes the optimizer's own learning rate, and gives it back when the training ends.

    A subclass says what it makes of a rate at the time of the run, and calls `_set` when that has changed.
    """

    def __init__(self) -> None:
        self._initial: float | None = None

    def _rate(self, run: Run, initial: float) -> float:
        raise NotImplementedError(f"{type(self).__name__}: `_rate` is not written")

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


class LinearDecay(RateKeeper):
    """Let the learning rate fall linearly, epoch by epoch, from the optimizer's own in the first towards zero.

    Epoch e of E, from 1, has the rate ``initial * (1 - (e - 1) / E)``. Large steps find the region, small
    ones settle in it. The optimizer has its own rate again when the training ends.

    Examples
    --------
    >>> from cyconv.schedules import LinearDecay
    >>> [LinearDecay.rate(0.1, epoch, epochs=4) for epoch in (1, 4)]
    [0.1, 0.025]
    """

    @staticmethod
    def rate(initial: float, epoch: int, epochs: int) -> float:
        """Return the rate of an epoch."""
        op = "LinearDecay"
        initial = as_number(op, "initial", initial, 0)
        epoch, epochs = as_int(op, "epoch", epoch), as_int(op, "epochs", epochs)
        return initial * (1 - (epoch - 1) / epochs)

    def on_epoch_begin(self, run: Run) -> None:
        """Set the epoch's rate."""
        self._set(run)

    def _rate(self, run: Run, initial: float) -> float:
        return self.rate(initial, run.epoch, run.epochs)


class StepDecay(Schedule):
    """Multiply the learning rate by a factor every so many epochs or steps.

    Parameters
    ----------
    every : int
        How many.
    factor : float, default 0.1
        What the rate is multiplied by.
    per : {"epoch", "step"}, default "epoch"
        What `every` counts.

    Raises
    ------
    TypeError, ValueError
        If one is of another kind or out of range.

    Notes
    -----
    ``rate = initial * factor^floor(t / every)``.

    Examples
    --------
    >>> from cyconv.schedules import StepDecay
    >>> [StepDecay(30, factor=0.5).rate(1.0, t) for t in (0, 29, 30, 60)]
    [1.0, 1.0, 0.5, 0.25]
    """

    def __init__(self, every: int, factor: float = 0.1, per: str = "epoch") -> None:
        super().__init__(per)
        self.every = as_int("StepDecay", "every", every)
        self.factor = as_number("StepDecay", "factor", factor, 0)

    def rate(self, initial: float, t: float) -> float:
        """Return the rate at time `t`."""
        initial, t = as_rate(type(self).__name__, initial, t)
        return initial * self.factor ** (t // self.every)


class MultiStepDecay(Schedule):
    """Multiply the learning rate by a factor at given epochs or steps.

    Parameters
    ----------
    milestones : iterable of int
        When, from 0: an epoch's or step's rate is the first that is smaller.
    factor : float, default 0.1
        What the rate is multiplied by.
    per : {"epoch", "step"}, default "epoch"
        What `milestones` count.

    Raises
    ------
    TypeError, ValueError
        If one is of another kind or out of range.

    Notes
    -----
    ``rate = initial * factor^(number of milestones <= t)``. He et al. (2016) train so on CIFAR-10, with milestones at
    steps 32,000 and 48,000.

    Examples
    --------
    >>> from cyconv.schedules import MultiStepDecay
    >>> [MultiStepDecay([2, 3], factor=0.5).rate(1.0, t) for t in range(5)]
    [1.0, 1.0, 0.5, 0.25, 0.25]
    """

    def __init__(self, milestones: Iterable[int], factor: float = 0.1, per: str = "epoch") -> None:
        super().__init__(per)
        steps = as_list("MultiStepDecay", "milestones", milestones, "integers")
        self.milestones = sorted(as_int("MultiStepDecay", "milestones", each) for each in steps)
        self.factor = as_number("MultiStepDecay", "factor", factor, 0)

    def rate(self, initial: float, t: float) -> float:
        """Return the rate at time `t`."""
        initial, t = as_rate(type(self).__name__, initial, t)
        return initial * self.factor ** sum(milestone <= t for milestone in self.milestones)


class ExponentialDecay(Schedule):
    """Multiply the learning rate by a factor after every epoch or step.

    Parameters
    ----------
    factor : float
        What the rate is multiplied by.
    per : {"epoch", "step"}, default "epoch"
        After what.

    Raises
    ------
    TypeError, ValueError
        If one is of another kind or out of range.

    Notes
    -----
    ``rate = initial * factor^t``.

    Examples
    --------
    >>> from cyconv.schedules import ExponentialDecay
    >>> [ExponentialDecay(0.5).rate(1.0, t) for t in range(3)]
    [1.0, 0.5, 0.25]
    """

    def __init__(self, factor: float, per: str = "epoch") -> None:
        super().__init__(per)
        self.factor = as_number("ExponentialDecay", "factor", factor, 0)

    def rate(self, initial: float, t: float) -> float:
        """Return the rate at time `t`."""
        initial, t = as_rate(type(self).__name__, initial, t)
        return initial * self.factor**t


class CosineDecay(Schedule):
    """Let the learning rate fall along half a cosine, and stay where that ends (Loshchilov and Hutter 2017).

    Parameters
    ----------
    total : int
        Epochs or steps until the minimum.
    minimum : float, default 0
        The rate then.
    per : {"epoch", "step"}, default "epoch"
        What `total` counts.

    Raises
    ------
    TypeError, ValueError
        If one is of another kind or out of range.

    Notes
    -----
    ``rate = minimum + (initial - minimum) * (1 + cos(pi * min(t / total, 1))) / 2``: equation 5 of I. Loshchilov, F.
    Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, ICLR 2017, without restarts.

    Examples
    --------
    >>> from cyconv.schedules import CosineDecay
    >>> [round(CosineDecay(4).rate(1.0, t), 3) for t in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    def __init__(self, total: int, minimum: float = 0.0, per: str = "epoch") -> None:
        super().__init__(per)
        self.total = as_int("CosineDecay", "total", total)
        self.minimum = as_number("CosineDecay", "minimum", minimum, 0)

    def rate(self, initial: float, t: float) -> float:
        """Return the rate at time `t`."""
        initial, t = as_rate(type(self).__name__, initial, t)
        return _cosine(initial, self.minimum, min(t / self.total, 1.0))


class WarmUp(Schedule):
    """Let the learning rate rise linearly to the optimizer's own, and then follow another schedule.

    Parameters
    ----------
    length : int
        Epochs or steps of the rise.
    start : float, default 1/3
        Share of the optimizer's rate at which it begins.
    then : Schedule, optional
        What comes after it, in the same units, its time beginning there. Default: the optimizer's rate stays.
    per : {"epoch", "step"}, default "epoch"
        What `length` counts.

    Raises
    ------
    TypeError, ValueError
        If one is of another kind or out of range.

    Notes
    -----
    ``rate = initial * (start + (1 - start) * t / length)`` for t < length (Goyal et al. 2017, section 2.2).

    Examples
    --------
    >>> from cyconv.schedules import ExponentialDecay, WarmUp
    >>> schedule = WarmUp(2, start=0.5, then=ExponentialDecay(0.5))
    >>> [schedule.rate(1.0, t) for t in range(5)]
    [0.5, 0.75, 1.0, 0.5, 0.25]
    """

    def __init__(self, length: int, start: float = 1 / 3, then: Schedule | None = None, per: str = "epoch") -> None:
        super().__init__(per)
        self.length = as_int("WarmUp", "length", length)
        self.start = as_number("WarmUp", "start", start, 0, 1)
        if then is not None and not isinstance(then, Schedule):
            raise TypeError(
                f"WarmUp: `then` must be a Schedule, got {brief(then)}; other callbacks come after it in the list"
            )
        if then is not None and then.per != self.per:
            raise ValueError(f"WarmUp: `then` must count what `per` says, {self.per}s, got one per {then.per}")
        self.then = then

    def rate(self, initial: float, t: float) -> float:
        """Return the rate at time `t`."""
        initial, t = as_rate(type(self).__name__, initial, t)
        if t < self.length:
            return initial * (self.start + (1 - self.start) * t / self.length)
        return initial if self.then is None else self.then.rate(initial, t - self.length)


class OneCycle(Schedule):
    """Let the learning rate rise to the optimizer's own and fall far below where it began (Smith and Topin 2018).

    Parameters
    ----------
    total : int
        Steps or epochs of the cycle; at least 2.
    rise : float, default 0.3
        Share of them until the peak.
    start : float, default 1/25
        Share of the peak at which the cycle begins.
    end : float, default 1e-4
        Share of the beginning at which it ends.
    per : {"step", "epoch"}, default "step"
        What `total` counts.

    Raises
    ------
    TypeError, ValueError
        If one is of another kind or out of range.

    Notes
    -----
    The peak is at ``p = rise * total - 1``; before and after it the rate follows half a cosine, to ``total - 1``. These
    are PyTorch's OneCycleLR and its defaults, with ``cycle_momentum=False``.

    L. N. Smith, N. Topin, Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates, 2018.

    Examples
    --------
    >>> from cyconv.schedules import OneCycle
    >>> schedule = OneCycle(total=10, rise=0.5)
    >>> [round(schedule.rate(1.0, t), 3) for t in (0, 2, 4, 7, 9)]
    [0.04, 0.52, 1.0, 0.345, 0.0]
    """

    def __init__(
        self, total: int, rise: float = 0.3, start: float = 1 / 25, end: float = 1e-4, per: str = "step"
    ) -> None:
        super().__init__(per)
        self.total = as_int("OneCycle", "total", total, 2)
        self.rise = as_number("OneCycle", "rise", rise, 0, 1)
        self.start = as_number("OneCycle", "start", start, 0, 1)
        self.end = as_number("OneCycle", "end", end, 0)

    def rate(self, initial: float, t: float) -> float:
        """Return the rate at time `t`."""
        initial, t = as_rate(type(self).__name__, initial, t)
        first, peak, last = self.start * initial, self.rise * self.total - 1, self.total - 1
        if t <= peak:
            return _cosine(first, initial, t / peak if peak > 0 else 1.0)
        return _cosine(initial, self.end * first, min((t - peak) / (last - peak), 1.0) if last > peak else 1.0)


def _cosine(start: float, end: float, share: float) -> float:
    """Return the number at a share of the way from `start` to `end`, along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


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
