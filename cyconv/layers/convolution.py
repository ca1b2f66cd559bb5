"""Convolution and transposed convolution of sequences, images and volumes: thin classes of one implementation."""

from __future__ import annotations

import math
from typing import Any, ClassVar, cast

from numpy.typing import NDArray

from cyconv._validation import as_choice, as_image, as_int, check_shape
from cyconv._window import Axes, Window, plain, sample_shape, window
from cyconv.functional._arrays import add, image_of, pixels_of
from cyconv.functional._calls import AT_ONCE, Calls
from cyconv.functional._correlation import Correlator
from cyconv.functional._volumes import VolumeCorrelator
from cyconv.functional.conv import Plan, gradients, planned
from cyconv.functional.pad import continued, padded, padded_backward
from cyconv.initializers import Initializer
from cyconv.layers.base import Layer, Shape, accumulate, data_of, is_trainable, weight_and_bias
from cyconv.layers.normalization import BatchNorm2d
from cyconv.layers.recording import Recording
from cyconv.parameter import Parameter

KEPT_PIXELS = 2048  # outputs of a prediction up to which prepared filters are kept: they cost a few hundred each
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Layer):
    """What convolution and transposed convolution share: filters, and how they are applied."""

    op: ClassVar[str]  # in `functional`
    axes: ClassVar[int]
    transposed: ClassVar[bool] = False
    weight: Parameter
    bias: Parameter | None
    in_channels: int
    out_channels: int
    groups: int
    kernel_size: Any
    stride: Any
    padding: Any
    dilation: Any
    output_padding: Any = None
    padding_mode: str = "zeros"

    def _set(
        self, in_channels: Any, out_channels: Any, groups: Any, bias: Any, initializer: Initializer | str | None
    ) -> None:
        """Check all arguments and make the parameters."""
        op = type(self).__name__
        self.in_channels = IC = as_int(op, "in_channels", in_channels)
        self.out_channels = OC = as_int(op, "out_channels", out_channels)
        self.groups = G = as_int(op, "groups", groups)
        if IC % G or OC % G:
            raise ValueError(f"{op}: `groups` must divide `in_channels` {IC} and `out_channels` {OC}, got {G}")
        channels = (IC, OC // G) if self.transposed else (OC, IC // G)
        self.weight, self.bias = weight_and_bias(op, (*channels, *self.window().kernel), OC, bias, initializer)

    def window(self) -> Window:
        """Return the layer's window, whatever the size of the input."""
        return window(
            type(self).__name__,
            self.axes,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            output_padding=self.output_padding,
        )

    def windows(self, size: Shape) -> Axes:
        """Return the windows on an input of `size`, the axes behind the channels; see `cyconv._window`."""
        return self.window().place(type(self).__name__, size)

    def output_shape(self, input_shape: Shape) -> Shape:
        shape = sample_shape(type(self).__name__, input_shape, self.axes, self.in_channels)
        axes = self.windows(shape[1:])
        if self.padding_mode != "zeros":
            for axis in axes:
                continued(type(self).__name__, self.padding_mode, axis.size, axis.before, axis.after)
        return self.out_channels, *(axis.size if self.transposed else axis.output for axis in axes)

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
        if not self._is_kernels_only() or not calls.prepares(self.weight):
            return super().record(x, addend, relu, calls)
        calls.reads(self.bias)
        return self._run(x, addend, relu, None, calls)

    def record_folded(
        self, x: NDArray, norm: BatchNorm2d, addend: NDArray | None, relu: bool, calls: Recording
    ) -> NDArray:
        """Do what `run_folded` does, as `record` does what `run` does."""
        if not self._is_kernels_only() or not calls.prepares(self.weight):
            return calls.apply(self.run_folded, x, norm, addend, relu)
        calls.copies(self.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        return self._run(x, addend, relu, norm, calls)

    def _is_kernels_only(self) -> bool:
        """Return whether all that `_run` does to numbers goes through `calls`."""
        return self.axes == 2 and self.padding_mode == "zeros"

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
            N, *size, C = correlator.out_shape
            check_shape(type(self).__name__, "addend", addend, (N, C, *size[-self.axes :]), " (that of the output)")
            addend = pixels_of(addend)
        filters, bias = self._filters(correlator, norm, calls is not AT_ONCE)
        return image_of(correlator.apply(pixels, filters, bias, addend, relu, calls), self.axes)

    def _planned(self, op: str, x: NDArray) -> tuple[NDArray, Plan]:
        """Return x, checked, with its channels last, and the plan of the convolution."""
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            x, padding = padded(op, x, self._widths(op, x), mode=self.padding_mode), 0
        parameters = self.stride, padding, self.dilation, self.groups, "auto", self.output_padding
        return planned(op, x, self.weight, self.bias, *parameters)

    def _widths(self, op: str, x: Any) -> tuple[int, ...]:
        """Return the padding as `pad` takes it."""
        axes = self.window().place(op, as_image(op, "x", x, self.axes).shape[2:])
        return tuple(width for axis in reversed(axes) for width in (axis.before, axis.after))

    def _filters(
        self, correlator: Correlator | VolumeCorrelator, norm: BatchNorm2d | None, keep: bool
    ) -> tuple[Any, NDArray | None]:
        """Return filters in the form that the correlator takes, and the bias, a normalisation folded into both.

        While predicting a few images at a time they are kept, or if `keep` says so: nobody trains, and bringing them
        into that form takes as long as using them.
        """
        bias = data_of(self.bias)
        if self.training or (math.prod(correlator.out_shape[:-1]) > KEPT_PIXELS and not keep):
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
        self, correlator: Correlator | VolumeCorrelator, bias: NDArray | None, norm: BatchNorm2d | None
    ) -> tuple[Any, NDArray | None]:
        weight = self.weight.read()
        if norm is not None:
            scale, shift = norm.scale_and_shift()
            shift = shift if bias is None else shift + bias * scale
            weight, bias = (weight * self._by_output(scale)).astype(weight.dtype), shift.astype(weight.dtype)
        return correlator.prepare(pixels_of(weight)), bias

    def _by_output(self, values: NDArray) -> NDArray:
        """Return a number for each output channel in a shape that multiplies the weight."""
        ones = (1,) * self.axes
        if not self.transposed:
            return values.reshape(-1, 1, *ones)
        # (IC, OC/groups, ...): the outputs of a group belong to its share of the inputs.
        by_group = values.reshape(self.groups, -1).repeat(self.in_channels // self.groups, axis=0)
        return by_group.reshape(*by_group.shape, *ones)

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
        surrounded = self.padding_mode != "zeros"
        direct = None if surrounded else addend
        grad_input, grad_weight, grad_bias = gradients(*arrays, plan, needs, self.transposed, direct)
        accumulate(self.weight, grad_weight)
        accumulate(self.bias, grad_bias)
        if surrounded and grad_input is not None:
            grad_input = padded_backward(op, grad_input, None, self._widths(op, x), self.padding_mode)
            return grad_input if addend is None else add(grad_input, addend)
        return grad_input


class _Correlation(_Convolution):
    """Convolution, as its classes of one, two and three axes take their arguments."""

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
        padding_mode: str = "zeros",
        *,
        initializer: Initializer | str | None = None,
    ) -> None:
        self.kernel_size, self.stride, self.padding = plain(kernel_size), plain(stride), plain(padding)
        self.dilation = plain(dilation)
        self.padding_mode = as_choice(type(self).__name__, "padding_mode", padding_mode, PADDING_MODES)
        self._set(in_channels, out_channels, groups, bias, initializer)


class _Transposed(_Convolution):
    """Transposed convolution, as its classes of one, two and three axes take their arguments."""

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
        self.kernel_size, self.stride, self.padding = plain(kernel_size), plain(stride), plain(padding)
        self.output_padding, self.dilation = plain(output_padding), plain(dilation)
        if self.output_padding is None:
            as_int(type(self).__name__, "output_padding", None)
        self._set(in_channels, out_channels, groups, bias, initializer)


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
    padding : int, (before, after), "same", "valid" or "full", default 0
        What is added around the input, as in `functional.conv2d`.
    groups : int, default 1
        Groups of channels that do not see each other.
    bias : bool, default True
        Whether to add a learned number to each output channel.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}, default "zeros"
        What the padding holds: zeros, or the input continued as by `functional.pad`.
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


class Conv2d(_Correlation):
    """Convolve images with learned kernels.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input and of the output.
    kernel_size : int or pair of ints
        Height and width of the kernels.
    stride, dilation : int or pair of ints, default 1
        Step of the kernel, and distance between its elements.
    padding : int, pair of ints, ((top, bottom), (left, right)), "same", "valid" or "full", default 0
        What is added around the input, as in `functional.conv2d`.
    groups : int, default 1
        Groups of channels that do not see each other; ``groups=in_channels`` is a depthwise convolution.
    bias : bool, default True
        Whether to add a learned number to each output channel.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}, default "zeros"
        What the padding holds: zeros, or the input continued as by `functional.pad`.
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
    axes = 2


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
    padding : int, three ints, (before, after) along each of the three axes, "same", "valid" or "full", default 0
        What is added around the input, as in `functional.conv2d`.
    groups : int, default 1
        Groups of channels that do not see each other.
    bias : bool, default True
        Whether to add a learned number to each output channel.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}, default "zeros"
        What the padding holds: zeros, or the input continued as by `functional.pad`.
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
    padding : int or (before, after), default 0
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


class ConvTranspose2d(_Transposed):
    """Enlarge images by a transposed ("de-") convolution, the adjoint of `Conv2d`.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input and of the output.
    kernel_size : int or pair of ints
        Height and width of the kernels.
    stride, dilation : int or pair of ints, default 1
        Those of the convolution that this is the transpose of: the output is about `stride` times larger.
    padding : int, pair of ints or ((top, bottom), (left, right)), default 0
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
    axes = 2


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
    padding : int, three ints, or (before, after) along each of the three axes, default 0
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
