"""The commands that show networks: all of them, or the layers of one."""

from __future__ import annotations

import argparse

from cyconv.analysis import count_flops
from cyconv.cli.recipes import parse_options
from cyconv.layers.base import Shape
from cyconv.models.registry import Facts, build, facts, networks


def show_models(options: argparse.Namespace) -> None:
    """Print a table of the networks as they are without arguments."""
    rows: list[tuple[str, ...]] = [("network", "parameters", "multiply-adds", "input", "output", "paper")]
    rows += [_row(name, facts(name)) for name in networks()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        name, parameters, flops, *rest = (cell.rjust(w) for cell, w in zip(row, widths, strict=True))
        left = "  ".join(cell.strip().ljust(w) for cell, w in zip(rest, widths[3:], strict=True))
        print(f"{name.strip():<{widths[0]}}  {parameters}  {flops}  {left}".rstrip())
    print("One multiply-add is a multiplication and an addition, for one image. `cyconv summary NETWORK` shows layers.")


def _row(name: str, known: Facts) -> tuple[str, ...]:
    flops = rounded(count_flops(known.network))
    return name, f"{known.parameters:,}", flops, extents(known.input_shape), _output(known), known.short_papers


def _output(known: Facts) -> str:
    outputs, *pixels = known.output_shape
    if pixels:
        return f"{outputs} classes of {extents(tuple(pixels))} pixels"
    return f"{outputs} {'classes' if known.classifies else 'numbers'}"


def extents(shape: Shape) -> str:
    """Return a shape as in "3x32x32"."""
    return "x".join(map(str, shape))


def rounded(count: int) -> str:
    """Return a number in thousands, millions or billions, with three digits."""
    for factor, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= factor:
            digits = max(0, 3 - len(str(count // factor)))
            return f"{count / factor:.{digits}f} {unit}"
    return f"{count}  "


def show_summary(options: argparse.Namespace) -> None:
    """Print a network's papers and the table of its layers."""
    known = facts(options.model)
    channels, *size = known.input_shape
    shape = (channels if options.channels is None else options.channels, *(options.input_size or size))
    outputs = known.num_classes if options.classes is None else options.classes
    given = parse_options(options.option)
    try:
        network = build(options.model, shape, outputs, given, op=f"summary {options.model}")
    except TypeError as error:
        raise ValueError(f"--option: {error}") from error
    for paper in known.papers:
        print(paper)
    print(network.summary())
