"""LeNet-5.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition, Proc. IEEE, 1998.
"""

from __future__ import annotations

import numpy as np

from cyconv._validation import as_choice, as_member
from cyconv.layers import AvgPool2d, Conv2d, Flatten, Linear, MaxPool2d, ReLU, Tanh
from cyconv.models.blocks import as_counts
from cyconv.network import Network

PADDING = {32: 0, 28: 2}  # of the first convolution, by input size: smaller images get the border that 32x32 ones have


def lenet5(
    num_classes: int = 10,
    in_channels: int = 1,
    *,
    form: str = "modern",
    input_size: int = 32,
    seed: np.random.Generator | int | None = None,
) -> Network:
    """Build LeNet-5: two convolutions with pooling, three fully connected layers, 61,706 parameters.

    Parameters
    ----------
    num_classes : int, default 10
        Outputs, one score a class.
    in_channels : int, default 1
        Channels of the images.
    form : {"modern", "1998"}, default "modern"
        ReLU and max pooling, or hyperbolic tangent and average pooling.
    input_size : {32, 28}, default 32
        Height and width of the images; those of 28 get a border of 2 zeros, so the parameters are the same.
    seed : numpy.random.Generator, int or None
        Source of the initial weights: He's for ReLU, Glorot's for the hyperbolic tangent.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        If `form` or `input_size` is another.

    Notes
    -----
    The paper's subsampling has a trained factor and bias per channel, its second convolution leaves out some pairs of
    channels, and its output measures distances. As is usual, these are plain pooling, a full convolution and a linear
    layer here; so counted, the network has 61,706 parameters.

    Examples
    --------
    >>> from cyconv.models import lenet5
    >>> sum(parameter.size for parameter in lenet5().parameters().values())
    61706
    """
    num_classes, in_channels = as_counts("lenet5", num_classes, in_channels)
    as_choice("lenet5", "form", form, ("modern", "1998"))
    input_size = as_member("lenet5", "input_size", input_size, PADDING)
    activation, pool, initializer = {
        "modern": (ReLU, MaxPool2d, "he_normal"),
        "1998": (Tanh, AvgPool2d, "glorot_uniform"),
    }[form]
    layers = [
        Conv2d(in_channels, 6, 5, padding=PADDING[input_size], initializer=initializer),  # 28x28
        activation(),
        pool(2),  # 14x14
        Conv2d(6, 16, 5, initializer=initializer),  # 10x10
        activation(),
        pool(2),  # 5x5
        Flatten(),
        Linear(16 * 5 * 5, 120, initializer=initializer),
        activation(),
        Linear(120, 84, initializer=initializer),
        activation(),
        Linear(84, num_classes, initializer=initializer),
    ]
    return Network(layers, input_shape=(in_channels, input_size, input_size), seed=seed)
