import numpy as np
import pytest

from cyconv.gradient_check import check_gradients
from cyconv.layers import BatchNorm2d


def images(dtype=np.float32):
    return np.random.default_rng(0).standard_normal((4, 3, 5, 2)).astype(dtype) * 3 + 1


@pytest.mark.parametrize("affine", [True, False])
def test_gradients(affine):
    layer = BatchNorm2d(3, affine=affine)
    if affine:
        layer.weight.data, layer.bias.data = [0.5, -1.5, 2], [1, 2, 3]
    check_gradients(layer, images(np.float64))


def test_training_normalises_by_the_batch_and_follows_it():
    layer, x = BatchNorm2d(3, momentum=0.25), images(np.float64)
    layer.astype(np.float64)
    y = layer(x)
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    np.testing.assert_allclose(y, (x - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None], atol=1e-12)
    np.testing.assert_allclose(layer.running_mean, 0.25 * mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var, 0.75 + 0.25 * x.var((0, 2, 3), ddof=1), rtol=1e-12)
    assert int(layer.num_batches_tracked) == 1


def test_evaluation_normalises_by_the_running_statistics():
    layer, x = BatchNorm2d(3).eval(), images()
    layer.running_mean[...] = [1, 2, 3]
    layer.running_var[...] = 4
    expected = (x - layer.running_mean[:, None, None]) / np.sqrt(np.float32(4 + 1e-5))
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="BatchNorm2d: `eps` must be above 0, got 0"):
        BatchNorm2d(3, eps=0)
    with pytest.raises(ValueError, match="BatchNorm2d: `momentum` must be at least 0 and at most 1, got nan"):
        BatchNorm2d(3, momentum=np.nan)
    with pytest.raises(ValueError, match=r"BatchNorm2d: needs images of shape \(3, H, W\), got \(4, 2, 2\)"):
        BatchNorm2d(3).output_shape((4, 2, 2))
    with pytest.raises(ValueError, match="BatchNorm2d: training needs more than one value per channel"):
        BatchNorm2d(3)(np.ones((1, 3, 1, 1), np.float32))
