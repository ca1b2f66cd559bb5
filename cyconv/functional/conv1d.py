"""Convolution along one axis, as a two-dimensional one of images with a single row."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv.functional._arrays import as_row
from cyconv.functional._naming import named
from cyconv.functional.conv import ALL, conv2d, conv2d_backward, conv_transpose2d, conv_transpose2d_backward

Gradients = tuple[NDArray | None, NDArray | None, NDArray | None]


@named
def conv1d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int = 1,
    padding: Any = 0,
    dilation: int = 1,
    groups: int = 1,
) -> NDArray:
    """Correlate sequences with filters.

    Parameters
    ----------
    x : array_like of shape (N, IC, IL)
        float32 or float64.
    weight : array_like of shape (OC, IC // groups, K)
        Same dtype.
    bias : array_like of shape (OC,), optional
        Same dtype. Default: none.
    stride, dilation : int, default 1
        Step of the filter, and distance between its elements.
    padding : int, (before, after), "same" or "valid", default 0
        Zeros around the sequence.
    groups : int, default 1
        The g-th share of the output channels sees only the g-th share of the input channels.

    Returns
    -------
    ndarray of shape (N, OC, OL)
        OL = floor((IL + before + after - dilation*(K - 1) - 1) / stride) + 1.

    Raises
    ------
    TypeError
        For integer, complex or mixed dtypes.
    ValueError
        For shapes that do not fit or parameters out of range.

    Notes
    -----
    ``y[n, o, l] = bias[o] + sum over c, k of weight[o, c, k] x[n, c, l*stride - before + k*dilation]``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.conv1d(np.array([[[1.0, 2.0, 4.0]]]), np.array([[[-1.0, 1.0]]]))
    array([[[1., 2.]]])
    """
    arrays = _as_rows("conv1d", x, weight, bias)
    return conv2d(*arrays, *_windows("conv1d", stride, padding, dilation), groups)[:, :, 0]


@named
def conv1d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int = 1,
    padding: Any = 0,
    dilation: int = 1,
    groups: int = 1,
    *,
    needs: tuple[bool, bool, bool] = ALL,
) -> Gradients:
    """Return the gradients of `conv1d` with respect to x, weight and bias.

    Parameters
    ----------
    grad_output : array_like of shape (N, OC, OL)
        Gradient of the result.
    x, weight, bias, stride, padding, dilation, groups
        As given to `conv1d`.
    needs : tuple of three bools, default (True, True, True)
        Which gradients to compute; None stands for the others and for an absent bias.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray or None
        In the shapes of x, weight and bias.

    Raises
    ------
    TypeError, ValueError
        As `conv1d`, and for a `grad_output` of another shape than its result.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> x, weight = np.array([[[1.0, 2.0, 4.0]]]), np.array([[[-1.0, 1.0]]])
    >>> F.conv1d_backward(np.ones((1, 1, 2)), x, weight)[:2]
    (array([[[-1.,  0.,  1.]]]), array([[[3., 6.]]]))
    """
    op = "conv1d_backward"
    arrays = as_row(op, "grad_output", grad_output), *_as_rows(op, x, weight, bias)
    return _without_rows(conv2d_backward(*arrays, *_windows(op, stride, padding, dilation), groups, needs=needs))


@named
def conv_transpose1d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    groups: int = 1,
    dilation: int = 1,
) -> NDArray:
    """Apply the adjoint of `conv1d`: each number adds a weighted copy of the filters.

    Parameters
    ----------
    x : array_like of shape (N, IC, IL)
        float32 or float64.
    weight : array_like of shape (IC, OC // groups, K)
        Same dtype.
    bias : array_like of shape (OC,), optional
        Same dtype. Default: none.
    stride, dilation : int, default 1
        Those of the convolution that this is the adjoint of.
    padding : int, default 0
        How much is cut off each end of the result.
    output_padding : int, default 0
        How much is added at the end; less than the stride or the dilation.
    groups : int, default 1
        As in `conv1d`.

    Returns
    -------
    ndarray of shape (N, OC, OL)
        OL = (IL - 1)*stride - 2*padding + dilation*(K - 1) + output_padding + 1.

    Raises
    ------
    TypeError
        For integer, complex or mixed dtypes.
    ValueError
        For shapes that do not fit or parameters out of range.

    Notes
    -----
    ``<conv1d(y, w), x> = <y, conv_transpose1d(x, w)>`` for all x, y.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.conv_transpose1d(np.array([[[1.0, 2.0]]]), np.ones((1, 1, 2)), stride=2)
    array([[[1., 1., 2., 2.]]])
    """
    op = "conv_transpose1d"
    arrays = _as_rows(op, x, weight, bias)
    return conv_transpose2d(*arrays, *_transposed(op, stride, padding, output_padding, groups, dilation))[:, :, 0]


@named
def conv_transpose1d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    groups: int = 1,
    dilation: int = 1,
    *,
    needs: tuple[bool, bool, bool] = ALL,
) -> Gradients:
    """Return the gradients of `conv_transpose1d` with respect to x, weight and bias.

    Parameters
    ----------
    grad_output : array_like of shape (N, OC, OL)
        Gradient of the result.
    x, weight, bias, stride, padding, output_padding, groups, dilation
        As given to `conv_transpose1d`.
    needs : tuple of three bools, default (True, True, True)
        Which gradients to compute; None stands for the others and for an absent bias.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray or None
        In the shapes of x, weight and bias.

    Raises
    ------
    TypeError, ValueError
        As `conv_transpose1d`, and for a `grad_output` of another shape than its result.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> x, weight = np.array([[[1.0, 2.0]]]), np.ones((1, 1, 2))
    >>> F.conv_transpose1d_backward(np.ones((1, 1, 4)), x, weight, stride=2)[:2]
    (array([[[2., 2.]]]), array([[[3., 3.]]]))
    """
    op = "conv_transpose1d_backward"
    arrays = as_row(op, "grad_output", grad_output), *_as_rows(op, x, weight, bias)
    options = _transposed(op, stride, padding, output_padding, groups, dilation)
    return _without_rows(conv_transpose2d_backward(*arrays, *options, needs=needs))


def _as_rows(op: str, x: Any, weight: Any, bias: Any) -> tuple[NDArray, NDArray, Any]:
    return as_row(op, "x", x), as_row(op, "weight", weight), bias


def _without_rows(gradients: Gradients) -> Gradients:
    grad_x, grad_weight, grad_bias = gradients
    return (
        None if grad_x is None else grad_x[:, :, 0],
        None if grad_weight is None else grad_weight[:, :, 0],
        grad_bias,
    )


def _windows(op: str, stride: Any, padding: Any, dilation: Any) -> tuple[tuple[int, int], Any, tuple[int, int]]:
    """Return stride, padding and dilation of the image with a single row."""
    steps = (1, check.as_int(op, "stride", stride)), (1, check.as_int(op, "dilation", dilation))
    if not isinstance(padding, str):
        padding = ((0, 0), check.as_pair(op, "padding", padding, 0))
    return steps[0], padding, steps[1]


def _transposed(op: str, stride: Any, padding: Any, output_padding: Any, groups: Any, dilation: Any) -> tuple:
    steps, pads, spread = _windows(op, stride, check.as_int(op, "padding", padding, 0), dilation)
    return steps, pads, (0, check.as_int(op, "output_padding", output_padding, 0)), groups, spread
