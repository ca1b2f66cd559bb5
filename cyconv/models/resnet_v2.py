"""Residual networks with pre-activation: nothing but additions on the way from block to block.

K. He, X. Zhang, S. Ren, J. Sun, Identity mappings in deep residual networks, ECCV, 2016.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cyconv._validation import as_int, as_member
from cyconv.layers import (
    BatchNorm2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
)
from cyconv.models.blocks import MOST_BLOCKS, Size, as_counts, image_shape
from cyconv.models.resnet import EXPANSION, STAGES, conv
from cyconv.network import Network


def resnet_v2(
    depth: int = 50,
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width: int = 64,
    input_size: Size = 224,
    seed: np.random.Generator | int | None = None,
) -> Network:
    """Build a ResNet v2 for large images: normalisation and ReLU come before each convolution.

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
    input_size : int, pair of ints or None, default 224
        Height and width of the images; None takes any.
    seed : numpy.random.Generator, int or None
        Source of the initial weights: He's.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        If `depth` is another.

    Examples
    --------
    >>> from cyconv.models import resnet_v2
    >>> sum(parameter.size for parameter in resnet_v2(50).parameters().values())
    25549352
    """
    num_classes, in_channels = as_counts("resnet_v2", num_classes, in_channels)
    counts, is_bottleneck = STAGES[as_member("resnet_v2", "depth", depth, STAGES)]
    width = as_int("resnet_v2", "width", width)
    stem: dict[str, Layer] = {
        "conv1": conv(in_channels, width, 7, 2),
        "maxpool": MaxPool2d(3, stride=2, padding=1),
    }
    layers = stem | _stages(counts, width, width, is_bottleneck, num_classes)
    return Network(layers, input_shape=image_shape("resnet_v2", in_channels, input_size), seed=seed)


def resnet_v2_cifar(
    depth: int = 164,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    width: int = 16,
    input_size: Size = 32,
    seed: np.random.Generator | int | None = None,
) -> Network:
    """Build a ResNet v2 for images of 32x32: three stages of bottlenecks.

    Parameters
    ----------
    depth : int, default 164
        Layers with weights, 9n + 2 with n blocks in a stage; the paper's are 164 and 1001.
    num_classes : int, default 10
        Outputs, one score a class.
    in_channels : int, default 3
        Channels of the images.
    width : int, default 16
        Channels of the stem and of the first stage's 3x3 convolutions, doubled in each further stage.
    input_size : int, pair of ints or None, default 32
        Height and width of the images; None takes any.
    seed : numpy.random.Generator, int or None
        Source of the initial weights: He's.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        If `depth` is not of that form.

    Examples
    --------
    >>> from cyconv.models import resnet_v2_cifar
    >>> sum(parameter.size for parameter in resnet_v2_cifar(164).parameters().values())
    1703258
    """
    op = "resnet_v2_cifar"
    if as_int(op, "depth", depth, 11, 9 * MOST_BLOCKS) % 9 != 2:
        raise ValueError(f"{op}: `depth` must be 9n + 2, as 164 and 1001 are, got {depth}")
    num_classes, in_channels = as_counts(op, num_classes, in_channels)
    depth, width = int(depth), as_int(op, "width", width)
    stem: dict[str, Layer] = {"conv1": conv(in_channels, width, 3)}
    layers = stem | _stages((depth // 9,) * 3, width, width, True, num_classes)
    return Network(layers, input_shape=image_shape(op, in_channels, input_size), seed=seed)


def _stages(
    counts: Sequence[int], in_channels: int, width: int, is_bottleneck: bool, num_classes: int
) -> dict[str, Layer]:
    """Return all that comes after the stem, by name; `counts` blocks in each stage."""
    layers: dict[str, Layer] = {}
    for i, count in enumerate(counts):
        out_channels = EXPANSION * width if is_bottleneck else width
        blocks = []
        for k in range(count):
            stride = 2 if i > 0 and k == 0 else 1
            blocks.append(_block(in_channels, width, stride, is_bottleneck))
            in_channels = out_channels
        layers[f"layer{i + 1}"] = Sequential(blocks)
        width *= 2
    return layers | {
        "bn": BatchNorm2d(in_channels),
        "relu": ReLU(),
        "avgpool": GlobalAvgPool2d(),
        "flatten": Flatten(),
        "fc": Linear(in_channels, num_classes),
    }


def _block(in_channels: int, width: int, stride: int, is_bottleneck: bool) -> Layer:
    """Return a block; where the shape changes the shortcut, a 1x1 convolution, starts behind the first activation."""
    before: dict[str, Layer] = {"bn1": BatchNorm2d(in_channels), "relu1": ReLU()}
    if is_bottleneck:
        out_channels = EXPANSION * width
        body: dict[str, Layer] = {
            "conv1": conv(in_channels, width, 1),
            "bn2": BatchNorm2d(width),
            "relu2": ReLU(),
            "conv2": conv(width, width, 3, stride),
            "bn3": BatchNorm2d(width),
            "relu3": ReLU(),
            "conv3": conv(width, out_channels, 1),
        }
    else:
        out_channels = width
        body = {
            "conv1": conv(in_channels, width, 3, stride),
            "bn2": BatchNorm2d(width),
            "relu2": ReLU(),
            "conv2": conv(width, width, 3),
        }
    if in_channels == out_channels and stride == 1:
        return Residual(Sequential(before | body))
    shortcut = conv(in_channels, out_channels, 1, stride)
    return Sequential({**before, "residual": Residual(Sequential(body), shortcut)})
