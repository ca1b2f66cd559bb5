"""Training in little memory: few outputs are kept, and those between are computed again when they are needed.

A network of n groups, cut into about sqrt(n) segments, keeps the input of each segment and, while its gradients are
computed, the outputs inside one: memory grows with sqrt(n), for one more forward pass (Chen, Xu, Zhang and Guestrin,
Training deep nets with sublinear memory cost, 2016).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from cyconv.layers.base import Layer
from cyconv.layers.fusion import Group, run, run_backward


class Segment:
    """Neighbouring groups of which only the input is kept."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = groups
        self.layers = [layer for group in groups for layer in group.layers]
        self._x: NDArray | None = None
        self._before: list[tuple[Layer, str, int]] = []

    def run(self, x: NDArray, addend: NDArray | None = None, relu: bool = False) -> NDArray:
        """Return the output + addend, with `relu` negative numbers set to zero."""
        self._x = x
        self._before = self._values("counters")
        output = run(self.groups, x, addend, relu)
        for layer in self.layers:
            layer.forget()
        return output

    def run_backward(self, grad_output: NDArray, needs_grad_input: bool, addend: NDArray | None = None) -> Any:
        """Add to the parameters' gradients; return that of the input + addend."""
        x, self._x = self._x, None
        for layer, name, value in self._before:  # dropout draws the same numbers again, and ends where it did
            setattr(layer, name, value)
        kept = [(layer, name, value.copy()) for layer, name, value in self._values("buffers")]
        run(self.groups, x)  # type: ignore[arg-type]
        for layer, name, value in kept:  # running averages have followed this batch already
            getattr(layer, name)[...] = value
        return run_backward(self.groups, grad_output, needs_grad_input, addend)

    def _values(self, kind: str) -> list[tuple[Layer, str, Any]]:
        """Return the values of the layers' counters or buffers."""
        inside = [layer for outer in self.layers for _, layer in outer.walk()]
        return [(layer, name, getattr(layer, name)) for layer in inside for name in getattr(layer, kind)]


def segments(groups: list[Group]) -> list[Group | Segment]:
    """Return the groups cut into segments of about the same number of layers; what must not run twice stands alone."""
    sizes = [sum(1 for layer in group.layers for _ in layer.walk()) for group in groups]
    wanted = sum(sizes) / max(1, math.isqrt(len(groups)))
    cut: list[Group | Segment] = []
    inside: list[Group] = []
    size = 0
    for group, count in zip(groups, sizes, strict=True):
        alone = not all(layer.recomputable for outer in group.layers for _, layer in outer.walk())
        if inside and (alone or size + count / 2 > wanted):
            cut.append(Segment(inside))
            inside, size = [], 0
        if alone:
            cut.append(group)
        else:
            inside.append(group)
            size += count
    return [*cut, Segment(inside)] if inside else cut
