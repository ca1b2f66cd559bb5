import numpy as np
import pytest

from cyconv import functional as F
from cyconv.gradient_check import check_gradients
from cyconv.layers import LeakyReLU, ReLU, Sigmoid, Softmax, Tanh

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
