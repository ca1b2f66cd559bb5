"""What several networks are made of."""

from __future__ import annotations

from typing import Any

from cyconv._validation import as_int, as_list, as_number, as_pair
from cyconv.layers import BatchNorm2d, Conv2d, ReLU, Sequential

Size = int | tuple[int, int] | None
MOST_WIDENING, MOST_CHANNELS = 1000, 2**20
MOST_BLOCKS = 1000  # in a row: an option that a file of weights gives must not keep its reader busy for ever


def as_counts(op: str, num_classes: Any, in_channels: Any) -> tuple[int, int]:
    """Return how many scores a network gives, and of how many channels its images are."""
    return as_int(op, "num_classes", num_classes), as_int(op, "in_channels", in_channels)


def as_dropout(op: str, value: Any) -> float:
    """Return the share of a layer's outputs that is silenced."""
    return as_number(op, "dropout", value, 0, 1, open_maximum=True)


def as_factor(op: str, value: Any) -> float:
    """Return what the channels are multiplied by."""
    return as_number(op, "width_multiplier", value, 0, MOST_WIDENING, open_minimum=True)


def as_widths(op: str, name: str, values: Any, most: int = MOST_CHANNELS) -> list[int]:
    """Return a sequence of positive integers."""
    return [as_int(op, name, value, 1, most) for value in as_list(op, name, values, "integers")]


def image_shape(op: str, in_channels: int, input_size: Size) -> tuple[int, int, int] | None:
    """Return the (C, H, W) that a network is built for, None where it takes any size.

    Parameters
    ----------
    op : str
        Whom errors name.
    in_channels : int
        Channels of the images.
    input_size : int, pair of ints or None
        Height and width of the images.

    Examples
    --------
    >>> from cyconv.models.blocks import image_shape
    >>> image_shape("vgg", 3, 224)
    (3, 224, 224)
    """
    channels = as_int(op, "in_channels", in_channels)
    if input_size is None:
        return None
    return channels, *as_pair(op, "input_size", input_size)


def conv_norm_relu(
    in_channels: int, out_channels: int, kernel_size: Any, *, eps: float = 1e-5, relu: bool = True, **options: Any
) -> Sequential:
    """Return a convolution without bias, its batch normalisation, and a ReLU, named as torchvision's "conv" and "bn".

    Parameters
    ----------
    in_channels, out_channels, kernel_size, **options
        As for `Conv2d`.
    eps : float, default 1e-5
        As for `BatchNorm2d`.
    relu : bool, default True
        Whether the ReLU is there.

    Examples
    --------
    >>> from cyconv.models.blocks import conv_norm_relu
    >>> list(conv_norm_relu(3, 8, 3, padding=1).parameters())
    ['conv.weight', 'bn.weight', 'bn.bias']
    """
    conv = Conv2d(in_channels, out_channels, kernel_size, bias=False, initializer="he_normal", **options)
    layers = {"conv": conv, "bn": BatchNorm2d(out_channels, eps=eps)}
    return Sequential({**layers, "relu": ReLU()} if relu else layers)
