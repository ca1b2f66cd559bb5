import numpy as np
import pytest

from cyconv import functional as F
from cyconv.gradient_check import check_gradients
from cyconv.layers import Conv2d, ConvTranspose2d

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
        ({"padding": "reflect"}, 'Conv2d: `padding` must be "same", "valid"'),
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
    with pytest.raises(ValueError, match="Conv2d: the padded input is smaller than the kernel"):
        Conv2d(4, 6, 5).output_shape((4, 3, 8))
    with pytest.raises(ValueError, match="ConvTranspose2d: `groups` must divide"):
        ConvTranspose2d(4, 6, 3, groups=4)
