"""ShuffleNet v1 and v2."""

from __future__ import annotations

import numpy as np

from cyconv._validation import as_int, as_member, as_number, brief
from cyconv.layers import (
    AvgPool2d,
    BatchNorm2d,
    Branches,
    ChannelShuffle,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Identity,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Split,
)
from cyconv.models.blocks import Size, as_counts, as_widths, image_shape
from cyconv.network import Network

STEM = 24
REPEATS = (4, 8, 4)  # units in each of the three stages, "stage2" to "stage4"
WIDTHS_V1 = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # channels of stage 2, by groups: table 1 of v1
# Channels of the stages and of the last convolution, by width multiplier: table 5 of v2. torchvision has 0.5 to 2.0.
WIDTHS_V2 = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}


def shufflenet_v1(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    groups: int = 3,
    width: int | None = None,
    stem_stride: int = 2,
    input_size: Size = 224,
    seed: np.random.Generator | int | None = None,
) -> Network:
    """Build ShuffleNet v1: 1x1 convolutions in groups, channels shuffled between them.

    Parameters
    ----------
    num_classes : int, default 1000
        Outputs, one score a class.
    in_channels : int, default 3
        Channels of the images.
    groups : {1, 2, 3, 4, 8}, default 3
        Groups of the 1x1 convolutions.
    width : int, optional
        Channels of the first stage, doubled in each further one, a multiple of 4 * groups; by default the paper's for
        that many groups, 240 for 3.
    stem_stride : int, default 2
        Stride of the first convolution and of the pooling behind it; 1 for images of 32x32.
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
        If `groups` is another, or `width` is not such a multiple.

    References
    ----------
    X. Zhang, X. Zhou, M. Lin, J. Sun, ShuffleNet: an extremely efficient convolutional neural network for mobile
    devices, CVPR, 2018.

    Examples
    --------
    >>> from cyconv.models import shufflenet_v1
    >>> shufflenet_v1(groups=8).output_shape((3, 224, 224))
    (1000,)
    """
    op = "shufflenet_v1"
    num_classes, in_channels = as_counts(op, num_classes, in_channels)
    groups = as_member(op, "groups", groups, WIDTHS_V1)
    out_channels = WIDTHS_V1[groups] if width is None else as_int(op, "width", width, STEM + 1)
    if out_channels % (4 * groups):
        raise ValueError(f"{op}: `width` must be a multiple of 4 * groups, {4 * groups}, got {width}")
    layers = _stem(in_channels, as_int(op, "stem_stride", stem_stride))
    channels = STEM
    for i, count in enumerate(REPEATS):
        units: dict[str, Layer] = {}
        for k in range(count):
            first_groups = 1 if i == k == 0 else groups  # the stem's few channels are not worth groups
            units[str(k)] = _unit_v1(channels, out_channels, groups, first_groups)
            units[f"{k}_relu"] = ReLU()
            channels = out_channels
        layers[f"stage{i + 2}"] = Sequential(units)
        out_channels *= 2
    layers |= {"avgpool": GlobalAvgPool2d(), "flatten": Flatten(), "fc": Linear(channels, num_classes)}
    return Network(layers, input_shape=image_shape(op, in_channels, input_size), seed=seed)


def _unit_v1(in_channels: int, out_channels: int, groups: int, first_groups: int) -> Layer:
    """Return a unit, without its last ReLU; one that changes the channels also halves the image."""
    halves = in_channels != out_channels
    inside, leaving = out_channels // 4, out_channels - in_channels if halves else out_channels
    body = Sequential(
        {
            "conv1": Conv2d(in_channels, inside, 1, groups=first_groups, bias=False, initializer="he_normal"),
            "bn1": BatchNorm2d(inside),
            "relu1": ReLU(),
            "shuffle": ChannelShuffle(groups),
            "conv2": _depthwise(inside, 2 if halves else 1),
            "bn2": BatchNorm2d(inside),
            "conv3": Conv2d(inside, leaving, 1, groups=groups, bias=False, initializer="he_normal"),
            "bn3": BatchNorm2d(leaving),
        }
    )
    if halves:
        return Branches({"shortcut": AvgPool2d(3, stride=2, padding=1), "body": body})
    return Residual(body)


def shufflenet_v2(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width_multiplier: float = 1.0,
    widths: tuple[int, int, int, int] | None = None,
    stem_stride: int = 2,
    input_size: Size = 224,
    seed: np.random.Generator | int | None = None,
) -> Network:
    """Build ShuffleNet v2: half of the channels go round each unit, then all are shuffled; 2,278,604 parameters.

    Parameters
    ----------
    num_classes : int, default 1000
        Outputs, one score a class.
    in_channels : int, default 3
        Channels of the images.
    width_multiplier : {0.5, 1.0, 1.5, 2.0}, default 1.0
        Which of the paper's widths.
    widths : tuple of 4 ints, optional
        Other widths: the channels of the three stages, each even, and of the last convolution.
    stem_stride : int, default 2
        Stride of the first convolution and of the pooling behind it; 1 for images of 32x32.
    input_size : int, pair of ints or None, default 224
        Height and width of the images; None takes any.
    seed : numpy.random.Generator, int or None
        Source of the initial weights: He's.

    Returns
    -------
    Network
        With torchvision's names: its weights load as they are.

    Raises
    ------
    ValueError
        If `width_multiplier` is another, or `widths` are not four numbers of that kind.

    References
    ----------
    N. Ma, X. Zhang, H.-T. Zheng, J. Sun, ShuffleNet v2: practical guidelines for efficient CNN architecture design,
    ECCV, 2018.

    Examples
    --------
    >>> from cyconv.models import shufflenet_v2
    >>> sum(parameter.size for parameter in shufflenet_v2().parameters().values())
    2278604
    """
    op = "shufflenet_v2"
    num_classes, in_channels = as_counts(op, num_classes, in_channels)
    if as_number(op, "width_multiplier", width_multiplier) not in WIDTHS_V2:
        raise ValueError(f"{op}: `width_multiplier` must be 0.5, 1.0, 1.5 or 2.0, got {brief(width_multiplier)}")
    given = WIDTHS_V2[float(width_multiplier)] if widths is None else as_widths(op, "widths", widths)
    if len(given) != 4 or any(width % 2 for width in given[:3]):
        raise ValueError(f"{op}: `widths` must be four numbers, the first three even, got {brief(widths)}")
    *stages, last = given
    layers = _stem(in_channels, as_int(op, "stem_stride", stem_stride))
    channels = STEM
    for i, (count, out_channels) in enumerate(zip(REPEATS, stages, strict=True)):
        units: dict[str, Layer] = {}
        for k in range(count):
            units[str(k)] = _halving_v2(channels, out_channels) if k == 0 else _unit_v2(out_channels)
            units[f"{k}_shuffle"] = ChannelShuffle(2)
        channels = out_channels
        layers[f"stage{i + 2}"] = Sequential(units)
    layers |= {
        "conv5": Sequential(_pointwise(channels, last)),
        "avgpool": GlobalAvgPool2d(),
        "flatten": Flatten(),
        "fc": Linear(last, num_classes),
    }
    return Network(layers, input_shape=image_shape(op, in_channels, input_size), seed=seed)


def _unit_v2(channels: int) -> Split:
    """Return a unit that leaves half of the channels alone."""
    half = channels // 2
    return Split({"branch1": Identity(), "branch2": _deep_v2(half, half, 1)})


def _halving_v2(in_channels: int, out_channels: int) -> Branches:
    """Return a unit that halves the image: all channels go both ways."""
    half = out_channels // 2
    short = Sequential(_depthwise(in_channels, 2), BatchNorm2d(in_channels), *_pointwise(in_channels, half))
    return Branches({"branch1": short, "branch2": _deep_v2(in_channels, half, 2)})


def _deep_v2(in_channels: int, out_channels: int, stride: int) -> Sequential:
    return Sequential(
        *_pointwise(in_channels, out_channels),
        _depthwise(out_channels, stride),
        BatchNorm2d(out_channels),
        *_pointwise(out_channels, out_channels),
    )


def _stem(in_channels: int, stride: int) -> dict[str, Layer]:
    conv = Conv2d(in_channels, STEM, 3, stride, padding=1, bias=False, initializer="he_normal")
    return {
        "conv1": Sequential(conv, BatchNorm2d(STEM), ReLU()),
        "maxpool": MaxPool2d(3, stride, padding=1),
    }


def _pointwise(in_channels: int, out_channels: int) -> list[Layer]:
    conv = Conv2d(in_channels, out_channels, 1, bias=False, initializer="he_normal")
    return [conv, BatchNorm2d(out_channels), ReLU()]


def _depthwise(channels: int, stride: int) -> Conv2d:
    return Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False, initializer="he_normal")
