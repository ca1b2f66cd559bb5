"""The table of operations: each has a function, a gradient that differences confirm, and a layer that agrees.

`PROMISED` names what must be in the table; every public layer, loss and gradient of the package must be there too.
"""

import inspect

import numpy as np
import pytest

from cyconv import functional as F
from cyconv import layers as L
from cyconv import losses
from cyconv.gradient_check import check_gradients
from tests.memory_formats import ARRAYS
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


FUNCTIONS = [op for op in OPERATIONS if op.function]


@pytest.mark.parametrize("op", FUNCTIONS, ids=lambda op: op.name)
def test_function_has_the_gradient_that_differences_give(op):
    function, backward = pair(op)
    arrays = [values(shape, seed) for seed, shape in enumerate(op.shapes)]
    check_gradients(function, *arrays, backward=backward, max_entries=30)


LAYERS = [op for op in OPERATIONS if isinstance(op.layer, L.Layer) and not isinstance(op.layer, L.Embedding)]


@pytest.mark.parametrize("op", LAYERS, ids=lambda op: op.name)
def test_layer_has_the_gradient_that_differences_give(op):
    reports = check_gradients(op.layer, values(op.layer_input), max_entries=30)
    trained = {report.name for report in reports} - {"input 0"}
    beside = isinstance(op.layer, L.SideHead)  # what is beside the way has no part in the output
    assert trained == (set() if beside else {*op.layer.parameters()})
    x = values(op.layer_input).astype(np.float32)
    y = op.layer(x)
    assert y.dtype == np.float32
    assert y.shape[1:] == op.layer.output_shape(x.shape[1:])


def test_embedding_has_the_gradient_that_differences_give():
    """Its input is of integers, which have none."""
    (op,) = (op for op in OPERATIONS if isinstance(op.layer, L.Embedding))
    layer, indices = op.layer.astype(np.float64), op.keywords["indices"]

    def forward(weight):
        layer.weight.data = weight
        return layer(indices)

    def backward(grad_output, weight):
        layer.zero_grad()
        forward(weight)
        assert layer.backward(grad_output) is None
        return layer.weight.grad

    check_gradients(forward, values((7, 3)), backward=backward)
    assert layer(indices).shape[1:] == layer.output_shape(indices.shape[1:])


@pytest.mark.parametrize("op", [op for op in OPERATIONS if isinstance(op.layer, losses.Loss)], ids=lambda op: op.name)
def test_loss_has_the_gradient_that_differences_give(op):
    target, loss = op.keywords["target"], op.layer

    def backward(grad_output, x):
        return grad_output[0] * loss.backward(x, target)

    check_gradients(lambda x: np.array([loss.forward(x, target)]), values(op.shapes[0]), backward=backward)


PROMISED = [
    # Convolution
    *("convolution, 1-D", "convolution (cross-correlation), 2-D", "convolution, 3-D", "true convolution"),
    *("valid (narrow)", "same (equal)", "full (wide)", "stride", "dilation (atrous)"),
    *("zero padding", "reflecting padding", "replicating padding", "circular padding"),
    *("groups", "depthwise", "depthwise separable", "1x1"),
    *("transposed, 1-D", "transposed, 2-D", "transposed, 3-D", "im2col", "col2im"),
    # Pooling and upsampling
    *("max pooling, 1-D", "max pooling, 2-D", "max pooling, 3-D", "overlapping pooling", "global pooling"),
    *("average pooling, 1-D", "average pooling, 2-D", "average pooling, 3-D"),
    *("adaptive average pooling", "adaptive max pooling", "unpooling"),
    *("nearest upsampling", "bilinear upsampling"),
    # Normalisation
    *("batch normalisation", "layer normalisation", "group normalisation", "instance normalisation"),
    *("weight normalisation", "local response normalisation", "dropout", "spatial dropout"),
    # Activations
    *("sigmoid", "tanh", "ReLU", "leaky ReLU", "parametric ReLU", "ELU", "SELU", "GELU", "SiLU"),
    *("softplus", "maxout", "softmax"),
    # Others
    *("linear", "flatten", "embedding", "LSTM"),
    # Losses
    *("softmax cross-entropy", "binary cross-entropy with logits", "mean squared error", "smooth L1", "Dice"),
    # Networks that branch
    *("residual", "branches", "skip", "gate", "channel split", "channel shuffle", "channels of zeros"),
]


@pytest.mark.parametrize("name", PROMISED)
def test_what_is_promised_is_in_the_table(name):
    assert [op.name for op in OPERATIONS].count(name) == 1


def test_names_are_given_once():
    names = [op.name for op in OPERATIONS]
    assert len(set(names)) == len(names)


def public(module, kind, *abstract):
    """Return the public classes of a kind in a module, but for the abstract ones."""
    found = {each for name in module.__all__ if isinstance(each := getattr(module, name), type)}
    return {each for each in found if issubclass(each, kind)} - {kind, *abstract}


def test_every_layer_and_loss_of_the_package_is_in_the_table():
    layers = [op.layer for op in OPERATIONS if isinstance(op.layer, L.Layer)]
    assert {type(inner) for layer in layers for _, inner in layer.walk()} == public(L, L.Layer)
    assert {type(op.layer) for op in OPERATIONS if isinstance(op.layer, losses.Loss)} == public(losses, losses.Loss)


def test_every_gradient_of_the_package_is_in_the_table():
    """Each public function with a `_backward` stands in a row, but for forms of another that layers use."""
    forms = {"log_softmax", "batch_norm_relu"}
    differentiable = {name.removesuffix("_backward") for name in F.__all__ if name.endswith("_backward")}
    assert differentiable - forms == {op.function for op in FUNCTIONS} - {"im2col", "col2im"}


def bits(results):
    results = results if isinstance(results, tuple) else (results,)
    return [np.ascontiguousarray(each).tobytes() for each in results if each is not None]


MANY = {"prelu", "layer_norm", "group_norm", "instance_norm", "batch_norm", "local_response_norm", "pad", "interpolate"}


@pytest.mark.parametrize("layout", ARRAYS)
@pytest.mark.parametrize("op", FUNCTIONS, ids=lambda op: op.name)
def test_results_are_bitwise_identical_in_any_memory_layout(op, layout):
    shapes = [(19, *op.shapes[0][1:]), *op.shapes[1:]] if op.function in MANY else op.shapes  # longer sums
    dtype = np.result_type(np.float32, *(each for each in op.keywords.values() if isinstance(each, np.ndarray)))
    function, backward = pair(op)
    rng = np.random.default_rng(5)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    output = function(*arrays)
    grad = rng.standard_normal(output.shape).astype(dtype) if np.ndim(output) else 1.5
    expected = bits(output), bits(backward(grad, *arrays))
    laid = [ARRAYS[layout](array) for array in arrays]
    laid_grad = ARRAYS[layout](grad) if np.ndim(grad) else grad
    assert (bits(function(*laid)), bits(backward(laid_grad, *laid))) == expected


ALONE = {
    "softmax",
    "gelu",
    "max_pool2d",
    "avg_pool2d",
    "interpolate",
    "layer_norm",
    "group_norm",
    "local_response_norm",
}


@pytest.mark.parametrize("op", [op for op in FUNCTIONS if op.function in ALONE], ids=lambda op: op.name)
def test_an_image_has_the_same_bits_in_any_batch(op):
    function = pair(op)[0]
    x = np.random.default_rng(6).standard_normal((11, *op.shapes[0][1:])).astype(np.float32)
    whole = function(x)
    for count in (1, 2, 5, 8):
        assert bits(function(x[:count])) == bits(whole[:count])


def test_a_row_has_the_same_bits_in_any_batch_of_five():
    rng = np.random.default_rng(7)
    x, weight = rng.standard_normal((40, 96)).astype(np.float32), rng.standard_normal((70, 96)).astype(np.float32)
    whole = F.linear(x, weight)
    for count in range(5, 40):
        assert bits(F.linear(x[:count], weight)) == bits(whole[:count])


BAD = {
    "array": np.arange(6.0).reshape(2, 3),
    "texts": np.array(["same", "valid"]),
    "long list": [0] * 10**5,
    "long text": "x" * 10**5,
    "long integer": 10**5000,
    "object": object(),
    "number": 1.5,
}
WINDOWS = ("conv", "max_pool", "avg_pool", "adaptive", "lstm")  # their tests are beside them


def calls_of(op, monkeypatch):
    """Return (name, function, arguments) of the calls that the row's operation and gradient make."""
    calls = []
    for name in (op.function, f"{op.function}_backward"):
        if hasattr(F, name):
            real = getattr(F, name)

            def noted(*args, _name=name, _real=real, **keywords):
                bound = inspect.signature(_real).bind(*args, **keywords)
                bound.apply_defaults()
                calls.append((_name, _real, dict(bound.arguments)))
                return _real(*args, **keywords)

            monkeypatch.setattr(F, name, noted)
    function, backward = pair(op)
    arrays = [values(shape, seed) for seed, shape in enumerate(op.shapes)]
    backward(np.ones_like(function(*arrays)), *arrays)
    monkeypatch.undo()
    return calls


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("op", [op for op in FUNCTIONS if not op.function.startswith(WINDOWS)], ids=lambda op: op.name)
def test_a_bad_argument_is_named(op, kind, monkeypatch):
    for name, function, arguments in calls_of(op, monkeypatch):
        for argument in arguments:
            try:
                function(**{**arguments, argument: BAD[kind]})
            except (TypeError, ValueError) as error:
                message = str(error)
                assert message.startswith(f"{name}: "), message[:200]
                assert len(message) < 400
