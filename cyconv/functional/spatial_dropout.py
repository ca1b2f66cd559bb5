"""Spatial dropout: whole channels are dropped, with a mask that is a function of a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv._dispatch import group_normalization as kernels
from cyconv.functional._arrays import channels_last, empty_image, nhwc
from cyconv.functional.dropout import dropout
from cyconv.threads import threads_for


def dropout2d(x: ArrayLike, p: float = 0.5, *, seed: int, offset: int = 0) -> NDArray:
    """Set random channels of each image to zero and scale up the others.

    Parameters
    ----------
    x : array_like of shape (N, C, H, W)
        float32 or float64.
    p : float, default 0.5
        Probability that a channel is dropped, 0 to 1.
    seed : int
        Which sequence of random numbers to use, 0 to 2**64 - 1.
    offset : int, default 0
        Where in the sequence to start: a later call that starts N * C further is independent of this one.

    Returns
    -------
    ndarray of shape (N, C, H, W)

    Raises
    ------
    TypeError
        For other dtypes, or a seed or offset that is not an integer.
    ValueError
        For a probability, seed or offset out of range.

    Notes
    -----
    Neighbouring pixels tell much the same, so single ones cannot be silenced (Tompson, Goroshin, Jain, LeCun and
    Bregler 2015). The mask is that of `dropout` for an array (N, C).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.dropout2d(np.ones((1, 4, 1, 2)), 0.5, seed=0)[0, :, 0]
    array([[2., 2.],
           [0., 0.],
           [0., 0.],
           [2., 2.]])
    """
    return _dropped("dropout2d", "x", x, p, seed, offset)


def dropout2d_backward(grad_output: ArrayLike, p: float = 0.5, *, seed: int, offset: int = 0) -> NDArray:
    """Return the gradient of `dropout2d` with respect to `x`: the same mask, made anew.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, H, W)
        float32 or float64.
    p, seed, offset
        As in the forward.

    Returns
    -------
    ndarray of shape (N, C, H, W)

    Raises
    ------
    TypeError, ValueError
        As `dropout2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> x = np.ones((1, 4, 1, 2))
    >>> bool((F.dropout2d_backward(x, seed=0) == F.dropout2d(x, seed=0)).all())
    True
    """
    return _dropped("dropout2d_backward", "grad_output", grad_output, p, seed, offset)


def _dropped(op: str, name: str, x: Any, p: Any, seed: Any, offset: Any) -> NDArray:
    image = check.as_image(op, name, x)
    check.as_number(op, "p", p, 0, 1)
    for argument, value in (("seed", seed), ("offset", offset)):
        check.as_int(op, argument, value, 0, 2**64 - 1)
    N, C, H, W = image.shape
    factors = dropout(np.ones((N, C)), p, seed=seed, offset=offset)
    out, zero = empty_image(N, C, H, W, image.dtype), np.zeros((N, C))
    if out.size:
        arrays = channels_last(image).reshape(N, H * W, C), None, factors, zero, zero, zero
        kernels.scale(*arrays, nhwc(out).reshape(N, H * W, C), threads_for(out.size))
    return out
