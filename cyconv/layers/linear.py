"""Linear: the fully connected layer."""

from __future__ import annotations

from numpy.typing import NDArray

from cyconv import functional as F
from cyconv._validation import as_int
from cyconv.functional._calls import AT_ONCE, Calls
from cyconv.functional.linear import affine
from cyconv.initializers import Initializer
from cyconv.layers.base import Layer, Shape, accumulate, completed, data_of, is_trainable, weight_and_bias
from cyconv.layers.recording import Recording


class Linear(Layer):
    """Multiply feature vectors by a learned matrix: y = x W^T + b.

    Parameters
    ----------
    in_features, out_features : int
        Length of the input and output vectors.
    bias : bool, default True
        Whether to add a learned number to each output.
    initializer : callable or str, optional
        Draws the weight, with a zero bias; by default both start as PyTorch's do.

    Attributes
    ----------
    weight : Parameter of shape (out_features, in_features)
    bias : Parameter of shape (out_features,) or None

    Examples
    --------
    >>> from cyconv.layers import Linear
    >>> Linear(400, 120).output_shape((400,))
    (120,)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        initializer: Initializer | str | None = None,
    ) -> None:
        self.in_features = as_int("Linear", "in_features", in_features)
        self.out_features = as_int("Linear", "out_features", out_features)
        shape = self.out_features, self.in_features
        self.weight, self.bias = weight_and_bias("Linear", shape, self.out_features, bias, initializer)

    def output_shape(self, input_shape: Shape) -> Shape:
        if tuple(input_shape) != (self.in_features,):
            hint = "; put a Flatten before it" if len(input_shape) == 3 else ""
            raise ValueError(f"Linear: needs vectors of shape ({self.in_features},), got {tuple(input_shape)}{hint}")
        return (self.out_features,)

    def forward(self, x: NDArray) -> NDArray:
        return self._run(x)

    def run(self, x: NDArray, addend: NDArray | None = None, relu: bool = False) -> NDArray:
        return self._run(x, relu) if addend is None else completed("Linear", self._run(x), addend, relu)

    def record(self, x: NDArray, addend: NDArray | None, relu: bool, calls: Recording) -> NDArray:
        calls.reads(self.weight, self.bias)
        output = self._run(x, relu and addend is None, calls)
        return output if addend is None else completed("Linear", output, addend, relu, calls)

    def _run(self, x: NDArray, relu: bool = False, calls: Calls = AT_ONCE) -> NDArray:
        self.remember(x)
        return affine("linear", x, self.weight.read(), data_of(self.bias), relu, calls)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (x,) = self.recall()
        needs = needs_grad_input, is_trainable(self.weight), is_trainable(self.bias)
        grad_input, grad_weight, grad_bias = F.linear_backward(
            grad_output, x, self.weight.read(), data_of(self.bias), needs=needs
        )
        accumulate(self.weight, grad_weight)
        accumulate(self.bias, grad_bias)
        return grad_input
