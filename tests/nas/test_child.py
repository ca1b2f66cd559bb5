import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyconv import Network, nas
from cyconv.losses import CrossEntropyLoss
from cyconv.nas import MacroSpace, MicroSpace, SharedWeights, build
from cyconv.optimizers import Adam
from cyconv.training import train_step
from tests.models.networks import check_network_gradients

SPACES = {"micro": MicroSpace(nodes=3), "macro": MacroSpace(layers=5)}


def images(N=4, shape=(1, 9, 6), dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal((N, *shape)).astype(dtype)


@pytest.mark.parametrize("name", SPACES)
@given(seed=st.integers(0, 10**6), H=st.integers(4, 11), W=st.integers(4, 11))
@settings(max_examples=15, deadline=None)
def test_every_architecture_is_a_network_for_any_size(name, seed, H, W):
    """Shapes fit also where halving has to round, and every value leads to the scores."""
    network = build(SPACES[name].sample(seed), (2, H, W), 3, channels=2, seed=0)
    x = images(2, (2, H, W))
    assert network.predict(x).shape == (2, 3)
    network.train()
    network.backward(network.forward(x), needs_grad_input=False)
    assert all(parameter.grad is not None for parameter in network.parameters().values())


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("seed", range(3))
def test_gradients_of_random_architectures(name, seed):
    network = build(SPACES[name].sample(seed), (1, 5, 6), 3, channels=2, seed=0)
    check_network_gradients(network, max_entries=1, most=25)


@pytest.mark.parametrize("name", SPACES)
def test_a_child_is_the_network_built_with_its_weights(name):
    space = SPACES[name]
    shared = SharedWeights(1, 3, channels=4, cells=1, rng=0)
    x = images()
    for seed in range(8):
        architecture = space.sample(seed)
        child = shared.child(architecture)
        network = build(architecture, (1, 9, 6), 3, channels=4, seed=1)
        network.load_state_dict(child.state_dict())
        np.testing.assert_array_equal(network.train().forward(x), child.forward(x))
        child.forget()
        np.testing.assert_array_equal(network.eval().forward(x), child.eval().forward(x))
        child.train()


@pytest.mark.parametrize("name", SPACES)
def test_a_step_changes_the_childs_weights_alone(name):
    shared, space = SharedWeights(1, 3, channels=4, rng=0), SPACES[name]
    children = [shared.child(space.sample(seed)) for seed in (0, 1)]
    mine, others = (child.parameters() for child in children)
    assert {*mine} - {*others}
    assert {*others} - {*mine}
    assert all(mine[key] is others[key] for key in {*mine} & {*others})
    before = {key: parameter.data.copy() for key, parameter in {**mine, **others}.items()}
    optimizer = Adam(0.01)
    train_step(children[0], images(), np.arange(4) % 3, CrossEntropyLoss(), optimizer)
    changed = {key for key, value in before.items() if not np.array_equal(value, {**mine, **others}[key].data)}
    assert changed == {*mine}
    assert {*optimizer.state_dict()["steps"]} == {*mine}
    assert all(parameter.grad is None for key, parameter in others.items() if key not in mine)


def test_shared_weights_depend_on_the_seed_alone():
    first, same, other = (
        SharedWeights(1, 3, channels=2, rng=seed).child(MicroSpace(2).sample(5)).state_dict() for seed in (0, 0, 1)
    )
    assert all(np.array_equal(first[name], same[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_the_projection_of_loose_ends_is_that_of_their_concatenation():
    """The sum of a 1x1 convolution of each is one of all, side by side."""
    architecture = nas.MicroArchitecture(
        normal=[((0, 0), ("identity", "avg_pool_3x3")), ((0, 0), ("max_pool_3x3", "identity"))],
        reduction=[((0, 1), ("identity", "identity"))],
    )
    network = build(architecture, (1, 8, 8), 3, channels=4, seed=0)
    graph = network["graph"]
    names = [name for name in graph.children() if name.startswith("cell0_end")]
    assert names == ["cell0_end_1", "cell0_end_2", "cell0_end_3"]  # an input that no node reads is loose too
    ends = [np.random.default_rng(i).standard_normal((2, 4, 8, 8)).astype(np.float32) for i in range(3)]
    weight = np.concatenate([graph[name][1].weight.data for name in names], axis=1)[:, :, 0, 0]
    joined = np.einsum("oc,nchw->nohw", weight, np.maximum(np.concatenate(ends, axis=1), 0))
    summed = sum(graph[name].eval().forward(end) for name, end in zip(names, ends, strict=True))
    np.testing.assert_allclose(summed, joined, rtol=1e-4, atol=1e-5)


def test_stages_halve_the_image_and_double_the_channels():
    network = build(MicroSpace(2).sample(0), (1, 28, 28), 10, channels=8, cells=2)
    shapes = {step.name: step.output_shape for step in network.trace((1, 28, 28))}
    norms = [shapes[f"graph.cell{cell}_norm"] for cell in range(8)]
    assert norms == [(8, 28, 28)] * 2 + [(16, 14, 14)] * 3 + [(32, 7, 7)] * 3
    assert shapes["graph"] == (32, 7, 7)
    macro = build(MacroSpace(6).sample(0), (1, 28, 28), 10, channels=8)
    assert {step.name: step.output_shape for step in macro.trace((1, 28, 28))}["graph"] == (32, 7, 7)


def test_separable_convolutions_of_cells_are_applied_twice():
    cell = [((0, 1), ("separable_conv_5x5", "separable_conv_5x5"))]
    network = build(nas.MicroArchitecture(cell, cell), (1, 8, 8), 10, channels=4)
    shapes = {name: parameter.shape for name, parameter in network.parameters().items()}
    prefix = "graph.cell0_node2a_separable_conv_5x5."
    kernels = [shape for name, shape in shapes.items() if name.startswith(prefix) and len(shape) == 4]
    assert kernels == [(4, 1, 5, 5), (4, 4, 1, 1)] * 2


def test_a_network_is_one_like_any_other(tmp_path):
    network = build(MicroSpace(2).sample(0), (1, 8, 8), 10, channels=4, seed=0)
    assert type(network) is Network
    x, y = images(16, (1, 8, 8)), np.arange(16) % 10
    history = network.fit(x, y, epochs=8, batch_size=8, optimizer=Adam(0.01), progress=False)
    assert history["loss"][-1] < history["loss"][0]
    network.save(tmp_path / "network.safetensors")
    other = build(MicroSpace(2).sample(0), (1, 8, 8), 10, channels=4, seed=1)
    other.load(tmp_path / "network.safetensors")
    np.testing.assert_array_equal(other.predict(x), network.predict(x))
    assert "cell0_norm" in network.summary()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (
            ("cell", (1, 8, 8), 10),
            {},
            TypeError,
            "build: `architecture` must be a micro or macro architecture, got 'ce",
        ),
        (
            (MicroSpace(1).sample(0), (8, 8), 10),
            {},
            ValueError,
            r"build: `input_shape` must be \(C, H, W\), got \(8, 8",
        ),
        ((MicroSpace(1).sample(0), (1, 8, 0), 10), {}, ValueError, "build: `input_shape` must be at least 1, got 0"),
        ((MicroSpace(1).sample(0), 8, 10), {}, TypeError, r"build: `input_shape` must be \(C, H, W\), got 8"),
        ((MicroSpace(1).sample(0), (1, 8, 8), 0), {}, ValueError, "build: `num_classes` must be at least 1, got 0"),
        ((MicroSpace(1).sample(0), (1, 8, 8), 2), {"channels": 0}, ValueError, "build: `channels` must be at least 1"),
        ((MicroSpace(1).sample(0), (1, 8, 8), 2), {"cells": 0}, ValueError, "build: `cells` must be at least 1, got 0"),
        ((MacroSpace(1).sample(0), (1, 8, 8), 2), {"cells": 2}, ValueError, "build: `cells` must be None for a macro"),
    ],
)
def test_build_refuses(arguments, options, error, message):
    with pytest.raises(error, match=message):
        build(*arguments, **options)
