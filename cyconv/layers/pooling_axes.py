"""Pooling of sequences, (N, C, L), and of volumes, (N, C, D, H, W)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from numpy.typing import NDArray

from cyconv import functional as F
from cyconv._geometry import effective_kernel, pool_output
from cyconv._validation import as_bool
from cyconv.layers.base import Shape
from cyconv.layers.convolution_axes import Windows


class _Pooling(Windows):
    """What both kinds of pooling share."""

    ceil_mode: bool
    dilation: Any = 1

    def _set_window(self, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.ceil_mode = as_bool(type(self).__name__, "ceil_mode", ceil_mode)
        self.window()

    def window(self) -> list[tuple[int, ...]]:
        """Return kernel size, stride, padding and dilation of each axis."""
        kernel, pads, dilation = self._each("kernel_size"), self._each("padding", 0), self._each("dilation")
        stride = kernel if self.stride is None else self._each("stride")
        for i in range(self.axes):
            if pads[i] > effective_kernel(kernel[i], dilation[i]) // 2:
                raise ValueError(f"{type(self).__name__}: `padding` must be at most half of the window, got {pads}")
        return list(zip(kernel, stride, pads, dilation, strict=True))

    def output_shape(self, input_shape: Shape) -> Shape:
        size = self._size(input_shape)
        extents = (
            pool_output(extent, kernel, stride, pads, pads, dilation, self.ceil_mode)
            for extent, (kernel, stride, pads, dilation) in zip(size, self.window(), strict=True)
        )
        return self._fit(input_shape, (input_shape[0], *extents))

    @abstractmethod
    def _options(self) -> tuple[Any, ...]:
        """Return what the operation takes besides arrays."""

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x.shape)
        return getattr(F, self.op)(x, *self._options())

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        shape, *winners = self.recall()
        gradient = self.check_gradient(grad_output, (shape[0], *self.output_shape(shape[1:])))
        found = {"winners": winners[0]} if winners else {}
        return getattr(F, f"{self.op}_backward")(gradient, None, *self._options(), **found, input_shape=shape)


class _MaxPool(_Pooling):
    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> None:
        self.dilation = dilation
        self._set_window(kernel_size, stride, padding, ceil_mode)

    def _options(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode

    def forward(self, x: NDArray) -> NDArray:
        if not self.training:
            return getattr(F, self.op)(x, *self._options())
        output, winners = getattr(F, f"{self.op}_with_winners")(x, *self._options())
        self.remember(x.shape, winners)
        return output


class _AvgPool(_Pooling):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.count_include_pad = as_bool(type(self).__name__, "count_include_pad", count_include_pad)
        self._set_window(kernel_size, stride, padding, ceil_mode)

    def _options(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad


class MaxPool1d(_MaxPool):
    """Take the largest number of each window of sequences.

    Parameters
    ----------
    kernel_size : int
        Size of the window.
    stride : int, optional
        Step; `kernel_size` by default.
    padding : int, default 0
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


class AvgPool1d(_AvgPool):
    """Take the average of each window of sequences.

    Parameters
    ----------
    kernel_size : int
        Size of the window.
    stride : int, optional
        Step; `kernel_size` by default.
    padding : int, default 0
        Zeros around the input; at most half the window.
    ceil_mode : bool, default False
        Whether a last window may hang over the edge.
    count_include_pad : bool, default True
        Whether the zeros of the padding count in the average.

    Examples
    --------
    >>> from cyconv.layers import AvgPool1d
    >>> AvgPool1d(2).output_shape((6, 28))
    (6, 14)
    """

    op = "avg_pool1d"
    axes = 1


class MaxPool3d(_MaxPool):
    """Take the largest number of each box of volumes.

    Parameters
    ----------
    kernel_size : int or three ints
        Size of the box.
    stride : int or three ints, optional
        Step; `kernel_size` by default.
    padding : int or three ints, default 0
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


class AvgPool3d(_AvgPool):
    """Take the average of each box of volumes.

    Parameters
    ----------
    kernel_size : int or three ints
        Size of the box.
    stride : int or three ints, optional
        Step; `kernel_size` by default.
    padding : int or three ints, default 0
        Zeros around the input; at most half the box.
    ceil_mode : bool, default False
        Whether a last box may hang over the edge.
    count_include_pad : bool, default True
        Whether the zeros of the padding count in the average.

    Examples
    --------
    >>> from cyconv.layers import AvgPool3d
    >>> AvgPool3d(2).output_shape((6, 4, 28, 28))
    (6, 2, 14, 14)
    """

    op = "avg_pool3d"
    axes = 3
