"""AlexNet.

A. Krizhevsky, I. Sutskever, G. E. Hinton, ImageNet classification with deep convolutional neural networks, NIPS, 2012;
A. Krizhevsky, One weird trick for parallelizing convolutional neural networks, arXiv:1404.5997, 2014.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from cyconv._validation import as_bool, as_choice, as_int
from cyconv.initializers import normal, ones
from cyconv.layers import (
    AdaptiveAvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    ReLU,
    Sequential,
)
from cyconv.models.blocks import Size, as_counts, as_dropout, as_factor, image_shape
from cyconv.network import Network
from cyconv.parameter import Parameter

# Channels of the convolutions, padding of the first, and the size of the images.
FORMS = {"2012": ((96, 256, 384, 384, 256), 0, 227), "2014": ((64, 192, 384, 256, 256), 2, 224)}


def alexnet(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    form: str = "2012",
    grouped: bool = False,
    response_norm: bool | None = None,
    width_multiplier: float = 1.0,
    hidden: int = 4096,
    dropout: float = 0.5,
    initial: str = "he",
    input_size: Size | str = "native",
    seed: np.random.Generator | int | None = None,
) -> Network:
    """Build AlexNet: five convolutions with overlapping max pooling, three dense layers; 62,378,344 parameters.

    Parameters
    ----------
    num_classes : int, default 1000
        Outputs, one score a class.
    in_channels : int, default 3
        Channels of the images.
    form : {"2012", "2014"}, default "2012"
        The first, or the narrower one for a single column, which is also torchvision's: 61,100,840 parameters.
    grouped : bool, default False
        Whether the second, fourth and fifth convolution are in two groups, the two graphics cards of the first paper:
        60,965,224 parameters.
    response_norm : bool, optional
        Whether local response normalisation follows the first two ReLUs; by default only in the form of 2012, whose
        paper has it. It has no parameters.
    width_multiplier : float, default 1.0
        Factor of the convolutions' channels.
    hidden : int, default 4096
        Outputs of each hidden dense layer.
    dropout : float, default 0.5
        Share of their inputs that is silenced while training.
    initial : {"he", "2012"}, default "he"
        Initial weights: He's, or those of 2012, which suit the full width and much data only: normal with a standard
        deviation of 0.01, biases 1 in the second, fourth and fifth convolution and the hidden dense layers, else 0.
    input_size : int, pair of ints, None or "native", default "native"
        Height and width of the images, at least 67, or 63 in the form of 2014; None takes any, "native" stands for 227
        or 224.
    seed : numpy.random.Generator, int or None
        Source of the initial weights.

    Returns
    -------
    Network
        With torchvision's names; its weights load into the form of 2014.

    Raises
    ------
    ValueError
        If `form` or `initial` is another, or the images are too small.

    Notes
    -----
    The paper's normalisation has k = 2, n = 5, beta = 0.75 and alpha = 1e-4, the factor of a sum. It was soon found to
    gain nothing (Simonyan and Zisserman 2015, section 4.1) and left out, as in 2014.

    Examples
    --------
    >>> from cyconv.models import alexnet
    >>> [sum(p.size for p in alexnet(grouped=grouped).parameters().values()) for grouped in (False, True)]
    [62378344, 60965224]
    """
    num_classes, in_channels = as_counts("alexnet", num_classes, in_channels)
    widths, padding, size = FORMS[as_choice("alexnet", "form", form, ("2012", "2014"))]
    factor = as_factor("alexnet", width_multiplier)
    groups = 2 if as_bool("alexnet", "grouped", grouped) else 1
    a, b, c, d, e = (groups * max(1, round(width * factor / groups)) for width in widths)
    hidden, dropout = as_int("alexnet", "hidden", hidden), as_dropout("alexnet", dropout)
    start = partial(_started, as_choice("alexnet", "initial", initial, ("he", "2012")))
    conv, linear = partial(start, Conv2d), partial(start, Linear)
    normalizes = form == "2012" if response_norm is None else as_bool("alexnet", "response_norm", response_norm)
    steps = [
        conv(0, in_channels, a, 11, stride=4, padding=padding),  # 55x55
        ReLU(),
        MaxPool2d(3, stride=2),  # 27x27
        conv(1, a, b, 5, padding=2, groups=groups),
        ReLU(),
        MaxPool2d(3, stride=2),  # 13x13
        conv(0, b, c, 3, padding=1),
        ReLU(),
        conv(1, c, d, 3, padding=1, groups=groups),
        ReLU(),
        conv(1, d, e, 3, padding=1, groups=groups),
        ReLU(),
        MaxPool2d(3, stride=2),  # 6x6
    ]
    features: dict[str, Layer] = {}
    for i, layer in enumerate(steps):  # the numbers are torchvision's, with or without what stands between
        features[str(i)] = layer
        if normalizes and i in (1, 4):
            features[f"norm{1 if i == 1 else 2}"] = LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
    layers = {
        "features": Sequential(features),
        "avgpool": AdaptiveAvgPool2d(6),  # of images of the native size, the identity
        "flatten": Flatten(),
        "classifier": Sequential(
            Dropout(dropout),
            linear(1, e * 6 * 6, hidden),
            ReLU(),
            Dropout(dropout),
            linear(1, hidden, hidden),
            ReLU(),
            linear(0, hidden, num_classes),
        ),
    }
    wanted: Any = size if isinstance(input_size, str) and input_size == "native" else input_size
    return Network(layers, input_shape=image_shape("alexnet", in_channels, wanted), seed=seed)


def _started(initial: str, kind: Any, bias: int, *arguments: Any, **options: Any) -> Any:
    """Return a layer with its initial weights; `bias` is the number that its biases had in 2012."""
    if initial == "he":
        return kind(*arguments, **options, initializer="he_normal")
    layer = kind(*arguments, **options, initializer=partial(normal, std=0.01))
    if bias:
        layer.bias = Parameter.drawn(layer.bias.shape, ones)
    return layer
