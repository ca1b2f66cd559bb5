import numpy as np
import pytest

from cyconv.gradient_check import check_gradients
from cyconv.layers import (
    Conv2d,
    Identity,
    MaxUnpool1d,
    MaxUnpool2d,
    MaxUnpool3d,
    Pad,
    Sequential,
    Tanh,
    Upsample,
)

LAYERS = [
    Upsample(scale_factor=2),
    Upsample((10, 9), mode="bilinear"),
    Upsample(scale_factor=(1.5, 0.7), mode="bilinear", align_corners=True),
    Pad(1),
    Pad((1, 2, 3, 0), mode="reflect"),
    Pad((1, 2), mode="replicate"),
    Pad((1, 2, 3, 0), mode="circular"),
    MaxUnpool2d(Identity(), 2),
    MaxUnpool2d(Sequential(Conv2d(3, 3, 3, padding=1), Tanh()), 2, stride=3, padding=1),
    MaxUnpool2d(MaxUnpool2d(Conv2d(3, 3, 1), 2), 2),
    MaxUnpool2d(Identity(), 2, padding="same"),
]
OTHERS = [
    (Pad(1, "reflect"), (3, 9)),
    (Pad((2, 1), "circular"), (3, 9)),
    (MaxUnpool1d(Tanh(), 2, stride=3, padding=(1, 0)), (3, 9)),
    (Pad((1, 0, 0, 2, 1, 1), value=2.0), (3, 4, 5, 3)),
    (Pad((0, 0, 1, 0), "replicate"), (3, 4, 5, 3)),
    (MaxUnpool3d(Tanh(), (2, 1, 2)), (3, 4, 5, 3)),
]


@pytest.mark.parametrize(("layer", "shape"), OTHERS, ids=[repr(layer) for layer, _ in OTHERS])
def test_sequences_and_volumes(layer, shape):
    size = 2 * int(np.prod(shape))
    x = np.random.default_rng(0).permutation(size).reshape(2, *shape) / 10
    check_gradients(layer, x, max_entries=40)
    assert layer(x).shape[1:] == layer.output_shape(shape)


def images(dtype=np.float32):
    return np.random.default_rng(0).permutation(2 * 3 * 7 * 8).reshape(2, 3, 7, 8).astype(dtype) / 100


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_gradients(layer):
    check_gradients(layer, images(np.float64))


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_shapes_and_modes(layer):
    y = layer(images())
    assert y.shape[1:] == layer.output_shape((3, 7, 8))
    np.testing.assert_array_equal(layer.eval()(images()), y)
    assert list(layer.train().trace((3, 7, 8)))[-1].output_shape == y.shape[1:]


def test_unpooling_puts_numbers_back():
    x = images()
    y = MaxUnpool2d(Identity(), 2)(x)
    kept = y != 0
    np.testing.assert_array_equal(y[kept], x[kept])
    assert kept[:, :, :6].reshape(2, 3, 3, 2, 4, 2).sum(axis=(3, 5)).tolist() == np.ones((2, 3, 3, 4)).tolist()


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="Upsample: either `size` or `scale_factor` must be given"):
        Upsample()
    with pytest.raises(ValueError, match="Pad: `mode` must be one of 'constant'"):
        Pad(1, mode="mirror")
    with pytest.raises(ValueError, match="`padding` must be at most 7 for `mode` 'reflect'"):
        Pad((8, 0), mode="reflect").output_shape((1, 8, 8))
    with pytest.raises(
        ValueError, match=r"MaxUnpool2d: `stride` must be at least `kernel_size` \(3, 3\), got \(2, 2\)"
    ):
        MaxUnpool2d(Identity(), 3, stride=2)
    with pytest.raises(ValueError, match=r"Pad: `padding` must be \(left, right\) or .*, got \(1,\)"):
        Pad((1,))
    with pytest.raises(ValueError, match=r"Pad: needs sequences, images or volumes, \(C, ...\), got \(3,\)"):
        Pad(1).output_shape((3,))
    with pytest.raises(ValueError, match="MaxUnpool3d: `stride` must be an int or three ints, got"):
        MaxUnpool3d(Identity(), 2, (2, 2))
    with pytest.raises(ValueError, match="MaxUnpool2d: `body` must return the shape that it is given"):
        MaxUnpool2d(Conv2d(3, 4, 1), 2).output_shape((3, 8, 8))
