"""What a search looks for: cells (micro) or whole layers (macro), and the spaces they are drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from cyconv._validation import as_choice, as_generator, as_int, as_list, brief

MICRO_OPERATIONS = ("identity", "separable_conv_3x3", "separable_conv_5x5", "avg_pool_3x3", "max_pool_3x3")
MACRO_OPERATIONS = (
    "conv_3x3",
    "conv_5x5",
    "separable_conv_3x3",
    "separable_conv_5x5",
    "avg_pool_3x3",
    "max_pool_3x3",
)
CELL_INPUTS = 2  # what a cell sees: the outputs of the two cells before it
SKIP_PRIOR = (0.6, 0.4)  # of no and yes: how many skips the paper wants there to be


class Decision(NamedTuple):
    """One choice of a controller's.

    Attributes
    ----------
    kind : str
        Decisions of one kind choose among the same things, which the controller knows by the same vectors.
    choices : int
        How many there are to choose from: the first so many of the kind.
    prior : tuple of float, optional
        Probabilities to which the controller's are held; by default it is kept from being sure too early.
    """

    kind: str
    choices: int
    prior: tuple[float, ...] | None = None


class CellNode(NamedTuple):
    """One node of a cell: the sum of two operations, each applied to an earlier value.

    Attributes
    ----------
    inputs : (int, int)
        What they are applied to: 0 and 1 are the outputs of the cell before the last and of the last cell, 2 the first
        node, and so on.
    operations : (str, str)
        Names, of `MICRO_OPERATIONS`.
    """

    inputs: tuple[int, int]
    operations: tuple[str, str]


class MacroLayer(NamedTuple):
    """One layer of a macro architecture: an operation on the layer before it and on those that skip to it.

    Attributes
    ----------
    operation : str
        Name, of `MACRO_OPERATIONS`.
    skips : tuple of int
        Layers whose outputs come in besides that of the layer before; 0 is the stem, 1 the first layer.
    """

    operation: str
    skips: tuple[int, ...] = ()


@dataclass(frozen=True)
class MicroArchitecture:
    """Two cells, of which a network is stacked.

    Parameters
    ----------
    normal, reduction : sequence of CellNode
        The nodes of the cell that keeps the image's size, and of the one that halves it; pairs of pairs will do.

    Raises
    ------
    TypeError, ValueError
        If a cell has no node, or a node does not read two earlier values with two of the operations.

    Examples
    --------
    >>> from cyconv.nas import MicroArchitecture
    >>> pool = [((0, 1), ("max_pool_3x3", "identity"))]
    >>> print(MicroArchitecture(normal=[((1, 1), ("separable_conv_3x3", "identity"))], reduction=pool))
    normal cell
      node 2: separable_conv_3x3(1) + identity(1)
    reduction cell
      node 2: max_pool_3x3(0) + identity(1)
    """

    space: ClassVar[str] = "micro"
    normal: tuple[CellNode, ...]
    reduction: tuple[CellNode, ...]

    def __post_init__(self) -> None:
        for name in ("normal", "reduction"):
            nodes = _as_list("MicroArchitecture", name, getattr(self, name))
            checked = tuple(_as_node(f"{name}[{i}]", node, i + CELL_INPUTS) for i, node in enumerate(nodes))
            object.__setattr__(self, name, checked)

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; `architecture_from` reads it."""
        cells = {"normal": self.normal, "reduction": self.reduction}
        return {"space": self.space} | {
            name: [{"inputs": list(node.inputs), "operations": list(node.operations)} for node in cell]
            for name, cell in cells.items()
        }

    def __str__(self) -> str:
        lines = []
        for name, cell in (("normal cell", self.normal), ("reduction cell", self.reduction)):
            lines.append(name)
            for number, node in enumerate(cell, CELL_INPUTS):
                terms = (f"{op}({source})" for source, op in zip(node.inputs, node.operations, strict=True))
                lines.append(f"  node {number}: {' + '.join(terms)}")
        return "\n".join(lines)


@dataclass(frozen=True)
class MacroArchitecture:
    """A network's layers, each with its operation and its skip connections.

    Parameters
    ----------
    layers : sequence of MacroLayer
        From the first on; pairs of an operation's name and a sequence of layers will do.

    Raises
    ------
    TypeError, ValueError
        If there is no layer, an operation is another, or a skip does not come from below the layer before.

    Examples
    --------
    >>> from cyconv.nas import MacroArchitecture
    >>> print(MacroArchitecture([("conv_3x3", ()), ("max_pool_3x3", ()), ("conv_5x5", (0, 1))]))
    layer 1: conv_3x3
    layer 2: max_pool_3x3
    layer 3: conv_5x5, skips from 0, 1
    """

    space: ClassVar[str] = "macro"
    layers: tuple[MacroLayer, ...]

    def __post_init__(self) -> None:
        layers = _as_list("MacroArchitecture", "layers", self.layers)
        checked = tuple(_as_layer(f"layers[{i}]", layer, i + 1) for i, layer in enumerate(layers))
        object.__setattr__(self, "layers", checked)

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; `architecture_from` reads it."""
        layers = [{"operation": layer.operation, "skips": list(layer.skips)} for layer in self.layers]
        return {"space": self.space, "layers": layers}

    def __str__(self) -> str:
        return "\n".join(
            f"layer {number}: {operation}{', skips from ' if skips else ''}{', '.join(map(str, skips))}"
            for number, (operation, skips) in enumerate(self.layers, 1)
        )


Architecture = MicroArchitecture | MacroArchitecture


def architecture_from(content: Any) -> Architecture:
    """Return the architecture that `as_dict` wrote down.

    Raises
    ------
    TypeError, ValueError
        If `content` is something else.

    Examples
    --------
    >>> from cyconv import nas
    >>> best = nas.MacroSpace(layers=4).sample(0)
    >>> nas.architecture_from(best.as_dict()) == best
    True
    """
    op = "architecture_from"
    if not isinstance(content, Mapping):
        raise TypeError(f"{op}: `content` must be what `as_dict` returns, got {brief(content)}")
    space = as_choice(f"{op}: content", "space", content.get("space"), ("micro", "macro"))
    wanted = ("normal", "reduction") if space == "micro" else ("layers",)
    inner = ("inputs", "operations") if space == "micro" else ("operation", "skips")
    parts: list[list[tuple]] = []
    for name in wanted:
        entries = content.get(name)
        if not isinstance(entries, list) or not all(isinstance(e, Mapping) and e.keys() >= {*inner} for e in entries):
            raise ValueError(f"{op}: `{name}` must be a list of {' and '.join(inner)}, got {brief(entries)}")
        parts.append([tuple(entry[key] for key in inner) for entry in entries])
    return MicroArchitecture(*parts) if space == "micro" else MacroArchitecture(*parts)  # type: ignore[arg-type]


class Space:
    """What can be searched: a series of decisions, and what they come to. A subclass writes these two.

    Examples
    --------
    >>> from cyconv.nas import MICRO_OPERATIONS, MicroSpace, Space
    >>> class WithoutPooling(MicroSpace):
    ...     @property
    ...     def decisions(self):  # of the operations, pooling comes last
    ...         return [each._replace(choices=min(each.choices, 3)) for each in super().decisions]
    >>> print(WithoutPooling(nodes=1).sample(0))
    normal cell
      node 2: separable_conv_3x3(1) + identity(1)
    reduction cell
      node 2: identity(0) + identity(0)
    """

    @property
    def decisions(self) -> list[Decision]:
        """What is to be decided, in order."""
        raise NotImplementedError(f"{type(self).__name__}: `decisions` is not written")

    def architecture(self, choices: Sequence[int]) -> Architecture:
        """Return what the choices, one for each decision, come to."""
        raise NotImplementedError(f"{type(self).__name__}: `architecture` is not written")

    def _checked(self, choices: Any) -> list[int]:
        """Return choices that the decisions have."""
        op, decisions = type(self).__name__, self.decisions
        given = as_list(op, "choices", choices, "integers")
        if len(given) != len(decisions):
            raise ValueError(f"{op}: `choices` must be one for each of {len(decisions)} decisions, got {len(given)}")
        pairs = zip(given, decisions, strict=True)
        return [as_int(op, "choices", choice, 0, decision.choices - 1) for choice, decision in pairs]

    def sample(self, rng: np.random.Generator | int | None = None) -> Architecture:
        """Return a random architecture, every choice as likely as the others."""
        generator = as_generator("sample", rng)
        return self.architecture([int(generator.integers(decision.choices)) for decision in self.decisions])


@dataclass(frozen=True)
class MicroSpace(Space):
    """All pairs of cells with so many nodes: the micro search space of ENAS (Pham et al. 2018, section 2.4).

    Parameters
    ----------
    nodes : int, default 4
        Nodes of a cell, without its two inputs.

    Examples
    --------
    >>> from cyconv.nas import MicroSpace
    >>> len(MicroSpace(nodes=4).decisions)  # two inputs and two operations for each of 2 x 4 nodes
    32
    """

    nodes: int = 4

    def __post_init__(self) -> None:
        as_int("MicroSpace", "nodes", self.nodes, 1, 100)

    @property
    def decisions(self) -> list[Decision]:
        """Two inputs and two operations for each node, of the normal cell first."""
        operation = Decision("operation", len(MICRO_OPERATIONS))
        cell = [
            decision
            for number in range(CELL_INPUTS, CELL_INPUTS + self.nodes)
            for decision in (*[Decision("input", number)] * 2, *[operation] * 2)
        ]
        return 2 * cell

    def architecture(self, choices: Sequence[int]) -> MicroArchitecture:
        """Return what the choices, one for each decision, come to."""
        choices = self._checked(choices)
        nodes = [
            CellNode((int(a), int(b)), (MICRO_OPERATIONS[left], MICRO_OPERATIONS[right]))
            for a, b, left, right in np.reshape(choices, (-1, 4))
        ]
        return MicroArchitecture(tuple(nodes[: self.nodes]), tuple(nodes[self.nodes :]))


@dataclass(frozen=True)
class MacroSpace(Space):
    """All networks of so many layers: the macro search space of ENAS (Pham et al. 2018, section 2.3).

    Parameters
    ----------
    layers : int, default 6
        Layers between the stem and the classifier.

    Examples
    --------
    >>> from cyconv.nas import MacroSpace
    >>> len(MacroSpace(layers=6).decisions)  # an operation each, and 15 skips
    21
    """

    layers: int = 6

    def __post_init__(self) -> None:
        as_int("MacroSpace", "layers", self.layers, 1, 100)

    @property
    def decisions(self) -> list[Decision]:
        """For each layer its operation, and whether each of the outputs below the layer before skips to it."""
        return [
            decision
            for number in range(1, self.layers + 1)
            for decision in (
                Decision("operation", len(MACRO_OPERATIONS)),
                *(Decision(f"skip from {source}", 2, SKIP_PRIOR) for source in range(number - 1)),
            )
        ]

    def architecture(self, choices: Sequence[int]) -> MacroArchitecture:
        """Return what the choices, one for each decision, come to."""
        rest, layers = self._checked(choices), []
        for number in range(1, self.layers + 1):
            operation, *skips = rest[:number]
            del rest[:number]
            layers.append(MacroLayer(MACRO_OPERATIONS[operation], tuple(j for j, yes in enumerate(skips) if yes)))
        return MacroArchitecture(tuple(layers))


def as_space(op: str, space: Space | str) -> Space:
    """Return a space; "micro" and "macro" stand for those of default size."""
    if isinstance(space, Space):
        return space
    return MicroSpace() if as_choice(op, "space", space, ("micro", "macro")) == "micro" else MacroSpace()


def _as_list(op: str, name: str, value: Any) -> list:
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{op}: `{name}` must be a sequence, got {brief(value)}")
    if not value:
        raise ValueError(f"{op}: `{name}` must not be empty")
    return list(value)


def _as_node(name: str, node: Any, number: int) -> CellNode:
    """Return the node of this number as one."""
    op = "MicroArchitecture"
    if not isinstance(node, (tuple, list)) or not all(isinstance(p, (tuple, list)) and len(p) == 2 for p in node):
        raise TypeError(f"{op}: `{name}` must be a pair of inputs and a pair of operations, got {brief(node)}")
    if len(node) != 2:
        raise ValueError(f"{op}: `{name}` must be a pair of inputs and a pair of operations, got {brief(node)}")
    a, b = (as_int(op, f"{name}.inputs", source, 0, number - 1) for source in node[0])
    left, right = (as_choice(op, f"{name}.operations", each, MICRO_OPERATIONS) for each in node[1])
    return CellNode((a, b), (left, right))


def _as_layer(name: str, layer: Any, number: int) -> MacroLayer:
    """Return the layer of this number as one, its skips in order."""
    op = "MacroArchitecture"
    if not isinstance(layer, (tuple, list)) or len(layer) != 2 or not isinstance(layer[1], (tuple, list)):
        raise TypeError(f"{op}: `{name}` must be an operation and a sequence of layers, got {brief(layer)}")
    operation = as_choice(op, f"{name}.operation", layer[0], MACRO_OPERATIONS)
    if layer[1] and number == 1:
        raise ValueError(f"{op}: `{name}.skips` must be empty, the first layer reads the stem, got {brief(layer[1])}")
    skips = [as_int(op, f"{name}.skips", source, 0, number - 2) for source in layer[1]]
    if len({*skips}) < len(skips):
        raise ValueError(f"{op}: `{name}.skips` must name each layer once, got {brief(layer[1])}")
    return MacroLayer(operation, tuple(sorted(skips)))
