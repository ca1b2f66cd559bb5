import numpy as np
import pytest

from cyconv import functional as F
from cyconv.gradient_check import check_gradients
from cyconv.layers import Conv1d, Conv3d, ConvTranspose1d, ConvTranspose3d

SEQUENCES = [
    Conv1d(4, 6, 3),
    Conv1d(4, 6, 3, stride=2, padding=(2, 1), dilation=2, groups=2, bias=False),
    Conv1d(4, 6, 3, padding="same", stride=2),
    ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
]
VOLUMES = [
    Conv3d(4, 6, (2, 3, 1)),
    Conv3d(4, 6, 3, stride=2, padding=1, groups=2, bias=False),
    Conv3d(4, 6, 3, stride=(1, 2, 1), padding="same"),
    Conv3d(4, 6, 2, padding="valid", dilation=(2, 1, 1)),
    ConvTranspose3d(4, 6, 2, stride=2, groups=2),
    ConvTranspose3d(4, 6, 3, stride=(2, 1, 2), padding=(1, 0, 1), output_padding=(1, 0, 0)),
]
CASES = [*((layer, (4, 9)) for layer in SEQUENCES), *((layer, (4, 5, 6, 4)) for layer in VOLUMES)]
IDS = [repr(layer) for layer, _ in CASES]


def batch(shape, dtype=np.float32):
    return np.random.default_rng(0).standard_normal((2, *shape)).astype(dtype)


@pytest.mark.parametrize(("layer", "shape"), CASES, ids=IDS)
def test_gradients(layer, shape):
    check_gradients(layer, batch(shape, np.float64), max_entries=40)


@pytest.mark.parametrize(("layer", "shape"), CASES, ids=IDS)
def test_shapes_and_modes(layer, shape):
    y = layer(batch(shape))
    assert y.dtype == np.float32
    assert y.shape[1:] == layer.output_shape(shape)
    np.testing.assert_array_equal(layer.eval()(batch(shape)), y)
    layer.train()
    layer.zero_grad()
    assert layer.backward(layer(batch(shape)), needs_grad_input=False) is None
    assert layer.weight.grad.shape == layer.weight.shape


def test_forward_is_the_op():
    x, layer = batch((4, 5, 6, 4)), Conv3d(4, 6, 3, padding=1).initialize(0)
    np.testing.assert_array_equal(layer(x), F.conv3d(x, layer.weight.data, layer.bias.data, padding=1))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="Conv1d: `groups` must divide `in_channels` 4 and `out_channels` 5, got 2"):
        Conv1d(4, 5, 3, groups=2)
    with pytest.raises(ValueError, match="Conv3d: `kernel_size` must be an int or three ints"):
        Conv3d(4, 5, (3, 3))
    with pytest.raises(ValueError, match=r"Conv1d: needs inputs of shape \(4, L\), got \(4, 5, 6\)"):
        Conv1d(4, 5, 3).output_shape((4, 5, 6))
    with pytest.raises(ValueError, match="Conv3d: the padded input is smaller than the kernel"):
        Conv3d(4, 5, 3).output_shape((4, 2, 5, 5))
    with pytest.raises(ValueError, match="ConvTranspose1d: `stride` must be at least 1, got 0"):
        ConvTranspose1d(4, 5, 3, stride=0)
