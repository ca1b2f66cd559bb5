"""Tables of what was measured."""

from __future__ import annotations

import math
import statistics

from benchmarks import shapes
from benchmarks.driver import LAYERS, NETWORKS, median

TITLES = {
    "torch": "PyTorch's better layout",
    "torch_nchw": "PyTorch, NCHW",
    "torch_channels_last": "PyTorch, channels_last",
    "torch_compile": "torch.compile",
    "numpy": "NumPy, im2col",
    "scipy": "SciPy, ndimage",
}
SHORT = {
    "torch": "x torch",
    "torch_nchw": "x nchw",
    "torch_channels_last": "x ch.last",
    "torch_compile": "x compile",
    "numpy": "x numpy",
    "scipy": "x scipy",
}
COLUMNS = {"forward": 0, "grad_input": 1, "backward": 1, "grad_weight": 2}
SLOWEST = 12
MIB = 2**20


def counted(threads: int) -> str:
    """Return a number of threads in words."""
    return f"{threads} thread{'s' * (threads != 1)}"


def geometric_mean(values: list[float]) -> float:
    """Return the geometric mean, nan of nothing."""
    return math.exp(statistics.fmean(map(math.log, values))) if values else math.nan


def header(result: dict, names: list[str]) -> str:
    """Return the machine's peaks and the heads of `line`'s columns."""
    bandwidth = ", ".join(f"{name} {rate:.1f}" for name, rate in result["memory_peaks"].items())
    return (
        f"\n{counted(result['threads'])}; measured peaks: {result['fma_peak']:.0f} GFLOP/s fused multiply-add, "
        f"memory GB/s {bandwidth or 'not measured'}\n"
        f"{'':48}{'direction':>12}{'ms':>10}{'GFLOP/s':>9}{'% FMA':>7}{'GB/s':>7}{'% mem':>7}"
        + "".join(f"{SHORT[name]:>10}" for name in names)
    )


def line(row: dict, result: dict, names: list[str]) -> str:
    """Return a row of figures as it is measured."""
    text = f"{row['label']:48}"
    if row["seconds"]:

        def share(value: float, peak: float, width: int, digits: int) -> str:
            return f"{value:{width}.{digits}f}{100 * value / peak:7.0f}" if value else " " * (width + 7)

        text += f"{row['direction']:>12}{median(row, 'cyconv') * 1e3:10.3f}"
        text += share(row["gflops"], result["fma_peak"], 9, 1)
        text += share(row["gbytes"], max(result["memory_peaks"].values(), default=math.nan), 7, 1)
        text += "".join(f"{row['ratios'][name]:10.2f}" if name in row["ratios"] else f"{'-':>10}" for name in names)
    return text + "".join(f"\n    {name}: not measured: {why}" for name, why in row["failed"].items())


def memory_line(row: dict) -> str:
    """Return the memory of a network's training step in each library."""
    lines = [row["label"]]
    for name, found in row["memory"].items():
        lines.append(
            f"    {name:22}{found['peak'] / MIB:9.0f} MiB peak, {(found['peak'] - found['imported']) / MIB:8.0f} MiB "
            f"more than after import, {found['faults']:10.1f} minor page faults a step"
        )
    lines += [f"    {name}: not measured: {why}" for name, why in row["failed"].items()]
    return "\n".join(lines)


def accuracy_line(row: dict) -> str:
    """Return a row of relative errors."""
    text = f"{row['label']:48}{row['direction']:>12}"
    text += "".join(f"  {name} {error:.1e}" for name, error in row["errors"].items())
    text += "".join(f"  {name} {ratio:.2f}x" for name, ratio in row["ratios"].items())
    return text + "".join(f"\n    {name}: not measured: {why}" for name, why in row["failed"].items())


def _cell(values: list[float]) -> str:
    return f"{geometric_mean(values):.2f}x ({min(values):.2f})" if values else ""


def layers_table(result: dict, names: list[str]) -> str:
    """Return geometric means and least ratios of groups of layers, by peer and direction."""
    rows = [row for row in result["rows"] if row["kind"] in LAYERS and row["seconds"]]
    found = dict.fromkeys(group for row in rows for group in row["groups"])
    groups = [group for group in shapes.CONVOLUTION_GROUPS if group in found]
    groups += [group for group in found if group not in groups]
    lines = []
    for group in groups:
        inside = [row for row in rows if group in row["groups"]]
        count = len({row["label"] for row in inside})
        for name in names:
            cells: list[list[float]] = [[], [], []]
            for row in inside:
                if name in row["ratios"]:
                    cells[COLUMNS[row["direction"]]].append(row["ratios"][name])
            if any(cells):
                lines.append(f"| {group} ({count}) | {TITLES[name]} | " + " | ".join(map(_cell, cells)) + " |")
    if not lines:
        return ""
    head = ["| layers | peer | forward | input gradient / backward | weight gradient |", "|---|---|---|---|---|"]
    return "\n".join([*head, *lines])


def slowest(result: dict) -> str:
    """Return the layers and networks with the least ratio to PyTorch's better layout."""
    rows = [row for row in result["rows"] if "torch" in row.get("ratios", {}) and row["kind"] != "scaling"]
    rows = sorted(rows, key=lambda row: row["ratios"]["torch"])[:SLOWEST]
    if not rows:
        return ""
    lines = [f"{row['ratios']['torch']:6.2f}x  {row['label']} {row['direction']}" for row in rows]
    return "\n".join(["Least ratios to PyTorch's better layout:", *lines])


def networks_table(result: dict, names: list[str]) -> str:
    """Return whole training steps and predictions, by network."""
    rows = [row for row in result["rows"] if row["kind"] in NETWORKS and row["seconds"]]
    if not rows:
        return ""
    lines = [
        "| network | | cyconv ms | images/s | % FMA peak | " + " | ".join(TITLES[name] for name in names) + " |",
        "|---|---|---|---|---|" + "---|" * len(names),
    ]
    for row in rows:
        own = median(row, "cyconv")
        ratios = [f"{row['ratios'][name]:.2f}x" if name in row["ratios"] else "-" for name in names]
        lines.append(
            f"| {row['label']} | {row['direction']} | {own * 1e3:.2f} | {row['batch'] / own:.3g} | "
            f"{100 * row['gflops'] / result['fma_peak']:.0f} | " + " | ".join(ratios) + " |"
        )
    return "\n".join(lines)


def memory_table(result: dict) -> str:
    """Return peak memory and page faults of training steps, by network and library."""
    rows = [row for row in result["rows"] if row["kind"] == "memory" and row["memory"]]
    if not rows:
        return ""
    lines = ["| training step | library | peak MiB | over import MiB | page faults a step |", "|---|---|---|---|---|"]
    for row in rows:
        for name, found in row["memory"].items():
            peak, more = found["peak"] / MIB, (found["peak"] - found["imported"]) / MIB
            lines.append(
                f"| {row['label']} | {TITLES.get(name, name)} | {peak:.0f} | {more:.0f} | {found['faults']:.1f} |"
            )
    return "\n".join(lines)


def accuracy_table(result: dict) -> str:
    """Return the largest relative errors of cyconv, and the largest ratios to PyTorch's more accurate layout."""
    rows = [row for row in result["rows"] if row["kind"] == "accuracy" and row["errors"]]
    if not rows:
        return ""
    lines = [
        "| rounding error | forward | input gradient | weight gradient | most, of PyTorch's more accurate layout |",
        "|---|---|---|---|---|",
    ]
    for name, title in (("exact", "cyconv.exact()"), ("default", "by default")):
        cells = [
            f"{max((row['errors'][name] for row in rows if row['direction'] == direction), default=math.nan):.1e}"
            for direction in ("forward", "grad_input", "grad_weight")
        ]
        ratios = [row["ratios"][name] for row in rows if row["ratios"]]
        most = f"{max(ratios):.2f}x, {geometric_mean(ratios):.2f}x on average" if ratios else ""
        lines.append(f"| {title} ({len(rows)}) | {' | '.join(cells)} | {most} |")
    return "\n".join(lines)


def summary(result: dict, names: list[str]) -> str:
    """Return all tables of a run at one thread count."""
    tables = (
        layers_table(result, names),
        networks_table(result, names),
        memory_table(result),
        accuracy_table(result),
        slowest(result),
    )
    present = [table for table in tables if table]
    return "\n\n".join([counted(result["threads"]), *present])
