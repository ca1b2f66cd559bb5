"""The table of operations: each has a function, a gradient that differences confirm, and a layer that agrees."""

import numpy as np
import pytest

from cyconv import functional as F
from cyconv.gradient_check import check_gradients
from cyconv.layers import Layer
from tests.operations import OPERATIONS

TAKES_OUTPUT = {"relu", "sigmoid", "tanh", "softmax"}


def values(shape, seed=0):
    """Return numbers away from zero, all different."""
    size = int(np.prod(shape))
    rng = np.random.default_rng(seed)
    return (rng.permutation(size).reshape(shape) + 0.5) / size * rng.choice([-2.0, 2.0], shape)


def pair(op):
    """Return functions of the row's arrays alone: the operation, joined to one array, and its gradient."""
    function, keywords = getattr(F, op.function), op.keywords
    if op.function == "col2im":  # linear: the gradient is im2col
        return lambda x: F.col2im(x, **keywords), lambda g, x: F.im2col(g, keywords["kernel_size"])
    if op.function == "im2col":
        return lambda x: F.im2col(x, **keywords), lambda g, x: F.col2im(g, x.shape, keywords["kernel_size"])
    backward = getattr(F, f"{op.function}_backward")
    if op.function == "batch_norm":
        return lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), lambda g, x, w, b: backward(
            g, x, w, *F.batch_norm_statistics(x)
        )
    if op.function == "embedding":
        return lambda w: function(keywords["indices"], w), lambda g, w: backward(g, keywords["indices"], w)
    if op.function == "flatten":
        return function, lambda g, x: backward(g, x.shape)
    if op.function.startswith("dropout"):
        return lambda x: function(x, **keywords), lambda g, x: backward(g, **keywords)
    if op.function == "lstm":
        return lambda *a: function(*a)[0], backward
    if op.function == "lstm_cell":
        return lambda *a: np.stack(function(*a)), lambda g, *a: backward(g[0], g[1], *a)
    if op.function in TAKES_OUTPUT:
        return function, lambda g, x: backward(g, function(x))

    def gradients(grad, *arrays):
        found = backward(grad, *arrays, **keywords)
        return found[: len(arrays)] if isinstance(found, tuple) else found  # None for a bias that is absent

    return lambda *a: function(*a, **keywords), gradients


@pytest.mark.parametrize("op", OPERATIONS, ids=lambda op: op.name)
def test_function_has_the_gradient_that_differences_give(op):
    function, backward = pair(op)
    arrays = [values(shape, seed) for seed, shape in enumerate(op.shapes)]
    check_gradients(function, *arrays, backward=backward, max_entries=30)


LAYERS = [op for op in OPERATIONS if isinstance(op.layer, Layer)]


@pytest.mark.parametrize("op", LAYERS, ids=lambda op: op.name)
def test_layer_has_the_gradient_that_differences_give(op):
    check_gradients(op.layer, values(op.layer_input), max_entries=30)
    x = values(op.layer_input).astype(np.float32)
    y = op.layer(x)
    assert y.dtype == np.float32
    assert y.shape[1:] == op.layer.output_shape(x.shape[1:])


def test_every_gradient_of_the_package_is_in_the_table():
    """Each public function with a `_backward` stands in a row, but for forms of another that layers use."""
    forms = {"log_softmax", "batch_norm_relu"}
    differentiable = {name.removesuffix("_backward") for name in F.__all__ if name.endswith("_backward")}
    assert differentiable - forms == {op.function for op in OPERATIONS} - {"im2col", "col2im"}
