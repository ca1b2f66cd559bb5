"""Pooling along three axes: of volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv.functional._pooling import Shape
from cyconv.functional.avg_pool import (
    averaged,
    averaged_backward,
    averaged_over_parts,
    averaged_over_parts_backward,
)
from cyconv.functional.max_pool import (
    Winners,
    adaptive_maximum,
    adaptive_maximum_backward,
    maximum,
    maximum_backward,
    maximum_with_winners,
    unpooled,
    unpooled_backward,
)

Triple = tuple[int, int, int]


def max_pool3d(
    x: ArrayLike,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    padding: Any = 0,
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
    padding : int, triple of int, (before, after) along each of the three axes, "same" or "valid", default 0
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
    arguments = kernel_size, stride, padding, dilation, ceil_mode
    return maximum("max_pool3d", 3, x, *arguments, return_indices=return_indices)


def max_pool3d_with_winners(
    x: ArrayLike,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    padding: Any = 0,
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
    return maximum_with_winners("max_pool3d_with_winners", 3, x, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool3d_backward(
    grad_output: ArrayLike,
    x: ArrayLike | None,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    padding: Any = 0,
    dilation: int | Triple = 1,
    ceil_mode: bool = False,
    *,
    winners: tuple[NDArray, NDArray] | None = None,
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
    arguments = kernel_size, stride, padding, dilation, ceil_mode
    return maximum_backward("max_pool3d_backward", 3, grad_output, x, winners, input_shape, *arguments)


def avg_pool3d(
    x: ArrayLike,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
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
    padding : int, triple of int, (before, after) along each of the three axes, "same" or "valid", default 0
        Zeros around the volume; at most half of the box.
    ceil_mode : bool, default False
        Whether a last box may hang over the end.
    count_include_pad : bool, default True
        Whether the zeros of the padding count in the average.
    divisor_override : int, optional
        Divide every sum by this instead.

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
    return averaged("avg_pool3d", 3, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d_backward(
    grad_output: ArrayLike,
    x: ArrayLike | None,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    input_shape: Shape | None = None,
) -> NDArray:
    """Return the gradient of `avg_pool3d` with respect to `x`: each output's gradient shared equally.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OD, OH, OW)
        Gradient of the result.
    x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
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
    arguments = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    return averaged_backward("avg_pool3d_backward", 3, grad_output, x, input_shape, *arguments)


def adaptive_max_pool3d(
    x: ArrayLike, output_size: Any, return_indices: bool = False
) -> NDArray | tuple[NDArray, NDArray[np.int64]]:
    """Return the maxima of windows that divide the volume into nearly equal parts.

    Parameters
    ----------
    x : array_like of shape (N, C, D, H, W)
        float32 or float64.
    output_size : int, None or three of them
        OD, OH and OW; None keeps the input's.
    return_indices : bool, default False
        As in `max_pool3d`.

    Returns
    -------
    output : ndarray of shape (N, C, OD, OH, OW)
    indices : ndarray of int64 and of shape (N, C, OD, OH, OW), if `return_indices`

    Raises
    ------
    TypeError, ValueError
        As `adaptive_max_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.adaptive_max_pool3d(np.arange(8.0).reshape(1, 1, 2, 2, 2), (2, 1, 1)).ravel()
    array([3., 7.])
    """
    return adaptive_maximum("adaptive_max_pool3d", 3, x, output_size, return_indices)


def adaptive_max_pool3d_backward(grad_output: ArrayLike, x: ArrayLike, output_size: Any) -> NDArray:
    """Return the gradient of `adaptive_max_pool3d` with respect to `x`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OD, OH, OW)
        Gradient of the result.
    x, output_size
        As in `adaptive_max_pool3d`.

    Returns
    -------
    ndarray of shape (N, C, D, H, W)

    Raises
    ------
    TypeError, ValueError
        As `adaptive_max_pool3d`, and if `grad_output` has the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.adaptive_max_pool3d_backward(np.ones((1, 1, 1, 1, 1)), np.arange(2.0).reshape(1, 1, 2, 1, 1), 1).ravel()
    array([0., 1.])
    """
    return adaptive_maximum_backward("adaptive_max_pool3d_backward", 3, grad_output, x, output_size)


def adaptive_avg_pool3d(x: ArrayLike, output_size: Any) -> NDArray:
    """Return the averages of windows that divide the volume into nearly equal parts.

    Parameters
    ----------
    x, output_size
        As in `adaptive_max_pool3d`.

    Returns
    -------
    ndarray of shape (N, C, OD, OH, OW)

    Raises
    ------
    TypeError, ValueError
        As `adaptive_avg_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.adaptive_avg_pool3d(np.arange(8.0).reshape(1, 1, 2, 2, 2), (2, 1, 1)).ravel()
    array([1.5, 5.5])
    """
    return averaged_over_parts("adaptive_avg_pool3d", 3, x, output_size)


def adaptive_avg_pool3d_backward(
    grad_output: ArrayLike, x: ArrayLike | None = None, output_size: Any = 1, *, input_shape: Shape | None = None
) -> NDArray:
    """Return the gradient of `adaptive_avg_pool3d` with respect to `x`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OD, OH, OW)
        Gradient of the result.
    x, output_size
        As in `adaptive_avg_pool3d`; only the shape of `x` matters.
    input_shape : tuple (N, C, D, H, W), optional
        The shape of `x` where `x` is None.

    Returns
    -------
    ndarray of shape (N, C, D, H, W)

    Raises
    ------
    TypeError, ValueError
        As `adaptive_avg_pool3d`, and if `grad_output` has the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.adaptive_avg_pool3d_backward(np.ones((1, 1, 1, 1, 1)), None, 1, input_shape=(1, 1, 2, 1, 1)).ravel()
    array([0.5, 0.5])
    """
    op = "adaptive_avg_pool3d_backward"
    return averaged_over_parts_backward(op, 3, grad_output, x, input_shape, output_size)


def global_avg_pool3d(x: ArrayLike) -> NDArray:
    """Return the average of each channel over the volume.

    Parameters
    ----------
    x : array_like of shape (N, C, D, H, W)
        float32 or float64.

    Returns
    -------
    ndarray of shape (N, C, 1, 1, 1)

    Raises
    ------
    TypeError, ValueError
        As `global_avg_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.global_avg_pool3d(np.arange(8.0).reshape(1, 1, 2, 2, 2)).ravel()
    array([3.5])
    """
    return averaged_over_parts("global_avg_pool3d", 3, x, 1)


def global_avg_pool3d_backward(
    grad_output: ArrayLike, x: ArrayLike | None = None, *, input_shape: Shape | None = None
) -> NDArray:
    """Return the gradient of `global_avg_pool3d` with respect to `x`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, 1, 1, 1)
        Gradient of the result.
    x, input_shape
        As in `adaptive_avg_pool3d_backward`.

    Returns
    -------
    ndarray of shape (N, C, D, H, W)

    Raises
    ------
    TypeError, ValueError
        As `global_avg_pool3d`, and if `grad_output` has the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.global_avg_pool3d_backward(np.ones((1, 1, 1, 1, 1)), input_shape=(1, 1, 2, 1, 1)).ravel()
    array([0.5, 0.5])
    """
    return averaged_over_parts_backward("global_avg_pool3d_backward", 3, grad_output, x, input_shape, 1)


def max_unpool3d(
    x: ArrayLike,
    indices: ArrayLike,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    padding: Any = 0,
    output_size: int | Triple | None = None,
) -> NDArray:
    """Put each number back where `max_pool3d` found it, and zeros elsewhere.

    Parameters
    ----------
    x : array_like of shape (N, C, OD, OH, OW)
        float32 or float64.
    indices : array_like of int and of the shape of `x`
        As `max_pool3d` returns them; where some are equal the last one counts.
    kernel_size, stride, padding
        As in `max_pool3d`; "same" has no meaning here.
    output_size : int or triple of int, optional
        Depth, height and width of the result, by default the smallest that pools to the shape of `x`.

    Returns
    -------
    ndarray of shape (N, C, D, H, W)

    Raises
    ------
    TypeError, ValueError
        As `max_unpool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> output, indices = F.max_pool3d(np.arange(4.0).reshape(1, 1, 2, 1, 2), (2, 1, 2), return_indices=True)
    >>> F.max_unpool3d(output, indices, (2, 1, 2)).ravel()
    array([0., 0., 0., 3.])
    """
    return unpooled("max_unpool3d", 3, x, indices, kernel_size, stride, padding, output_size)


def max_unpool3d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    indices: ArrayLike,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    padding: Any = 0,
    output_size: int | Triple | None = None,
) -> NDArray:
    """Return the gradient of `max_unpool3d` with respect to `x`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, D, H, W)
        Gradient of the result.
    x, indices, kernel_size, stride, padding, output_size
        As in `max_unpool3d`; indices must differ within a volume and channel.

    Returns
    -------
    ndarray of shape (N, C, OD, OH, OW)

    Raises
    ------
    TypeError, ValueError
        As `max_unpool3d`, and if `grad_output` has the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> grad = np.array([1.0, 2.0]).reshape(1, 1, 2, 1, 1)
    >>> F.max_unpool3d_backward(grad, np.ones((1, 1, 1, 1, 1)), np.ones((1, 1, 1, 1, 1), int), (2, 1, 1)).ravel()
    array([2.])
    """
    arguments = kernel_size, stride, padding, output_size
    return unpooled_backward("max_unpool3d_backward", 3, grad_output, x, indices, *arguments)
