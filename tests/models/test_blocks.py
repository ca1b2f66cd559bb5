import numpy as np
import pytest

from cyconv.models.blocks import conv_norm_relu, image_shape


@pytest.mark.parametrize(
    ("size", "expected"), [(None, None), (7, (3, 7, 7)), ((4, 9), (3, 4, 9)), ([4, np.int64(9)], (3, 4, 9))]
)
def test_image_shape(size, expected):
    assert image_shape("vgg", 3, size) == expected


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((0, 8), ValueError, "vgg: `in_channels` must be at least 1, got 0"),
        ((3, 0), ValueError, "vgg: `input_size` must be at least 1, got 0"),
        ((3, (1, 2, 3)), ValueError, "vgg: `input_size`"),
        (("3", None), TypeError, "vgg: `in_channels` must be an integer, got '3'"),
    ],
)
def test_bad_shapes_are_named(arguments, kind, message):
    with pytest.raises(kind, match=message):
        image_shape("vgg", *arguments)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("eps", [1e-5, 0.25])
def test_a_block_is_convolution_normalisation_and_relu(relu, eps):
    """In training each channel has mean 0 and variance v / (v + eps), and the loops' convolution decides the signs."""
    rng = np.random.default_rng(0)
    block = conv_norm_relu(2, 3, 3, eps=eps, relu=relu, padding=1, stride=2).astype(np.float64).initialize(0)
    x = rng.standard_normal((4, 2, 5, 6))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    weight = block.parameters()["conv.weight"].data
    expected = np.empty((4, 3, 3, 3))
    for oh in range(3):
        for ow in range(3):
            window = padded[:, :, 2 * oh : 2 * oh + 3, 2 * ow : 2 * ow + 3]
            expected[:, :, oh, ow] = np.tensordot(window, weight, ((1, 2, 3), (1, 2, 3)))
    mean, variance = (f(expected, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.var))
    expected = (expected - mean) / np.sqrt(variance + eps)
    np.testing.assert_allclose(block(x), np.maximum(expected, 0) if relu else expected, rtol=1e-10, atol=1e-12)
    assert list(block.children()) == ["conv", "bn", "relu"][: 2 + relu]
    assert "conv.bias" not in block.parameters()
