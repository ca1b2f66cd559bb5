"""The ratios of a benchmark run as a picture: one dot a layer, direction and thread count."""

from __future__ import annotations

import math
from pathlib import Path

from matplotlib.figure import Figure

COLOURS = ("#1b6ca8", "#e07a1f", "#4a9d5b", "#a04b9b")


def plot(runs: list[dict], peers: list[str], processor: str, path: Path) -> None:
    """Write dots of peer time over cyconv time, a panel a direction; right of the line cyconv is faster."""
    peer = peers[0]
    directions = list(dict.fromkeys(row["direction"] for result in runs for row in result["rows"]))
    labels = list(dict.fromkeys(row["label"] for result in runs for row in result["rows"]))
    figure = Figure(figsize=(3.2 + 3.4 * len(directions), 1.6 + 0.2 * len(labels)), layout="constrained")
    panels = figure.subplots(1, len(directions), sharey=True, squeeze=False)[0]
    for panel, direction in zip(panels, directions, strict=True):
        for result, colour in zip(runs, COLOURS, strict=False):
            rows = {row["label"]: row["ratios"][peer] for row in result["rows"] if row["direction"] == direction}
            points = [(rows[label], labels.index(label)) for label in rows if not math.isnan(rows[label])]
            if points:
                panel.scatter(*zip(*points, strict=True), s=22, color=colour, label=f"{result['threads']} thread(s)")
        panel.axvline(1, color="black", linewidth=0.8)
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
        panel.set_title(direction.replace("_", " "))
        panel.grid(axis="both", linewidth=0.3)
    panels[0].set_yticks(range(len(labels)), labels, fontsize=7)
    panels[0].invert_yaxis()
    panels[0].legend(loc="best", fontsize=8)
    figure.suptitle(f"Time of {peer} over time of cyconv, float32, {processor}")
    figure.savefig(path, dpi=110)
