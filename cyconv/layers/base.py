"""Layer: what every layer and container has in common."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cyconv._validation import as_array, as_bool, as_generator, as_int, check_shape
from cyconv.functional._arrays import add
from cyconv.functional._calls import AT_ONCE, Calls
from cyconv.functional.activation import rectified
from cyconv.initializers import Initializer, as_initializer, fan_in_uniform, fans, uniform, zeros
from cyconv.parameter import Parameter

if TYPE_CHECKING:
    from cyconv.layers.recording import Recording

Shape = tuple[int, ...]


PASSING = ("_remembered", "_prepared", "_recorded")  # what a layer keeps for itself, and not in pickles


class Step(NamedTuple):
    """One layer of a network as the data meets it.

    Attributes
    ----------
    name : str
        Its dotted name.
    layer : Layer
        The layer itself.
    input_shape, output_shape : tuple of int
        Shapes of its input and output, without the batch axis.

    Examples
    --------
    >>> from cyconv.layers import Conv2d, Flatten, Sequential
    >>> for step in Sequential(Conv2d(1, 4, 3), Flatten()).trace((1, 8, 8)):
    ...     print(step.name, step.input_shape, step.output_shape)
    0 (1, 8, 8) (4, 6, 6)
    1 (4, 6, 6) (144,)
    """

    name: str
    layer: Layer
    input_shape: Shape
    output_shape: Shape


class Layer:
    """A differentiable function of one array, with the parameters that it owns.

    A subclass writes `forward`, `backward` and `output_shape`. Attributes that are a `Parameter` or a `Layer` are found
    and named by themselves; names are joined by dots, as in PyTorch's ``state_dict``.

    Attributes
    ----------
    training : bool, default True
        Whether `forward` keeps what `backward` needs. Where it is False nothing is written, so that one layer may
        predict in many threads at once.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import Layer
    >>> class Scale(Layer):
    ...     def __init__(self, factor):
    ...         self.factor = factor
    ...     def output_shape(self, input_shape):
    ...         return input_shape
    ...     def forward(self, x):
    ...         return self.factor * x
    ...     def backward(self, grad_output, needs_grad_input=True):
    ...         return self.factor * grad_output
    >>> Scale(3.0)(np.ones(2))
    array([3., 3.])
    >>> Scale(3.0)
    Scale(3.0)
    """

    training: bool = True
    buffers: ClassVar[tuple[str, ...]] = ()  # arrays that are saved with the weights but not trained
    recomputable: ClassVar[bool] = True  # whether running `forward` twice does no harm, counters and buffers restored
    counters: ClassVar[tuple[str, ...]] = ()  # integers that move on while training and go into checkpoints only
    _defined: ClassVar[tuple[Any, Any]]  # `forward` and `backward` as the class was written: see `is_patched`
    _remembered: tuple | None = None
    _prepared: tuple | None = None  # made of the parameters, for predicting: dropped while training
    _recorded: dict | None = None  # predictions as calls of kernels, by shape: see `recording`

    def forward(self, x: NDArray) -> NDArray:
        """Return the layer's output for a batch `x`."""
        raise NotImplementedError(f"{type(self).__name__}: `forward` is not written")

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        """Add to the parameters' gradients and return the gradient of the loss with respect to the last `x`.

        Parameters
        ----------
        grad_output : ndarray
            Gradient of the loss with respect to the output of the last `forward` in training mode, which is used up.
        needs_grad_input : bool, default True
            False leaves out the gradient of `x`, which a network's first layer computes for nobody.
        """
        raise NotImplementedError(f"{type(self).__name__}: `backward` is not written")

    def __init_subclass__(cls, **keywords: Any) -> None:
        # Who writes a `forward` or `backward` anew means it, also where containers would rather run several as one.
        super().__init_subclass__(**keywords)
        cls._defined = cls.forward, cls.backward
        for written, fused in (
            ("forward", "run"),
            ("backward", "run_backward"),
            ("forward", "record"),
            ("run", "record"),
        ):
            if written in vars(cls) and fused not in vars(cls):
                setattr(cls, fused, vars(Layer)[fused])

    def run(self, x: NDArray, addend: NDArray | None = None, relu: bool = False) -> NDArray:
        """Return ``forward(x) + addend``, with `relu` negative numbers set to zero: one pass, where a layer can do it.

        Containers call this where a sum or a ReLU follows. A subclass that has a faster way writes it, and `forward` by
        means of it.
        """
        return completed(type(self).__name__, self.forward(x), addend, relu)

    def record(self, x: NDArray, addend: NDArray | None, relu: bool, calls: Recording) -> NDArray:
        """Do what `run` does in evaluation mode, by kernels that `calls` is given to run, now and for later inputs.

        Containers call this through `Recording.run`. What does not go through `calls` is not done again; a subclass
        that does not write this, or that writes `forward` or `run` only, is called each time.
        """
        return calls.apply(self.run, x, addend, relu)

    def run_backward(self, grad_output: NDArray, addend: NDArray | None = None) -> NDArray:
        """Return ``backward(grad_output) + addend``: where a layer can, without a pass for the sum."""
        gradient: Any = self.backward(grad_output)
        return gradient if addend is None else add(gradient, addend)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the output for one input of `input_shape`, both without the batch axis."""
        raise NotImplementedError(f"{type(self).__name__}: `output_shape` is not written")

    def __call__(self, x: NDArray) -> NDArray:
        return self.forward(as_array(type(self).__name__, "x", x))

    # What backward needs of forward

    def remember(self, *values: Any) -> None:
        """Keep values for `backward`, while training."""
        if self.training:
            self._remembered = values

    def recall(self) -> tuple:
        """Hand out what `remember` kept, once: the memory is free as soon as it is used."""
        values, self._remembered = self._remembered, None
        if values is None:
            raise RuntimeError(
                f"{type(self).__name__}: each `backward` needs a `forward` in training mode before it; there was none"
            )
        return values

    def check_gradient(self, grad_output: NDArray, shape: Shape) -> NDArray:
        """Return `grad_output` if it has the shape of the output; for layers whose op in `functional` cannot tell."""
        op = f"{type(self).__name__}.backward"
        gradient = as_array(op, "grad_output", grad_output)
        check_shape(op, "grad_output", gradient, tuple(shape), " (that of the output)")
        return gradient

    def forget(self) -> None:
        """Drop what any layer keeps for `backward`."""
        for _, layer in self.walk():
            layer._remembered = None

    # The tree of layers

    def children(self) -> Mapping[str, Layer]:
        """Return the layers directly inside this one, by name: a mapping that cannot be written to."""
        return MappingProxyType({name: value for name, value in vars(self).items() if isinstance(value, Layer)})

    def walk(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """Yield this layer and all inside it, each with the prefix of its names ("" or ending in a dot)."""
        yield prefix, self
        for name, child in self.children().items():
            yield from child.walk(f"{prefix}{name}.")

    def trace(self, input_shape: Shape, prefix: str = "") -> Iterator[Step]:
        """Yield the layers that are not containers in the order in which data meets them, with their shapes."""
        try:
            output_shape = self.output_shape(input_shape)
        except ValueError as error:
            raise ValueError(f"layer {prefix.rstrip('.') or 'at the top'}: {error}") from error
        yield Step(prefix.rstrip("."), self, input_shape, output_shape)

    def parameters(self) -> dict[str, Parameter]:
        """Return every parameter, by dotted name."""
        return {prefix + name: own for prefix, layer in self.walk() for name, own in layer.own_parameters().items()}

    def own_parameters(self) -> dict[str, Parameter]:
        """Return the parameters that are this layer's own, not those of layers inside it."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Parameter)}

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters().values():
            parameter.grad = None

    def initialize(self, rng: np.random.Generator | int | None = None) -> Self:
        """Draw all parameters, and the seeds of random layers, anew; return the layer.

        Parameters
        ----------
        rng : numpy.random.Generator, int or None
            Generator, or its seed; None for a new one. Parameters made from given values keep them.
        """
        generator = as_generator("initialize", rng)
        for parameter in self.parameters().values():
            parameter.initialize(generator)
        for _, layer in self.walk():
            layer._recorded = None  # which would keep the old values
        self.reseed(generator)
        return self

    def reseed(self, rng: np.random.Generator) -> None:
        """Give every random layer inside a new seed."""
        for child in self.children().values():
            child.reseed(rng)

    def astype(self, dtype: DTypeLike) -> Self:
        """Change the parameters and running statistics to float32 or float64; return the layer.

        Parameters
        ----------
        dtype : dtype
            float32 or float64; inputs must have it too.

        Raises
        ------
        TypeError
            If it is another.
        """
        for parameter in self.parameters().values():
            parameter.astype(dtype)
        for _, layer in self.walk():
            layer._recorded = None  # which would keep the old values
            for name in layer.buffers:
                buffer = getattr(layer, name)
                if buffer.dtype.kind == "f":
                    setattr(layer, name, buffer.astype(dtype))
        return self

    def train(self, mode: bool = True) -> Self:
        """Switch this layer and all inside it to training mode; return it."""
        if mode:
            check_distinct(self)
        for _, layer in self.walk():
            layer.training = mode
            layer._recorded = None
            if mode:
                layer._prepared = None
        return self

    def eval(self) -> Self:
        """Switch this layer and all inside it to evaluation mode, drop what they kept for `backward`; return it."""
        self.forget()
        return self.train(False)

    # Values in and out

    def _entries(self) -> dict[str, Parameter | NDArray]:
        return {
            prefix + name: value
            for prefix, layer in self.walk()
            for name, value in vars(layer).items()
            if isinstance(value, Parameter) or name in layer.buffers
        }

    def state_dict(self) -> dict[str, NDArray]:
        """Return the arrays that make up the trained layer, by dotted name: the layer's own, not copies."""
        return {name: entry.data if isinstance(entry, Parameter) else entry for name, entry in self._entries().items()}

    def load_state_dict(self, state: Mapping[str, NDArray], strict: bool = True) -> None:
        """Copy arrays into the parameters and running statistics.

        Parameters
        ----------
        state : mapping of str to array
            As from `state_dict`, or from PyTorch's, as NumPy arrays.
        strict : bool, default True
            False leaves what `state` lacks as it is and passes over what this layer lacks.

        Raises
        ------
        ValueError
            If names are missing or unexpected (when strict), or shapes differ; nothing has been changed then.
        TypeError
            If an array is not of numbers of the layer's kind; nothing has been changed then.
        """
        entries = self._entries()
        for name, array in self.check_state_dict(state, strict).items():
            entry = entries[name]
            if isinstance(entry, Parameter):
                entry.data = array
            else:
                entry[...] = array

    def check_state_dict(self, state: Mapping[str, NDArray], strict: bool = True) -> dict[str, NDArray]:
        """Return the arrays that `load_state_dict` would copy; raise what it would raise."""
        entries = self._entries()
        if not isinstance(state, Mapping):
            raise TypeError(f"load_state_dict: `state` must map names to arrays, got {type(state).__name__}")
        arrays = {name: as_array("load_state_dict", str(name), array) for name, array in state.items()}
        common = [name for name in entries if name in arrays]
        lists = {
            "missing": [name for name in entries if name not in arrays] if strict else [],
            "unexpected": [name for name in arrays if name not in entries] if strict else [],
            "misshapen": [
                f"{name} {arrays[name].shape} instead of {entries[name].shape}"
                for name in common
                if arrays[name].shape != entries[name].shape
            ],
        }
        if any(lists.values()):
            listing = "; ".join(f"{kind}: {', '.join(map(str, names))}" for kind, names in lists.items() if names)
            raise ValueError(f"load_state_dict: `state` does not fit this {type(self).__name__}: {listing}")
        for name in common:
            if arrays[name].dtype.kind != entries[name].dtype.kind:
                raise TypeError(
                    f"load_state_dict: `{name}` must be of the kind of {entries[name].dtype}, got {arrays[name].dtype}"
                )
        return {name: arrays[name] for name in common}

    def random_state(self) -> dict[str, int]:
        """Return the seeds and positions of the random layers inside, by dotted name."""
        return {prefix + name: getattr(layer, name) for prefix, layer in self.walk() for name in layer.counters}

    def load_random_state(self, state: Mapping[str, int]) -> None:
        """Set what `random_state` returned; where it is something else nothing is changed."""
        names = self.random_state().keys()
        if not isinstance(state, Mapping) or not state.keys() >= names:
            raise ValueError(f"load_random_state: `state` must map {', '.join(names)} to integers, got {state!r}")
        counts = {name: as_int("load_random_state", name, state[name], 0, 2**64 - 1) for name in names}
        for prefix, layer in self.walk():
            for name in layer.counters:
                setattr(layer, name, counts[prefix + name])

    def __setattr__(self, name: str, value: Any) -> None:
        if not (value is None or isinstance(value, Parameter)) and isinstance(vars(self).get(name), Parameter):
            raise TypeError(
                f"{type(self).__name__}: `{name}` must be a Parameter or None, got {type(value).__name__}; "
                f"`{name}.data = ...` assigns values"
            )
        if isinstance(value, Layer) and isinstance(vars(self).get(name), Layer):
            value.train(self.training)
        super().__setattr__(name, value)

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name not in PASSING}

    def __repr__(self) -> str:
        arguments = []
        for name, argument in inspect.signature(type(self).__init__).parameters.items():
            if name == "self" or not hasattr(self, name):
                continue
            value = getattr(self, name)
            if isinstance(argument.default, bool):  # `bias=True` became a Parameter, `bias=False` None
                value = value is not None and value is not False
            if argument.default is argument.empty:
                arguments.append(repr(value))
            elif value != argument.default:
                arguments.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(arguments)})"


Layer._defined = Layer.forward, Layer.backward


def weight_and_bias(
    op: str, shape: Shape, outputs: int, bias: bool, initializer: Initializer | str | None
) -> tuple[Parameter, Parameter | None]:
    """Return the parameters of a linear map: PyTorch's initial values, or the initializer's weight and a zero bias."""
    draw_bias: Initializer = zeros
    if initializer is None:
        initializer = fan_in_uniform
        draw_bias = partial(uniform, bound=fans(shape)[0] ** -0.5)  # the weight's fan_in, which a bias does not know
    weight = Parameter.drawn(shape, as_initializer(op, initializer))
    return weight, Parameter.drawn((outputs,), draw_bias) if as_bool(op, "bias", bias) else None


def check_distinct(layer: Layer) -> None:
    """Raise ValueError where a layer inside stands in two places."""
    seen: set[int] = set()
    for prefix, inner in layer.walk():
        if id(inner) in seen:
            raise ValueError(
                f"{type(layer).__name__}: the {type(inner).__name__} at {prefix.rstrip('.')!r} stands elsewhere too; "
                "a layer keeps what its `backward` needs, so each place needs one of its own"
            )
        seen.add(id(inner))


def is_patched(layer: Layer) -> bool:
    """Return whether `forward` or `backward` was replaced, on this object or, after it was defined, on its class."""
    own, kind = vars(layer), type(layer)
    return "forward" in own or "backward" in own or (kind.forward, kind.backward) != kind._defined


def run(layer: Layer, x: NDArray, addend: NDArray | None = None, relu: bool = False) -> NDArray:
    """Return what the layer's `run` does; by means of its `forward` where that was replaced."""
    return (Layer if is_patched(layer) else type(layer)).run(layer, x, addend, relu)


def run_backward(layer: Layer, grad_output: NDArray, addend: NDArray | None = None) -> NDArray:
    """Return what the layer's `run_backward` does; by means of its `backward` where that was replaced."""
    return (Layer if is_patched(layer) else type(layer)).run_backward(layer, grad_output, addend)


def completed(op: str, output: NDArray, addend: NDArray | None, relu: bool, calls: Calls = AT_ONCE) -> NDArray:
    """Return ``output + addend``, with `relu` negative numbers set to zero."""
    if addend is not None:
        check_shape(op, "addend", addend, output.shape, " (that of the output)")
        output = add(output, addend, calls)
    return rectified(output, calls) if relu else output


def data_of(parameter: Parameter | None) -> NDArray | None:
    """Return the values of a parameter that may be absent."""
    return None if parameter is None else parameter.read()


def accumulate(parameter: Parameter | None, gradient: NDArray | None) -> None:
    """Add to the gradient of a parameter that may be absent."""
    if parameter is not None:
        parameter.accumulate(gradient)


def is_trainable(parameter: Parameter | None) -> bool:
    """Return whether a parameter's gradient is wanted."""
    return parameter is not None and parameter.trainable


def image_shape(op: str, input_shape: Shape, channels: int | None = None) -> tuple[int, int, int]:
    """Return (C, H, W) if `input_shape` is that of an image, with the right number of channels where it matters."""
    if len(input_shape) != 3 or channels not in (None, input_shape[0]):
        needed = "C" if channels is None else channels
        raise ValueError(f"{op}: needs images of shape ({needed}, H, W), got {tuple(input_shape)}")
    C, H, W = input_shape
    return C, H, W


def windows_fit(op: str, input_shape: Shape, output_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return `output_shape` if it is that of an image."""
    if min(output_shape) < 1:
        raise ValueError(f"{op}: the padded input is smaller than the kernel: {tuple(input_shape)} -> {output_shape}")
    return output_shape
