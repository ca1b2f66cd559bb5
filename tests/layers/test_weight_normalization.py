import copy
import pickle

import numpy as np
import pytest

from cyconv.gradient_check import check_gradients
from cyconv.layers import Conv2d, ConvTranspose2d, Linear, ReLU, Sequential, WeightNorm


def images(dtype=np.float32):
    return np.random.default_rng(0).standard_normal((2, 4, 5, 6)).astype(dtype)


@pytest.mark.parametrize(
    "inner", [Conv2d(4, 3, 3), Conv2d(4, 4, 3, groups=2, bias=False), ConvTranspose2d(4, 3, 2)], ids=repr
)
def test_starts_as_the_layer_and_gradients(inner):
    x, plain = images(), copy.deepcopy(inner)
    layer = WeightNorm(inner)
    np.testing.assert_allclose(layer(x), plain(x), atol=1e-5)
    assert layer.output_shape((4, 5, 6)) == plain.output_shape((4, 5, 6))
    layer.weight_g.data = layer.weight_g.data * 1.7
    check_gradients(layer, images(np.float64))


def test_of_linear_in_a_network():
    network = Sequential(WeightNorm(Linear(4, 5)), ReLU(), WeightNorm(Linear(5, 2, bias=False))).initialize(0)
    assert list(network.parameters()) == ["0.weight_g", "0.weight_v", "0.bias", "2.weight_g", "2.weight_v"]
    x = np.random.default_rng(1).standard_normal((3, 4))
    check_gradients(network, x)
    other = Sequential(WeightNorm(Linear(4, 5)), ReLU(), WeightNorm(Linear(5, 2, bias=False))).initialize(1)
    other.load_state_dict(network.state_dict())
    x = x.astype(np.float32)
    np.testing.assert_array_equal(other.eval()(x), network.eval()(x))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(network))(x), network(x))


def test_evaluation_keeps_nothing():
    layer = WeightNorm(Linear(4, 5)).eval()
    layer(np.ones((1, 4), np.float32))
    with pytest.raises(RuntimeError, match="WeightNorm: each `backward` needs a `forward` in training mode"):
        layer.backward(np.ones((1, 5), np.float32))


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match=r"WeightNorm: `layer` must be a layer with filters, got ReLU\(\)"):
        WeightNorm(ReLU())
