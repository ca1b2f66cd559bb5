"""Layers: functions with parameters, and the containers that make networks of them."""

from cyconv.layers.activation import LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from cyconv.layers.base import Layer, Step
from cyconv.layers.containers import Branches, Identity, Residual, Sequential, Skip
from cyconv.layers.convolution import Conv2d, ConvTranspose2d
from cyconv.layers.dropout import Dropout
from cyconv.layers.flatten import Flatten
from cyconv.layers.linear import Linear
from cyconv.layers.normalization import BatchNorm2d
from cyconv.layers.pooling import AdaptiveAvgPool2d, AvgPool2d, GlobalAvgPool2d, MaxPool2d
from cyconv.layers.routing import ChannelShuffle, Gate, PadChannels, SameSize, SideHead, Split

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "Branches",
    "ChannelShuffle",
    "Conv2d",
    "ConvTranspose2d",
    "Dropout",
    "Flatten",
    "Gate",
    "GlobalAvgPool2d",
    "Identity",
    "Layer",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "PadChannels",
    "ReLU",
    "Residual",
    "SameSize",
    "Sequential",
    "SideHead",
    "Sigmoid",
    "Skip",
    "Softmax",
    "Split",
    "Step",
    "Tanh",
]
