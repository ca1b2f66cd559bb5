import numpy as np
import pytest

from cyconv import functional as F
from cyconv.gradient_check import check_gradients
from cyconv.layers import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, GlobalAvgPool2d, MaxPool2d

POOLINGS = [
    MaxPool2d(2),
    MaxPool2d(3, stride=2, padding=1),
    MaxPool2d((3, 2), stride=(2, 3), dilation=(1, 2), ceil_mode=True),
    AvgPool2d(2),
    AvgPool2d(3, stride=2, padding=1, ceil_mode=True),
    AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
    GlobalAvgPool2d(),
    AdaptiveAvgPool2d((3, 2)),
    AdaptiveMaxPool2d((3, 2)),
]


def images(dtype=np.float32):
    """Return images of distinct numbers, so that every window has one winner."""
    return np.random.default_rng(0).permutation(2 * 3 * 7 * 8).reshape(2, 3, 7, 8).astype(dtype) / 100


@pytest.mark.parametrize("layer", POOLINGS, ids=repr)
def test_gradients(layer):
    check_gradients(layer, images(np.float64))


@pytest.mark.parametrize("layer", POOLINGS, ids=repr)
def test_output_shape_is_that_of_forward(layer):
    assert layer(images()).shape[1:] == layer.output_shape((3, 7, 8))


def test_both_modes_give_the_same_bits():
    layer = MaxPool2d(3, stride=2, padding=1)
    np.testing.assert_array_equal(layer(images()), layer.eval()(images()))
    np.testing.assert_array_equal(layer(images()), F.max_pool2d(images(), 3, 2, 1))


@pytest.mark.parametrize("kind", [MaxPool2d, AvgPool2d])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 0}, "`kernel_size` must be at least 1, got 0"),
        ({"kernel_size": 2, "stride": 0}, "`stride` must be at least 1, got 0"),
        ({"kernel_size": 2, "padding": 2}, r"`padding` must be at most half of the window, \(2, 2\), got \(2, 2\)"),
    ],
)
def test_bad_arguments_are_named(kind, arguments, message):
    with pytest.raises(ValueError, match=f"{kind.__name__}: {message}"):
        kind(**arguments)


def test_padding_may_be_half_of_a_dilated_window():
    layer, x = MaxPool2d(3, stride=1, padding=2, dilation=2), np.ones((1, 1, 9, 9))
    assert layer(x).shape[1:] == layer.output_shape((1, 9, 9)) == (1, 9, 9)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"MaxPool2d: needs images of shape \(C, H, W\), got \(10,\)"):
        MaxPool2d(2).output_shape((10,))
    with pytest.raises(ValueError, match="AvgPool2d: the padded input is smaller than the kernel"):
        AvgPool2d(4).output_shape((1, 3, 3))
    with pytest.raises(ValueError, match="AdaptiveAvgPool2d: `output_size` must be at least 1, got 0"):
        AdaptiveAvgPool2d(0)
    with pytest.raises(ValueError, match=r"AdaptiveMaxPool2d: needs images of shape \(C, H, W\), got \(10,\)"):
        AdaptiveMaxPool2d(2).output_shape((10,))
