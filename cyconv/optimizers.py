"""Optimizers: how gradients change parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from cyconv import memory
from cyconv._dispatch import optimizer as kernel
from cyconv._validation import FLOATS, as_bool, as_choice, as_int, as_number
from cyconv.parameter import Parameter
from cyconv.threads import threads_for

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]


class Optimizer:
    """Walk the parameters of a network and update each; a subclass names its state and writes the update.

    State is kept by parameter name and made at a parameter's first update. A subclass keeps each argument of its
    constructor in an attribute of that name: they are the hyper-parameters, and go into checkpoints.

    Parameters
    ----------
    learning_rate : float
        Size of the steps; may be changed between steps.
    weight_decay : float, default 0
        How strongly weights are pulled towards zero.

    Raises
    ------
    TypeError, ValueError
        If one is not a number, or negative.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.optimizers import Optimizer
    >>> from cyconv.parameter import Parameter
    >>> class SignDescent(Optimizer):
    ...     def update(self, parameter, gradient, *state, step):
    ...         parameter -= self.learning_rate * np.sign(gradient)
    >>> weight = Parameter(np.ones(2))
    >>> weight.accumulate(np.array([5.0, -0.1]))
    >>> SignDescent(learning_rate=0.25).step({"weight": weight})
    >>> weight.data
    array([0.75, 1.25])
    """

    def __init__(self, learning_rate: float, weight_decay: float = 0.0) -> None:
        self.learning_rate = learning_rate
        self.weight_decay = as_number(type(self).__name__, "weight_decay", weight_decay, 0)
        self._state: dict[str, list[NDArray]] = {}
        self._steps: dict[str, int] = {}

    @property
    def learning_rate(self) -> float:
        """Size of the steps."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = as_number(type(self).__name__, "learning_rate", value, 0)

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the arrays of a parameter's size that its updates need; zero before the first."""
        return ()

    @property
    def hyper_parameters(self) -> dict[str, Any]:
        """The constructor's arguments as they are now."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def step(self, parameters: Mapping[str, Parameter]) -> None:
        """Update every trainable parameter that has a gradient, in place.

        Parameters
        ----------
        parameters : mapping of str to Parameter
            As `Layer.parameters` returns them.

        Raises
        ------
        ValueError
            If the state kept for a name is that of a parameter of another size or dtype; nothing has been changed then.
        """
        chosen = {name: each for name, each in parameters.items() if each.trainable and each.grad is not None}
        for name, parameter in chosen.items():
            if name in self._state and not _suits(self._state[name], parameter):
                raise ValueError(_foreign(type(self).__name__, name))
        for name, parameter in chosen.items():
            state = self._state.get(name)
            if state is None or len(state) != len(self.slots):  # as when momentum was turned on or off
                state = self._state[name] = [memory.zeros((parameter.size,), parameter.dtype) for _ in self.slots]
            self._steps[name] = self._steps.get(name, 0) + 1
            data, gradient = parameter.flat(parameter.data), parameter.flat(cast(NDArray, parameter.grad))
            self.update(data, gradient, *state, step=self._steps[name])

    def update(self, parameter: NDArray, gradient: NDArray, *state: NDArray, step: int) -> None:
        """Change `parameter` and `state` in place, one-dimensional; `step` counts its updates from 1."""
        raise NotImplementedError(f"{type(self).__name__}: `update` is not written")

    def state_dict(self) -> dict[str, Any]:
        """Return kind, hyper-parameters, counts of steps, and the state's arrays by the names "parameter.slot"."""
        arrays = {
            f"{name}.{slot}": array
            for name, state in self._state.items()
            for slot, array in zip(self.slots, state, strict=True)
        }
        return {
            "kind": type(self).__name__,
            "hyper_parameters": self.hyper_parameters,
            "steps": dict(self._steps),
            "arrays": arrays,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set what `state_dict` of an optimizer of the same kind returned; arrays are copied.

        Raises
        ------
        ValueError
            If the state is another optimizer's, incomplete, or not what an optimizer can come to; nothing has been
            changed then.
        """
        op = type(self).__name__
        parts: dict[str, Any] = {"kind": str, "hyper_parameters": Mapping, "steps": Mapping, "arrays": Mapping}
        for part, kind in parts.items():
            if not isinstance(state, Mapping) or not isinstance(state.get(part), kind):
                raise ValueError(f"{op}: the state to load lacks `{part}`")
        if state["kind"] != op:
            raise ValueError(f"{op}: the state to load is that of {state['kind']}")
        try:
            loaded = type(self)(**state["hyper_parameters"])
            steps = {name: as_int(op, f"steps of {name}", count, 1, 2**62) for name, count in state["steps"].items()}
        except TypeError as error:
            raise ValueError(f"{op}: the state to load is damaged: {error}") from error
        loaded._steps = steps
        for name in steps:
            arrays = [state["arrays"].get(f"{name}.{slot}") for slot in loaded.slots]
            if not all(isinstance(array, np.ndarray) for array in arrays):
                raise ValueError(f"{op}: the state to load lacks arrays of `{name}`")
            if any(array.ndim != 1 or array.dtype not in FLOATS for array in arrays):
                kinds = ", ".join(f"{array.dtype} of shape {array.shape}" for array in arrays)
                raise ValueError(f"{op}: the state of `{name}` must be vectors of float32 or float64, got {kinds}")
            loaded._state[name] = [array.copy() for array in arrays]
        vars(self).update(vars(loaded))

    def check_parameters(self, parameters: Mapping[str, Parameter]) -> None:
        """Raise ValueError unless the state kept is that of these parameters."""
        for name, state in self._state.items():
            parameter = parameters.get(name)
            if parameter is None or not _suits(state, parameter):
                raise ValueError(_foreign(type(self).__name__, name))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in self.hyper_parameters.items())})"


def _foreign(op: str, name: str) -> str:
    return f"{op}: the state kept for `{name}` is that of another parameter; each network needs an optimizer of its own"


def _suits(state: list[NDArray], parameter: Parameter) -> bool:
    return all(array.shape == (parameter.size,) and array.dtype == parameter.dtype for array in state)


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

    def update(self, parameter: NDArray, gradient: NDArray, *state: NDArray, step: int) -> None:
        """Take a step along the velocity."""
        velocity = state[0] if state else None
        kernel.sgd(
            parameter, gradient, velocity, self.learning_rate, self.momentum, self.weight_decay, self.nesterov,
            threads_for(parameter.size),
        )  # fmt: skip


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

    D. P. Kingma, J. Ba, Adam: A Method for Stochastic Optimization, ICLR 2015, algorithm 1.

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
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        op = type(self).__name__
        self.beta1 = as_number(op, "beta1", beta1, 0, 1, open_maximum=True)
        self.beta2 = as_number(op, "beta2", beta2, 0, 1, open_maximum=True)
        self.epsilon = as_number(op, "epsilon", epsilon, 0)

    @property
    def slots(self) -> tuple[str, ...]:
        """Running averages of the gradient and of its square."""
        return ("m", "v")

    def update(self, parameter: NDArray, gradient: NDArray, *state: NDArray, step: int) -> None:
        """Take a step along the averaged gradient, scaled by its averaged size."""
        m, v = state
        kernel.adam(
            parameter, gradient, m, v, self.learning_rate, self.beta1, self.beta2, self.epsilon, self.weight_decay,
            step, self.decoupled, threads_for(parameter.size),
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
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon, weight_decay)


OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


def as_optimizer(op: str, optimizer: Optimizer | str) -> Optimizer:
    """Return the optimizer itself, or the one of that name with its defaults."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    return OPTIMIZERS[as_choice(op, "optimizer", optimizer, tuple(OPTIMIZERS))]()
