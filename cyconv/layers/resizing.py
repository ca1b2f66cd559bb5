"""Layers that change the size of images: interpolation, padding, unpooling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cyconv import functional as F
from cyconv._geometry import pool_output
from cyconv._validation import as_bool, as_choice, as_pair
from cyconv.functional.upsample import MODES, output_size
from cyconv.layers.base import Layer, Shape, Step, image_shape, windows_fit
from cyconv.layers.containers import Container


class Upsample(Layer):
    """Bring images to another size by copying or interpolating pixels.

    Parameters
    ----------
    size : int or pair of ints, optional
        Height and width of the output; either this or `scale_factor`.
    scale_factor : float or pair of floats, optional
        Output by input; sizes are rounded down.
    mode : {"nearest", "bilinear"}, default "nearest"
        Copy the nearest pixel, or weight the four nearest.
    align_corners : bool, default False
        For "bilinear": whether the centres of the corner pixels keep their places.

    Examples
    --------
    >>> from cyconv.layers import Upsample
    >>> Upsample(scale_factor=2).output_shape((8, 14, 14))
    (8, 28, 28)
    """

    def __init__(
        self, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool = False
    ) -> None:
        self.size, self.scale_factor = size, scale_factor
        self.mode = as_choice("Upsample", "mode", mode, MODES)
        self.align_corners = as_bool("Upsample", "align_corners", align_corners)
        output_size("Upsample", (2**20, 2**20), size, scale_factor)

    def output_shape(self, input_shape: Shape) -> Shape:
        C, H, W = image_shape("Upsample", input_shape)
        return C, *output_size("Upsample", (H, W), self.size, self.scale_factor)[0]

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x.shape)
        return F.interpolate(x, self.size, self.scale_factor, self.mode, self.align_corners)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (shape,) = self.recall()
        arguments = self.size, self.scale_factor, self.mode, self.align_corners
        return F.interpolate_backward(grad_output, None, *arguments, input_shape=shape)


class Pad(Layer):
    """Surround images with a constant, or continue them over their edges.

    Before a convolution without padding it is what other libraries call the convolution's padding mode.

    Parameters
    ----------
    padding : int, (left, right) or (left, right, top, bottom)
        Columns and rows to add; an int on all sides.
    mode : {"constant", "reflect", "replicate", "circular"}, default "constant"
        Fill with `value`, mirror, repeat the edge, or go on at the other side.
    value : float, default 0.0
        The constant.

    Examples
    --------
    >>> from cyconv.layers import Conv2d, Pad, Sequential
    >>> Sequential(Pad(1, mode="reflect"), Conv2d(3, 8, 3)).output_shape((3, 32, 32))
    (8, 32, 32)
    """

    def __init__(self, padding: Any, mode: str = "constant", value: float = 0.0) -> None:
        self.padding: tuple[int, ...] = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * 4
        self.mode, self.value = mode, value
        empty = np.zeros((0, 1, 2**20, 2**20), np.float32)
        F.pad(empty, self.padding, value, mode=mode)  # of an empty batch: checks

    def output_shape(self, input_shape: Shape) -> Shape:
        empty = np.zeros((0, *image_shape("Pad", input_shape)), np.float32)
        return F.pad(empty, self.padding, self.value, mode=self.mode).shape[1:]

    def forward(self, x: NDArray) -> NDArray:
        output = F.pad(x, self.padding, self.value, mode=self.mode)
        self.remember(output.shape)
        return output

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (shape,) = self.recall()
        gradient = self.check_gradient(grad_output, shape)
        return F.pad_backward(gradient, None, self.padding, mode=self.mode)


class MaxUnpool2d(Container):
    """Pool, let layers work on the smaller image, and put their numbers back where the maxima were.

    A deconvolution network (Noh, Hong and Han 2015) nests one in another.

    Parameters
    ----------
    body : Layer
        What works between pooling and unpooling; it must return images of the shape that it is given.
    kernel_size : int or pair of ints
        Height and width of the windows.
    stride : int or pair of ints, optional
        Step between windows; `kernel_size` by default, and not less, for a maximum has one place.
    padding : int or pair of ints, default 0
        Rows and columns around the input that never win.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import Identity, MaxUnpool2d
    >>> MaxUnpool2d(Identity(), 2)(np.arange(4.0).reshape(1, 1, 2, 2))
    array([[[[0., 0.],
             [0., 3.]]]])
    """

    def __init__(self, body: Layer, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__({"body": body})
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        kernel = as_pair("MaxUnpool2d", "kernel_size", kernel_size)
        step = kernel if stride is None else as_pair("MaxUnpool2d", "stride", stride)
        if step[0] < kernel[0] or step[1] < kernel[1]:
            raise ValueError(f"MaxUnpool2d: `stride` must be at least `kernel_size` {kernel}, got {step}")
        as_pair("MaxUnpool2d", "padding", padding, 0)

    def output_shape(self, input_shape: Shape) -> Shape:
        shape, pooled = image_shape("MaxUnpool2d", input_shape), self._pooled(input_shape)
        self._check(self["body"].output_shape(pooled), pooled)
        return shape

    def trace(self, input_shape: Shape, prefix: str = "") -> Iterator[Step]:
        yield from self["body"].trace(self._pooled(input_shape), f"{prefix}body.")
        yield from super().trace(input_shape, prefix)  # pooling and unpooling

    def forward(self, x: NDArray) -> NDArray:
        window = self.kernel_size, self.stride, self.padding
        pooled, indices = cast("tuple[NDArray, NDArray]", F.max_pool2d(x, *window, return_indices=True))
        inner = self["body"].forward(pooled)
        self._check(inner.shape, pooled.shape)
        self.remember(x, inner, indices)
        return F.max_unpool2d(inner, indices, *window, output_size=x.shape[2:])

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        x, inner, indices = self.recall()
        window = self.kernel_size, self.stride, self.padding
        of_body = F.max_unpool2d_backward(grad_output, inner, indices, *window, output_size=x.shape[2:])
        gradient = self["body"].backward(of_body, needs_grad_input)
        return None if gradient is None else F.max_pool2d_backward(gradient, x, *window)

    def _pooled(self, input_shape: Shape) -> tuple[int, int, int]:
        C, *size = image_shape("MaxUnpool2d", input_shape)
        kernel = as_pair("MaxUnpool2d", "kernel_size", self.kernel_size)
        stride = kernel if self.stride is None else as_pair("MaxUnpool2d", "stride", self.stride)
        pads = as_pair("MaxUnpool2d", "padding", self.padding, 0)
        OH, OW = (pool_output(size[i], kernel[i], stride[i], pads[i], pads[i], 1, False) for i in (0, 1))
        return windows_fit("MaxUnpool2d", input_shape, (C, OH, OW))

    def _check(self, returned: Shape, given: Shape) -> None:
        if tuple(returned) != tuple(given):
            raise ValueError(f"MaxUnpool2d: `body` must return the shape that it is given, {given}, got {returned}")
