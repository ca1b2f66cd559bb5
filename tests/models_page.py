"""Write the table of docs/models.md from the networks themselves: ``python -m tests.models_page``."""

from __future__ import annotations

import re
from pathlib import Path

from cyconv.analysis import count_flops
from cyconv.cli.catalogue import extents, rounded
from cyconv.models.registry import facts, networks

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
TABLE = re.compile(r"^\| network \| parameters .*\n(\|.*\n)+", re.MULTILINE)


def table() -> str:
    """Return the table of all networks."""
    lines = ["| network | parameters | multiply-adds | input | paper |", "|---|---|---|---|---|"]
    for name in networks():
        known = facts(name)
        flops = rounded(count_flops(known.network)).strip()
        cells = (f"`{name}`", f"{known.parameters:,}", flops, extents(known.input_shape), "; ".join(known.papers))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    PAGE.write_text(TABLE.sub(lambda match: table(), PAGE.read_text()))
