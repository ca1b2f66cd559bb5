"""True convolution: the filters are turned half round before they are moved over the image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv._geometry import effective_kernel
from cyconv.functional.conv import ALL, Gradients, convolved, convolved_backward


def convolve2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    mode: str = "full",
    stride: int | tuple[int, int] = 1,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> NDArray:
    """Convolve images with filters in the mathematical sense; `conv2d` correlates.

    Parameters
    ----------
    x : array_like of shape (N, IC, IH, IW)
        float32 or float64.
    weight : array_like of shape (OC, IC // groups, KH, KW)
        Same dtype.
    bias : array_like of shape (OC,), optional
        Same dtype. Default: none.
    mode : {"full", "same", "valid"}, default "full"
        Every place where filter and image overlap (wide convolution); the middle of these, as large as the image; or
        only where the filter lies inside the image (narrow convolution). As in SciPy.
    stride, dilation : int or (vertical, horizontal), default 1
        Step of the filter, and distance between its elements.
    groups : int, default 1
        The g-th share of the output channels sees only the g-th share of the input channels.

    Returns
    -------
    ndarray of shape (N, OC, OH, OW)
        With stride 1, IH + KH - 1, IH or IH - KH + 1 rows, and so for the columns.

    Raises
    ------
    TypeError
        For integer, complex or mixed dtypes.
    ValueError
        For shapes that do not fit or parameters out of range.

    Notes
    -----
    ``y[n, o, i, j] = bias[o] + sum over c, k, l of weight[o, c, k, l] x[n, c, i - k, j - l]`` in mode "full". The
    network learns the same either way: only the order of the weights differs (Goodfellow, Bengio and Courville 2016,
    section 9.1).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.convolve2d(np.array([[[[1.0, 2.0]]]]), np.array([[[[1.0, 10.0]]]]))
    array([[[[ 1., 12., 20.]]]])
    """
    turned, padding = _turned("convolve2d", weight, mode, dilation)
    return convolved("convolve2d", 2, x, turned, bias, stride, padding, dilation, groups)


def convolve2d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    mode: str = "full",
    stride: int | tuple[int, int] = 1,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    *,
    needs: tuple[bool, bool, bool] = ALL,
) -> Gradients:
    """Return the gradients of `convolve2d` with respect to x, weight and bias.

    Parameters
    ----------
    grad_output : array_like of shape (N, OC, OH, OW)
        Gradient of the result.
    x, weight, bias, mode, stride, dilation, groups
        As given to `convolve2d`.
    needs : tuple of three bools, default (True, True, True)
        Which gradients to compute; None stands for the others and for an absent bias.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray or None
        In the shapes of x, weight and bias.

    Raises
    ------
    TypeError, ValueError
        As `convolve2d`, and for a `grad_output` of another shape than its result.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> x, weight = np.array([[[[1.0, 2.0]]]]), np.array([[[[1.0, 10.0]]]])
    >>> grad_x, grad_weight, _ = F.convolve2d_backward(np.ones((1, 1, 1, 3)), x, weight)
    >>> grad_x, grad_weight
    (array([[[[11., 11.]]]]), array([[[[3., 3.]]]]))
    """
    op = "convolve2d_backward"
    turned, padding = _turned(op, weight, mode, dilation)
    arrays = grad_output, x, turned, bias
    grad_x, grad_weight, grad_bias = convolved_backward(op, 2, needs, *arrays, stride, padding, dilation, groups)
    return grad_x, None if grad_weight is None else grad_weight[:, :, ::-1, ::-1], grad_bias


def _turned(op: str, weight: Any, mode: Any, dilation: Any) -> tuple[NDArray, Any]:
    """Return the filters turned half round, and the zeros that `mode` puts around the image."""
    filters = check.as_float_array(op, "weight", weight, 4)
    mode = check.as_choice(op, "mode", mode, ("full", "same", "valid"))
    spread = check.as_pair(op, "dilation", dilation)
    turned = np.ascontiguousarray(filters[:, :, ::-1, ::-1])
    if mode != "same":
        return turned, mode
    # The middle of "full", whatever the stride; of an even number the odd zero comes first, as in SciPy.
    full = [effective_kernel(filters.shape[2 + axis], spread[axis]) - 1 for axis in (0, 1)]
    return turned, tuple((extent - extent // 2, extent // 2) for extent in full)
