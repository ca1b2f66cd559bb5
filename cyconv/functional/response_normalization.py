"""Local response normalisation: channels inhibit their neighbours."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv._dispatch import response_normalization as kernels
from cyconv.functional._arrays import channels_last, empty_image, nhwc
from cyconv.threads import threads_for


def local_response_norm(x: ArrayLike, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> NDArray:
    """Divide each number by a power of the mean square of the channels around it.

    Parameters
    ----------
    x : array_like of shape (N, C, H, W)
        float32 or float64.
    size : int
        How many channels count, ``size // 2`` before and the others from the channel on.
    alpha : float, default 1e-4
        Factor of the mean square; not negative.
    beta : float, default 0.75
        Exponent.
    k : float, default 1.0
        Added to the mean square; above 0.

    Returns
    -------
    ndarray of shape (N, C, H, W)

    Raises
    ------
    TypeError
        If `x` is not float32 or float64, or a parameter is not a number.
    ValueError
        If a parameter is out of range.

    Notes
    -----
    ``y_c = x_c / (k + alpha / size * sum of x_j^2 for c - size // 2 <= j <= c + (size - 1) // 2)^beta``, absent
    channels counting as 0, as in PyTorch. Krizhevsky, Sutskever and Hinton (2012) have no division by the size: their k
    = 2, n = 5, alpha = 1e-4, beta = 0.75 are ``size=5, alpha=5e-4, k=2`` here.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.local_response_norm(np.array([[[[3.0]], [[4.0]]]]), 3, alpha=3.0, beta=0.5, k=11.0).ravel().round(4)
    array([0.5   , 0.6667])
    """
    x, window, parameters = _check("local_response_norm", x, size, alpha, beta, k)
    N, C, H, W = x.shape
    out = empty_image(N, C, H, W, x.dtype)
    if x.size:
        rows = channels_last(x).reshape(-1, C), nhwc(out).reshape(-1, C)
        kernels.forward(rows[0], *window, *parameters, rows[1], threads_for(x.size * (sum(window) + 9)))
    return out


def local_response_norm_backward(
    grad_output: ArrayLike, x: ArrayLike, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> NDArray:
    """Return the gradient of `local_response_norm` with respect to `x`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, H, W)
        Gradient of the result.
    x, size, alpha, beta, k
        As in the forward.

    Returns
    -------
    ndarray of shape (N, C, H, W)

    Raises
    ------
    TypeError, ValueError
        As `local_response_norm`, and for a `grad_output` of another shape.

    Notes
    -----
    With s the sum in brackets: ``grad_x_i = grad_i s_i^-beta - 2 beta alpha / size x_i sum of grad_j x_j s_j^(-beta -
    1)`` over the channels j whose window holds i.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.local_response_norm_backward(np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1)), 5, k=16.0)
    array([[[[0.125]]]])
    """
    op = "local_response_norm_backward"
    x, window, parameters = _check(op, x, size, alpha, beta, k)
    grad = check.as_float_array(op, "grad_output", grad_output, 4)
    check.check_same_dtype(op, grad_output=grad, x=x)
    check.check_shape(op, "grad_output", grad, x.shape, " (that of `x`)")
    N, C, H, W = x.shape
    grad_x = empty_image(N, C, H, W, x.dtype)
    if x.size:
        rows = channels_last(grad).reshape(-1, C), channels_last(x).reshape(-1, C)
        kernels.backward(
            *rows, *window, *parameters, nhwc(grad_x).reshape(-1, C), threads_for(x.size * (2 * sum(window) + 18))
        )
    return grad_x


def _check(
    op: str, x: Any, size: Any, alpha: Any, beta: Any, k: Any
) -> tuple[NDArray, tuple[int, int], tuple[float, float, float]]:
    """Return x, the channels before and after that count, and the kernel's factor, exponent and summand."""
    x = check.as_image(op, "x", x)
    size = check.as_int(op, "size", size)
    C = x.shape[1]  # channels farther away than that are absent
    window = min(size // 2, C - 1), min((size - 1) // 2, C - 1)
    factor = check.as_number(op, "alpha", alpha, 0) / size
    exponent = check.as_number(op, "beta", beta)
    return x, window, (factor, exponent, check.as_number(op, "k", k, 0, open_minimum=True))
