"""Smooth activations: results lie in memory in the order of their input."""

from __future__ import annotations

from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv._dispatch import smooth_activation as kernels
from cyconv.functional._arrays import empty_ordered, flat, memory_axes
from cyconv.functional.activation import EXP_COST, gradient_and_saved
from cyconv.threads import threads_for

# Klambauer et al. 2017, to the digits of a double.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
GELU_KINDS = {"none": kernels.GELU, "tanh": kernels.GELU_TANH}


def _forward(op: str, kind: int, x: ArrayLike, alpha: float = 1.0, scale: float = 1.0) -> NDArray:
    x = check.as_float_array(op, "x", x)
    axes = memory_axes(x)
    out = empty_ordered(x.shape, axes, x.dtype)
    kernels.forward(kind, flat(x, axes), flat(out, axes), alpha, scale, threads_for(x.size * EXP_COST))
    return out


def _backward(
    op: str, kind: int, grad_output: ArrayLike, x: ArrayLike, alpha: float = 1.0, scale: float = 1.0
) -> NDArray:
    grad, x = gradient_and_saved(op, grad_output, "x", x)
    axes = memory_axes(x)
    grad_x = empty_ordered(x.shape, axes, x.dtype)
    threads = threads_for(x.size * EXP_COST)
    kernels.backward(kind, flat(grad, axes), flat(x, axes), flat(grad_x, axes), alpha, scale, threads)
    return grad_x


def elu(x: ArrayLike, alpha: float = 1.0) -> NDArray:
    """Let negative numbers approach a limit exponentially.

    Parameters
    ----------
    x : array_like of any shape
        float32 or float64.
    alpha : float, default 1.0
        The limit is -alpha.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other dtypes, or an `alpha` that is not a number.
    ValueError
        For an `alpha` that is not finite.

    Notes
    -----
    ``y = x where x > 0 else alpha (exp(x) - 1)`` (Clevert, Unterthiner and Hochreiter 2016), within 2 units in the last
    place of the exact value.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.elu(np.array([-1000.0, 0.0, 2.0]))
    array([-1.,  0.,  2.])
    """
    alpha = check.as_number("elu", "alpha", alpha)
    return _forward("elu", kernels.ELU, x, alpha)


def elu_backward(grad_output: ArrayLike, x: ArrayLike, alpha: float = 1.0) -> NDArray:
    """Return the gradient of `elu` with respect to `x`.

    Parameters
    ----------
    grad_output, x : array_like of one shape
        Gradient of the result, and the forward's input; of one dtype.
    alpha : float, default 1.0
        As in the forward.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For different shapes, or an `alpha` that is not finite.

    Notes
    -----
    ``grad_x = grad_output * (1 where x > 0 else alpha exp(x))``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.elu_backward(np.ones(3), np.array([-1000.0, 0.0, 2.0]))
    array([0., 1., 1.])
    """
    alpha = check.as_number("elu_backward", "alpha", alpha)
    return _backward("elu_backward", kernels.ELU, grad_output, x, alpha)


def selu(x: ArrayLike) -> NDArray:
    """Apply the scaled exponential unit, which keeps mean 0 and variance 1 from layer to layer.

    Parameters
    ----------
    x : array_like of any shape
        float32 or float64.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other dtypes.

    Notes
    -----
    ``y = scale * elu(x, alpha)`` with ``alpha = 1.67326...`` and ``scale = 1.05070...``, for which mean 0 and variance
    1 are a fixed point (Klambauer, Unterthiner, Mayr and Hochreiter 2017).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.selu(np.array([-1000.0, 0.0, 1.0])).round(4)
    array([-1.7581,  0.    ,  1.0507])
    """
    return _forward("selu", kernels.ELU, x, SELU_ALPHA, SELU_SCALE)


def selu_backward(grad_output: ArrayLike, x: ArrayLike) -> NDArray:
    """Return the gradient of `selu` with respect to `x`.

    Parameters
    ----------
    grad_output, x : array_like of one shape
        Gradient of the result, and the forward's input; of one dtype.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For different shapes.

    Notes
    -----
    ``grad_x = scale * grad_output * (1 where x > 0 else alpha exp(x))``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.selu_backward(np.ones(2), np.array([-1000.0, 1.0])).round(4)
    array([0.    , 1.0507])
    """
    return _backward("selu_backward", kernels.ELU, grad_output, x, SELU_ALPHA, SELU_SCALE)


def gelu(x: ArrayLike, approximate: str = "none") -> NDArray:
    """Weight each number by the chance that a normal one is smaller.

    Parameters
    ----------
    x : array_like of any shape
        float32 or float64.
    approximate : {"none", "tanh"}, default "none"
        The exact form, or the formula by tanh.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other dtypes.
    ValueError
        For another `approximate`.

    Notes
    -----
    ``y = x Phi(x)``, Phi the distribution function of the normal distribution, or ``y = x / 2 * (1 + tanh(sqrt(2 / pi)
    (x + 0.044715 x^3)))`` (Hendrycks and Gimpel 2016). The exact form is within 5 units in the last place for
    every `x`: in the left tail too, where ``(1 + erf(x / sqrt(2))) / 2`` would leave no digit.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.gelu(np.array([-1000.0, 0.0, 1.0])).round(4)
    array([-0.    ,  0.    ,  0.8413])
    """
    kind = GELU_KINDS[check.as_choice("gelu", "approximate", approximate, ("none", "tanh"))]
    return _forward("gelu", kind, x)


def gelu_backward(grad_output: ArrayLike, x: ArrayLike, approximate: str = "none") -> NDArray:
    """Return the gradient of `gelu` with respect to `x`.

    Parameters
    ----------
    grad_output, x : array_like of one shape
        Gradient of the result, and the forward's input; of one dtype.
    approximate : {"none", "tanh"}, default "none"
        As in the forward.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For different shapes, or another `approximate`.

    Notes
    -----
    ``grad_x = grad_output * (Phi(x) + x exp(-x^2 / 2) / sqrt(2 pi))``; by tanh the derivative of that formula.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.gelu_backward(np.ones(3), np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    op = "gelu_backward"
    kind = GELU_KINDS[check.as_choice(op, "approximate", approximate, ("none", "tanh"))]
    return _backward(op, kind, grad_output, x)


def silu(x: ArrayLike) -> NDArray:
    """Weight each number by its logistic function (also called swish).

    Parameters
    ----------
    x : array_like of any shape
        float32 or float64.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other dtypes.

    Notes
    -----
    ``y = x / (1 + exp(-x))`` (Elfwing, Uchibe and Doya 2018; Ramachandran, Zoph and Le 2017), within 3 units in the
    last place of the exact value.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.silu(np.array([-1000.0, 0.0, 1000.0]))
    array([  -0.,    0., 1000.])
    """
    return _forward("silu", kernels.SILU, x)


def silu_backward(grad_output: ArrayLike, x: ArrayLike) -> NDArray:
    """Return the gradient of `silu` with respect to `x`.

    Parameters
    ----------
    grad_output, x : array_like of one shape
        Gradient of the result, and the forward's input; of one dtype.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For different shapes.

    Notes
    -----
    ``grad_x = grad_output * s * (1 + x (1 - s))`` with ``s = 1 / (1 + exp(-x))``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.silu_backward(np.ones(3), np.array([-1000.0, 0.0, 1000.0]))
    array([-0. ,  0.5,  1. ])
    """
    return _backward("silu_backward", kernels.SILU, grad_output, x)


def softplus(x: ArrayLike, beta: float = 1.0) -> NDArray:
    """Apply a smooth form of the ReLU.

    Parameters
    ----------
    x : array_like of any shape
        float32 or float64.
    beta : float, default 1.0
        How sharply it bends at 0; above 0.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other dtypes, or a `beta` that is not a number.
    ValueError
        For a `beta` that is not positive.

    Notes
    -----
    ``y = log(1 + exp(beta x)) / beta`` (Dugas et al. 2001), computed as ``(max(z, 0) + log(1 + exp(-|z|))) / beta``
    with ``z = beta x``: nothing overflows, so there is no threshold, and for ``beta = 1`` it is within 3 units in the
    last place of the exact value.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.softplus(np.array([-1000.0, 0.0, 1000.0])).round(4)
    array([0.000e+00, 6.931e-01, 1.000e+03])
    """
    beta = check.as_number("softplus", "beta", beta, 0, open_minimum=True)
    return _forward("softplus", kernels.SOFTPLUS, x, beta)


def softplus_backward(grad_output: ArrayLike, x: ArrayLike, beta: float = 1.0) -> NDArray:
    """Return the gradient of `softplus` with respect to `x`.

    Parameters
    ----------
    grad_output, x : array_like of one shape
        Gradient of the result, and the forward's input; of one dtype.
    beta : float, default 1.0
        As in the forward.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For different shapes, or a `beta` that is not positive.

    Notes
    -----
    ``grad_x = grad_output / (1 + exp(-beta x))``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.softplus_backward(np.ones(3), np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    beta = check.as_number("softplus_backward", "beta", beta, 0, open_minimum=True)
    return _backward("softplus_backward", kernels.SOFTPLUS, grad_output, x, beta)
