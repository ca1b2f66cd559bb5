"""Pooling of sequences, images and volumes by the largest or the average number of each window."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, cast

from numpy.typing import NDArray

from cyconv._validation import as_bool, as_int
from cyconv._window import Axes, adaptive_axes, adaptive_outputs, plain, pooling_axes, pooling_window, sample_shape
from cyconv.functional.avg_pool import (
    averaged,
    averaged_backward,
    averaged_over_parts,
    averaged_over_parts_backward,
)
from cyconv.functional.max_pool import (
    adaptive_maximum,
    adaptive_maximum_backward,
    maximum,
    maximum_backward,
    maximum_with_winners,
)
from cyconv.layers.base import Layer, Shape, completed
from cyconv.layers.recording import Recording


class _Pooling(Layer):
    """What all pooling shares: windows, by the shape of the input."""

    op: ClassVar[str]  # in `functional`
    axes: ClassVar[int]

    @abstractmethod
    def windows(self, size: Shape) -> Axes:
        """Return the windows on an input of `size`, the axes behind the channels; see `cyconv._window`."""

    def output_shape(self, input_shape: Shape) -> Shape:
        C, *size = sample_shape(type(self).__name__, input_shape, self.axes)
        return C, *(axis.output for axis in self.windows(tuple(size)))


class _WindowPooling(_Pooling):
    """Pooling by windows of a given size."""

    kernel_size: Any
    stride: Any
    padding: Any
    dilation: Any = 1
    ceil_mode: bool

    def _set(self, kernel_size: Any, stride: Any, padding: Any, ceil_mode: Any) -> None:
        self.kernel_size, self.stride, self.padding = plain(kernel_size), plain(stride), plain(padding)
        self.ceil_mode = as_bool(type(self).__name__, "ceil_mode", ceil_mode)
        pooling_window(type(self).__name__, self.axes, *self._window())

    def _window(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode

    def windows(self, size: Shape) -> Axes:
        return pooling_axes(type(self).__name__, size, *self._window())


class _MaxPool(_WindowPooling):
    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> None:
        self.dilation = plain(dilation)
        self._set(kernel_size, stride, padding, ceil_mode)

    def forward(self, x: NDArray) -> NDArray:
        if not self.training:
            window = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
            return cast(NDArray, maximum(self.op, self.axes, x, *window))
        output, winners = maximum_with_winners(self.op, self.axes, x, *self._window())
        self.remember(x.shape, winners)
        return output

    def record(self, x: NDArray, addend: NDArray | None, relu: bool, calls: Recording) -> NDArray:
        if self.axes != 2:
            return super().record(x, addend, relu, calls)
        output = cast(NDArray, maximum(self.op, self.axes, x, *self._window(), calls=calls))
        return completed(type(self).__name__, output, addend, relu, calls)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        shape, winners = self.recall()
        op = f"{self.op}_backward"
        return maximum_backward(op, self.axes, grad_output, None, winners, shape, *self._window())


class _AvgPool(_WindowPooling):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        op = type(self).__name__
        self.count_include_pad = as_bool(op, "count_include_pad", count_include_pad)
        self.divisor_override = None if divisor_override is None else as_int(op, "divisor_override", divisor_override)
        self._set(kernel_size, stride, padding, ceil_mode)

    def _arguments(self) -> tuple[Any, ...]:
        window = self.kernel_size, self.stride, self.padding, self.ceil_mode
        return *window, self.count_include_pad, self.divisor_override

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x.shape)
        return averaged(self.op, self.axes, x, *self._arguments())

    def record(self, x: NDArray, addend: NDArray | None, relu: bool, calls: Recording) -> NDArray:
        if self.axes != 2:
            return super().record(x, addend, relu, calls)
        output = averaged(self.op, self.axes, x, *self._arguments(), calls=calls)
        return completed(type(self).__name__, output, addend, relu, calls)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (shape,) = self.recall()
        return averaged_backward(f"{self.op}_backward", self.axes, grad_output, None, shape, *self._arguments())


class _Adaptive(_Pooling):
    """Pooling to a fixed size."""

    def __init__(self, output_size: Any) -> None:
        self.output_size = plain(output_size)
        adaptive_outputs(type(self).__name__, self.axes, self.output_size)

    def windows(self, size: Shape) -> Axes:
        return adaptive_axes(type(self).__name__, size, self.output_size)


class _AdaptiveMaxPool(_Adaptive):
    def forward(self, x: NDArray) -> NDArray:
        self.remember(x)
        return cast(NDArray, adaptive_maximum(self.op, self.axes, x, self.output_size))

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (x,) = self.recall()
        return adaptive_maximum_backward(f"{self.op}_backward", self.axes, grad_output, x, self.output_size)


class _AdaptiveAvgPool(_Adaptive):
    def forward(self, x: NDArray) -> NDArray:
        self.remember(x.shape)
        return averaged_over_parts(self.op, self.axes, x, self.output_size)

    def record(self, x: NDArray, addend: NDArray | None, relu: bool, calls: Recording) -> NDArray:
        if self.axes != 2:
            return super().record(x, addend, relu, calls)
        output = averaged_over_parts(self.op, self.axes, x, self.output_size, calls)
        return completed(type(self).__name__, output, addend, relu, calls)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (shape,) = self.recall()
        op = f"{self.op}_backward"
        return averaged_over_parts_backward(op, self.axes, grad_output, None, shape, self.output_size)


class _GlobalAvgPool(_AdaptiveAvgPool):
    def __init__(self) -> None:
        super().__init__(1)


class MaxPool1d(_MaxPool):
    """Take the largest number of each window of sequences.

    Parameters
    ----------
    kernel_size : int
        Size of the window.
    stride : int, optional
        Step; `kernel_size` by default.
    padding : int, (before, after), "same" or "valid", default 0
        Positions around the input that never win; at most half the window.
    dilation : int, default 1
        Distance between the elements of a window.
    ceil_mode : bool, default False
        Whether a last window may hang over the edge.

    Examples
    --------
    >>> from cyconv.layers import MaxPool1d
    >>> MaxPool1d(2).output_shape((6, 28))
    (6, 14)
    """

    op = "max_pool1d"
    axes = 1


class MaxPool2d(_MaxPool):
    """Take the largest number of each window.

    Parameters
    ----------
    kernel_size : int or pair of ints
        Height and width of the windows.
    stride : int or pair of ints, optional
        Step between windows; `kernel_size` by default.
    padding : int, pair of ints, ((top, bottom), (left, right)), "same" or "valid", default 0
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

    op = "max_pool2d"
    axes = 2


class MaxPool3d(_MaxPool):
    """Take the largest number of each box of volumes.

    Parameters
    ----------
    kernel_size : int or three ints
        Size of the box.
    stride : int or three ints, optional
        Step; `kernel_size` by default.
    padding : int, three ints, (before, after) along each of the three axes, "same" or "valid", default 0
        Positions around the input that never win; at most half the box.
    dilation : int or three ints, default 1
        Distance between the elements of a box.
    ceil_mode : bool, default False
        Whether a last box may hang over the edge.

    Examples
    --------
    >>> from cyconv.layers import MaxPool3d
    >>> MaxPool3d(2).output_shape((6, 4, 28, 28))
    (6, 2, 14, 14)
    """

    op = "max_pool3d"
    axes = 3


class AvgPool1d(_AvgPool):
    """Take the average of each window of sequences.

    Parameters
    ----------
    kernel_size : int
        Size of the window.
    stride : int, optional
        Step; `kernel_size` by default.
    padding : int, (before, after), "same" or "valid", default 0
        Zeros around the input; at most half the window.
    ceil_mode : bool, default False
        Whether a last window may hang over the edge.
    count_include_pad : bool, default True
        Whether the zeros of the padding count in the average.
    divisor_override : int, optional
        Divide every sum by this instead.

    Examples
    --------
    >>> from cyconv.layers import AvgPool1d
    >>> AvgPool1d(2).output_shape((6, 28))
    (6, 14)
    """

    op = "avg_pool1d"
    axes = 1


class AvgPool2d(_AvgPool):
    """Take the average of each window.

    Parameters
    ----------
    kernel_size : int or pair of ints
        Height and width of the windows.
    stride : int or pair of ints, optional
        Step between windows; `kernel_size` by default.
    padding : int, pair of ints, ((top, bottom), (left, right)), "same" or "valid", default 0
        Rows and columns of zeros around the input; at most half the window.
    ceil_mode : bool, default False
        Whether a last window may hang over the edge.
    count_include_pad : bool, default True
        Whether the zeros of the padding count in the average.
    divisor_override : int, optional
        Divide every sum by this instead.

    Examples
    --------
    >>> from cyconv.layers import AvgPool2d
    >>> AvgPool2d(2).output_shape((6, 28, 28))
    (6, 14, 14)
    """

    op = "avg_pool2d"
    axes = 2


class AvgPool3d(_AvgPool):
    """Take the average of each box of volumes.

    Parameters
    ----------
    kernel_size : int or three ints
        Size of the box.
    stride : int or three ints, optional
        Step; `kernel_size` by default.
    padding : int, three ints, (before, after) along each of the three axes, "same" or "valid", default 0
        Zeros around the input; at most half the box.
    ceil_mode : bool, default False
        Whether a last box may hang over the edge.
    count_include_pad : bool, default True
        Whether the zeros of the padding count in the average.
    divisor_override : int, optional
        Divide every sum by this instead.

    Examples
    --------
    >>> from cyconv.layers import AvgPool3d
    >>> AvgPool3d(2).output_shape((6, 4, 28, 28))
    (6, 2, 14, 14)
    """

    op = "avg_pool3d"
    axes = 3


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Take the largest number of each of a fixed number of windows, as equal as they can be.

    Parameters
    ----------
    output_size : int or None
        Length of the output; None keeps the input's.

    Examples
    --------
    >>> from cyconv.layers import AdaptiveMaxPool1d
    >>> AdaptiveMaxPool1d(7).output_shape((512, 10))
    (512, 7)
    """

    op = "adaptive_max_pool1d"
    axes = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Take the largest number of each of a fixed number of windows, as equal as they can be.

    Parameters
    ----------
    output_size : int, None or a pair of them
        Height and width of the output; None keeps the input's.

    Examples
    --------
    >>> from cyconv.layers import AdaptiveMaxPool2d
    >>> AdaptiveMaxPool2d(7).output_shape((512, 10, 13))
    (512, 7, 7)
    """

    op = "adaptive_max_pool2d"
    axes = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Take the largest number of each of a fixed number of windows, as equal as they can be.

    Parameters
    ----------
    output_size : int, None or three of them
        Depth, height and width of the output; None keeps the input's.

    Examples
    --------
    >>> from cyconv.layers import AdaptiveMaxPool3d
    >>> AdaptiveMaxPool3d(7).output_shape((512, 9, 10, 13))
    (512, 7, 7, 7)
    """

    op = "adaptive_max_pool3d"
    axes = 3


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Average sequences down to a fixed size, with windows as equal as they can be.

    Parameters
    ----------
    output_size : int or None
        Length of the output; None keeps the input's.

    Examples
    --------
    >>> from cyconv.layers import AdaptiveAvgPool1d
    >>> AdaptiveAvgPool1d(7).output_shape((512, 10))
    (512, 7)
    """

    op = "adaptive_avg_pool1d"
    axes = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Average images down to a fixed size, with windows as equal as they can be.

    Parameters
    ----------
    output_size : int, None or a pair of them
        Height and width of the output; None keeps the input's.

    Examples
    --------
    >>> from cyconv.layers import AdaptiveAvgPool2d
    >>> AdaptiveAvgPool2d(7).output_shape((512, 10, 13))
    (512, 7, 7)
    """

    op = "adaptive_avg_pool2d"
    axes = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Average volumes down to a fixed size, with windows as equal as they can be.

    Parameters
    ----------
    output_size : int, None or three of them
        Depth, height and width of the output; None keeps the input's.

    Examples
    --------
    >>> from cyconv.layers import AdaptiveAvgPool3d
    >>> AdaptiveAvgPool3d(7).output_shape((512, 9, 10, 13))
    (512, 7, 7, 7)
    """

    op = "adaptive_avg_pool3d"
    axes = 3


class GlobalAvgPool1d(_GlobalAvgPool):
    """Average each channel over the whole sequence: (N, C, L) becomes (N, C, 1).

    Examples
    --------
    >>> from cyconv.layers import GlobalAvgPool1d
    >>> GlobalAvgPool1d().output_shape((512, 7))
    (512, 1)
    """

    op = "global_avg_pool1d"
    axes = 1


class GlobalAvgPool2d(_GlobalAvgPool):
    """Average each channel over the whole image: (N, C, H, W) becomes (N, C, 1, 1).

    Examples
    --------
    >>> from cyconv.layers import GlobalAvgPool2d
    >>> GlobalAvgPool2d().output_shape((512, 7, 7))
    (512, 1, 1)
    """

    op = "global_avg_pool2d"
    axes = 2


class GlobalAvgPool3d(_GlobalAvgPool):
    """Average each channel over the whole volume: (N, C, D, H, W) becomes (N, C, 1, 1, 1).

    Examples
    --------
    >>> from cyconv.layers import GlobalAvgPool3d
    >>> GlobalAvgPool3d().output_shape((512, 7, 7, 7))
    (512, 1, 1, 1)
    """

    op = "global_avg_pool3d"
    axes = 3
