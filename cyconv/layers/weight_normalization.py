"""Weight normalisation, wrapped around a layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cyconv import functional as F
from cyconv._validation import brief
from cyconv.functional.weight_normalization import lengths
from cyconv.layers.base import Layer, Shape, accumulate
from cyconv.parameter import Parameter


class WeightNorm(Layer):
    """Learn the length and the direction of each of a layer's filters apart (Salimans and Kingma 2016).

    Parameters
    ----------
    layer : Layer
        A convolution or `Linear`, whose weight is taken over: it starts with the same values.

    Attributes
    ----------
    weight_g : Parameter of shape (OC, 1, ...)
        Lengths.
    weight_v : Parameter of the shape of the layer's weight
        Directions, of any length.
    bias : Parameter or None
        The layer's.

    Notes
    -----
    ``w = g v / ||v||``, see `cyconv.functional.weight_norm`; a filter for each index of the weight's first axis.

    Examples
    --------
    >>> from cyconv.layers import Linear, WeightNorm
    >>> {name: parameter.shape for name, parameter in WeightNorm(Linear(3, 2)).parameters().items()}
    {'weight_g': (2, 1), 'weight_v': (2, 3), 'bias': (2,)}
    """

    def __init__(self, layer: Layer) -> None:
        weight = getattr(layer, "weight", None)
        if not isinstance(layer, Layer) or not isinstance(weight, Parameter) or len(weight.shape) < 2:
            raise TypeError(f"WeightNorm: `layer` must be a layer with filters, got {brief(layer)}")
        self.layer = layer
        self.weight_g = Parameter.drawn((weight.shape[0], *(1 for _ in weight.shape[1:])), self._drawn_lengths)
        self.weight_v = weight
        self.bias = getattr(layer, "bias", None)

    def _drawn_lengths(self, shape: Shape, rng: np.random.Generator, dtype: DTypeLike) -> NDArray:
        return lengths(self.weight_v.read()).astype(dtype)

    def children(self) -> dict[str, Layer]:
        return {}  # the layer's weight is made of the parameters here, and is none itself

    def output_shape(self, input_shape: Shape) -> Shape:
        return self.layer.output_shape(input_shape)

    def forward(self, x: NDArray) -> NDArray:
        layer = self._with_weight()
        output = layer.forward(x)
        self.remember(layer)
        return output

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (layer,) = self.recall()
        grad_input = layer.backward(grad_output, needs_grad_input)
        grad_v, grad_g = F.weight_norm_backward(layer.weight.grad, self.weight_v.read(), self.weight_g.read())
        accumulate(self.weight_v, grad_v)
        accumulate(self.weight_g, grad_g)
        return grad_input

    def _with_weight(self) -> Any:
        """Return a layer like the wrapped one with the weight of now; it shares the bias, and nothing with threads."""
        layer = object.__new__(type(self.layer))
        vars(layer).update({**vars(self.layer), "training": self.training, "_remembered": None, "_prepared": None})
        vars(layer)["weight"] = Parameter(F.weight_norm(self.weight_v.read(), self.weight_g.read()))
        return layer
