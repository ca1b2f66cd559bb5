"""Networks of cyconv.models in torch.nn, layer by layer, under the same names and with the same weights."""
# ruff: noqa: D102 (each forward is torch.nn.Module's)

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

from cyconv import Network, layers
from cyconv.models.unet import EvenMaxPool2d


class Merged(nn.Module):
    """What all containers share: their layers, by name."""

    def __init__(self, layer: layers.Layer):
        super().__init__()
        for name, child in layer.children().items():
            self.add_module(name, translated(child))


class Branches(Merged):
    """Layers side by side on the same input."""

    def __init__(self, layer: layers.Branches):
        super().__init__(layer)
        self.sum, self.crops = layer.merge == "sum", layer.crops

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.merge([child(x) for child in self.children()])

    def merge(self, outputs: list[torch.Tensor]) -> torch.Tensor:
        if self.crops:
            H, W = (min(output.shape[axis] for output in outputs) for axis in (2, 3))
            starts = [((output.shape[2] - H) // 2, (output.shape[3] - W) // 2) for output in outputs]
            outputs = [out[:, :, h : h + H, w : w + W] for out, (h, w) in zip(outputs, starts, strict=True)]
        return sum(outputs[1:], start=outputs[0]) if self.sum else torch.cat(outputs, 1)


class Split(Branches):
    """Layers on shares of the channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shares = x.chunk(len(self._modules), 1)
        return self.merge([child(share) for child, share in zip(self.children(), shares, strict=True)])


class Gate(Merged):
    """The input times what a layer makes of it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.body(x)


class SameSize(Merged):
    """A layer whose output is cut to the size of its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)[:, :, : x.shape[2], : x.shape[3]]


class LocalResponseNorm(nn.Module):
    """As the paper has it, whose factor is not divided by the size."""

    def __init__(self, layer: layers.LocalResponseNorm):
        super().__init__()
        self.size, self.alpha, self.beta, self.k = layer.size, layer.alpha, layer.beta, layer.k

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.local_response_norm(x, self.size, self.alpha, self.beta, self.k)


def convolution(layer: layers.Conv2d) -> nn.Module:
    """Return a convolution."""
    sizes = layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation
    return nn.Conv2d(*sizes, groups=layer.groups, bias=layer.bias is not None)


def transposed(layer: layers.ConvTranspose2d) -> nn.Module:
    """Return a transposed convolution."""
    sizes = layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.output_padding
    return nn.ConvTranspose2d(*sizes, groups=layer.groups, bias=layer.bias is not None, dilation=layer.dilation)


def max_pool(layer: layers.MaxPool2d) -> nn.Module:
    """Return a pooling."""
    return nn.MaxPool2d(layer.kernel_size, layer.stride, layer.padding, layer.dilation, ceil_mode=layer.ceil_mode)


TRANSLATIONS = {
    layers.Conv2d: convolution,
    layers.ConvTranspose2d: transposed,
    layers.MaxPool2d: max_pool,
    EvenMaxPool2d: max_pool,
    layers.AvgPool2d: lambda layer: nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode),
    layers.GlobalAvgPool2d: lambda layer: nn.AdaptiveAvgPool2d(1),
    layers.AdaptiveAvgPool2d: lambda layer: nn.AdaptiveAvgPool2d(layer.output_size),
    layers.BatchNorm2d: lambda layer: nn.BatchNorm2d(len(layer.running_mean), layer.eps, layer.momentum),
    layers.LocalResponseNorm: LocalResponseNorm,
    layers.ChannelShuffle: lambda layer: nn.ChannelShuffle(layer.groups),
    layers.Linear: lambda layer: nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None),
    layers.ReLU: lambda layer: nn.ReLU(inplace=True),
    layers.Sigmoid: lambda layer: nn.Sigmoid(),
    layers.Dropout: lambda layer: nn.Dropout(layer.p),
    layers.Flatten: lambda layer: nn.Flatten(),
    layers.Identity: lambda layer: nn.Identity(),
    layers.Split: Split,
    layers.Gate: Gate,
    layers.SameSize: SameSize,
}


def translated(layer: layers.Layer) -> nn.Module:
    """Return a layer, with all inside it."""
    if type(layer) in TRANSLATIONS:
        return TRANSLATIONS[type(layer)](layer)
    if isinstance(layer, layers.Branches):
        return Branches(layer)
    if isinstance(layer, (layers.Sequential, Network)):
        parts = OrderedDict((name, translated(child)) for name, child in layer.children().items())
        first = next(iter(parts.values()), None)
        if isinstance(first, nn.ReLU):  # of a branch, perhaps, whose input another one reads
            first.inplace = False
        return nn.Sequential(parts)
    raise TypeError(f"no translation of {type(layer).__name__}")


def as_torch(network: Network) -> nn.Module:
    """Return a network with the same weights and running statistics."""
    module = translated(network)
    module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in network.state_dict().items()})
    return module
