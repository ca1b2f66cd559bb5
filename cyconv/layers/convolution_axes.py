"""Convolution of sequences, (N, C, L), and of volumes, (N, C, D, H, W)."""

from __future__ import annotations

from typing import Any, ClassVar

from numpy.typing import NDArray

from cyconv import functional as F
from cyconv._geometry import conv_output, conv_transpose_output, same_padding
from cyconv._validation import as_int
from cyconv.initializers import Initializer
from cyconv.layers.base import Layer, Shape, accumulate, data_of, is_trainable, weight_and_bias
from cyconv.parameter import Parameter


class Windows(Layer):
    """A layer that moves windows along `axes` axes."""

    axes: ClassVar[int]
    op: ClassVar[str]  # in `functional`
    kernel_size: Any
    stride: Any
    padding: Any

    def _each(self, name: str, minimum: int = 1) -> tuple[int, ...]:
        """Return an argument as a number for each axis."""
        value, op = getattr(self, name), type(self).__name__
        values = value if isinstance(value, (tuple, list)) else (value,) * self.axes
        if len(values) != self.axes:
            raise ValueError(f"{op}: `{name}` must be an int{' or three ints' * (self.axes == 3)}, got {value!r}")
        return tuple(as_int(op, name, number, minimum) for number in values)

    def _size(self, input_shape: Shape, channels: int | None = None) -> tuple[int, ...]:
        """Return the extents of an input without those of the batch and the channels."""
        op, letters = type(self).__name__, {1: "L", 3: "D, H, W"}[self.axes]
        if len(input_shape) != self.axes + 1 or channels not in (None, input_shape[0]):
            needed = "C" if channels is None else channels
            raise ValueError(f"{op}: needs inputs of shape ({needed}, {letters}), got {tuple(input_shape)}")
        return tuple(input_shape[1:])

    def _fit(self, input_shape: Shape, output_shape: Shape) -> Shape:
        if min(output_shape) < 1:
            op = type(self).__name__
            raise ValueError(f"{op}: the padded input is smaller than the kernel: {input_shape} -> {output_shape}")
        return output_shape


class _Convolution(Windows):
    """What convolutions and transposed ones share: filters, and how they are applied."""

    in_channels: int
    out_channels: int
    groups: int
    dilation: Any
    weight: Parameter
    bias: Parameter | None

    def _own(self, shape: Shape, bias: bool, initializer: Initializer | str | None) -> None:
        op = type(self).__name__
        self.weight, self.bias = weight_and_bias(op, shape, self.out_channels, bias, initializer)

    def _set_channels(self, in_channels: int, out_channels: int, groups: int) -> None:
        op = type(self).__name__
        self.in_channels = IC = as_int(op, "in_channels", in_channels)
        self.out_channels = OC = as_int(op, "out_channels", out_channels)
        self.groups = as_int(op, "groups", groups)
        if IC % groups or OC % groups:
            raise ValueError(f"{op}: `groups` must divide `in_channels` {IC} and `out_channels` {OC}, got {groups}")

    def _options(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, self.groups

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x)
        return getattr(F, self.op)(x, self.weight.read(), data_of(self.bias), *self._options())

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (x,) = self.recall()
        needs = needs_grad_input, is_trainable(self.weight), is_trainable(self.bias)
        gradient = self.check_gradient(grad_output, (len(x), *self.output_shape(x.shape[1:])))
        arrays = gradient, x, self.weight.read(), data_of(self.bias)
        grad_input, grad_weight, grad_bias = getattr(F, f"{self.op}_backward")(*arrays, *self._options(), needs=needs)
        accumulate(self.weight, grad_weight)
        accumulate(self.bias, grad_bias)
        return grad_input


class _Correlation(_Convolution):
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
        self._set_channels(in_channels, out_channels, groups)
        self.kernel_size, self.stride, self.padding, self.dilation = kernel_size, stride, padding, dilation
        self.window((1,) * self.axes)
        self._own((out_channels, in_channels // groups, *self._each("kernel_size")), bias, initializer)

    def window(self, size: tuple[int, ...]) -> list[tuple[int, int, int, int, int]]:
        """Return kernel size, stride, padding before and after, and dilation of each axis."""
        kernel, stride, dilation = self._each("kernel_size"), self._each("stride"), self._each("dilation")
        if self.padding == "same":
            pads = [same_padding(size[i], kernel[i], stride[i], dilation[i]) for i in range(self.axes)]
        elif self.padding == "valid":
            pads = [(0, 0)] * self.axes
        elif self.axes == 1 and isinstance(self.padding, (tuple, list)) and len(self.padding) == 2:
            op = type(self).__name__
            before, after = (as_int(op, "padding", number, 0) for number in self.padding)
            pads = [(before, after)]
        else:
            pads = [(number, number) for number in self._each("padding", 0)]
        return [(kernel[i], stride[i], *pads[i], dilation[i]) for i in range(self.axes)]

    def output_shape(self, input_shape: Shape) -> Shape:
        size = self._size(input_shape, self.in_channels)
        windows = zip(size, self.window(size), strict=True)
        extents = [conv_output(extent, *window) for extent, window in windows]
        return self._fit(input_shape, (self.out_channels, *extents))


class _Transposed(_Convolution):
    output_padding: Any

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
        self._set_channels(in_channels, out_channels, groups)
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.output_padding, self.dilation = output_padding, dilation
        self.window()
        self._own((in_channels, out_channels // groups, *self._each("kernel_size")), bias, initializer)

    def _options(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.output_padding, self.groups, self.dilation

    def window(self) -> list[tuple[int, ...]]:
        """Return kernel size, stride, padding before and after, dilation and output padding of each axis."""
        pads = self._each("padding", 0)
        window = self._each("kernel_size"), self._each("stride"), pads, pads, self._each("dilation")
        return list(zip(*window, self._each("output_padding", 0), strict=True))

    def output_shape(self, input_shape: Shape) -> Shape:
        size = self._size(input_shape, self.in_channels)
        extents = [conv_transpose_output(*arguments) for arguments in self._arguments(size)]
        return self._fit(input_shape, (self.out_channels, *extents))

    def _arguments(self, size: tuple[int, ...]) -> list[tuple[int, int, int, int, int, int, int]]:
        return [(extent, k, s, b, a, d, o) for extent, (k, s, b, a, d, o) in zip(size, self.window(), strict=True)]


class Conv1d(_Correlation):
    """Convolve sequences with learned kernels.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input and of the output.
    kernel_size : int
        Size of the kernels.
    stride, dilation : int, default 1
        Step of the kernel, and distance between its elements.
    padding : int, (before, after), "same" or "valid", default 0
        Zeros around the input.
    groups : int, default 1
        Groups of channels that do not see each other.
    bias : bool, default True
        Whether to add a learned number to each output channel.
    initializer : callable or str, optional
        Draws the weight, with a zero bias; by default both start as PyTorch's do.

    Attributes
    ----------
    weight : Parameter of shape (out_channels, in_channels / groups, K)
    bias : Parameter of shape (out_channels,) or None

    Examples
    --------
    >>> from cyconv.layers import Conv1d
    >>> Conv1d(3, 16, 3, stride=2, padding=1).output_shape((3, 32))
    (16, 16)
    """

    op = "conv1d"
    axes = 1


class Conv3d(_Correlation):
    """Convolve volumes with learned kernels.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input and of the output.
    kernel_size : int or three ints
        Size of the kernels.
    stride, dilation : int or three ints, default 1
        Step of the kernel, and distance between its elements.
    padding : int, three ints, "same" or "valid", default 0
        Zeros around the input.
    groups : int, default 1
        Groups of channels that do not see each other.
    bias : bool, default True
        Whether to add a learned number to each output channel.
    initializer : callable or str, optional
        Draws the weight, with a zero bias; by default both start as PyTorch's do.

    Attributes
    ----------
    weight : Parameter of shape (out_channels, in_channels / groups, KD, KH, KW)
    bias : Parameter of shape (out_channels,) or None

    Examples
    --------
    >>> from cyconv.layers import Conv3d
    >>> Conv3d(3, 16, 3, stride=2, padding=1).output_shape((3, 8, 32, 32))
    (16, 4, 16, 16)
    """

    op = "conv3d"
    axes = 3


class ConvTranspose1d(_Transposed):
    """Enlarge sequences by a transposed convolution, the adjoint of `Conv1d`.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input and of the output.
    kernel_size : int
        Size of the kernels.
    stride, dilation : int, default 1
        Those of the convolution that this is the transpose of.
    padding : int, default 0
        How much is cut off each side of the output.
    output_padding : int, default 0
        How much is added at the end, to choose among the sizes that a stride leaves possible.
    groups : int, default 1
        Groups of channels that do not see each other.
    bias : bool, default True
        Whether to add a learned number to each output channel.
    initializer : callable or str, optional
        Draws the weight, with a zero bias; by default both start as PyTorch's do.

    Attributes
    ----------
    weight : Parameter of shape (in_channels, out_channels / groups, K)
    bias : Parameter of shape (out_channels,) or None

    Examples
    --------
    >>> from cyconv.layers import ConvTranspose1d
    >>> ConvTranspose1d(16, 8, 2, stride=2).output_shape((16, 28))
    (8, 56)
    """

    op = "conv_transpose1d"
    axes = 1


class ConvTranspose3d(_Transposed):
    """Enlarge volumes by a transposed convolution, the adjoint of `Conv3d`.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input and of the output.
    kernel_size : int or three ints
        Size of the kernels.
    stride, dilation : int or three ints, default 1
        Those of the convolution that this is the transpose of.
    padding : int or three ints, default 0
        How much is cut off each side of the output.
    output_padding : int or three ints, default 0
        How much is added at the end, to choose among the sizes that a stride leaves possible.
    groups : int, default 1
        Groups of channels that do not see each other.
    bias : bool, default True
        Whether to add a learned number to each output channel.
    initializer : callable or str, optional
        Draws the weight, with a zero bias; by default both start as PyTorch's do.

    Attributes
    ----------
    weight : Parameter of shape (in_channels, out_channels / groups, KD, KH, KW)
    bias : Parameter of shape (out_channels,) or None

    Examples
    --------
    >>> from cyconv.layers import ConvTranspose3d
    >>> ConvTranspose3d(16, 8, 2, stride=2).output_shape((16, 4, 7, 7))
    (8, 8, 14, 14)
    """

    op = "conv_transpose3d"
    axes = 3
