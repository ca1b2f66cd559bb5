"""Residual networks for images of 32x32.

K. He, X. Zhang, S. Ren, J. Sun, Deep residual learning for image recognition, CVPR, 2016, section 4.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cyconv._validation import as_choice, as_int
from cyconv.layers import (
    AvgPool2d,
    BatchNorm2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    PadChannels,
    ReLU,
    Residual,
    Sequential,
)
from cyconv.models.blocks import MOST_BLOCKS, Size, as_counts, image_shape
from cyconv.models.resnet import basic, conv, projection
from cyconv.network import Network


def resnet_cifar(
    depth: int = 20,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    shortcut: str = "padding",
    width: int = 16,
    input_size: Size = 32,
    seed: np.random.Generator | int | None = None,
) -> Network:
    """Build a ResNet for small images: three stages of basic blocks, with 16, 32 and 64 channels.

    Parameters
    ----------
    depth : int, default 20
        Layers with weights, 6n + 2 with n blocks in a stage.
    num_classes : int, default 10
        Outputs, one score a class.
    in_channels : int, default 3
        Channels of the images.
    shortcut : {"padding", "projection"}, default "padding"
        What leads around a block that halves the image: every other pixel, with channels of zeros (the paper's option
        A, and its choice for these networks), or a 1x1 convolution (option B).
    width : int, default 16
        Channels of the first stage, doubled in each further one.
    input_size : int, pair of ints or None, default 32
        Height and width of the images; None takes any.
    seed : numpy.random.Generator, int or None
        Source of the initial weights: He's.

    Returns
    -------
    Network
        Names are those of Y. Idelbayev's checkpoints (github.com/akamaster/pytorch_resnet_cifar10) but for "body";
        `load_torchvision` takes them.

    Raises
    ------
    ValueError
        If `depth` is not of that form, or `shortcut` is another.

    Examples
    --------
    >>> from cyconv.models import resnet_cifar
    >>> sum(parameter.size for parameter in resnet_cifar(20).parameters().values())
    269722
    """
    op = "resnet_cifar"
    if as_int(op, "depth", depth, 8, 6 * MOST_BLOCKS) % 6 != 2:
        raise ValueError(f"{op}: `depth` must be 6n + 2, as 20, 32, 44, 56 and 110 are, got {depth}")
    as_choice(op, "shortcut", shortcut, ("padding", "projection"))
    num_classes, in_channels = as_counts(op, num_classes, in_channels)
    channels = as_int(op, "width", width)
    layers: dict[str, Layer] = {
        "conv1": conv(in_channels, channels, 3),
        "bn1": BatchNorm2d(channels),
        "relu": ReLU(),
    }
    for i in range(3):
        blocks: dict[str, Layer] = {}
        for k in range(depth // 6):
            if i > 0 and k == 0:
                way = zero_padded(channels) if shortcut == "padding" else projection(channels, 2 * channels, 2)
                blocks[str(k)] = Residual(basic(channels, 2 * channels, 2), way)
                channels *= 2
            else:
                blocks[str(k)] = Residual(basic(channels, channels))
            blocks[f"{k}_relu"] = ReLU()
        layers[f"layer{i + 1}"] = Sequential(blocks)
    layers |= {
        "avgpool": GlobalAvgPool2d(),
        "flatten": Flatten(),
        "linear": Linear(channels, num_classes),
    }
    return Network(layers, input_shape=image_shape(op, in_channels, input_size), seed=seed)


def zero_padded(channels: int) -> Sequential:
    """Return a shortcut without weights: every other pixel, and as many channels of zeros as there are others."""
    before = channels // 2
    return Sequential(AvgPool2d(1, stride=2), PadChannels(before, channels - before))


def resnet20(num_classes: int = 10, in_channels: int = 3, **options: Any) -> Network:
    """Build ResNet-20, 269,722 parameters, with projections 272,474; options are those of `resnet_cifar`."""
    return resnet_cifar(20, num_classes, in_channels, **options)


def resnet32(num_classes: int = 10, in_channels: int = 3, **options: Any) -> Network:
    """Build ResNet-32, 464,154 parameters; options are those of `resnet_cifar`."""
    return resnet_cifar(32, num_classes, in_channels, **options)


def resnet44(num_classes: int = 10, in_channels: int = 3, **options: Any) -> Network:
    """Build ResNet-44, 658,586 parameters; options are those of `resnet_cifar`."""
    return resnet_cifar(44, num_classes, in_channels, **options)


def resnet56(num_classes: int = 10, in_channels: int = 3, **options: Any) -> Network:
    """Build ResNet-56, 853,018 parameters; options are those of `resnet_cifar`."""
    return resnet_cifar(56, num_classes, in_channels, **options)


def resnet110(num_classes: int = 10, in_channels: int = 3, **options: Any) -> Network:
    """Build ResNet-110, 1,727,962 parameters; options are those of `resnet_cifar`."""
    return resnet_cifar(110, num_classes, in_channels, **options)
