"""Whether a network can learn: its first loss, and a few images learned by heart."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

from numpy.typing import ArrayLike

from cyconv._validation import as_int, as_number
from cyconv.diagnose.report import Report, subject_of
from cyconv.layers.base import Layer
from cyconv.losses import BinaryCrossEntropyLoss, CrossEntropyLoss, Loss
from cyconv.optimizers import Optimizer, as_optimizer
from cyconv.training import train_step

__all__ = ["InitialLoss", "Overfit", "initial_loss", "overfit"]


@dataclass(frozen=True, repr=False)
class InitialLoss(Report):
    """The loss before training, beside that of scores without a preference.

    Attributes
    ----------
    loss, expected : float
        What it is, and what it should be.
    tolerance : float
        By which share of `expected` it may differ.
    """

    title = "initial loss"
    loss: float
    expected: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether it is within the tolerance."""
        return abs(self.loss - self.expected) <= self.tolerance * abs(self.expected)

    def _lines(self) -> list[str]:
        lines = [f"the loss is {self.loss:.4g}; scores without a preference would give {self.expected:.4g}"]
        if not self.ok:
            lines.append(
                "a network that knows nothing yet should not be that sure, or that wrong: are the last layer's"
            )
            lines.append("initial weights too large, the inputs not scaled, or the targets not what the loss takes?")
        return lines


def initial_loss(
    network: Layer,
    x: ArrayLike,
    y: ArrayLike,
    loss: Loss | str = "cross_entropy",
    *,
    expected: float | None = None,
    tolerance: float = 0.3,
) -> InitialLoss:
    """Compare the loss of an untrained network with that of scores without a preference: log(classes).

    Parameters
    ----------
    network : Layer
        Before training.
    x, y : ndarray
        A batch, as for `Network.fit`, with as many images of each class.
    loss : str or Loss, default "cross_entropy"
        What is to be made small.
    expected : float, optional
        What it should be; by default log(classes) for cross entropy and log(2) for binary cross entropy.
    tolerance : float, default 0.3
        By which share of that it may differ.

    Returns
    -------
    InitialLoss

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, the data does not suit the network, or `expected` is missing for a loss that
        is none of the two.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import diagnose, models
    >>> x, y = np.zeros((10, 1, 32, 32), np.float32), np.arange(10)
    >>> diagnose.initial_loss(models.lenet5(seed=0), x, y).ok
    True
    """
    op = "initial_loss"
    subject = subject_of(op, network, x, y, loss)
    allowed = as_number(op, "tolerance", tolerance, 0)
    output = subject.network.forward(subject.x)
    if expected is None:
        if isinstance(subject.loss, BinaryCrossEntropyLoss):
            expected = math.log(2)
        elif isinstance(subject.loss, CrossEntropyLoss):
            expected = math.log(output.shape[1])
        else:
            raise ValueError(f"{op}: `expected` must be given for {subject.loss!r}: the loss of a network that guesses")
    value = subject.loss.forward(output, subject.y)
    return InitialLoss(float(value), as_number(op, "expected", expected), allowed)


@dataclass(frozen=True, repr=False)
class Overfit(Report):
    """How far a network learns a few images by heart.

    Attributes
    ----------
    losses : list of float
        Before each step.
    ratio : float
        To which share of the first the last should have fallen.
    """

    title = "overfit a tiny batch"
    losses: list[float]
    ratio: float

    @property
    def ok(self) -> bool:
        """Whether the last loss is small enough."""
        return self.losses[-1] <= self.ratio * self.losses[0]

    def _lines(self) -> list[str]:
        first, last = self.losses[0], self.losses[-1]
        lines = [f"the loss fell from {first:.4g} to {last:.4g} in {len(self.losses) - 1} steps"]
        if not self.ok:
            lines.append(
                f"it should fall to {self.ratio:.2g} of the first, {self.ratio * first:.4g}: are there gradients,"
            )
            lines.append("are the steps of the right size, do the targets belong to the images?")
        return lines


def overfit(
    network: Layer,
    x: ArrayLike,
    y: ArrayLike,
    loss: Loss | str = "cross_entropy",
    optimizer: Optimizer | str = "adam",
    *,
    steps: int = 200,
    ratio: float = 0.05,
) -> Overfit:
    """Train a copy on one batch only, which it should learn by heart.

    Parameters
    ----------
    network : Layer
        Before training.
    x, y : ndarray
        A few images, some 10, as for `Network.fit`.
    loss : str or Loss, default "cross_entropy"
        What is made small.
    optimizer : str or Optimizer, default "adam"
        How; it is copied.
    steps : int, default 200
        How many there are.
    ratio : float, default 0.05
        To which share of the first the loss should fall. Dropout, penalties and smoothed labels keep it above zero.

    Returns
    -------
    Overfit

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or out of range, or the data does not suit the network.
    FloatingPointError
        If the loss becomes NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import diagnose
    >>> from cyconv.layers import Linear
    >>> from cyconv.optimizers import Adam
    >>> network, x = Linear(4, 4).initialize(0), np.eye(4, dtype=np.float32)
    >>> diagnose.overfit(network, x, np.arange(4), optimizer="sgd", steps=9)
    overfit a tiny batch: look into this
      the loss fell from 1.247 to 1.232 in 9 steps
      it should fall to 0.05 of the first, 0.06236: are there gradients,
      are the steps of the right size, do the targets belong to the images?
    >>> diagnose.overfit(network, x, np.arange(4), optimizer=Adam(0.05)).ok
    True
    """
    op = "overfit"
    count, wanted = as_int(op, "steps", steps), as_number(op, "ratio", ratio, 0)
    subject = subject_of(op, network, x, y, loss)
    how = copy.deepcopy(as_optimizer(op, optimizer))
    losses = [train_step(*subject, how)[0] for _ in range(count)]
    losses.append(float(subject.loss.forward(subject.network.forward(subject.x), subject.y)))
    return Overfit(losses, wanted)
