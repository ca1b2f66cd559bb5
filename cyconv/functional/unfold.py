"""Sliding windows as the rows of a matrix (im2col) or as the columns of one (unfold), and their adjoints."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv import memory
from cyconv._dispatch import im2col as kernels
from cyconv._geometry import Pair
from cyconv._window import Axes, window
from cyconv.functional._arrays import empty_image
from cyconv.functional._windows import covering, windows
from cyconv.threads import threads_for

# The kernels know x as [N, G, H, W, C] and columns as [N, G, OH*OW, KH*KW*C]. G = 1 keeps the channels together, so
# that a window's line is one run of memory: what the convolution wants. G = C, one channel each, keeps them apart.


def columns_nhwc(x: NDArray, axes: Axes) -> NDArray:
    """Return [N*OH*OW, KH*KW*C] from x [N, H, W, C], whose channels are contiguous."""
    N, _, _, C = x.shape
    columns = memory.empty((N, 1, _positions(axes), _taps(axes) * C), x.dtype)
    _copy_windows(x[:, None], columns, axes)
    return columns.reshape(N * columns.shape[2], columns.shape[3])


def columns_nhwc_adjoint(columns: NDArray, shape: tuple[int, ...], axes: Axes) -> NDArray:
    """Return [N, H, W, C] of `shape`: each row of `columns` added where `columns_nhwc` read it."""
    image = memory.empty(shape, columns.dtype)
    _add_windows(columns.reshape(shape[0], 1, _positions(axes), _taps(axes) * shape[3]), image[:, None], axes)
    return image


def im2col(
    x: ArrayLike, kernel_size: int | Pair, stride: int | Pair = 1, padding: Any = 0, dilation: int | Pair = 1
) -> NDArray:
    """Copy the window of every output position into a row of a matrix.

    Parameters
    ----------
    x : array_like of shape (N, C, H, W)
        float32 or float64.
    kernel_size, stride, dilation : int or pair of int
        Of the windows, as in `conv2d`; stride and dilation default to 1.
    padding : int, pair, ((top, bottom), (left, right)), "same", "valid" or "full", default 0
        Zeros around the image.

    Returns
    -------
    ndarray of shape (N * OH * OW, C * KH * KW)
        Rows in the order (n, oh, ow), columns in the order (c, kh, kw).

    Raises
    ------
    TypeError
        If `x` is not float32 or float64, or a size is not an integer.
    ValueError
        If a size is out of range, or the window does not fit into the padded image.

    Notes
    -----
    ``im2col(x, ...) @ weight.reshape(OC, -1).T`` is a convolution [1]_. `col2im` is the adjoint, and so the gradient.

    References
    ----------
    .. [1] Chellapilla, Puri, Simard, "High performance convolutional neural networks for document processing", 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.im2col(np.arange(9.0).reshape(1, 1, 3, 3), kernel_size=2)
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.],
           [3., 4., 6., 7.],
           [4., 5., 7., 8.]])
    """
    x = check.as_image("im2col", "x", x)
    N, C = x.shape[:2]
    axes = _check_windows("im2col", x.shape, kernel_size, stride, padding, dilation)
    columns = memory.empty((N, _positions(axes), C, _taps(axes)), x.dtype)
    _copy_windows(x[..., None], columns.transpose(0, 2, 1, 3), axes)
    return columns.reshape(N * _positions(axes), C * _taps(axes))


def col2im(
    columns: ArrayLike,
    input_shape: tuple[int, int, int, int],
    kernel_size: int | Pair,
    stride: int | Pair = 1,
    padding: Any = 0,
    dilation: int | Pair = 1,
) -> NDArray:
    """Add every row of a matrix back to where `im2col` read it: the adjoint, and the gradient, of `im2col`.

    Parameters
    ----------
    columns : array_like of shape (N * OH * OW, C * KH * KW)
        float32 or float64.
    input_shape : tuple (N, C, H, W)
        Of the image; the other parameters are those of `im2col`.
    kernel_size, stride, padding, dilation
        As in `im2col`.

    Returns
    -------
    ndarray of shape (N, C, H, W)
        Positions that several windows read hold the sum, positions that none read hold zero.

    Raises
    ------
    TypeError, ValueError
        As `im2col`, and if `columns` has another shape than `im2col` returns.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.col2im(np.ones((4, 4)), (1, 1, 3, 3), kernel_size=2)
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    columns = check.as_float_array("col2im", "columns", columns, 2)
    N, C, H, W = shape = check.as_image_shape("col2im", "input_shape", input_shape)
    axes = _check_windows("col2im", shape, kernel_size, stride, padding, dilation)
    check.check_shape("col2im", "columns", columns, (N * _positions(axes), C * _taps(axes)))
    columns = np.ascontiguousarray(columns).reshape(N, _positions(axes), C, _taps(axes))
    image = empty_image(N, C, H, W, columns.dtype)
    _add_windows(columns.transpose(0, 2, 1, 3), image[..., None], axes)
    return image


def unfold(
    x: ArrayLike, kernel_size: int | Pair, dilation: int | Pair = 1, padding: Any = 0, stride: int | Pair = 1
) -> NDArray:
    """Copy the window of every output position into a column: `im2col` in PyTorch's arrangement and argument order.

    Parameters
    ----------
    x : array_like of shape (N, C, H, W)
        float32 or float64.
    kernel_size, dilation, padding, stride
        As in `im2col`.

    Returns
    -------
    ndarray of shape (N, C * KH * KW, OH * OW)
        C-contiguous.

    Raises
    ------
    TypeError, ValueError
        As `im2col`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.unfold(np.arange(9.0).reshape(1, 1, 3, 3), kernel_size=2)
    array([[[0., 1., 3., 4.],
            [1., 2., 4., 5.],
            [3., 4., 6., 7.],
            [4., 5., 7., 8.]]])
    """
    x = check.as_image("unfold", "x", x)
    N, C = x.shape[:2]
    axes = _check_windows("unfold", x.shape, kernel_size, stride, padding, dilation)
    columns = memory.empty((N, C, _taps(axes), _positions(axes)), x.dtype)
    _copy_windows(np.ascontiguousarray(x)[..., None], columns, _transposed(axes))
    return columns.reshape(N, C * _taps(axes), _positions(axes))


def fold(
    x: ArrayLike,
    output_size: int | Pair,
    kernel_size: int | Pair,
    dilation: int | Pair = 1,
    padding: Any = 0,
    stride: int | Pair = 1,
) -> NDArray:
    """Add every column back to where `unfold` read it: the adjoint, and the gradient, of `unfold`.

    Parameters
    ----------
    x : array_like of shape (N, C * KH * KW, OH * OW)
        float32 or float64.
    output_size : int or pair of int
        Height and width of the image.
    kernel_size, dilation, padding, stride
        As in `im2col`.

    Returns
    -------
    ndarray of shape (N, C, *output_size)

    Raises
    ------
    TypeError, ValueError
        As `im2col`, and if `x` has another shape than `unfold` returns.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.fold(np.ones((1, 4, 4)), output_size=3, kernel_size=2)
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    x = check.as_float_array("fold", "x", x, 3)
    H, W = check.as_pair("fold", "output_size", output_size)
    taps = math.prod(check.as_pair("fold", "kernel_size", kernel_size))
    N, C = x.shape[0], x.shape[1] // taps
    if x.shape[1] == 0 or x.shape[1] % taps:
        raise ValueError(f"fold: `x` must have a multiple of KH * KW = {taps} rows, got shape {x.shape}")
    axes = _check_windows("fold", (N, C, H, W), kernel_size, stride, padding, dilation)
    check.check_shape("fold", "x", x, (N, C * taps, _positions(axes)))
    image = empty_image(N, C, H, W, x.dtype)
    columns = np.ascontiguousarray(x).reshape(N, C, taps, _positions(axes))
    _add_windows(columns, image[..., None], _transposed(axes))
    return image


def _check_windows(op: str, shape: tuple[int, ...], kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> Axes:
    """Check the windows' parameters against an image of `shape`."""
    N, C, *size = shape
    axes = window(op, 2, kernel_size, stride, padding, dilation).place(op, size)
    if _positions(axes) * _taps(axes) * C * max(1, N) >= 2**59:
        raise ValueError(f"{op}: {_positions(axes)} windows of {_taps(axes)} x {C} numbers do not fit into memory")
    return axes


def _transposed(axes: Axes) -> Axes:
    """Return the axes with taps and output positions in each other's roles, for the transposed matrix."""
    return tuple(
        axis._replace(output=axis.kernel, kernel=axis.output, stride=axis.dilation, dilation=axis.stride)
        for axis in axes
    )


def _positions(axes: Axes) -> int:
    return axes[0].output * axes[1].output


def _taps(axes: Axes) -> int:
    return axes[0].kernel * axes[1].kernel


def _copy_windows(x: NDArray, columns: NDArray, axes: Axes) -> None:
    """Fill columns [N, G, OH*OW, KH*KW*C] with the windows of x [N, G, H, W, C]."""
    if columns.size:
        rows, cols = axes
        dilation = rows.dilation, cols.dilation
        threads = threads_for(columns.size)
        kernels.im2col(x, columns, windows(rows), windows(cols), rows.kernel, cols.kernel, *dilation, threads)


def _add_windows(columns: NDArray, x: NDArray, axes: Axes) -> None:
    """Fill x [N, G, H, W, C] with the sums of the windows in columns [N, G, OH*OW, KH*KW*C]."""
    if x.size:
        rows, cols = axes
        threads = threads_for(columns.size + x.size)
        kernels.col2im(columns, x, *covering(rows), windows(cols), cols.kernel, cols.dilation, threads)
