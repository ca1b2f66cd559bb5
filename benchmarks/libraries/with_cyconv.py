"""cyconv's side."""

from __future__ import annotations

import math

import numpy as np

import cyconv
from benchmarks.libraries import LEARNING_RATE, MOMENTUM, operations_of_cyconv
from benchmarks.libraries.data import Work, labels, normal, photograph
from cyconv import _dispatch, memory, models
from cyconv import functional as F
from cyconv import image as filters
from cyconv.layers import Conv2d, ConvTranspose2d, Linear
from cyconv.losses import CrossEntropyLoss
from cyconv.optimizers import SGD
from cyconv.training import train_step

# Names in cyconv.models, and the forms that are measured.
NETWORKS: dict[str, tuple[str, dict]] = {
    "LeNet-5": ("lenet5", {"input_size": 32}),
    "ResNet-20": ("resnet20", {"shortcut": "projection"}),
    "ResNet-50": ("resnet50", {}),
    "VGG-11-BN": ("vgg11", {"batch_norm": True, "head": "linear", "input_size": 32}),
    "MobileNet": ("mobilenet_v1", {"stem_stride": 1, "input_size": 32}),
    "U-Net": ("unet", {"padding": "same", "input_size": 256}),
}


def start(threads: int, mode: str) -> None:
    """Set the thread count."""
    cyconv.set_num_threads(threads)


def describe() -> dict:
    """Return what was measured."""
    return {"library": "cyconv", "version": cyconv.__version__, "isa": _dispatch.ISA}


def image(*shape: int, seed: int = 0) -> np.ndarray:
    """Return channels-last data of shape (N, C, H, W) where the library's results lie, as PyTorch's side does."""
    N, C, H, W = shape
    pixels = memory.empty((N, H, W, C), np.float32)
    pixels[...] = normal(*shape, seed=seed).transpose(0, 2, 3, 1)
    return pixels.transpose(0, 3, 1, 2)


def results(kind: str, parameters: dict, exact: bool) -> dict[str, np.ndarray]:
    """Return what each direction gives, with convolutions in the exact mode or not."""
    cyconv.exact(exact)
    functions = prepare(kind, **parameters).functions
    found = {direction: function() for direction, function in functions.items()}
    # A gradient comes with None for what was not asked for, and a linear layer's bias after its weight.
    return {
        direction: next(each for each in (value if isinstance(value, tuple) else [value]) if each is not None)
        for direction, value in found.items()
    }


def prepare(kind: str, **parameters) -> Work:
    """Return the functions to time."""
    return globals()[f"_{kind}"](**parameters)


def _conv(
    network,
    batch,
    in_channels,
    out_channels,
    size,
    kernel,
    stride,
    padding,
    groups,
    transposed,
    output_padding,
    algorithm="auto",
) -> Work:
    x = image(batch, in_channels, size, size)
    ends = (in_channels, out_channels) if transposed else (out_channels, in_channels)
    weight = image(ends[0], ends[1] // groups, kernel, kernel, seed=1)
    same = {"stride": stride, "padding": padding, "groups": groups, "algorithm": algorithm}
    op, gradient = F.conv2d, F.conv2d_backward
    if transposed:
        op, gradient = F.conv_transpose2d, F.conv_transpose2d_backward
        same["output_padding"] = output_padding
    grad = image(*op(x, weight, None, **same).shape, seed=2)
    return Work(
        {
            "forward": lambda: op(x, weight, None, **same),
            "grad_input": lambda: gradient(grad, x, weight, None, **same, needs=(True, False, False)),
            "grad_weight": lambda: gradient(grad, x, weight, None, **same, needs=(False, True, False)),
        }
    )


def _direct(**layer) -> Work:
    return _conv(**layer, algorithm="direct")


def _pool(op, kernel, stride, padding, batch, channels, size) -> Work:
    x = image(batch, channels, size, size)
    if op == "max":
        out, winners = F.max_pool2d_with_winners(x, kernel, stride, padding)
        return Work(
            {
                "forward": lambda: F.max_pool2d_with_winners(x, kernel, stride, padding),
                "backward": lambda: F.max_pool2d_backward(out, x, kernel, stride, padding, winners=winners),
            }
        )
    grad = F.avg_pool2d(x, kernel, stride, padding)
    return Work(
        {
            "forward": lambda: F.avg_pool2d(x, kernel, stride, padding),
            "backward": lambda: F.avg_pool2d_backward(grad, x, kernel, stride, padding),
        }
    )


def _norm(batch, channels, size, relu) -> Work:
    x, grad = image(batch, channels, size, size), image(batch, channels, size, size, seed=1)
    weight, bias = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    running_mean, running_var = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    mean, var = F.batch_norm_statistics(x)
    if not relu:
        return Work(
            {
                "forward": lambda: F.batch_norm(x, running_mean, running_var, weight, bias, training=True),
                "backward": lambda: F.batch_norm_backward(grad, x, weight, mean, var),
            }
        )
    return Work(
        {
            "forward": lambda: F.batch_norm_relu(x, *F.batch_norm_statistics(x), weight, bias),
            "backward": lambda: F.batch_norm_relu_backward(grad, x, weight, bias, mean, var),
        }
    )


_ops = operations_of_cyconv.prepare


def _image(op, extent, channels, dtype, size) -> Work:
    x, taps = photograph(size, channels, dtype), normal(extent, extent) / extent
    functions = {
        "gaussian": lambda: filters.gaussian(x, extent),
        "box": lambda: filters.box(x, extent),
        "sobel": lambda: filters.sobel(x, 1),
        "laplacian": lambda: filters.laplacian(x),
        "sharpen": lambda: filters.sharpen(x, extent),
        "correlate": lambda: filters.correlate(x, taps, boundary="reflect"),
    }
    return Work({"forward": functions[op]})


def _network(network: str, input_shape: tuple, classes: int) -> tuple[cyconv.Network, int, int]:
    """Return a network, its parameters, and the operations of one image's prediction."""
    name, options = NETWORKS.get(network, (network, {}))
    net = getattr(models, name)(num_classes=classes, in_channels=input_shape[0], **options, seed=0)
    operations = 0
    for step in net.trace(tuple(input_shape)):
        if isinstance(step.layer, Conv2d | ConvTranspose2d | Linear):
            # Each weight meets every output pixel, of a transposed convolution every input pixel.
            size = step.input_shape if isinstance(step.layer, ConvTranspose2d) else step.output_shape
            operations += 2 * step.layer.weight.size * math.prod(size[1:])
    return net, sum(parameter.size for parameter in net.parameters().values()), operations


def _train(network, batch, input_shape, classes) -> Work:
    net, count, operations = _network(network, input_shape, classes)
    x = normal(batch, *input_shape)  # in the order in which data sets come
    y = labels((batch, *net.output_shape(tuple(input_shape))[1:]), classes)
    loss, optimizer = CrossEntropyLoss(), SGD(LEARNING_RATE, momentum=MOMENTUM)
    return Work({"step": lambda: train_step(net, x, y, loss, optimizer)}, count, batch * operations)


def _predict(network, batch, input_shape, classes) -> Work:
    net, count, operations = _network(network, input_shape, classes)
    x = normal(batch, *input_shape)
    return Work({"predict": lambda: net.predict(x)}, count, batch * operations)
