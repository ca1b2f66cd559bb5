"""Pictures of what a search found."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import TYPE_CHECKING, NamedTuple

from cyconv._validation import brief
from cyconv.nas.architecture import CELL_INPUTS, Architecture, CellNode, MacroArchitecture, MicroArchitecture
from cyconv.visualize.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {
    "identity": ("identity", "#7f7f7f"),
    "conv_3x3": ("conv 3x3", "#1b7a3d"),
    "conv_5x5": ("conv 5x5", "#0b4f6c"),
    "separable_conv_3x3": ("sep 3x3", "#1f5fa8"),
    "separable_conv_5x5": ("sep 5x5", "#6a3d9a"),
    "avg_pool_3x3": ("avg 3x3", "#d9601a"),
    "max_pool_3x3": ("max 3x3", "#b2182b"),
}
COLUMN, LANE = 2.6, 1.15  # distances of neighbours, where a box is about 0.6 high
MOST_ARRANGED = 14  # values of a cell up to which the better places are looked for: with n, that takes n^4
LABEL = 0.75, 0.3  # width and height of a label
SHARES = 0.5, 0.36, 0.64, 0.24, 0.76  # of an arrow's way, where its label may stand
NEAR = 0.5  # how close an edge may come to a box that it does not belong to

Point = tuple[float, float]


class _Line(NamedTuple):
    """An edge of a cell's picture; one that doubles another is bent."""

    source: int
    target: int
    operation: str | None
    bend: float = 0.0


def draw(architecture: Architecture) -> Figure:
    """Draw an architecture: cells as graphs whose edges bear their operations, or layers with their skips.

    Parameters
    ----------
    architecture : MicroArchitecture or MacroArchitecture
        As `search` finds it.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError
        If it is something else.
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> from cyconv import nas
    >>> figure = nas.draw(nas.MicroSpace(nodes=3).sample(0))
    >>> [axes.get_title() for axes in figure.axes]
    ['normal cell', 'reduction cell']
    """
    if isinstance(architecture, MacroArchitecture):
        return _draw_layers(architecture)
    if not isinstance(architecture, MicroArchitecture):
        raise TypeError(f"draw: `architecture` must be a micro or macro architecture, got {brief(architecture)}")
    cells = {"normal cell": architecture.normal, "reduction cell": architecture.reduction}
    places = [_places(lines) for lines in map(_lines, cells.values())]
    widths = [max(x for x, _ in each) + 2 for each in places]
    heights = [max(y for _, y in each) - min(y for _, y in each) + 1.6 for each in places]
    figure = new_figure(0.75 * max(widths), 0.75 * sum(heights) + 0.6)
    panels = figure.subplots(2, 1, height_ratios=heights)
    for axes, (title, nodes), at in zip(panels, cells.items(), places, strict=True):
        _draw_cell(axes, nodes, at)
        axes.set_title(title)
    return figure


def _lines(nodes: tuple[CellNode, ...]) -> list[_Line]:
    """Return the edges of a cell, those of loose ends to its output last."""
    lines: list[_Line] = []
    for number, (inputs, operations) in enumerate(nodes, CELL_INPUTS):
        bend = 0.3 if inputs[0] == inputs[1] else 0.0
        for source, operation, side in zip(inputs, operations, (1, -1), strict=True):
            lines.append(_Line(source, number, operation, side * bend))
    read = {line.source for line in lines}
    output = CELL_INPUTS + len(nodes)
    return lines + [_Line(value, output, None) for value in range(output) if value not in read]


def _places(lines: list[_Line]) -> list[Point]:
    """Return where the values stand: columns by the longest way to them, each in a lane of its own.

    Lanes change places in pairs as long as that leads fewer lines over boxes, or over each other.
    """
    count = lines[-1].target + 1
    column = [0] * count
    for line in lines:
        column[line.target] = max(column[line.target], column[line.source] + 1)
    lanes = [float(value) for value in range(count)]
    lanes[-1] = (count - 2) / 2  # the output

    def cost() -> tuple[float, float]:
        at = [(COLUMN * x, LANE * y) for x, y in zip(column, lanes, strict=True)]
        over = sum(_distance(at[box], at[line.source], at[line.target]) < NEAR
                   for line in lines for box in range(count) if box not in (line.source, line.target))  # fmt: skip
        length = sum(abs(lanes[line.source] - lanes[line.target]) for line in lines)
        crossing = sum(
            _cross(at[a.source], at[a.target], at[b.source], at[b.target]) for a, b in combinations(lines, 2)
        )
        return 3 * over + crossing, length

    best, better = cost(), count <= MOST_ARRANGED
    while better:
        better = False
        for a, b in combinations(range(count - 1), 2):
            lanes[a], lanes[b] = lanes[b], lanes[a]
            new = cost()
            if new < best:
                best, better = new, True
            else:
                lanes[a], lanes[b] = lanes[b], lanes[a]
    return [(COLUMN * x, -LANE * y) for x, y in zip(column, lanes, strict=True)]


def _distance(point: Point, start: Point, end: Point) -> float:
    """Return how far a point is from a line between two others."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    share = ((point[0] - start[0]) * dx + (point[1] - start[1]) * dy) / (dx * dx + dy * dy)
    share = min(max(share, 0.0), 1.0)
    return ((start[0] + share * dx - point[0]) ** 2 + (start[1] + share * dy - point[1]) ** 2) ** 0.5


def _cross(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Return whether the lines a-b and c-d cross."""

    def side(p: Point, q: Point, r: Point) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0


def _draw_cell(axes: Axes, nodes: tuple[CellNode, ...], places: list[Point]) -> None:
    labels = list(places)  # boxes are to be kept clear too
    for line in _lines(nodes):
        text, color = ("", "0.6") if line.operation is None else LABELS[line.operation]
        start, end = places[line.source], places[line.target]
        _arrow(axes, start, end, color, line.bend)
        if text:
            along = [_on_the_way(start, end, line.bend, share) for share in SHARES]
            labels.append(max(along, key=lambda point: min(1.0, _clearance(point, labels))))  # the first of equal ones
            back = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
            axes.text(*labels[-1], text, color=color, fontsize=7.5, ha="center", va="center", bbox=back, zorder=2)
    names = [
        "cell before\nthe last",
        "last cell",
        *(f"node {n}" for n in range(CELL_INPUTS, len(places) - 1)),
        "output",
    ]
    for value, (place, name) in enumerate(zip(places, names, strict=True)):
        _box(axes, place, name, "#e8eef7" if CELL_INPUTS <= value < len(places) - 1 else "#f3f0e2")
    _frame(axes, places)


def _draw_layers(architecture: MacroArchitecture) -> Figure:
    """Draw layers from left to right, skips as arcs above."""
    count = len(architecture.layers)
    places = [(1.9 * number, 0.0) for number in range(count + 2)]
    longest = max((number - source for number, layer in enumerate(architecture.layers, 1) for source in layer.skips),
                  default=0)  # fmt: skip
    figure = new_figure(0.75 * (1.9 * (count + 1) + 2), 0.75 * (1.8 + 0.45 * longest) + 0.5)
    axes = figure.subplots()
    for start, end in pairwise(places):
        _arrow(axes, start, end, "0.3", gap=24)
    for number, layer in enumerate(architecture.layers, 1):
        for source in layer.skips:
            _arrow(axes, places[source], places[number], "#1f5fa8", bend=-0.4, gap=20)
    names = [f"layer {number}\n{LABELS[layer.operation][0]}" for number, layer in enumerate(architecture.layers, 1)]
    for place, name in zip(places, ["stem", *names, "output"], strict=True):
        _box(axes, place, name, "#f3f0e2" if name in ("stem", "output") else "#e8eef7")
    axes.set_title(f"{count} layers and their skip connections")
    _frame(axes, [*places, (0.0, 0.4 * longest)])
    return figure


def _arrow(axes: Axes, start: Point, end: Point, color: str, bend: float = 0.0, gap: float = 17) -> None:
    """Draw an arrow that ends so many points from where it leads to."""
    style = {"arrowstyle": "-|>", "color": color, "shrinkA": 16, "shrinkB": gap, "lw": 1.4}
    axes.annotate("", end, start, arrowprops={**style, "connectionstyle": f"arc3,rad={bend}"}, zorder=1)


def _on_the_way(start: Point, end: Point, bend: float, share: float) -> Point:
    """Return a point of an arrow: matplotlib's arc3 is a parabola, bent to a point beside the middle."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    off = 2 * bend * share * (1 - share)
    return start[0] + share * dx + off * dy, start[1] + share * dy - off * dx


def _clearance(point: Point, labels: list[Point]) -> float:
    """Return how far a label is from the nearest of others, in its own sizes; from 1 on they do not touch."""
    distances = (max(abs(point[0] - x) / LABEL[0], abs(point[1] - y) / LABEL[1]) for x, y in labels)
    return min(distances, default=1.0)


def _box(axes: Axes, place: Point, text: str, color: str) -> None:
    back = {"boxstyle": "round,pad=0.4", "facecolor": color, "edgecolor": "0.4"}
    axes.text(*place, text, fontsize=8, ha="center", va="center", bbox=back, zorder=3)


def _frame(axes: Axes, places: list[Point]) -> None:
    """Show all places, with the same scale on both axes, which bent arrows' labels rely on."""
    axes.set_aspect("equal")
    axes.set_xlim(-1, max(x for x, _ in places) + 1)
    axes.set_ylim(min(y for _, y in places) - 0.8, max(y for _, y in places) + 0.8)
    axes.set_axis_off()
