"""Xception.

F. Chollet, Xception: deep learning with depthwise separable convolutions, CVPR, 2017.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from cyconv._validation import as_int
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
from cyconv.models.blocks import MOST_BLOCKS, Size, as_counts, as_factor, image_shape
from cyconv.models.resnet import projection
from cyconv.network import Network


def xception(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width_multiplier: float = 1.0,
    middle: int = 8,
    input_size: Size = 299,
    seed: np.random.Generator | int | None = None,
) -> Network:
    """Build Xception: residual blocks of depthwise separable convolutions; 22,855,952 parameters.

    Parameters
    ----------
    num_classes : int, default 1000
        Outputs, one score a class.
    in_channels : int, default 3
        Channels of the images.
    width_multiplier : float, default 1.0
        Factor of all channels.
    middle : int, default 8
        Blocks of the middle flow.
    input_size : int, pair of ints or None, default 299
        Height and width of the images; None takes any.
    seed : numpy.random.Generator, int or None
        Source of the initial weights: He's.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        If `width_multiplier` is not positive.

    Examples
    --------
    >>> from cyconv.models import xception
    >>> sum(parameter.size for parameter in xception().parameters().values())
    22855952
    """
    num_classes, in_channels = as_counts("xception", num_classes, in_channels)
    factor = as_factor("xception", width_multiplier)
    stem, *entry, exit_, fifth, last = (
        max(1, round(width * factor)) for width in (32, 64, 128, 256, 728, 1024, 1536, 2048)
    )
    layers: dict[str, Layer] = {
        "conv1": Conv2d(in_channels, stem, 3, stride=2, bias=False, initializer="he_normal"),
        "bn1": BatchNorm2d(stem),
        "relu1": ReLU(),
        "conv2": Conv2d(stem, entry[0], 3, bias=False, initializer="he_normal"),
        "bn2": BatchNorm2d(entry[0]),
        "relu2": ReLU(),
    }
    number = 1
    for before, after in pairwise(entry):  # entry flow
        layers[f"block{number}"] = _halving(before, (after, after), starts_with_relu=number > 1)
        number += 1
    wide = entry[-1]
    for _ in range(as_int("xception", "middle", middle, 0, MOST_BLOCKS)):  # middle flow
        layers[f"block{number}"] = Residual(Sequential(_separables(wide, (wide, wide, wide))))
        number += 1
    layers[f"block{number}"] = _halving(wide, (wide, exit_))  # exit flow
    layers |= {
        "conv3": separable(exit_, fifth),
        "bn3": BatchNorm2d(fifth),
        "relu3": ReLU(),
        "conv4": separable(fifth, last),
        "bn4": BatchNorm2d(last),
        "relu4": ReLU(),
        "avgpool": GlobalAvgPool2d(),
        "flatten": Flatten(),
        "fc": Linear(last, num_classes),
    }
    return Network(layers, input_shape=image_shape("xception", in_channels, input_size), seed=seed)


def separable(in_channels: int, out_channels: int) -> Sequential:
    """Return a depthwise 3x3 convolution and a 1x1 convolution, with nothing between them."""
    return Sequential(
        {
            "conv1": Conv2d(
                in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False, initializer="he_normal"
            ),
            "pointwise": Conv2d(in_channels, out_channels, 1, bias=False, initializer="he_normal"),
        }
    )


def _separables(in_channels: int, widths: tuple[int, ...], starts_with_relu: bool = True) -> list[Layer]:
    """Return separable convolutions, a ReLU before and normalisation behind each."""
    layers: list[Layer] = []
    for width in widths:
        layers += [ReLU(), separable(in_channels, width), BatchNorm2d(width)]
        in_channels = width
    return layers if starts_with_relu else layers[1:]


def _halving(in_channels: int, widths: tuple[int, ...], starts_with_relu: bool = True) -> Residual:
    """Return a block that halves the image."""
    body = [*_separables(in_channels, widths, starts_with_relu), MaxPool2d(3, stride=2, padding=1)]
    return Residual(Sequential(body), projection(in_channels, widths[-1], 2))
