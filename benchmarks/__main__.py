"""Measure cyconv beside its peers and against the machine's peaks.

Kinds: conv, pool, norm (layers, with their gradients), direct (the direct kernel alone), ops (all other operations and
the steps of optimizers), image (filters of a picture of four megapixels), scaling (one layer at several batch sizes,
image sizes and channels), train, predict (whole networks), models (a training step of all others), memory (of training
steps), accuracy (rounding errors of convolutions and linear layers), all. By itself: callers (predictions of several
Python threads at once, at the default and at fixed numbers of threads; wants a machine with nothing else to do).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from benchmarks import driver, peak, report
from benchmarks.libraries import PEERS


def run(arguments: argparse.Namespace, kinds: list[str], peers: list[str], threads: int) -> dict:
    """Measure all cases at one thread count, printing rows as they come."""
    workers = driver.start(peers, threads, arguments.python)
    isa = workers["cyconv"].description["isa"]
    timed = bool(set(kinds) - set(driver.UNTIMED))
    result: dict[str, Any] = {
        "threads": threads,
        "fma_peak": peak.multiply_add(isa, threads) if timed else 0.0,
        "memory_peaks": peak.memory(isa, threads) if timed else {},
        "libraries": {name: worker.description for name, worker in workers.items()},
        "rows": [],
    }
    names = columns(workers)
    cases = list(driver.cases(kinds, arguments.only))
    if any(case.kind not in driver.UNTIMED for case in cases):
        print(report.header(result, names), flush=True)
    try:
        for case in cases:
            if case.kind == "accuracy":
                for row in driver.measure_accuracy(workers, case):
                    result["rows"].append(row)
                    print(report.accuracy_line(row), flush=True)
            elif case.kind != "memory":
                for row in driver.measure(workers, case, arguments.rounds):
                    result["rows"].append(row)
                    print(report.line(row, result, names), flush=True)
        for worker in workers.values():
            worker.stop()
        for case in cases:
            if case.kind == "memory":
                row = driver.measure_memory(case, peers, threads, arguments.python)
                result["rows"].append(row)
                print(report.memory_line(row), flush=True)
        if timed:  # once more, as other processes may have been in the way: the tables and pictures take the better
            result["fma_peak"] = max(result["fma_peak"], peak.multiply_add(isa, threads))
            for name, rate in peak.memory(isa, threads).items():
                result["memory_peaks"][name] = max(result["memory_peaks"][name], rate)
    except KeyboardInterrupt:
        print("benchmarks: interrupted; what follows is what was measured", file=sys.stderr)
        result["interrupted"] = True
        for worker in workers.values():
            worker.kill()
    return result


def columns(workers: dict) -> list[str]:
    """Return what is compared with: PyTorch's better layout, then each peer that there is."""
    layouts = [name for name in PEERS["torch"] if name in workers]
    return [*(["torch"] if len(layouts) > 1 else []), *(name for name in workers if name != "cyconv")]


def processor() -> str:
    """Return the CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def listed(parser: argparse.ArgumentParser, text: str, known: tuple[str, ...]) -> list[str]:
    """Return the parts of a list with commas, all of which must be known."""
    parts = [part for part in text.split(",") if part]
    for part in parts:
        if part not in known:
            parser.error(f"{part!r} is none of {', '.join(known)}")
    return parts


def main() -> None:
    """Parse arguments, measure, print, save."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "kinds", nargs="*", metavar="KIND", help="what to measure (default: conv direct pool norm ops image)"
    )
    parser.add_argument("--threads", default="1,2", help="thread counts, separated by commas (default 1,2)")
    parser.add_argument("--peer", default="torch,torch_compile,numpy,scipy", help="of these, separated by commas")
    parser.add_argument("--rounds", type=int, default=3, help="alternations of each case (default 3)")
    parser.add_argument("--only", default="", help="only cases whose label contains this")
    parser.add_argument("--json", type=Path, help="write every time measured")
    parser.add_argument("--plot", type=Path, help="write pictures (PNG): FILE-conv, FILE-roofline, FILE-scaling, ...")
    parser.add_argument("--python", default=sys.executable, help="interpreter with PyTorch and cyconv")
    arguments = parser.parse_args()
    kinds = listed(parser, ",".join(arguments.kinds), (*driver.KINDS, "callers", "all")) or list(driver.LAYERS)
    if "callers" in kinds:
        from benchmarks import callers

        for row in callers.measure(arguments.rounds):
            print(callers.line(row), flush=True)
        kinds.remove("callers")
        if not kinds:
            return
    kinds = list(driver.KINDS) if "all" in kinds else kinds
    peers = listed(parser, arguments.peer, tuple(PEERS))
    if not set(kinds) & set(driver.NETWORKS):
        peers = [peer for peer in peers if peer != "torch_compile"]
    if "image" not in kinds or kinds == ["image"]:  # which is SciPy's alone
        peers = [peer for peer in peers if (peer == "scipy") == ("image" in kinds)]
    if kinds == ["accuracy"]:
        peers = [peer for peer in peers if peer == "torch"]
    runs: list[dict] = []
    for threads in arguments.threads.split(","):
        runs.append(run(arguments, kinds, peers, int(threads)))
        if "interrupted" in runs[-1]:
            break
    machine = {"processor": processor(), "cores": os.cpu_count(), "platform": platform.platform()}
    print(f"\n{machine['processor']}, {machine['cores']} cores, float32 but where a label says otherwise")
    print("Times include allocating the result. Ratios: the peer's time over cyconv's, medians over rounds;")
    print("geometric mean of layers (least)\n")
    for result in runs:
        names = [name for name in report.TITLES if name == "torch" or name in result["libraries"]]
        print(report.summary(result, names), end="\n\n")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "runs": runs}, indent=1))
    if arguments.plot:
        from benchmarks import plot

        for path in plot.pictures(runs, f"{machine['processor']}, {machine['cores']} cores", arguments.plot):
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
