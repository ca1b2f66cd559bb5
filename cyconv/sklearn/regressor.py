"""A regressor for scikit-learn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin

from cyconv import functional as F
from cyconv.layers.base import Shape
from cyconv.losses import Loss
from cyconv.sklearn.base import ConvNetEstimator


class WeightedSquares(Loss):
    """Mean squared error in which each row of a batch has a weight: the last column of the target.

    Notes
    -----
    ``loss = sum(w * mean((output - target)^2, axis=1)) / sum(w)``, 0 for a batch without weight.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.sklearn.regressor import WeightedSquares
    >>> output, target = np.array([[1.0], [5.0]]), np.array([[0.0, 3.0], [4.0, 0.0]])  # targets 0 and 4
    >>> WeightedSquares().forward(output, target)
    1.0
    """

    def forward(self, output: NDArray, target: ArrayLike) -> float:
        """Return the weighted mean of the squares."""
        targets, shares = self._parts(output, target)
        return float((F.mse_loss(output, targets, "none") * shares).sum(dtype=np.float64))

    def backward(self, output: NDArray, target: ArrayLike) -> NDArray:
        """Return 2 (output - target), times the share of each number."""
        targets, shares = self._parts(output, target)
        return F.mse_loss_backward(np.broadcast_to(shares, output.shape), output, targets, "none")

    def total_weight(self, target: ArrayLike) -> float:
        """Return the sum of the rows' weights."""
        return float(np.sum(np.asarray(target)[:, -1], dtype=np.float64))

    def check_target(self, op: str, target: NDArray, output_shape: Shape) -> None:
        """Raise unless there is a column for each output, and one for the weights."""
        if target.ndim != 2 or (target.shape[1] - 1,) != output_shape:
            raise ValueError(f"{op}: `y` must have a column for each of {output_shape} and weights, got {target.shape}")

    @staticmethod
    def _parts(output: NDArray, target: ArrayLike) -> tuple[NDArray, NDArray]:
        """Return the targets, and the share of each row's numbers in the loss."""
        values = np.asarray(target, output.dtype)
        weights = values[:, -1:]
        total = weights.sum(dtype=np.float64) * (values.shape[1] - 1)
        return np.ascontiguousarray(values[:, :-1]), weights / output.dtype.type(total or 1)


class ConvNetRegressor(RegressorMixin, ConvNetEstimator):
    """A convolutional network as a scikit-learn regressor, of one or several numbers for each image.

    Parameters
    ----------
    network, network_options, input_shape, channels, hidden
        As for `ConvNetClassifier`; a network named or given has as many "classes" as there are numbers to predict.
    epochs, batch_size, optimizer, learning_rate, momentum, weight_decay, schedule, augment
        As for `ConvNetClassifier`.
    early_stopping, validation_fraction, n_iter_no_change, drop_last, warm_start, random_state, verbose
        As for `ConvNetClassifier`; there are no classes to stratify by.

    Attributes
    ----------
    network_, history_, n_iter_, n_features_in_, input_shape_
        As for `ConvNetClassifier`.

    Raises
    ------
    TypeError, ValueError
        In `fit` and `partial_fit`, if an argument or the data is not of its kind, or out of range.
    ImportError
        If scikit-learn is missing.

    Notes
    -----
    The loss is the mean squared error, in each batch averaged with the weights of the samples. Targets are taken as
    they are: where they are large or far from 0, scikit-learn's ``TransformedTargetRegressor`` with a
    ``StandardScaler`` brings them to where training is quick.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.sklearn import ConvNetRegressor
    >>> rng = np.random.default_rng(0)
    >>> y = rng.random(200)
    >>> X = y.reshape(-1, 1, 1) + rng.normal(0, 0.5, (200, 8, 8))  # noisy images, to be told how bright
    >>> ConvNetRegressor(channels=4, epochs=10, random_state=0).fit(X, y).score(X, y) > 0.8
    True
    """

    _loss = WeightedSquares()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train on images and what is to be predicted of them.

        Parameters
        ----------
        X : array-like of shape (N, C, H, W), (N, H, W) or (N, features)
            Images, or rows of numbers.
        y : array-like of shape (N,) or (N, K)
            Numbers to predict.
        sample_weight : array-like of shape (N,), optional
            How much each counts; at least 0.

        Returns
        -------
        ConvNetRegressor
            The estimator itself.
        """
        goes_on = self.warm_start and hasattr(self, "network_")
        images, targets = self._pair(X, y, sample_weight, reset=not goes_on)
        return self._fit(images, targets, targets.shape[1] - 1, None)

    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train for one epoch, going on from where the last call, or `fit`, ended, the optimizer's state included.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        ConvNetRegressor
            The estimator itself.
        """
        images, targets = self._pair(X, y, sample_weight, reset=not hasattr(self, "network_"))
        return self._partial_fit(images, targets, targets.shape[1] - 1)

    def _pair(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, reset: bool
    ) -> tuple[NDArray, NDArray]:
        """Return images, and a row of targets and weight for each."""
        images, y = self._checked_pair(X, y, reset=reset, multi_output=True, y_numeric=True)
        columns = y.reshape(len(y), -1)
        if not reset and (columns.shape[1],) != self.network_.output_shape(self.input_shape_):
            raise ValueError(f"ConvNetRegressor: `y` must have as many columns as before, got shape {y.shape}")
        weights = self._weights(sample_weight, images)
        self._squeezes = y.ndim == 1
        column = np.ones(len(images)) if weights is None else weights
        return images, np.column_stack([columns, column]).astype(np.float32)

    def predict(self, X: ArrayLike) -> NDArray:
        """Return the numbers predicted for each image.

        Parameters
        ----------
        X : array-like
            As for `fit`.

        Returns
        -------
        ndarray of shape (N,) or (N, K), as `y` had
        """
        output = self._output("predict", X).astype(np.float64)
        return output[:, 0] if self._squeezes else output
