"""What optimizers have in common: they walk the parameters, by groups, and keep the state of each."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray

from cyconv import memory
from cyconv._validation import FLOATS, as_bool, as_float_dtype, as_int, as_number, brief
from cyconv.parameter import Parameter, owned

Hook = Callable[[Mapping[str, Parameter]], object]


class Step(NamedTuple):
    """What an update needs besides arrays: how many there were of this parameter with it, and its group's numbers."""

    number: int
    learning_rate: float
    weight_decay: float


@dataclasses.dataclass(frozen=True)
class ParameterGroup:
    """Settings for those parameters whose dotted names match.

    Parameters
    ----------
    names : str
        A dotted prefix ("features" takes in "features.0.weight"), or a pattern ("*.bias"; * stands for dots too).
    learning_rate_scale : float, default 1
        Factor of the optimizer's learning rate, whatever a schedule makes of that.
    weight_decay : float, optional
        In the place of the optimizer's.
    frozen : bool, default False
        Whether they are left as they are. `Parameter.trainable` saves computing the gradient too.

    Raises
    ------
    TypeError, ValueError
        If one is of another kind, or negative.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.optimizers import SGD, ParameterGroup
    >>> from cyconv.parameter import Parameter, owned
    >>> parameters = {"body.weight": Parameter(np.ones(1)), "head.weight": Parameter(np.ones(1))}
    >>> for parameter in parameters.values():
    ...     parameter.accumulate(np.ones(1))
    >>> sgd = SGD(learning_rate=0.5).add_group(ParameterGroup("body", learning_rate_scale=0.1))
    >>> sgd.step(parameters)
    >>> {name: parameter.data.item() for name, parameter in parameters.items()}
    {'body.weight': 0.95, 'head.weight': 0.5}
    """

    names: str
    learning_rate_scale: float = 1.0
    weight_decay: float | None = None
    frozen: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.names, str) or not self.names:
            raise TypeError(f"ParameterGroup: `names` must be a prefix or a pattern, got {brief(self.names)}")
        as_number("ParameterGroup", "learning_rate_scale", self.learning_rate_scale, 0)
        if self.weight_decay is not None:
            as_number("ParameterGroup", "weight_decay", self.weight_decay, 0)
        as_bool("ParameterGroup", "frozen", self.frozen)

    def __contains__(self, name: str) -> bool:
        return matches(self.names, name)


def matches(names: str, name: str) -> bool:
    """Return whether a dotted name is, or begins with, the dotted name `names`, or matches it as a pattern."""
    return name == names or name.startswith(f"{names}.") or fnmatchcase(name, names)


def as_parameters(op: str, value: Any) -> Mapping[str, Parameter]:
    """Return parameters by name."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{op}: `parameters` must map names to Parameter objects, got {brief(value)}")
    for name, parameter in value.items():
        if not isinstance(parameter, Parameter):
            raise TypeError(f"{op}: `parameters` must be Parameter objects, got {brief(parameter)} at {name!r}")
    return value


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
    >>> from cyconv.parameter import Parameter, owned
    >>> class SignDescent(Optimizer):
    ...     def update(self, parameter, gradient, *state, step):
    ...         parameter -= step.learning_rate * np.sign(gradient)
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
        self._groups: list[ParameterGroup] = []
        self._hooks: list[Hook] = []

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
        as_parameters(type(self).__name__, parameters)
        chosen = {name: each for name, each in parameters.items() if each.trainable and each.grad is not None}
        for group in self._groups:
            if not any(name in group for name in parameters):
                raise ValueError(f"{type(self).__name__}: no parameter's name matches the group {brief(group.names)}")
            if group.frozen:
                chosen = {name: each for name, each in chosen.items() if name not in group}
        for name, parameter in chosen.items():
            if name in self._state and not _suits(self._state[name], parameter):
                raise ValueError(_foreign(type(self).__name__, name))
        for hook in self._hooks:
            hook(chosen)
        slots = len(self.slots)
        for name, parameter in chosen.items():
            state = self._state.get(name)
            if state is None or len(state) != slots:  # as when momentum was turned on or off
                state = self._state[name] = self.fresh_state(parameter.size, parameter.dtype)
            self._steps[name] = self._steps.get(name, 0) + 1
            data, gradient = parameter.flat(parameter.data), parameter.flat(cast(NDArray, parameter.grad))
            self.update(data, gradient, *state, step=self._step(name))

    def _step(self, name: str) -> Step:
        rate, decay = self.learning_rate, self.weight_decay
        for group in self._groups:
            if name in group:
                rate *= group.learning_rate_scale
                decay = decay if group.weight_decay is None else group.weight_decay
        return Step(self._steps[name], rate, decay)

    def fresh_state(self, size: int, dtype: np.dtype) -> list[NDArray]:
        """Return the state of a parameter before its first update, one array of `size` for each of `slots`."""
        op = type(self).__name__
        size, dtype = as_int(op, "size", size, 0, 2**62), as_float_dtype(op, "dtype", dtype)
        return [memory.zeros((size,), dtype) for _ in self.slots]

    def update(self, parameter: NDArray, gradient: NDArray, *state: NDArray, step: Step) -> None:
        """Change `parameter` and `state` in place, one-dimensional; take rate and weight decay from `step`."""
        raise NotImplementedError(f"{type(self).__name__}: `update` is not written")

    def add_group(self, group: ParameterGroup) -> Self:
        """Give some parameters settings of their own, and return the optimizer; checkpoints keep them.

        Where groups overlap, scales multiply, the weight decay added last counts, and frozen is what any freezes.
        """
        if not isinstance(group, ParameterGroup):
            raise TypeError(f"{type(self).__name__}: `group` must be a ParameterGroup, got {brief(group)}")
        self._groups.append(group)
        return self

    def add_hook(self, hook: Hook) -> Self:
        """Call `hook` with the parameters that are to be updated before each step, and return the optimizer.

        It may assign other gradients, as `ClipNorm`, `ClipValue`, `L1` and `L2` do; the first added comes first.
        Checkpoints do not keep it: the optimizer of a resumed run needs the same hooks.
        """
        if isinstance(hook, type) or not callable(hook):
            hint = "; call the class to make one" if isinstance(hook, type) else ""
            raise TypeError(f"{type(self).__name__}: `hook` must be callable, got {brief(hook)}{hint}")
        self._hooks.append(hook)
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return kind, hyper-parameters, groups, counts of steps, and arrays by the names "parameter.slot"."""
        arrays = {
            f"{name}.{slot}": array
            for name, state in self._state.items()
            for slot, array in zip(self.slots, state, strict=True)
        }
        return {
            "kind": type(self).__name__,
            "hyper_parameters": self.hyper_parameters,
            "groups": [dataclasses.asdict(group) for group in self._groups],
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
            groups = [ParameterGroup(**group) for group in state.get("groups", [])]
            steps = {name: as_int(op, f"steps of {name}", count, 1, 2**62) for name, count in state["steps"].items()}
        except TypeError as error:
            raise ValueError(f"{op}: the state to load is damaged: {error}") from error
        loaded._steps, loaded._groups, loaded._hooks = steps, groups, self._hooks
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
        as_parameters(type(self).__name__, parameters)
        for name, state in self._state.items():
            parameter = parameters.get(name)
            if parameter is None or not _suits(state, parameter):
                raise ValueError(_foreign(type(self).__name__, name))

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._state = {name: [owned(array) for array in arrays] for name, arrays in self._state.items()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in self.hyper_parameters.items())})"


def _foreign(op: str, name: str) -> str:
    return f"{op}: the state kept for `{name}` is that of another parameter; each network needs an optimizer of its own"


def _suits(state: list[NDArray], parameter: Parameter) -> bool:
    shape, dtype = (parameter.size,), parameter.dtype
    return not [array for array in state if array.shape != shape or array.dtype != dtype]
