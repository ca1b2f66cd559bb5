"""Layers that change the size of their inputs: interpolation, padding, unpooling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from cyconv import functional as F
from cyconv._validation import as_bool, as_choice
from cyconv._window import Axes, plain, pooling_axes, pooling_window, said, sample_shape
from cyconv.functional.max_pool import maximum, maximum_backward, unpooled, unpooled_backward
from cyconv.functional.pad import padded, padded_backward
from cyconv.functional.upsample import MODES, output_size
from cyconv.layers.base import Layer, Shape, Step, image_shape
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
        self.size, self.scale_factor = plain(size), plain(scale_factor)
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
    """Surround sequences, images or volumes with a constant, or continue them over their edges.

    Before a convolution without padding it is what its `padding_mode` does.

    Parameters
    ----------
    padding : int, (left, right), (left, right, top, bottom) or (left, right, top, bottom, front, back)
        Columns, rows and slices to add; an int on all sides.
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
        self.padding = plain(padding)
        self.mode, self.value = mode, value
        axes = {2: 1, 4: 2}.get(len(self.padding), 3) if isinstance(self.padding, tuple) else 2
        self._padded(np.zeros((0, 1, *(2**20,) * axes), np.float32))  # of an empty batch: checks

    def widths(self, axes: int) -> tuple[int, ...]:
        """Return what is added before and after so many axes, the last one first, as `functional.pad` takes it."""
        return self.padding if isinstance(self.padding, tuple) else (self.padding,) * (2 * axes)

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) not in (2, 3, 4):
            raise ValueError(f"Pad: needs sequences, images or volumes, (C, ...), got {tuple(input_shape)}")
        return self._padded(np.zeros((0, *input_shape), np.float32)).shape[1:]

    def _padded(self, x: NDArray) -> NDArray:
        return padded("Pad", x, self.widths(x.ndim - 2), self.value, self.mode)

    def forward(self, x: NDArray) -> NDArray:
        output = self._padded(x)
        self.remember(output.shape)
        return output

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (shape,) = self.recall()
        gradient = self.check_gradient(grad_output, shape)
        return padded_backward("Pad", gradient, None, self.widths(len(shape) - 2), self.mode)


class _MaxUnpool(Container):
    """What max unpooling along one, two and three axes shares."""

    axes: ClassVar[int]

    def __init__(self, body: Layer, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__({"body": body})
        self.kernel_size, self.stride, self.padding = plain(kernel_size), plain(stride), plain(padding)
        window = pooling_window(type(self).__name__, self.axes, self.kernel_size, self.stride, self.padding)
        if any(map(int.__lt__, window.stride, window.kernel)):
            raise ValueError(
                f"{type(self).__name__}: `stride` must be at least `kernel_size` {said(window.kernel)}, "
                f"got {said(window.stride)}"
            )

    def windows(self, size: Shape) -> Axes:
        """Return the windows on an input of `size`, the axes behind the channels; see `cyconv._window`."""
        return pooling_axes(type(self).__name__, size, *self._window())

    def _window(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding, 1, False

    def output_shape(self, input_shape: Shape) -> Shape:
        pooled = self._pooled(input_shape)
        self._check(self["body"].output_shape(pooled), pooled)
        return tuple(input_shape)

    def trace(self, input_shape: Shape, prefix: str = "") -> Iterator[Step]:
        yield from self["body"].trace(self._pooled(input_shape), f"{prefix}body.")
        yield from super().trace(input_shape, prefix)  # pooling and unpooling

    def forward(self, x: NDArray) -> NDArray:
        op = f"max_pool{self.axes}d"
        pooled, indices = maximum(op, self.axes, x, *self._window(), return_indices=True)
        inner = self["body"].forward(cast(NDArray, pooled))
        self._check(inner.shape, pooled.shape)
        self.remember(x, inner, indices)
        return unpooled(f"max_unpool{self.axes}d", self.axes, inner, indices, *self._places(x))

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        x, inner, indices = self.recall()
        op = f"max_unpool{self.axes}d_backward"
        of_body = unpooled_backward(op, self.axes, grad_output, inner, indices, *self._places(x))
        gradient = self["body"].backward(of_body, needs_grad_input)
        op = f"max_pool{self.axes}d_backward"
        return None if gradient is None else maximum_backward(op, self.axes, gradient, x, None, None, *self._window())

    def _places(self, x: NDArray) -> tuple[Any, ...]:
        """Return what unpooling takes: the padding says nothing where the size is given."""
        return self.kernel_size, self.stride, 0, x.shape[2:]

    def _pooled(self, input_shape: Shape) -> Shape:
        C, *size = sample_shape(type(self).__name__, input_shape, self.axes)
        return C, *(axis.output for axis in self.windows(tuple(size)))

    def _check(self, returned: Shape, given: Shape) -> None:
        if tuple(returned) != tuple(given):
            raise ValueError(
                f"{type(self).__name__}: `body` must return the shape that it is given, {given}, got {returned}"
            )


class MaxUnpool1d(_MaxUnpool):
    """Pool sequences, let layers work on what is left, and put their numbers back where the maxima were.

    A deconvolution network (Noh, Hong and Han 2015) nests one in another.

    Parameters
    ----------
    body : Layer
        What works between pooling and unpooling; it must return sequences of the shape that it is given.
    kernel_size : int
        Size of the windows.
    stride : int, optional
        Step between windows; `kernel_size` by default, and not less, for a maximum has one place.
    padding : int, (before, after), "same" or "valid", default 0
        Positions around the input that never win.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import Identity, MaxUnpool1d
    >>> MaxUnpool1d(Identity(), 2)(np.array([[[1.0, 5.0, 2.0, 3.0]]]))
    array([[[0., 5., 0., 3.]]])
    """

    axes = 1


class MaxUnpool2d(_MaxUnpool):
    """Pool images, let layers work on what is left, and put their numbers back where the maxima were.

    A deconvolution network (Noh, Hong and Han 2015) nests one in another.

    Parameters
    ----------
    body : Layer
        What works between pooling and unpooling; it must return images of the shape that it is given.
    kernel_size : int or pair of ints
        Size of the windows.
    stride : int or pair of ints, optional
        Step between windows; `kernel_size` by default, and not less, for a maximum has one place.
    padding : int, pair of ints, ((top, bottom), (left, right)), "same" or "valid", default 0
        Positions around the input that never win.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import Identity, MaxUnpool2d
    >>> MaxUnpool2d(Identity(), 2)(np.arange(4.0).reshape(1, 1, 2, 2))
    array([[[[0., 0.],
             [0., 3.]]]])
    """

    axes = 2


class MaxUnpool3d(_MaxUnpool):
    """Pool volumes, let layers work on what is left, and put their numbers back where the maxima were.

    A deconvolution network (Noh, Hong and Han 2015) nests one in another.

    Parameters
    ----------
    body : Layer
        What works between pooling and unpooling; it must return volumes of the shape that it is given.
    kernel_size : int or three ints
        Size of the windows.
    stride : int or three ints, optional
        Step between windows; `kernel_size` by default, and not less, for a maximum has one place.
    padding : int, three ints, (before, after) along each of the three axes, "same" or "valid", default 0
        Positions around the input that never win.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import Identity, MaxUnpool3d
    >>> MaxUnpool3d(Identity(), (2, 1, 2))(np.arange(4.0).reshape(1, 1, 2, 1, 2)).ravel()
    array([0., 0., 0., 3.])
    """

    axes = 3
