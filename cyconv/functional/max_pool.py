"""Max pooling over windows, plain and adaptive, with its gradient and partial inverse."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _geometry, memory
from cyconv import _validation as check
from cyconv._dispatch import max_pool2d as kernels
from cyconv._geometry import Pair
from cyconv.functional._arrays import channels_last, empty_image, nhwc
from cyconv.functional._calls import AT_ONCE, Calls
from cyconv.functional._pooling import Shape, adaptive_axes, check_backward, check_grad, window_axes
from cyconv.functional._windows import Axes, are_apart, covering, most_readers, windows
from cyconv.threads import threads_for

READERS = 32  # of a pixel, above which one addition for each output is cheaper than a vector for each tap
FEW = 16  # channels, below which it is so wherever windows overlap (and for 1 or 2 channels everywhere)


def largest(
    op: str,
    x: ArrayLike,
    kernel_size: int | Pair,
    stride: int | Pair | None,
    padding: Any,
    dilation: int | Pair,
    ceil_mode: bool,
    calls: Calls = AT_ONCE,
) -> NDArray:
    """Return the maximum of each window only."""
    x = check.as_image(op, "x", x)
    axes, _ = window_axes(op, x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    return _maximum(x, axes, False, calls)[0]


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
        Positions around the image that never win; at most half of the window.
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
    op = "max_pool2d"
    x = check.as_image(op, "x", x)
    axes, _ = window_axes(op, x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    return _maximum_and_indices(x, axes, return_indices)


def max_pool2d_with_winners(
    x: ArrayLike,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Any = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
) -> tuple[NDArray, NDArray]:
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
    op = "max_pool2d_with_winners"
    x = check.as_image(op, "x", x)
    axes, _ = window_axes(op, x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    return _maximum(x, axes, True)


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
        As `max_pool2d`, and if an array has the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.max_pool2d_backward(np.ones((1, 1, 1, 1)), np.arange(4.0).reshape(1, 1, 2, 2), 2)
    array([[[[0., 0.],
             [0., 1.]]]])
    """
    op = "max_pool2d_backward"
    grad, x, shape = check_backward(op, grad_output, x, input_shape)
    axes, _ = window_axes(op, shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    check_grad(op, grad, shape, axes)
    if winners is None:
        if x is None:
            raise ValueError(f"{op}: without `winners`, `x` is needed")
        _, winners = _maximum(x, axes, True)
    else:
        expected = _winner_type(axes)
        if not isinstance(winners, np.ndarray) or winners.dtype != expected:
            raise TypeError(f"{op}: `winners` must be {expected}, got {getattr(winners, 'dtype', type(winners))}")
        check.check_shape(op, "winners", winners, nhwc(grad).shape)
    return _maximum_backward(grad, winners, shape, axes)


def adaptive_max_pool2d(
    x: ArrayLike, output_size: int | Pair, return_indices: bool = False
) -> NDArray | tuple[NDArray, NDArray[np.int64]]:
    """Return the maxima of windows that divide the image into OH x OW nearly equal parts.

    Parameters
    ----------
    x : array_like of shape (N, C, H, W)
        float32 or float64.
    output_size : int or pair of int
        OH and OW.
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
    op = "adaptive_max_pool2d"
    x = check.as_image(op, "x", x)
    return _maximum_and_indices(x, adaptive_axes(op, x.shape, output_size), return_indices)


def adaptive_max_pool2d_backward(grad_output: ArrayLike, x: ArrayLike, output_size: int | Pair) -> NDArray:
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
    op = "adaptive_max_pool2d_backward"
    x = check.as_image(op, "x", x)
    grad, _, shape = check_backward(op, grad_output, x, None)
    axes = adaptive_axes(op, shape, output_size)
    check_grad(op, grad, shape, axes)
    return _maximum_backward(grad, _maximum(x, axes, True)[1], shape, axes)


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
    op = "max_unpool2d"
    x, places, (H, W) = _check_unpool(op, x, indices, kernel_size, stride, padding, output_size)
    N, C = x.shape[:2]
    output = empty_image(N, C, H, W, x.dtype)
    if output.size:
        kernels.unpool(channels_last(x), places, nhwc(output), threads_for(output.size))
    return output


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
    op = "max_unpool2d_backward"
    x, places, size = _check_unpool(op, x, indices, kernel_size, stride, padding, output_size)
    grad = check.as_float_array(op, "grad_output", grad_output, 4)
    check.check_same_dtype(op, grad_output=grad, x=x)
    check.check_shape(op, "grad_output", grad, (*x.shape[:2], *size))
    N, C, H, W = x.shape
    grad_x = empty_image(N, C, H, W, x.dtype)
    if grad_x.size:
        kernels.unpool_backward(channels_last(grad), places, nhwc(grad_x), threads_for(grad_x.size))
    return grad_x


def _maximum_and_indices(x: NDArray, axes: Axes, return_indices: bool) -> NDArray | tuple[NDArray, NDArray[np.int64]]:
    output, winners = _maximum(x, axes, return_indices)
    return (output, _flat_indices(winners, axes)) if return_indices else output


def _maximum(x: NDArray, axes: Axes, with_winners: bool, calls: Calls = AT_ONCE) -> tuple[NDArray, NDArray]:
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


def _maximum_backward(grad: NDArray, winners: NDArray, shape: Shape, axes: Axes) -> NDArray:
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
    op: str, x: ArrayLike, indices: ArrayLike, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> tuple[NDArray, NDArray[np.int64], Pair]:
    """Return x, the indices as [N, OH, OW, C], and the size of the image they point into."""
    x = check.as_image(op, "x", x)
    indices = check.as_int_array(op, "indices", indices, 4)
    check.check_shape(op, "indices", indices, x.shape, " like `x`")
    kernel = check.as_pair(op, "kernel_size", kernel_size)
    stride = kernel if stride is None else check.as_pair(op, "stride", stride)
    before = check.as_pair(op, "padding", padding, 0)
    if output_size is None:
        H, W = (
            _geometry.conv_transpose_output(x.shape[2 + i], kernel[i], stride[i], before[i], before[i], 1, 0)
            for i in (0, 1)
        )
    else:
        H, W = check.as_pair(op, "output_size", output_size)
    if min(H, W) < 1:
        raise ValueError(f"{op}: `padding` {before} leaves nothing of the result, its size would be ({H}, {W})")
    if indices.size and not 0 <= indices.min() <= indices.max() < H * W:
        raise ValueError(
            f"{op}: `indices` must be within 0 and {H * W - 1} for a result of size ({H}, {W}), "
            f"got {indices.min()} to {indices.max()}"
        )
    return x, np.ascontiguousarray(nhwc(indices)), (H, W)
