"""Whether layers are alive: units that are always zero, numbers that vanish or explode."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv._validation import as_number
from cyconv.analysis.counts import as_layer
from cyconv.analysis.probes import inputs, probe
from cyconv.diagnose.report import Report, as_limits, table
from cyconv.layers import ReLU
from cyconv.layers.base import Layer

__all__ = ["ActivationStatistics", "Activations", "DeadReLUs", "activation_statistics", "dead_relus"]


@dataclass(frozen=True, repr=False)
class DeadReLUs(Report):
    """Which share of the units of each ReLU lets nothing through.

    Attributes
    ----------
    shares : dict of str to float
        By the dotted names of the layers; a unit is a channel, of all images and positions.
    limit : float
        Largest share allowed.
    """

    title = "dead ReLUs"
    shares: dict[str, float]
    limit: float

    @property
    def ok(self) -> bool:
        """Whether no share exceeds the limit."""
        return all(share <= self.limit for share in self.shares.values())

    def _lines(self) -> list[str]:
        rows = [(name, f"{share:.1%}", "" if share <= self.limit else "<-") for name, share in self.shares.items()]
        return table(("layer", "dead", ""), rows) if rows else ["there are no ReLUs"]


def dead_relus(network: Layer, x: ArrayLike, *, limit: float = 0.4) -> DeadReLUs:
    """Find units that are zero for every image: neither they nor the weights before them learn anything.

    Parameters
    ----------
    network : Layer
        In any state; it runs as in a step of training.
    x : ndarray
        A batch of, better, some hundred images, as for `Network.fit`.
    limit : float, default 0.4
        Largest share of dead units in a layer.

    Returns
    -------
    DeadReLUs

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or out of range, or the data does not suit the network.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import diagnose
    >>> from cyconv.layers import Linear, ReLU, Sequential
    >>> network = Sequential(Linear(2, 4).initialize(0), ReLU())
    >>> network["0"].bias.data = [0, 0, -9, -9]
    >>> diagnose.dead_relus(network, np.random.default_rng(0).random((99, 2), np.float32))
    dead ReLUs: look into this
      layer   dead
      1      50.0%  <-
    """
    op = "dead_relus"
    allowed = as_number(op, "limit", limit, 0, 1)
    outputs = _outputs(op, network, x, [name for name, layer in _names(op, network) if isinstance(layer, ReLU)])
    shares = {}
    for name, output in outputs.items():
        alive = (np.moveaxis(output, 1, -1) > 0).reshape(-1, output.shape[1]).any(axis=0)
        shares[name] = float(1 - alive.mean())
    return DeadReLUs(shares, allowed)


class Activations(NamedTuple):
    """Statistics of what a layer returns for a batch.

    Attributes
    ----------
    mean, std, minimum, maximum : float
        Of all numbers.
    zero : float
        Share of zeros.
    """

    mean: float
    std: float
    minimum: float
    maximum: float
    zero: float


@dataclass(frozen=True, repr=False)
class ActivationStatistics(Report):
    """Statistics of what each layer returns.

    Attributes
    ----------
    layers : dict of str to Activations
        By dotted names, in the order in which they run.
    limits : (float, float)
        Between which the standard deviations should lie.
    """

    title = "activations"
    layers: dict[str, Activations]
    limits: tuple[float, float]

    @property
    def ok(self) -> bool:
        """Whether all numbers are finite and no standard deviation has vanished or exploded."""
        return not any(map(self._remark, self.layers.values()))

    def _remark(self, layer: Activations) -> str:
        low, high = self.limits
        if not math.isfinite(layer.std):
            return "<- not finite"
        if low <= layer.std <= high:
            return ""
        return "<- vanishes" if layer.std < low else "<- explodes"

    def _lines(self) -> list[str]:
        rows = [
            (name, *(f"{value:.3g}" for value in each[:4]), f"{each.zero:.0%}", self._remark(each))
            for name, each in self.layers.items()
        ]
        return table(("layer", "mean", "std", "min", "max", "zero", ""), rows)


def activation_statistics(
    network: Layer, x: ArrayLike, *, limits: tuple[float, float] = (1e-3, 1e3)
) -> ActivationStatistics:
    """Look at what each layer returns: numbers that shrink or grow from layer to layer take the gradients with them.

    Parameters
    ----------
    network : Layer
        In any state; it runs as in a step of training.
    x : ndarray
        A batch, as for `Network.fit`.
    limits : (float, float), default (1e-3, 1e3)
        Between which the standard deviations should lie.

    Returns
    -------
    ActivationStatistics

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or out of range, or the data does not suit the network.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import diagnose
    >>> from cyconv.layers import Linear, ReLU, Sequential
    >>> network = Sequential(Linear(9, 9, initializer="he_normal"), ReLU()).initialize(0)
    >>> report = diagnose.activation_statistics(network, np.random.default_rng(0).standard_normal((99, 9), np.float32))
    >>> report.ok, report.layers["1"].minimum
    (True, 0.0)
    """
    op = "activation_statistics"
    bounds = as_limits(op, limits)
    names = [name for name, layer in _names(op, network) if not layer.children()]
    outputs = _outputs(op, network, x, names)
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is found out
        layers = {name: _statistics(output) for name, output in outputs.items()}
    return ActivationStatistics(layers, bounds)


def _statistics(output: NDArray) -> Activations:
    numbers = output.astype(np.float64)
    extremes = float(numbers.min()), float(numbers.max())
    return Activations(float(numbers.mean()), float(numbers.std()), *extremes, float(np.mean(numbers == 0)))


def _names(op: str, network: Layer) -> list[tuple[str, Layer]]:
    return [(prefix.rstrip("."), layer) for prefix, layer in as_layer(op, network).walk() if prefix]


def _outputs(op: str, network: Layer, x: ArrayLike, names: Sequence[str]) -> dict[str, NDArray]:
    """Return what layers of a copy return in training mode, of those that run."""
    batch = inputs(op, network, x)
    twin = copy.deepcopy(network)
    probes = probe(op, twin, names)
    twin.train().forward(batch)
    return {name: each.output for name, each in probes.items() if each.output is not None}
