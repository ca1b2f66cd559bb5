"""Write the trainings' times and accuracies into README.md and docs/models.md: ``python -m tests.results_page``.

Both are those of docs/results.json, which ``python -m benchmarks.trainings`` measures.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = json.loads((ROOT / "docs" / "results.json").read_text())
PAGES = {ROOT / "README.md": "MNIST", ROOT / "docs" / "models.md": ""}  # what the tables' data begin with
HEADER = "| network | command | tested on | test accuracy | time, start and figures included | measured |"
TABLE = re.compile(rf"^{re.escape(HEADER)}\n(\|.*\n)+", re.MULTILINE)


def table(data: str) -> str:
    """Return the table of the trainings on the data whose name begins so."""
    lines = [HEADER, "|---|---|---|---|---|---|"]
    for each in RESULTS["trainings"]:
        if each["tested_on"].startswith(data):
            cells = (each["network"], f"`{each['command']}`", each["tested_on"], each["accuracy"], each["time"])
            lines.append(f"| {' | '.join(cells)} | {each['date']}, {each['machine']} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    for page, data in PAGES.items():
        page.write_text(TABLE.sub(lambda match, data=data: table(data), page.read_text()))
