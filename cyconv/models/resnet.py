"""Residual networks.

K. He, X. Zhang, S. Ren, J. Sun, Deep residual learning for image recognition, CVPR, 2016.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cyconv._validation import as_bool, as_int, as_member
from cyconv.layers import (
    BatchNorm2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
)
from cyconv.models.blocks import Size, as_counts, image_shape
from cyconv.network import Network

# Bodies in each of the four stages, and whether they are bottlenecks: table 1 of the paper.
STAGES = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
EXPANSION = 4  # channels that leave a bottleneck, in those inside
Body = Callable[[int, int, int], Sequential]  # (in_channels, width, stride)


def resnet(
    depth: int = 50,
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width: int = 64,
    small_stem: bool = False,
    input_size: Size = 224,
    seed: np.random.Generator | int | None = None,
) -> Network:
    """Build a ResNet for large images: a stem, four stages of residual blocks, a global average and a linear layer.

    Parameters
    ----------
    depth : {18, 34, 50, 101, 152}, default 50
        Layers with weights; from 50 on the blocks are bottlenecks.
    num_classes : int, default 1000
        Outputs, one score a class.
    in_channels : int, default 3
        Channels of the images.
    width : int, default 64
        Channels of the stem and of the first stage's 3x3 convolutions, doubled in each further stage.
    small_stem : bool, default False
        Whether the stem is one 3x3 convolution that keeps the size, for images of 32x32 or 64x64, instead of a 7x7
        convolution and max pooling that quarter it.
    input_size : int, pair of ints or None, default 224
        Height and width of the images; None takes any.
    seed : numpy.random.Generator, int or None
        Source of the initial weights: He's.

    Returns
    -------
    Network
        Names are torchvision's but for "body" and "shortcut"; `load_torchvision` takes its weights.

    Raises
    ------
    ValueError
        If `depth` is another.

    Notes
    -----
    In a bottleneck that halves the image the 3x3 convolution has the stride, as in torchvision (and, by their count of
    operations, in most work since); in the paper it is the 1x1 convolution before. Numbers of parameters are the same.

    Examples
    --------
    >>> from cyconv.models import resnet
    >>> sum(parameter.size for parameter in resnet(50).parameters().values())
    25557032
    """
    num_classes, in_channels = as_counts("resnet", num_classes, in_channels)
    counts, is_bottleneck = STAGES[as_member("resnet", "depth", depth, STAGES)]
    small_stem = as_bool("resnet", "small_stem", small_stem)
    body = bottleneck if is_bottleneck else basic
    layers = residual_layers(
        body,
        counts,
        num_classes,
        in_channels,
        as_int("resnet", "width", width),
        as_bool("resnet", "small_stem", small_stem),
    )
    return Network(layers, input_shape=image_shape("resnet", in_channels, input_size), seed=seed)


def residual_layers(
    body: Body, counts: tuple[int, ...], num_classes: int, in_channels: int, width: int, small_stem: bool
) -> dict[str, Layer]:
    """Return the layers of a ResNet, by name; `counts` bodies in each stage."""
    layers: dict[str, Layer] = {
        "conv1": conv(in_channels, width, 3) if small_stem else conv(in_channels, width, 7, 2),
        "bn1": BatchNorm2d(width),
        "relu": ReLU(),
    }
    if not small_stem:
        layers["maxpool"] = MaxPool2d(3, stride=2, padding=1)
    channels = width
    for i, count in enumerate(counts):
        layers[f"layer{i + 1}"], channels = stage(body, count, channels, width << i, 1 if i == 0 else 2)
    return {
        **layers,
        "avgpool": GlobalAvgPool2d(),
        "flatten": Flatten(),
        "fc": Linear(channels, num_classes),
    }


def stage(body: Body, count: int, in_channels: int, width: int, stride: int) -> tuple[Sequential, int]:
    """Return `count` residual blocks, of which the first has the stride, and the channels that leave them."""
    layers: dict[str, Layer] = {}
    for i in range(count):
        block = body(in_channels, width, stride)
        out_channels, *_ = block.output_shape((in_channels, stride, stride))
        changes = stride > 1 or in_channels != out_channels
        layers[str(i)] = Residual(block, projection(in_channels, out_channels, stride) if changes else None)
        layers[f"{i}_relu"] = ReLU()
        in_channels, stride = out_channels, 1
    return Sequential(layers), in_channels


def basic(in_channels: int, width: int, stride: int = 1) -> Sequential:
    """Return the body of a basic block: two 3x3 convolutions."""
    return Sequential(
        {
            "conv1": conv(in_channels, width, 3, stride),
            "bn1": BatchNorm2d(width),
            "relu": ReLU(),
            "conv2": conv(width, width, 3),
            "bn2": BatchNorm2d(width),
        }
    )


def bottleneck(in_channels: int, width: int, stride: int = 1) -> Sequential:
    """Return the body of a bottleneck block: 1x1, 3x3 and 1x1 convolutions, the last of which widens again."""
    return Sequential(
        {
            "conv1": conv(in_channels, width, 1),
            "bn1": BatchNorm2d(width),
            "relu1": ReLU(),
            "conv2": conv(width, width, 3, stride),
            "bn2": BatchNorm2d(width),
            "relu2": ReLU(),
            "conv3": conv(width, EXPANSION * width, 1),
            "bn3": BatchNorm2d(EXPANSION * width),
        }
    )


def projection(in_channels: int, out_channels: int, stride: int) -> Sequential:
    """Return a shortcut with weights, for where the shape changes (option B)."""
    return Sequential(conv(in_channels, out_channels, 1, stride), BatchNorm2d(out_channels))


def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> Conv2d:
    """Return a convolution that keeps the size, divided by the stride."""
    padding = kernel_size // 2
    return Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False, initializer="he_normal")


def resnet18(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> Network:
    """Build ResNet-18, 11,689,512 parameters; options are those of `resnet`."""
    return resnet(18, num_classes, in_channels, **options)


def resnet34(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> Network:
    """Build ResNet-34, 21,797,672 parameters; options are those of `resnet`."""
    return resnet(34, num_classes, in_channels, **options)


def resnet50(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> Network:
    """Build ResNet-50, 25,557,032 parameters; options are those of `resnet`."""
    return resnet(50, num_classes, in_channels, **options)


def resnet101(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> Network:
    """Build ResNet-101, 44,549,160 parameters; options are those of `resnet`."""
    return resnet(101, num_classes, in_channels, **options)


def resnet152(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> Network:
    """Build ResNet-152, 60,192,808 parameters; options are those of `resnet`."""
    return resnet(152, num_classes, in_channels, **options)
