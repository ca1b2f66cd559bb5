"""Measure cyconv beside its peers: worker processes, one library each, alternating, one at work at a time."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import peak, shapes

TORCH = ("torch", "torch_channels_last")
REST = 0.05  # seconds between two workers: idle threads of OpenBLAS and OpenMP spin on for up to some 25 ms


class Worker:
    """A library in a process of its own."""

    def __init__(self, library: str, threads: int, python: str):
        count = str(threads)
        environment = {**os.environ, "OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "MKL_NUM_THREADS": count}
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", library, "--threads", count],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parent.parent,
        )
        self.description = self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("benchmarks: a worker process ended early; its message is above")
        return json.loads(line)

    def ask(self, **case):
        """Send a case and return the answer."""
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def stop(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def cases(kinds: list[str]) -> Iterator[tuple[str, str, dict, int]]:
    """Yield (kind, label, parameters, operations of one direction)."""
    if "conv" in kinds:
        for layer in shapes.CONVOLUTIONS:
            yield "conv", layer.label, layer._asdict(), layer.operations
    if "direct" in kinds:
        layer = shapes.DIRECT
        yield "direct", f"{layer.label} direct", layer._asdict(), layer.operations
    if "pool" in kinds:
        for name, (kernel, stride, padding, images) in shapes.POOLS.items():
            for image in images:
                window = {"op": name.split()[0], "kernel": kernel, "stride": stride, "padding": padding}
                label = f"{name} {image.channels} @{image.size} n{image.batch}"
                yield "pool", label, {**window, **image._asdict()}, 0
    if "norm" in kinds:
        for image in shapes.NORMS:
            yield "norm", f"batch norm {image.channels} @{image.size} n{image.batch}", image._asdict(), 0


def measure(workers: dict[str, Worker], kind: str, parameters: dict, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return seconds of every round by direction and library, libraries alternating within a round."""
    directions: list[str] = []
    able = []
    for name, worker in workers.items():
        if found := worker.ask(do="prepare", kind=kind, parameters=parameters):
            directions, able = found, [*able, name]
    times: dict[str, dict[str, list[float]]] = {d: {name: [] for name in able} for d in directions}
    for direction in directions:
        for _ in range(rounds):
            for name in able:
                time.sleep(REST)
                times[direction][name].append(workers[name].ask(do="time", name=direction))
    return times


def ratio(times: dict[str, list[float]], peer: str) -> float:
    """Return the median over rounds of the peer's time over cyconv's, the better of PyTorch's two layouts."""
    if peer == "torch":
        layouts = [statistics.median(times[name]) for name in TORCH if name in times]
        return min(layouts) / statistics.median(times["cyconv"]) if layouts else math.nan
    if peer not in times:
        return math.nan
    return statistics.median(p / c for p, c in zip(times[peer], times["cyconv"], strict=True))


def geometric_mean(values: list[float]) -> float:
    """Return the geometric mean of the numbers that are there."""
    present = [math.log(value) for value in values if not math.isnan(value)]
    return math.exp(statistics.fmean(present)) if present else math.nan


def run(kinds: list[str], peers: list[str], threads: int, rounds: int, python: str) -> dict:
    """Measure all cases at one thread count, printing rows as they come."""
    names = ["cyconv", *(TORCH if "torch" in peers else ()), *(("numpy",) if "numpy" in peers else ())]
    workers = {name: Worker(name, threads, python) for name in names}
    rows = []
    fma = peak.measure(workers["cyconv"].description["isa"], threads)
    print(
        f"\n{threads} thread(s), FMA peak {fma:.0f} GFLOP/s\n"
        f"{'layer':42}{'direction':>13}{'ms':>10}{'GFLOP/s':>9}{'% peak':>8}",
        end="",
    )
    print("".join(f"{'x ' + peer:>10}" for peer in peers), flush=True)
    for kind, label, parameters, operations in cases(kinds):
        for direction, times in measure(workers, kind, parameters, rounds).items():
            own = statistics.median(times["cyconv"])
            ratios = {peer: ratio(times, peer) for peer in peers}
            rate = operations / own / 1e9 if operations else math.nan
            rows.append(
                {"kind": kind, "label": label, "direction": direction, "seconds": times, "ratios": ratios}
                | {"gflops": rate}
            )
            print(f"{label:42}{direction:>13}{own * 1e3:10.3f}{rate:9.1f}{100 * rate / fma:8.0f}", end="")
            print("".join(f"{ratios[peer]:10.2f}" for peer in peers), flush=True)
    descriptions = {name: worker.description for name, worker in workers.items()}
    for worker in workers.values():
        worker.stop()
    return {"threads": threads, "fma_peak_gflops": fma, "libraries": descriptions, "rows": rows}


def summarise(runs: list[dict], peers: list[str]) -> str:
    """Return the table of geometric means and minima, a row a direction and thread count."""
    head = "".join(f" geomean x {peer} | least x {peer} |" for peer in peers)
    lines = ["| work | threads |" + head, "|---|---|" + "---|---|" * len(peers)]
    for result in runs:
        for kind, direction in dict.fromkeys((row["kind"], row["direction"]) for row in result["rows"]):
            rows = [r for r in result["rows"] if (r["kind"], r["direction"]) == (kind, direction)]
            cells = []
            for peer in peers:
                values = [r["ratios"][peer] for r in rows if not math.isnan(r["ratios"][peer])]
                cells += [f"{geometric_mean(values):.2f}", f"{min(values, default=math.nan):.2f}"]
            lines.append(
                f"| {kind} {direction} ({len(rows)} layers) | {result['threads']} | " + " | ".join(cells) + " |"
            )
    return "\n".join(lines)


def processor() -> str:
    """Return the CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def main() -> None:
    """Parse arguments, measure, print, save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("kinds", nargs="*", default=["conv", "direct", "pool", "norm"], metavar="conv|direct|pool|norm")
    parser.add_argument("--threads", default="1,2", help="thread counts, separated by commas (default 1,2)")
    parser.add_argument("--peer", default="torch,numpy", help="torch, numpy or both (default both)")
    parser.add_argument("--rounds", type=int, default=5, help="alternations of each case (default 5)")
    parser.add_argument("--only", default="", help="only layers whose label contains this")
    parser.add_argument("--json", type=Path, help="write every time measured")
    parser.add_argument("--plot", type=Path, help="write a bar chart of the ratios (PNG)")
    parser.add_argument("--python", default=sys.executable, help="interpreter with PyTorch and cyconv")
    arguments = parser.parse_args()
    if arguments.only:
        shapes.CONVOLUTIONS[:] = [layer for layer in shapes.CONVOLUTIONS if arguments.only in layer.label]
    peers = [peer for peer in arguments.peer.split(",") if peer]
    runs = [
        run(arguments.kinds, peers, int(threads), arguments.rounds, arguments.python)
        for threads in arguments.threads.split(",")
    ]
    print(f"\n{processor()}, {os.cpu_count()} cores, float32, times include allocating the result\n")
    print(summarise(runs, peers))
    if arguments.json:
        machine = {"processor": processor(), "cores": os.cpu_count(), "platform": platform.platform()}
        arguments.json.write_text(json.dumps({"machine": machine, "runs": runs}, indent=1))
    if arguments.plot:
        from benchmarks.plot import plot

        plot(runs, peers, processor(), arguments.plot)


if __name__ == "__main__":
    main()
