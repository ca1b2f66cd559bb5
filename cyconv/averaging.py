"""Averages of the weights over a training run, which often predict better than the weights at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cyconv.functional
import cyconv.layers  # noqa: F401  (whole, before its parts: see cyconv/__init__.py)
from cyconv._dispatch import optimizer as kernel
from cyconv._validation import as_instance, as_int, as_number
from cyconv.callbacks import Callback
from cyconv.functional._arrays import flat, memory_axes
from cyconv.layers.base import Layer
from cyconv.parameter import owned
from cyconv.threads import threads_for
from cyconv.training import Run

__all__ = ["AverageWeights", "WeightAverage"]


class WeightAverage:
    """Exponential moving average of a network's weights and running statistics.

    Parameters
    ----------
    decay : float, default 0.999
        Share of the average that an update keeps; below 1.

    Attributes
    ----------
    arrays : dict of str to ndarray
        The averages by the names of `Layer.state_dict`; empty before the first update.

    Raises
    ------
    TypeError, ValueError
        If `decay` is not a number from 0 to below 1.

    Notes
    -----
    ``average = decay * average + (1 - decay) * weight``; the first update takes the weights as they are. Polyak and
    Juditsky (1992) average with equal shares; the decaying ones follow weights that still travel.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import layers
    >>> from cyconv.averaging import WeightAverage
    >>> network, average = layers.Linear(1, 1, bias=False), WeightAverage(decay=0.75)
    >>> for value in (1.0, 2.0):
    ...     network.weight.data[...] = value
    ...     average.update(network)
    >>> with average.applied(network):
    ...     print(network.weight.data)
    [[1.25]]
    >>> network.weight.data
    array([[2.]], dtype=float32)
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = as_number("WeightAverage", "decay", decay, 0, 1, open_maximum=True)
        self.arrays: dict[str, NDArray] = {}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self.arrays = {name: owned(array) for name, array in self.arrays.items()}

    def update(self, network: Layer) -> None:
        """Take the network's weights into the average.

        Raises
        ------
        ValueError
            If the average is that of another network.
        """
        state = as_instance("WeightAverage", "network", network, Layer).state_dict()
        if not self.arrays:
            self.arrays = {name: array.copy(order="K") for name, array in state.items()}
            return
        network.check_state_dict(self.arrays)
        for name, array in state.items():
            if array.dtype.kind != "f":  # counts
                self.arrays[name][...] = array
                continue
            if self.arrays[name].strides != array.strides:  # read from a file
                own = np.empty_like(array)
                own[...] = self.arrays[name]
                self.arrays[name] = own
            axes = memory_axes(array)
            kernel.average(flat(self.arrays[name], axes), flat(array, axes), self.decay, threads_for(array.size))

    @contextmanager
    def applied(self, network: Layer) -> Iterator[None]:
        """Give the network the averages inside the ``with``, and its own weights back afterwards."""
        as_instance("WeightAverage", "network", network, Layer)
        own = {name: array.copy(order="K") for name, array in network.state_dict().items()}
        network.load_state_dict(self.arrays)
        try:
            yield
        finally:
            network.load_state_dict(own)


class AverageWeights(Callback):
    """Average the weights over all steps of a training run, and give the network the averages at its end.

    While it trains, the network has its own weights: they are what validation judges and checkpoints hold.

    Parameters
    ----------
    decay : float, default 0.999
        Share of the average that a step keeps; below 1. The average reaches back about 1 / (1 - decay) steps.

    Attributes
    ----------
    average : WeightAverage
        The averages.

    Raises
    ------
    TypeError, ValueError
        If `decay` is not a number from 0 to below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Network, layers
    >>> from cyconv.averaging import AverageWeights
    >>> network = Network([layers.Linear(2, 2)], seed=0)
    >>> x, y = np.eye(2, dtype=np.float32), np.arange(2)
    >>> averaging = AverageWeights(decay=0.9)
    >>> history = network.fit(x, y, epochs=10, callbacks=[averaging], progress=False)
    >>> bool(np.all(network[0].weight.data == averaging.average.arrays["0.weight"]))
    True
    """

    def __init__(self, decay: float = 0.999) -> None:
        as_number("AverageWeights", "decay", decay, 0, 1, open_maximum=True)
        self.average = WeightAverage(decay)

    def on_train_begin(self, run: Run) -> None:
        """Forget former runs, unless this one is resumed."""
        if run.epoch == 0:
            self.average = WeightAverage(self.average.decay)
        elif self.average.arrays:
            run.network.check_state_dict(self.average.arrays)

    def on_batch_end(self, run: Run) -> None:
        """Take new weights into the average."""
        if run.updated:
            self.average.update(run.network)

    def on_train_end(self, run: Run) -> None:
        """Give the network the averages."""
        if self.average.arrays:
            run.network.load_state_dict(self.average.arrays)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages."""
        return {"count": len(self.average.arrays), **{f"weights.{k}": v for k, v in self.average.arrays.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set what `state_dict` returned."""
        arrays = {name.removeprefix("weights."): v for name, v in state.items() if name.startswith("weights.")}
        count = as_int("AverageWeights: state to load", "count", state["count"], 0)
        if len(arrays) != count:
            raise ValueError(f"AverageWeights: the state to load has {len(arrays)} arrays instead of {count}")
        self.average.arrays = arrays
