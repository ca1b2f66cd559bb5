"""SimpleConvNet.

K. Saito, Deep Learning from Scratch, O'Reilly Japan, 2016, chapter 7.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from cyconv._validation import as_pair
from cyconv.initializers import normal
from cyconv.layers import Conv2d, Flatten, Layer, Linear, MaxPool2d, ReLU, Sequential
from cyconv.models.blocks import as_counts
from cyconv.network import Network


def simple_convnet(
    num_classes: int = 10,
    in_channels: int = 1,
    *,
    input_size: int | tuple[int, int] = 28,
    seed: np.random.Generator | int | None = None,
) -> Network:
    """Build a network with one convolution: 433,890 parameters.

    Parameters
    ----------
    num_classes : int, default 10
        Outputs, one score a class.
    in_channels : int, default 1
        Channels of the images.
    input_size : int or pair of ints, default 28
        Height and width of the images, at least 6.
    seed : numpy.random.Generator, int or None
        Source of the initial weights: normal, of standard deviation 0.01.

    Returns
    -------
    Network

    Examples
    --------
    >>> from cyconv.models import simple_convnet
    >>> sum(parameter.size for parameter in simple_convnet().parameters().values())
    433890
    """
    num_classes, in_channels = as_counts("simple_convnet", num_classes, in_channels)
    initializer = partial(normal, std=0.01)
    features: list[Layer] = [Conv2d(in_channels, 30, 5, initializer=initializer), ReLU(), MaxPool2d(2), Flatten()]
    shape = (in_channels, *as_pair("simple_convnet", "input_size", input_size))
    (pooled,) = Sequential(*features).output_shape(shape)  # 28x28 -> 24x24 -> 12x12, 4,320 numbers
    head = [Linear(pooled, 100, initializer=initializer), ReLU(), Linear(100, num_classes, initializer=initializer)]
    return Network([*features, *head], input_shape=shape, seed=seed)
