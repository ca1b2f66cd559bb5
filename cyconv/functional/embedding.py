"""Looking up learned vectors by number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv import memory
from cyconv._dispatch import elementwise
from cyconv.threads import threads_for


def embedding(indices: ArrayLike, weight: ArrayLike) -> NDArray:
    """Return the row of a table for each index.

    Parameters
    ----------
    indices : array_like of int, of any shape
        Rows, from 0.
    weight : array_like of shape (K, D)
        The table; float32 or float64.

    Returns
    -------
    ndarray of shape (*indices.shape, D)

    Raises
    ------
    TypeError
        If `indices` are not integers, or `weight` not float32 or float64.
    ValueError
        If an index is not that of a row.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.embedding([1, 0, 1], np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([[3., 4.],
           [1., 2.],
           [3., 4.]])
    """
    rows, weight = _check("embedding", indices, weight)
    out = memory.empty((*rows.shape, weight.shape[1]), weight.dtype)
    return np.take(weight, rows, axis=0, out=out, mode="clip") if rows.size else out  # without a copy of `out`


def embedding_backward(grad_output: ArrayLike, indices: ArrayLike, weight: ArrayLike) -> NDArray:
    """Return the gradient of `embedding` with respect to `weight`: each row's gradients added up.

    Parameters
    ----------
    grad_output : array_like of shape (*indices.shape, D)
        Gradient of the result.
    indices, weight
        As in the forward; of `weight` only the shape matters.

    Returns
    -------
    ndarray of shape (K, D)

    Raises
    ------
    TypeError, ValueError
        As `embedding`, and for a `grad_output` of another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.embedding_backward(np.array([[1.0], [2.0], [3.0]]), [1, 0, 1], np.zeros((3, 1)))
    array([[2.],
           [4.],
           [0.]])
    """
    op = "embedding_backward"
    rows, weight = _check(op, indices, weight)
    grad = check.as_float_array(op, "grad_output", grad_output)
    check.check_same_dtype(op, grad_output=grad, weight=weight)
    check.check_shape(op, "grad_output", grad, (*rows.shape, weight.shape[1]))
    grad_weight = memory.zeros(weight.shape, weight.dtype)
    if grad.size:
        added = np.ascontiguousarray(grad.reshape(-1, weight.shape[1]))
        elementwise.add_rows(added, np.ascontiguousarray(rows.ravel()), grad_weight, threads_for(grad.size))
    return grad_weight


def _check(op: str, indices: Any, weight: Any) -> tuple[NDArray[np.int64], NDArray]:
    rows = check.as_int_array(op, "indices", indices)
    weight = check.as_float_array(op, "weight", weight, 2)
    if rows.size and not 0 <= rows.min() <= rows.max() < len(weight):
        raise ValueError(
            f"{op}: `indices` must be from 0 to {len(weight) - 1}, the rows of `weight`, "
            f"got {rows.min()} to {rows.max()}"
        )
    return rows, weight
