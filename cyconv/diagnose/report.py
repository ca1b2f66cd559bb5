"""What all sanity checks share: copies to work on, and reports."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from numpy.typing import ArrayLike, NDArray

from cyconv._validation import as_array, as_number, brief
from cyconv.analysis.probes import inputs
from cyconv.layers.base import Layer
from cyconv.losses import Loss, as_loss

__all__ = ["Report"]


class Report(ABC):
    """What a check found.

    Attributes
    ----------
    ok : bool
        Whether it is as it should be.

    Examples
    --------
    >>> from cyconv.diagnose import InitialLoss
    >>> InitialLoss(loss=2.31, expected=2.30, tolerance=0.2)
    initial loss: ok
      the loss is 2.31; scores without a preference would give 2.3
    """

    title: str

    @property
    @abstractmethod
    def ok(self) -> bool:
        """Whether all is as it should be."""

    @abstractmethod
    def _lines(self) -> list[str]:
        """Return the lines under the title."""

    def __repr__(self) -> str:
        return "\n  ".join([f"{self.title}: {'ok' if self.ok else 'look into this'}", *self._lines()])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of columns: names to the left, numbers to the right, and a remark at the end.

    Parameters
    ----------
    header, rows : sequences of str
        The cells.
    """
    *widths, _ = (max(map(len, column)) for column in zip(header, *rows, strict=True))
    lines = []
    for name, *numbers, remark in (header, *rows):
        cells = [f"{cell:>{width}}" for cell, width in zip(numbers, widths[1:], strict=True)]
        lines.append("  ".join([f"{name:<{widths[0]}}", *cells, remark]).rstrip())
    return lines


def as_limits(op: str, limits: Any) -> tuple[float, float]:
    """Return two bounds as numbers.

    Parameters
    ----------
    op : str
        Whom errors name.
    limits : (float, float)
        Both at least 0, the first not above the second.
    """
    if not isinstance(limits, (tuple, list)) or len(limits) != 2:
        raise ValueError(f"{op}: `limits` must be two numbers, got {brief(limits)}")
    low = as_number(op, "limits", limits[0], 0)
    return low, as_number(op, "limits", limits[1], low)


class Subject(NamedTuple):
    """Copies of what is checked, the network in training mode: ready to be used up.

    Attributes
    ----------
    network, x, y, loss
        As for `train_step`.
    """

    network: Layer
    x: NDArray
    y: NDArray
    loss: Loss


def subject_of(op: str, network: Layer, x: ArrayLike, y: ArrayLike, loss: Loss | str) -> Subject:
    """Return copies of what is checked.

    Parameters
    ----------
    op : str
        Whom errors name.
    network, x, y, loss
        As the user gives them.
    """
    batch, targets, wanted = inputs(op, network, x), as_array(op, "y", y), as_loss(op, loss)
    if targets.shape[:1] != batch.shape[:1]:
        raise ValueError(f"{op}: `y` must have a row for each of the {len(batch)} in `x`, got {targets.shape}")
    wanted.check_target(op, targets, network.output_shape(batch.shape[1:]))
    network, wanted = copy.deepcopy((network, wanted))  # together: a loss may know the network's layers
    return Subject(network.train(), batch, targets, wanted)
