"""Dropout whose mask is a function of a seed: nothing to store, the same for any number of threads."""

from __future__ import annotations

from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv._dispatch import elementwise
from cyconv.functional._arrays import NHWC, empty_ordered, flat
from cyconv.threads import threads_for

LARGEST = 2**64 - 1  # of a seed or an offset


def _dropout(op: str, name: str, x: ArrayLike, p: float, seed: int, offset: int) -> NDArray:
    x = check.as_float_array(op, name, x)
    p = check.as_number(op, "p", p, 0, 1)
    seed, offset = check.as_int(op, "seed", seed, 0, LARGEST), check.as_int(op, "offset", offset, 0, LARGEST)
    axes = NHWC if x.ndim == 4 else tuple(range(x.ndim))  # not the memory order: the mask shall not depend on it
    out = empty_ordered(x.shape, axes, x.dtype)
    scale = 1 / (1 - p) if p < 1 else 0.0
    threads = threads_for(x.size * 4)
    elementwise.dropout(flat(x, axes), flat(out, axes), seed, offset, round(p * 2**32), scale, threads)
    return out


def dropout(x: ArrayLike, p: float = 0.5, *, seed: int, offset: int = 0) -> NDArray:
    """Set random elements to zero and scale up the others.

    Parameters
    ----------
    x : array_like of any shape
        float32 or float64.
    p : float, default 0.5
        Probability that an element is dropped, 0 to 1.
    seed : int
        Which sequence of random numbers to use, 0 to 2**64 - 1.
    offset : int, default 0
        Where in the sequence to start: a later call that starts `x.size` further is independent of this one.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    TypeError
        For other dtypes, or a seed or offset that is not an integer.
    ValueError
        For a probability, seed or offset out of range.

    Notes
    -----
    ``y = x / (1 - p)`` where kept, ``0 x`` where dropped, so the expectation is `x`. Elements are counted in the order
    N, H, W, C for four dimensions, else as indexed. Element i is dropped if the upper 32 bits of number ``offset + i``
    of SplitMix64(seed) (Steele, Lea and Flood 2014) are below ``2**32 p``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.dropout(np.ones(8), 0.5, seed=0)
    array([2., 0., 0., 2., 0., 0., 0., 2.])
    """
    return _dropout("dropout", "x", x, p, seed, offset)


def dropout_backward(grad_output: ArrayLike, p: float = 0.5, *, seed: int, offset: int = 0) -> NDArray:
    """Return the gradient of `dropout` with respect to `x`: the same mask, made anew.

    Parameters
    ----------
    grad_output : array_like of any shape
        float32 or float64.
    p, seed, offset
        As in the forward.

    Returns
    -------
    ndarray of the shape of `grad_output`

    Raises
    ------
    TypeError
        For other dtypes, or a seed or offset that is not an integer.
    ValueError
        For a probability, seed or offset out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> bool((F.dropout_backward(np.ones(8), seed=0) == F.dropout(np.ones(8), seed=0)).all())
    True
    """
    return _dropout("dropout_backward", "grad_output", grad_output, p, seed, offset)
