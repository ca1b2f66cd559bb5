"""Convolution and transposed convolution."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from cyconv import functional as F
from cyconv._geometry import Padding, Pair, conv_output, conv_transpose_output
from cyconv._validation import as_int, as_padding, as_pair
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


class Conv2d(Layer):
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
        kernel, *_ = self._window((1, 1))
        self.weight, self.bias = weight_and_bias("Conv2d", (OC, IC // G, *kernel), OC, bias, initializer)

    def _window(self, size: Pair) -> tuple[Pair, Pair, Padding, Pair]:
        """Return kernel size, stride, padding and dilation for an input of this size."""
        kernel = as_pair("Conv2d", "kernel_size", self.kernel_size)
        stride = as_pair("Conv2d", "stride", self.stride)
        dilation = as_pair("Conv2d", "dilation", self.dilation)
        return kernel, stride, as_padding("Conv2d", self.padding, size, kernel, stride, dilation), dilation

    def output_shape(self, input_shape: Shape) -> Shape:
        _, H, W = image_shape("Conv2d", input_shape, self.in_channels)
        (KH, KW), (stride_h, stride_w), padding, (dilation_h, dilation_w) = self._window((H, W))
        OH = conv_output(H, KH, stride_h, padding.top, padding.bottom, dilation_h)
        OW = conv_output(W, KW, stride_w, padding.left, padding.right, dilation_w)
        return windows_fit("Conv2d", input_shape, (self.out_channels, OH, OW))

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x)
        arguments = self.stride, self.padding, self.dilation, self.groups
        return F.conv2d(x, self.weight.data, data_of(self.bias), *arguments)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (x,) = self.recall()
        arguments = self.stride, self.padding, self.dilation, self.groups
        needs = needs_grad_input, is_trainable(self.weight), is_trainable(self.bias)
        grad_input, grad_weight, grad_bias = F.conv2d_backward(
            grad_output, x, self.weight.data, data_of(self.bias), *arguments, needs=needs
        )
        accumulate(self.weight, grad_weight)
        accumulate(self.bias, grad_bias)
        return grad_input


class ConvTranspose2d(Layer):
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
        kernel, *_ = self._window()
        self.weight, self.bias = weight_and_bias("ConvTranspose2d", (IC, OC // G, *kernel), OC, bias, initializer)

    def _window(self) -> tuple[Pair, ...]:
        """Return kernel size, stride, padding, output padding and dilation."""
        least = {"kernel_size": 1, "stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}
        return tuple(as_pair("ConvTranspose2d", name, getattr(self, name), low) for name, low in least.items())

    def output_shape(self, input_shape: Shape) -> Shape:
        _, *size = image_shape("ConvTranspose2d", input_shape, self.in_channels)
        kernel, stride, padding, extra, dilation = self._window()
        OH, OW = (
            conv_transpose_output(size[i], kernel[i], stride[i], padding[i], padding[i], dilation[i], extra[i])
            for i in (0, 1)
        )
        return windows_fit("ConvTranspose2d", input_shape, (self.out_channels, OH, OW))

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x)
        arguments = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        return F.conv_transpose2d(x, self.weight.data, data_of(self.bias), *arguments)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (x,) = self.recall()
        arguments = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        needs = needs_grad_input, is_trainable(self.weight), is_trainable(self.bias)
        grad_input, grad_weight, grad_bias = F.conv_transpose2d_backward(
            grad_output, x, self.weight.data, data_of(self.bias), *arguments, needs=needs
        )
        accumulate(self.weight, grad_weight)
        accumulate(self.bias, grad_bias)
        return grad_input


def _check_channels(op: str, in_channels: int, out_channels: int, groups: int) -> tuple[int, int, int]:
    IC, OC, G = (
        as_int(op, "in_channels", in_channels),
        as_int(op, "out_channels", out_channels),
        as_int(op, "groups", groups),
    )
    if IC % G or OC % G:
        raise ValueError(f"{op}: `groups` must divide `in_channels` {IC} and `out_channels` {OC}, got {G}")
    return IC, OC, G
