"""Steps along the gradient, with and without momentum."""

from __future__ import annotations

from numpy.typing import NDArray

from cyconv._dispatch import optimizer as kernel
from cyconv._validation import as_bool, as_number
from cyconv.optimizers.base import Optimizer, Step
from cyconv.threads import threads_for


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum.

    Parameters
    ----------
    learning_rate : float, default 0.01
        Size of the steps.
    momentum : float, default 0
        Share of the last step that the next one repeats; below 1.
    nesterov : bool, default False
        Whether the gradient counts as taken after the repeated part (Nesterov 1983); needs momentum.
    weight_decay : float, default 0
        Added to the gradient, times the weight.

    Raises
    ------
    TypeError, ValueError
        If one is not a number or out of range, or `nesterov` comes without momentum.

    Notes
    -----
    With d = gradient + weight_decay * w, as in PyTorch (Sutskever et al. 2013)::

        v = momentum * v + d        w -= learning_rate * v       (nesterov: w -= learning_rate * (d + momentum * v))

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.optimizers import SGD
    >>> from cyconv.parameter import Parameter
    >>> weight = Parameter(np.ones(2))
    >>> weight.accumulate(np.array([0.5, -0.5]))
    >>> SGD(learning_rate=0.1).step({"weight": weight})
    >>> weight.data
    array([0.95, 1.05])
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.momentum = as_number("SGD", "momentum", momentum, 0, 1, open_maximum=True)
        self.nesterov = as_bool("SGD", "nesterov", nesterov)
        if nesterov and momentum == 0:
            raise ValueError("SGD: `nesterov` needs a `momentum` above 0")

    @property
    def slots(self) -> tuple[str, ...]:
        """One velocity, if there is momentum."""
        return ("velocity",) if self.momentum else ()

    def update(self, parameter: NDArray, gradient: NDArray, *state: NDArray, step: Step) -> None:
        """Take a step along the velocity."""
        velocity = state[0] if state else None
        kernel.sgd(
            parameter, gradient, velocity, step.learning_rate, self.momentum, step.weight_decay, self.nesterov,
            threads_for(parameter.size),
        )  # fmt: skip
