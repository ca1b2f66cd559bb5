import numpy as np
import pytest

from cyconv.gradient_check import GradientError, check_gradients
from cyconv.layers import Layer, Linear

X = np.random.default_rng(0).standard_normal((3, 4))


class Square(Layer):
    factor = 2.0

    def forward(self, x):
        self.remember(x)
        return x**2

    def backward(self, grad_output, needs_grad_input=True):
        (x,) = self.recall()
        return self.factor * x * grad_output


def test_a_right_gradient_passes_with_a_report():
    (report,) = check_gradients(Square(), X)
    assert report.name == "input 0"
    assert report.checked == 12
    assert report.error < 1e-8


@pytest.mark.parametrize("factor", [2.001, np.nan])
def test_a_wrong_gradient_is_found_with_its_position(factor):
    layer = Square()
    layer.factor = factor
    with pytest.raises(
        GradientError, match=r"the gradient of input 0 at \(\d, \d\) is .*, but the difference quotient"
    ):
        check_gradients(layer, X)


def test_a_wrong_gradient_in_one_entry_is_the_worst():
    def backward(grad_output, x):
        gradient = grad_output.copy()
        gradient[1, 2] += 0.5
        return gradient

    with pytest.raises(GradientError, match=r"at \(1, 2\)"):
        check_gradients(lambda x: 1 * x, X, backward=backward)


def test_functions_of_several_arrays_and_keywords():
    def product(a, b, scale=1.0):
        return scale * a * b

    def backward(grad_output, a, b, scale=1.0):
        return scale * grad_output * b, scale * grad_output * a

    reports = check_gradients(product, X, X + 1, backward=backward, scale=3.0, max_entries=5)
    assert [(report.name, report.checked) for report in reports] == [("input 0", 5), ("input 1", 5)]


def test_the_layer_itself_is_left_alone():
    layer = Linear(4, 2).initialize(0).eval()
    before = layer.weight.data.copy()
    check_gradients(layer, X)
    np.testing.assert_array_equal(layer.weight.data, before)
    assert layer.weight.dtype == np.float32
    assert layer.weight.grad is None
    assert not layer.training


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="check_gradients: `backward` must be given for a function"):
        check_gradients(np.sin, X)
    with pytest.raises(ValueError, match="check_gradients: `epsilon` must be above 0, got 0"):
        check_gradients(Square(), X, epsilon=0)
    with pytest.raises(ValueError, match="check_gradients: a layer takes one input, got 2"):
        check_gradients(Square(), X, X)
