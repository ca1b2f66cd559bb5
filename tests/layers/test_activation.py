import numpy as np
import pytest

from cyconv import functional as F
from cyconv.gradient_check import check_gradients
from cyconv.layers import ELU, GELU, SELU, LeakyReLU, Maxout, PReLU, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh

ACTIVATIONS = {
    "relu": ReLU(),
    "leaky_relu": LeakyReLU(),
    "sigmoid": Sigmoid(),
    "tanh": Tanh(),
    "softmax": Softmax(),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4, 5)])
def test_gradients(name, shape):
    x = np.random.default_rng(0).uniform(0.1, 3, shape) * np.random.default_rng(1).choice([-1, 1], shape)
    check_gradients(ACTIVATIONS[name], x)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_forward_is_the_op(name):
    x = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(ACTIVATIONS[name](x), getattr(F, name)(x))
    assert ACTIVATIONS[name].output_shape((4,)) == (4,)


def test_bad_arguments_are_named():
    assert repr(LeakyReLU(0.2)) == "LeakyReLU(negative_slope=0.2)"
    with pytest.raises(ValueError, match="LeakyReLU: `negative_slope` must be finite, got nan"):
        LeakyReLU(np.nan)


CURVES = [ELU(), ELU(0.5), SELU(), GELU(), GELU("tanh"), SiLU(), Softplus(2.0), PReLU(), PReLU(6, init=0.1), Maxout(3)]


@pytest.mark.parametrize("layer", CURVES, ids=repr)
@pytest.mark.parametrize("shape", [(4, 6), (2, 6, 4, 5)])
def test_gradients_of_curves(layer, shape):
    x = np.random.default_rng(0).uniform(0.1, 3, shape) * np.random.default_rng(1).choice([-1, 1], shape)
    check_gradients(layer, x)
    x = x.astype(np.float32)
    y = layer(x)
    assert y.dtype == np.float32
    assert y.shape[1:] == layer.output_shape(shape[1:])
    np.testing.assert_array_equal(layer.eval()(x), y)
    layer.train()


def test_bad_arguments_of_curves_are_named():
    with pytest.raises(ValueError, match="GELU: `approximate` must be one of 'none', 'tanh', got 'erf'"):
        GELU("erf")
    with pytest.raises(ValueError, match="Softplus: `beta` must be above 0"):
        Softplus(0)
    with pytest.raises(ValueError, match=r"Maxout: `pieces` 4 must divide the channels, got \(6,\)"):
        Maxout(4).output_shape((6,))
