import numpy as np
import pytest

from cyconv.gradient_check import check_gradients
from cyconv.layers import Flatten


def test_gradients():
    check_gradients(Flatten(), np.random.default_rng(0).standard_normal((2, 3, 4, 5)))


def test_the_order_is_that_of_pytorch():
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    np.testing.assert_array_equal(Flatten()(x), x.reshape(2, 12))


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"Flatten: needs images of shape \(C, H, W\), got \(12,\)"):
        Flatten().output_shape((12,))
