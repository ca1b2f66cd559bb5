"""What layers cost: parameters, multiply-adds, memory; and the formulas behind these numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import singledispatch
from typing import Any

from cyconv import layers as L
from cyconv._validation import as_bool, as_int, brief
from cyconv.layers.base import Layer, Shape, Step

__all__ = [
    "conv_flops",
    "conv_parameters",
    "count_flops",
    "count_parameters",
    "linear_flops",
    "linear_parameters",
    "multiply_adds",
]


def conv_parameters(
    in_channels: int, out_channels: int, kernel_size: int | Sequence[int], groups: int = 1, bias: bool = True
) -> int:
    """Return how many parameters a convolution, or a transposed one, has.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input and of the output.
    kernel_size : int or sequence of int
        Extents of the kernels along each axis; an int for a square of two axes.
    groups : int, default 1
        Groups of channels that do not see each other.
    bias : bool, default True
        Whether a number is added to each output channel.

    Returns
    -------
    int

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, below 1, or `groups` does not divide the channels.

    Notes
    -----
    ``OC (IC / G) K_1 K_2 ... + OC``.

    Examples
    --------
    >>> from cyconv.analysis import conv_parameters
    >>> conv_parameters(3, 64, 3)
    1792
    """
    op = "conv_parameters"
    filters = _products(op, in_channels, out_channels, _extents(op, "kernel_size", kernel_size, 2), groups)
    return filters + int(out_channels) * as_bool(op, "bias", bias)


def conv_flops(
    in_channels: int,
    out_channels: int,
    kernel_size: int | Sequence[int],
    size: int | Sequence[int],
    groups: int = 1,
) -> int:
    """Return how many multiply-adds a convolution, or a transposed one, takes for one image.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input and of the output.
    kernel_size : int or sequence of int
        Extents of the kernels along each axis; an int for the same along all.
    size : int or sequence of int
        Extents of the output, for a transposed convolution of the input: where the kernels are applied. An int for two
        equal ones.
    groups : int, default 1
        Groups of channels that do not see each other.

    Returns
    -------
    int

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, below 1, or `groups` does not divide the channels.

    Notes
    -----
    ``OH OW OC (IC / G) KH KW``: one multiplication and one addition counted together, products with padding included,
    whatever algorithm computes them; the bias is left out.

    Examples
    --------
    >>> from cyconv.analysis import conv_flops
    >>> conv_flops(3, 64, 3, 224)  # the first layer of VGG-16
    86704128
    """
    op = "conv_flops"
    extents = _extents(op, "size", size, 2)
    kernel = _extents(op, "kernel_size", kernel_size, len(extents))
    if len(kernel) != len(extents):
        raise ValueError(f"{op}: `kernel_size` must have as many axes as `size` {size}, got {brief(kernel_size)}")
    return math.prod(extents) * _products(op, in_channels, out_channels, kernel, groups)


def linear_parameters(in_features: int, out_features: int, bias: bool = True) -> int:
    """Return how many parameters a fully connected layer has.

    Parameters
    ----------
    in_features, out_features : int
        Lengths of the input and of the output.
    bias : bool, default True
        Whether a number is added to each output.

    Returns
    -------
    int

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or below 1.

    Notes
    -----
    ``OF IF + OF``.

    Examples
    --------
    >>> from cyconv.analysis import linear_parameters
    >>> linear_parameters(400, 120)
    48120
    """
    op = "linear_parameters"
    products = as_int(op, "in_features", in_features) * as_int(op, "out_features", out_features)
    return products + int(out_features) * as_bool(op, "bias", bias)


def linear_flops(in_features: int, out_features: int) -> int:
    """Return how many multiply-adds a fully connected layer takes for one vector.

    Parameters
    ----------
    in_features, out_features : int
        Lengths of the input and of the output.

    Returns
    -------
    int

    Raises
    ------
    TypeError, ValueError
        If one is no integer or below 1.

    Notes
    -----
    ``OF IF``; the bias is left out.

    Examples
    --------
    >>> from cyconv.analysis import linear_flops
    >>> linear_flops(400, 120)
    48000
    """
    op = "linear_flops"
    return as_int(op, "in_features", in_features) * as_int(op, "out_features", out_features)


def count_parameters(layer: Layer, trainable: bool = False) -> int:
    """Return how many parameters a layer or network has, all layers inside it included.

    Parameters
    ----------
    layer : Layer
        What is counted. No weights are drawn for it.
    trainable : bool, default False
        Whether to leave out those that are frozen.

    Returns
    -------
    int
        Running statistics are none.

    Raises
    ------
    TypeError
        If `layer` is none.

    Examples
    --------
    >>> from cyconv import models
    >>> from cyconv.analysis import count_parameters
    >>> count_parameters(models.lenet5())
    61706
    """
    only = as_bool("count_parameters", "trainable", trainable)
    parameters = as_layer("count_parameters", layer).parameters().values()
    return sum(parameter.size for parameter in parameters if parameter.trainable or not only)


def count_flops(layer: Layer, input_shape: Sequence[int] | None = None) -> int:
    """Return how many multiply-adds a layer or network takes to predict for one input.

    Parameters
    ----------
    layer : Layer
        What is counted.
    input_shape : sequence of int, optional
        Shape of one input, (C, H, W) or (features,); by default that of the network.

    Returns
    -------
    int

    Raises
    ------
    TypeError
        If `layer` is none, or a layer of your own has no rule (see Notes).
    ValueError
        If there is no shape, or the layers do not take it.

    Notes
    -----
    Multiply-adds of convolutions, fully connected layers and LSTMs, as the literature counts them: VGG-16 takes 15.47
    billion for an image of 224x224. One is a multiplication and an addition; some call that two FLOPs. Biases,
    normalisation, activations, pooling and sums count nothing, nor do layers that run only while training. A layer of
    your own needs a rule::

        @cyconv.analysis.multiply_adds.register
        def _(layer: Scale, input_shape, output_shape):
            return 0

    Examples
    --------
    >>> from cyconv import models
    >>> from cyconv.analysis import count_flops
    >>> count_flops(models.vgg16())
    15470264320
    """
    op = "count_flops"
    shape = input_shape_of(op, layer, input_shape)
    return sum(multiply_adds(*step[1:]) for step in predicting_steps(layer, shape))


def predicting_steps(layer: Layer, input_shape: Shape) -> Iterator[Step]:
    """Yield the steps of `trace` that run while predicting: all but those beside the way.

    Parameters
    ----------
    layer : Layer
        A layer or network.
    input_shape : tuple of int
        Shape of one input.
    """
    beside = tuple(f"{prefix}body" for prefix, inner in layer.walk() if isinstance(inner, L.SideHead))
    for step in layer.trace(input_shape):
        if not any(step.name == name or step.name.startswith(f"{name}.") for name in beside):
            yield step


@singledispatch
def multiply_adds(layer: Layer, input_shape: Shape, output_shape: Shape) -> int:
    """Return how many multiply-adds a layer takes for one input, without those of layers inside it.

    Parameters
    ----------
    layer : Layer
        One that `Layer.trace` yields.
    input_shape, output_shape : tuple of int
        Shapes of its input and output, without the batch axis.

    Returns
    -------
    int

    Raises
    ------
    TypeError
        If there is no rule for this kind of layer; `multiply_adds.register` adds one.

    Examples
    --------
    >>> from cyconv.analysis import multiply_adds
    >>> from cyconv.layers import Linear
    >>> multiply_adds(Linear(400, 120), (400,), (120,))
    48000
    """
    kind = type(layer).__name__
    raise TypeError(
        f"count_flops: there is no rule for {kind}; give one with `cyconv.analysis.multiply_adds.register({kind})`"
    )


@multiply_adds.register(L.Conv1d)
@multiply_adds.register(L.Conv2d)
@multiply_adds.register(L.Conv3d)
def _(layer: Any, input_shape: Shape, output_shape: Shape) -> int:
    return layer.weight.size * math.prod(output_shape[1:])


@multiply_adds.register(L.ConvTranspose1d)
@multiply_adds.register(L.ConvTranspose2d)
@multiply_adds.register(L.ConvTranspose3d)
def _(layer: Any, input_shape: Shape, output_shape: Shape) -> int:
    return layer.weight.size * math.prod(input_shape[1:])  # each input is spread over the kernel


@multiply_adds.register
def _(layer: L.Linear, input_shape: Shape, output_shape: Shape) -> int:
    return layer.weight.size


@multiply_adds.register
def _(layer: L.LSTM, input_shape: Shape, output_shape: Shape) -> int:
    return input_shape[0] * (layer.weight_ih_l0.size + layer.weight_hh_l0.size)


@multiply_adds.register
def _(layer: L.WeightNorm, input_shape: Shape, output_shape: Shape) -> int:
    return multiply_adds(layer.layer, input_shape, output_shape)


# Layers without products of learned numbers: what is looked up, moved, compared, scaled or added up counts nothing.
FREE = [
    *(L.ELU, L.GELU, L.LeakyReLU, L.Maxout, L.PReLU, L.ReLU, L.SELU, L.SiLU, L.Sigmoid, L.Softmax, L.Softplus, L.Tanh),
    *(L.AdaptiveAvgPool1d, L.AdaptiveAvgPool2d, L.AdaptiveAvgPool3d),
    *(L.AdaptiveMaxPool1d, L.AdaptiveMaxPool2d, L.AdaptiveMaxPool3d),
    *(L.AvgPool1d, L.AvgPool2d, L.AvgPool3d, L.GlobalAvgPool1d, L.GlobalAvgPool2d, L.GlobalAvgPool3d),
    *(L.MaxPool1d, L.MaxPool2d, L.MaxPool3d, L.MaxUnpool1d, L.MaxUnpool2d, L.MaxUnpool3d),
    *(L.Pad, L.PadChannels, L.Upsample, L.BatchNorm1d, L.BatchNorm2d, L.BatchNorm3d),
    *(L.GroupNorm, L.InstanceNorm2d, L.LayerNorm, L.LocalResponseNorm, L.Dropout),
    *(L.Branches, L.ChannelShuffle, L.Embedding, L.Flatten, L.Gate, L.Identity, L.SameSize, L.SideHead),
]
for kind in FREE:
    multiply_adds.register(kind, lambda layer, input_shape, output_shape: 0)


def as_layer(op: str, value: Any) -> Layer:
    """Return `value` if it is a layer or network.

    Parameters
    ----------
    op : str
        Whom the error names.
    value
        Anything.
    """
    if not isinstance(value, Layer):
        raise TypeError(f"{op}: `layer` must be a layer or network, got {brief(value)}")
    return value


def input_shape_of(op: str, layer: Any, given: Sequence[int] | None) -> Shape:
    """Return the shape of one input: the given one, or that which the network was built for.

    Parameters
    ----------
    op : str
        Whom errors name.
    layer : Layer
        A layer or network.
    given : sequence of int or None
        What the user says.
    """
    as_layer(op, layer)
    shape = getattr(layer, "input_shape", None) if given is None else given
    if shape is None:
        raise ValueError(f"{op}: the network needs an `input_shape`")
    if not isinstance(shape, (tuple, list)):
        raise TypeError(f"{op}: `input_shape` must be (C, H, W) or (features,), got {brief(shape)}")
    wanted = tuple(as_int(op, "input_shape", extent) for extent in shape)
    try:
        for _ in layer.trace(wanted):
            pass
    except ValueError as error:
        raise ValueError(f"{op}: `input_shape` {wanted} does not suit the network: {error}") from None
    return wanted


def _products(op: str, in_channels: int, out_channels: int, kernel: Shape, groups: int) -> int:
    """Return how many weights the filters of a convolution have: products for each position."""
    IC, OC = as_int(op, "in_channels", in_channels), as_int(op, "out_channels", out_channels)
    G = as_int(op, "groups", groups)
    if IC % G or OC % G:
        raise ValueError(f"{op}: `groups` must divide `in_channels` {IC} and `out_channels` {OC}, got {G}")
    return OC * (IC // G) * math.prod(kernel)


def _extents(op: str, name: str, value: int | Sequence[int], axes: int) -> Shape:
    """Return an extent for each axis; an int stands for all."""
    if isinstance(value, (tuple, list)) and value:
        return tuple(as_int(op, name, extent) for extent in value)
    return (as_int(op, name, value),) * axes
