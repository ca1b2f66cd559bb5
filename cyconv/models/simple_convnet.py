"""SimpleConvNet: K. Saito, Deep Learning from Scratch, O'Reilly Japan, 2016, chapter 7."""

from __future__ import annotations

from functools import partial

import numpy as np

from cyconv.initializers import normal
from cyconv.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from cyconv.network import Network


def simple_convnet(num_classes: int = 10, *, seed: np.random.Generator | int | None = None) -> Network:
    """Build a network with one convolution, for images of shape (1, 28, 28): 433,890 parameters.

    Parameters
    ----------
    num_classes : int, default 10
        Outputs, one score a class.
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
    initializer = partial(normal, std=0.01)
    layers = [
        Conv2d(1, 30, 5, initializer=initializer),  # 24x24
        ReLU(),
        MaxPool2d(2),  # 12x12
        Flatten(),
        Linear(30 * 12 * 12, 100, initializer=initializer),
        ReLU(),
        Linear(100, num_classes, initializer=initializer),
    ]
    return Network(layers, input_shape=(1, 28, 28), seed=seed)
