"""PyTorch's side of the operations: its gradients by its own differentiation, on a graph that is kept."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.libraries import LEARNING_RATE, MOMENTUM
from benchmarks.libraries.data import Work, labels, normal

# Its optimizers come in two forms, fused and for lists of tensors; each layout's process measures one.
OPTIMIZERS = {
    "SGD": lambda weights, form: torch.optim.SGD(weights, LEARNING_RATE, **form),
    "momentum": lambda weights, form: torch.optim.SGD(weights, LEARNING_RATE, MOMENTUM, **form),
    "Adam": lambda weights, form: torch.optim.Adam(weights, LEARNING_RATE, **form),
    "AdamW": lambda weights, form: torch.optim.AdamW(weights, LEARNING_RATE, **form),
}
FUNCTIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}


def array(*shape: int, channels_last: bool, seed: int = 0) -> torch.Tensor:
    """Return data in the layout under test; of images and volumes there are two."""
    x = torch.from_numpy(normal(*shape, seed=seed))
    if channels_last and x.ndim in (4, 5):
        x = x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)
    return x.requires_grad_()


def prepare(channels_last: bool, family: str, op: str, shape: list[int], options: dict) -> Work:
    """Return the functions to time."""
    if family == "optimizers":
        return _optimizer(op, shape, channels_last)
    special = globals().get(f"_{op}")
    if op.startswith("conv"):
        return _convolution(getattr(F, op), shape, channels_last, **options)
    if family == "losses":
        return _loss(op, shape, channels_last)
    if special is not None:
        return special(shape, channels_last, **options)
    x = array(*shape, channels_last=channels_last)
    if "pool" in op:
        window = options["kernel"], options["stride"], options["padding"]
        return differentiated(lambda: getattr(F, op)(x, *window), x)
    function = FUNCTIONS.get(op) or getattr(F, op)
    return differentiated(lambda: function(x), x)


def differentiated(forward, *inputs: torch.Tensor) -> Work:
    """Return both directions."""
    return Work({"forward": without_graph(forward), "backward": gradient(forward, inputs)})


def without_graph(forward):
    """Return the function as it runs where no gradient is wanted."""

    def function():
        with torch.no_grad():
            return forward()

    return function


def gradient(forward, inputs):
    """Return the function that gives the gradients of `inputs`, for a random one of the result, or 1 of a number."""
    output = forward()
    grad = torch.ones_like(output)
    if output.ndim:
        grad.copy_(torch.from_numpy(normal(*output.shape, seed=2)))
    return lambda: torch.autograd.grad(output, inputs, grad, retain_graph=True)


def _convolution(op, shape, channels_last, out_channels, kernel, stride, padding) -> Work:
    in_channels, size = shape[1], shape[2:]
    x = array(*shape, channels_last=channels_last)
    ends = (in_channels, out_channels) if "transpose" in op.__name__ else (out_channels, in_channels)
    weight = array(*ends, *[kernel] * len(size), channels_last=channels_last, seed=1)
    dims = len(size)
    geometry = [stride] * dims, [padding] * dims, [1] * dims, "transpose" in op.__name__, [0] * dims, 1
    with torch.no_grad():
        grad = op(x, weight, None, stride, padding)

    def backward(*mask: bool):
        with torch.no_grad():
            return torch.ops.aten.convolution_backward(grad, x, weight, None, *geometry, list(mask))

    return Work(
        {
            "forward": without_graph(lambda: op(x, weight, None, stride, padding)),
            "grad_input": lambda: backward(True, False, False),
            "grad_weight": lambda: backward(False, True, False),
        }
    )


def _layer_norm(shape, channels_last) -> Work:
    x = array(*shape, channels_last=False)
    weight, bias = torch.ones(shape[-1], requires_grad=True), torch.zeros(shape[-1], requires_grad=True)
    return differentiated(lambda: F.layer_norm(x, shape[-1:], weight, bias), x, weight, bias)


def _group_norm(shape, channels_last, groups) -> Work:
    x = array(*shape, channels_last=channels_last)
    weight, bias = torch.ones(shape[1], requires_grad=True), torch.zeros(shape[1], requires_grad=True)
    return differentiated(lambda: F.group_norm(x, groups, weight, bias), x, weight, bias)


def _local_response_norm(shape, channels_last, size) -> Work:
    x = array(*shape, channels_last=channels_last)
    return differentiated(lambda: F.local_response_norm(x, size), x)


def _softmax(shape, channels_last) -> Work:
    x = array(*shape, channels_last=channels_last)
    return differentiated(lambda: F.softmax(x, 1), x)


def _interpolate(shape, channels_last, mode) -> Work:
    x = array(*shape, channels_last=channels_last)
    return differentiated(lambda: F.interpolate(x, None, 2, mode), x)


def _pad(shape, channels_last, mode) -> Work:
    x = array(*shape, channels_last=channels_last)
    return differentiated(lambda: F.pad(x, (1, 1, 1, 1), mode=mode), x)


def _max_unpool2d(shape, channels_last) -> Work:
    batch, channels, height, width = shape
    images = array(batch, channels, 2 * height, 2 * width, channels_last=channels_last)
    pooled, indices = F.max_pool2d(images, 2, return_indices=True)
    x = pooled.detach().requires_grad_()
    return differentiated(lambda: F.max_unpool2d(x, indices, 2), x)


def _unfold(shape, channels_last) -> Work:
    x = array(*shape, channels_last=channels_last)
    return differentiated(lambda: F.unfold(x, 3, padding=1), x)


_im2col = _unfold  # the same numbers, one column a position


def _linear(shape, channels_last, out_features) -> Work:
    x, weight = (
        array(*each, channels_last=False, seed=seed) for seed, each in enumerate((shape, (out_features, shape[1])))
    )
    bias = torch.zeros(out_features, requires_grad=True)

    def forward():
        return F.linear(x, weight, bias)

    return Work(
        {
            "forward": without_graph(forward),
            "grad_input": gradient(forward, [x]),
            "grad_weight": gradient(forward, [weight, bias]),
        }
    )


def _embedding(shape, channels_last, rows, width) -> Work:
    indices = torch.from_numpy(labels(tuple(shape), rows))
    weight = array(rows, width, channels_last=False)
    return differentiated(lambda: F.embedding(indices, weight), weight)


def _lstm(shape, channels_last, units) -> Work:
    net = torch.nn.LSTM(shape[2], units, batch_first=True)
    x = array(*shape, channels_last=False)
    return differentiated(lambda: net(x)[0], x, *net.parameters())


def _dropout(shape, channels_last) -> Work:
    x = array(*shape, channels_last=channels_last)
    return differentiated(lambda: F.dropout(x, 0.5), x)


def _loss(op, shape, channels_last) -> Work:
    x = array(*shape, channels_last=channels_last)
    if op == "cross_entropy":
        target = torch.from_numpy(labels((shape[0], *shape[2:]), shape[1]))
    elif op in ("smooth_l1_loss", "mse_loss"):
        target = array(*shape, channels_last=channels_last, seed=1).detach()
    else:
        x = torch.sigmoid(x).detach().requires_grad_()
        target = (array(*shape, channels_last=channels_last, seed=1) > 0).float()
    function = dice_loss if op == "dice_loss" else getattr(F, op)
    return differentiated(lambda: function(x, target), x)


def dice_loss(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean over examples and classes of 1 - Dice, which PyTorch leaves to its users."""
    axes = tuple(range(2, x.ndim))
    shared, both = (x * target).sum(axes), x.sum(axes) + target.sum(axes)
    return (1 - (2 * shared + 1) / (both + 1)).mean()


def _optimizer(name, shape, channels_last) -> Work:
    weights = [torch.from_numpy(normal(shape[1], seed=i)).requires_grad_() for i in range(shape[0])]
    for i, weight in enumerate(weights):
        weight.grad = torch.from_numpy(np.array(normal(shape[1], seed=100 + i)))
    optimizer = OPTIMIZERS[name](weights, {"foreach": True} if channels_last else {"fused": True})
    return Work({"forward": optimizer.step})
