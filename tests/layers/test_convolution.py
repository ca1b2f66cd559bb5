import numpy as np
import pytest

import cyconv
from cyconv import functional as F
from cyconv import layers as L
from cyconv.gradient_check import check_gradients
from cyconv.layers import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d, Pad, Sequential

CONVOLUTIONS = [
    Conv2d(4, 6, 3),
    Conv2d(4, 6, 3, bias=False),
    Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
    Conv2d(4, 6, 3, groups=2, padding="same"),
    Conv2d(4, 4, 3, groups=4, padding=((1, 0), (2, 1))),
    Conv2d(4, 6, 1, padding="valid"),
    ConvTranspose2d(4, 6, 3),
    ConvTranspose2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0), output_padding=(1, 2)),
    ConvTranspose2d(4, 6, 2, stride=2, groups=2, bias=False),
    ConvTranspose2d(4, 6, 3, dilation=2),
]


def images(dtype=np.float32):
    return np.random.default_rng(0).standard_normal((2, 4, 7, 6)).astype(dtype)


@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=repr)
def test_gradients(layer):
    check_gradients(layer, images(np.float64))


@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=repr)
def test_output_shape_is_that_of_forward(layer):
    assert layer(images()).shape[1:] == layer.output_shape((4, 7, 6))


@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=repr)
def test_the_input_gradient_can_be_left_out(layer):
    layer.zero_grad()
    assert layer.backward(layer(images()), needs_grad_input=False) is None
    assert layer.weight.grad.shape == layer.weight.shape


def test_forward_is_the_op():
    x, layer = images(), Conv2d(4, 6, 3, stride=2, padding=1, groups=2).initialize(0)
    np.testing.assert_array_equal(layer(x), F.conv2d(x, layer.weight.data, layer.bias.data, 2, 1, 1, 2))
    transposed = ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1).initialize(0)
    expected = F.conv_transpose2d(x, transposed.weight.data, transposed.bias.data, 2, 1, 1)
    np.testing.assert_array_equal(transposed(x), expected)


def test_weights_lie_channels_last_in_memory():
    weight = Conv2d(4, 6, 3).weight.data
    assert weight.shape == (6, 4, 3, 3)
    assert weight.transpose(0, 2, 3, 1).flags.c_contiguous


def test_initial_values_are_bounded_as_in_pytorch():
    layer = Conv2d(16, 32, 5).initialize(0)
    bound = 1 / np.sqrt(16 * 25)
    for values in (layer.weight.data, layer.bias.data):
        assert 0.9 * bound < np.abs(values).max() <= bound


def test_an_initializer_leaves_the_bias_zero():
    layer = Conv2d(16, 32, 5, initializer="he_normal").initialize(0)
    assert abs(layer.weight.data.std() / np.sqrt(2 / 400) - 1) < 0.02
    assert not layer.bias.data.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, "Conv2d: `in_channels` must be at least 1, got 0"),
        ({"out_channels": 2.5}, "Conv2d: `out_channels` must be an integer, got 2.5"),
        ({"kernel_size": (3, 0)}, "Conv2d: `kernel_size` must be at least 1, got 0"),
        ({"stride": 0}, "Conv2d: `stride` must be at least 1, got 0"),
        ({"padding": -1}, "Conv2d: `padding` must be at least 0, got -1"),
        ({"padding": "reflect"}, 'Conv2d: `padding` must be "same", "valid", "full", an int or a pair of ints, or'),
        (
            {"padding_mode": "mirror"},
            "Conv2d: `padding_mode` must be one of 'zeros', 'reflect', 'replicate', 'circular'",
        ),
        ({"dilation": 2**62}, "Conv2d: `dilation` must be at most"),
        ({"groups": 3}, "Conv2d: `groups` must divide `in_channels` 4 and `out_channels` 6, got 3"),
        ({"initializer": "magic"}, "Conv2d: `initializer` must be one of"),
        ({"initializer": 3}, "Conv2d: `initializer` must be a function"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Conv2d(**{"in_channels": 4, "out_channels": 6, "kernel_size": 3, **arguments})


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"Conv2d: needs images of shape \(4, H, W\), got \(3, 8, 8\)"):
        Conv2d(4, 6, 3).output_shape((3, 8, 8))
    with pytest.raises(ValueError, match=r"Conv2d: the kernel spans \(5, 5\) .*, more than the padded input \(3, 8\)"):
        Conv2d(4, 6, 5).output_shape((4, 3, 8))
    with pytest.raises(ValueError, match="ConvTranspose2d: `groups` must divide"):
        ConvTranspose2d(4, 6, 3, groups=4)


SEQUENCES = [
    Conv1d(4, 6, 3),
    Conv1d(4, 6, 3, stride=2, padding=(2, 1), dilation=2, groups=2, bias=False),
    Conv1d(4, 6, (3,), padding="same", stride=(2,)),
    Conv1d(4, 6, 3, padding=2, padding_mode="reflect"),
    ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
    ConvTranspose1d(4, 6, (3,), stride=(2,), padding=(1, 0)),
]
VOLUMES = [
    Conv3d(4, 6, (2, 3, 1)),
    Conv3d(4, 6, 3, stride=2, padding=1, groups=2, bias=False),
    Conv3d(4, 6, 3, stride=(1, 2, 1), padding="same"),
    Conv3d(4, 6, 2, padding="valid", dilation=(2, 1, 1)),
    Conv3d(4, 6, 2, padding=((1, 0), (0, 1), (1, 1)), padding_mode="circular"),
    ConvTranspose3d(4, 6, 2, stride=2, groups=2),
    ConvTranspose3d(4, 6, 3, stride=(2, 1, 2), padding=(1, 0, 1), output_padding=(1, 0, 0)),
    ConvTranspose3d(4, 6, 2, padding=((1, 0), (0, 0), (0, 1))),
]
CASES = [*((layer, (4, 9)) for layer in SEQUENCES), *((layer, (4, 5, 6, 4)) for layer in VOLUMES)]
IDS = [repr(layer) for layer, _ in CASES]


def batch(shape, dtype=np.float32):
    return np.random.default_rng(0).standard_normal((2, *shape)).astype(dtype)


@pytest.mark.parametrize(("layer", "shape"), CASES, ids=IDS)
def test_gradients_of_sequences_and_volumes(layer, shape):
    check_gradients(layer, batch(shape, np.float64), max_entries=40)


@pytest.mark.parametrize(("layer", "shape"), CASES, ids=IDS)
def test_shapes_and_modes_of_sequences_and_volumes(layer, shape):
    y = layer(batch(shape))
    assert y.dtype == np.float32
    assert y.shape[1:] == layer.output_shape(shape)
    np.testing.assert_array_equal(layer.eval()(batch(shape)), y)
    np.testing.assert_array_equal(layer(batch(shape)), y)  # by prepared filters
    layer.train()
    layer.zero_grad()
    assert layer.backward(layer(batch(shape)), needs_grad_input=False) is None
    assert layer.weight.grad.shape == layer.weight.shape


@pytest.mark.parametrize(("layer", "shape"), CASES, ids=IDS)
def test_a_sum_and_a_relu_follow_in_any_rank(layer, shape):
    y = layer(batch(shape))
    addend = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
    np.testing.assert_allclose(layer.run(batch(shape), addend, relu=True), np.maximum(y + addend, 0), atol=1e-5)


def test_forward_is_the_op_of_volumes():
    x, layer = batch((4, 5, 6, 4)), Conv3d(4, 6, 3, padding=1).initialize(0)
    np.testing.assert_array_equal(layer(x), F.conv3d(x, layer.weight.data, layer.bias.data, padding=1))


KINDS = {1: (Conv1d, (4, 9)), 2: (Conv2d, (4, 7, 6)), 3: (Conv3d, (4, 5, 6, 4))}
TRANSPOSED = {1: ConvTranspose1d, 2: ConvTranspose2d, 3: ConvTranspose3d}


@pytest.mark.parametrize("axes", KINDS)
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes_continue_the_input(axes, mode):
    kind, shape = KINDS[axes]
    sides = ((1, 2), (2, 0), (0, 1))[:axes]
    layer = kind(4, 3, 3, stride=2, padding=sides, padding_mode=mode).initialize(0)
    names = {"replicate": "edge", "circular": "wrap"}
    around = np.pad(batch(shape), ((0, 0), (0, 0), *sides), names.get(mode, mode))
    plain = kind(4, 3, 3, stride=2).initialize(0)
    np.testing.assert_array_equal(layer(batch(shape)), plain(around))
    assert layer(batch(shape)).shape[1:] == layer.output_shape(shape)
    check_gradients(layer, batch(shape, np.float64), max_entries=40)


def test_a_padded_convolution_is_fused_recorded_and_folded_as_the_pad_before_one():
    x, sides = images(), (1, 1, 1, 1)
    layers = [L.BatchNorm2d(6), L.ReLU(), L.MaxPool2d(2)]
    one = Sequential(Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), *layers).initialize(0)
    other = Sequential(
        Pad(sides, "reflect"),
        Conv2d(4, 6, 3),
        *(type(layer)(*args) for layer, args in zip(layers, [(6,), (), (2,)], strict=True)),
    )
    other.load_state_dict({f"{int(name[0]) + 1}{name[1:]}": value for name, value in one.state_dict().items()})
    for network in (one, other):
        network(x)  # moves the running averages
        network.eval()
    for _ in range(3):
        np.testing.assert_array_equal(one(x), other(x))
    fused = one(x)
    cyconv.fusion(False)
    try:
        np.testing.assert_allclose(one(x), fused, atol=1e-5)
    finally:
        cyconv.fusion()


def test_reflection_beyond_the_input_is_named_before_it_runs():
    layer = Conv1d(4, 3, 3, padding=9, padding_mode="reflect")
    with pytest.raises(
        ValueError, match="Conv1d: `padding` must be at most 8 for `mode` 'reflect' and 9 pixels, got 9"
    ):
        layer.output_shape((4, 9))


LENGTH = {1: "an int", 2: "an int or a pair of ints", 3: "an int or three ints"}


@pytest.mark.parametrize("axes", KINDS)
def test_constructors_refuse_what_forward_would(axes):
    wrong = (1,) * (axes + 1)
    for kind in (KINDS[axes][0], TRANSPOSED[axes]):
        name = kind.__name__
        for argument in ("kernel_size", "stride", "dilation"):
            with pytest.raises(ValueError, match=f"^{name}: `{argument}` must be {LENGTH[axes]}, got"):
                kind(**{"in_channels": 4, "out_channels": 4, "kernel_size": 3, argument: wrong})
            with pytest.raises(TypeError, match=f"^{name}: `{argument}` must be an integer, got 1.5"):
                kind(**{"in_channels": 4, "out_channels": 4, "kernel_size": 3, argument: 1.5})
        with pytest.raises(ValueError, match=f"^{name}: `padding` must be .*, got .1, 1, 1, 1"):
            kind(4, 4, 3, padding=(1, 1, 1, 1))
        with pytest.raises(TypeError, match=f"^{name}: `padding` must be an integer, got None"):
            kind(4, 4, 3, padding=None)
        kind(4, 4, (3,) * axes, (1,) * axes, padding=((1, 0),) * axes)  # one for each axis always is right
    name = TRANSPOSED[axes].__name__
    with pytest.raises(ValueError, match=f'^{name}: `padding` "same" has no meaning here'):
        TRANSPOSED[axes](4, 4, 3, padding="same")
    with pytest.raises(ValueError, match=f"^{name}: `output_padding` must be less than `stride` or `dilation`"):
        TRANSPOSED[axes](4, 4, 3, output_padding=1)
    with pytest.raises(TypeError, match=f"^{name}: `output_padding` must be an integer, got None"):
        TRANSPOSED[axes](4, 4, 3, output_padding=None)


@pytest.mark.parametrize("axes", KINDS)
def test_numpys_integers_become_pythons(axes):
    small = np.int8
    for kind in (KINDS[axes][0], TRANSPOSED[axes]):
        layer = kind(small(100), small(120), small(3), np.array([2] * axes, small), small(1), groups=small(10))
        assert repr(layer) == repr(kind(100, 120, 3, (2,) * axes, 1, groups=10))
        assert not any(isinstance(value, np.generic) for value in vars(layer).values())
        assert layer.output_shape((100, *(9,) * axes)) == kind(100, 120, 3, 2, 1, groups=10).output_shape(
            (100, *(9,) * axes)
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Conv1d(4, 5, 3, groups=2), "Conv1d: `groups` must divide `in_channels` 4 and `out_channels` 5, got 2"),
        (
            lambda: Conv1d(4, 5, 3).output_shape((4, 5, 6)),
            r"Conv1d: needs sequences of shape \(4, L\), got \(4, 5, 6\)",
        ),
        (lambda: Conv3d(4, 5, 3).output_shape((4, 5)), r"Conv3d: needs volumes of shape \(4, D, H, W\), got \(4, 5\)"),
        (
            lambda: Conv3d(4, 5, 3).output_shape((4, 2, 5, 5)),
            r"Conv3d: the kernel spans \(3, 3, 3\) .* input \(2, 5, 5\)",
        ),
        (lambda: Conv1d(4, 5, 3).output_shape((4, 2)), r"Conv1d: the kernel spans 3 .*, more than the padded input 2$"),
        (lambda: ConvTranspose1d(4, 5, 3, stride=0), "ConvTranspose1d: `stride` must be at least 1, got 0"),
        (
            lambda: ConvTranspose1d(4, 5, 3, padding=9).output_shape((4, 3)),
            "ConvTranspose1d: `padding` 9 leaves an output of size -13; it must be at least 1",
        ),
    ],
)
def test_errors_speak_of_the_users_shapes(call, message):
    with pytest.raises(ValueError, match=message):
        call()
