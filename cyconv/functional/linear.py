"""The fully connected layer and the matrix product under it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv._dispatch import gemm as kernels
from cyconv.functional._arrays import copy, dense, sum_channels
from cyconv.functional._calls import AT_ONCE, Calls
from cyconv.threads import threads_for

ALL = (True, True, True)


def matmul(a: NDArray, b: NDArray, bias: NDArray | None = None, relu: bool = False, calls: Calls = AT_ONCE) -> NDArray:
    """Return a (M, K) @ b (K, N) + bias (N) on cyconv's own threads: a threaded BLAS beside them would slow both."""
    out = calls.empty((a.shape[0], b.shape[1]), a.dtype)
    calls(kernels.gemm, a, b, bias, None, out, relu, threads_for(a.shape[0] * b.shape[1] * (a.shape[1] + 1)))
    return out


def _rows(x: NDArray, calls: Calls = AT_ONCE) -> NDArray:
    """Return `x` as a dense matrix of its last axis: how products are computed may depend on strides."""
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    if not rows.flags.c_contiguous:
        given, rows = rows, calls.empty(rows.shape, rows.dtype)
        copy(given[None, None], rows[None, None], calls)
    return dense(rows)


def _check(op: str, x: Any, weight: Any, bias: Any) -> tuple[NDArray, NDArray, NDArray | None]:
    x = check.as_float_array(op, "x", x)
    weight = check.as_float_array(op, "weight", weight, 2)
    bias = None if bias is None else check.as_float_array(op, "bias", bias, 1)
    if x.dtype is not weight.dtype or (bias is not None and bias.dtype is not x.dtype):
        check.check_same_dtype(op, x=x, weight=weight, bias=bias)
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"{op}: `weight` of shape {weight.shape} expects {weight.shape[1]} input features, "
            f"but `x` has shape {x.shape}"
        )
    if bias is not None:
        check.check_shape(op, "bias", bias, (weight.shape[0],), " (one per output feature)")
    return x, dense(weight), bias


def affine(op: str, x: Any, weight: Any, bias: Any, relu: bool = False, calls: Calls = AT_ONCE) -> NDArray:
    """Apply an affine map to the last axis, then, with `relu`, set negative numbers to zero."""
    x, weight, bias = _check(op, x, weight, bias)
    bias = None if bias is None else np.ascontiguousarray(bias)
    return matmul(_rows(x, calls), weight.T, bias, relu, calls).reshape(*x.shape[:-1], weight.shape[0])


def linear(x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> NDArray:
    """Apply an affine map to the last axis.

    Parameters
    ----------
    x : array_like of shape (..., in_features)
        float32 or float64.
    weight : array_like of shape (out_features, in_features)
        Same dtype.
    bias : array_like of shape (out_features,), optional
        Same dtype. Default: none.

    Returns
    -------
    ndarray of shape (..., out_features)

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For shapes that do not fit.

    Notes
    -----
    ``y = x W^T + b``. A row's bits do not depend on the others, from five rows on: up to four are computed as dot
    products, which add in another order.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.linear(np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)).shape
    (2, 4)
    """
    return affine("linear", x, weight, bias)


def linear_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    needs: tuple[bool, bool, bool] = ALL,
) -> tuple[NDArray | None, NDArray | None, NDArray | None]:
    """Return the gradients of `linear` with respect to x, weight and bias.

    Parameters
    ----------
    grad_output : array_like of shape (..., out_features)
    x, weight, bias
        As given to `linear`.
    needs : tuple of three bools, default (True, True, True)
        Which gradients to compute; None stands for the others and for an absent bias.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray or None
        In the shapes of x, weight and bias.

    Raises
    ------
    TypeError, ValueError
        As `linear`, and for a `grad_output` of another shape than its result.

    Notes
    -----
    ``grad_x = g W``, ``grad_W = g^T x``, ``grad_b = sum over rows of g``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> x, w, g = np.ones((2, 3)), np.ones((4, 3)), np.ones((2, 4))
    >>> grad_x, grad_w, grad_b = F.linear_backward(g, x, w, np.zeros(4))
    >>> grad_x[0, 0], grad_w[0, 0], grad_b[0]
    (np.float64(4.0), np.float64(2.0), np.float64(2.0))
    """
    op = "linear_backward"
    x, weight, bias = _check(op, x, weight, bias)
    needs = check.as_needs(op, needs)
    grad = check.as_float_array(op, "grad_output", grad_output)
    check.check_same_dtype(op, x=x, grad_output=grad)
    check.check_shape(op, "grad_output", grad, (*x.shape[:-1], weight.shape[0]))
    needs = check.as_needs(op, needs)
    rows, grad_rows = _rows(x), _rows(grad)
    grad_x = matmul(grad_rows, weight).reshape(x.shape) if needs[0] else None
    grad_weight = matmul(grad_rows.T, rows) if needs[1] else None
    grad_bias = sum_channels(grad_rows) if needs[2] and bias is not None else None
    return grad_x, grad_weight, grad_bias
