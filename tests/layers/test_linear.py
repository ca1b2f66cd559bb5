import numpy as np
import pytest

from cyconv.gradient_check import check_gradients
from cyconv.layers import Linear


@pytest.mark.parametrize("bias", [True, False])
def test_gradients(bias):
    check_gradients(Linear(5, 3, bias=bias), np.random.default_rng(0).standard_normal((4, 5)))


def test_forward():
    layer = Linear(2, 1)
    layer.weight.data, layer.bias.data = [[2, 3]], [1]
    np.testing.assert_array_equal(layer(np.array([[1, 10]], np.float32)), [[33]])


def test_the_input_gradient_can_be_left_out():
    layer = Linear(5, 3).initialize(0)
    assert layer.backward(layer(np.ones((2, 5), np.float32)), needs_grad_input=False) is None


def test_shapes_that_do_not_fit_are_named():
    assert Linear(5, 3).output_shape((5,)) == (3,)
    with pytest.raises(ValueError, match=r"Linear: needs vectors of shape \(5,\), got \(6,\)$"):
        Linear(5, 3).output_shape((6,))
    with pytest.raises(ValueError, match="put a Flatten before it"):
        Linear(5, 3).output_shape((5, 1, 1))
    with pytest.raises(ValueError, match="Linear: `in_features` must be at least 1, got 0"):
        Linear(0, 3)
