"""Steps scaled by the sizes of past gradients: Adagrad, Adadelta, RMSprop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cyconv._dispatch import optimizer as kernel
from cyconv._validation import as_bool, as_number
from cyconv.optimizers.base import Optimizer, Step
from cyconv.threads import threads_for


class Adagrad(Optimizer):
    """Adagrad: each number's steps shrink with the sum of its squared gradients (Duchi, Hazan and Singer 2011).

    Parameters
    ----------
    learning_rate : float, default 0.01
        Size of the steps.
    learning_rate_decay : float, default 0
        How much the learning rate falls with the number of steps.
    epsilon : float, default 1e-10
        Added to the root of the sum.
    weight_decay : float, default 0
        Added to the gradient, times the weight.
    initial_accumulator : float, default 0
        Sum of the squares before the first step.

    Raises
    ------
    TypeError, ValueError
        If one is not a number, or negative.

    Notes
    -----
    With g = gradient + weight_decay * w and t the number of the step, as in PyTorch::

        s += g^2        w -= learning_rate / (1 + (t - 1) * learning_rate_decay) * g / (sqrt(s) + epsilon)

    J. Duchi, E. Hazan, Y. Singer, Adaptive Subgradient Methods for Online Learning and Stochastic Optimization, JMLR
    12, 2011, with the diagonal of the matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.optimizers import Adagrad
    >>> from cyconv.parameter import Parameter
    >>> weight = Parameter(np.ones(2))
    >>> weight.accumulate(np.array([5.0, -0.5]))
    >>> Adagrad(learning_rate=0.1).step({"weight": weight})
    >>> weight.data.round(6)
    array([0.9, 1.1])
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        learning_rate_decay: float = 0.0,
        epsilon: float = 1e-10,
        weight_decay: float = 0.0,
        initial_accumulator: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.learning_rate_decay = as_number("Adagrad", "learning_rate_decay", learning_rate_decay, 0)
        self.epsilon = as_number("Adagrad", "epsilon", epsilon, 0, open_minimum=True)  # else 0/0 where g is 0
        self.initial_accumulator = as_number("Adagrad", "initial_accumulator", initial_accumulator, 0)

    @property
    def slots(self) -> tuple[str, ...]:
        """Sum of the squared gradients."""
        return ("squares",)

    def fresh_state(self, size: int, dtype: np.dtype) -> list[NDArray]:
        """Return the sum before the first step."""
        (squares,) = super().fresh_state(size, dtype)
        squares += self.initial_accumulator
        return [squares]

    def update(self, parameter: NDArray, gradient: NDArray, *state: NDArray, step: Step) -> None:
        """Take a step, scaled by all gradients so far."""
        rate = step.learning_rate / (1 + (step.number - 1) * self.learning_rate_decay)
        kernel.adagrad(
            parameter, gradient, *state, rate, self.epsilon, step.weight_decay, threads_for(parameter.size)
        )  # fmt: skip


class Adadelta(Optimizer):
    """Adadelta: steps as large as past updates were beside past gradients (Zeiler 2012).

    Parameters
    ----------
    learning_rate : float, default 1
        Factor of the steps; the method itself has none.
    rho : float, default 0.9
        Decay of the two averages; below 1.
    epsilon : float, default 1e-6
        Added to both averages; above 0, or nothing would ever move.
    weight_decay : float, default 0
        Added to the gradient, times the weight.

    Raises
    ------
    TypeError, ValueError
        If one is not a number, or out of range.

    Notes
    -----
    With g = gradient + weight_decay * w, as in PyTorch::

        s = rho * s + (1 - rho) * g^2           d = sqrt(u + epsilon) / sqrt(s + epsilon) * g
        u = rho * u + (1 - rho) * d^2           w -= learning_rate * d

    M. D. Zeiler, ADADELTA: An Adaptive Learning Rate Method, 2012, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.optimizers import Adadelta
    >>> from cyconv.parameter import Parameter
    >>> weight = Parameter(np.ones(2))
    >>> weight.accumulate(np.array([5.0, -0.5]))
    >>> Adadelta().step({"weight": weight})
    >>> weight.data.round(6)
    array([0.996838, 1.003162])
    """

    def __init__(
        self, learning_rate: float = 1.0, rho: float = 0.9, epsilon: float = 1e-6, weight_decay: float = 0.0
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.rho = as_number("Adadelta", "rho", rho, 0, 1, open_maximum=True)
        self.epsilon = as_number("Adadelta", "epsilon", epsilon, 0, open_minimum=True)

    @property
    def slots(self) -> tuple[str, ...]:
        """Running averages of the squares of the gradient and of the updates."""
        return ("squares", "updates")

    def update(self, parameter: NDArray, gradient: NDArray, *state: NDArray, step: Step) -> None:
        """Take a step as large as the past ones were for such a gradient."""
        kernel.adadelta(
            parameter, gradient, *state, step.learning_rate, self.rho, self.epsilon, step.weight_decay,
            threads_for(parameter.size),
        )  # fmt: skip


class RMSprop(Optimizer):
    """RMSprop: steps scaled by a running average of the squared gradient (Tieleman and Hinton 2012).

    Parameters
    ----------
    learning_rate : float, default 0.01
        Size of the steps.
    alpha : float, default 0.99
        Decay of the average; below 1.
    epsilon : float, default 1e-8
        Added to its root.
    weight_decay : float, default 0
        Added to the gradient, times the weight.
    momentum : float, default 0
        Share of the last step that the next one repeats; below 1.
    centered : bool, default False
        Whether the average is of the squared distance from the averaged gradient (Graves 2013).

    Raises
    ------
    TypeError, ValueError
        If one is not a number, or out of range.

    Notes
    -----
    With g = gradient + weight_decay * w, as in PyTorch::

        s = alpha * s + (1 - alpha) * g^2       r = sqrt(s)
        centered: a = alpha * a + (1 - alpha) * g       r = sqrt(s - a^2)
        b = momentum * b + g / (r + epsilon)            w -= learning_rate * b

    T. Tieleman, G. Hinton, Lecture 6.5: rmsprop, Coursera, 2012; A. Graves, Generating Sequences With Recurrent Neural
    Networks, 2013, equations 38 to 45.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.optimizers import RMSprop
    >>> from cyconv.parameter import Parameter
    >>> weight = Parameter(np.ones(2))
    >>> weight.accumulate(np.array([5.0, -0.5]))
    >>> RMSprop(learning_rate=0.01).step({"weight": weight})
    >>> weight.data.round(6)
    array([0.9, 1.1])
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        alpha: float = 0.99,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.alpha = as_number("RMSprop", "alpha", alpha, 0, 1, open_maximum=True)
        self.epsilon = as_number("RMSprop", "epsilon", epsilon, 0, open_minimum=True)  # else 0/0 where g is 0
        self.momentum = as_number("RMSprop", "momentum", momentum, 0, 1, open_maximum=True)
        self.centered = as_bool("RMSprop", "centered", centered)

    @property
    def slots(self) -> tuple[str, ...]:
        """Running average of the squared gradient, that of the gradient if centered, the velocity of momentum."""
        wanted = {"squares": True, "average": self.centered, "velocity": self.momentum > 0}
        return tuple(slot for slot, is_wanted in wanted.items() if is_wanted)

    def update(self, parameter: NDArray, gradient: NDArray, *state: NDArray, step: Step) -> None:
        """Take a step scaled by the gradient's averaged size."""
        slots = dict(zip(self.slots, state, strict=True))
        kernel.rmsprop(
            parameter, gradient, slots["squares"], slots.get("average"), slots.get("velocity"), step.learning_rate,
            self.alpha, self.epsilon, step.weight_decay, self.momentum, threads_for(parameter.size),
        )  # fmt: skip
