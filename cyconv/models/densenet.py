"""DenseNet.

G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger, Densely connected convolutional networks, CVPR, 2017.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cyconv._validation import as_bool, as_int, as_member
from cyconv.layers import (
    AvgPool2d,
    BatchNorm2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Skip,
)
from cyconv.models.blocks import Size, as_counts, image_shape
from cyconv.models.resnet import conv
from cyconv.network import Network

# Layers in each of the four dense blocks (table 1 of the paper), and the growth rate.
BLOCKS = {
    121: ((6, 12, 24, 16), 32),
    161: ((6, 12, 36, 24), 48),
    169: ((6, 12, 32, 32), 32),
    201: ((6, 12, 48, 32), 32),
}
BOTTLENECK = 4  # channels between a layer's two convolutions, in growth rates


def densenet(
    depth: int = 121,
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    growth: int | None = None,
    small_stem: bool = False,
    input_size: Size = 224,
    seed: np.random.Generator | int | None = None,
) -> Network:
    """Build a DenseNet with bottlenecks and compression (DenseNet-BC): each layer sees the outputs of all before it.

    Parameters
    ----------
    depth : {121, 161, 169, 201}, default 121
        Layers with weights.
    num_classes : int, default 1000
        Outputs, one score a class.
    in_channels : int, default 3
        Channels of the images.
    growth : int, optional
        Channels that each layer adds, the paper's k; by default 32, or 48 at depth 161. The stem has twice as many.
    small_stem : bool, default False
        Whether the stem is one 3x3 convolution that keeps the size, for images of 32x32, instead of a 7x7 convolution
        and max pooling that quarter it.
    input_size : int, pair of ints or None, default 224
        Height and width of the images; None takes any.
    seed : numpy.random.Generator, int or None
        Source of the initial weights: He's.

    Returns
    -------
    Network
        Names are torchvision's but for "body"; `load_torchvision` takes its weights.

    Raises
    ------
    ValueError
        If `depth` is another.

    Examples
    --------
    >>> from cyconv.models import densenet
    >>> sum(parameter.size for parameter in densenet(121).parameters().values())
    7978856
    """
    num_classes, in_channels = as_counts("densenet", num_classes, in_channels)
    counts, usual_growth = BLOCKS[as_member("densenet", "depth", depth, BLOCKS)]
    small_stem = as_bool("densenet", "small_stem", small_stem)
    growth = usual_growth if growth is None else as_int("densenet", "growth", growth)
    channels = 2 * growth
    features: dict[str, Layer] = {
        "conv0": conv(in_channels, channels, 3) if small_stem else conv(in_channels, channels, 7, 2),
        "norm0": BatchNorm2d(channels),
        "relu0": ReLU(),
    }
    if not small_stem:
        features["pool0"] = MaxPool2d(3, stride=2, padding=1)
    for i, count in enumerate(counts, 1):
        features[f"denseblock{i}"] = Sequential(
            {f"denselayer{k + 1}": Skip(_layer(channels + k * growth, growth)) for k in range(count)}
        )
        channels += count * growth
        if i < len(counts):
            features[f"transition{i}"] = _transition(channels)
            channels //= 2
    features["norm5"] = BatchNorm2d(channels)
    layers = {
        "features": Sequential(features),
        "relu": ReLU(),
        "avgpool": GlobalAvgPool2d(),
        "flatten": Flatten(),
        "classifier": Linear(channels, num_classes),
    }
    return Network(layers, input_shape=image_shape("densenet", in_channels, input_size), seed=seed)


def _layer(in_channels: int, growth: int) -> Sequential:
    """Return what a dense layer adds to its input: a 1x1 and a 3x3 convolution."""
    return Sequential(
        {
            "norm1": BatchNorm2d(in_channels),
            "relu1": ReLU(),
            "conv1": conv(in_channels, BOTTLENECK * growth, 1),
            "norm2": BatchNorm2d(BOTTLENECK * growth),
            "relu2": ReLU(),
            "conv2": conv(BOTTLENECK * growth, growth, 3),
        }
    )


def _transition(in_channels: int) -> Sequential:
    """Return what stands between two blocks: it halves the channels and the image."""
    return Sequential(
        {
            "norm": BatchNorm2d(in_channels),
            "relu": ReLU(),
            "conv": conv(in_channels, in_channels // 2, 1),
            "pool": AvgPool2d(2),
        }
    )


def densenet121(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> Network:
    """Build DenseNet-121, 7,978,856 parameters; options are those of `densenet`."""
    return densenet(121, num_classes, in_channels, **options)
