"""Looking into a network at work: on a copy of its structure that shares the weights and changes nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import layers as L
from cyconv._validation import as_inputs, as_numbers
from cyconv.analysis.counts import as_layer
from cyconv.functional._arrays import add
from cyconv.layers.base import Layer, Shape
from cyconv.layers.containers import Container

__all__ = ["activations"]


class Probe(Layer):
    """Stand in a layer's place, note what it returns, and add to the gradient that comes back to it.

    Parameters
    ----------
    layer : Layer
        What it stands for.

    Attributes
    ----------
    output : ndarray or None
        What the layer returned last.
    grad_output : ndarray or None
        To be added to the gradient with respect to that.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.analysis.probes import Probe
    >>> from cyconv.layers import ReLU
    >>> probe = Probe(ReLU())
    >>> _ = probe(np.array([[-1.0, 2.0]]))
    >>> probe.output
    array([[0., 2.]])
    """

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.output: NDArray | None = None
        self.grad_output: NDArray | None = None

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return that of the layer."""
        return self.layer.output_shape(input_shape)

    def forward(self, x: NDArray) -> NDArray:
        """Return what the layer returns."""
        self.output = self.layer.forward(x)
        return self.output

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        """Return the layer's gradient for `grad_output` and what is to be added to it."""
        gradient = grad_output if self.grad_output is None else add(grad_output, self.grad_output)
        return self.layer.backward(gradient, needs_grad_input)


class _Scaled(L.Identity):
    """What a batch normalisation does while predicting."""

    def __init__(self, norm: L.BatchNorm2d) -> None:
        scale, shift = (values[:, np.newaxis, np.newaxis] for values in norm.scale_and_shift())
        self.scale, self.shift = scale, shift

    def forward(self, x: NDArray) -> NDArray:
        return super().forward((x * self.scale + self.shift).astype(x.dtype))

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        gradient: Any = super().backward(grad_output)
        return (gradient * self.scale).astype(grad_output.dtype)


def twin_of(layer: Layer) -> Layer:
    """Return a copy with buffers and counters of its own, whose frozen parameters share the values' memory.

    Parameters
    ----------
    layer : Layer
        Left as it is.
    """
    memo: dict[int, Any] = {id(parameter): parameter.frozen() for parameter in layer.parameters().values()}
    twin = copy.deepcopy(layer, memo)
    twin.forget()
    return twin


def differentiable_twin_of(layer: Layer) -> Layer:
    """Return a twin in training mode that does what the layer does while predicting, so that it has a gradient.

    Parameters
    ----------
    layer : Layer
        Left as it is.
    """

    def at_rest(inner: Layer) -> Layer:
        if isinstance(inner, L.BatchNorm2d):
            return _Scaled(inner)
        return L.Identity() if isinstance(inner, (L.Dropout, L.SideHead)) else inner

    twin = at_rest(twin_of(layer))
    for _, inner in list(twin.walk()):
        for name, child in inner.children().items():
            put(inner, name, at_rest(child))
    return twin.train()


def put(parent: Layer, name: str, layer: Layer) -> None:
    """Set a layer in the place of another.

    Parameters
    ----------
    parent : Layer
        Inside which it stands.
    name : str
        Its name there.
    layer : Layer
        The new one.
    """
    if isinstance(parent, Container):
        parent[name] = layer
    else:
        setattr(parent, name, layer)


def probe(op: str, twin: Layer, names: Iterable[str]) -> dict[str, Probe]:
    """Put probes in the places of layers, by dotted name, and return them.

    Parameters
    ----------
    op : str
        Whom errors name.
    twin : Layer
        A network; a copy, for it is changed.
    names : iterable of str
        Of layers inside.
    """
    places = {
        prefix + name: (parent, name, child)
        for prefix, parent in twin.walk()
        for name, child in parent.children().items()
    }
    probes = {}
    for name in names:
        if name not in places:
            raise ValueError(f"{op}: there is no layer {name!r}; the names are those of `trace`: {_some(places)}")
        parent, last, child = places[name]
        probes[name] = Probe(child)
        put(parent, last, probes[name])
    return probes


def up_to(twin: Layer, names: Iterable[str]) -> Layer:
    """Return a network without what follows the last of some layers, as far as that can be cut off.

    Parameters
    ----------
    twin : Layer
        A network.
    names : iterable of str
        Dotted names of the layers; any that there are not cut nothing off.
    """
    if type(twin).output_shape is not L.Sequential.output_shape:
        return twin
    order, heads = list(twin.children()), {name.split(".")[0] for name in names}
    if not heads or not heads <= set(order):
        return twin
    last = max(map(order.index, heads))
    return L.Sequential({name: twin.children()[name] for name in order[: last + 1]})


def _some(names: Iterable[str]) -> str:
    listed = [repr(name) for name in names]
    return ", ".join(listed[:8]) + (", ..." if len(listed) > 8 else "")


def inputs(op: str, layer: Layer, x: ArrayLike) -> NDArray:
    """Return inputs as `Network.predict` takes them, in the dtype of the parameters.

    Parameters
    ----------
    op : str
        Whom errors name.
    layer : Layer
        A layer or network.
    x : array-like
        Floats, or bytes, which are divided by 255.
    """
    parameters = iter(as_layer(op, layer).parameters().values())
    first = next(parameters, None)
    array = as_inputs(op, x, getattr(layer, "input_shape", None) or np.shape(x)[1:])[:]
    if len(array) == 0:
        raise ValueError(f"{op}: `x` is empty")
    return as_numbers(array, np.dtype(np.float32) if first is None else first.dtype)


def activations(layer: Layer, x: ArrayLike, names: Iterable[str] | None = None) -> dict[str, NDArray]:
    """Return what layers inside a network return for a batch, while predicting.

    Parameters
    ----------
    layer : Layer
        A network. It is left as it is.
    x : ndarray of shape (N, *input shape), float32, float64 or uint8
        The batch, as for `Network.predict`; it is computed at once.
    names : iterable of str, optional
        Dotted names of the layers, as in `summary`; by default all layers inside.

    Returns
    -------
    dict of str to ndarray of shape (N, *output shape)
        In the order of `names`.

    Raises
    ------
    TypeError, ValueError
        If `layer` is none, `x` does not suit it, or there is no layer of a name.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import models
    >>> from cyconv.analysis import activations
    >>> maps = activations(models.lenet5(seed=0), np.zeros((3, 1, 32, 32), np.float32), ["0", "3"])
    >>> {name: each.shape for name, each in maps.items()}
    {'0': (3, 6, 28, 28), '3': (3, 16, 10, 10)}
    """
    op = "activations"
    batch = inputs(op, layer, x)
    if isinstance(names, str):
        raise TypeError(f"{op}: `names` must be several names, got {names!r}; put it in a list")
    wanted = [prefix[:-1] for prefix, _ in layer.walk() if prefix] if names is None else list(names)
    twin = twin_of(layer)
    probes = probe(op, twin, wanted)
    twin = up_to(twin, wanted).eval()
    twin.forward(batch)
    return {name: _output_of(op, name, each) for name, each in probes.items()}


def _output_of(op: str, name: str, each: Probe) -> NDArray:
    if each.output is None:
        raise ValueError(f"{op}: the layer {name!r} does not run while predicting")
    return each.output
