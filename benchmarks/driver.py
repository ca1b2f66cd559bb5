"""Worker processes, one library each, alternating, one at work at a time."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks import operations, shapes
from benchmarks.libraries import PEERS

REST = 0.05  # seconds between two workers: idle threads of OpenMP spin on for up to some 25 ms
REST_OF_OPENBLAS = 0.15  # after NumPy and SciPy, whose threads do so for up to 0.1 s
BUDGET = 20.0  # seconds after which a direction gets no further round
LAYERS = ("conv", "direct", "pool", "norm", "ops", "image")
NETWORKS = ("train", "models", "predict")
UNTIMED = ("memory", "accuracy")
KINDS = (*LAYERS, "scaling", *NETWORKS, *UNTIMED)


class Case(NamedTuple):
    """What is measured in one go: a layer, an operation, a filter or a network."""

    kind: str
    label: str
    work: str  # what the libraries call it
    shape: shapes.Conv | shapes.Pool | shapes.Norm | operations.Operation | shapes.Filter | shapes.Network
    sweep: tuple[str, int] | None = None  # in "scaling": the measure that varies, and its value here


def cases(kinds: list[str], only: str) -> Iterator[Case]:
    """Yield what is to be measured, of those whose label contains `only`."""
    lists: dict[str, list] = {
        "conv": shapes.CONVOLUTIONS,
        "direct": shapes.DIRECT,
        "pool": shapes.POOLS,
        "norm": shapes.NORMS,
        "ops": operations.OPERATIONS,
        "image": shapes.FILTERS,
        "train": shapes.TRAINED,
        "models": shapes.MODELS,
        "predict": shapes.PREDICTED,
        "memory": shapes.TRAINED,
        "accuracy": [*shapes.CONVOLUTIONS, *(each for each in operations.OPERATIONS if each.op == "linear")],
    }
    for kind in kinds:
        found = [Case(kind, shape.label, kind, shape) for shape in lists.get(kind, [])]
        if kind == "direct":
            found = [case._replace(label=f"{case.label} direct") for case in found]
        if kind == "accuracy":
            works = {shapes.Conv: "conv", operations.Operation: "ops"}
            found = [case._replace(work=works[type(case.shape)]) for case in found]
        if kind == "models":
            found = [case._replace(work="train") for case in found]
        if kind == "scaling":
            for name, layers in shapes.SWEEPS.items():
                for layer in layers:
                    value = getattr(layer, shapes.MEASURE[name])
                    found.append(Case(kind, f"{name} {value}: {layer.label}", "conv", layer, (name, value)))
        yield from (case for case in found if only in case.label)


class Worker:
    """A library in a process of its own, started anew where it has ended."""

    def __init__(self, library: str, threads: int, python: str):
        count = str(threads)
        self.command = [python, "-m", "benchmarks.worker", library, "--threads", count]
        self.environment = {
            **os.environ,
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), count),
        }
        self.process: subprocess.Popen | None = None
        self.description = self._start()

    def _start(self) -> dict:
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment,
            cwd=Path(__file__).parent.parent,
        )
        return self._answer()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        status = self.process.wait()
        self._close()
        ended = f"by signal {-status}" if status < 0 else f"with status {status}"
        return {"failed": f"the process ended {ended}" + (", out of memory perhaps" if status == -9 else "")}

    def ask(self, **request) -> dict:
        """Send a request and return the answer; "failed" in it says why there is none."""
        if self.process is None:
            started = self._start()
            if "failed" in started:
                return started
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer says how it ended
        return self._answer()

    def _close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(BrokenPipeError):  # closing writes what is left
                pipe.close()
        self.process = None

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
            self._close()

    def kill(self) -> None:
        """End the process whatever it does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self._close()


def names_of(peers: list[str]) -> list[str]:
    """Return the workers that these peers need, cyconv's first."""
    return ["cyconv", *(name for peer in peers for name in PEERS[peer])]


def start(peers: list[str], threads: int, python: str) -> dict[str, Worker]:
    """Start a worker for each library; print which are not available, and why."""
    workers = {}
    for name in names_of(peers):
        worker = Worker(name, threads, python)
        if "failed" not in worker.description:
            workers[name] = worker
            continue
        worker.stop()
        if name == "cyconv":
            raise SystemExit(f"benchmarks: cyconv is not available: {worker.description['failed']}")
        print(f"{name}: not available: {worker.description['failed']}", file=sys.stderr)
    return workers


def measure(workers: dict[str, Worker], case: Case, rounds: int) -> Iterator[dict]:
    """Yield a row for each direction: seconds of every round by library, libraries alternating within a round."""
    groups = [] if case.kind in ("direct", "scaling") else list(case.shape.groups_of_table)
    row = {"kind": case.kind, "label": case.label, "sweep": case.sweep, "groups": groups}
    parameters = case.shape._asdict()
    able: dict[str, dict] = {}
    failed: dict[str, str] = {}
    for name, worker in workers.items():
        if name == "torch_compile" and case.kind not in NETWORKS:
            continue
        answer = worker.ask(do="prepare", kind=case.work, parameters=parameters)
        if "failed" in answer:
            failed[name] = answer["failed"]
        elif answer["directions"]:
            able[name] = answer
    own = able.get("cyconv")
    if own is not None:
        for name, answer in list(able.items()):
            if answer["parameters"] != own["parameters"]:
                failed[name] = f"{answer['parameters']} parameters where cyconv has {own['parameters']}"
                del able[name]
        for direction in own["directions"]:
            times = _alternate(workers, list(able), direction, rounds, failed)
            if "cyconv" in times:
                yield row | _derived(case, direction, times, own) | {"failed": dict(failed)}
    if own is None or "cyconv" in failed:
        yield row | {"direction": "", "seconds": {}, "ratios": {}, "failed": failed}
    for name in able:
        workers[name].ask(do="rest")


def _alternate(
    workers: dict[str, Worker], able: list[str], direction: str, rounds: int, failed: dict[str, str]
) -> dict[str, list[float]]:
    """Return the seconds of each library in every round; note in `failed` which could not."""
    times: dict[str, list[float]] = {name: [] for name in able if name not in failed}
    started, rest = time.perf_counter(), REST_OF_OPENBLAS
    for _ in range(rounds):
        for name in list(times):
            time.sleep(rest)
            rest = REST_OF_OPENBLAS if name in ("numpy", "scipy") else REST
            answer = workers[name].ask(do="time", direction=direction)
            if "failed" in answer:
                failed[name] = answer["failed"]
                del times[name]
            else:
                times[name].append(answer["seconds"])
        if time.perf_counter() - started > BUDGET:
            break
    return times


def _derived(case: Case, direction: str, times: dict[str, list[float]], own: dict) -> dict:
    """Return the row's figures: rates of cyconv, and the median over rounds of each peer's time over cyconv's."""
    seconds = statistics.median(times["cyconv"])
    ratios = {
        name: statistics.median(p / c for p, c in zip(times[name], times["cyconv"], strict=True))
        for name in times
        if name != "cyconv"
    }
    layouts = [ratios[name] for name in PEERS["torch"] if name in ratios]
    if layouts:
        ratios["torch"] = min(layouts)
    if isinstance(case.shape, shapes.Network):
        # Each gradient of a layer takes the operations of its output.
        operations, traffic = own["operations"] * (3 if direction == "step" else 1), 0
    else:
        operations, traffic = case.shape.operations, case.shape.traffic(direction)
    return {
        "direction": direction,
        "seconds": times,
        "ratios": ratios,
        "operations": operations,
        "traffic": traffic,
        "gflops": operations / seconds / 1e9,
        "gbytes": traffic / seconds / 1e9,
        "batch": case.shape.batch,
    }


def measure_memory(case: Case, peers: list[str], threads: int, python: str) -> dict:
    """Return the row of a network's memory: every library in a fresh process, one after another."""
    found, failed = {}, {}
    for name in names_of(peers):
        if name == "torch_compile":  # the compiler runs in the same process and needs more than the network
            continue
        worker = Worker(name, threads, python)
        answer = worker.description
        if "failed" not in answer:
            answer = worker.ask(do="memory", parameters=case.shape._asdict())
        if "failed" in answer:
            failed[name] = answer["failed"]
        elif answer:
            found[name] = answer
        worker.stop()
    return {"kind": "memory", "label": case.label, "direction": "step", "memory": found, "failed": failed}


def measure_accuracy(workers: dict[str, Worker], case: Case) -> Iterator[dict]:
    """Yield a row for each direction: relative errors of cyconv, exact and by default, and of each peer."""
    found: dict[str, dict] = {}
    failed: dict[str, str] = {}
    request = {"do": "errors", "kind": case.work, "parameters": case.shape._asdict()}
    for name, worker in workers.items():
        for column, exact in [("exact", True), ("default", False)] if name == "cyconv" else [(name, False)]:
            answer = worker.ask(**request, exact=exact)
            if "failed" in answer:
                failed[name] = answer["failed"]
            else:
                found[column] = answer
    row = {"kind": "accuracy", "label": case.label, "failed": failed}
    for direction in found.get("exact", {}):
        errors = {name: each[direction] for name, each in found.items()}
        layouts = [errors[name] for name in PEERS["torch"] if name in errors]
        ratios = {name: errors[name] / min(layouts) for name in ("exact", "default")} if layouts else {}
        yield row | {"direction": direction, "errors": errors, "ratios": ratios}
    if "exact" not in found:
        yield row | {"direction": "", "errors": {}, "ratios": {}}


def median(row: dict, name: str) -> float:
    """Return the median seconds of a library."""
    return statistics.median(row["seconds"][name]) if name in row["seconds"] else math.nan
