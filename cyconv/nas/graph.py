"""Graph: a container whose layers lead from value to value, as the cells that a search finds do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from numpy.typing import NDArray

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
        If a node reads itself or a later one, or is read by none; or if it has no edge.

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
        self.nodes = tuple(nodes)
        names = [edge.name for node in self.nodes for edge in node.edges]
        names += [node.behind[0] for node in self.nodes if node.behind is not None]
        if len({*names}) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"Graph: each layer's name must be its own, got {', '.join(twice)} twice")
        read: set[int] = set()
        for number, node in enumerate(self.nodes, 1):
            sources = [edge.source for edge in node.edges]
            if not sources or not all(0 <= source < number for source in sources):
                raise ValueError(f"Graph: node {number} must read values from 0 to {number - 1}, got {sources}")
            read.update(sources)
        unread = sorted({*range(len(self.nodes))} - read)
        if unread:
            raise ValueError(f"Graph: every value but the last must be read by a node, got none for {unread}")
        super().__init__(dict(self._named()))

    def _named(self) -> Iterator[tuple[str, Layer]]:
        """Yield the layers in the order in which they run."""
        for node in self.nodes:
            yield from ((edge.name, edge.layer) for edge in node.edges)
            if node.behind is not None:
                yield node.behind

    def output_shape(self, input_shape: Shape) -> Shape:
        return self._shapes(input_shape)[-1][1]

    def _shapes(self, input_shape: Shape) -> list[tuple[Shape, Shape]]:
        """Return for each value the shapes of the sum and of what is behind it."""
        shape = tuple(input_shape)
        shapes = [(shape, shape)]
        for number, node in enumerate(self.nodes, 1):
            sums = [edge.layer.output_shape(shapes[edge.source][1]) for edge in node.edges]
            if len({*sums}) > 1:
                raise ValueError(f"Graph: what node {number} adds must have one shape, got {', '.join(map(str, sums))}")
            shapes.append((sums[0], sums[0] if node.behind is None else node.behind[1].output_shape(sums[0])))
        return shapes

    def trace(self, input_shape: Shape, prefix: str = "") -> Iterator[Step]:
        shapes = self._shapes(input_shape)
        for node, (total, _) in zip(self.nodes, shapes[1:], strict=True):
            for edge in node.edges:
                yield from edge.layer.trace(shapes[edge.source][1], f"{prefix}{edge.name}.")
            if node.behind is not None:
                yield from node.behind[1].trace(total, f"{prefix}{node.behind[0]}.")
        yield from super().trace(input_shape, prefix)  # the sums

    def forward(self, x: NDArray) -> NDArray:
        fuse = is_fusing()
        values = [x]
        for node in self.nodes:
            total: Any = None
            for _, source, layer in node.edges:  # each adds to what it returns what came before it
                value = values[source]
                total = layer.run(value, total) if fuse else completed("Graph", layer.forward(value), total, False)
            values.append(total if node.behind is None else node.behind[1].forward(total))
        self.remember(values[-1].shape)
        return values[-1]

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (shape,) = self.recall()
        gradients: list[Any] = [None] * len(self.nodes)
        gradients.append(self.check_gradient(grad_output, shape))
        for node in reversed(self.nodes):
            gradient = gradients.pop()
            if node.behind is not None:
                gradient = node.behind[1].backward(gradient)
            for _, source, layer in node.edges:
                if source == 0 and not needs_grad_input:
                    layer.backward(gradient, False)
                else:
                    gradients[source] = layer.run_backward(gradient, gradients[source])
        return gradients[0]
