"""What the positions along one axis see of the input: exactly, and as a pattern that repeats without end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]

NOTHING = np.iinfo(np.int64).min  # in place of a position: an input that is not there
FAR, BEFORE = np.iinfo(np.int64).max, np.iinfo(np.int64).min  # first and last of what sees nothing
LONGEST_PATTERN = 2**16  # outputs after which a pattern repeats itself


def zeros_around(positions: Positions, size: int) -> Positions:
    """Return the positions that are within the input, `NOTHING` for the zeros around it."""
    return np.where((positions >= 0) & (positions < size), positions, NOTHING)


class Reach(NamedTuple):
    """What the outputs of a layer see of its input along one axis.

    Attributes
    ----------
    outputs : int
        How many outputs there are.
    taps : callable
        From output positions to the input positions that each sees: arrays of that length, one after the other,
        positions before and behind the input included, `NOTHING` where there is none.
    period : (int, int)
        So many outputs further on, what is seen lies so many inputs further on.
    inside : callable
        From positions, and the number of inputs, to those that stand for them: `NOTHING` for zeros around the input.
    """

    outputs: int
    taps: Callable[[Positions], Iterable[Positions]]
    period: tuple[int, int] = (1, 1)
    inside: Callable[[Positions, int], Positions] = zeros_around


class Pattern(NamedTuple):
    """First and last positions seen by outputs 0 to P - 1; those P further on see what lies `step` further on."""

    first: Positions
    last: Positions
    step: int

    def at(self, positions: Positions) -> tuple[Positions, Positions]:
        """Return what is seen at any positions, also before 0."""
        P = len(self.first)
        inside, shift = positions % P, positions // P * self.step
        first, last = self.first[inside], self.last[inside]
        return np.where(first <= last, first + shift, first), np.where(first <= last, last + shift, last)


@dataclass(frozen=True)
class Axis:
    """What each position sees: `first` to `last`, nothing where first > last; a single one stands for all positions.

    The pattern goes on where the input ends; it is None where there is none, as behind a mean over all positions.
    """

    first: Positions
    last: Positions
    pattern: Pattern | None

    @classmethod
    def of_input(cls, size: int) -> Axis:
        """Return what the input sees of itself."""
        each, zero = np.arange(size), np.zeros(1, np.int64)
        return cls(each, each, Pattern(zero, zero, 1))

    def through(self, reach: Reach) -> Axis:
        """Return what the outputs of a layer see whose input sees this."""

        def exactly(positions: Positions) -> tuple[Positions, Positions]:
            inside = reach.inside(positions, len(self.first))
            there = inside != NOTHING
            index = np.where(there, inside, 0)
            return np.where(there, self.first[index], FAR), np.where(there, self.last[index], BEFORE)

        first, last = _union_of_taps(reach.taps, np.arange(reach.outputs), exactly)
        return Axis(first, last, self._pattern_through(reach))

    def _pattern_through(self, reach: Reach) -> Pattern | None:
        if self.pattern is None:
            return None
        outputs, inputs = reach.period
        P = len(self.pattern.first)
        times = P // math.gcd(P, inputs)
        if outputs * times > LONGEST_PATTERN:
            return None
        ends = _union_of_taps(reach.taps, np.arange(outputs * times), self.pattern.at)
        return Pattern(*ends, inputs * times // P * self.pattern.step)

    def everything(self) -> Axis:
        """Return what one position sees that sees all of these."""
        return Axis(self.first.min(keepdims=True), self.last.max(keepdims=True), None)

    def __or__(self, other: Axis) -> Axis:
        """Return what is seen by either of two ways; one position stands for all of the other."""
        first, last = np.minimum(self.first, other.first), np.maximum(self.last, other.last)
        a, b = self.pattern, other.pattern
        if a is None or b is None or a.step * len(b.first) != b.step * len(a.first):
            return Axis(first, last, None)
        P = math.lcm(len(a.first), len(b.first))
        if P > LONGEST_PATTERN:
            return Axis(first, last, None)
        (first_a, last_a), (first_b, last_b) = (pattern.at(np.arange(P)) for pattern in (a, b))
        step = a.step * (P // len(a.first))
        return Axis(first, last, Pattern(np.minimum(first_a, first_b), np.maximum(last_a, last_b), step))

    @property
    def size(self) -> int:
        """How many neighbouring positions the one sees that sees most."""
        ends = self if self.pattern is None else self.pattern
        seen = ends.first <= ends.last
        return int((ends.last[seen] - ends.first[seen]).max(initial=-1)) + 1

    @property
    def jump(self) -> float | None:
        """How far apart neighbours look on average."""
        if self.pattern is not None:
            return self.pattern.step / len(self.pattern.first)
        alike = (self.first == self.first[0]).all() and (self.last == self.last[0]).all()
        return 0.0 if alike else None

    @property
    def start(self) -> int | None:
        """Where position 0 begins to look; None if it sees nothing."""
        ends = self if self.pattern is None else self.pattern
        return int(ends.first[0]) if ends.first[0] <= ends.last[0] else None


def _union_of_taps(
    taps: Callable[[Positions], Iterable[Positions]],
    outputs: Positions,
    seen: Callable[[Positions], tuple[Positions, Positions]],
) -> tuple[Positions, Positions]:
    """Return the first and the last that outputs see through all of their taps."""
    first, last = np.full(len(outputs), FAR), np.full(len(outputs), BEFORE)
    for positions in taps(outputs):
        there = positions != NOTHING
        tap_first, tap_last = seen(np.where(there, positions, 0))
        np.minimum(first, tap_first, out=first, where=there)
        np.maximum(last, tap_last, out=last, where=there)
    return first, last


# What layers do along one axis


def window(outputs: int, kernel: int, stride: int = 1, before: int = 0, dilation: int = 1) -> Reach:
    """Return the reach of windows that move along, `before` positions of padding in front."""

    def taps(i: Positions) -> Iterable[Positions]:
        return (i * stride - before + t * dilation for t in range(kernel))

    return Reach(outputs, taps, (1, stride))


def transposed_window(outputs: int, kernel: int, stride: int = 1, before: int = 0, dilation: int = 1) -> Reach:
    """Return the reach of windows into which inputs are spread: the converse of `window`."""

    def taps(i: Positions) -> Iterable[Positions]:
        for t in range(kernel):
            quotient, rest = np.divmod(i + before - t * dilation, stride)
            yield np.where(rest == 0, quotient, NOTHING)

    return Reach(outputs, taps, (stride, 1))


def shifted(outputs: int, offset: int = 0, inside: Callable[[Positions, int], Positions] = zeros_around) -> Reach:
    """Return the reach of a copy whose output 0 is input `offset`."""
    return Reach(outputs, lambda i: [i + offset], inside=inside)


def adaptive_window(outputs: int, size: int) -> Reach:
    """Return the reach of windows as equal as they can be that cover the input: floor(i I / O) to ceil((i + 1) I / O).

    See `cyconv._geometry.adaptive_bounds`.
    """

    def taps(i: Positions) -> Iterable[Positions]:
        starts, stops = i * size // outputs, -(-(i + 1) * size // outputs)
        for t in range(-(-size // outputs) + 1):
            yield np.where(starts + t < stops, starts + t, NOTHING)

    common = math.gcd(outputs, size)
    return Reach(outputs, taps, (outputs // common, size // common))


def resampled(outputs: int, size: int, step: float, mode: str, align_corners: bool) -> Reach:
    """Return the reach of interpolation that reads every `step` inputs; see `cyconv.functional.interpolate`."""
    from fractions import Fraction  # here, because it takes milliseconds to import

    if align_corners:
        ratio = Fraction(size - 1, max(outputs - 1, 1))
    else:
        ratio = Fraction(step).limit_denominator(LONGEST_PATTERN)
    a, b = ratio.numerator, ratio.denominator

    def taps(i: Positions) -> Iterable[Positions]:
        if mode == "nearest":
            yield i * a // b
            return
        whole, rest = np.divmod(i * a, b) if align_corners else np.divmod((2 * i + 1) * a - b, 2 * b)
        yield whole
        yield np.where(rest > 0, whole + 1, NOTHING)  # else its weight is zero

    return Reach(outputs, taps, (b, a), lambda positions, inputs: np.clip(positions, 0, inputs - 1))
