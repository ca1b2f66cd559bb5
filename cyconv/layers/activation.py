"""Activations: element-wise nonlinearities, and softmax."""

from __future__ import annotations

from numpy.typing import NDArray

from cyconv import functional as F
from cyconv._validation import as_number
from cyconv.layers.base import Layer, Shape


class Activation(Layer):
    """A layer whose output has the shape of its input; a subclass writes `forward` and `backward`."""

    def output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)


class ReLU(Activation):
    """Replace negative numbers by zero.

    Notes
    -----
    ``y = max(x, 0)``, ``grad_x = grad_y where y > 0 else 0``; NaN stays NaN (Nair and Hinton 2010).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import ReLU
    >>> ReLU()(np.array([[-1.0, 2.0]]))
    array([[0., 2.]])
    """

    def forward(self, x: NDArray) -> NDArray:
        output = F.relu(x)
        self.remember(output)
        return output

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (output,) = self.recall()
        return F.relu_backward(grad_output, output)


class LeakyReLU(Activation):
    """Multiply negative numbers by a small slope (Maas et al. 2013).

    Parameters
    ----------
    negative_slope : float, default 0.01
        The factor of negative numbers.

    Raises
    ------
    TypeError, ValueError
        If the slope is not a number, or not finite.

    Notes
    -----
    ``y = x where x >= 0 else negative_slope * x``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import LeakyReLU
    >>> LeakyReLU(0.5)(np.array([[-1.0, 2.0]]))
    array([[-0.5,  2. ]])
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = as_number("LeakyReLU", "negative_slope", negative_slope)

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x)
        return F.leaky_relu(x, self.negative_slope)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (x,) = self.recall()
        return F.leaky_relu_backward(grad_output, x, self.negative_slope)


class Sigmoid(Activation):
    """Squash numbers into (0, 1), by the logistic function.

    Notes
    -----
    ``y = 1 / (1 + exp(-x))``, ``grad_x = grad_y * y * (1 - y)``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import Sigmoid
    >>> Sigmoid()(np.array([[0.0, 1000.0]]))
    array([[0.5, 1. ]])
    """

    def forward(self, x: NDArray) -> NDArray:
        output = F.sigmoid(x)
        self.remember(output)
        return output

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (output,) = self.recall()
        return F.sigmoid_backward(grad_output, output)


class Tanh(Activation):
    """Squash numbers into (-1, 1), by the hyperbolic tangent.

    Notes
    -----
    ``y = tanh(x)``, ``grad_x = grad_y * (1 - y^2)``. Centred on zero, unlike the logistic function (LeCun et al. 1998).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import Tanh
    >>> Tanh()(np.array([[0.0, -1000.0]]))
    array([[ 0., -1.]])
    """

    def forward(self, x: NDArray) -> NDArray:
        output = F.tanh(x)
        self.remember(output)
        return output

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (output,) = self.recall()
        return F.tanh_backward(grad_output, output)


class Softmax(Activation):
    """Turn the scores along axis 1, those of the classes, into probabilities.

    Leave it out in front of a cross-entropy loss, which takes the scores themselves.

    Notes
    -----
    ``y_k = exp(x_k) / sum_j exp(x_j)``, ``grad_x = y * (grad_y - sum(grad_y * y))``; scores are shifted by the
    largest, so that none overflows (Bridle 1990).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import Softmax
    >>> Softmax()(np.array([[1000.0, 1000.0]]))
    array([[0.5, 0.5]])
    """

    def forward(self, x: NDArray) -> NDArray:
        output = F.softmax(x, axis=1)
        self.remember(output)
        return output

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (output,) = self.recall()
        return F.softmax_backward(grad_output, output, axis=1)
