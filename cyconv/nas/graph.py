"""Graph: a container whose layers lead from value to value, as the cells that a search finds do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from numpy.typing import NDArray

from cyconv.layers import base
from cyconv.layers.base import Layer, Shape, Step, completed
from cyconv.layers.containers import Container
from cyconv.settings import is_fusing


class Edge(NamedTuple):
    """A layer applied to an earlier value.

    Attributes
    ----------
    name : str
        Of the layer, among all of the graph's.
    source : int
        Number of the value: 0 is the graph's input, 1 the first node's.
    layer : Layer
        What is applied to it.
    """

    name: str
    source: int
    layer: Layer


class Node(NamedTuple):
    """A value: the sum of what its edges bring, and perhaps one more layer behind the sum.

    Attributes
    ----------
    edges : sequence of Edge
        At least one.
    behind : (str, Layer) or None
        Name of that layer, and the layer.
    """

    edges: tuple[Edge, ...]
    behind: tuple[str, Layer] | None = None


class Graph(Container):
    """Compute one value after the other, each from earlier ones, and return the last.

    Parameters
    ----------
    nodes : iterable of Node
        In an order in which every node comes after those that it reads. Each must be read by a later one.

    Raises
    ------
    ValueError
        If a node reads itself or a later one, or is read by none; if it has no edge; or if two layers share a name.

    Notes
    -----
    ``value[k] = behind[k](sum over edges of layer(value[source]))``; backwards, ``grad[source] += layer'(behind'(grad[
    k]))``, nodes in the opposite order.

    Examples
    --------
    >>> from cyconv.layers import Conv2d, Identity
    >>> from cyconv.nas.graph import Edge, Graph, Node
    >>> conv, same, half = Conv2d(4, 4, 3, padding=1), Identity(), Conv2d(4, 8, 1, stride=2)
    >>> graph = Graph([Node((Edge("conv", 0, conv), Edge("same", 0, same))), Node((Edge("half", 1, half),))])
    >>> graph.output_shape((4, 8, 8))
    (8, 4, 4)
    """

    def __init__(self, nodes: Iterable[Node]) -> None:
        nodes = tuple(nodes)
        # By names, so that whoever puts another layer in the place of one finds it used.
        self._plan = [
            ([(edge.name, edge.source) for edge in node.edges], None if node.behind is None else node.behind[0])
            for node in nodes
        ]
        layers: dict[str, Layer] = {}
        read: set[int] = set()
        for number, node in enumerate(nodes, 1):
            sources = [edge.source for edge in node.edges]
            if not sources or not all(0 <= source < number for source in sources):
                raise ValueError(f"Graph: node {number} must read values from 0 to {number - 1}, got {sources}")
            read.update(sources)
            named = [(edge.name, edge.layer) for edge in node.edges]
            for name, layer in named if node.behind is None else [*named, node.behind]:
                if name in layers:
                    raise ValueError(f"Graph: each layer must have a name of its own, got {name!r} twice")
                layers[name] = layer
        unread = sorted({*range(len(nodes))} - read)
        if unread:
            raise ValueError(f"Graph: every value but the last must be read by a node, got none for {unread}")
        super().__init__(layers)

    def output_shape(self, input_shape: Shape) -> Shape:
        return self._shapes(input_shape)[-1][1]

    def _shapes(self, input_shape: Shape) -> list[tuple[Shape, Shape]]:
        """Return for each value the shapes of the sum and of what is behind it."""
        shape = tuple(input_shape)
        shapes = [(shape, shape)]
        for number, (edges, behind) in enumerate(self._plan, 1):
            sums = [self[name].output_shape(shapes[source][1]) for name, source in edges]
            if len({*sums}) > 1:
                raise ValueError(f"Graph: what node {number} adds must have one shape, got {', '.join(map(str, sums))}")
            shapes.append((sums[0], sums[0] if behind is None else self[behind].output_shape(sums[0])))
        return shapes

    def trace(self, input_shape: Shape, prefix: str = "") -> Iterator[Step]:
        shapes = self._shapes(input_shape)
        for (edges, behind), (total, _) in zip(self._plan, shapes[1:], strict=True):
            for name, source in edges:
                yield from self[name].trace(shapes[source][1], f"{prefix}{name}.")
            if behind is not None:
                yield from self[behind].trace(total, f"{prefix}{behind}.")
        yield from super().trace(input_shape, prefix)  # the sums

    def forward(self, x: NDArray) -> NDArray:
        fuse, layers = is_fusing(), self.children()
        values = [x]
        for edges, behind in self._plan:
            total: Any = None
            for name, source in edges:  # each adds to what it returns what came before it
                layer, value = layers[name], values[source]
                total = (
                    base.run(layer, value, total) if fuse else completed("Graph", layer.forward(value), total, False)
                )
            values.append(total if behind is None else layers[behind].forward(total))
        self.remember(values[-1].shape)
        return values[-1]

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (shape,), layers = self.recall(), self.children()
        gradients: list[Any] = [None] * len(self._plan)
        gradients.append(self.check_gradient(grad_output, shape))
        for edges, behind in reversed(self._plan):
            gradient = gradients.pop()
            if behind is not None:
                gradient = layers[behind].backward(gradient)
            for name, source in edges:
                if source == 0 and not needs_grad_input:
                    layers[name].backward(gradient, False)
                else:
                    gradients[source] = base.run_backward(layers[name], gradient, gradients[source])
        return gradients[0]
