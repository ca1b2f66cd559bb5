"""Layers: functions with parameters, and the containers that make networks of them."""

import cyconv.functional  # noqa: F401  (whole, before its parts: see cyconv/__init__.py)
from cyconv.layers.activation import (
    ELU,
    GELU,
    SELU,
    LeakyReLU,
    Maxout,
    PReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from cyconv.layers.base import Layer, Step
from cyconv.layers.containers import Branches, Identity, Residual, Sequential, Skip
from cyconv.layers.convolution import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from cyconv.layers.dropout import Dropout, Dropout2d
from cyconv.layers.embedding import Embedding
from cyconv.layers.flatten import Flatten
from cyconv.layers.group_normalization import GroupNorm, InstanceNorm2d, LayerNorm, LocalResponseNorm
from cyconv.layers.linear import Linear
from cyconv.layers.lstm import LSTM
from cyconv.layers.normalization import BatchNorm1d, BatchNorm2d, BatchNorm3d
from cyconv.layers.pooling import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveAvgPool3d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AdaptiveMaxPool3d,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    GlobalAvgPool1d,
    GlobalAvgPool2d,
    GlobalAvgPool3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from cyconv.layers.resizing import MaxUnpool1d, MaxUnpool2d, MaxUnpool3d, Pad, Upsample
from cyconv.layers.routing import ChannelShuffle, Gate, Heads, PadChannels, SameSize, SideHead, Split
from cyconv.layers.weight_normalization import WeightNorm

__all__ = [
    "ELU",
    "GELU",
    "LSTM",
    "SELU",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Branches",
    "ChannelShuffle",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Dropout",
    "Dropout2d",
    "Embedding",
    "Flatten",
    "Gate",
    "GlobalAvgPool1d",
    "GlobalAvgPool2d",
    "GlobalAvgPool3d",
    "GroupNorm",
    "Heads",
    "Identity",
    "InstanceNorm2d",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
    "Maxout",
    "PReLU",
    "Pad",
    "PadChannels",
    "ReLU",
    "Residual",
    "SameSize",
    "Sequential",
    "SiLU",
    "SideHead",
    "Sigmoid",
    "Skip",
    "Softmax",
    "Softplus",
    "Split",
    "Step",
    "Tanh",
    "Upsample",
    "WeightNorm",
]
