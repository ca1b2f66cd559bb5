"""Dropout: random silence against overfitting."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cyconv import functional as F
from cyconv._validation import as_generator, as_number
from cyconv.layers.activation import Activation
from cyconv.layers.base import completed
from cyconv.layers.recording import Recording
from cyconv.parameter import random_seed


class Dropout(Activation):
    """Set a random share of the numbers to zero while training, and scale up the others (Srivastava et al. 2014).

    The numbers drawn are a pure function of `seed` and `offset`, which moves on with every batch: nothing is stored for
    `backward`, and the threads do not matter.

    Parameters
    ----------
    p : float, default 0.5
        Probability of zero, at least 0 and below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import Dropout
    >>> layer = Dropout(0.5)
    >>> np.unique(layer(np.ones((100, 10))))
    array([0., 2.])
    >>> np.unique(layer.eval()(np.ones((100, 10))))
    array([1.])
    """

    counters: ClassVar[tuple[str, ...]] = ("seed", "offset")

    def __init__(self, p: float = 0.5) -> None:
        self.p = as_number(type(self).__name__, "p", p, 0, 1, open_maximum=True)
        self.seed, self.offset = random_seed(), 0

    def reseed(self, rng: np.random.Generator | int | None = None) -> None:
        self.seed, self.offset = int(as_generator("reseed", rng).integers(2**63)), 0

    def forward(self, x: NDArray) -> NDArray:
        if not self.training:
            return x
        output = F.dropout(x, self.p, seed=self.seed, offset=self.offset)
        self.remember(x.shape, self.offset)
        self.offset += x.size
        return output

    def record(self, x: NDArray, addend: NDArray | None, relu: bool, calls: Recording) -> NDArray:
        return completed(type(self).__name__, x, addend, relu, calls)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        shape, offset = self.recall()
        return F.dropout_backward(self.check_gradient(grad_output, shape), self.p, seed=self.seed, offset=offset)


class Dropout2d(Dropout):
    """Set a random share of the channels of images to zero while training, and scale up the others.

    Neighbouring pixels tell much the same, so silencing single ones changes little (Tompson et al. 2015).

    Parameters
    ----------
    p : float, default 0.5
        Probability of zero, at least 0 and below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import Dropout2d
    >>> np.unique(np.ptp(Dropout2d(0.5)(np.ones((10, 10, 4, 4))), axis=(2, 3)))
    array([0.])
    """

    def forward(self, x: NDArray) -> NDArray:
        if not self.training:
            return x
        output = F.dropout2d(x, self.p, seed=self.seed, offset=self.offset)
        self.remember(x.shape, self.offset)
        self.offset += x.shape[0] * x.shape[1]
        return output

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        shape, offset = self.recall()
        return F.dropout2d_backward(self.check_gradient(grad_output, shape), self.p, seed=self.seed, offset=offset)
