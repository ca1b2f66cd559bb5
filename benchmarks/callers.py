"""Predictions a second of several Python threads at once, at the default and at each fixed number of threads."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np

import cyconv

CALLERS = 8
BATCHES = (1, 4, 32)
SECONDS = 1.0  # of each measurement


def rate(network: cyconv.Network, x: np.ndarray, count: int | None) -> float:
    """Return how many batches a second all callers predict, on `count` threads each or, for None, as they share."""
    done, start, stop = [0] * CALLERS, threading.Barrier(CALLERS + 1), threading.Event()

    def call(i: int) -> None:
        with nullcontext() if count is None else cyconv.num_threads(count):
            for _ in range(3):
                network.predict(x)
            start.wait()
            while not stop.is_set():
                network.predict(x)
                done[i] += 1

    callers = [threading.Thread(target=call, args=(i,)) for i in range(CALLERS)]
    for caller in callers:
        caller.start()
    start.wait()
    begin = time.perf_counter()
    time.sleep(SECONDS)
    stop.set()
    for caller in callers:
        caller.join()
    return sum(done) / (time.perf_counter() - begin)


def measure(rounds: int) -> Iterator[dict]:
    """Yield for each batch size the rates, medians over rounds, and the default's over the best fixed number's."""
    network = cyconv.models.resnet20(seed=0).eval()
    counts = sorted({1, *(2**i for i in range(1, 11) if 2**i < cyconv.get_num_threads()), cyconv.get_num_threads()})
    for batch in BATCHES:
        x = np.random.default_rng(0).random((batch, 3, 32, 32), np.float32)
        found: dict[int | None, list[float]] = {count: [] for count in [None, *counts]}
        for _ in range(rounds):
            for count, rates in found.items():
                rates.append(batch * rate(network, x, count))
        best = max(counts, key=lambda count: statistics.median(found[count]))
        ratio = statistics.median(a / b for a, b in zip(found[None], found[best], strict=True))
        yield {
            "batch": batch,
            "default": statistics.median(found[None]),
            "fixed": {count: statistics.median(found[count]) for count in counts},
            "ratio": ratio,
        }


def line(row: dict) -> str:
    """Return a row of the table."""
    fixed = ", ".join(f"{rate:,.0f} on {count}" for count, rate in row["fixed"].items())
    return (
        f"ResNet-20, batch {row['batch']}, {CALLERS} callers: {row['default']:,.0f} images/s at the default; {fixed}; "
        f"default / best fixed {row['ratio']:.2f}"
    )
