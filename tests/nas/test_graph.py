import numpy as np
import pytest

import cyconv
from cyconv.gradient_check import check_gradients
from cyconv.layers import BatchNorm2d, Conv2d, Flatten, Identity, Linear, ReLU, Sequential, Tanh
from cyconv.nas.graph import Edge, Graph, Node


def diamond():
    """x -> a = tanh(conv x); b = a + conv x; c = b + a + x."""
    return Graph(
        [
            Node((Edge("a", 0, Conv2d(3, 3, 3, padding=1)),), ("squash", Tanh())),
            Node((Edge("same", 1, Identity()), Edge("b", 0, Conv2d(3, 3, 1)))),
            Node((Edge("c", 2, Identity()), Edge("skip", 1, Identity()), Edge("through", 0, Identity()))),
        ]
    )


def images(dtype=np.float64, shape=(2, 3, 5, 4)):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("fuse", [True, False])
def test_values_are_sums_of_what_comes_in(fuse):
    graph, x = diamond().initialize(0).astype(np.float64).eval(), images()
    a = np.tanh(graph["a"](x))
    expected = a + graph["b"](x) + a + x
    cyconv.fusion(fuse)
    try:
        np.testing.assert_allclose(graph(x), expected, rtol=1e-12)
    finally:
        cyconv.fusion(True)
    assert graph.output_shape((3, 5, 4)) == (3, 5, 4)


@pytest.mark.parametrize("fuse", [True, False])
def test_gradients(fuse):
    cyconv.fusion(fuse)
    try:
        check_gradients(diamond(), images())
    finally:
        cyconv.fusion(True)


def test_gradients_through_normalisation_and_without_the_inputs():
    conv = Sequential(Conv2d(3, 4, 3, bias=False), BatchNorm2d(4))
    graph = Graph(
        [
            Node((Edge("conv", 0, conv), Edge("other", 0, Conv2d(3, 4, 3))), ("norm", BatchNorm2d(4))),
            Node((Edge("flat", 1, Sequential(Flatten(), Linear(24, 2))),)),
        ]
    )
    check_gradients(graph, images())
    graph(images(np.float32))
    assert graph.backward(np.ones((2, 2), np.float32), needs_grad_input=False) is None
    assert all(parameter.grad is not None for parameter in graph.parameters().values())


def test_inputs_and_gradients_are_not_written_to():
    graph, x, g = diamond().initialize(0), images(np.float32), images(np.float32)
    x.flags.writeable = g.flags.writeable = False
    graph(x)
    graph.backward(g)
    with pytest.raises(RuntimeError, match="Graph: each `backward` needs a `forward` in training mode"):
        graph.backward(g)


def test_trace_follows_the_values():
    steps = list(diamond().trace((3, 5, 4), "graph."))
    assert [step.name for step in steps] == [
        "graph.a", "graph.squash", "graph.same", "graph.b", "graph.c", "graph.skip", "graph.through", "graph"
    ]  # fmt: skip
    assert steps[-1].output_shape == (3, 5, 4)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([Node(())], r"Graph: node 1 must read values from 0 to 0, got \[\]"),
        ([Node((Edge("a", 1, ReLU()),))], r"Graph: node 1 must read values from 0 to 0, got \[1\]"),
        ([Node((Edge("a", -1, ReLU()),))], r"Graph: node 1 must read values from 0 to 0, got \[-1\]"),
        (
            [Node((Edge("a", 0, ReLU()),)), Node((Edge("b", 0, ReLU()),))],
            r"Graph: every value but the last must be read by a node, got none for \[1\]",
        ),
        (
            [Node((Edge("a", 0, ReLU()), Edge("a", 0, ReLU())))],
            "Graph: each layer must have a name of its own, got 'a' twice",
        ),
    ],
)
def test_what_is_no_graph_is_refused(nodes, message):
    with pytest.raises(ValueError, match=message):
        Graph(nodes)


def test_sums_of_several_shapes_are_refused():
    graph = Graph([Node((Edge("a", 0, Conv2d(3, 4, 1)), Edge("b", 0, Conv2d(3, 4, 3))))])
    with pytest.raises(ValueError, match=r"node 1 adds must have one shape, got \(4, 5, 4\), \(4, 3, 2\)"):
        graph.output_shape((3, 5, 4))
    with pytest.raises(ValueError, match="addend"):
        graph(images(np.float32))


def test_a_gradient_of_another_shape_is_refused():
    graph = diamond().initialize(0)
    graph(images(np.float32))
    with pytest.raises(ValueError, match=r"Graph.backward: `grad_output` must have shape \(2, 3, 5, 4\)"):
        graph.backward(images(np.float32)[:1])
