"""Embedding: learned vectors looked up by number."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from cyconv import functional as F
from cyconv._validation import as_int
from cyconv.initializers import normal
from cyconv.layers.base import Layer, Shape, accumulate
from cyconv.parameter import Parameter


class Embedding(Layer):
    """Replace each index by a learned vector.

    Parameters
    ----------
    num_embeddings : int
        How many vectors.
    embedding_dim : int
        Their length.

    Attributes
    ----------
    weight : Parameter of shape (num_embeddings, embedding_dim)
        Starts normally distributed, as PyTorch's.

    Notes
    -----
    Indices have no gradient: `backward` returns None.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import Embedding
    >>> Embedding(10, 4)(np.array([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        self.num_embeddings = as_int("Embedding", "num_embeddings", num_embeddings)
        self.embedding_dim = as_int("Embedding", "embedding_dim", embedding_dim)
        self.weight = Parameter.drawn((self.num_embeddings, self.embedding_dim), partial(normal, std=1.0))

    def output_shape(self, input_shape: Shape) -> Shape:
        return *input_shape, self.embedding_dim

    def forward(self, x: NDArray) -> NDArray:
        self.remember(np.array(x))
        return F.embedding(x, self.weight.read())

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (indices,) = self.recall()
        accumulate(self.weight, F.embedding_backward(grad_output, indices, self.weight.read()))
        return None
