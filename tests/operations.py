"""Every operation that the library promises: its function, its layer, and a small case of both.

A row is a name; the function in `functional`, whose gradient is ``<function>_backward``; its keywords and the shapes of
its arrays, for the gradient check; and a layer with the shape of its input, or None where there is no layer. Containers
and other layers that have no function of their own are in `ROUTING`. `docs/operations.md` is made of these tables.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from cyconv import layers as L
from cyconv import losses

IMAGE, SEQUENCE, VOLUME = (2, 4, 5, 6), (2, 4, 7), (2, 4, 4, 5, 3)
FILTERS, DEPTHWISE = (6, 4, 3, 3), (4, 1, 3, 3)
TARGETS = np.linspace(-1, 1, 20).reshape(4, 5)


class Operation(NamedTuple):
    """One row of the table."""

    name: str
    function: str
    keywords: dict[str, Any]
    shapes: list[tuple[int, ...]]
    layer: Any = None
    layer_input: tuple[int, ...] = IMAGE


def row(
    name: str, function: str, shapes: Any, layer: Any = None, layer_input: Any = None, **keywords: Any
) -> Operation:
    """Return a row; the layer's input is shaped as the function's first array."""
    shapes = [shapes] if isinstance(shapes[0], int) else list(shapes)
    return Operation(name, function, keywords, shapes, layer, layer_input or shapes[0])


def layer_row(name: str, layer: Any) -> Operation:
    """Return a row of a layer without a function."""
    return Operation(name, "", {}, [], layer)


CONVOLUTION = [
    row("convolution, 1-D", "conv1d", [SEQUENCE, (6, 4, 3), (6,)], L.Conv1d(4, 6, 3)),
    row("convolution (cross-correlation), 2-D", "conv2d", [IMAGE, FILTERS, (6,)], L.Conv2d(4, 6, 3)),
    row("convolution, 3-D", "conv3d", [VOLUME, (6, 4, 2, 3, 2), (6,)], L.Conv3d(4, 6, (2, 3, 2))),
    row("valid (narrow)", "conv2d", [IMAGE, FILTERS], L.Conv2d(4, 6, 3, padding="valid"), padding="valid"),
    row("same (equal)", "conv2d", [IMAGE, FILTERS], L.Conv2d(4, 6, 3, padding="same"), padding="same"),
    row("full (wide)", "convolve2d", [IMAGE, FILTERS], L.Conv2d(4, 6, 3, padding="full"), mode="full"),
    row("stride", "conv2d", [IMAGE, FILTERS], L.Conv2d(4, 6, 3, stride=2), stride=2),
    row("zero padding", "pad", IMAGE, L.Pad(1), padding=(1, 2, 0, 1)),
    row("reflecting padding", "pad", IMAGE, L.Pad(2, "reflect"), padding=(1, 2, 0, 3), mode="reflect"),
    row("replicating padding", "pad", IMAGE, L.Pad(2, "replicate"), padding=(1, 2, 0, 3), mode="replicate"),
    row("circular padding", "pad", IMAGE, L.Pad(2, "circular"), padding=(1, 2, 0, 3), mode="circular"),
    row("dilation (atrous)", "conv2d", [IMAGE, FILTERS], L.Conv2d(4, 6, 3, dilation=2), dilation=2),
    row("groups", "conv2d", [IMAGE, (6, 2, 3, 3)], L.Conv2d(4, 6, 3, groups=2), groups=2),
    row("depthwise", "conv2d", [IMAGE, DEPTHWISE], L.Conv2d(4, 4, 3, groups=4), groups=4),
    row(
        "depthwise separable",
        "conv2d",
        [IMAGE, DEPTHWISE],
        L.Sequential(L.Conv2d(4, 4, 3, groups=4), L.Conv2d(4, 6, 1)),
        groups=4,
    ),
    row("1x1", "conv2d", [IMAGE, (6, 4, 1, 1)], L.Conv2d(4, 6, 1)),
    row(
        "transposed, 1-D",
        "conv_transpose1d",
        [SEQUENCE, (4, 3, 3)],
        L.ConvTranspose1d(4, 3, 3, 2, output_padding=1),
        stride=2,
        output_padding=1,
    ),
    row(
        "transposed, 2-D",
        "conv_transpose2d",
        [IMAGE, (4, 3, 3, 3)],
        L.ConvTranspose2d(4, 3, 3, 2, output_padding=1),
        stride=2,
        output_padding=1,
    ),
    row(
        "transposed, 3-D",
        "conv_transpose3d",
        [VOLUME, (4, 3, 2, 3, 2)],
        L.ConvTranspose3d(4, 3, (2, 3, 2), 2, output_padding=1),
        stride=2,
        output_padding=1,
    ),
    row("true convolution", "convolve2d", [IMAGE, FILTERS], mode="same"),
]

POOLING = [
    row("max pooling, 1-D", "max_pool1d", SEQUENCE, L.MaxPool1d(2), kernel_size=2),
    row("max pooling, 2-D", "max_pool2d", IMAGE, L.MaxPool2d(2), kernel_size=2),
    row("max pooling, 3-D", "max_pool3d", VOLUME, L.MaxPool3d(2), kernel_size=2),
    row("overlapping pooling", "max_pool2d", IMAGE, L.MaxPool2d(3, stride=2), kernel_size=3, stride=2),
    row("average pooling, 1-D", "avg_pool1d", SEQUENCE, L.AvgPool1d(2), kernel_size=2),
    row("average pooling, 2-D", "avg_pool2d", IMAGE, L.AvgPool2d(2), kernel_size=2),
    row("average pooling, 3-D", "avg_pool3d", VOLUME, L.AvgPool3d(2), kernel_size=2),
    row("global pooling, 1-D", "global_avg_pool1d", SEQUENCE, L.GlobalAvgPool1d()),
    row("global pooling", "global_avg_pool2d", IMAGE, L.GlobalAvgPool2d()),
    row("global pooling, 3-D", "global_avg_pool3d", VOLUME, L.GlobalAvgPool3d()),
    row("adaptive average pooling, 1-D", "adaptive_avg_pool1d", SEQUENCE, L.AdaptiveAvgPool1d(3), output_size=3),
    row("adaptive average pooling", "adaptive_avg_pool2d", IMAGE, L.AdaptiveAvgPool2d((3, 2)), output_size=(3, 2)),
    row("adaptive average pooling, 3-D", "adaptive_avg_pool3d", VOLUME, L.AdaptiveAvgPool3d(2), output_size=2),
    row("adaptive max pooling, 1-D", "adaptive_max_pool1d", SEQUENCE, L.AdaptiveMaxPool1d(3), output_size=3),
    row("adaptive max pooling", "adaptive_max_pool2d", IMAGE, L.AdaptiveMaxPool2d((3, 2)), output_size=(3, 2)),
    row("adaptive max pooling, 3-D", "adaptive_max_pool3d", VOLUME, L.AdaptiveMaxPool3d(2), output_size=2),
    row(
        "unpooling, 1-D",
        "max_unpool1d",
        (1, 1, 3),
        L.MaxUnpool1d(L.Identity(), 2),
        SEQUENCE,
        indices=np.array([[[1, 2, 5]]]),
        kernel_size=2,
    ),
    row(
        "unpooling",
        "max_unpool2d",
        (1, 1, 2, 2),
        L.MaxUnpool2d(L.Identity(), 2),
        IMAGE,
        indices=np.array([[[[5, 2], [8, 15]]]]),
        kernel_size=2,
    ),
    row(
        "unpooling, 3-D",
        "max_unpool3d",
        (1, 1, 1, 1, 2),
        L.MaxUnpool3d(L.Identity(), 2),
        VOLUME,
        indices=np.array([[[[[5, 14]]]]]),
        kernel_size=2,
    ),
]

UPSAMPLING = [
    row("nearest upsampling", "interpolate", IMAGE, L.Upsample(scale_factor=2), scale_factor=2),
    row("bilinear upsampling", "interpolate", IMAGE, L.Upsample((7, 9), mode="bilinear"), size=(7, 9), mode="bilinear"),
]

NORMALISATION = [
    row("batch normalisation, 1-D", "batch_norm", [SEQUENCE, (4,), (4,)], L.BatchNorm1d(4)),
    row("batch normalisation", "batch_norm", [IMAGE, (4,), (4,)], L.BatchNorm2d(4)),
    row("batch normalisation, 3-D", "batch_norm", [VOLUME, (4,), (4,)], L.BatchNorm3d(4)),
    row("layer normalisation", "layer_norm", IMAGE, L.LayerNorm((4, 5, 6)), normalized_shape=(4, 5, 6)),
    row("group normalisation", "group_norm", IMAGE, L.GroupNorm(2, 4), num_groups=2),
    row("instance normalisation", "instance_norm", [IMAGE, (4,), (4,)], L.InstanceNorm2d(4)),
    row("weight normalisation", "weight_norm", [FILTERS, (6, 1, 1, 1)], L.WeightNorm(L.Conv2d(4, 6, 3)), IMAGE),
    row("local response normalisation", "local_response_norm", IMAGE, L.LocalResponseNorm(3, 2.0), size=3, alpha=2.0),
    row("dropout", "dropout", IMAGE, L.Dropout(0.3), p=0.3, seed=1),
    row("spatial dropout", "dropout2d", IMAGE, L.Dropout2d(0.3), p=0.3, seed=1),
]

ACTIVATIONS = [
    row("sigmoid", "sigmoid", IMAGE, L.Sigmoid()),
    row("tanh", "tanh", IMAGE, L.Tanh()),
    row("ReLU", "relu", IMAGE, L.ReLU()),
    row("leaky ReLU", "leaky_relu", IMAGE, L.LeakyReLU(0.2), negative_slope=0.2),
    row("parametric ReLU", "prelu", [IMAGE, (4,)], L.PReLU(4)),
    row("ELU", "elu", IMAGE, L.ELU()),
    row("SELU", "selu", IMAGE, L.SELU()),
    row("GELU", "gelu", IMAGE, L.GELU()),
    row("GELU by tanh", "gelu", IMAGE, L.GELU("tanh"), approximate="tanh"),
    row("SiLU", "silu", IMAGE, L.SiLU()),
    row("softplus", "softplus", IMAGE, L.Softplus()),
    row("maxout", "maxout", IMAGE, L.Maxout(2), pieces=2),
    row("softmax", "softmax", IMAGE, L.Softmax()),
]

OTHERS = [
    row("linear", "linear", [(3, 5), (4, 5), (4,)], L.Linear(5, 4)),
    row("flatten", "flatten", IMAGE, L.Flatten()),
    row("embedding", "embedding", (7, 3), L.Embedding(7, 3), indices=np.array([[1, 0], [6, 1]])),
    row("LSTM", "lstm", [(2, 3, 4), (2, 5), (2, 5), (20, 4), (20, 5), (20,), (20,)], L.LSTM(4, 5)),
    row("LSTM, a step", "lstm_cell", [(2, 4), (2, 5), (2, 5), (20, 4), (20, 5), (20,), (20,)]),
    row("im2col", "im2col", IMAGE, kernel_size=2),
    row("col2im", "col2im", (24, 16), input_shape=(2, 4, 4, 5), kernel_size=2),
]

LOSSES = [
    row("softmax cross-entropy", "cross_entropy", (4, 5), losses.CrossEntropyLoss(), target=np.array([0, 4, 2, 2])),
    row("mean squared error", "mse_loss", (4, 5), losses.MSELoss(), target=TARGETS),
    row("smooth L1", "smooth_l1_loss", (4, 5), losses.SmoothL1Loss(), target=TARGETS),
    row(
        "binary cross-entropy with logits",
        "binary_cross_entropy_with_logits",
        (4, 5),
        losses.BinaryCrossEntropyLoss(),
        target=(TARGETS > 0).astype(float),
    ),
    row("Dice", "dice_loss", (4, 5), losses.DiceLoss(binary=True), target=(TARGETS > 0).astype(float)),
]

# Layers made of layers, or without arithmetic: their gradients are those of what is inside.
ROUTING = [
    layer_row("in a row", L.Sequential(L.Conv2d(4, 3, 3), L.Tanh())),
    layer_row("residual", L.Residual(L.Conv2d(4, 4, 3, padding=1))),
    layer_row("residual, projected", L.Residual(L.Conv2d(4, 6, 3, 2, padding=1), L.Conv2d(4, 6, 1, 2))),
    layer_row("branches", L.Branches([L.Conv2d(4, 2, 1), L.Conv2d(4, 3, 3, padding=1), L.Identity()])),
    layer_row("skip", L.Skip(L.Conv2d(4, 3, 3))),
    layer_row("gate", L.Gate(L.Sequential(L.GlobalAvgPool2d(), L.Conv2d(4, 4, 1), L.Sigmoid()))),
    layer_row("channel split", L.Split([L.Identity(), L.Conv2d(2, 3, 3, padding=1)])),
    layer_row("channel shuffle", L.ChannelShuffle(2)),
    layer_row("channels of zeros", L.PadChannels(1, 2)),
    layer_row("cut to the input's size", L.SameSize(L.Conv2d(4, 3, 2, padding=1))),
    layer_row("side head", L.SideHead(L.Conv2d(4, 3, 3))),
    layer_row("heads", L.Heads({"a": L.Conv2d(4, 3, 3), "b": L.Conv2d(4, 2, 3)})),
    layer_row("identity", L.Identity()),
]

SECTIONS = {
    "Convolution": CONVOLUTION,
    "Pooling": POOLING,
    "Upsampling": UPSAMPLING,
    "Normalisation and dropout": NORMALISATION,
    "Activations": ACTIVATIONS,
    "Linear layers, sequences and rearrangement": OTHERS,
    "Losses": LOSSES,
    "Containers and routing": ROUTING,
}
OPERATIONS = [operation for section in SECTIONS.values() for operation in section]
