import numpy as np
import pytest

from cyconv import functional as F
from cyconv import layers as L
from cyconv.gradient_check import check_gradients
from cyconv.layers import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, GlobalAvgPool2d, MaxPool2d
from tests import windows
from tests.windows import EVERY, IDS, SIZES

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
    AdaptiveAvgPool2d((None, 2)),
    AdaptiveMaxPool2d(None),
    MaxPool2d(3, stride=2, padding="same"),
    AvgPool2d(3, stride=2, padding=((1, 0), (0, 1)), divisor_override=4),
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
    with pytest.raises(
        ValueError, match=r"AvgPool2d: the kernel spans \(4, 4\) .*, more than the padded input \(3, 3\)"
    ):
        AvgPool2d(4).output_shape((1, 3, 3))
    with pytest.raises(ValueError, match="AdaptiveAvgPool2d: `output_size` must be at least 1, got 0"):
        AdaptiveAvgPool2d(0)
    with pytest.raises(ValueError, match=r"AdaptiveMaxPool2d: needs images of shape \(C, H, W\), got \(10,\)"):
        AdaptiveMaxPool2d(2).output_shape((10,))


CASES = [
    (L.MaxPool1d(2), (3, 11)),
    (L.MaxPool1d(3, stride=2, padding=1, ceil_mode=True), (3, 11)),
    (L.MaxPool1d((3,), stride=(1,), dilation=2), (3, 11)),
    (L.AvgPool1d(3, stride=2, padding=1, count_include_pad=False), (3, 11)),
    (L.AvgPool1d(3, stride=2, padding=(0, 1), divisor_override=2), (3, 11)),
    (L.GlobalAvgPool1d(), (3, 11)),
    (L.AdaptiveMaxPool1d(4), (3, 11)),
    (L.AdaptiveAvgPool1d(None), (3, 11)),
    (L.MaxPool3d(2), (3, 4, 6, 5)),
    (L.MaxPool3d((1, 3, 2), stride=(1, 2, 2), padding=(0, 1, 1)), (3, 4, 6, 5)),
    (L.MaxPool3d(3, 2, "same"), (3, 4, 6, 5)),
    (L.AvgPool3d(2, ceil_mode=True), (3, 4, 6, 5)),
    (L.AvgPool3d(3, stride=2, padding=1), (3, 4, 6, 5)),
    (L.GlobalAvgPool3d(), (3, 4, 6, 5)),
    (L.AdaptiveMaxPool3d((2, None, 3)), (3, 4, 6, 5)),
    (L.AdaptiveAvgPool3d(2), (3, 4, 6, 5)),
]


def batch(shape, dtype=np.float32):
    size = 2 * int(np.prod(shape))
    return np.random.default_rng(0).permutation(size).reshape(2, *shape).astype(dtype) / 10


@pytest.mark.parametrize(("layer", "shape"), CASES, ids=[repr(layer) for layer, _ in CASES])
def test_sequences_and_volumes(layer, shape):
    check_gradients(layer, batch(shape, np.float64), max_entries=40)
    y = layer(batch(shape))
    assert y.shape[1:] == layer.output_shape(shape)
    np.testing.assert_array_equal(layer.eval()(batch(shape)), y)
    layer.train()


@pytest.mark.parametrize(("axes", "arguments", "each"), EVERY, ids=IDS)
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_layers_take_what_functions_take(axes, arguments, each, ceil_mode):
    x = batch((3, *SIZES[axes]), np.float64)
    layer = getattr(L, f"MaxPool{axes}d")(**{"stride": 1, **arguments, "ceil_mode": ceil_mode})
    expected = windows.pool(x, each, lambda inside: inside.max(axis=-1), ceil_mode)
    np.testing.assert_array_equal(layer(x), expected)
    assert layer.output_shape(x.shape[1:]) == expected.shape[1:]


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_constructors_refuse_what_forward_would(axes):
    length = {1: "an int", 2: "an int or a pair of ints", 3: "an int or three ints"}[axes]
    for name in (f"MaxPool{axes}d", f"AvgPool{axes}d"):
        kind = getattr(L, name)
        for argument in ("kernel_size", "stride"):
            with pytest.raises(ValueError, match=f"^{name}: `{argument}` must be {length}, got"):
                kind(**{"kernel_size": 2, argument: (1,) * (axes + 1)})
        with pytest.raises(ValueError, match=f"^{name}: `padding` must be at most half of the window"):
            kind(2, padding=2)
        with pytest.raises(ValueError, match=f'^{name}: `padding` must be "same", "valid", "full", {length}, or'):
            kind(2, padding="wide")
        with pytest.raises(TypeError, match=f"^{name}: `ceil_mode` must be True or False, got 1"):
            kind(2, ceil_mode=1)
    with pytest.raises(ValueError, match=f"^AvgPool{axes}d: `divisor_override` must be at least 1, got 0"):
        getattr(L, f"AvgPool{axes}d")(2, divisor_override=0)
    with pytest.raises(TypeError, match=f"^AvgPool{axes}d: `count_include_pad` must be True or False, got 'no'"):
        getattr(L, f"AvgPool{axes}d")(2, count_include_pad="no")
    for name in (f"AdaptiveAvgPool{axes}d", f"AdaptiveMaxPool{axes}d"):
        with pytest.raises(ValueError, match=f"^{name}: `output_size` must be {length}, got"):
            getattr(L, name)((1,) * (axes + 1))
        with pytest.raises(ValueError, match=f"^{name}: `output_size` must be at most 65536, got"):
            getattr(L, name)(2**20)


def test_numpys_integers_become_pythons():
    assert repr(L.MaxPool3d(np.int8(2), np.array([1, 2, 1], np.int8))) == "MaxPool3d(2, stride=(1, 2, 1))"
    assert repr(L.AdaptiveAvgPool2d([np.int8(2), None])) == "AdaptiveAvgPool2d((2, None))"
