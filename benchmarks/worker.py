"""One library in one process: reads a case a line on standard input, answers with seconds a call.

Two OpenMP runtimes in a process spin against each other, so the driver keeps a worker for each library and lets only
one work at a time. A case is timed with its result's allocation and without its data's generation.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time

REPEAT_SECONDS = 0.04
MOST_REPEATS = 200


def seconds_per_call(function) -> float:
    """Return the mean time of as many calls as fit the repeat time, at least one."""
    started = time.perf_counter()
    calls = 0
    while True:
        function()
        calls += 1
        elapsed = time.perf_counter() - started
        if elapsed > REPEAT_SECONDS or calls >= MOST_REPEATS:
            return elapsed / calls


def main() -> None:
    """Answer cases until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", choices=("cyconv", "torch", "torch_channels_last", "numpy"))
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    module = "torch" if arguments.library.startswith("torch") else arguments.library
    library = importlib.import_module(f"benchmarks.libraries.with_{module}")
    library.start(arguments.threads, arguments.library.endswith("channels_last"))
    print(json.dumps(library.describe()), flush=True)
    functions: dict = {}
    for line in sys.stdin:
        case = json.loads(line)
        if case["do"] == "prepare":
            functions = library.prepare(case["kind"], **case["parameters"])
            for function in functions.values():
                function()  # warm up
            answer = list(functions)
        else:
            answer = seconds_per_call(functions[case["name"]])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
