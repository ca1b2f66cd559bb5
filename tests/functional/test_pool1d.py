import numpy as np
import pytest

from cyconv import functional as F
from cyconv.gradient_check import check_gradients
from tests import references

X = np.random.default_rng(0).permutation(2 * 3 * 11).reshape(2, 3, 11) / 10.0
WINDOWS = [(2, None, 0, 1, False), (3, 2, 1, 1, True), (3, 1, 1, 2, False)]


def places(kernel, stride, padding, dilation, ceil_mode):
    step = kernel if stride is None else stride
    return references.pool_windows(1, 11, (1, kernel), (1, step), (0, padding), (1, dilation), ceil_mode)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_max_equals_reference(window):
    expected, indices = references.max_over(X[:, :, None], places(*window))
    found = F.max_pool1d(X, *window, return_indices=True)
    np.testing.assert_array_equal(found[0], expected[:, :, 0])
    np.testing.assert_array_equal(found[1], indices[:, :, 0])
    np.testing.assert_array_equal(F.max_pool1d(X, *window), found[0])
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    check_gradients(F.max_pool1d, X, backward=F.max_pool1d_backward, **dict(zip(names, window, strict=True)))


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_winners_stand_for_the_input(window):
    output, winners = F.max_pool1d_with_winners(X, *window)
    np.testing.assert_array_equal(output, F.max_pool1d(X, *window))
    grad = np.random.default_rng(1).normal(size=output.shape)
    found = F.max_pool1d_backward(grad, None, *window, winners=winners, input_shape=X.shape)
    np.testing.assert_array_equal(found, F.max_pool1d_backward(grad, X, *window))


def test_backward_without_input_says_what_it_needs():
    grad, (_, winners) = np.ones((2, 3, 5)), F.max_pool1d_with_winners(X, 2)
    with pytest.raises(ValueError, match="max_pool1d_backward: `x` or `input_shape` is needed"):
        F.max_pool1d_backward(grad, None, 2, winners=winners)
    with pytest.raises(ValueError, match="max_pool1d_backward: without `winners`, `x` is needed"):
        F.max_pool1d_backward(grad, None, 2, input_shape=X.shape)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("window", WINDOWS[:2], ids=str)
def test_average_equals_reference(window, include):
    kernel, stride, padding, _, ceil_mode = window
    expected = references.average_over(X[:, :, None], places(*window), include)
    arguments = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    np.testing.assert_allclose(F.avg_pool1d(X, **arguments, count_include_pad=include), expected[:, :, 0])
    check_gradients(F.avg_pool1d, X, backward=F.avg_pool1d_backward, **arguments, count_include_pad=include)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="max_pool1d: `x` must have 3 dimensions"):
        F.max_pool1d(X[0], 2)
    with pytest.raises(ValueError, match="avg_pool1d: `kernel_size` must be at least 1, got 0"):
        F.avg_pool1d(X, 0)
