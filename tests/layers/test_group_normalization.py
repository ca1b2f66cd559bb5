import numpy as np
import pytest

from cyconv import functional as F
from cyconv.gradient_check import check_gradients
from cyconv.layers import GroupNorm, InstanceNorm2d, LayerNorm, LocalResponseNorm

LAYERS = [
    GroupNorm(2, 6),
    GroupNorm(3, 6, eps=1e-3, affine=False),
    InstanceNorm2d(6),
    InstanceNorm2d(6, affine=True),
    LayerNorm((6, 4, 5)),
    LayerNorm(5, elementwise_affine=False),
    LocalResponseNorm(5, alpha=2.0, k=1.5),
]


def images(dtype=np.float32):
    return np.random.default_rng(0).standard_normal((3, 6, 4, 5)).astype(dtype)


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_gradients(layer):
    for parameter in layer.parameters().values():
        parameter.data = np.random.default_rng(1).standard_normal(parameter.shape)
    check_gradients(layer, images(np.float64))


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_shapes_and_modes(layer):
    y = layer(images())
    assert y.dtype == np.float32
    assert y.shape[1:] == layer.output_shape((6, 4, 5)) == (6, 4, 5)
    np.testing.assert_array_equal(layer.eval()(images()), y)
    layer.train()


def test_forward_is_the_op():
    x, layer = images(), GroupNorm(2, 6)
    np.testing.assert_array_equal(layer(x), F.group_norm(x, 2, np.ones(6, np.float32), np.zeros(6, np.float32)))
    assert sorted(layer.state_dict()) == ["bias", "weight"]


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="GroupNorm: `num_groups` must divide `num_channels` 6, got 4"):
        GroupNorm(4, 6)
    with pytest.raises(ValueError, match="InstanceNorm2d: needs 6 channels"):
        InstanceNorm2d(6).output_shape((5, 4, 4))
    with pytest.raises(ValueError, match=r"LayerNorm: the last axes must be \(5,\)"):
        LayerNorm(5).output_shape((5, 4))
    with pytest.raises(ValueError, match="LocalResponseNorm: `k` must be above 0"):
        LocalResponseNorm(5, k=0)
