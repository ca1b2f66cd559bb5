"""Losses: how wrong a batch of outputs is, as one number, and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import functional as F
from cyconv._validation import as_array, as_choice, as_int, as_number
from cyconv.functional.loss import IGNORE_INDEX

__all__ = ["CrossEntropyLoss", "Loss", "MSELoss"]

Shape = tuple[int, ...]


class Loss:
    """A function of a network's output and the target, averaged over the batch. It keeps nothing.

    A subclass writes `forward` and `backward`.

    Attributes
    ----------
    classifies : bool
        Whether targets are class numbers, so that there is an accuracy to report.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.losses import Loss
    >>> class AbsoluteLoss(Loss):
    ...     def forward(self, output, target):
    ...         return float(np.abs(output - target).mean())
    ...     def backward(self, output, target):
    ...         return np.sign(output - target) / output.size
    >>> AbsoluteLoss().forward(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]))
    1.0
    """

    classifies = False

    def forward(self, output: NDArray, target: ArrayLike) -> float:
        """Return the loss."""
        raise NotImplementedError(f"{type(self).__name__}: `forward` is not written")

    def backward(self, output: NDArray, target: ArrayLike) -> NDArray:
        """Return the gradient of the loss with respect to `output`."""
        raise NotImplementedError(f"{type(self).__name__}: `backward` is not written")

    def count(self, target: ArrayLike) -> int:
        """Return how many targets of a batch count: the weight of its loss in a mean over batches."""
        return len(np.asarray(target))

    def check_target(self, op: str, target: NDArray, output_shape: Shape) -> None:
        """Raise unless `target` is right for a network whose output for one image has `output_shape`."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class CrossEntropyLoss(Loss):
    """Softmax and negative log-likelihood of the right class, from scores (N, K) or (N, K, H, W) and class numbers.

    Parameters
    ----------
    weight : array-like of K numbers, optional
        How much each class counts; by default all count the same.
    label_smoothing : float, default 0
        Share of the target that is spread over all classes (Szegedy et al. 2016).
    ignore_index : int, default -100
        A label that does not count, for pixels of no class: it has no part in mean, gradient or accuracy. The loss of a
        batch in which none counts is 0, and so is its gradient.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, or out of range.

    Notes
    -----
    ``loss = -log softmax(scores)[target]``, averaged over the labels that count (with `weight`: weighted by it); its
    gradient is ``(softmax(scores) - one_hot(target)) / count``. The whole formula: `cyconv.functional.cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.losses import CrossEntropyLoss
    >>> print(f"{CrossEntropyLoss().forward(np.zeros((2, 10)), np.array([3, 7])):.4f}")  # log(10)
    2.3026
    """

    classifies = True

    def __init__(
        self, weight: ArrayLike | None = None, label_smoothing: float = 0.0, *, ignore_index: int = IGNORE_INDEX
    ) -> None:
        op = type(self).__name__
        self.weight = None if weight is None else _numbers(op, weight, np.dtype(np.float64), "weight").copy()
        if self.weight is not None and (self.weight.ndim != 1 or not np.all(self.weight >= 0)):
            raise ValueError(f"{op}: `weight` must be a list of numbers that are at least 0, got {weight!r}")
        self.label_smoothing = as_number(op, "label_smoothing", label_smoothing, 0, 1)
        self.ignore_index = as_int(op, "ignore_index", ignore_index, -(2**63), 2**63 - 1)

    def forward(self, output: NDArray, target: ArrayLike) -> float:
        """Return the mean of minus the log-probability of the right class."""
        if not self.count(target):
            return 0.0
        return float(F.cross_entropy(output, target, **self._keywords(output)))

    def backward(self, output: NDArray, target: ArrayLike) -> NDArray:
        """Return (softmax(output) - one-hot target) / number of targets, or its weighted, smoothed form."""
        if not self.count(target):
            return np.zeros_like(output)
        return F.cross_entropy_backward(1.0, output, target, **self._keywords(output))

    def _keywords(self, output: NDArray) -> dict[str, Any]:
        weight = None if self.weight is None else self.weight.astype(output.dtype)
        return {"weight": weight, "label_smoothing": self.label_smoothing, "ignore_index": self.ignore_index}

    def count(self, target: ArrayLike) -> int:
        """Return how many labels there are, those to be ignored left out."""
        return int(np.count_nonzero(np.asarray(target) != self.ignore_index))

    def check_target(self, op: str, target: NDArray, output_shape: Shape) -> None:
        """Raise unless `target` holds class numbers, in the shape of the output without its class axis."""
        K, *positions = output_shape
        if target.dtype.kind not in "iu":
            raise TypeError(f"{op}: `y` must be integers, the classes' numbers, for cross entropy, got {target.dtype}")
        _check_positions(op, target, tuple(positions))
        counted = target[target != self.ignore_index]
        if not counted.size:
            raise ValueError(f"{op}: `y` holds no class, only the `ignore_index` {self.ignore_index}")
        lowest, highest = int(counted.min()), int(counted.max())
        if lowest < 0 or highest >= K:
            raise ValueError(f"{op}: `y` must be class numbers from 0 to {K - 1}, got {lowest} to {highest}")
        if self.weight is not None and len(self.weight) != K:
            raise ValueError(f"{op}: the loss has weights for {len(self.weight)} classes, but the network {K} outputs")


class MSELoss(Loss):
    """Mean squared difference between output and target.

    Notes
    -----
    ``loss = mean((output - target)^2)`` over all numbers of the batch; its gradient is ``2 (output - target) / count``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.losses import MSELoss
    >>> MSELoss().forward(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]))
    2.0
    """

    def forward(self, output: NDArray, target: ArrayLike) -> float:
        """Return the mean of the squared differences."""
        return float(F.mse_loss(output, _numbers("MSELoss", target, output.dtype)))

    def backward(self, output: NDArray, target: ArrayLike) -> NDArray:
        """Return 2 (output - target) / number of outputs."""
        return F.mse_loss_backward(1.0, output, _numbers("MSELoss", target, output.dtype))

    def check_target(self, op: str, target: NDArray, output_shape: Shape) -> None:
        """Raise unless `target` holds numbers in the shape of the output."""
        if target.dtype.kind not in "fiu":
            raise TypeError(f"{op}: `y` must be numbers for the mean squared error, got {target.dtype}")
        _check_positions(op, target, output_shape)


def _numbers(op: str, values: ArrayLike, dtype: np.dtype, name: str = "target") -> NDArray:
    array = as_array(op, name, values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{op}: `{name}` must be numbers, got {array.dtype}")
    return array.astype(dtype, copy=False)


def _check_positions(op: str, target: NDArray, shape: Shape) -> None:
    if target.shape[1:] != shape:
        raise ValueError(
            f"{op}: `y` must have shape {('N', *shape)} for this network, got {target.shape}".replace("'", "")
        )


LOSSES: dict[str, type[Loss]] = {"cross_entropy": CrossEntropyLoss, "mse": MSELoss}


def as_loss(op: str, loss: Loss | str) -> Loss:
    """Return the loss itself, or the one of that name."""
    return loss if isinstance(loss, Loss) else LOSSES[as_choice(op, "loss", loss, tuple(LOSSES))]()
