"""Run the trainings whose results README.md and docs/models.md give, and write them to docs/results.json.

``python -m benchmarks.trainings --data mnist --root DIR``, then ``make docs``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.__main__ import processor

RESULTS = Path(__file__).parents[1] / "docs" / "results.json"


def measure(command: str, root: str) -> tuple[str, str]:
    """Run ``cyconv train ...`` with the data in `root`; return the accuracy and the time as the tables have them."""
    arguments = [root if word == "DIR" else word for word in shlex.split(command)[1:]]
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        run = [sys.executable, "-m", "cyconv", *arguments, "--out", out]
        printed = subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True).stdout
        seconds = time.perf_counter() - start
    right, total = map(int, re.findall(r"test accuracy [\d.]+ \((\d+) of (\d+)\)", printed)[-1])
    return f"{100 * right / total:.2f} %", f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="which trainings: those with this --data, as mnist or cifar10")
    parser.add_argument("--root", required=True, help="the folder with the data")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text())
    for each in results["trainings"]:
        if f"--data {options.data} " in each["command"]:
            each["accuracy"], each["time"] = measure(each["command"], options.root)
            each["machine"] = f"{len(os.sched_getaffinity(0))} cores, {processor()}"
            each["date"] = datetime.date.today().isoformat()
            print(*each.values(), sep="\n  ")
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
