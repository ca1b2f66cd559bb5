"""U-Net.

O. Ronneberger, P. Fischer, T. Brox, U-Net: convolutional networks for biomedical image segmentation, MICCAI, 2015.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cyconv._validation import as_bool, as_choice, as_int, as_number
from cyconv.layers import BatchNorm2d, Conv2d, ConvTranspose2d, Dropout, Layer, MaxPool2d, ReLU, Sequential, Skip
from cyconv.layers.base import Shape
from cyconv.layers.base import image_shape as as_image_shape
from cyconv.models.blocks import Size, as_counts, as_dropout, image_shape
from cyconv.network import Network

NATIVE = {"valid": 572, "same": 512}  # the paper's tiles, and its images


def unet(
    num_classes: int = 2,
    in_channels: int = 1,
    *,
    padding: str = "valid",
    depth: int = 4,
    width: int = 64,
    batch_norm: bool = False,
    dropout: float = 0.0,
    input_size: Size | str = "native",
    seed: np.random.Generator | int | None = None,
) -> Network:
    """Build a U-Net, which gives each pixel a score for each class: 31,030,658 parameters.

    Parameters
    ----------
    num_classes : int, default 2
        Classes of the pixels.
    in_channels : int, default 1
        Channels of the images.
    padding : {"valid", "same"}, default "valid"
        The paper's unpadded convolutions, whose output is the middle of the image (388x388 of 572x572), or zeros around
        each image, so that the output has its size.
    depth : int, default 4
        How often the image is halved.
    width : int, default 64
        Channels at full size, doubled each time the image is halved.
    batch_norm : bool, default False
        Whether batch normalisation follows each 3x3 convolution and takes its bias's place.
    dropout : float, default 0.0
        Share that is silenced while training at the end of the contracting path: behind the two lowest pairs of
        convolutions (the paper does not say how much; 0.5 is usual).
    input_size : int, pair of ints, None or "native", default "native"
        Height and width of the images; None takes any that can be halved `depth` times, "native" stands for 572
        without and 512 with padding.
    seed : numpy.random.Generator, int or None
        Source of the initial weights: He's.

    Returns
    -------
    Network
        Of outputs (N, num_classes, OH, OW).

    Raises
    ------
    ValueError
        If `padding` is another, or an image that is to be halved has an odd height or width.

    Examples
    --------
    >>> from cyconv.models import unet
    >>> network = unet()
    >>> sum(parameter.size for parameter in network.parameters().values())
    31030658
    >>> network.output_shape((1, 572, 572))
    (2, 388, 388)
    """
    num_classes, in_channels = as_counts("unet", num_classes, in_channels)
    dropout = as_dropout("unet", dropout)
    border = {"valid": 0, "same": 1}[as_choice("unet", "padding", padding, ("valid", "same"))]
    level = _Level(border, as_bool("unet", "batch_norm", batch_norm), as_number("unet", "dropout", dropout, 0, 1))
    width = as_int("unet", "width", width)
    layers = level.layers(in_channels, width, as_int("unet", "depth", depth, 0, 16))
    layers["classifier"] = Conv2d(width, num_classes, 1, initializer="he_normal")
    size = NATIVE[padding] if isinstance(input_size, str) and input_size == "native" else input_size
    return Network(layers, input_shape=image_shape("unet", in_channels, size), seed=seed)  # type: ignore[arg-type]


class EvenMaxPool2d(MaxPool2d):
    """Halve the image; refuse one with an odd height or width, whose two paths would not fit on each other.

    Examples
    --------
    >>> from cyconv.models.unet import EvenMaxPool2d
    >>> EvenMaxPool2d().output_shape((64, 568, 568))
    (64, 284, 284)
    """

    def __init__(self) -> None:
        super().__init__(2)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the output for one input of `input_shape`, both without the batch axis."""
        _, H, W = as_image_shape("unet", input_shape)
        if H % 2 or W % 2:
            raise ValueError(f"unet: each image to be halved must have an even height and width, got {H}x{W}")
        return super().output_shape(input_shape)

    def forward(self, x: NDArray) -> NDArray:
        """Return the layer's output for a batch `x`."""
        self.output_shape(x.shape[1:])
        return super().forward(x)


class _Level:
    """Builds the levels of the U, one inside the other."""

    def __init__(self, border: int, batch_norm: bool, dropout: float) -> None:
        self.border, self.batch_norm, self.dropout = border, batch_norm, dropout

    def layers(self, in_channels: int, width: int, depth: int) -> dict[str, Layer]:
        """Return a level with `depth` others below it, by name; `width` channels leave it."""
        contract = self.convolutions(in_channels, width)
        if depth < 2 and self.dropout:
            contract.append(Dropout(self.dropout))
        if depth == 0:
            return {"contract": Sequential(contract)}
        below = self.layers(width, 2 * width, depth - 1)
        up = ConvTranspose2d(2 * width, width, 2, stride=2, initializer="he_normal")
        return {
            "contract": Sequential(contract),
            "skip": Skip(Sequential({"pool": EvenMaxPool2d(), **below, "up": up})),  # 2 * width channels
            "expand": Sequential(self.convolutions(2 * width, width)),
        }

    def convolutions(self, in_channels: int, width: int) -> list[Layer]:
        """Return two convolutions with their ReLUs."""
        layers: list[Layer] = []
        for channels in (in_channels, width):
            layers.append(
                Conv2d(channels, width, 3, padding=self.border, bias=not self.batch_norm, initializer="he_normal")
            )
            layers += [BatchNorm2d(width), ReLU()] if self.batch_norm else [ReLU()]
        return layers
