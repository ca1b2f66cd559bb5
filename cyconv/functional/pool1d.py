"""Pooling along one axis, as two-dimensional pooling of images with a single row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv._geometry import Pair
from cyconv.functional._arrays import as_row
from cyconv.functional._naming import named
from cyconv.functional.avg_pool import avg_pool2d, avg_pool2d_backward
from cyconv.functional.max_pool import max_pool2d, max_pool2d_backward, max_pool2d_with_winners

Shape = tuple[int, ...]


@named
def max_pool1d(
    x: ArrayLike,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> NDArray | tuple[NDArray, NDArray[np.int64]]:
    """Return the maximum of each window.

    Parameters
    ----------
    x : array_like of shape (N, C, L)
        float32 or float64.
    kernel_size : int
        Size of the window.
    stride : int, optional
        Step from window to window; default `kernel_size`.
    padding : int, default 0
        Positions at both ends that never win; at most half of the window.
    dilation : int, default 1
        Step from position to position within a window.
    ceil_mode : bool, default False
        Whether a last window may hang over the end.
    return_indices : bool, default False
        Whether to return also where the maxima are.

    Returns
    -------
    output : ndarray of shape (N, C, OL)
    indices : ndarray of int64 and of shape (N, C, OL), if `return_indices`

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.max_pool1d(np.array([[[1.0, 5.0, 2.0, 3.0]]]), 2)
    array([[[5., 3.]]])
    """
    op = "max_pool1d"
    window = _window(op, kernel_size, stride, padding, dilation)
    result = max_pool2d(as_row(op, "x", x), *window, ceil_mode, return_indices)
    return (result[0][:, :, 0], result[1][:, :, 0]) if isinstance(result, tuple) else result[:, :, 0]


@named
def max_pool1d_with_winners(
    x: ArrayLike,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
) -> tuple[NDArray, NDArray]:
    """Return the maximum of each window, and compactly where it is: what a layer keeps for `max_pool1d_backward`.

    Parameters
    ----------
    x, kernel_size, stride, padding, dilation, ceil_mode
        As in `max_pool1d`.

    Returns
    -------
    output : ndarray of shape (N, C, OL)
    winners : ndarray of shape (N, 1, OL, C)
        Position of each maximum in its window: uint8, or int32 if a window has over 256 positions.

    Raises
    ------
    TypeError, ValueError
        As `max_pool1d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.max_pool1d_with_winners(np.array([[[1.0, 5.0, 2.0, 3.0]]]), 2)[1].ravel()
    array([1, 1], dtype=uint8)
    """
    op = "max_pool1d_with_winners"
    window = _window(op, kernel_size, stride, padding, dilation)
    output, winners = max_pool2d_with_winners(as_row(op, "x", x), *window, ceil_mode)
    return output[:, :, 0], winners


@named
def max_pool1d_backward(
    grad_output: ArrayLike,
    x: ArrayLike | None,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
    *,
    winners: NDArray | None = None,
    input_shape: Shape | None = None,
) -> NDArray:
    """Return the gradient of `max_pool1d` with respect to `x`: each output's gradient goes to its maximum.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OL)
        Gradient of the result.
    x, kernel_size, stride, padding, dilation, ceil_mode
        As in `max_pool1d`.
    winners : ndarray of shape (N, 1, OL, C), optional
        From `max_pool1d_with_winners`: the maxima are not searched again, and `x` may be None.
    input_shape : tuple (N, C, L), optional
        The shape of `x` where `x` is None.

    Returns
    -------
    ndarray of shape (N, C, L)

    Raises
    ------
    TypeError, ValueError
        As `max_pool1d`, and if an array has the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.max_pool1d_backward(np.ones((1, 1, 2)), np.array([[[1.0, 5.0, 2.0, 3.0]]]), 2)
    array([[[0., 1., 0., 1.]]])
    """
    op = "max_pool1d_backward"
    row, shape = _input(op, x, input_shape)
    arguments = row, *_window(op, kernel_size, stride, padding, dilation), ceil_mode
    grad = as_row(op, "grad_output", grad_output)
    return max_pool2d_backward(grad, *arguments, winners=winners, input_shape=shape)[:, :, 0]


@named
def avg_pool1d(
    x: ArrayLike,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> NDArray:
    """Return the average of each window.

    Parameters
    ----------
    x : array_like of shape (N, C, L)
        float32 or float64.
    kernel_size : int
        Size of the window.
    stride : int, optional
        Step from window to window; default `kernel_size`.
    padding : int, default 0
        Zeros at both ends; at most half of the window.
    ceil_mode : bool, default False
        Whether a last window may hang over the end.
    count_include_pad : bool, default True
        Whether the zeros of the padding count in the average.

    Returns
    -------
    ndarray of shape (N, C, OL)

    Raises
    ------
    TypeError, ValueError
        As `avg_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.avg_pool1d(np.array([[[1.0, 5.0, 2.0, 3.0]]]), 2)
    array([[[3. , 2.5]]])
    """
    window = _window("avg_pool1d", kernel_size, stride, padding)
    return avg_pool2d(as_row("avg_pool1d", "x", x), *window[:3], ceil_mode, count_include_pad)[:, :, 0]


@named
def avg_pool1d_backward(
    grad_output: ArrayLike,
    x: ArrayLike | None,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    input_shape: Shape | None = None,
) -> NDArray:
    """Return the gradient of `avg_pool1d` with respect to `x`: each output's gradient shared equally.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OL)
        Gradient of the result.
    x, kernel_size, stride, padding, ceil_mode, count_include_pad
        As in `avg_pool1d`.
    input_shape : tuple (N, C, L), optional
        The shape of `x` where `x` is None.

    Returns
    -------
    ndarray of shape (N, C, L)

    Raises
    ------
    TypeError, ValueError
        As `avg_pool1d`, and if `grad_output` has the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.avg_pool1d_backward(np.ones((1, 1, 2)), np.zeros((1, 1, 4)), 2)
    array([[[0.5, 0.5, 0.5, 0.5]]])
    """
    op = "avg_pool1d_backward"
    row, shape = _input(op, x, input_shape)
    arguments = row, *_window(op, kernel_size, stride, padding)[:3], ceil_mode, count_include_pad
    return avg_pool2d_backward(as_row(op, "grad_output", grad_output), *arguments, input_shape=shape)[:, :, 0]


def _input(op: str, x: ArrayLike | None, input_shape: Shape | None) -> tuple[NDArray | None, Shape | None]:
    """Return x, if given, and the shape as those of images."""
    if x is not None:
        return as_row(op, "x", x), None
    if not isinstance(input_shape, (tuple, list)) or len(input_shape) != 3:
        raise ValueError(f"{op}: without `x`, `input_shape` must be (N, C, L), got {input_shape}")
    return None, (*input_shape[:2], 1, input_shape[2])


def _window(op: str, kernel_size: Any, stride: Any, padding: Any, dilation: Any = 1) -> tuple[Pair, Pair, Pair, Pair]:
    """Return kernel size, stride, padding and dilation of an image with a single row."""
    kernel = check.as_int(op, "kernel_size", kernel_size)
    step = kernel if stride is None else check.as_int(op, "stride", stride)
    pads, spread = check.as_int(op, "padding", padding, 0), check.as_int(op, "dilation", dilation)
    return (1, kernel), (1, step), (0, pads), (1, spread)
