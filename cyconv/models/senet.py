"""Squeeze-and-excitation networks.

J. Hu, L. Shen, G. Sun, Squeeze-and-excitation networks, CVPR, 2018.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cyconv._validation import as_bool, as_int, as_member
from cyconv.layers import Conv2d, Gate, GlobalAvgPool2d, ReLU, Sequential, Sigmoid
from cyconv.models.blocks import Size, as_counts, image_shape
from cyconv.models.resnet import EXPANSION, STAGES, basic, bottleneck, residual_layers
from cyconv.network import Network


def se_resnet(
    depth: int = 50,
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    reduction: int = 16,
    width: int = 64,
    small_stem: bool = False,
    input_size: Size = 224,
    seed: np.random.Generator | int | None = None,
) -> Network:
    """Build a ResNet whose blocks weigh their channels by what the whole image holds.

    Parameters
    ----------
    depth, num_classes, in_channels, width, small_stem, input_size, seed
        As for `resnet`.
    reduction : int, default 16
        By how much fewer channels the excitation has inside.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        If `depth` is another.

    Examples
    --------
    >>> from cyconv.models import se_resnet
    >>> sum(parameter.size for parameter in se_resnet(50).parameters().values())
    28088024
    """
    num_classes, in_channels = as_counts("se_resnet", num_classes, in_channels)
    counts, is_bottleneck = STAGES[as_member("se_resnet", "depth", depth, STAGES)]
    small_stem = as_bool("se_resnet", "small_stem", small_stem)
    reduction = as_int("se_resnet", "reduction", reduction)

    def body(in_channels: int, width: int, stride: int) -> Sequential:
        plain = (bottleneck if is_bottleneck else basic)(in_channels, width, stride)
        out_channels = EXPANSION * width if is_bottleneck else width
        return Sequential({**plain.children(), "se": squeeze_excite(out_channels, reduction)})

    layers = residual_layers(
        body,
        counts,
        num_classes,
        in_channels,
        as_int("se_resnet", "width", width),
        as_bool("se_resnet", "small_stem", small_stem),
    )
    return Network(layers, input_shape=image_shape("se_resnet", in_channels, input_size), seed=seed)


def squeeze_excite(channels: int, reduction: int = 16) -> Gate:
    """Return the gate: average each channel over the image, and learn from all averages how much each counts."""
    inside = max(1, channels // reduction)
    return Gate(
        Sequential(
            {
                "avgpool": GlobalAvgPool2d(),
                "fc1": Conv2d(channels, inside, 1, initializer="he_normal"),
                "relu": ReLU(),
                "fc2": Conv2d(inside, channels, 1, initializer="glorot_uniform"),
                "sigmoid": Sigmoid(),
            }
        )
    )


def se_resnet50(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> Network:
    """Build SE-ResNet-50, 28,088,024 parameters; options are those of `se_resnet`."""
    return se_resnet(50, num_classes, in_channels, **options)
