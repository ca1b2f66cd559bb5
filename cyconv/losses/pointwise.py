"""Losses of each element by itself: squared, smooth absolute, binary cross-entropy."""

from __future__ import annotations

from typing import ClassVar

from numpy.typing import ArrayLike, NDArray

from cyconv import functional as F
from cyconv._validation import as_number
from cyconv.losses.base import Loss, Shape, as_weights, check_positions, output_and_target, rows


class _PointwiseLoss(Loss):
    """A mean over all numbers of output and target, which have one shape."""

    called: ClassVar[str]

    def total_weight(self, target: ArrayLike) -> float:
        """Return the number of elements of the target."""
        return rows(type(self).__name__, target).size

    def check_target(self, op: str, target: NDArray, output_shape: Shape) -> None:
        """Raise unless `target` holds numbers in the shape of the output."""
        if target.dtype.kind not in "fiub":
            raise TypeError(f"{op}: `y` must be numbers for {self.called}, got {target.dtype}")
        check_positions(op, target, output_shape)

    def _pair(self, output: NDArray, target: ArrayLike) -> tuple[NDArray, NDArray]:
        """Return output and target, checked, in one dtype."""
        return output_and_target(type(self).__name__, output, target)


class MSELoss(_PointwiseLoss):
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

    called: ClassVar[str] = "the mean squared error"

    def forward(self, output: NDArray, target: ArrayLike) -> float:
        """Return the mean of the squared differences."""
        return float(F.mse_loss(*self._pair(output, target)))

    def backward(self, output: NDArray, target: ArrayLike) -> NDArray:
        """Return 2 (output - target) / number of outputs."""
        return F.mse_loss_backward(1.0, *self._pair(output, target))


class SmoothL1Loss(_PointwiseLoss):
    """Mean absolute difference, but the square of small ones: outliers pull no harder than others (Girshick 2015).

    Parameters
    ----------
    beta : float, default 1
        Where the square goes over into the absolute value; 0 for the absolute value alone.

    Raises
    ------
    TypeError, ValueError
        If `beta` is not a number that is at least 0.

    Notes
    -----
    With ``d = |output - target|`` the mean of ``d^2 / (2 beta)`` if ``d < beta``, else ``d - beta / 2``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.losses import SmoothL1Loss
    >>> SmoothL1Loss().forward(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]))
    0.75
    """

    called: ClassVar[str] = "the smooth absolute error"

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = as_number("SmoothL1Loss", "beta", beta, 0)

    def forward(self, output: NDArray, target: ArrayLike) -> float:
        """Return the mean of the smoothed differences."""
        return float(F.smooth_l1_loss(*self._pair(output, target), beta=self.beta))

    def backward(self, output: NDArray, target: ArrayLike) -> NDArray:
        """Return the difference in units of beta, at most 1, / number of outputs."""
        return F.smooth_l1_loss_backward(1.0, *self._pair(output, target), beta=self.beta)


class BinaryCrossEntropyLoss(_PointwiseLoss):
    """Sigmoid and negative log-likelihood of yes or no, for each output by itself.

    Parameters
    ----------
    pos_weight : array-like that broadcasts to the outputs, optional
        Factor of the part for yes, to make up for rare ones: a number, or one for each of the outputs.

    Raises
    ------
    TypeError, ValueError
        If `pos_weight` are not numbers that are at least 0.

    Notes
    -----
    ``loss = -(p t log(sigmoid(x)) + (1 - t) log(1 - sigmoid(x)))`` for output x, target t from 0 to 1 and pos_weight p,
    averaged over all outputs.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.losses import BinaryCrossEntropyLoss
    >>> print(f"{BinaryCrossEntropyLoss().forward(np.zeros((2, 1)), np.array([[0], [1]])):.4f}")  # log(2)
    0.6931
    """

    called: ClassVar[str] = "binary cross entropy"

    def __init__(self, pos_weight: ArrayLike | None = None) -> None:
        op = type(self).__name__
        self.pos_weight = None if pos_weight is None else as_weights(op, "pos_weight", pos_weight)

    def forward(self, output: NDArray, target: ArrayLike) -> float:
        """Return the mean of minus the log-probability of what is right."""
        output, target = self._pair(output, target)
        return float(F.binary_cross_entropy_with_logits(output, target, pos_weight=self._weight(output)))

    def backward(self, output: NDArray, target: ArrayLike) -> NDArray:
        """Return (sigmoid(output) - target) / number of outputs, or its weighted form."""
        output, target = self._pair(output, target)
        return F.binary_cross_entropy_with_logits_backward(1.0, output, target, pos_weight=self._weight(output))

    def _weight(self, output: NDArray) -> NDArray | None:
        return None if self.pos_weight is None else self.pos_weight.astype(output.dtype)

    def check_target(self, op: str, target: NDArray, output_shape: Shape) -> None:
        """Raise unless `target` holds numbers from 0 to 1 in the shape of the output."""
        super().check_target(op, target, output_shape)
        if target.size and not (target.min() >= 0 and target.max() <= 1):
            raise ValueError(f"{op}: `y` must be 0 to 1 for {self.called}, got {target.min()} to {target.max()}")
