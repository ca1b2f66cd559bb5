"""Long short-term memory over sequences."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from cyconv import functional as F
from cyconv._validation import as_bool, as_float_array, as_int, check_same_dtype, check_shape
from cyconv.functional.lstm import outputs, through_time, unroll
from cyconv.initializers import uniform
from cyconv.layers.base import Layer, Shape, accumulate, data_of
from cyconv.parameter import Parameter


class LSTM(Layer):
    """Run a long short-term memory over sequences, (N, T, features), from a state of zeros.

    Parameters
    ----------
    input_size : int
        Numbers of each step.
    hidden_size : int
        Numbers of the hidden state.
    bias : bool, default True
        Whether biases are learned.

    Attributes
    ----------
    weight_ih_l0 : Parameter of shape (4 hidden_size, input_size)
    weight_hh_l0 : Parameter of shape (4 hidden_size, hidden_size)
    bias_ih_l0, bias_hh_l0 : Parameter of shape (4 hidden_size,) or None
        Named and ordered as PyTorch's, and drawn as they are.

    Notes
    -----
    The formulas stand in `cyconv.functional.lstm`. The batch comes first, PyTorch's ``batch_first=True``. `step` runs
    one time step, for sequences whose next input depends on the last output.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import LSTM
    >>> LSTM(3, 5)(np.zeros((2, 7, 3), np.float32)).shape
    (2, 7, 5)
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        self.input_size = as_int("LSTM", "input_size", input_size)
        self.hidden_size = H = as_int("LSTM", "hidden_size", hidden_size)
        self.has_bias = as_bool("LSTM", "bias", bias)
        draw = partial(uniform, bound=H**-0.5)
        self.weight_ih_l0 = Parameter.drawn((4 * H, self.input_size), draw)
        self.weight_hh_l0 = Parameter.drawn((4 * H, H), draw)
        self.bias_ih_l0 = Parameter.drawn((4 * H,), draw) if bias else None
        self.bias_hh_l0 = Parameter.drawn((4 * H,), draw) if bias else None

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 2 or input_shape[1] != self.input_size:
            raise ValueError(f"LSTM: needs sequences of shape (T, {self.input_size}), got {tuple(input_shape)}")
        return input_shape[0], self.hidden_size

    def step(self, x: NDArray, h: NDArray, c: NDArray) -> tuple[NDArray, NDArray]:
        """Return the hidden state and the cells after one step, x (N, input_size); nothing is kept for `backward`."""
        return F.lstm_cell(x, h, c, *self._weights(), data_of(self.bias_ih_l0), data_of(self.bias_hh_l0))

    def forward(self, x: NDArray) -> NDArray:
        x = as_float_array("LSTM", "x", x, 3)
        self.output_shape(x.shape[1:])
        check_same_dtype("LSTM", x=x, weight=self.weight_ih_l0)
        zero = np.zeros((len(x), self.hidden_size), x.dtype)
        bias = None
        if self.bias_ih_l0 is not None and self.bias_hh_l0 is not None:
            bias = self.bias_ih_l0.read() + self.bias_hh_l0.read()
        states = unroll(x, zero, zero, *self._weights(), bias)
        self.remember(x, states)
        return outputs(states)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        x, states = self.recall()
        grad = as_float_array("LSTM.backward", "grad_output", grad_output, 3)
        check_same_dtype("LSTM.backward", grad_output=grad, x=x)
        check_shape("LSTM.backward", "grad_output", grad, (*x.shape[:2], self.hidden_size))
        zero = np.zeros((len(x), self.hidden_size), x.dtype)
        grad_x, _, _, grad_ih, grad_hh, grad_bias = through_time(grad, x, *self._weights(), states, zero, zero)
        accumulate(self.weight_ih_l0, grad_ih)
        accumulate(self.weight_hh_l0, grad_hh)
        accumulate(self.bias_ih_l0, grad_bias)
        accumulate(self.bias_hh_l0, grad_bias)
        return grad_x

    def _weights(self) -> tuple[NDArray, NDArray]:
        return self.weight_ih_l0.read(), self.weight_hh_l0.read()
