"""Long short-term memory: one step, and whole sequences with the backward pass through time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv import memory
from cyconv._dispatch import lstm as kernels
from cyconv.functional._arrays import dense, sum_channels
from cyconv.functional.linear import matmul
from cyconv.threads import threads_for

GATES_COST = 64  # of a cell's gates, in the time of an addition


class States(NamedTuple):
    """What the backward pass needs: all of shape (T, N, ...), a time step after another."""

    hidden: NDArray  # (T + 1, N, H): before each step, and after the last
    cells: NDArray  # (T + 1, N, H)
    gates: NDArray  # (T, N, 4 H): input, forget, candidate, output, after their activations
    squashed: NDArray  # (T, N, H): tanh of the new cells


Gradients = tuple[NDArray, NDArray, NDArray, NDArray, NDArray, NDArray | None, NDArray | None]


def lstm(
    x: ArrayLike,
    h: ArrayLike,
    c: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
) -> tuple[NDArray, NDArray, NDArray]:
    """Run a long short-term memory over sequences.

    Parameters
    ----------
    x : array_like of shape (N, T, I)
        Sequences of T vectors, at least one; float32 or float64.
    h, c : array_like of shape (N, H)
        Hidden state and cells before the first step; of the same dtype, as all that follow.
    weight_ih : array_like of shape (4 H, I)
    weight_hh : array_like of shape (4 H, H)
        Weights of the input and of the hidden state; rows for the input gate, the forget gate, the candidate and the
        output gate, as in PyTorch.
    bias_ih, bias_hh : array_like of shape (4 H,), optional
        Biases; default none. They are added, two of them only because PyTorch has two.

    Returns
    -------
    output : ndarray of shape (N, T, H)
        The hidden state after each step.
    h, c : ndarray of shape (N, H)
        Hidden state and cells after the last step.

    Raises
    ------
    TypeError
        For other or mixed dtypes.
    ValueError
        For shapes that do not fit.

    Notes
    -----
    ``i, f, o = sigmoid(W x + U h + b)``, ``g = tanh(W x + U h + b)``, each with its own rows; ``c = f c + i g``, ``h =
    o tanh(c)`` (Hochreiter and Schmidhuber 1997; with forget gates, Gers, Schmidhuber and Cummins 2000).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> state = np.zeros((1, 1))
    >>> output, h, c = F.lstm(np.ones((1, 3, 2)), state, state, np.ones((4, 2)), np.ones((4, 1)))
    >>> output.round(3)
    array([[[0.608],
            [0.873],
            [0.935]]])
    """
    arrays = _check("lstm", x, h, c, weight_ih, weight_hh, bias_ih, bias_hh)
    states = unroll(*arrays)
    return outputs(states), states.hidden[-1].copy(), states.cells[-1].copy()


def lstm_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    h: ArrayLike,
    c: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
    *,
    grad_h: ArrayLike | None = None,
    grad_c: ArrayLike | None = None,
) -> Gradients:
    """Return the gradients of `lstm` with respect to all its arrays: backpropagation through time.

    Parameters
    ----------
    grad_output : array_like of shape (N, T, H)
        Gradient of the output.
    x, h, c, weight_ih, weight_hh, bias_ih, bias_hh
        As in the forward, which is run again.
    grad_h, grad_c : array_like of shape (N, H), optional
        Gradients of the final hidden state and cells; default 0.

    Returns
    -------
    grad_x, grad_h, grad_c, grad_weight_ih, grad_weight_hh, grad_bias_ih, grad_bias_hh : ndarray or None
        In the shapes of x, h, ...; None for an absent bias.

    Raises
    ------
    TypeError, ValueError
        As `lstm`, and for gradients of other shapes.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> state = np.zeros((1, 1))
    >>> arrays = np.ones((1, 3, 2)), state, state, np.ones((4, 2)), np.ones((4, 1))
    >>> [gradient is None or gradient.shape for gradient in F.lstm_backward(np.ones((1, 3, 1)), *arrays)]
    [(1, 3, 2), (1, 1), (1, 1), (4, 2), (4, 1), True, True]
    """
    arrays = x, h, c, weight_ih, weight_hh, bias_ih, bias_hh
    grad_output = check.as_array("lstm_backward", "grad_output", grad_output)
    return _sequences_backward("lstm_backward", grad_output, *arrays, grad_h, grad_c)


def _sequences_backward(
    op: str,
    grad_output: Any,
    x: Any,
    h: Any,
    c: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any,
    bias_hh: Any,
    grad_h: Any,
    grad_c: Any,
) -> Gradients:
    """Do what `lstm_backward` does; without `grad_output` for the gradients of the final state alone."""
    arrays = _check(op, x, h, c, weight_ih, weight_hh, bias_ih, bias_hh)
    H = arrays[4].shape[1]
    shape = (*arrays[0].shape[:2], H)
    if grad_output is None:
        grad = np.zeros(shape, arrays[0].dtype)
    else:
        grad = check.as_float_array(op, "grad_output", grad_output, 3)
        check.check_same_dtype(op, grad_output=grad, x=arrays[0])
        check.check_shape(op, "grad_output", grad, shape)
    final = [
        np.zeros((len(arrays[0]), H), arrays[0].dtype)
        if value is None
        else _checked_state(op, name, value, arrays[0], H)
        for name, value in (("grad_h", grad_h), ("grad_c", grad_c))
    ]
    states = unroll(*arrays)
    gradients = through_time(grad, arrays[0], arrays[3], arrays[4], states, *final)
    has_bias = bias_ih is not None, bias_hh is not None
    by_bias = gradients[5]
    return *gradients[:5], by_bias if has_bias[0] else None, by_bias.copy() if has_bias[1] else None


def lstm_cell(
    x: ArrayLike,
    h: ArrayLike,
    c: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
) -> tuple[NDArray, NDArray]:
    """Run a long short-term memory for one step.

    Parameters
    ----------
    x : array_like of shape (N, I)
        float32 or float64.
    h, c, weight_ih, weight_hh, bias_ih, bias_hh
        As in `lstm`.

    Returns
    -------
    h, c : ndarray of shape (N, H)
        The new hidden state and cells.

    Raises
    ------
    TypeError, ValueError
        As `lstm`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> state = np.zeros((1, 1))
    >>> h, c = F.lstm_cell(np.ones((1, 2)), state, state, np.ones((4, 2)), np.ones((4, 1)))
    >>> h.round(3), c.round(3)
    (array([[0.608]]), array([[0.849]]))
    """
    arrays = _check("lstm_cell", _as_sequence("lstm_cell", x), h, c, weight_ih, weight_hh, bias_ih, bias_hh)
    states = unroll(*arrays)
    return states.hidden[-1].copy(), states.cells[-1].copy()


def lstm_cell_backward(
    grad_h: ArrayLike,
    grad_c: ArrayLike,
    x: ArrayLike,
    h: ArrayLike,
    c: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
) -> Gradients:
    """Return the gradients of `lstm_cell` with respect to all its arrays.

    Parameters
    ----------
    grad_h, grad_c : array_like of shape (N, H)
        Gradients of the new hidden state and of the new cells.
    x, h, c, weight_ih, weight_hh, bias_ih, bias_hh
        As in the forward.

    Returns
    -------
    grad_x, grad_h, grad_c, grad_weight_ih, grad_weight_hh, grad_bias_ih, grad_bias_hh : ndarray or None
        In the shapes of x, h, ...; None for an absent bias.

    Raises
    ------
    TypeError, ValueError
        As `lstm_cell`, and for gradients of other shapes.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> state = np.zeros((1, 1))
    >>> arrays = np.ones((1, 2)), state, state, np.ones((4, 2)), np.ones((4, 1))
    >>> F.lstm_cell_backward(np.ones((1, 1)), state, *arrays)[1].round(3)
    array([[0.148]])
    """
    op = "lstm_cell_backward"
    arrays = _as_sequence(op, x), h, c, weight_ih, weight_hh, bias_ih, bias_hh
    grad_x, *others = _sequences_backward(op, None, *arrays, grad_h, grad_c)
    return grad_x[:, 0], *others  # type: ignore[return-value]


def unroll(
    x: NDArray, h: NDArray, c: NDArray, weight_ih: NDArray, weight_hh: NDArray, bias: NDArray | None = None
) -> States:
    """Return all states of checked sequences."""
    N, T, _ = x.shape
    H = h.shape[1]
    hidden, cells = (memory.empty((T + 1, N, H), x.dtype) for _ in range(2))
    gates, squashed = memory.empty((T, N, 4 * H), x.dtype), memory.empty((T, N, H), x.dtype)
    hidden[0], cells[0] = h, c
    steps = dense(x.swapaxes(0, 1))
    from_input = matmul(steps.reshape(T * N, -1), weight_ih.T, bias).reshape(T, N, 4 * H)
    recurrent, threads = dense(weight_hh.T), threads_for(N * H * GATES_COST)
    for t in range(T):
        arrays = from_input[t], matmul(hidden[t], recurrent), cells[t]
        kernels.step(*arrays, gates[t], cells[t + 1], squashed[t], hidden[t + 1], threads)
    return States(hidden, cells, gates, squashed)


def outputs(states: States) -> NDArray:
    """Return the hidden states after each step, (N, T, H), in fresh memory."""
    after = states.hidden[1:].swapaxes(0, 1)
    out = memory.empty(after.shape, after.dtype)
    out[...] = after
    return out


def through_time(
    grad_output: NDArray,
    x: NDArray,
    weight_ih: NDArray,
    weight_hh: NDArray,
    states: States,
    grad_h: NDArray,
    grad_c: NDArray,
) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray, NDArray]:
    """Return the gradients of x, h, c, both weights and their bias.

    With ``h = o s``, ``s = tanh(c)`` and ``c = f c' + i g``: ``dc += dh o (1 - s^2)``, ``do = dh s``, ``di = dc g``,
    ``dg = dc i``, ``df = dc c'``, ``dc' = dc f``; each gate's gradient times the derivative of its activation; ``dh' =
    dz U``.
    """
    N, T, I = x.shape  # noqa: E741
    H = grad_h.shape[1]
    grad_z = memory.empty((T, N, 4 * H), x.dtype)
    grad_c = np.array(grad_c, order="C")  # each step's takes the place of the next one's
    grad_h, threads = np.ascontiguousarray(grad_h), threads_for(N * H * GATES_COST)
    if grad_output.strides[2] != grad_output.itemsize:
        grad_output = np.ascontiguousarray(grad_output)
    for t in reversed(range(T)):
        arrays = grad_h, grad_output[:, t], states.gates[t], states.cells[t], states.squashed[t]
        kernels.step_backward(*arrays, grad_c, grad_z[t], threads)
        grad_h = matmul(grad_z[t], weight_hh)
    rows = grad_z.reshape(T * N, 4 * H)
    grad_x = np.ascontiguousarray(matmul(rows, weight_ih).reshape(T, N, I).swapaxes(0, 1))
    steps = dense(x.swapaxes(0, 1)).reshape(T * N, I)
    before = states.hidden[:-1].reshape(T * N, H)
    return grad_x, grad_h, grad_c, matmul(rows.T, steps), matmul(rows.T, before), sum_channels(rows)


def _as_sequence(op: str, x: Any) -> NDArray:
    return check.as_float_array(op, "x", x, 2)[:, np.newaxis]


def _checked_state(op: str, name: str, value: Any, x: NDArray, H: int) -> NDArray:
    state = check.as_float_array(op, name, value, 2)
    check.check_same_dtype(op, x=x, **{name: state})
    check.check_shape(op, name, state, (len(x), H))
    return state


def _check(
    op: str, x: Any, h: Any, c: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any
) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray, NDArray | None]:
    """Return the arrays, both biases as one."""
    x = check.as_float_array(op, "x", x, 3)
    weight_hh = check.as_float_array(op, "weight_hh", weight_hh, 2)
    H = weight_hh.shape[1]
    if min(x.shape[1:]) < 1 or H < 1 or weight_hh.shape[0] != 4 * H:
        raise ValueError(
            f"{op}: `weight_hh` must have shape (4 H, H), and `x` a step and a number a step at least, "
            f"got {weight_hh.shape} and {x.shape}"
        )
    h, c = _checked_state(op, "h", h, x, H), _checked_state(op, "c", c, x, H)
    weight_ih = check.as_float_array(op, "weight_ih", weight_ih, 2)
    check.check_same_dtype(op, x=x, weight_ih=weight_ih, weight_hh=weight_hh)
    check.check_shape(op, "weight_ih", weight_ih, (4 * H, x.shape[2]), f" (4 H rows, as wide as `x` {x.shape})")
    total = None
    for name, values in (("bias_ih", bias_ih), ("bias_hh", bias_hh)):
        if values is not None:
            bias = check.as_float_array(op, name, values, 1)
            check.check_same_dtype(op, x=x, **{name: bias})
            check.check_shape(op, name, bias, (4 * H,))
            total = np.ascontiguousarray(bias) if total is None else total + bias
    return x, h, c, dense(weight_ih), dense(weight_hh), total
