"""Adam and its relatives: steps along the averaged gradient, scaled by its averaged size."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

from numpy.typing import NDArray

from cyconv._dispatch import optimizer as kernel
from cyconv._validation import as_bool, as_number
from cyconv.optimizers.base import Optimizer, Step
from cyconv.threads import threads_for


class Adam(Optimizer):
    """Adam: steps scaled by running averages of the gradient and of its square (Kingma and Ba 2015).

    Parameters
    ----------
    learning_rate : float, default 0.001
        Size of the steps.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the two averages; below 1.
    epsilon : float, default 1e-8
        Added to the root of the second average.
    weight_decay : float, default 0
        Added to the gradient, times the weight.
    amsgrad : bool, default False
        Whether v' is taken at its largest so far, so that steps do not grow again (Reddi et al. 2018).

    Raises
    ------
    TypeError, ValueError
        If one is not a number, or out of range.

    Notes
    -----
    With g = gradient + weight_decay * w and t the number of the step::

        m = beta1 * m + (1 - beta1) * g         m' = m / (1 - beta1^t)
        v = beta2 * v + (1 - beta2) * g^2       v' = v / (1 - beta2^t)
        w -= learning_rate * m' / (sqrt(v') + epsilon)

    D. P. Kingma, J. Ba, Adam: A Method for Stochastic Optimization, ICLR 2015, algorithm 1. As in
    PyTorch, AMSGrad takes the largest of the uncorrected averages v:

    S. J. Reddi, S. Kale, S. Kumar, On the Convergence of Adam and Beyond, ICLR 2018, algorithm 2.

    Examples
    --------
    The first step has the length of the learning rate whatever the gradient's size:

    >>> import numpy as np
    >>> from cyconv.optimizers import Adam
    >>> from cyconv.parameter import Parameter
    >>> weight = Parameter(np.ones(2))
    >>> weight.accumulate(np.array([5.0, -0.5]))
    >>> Adam(learning_rate=0.1).step({"weight": weight})
    >>> weight.data.round(6)
    array([0.9, 1.1])
    """

    decoupled: ClassVar[bool] = False  # whether weight decay goes past the averages, straight to the weights

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        op = type(self).__name__
        self.beta1 = as_number(op, "beta1", beta1, 0, 1, open_maximum=True)
        self.beta2 = as_number(op, "beta2", beta2, 0, 1, open_maximum=True)
        self.epsilon = as_number(op, "epsilon", epsilon, 0)
        self.amsgrad = as_bool(op, "amsgrad", amsgrad)

    @property
    def slots(self) -> tuple[str, ...]:
        """Running averages of the gradient and of its square, and the largest of the latter for AMSGrad."""
        return ("m", "v", "largest") if self.amsgrad else ("m", "v")

    def update(self, parameter: NDArray, gradient: NDArray, *state: NDArray, step: Step) -> None:
        """Take a step along the averaged gradient, scaled by its averaged size."""
        m, v, largest = state if self.amsgrad else (*state, None)
        kernel.adam(
            parameter, gradient, m, v, largest, step.learning_rate, self.beta1, self.beta2, self.epsilon,
            step.weight_decay, step.number, self.decoupled, threads_for(parameter.size),
        )  # fmt: skip


class AdamW(Adam):
    """Adam whose weight decay does not pass through the averages (Loshchilov and Hutter 2019).

    Parameters
    ----------
    learning_rate : float, default 0.001
        Size of the steps.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the averages of the gradient and of its square; below 1.
    epsilon : float, default 1e-8
        Added to the root of the second average.
    weight_decay : float, default 0.01
        Share of each weight, times the learning rate, that a step takes off.
    amsgrad : bool, default False
        As for `Adam`.

    Raises
    ------
    TypeError, ValueError
        If one is not a number, or out of range.

    Notes
    -----
    With m' and v' the averages of the gradient alone, as for `Adam`::

        w -= learning_rate * (m' / (sqrt(v') + epsilon) + weight_decay * w)

    I. Loshchilov, F. Hutter, Decoupled Weight Decay Regularization, ICLR 2019, algorithm 2 without its schedule.

    Examples
    --------
    Where the gradient is zero only the decay is left:

    >>> import numpy as np
    >>> from cyconv.optimizers import AdamW
    >>> from cyconv.parameter import Parameter
    >>> weight = Parameter(np.array([1.0, -2.0]))
    >>> weight.accumulate(np.zeros(2))
    >>> AdamW(learning_rate=0.1, weight_decay=0.5).step({"weight": weight})
    >>> weight.data
    array([ 0.95, -1.9 ])
    """

    decoupled: ClassVar[bool] = True

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon, weight_decay, amsgrad)


class Adamax(Optimizer):
    """Adam with the largest gradient in the place of the mean square: its infinity norm (Kingma and Ba 2015).

    Parameters
    ----------
    learning_rate : float, default 0.002
        Size of the steps.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the averaged gradient and of the norm; below 1.
    epsilon : float, default 1e-8
        Added to the gradient's absolute value; above 0.
    weight_decay : float, default 0
        Added to the gradient, times the weight.

    Raises
    ------
    TypeError, ValueError
        If one is not a number, or out of range.

    Notes
    -----
    With g = gradient + weight_decay * w and t the number of the step, as in PyTorch::

        m = beta1 * m + (1 - beta1) * g         u = max(beta2 * u, |g| + epsilon)
        w -= learning_rate / (1 - beta1^t) * m / u

    D. P. Kingma, J. Ba, Adam: A Method for Stochastic Optimization, ICLR 2015, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.optimizers import Adamax
    >>> from cyconv.parameter import Parameter
    >>> weight = Parameter(np.ones(2))
    >>> weight.accumulate(np.array([5.0, -0.5]))
    >>> Adamax(learning_rate=0.1).step({"weight": weight})
    >>> weight.data.round(6)
    array([0.9, 1.1])
    """

    def __init__(
        self,
        learning_rate: float = 0.002,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.beta1 = as_number("Adamax", "beta1", beta1, 0, 1, open_maximum=True)
        self.beta2 = as_number("Adamax", "beta2", beta2, 0, 1, open_maximum=True)
        self.epsilon = as_number("Adamax", "epsilon", epsilon, 0, open_minimum=True)  # else 0/0 where g is 0

    @property
    def slots(self) -> tuple[str, ...]:
        """Running average of the gradient, and its fading norm."""
        return ("m", "u")

    def update(self, parameter: NDArray, gradient: NDArray, *state: NDArray, step: Step) -> None:
        """Take a step along the averaged gradient, scaled by its norm."""
        kernel.adamax(
            parameter, gradient, *state, step.learning_rate, self.beta1, self.beta2, self.epsilon, step.weight_decay,
            step.number, threads_for(parameter.size),
        )  # fmt: skip


class NAdam(Optimizer):
    """Adam with Nesterov's look ahead (Dozat 2016).

    Parameters
    ----------
    learning_rate : float, default 0.002
        Size of the steps.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the averages of the gradient and of its square; below 1.
    epsilon : float, default 1e-8
        Added to the root of the second average.
    weight_decay : float, default 0
        Added to the gradient, times the weight.
    momentum_decay : float, default 0.004
        How fast the momentum rises from half of beta1 to all of it.

    Raises
    ------
    TypeError, ValueError
        If one is not a number, or out of range.

    Notes
    -----
    With g = gradient + weight_decay * w and t the number of the step, as in PyTorch::

        mu_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2)          P_t = mu_1 * ... * mu_t
        m = beta1 * m + (1 - beta1) * g         v = beta2 * v + (1 - beta2) * g^2
        m' = mu_(t+1) / (1 - P_(t+1)) * m + (1 - mu_t) / (1 - P_t) * g
        w -= learning_rate * m' / (sqrt(v / (1 - beta2^t)) + epsilon)

    T. Dozat, Incorporating Nesterov Momentum into Adam, ICLR 2016 workshop.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.optimizers import NAdam
    >>> from cyconv.parameter import Parameter
    >>> weight = Parameter(np.ones(2))
    >>> weight.accumulate(np.array([5.0, -0.5]))
    >>> NAdam(learning_rate=0.1).step({"weight": weight})
    >>> weight.data.round(4)
    array([0.8944, 1.1056])
    """

    def __init__(
        self,
        learning_rate: float = 0.002,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 0.004,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.beta1 = as_number("NAdam", "beta1", beta1, 0, 1, open_maximum=True)
        self.beta2 = as_number("NAdam", "beta2", beta2, 0, 1, open_maximum=True)
        self.epsilon = as_number("NAdam", "epsilon", epsilon, 0)
        self.momentum_decay = as_number("NAdam", "momentum_decay", momentum_decay, 0)

    @property
    def slots(self) -> tuple[str, ...]:
        """Running averages of the gradient and of its square."""
        return ("m", "v")

    def update(self, parameter: NDArray, gradient: NDArray, *state: NDArray, step: Step) -> None:
        """Take a step along the averaged gradient as it will be, scaled by its averaged size."""
        now, following = _nesterov_shares(self.beta1, self.momentum_decay, step.number)
        kernel.nadam(
            parameter, gradient, *state, step.learning_rate * now, step.learning_rate * following, self.beta1,
            self.beta2, self.epsilon, step.weight_decay, step.number, threads_for(parameter.size),
        )  # fmt: skip


@lru_cache(maxsize=64)
def _nesterov_shares(beta1: float, decay: float, step: int) -> tuple[float, float]:
    """Return the corrected shares of the gradient and of the averaged one in a step of NAdam."""

    def momentum(t: int) -> float:
        return beta1 * (1 - 0.5 * 0.96 ** (t * decay))

    product = 1.0  # of all momenta so far, as long as 1 - product differs from 1
    for t in range(1, step + 1):
        product *= momentum(t)
        if product < 2.0**-60:
            break
    following = momentum(step + 1)
    return (1 - momentum(step)) / (1 - product), following / (1 - product * following)


class AdaBound(Optimizer):
    """Adam whose rates are held between bounds that close in on that of SGD (Luo et al. 2019).

    Parameters
    ----------
    learning_rate : float, default 0.001
        Size of the steps, at first.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the averages of the gradient and of its square; below 1.
    epsilon : float, default 1e-8
        Added to the root of the second average.
    weight_decay : float, default 0
        Added to the gradient, times the weight.
    final_learning_rate : float, default 0.1
        That of the SGD it becomes.
    gamma : float, default 0.001
        How fast the bounds close; above 0.
    base_learning_rate : float, optional
        By default `learning_rate`. A schedule that makes the learning rate a share of it does the same to the bounds.

    Raises
    ------
    TypeError, ValueError
        If one is not a number, or out of range.

    Notes
    -----
    With g = gradient + weight_decay * w, t the number of the step and f = final_learning_rate * learning_rate /
    base_learning_rate, as in the authors' program::

        m = beta1 * m + (1 - beta1) * g         v = beta2 * v + (1 - beta2) * g^2
        rate = learning_rate * sqrt(1 - beta2^t) / (1 - beta1^t) / (sqrt(v) + epsilon)
        w -= clip(rate, f * (1 - 1 / (gamma * t + 1)), f * (1 + 1 / (gamma * t))) * m

    L. Luo, Y. Xiong, Y. Liu, X. Sun, Adaptive Gradient Methods with Dynamic Bound of Learning Rate, ICLR 2019,
    algorithm 1 (without the root of t of its analysis).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.optimizers import AdaBound
    >>> from cyconv.parameter import Parameter
    >>> weight = Parameter(np.ones(2))
    >>> weight.accumulate(np.array([5.0, -0.5]))
    >>> AdaBound(learning_rate=0.1).step({"weight": weight})
    >>> weight.data.round(6)
    array([0.9, 1.1])
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        final_learning_rate: float = 0.1,
        gamma: float = 0.001,
        base_learning_rate: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        op = type(self).__name__
        self.beta1 = as_number(op, "beta1", beta1, 0, 1, open_maximum=True)
        self.beta2 = as_number(op, "beta2", beta2, 0, 1, open_maximum=True)
        self.epsilon = as_number(op, "epsilon", epsilon, 0)
        self.final_learning_rate = as_number(op, "final_learning_rate", final_learning_rate, 0)
        self.gamma = as_number(op, "gamma", gamma, 0, open_minimum=True)
        base = self.learning_rate if base_learning_rate is None else base_learning_rate
        self.base_learning_rate = as_number(op, "base_learning_rate", base, 0, open_minimum=True)

    @property
    def slots(self) -> tuple[str, ...]:
        """Running averages of the gradient and of its square."""
        return ("m", "v")

    def update(self, parameter: NDArray, gradient: NDArray, *state: NDArray, step: Step) -> None:
        """Take a step along the averaged gradient, at rates within the bounds."""
        final = self.final_learning_rate * step.learning_rate / self.base_learning_rate
        lower = final * (1 - 1 / (self.gamma * step.number + 1))
        upper = final * (1 + 1 / (self.gamma * step.number))
        kernel.adabound(
            parameter, gradient, *state, step.learning_rate, lower, upper, self.beta1, self.beta2, self.epsilon,
            step.weight_decay, step.number, threads_for(parameter.size),
        )  # fmt: skip
