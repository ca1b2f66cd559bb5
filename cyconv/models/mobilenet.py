"""MobileNet v1.

A. G. Howard, M. Zhu, B. Chen, D. Kalenichenko, W. Wang, T. Weyand, M. Andreetto, H. Adam, MobileNets: efficient
convolutional neural networks for mobile vision applications, arXiv:1704.04861, 2017.
"""

from __future__ import annotations

import numpy as np

from cyconv._validation import as_int
from cyconv.layers import BatchNorm2d, Conv2d, Flatten, GlobalAvgPool2d, Layer, Linear, ReLU, Sequential
from cyconv.models.blocks import Size, as_counts, as_factor, conv_norm_relu, image_shape
from cyconv.network import Network

# (channels, stride) of each separable convolution: table 1 of the paper. (Its last stride, printed as 2, is 1 as the
# sizes there say.)
SEPARABLE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


def mobilenet_v1(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width_multiplier: float = 1.0,
    stem_stride: int = 2,
    input_size: Size = 224,
    seed: np.random.Generator | int | None = None,
) -> Network:
    """Build MobileNet v1: depthwise convolutions, each followed by a 1x1 convolution; 4,231,976 parameters.

    Parameters
    ----------
    num_classes : int, default 1000
        Outputs, one score a class.
    in_channels : int, default 3
        Channels of the images.
    width_multiplier : float, default 1.0
        Factor of all channels, the paper's alpha: 1.0, 0.75, 0.5 and 0.25 there.
    stem_stride : int, default 2
        Stride of the first convolution; 1 for images of 32x32.
    input_size : int, pair of ints or None, default 224
        Height and width of the images (224, 192, 160 and 128 in the paper); None takes any.
    seed : numpy.random.Generator, int or None
        Source of the initial weights: He's.

    Returns
    -------
    Network

    Raises
    ------
    TypeError, ValueError
        If `width_multiplier` is not a positive number.

    Examples
    --------
    >>> from cyconv.models import mobilenet_v1
    >>> sum(parameter.size for parameter in mobilenet_v1().parameters().values())
    4231976
    """
    op = "mobilenet_v1"
    num_classes, in_channels = as_counts(op, num_classes, in_channels)
    factor = as_factor(op, width_multiplier)
    channels = _scaled(32, factor)
    stem_stride = as_int(op, "stem_stride", stem_stride)
    layers: dict[str, Layer] = {"stem": conv_norm_relu(in_channels, channels, 3, stride=stem_stride, padding=1)}
    for i, (width, stride) in enumerate(SEPARABLE, 1):
        out_channels = _scaled(width, factor)
        layers[f"block{i}"] = separable(channels, out_channels, stride)
        channels = out_channels
    layers |= {"avgpool": GlobalAvgPool2d(), "flatten": Flatten(), "fc": Linear(channels, num_classes)}
    return Network(layers, input_shape=image_shape(op, in_channels, input_size), seed=seed)


def _scaled(channels: int, factor: float) -> int:
    return max(1, round(channels * factor))


def separable(in_channels: int, out_channels: int, stride: int) -> Sequential:
    """Return a depthwise 3x3 convolution and a 1x1 convolution, each with normalisation and ReLU."""
    depthwise = Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False, initializer="he_normal")
    return Sequential(
        {
            "conv1": depthwise,
            "bn1": BatchNorm2d(in_channels),
            "relu1": ReLU(),
            "conv2": Conv2d(in_channels, out_channels, 1, bias=False, initializer="he_normal"),
            "bn2": BatchNorm2d(out_channels),
            "relu2": ReLU(),
        }
    )
