"""Average pooling over windows, plain, adaptive and global, with its gradient.

The public functions of one and three axes are in `pool1d` and `pool3d`; what they do is here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv._dispatch import avg_pool2d as kernels
from cyconv._geometry import Pair
from cyconv._window import Axes, Axis, adaptive_axes, pooling_axes
from cyconv.functional._arrays import NCHW, as_columns, as_images, as_volumes, channels_last, empty_image, nhwc
from cyconv.functional._calls import AT_ONCE, Calls
from cyconv.functional._pooling import Shape, along_depth, check_backward, check_grad, plane
from cyconv.functional._windows import are_apart, readers, windows
from cyconv.memory import remembered
from cyconv.threads import threads_for

Scales = tuple[NDArray[np.float64], ...]  # along each axis: a mean is the sum times all


def averaged(op: str, ndim: int, x: Any, *arguments: Any, calls: Calls = AT_ONCE) -> NDArray:
    """Do what `avg_pool2d` does, along so many axes."""
    x = check.as_image(op, "x", x, ndim)
    return _average(x, *_axes_and_scales(op, x.shape[2:], *arguments), calls)


def avg_pool2d(
    x: ArrayLike,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> NDArray:
    """Return the average of each window.

    Parameters
    ----------
    x : array_like of shape (N, C, H, W)
        float32 or float64.
    kernel_size, stride, padding, ceil_mode
        As in `max_pool2d`; the padding is zeros.
    count_include_pad : bool, default True
        Whether positions in the padding count in the divisor; what hangs over the padding never does.
    divisor_override : int, optional
        Divide every sum by this instead.

    Returns
    -------
    ndarray of shape (N, C, OH, OW)

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d`, and if `divisor_override` is less than 1.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """
    return averaged("avg_pool2d", 2, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool2d_backward(
    grad_output: ArrayLike,
    x: ArrayLike | None,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    input_shape: Shape | None = None,
) -> NDArray:
    """Return the gradient of `avg_pool2d` with respect to `x`: each output's gradient is shared by its window.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OH, OW)
    x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        As in `avg_pool2d`; only the shape of `x` matters.
    input_shape : tuple (N, C, H, W), optional
        The shape of `x` where `x` is None.

    Returns
    -------
    ndarray of shape (N, C, H, W)

    Raises
    ------
    TypeError, ValueError
        As `avg_pool2d`, and if `grad_output` has the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.avg_pool2d_backward(np.ones((1, 1, 1, 1)), None, 2, input_shape=(1, 1, 2, 2))
    array([[[[0.25, 0.25],
             [0.25, 0.25]]]])
    """
    arguments = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    return averaged_backward("avg_pool2d_backward", 2, grad_output, x, input_shape, *arguments)


def adaptive_avg_pool2d(x: ArrayLike, output_size: Any) -> NDArray:
    """Return the averages of windows that divide the image into OH x OW nearly equal parts.

    Parameters
    ----------
    x : array_like of shape (N, C, H, W)
        float32 or float64.
    output_size : int, None or pair of them
        OH and OW; None keeps H or W.

    Returns
    -------
    ndarray of shape (N, C, OH, OW)

    Raises
    ------
    TypeError, ValueError
        If `x` is not a float image, or `output_size` not positive.

    Notes
    -----
    The parts are those of `adaptive_max_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.adaptive_avg_pool2d(np.arange(5.0).reshape(1, 1, 1, 5), (1, 2))
    array([[[[1., 3.]]]])
    """
    return averaged_over_parts("adaptive_avg_pool2d", 2, x, output_size)


def adaptive_avg_pool2d_backward(
    grad_output: ArrayLike,
    x: ArrayLike | None = None,
    output_size: Any = 1,
    *,
    input_shape: Shape | None = None,
) -> NDArray:
    """Return the gradient of `adaptive_avg_pool2d` with respect to `x`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OH, OW)
    x, output_size
        As in `adaptive_avg_pool2d`; only the shape of `x` matters.
    input_shape : tuple (N, C, H, W), optional
        The shape of `x` where `x` is None.

    Returns
    -------
    ndarray of shape (N, C, H, W)

    Raises
    ------
    TypeError, ValueError
        As `adaptive_avg_pool2d`, and if `grad_output` has the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.adaptive_avg_pool2d_backward(np.ones((1, 1, 1, 2)), None, (1, 2), input_shape=(1, 1, 1, 4))
    array([[[[0.5, 0.5, 0.5, 0.5]]]])
    """
    op = "adaptive_avg_pool2d_backward"
    return averaged_over_parts_backward(op, 2, grad_output, x, input_shape, output_size)


def averaged_over_parts(op: str, ndim: int, x: Any, output_size: Any, calls: Calls = AT_ONCE) -> NDArray:
    """Do what `adaptive_avg_pool2d` does, along so many axes, and `global_avg_pool2d` for a single part."""
    x = check.as_image(op, "x", x, ndim)
    axes = adaptive_axes(op, x.shape[2:], output_size)
    return _average(x, axes, _scales(axes, False, None), calls)


def global_avg_pool2d(x: ArrayLike) -> NDArray:
    """Return the average of each channel over the image.

    Parameters
    ----------
    x : array_like of shape (N, C, H, W)
        float32 or float64.

    Returns
    -------
    ndarray of shape (N, C, 1, 1)

    Raises
    ------
    TypeError, ValueError
        If `x` is not a float image.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.global_avg_pool2d(np.arange(4.0).reshape(1, 1, 2, 2))
    array([[[[1.5]]]])
    """
    return averaged_over_parts("global_avg_pool2d", 2, x, 1)


def global_avg_pool2d_backward(
    grad_output: ArrayLike, x: ArrayLike | None = None, *, input_shape: Shape | None = None
) -> NDArray:
    """Return the gradient of `global_avg_pool2d` with respect to `x`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, 1, 1)
    x : array_like of shape (N, C, H, W), or None
        Only the shape matters.
    input_shape : tuple (N, C, H, W), optional
        The shape of `x` where `x` is None.

    Returns
    -------
    ndarray of shape (N, C, H, W)

    Raises
    ------
    TypeError, ValueError
        As `global_avg_pool2d`, and if `grad_output` has the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.global_avg_pool2d_backward(np.ones((1, 1, 1, 1)), None, input_shape=(1, 1, 1, 2))
    array([[[[0.5, 0.5]]]])
    """
    return averaged_over_parts_backward("global_avg_pool2d_backward", 2, grad_output, x, input_shape, 1)


def averaged_backward(op: str, ndim: int, grad_output: Any, x: Any, input_shape: Any, *arguments: Any) -> NDArray:
    """Do what `avg_pool2d_backward` does, along so many axes."""
    grad, _, shape = check_backward(op, ndim, grad_output, x, input_shape)
    return _average_backward(op, grad, shape, *_axes_and_scales(op, shape[2:], *arguments))


def averaged_over_parts_backward(
    op: str, ndim: int, grad_output: Any, x: Any, input_shape: Any, output_size: Any
) -> NDArray:
    """Do what `adaptive_avg_pool2d_backward` does, along so many axes, and `global_avg_pool2d_backward`."""
    grad, _, shape = check_backward(op, ndim, grad_output, x, input_shape)
    axes = adaptive_axes(op, shape[2:], output_size)
    return _average_backward(op, grad, shape, axes, _scales(axes, False, None))


def _average(x: NDArray, axes: Axes, scales: Scales, calls: Calls = AT_ONCE) -> NDArray:
    if len(axes) == 2:
        return _image_average(x, axes, scales, calls)
    output = _image_average(as_images(x), plane(axes), _plane_scales(scales), calls)
    if len(axes) == 1:
        return output[:, :, 0]
    depth = along_depth(axes)
    pooled = _image_average(as_columns(output, axes[0].size), depth, (scales[0], np.ones(depth[1].output)), calls)
    return as_volumes(pooled, (*x.shape[:2], *(axis.output for axis in axes)))


def _average_backward(op: str, grad: NDArray, shape: Shape, axes: Axes, scales: Scales) -> NDArray:
    check_grad(op, grad, shape, axes)
    if len(axes) == 2:
        return _share(grad, shape, axes, scales)
    if len(axes) == 1:
        return _share(as_images(grad), (*shape[:2], 1, shape[2]), plane(axes), _plane_scales(scales))[:, :, 0]
    N, C, D, H, W = shape
    depth, (_, OH, OW) = along_depth(axes), (axis.output for axis in axes)
    grad_columns = as_columns(as_images(grad), axes[0].output)
    of_columns = _share(grad_columns, (N, C, D, OH * OW), depth, (scales[0], np.ones(OH * OW)))
    of_slices = nhwc(of_columns).reshape(N * D, OH, OW, C).transpose(NCHW)
    return as_volumes(_share(of_slices, (N * D, C, H, W), plane(axes), _plane_scales(scales)), shape)


def _plane_scales(scales: Scales) -> Scales:
    return (np.ones(1), *scales) if len(scales) == 1 else scales[-2:]


def _image_average(x: NDArray, axes: Axes, scales: Scales, calls: Calls = AT_ONCE) -> NDArray:
    rows, columns = axes
    N, C = x.shape[:2]
    output = empty_image(N, C, rows.output, columns.output, x.dtype, calls)
    if output.size:
        threads = threads_for(x.size + output.size)
        calls(kernels.pool, channels_last(x), nhwc(output), *scales, windows(rows), windows(columns), threads)
    return output


def _share(grad: NDArray, shape: Shape, axes: Axes, scales: Scales) -> NDArray:
    """Return the gradient of x of `shape`: each output's is shared by its window."""
    rows, columns = axes
    N, C, H, W = shape
    grad_x = empty_image(N, C, H, W, grad.dtype)
    if grad_x.size:
        tables = windows(columns), readers(rows), readers(columns)
        threads = threads_for(grad_x.size + grad.size)
        kernels.pool_backward(channels_last(grad), nhwc(grad_x), *scales, *tables, are_apart(columns), threads)
    return grad_x


def _axes_and_scales(
    op: str,
    size: Shape,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: Any,
) -> tuple[Axes, Scales]:
    axes = pooling_axes(op, size, kernel_size, stride, padding, 1, ceil_mode)
    includes = check.as_bool(op, "count_include_pad", count_include_pad)
    divisor = None if divisor_override is None else check.as_int(op, "divisor_override", divisor_override)
    return axes, _scales(axes, includes, divisor)


@remembered
def _scales(axes: Axes, count_include_pad: bool, divisor: int | None) -> Scales:
    if divisor is not None:
        first, *others = axes
        return np.full(first.output, 1 / divisor), *(np.ones(axis.output) for axis in others)
    return tuple(map(_padded_scale if count_include_pad else _inside_scale, axes))


@remembered
def _padded_scale(axis: Axis) -> NDArray[np.float64]:
    """Return 1 / the positions of each window in the padded input."""
    origin = windows(axis)[:, 0]
    return 1.0 / (np.minimum(origin + axis.kernel, axis.size + axis.after) - origin)


@remembered
def _inside_scale(axis: Axis) -> NDArray[np.float64]:
    """Return 1 / the positions of each window in the input."""
    _, first, stop = windows(axis).T
    return 1.0 / (stop - first)
