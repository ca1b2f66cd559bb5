"""Fully convolutional networks for segmentation.

J. Long, E. Shelhamer, T. Darrell, Fully convolutional networks for semantic segmentation, CVPR, 2015.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cyconv._validation import as_int, as_member
from cyconv.layers import Branches, Conv2d, ConvTranspose2d, Dropout, Layer, MaxPool2d, ReLU, SameSize, Sequential
from cyconv.models.blocks import Size, as_counts, as_dropout, image_shape
from cyconv.models.vgg import CONVOLUTIONS, WIDENING
from cyconv.network import Network


def fcn(
    stride: int = 8,
    num_classes: int = 21,
    in_channels: int = 3,
    *,
    width: int = 64,
    hidden: int = 4096,
    dropout: float = 0.5,
    input_size: Size = 500,
    seed: np.random.Generator | int | None = None,
) -> Network:
    """Build FCN-32s, FCN-16s or FCN-8s: VGG-16 with convolutions for dense layers, its scores enlarged to the image.

    Parameters
    ----------
    stride : {8, 16, 32}, default 8
        How much the finest scores are enlarged: 32 uses those of the last layer alone, 16 adds scores of the fourth
        pooling, 8 also those of the third.
    num_classes : int, default 21
        Classes of the pixels: PASCAL's 20 and the background.
    in_channels : int, default 3
        Channels of the images.
    width : int, default 64
        Channels of the first stage; the others have 2, 4, 8 and 8 times as many.
    hidden : int, default 4096
        Channels of the two layers that are dense in VGG-16.
    dropout : float, default 0.5
        Share of them that is silenced while training.
    input_size : int, pair of ints or None, default 500
        Height and width of the images; None takes any.
    seed : numpy.random.Generator, int or None
        Source of the initial weights: He's; as in the paper scores start at zero and enlarging is bilinear.

    Returns
    -------
    Network
        Of outputs (N, num_classes, H, W), the size of the images. Without the containers' part its names are those of
        the paper's Caffe networks; `load_vgg16` takes over VGG-16's weights, from which the paper starts.

    Raises
    ------
    ValueError
        If `stride` is another.

    Notes
    -----
    The paper pads the image by 100 pixels and cuts the scores out of the middle. Here each layer is padded as in VGG,
    pooling takes the rest at the bottom and right along, and the scores are cut there.

    Examples
    --------
    >>> from cyconv.models import fcn
    >>> fcn(8).output_shape((3, 375, 500))
    (21, 375, 500)
    """
    num_classes, in_channels = as_counts("fcn", num_classes, in_channels)
    stride = as_member("fcn", "stride", stride, (8, 16, 32))
    hidden, dropout = as_int("fcn", "hidden", hidden), as_dropout("fcn", dropout)
    widths = [as_int("fcn", "width", width) * widening for widening in WIDENING]
    stages: list[dict[str, Layer]] = []
    channels = in_channels
    for i, (count, out_channels) in enumerate(zip(CONVOLUTIONS[16], widths, strict=True), 1):
        stage: dict[str, Layer] = {}
        for k in range(1, count + 1):
            stage[f"conv{i}_{k}"] = Conv2d(channels, out_channels, 3, padding=1, initializer="he_normal")
            stage[f"relu{i}_{k}"] = ReLU()
            channels = out_channels
        stages.append({**stage, f"pool{i}": MaxPool2d(2, ceil_mode=True)})
    first, second, third, fourth, fifth = stages
    coarse = fifth | {
        "fc6": Conv2d(channels, hidden, 7, padding=3, initializer="he_normal"),
        "relu6": ReLU(),
        "drop6": Dropout(dropout),
        "fc7": Conv2d(hidden, hidden, 1, initializer="he_normal"),
        "relu7": ReLU(),
        "drop7": Dropout(dropout),
        "score_fr": _score(hidden, num_classes),
    }
    if stride == 32:
        layers = first | second | third | fourth | coarse | {"upscore": _enlarge(num_classes, 32)}
    else:
        finer = _with_scores("pool4", widths[3], coarse | {"upscore2": _enlarge(num_classes, 2)}, num_classes)
        if stride == 16:
            layers = first | second | third | fourth | finer | {"upscore16": _enlarge(num_classes, 16)}
        else:
            finer = fourth | finer | {"upscore_pool4": _enlarge(num_classes, 2)}
            finer = _with_scores("pool3", widths[2], finer, num_classes)
            layers = first | second | third | finer | {"upscore8": _enlarge(num_classes, 8)}
    return Network(
        {"fcn": SameSize(Sequential(layers))}, input_shape=image_shape("fcn", in_channels, input_size), seed=seed
    )


class _CroppedSum(Branches):
    """Branches whose outputs are cropped to the smaller size and added."""

    crops: ClassVar[bool] = True


def _with_scores(pool: str, channels: int, deeper: Mapping[str, Layer], num_classes: int) -> dict[str, Layer]:
    """Return the sum of the scores of a pooled image and those that come from deeper."""
    branches = {f"score_{pool}": _score(channels, num_classes), "deeper": Sequential(deeper)}
    return {f"fuse_{pool}": _CroppedSum(branches, merge="sum")}


def _score(channels: int, num_classes: int) -> Conv2d:
    return Conv2d(channels, num_classes, 1, initializer="zeros")


def _enlarge(num_classes: int, factor: int) -> ConvTranspose2d:
    """Return an enlargement by `factor`, bilinear at first."""
    return ConvTranspose2d(
        num_classes, num_classes, 2 * factor, stride=factor, padding=factor // 2, bias=False, initializer="bilinear"
    )


def load_vgg16(network: Network, state: Mapping[str, NDArray]) -> None:
    """Copy the weights of a VGG-16 into a fully convolutional network of the same widths, but for its scores.

    Parameters
    ----------
    network : Network
        From `fcn`.
    state : mapping of str to ndarray
        Of `vgg16`, here or in torchvision. The weights of its first two dense layers become those of convolutions.

    Raises
    ------
    ValueError
        If names are missing, or shapes differ; nothing has been changed then.

    Examples
    --------
    >>> from cyconv.models import fcn, vgg16
    >>> from cyconv.models.fcn import load_vgg16
    >>> network = fcn(width=4, hidden=8)
    >>> load_vgg16(network, vgg16(width=4, hidden=8).state_dict())
    """
    convolutions = [(name, layer) for name, layer in network.walk() if isinstance(layer, Conv2d)]
    copied = [(name, layer) for name, layer in convolutions if ".score_" not in name]
    numbers = sorted({int(name.split(".")[1]) for name in state if name.startswith("features.")})
    sources = [*(f"features.{number}" for number in numbers), "classifier.0", "classifier.3"]
    if len(sources) != len(copied):
        raise ValueError(f"load_vgg16: `state` must be that of a VGG-16, got one with {len(numbers)} convolutions")
    arrays = {}
    for (name, layer), source in zip(copied, sources, strict=True):
        weight = np.asarray(state[f"{source}.weight"])
        if weight.size != layer.weight.size:
            raise ValueError(f"load_vgg16: `{source}.weight` must have shape {layer.weight.shape}, got {weight.shape}")
        arrays[f"{name}weight"] = weight.reshape(layer.weight.shape)
        arrays[f"{name}bias"] = np.asarray(state[f"{source}.bias"])
    network.load_state_dict(arrays, strict=False)


def fcn8s(num_classes: int = 21, in_channels: int = 3, **options: Any) -> Network:
    """Build FCN-8s; options are those of `fcn`."""
    return fcn(8, num_classes, in_channels, **options)


def fcn16s(num_classes: int = 21, in_channels: int = 3, **options: Any) -> Network:
    """Build FCN-16s; options are those of `fcn`."""
    return fcn(16, num_classes, in_channels, **options)


def fcn32s(num_classes: int = 21, in_channels: int = 3, **options: Any) -> Network:
    """Build FCN-32s; options are those of `fcn`."""
    return fcn(32, num_classes, in_channels, **options)
