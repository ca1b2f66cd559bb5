"""Convolution and transposed convolution."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from cyconv._geometry import Padding, Pair, conv_output, conv_transpose_output
from cyconv._validation import as_int, as_padding, as_pair, check_shape
from cyconv.functional._arrays import NCHW, channels_last
from cyconv.functional._calls import AT_ONCE, Calls
from cyconv.functional._correlation import Convolution, Correlator
from cyconv.functional.conv import gradients, planned_conv2d, planned_conv_transpose2d
from cyconv.initializers import Initializer
from cyconv.layers.base import (
    Layer,
    Shape,
    accumulate,
    data_of,
    image_shape,
    is_trainable,
    weight_and_bias,
    windows_fit,
)
from cyconv.layers.normalization import BatchNorm2d
from cyconv.layers.recording import Recording
from cyconv.parameter import Parameter

KEPT_PIXELS = 2048  # outputs of a prediction up to which prepared filters are kept: they cost a few hundred each


class _Convolution(Layer):
    """What convolution and transposed convolution share: filters, and how they are applied."""

    op: ClassVar[str]
    transposed: ClassVar[bool]
    weight: Parameter
    bias: Parameter | None
    in_channels: int
    groups: int

    @abstractmethod
    def _planned(self, op: str, x: NDArray) -> tuple[NDArray, Convolution]:
        """Return x as [N, H, W, C], checked, and the plan of the convolution."""

    def forward(self, x: NDArray) -> NDArray:
        return self._run(x)

    def run(self, x: NDArray, addend: NDArray | None = None, relu: bool = False) -> NDArray:
        return self._run(x, addend, relu)

    def run_folded(self, x: NDArray, norm: BatchNorm2d, addend: NDArray | None = None, relu: bool = False) -> NDArray:
        """Return what `run` does with a batch normalisation between the convolution and the sum, by running averages.

        It is folded into the filters: no pass is left of it.
        """
        return self._run(x, addend, relu, norm)

    def record(self, x: NDArray, addend: NDArray | None, relu: bool, calls: Recording) -> NDArray:
        if not calls.prepares(self.weight):
            return super().record(x, addend, relu, calls)
        calls.reads(self.bias)
        return self._run(x, addend, relu, None, calls)

    def record_folded(
        self, x: NDArray, norm: BatchNorm2d, addend: NDArray | None, relu: bool, calls: Recording
    ) -> NDArray:
        """Do what `run_folded` does, as `record` does what `run` does."""
        if not calls.prepares(self.weight):
            return calls.apply(self.run_folded, x, norm, addend, relu)
        calls.copies(self.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        return self._run(x, addend, relu, norm, calls)

    def _run(
        self,
        x: NDArray,
        addend: NDArray | None = None,
        relu: bool = False,
        norm: BatchNorm2d | None = None,
        calls: Calls = AT_ONCE,
    ) -> NDArray:
        self.remember(x)
        pixels, plan = self._planned(self.op, x)
        correlator = plan.adjoint if self.transposed else plan.forward
        if addend is not None:
            N, H, W, C = correlator.out_shape
            check_shape(type(self).__name__, "addend", addend, (N, C, H, W), " (that of the output)")
            addend = channels_last(addend)
        filters, bias = self._filters(correlator, norm, calls is not AT_ONCE)
        return correlator.apply(pixels, filters, bias, addend, relu, calls).transpose(NCHW)

    def _filters(self, correlator: Correlator, norm: BatchNorm2d | None, keep: bool) -> tuple[Any, NDArray | None]:
        """Return filters in the form that the correlator takes, and the bias, a normalisation folded into both.

        While predicting a few images at a time they are kept, or if `keep` says so: nobody trains, and bringing them
        into that form takes as long as using them.
        """
        bias = data_of(self.bias)
        if self.training or (math.prod(correlator.out_shape[:3]) > KEPT_PIXELS and not keep):
            return self._made_filters(correlator, bias, norm)
        version = self.weight.version
        key = correlator, version, None if bias is None else bias.tobytes(), None if norm is None else norm.state()
        kept = self._prepared
        if kept is None or version is None or kept[0] != key:
            kept = key, self._made_filters(correlator, bias, norm)
            if version is not None:
                self._prepared = kept  # one assignment: other threads see it whole or not at all
        return kept[1]

    def _made_filters(
        self, correlator: Correlator, bias: NDArray | None, norm: BatchNorm2d | None
    ) -> tuple[Any, NDArray | None]:
        weight = self.weight.read()
        if norm is not None:
            scale, shift = norm.scale_and_shift()
            shift = shift if bias is None else shift + bias * scale
            weight, bias = (weight * self._by_output(scale)).astype(weight.dtype), shift.astype(weight.dtype)
        return correlator.prepare(channels_last(weight)), bias

    def _by_output(self, values: NDArray) -> NDArray:
        """Return a number for each output channel in a shape that multiplies the weight."""
        if not self.transposed:
            return values[:, np.newaxis, np.newaxis, np.newaxis]
        # (IC, OC/groups, KH, KW): the outputs of a group belong to its share of the inputs.
        by_group = values.reshape(self.groups, -1).repeat(self.in_channels // self.groups, axis=0)
        return by_group[:, :, np.newaxis, np.newaxis]

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        return self._run_backward(grad_output, needs_grad_input)

    def run_backward(self, grad_output: NDArray, addend: NDArray | None = None) -> NDArray:
        return cast(NDArray, self._run_backward(grad_output, True, addend))

    def _run_backward(self, grad_output: NDArray, needs_grad_input: bool, addend: NDArray | None = None) -> Any:
        (x,) = self.recall()
        op = f"{self.op}_backward"
        pixels, plan = self._planned(op, x)
        needs = needs_grad_input, is_trainable(self.weight), is_trainable(self.bias)
        arrays = op, grad_output, pixels, self.weight.read(), self.bias is not None
        grad_input, grad_weight, grad_bias = gradients(*arrays, plan, needs, self.transposed, addend)
        accumulate(self.weight, grad_weight)
        accumulate(self.bias, grad_bias)
        return grad_input


class Conv2d(_Convolution):
    """Convolve images with learned kernels.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input and of the output.
    kernel_size : int or pair of ints
        Height and width of the kernels.
    stride, dilation : int or pair of ints, default 1
        Step of the kernel, and distance between its elements.
    padding : int, pair of ints, ((top, bottom), (left, right)), "same" or "valid", default 0
        Rows and columns of zeros around the input.
    groups : int, default 1
        Groups of channels that do not see each other; ``groups=in_channels`` is a depthwise convolution.
    bias : bool, default True
        Whether to add a learned number to each output channel.
    initializer : callable or str, optional
        Draws the weight, with a zero bias; by default both start as PyTorch's do.

    Attributes
    ----------
    weight : Parameter of shape (out_channels, in_channels / groups, KH, KW)
    bias : Parameter of shape (out_channels,) or None

    Examples
    --------
    >>> from cyconv.layers import Conv2d
    >>> Conv2d(3, 16, 3, stride=2, padding=1).output_shape((3, 32, 32))
    (16, 16, 16)
    """

    op = "conv2d"
    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        initializer: Initializer | str | None = None,
    ) -> None:
        IC, OC, G = _check_channels("Conv2d", in_channels, out_channels, groups)
        self.in_channels, self.out_channels, self.groups = IC, OC, G
        self.kernel_size, self.stride, self.padding, self.dilation = kernel_size, stride, padding, dilation
        kernel, *_ = self.window((1, 1))
        self.weight, self.bias = weight_and_bias("Conv2d", (OC, IC // G, *kernel), OC, bias, initializer)

    def window(self, size: Pair) -> tuple[Pair, Pair, Padding, Pair]:
        """Return kernel size, stride, padding and dilation for an input of this size."""
        kernel = as_pair("Conv2d", "kernel_size", self.kernel_size)
        stride = as_pair("Conv2d", "stride", self.stride)
        dilation = as_pair("Conv2d", "dilation", self.dilation)
        return kernel, stride, as_padding("Conv2d", self.padding, size, kernel, stride, dilation), dilation

    def output_shape(self, input_shape: Shape) -> Shape:
        _, H, W = image_shape("Conv2d", input_shape, self.in_channels)
        (KH, KW), (stride_h, stride_w), padding, (dilation_h, dilation_w) = self.window((H, W))
        OH = conv_output(H, KH, stride_h, padding.top, padding.bottom, dilation_h)
        OW = conv_output(W, KW, stride_w, padding.left, padding.right, dilation_w)
        return windows_fit("Conv2d", input_shape, (self.out_channels, OH, OW))

    def _planned(self, op: str, x: NDArray) -> tuple[NDArray, Convolution]:
        arguments = self.stride, self.padding, self.dilation, self.groups
        return planned_conv2d(op, x, self.weight, self.bias, *arguments)


class ConvTranspose2d(_Convolution):
    """Enlarge images by a transposed ("de-") convolution, the adjoint of `Conv2d`.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input and of the output.
    kernel_size : int or pair of ints
        Height and width of the kernels.
    stride, dilation : int or pair of ints, default 1
        Those of the convolution that this is the transpose of: the output is about `stride` times larger.
    padding : int or pair of ints, default 0
        Rows and columns cut off each side of the output.
    output_padding : int or pair of ints, default 0
        Rows and columns added at the bottom and right, to choose among the sizes that a stride leaves possible.
    groups : int, default 1
        Groups of channels that do not see each other.
    bias : bool, default True
        Whether to add a learned number to each output channel.
    initializer : callable or str, optional
        Draws the weight, with a zero bias; by default both start as PyTorch's do.

    Attributes
    ----------
    weight : Parameter of shape (in_channels, out_channels / groups, KH, KW)
    bias : Parameter of shape (out_channels,) or None

    Examples
    --------
    >>> from cyconv.layers import ConvTranspose2d
    >>> ConvTranspose2d(16, 8, 2, stride=2).output_shape((16, 28, 28))
    (8, 56, 56)
    """

    op = "conv_transpose2d"
    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        *,
        initializer: Initializer | str | None = None,
    ) -> None:
        IC, OC, G = _check_channels("ConvTranspose2d", in_channels, out_channels, groups)
        self.in_channels, self.out_channels, self.groups = IC, OC, G
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.output_padding, self.dilation = output_padding, dilation
        kernel, *_ = self.window()
        self.weight, self.bias = weight_and_bias("ConvTranspose2d", (IC, OC // G, *kernel), OC, bias, initializer)

    def window(self) -> tuple[Pair, ...]:
        """Return kernel size, stride, padding, output padding and dilation."""
        least = {"kernel_size": 1, "stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}
        return tuple(as_pair("ConvTranspose2d", name, getattr(self, name), low) for name, low in least.items())

    def output_shape(self, input_shape: Shape) -> Shape:
        _, *size = image_shape("ConvTranspose2d", input_shape, self.in_channels)
        kernel, stride, padding, extra, dilation = self.window()
        OH, OW = (
            conv_transpose_output(size[i], kernel[i], stride[i], padding[i], padding[i], dilation[i], extra[i])
            for i in (0, 1)
        )
        return windows_fit("ConvTranspose2d", input_shape, (self.out_channels, OH, OW))

    def _planned(self, op: str, x: NDArray) -> tuple[NDArray, Convolution]:
        arguments = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        return planned_conv_transpose2d(op, x, self.weight, self.bias, *arguments)


def _check_channels(op: str, in_channels: int, out_channels: int, groups: int) -> tuple[int, int, int]:
    IC, OC, G = (
        as_int(op, "in_channels", in_channels),
        as_int(op, "out_channels", out_channels),
        as_int(op, "groups", groups),
    )
    if IC % G or OC % G:
        raise ValueError(f"{op}: `groups` must divide `in_channels` {IC} and `out_channels` {OC}, got {G}")
    return IC, OC, G
