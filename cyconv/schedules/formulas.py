"""Learning rates by formulas of the time."""

from __future__ import annotations

import math
from collections.abc import Iterable

from cyconv._validation import as_int, as_list, as_number, brief
from cyconv.schedules.base import RateKeeper, Schedule, as_rate
from cyconv.training import Run


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
