"""VGG.

K. Simonyan, A. Zisserman, Very deep convolutional networks for large-scale image recognition, ICLR, 2015.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from cyconv._validation import as_bool, as_choice, as_int, as_member
from cyconv.initializers import normal
from cyconv.layers import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)
from cyconv.models.blocks import Size, as_counts, as_dropout, image_shape
from cyconv.network import Network

# Convolutions in each of the five stages: columns A, B, D and E of the paper's table 1.
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDENING = (1, 2, 4, 8, 8)  # a stage's channels, in those of the first


def vgg(
    depth: int = 16,
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    batch_norm: bool = False,
    head: str = "dense",
    width: int = 64,
    hidden: int = 4096,
    dropout: float = 0.5,
    input_size: Size = 224,
    seed: np.random.Generator | int | None = None,
) -> Network:
    """Build a VGG network: 3x3 convolutions in five stages, each halving the image, then three dense layers.

    Parameters
    ----------
    depth : {11, 13, 16, 19}, default 16
        Layers with weights.
    num_classes : int, default 1000
        Outputs, one score a class.
    in_channels : int, default 3
        Channels of the images.
    batch_norm : bool, default False
        Whether batch normalisation follows each convolution, which the paper is older than.
    head : {"dense", "linear", "none"}, default "dense"
        The paper's dense layers; a global average and a single one, the usual form for images of 32x32; or nothing
        after the stages, so that feature maps come out.
    width : int, default 64
        Channels of the first stage; the others have 2, 4, 8 and 8 times as many.
    hidden : int, default 4096
        Outputs of each hidden dense layer.
    dropout : float, default 0.5
        Share of them that is silenced while training.
    input_size : int, pair of ints or None, default 224
        Height and width of the images, at least 32; None takes any.
    seed : numpy.random.Generator, int or None
        Source of the initial weights: He's, but in the last layer normal with a standard deviation of 0.01.

    Returns
    -------
    Network
        With torchvision's names: its weights load as they are.

    Raises
    ------
    ValueError
        If `depth` or `head` is another, or the images are too small.

    Examples
    --------
    >>> from cyconv.models import vgg
    >>> sum(parameter.size for parameter in vgg(16).parameters().values())
    138357544
    >>> vgg(11, 10, batch_norm=True, head="linear", input_size=32).output_shape((3, 32, 32))
    (10,)
    """
    num_classes, in_channels = as_counts("vgg", num_classes, in_channels)
    depth, hidden = as_member("vgg", "depth", depth, CONVOLUTIONS), as_int("vgg", "hidden", hidden)
    dropout = as_dropout("vgg", dropout)
    as_choice("vgg", "head", head, ("dense", "linear", "none"))
    channels, width = in_channels, as_int("vgg", "width", width)
    features: list[Layer] = []
    for count, widening in zip(CONVOLUTIONS[depth], WIDENING, strict=True):
        for _ in range(count):
            features += _convolution(channels, width * widening, as_bool("vgg", "batch_norm", batch_norm))
            channels = width * widening
        features.append(MaxPool2d(2))
    layers = {"features": Sequential(features), **dict(_head(head, channels, hidden, dropout, num_classes))}
    return Network(layers, input_shape=image_shape("vgg", in_channels, input_size), seed=seed)


def _convolution(in_channels: int, out_channels: int, batch_norm: bool) -> list[Layer]:
    conv = Conv2d(in_channels, out_channels, 3, padding=1, initializer="he_normal")
    return [conv, BatchNorm2d(out_channels), ReLU()] if batch_norm else [conv, ReLU()]


def _head(head: str, channels: int, hidden: int, dropout: float, num_classes: int) -> Iterator[tuple[str, Layer]]:
    """Yield the layers behind the stages, with their names."""
    last = partial(Linear, initializer=partial(normal, std=0.01))
    if head == "dense":
        yield "avgpool", AdaptiveAvgPool2d(7)  # of images of 224x224, the identity
        yield "flatten", Flatten()
        yield (
            "classifier",
            Sequential(
                Linear(channels * 7 * 7, hidden, initializer="he_normal"),
                ReLU(),
                Dropout(dropout),
                Linear(hidden, hidden, initializer="he_normal"),
                ReLU(),
                Dropout(dropout),
                last(hidden, num_classes),
            ),
        )
    elif head == "linear":
        yield "avgpool", GlobalAvgPool2d()
        yield "flatten", Flatten()
        yield "classifier", last(channels, num_classes)


def vgg11(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> Network:
    """Build VGG-11, 132,863,336 parameters; options are those of `vgg`."""
    return vgg(11, num_classes, in_channels, **options)


def vgg13(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> Network:
    """Build VGG-13, 133,047,848 parameters; options are those of `vgg`."""
    return vgg(13, num_classes, in_channels, **options)


def vgg16(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> Network:
    """Build VGG-16, 138,357,544 parameters; options are those of `vgg`."""
    return vgg(16, num_classes, in_channels, **options)


def vgg19(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> Network:
    """Build VGG-19, 143,667,240 parameters; options are those of `vgg`."""
    return vgg(19, num_classes, in_channels, **options)
