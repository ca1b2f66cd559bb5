"""Training that computes outputs again instead of keeping them: the same bits in less memory."""

import numpy as np
import pytest

import cyconv
from cyconv import Network, layers, losses, optimizers
from cyconv.layers import recompute
from cyconv.training import train_step


def block(channels):
    body = [layers.Conv2d(channels, channels, 3, padding=1, bias=False), layers.BatchNorm2d(channels), layers.ReLU()]
    return layers.Sequential(layers.Residual(layers.Sequential(*body, layers.Dropout(0.2))), layers.ReLU())


def deep(blocks=12, channels=4):
    features = layers.Sequential([block(channels) for _ in range(blocks)])
    head = [layers.GlobalAvgPool2d(), layers.Flatten(), layers.Dropout(0.5), layers.Linear(channels, 3)]
    stem = [layers.Conv2d(1, channels, 3, padding=1), layers.BatchNorm2d(channels), layers.ReLU()]
    return Network([*stem, features, *head], input_shape=(1, 16, 16), seed=0)


def data(images=8):
    rng = np.random.default_rng(3)
    return rng.standard_normal((images, 1, 16, 16), np.float32), rng.integers(3, size=images)


@pytest.mark.parametrize("threads", [1, 3])
def test_same_bits(threads):
    states = []
    for memory in ("normal", "low"):
        net = deep()
        with cyconv.num_threads(threads):
            history = net.fit(*data(20), epochs=2, batch_size=8, seed=1, memory=memory, progress=False)
        state = net.state_dict() | net.random_state()
        states.append((state, [epoch["loss"] for epoch in history.epochs]))
    assert states[0][1] == states[1][1]
    for name, array in states[0][0].items():
        np.testing.assert_array_equal(array, states[1][0][name], err_msg=name)


def peak(recomputes, blocks=24):
    """Return the most bytes in use during a second step beyond those before it."""
    net = deep(blocks)
    net.recomputes = recomputes
    loss, optimizer = losses.CrossEntropyLoss(), optimizers.SGD(0.01)
    train_step(net, *data(), loss, optimizer)
    net.zero_grad()
    cyconv.memory.reset_peak()
    before = cyconv.memory.statistics()["used"]
    train_step(net, *data(), loss, optimizer)
    return cyconv.memory.statistics()["peak"] - before


def test_memory_is_less_than_half():
    assert peak(True) < 0.5 * peak(False)


def test_after_a_step_nothing_is_kept():
    net = deep()
    net.recomputes = True
    x, y = data()
    used = cyconv.memory.statistics()["used"]
    train_step(net, x, y, losses.CrossEntropyLoss(), optimizers.SGD(0.01))
    net.zero_grad()
    parameters = sum(parameter.data.nbytes for parameter in net.parameters().values())
    assert cyconv.memory.statistics()["used"] - used <= 2 * parameters + 2**14


def test_frozen_layers_below_are_not_computed_again():
    net = deep()
    net.recomputes = True
    for parameter in net[0].parameters().values():
        parameter.trainable = False
    train_step(net, *data(), losses.CrossEntropyLoss(), optimizers.SGD(0.01))
    assert net[0].weight.grad is None
    assert net[3][0][0]["body"][0].weight.grad is not None


def test_an_auxiliary_classifier_keeps_its_output():
    side = layers.SideHead(layers.Sequential(layers.Flatten(), layers.Linear(4 * 256, 3)))
    net = Network([layers.Conv2d(1, 4, 3, padding=1), layers.ReLU(), side, layers.Conv2d(4, 2, 1)], seed=0)
    net.recomputes = True
    net.train()
    y = net(data()[0])
    assert side.output.shape == (8, 3)
    net.backward(np.ones_like(y), needs_grad_input=False)


def test_segments_share_the_layers_evenly():
    groups = list(deep()._flat_groups())
    cut = recompute.segments(groups)
    assert [layer for segment in cut for layer in segment.layers] == [layer for g in groups for layer in g.layers]
    assert 3 <= len(cut) <= 5
    assert recompute.segments([]) == []


def test_an_unknown_wish():
    with pytest.raises(ValueError, match="fit: `memory` must be one of 'normal', 'low', got 'tiny'"):
        deep().fit(*data(), memory="tiny")
