"""Flatten: images into vectors."""

from __future__ import annotations

import math

from numpy.typing import NDArray

from cyconv import functional as F
from cyconv.functional.flatten import laid_out
from cyconv.layers.base import Layer, Shape, completed, image_shape
from cyconv.layers.recording import Recording


class Flatten(Layer):
    """Lay each image out as a vector of its C * H * W numbers, in the order of PyTorch.

    Examples
    --------
    >>> from cyconv.layers import Flatten
    >>> Flatten().output_shape((16, 5, 5))
    (400,)
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(image_shape("Flatten", input_shape)),)

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x.shape)
        return F.flatten(x)

    def record(self, x: NDArray, addend: NDArray | None, relu: bool, calls: Recording) -> NDArray:
        return completed("Flatten", laid_out("Flatten", x, calls), addend, relu, calls)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (shape,) = self.recall()
        return F.flatten_backward(grad_output, shape)
