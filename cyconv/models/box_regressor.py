"""A small network that says what an image shows, and where.

R. Girshick, J. Donahue, T. Darrell, J. Malik, Rich feature hierarchies for accurate object detection and semantic
segmentation, CVPR, 2014; R. Girshick, Fast R-CNN, ICCV, 2015.
"""

from __future__ import annotations

import numpy as np

from cyconv._validation import as_int, as_pair
from cyconv.layers import BatchNorm2d, Conv2d, Flatten, Heads, Layer, Linear, MaxPool2d, ReLU
from cyconv.network import Network

WIDENING = (1, 2, 4, 4)  # channels of each stage, in those of the first


def box_regressor(
    num_classes: int = 10,
    in_channels: int = 1,
    *,
    width: int = 16,
    hidden: int = 128,
    input_size: int | tuple[int, int] = 64,
    seed: np.random.Generator | int | None = None,
) -> Network:
    """Build a network that classifies an image, and says for each class where its box would lie: 198,050 parameters.

    Parameters
    ----------
    num_classes : int, default 10
        Classes K.
    in_channels : int, default 1
        Channels of the images.
    width : int, default 16
        Channels of the first of four stages, each a 3x3 convolution and 2x2 pooling; the others have 2, 4 and 4 times
        as many.
    hidden : int, default 128
        Outputs of the dense layer that sees the whole image.
    input_size : int or pair of ints, default 64
        Height and width of the images, which are halved four times.
    seed : numpy.random.Generator, int or None
        Source of the initial weights: He's; boxes start as the whole image.

    Returns
    -------
    Network
        Of outputs (N, 5 K): scores, then ``(x, y, log w, log h)`` for each class, relative to the image. `fit` it with
        `cyconv.boxes.BoxLoss` on `cyconv.boxes.targets`; `cyconv.boxes.detect` reads its outputs.

    Raises
    ------
    ValueError
        If the images are less than 16 pixels high or wide.

    Examples
    --------
    >>> from cyconv.models import box_regressor
    >>> box_regressor().output_shape((1, 64, 64))
    (50,)
    """
    H, W = as_pair("box_regressor", "input_size", input_size)
    if min(H, W) < 16:
        raise ValueError(f"box_regressor: `input_size` must be at least 16 pixels, got {H}x{W}")
    shape = channels, _, _ = as_int("box_regressor", "in_channels", in_channels), H, W
    width, hidden = as_int("box_regressor", "width", width), as_int("box_regressor", "hidden", hidden)
    outputs = as_int("box_regressor", "num_classes", num_classes)
    layers: dict[str, Layer] = {}
    for stage, widening in enumerate(WIDENING, 1):
        layers |= {
            f"conv{stage}": Conv2d(channels, width * widening, 3, padding=1, bias=False, initializer="he_normal"),
            f"bn{stage}": BatchNorm2d(width * widening),
            f"relu{stage}": ReLU(),
            f"pool{stage}": MaxPool2d(2),
        }
        channels = width * widening
    heads = {"scores": Linear(hidden, outputs), "boxes": Linear(hidden, 4 * outputs, initializer="zeros")}
    layers |= {
        "flatten": Flatten(),
        "fc": Linear(channels * (H // 16) * (W // 16), hidden, initializer="he_normal"),
        "relu": ReLU(),
        "heads": Heads(heads),
    }
    return Network(layers, input_shape=shape, seed=seed)
