"""One library in one process: reads a request a line on standard input, answers a line each.

Two OpenMP runtimes in a process spin against each other, so the driver keeps a worker for each library and lets only
one work at a time. A case is timed with its result's allocation and without its data's generation.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import resource
import signal
import sys
import time

from benchmarks import accuracy
from benchmarks.libraries import LIBRARIES
from benchmarks.libraries.data import Work

REPEAT_SECONDS = 0.04
MOST_REPEATS = 200
WARM_UP_SECONDS, WARM_UP_CALLS = 1.0, 3
STEPS, STEPS_SECONDS = 5, 5.0  # over which page faults are counted: so many, fewer where they take longer
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


def seconds_per_call(function) -> float:
    """Return the mean time of as many calls as fit the repeat time, at least one, after one that is not counted.

    That one follows a pause: caches are cold then, threads asleep, and often two of them wake up on one core.
    """
    function()
    started = time.perf_counter()
    calls = 0
    while True:
        function()
        calls += 1
        elapsed = time.perf_counter() - started
        if elapsed > REPEAT_SECONDS or calls >= MOST_REPEATS:
            return elapsed / calls


def warm_up(function) -> None:
    """Call until caches are filled and code is compiled: a few times, once where that takes long."""
    started = time.perf_counter()
    for _ in range(WARM_UP_CALLS):
        function()
        if time.perf_counter() - started > WARM_UP_SECONDS:
            break


def peak_bytes() -> int:
    """Return the most memory this process ever had resident."""
    try:  # getrusage's maximum is at least that of the process that started this one
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT


def memory_of(library, parameters: dict) -> dict:
    """Return peak resident memory before and after some training steps, and minor page faults per step."""
    before = peak_bytes()
    work = library.prepare("train", **parameters)
    if work is None:
        return {}
    step = work.functions["step"]
    for _ in range(2):  # the second finds what the first left
        step()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    started = time.perf_counter()
    steps = 0
    while steps < STEPS and time.perf_counter() - started < STEPS_SECONDS:
        step()
        steps += 1
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return {"imported": before, "peak": peak_bytes(), "faults": faults / steps, "parameters": work.parameters}


def main() -> None:
    """Answer requests until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver's affair: it ends this process's input
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a compiler or library prints must not look like an answer

    def answer(value: object) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    module, mode = LIBRARIES[arguments.library]
    try:
        library = importlib.import_module(f"benchmarks.libraries.{module}")
        library.start(arguments.threads, mode)
        answer(library.describe())
    except Exception as error:
        answer({"failed": reason(error)})
        return
    work: Work | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "time":
                assert work is not None
                answer({"seconds": seconds_per_call(work.functions[request["direction"]])})
                continue
            work = None
            gc.collect()
            if request["do"] == "memory":
                answer(memory_of(library, request["parameters"]))
            elif request["do"] == "errors":
                kind, parameters = request["kind"], request["parameters"]
                answer(accuracy.errors(kind, parameters, library.results(kind, parameters, request["exact"])))
            elif request["do"] == "prepare":
                work = library.prepare(request["kind"], **request["parameters"])
                if work is None:
                    answer({"directions": []})
                    continue
                for function in work.functions.values():
                    warm_up(function)
                answer(
                    {
                        "directions": list(work.functions),
                        "parameters": work.parameters,
                        "operations": work.operations,
                    }
                )
            else:  # "rest": the memory is free for the others
                answer({})
        except Exception as error:
            work = None
            answer({"failed": reason(error)})


def reason(error: Exception) -> str:
    """Return an error in one line."""
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first.strip()}"[:160]


if __name__ == "__main__":
    main()
