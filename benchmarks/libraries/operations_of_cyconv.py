"""cyconv's side of the operations."""

from __future__ import annotations

import numpy as np

from benchmarks.libraries import LEARNING_RATE, MOMENTUM
from benchmarks.libraries.data import Work, labels, normal
from cyconv import functional as F
from cyconv import optimizers
from cyconv.parameter import Parameter

OPTIMIZERS = {
    "SGD": lambda: optimizers.SGD(LEARNING_RATE),
    "momentum": lambda: optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM),
    "Adam": lambda: optimizers.Adam(LEARNING_RATE),
    "AdamW": lambda: optimizers.AdamW(LEARNING_RATE),
}


def array(*shape: int, seed: int = 0) -> np.ndarray:
    """Return data whose second axis, the channels, lies innermost where there are positions too."""
    values = normal(*shape, seed=seed)
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(values, 1, -1)), -1, 1)


def prepare(family: str, op: str, shape: list[int], options: dict) -> Work:
    """Return the functions to time."""
    shape = tuple(shape)
    if family == "optimizers":
        return _optimizer(op, shape)
    special = globals().get(f"_{op}")
    if special is not None:
        return special(shape, **options)
    forward, backward = getattr(F, op), getattr(F, f"{op}_backward")
    if op.startswith("conv"):
        return _convolution(forward, backward, shape, **options)
    if "max_pool" in op:
        return _max_pool(getattr(F, f"{op}_with_winners"), backward, shape, **options)
    if "pool" in op:
        return _pool(forward, backward, shape, **options)
    if family == "losses":
        return _loss(forward, backward, shape)
    x = array(*shape)
    return _pair(lambda: forward(x), lambda grad: backward(grad, x))


def _pair(forward, backward) -> Work:
    """Return both directions, the gradient random and in the result's layout."""
    grad = forward()
    grad[...] = normal(*grad.shape, seed=2)
    return Work({"forward": forward, "backward": lambda: backward(grad)})


def _convolution(op, gradient, shape, out_channels, kernel, stride, padding) -> Work:
    in_channels, size = shape[1], shape[2:]
    x = array(*shape)
    ends = (in_channels, out_channels) if "transpose" in op.__name__ else (out_channels, in_channels)
    weight = array(*ends, *[kernel] * len(size), seed=1)
    grad = op(x, weight, None, stride, padding)

    def backward(*needs: bool):
        return gradient(grad, x, weight, None, stride, padding, needs=needs)

    return Work(
        {
            "forward": lambda: op(x, weight, None, stride, padding),
            "grad_input": lambda: backward(True, False, False),
            "grad_weight": lambda: backward(False, True, False),
        }
    )


def _pool(op, gradient, shape, kernel, stride, padding) -> Work:
    x = array(*shape)
    return _pair(lambda: op(x, kernel, stride, padding), lambda grad: gradient(grad, x, kernel, stride, padding))


def _max_pool(op, gradient, shape, kernel, stride, padding) -> Work:
    """Return what a layer calls when it trains."""
    x = array(*shape)
    grad, winners = op(x, kernel, stride, padding)
    grad[...] = normal(*grad.shape, seed=2)
    return Work(
        {
            "forward": lambda: op(x, kernel, stride, padding),
            "backward": lambda: gradient(grad, None, kernel, stride, padding, winners=winners, input_shape=shape),
        }
    )


def _layer_norm(shape) -> Work:
    x, width = normal(*shape), shape[-1]
    weight, bias = np.ones(width, np.float32), np.zeros(width, np.float32)
    return _pair(
        lambda: F.layer_norm(x, width, weight, bias), lambda grad: F.layer_norm_backward(grad, x, width, weight, bias)
    )


def _group_norm(shape, groups) -> Work:
    x = array(*shape)
    weight, bias = np.ones(shape[1], np.float32), np.zeros(shape[1], np.float32)
    return _pair(
        lambda: F.group_norm(x, groups, weight, bias), lambda grad: F.group_norm_backward(grad, x, groups, weight, bias)
    )


def _local_response_norm(shape, size) -> Work:
    x = array(*shape)
    return _pair(lambda: F.local_response_norm(x, size), lambda grad: F.local_response_norm_backward(grad, x, size))


def _softmax(shape) -> Work:
    x = array(*shape)
    output = F.softmax(x, 1)
    return _pair(lambda: F.softmax(x, 1), lambda grad: F.softmax_backward(grad, output, 1))


def _sigmoid(shape) -> Work:
    x = array(*shape)
    output = F.sigmoid(x)
    return _pair(lambda: F.sigmoid(x), lambda grad: F.sigmoid_backward(grad, output))


def _tanh(shape) -> Work:
    x = array(*shape)
    output = F.tanh(x)
    return _pair(lambda: F.tanh(x), lambda grad: F.tanh_backward(grad, output))


def _interpolate(shape, mode) -> Work:
    x = array(*shape)
    return _pair(lambda: F.interpolate(x, None, 2, mode), lambda grad: F.interpolate_backward(grad, x, None, 2, mode))


def _pad(shape, mode) -> Work:
    x, widths = array(*shape), (1, 1, 1, 1)
    return _pair(lambda: F.pad(x, widths, mode=mode), lambda grad: F.pad_backward(grad, x, widths, mode=mode))


def _max_unpool2d(shape) -> Work:
    batch, channels, height, width = shape
    x, indices = F.max_pool2d(array(batch, channels, 2 * height, 2 * width), 2, return_indices=True)
    return _pair(lambda: F.max_unpool2d(x, indices, 2), lambda grad: F.max_unpool2d_backward(grad, x, indices, 2))


def _unfold(shape) -> Work:
    x = array(*shape)
    return _pair(lambda: F.unfold(x, 3, padding=1), lambda grad: F.fold(grad, shape[2:], 3, padding=1))


def _im2col(shape) -> Work:
    x = array(*shape)
    return _pair(lambda: F.im2col(x, 3, padding=1), lambda grad: F.col2im(grad, shape, 3, padding=1))


def _linear(shape, out_features) -> Work:
    x, weight = normal(*shape), normal(out_features, shape[1], seed=1)
    bias = np.zeros(out_features, np.float32)
    grad = normal(shape[0], out_features, seed=2)
    return Work(
        {
            "forward": lambda: F.linear(x, weight, bias),
            "grad_input": lambda: F.linear_backward(grad, x, weight, bias, needs=(True, False, False)),
            "grad_weight": lambda: F.linear_backward(grad, x, weight, bias, needs=(False, True, True)),
        }
    )


def _embedding(shape, rows, width) -> Work:
    indices, weight = labels(shape, rows), normal(rows, width)
    return _pair(lambda: F.embedding(indices, weight), lambda grad: F.embedding_backward(grad, indices, weight))


def _lstm(shape, units) -> Work:
    x = normal(*shape)
    state = np.zeros((shape[0], units), np.float32)
    weights = normal(4 * units, shape[2], seed=1) / units, normal(4 * units, units, seed=2) / units
    biases = np.zeros(4 * units, np.float32), np.zeros(4 * units, np.float32)
    arrays = x, state, state, *weights, *biases
    grad = F.lstm(*arrays)[0]
    return Work({"forward": lambda: F.lstm(*arrays), "backward": lambda: F.lstm_backward(grad, *arrays)})


def _dropout(shape) -> Work:
    x = array(*shape)
    return _pair(lambda: F.dropout(x, 0.5, seed=0), lambda grad: F.dropout_backward(grad, 0.5, seed=0))


def _cross_entropy(shape) -> Work:
    x, target = array(*shape), labels((shape[0], *shape[2:]), shape[1])
    return Work(
        {
            "forward": lambda: F.cross_entropy(x, target),
            "backward": lambda: F.cross_entropy_backward(1.0, x, target),
        }
    )


def _loss(op, gradient, shape) -> Work:
    x, target = array(*shape), array(*shape, seed=1)
    if op is not F.smooth_l1_loss and op is not F.mse_loss:
        x, target = 1 / (1 + np.exp(-x)), (target > 0).astype(np.float32)  # numbers that are probabilities, and masks
    return Work({"forward": lambda: op(x, target), "backward": lambda: gradient(1.0, x, target)})


def _optimizer(name, shape) -> Work:
    parameters = {}
    for i in range(shape[0]):
        parameters[f"weight{i}"] = Parameter(normal(shape[1], seed=i))
        parameters[f"weight{i}"].accumulate(normal(shape[1], seed=100 + i))
    optimizer = OPTIMIZERS[name]()
    return Work({"forward": lambda: optimizer.step(parameters)})
