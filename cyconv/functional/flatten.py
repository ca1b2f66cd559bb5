"""From images to feature vectors and back."""

from __future__ import annotations

import math

from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv.functional._arrays import NCHW, copied_channels_last, copy
from cyconv.functional._calls import AT_ONCE, Calls


def laid_out(op: str, x: ArrayLike, calls: Calls = AT_ONCE) -> NDArray:
    """Do what `flatten` does."""
    x = check.as_float_array(op, "x", x, 4)
    N, C, H, W = x.shape
    rows = calls.empty((N, C, H, W), x.dtype)
    copy(x.transpose(0, 2, 1, 3), rows.transpose(0, 2, 1, 3), calls)  # channels are contiguous in x, columns in rows
    return rows.reshape(N, C * H * W)


def flatten(x: ArrayLike) -> NDArray:
    """Lay out each image as one row, channel by channel.

    Parameters
    ----------
    x : array_like of shape (N, C, H, W)
        float32 or float64.

    Returns
    -------
    ndarray of shape (N, C * H * W)
        In NCHW order, whatever the memory order of `x`: weights trained elsewhere fit the rows.

    Raises
    ------
    TypeError
        For other dtypes.
    ValueError
        For another number of dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.flatten(np.arange(4.0).reshape(1, 2, 1, 2))
    array([[0., 1., 2., 3.]])
    """
    return laid_out("flatten", x)


def flatten_backward(grad_output: ArrayLike, input_shape: tuple[int, int, int, int]) -> NDArray:
    """Return the gradient of `flatten` with respect to `x`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C * H * W)
        float32 or float64.
    input_shape : tuple of int
        (N, C, H, W) of the forward.

    Returns
    -------
    ndarray of shape `input_shape`

    Raises
    ------
    TypeError
        For other dtypes.
    ValueError
        For shapes that do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.flatten_backward(np.arange(4.0).reshape(1, 4), (1, 2, 1, 2)).shape
    (1, 2, 1, 2)
    """
    op = "flatten_backward"
    grad = check.as_float_array(op, "grad_output", grad_output, 2)
    if not isinstance(input_shape, (tuple, list)) or len(input_shape) != 4:
        raise ValueError(f"{op}: `input_shape` must be (N, C, H, W), got {check.brief(input_shape)}")
    shape = tuple(check.as_int(op, "input_shape", extent, 0) for extent in input_shape)
    check.check_shape(op, "grad_output", grad, (shape[0], math.prod(shape[1:])), f" (of `input_shape` {shape})")
    return copied_channels_last(grad.reshape(shape)).transpose(NCHW)
