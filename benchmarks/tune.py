"""Print the evidence behind cyconv's thresholds: both sides' times over a range around each.

`python -m benchmarks.tune [NAME ...]`; a row where the side that the threshold chooses is the slower one by more than a
tenth ends in "<".
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NamedTuple

import numpy as np

import cyconv
from benchmarks.__main__ import processor
from benchmarks.libraries.with_cyconv import image
from benchmarks.report import counted
from benchmarks.worker import seconds_per_call
from cyconv import functional as F
from cyconv import threads
from cyconv.functional import _columns, _correlation, _taps, conv

ALWAYS = 2**62
MARGIN = 1.1  # a wrong choice that costs less than this is within the noise


class Threshold(NamedTuple):
    """A number above or below which another way is taken."""

    name: str
    module: ModuleType
    question: str
    sides: tuple[str, str]  # what is done where the threshold is 0 (or 1), and where it is out of reach
    lowest: int
    reached: Callable[[int, int], bool]  # (value, threshold): whether the first side is taken
    trials: Callable[[], Iterator[tuple[str, int, Callable[[], object]]]]  # (case, value, what to time)


def convolution(direction: str, n: int, ic: int, oc: int, size: int, kernel: int = 3, stride: int = 1, **options):
    """Return a call of one direction of a convolution that keeps the size."""
    x, weight = image(n, ic, size, size), image(oc, ic, kernel, kernel, seed=1)
    same = {"stride": stride, "padding": kernel // 2, **options}
    if direction == "forward":
        return lambda: F.conv2d(x, weight, None, **same)
    grad = F.conv2d(x, weight, None, **same)
    needs = (direction == "grad_input", direction == "grad_weight", False)
    return lambda: F.conv2d_backward(grad, x, weight, None, **same, needs=needs)


def few_channels():
    """Vary the output channels; the input gradient's are those of the input."""
    for channels in (1, 3, 4, 6, 8, 10, 12, 16):
        yield "5x5, 6 in, @112 n4, forward", channels, convolution("forward", 4, 6, channels, 112, 5)
    for channels in (1, 3, 4, 6, 8, 10, 12, 16):
        yield "3x3, 64 out, @112 n4, input gradient", channels, convolution("grad_input", 4, channels, 64, 112)


def tiles(direction: str):
    """Vary the batch of the networks' smallest images, where a tile of 4x4 pixels is a quarter of an image."""
    for channels, size in ((512, 7), (256, 14)):
        per_image = (-(-size // 4)) ** 2
        for n in (1, 2, 4, 6, 8, 12, 16, 32, 64):
            if per_image * n <= 512:
                case = f"3x3 {channels}-{channels} @{size}, {direction}"
                yield case, per_image * n, convolution(direction, n, channels, channels, size)


def channels(direction: str):
    """Vary the channels of an image large enough for Winograd otherwise."""
    for size, n in ((32, 16), (112, 2)):
        for count in (16, 32, 48, 64, 96):
            yield f"3x3 @{size} n{n}, {direction}", count, convolution(direction, n, count, count, size)


def phases():
    """Vary the stride under a kernel of 3, most of whose phases receive nothing."""
    for stride in (2, 3, 4, 5, 6, 8, 16):
        yield "3x3 32-32 @96 n4, input gradient", stride, convolution("grad_input", 4, 32, 32, 96, 3, stride)


def column_bytes():
    """Vary the matrix of patches that the textbook path works on at a time."""
    for exponent in (18, 20, 22, 24, 26):
        call = convolution("grad_input", 8, 64, 64, 56, algorithm="im2col")
        yield "3x3 64-64 @56 n8, im2col, input gradient", 1 << exponent, call


def grain():
    """Vary the work, in operations as `threads_for` counts them."""
    for exponent in range(12, 21):
        work = 1 << exponent
        x = image(1, 16, 1, work // 16)
        yield "ReLU", work, lambda x=x: F.relu(x)
    for exponent in range(12, 21):
        pixels = (1 << exponent) // (9 * 8 * 8)
        side = max(1, round(pixels**0.5))
        yield "3x3 8-8", side * side * 9 * 8 * 8, convolution("forward", 1, 8, 8, side)
    for exponent in range(12, 21):
        a = np.zeros(((1 << exponent) // (64 * 64), 64), np.float32)
        if len(a):
            weight = np.zeros((64, 64), np.float32)
            yield "linear 64-64", len(a) * 64 * 64, lambda a=a, weight=weight: F.linear(a, weight)


WINOGRAD = ("Winograd", "direct")
THRESHOLDS = [
    Threshold(
        "FEW_CHANNELS",
        _correlation,
        "output channels up to which vectors run along pixels",
        ("along channels", "along pixels"),
        0,
        lambda value, threshold: value > threshold,
        few_channels,
    ),
    Threshold(
        "LEAST_TILES",
        _correlation,
        "4x4 tiles from which Winograd's filters pay",
        WINOGRAD,
        0,
        lambda value, threshold: value >= threshold,
        lambda: itertools.chain(tiles("forward"), tiles("grad_input")),
    ),
    Threshold(
        "LEAST_GRADIENT_TILES",
        _correlation,
        "4x4 tiles from which Winograd pays for the weight gradient",
        WINOGRAD,
        0,
        lambda value, threshold: value >= threshold,
        lambda: tiles("grad_weight"),
    ),
    Threshold(
        "LEAST_CHANNELS",
        _correlation,
        "channels from which Winograd's transforms pay",
        WINOGRAD,
        0,
        lambda value, threshold: value >= threshold,
        lambda: channels("forward"),
    ),
    Threshold(
        "FEW_PHASES",
        _taps,
        "stride up to which all phases of the input gradient are filled one by one",
        ("zeros first", "one by one"),
        0,
        lambda value, threshold: value > threshold,
        phases,
    ),
    Threshold(
        "GRAIN",
        threads,
        "operations below which another thread costs more than it saves (two threads from twice that)",
        ("all threads", "one thread"),
        1,
        lambda value, threshold: value >= 2 * threshold,
        grain,
    ),
]


@contextmanager
def setting(module: ModuleType, name: str, value: int):
    """Set a threshold for a while."""
    before = getattr(module, name)
    setattr(module, name, value)
    _forget_plans()
    try:
        yield
    finally:
        setattr(module, name, before)
        _forget_plans()


def _forget_plans() -> None:
    """Forget what was decided with another value."""
    for planning in (conv, _correlation, _taps):
        for cached in vars(planning).values():
            if hasattr(cached, "cache_clear"):
                cached.cache_clear()


def compare(module: ModuleType, name: str, values: list[int], call: Callable, rounds: int) -> list[float]:
    """Return the median seconds of a call with each value of a threshold, alternating."""
    times: list[list[float]] = [[] for _ in values]
    for _ in range(rounds):
        for value, found in zip(values, times, strict=True):
            with setting(module, name, value):
                call()
                found.append(seconds_per_call(call))
    return [statistics.median(found) for found in times]


def evidence(threshold: Threshold, rounds: int) -> Iterator[str]:
    """Yield the lines of a threshold's table."""
    current = getattr(threshold.module, threshold.name, None)
    yield f"\n{threshold.module.__name__}.{threshold.name} = {current}: {threshold.question}"
    if current is None:
        yield "    there is no such threshold any more"
        return
    sides = threshold.sides
    yield f"    {'':44}{'value':>9}{sides[0] + ' us':>19}{sides[1] + ' us':>19}{'ratio':>8}  chosen"
    for case, value, call in threshold.trials():
        times = compare(threshold.module, threshold.name, [threshold.lowest, ALWAYS], call, rounds)
        chosen = 0 if threshold.reached(value, current) else 1
        wrong = " <" if times[chosen] > MARGIN * times[1 - chosen] else ""
        yield (
            f"    {case:44}{value:9}{times[0] * 1e6:19.1f}{times[1] * 1e6:19.1f}{times[1] / times[0]:8.2f}  "
            f"{sides[chosen]}{wrong}"
        )


def main() -> None:
    """Print the tables asked for."""
    names = [threshold.name for threshold in THRESHOLDS] + ["COLUMN_BYTES"]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)} (default: all)")
    parser.add_argument("--threads", type=int, default=1, help="for all but GRAIN, which has at least 2 (default 1)")
    parser.add_argument("--rounds", type=int, default=3, help="alternations (default 3)")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(names):
        parser.error(f"{', '.join(unknown)}: none of {', '.join(names)}")
    wanted = arguments.names or names
    print(f"{processor()}, {counted(arguments.threads)}, float32")
    for threshold in THRESHOLDS:
        if threshold.name in wanted:
            cyconv.set_num_threads(max(arguments.threads, 2) if threshold.name == "GRAIN" else arguments.threads)
            for line in evidence(threshold, arguments.rounds):
                print(line, flush=True)
    if "COLUMN_BYTES" in wanted:
        print(f"\n{_columns.__name__}.COLUMN_BYTES = {_columns.COLUMN_BYTES}: the textbook path's workspace")
        for case, value, call in column_bytes():
            (seconds,) = compare(_columns, "COLUMN_BYTES", [value], call, arguments.rounds)
            print(f"    {case:44}{value:9}{seconds * 1e6:19.1f} us")


if __name__ == "__main__":
    main()
