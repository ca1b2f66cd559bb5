"""Pooling along one axis: of sequences."""

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


def max_pool1d(
    x: ArrayLike,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: Any = 0,
    dilation: int | tuple[int] = 1,
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
    padding : int, (before, after), "same" or "valid", default 0
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
    arguments = kernel_size, stride, padding, dilation, ceil_mode
    return maximum("max_pool1d", 1, x, *arguments, return_indices=return_indices)


def max_pool1d_with_winners(
    x: ArrayLike,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: Any = 0,
    dilation: int | tuple[int] = 1,
    ceil_mode: bool = False,
) -> tuple[NDArray, Winners]:
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
    return maximum_with_winners("max_pool1d_with_winners", 1, x, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool1d_backward(
    grad_output: ArrayLike,
    x: ArrayLike | None,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: Any = 0,
    dilation: int | tuple[int] = 1,
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
    arguments = kernel_size, stride, padding, dilation, ceil_mode
    return maximum_backward("max_pool1d_backward", 1, grad_output, x, winners, input_shape, *arguments)


def avg_pool1d(
    x: ArrayLike,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
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
    padding : int, (before, after), "same" or "valid", default 0
        Zeros at both ends; at most half of the window.
    ceil_mode : bool, default False
        Whether a last window may hang over the end.
    count_include_pad : bool, default True
        Whether the zeros of the padding count in the average.
    divisor_override : int, optional
        Divide every sum by this instead.

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
    return averaged("avg_pool1d", 1, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool1d_backward(
    grad_output: ArrayLike,
    x: ArrayLike | None,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    input_shape: Shape | None = None,
) -> NDArray:
    """Return the gradient of `avg_pool1d` with respect to `x`: each output's gradient shared equally.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OL)
        Gradient of the result.
    x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
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
    arguments = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    return averaged_backward("avg_pool1d_backward", 1, grad_output, x, input_shape, *arguments)


def adaptive_max_pool1d(
    x: ArrayLike, output_size: Any, return_indices: bool = False
) -> NDArray | tuple[NDArray, NDArray[np.int64]]:
    """Return the maxima of windows that divide the sequence into nearly equal parts.

    Parameters
    ----------
    x : array_like of shape (N, C, L)
        float32 or float64.
    output_size : int or None
        OL; None keeps the input's.
    return_indices : bool, default False
        As in `max_pool1d`.

    Returns
    -------
    output : ndarray of shape (N, C, OL)
    indices : ndarray of int64 and of shape (N, C, OL), if `return_indices`

    Raises
    ------
    TypeError, ValueError
        As `adaptive_max_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.adaptive_max_pool1d(np.array([[[1.0, 5.0, 2.0, 3.0]]]), 2)
    array([[[5., 3.]]])
    """
    return adaptive_maximum("adaptive_max_pool1d", 1, x, output_size, return_indices)


def adaptive_max_pool1d_backward(grad_output: ArrayLike, x: ArrayLike, output_size: Any) -> NDArray:
    """Return the gradient of `adaptive_max_pool1d` with respect to `x`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OL)
        Gradient of the result.
    x, output_size
        As in `adaptive_max_pool1d`.

    Returns
    -------
    ndarray of shape (N, C, L)

    Raises
    ------
    TypeError, ValueError
        As `adaptive_max_pool1d`, and if `grad_output` has the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.adaptive_max_pool1d_backward(np.ones((1, 1, 2)), np.array([[[1.0, 5.0, 2.0, 3.0]]]), 2)
    array([[[0., 1., 0., 1.]]])
    """
    return adaptive_maximum_backward("adaptive_max_pool1d_backward", 1, grad_output, x, output_size)


def adaptive_avg_pool1d(x: ArrayLike, output_size: Any) -> NDArray:
    """Return the averages of windows that divide the sequence into nearly equal parts.

    Parameters
    ----------
    x, output_size
        As in `adaptive_max_pool1d`.

    Returns
    -------
    ndarray of shape (N, C, OL)

    Raises
    ------
    TypeError, ValueError
        As `adaptive_avg_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.adaptive_avg_pool1d(np.array([[[1.0, 5.0, 2.0, 3.0]]]), 2)
    array([[[3. , 2.5]]])
    """
    return averaged_over_parts("adaptive_avg_pool1d", 1, x, output_size)


def adaptive_avg_pool1d_backward(
    grad_output: ArrayLike, x: ArrayLike | None = None, output_size: Any = 1, *, input_shape: Shape | None = None
) -> NDArray:
    """Return the gradient of `adaptive_avg_pool1d` with respect to `x`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OL)
        Gradient of the result.
    x, output_size
        As in `adaptive_avg_pool1d`; only the shape of `x` matters.
    input_shape : tuple (N, C, L), optional
        The shape of `x` where `x` is None.

    Returns
    -------
    ndarray of shape (N, C, L)

    Raises
    ------
    TypeError, ValueError
        As `adaptive_avg_pool1d`, and if `grad_output` has the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.adaptive_avg_pool1d_backward(np.ones((1, 1, 2)), None, 2, input_shape=(1, 1, 4))
    array([[[0.5, 0.5, 0.5, 0.5]]])
    """
    op = "adaptive_avg_pool1d_backward"
    return averaged_over_parts_backward(op, 1, grad_output, x, input_shape, output_size)


def global_avg_pool1d(x: ArrayLike) -> NDArray:
    """Return the average of each channel over the sequence.

    Parameters
    ----------
    x : array_like of shape (N, C, L)
        float32 or float64.

    Returns
    -------
    ndarray of shape (N, C, 1)

    Raises
    ------
    TypeError, ValueError
        As `global_avg_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.global_avg_pool1d(np.array([[[1.0, 5.0, 2.0, 4.0]]]))
    array([[[3.]]])
    """
    return averaged_over_parts("global_avg_pool1d", 1, x, 1)


def global_avg_pool1d_backward(
    grad_output: ArrayLike, x: ArrayLike | None = None, *, input_shape: Shape | None = None
) -> NDArray:
    """Return the gradient of `global_avg_pool1d` with respect to `x`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, 1)
        Gradient of the result.
    x, input_shape
        As in `adaptive_avg_pool1d_backward`.

    Returns
    -------
    ndarray of shape (N, C, L)

    Raises
    ------
    TypeError, ValueError
        As `global_avg_pool1d`, and if `grad_output` has the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.global_avg_pool1d_backward(np.ones((1, 1, 1)), input_shape=(1, 1, 2))
    array([[[0.5, 0.5]]])
    """
    return averaged_over_parts_backward("global_avg_pool1d_backward", 1, grad_output, x, input_shape, 1)


def max_unpool1d(
    x: ArrayLike,
    indices: ArrayLike,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: Any = 0,
    output_size: int | tuple[int] | None = None,
) -> NDArray:
    """Put each number back where `max_pool1d` found it, and zeros elsewhere.

    Parameters
    ----------
    x : array_like of shape (N, C, OL)
        float32 or float64.
    indices : array_like of int and of the shape of `x`
        As `max_pool1d` returns them; where some are equal the last one counts.
    kernel_size, stride, padding
        As in `max_pool1d`; "same" has no meaning here.
    output_size : int, optional
        Length of the result, by default the smallest that pools to the shape of `x`.

    Returns
    -------
    ndarray of shape (N, C, L)

    Raises
    ------
    TypeError, ValueError
        As `max_unpool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> output, indices = F.max_pool1d(np.array([[[1.0, 5.0, 2.0, 3.0]]]), 2, return_indices=True)
    >>> F.max_unpool1d(output, indices, 2)
    array([[[0., 5., 0., 3.]]])
    """
    return unpooled("max_unpool1d", 1, x, indices, kernel_size, stride, padding, output_size)


def max_unpool1d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    indices: ArrayLike,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: Any = 0,
    output_size: int | tuple[int] | None = None,
) -> NDArray:
    """Return the gradient of `max_unpool1d` with respect to `x`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, L)
        Gradient of the result.
    x, indices, kernel_size, stride, padding, output_size
        As in `max_unpool1d`; indices must differ within a sequence and channel.

    Returns
    -------
    ndarray of shape (N, C, OL)

    Raises
    ------
    TypeError, ValueError
        As `max_unpool1d`, and if `grad_output` has the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.max_unpool1d_backward(np.array([[[1.0, 2.0]]]), np.ones((1, 1, 1)), np.array([[[1]]]), 2)
    array([[[2.]]])
    """
    arguments = kernel_size, stride, padding, output_size
    return unpooled_backward("max_unpool1d_backward", 1, grad_output, x, indices, *arguments)
