"""Pictures of a benchmark run: ratios of layers and networks, the roofline, how cost grows, memory."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.driver import LAYERS, NETWORKS
from benchmarks.report import MIB, TITLES, counted

BLUE, ORANGE, GREEN, PURPLE, GREY = "#1b6ca8", "#e07a1f", "#4a9d5b", "#a04b9b", "#8a8a8a"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, GREY)
OF_LIBRARY = {
    "cyconv": BLUE,
    "torch": ORANGE,
    "torch_nchw": ORANGE,
    "torch_channels_last": GREEN,
    "torch_compile": PURPLE,
    "numpy": GREY,
    "scipy": GREY,
}
DIRECTIONS = {"forward": "o", "grad_input": "^", "grad_weight": "s", "backward": "^"}
KINDS = {
    "conv": "convolutions",
    "direct": "the direct kernel",
    "pool": "pooling",
    "norm": "batch normalisation",
    "ops": "other operations",
    "image": "filters of images",
}
FAMILIES = ("3x3 stride 1, 32-512 channels", "1x1", "depthwise and small groups", "transposed", "all convolutions")


def pictures(runs: list[dict], machine: str, path: Path) -> Iterator[Path]:
    """Write the pictures of what was measured beside `path`, each with its subject in its name; yield their paths."""
    drawn = {f"-{kind}": layers(runs, kind, machine) for kind in LAYERS}
    drawn |= {"-roofline": roofline(runs, machine), "-scaling": scaling(runs, machine)}
    drawn |= {"-networks": networks(runs, machine), "-memory": memory(runs, machine)}
    for suffix, figure in drawn.items():
        if figure is not None:
            target = path.with_name(f"{path.stem}{suffix}{path.suffix}")
            figure.savefig(target, dpi=110)
            yield target


def _rows(result: dict, *kinds: str) -> list[dict]:
    return [row for row in result["rows"] if row["kind"] in kinds and row.get("seconds")]


def _counts(runs: list[dict]) -> str:
    return " and ".join(counted(result["threads"]) for result in runs)


def _dots(panels, labels: list[str], series: Iterator[tuple]) -> None:
    """Draw ratios as dots on one line a label; each series is (panel, label to ratio, colour, name)."""
    for panel, ratios, colour, name in series:
        points = [(ratio, labels.index(label)) for label, ratio in ratios.items()]
        if points:
            panel.scatter(*zip(*points, strict=True), s=20, color=colour, label=name, alpha=0.85)
    for panel in panels:
        panel.axvline(1, color="black", linewidth=0.9)
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
        panel.grid(axis="both", linewidth=0.3)
        panel.set_axisbelow(True)
    panels[0].set_yticks(range(len(labels)), labels, fontsize=7.5)
    panels[0].set_ylim(len(labels) - 0.4, -0.6)
    if len(labels) > 1:
        panels[0].legend(loc="best", fontsize=8)


def layers(runs: list[dict], kind: str, machine: str) -> Figure | None:
    """Return dots of the peer's time over cyconv's, a panel a direction; right of the line cyconv is faster."""
    rows = [row for result in runs for row in _rows(result, kind)]
    peer = next((name for name in TITLES if any(name in row["ratios"] for row in rows)), None)
    if peer is None:
        return None
    labels = list(dict.fromkeys(row["label"] for row in rows))
    directions = list(dict.fromkeys(row["direction"] for row in rows))
    figure = Figure(figsize=(3.4 + 3.0 * len(directions), 1.5 + 0.165 * len(labels)), layout="constrained")
    panels = figure.subplots(1, len(directions), sharey=True, squeeze=False)[0]

    def series():
        for panel, direction in zip(panels, directions, strict=True):
            panel.set_title(direction.replace("_", " "), fontsize=10)
            for result, colour in zip(runs, COLOURS, strict=False):
                found = {
                    row["label"]: row["ratios"][peer]
                    for row in _rows(result, kind)
                    if row["direction"] == direction and peer in row["ratios"]
                }
                yield panel, found, colour, counted(result["threads"])

    _dots(panels, labels, series())
    numbers = "" if kind == "image" else "float32, "  # else the labels say it
    figure.suptitle(
        f"{KINDS[kind].capitalize()}: time of {TITLES[peer]} over time of cyconv\n"
        f"{numbers}{_counts(runs)}, {machine}; right of the line cyconv is faster",
        fontsize=10,
    )
    return figure


def networks(runs: list[dict], machine: str) -> Figure | None:
    """Return dots of each peer's time for whole networks over cyconv's, a panel a thread count."""
    rows = [row for result in runs for row in _rows(result, *NETWORKS)]
    if not rows:
        return None

    def name(row: dict) -> str:
        return f"{row['label']} {row['direction']}"

    labels = list(dict.fromkeys(name(row) for row in rows))
    figure = Figure(figsize=(max(2.6 + 3.8 * len(runs), 8), 1.6 + 0.32 * len(labels)), layout="constrained")
    panels = figure.subplots(1, len(runs), sharey=True, squeeze=False)[0]

    def series():
        for panel, result in zip(panels, runs, strict=True):
            panel.set_title(counted(result["threads"]), fontsize=10)
            for peer in OF_LIBRARY:
                if peer not in ("cyconv", "torch"):
                    found = {
                        name(row): row["ratios"][peer] for row in _rows(result, *NETWORKS) if peer in row["ratios"]
                    }
                    yield panel, found, OF_LIBRARY[peer], TITLES[peer]

    _dots(panels, labels, series())
    figure.suptitle(
        f"Whole networks: time of the peer over time of cyconv\nfloat32, {machine}; right of the line cyconv is faster",
        fontsize=10,
    )
    return figure


def roofline(runs: list[dict], machine: str) -> Figure | None:
    """Return the speed of the convolutions under the machine's two ceilings, a panel a thread count."""
    shown = [result for result in runs if _rows(result, "conv") and result["memory_peaks"]]
    if not shown:
        return None
    figure = Figure(figsize=(max(1.0 + 6.4 * len(shown), 9), 6.0), layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
    for panel, result in zip(panels, shown, strict=True):
        rows = _rows(result, "conv")
        bandwidth, peak = max(result["memory_peaks"].values()), result["fma_peak"]
        intensities = [row["operations"] / row["traffic"] for row in rows]
        x = np.geomspace(min(*intensities, peak / bandwidth / 4), max(*intensities, peak / bandwidth * 4), 200)
        panel.plot(x, np.minimum(bandwidth * x, peak), color="black", linewidth=1.4)
        panel.annotate(
            f"{peak:.0f} GFLOP/s multiply-adds",
            (peak / bandwidth, peak),
            (0, 4),
            textcoords="offset points",
            fontsize=8,
        )
        low = x[0] * 1.15
        panel.annotate(
            f"{bandwidth:.1f} GB/s memory", (low, bandwidth * low), (8, 0), textcoords="offset points", fontsize=8
        )
        for family, colour in zip(FAMILIES, COLOURS, strict=True):
            for direction, marker in DIRECTIONS.items():
                points = [
                    (row["operations"] / row["traffic"], row["gflops"])
                    for row in rows
                    if row["direction"] == direction and next(f for f in FAMILIES if f in row["groups"]) == family
                ]
                if points:
                    name = "other convolutions" if family == FAMILIES[-1] else family
                    options = {"marker": marker, "s": 22, "color": colour, "alpha": 0.7, "linewidth": 0}
                    panel.scatter(*zip(*points, strict=True), **options, label=name if direction == "forward" else None)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log", base=2)
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.set_xlabel("operations a byte of input, weight and output")
        panel.set_title(counted(result["threads"]), fontsize=10)
        panel.grid(linewidth=0.3)
        for direction, marker in list(DIRECTIONS.items())[:3]:
            panel.scatter([], [], marker=marker, s=22, color=GREY, label=direction.replace("_", " "))
        panel.legend(fontsize=8, loc="lower right")
    panels[0].set_ylabel("GFLOP/s of cyconv, by the definition's operations")
    figure.suptitle(
        f"Roofline of the convolutions, float32, {machine}\n"
        "layers may lie above it: Winograd's minimal filtering needs fewer operations than the definition",
        fontsize=10,
    )
    return figure


def scaling(runs: list[dict], machine: str) -> Figure | None:
    """Return time against batch, image size, channels and threads, a row of panels a direction."""
    shown = [result for result in runs if _rows(result, "scaling")]
    if not shown:
        return None
    rows = _rows(shown[0], "scaling")
    sweeps = list(dict.fromkeys(row["sweep"][0] for row in rows))
    directions = list(dict.fromkeys(row["direction"] for row in rows))
    columns = [*sweeps, "threads"] if len(shown) > 1 else sweeps
    figure = Figure(figsize=(max(3.5 * len(columns), 9), 1.2 + 2.7 * len(directions)), layout="constrained")
    panels = figure.subplots(len(directions), len(columns), squeeze=False, sharex="col")
    for line, direction in zip(panels, directions, strict=True):
        for panel, column in zip(line, columns, strict=True):
            if column == "threads":
                _threads(panel, shown, direction)
            else:
                _sweep(panel, shown[0], column, direction)
            panel.set_xscale("log", base=2)
            panel.set_yscale("log", base=2)
            panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            panel.grid(linewidth=0.3)
        line[0].set_ylabel(f"{direction.replace('_', ' ')}, ms")
    for panel, column in zip(panels[-1], columns, strict=True):
        panel.set_xlabel(column)
    panels[0][0].legend(fontsize=8)
    layer = next(row["label"] for row in rows).split(": scaling ")[1].split(" n")[0]
    figure.suptitle(
        f"How the cost of a convolution ({layer}, batch 8, one measure varied) grows; float32, "
        f"{counted(shown[0]['threads'])} but in the last column\n{machine}; dotted: in proportion to the operations",
        fontsize=10,
    )
    return figure


def _sweep(panel, result: dict, sweep: str, direction: str) -> None:
    rows = [row for row in _rows(result, "scaling") if row["sweep"][0] == sweep and row["direction"] == direction]
    for name, colour in OF_LIBRARY.items():
        points = [
            (row["sweep"][1], 1e3 * statistics.median(row["seconds"][name])) for row in rows if name in row["seconds"]
        ]
        if points:
            panel.plot(*zip(*points, strict=True), "o-", color=colour, markersize=3.5, label=TITLES.get(name, name))
    last = rows[-1]
    cost = 1e3 * statistics.median(last["seconds"]["cyconv"]) / last["operations"]
    panel.plot([row["sweep"][1] for row in rows], [cost * row["operations"] for row in rows], ":", color="black")


def _threads(panel, runs: list[dict], direction: str) -> None:
    """Draw the time of the unvaried layer against the number of threads."""
    times: dict[str, list[tuple[int, float]]] = {}
    for result in runs:
        row = next(
            row for row in _rows(result, "scaling") if row["sweep"] == ("batch", 8) and row["direction"] == direction
        )
        for name, seconds in row["seconds"].items():
            times.setdefault(name, []).append((result["threads"], 1e3 * statistics.median(seconds)))
    for name, points in times.items():
        panel.plot(*zip(*points, strict=True), "o-", color=OF_LIBRARY[name], markersize=3.5)
    counts = [count for count, _ in times["cyconv"]]
    first = times["cyconv"][0][1] * counts[0]
    panel.plot(counts, [first / count for count in counts], ":", color="black")
    panel.set_xticks(counts)


def memory(runs: list[dict], machine: str) -> Figure | None:
    """Return bars of the memory that training steps need over what is there after import."""
    shown = [(result, row) for result in runs for row in result["rows"] if row["kind"] == "memory" and row["memory"]]
    if not shown:
        return None
    labels = [f"{row['label']}, {counted(result['threads'])}" for result, row in shown]
    names = [name for name in OF_LIBRARY if any(name in row["memory"] for _, row in shown)]
    figure = Figure(figsize=(9, 1.4 + 0.2 * len(names) * len(labels)), layout="constrained")
    panel = figure.subplots()
    height = 0.8 / len(names)
    for i, name in enumerate(names):
        for k, (_, row) in enumerate(shown):
            found = row["memory"].get(name)
            if found:
                extra, y = (found["peak"] - found["imported"]) / MIB, k + (i - (len(names) - 1) / 2) * height
                panel.barh(y, extra, height, color=OF_LIBRARY[name])
                text = f" {extra:.0f} MiB, {found['faults']:.0f} page faults a step"
                panel.annotate(text, (extra, y), va="center", fontsize=7)
        panel.barh(math.nan, 0, color=OF_LIBRARY[name], label=TITLES.get(name, name))
    panel.set_yticks(range(len(labels)), labels, fontsize=8)
    panel.invert_yaxis()
    panel.margins(x=0.45)
    panel.set_xlabel("MiB")
    panel.grid(axis="x", linewidth=0.3)
    panel.set_axisbelow(True)
    figure.legend(fontsize=8, loc="outside lower center", ncols=len(names))
    figure.suptitle(f"Peak resident memory of a training step over that after import\nfloat32, {machine}", fontsize=10)
    return figure
