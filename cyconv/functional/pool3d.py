"""Pooling of volumes, as two-dimensional pooling of their slices and then along the depth.

Both are separable: the maximum of a box is that of its slices' maxima, the average the average of their averages.
Along the depth, a volume [N, D, H, W, C] is an image of D rows and H*W columns.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _geometry
from cyconv import _validation as check
from cyconv._geometry import Pair
from cyconv.functional._arrays import NCHW
from cyconv.functional._naming import named
from cyconv.functional._volumes import Triple, as_triple, slices, volumes, voxels
from cyconv.functional.avg_pool import avg_pool2d, avg_pool2d_backward
from cyconv.functional.max_pool import max_pool2d, max_pool2d_backward, max_pool2d_with_winners

Shape = tuple[int, ...]
Winners = tuple[NDArray, NDArray]


@named
def max_pool3d(
    x: ArrayLike,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    padding: int | Triple = 0,
    dilation: int | Triple = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> NDArray | tuple[NDArray, NDArray[np.int64]]:
    """Return the maximum of each box.

    Parameters
    ----------
    x : array_like of shape (N, C, D, H, W)
        float32 or float64.
    kernel_size : int or triple of int
        Size of the box.
    stride : int or triple of int, optional
        Step from box to box; default `kernel_size`.
    padding : int or triple of int, default 0
        Positions around the volume that never win; at most half of the box.
    dilation : int or triple of int, default 1
        Step from position to position within a box.
    ceil_mode : bool, default False
        Whether a last box may hang over the end.
    return_indices : bool, default False
        Whether to return also where the maxima are.

    Returns
    -------
    output : ndarray of shape (N, C, OD, OH, OW)
    indices : ndarray of int64 and of shape (N, C, OD, OH, OW), if `return_indices`
        Position ``(d * H + h) * W + w`` of each maximum: the first of equals.

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.max_pool3d(np.arange(8.0).reshape(1, 1, 2, 2, 2), 2).ravel()
    array([7.])
    """
    op = "max_pool3d"
    x = _checked(op, "x", x)
    boxes = _boxes(op, kernel_size, stride, padding, dilation)
    planes = max_pool2d(slices(x), *boxes.plane, ceil_mode, return_indices)
    flat, places = planes if isinstance(planes, tuple) else (planes, None)
    columns, shape = _columns(flat, x.shape[2])
    deep: Any = max_pool2d(columns, *boxes.depth, ceil_mode, return_indices)
    if places is None:
        return _of_columns(deep, shape)
    pooled, rows = deep
    depth = rows // columns.shape[3]  # of each maximum
    inner = np.take_along_axis(_columns(places, x.shape[2])[0], depth, axis=2)
    return _of_columns(pooled, shape), _of_columns(depth * (x.shape[3] * x.shape[4]) + inner, shape)


@named
def max_pool3d_with_winners(
    x: ArrayLike,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    padding: int | Triple = 0,
    dilation: int | Triple = 1,
    ceil_mode: bool = False,
) -> tuple[NDArray, Winners]:
    """Return the maximum of each box, and compactly where it is: what a layer keeps for `max_pool3d_backward`.

    Parameters
    ----------
    x, kernel_size, stride, padding, dilation, ceil_mode
        As in `max_pool3d`.

    Returns
    -------
    output : ndarray of shape (N, C, OD, OH, OW)
    winners : two ndarrays, of shape (N*D, OH, OW, C) and (N, OD, OH*OW, C)
        Position of each slice's maximum in its window, and which slice of a box has the largest: uint8, or int32 for
        more than 256 positions.

    Raises
    ------
    TypeError, ValueError
        As `max_pool3d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> output, (in_slice, slice_) = F.max_pool3d_with_winners(np.arange(8.0).reshape(1, 1, 2, 2, 2), 2)
    >>> in_slice.ravel(), slice_.ravel()
    (array([3, 3], dtype=uint8), array([1], dtype=uint8))
    """
    op = "max_pool3d_with_winners"
    x = _checked(op, "x", x)
    boxes = _boxes(op, kernel_size, stride, padding, dilation)
    flat, in_slice = max_pool2d_with_winners(slices(x), *boxes.plane, ceil_mode)
    columns, shape = _columns(flat, x.shape[2])
    pooled, across = max_pool2d_with_winners(columns, *boxes.depth, ceil_mode)
    return _of_columns(pooled, shape), (in_slice, across)


@named
def max_pool3d_backward(
    grad_output: ArrayLike,
    x: ArrayLike | None,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    padding: int | Triple = 0,
    dilation: int | Triple = 1,
    ceil_mode: bool = False,
    *,
    winners: Winners | None = None,
    input_shape: Shape | None = None,
) -> NDArray:
    """Return the gradient of `max_pool3d` with respect to `x`: each output's gradient goes to its maximum.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OD, OH, OW)
        Gradient of the result.
    x, kernel_size, stride, padding, dilation, ceil_mode
        As in `max_pool3d`.
    winners : two ndarrays, optional
        From `max_pool3d_with_winners`: the maxima are not searched again, and `x` may be None.
    input_shape : tuple (N, C, D, H, W), optional
        The shape of `x` where `x` is None.

    Returns
    -------
    ndarray of shape (N, C, D, H, W)

    Raises
    ------
    TypeError, ValueError
        As `max_pool3d`, and if an array has the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.max_pool3d_backward(np.ones((1, 1, 1, 1, 1)), np.arange(4.0).reshape(1, 1, 2, 1, 2), (2, 1, 2)).ravel()
    array([0., 0., 0., 1.])
    """
    op = "max_pool3d_backward"
    grad, boxes = (
        check.as_float_array(op, "grad_output", grad_output, 5),
        _boxes(op, kernel_size, stride, padding, dilation),
    )
    x, (N, C, D, H, W) = _input(op, grad, x, input_shape)
    if winners is None:
        if x is None:
            raise ValueError(f"{op}: without `winners`, `x` is needed")
        winners = max_pool3d_with_winners(x, kernel_size, stride, padding, dilation, ceil_mode)[1]
    if not isinstance(winners, (tuple, list)) or len(winners) != 2:
        raise TypeError(f"{op}: `winners` must be two arrays, got {type(winners).__name__}")
    in_slice, across = winners
    OH, OW = boxes.plane_output((H, W), ceil_mode)
    grad_columns = max_pool2d_backward(
        _grad_columns(op, grad, (OH, OW)), None, *boxes.depth, ceil_mode, winners=across, input_shape=(N, C, D, OH * OW)
    )
    grad_x = max_pool2d_backward(
        _images(grad_columns, (N * D, C, OH, OW)),
        None,
        *boxes.plane,
        ceil_mode,
        winners=in_slice,
        input_shape=(N * D, C, H, W),
    )
    return volumes(grad_x, D)


@named
def avg_pool3d(
    x: ArrayLike,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    padding: int | Triple = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> NDArray:
    """Return the average of each box.

    Parameters
    ----------
    x : array_like of shape (N, C, D, H, W)
        float32 or float64.
    kernel_size : int or triple of int
        Size of the box.
    stride : int or triple of int, optional
        Step from box to box; default `kernel_size`.
    padding : int or triple of int, default 0
        Zeros around the volume; at most half of the box.
    ceil_mode : bool, default False
        Whether a last box may hang over the end.
    count_include_pad : bool, default True
        Whether the zeros of the padding count in the average.

    Returns
    -------
    ndarray of shape (N, C, OD, OH, OW)

    Raises
    ------
    TypeError, ValueError
        As `avg_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.avg_pool3d(np.arange(8.0).reshape(1, 1, 2, 2, 2), 2).ravel()
    array([3.5])
    """
    op = "avg_pool3d"
    x = _checked(op, "x", x)
    boxes = _boxes(op, kernel_size, stride, padding)
    flat = avg_pool2d(slices(x), *boxes.plane[:3], ceil_mode, count_include_pad)
    columns, shape = _columns(flat, x.shape[2])
    return _of_columns(avg_pool2d(columns, *boxes.depth[:3], ceil_mode, count_include_pad), shape)


@named
def avg_pool3d_backward(
    grad_output: ArrayLike,
    x: ArrayLike | None,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    padding: int | Triple = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    input_shape: Shape | None = None,
) -> NDArray:
    """Return the gradient of `avg_pool3d` with respect to `x`: each output's gradient shared equally.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OD, OH, OW)
        Gradient of the result.
    x, kernel_size, stride, padding, ceil_mode, count_include_pad
        As in `avg_pool3d`.
    input_shape : tuple (N, C, D, H, W), optional
        The shape of `x` where `x` is None.

    Returns
    -------
    ndarray of shape (N, C, D, H, W)

    Raises
    ------
    TypeError, ValueError
        As `avg_pool3d`, and if `grad_output` has the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.avg_pool3d_backward(np.ones((1, 1, 1, 1, 1)), np.zeros((1, 1, 2, 1, 2)), (2, 1, 2)).ravel()
    array([0.25, 0.25, 0.25, 0.25])
    """
    op = "avg_pool3d_backward"
    grad, boxes = check.as_float_array(op, "grad_output", grad_output, 5), _boxes(op, kernel_size, stride, padding)
    _, (N, C, D, H, W) = _input(op, grad, x, input_shape)
    OH, OW = boxes.plane_output((H, W), ceil_mode)
    options = ceil_mode, count_include_pad
    grad_columns = _grad_columns(op, grad, (OH, OW))
    grad_columns = avg_pool2d_backward(grad_columns, None, *boxes.depth[:3], *options, input_shape=(N, C, D, OH * OW))
    grad_flat = _images(grad_columns, (N * D, C, OH, OW))
    return volumes(avg_pool2d_backward(grad_flat, None, *boxes.plane[:3], *options, input_shape=(N * D, C, H, W)), D)


class _Boxes(NamedTuple):
    """Kernel size, stride, padding and dilation: of the slices, and of the columns along the depth."""

    plane: tuple[Pair, Pair, Pair, Pair]
    depth: tuple[Pair, Pair, Pair, Pair]

    def plane_output(self, size: Pair, ceil_mode: bool) -> Pair:
        """Return the size of a pooled slice."""
        (kernel, step, pads, spread), (H, W) = self.plane, size
        return (
            _geometry.pool_output(H, kernel[0], step[0], pads[0], pads[0], spread[0], ceil_mode),
            _geometry.pool_output(W, kernel[1], step[1], pads[1], pads[1], spread[1], ceil_mode),
        )


def _boxes(op: str, kernel_size: Any, stride: Any, padding: Any, dilation: Any = 1) -> _Boxes:
    kernel = as_triple(op, "kernel_size", kernel_size)
    step = kernel if stride is None else as_triple(op, "stride", stride)
    pads, spread = as_triple(op, "padding", padding, 0), as_triple(op, "dilation", dilation)
    plane = kernel[1:], step[1:], pads[1:], spread[1:]
    return _Boxes(plane, ((kernel[0], 1), (step[0], 1), (pads[0], 0), (spread[0], 1)))


def _checked(op: str, name: str, value: Any) -> NDArray:
    x = check.as_float_array(op, name, value, 5)
    if 0 in x.shape[1:]:
        raise ValueError(f"{op}: only the batch of `{name}` may be empty, got shape {x.shape}")
    return x


def _input(op: str, grad: NDArray, x: ArrayLike | None, input_shape: Shape | None) -> tuple[NDArray | None, Shape]:
    """Return x, if given, and its shape."""
    if x is not None:
        x = _checked(op, "x", x)
        check.check_same_dtype(op, grad_output=grad, x=x)
        return x, x.shape
    if not isinstance(input_shape, (tuple, list)) or len(input_shape) != 5:
        raise ValueError(f"{op}: without `x`, `input_shape` must be (N, C, D, H, W), got {input_shape}")
    N, *extents = input_shape
    sizes = (check.as_int(op, "input_shape", extent) for extent in extents)
    return None, (check.as_int(op, "input_shape", N, 0), *sizes)


def _columns(images: NDArray, depth: int) -> tuple[NDArray, Pair]:
    """Return slices (N*D, C, H, W) as (N, C, D, H*W), and (H, W)."""
    pixels = images.transpose(0, 2, 3, 1)
    count, H, W, C = pixels.shape
    return np.ascontiguousarray(pixels).reshape(count // depth, depth, H * W, C).transpose(NCHW), (H, W)


def _images(columns: NDArray, shape: tuple[int, ...]) -> NDArray:
    """Return (N, C, D, H*W) as slices of `shape`, (N*D, C, H, W)."""
    count, C, H, W = shape
    return columns.transpose(0, 2, 3, 1).reshape(count, H, W, C).transpose(NCHW)


def _of_columns(columns: NDArray, size: Pair) -> NDArray:
    """Return (N, C, D, H*W) as (N, C, D, H, W)."""
    pixels = np.ascontiguousarray(columns.transpose(0, 2, 3, 1))
    return pixels.reshape(*pixels.shape[:2], *size, pixels.shape[3]).transpose(0, 4, 1, 2, 3)


def _grad_columns(op: str, grad: NDArray, size: Pair) -> NDArray:
    """Return the gradient (N, C, OD, OH, OW) as (N, C, OD, OH*OW); the other axes are checked with the columns."""
    if grad.shape[3:] != size:
        raise ValueError(f"{op}: `grad_output` must have slices of size {size}, got shape {grad.shape}")
    pixels = voxels(grad)
    return pixels.reshape(*pixels.shape[:2], size[0] * size[1], pixels.shape[4]).transpose(NCHW)
