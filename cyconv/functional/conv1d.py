"""Convolution along one axis: of sequences."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from cyconv.functional.conv import ALL, Gradients, convolved, convolved_backward


def conv1d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int] = 1,
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
    padding : int, (before, after), "same", "valid" or "full", default 0
        Zeros around the sequence, as in `conv2d`.
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
    return convolved("conv1d", 1, x, weight, bias, stride, padding, dilation, groups)


def conv1d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int] = 1,
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
    arrays = grad_output, x, weight, bias
    return convolved_backward("conv1d_backward", 1, needs, *arrays, stride, padding, dilation, groups)


def conv_transpose1d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int] = 1,
    padding: Any = 0,
    output_padding: int | tuple[int] = 0,
    groups: int = 1,
    dilation: int | tuple[int] = 1,
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
    padding : int or (before, after), default 0
        How much is cut off each end of the result.
    output_padding : int, default 0
        How much is added at the end; less than the stride or the dilation.
    groups : int, default 1
        As in `conv1d`.

    Returns
    -------
    ndarray of shape (N, OC, OL)
        OL = (IL - 1)*stride - before - after + dilation*(K - 1) + output_padding + 1.

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
    parameters = stride, padding, dilation, groups
    return convolved("conv_transpose1d", 1, x, weight, bias, *parameters, output_padding=output_padding)


def conv_transpose1d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int] = 1,
    padding: Any = 0,
    output_padding: int | tuple[int] = 0,
    groups: int = 1,
    dilation: int | tuple[int] = 1,
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
    op, arrays = "conv_transpose1d_backward", (grad_output, x, weight, bias)
    parameters = stride, padding, dilation, groups
    return convolved_backward(op, 1, needs, *arrays, *parameters, output_padding=output_padding)
