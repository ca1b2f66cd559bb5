import numpy as np
import pytest

from cyconv.gradient_check import check_gradients
from cyconv.layers import (
    BatchNorm2d,
    ChannelShuffle,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Gate,
    GlobalAvgPool2d,
    Heads,
    Identity,
    Linear,
    MaxPool2d,
    PadChannels,
    ReLU,
    SameSize,
    Sequential,
    SideHead,
    Sigmoid,
    Split,
    Tanh,
)


def images(shape=(2, 6, 5, 4), dtype=np.float64):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


LAYERS = {
    "gate": Gate(Sequential(GlobalAvgPool2d(), Conv2d(6, 2, 1), Tanh(), Conv2d(2, 6, 1), Sigmoid())),
    "gate of each pixel": Gate(Sequential(Conv2d(6, 6, 3, padding=1), Sigmoid())),
    "split": Split([Identity(), Sequential(Conv2d(3, 4, 3, padding=1), BatchNorm2d(4))]),
    "uneven split": Split({"a": Conv2d(1, 2, 1), "b": Tanh(), "c": Conv2d(2, 1, 1)}, sizes=(1, 3, 2)),
    "heads": Heads({"first": Conv2d(6, 2, 3), "second": Sequential(Conv2d(6, 3, 3), Tanh())}),
    "shuffle": ChannelShuffle(3),
    "padding": PadChannels(1, 2),
    "same size": SameSize(Sequential(MaxPool2d(2, ceil_mode=True), ConvTranspose2d(6, 3, 3, stride=2))),
    "together": Sequential(Split([Identity(), Gate(GlobalAvgPool2d())]), ChannelShuffle(2), PadChannels(after=2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients(name):
    check_gradients(LAYERS[name], images())


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("N", [0, 2])
def test_output_shape_is_that_of_forward(name, N):
    layer, x = LAYERS[name].eval(), images((N, 6, 5, 4), np.float32)
    y = layer(x)
    assert y.shape == (N, *layer.output_shape((6, 5, 4)))
    assert y.dtype == np.float32
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    assert not np.shares_memory(x, y)
    assert list(layer.trace((6, 5, 4)))[-1].output_shape == y.shape[1:]


def test_gate_multiplies():
    x = images(dtype=np.float32)
    np.testing.assert_allclose(Gate(Tanh())(x), x * np.tanh(x), rtol=1e-5)
    np.testing.assert_allclose(Gate(GlobalAvgPool2d())(x), x * x.mean(axis=(2, 3), keepdims=True), rtol=1e-4)


def test_gates_of_vectors():
    gate = Gate(Sequential(Linear(4, 4), Sigmoid()))
    check_gradients(gate, images((3, 4)))
    assert gate.output_shape((4,)) == (4,)


def test_split_gives_each_its_share():
    x = images(dtype=np.float32)
    np.testing.assert_array_equal(
        Split([Identity(), ReLU()])(x), np.concatenate([x[:, :3], np.maximum(x[:, 3:], 0)], 1)
    )
    y = Split([ReLU(), Identity(), ReLU()], sizes=[1, 4, 1])(x)
    np.testing.assert_array_equal(y[:, 1:5], x[:, 1:5])
    np.testing.assert_array_equal(y[:, 5], np.maximum(x[:, 5], 0))
    vectors = Split([Linear(1, 2), Linear(1, 3)])
    assert vectors(images((5, 2), np.float32)).shape == (5, *vectors.output_shape((2,)))
    check_gradients(vectors, images((5, 2)))


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_shuffle_is_a_transposition(groups):
    x = images(dtype=np.float32)
    shuffle = ChannelShuffle(groups)
    expected = x.reshape(2, groups, 6 // groups, 5, 4).swapaxes(1, 2).reshape(x.shape)
    np.testing.assert_array_equal(shuffle(x), expected)
    np.testing.assert_array_equal(shuffle.backward(expected), x)


def test_padded_channels_are_zero():
    x = images(dtype=np.float32)
    layer = PadChannels(2, 1)
    y = layer(x)
    np.testing.assert_array_equal(y, np.pad(x, ((0, 0), (2, 1), (0, 0), (0, 0))))
    np.testing.assert_array_equal(layer.backward(y), x)


def test_same_size_cuts_at_the_bottom_and_right():
    x = images((2, 3, 7, 5), np.float32)
    enlarged = ConvTranspose2d(3, 2, 2, stride=2).initialize(0)
    np.testing.assert_array_equal(SameSize(enlarged)(x), enlarged(x)[:, :, :7, :5])
    assert SameSize(Tanh())(x).shape == x.shape


def test_side_heads_run_while_training_only():
    x = images((3, 4), np.float32)
    head = SideHead(Linear(4, 2))
    head.eval()
    assert head(x) is x
    assert head.output is None
    assert head.train()(x) is x
    np.testing.assert_array_equal(head.output, head["body"].eval()(x))
    assert head.eval().output is None
    assert [step.output_shape for step in head.trace((4,))] == [(2,), (4,)]


def test_side_heads_add_their_gradient():
    x, g = images((3, 4)), images((3, 4))
    head = SideHead(Linear(4, 2)).initialize(0).astype(np.float64)
    head(x)
    assert head.backward(g) is g  # nobody asked the head
    assert head["body"].weight.grad is None
    head(x)
    head.grad_output = beside = images((3, 2))
    np.testing.assert_allclose(head.backward(g), g + beside @ head["body"].weight.data)
    np.testing.assert_allclose(head["body"].weight.grad, beside.T @ x)
    assert head.grad_output is None
    with pytest.raises(RuntimeError, match="SideHead: each `backward` needs a `forward`"):
        head.backward(g)


def test_any_strides():
    x = images((2, 12, 5, 8), np.float32)[:, ::2, ::-1, ::2]
    for name, layer in LAYERS.items():
        np.testing.assert_allclose(layer.eval()(x), layer(np.ascontiguousarray(x)), rtol=1e-5, atol=1e-6, err_msg=name)


def test_the_inputs_gradient_is_left_out_where_nobody_wants_it():
    x = images(dtype=np.float32)
    for name in ("gate", "split"):
        layer = LAYERS[name].train().initialize(0)
        assert layer.backward(np.ones_like(layer(x)), needs_grad_input=False) is None
        assert all(parameter.grad is not None for parameter in layer.parameters().values())
        layer.zero_grad()


def test_repr():
    assert repr(Split([ReLU()])) == "Split(\n  (0): ReLU()\n)"
    assert repr(Split([ReLU()], sizes=[2])) == "Split(\n  (0): ReLU()\n  sizes=(2,)\n)"
    assert repr(Gate(ReLU())) == "Gate(\n  (body): ReLU()\n)"
    assert repr(PadChannels(after=2)) == "PadChannels(after=2)"
    assert repr(ChannelShuffle(2)) == "ChannelShuffle(2)"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            Gate(Conv2d(6, 3, 1)),
            r"Gate: `body` must return \(6, 5, 4\) or one number for each channel, got \(3, 5, 4\)",
        ),
        (Gate(Flatten()), r"Gate: `body` must return .* got \(120,\)"),
        (Split([ReLU()] + [Tanh() for _ in range(3)]), "Split: needs a multiple of 4 channels, got 6"),
        (Split([ReLU(), Tanh()], sizes=[2, 3]), "Split: needs 5 channels, got 6"),
        (Split([ReLU(), Conv2d(3, 1, 3)]), "Split: outputs to be merged by 'concat' must have the same height"),
        (SameSize(Conv2d(6, 1, 2)), r"SameSize: `body` must return images of at least 5x4, got shape \(1, 4, 3\)"),
        (ChannelShuffle(4), "ChannelShuffle: needs a multiple of 4 channels, got 6"),
    ],
)
def test_what_does_not_fit_is_named(layer, message):
    with pytest.raises(ValueError, match=message):
        layer.output_shape((6, 5, 4))
    with pytest.raises(ValueError, match=message):
        layer(images(dtype=np.float32))


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"Split: `sizes` must give one for each of the 2 layers, got \(1,\)"):
        Split([ReLU(), Tanh()], sizes=[1])
    with pytest.raises(ValueError, match="ChannelShuffle: `groups` must be at least 1, got 0"):
        ChannelShuffle(0)
    with pytest.raises(ValueError, match="PadChannels: `before` must be at least 0, got -1"):
        PadChannels(-1)
    layer = PadChannels(1)
    y = layer(images())
    with pytest.raises(ValueError, match=r"PadChannels.backward: `grad_output` must have shape \(2, 7, 5, 4\)"):
        layer.backward(y[:, 1:])


def test_heads_split_by_name():
    heads = Heads({"scores": Linear(4, 3), "boxes": Linear(4, 12)}).initialize(0)
    with pytest.raises(ValueError, match=r"Heads\.split: how many outputs each head has is known after `forward`"):
        heads.split(np.zeros((2, 15)))
    x = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    output = heads(x)
    parts = heads.split(output)
    assert list(parts) == ["scores", "boxes"]
    for name, part in parts.items():
        np.testing.assert_array_equal(part, heads[name].eval()(x))
        assert np.shares_memory(part, output)
    with pytest.raises(ValueError, match=r"Heads\.split: `output` must have 15 channels, got shape \(2, 14\)"):
        heads.split(output[:, 1:])
    with pytest.raises(TypeError, match="Heads: `layers` must be a mapping of names to layers, got"):
        Heads([Linear(4, 3)])


@pytest.mark.parametrize("sizes", [5, 1.5, "ab", np.array(3), [2, None], {"a": 1}, [2]])
def test_sizes_of_shares_are_named(sizes):
    with pytest.raises((ValueError, TypeError), match="Split: `sizes` must"):
        Split([Identity(), Conv2d(2, 3, 1)], sizes=sizes)


@pytest.mark.parametrize("x", [None, "x", 1.0, [1.0], np.ones(3, np.float32), np.ones((1, 4, 2, 2), int)])
def test_what_cannot_be_shared_is_named(x):
    split = Split([Identity(), Conv2d(2, 3, 1)])
    for call in (split, split.forward):
        with pytest.raises((ValueError, TypeError), match="Split: `x` must"):
            call(x)


@pytest.mark.parametrize("shape", [(), None, 5, "x"])
def test_shapes_without_channels_are_named(shape):
    with pytest.raises(ValueError, match="Split: `input_shape` must be"):
        Split([Identity(), Identity()]).output_shape(shape)
