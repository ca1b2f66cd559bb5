"""Convolution along three axes: of volumes."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from cyconv.functional.conv import ALL, Gradients, convolved, convolved_backward

Triple = tuple[int, int, int]


def conv3d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | Triple = 1,
    padding: Any = 0,
    dilation: int | Triple = 1,
    groups: int = 1,
) -> NDArray:
    """Correlate volumes with filters.

    Parameters
    ----------
    x : array_like of shape (N, IC, ID, IH, IW)
        float32 or float64.
    weight : array_like of shape (OC, IC // groups, KD, KH, KW)
        Same dtype.
    bias : array_like of shape (OC,), optional
        Same dtype. Default: none.
    stride, dilation : int or triple of int, default 1
        Step of the filter, and distance between its elements.
    padding : int, triple of int, (before, after) along each of the three axes, "same", "valid" or "full", default 0
        Zeros around the volume, as in `conv2d`.
    groups : int, default 1
        The g-th share of the output channels sees only the g-th share of the input channels.

    Returns
    -------
    ndarray of shape (N, OC, OD, OH, OW)
        Along each axis floor((I + before + after - dilation*(K - 1) - 1) / stride) + 1.

    Raises
    ------
    TypeError
        For integer, complex or mixed dtypes.
    ValueError
        For shapes that do not fit or parameters out of range.

    Notes
    -----
    ``y[n, o, d, h, w] = bias[o] + sum over c and the kernel of weight[o, c, i, j, k] * x[n, c, d*stride - padding +
    i*dilation, ...]``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.conv3d(np.ones((1, 1, 3, 2, 2)), np.ones((1, 1, 2, 2, 2))).ravel()
    array([8., 8.])
    """
    return convolved("conv3d", 3, x, weight, bias, stride, padding, dilation, groups)


def conv3d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | Triple = 1,
    padding: Any = 0,
    dilation: int | Triple = 1,
    groups: int = 1,
    *,
    needs: tuple[bool, bool, bool] = ALL,
) -> Gradients:
    """Return the gradients of `conv3d` with respect to x, weight and bias.

    Parameters
    ----------
    grad_output : array_like of shape (N, OC, OD, OH, OW)
        Gradient of the result.
    x, weight, bias, stride, padding, dilation, groups
        As given to `conv3d`.
    needs : tuple of three bools, default (True, True, True)
        Which gradients to compute; None stands for the others and for an absent bias.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray or None
        In the shapes of x, weight and bias.

    Raises
    ------
    TypeError, ValueError
        As `conv3d`, and for a `grad_output` of another shape than its result.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> x, weight = np.ones((1, 1, 3, 1, 1)), np.ones((1, 1, 2, 1, 1))
    >>> [g.ravel() for g in F.conv3d_backward(np.ones((1, 1, 2, 1, 1)), x, weight)[:2]]
    [array([1., 2., 1.]), array([2., 2.])]
    """
    arrays = grad_output, x, weight, bias
    return convolved_backward("conv3d_backward", 3, needs, *arrays, stride, padding, dilation, groups)


def conv_transpose3d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | Triple = 1,
    padding: Any = 0,
    output_padding: int | Triple = 0,
    groups: int = 1,
    dilation: int | Triple = 1,
) -> NDArray:
    """Apply the adjoint of `conv3d`: each voxel adds a weighted copy of the filters.

    Parameters
    ----------
    x : array_like of shape (N, IC, ID, IH, IW)
        float32 or float64.
    weight : array_like of shape (IC, OC // groups, KD, KH, KW)
        Same dtype.
    bias : array_like of shape (OC,), optional
        Same dtype. Default: none.
    stride, dilation : int or triple of int, default 1
        Those of the convolution that this is the adjoint of.
    padding : int, triple of int or (before, after) along each of the three axes, default 0
        How much is cut off each side of the result.
    output_padding : int or triple of int, default 0
        How much is added at the end of each axis; less than the stride or the dilation.
    groups : int, default 1
        As in `conv3d`.

    Returns
    -------
    ndarray of shape (N, OC, OD, OH, OW)
        Along each axis (I - 1)*stride - before - after + dilation*(K - 1) + output_padding + 1.

    Raises
    ------
    TypeError
        For integer, complex or mixed dtypes.
    ValueError
        For shapes that do not fit or parameters out of range.

    Notes
    -----
    ``<conv3d(y, w), x> = <y, conv_transpose3d(x, w)>`` for all x, y.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.conv_transpose3d(np.array([1.0, 2.0]).reshape(1, 1, 2, 1, 1), np.ones((1, 1, 2, 1, 1)), stride=2).ravel()
    array([1., 1., 2., 2.])
    """
    parameters = stride, padding, dilation, groups
    return convolved("conv_transpose3d", 3, x, weight, bias, *parameters, output_padding=output_padding)


def conv_transpose3d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | Triple = 1,
    padding: Any = 0,
    output_padding: int | Triple = 0,
    groups: int = 1,
    dilation: int | Triple = 1,
    *,
    needs: tuple[bool, bool, bool] = ALL,
) -> Gradients:
    """Return the gradients of `conv_transpose3d` with respect to x, weight and bias.

    Parameters
    ----------
    grad_output : array_like of shape (N, OC, OD, OH, OW)
        Gradient of the result.
    x, weight, bias, stride, padding, output_padding, groups, dilation
        As given to `conv_transpose3d`.
    needs : tuple of three bools, default (True, True, True)
        Which gradients to compute; None stands for the others and for an absent bias.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray or None
        In the shapes of x, weight and bias.

    Raises
    ------
    TypeError, ValueError
        As `conv_transpose3d`, and for a `grad_output` of another shape than its result.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> x, weight = np.array([1.0, 2.0]).reshape(1, 1, 2, 1, 1), np.ones((1, 1, 2, 1, 1))
    >>> grad = np.ones((1, 1, 4, 1, 1))
    >>> [g.ravel() for g in F.conv_transpose3d_backward(grad, x, weight, stride=2)[:2]]
    [array([2., 2.]), array([3., 3.])]
    """
    op, arrays = "conv_transpose3d_backward", (grad_output, x, weight, bias)
    parameters = stride, padding, dilation, groups
    return convolved_backward(op, 3, needs, *arrays, *parameters, output_padding=output_padding)
