"""A classifier for scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets

from cyconv import functional as F
from cyconv.callbacks import Callback
from cyconv.data.augmentation.transforms import Transform
from cyconv.losses import CrossEntropyLoss, weighted
from cyconv.optimizers import Optimizer
from cyconv.sklearn.base import ConvNetEstimator


class ConvNetClassifier(ClassifierMixin, ConvNetEstimator):
    """A convolutional network as a scikit-learn classifier.

    Parameters
    ----------
    network : str, callable, Network or None, default None
        A name of `cyconv.models`; a function that builds a `Network`, called with those of the keywords
        ``num_classes``, ``in_channels``, ``input_size``, ``input_shape`` and ``seed`` that it takes; or a network, a
        copy of which is trained on from its weights. None is a small network that `channels` and `hidden` describe.
    network_options : dict, optional
        More keywords for that function, such as ``{"width": 8}``.
    input_shape : (C, H, W), optional
        Shape of an image where `X` has a row of C*H*W numbers for each. Without it such rows are vectors, and the
        default network has dense layers only.
    channels : int or sequence of int, default (16, 32)
        Channels of the default network's 3x3 convolutions, each followed by ReLU and max pooling.
    hidden : int or sequence of int, default (64,)
        Outputs of its hidden dense layers; () for none.
    epochs : int, default 30
        Passes over the data; with `early_stopping` at most so many.
    batch_size : int, default 32
        Images a step.
    optimizer : str or Optimizer, default "adam"
        A name as in `Network.fit`, or an object, a copy of which is used.
    learning_rate, momentum, weight_decay : float, optional
        Of an optimizer that has a name; by default that optimizer's own.
    schedule : {"linear", "cosine"}, Callback or None, default None
        Fall of the learning rate towards zero over `epochs`, or an object of `cyconv.schedules`.
    augment : transform or sequence of transforms, optional
        Random changes of the training images, see `cyconv.data.augmentation`.
    early_stopping : bool, default False
        Whether to hold out a share of the data, stratified by class, and stop when its loss no longer falls; the
        weights are then those of the best epoch.
    validation_fraction : float, default 0.1
        That share.
    n_iter_no_change : int, default 10
        Epochs without improvement after which to stop.
    class_weight : dict, "balanced" or None, default None
        How much each class counts; "balanced" for all the same, however many images they have.
    drop_last : bool, default False
        Whether an epoch leaves out a last batch of fewer images than `batch_size`.
    warm_start : bool, default False
        Whether `fit` goes on with the network of the last `fit`, which must have been of the same shapes and classes.
    random_state : int, RandomState or None, default None
        Draws the initial weights, holds out, shuffles, and seeds dropout.
    verbose : bool, default False
        Whether to show a bar for each epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
        The classes, sorted.
    network_ : Network
        The trained network.
    history_ : History
        What each epoch came to.
    n_iter_ : int
        Epochs that were run.
    n_features_in_ : int
        Numbers in an input, C*H*W for images.
    input_shape_ : tuple of int
        Shape of an input, (C, H, W) or (features,).

    Raises
    ------
    TypeError, ValueError
        In `fit` and `partial_fit`, if an argument or the data is not of its kind, or out of range.
    ImportError
        If scikit-learn is missing.

    Notes
    -----
    The loss is cross-entropy; in each batch it is averaged with the weights of the samples, times those of the classes.
    Data of other kinds than float32 and uint8 becomes float32; bytes are divided by 255, as in `Network.fit`, also in
    lists, tensors and data frames of them. Other integers are taken as they are: a classifier that was fitted on them
    refuses bytes, and one that was fitted on bytes refuses them.

    Examples
    --------
    >>> from cyconv.data import digits
    >>> from cyconv.sklearn import ConvNetClassifier
    >>> data = digits()
    >>> classifier = ConvNetClassifier(channels=8, epochs=3, learning_rate=0.005, random_state=0)
    >>> classifier.fit(data.train_x, data.train_y).score(data.test_x, data.test_y) > 0.8
    True
    """

    _loss = CrossEntropyLoss()
    classes_: NDArray

    def __init__(
        self,
        network: Any = None,
        *,
        network_options: Mapping[str, Any] | None = None,
        input_shape: Sequence[int] | None = None,
        channels: int | Sequence[int] = (16, 32),
        hidden: int | Sequence[int] = (64,),
        epochs: int = 30,
        batch_size: int = 32,
        optimizer: Optimizer | str = "adam",
        learning_rate: float | None = None,
        momentum: float | None = None,
        weight_decay: float | None = None,
        schedule: Callback | str | None = None,
        augment: Transform | Sequence[Transform] | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        class_weight: Mapping[Any, float] | str | None = None,
        drop_last: bool = False,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            network,
            network_options=network_options,
            input_shape=input_shape,
            channels=channels,
            hidden=hidden,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            learning_rate=learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            schedule=schedule,
            augment=augment,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            drop_last=drop_last,
            warm_start=warm_start,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train on images and their classes.

        Parameters
        ----------
        X : array-like of shape (N, C, H, W), (N, H, W) or (N, features)
            Images, or rows of numbers.
        y : array-like of shape (N,)
            The class of each: numbers, text, anything that can be sorted.
        sample_weight : array-like of shape (N,), optional
            How much each counts; at least 0.

        Returns
        -------
        ConvNetClassifier
            The estimator itself.
        """
        goes_on = self.warm_start and hasattr(self, "network_")
        images, y = self._checked_pair(X, y, reset=not goes_on)
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        if goes_on and not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"ConvNetClassifier: with `warm_start` the classes must be those of the last fit, {self.classes_}, "
                f"got {classes}"
            )
        targets = self._targets(images, y, labels, sample_weight)
        self.classes_ = classes
        return self._fit(images, targets, len(classes), labels)

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch, going on from where the last call, or `fit`, ended, the optimizer's state included.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array-like of shape (K,), optional
            All classes that will come; needed in the first call.

        Returns
        -------
        ConvNetClassifier
            The estimator itself.
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "ConvNetClassifier: `class_weight` 'balanced' needs all data at once; give partial_fit a dict, as from "
                "sklearn.utils.class_weight.compute_class_weight"
            )
        first = not hasattr(self, "network_")
        if first and classes is None:
            raise ValueError("ConvNetClassifier: the first call of partial_fit needs `classes`, all that will come")
        known = self.classes_ if classes is None else np.unique(np.asarray(classes))
        if not first and not np.array_equal(known, self.classes_):
            raise ValueError(
                f"ConvNetClassifier: `classes` must be those of the first call, {self.classes_}, got {known}"
            )
        images, y = self._checked_pair(X, y, reset=first)
        check_classification_targets(y)
        unknown = np.setdiff1d(y, known)
        if unknown.size:
            raise ValueError(f"ConvNetClassifier: `y` must hold the classes {known}, got {unknown} too")
        targets = self._targets(images, y, np.searchsorted(known, y), sample_weight)
        self.classes_ = known
        return self._partial_fit(images, targets, len(known))

    def _targets(self, images: NDArray, y: NDArray, labels: NDArray, sample_weight: ArrayLike | None) -> NDArray:
        """Return the numbers of the classes, with weights if there are any."""
        weights = self._weights(sample_weight, images)
        if self.class_weight is not None:
            weights = compute_sample_weight(self.class_weight, y) * (1.0 if weights is None else weights)
        return labels if weights is None else weighted(labels, weights)

    def predict_proba(self, X: ArrayLike) -> NDArray:
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like
            As for `fit`.

        Returns
        -------
        ndarray of shape (N, K)
            In the order of `classes_`.
        """
        scores = self._output("predict_proba", X).astype(np.float64)  # so that rows add up to 1 in float64 too
        return F.softmax(scores, axis=1)

    def predict_log_proba(self, X: ArrayLike) -> NDArray:
        """Return the logarithm of the probability of each class, also of those too small for `predict_proba`.

        Parameters
        ----------
        X : array-like
            As for `fit`.

        Returns
        -------
        ndarray of shape (N, K)
            In the order of `classes_`.
        """
        return F.log_softmax(self._output("predict_log_proba", X).astype(np.float64), axis=1)

    def predict(self, X: ArrayLike) -> NDArray:
        """Return the most probable class of each image.

        Parameters
        ----------
        X : array-like
            As for `fit`.

        Returns
        -------
        ndarray of shape (N,)
        """
        scores = self._output("predict", X)
        return self.classes_[scores.argmax(axis=1)]
