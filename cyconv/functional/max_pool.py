"""Max pooling over windows, plain and adaptive, with its gradient and partial inverse.

The public functions of one and three axes are in `pool1d` and `pool3d`; what they do is here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv import memory
from cyconv._dispatch import max_pool2d as kernels
from cyconv._geometry import Pair
from cyconv._window import Axes, adaptive_axes, pooling_axes, said, window
from cyconv.functional._arrays import (
    NCHW,
    as_columns,
    as_images,
    as_volumes,
    channels_last,
    empty_image,
    image_of,
    nhwc,
    pixels_of,
)
from cyconv.functional._calls import AT_ONCE, Calls
from cyconv.functional._pooling import Shape, along_depth, check_backward, check_grad, plane
from cyconv.functional._windows import are_apart, covering, most_readers, windows
from cyconv.threads import threads_for

READERS = 32  # of a pixel, above which one addition for each output is cheaper than a vector for each tap
FEW = 16  # channels, below which it is so wherever windows overlap (and for 1 or 2 channels everywhere)
Winners = NDArray | tuple[NDArray, NDArray]  # of volumes: those of the slices, and those along the depth


def max_pool2d(
    x: ArrayLike,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Any = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> NDArray | tuple[NDArray, NDArray[np.int64]]:
    """Return the maximum of each window.

    Parameters
    ----------
    x : array_like of shape (N, C, H, W)
        float32 or float64.
    kernel_size : int or pair of int
        Size of the window.
    stride : int or pair of int, optional
        Step from window to window; default `kernel_size`.
    padding : int, pair, ((top, bottom), (left, right)), "same" or "valid", default 0
        Positions around the image that never win; at most half of the window. "same" gives ceil(size / stride) outputs.
    dilation : int or pair of int, default 1
        Step from position to position within a window.
    ceil_mode : bool, default False
        Whether a last window may hang over the end of the image.
    return_indices : bool, default False
        Whether to return also where the maxima are.

    Returns
    -------
    output : ndarray of shape (N, C, OH, OW)
    indices : ndarray of int64 and of shape (N, C, OH, OW), if `return_indices`
        Position ``h * W + w`` of each maximum: the first of equals.

    Raises
    ------
    TypeError
        If `x` is not float32 or float64, or a size is not an integer.
    ValueError
        If a size is out of range, or no window fits.

    Notes
    -----
    A NaN in a window is its maximum, as in PyTorch.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> F.max_pool2d(x, 2)
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """
    arguments = kernel_size, stride, padding, dilation, ceil_mode
    return maximum("max_pool2d", 2, x, *arguments, return_indices=return_indices)


def max_pool2d_with_winners(
    x: ArrayLike,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Any = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
) -> tuple[NDArray, Winners]:
    """Return the maximum of each window, and compactly where it is: what a layer keeps for `max_pool2d_backward`.

    Parameters
    ----------
    x, kernel_size, stride, padding, dilation, ceil_mode
        As in `max_pool2d`.

    Returns
    -------
    output : ndarray of shape (N, C, OH, OW)
    winners : ndarray of shape (N, OH, OW, C)
        Position ``kh * KW + kw`` of each maximum in its window: uint8, or int32 if a window has over 256 positions.

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> output, winners = F.max_pool2d_with_winners(np.arange(4.0).reshape(1, 1, 2, 2), 2)
    >>> winners
    array([[[[3]]]], dtype=uint8)
    """
    return maximum_with_winners("max_pool2d_with_winners", 2, x, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d_backward(
    grad_output: ArrayLike,
    x: ArrayLike | None,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Any = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
    *,
    winners: NDArray | None = None,
    input_shape: Shape | None = None,
) -> NDArray:
    """Return the gradient of `max_pool2d` with respect to `x`: each output's gradient goes to its maximum.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OH, OW)
    x, kernel_size, stride, padding, dilation, ceil_mode
        As in `max_pool2d`.
    winners : ndarray of shape (N, OH, OW, C), optional
        From `max_pool2d_with_winners`: the maxima are not searched again, and `x` may be None.
    input_shape : tuple (N, C, H, W), optional
        The shape of `x` where `x` is None.

    Returns
    -------
    ndarray of shape (N, C, H, W)

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d`, and if an array has the wrong shape, or `winners` names no position of a window.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.max_pool2d_backward(np.ones((1, 1, 1, 1)), np.arange(4.0).reshape(1, 1, 2, 2), 2)
    array([[[[0., 0.],
             [0., 1.]]]])
    """
    arguments = kernel_size, stride, padding, dilation, ceil_mode
    return maximum_backward("max_pool2d_backward", 2, grad_output, x, winners, input_shape, *arguments)


def adaptive_max_pool2d(
    x: ArrayLike, output_size: Any, return_indices: bool = False
) -> NDArray | tuple[NDArray, NDArray[np.int64]]:
    """Return the maxima of windows that divide the image into OH x OW nearly equal parts.

    Parameters
    ----------
    x : array_like of shape (N, C, H, W)
        float32 or float64.
    output_size : int, None or pair of them
        OH and OW; None keeps H or W.
    return_indices : bool, default False
        As in `max_pool2d`.

    Returns
    -------
    output : ndarray of shape (N, C, OH, OW)
    indices : ndarray of int64 and of shape (N, C, OH, OW), if `return_indices`

    Raises
    ------
    TypeError, ValueError
        If `x` is not a float image, or `output_size` not positive.

    Notes
    -----
    Part i of O along an axis of I positions is [floor(i I / O), ceil((i + 1) I / O)), as in PyTorch.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.adaptive_max_pool2d(np.arange(5.0).reshape(1, 1, 1, 5), (1, 2))
    array([[[[2., 4.]]]])
    """
    return adaptive_maximum("adaptive_max_pool2d", 2, x, output_size, return_indices)


def adaptive_max_pool2d_backward(grad_output: ArrayLike, x: ArrayLike, output_size: Any) -> NDArray:
    """Return the gradient of `adaptive_max_pool2d` with respect to `x`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OH, OW)
    x, output_size
        As in `adaptive_max_pool2d`.

    Returns
    -------
    ndarray of shape (N, C, H, W)

    Raises
    ------
    TypeError, ValueError
        As `adaptive_max_pool2d`, and if `grad_output` has the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.adaptive_max_pool2d_backward(np.ones((1, 1, 1, 2)), np.arange(5.0).reshape(1, 1, 1, 5), (1, 2))
    array([[[[0., 0., 1., 0., 1.]]]])
    """
    return adaptive_maximum_backward("adaptive_max_pool2d_backward", 2, grad_output, x, output_size)


def max_unpool2d(
    x: ArrayLike,
    indices: ArrayLike,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    output_size: Pair | None = None,
) -> NDArray:
    """Put each number back where `max_pool2d` found it, and zeros elsewhere.

    Parameters
    ----------
    x : array_like of shape (N, C, OH, OW)
        float32 or float64.
    indices : array_like of int and of the shape of `x`
        As `max_pool2d` returns them; where some are equal the last one counts.
    kernel_size, stride, padding
        As in `max_pool2d`.
    output_size : pair of int, optional
        Height and width of the result, default the smallest image that pools to the shape of `x`.

    Returns
    -------
    ndarray of shape (N, C, H, W)

    Raises
    ------
    TypeError
        If `x` is not float32 or float64, or `indices` are not integers.
    ValueError
        If shapes do not match, or an index lies outside the result.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> output, indices = F.max_pool2d(np.arange(4.0).reshape(1, 1, 2, 2), 2, return_indices=True)
    >>> F.max_unpool2d(output, indices, 2)
    array([[[[0., 0.],
             [0., 3.]]]])
    """
    return unpooled("max_unpool2d", 2, x, indices, kernel_size, stride, padding, output_size)


def max_unpool2d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    indices: ArrayLike,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    output_size: Pair | None = None,
) -> NDArray:
    """Return the gradient of `max_unpool2d` with respect to `x`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, H, W)
    x, indices, kernel_size, stride, padding, output_size
        As in `max_unpool2d`; indices must differ within an image and channel.

    Returns
    -------
    ndarray of shape (N, C, OH, OW)

    Raises
    ------
    TypeError, ValueError
        As `max_unpool2d`, and if `grad_output` has the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> grad = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> F.max_unpool2d_backward(grad, np.ones((1, 1, 1, 1)), np.full((1, 1, 1, 1), 2), 2)
    array([[[[2.]]]])
    """
    arguments = kernel_size, stride, padding, output_size
    return unpooled_backward("max_unpool2d_backward", 2, grad_output, x, indices, *arguments)


def maximum(
    op: str, ndim: int, x: Any, *arguments: Any, return_indices: Any = False, calls: Calls = AT_ONCE
) -> NDArray | tuple[NDArray, NDArray[np.int64]]:
    """Do what `max_pool2d` does, along so many axes."""
    x = check.as_image(op, "x", x, ndim)
    axes = pooling_axes(op, x.shape[2:], *arguments)
    if return_indices is False:
        return _maximum(x, axes, False, calls)[0]
    return _maximum_and_indices(x, axes, check.as_bool(op, "return_indices", return_indices), calls)


def maximum_with_winners(op: str, ndim: int, x: Any, *arguments: Any) -> tuple[NDArray, Winners]:
    """Do what `max_pool2d_with_winners` does, along so many axes."""
    x = check.as_image(op, "x", x, ndim)
    return _maximum(x, pooling_axes(op, x.shape[2:], *arguments), True)


def maximum_backward(
    op: str, ndim: int, grad_output: Any, x: Any, winners: Any, input_shape: Any, *arguments: Any
) -> NDArray:
    """Do what `max_pool2d_backward` does, along so many axes."""
    grad, x, shape = check_backward(op, ndim, grad_output, x, input_shape)
    axes = pooling_axes(op, shape[2:], *arguments)
    check_grad(op, grad, shape, axes)
    if winners is None:
        if x is None:
            raise ValueError(f"{op}: without `winners`, `x` is needed")
        _, winners = _maximum(x, axes, True)
    else:
        _check_winners(op, winners, shape, axes)
    return _maximum_backward(grad, winners, shape, axes)


def adaptive_maximum(
    op: str, ndim: int, x: Any, output_size: Any, return_indices: Any = False
) -> NDArray | tuple[NDArray, NDArray[np.int64]]:
    """Do what `adaptive_max_pool2d` does, along so many axes."""
    x = check.as_image(op, "x", x, ndim)
    axes = adaptive_axes(op, x.shape[2:], output_size)
    return _maximum_and_indices(x, axes, check.as_bool(op, "return_indices", return_indices))


def adaptive_maximum_backward(op: str, ndim: int, grad_output: Any, x: Any, output_size: Any) -> NDArray:
    """Do what `adaptive_max_pool2d_backward` does, along so many axes."""
    x = check.as_image(op, "x", x, ndim)
    grad, _, shape = check_backward(op, ndim, grad_output, x, None)
    axes = adaptive_axes(op, shape[2:], output_size)
    check_grad(op, grad, shape, axes)
    return _maximum_backward(grad, _maximum(x, axes, True)[1], shape, axes)


def unpooled(op: str, ndim: int, x: Any, indices: Any, *arguments: Any) -> NDArray:
    """Do what `max_unpool2d` does, along so many axes."""
    x, places, size = _check_unpool(op, ndim, x, indices, *arguments)
    N, C = x.shape[:2]
    output = empty_image(N, C, *_flat(size), x.dtype)
    if output.size:
        kernels.unpool(_flat_pixels(x), places, nhwc(output), threads_for(output.size))
    return image_of(nhwc(output).reshape(N, *([1, *size] if ndim == 1 else size), C), ndim)


def unpooled_backward(op: str, ndim: int, grad_output: Any, x: Any, indices: Any, *arguments: Any) -> NDArray:
    """Do what `max_unpool2d_backward` does, along so many axes."""
    x, places, size = _check_unpool(op, ndim, x, indices, *arguments)
    grad = check.as_float_array(op, "grad_output", grad_output)
    check.check_same_dtype(op, grad_output=grad, x=x)
    check.check_shape(op, "grad_output", grad, (*x.shape[:2], *size))
    N, C, *pooled = x.shape
    grad_x = empty_image(N, C, *_flat(pooled), x.dtype)
    if grad_x.size:
        kernels.unpool_backward(_flat_pixels(grad), places, nhwc(grad_x), threads_for(grad_x.size))
    return image_of(nhwc(grad_x).reshape(N, *([1, *pooled] if ndim == 1 else pooled), C), ndim)


def _flat(size: Sequence[int]) -> tuple[int, int]:
    """Return the size of an image with as many positions in the same order."""
    return math.prod(size[:-1]), size[-1]


def _flat_pixels(x: NDArray) -> NDArray:
    pixels = pixels_of(x)
    return pixels.reshape(len(pixels), *_flat(pixels.shape[1:-1]), pixels.shape[-1])


def _maximum_and_indices(
    x: NDArray, axes: Axes, return_indices: bool, calls: Calls = AT_ONCE
) -> NDArray | tuple[NDArray, NDArray[np.int64]]:
    output, winners = _maximum(x, axes, return_indices, calls)
    return (output, _indices(winners, x.shape, axes)) if return_indices else output


def _maximum(x: NDArray, axes: Axes, with_winners: bool, calls: Calls = AT_ONCE) -> tuple[NDArray, Winners]:
    """Return the maxima, and the winning taps [N, OH, OW, C], of volumes two such arrays; empty if not wanted."""
    if len(axes) == 2:
        return _image_maximum(x, axes, with_winners, calls)
    output, winners = _image_maximum(as_images(x), plane(axes), with_winners, calls)
    if len(axes) == 1:
        return output[:, :, 0], winners
    pooled, across = _image_maximum(as_columns(output, axes[0].size), along_depth(axes), with_winners, calls)
    return as_volumes(pooled, (*x.shape[:2], *(axis.output for axis in axes))), (winners, across)


def _maximum_backward(grad: NDArray, winners: Winners, shape: Shape, axes: Axes) -> NDArray:
    if not isinstance(winners, tuple):
        image_shape = (*shape[:2], 1, *shape[2:]) if len(axes) == 1 else shape
        grad_x = _spread(as_images(grad), winners, image_shape, plane(axes))
        return grad_x[:, :, 0] if len(axes) == 1 else grad_x
    N, C, D, H, W = shape
    _, OH, OW = (axis.output for axis in axes)
    of_columns = _spread(as_columns(as_images(grad), axes[0].output), winners[1], (N, C, D, OH * OW), along_depth(axes))
    of_slices = nhwc(of_columns).reshape(N * D, OH, OW, C).transpose(NCHW)
    return as_volumes(_spread(of_slices, winners[0], (N * D, C, H, W), plane(axes)), shape)


def _indices(winners: Winners, shape: Shape, axes: Axes) -> NDArray[np.int64]:
    """Return the positions of the winning taps, counted over all axes of x."""
    if not isinstance(winners, tuple):
        indices = _flat_indices(winners, plane(axes))
        return indices[:, :, 0] if len(axes) == 1 else indices
    _, _, D, H, W = shape
    in_slice = as_columns(_flat_indices(winners[0], plane(axes)), D)
    depth = _flat_indices(winners[1], along_depth(axes)) // in_slice.shape[3]
    found = depth * (H * W) + np.take_along_axis(in_slice, depth, axis=2)
    OD, OH, OW = (axis.output for axis in axes)
    return found.reshape(*found.shape[:2], OD, OH, OW)


def _check_winners(op: str, winners: Any, shape: Shape, axes: Axes) -> None:
    """Check what a user hands back against what the forward returns."""
    N, C, *size = shape
    if len(axes) < 3:
        OH, OW = (axis.output for axis in plane(axes))
        _check_some_winners(op, winners, (N, OH, OW, C), plane(axes))
        return
    if not isinstance(winners, (tuple, list)) or len(winners) != 2:
        raise TypeError(f"{op}: `winners` must be two arrays, got {type(winners).__name__}")
    OD, OH, OW = (axis.output for axis in axes)
    _check_some_winners(op, winners[0], (N * size[0], OH, OW, C), plane(axes))
    _check_some_winners(op, winners[1], (N, OD, OH * OW, C), along_depth(axes))


def _check_some_winners(op: str, winners: Any, shape: Shape, axes: Axes) -> None:
    expected = _winner_type(axes)
    if not isinstance(winners, np.ndarray) or winners.dtype != expected:
        came = getattr(winners, "dtype", type(winners).__name__)
        raise TypeError(f"{op}: `winners` must be {expected}, got {came}")
    check.check_shape(op, "winners", winners, shape)
    positions = axes[0].kernel * axes[1].kernel
    lowest, highest = winners.min(initial=0), winners.max(initial=0)
    if lowest < 0 or highest >= positions:
        raise ValueError(f"{op}: `winners` must be 0 to {positions - 1}, got {lowest} to {highest}")


def _image_maximum(x: NDArray, axes: Axes, with_winners: bool, calls: Calls = AT_ONCE) -> tuple[NDArray, NDArray]:
    """Return the maxima, and the winning taps [N, OH, OW, C] or an empty array."""
    rows, columns = axes
    N, C = x.shape[:2]
    output = empty_image(N, C, rows.output, columns.output, x.dtype, calls)
    winners = memory.empty(nhwc(output).shape if with_winners else (0, 0, 0, 0), _winner_type(axes))
    if output.size:
        shape = columns.kernel, rows.dilation, columns.dilation
        threads = threads_for(x.size + output.size)
        arrays = channels_last(x), nhwc(output), winners, windows(rows), windows(columns)
        calls(kernels.pool, *arrays, *shape, threads)
    return output, winners


def _spread(grad: NDArray, winners: NDArray, shape: Shape, axes: Axes) -> NDArray:
    """Return the gradient of x of `shape`: each output's goes to its winning tap."""
    rows, columns = axes
    N, C, H, W = shape
    grad_x = empty_image(N, C, H, W, grad.dtype)
    if grad_x.size:
        images = channels_last(grad), np.ascontiguousarray(winners), nhwc(grad_x)
        threads = threads_for(grad_x.size + grad.size)
        apart, readers = are_apart(columns), most_readers(rows)
        if (apart and readers == 1 and C > 2) or (C >= FEW and readers * most_readers(columns) <= READERS):
            tables = windows(columns), *covering(rows), *covering(columns)
            kernels.pool_backward(*images, *tables, columns.kernel, columns.dilation, apart, threads)
        else:
            shape = columns.kernel, rows.dilation, columns.dilation
            kernels.scatter_backward(*images, windows(rows), windows(columns), *shape, threads)
    return grad_x


def _flat_indices(winners: NDArray, axes: Axes) -> NDArray[np.int64]:
    """Return positions h * W + w, shaped (N, C, OH, OW), of the winning taps."""
    rows, columns = axes
    N, OH, OW, C = winners.shape
    indices = empty_image(N, C, OH, OW, np.int64)
    if indices.size:
        shape = columns.kernel, rows.dilation, columns.dilation, columns.size
        kernels.flat_indices(winners, nhwc(indices), windows(rows), windows(columns), *shape, threads_for(indices.size))
    return indices


def _winner_type(axes: Axes) -> np.dtype:
    return np.dtype(np.uint8 if axes[0].kernel * axes[1].kernel <= 256 else np.int32)


def _check_unpool(
    op: str, ndim: int, x: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> tuple[NDArray, NDArray[np.int64], Shape]:
    """Return x, the indices as [N, OD*OH, OW, C], and the size of the image they point into."""
    x = check.as_image(op, "x", x, ndim)
    indices = check.as_int_array(op, "indices", indices)
    check.check_shape(op, "indices", indices, x.shape, " like `x`")
    step = kernel_size if stride is None else stride
    pooling = window(op, ndim, kernel_size, step, padding, output_padding=0)
    if output_size is None:
        size = tuple(axis.size for axis in pooling.place(op, x.shape[2:]))
    else:
        size = check.as_each(op, "output_size", output_size, ndim)
    count = math.prod(size)
    if indices.size and not 0 <= indices.min() <= indices.max() < count:
        raise ValueError(
            f"{op}: `indices` must be within 0 and {count - 1} for a result of size {said(size)}, "
            f"got {indices.min()} to {indices.max()}"
        )
    places = np.ascontiguousarray(np.moveaxis(indices, 1, -1))
    return x, places.reshape(len(x), *_flat(x.shape[2:]), x.shape[1]), size
