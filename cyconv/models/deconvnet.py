"""The deconvolution network.

H. Noh, S. Hong, B. Han, Learning deconvolution network for semantic segmentation, ICCV, 2015; M. D. Zeiler, R. Fergus,
Visualizing and understanding convolutional networks, ECCV, 2014.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cyconv._validation import as_bool, as_int, as_pair
from cyconv.layers import BatchNorm2d, Conv2d, ConvTranspose2d, Layer, MaxUnpool2d, ReLU, Sequential
from cyconv.models.blocks import MOST_BLOCKS, as_counts, as_widths, image_shape
from cyconv.network import Network

WIDTHS, CONVOLUTIONS = (64, 128, 256, 512, 512), (2, 2, 3, 3, 3)  # of VGG-16


def deconvnet(
    num_classes: int = 21,
    in_channels: int = 3,
    *,
    widths: Sequence[int] = WIDTHS,
    convolutions: Sequence[int] = CONVOLUTIONS,
    hidden: int | None = 4096,
    batch_norm: bool = True,
    input_size: int | tuple[int, int] = 224,
    seed: np.random.Generator | int | None = None,
) -> Network:
    """Build a deconvolution network, VGG-16 and its mirror image: 251,788,949 parameters.

    Each pooling remembers where its maxima were, and the unpooling that mirrors it puts numbers back there; transposed
    convolutions make these sparse images dense.

    Parameters
    ----------
    num_classes : int, default 21
        Numbers for each pixel: scores of classes, PASCAL's 20 and the background, or the image's own channels where it
        is to be reconstructed.
    in_channels : int, default 3
        Channels of the images.
    widths : sequence of int, default (64, 128, 256, 512, 512)
        Channels of the stages, behind each of which the image is halved.
    convolutions : sequence of int, default (2, 2, 3, 3, 3)
        3x3 convolutions of each stage.
    hidden : int or None, default 4096
        Channels of the two layers in the middle, which see the whole image; None leaves them out.
    batch_norm : bool, default True
        Whether batch normalisation follows each layer and takes its bias's place.
    input_size : int or pair of ints, default 224
        Height and width of the images, multiples of two for each stage.
    seed : numpy.random.Generator, int or None
        Source of the initial weights: He's.

    Returns
    -------
    Network
        Of outputs (N, num_classes, H, W), the size of the images.

    Raises
    ------
    ValueError
        If `widths` and `convolutions` are not of one length, or an image cannot be halved so often.

    Examples
    --------
    >>> from cyconv.models import deconvnet
    >>> small = deconvnet(1, 1, widths=(16, 32), convolutions=(1, 1), hidden=64, input_size=28)
    >>> small.output_shape((1, 28, 28))
    (1, 28, 28)
    """
    op = "deconvnet"
    size = as_pair(op, "input_size", input_size)
    num_classes, in_channels = as_counts(op, num_classes, in_channels)
    channels = [in_channels, *as_widths(op, "widths", widths)]
    counts = as_widths(op, "convolutions", convolutions, MOST_BLOCKS)
    if len(counts) != len(channels) - 1:
        raise ValueError(f"{op}: `convolutions` must be one for each of {len(widths)} `widths`, got {len(counts)}")
    factor = 2 ** len(counts)
    if size[0] % factor or size[1] % factor:
        raise ValueError(f"{op}: `input_size` must be multiples of {factor} = 2^{len(counts)}, got {size[0]}x{size[1]}")
    build = _Builder(as_bool(op, "batch_norm", batch_norm))
    inner: dict[str, Layer] = {}
    if hidden is not None:
        whole = size[0] // factor, size[1] // factor
        width = as_int(op, "hidden", hidden)
        inner = {
            "fc6": build.layer(Conv2d, channels[-1], width, whole),
            "fc7": build.layer(Conv2d, width, width, 1),
            "deconv_fc6": build.layer(ConvTranspose2d, width, channels[-1], whole),
        }
    for stage in range(len(counts), 0, -1):
        before, after = channels[stage - 1], channels[stage]
        inner = {
            **build.stage(f"conv{stage}", Conv2d, [before] + [after] * counts[stage - 1]),
            f"pool{stage}": MaxUnpool2d(Sequential(inner), 2),
            **build.stage(
                f"deconv{stage}", ConvTranspose2d, [after] * counts[stage - 1] + [before if stage > 1 else after]
            ),
        }
    inner["score"] = Conv2d(channels[1] if counts else channels[0], num_classes, 1, initializer="he_normal")
    return Network(inner, input_shape=image_shape(op, in_channels, size), seed=seed)


class _Builder:
    """Builds convolutions, transposed or not, each with its normalisation and ReLU."""

    def __init__(self, batch_norm: bool) -> None:
        self.batch_norm = batch_norm

    def stage(self, name: str, kind: type[Conv2d | ConvTranspose2d], channels: list[int]) -> dict[str, Layer]:
        """Return the 3x3 layers between these numbers of channels, by name."""
        return {
            f"{name}_{k}": self.layer(kind, channels[k - 1], channels[k], 3, padding=1) for k in range(1, len(channels))
        }

    def layer(
        self,
        kind: type[Conv2d | ConvTranspose2d],
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        padding: int = 0,
    ) -> Sequential:
        """Return one of them."""
        conv = kind(
            in_channels,
            out_channels,
            kernel_size,
            padding=padding,
            bias=not self.batch_norm,
            initializer="he_normal",
        )
        norm = {"bn": BatchNorm2d(out_channels)} if self.batch_norm else {}
        return Sequential({"conv": conv, **norm, "relu": ReLU()})
