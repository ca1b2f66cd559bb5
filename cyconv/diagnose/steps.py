"""Whether steps are right: the gradients of the loss, and the changes that an optimizer makes of them."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv._validation import as_generator, as_int, as_number
from cyconv.diagnose.report import Report, as_limits, subject_of, table
from cyconv.gradient_check import GradientReport, compare
from cyconv.layers.base import Layer
from cyconv.losses import Loss
from cyconv.optimizers import Optimizer, as_optimizer
from cyconv.training import train_step

__all__ = ["Gradients", "UpdateRatios", "gradients", "update_ratios"]

SHIFT = 1e-2  # standard deviation
ROUNDINGS = 1e4  # of the loss: differences tell nothing of gradients that are no larger than these make them


@dataclass(frozen=True, repr=False)
class Gradients(Report):
    """Errors of the gradients of the loss.

    Attributes
    ----------
    reports : list of GradientReport
        One for the input and each trainable parameter; errors are relative to the largest entry of that gradient.
    tolerance : float
        Largest error allowed.
    """

    title = "gradients"
    reports: list[GradientReport]
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether no error exceeds the tolerance."""
        return not self._wrong()

    def _wrong(self) -> list[GradientReport]:
        return [report for report in self.reports if not report.error <= self.tolerance]

    def _lines(self) -> list[str]:
        wrong, worst = self._wrong(), max(self.reports, key=lambda report: np.nan_to_num(report.error, nan=np.inf))
        if not wrong:
            return [f"of {len(self.reports)} arrays the largest error is {worst.error:.2g}, in {worst.name}"]
        header = "array", "error", "backward", "differences"
        rows = [(each.name, f"{each.error:.2g}", f"{each.analytic:.6g}", f"{each.numeric:.6g}", "") for each in wrong]
        return table((*header, ""), rows)


def gradients(
    network: Layer,
    x: ArrayLike,
    y: ArrayLike,
    loss: Loss | str = "cross_entropy",
    *,
    max_entries: int = 10,
    epsilon: float = 1e-6,
    tolerance: float = 1e-3,
    rng: np.random.Generator | int | None = 0,
) -> Gradients:
    """Compare the gradients of the loss with central differences, through the whole network, in float64.

    Parameters
    ----------
    network : Layer
        In any state.
    x, y : ndarray
        A few images, as for `Network.fit`.
    loss : str or Loss, default "cross_entropy"
        What is differentiated.
    max_entries : int, default 10
        Entries of each array that are compared, a random choice; each takes two forward passes.
    epsilon : float, default 1e-6
        Step of the differences.
    tolerance : float, default 1e-3
        Largest error allowed, as a share of the largest entry of the gradient.
    rng : numpy.random.Generator, int or None, default 0
        Draws the choice, and noise.

    Returns
    -------
    Gradients

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or out of range, or the data does not suit the network.

    Notes
    -----
    Images and vectors of parameters, biases for one, are shifted a little at random: where a background is even and
    biases are zero, thousands of ReLUs and windows of max pooling would stand at their kinks, which have no gradient.
    Where an error is too large it is computed again with a tenth of the step, which hardly ever reaches over a kink.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import diagnose
    >>> from cyconv.layers import Linear
    >>> report = diagnose.gradients(Linear(3, 2).initialize(0), np.eye(3), [0, 1, 1])
    >>> report.ok, [each.name for each in report.reports]
    (True, ['input', 'weight', 'bias'])
    """
    op = "gradients"
    entries = as_int(op, "max_entries", max_entries)
    step, allowed = as_number(op, "epsilon", epsilon, 0, open_minimum=True), as_number(op, "tolerance", tolerance, 0)
    generator = as_generator(op, rng)
    subject = subject_of(op, network, x, y, loss)
    layer, batch = subject.network.astype(np.float64), np.array(subject.x, np.float64)
    batch += generator.normal(0, SHIFT, batch.shape)
    for each in layer.parameters().values():
        if len(each.shape) == 1:
            each.data = each.read() + generator.normal(0, SHIFT, each.shape)
    state = layer.random_state()
    parameters = {name: each for name, each in layer.parameters().items() if each.trainable}

    def run() -> NDArray:
        layer.load_random_state(state)  # the same dropout every time
        return np.array([subject.loss.forward(layer.forward(batch), subject.y)])

    layer.zero_grad()
    output = layer.forward(batch)
    found = {"input": (batch, layer.backward(subject.loss.backward(output, subject.y)))}
    found.update((name, (parameter.data, parameter.grad)) for name, parameter in parameters.items())
    noise = ROUNDINGS * np.finfo(np.float64).eps * max(1.0, float(np.abs(run()).max()))
    reports = []
    for name, (array, gradient) in found.items():
        if gradient is None or not gradient.size:
            continue
        largest, choice = float(np.abs(gradient).max()), int(generator.integers(2**63))
        for size in (step, step / 10):  # a difference may reach over a kink; a shorter one hardly does
            arguments = np.ones(1), name, size, entries, np.random.default_rng(choice), max(largest, noise / size)
            report = compare(run, array, gradient, *arguments)
            if report.error <= allowed:
                break
        reports.append(report)
    return Gradients(reports, allowed)


@dataclass(frozen=True, repr=False)
class UpdateRatios(Report):
    """How large a step is beside the parameters that it changes.

    Attributes
    ----------
    ratios : dict of str to float
        ``||change|| / ||before||`` of each trainable parameter, by name; infinite for one that was zero.
    limits : (float, float)
        Between which those of weights should lie. Biases, which start near zero, are shown but not judged.
    judged : list of str
        Names of the weights.
    """

    title = "update-to-weight ratios"
    ratios: dict[str, float]
    limits: tuple[float, float]
    judged: list[str]

    @property
    def ok(self) -> bool:
        """Whether all weights' ratios are between the limits."""
        return not any(self._remark(name) for name in self.judged)

    def _remark(self, name: str) -> str:
        low, high = self.limits
        ratio = self.ratios[name]
        if name not in self.judged or low <= ratio <= high:
            return ""
        return "<- small: does a gradient arrive, is the learning rate too low?" if ratio < low else "<- large"

    def _lines(self) -> list[str]:
        shown = {name: "was 0" if math.isinf(ratio) else f"{ratio:.2g}" for name, ratio in self.ratios.items()}
        rows = [(name, ratio, self._remark(name)) for name, ratio in shown.items()]
        return table(("parameter", "ratio", ""), rows)


def update_ratios(
    network: Layer,
    x: ArrayLike,
    y: ArrayLike,
    loss: Loss | str = "cross_entropy",
    optimizer: Optimizer | str = "sgd",
    *,
    limits: tuple[float, float] = (1e-5, 1e-1),
) -> UpdateRatios:
    """Compare the change that one step makes with the parameters: a thousandth or so is right.

    Parameters
    ----------
    network : Layer
        In any state.
    x, y : ndarray
        A batch of the size that is trained on, as for `Network.fit`.
    loss : str or Loss, default "cross_entropy"
        What is made small.
    optimizer : str or Optimizer, default "sgd"
        Whose step it is, with the learning rate; it is copied, with its state.
    limits : (float, float), default (1e-5, 1e-1)
        Between which the ratios of weights should lie: two powers of ten around a thousandth.

    Returns
    -------
    UpdateRatios

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or out of range, or the data does not suit the network.
    FloatingPointError
        If the loss is NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import diagnose
    >>> from cyconv.layers import Linear
    >>> from cyconv.optimizers import SGD
    >>> diagnose.update_ratios(Linear(3, 3).initialize(0), np.eye(3), np.arange(3), optimizer=SGD(0.01)).ok
    True
    """
    op = "update_ratios"
    bounds = as_limits(op, limits)
    subject = subject_of(op, network, x, y, loss)
    parameters = {name: each for name, each in subject.network.parameters().items() if each.trainable}
    before = {name: each.data.copy() for name, each in parameters.items()}
    train_step(*subject, copy.deepcopy(as_optimizer(op, optimizer)))
    ratios = {name: _ratio(parameters[name].data - values, values) for name, values in before.items()}
    weights = [name for name, values in before.items() if values.ndim > 1 and np.any(values)]
    return UpdateRatios(ratios, bounds, weights)


def _ratio(change: NDArray, values: NDArray) -> float:
    above, below = (float(np.linalg.norm(array.astype(np.float64))) for array in (change, values))
    if below == 0:
        return math.inf if above else 0.0
    return above / below
