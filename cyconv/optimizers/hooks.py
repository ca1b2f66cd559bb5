"""What happens to gradients between the backward pass and the step: clipping, and penalties on weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cyconv._dispatch import optimizer as kernel
from cyconv._validation import as_number, brief
from cyconv.optimizers.base import as_parameters, matches
from cyconv.parameter import Parameter
from cyconv.threads import threads_for


def _gradients(op: str, parameters: Mapping[str, Parameter]) -> dict[str, NDArray]:
    return {name: each.grad for name, each in as_parameters(op, parameters).items() if each.grad is not None}


class ClipNorm:
    """Shorten the gradient of all parameters together where it is longer than allowed (Pascanu et al. 2013).

    Parameters
    ----------
    maximum : float
        Largest length, in the Euclidean norm over all parameters; above 0.

    Raises
    ------
    TypeError, ValueError
        If it is not a number above 0.

    Notes
    -----
    ``gradient *= min(1, maximum / (norm + 1e-6))``, as in PyTorch. It may be given to an optimizer, or be called with
    the parameters that `Layer.parameters` returns; it then returns the norm before.

    R. Pascanu, T. Mikolov, Y. Bengio, On the difficulty of training recurrent neural networks, ICML 2013, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.optimizers import SGD, ClipNorm
    >>> from cyconv.parameter import Parameter
    >>> weight = Parameter(np.zeros(2))
    >>> weight.accumulate(np.array([30.0, 40.0]))
    >>> ClipNorm(1.0)({"weight": weight})
    50.0
    >>> weight.grad.round(6)
    array([0.6, 0.8])
    >>> sgd = SGD(0.1).add_hook(ClipNorm(1.0))
    """

    def __init__(self, maximum: float) -> None:
        self.maximum = as_number("ClipNorm", "maximum", maximum, 0, open_minimum=True)

    def __call__(self, parameters: Mapping[str, Parameter]) -> float:
        """Shorten the gradients, and return the norm they had."""
        gradients = _gradients(type(self).__name__, parameters)
        flat = [parameters[name].flat(gradient) for name, gradient in gradients.items()]
        norm = float(np.sqrt(sum(kernel.squared_norm(each, threads_for(each.size)) for each in flat)))
        scale = self.maximum / (norm + 1e-6)
        if scale < 1:
            for name, gradient in gradients.items():
                parameters[name].grad = gradient * gradient.dtype.type(scale)
        return norm


class ClipValue:
    """Hold every number of the gradients within bounds.

    Parameters
    ----------
    maximum : float
        Largest absolute value; above 0.

    Raises
    ------
    TypeError, ValueError
        If it is not a number above 0.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.optimizers import ClipValue
    >>> from cyconv.parameter import Parameter
    >>> weight = Parameter(np.zeros(2))
    >>> weight.accumulate(np.array([-3.0, 0.5]))
    >>> ClipValue(1.0)({"weight": weight})
    >>> weight.grad
    array([-1. ,  0.5])
    """

    def __init__(self, maximum: float) -> None:
        self.maximum = as_number("ClipValue", "maximum", maximum, 0, open_minimum=True)

    def __call__(self, parameters: Mapping[str, Parameter]) -> None:
        """Hold the gradients within the bounds."""
        for name, gradient in _gradients(type(self).__name__, parameters).items():
            parameters[name].grad = np.clip(gradient, -self.maximum, self.maximum)


class _Penalty(ABC):
    def __init__(self, strength: float, names: str = "*") -> None:
        op = type(self).__name__
        self.strength = as_number(op, "strength", strength, 0)
        if not isinstance(names, str) or not names:
            raise TypeError(f"{op}: `names` must be a prefix or a pattern, got {brief(names)}")
        self.names = names

    def __call__(self, parameters: Mapping[str, Parameter]) -> None:
        """Add the penalty's gradient to the parameters'."""
        for name, gradient in _gradients(type(self).__name__, parameters).items():
            if matches(self.names, name):
                slope = self._slope(parameters[name].read())
                slope *= slope.dtype.type(self.strength)
                parameters[name].grad = gradient + slope

    def value(self, parameters: Mapping[str, Parameter]) -> float:
        """Return the penalty: what it adds to the loss."""
        given = as_parameters(type(self).__name__, parameters)
        chosen = (parameter.read() for name, parameter in given.items() if matches(self.names, name))
        return self.strength * sum(self._size(weight) for weight in chosen)

    @abstractmethod
    def _slope(self, weight: NDArray) -> NDArray:
        """Return the derivative of `_size`."""

    @abstractmethod
    def _size(self, weight: NDArray) -> float:
        """Return the penalty of one weight array, of strength one."""


class L1(_Penalty):
    """Penalise the absolute values of the weights, which drives small ones to zero (Tibshirani 1996).

    Parameters
    ----------
    strength : float
        Factor of the penalty.
    names : str, default "*"
        Which parameters: a dotted prefix or a pattern, as for `ParameterGroup`; "*.weight" leaves out biases.

    Raises
    ------
    TypeError, ValueError
        If one is of another kind, or negative.

    Notes
    -----
    Adds ``strength * sum |w|`` to the loss, and so ``strength * sign(w)`` to the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.optimizers import SGD, L1
    >>> from cyconv.parameter import Parameter
    >>> weight = Parameter(np.array([2.0, -1.0]))
    >>> L1(0.5).value({"weight": weight})
    1.5
    >>> weight.accumulate(np.zeros(2))
    >>> SGD(1.0).add_hook(L1(0.1)).step({"weight": weight})
    >>> weight.data
    array([ 1.9, -0.9])
    """

    def _slope(self, weight: NDArray) -> NDArray:
        return np.sign(weight)

    def _size(self, weight: NDArray) -> float:
        return float(np.abs(weight).sum(dtype=np.float64))


class L2(_Penalty):
    """Penalise the squares of the weights (ridge regression, Hoerl and Kennard 1970).

    Parameters
    ----------
    strength : float
        Factor of the penalty.
    names : str, default "*"
        Which parameters: a dotted prefix or a pattern, as for `ParameterGroup`; "*.weight" leaves out biases.

    Raises
    ------
    TypeError, ValueError
        If one is of another kind, or negative.

    Notes
    -----
    Adds ``strength / 2 * sum w^2`` to the loss, and so ``strength * w`` to the gradient: what the optimizers'
    `weight_decay` does without another pass (but for `AdamW`, whose decay is none of the gradient's).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.optimizers import SGD, L2
    >>> from cyconv.parameter import Parameter
    >>> weight = Parameter(np.array([2.0, -1.0]))
    >>> L2(0.1).value({"weight": weight})
    0.25
    >>> weight.accumulate(np.zeros(2))
    >>> SGD(1.0).add_hook(L2(0.1)).step({"weight": weight})
    >>> weight.data
    array([ 1.8, -0.9])
    """

    def _slope(self, weight: NDArray) -> NDArray:
        return weight.copy(order="K")

    def _size(self, weight: NDArray) -> float:
        return 0.5 * float(np.square(weight, dtype=np.float64).sum())
