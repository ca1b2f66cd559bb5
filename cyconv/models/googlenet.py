"""GoogLeNet, or Inception v1.

C. Szegedy, W. Liu, Y. Jia, P. Sermanet, S. Reed, D. Anguelov, D. Erhan, V. Vanhoucke, A. Rabinovich, Going deeper with
convolutions, CVPR, 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv._validation import as_bool, as_choice, as_number
from cyconv.layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    Branches,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    ReLU,
    Sequential,
    SideHead,
)
from cyconv.losses import CrossEntropyLoss
from cyconv.models.blocks import Size, as_counts, as_dropout, as_factor, conv_norm_relu, image_shape
from cyconv.network import Network

# Table 1 of the paper: channels of #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    form: str = "2015",
    auxiliary: bool = False,
    response_norm: bool | None = None,
    width_multiplier: float = 1.0,
    dropout: float = 0.4,
    input_size: Size = 224,
    seed: np.random.Generator | int | None = None,
) -> Network:
    """Build GoogLeNet: nine inception modules, each with four branches side by side; 6,998,552 parameters.

    Parameters
    ----------
    num_classes : int, default 1000
        Outputs, one score a class.
    in_channels : int, default 3
        Channels of the images.
    form : {"2015", "torchvision"}, default "2015"
        The paper's; or torchvision's, with batch normalisation and 3x3 convolutions where the paper has 5x5: 6,624,904
        parameters.
    auxiliary : bool, default False
        Whether two more classifiers stand beside modules 4a and 4d while training, which `AuxiliaryLoss` counts in:
        13,378,280 parameters, or 13,004,888 in torchvision's form.
    response_norm : bool, optional
        Whether local response normalisation stands behind the first pooling and before the second; by default only in
        the paper's form. It has no parameters.
    width_multiplier : float, default 1.0
        Factor of all channels.
    dropout : float, default 0.4
        Share that is silenced before the last layer while training.
    input_size : int, pair of ints or None, default 224
        Height and width of the images; None takes any.
    seed : numpy.random.Generator, int or None
        Source of the initial weights: He's.

    Returns
    -------
    Network
        Names are torchvision's but for "body"; `load_torchvision` takes its weights into its form.

    Raises
    ------
    ValueError
        If `form` is another, or `width_multiplier` is not positive.

    Notes
    -----
    The paper's figure 3 shows the two normalisations without their constants; these are the authors' as in Caffe's
    model zoo: 5 channels, alpha 1e-4 of their mean square, beta 0.75, k 1.

    Examples
    --------
    >>> from cyconv.models import googlenet
    >>> network = googlenet(auxiliary=True)
    >>> sum(parameter.size for parameter in network.parameters().values())
    13378280
    """
    num_classes, in_channels = as_counts("googlenet", num_classes, in_channels)
    build = _Builder(
        as_choice("googlenet", "form", form, ("2015", "torchvision")) == "torchvision",
        as_factor("googlenet", width_multiplier),
    )
    dropout = as_dropout("googlenet", dropout)
    a, b = build.scaled((64, 192))
    layers: dict[str, Layer] = {
        "conv1": build.conv(in_channels, a, 7, stride=2),  # 112x112
        "maxpool1": MaxPool2d(3, stride=2, ceil_mode=True),  # 56x56
        "conv2": build.conv(a, a, 1),
        "conv3": build.conv(a, b, 3),
        "maxpool2": MaxPool2d(3, stride=2, ceil_mode=True),  # 28x28
    }
    normalizes = (
        not build.is_torchvision if response_norm is None else as_bool("googlenet", "response_norm", response_norm)
    )
    if normalizes:
        norms = {"maxpool1": "norm1", "conv3": "norm2"}
        named = list(layers.items())
        layers = {}
        for name, layer in named:
            layers[name] = layer
            if name in norms:
                layers[norms[name]] = LocalResponseNorm(5)
    channels = b
    for name, widths in INCEPTION.items():
        if name == "4a":
            layers["maxpool3"] = MaxPool2d(3, stride=2, ceil_mode=True)  # 14x14
        elif name == "5a":
            layers["maxpool4"] = MaxPool2d(2 if build.is_torchvision else 3, stride=2, ceil_mode=True)  # 7x7
        layers[f"inception{name}"], channels = build.inception(channels, build.scaled(widths))
        if name in ("4a", "4d") and as_bool("googlenet", "auxiliary", auxiliary):
            layers[f"aux{1 if name == '4a' else 2}"] = SideHead(build.side(channels, num_classes))
    layers |= {
        "avgpool": GlobalAvgPool2d(),
        "flatten": Flatten(),
        "dropout": Dropout(dropout),
        "fc": Linear(channels, num_classes),
    }
    return Network(layers, input_shape=image_shape("googlenet", in_channels, input_size), seed=seed)


class _Builder:
    """Builds the parts of one form of the network, at one width."""

    def __init__(self, is_torchvision: bool, factor: float) -> None:
        self.is_torchvision, self.factor = is_torchvision, factor

    def scaled(self, widths: Sequence[int]) -> tuple[int, ...]:
        return tuple(max(1, round(width * self.factor)) for width in widths)

    def conv(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> Sequential:
        """Return a convolution that keeps the size, divided by the stride, and what follows each one."""
        padding = kernel_size // 2
        if self.is_torchvision:
            return conv_norm_relu(in_channels, out_channels, kernel_size, stride=stride, padding=padding, eps=1e-3)
        conv = Conv2d(in_channels, out_channels, kernel_size, stride, padding, initializer="he_normal")
        return Sequential({"conv": conv, "relu": ReLU()})

    def inception(self, in_channels: int, widths: Sequence[int]) -> tuple[Branches, int]:
        """Return an inception module, and the channels that leave it."""
        one, reduce_three, three, reduce_five, five, pool = widths
        module = Branches(
            {
                "branch1": self.conv(in_channels, one, 1),
                "branch2": Sequential(self.conv(in_channels, reduce_three, 1), self.conv(reduce_three, three, 3)),
                "branch3": Sequential(
                    self.conv(in_channels, reduce_five, 1),
                    self.conv(reduce_five, five, 3 if self.is_torchvision else 5),
                ),
                "branch4": Sequential(MaxPool2d(3, stride=1, padding=1), self.conv(in_channels, pool, 1)),
            }
        )
        return module, one + three + five + pool

    def side(self, in_channels: int, num_classes: int) -> Sequential:
        """Return an auxiliary classifier."""
        width, hidden = self.scaled((128, 1024))
        return Sequential(
            {
                "avgpool": AdaptiveAvgPool2d(4) if self.is_torchvision else AvgPool2d(5, stride=3),  # 4x4
                "conv": self.conv(in_channels, width, 1),
                "flatten": Flatten(),
                "fc1": Linear(width * 4 * 4, hidden, initializer="he_normal"),
                "relu": ReLU(),
                "dropout": Dropout(0.7),
                "fc2": Linear(hidden, num_classes),
            }
        )


class AuxiliaryLoss(CrossEntropyLoss):
    """Cross entropy of a network's output and, while training, of its side heads, which count less.

    Parameters
    ----------
    network : Layer
        Whose `SideHead` layers count.
    discount : float, default 0.3
        How much each of them counts, against the network's own output.
    **options
        Those of `CrossEntropyLoss`.

    Notes
    -----
    ``loss = L(output) + discount * sum of L(side output)``. A network in evaluation mode has no side outputs.

    Examples
    --------
    >>> from cyconv.models import googlenet
    >>> from cyconv.models.googlenet import AuxiliaryLoss
    >>> network = googlenet(10, auxiliary=True)
    >>> loss = AuxiliaryLoss(network)  # for network.fit(x, y, loss=loss)
    """

    def __init__(self, network: Layer, discount: float = 0.3, **options: Any) -> None:
        super().__init__(**options)
        self.discount = as_number("AuxiliaryLoss", "discount", discount, 0)
        self._heads = [layer for _, layer in network.walk() if isinstance(layer, SideHead)]
        if not self._heads:
            raise ValueError("AuxiliaryLoss: `network` has no `SideHead`; build it with `auxiliary=True`")

    def forward(self, output: NDArray, target: ArrayLike) -> float:
        """Return the sum of the losses."""
        sides = [
            super(AuxiliaryLoss, self).forward(head.output, target) for head in self._heads if head.output is not None
        ]
        return super().forward(output, target) + self.discount * sum(sides)

    def backward(self, output: NDArray, target: ArrayLike) -> NDArray:
        """Return the gradient with respect to `output`, and leave each side head its own."""
        for head in self._heads:
            if head.output is not None:
                gradient = super().backward(head.output, target)
                head.grad_output = np.multiply(gradient, self.discount, dtype=gradient.dtype)
        return super().backward(output, target)
