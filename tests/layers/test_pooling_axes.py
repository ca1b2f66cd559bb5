import numpy as np
import pytest

from cyconv.gradient_check import check_gradients
from cyconv.layers import AvgPool1d, AvgPool3d, MaxPool1d, MaxPool3d

CASES = [
    (MaxPool1d(2), (3, 11)),
    (MaxPool1d(3, stride=2, padding=1, ceil_mode=True), (3, 11)),
    (MaxPool1d(3, stride=1, dilation=2), (3, 11)),
    (AvgPool1d(3, stride=2, padding=1, count_include_pad=False), (3, 11)),
    (MaxPool3d(2), (3, 4, 6, 5)),
    (MaxPool3d((1, 3, 2), stride=(1, 2, 2), padding=(0, 1, 1)), (3, 4, 6, 5)),
    (AvgPool3d(2, ceil_mode=True), (3, 4, 6, 5)),
    (AvgPool3d(3, stride=2, padding=1), (3, 4, 6, 5)),
]
IDS = [repr(layer) for layer, _ in CASES]


def batch(shape, dtype=np.float32):
    size = 2 * int(np.prod(shape))
    return np.random.default_rng(0).permutation(size).reshape(2, *shape).astype(dtype) / 10


@pytest.mark.parametrize(("layer", "shape"), CASES, ids=IDS)
def test_gradients(layer, shape):
    check_gradients(layer, batch(shape, np.float64))


@pytest.mark.parametrize(("layer", "shape"), CASES, ids=IDS)
def test_shapes_and_modes(layer, shape):
    y = layer(batch(shape))
    assert y.shape[1:] == layer.output_shape(shape)
    np.testing.assert_array_equal(layer.eval()(batch(shape)), y)
    layer.train()


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="MaxPool1d: `padding` must be at most half of the window"):
        MaxPool1d(2, padding=2)
    with pytest.raises(ValueError, match="AvgPool3d: `kernel_size` must be at least 1, got 0"):
        AvgPool3d(0)
