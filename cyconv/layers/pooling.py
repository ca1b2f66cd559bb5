"""Pooling: images made smaller by the largest or the average number of each window."""

from __future__ import annotations

from typing import Any, cast

from numpy.typing import NDArray

from cyconv import functional as F
from cyconv._geometry import Pair, effective_kernel, pool_output
from cyconv._validation import as_pair
from cyconv.functional.avg_pool import averaged, averaged_over_parts
from cyconv.functional.max_pool import largest
from cyconv.layers.base import Layer, Shape, completed, image_shape, windows_fit
from cyconv.layers.recording import Recording


class MaxPool2d(Layer):
    """Take the largest number of each window.

    Parameters
    ----------
    kernel_size : int or pair of ints
        Height and width of the windows.
    stride : int or pair of ints, optional
        Step between windows; `kernel_size` by default.
    padding : int or pair of ints, default 0
        Rows and columns around the input that never win; at most half the window.
    dilation : int or pair of ints, default 1
        Distance between the elements of a window.
    ceil_mode : bool, default False
        Whether a last window may hang over the edge.

    Examples
    --------
    >>> from cyconv.layers import MaxPool2d
    >>> MaxPool2d(3, stride=2).output_shape((96, 55, 55))
    (96, 27, 27)
    """

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.dilation, self.ceil_mode = dilation, ceil_mode
        _window("MaxPool2d", kernel_size, stride, padding, dilation)

    def output_shape(self, input_shape: Shape) -> Shape:
        window = _window("MaxPool2d", self.kernel_size, self.stride, self.padding, self.dilation)
        return _pooled("MaxPool2d", input_shape, window, self.ceil_mode)

    def forward(self, x: NDArray) -> NDArray:
        arguments = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        if not self.training:
            return cast(NDArray, F.max_pool2d(x, *arguments))
        output, winners = F.max_pool2d_with_winners(x, *arguments)
        self.remember(x.shape, winners)
        return output

    def record(self, x: NDArray, addend: NDArray | None, relu: bool, calls: Recording) -> NDArray:
        arguments = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        return completed("MaxPool2d", largest("max_pool2d", x, *arguments, calls), addend, relu, calls)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        shape, winners = self.recall()
        arguments = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        return F.max_pool2d_backward(grad_output, None, *arguments, winners=winners, input_shape=shape)


class AvgPool2d(Layer):
    """Take the average of each window.

    Parameters
    ----------
    kernel_size : int or pair of ints
        Height and width of the windows.
    stride : int or pair of ints, optional
        Step between windows; `kernel_size` by default.
    padding : int or pair of ints, default 0
        Rows and columns of zeros around the input; at most half the window.
    ceil_mode : bool, default False
        Whether a last window may hang over the edge.
    count_include_pad : bool, default True
        Whether the zeros of the padding count in the average.

    Examples
    --------
    >>> from cyconv.layers import AvgPool2d
    >>> AvgPool2d(2).output_shape((6, 28, 28))
    (6, 14, 14)
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad
        _window("AvgPool2d", kernel_size, stride, padding)

    def output_shape(self, input_shape: Shape) -> Shape:
        window = _window("AvgPool2d", self.kernel_size, self.stride, self.padding)
        return _pooled("AvgPool2d", input_shape, window, self.ceil_mode)

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x.shape)
        return F.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def record(self, x: NDArray, addend: NDArray | None, relu: bool, calls: Recording) -> NDArray:
        arguments = self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad, None
        return completed("AvgPool2d", averaged("avg_pool2d", x, *arguments, calls=calls), addend, relu, calls)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (shape,) = self.recall()
        arguments = self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        return F.avg_pool2d_backward(grad_output, None, *arguments, input_shape=shape)


class GlobalAvgPool2d(Layer):
    """Average each channel over the whole image: (N, C, H, W) becomes (N, C, 1, 1).

    Examples
    --------
    >>> from cyconv.layers import GlobalAvgPool2d
    >>> GlobalAvgPool2d().output_shape((512, 7, 7))
    (512, 1, 1)
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        C, *_ = image_shape("GlobalAvgPool2d", input_shape)
        return C, 1, 1

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x.shape)
        return F.global_avg_pool2d(x)

    def record(self, x: NDArray, addend: NDArray | None, relu: bool, calls: Recording) -> NDArray:
        output = averaged_over_parts("global_avg_pool2d", x, 1, calls)
        return completed("GlobalAvgPool2d", output, addend, relu, calls)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (shape,) = self.recall()
        return F.global_avg_pool2d_backward(grad_output, input_shape=shape)


class _Adaptive(Layer):
    """Pooling to a fixed size."""

    def __init__(self, output_size: Any) -> None:
        self.output_size = output_size
        as_pair(type(self).__name__, "output_size", output_size)

    def output_shape(self, input_shape: Shape) -> Shape:
        op = type(self).__name__
        C, *_ = image_shape(op, input_shape)
        return C, *as_pair(op, "output_size", self.output_size)


class AdaptiveMaxPool2d(_Adaptive):
    """Take the largest number of each of a fixed number of windows, as equal as they can be.

    Parameters
    ----------
    output_size : int or pair of ints
        Height and width of the output.

    Examples
    --------
    >>> from cyconv.layers import AdaptiveMaxPool2d
    >>> AdaptiveMaxPool2d(7).output_shape((512, 10, 13))
    (512, 7, 7)
    """

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x)
        return cast(NDArray, F.adaptive_max_pool2d(x, self.output_size))

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (x,) = self.recall()
        return F.adaptive_max_pool2d_backward(grad_output, x, self.output_size)


class AdaptiveAvgPool2d(_Adaptive):
    """Average the image down to a fixed size, with windows as equal as they can be.

    Parameters
    ----------
    output_size : int or pair of ints
        Height and width of the output.

    Examples
    --------
    >>> from cyconv.layers import AdaptiveAvgPool2d
    >>> AdaptiveAvgPool2d(7).output_shape((512, 10, 13))
    (512, 7, 7)
    """

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x.shape)
        return F.adaptive_avg_pool2d(x, self.output_size)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (shape,) = self.recall()
        return F.adaptive_avg_pool2d_backward(grad_output, output_size=self.output_size, input_shape=shape)


def _window(op: str, kernel_size: Any, stride: Any, padding: Any, dilation: Any = 1) -> tuple[Pair, ...]:
    """Return kernel size, stride, padding and dilation as pairs."""
    kernel = as_pair(op, "kernel_size", kernel_size)
    pads = as_pair(op, "padding", padding, 0)
    spread = as_pair(op, "dilation", dilation)
    span = tuple(effective_kernel(kernel[i], spread[i]) for i in (0, 1))
    if pads[0] > span[0] // 2 or pads[1] > span[1] // 2:
        raise ValueError(f"{op}: `padding` must be at most half of the window, {span}, got {pads}")
    step = kernel if stride is None else as_pair(op, "stride", stride)
    return kernel, step, pads, spread


def _pooled(op: str, input_shape: Shape, window: tuple[Pair, ...], ceil_mode: bool) -> Shape:
    """Return the shape of the pooled image."""
    C, *size = image_shape(op, input_shape)
    kernel, stride, padding, dilation = window
    OH, OW = (
        pool_output(size[i], kernel[i], stride[i], padding[i], padding[i], dilation[i], ceil_mode) for i in (0, 1)
    )
    return windows_fit(op, input_shape, (C, OH, OW))
