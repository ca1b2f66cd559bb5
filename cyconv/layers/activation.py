"""Activations: element-wise nonlinearities, and softmax."""

from __future__ import annotations

from functools import partial

from numpy.typing import NDArray

from cyconv import functional as F
from cyconv._validation import as_choice, as_int, as_number
from cyconv.functional.activation import rectified
from cyconv.initializers import constant
from cyconv.layers.base import Layer, Shape, accumulate, completed
from cyconv.layers.recording import Recording
from cyconv.parameter import Parameter


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

    def record(self, x: NDArray, addend: NDArray | None, relu: bool, calls: Recording) -> NDArray:
        return completed("ReLU", rectified(x, calls), addend, relu, calls)

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


class ELU(Activation):
    """Let negative numbers approach a limit exponentially (Clevert et al. 2016).

    Parameters
    ----------
    alpha : float, default 1.0
        The limit is -alpha.

    Notes
    -----
    ``y = x where x > 0 else alpha (exp(x) - 1)``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import ELU
    >>> ELU()(np.array([[-1000.0, 2.0]]))
    array([[-1.,  2.]])
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = as_number("ELU", "alpha", alpha)

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x)
        return F.elu(x, self.alpha)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (x,) = self.recall()
        return F.elu_backward(grad_output, x, self.alpha)


class SELU(Activation):
    """Apply the scaled exponential unit, which keeps mean 0 and variance 1 (Klambauer et al. 2017).

    Notes
    -----
    ``y = scale * elu(x, alpha)``, see `cyconv.functional.selu`; the weights should start with variance 1 / n.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import SELU
    >>> SELU()(np.array([[-1000.0, 1.0]])).round(3)
    array([[-1.758,  1.051]])
    """

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x)
        return F.selu(x)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (x,) = self.recall()
        return F.selu_backward(grad_output, x)


class GELU(Activation):
    """Weight each number by the chance that a normal one is smaller (Hendrycks and Gimpel 2016).

    Parameters
    ----------
    approximate : {"none", "tanh"}, default "none"
        The exact form, or the formula by tanh.

    Notes
    -----
    ``y = x Phi(x)``, Phi the distribution function of the normal distribution.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import GELU
    >>> GELU()(np.array([[0.0, 1.0]])).round(3)
    array([[0.   , 0.841]])
    """

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = as_choice("GELU", "approximate", approximate, ("none", "tanh"))

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x)
        return F.gelu(x, self.approximate)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (x,) = self.recall()
        return F.gelu_backward(grad_output, x, self.approximate)


class SiLU(Activation):
    """Weight each number by its logistic function, also called swish (Elfwing et al. 2018).

    Notes
    -----
    ``y = x / (1 + exp(-x))``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import SiLU
    >>> SiLU()(np.array([[0.0, 1.0]])).round(3)
    array([[0.   , 0.731]])
    """

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x)
        return F.silu(x)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (x,) = self.recall()
        return F.silu_backward(grad_output, x)


class Softplus(Activation):
    """Apply a smooth form of the ReLU (Dugas et al. 2001).

    Parameters
    ----------
    beta : float, default 1.0
        How sharply it bends at 0.

    Notes
    -----
    ``y = log(1 + exp(beta x)) / beta``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import Softplus
    >>> Softplus()(np.array([[-1000.0, 0.0]])).round(3)
    array([[0.   , 0.693]])
    """

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = as_number("Softplus", "beta", beta, 0, open_minimum=True)

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x)
        return F.softplus(x, self.beta)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (x,) = self.recall()
        return F.softplus_backward(grad_output, x, self.beta)


class PReLU(Activation):
    """Multiply negative numbers by a learned slope (He et al. 2015).

    Parameters
    ----------
    num_parameters : int, default 1
        One slope for all numbers, or one for each channel.
    init : float, default 0.25
        The slopes to start with.

    Attributes
    ----------
    weight : Parameter of shape (num_parameters,)

    Notes
    -----
    ``y = x where x >= 0 else weight * x``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import PReLU
    >>> PReLU()(np.array([[-1.0, 2.0]], np.float32))
    array([[-0.25,  2.  ]], dtype=float32)
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        self.num_parameters = as_int("PReLU", "num_parameters", num_parameters)
        self.init = as_number("PReLU", "init", init)
        self.weight = Parameter.drawn((self.num_parameters,), partial(constant, value=self.init))

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x)
        return F.prelu(x, self.weight.read())

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (x,) = self.recall()
        grad_input, grad_weight = F.prelu_backward(grad_output, x, self.weight.read())
        accumulate(self.weight, grad_weight)
        return grad_input


class Maxout(Layer):
    """Keep the largest of each run of channels (Goodfellow et al. 2013).

    Parameters
    ----------
    pieces : int
        How many neighbouring channels make up one unit.

    Notes
    -----
    ``y_u = max over j of x_(u * pieces + j)``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import Maxout
    >>> Maxout(2)(np.array([[1.0, 3.0, -2.0, -5.0]]))
    array([[ 3., -2.]])
    """

    def __init__(self, pieces: int) -> None:
        self.pieces = as_int("Maxout", "pieces", pieces)

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape or input_shape[0] % self.pieces:
            raise ValueError(f"Maxout: `pieces` {self.pieces} must divide the channels, got {tuple(input_shape)}")
        return input_shape[0] // self.pieces, *input_shape[1:]

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x)
        return F.maxout(x, self.pieces)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (x,) = self.recall()
        return F.maxout_backward(grad_output, x, self.pieces)
