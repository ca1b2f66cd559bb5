"""What classifier and regressor have in common: arguments, checks of the data, the network, and its training."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, check_X_y, validate_data

from cyconv._validation import as_bool, as_choice, as_data, as_int, as_number, brief, number_kind
from cyconv.callbacks import Callback, EarlyStopping
from cyconv.data.augmentation.transforms import Transform
from cyconv.layers import Conv2d, Flatten, Layer, Linear, MaxPool2d, ReLU
from cyconv.layers.base import Shape
from cyconv.losses import Loss
from cyconv.models.registry import build
from cyconv.network import Network
from cyconv.optimizers import OPTIMIZERS, Optimizer
from cyconv.schedules import CosineDecay, LinearDecay

DTYPES = (np.float32, np.uint8)  # of the data; anything else becomes the first
LEAST_IMAGES = 8  # in a prediction: with the usual networks an image alone has the bits that it has among others
SCHEDULES = ("linear", "cosine")
LARGEST_SEED = 2**31 - 1  # of NumPy's RandomState on every system


class ConvNetEstimator(BaseEstimator):
    """A network that is built for the data it is given, and trained on it.

    A subclass writes `fit`, `partial_fit` and `predict`, and sets `_loss` and what one image's target is.
    """

    _loss: Loss
    network_: Network
    input_shape_: Shape

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
        drop_last: bool = False,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.network = network
        self.network_options = network_options
        self.input_shape = input_shape
        self.channels = channels
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.augment = augment
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.drop_last = drop_last
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    @property
    def _op(self) -> str:
        return type(self).__name__

    # The data

    def _checked_pair(self, X: ArrayLike, y: ArrayLike, *, reset: bool, **options: Any) -> tuple[NDArray, NDArray]:
        """Return images of shape (N, *input_shape_) and their targets, checked as scikit-learn does."""
        X, dtype = self._data(X, reset)
        options |= {"dtype": dtype, "estimator": self}
        if _is_flat(X):
            images, targets = validate_data(self, X, y, reset=reset, **options)
        else:
            images, targets = check_X_y(X, y, allow_nd=True, **options)
        return self._shaped(images, reset), targets

    def _checked(self, X: ArrayLike) -> NDArray:
        """Return images of shape (N, *input_shape_), checked as scikit-learn does."""
        X, dtype = self._data(X, False)
        if _is_flat(X):
            images = validate_data(self, X, reset=False, dtype=dtype)
        else:
            images = check_array(X, input_name="X", allow_nd=True, dtype=dtype, estimator=self)
        return self._shaped(images, False)

    def _data(self, X: Any, reset: bool) -> tuple[Any, Any]:
        """Return data of the kind of number that `fit` had, and the dtypes of which it is to be one.

        Bytes stand for 0 to 1, other integers for themselves: an image of both would be two.
        """
        if not hasattr(X, "dtypes") and not hasattr(X, "toarray"):  # scikit-learn looks into frames and sparse matrices
            X = as_data(self._op, "X", X)
        kind = number_kind(X)
        if reset:
            self._kind = kind
        elif {kind, getattr(self, "_kind", kind)} == {"bytes", "integers"}:
            names = {"bytes": "bytes, uint8", "integers": "integers other than uint8"}
            target = "uint8" if kind == "integers" else "float32"
            raise TypeError(
                f"{self._op}: `X` must be of the kind that `fit` had, {names[self._kind]}, got {names[kind]}: bytes "
                f"stand for 0 to 1, other integers for themselves; cast it with `.astype(np.{target})`"
            )
        return X, np.uint8 if kind == "bytes" else DTYPES

    def _shaped(self, X: NDArray, reset: bool) -> NDArray:
        images = X[:, np.newaxis] if X.ndim == 3 else X  # grey images: [N, H, W] -> [N, 1, H, W]
        if images.ndim not in (2, 4):
            raise ValueError(f"{self._op}: `X` must have shape (N, C, H, W), (N, H, W) or (N, features), got {X.shape}")
        if reset:
            self._set_shape(images.shape[1:])
        if images.ndim > 2 and images.shape[1:] != self.input_shape_:
            raise ValueError(f"{self._op}: `X` must be images of shape {self.input_shape_}, got {images.shape[1:]}")
        return images.reshape(len(images), *self.input_shape_)

    def _set_shape(self, shape: Shape) -> None:
        """Note the shape of one input and how many numbers that is; they stay until the next fit."""
        wanted = shape
        if self.input_shape is not None:
            if not isinstance(self.input_shape, (tuple, list)) or len(self.input_shape) != 3:
                raise ValueError(f"{self._op}: `input_shape` must be (C, H, W), got {brief(self.input_shape)}")
            wanted = tuple(as_int(self._op, "input_shape", extent) for extent in self.input_shape)
        if np.prod(wanted) != np.prod(shape) or (len(shape) > 1 and shape != wanted):
            raise ValueError(
                f"{self._op}: `X` has inputs of shape {shape}, which are not of the `input_shape` {wanted}"
            )
        self.input_shape_ = wanted
        self.n_features_in_ = int(np.prod(wanted))

    def _weights(self, sample_weight: ArrayLike | None, X: NDArray) -> NDArray | None:
        """Return a weight for each image, checked."""
        if sample_weight is None:
            return None
        weights = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        if not weights.any():  # older versions of scikit-learn let this pass
            raise ValueError(f"{self._op}: `sample_weight` must contain at least one number that is not zero")
        return weights

    # The training

    def _fit(self, X: NDArray, targets: NDArray, outputs: int, labels: NDArray | None) -> Self:
        """Train a new network, or with `warm_start` the old one again; `labels` is what a split is stratified by."""
        epochs, size = as_int(self._op, "epochs", self.epochs), as_int(self._op, "batch_size", self.batch_size)
        optimizer, callbacks = self._new_optimizer(), self._callbacks(epochs)
        held_out = None
        if as_bool(self._op, "early_stopping", self.early_stopping):
            op = self._op
            share = as_number(
                op, "validation_fraction", self.validation_fraction, 0, 1, open_minimum=True, open_maximum=True
            )
            callbacks.append(EarlyStopping("val_loss", as_int(op, "n_iter_no_change", self.n_iter_no_change)))
            seed = check_random_state(self.random_state).randint(LARGEST_SEED)
            X, held_x, targets, held_y = train_test_split(
                X, targets, test_size=share, random_state=seed, stratify=labels
            )
            held_out = (held_x, held_y)
        if not (as_bool(self._op, "warm_start", self.warm_start) and hasattr(self, "network_")):
            self._begin(outputs)
        self._optimizer = optimizer
        self.history_ = self.network_.fit(
            X,
            targets,
            epochs=epochs,
            batch_size=size,
            optimizer=optimizer,
            loss=self._loss,
            validation_data=held_out,
            callbacks=callbacks,
            seed=self._rng,
            progress=bool(self.verbose),
            augment=self.augment,
            drop_last=as_bool(self._op, "drop_last", self.drop_last),
        )
        self.n_iter_ = len(self.history_)
        return self

    def _partial_fit(self, X: NDArray, targets: NDArray, outputs: int) -> Self:
        """Train for one epoch, on a new network if there is none."""
        size = as_int(self._op, "batch_size", self.batch_size)
        if not hasattr(self, "network_"):
            self._optimizer = self._new_optimizer()
            self._begin(outputs)
        history = self.network_.fit(
            X,
            targets,
            batch_size=size,
            optimizer=self._optimizer,
            loss=self._loss,
            seed=self._rng,
            progress=bool(self.verbose),
            augment=self.augment,
            drop_last=as_bool(self._op, "drop_last", self.drop_last),
        )
        if hasattr(self, "history_"):
            history.epochs = self.history_.epochs + history.epochs
        self.history_ = history
        self.n_iter_ = len(history)
        return self

    def _begin(self, outputs: int) -> None:
        """Make a network, and the generator that shuffles."""
        seed, shuffling = check_random_state(self.random_state).randint(LARGEST_SEED, size=2)
        self.network_ = self._new_network(outputs, int(seed))
        self._rng = np.random.default_rng(int(shuffling))

    def _new_network(self, outputs: int, seed: int) -> Network:
        options = self.network_options
        if options is not None and not isinstance(options, Mapping):
            raise TypeError(f"{self._op}: `network_options` must map names to values, got {brief(options)}")
        if options and (self.network is None or isinstance(self.network, Network)):
            raise ValueError(f"{self._op}: `network_options` are for a `network` that is a name or a function")
        if self.network is not None:
            network = build(self.network, self.input_shape_, outputs, options, seed=seed, op=self._op)
            shape = network.output_shape(self.input_shape_)
            if shape != (outputs,):
                raise ValueError(f"{self._op}: `network` must give {outputs} numbers, got outputs of shape {shape}")
            return network
        channels = _extents(self._op, "channels", self.channels) if len(self.input_shape_) == 3 else []
        hidden = _extents(self._op, "hidden", self.hidden)
        return small_network(self.input_shape_, outputs, channels, hidden, seed)

    def _new_optimizer(self) -> Optimizer:
        """Return an optimizer of this estimator's own, with the settings that were given."""
        names = ("learning_rate", "momentum", "weight_decay")
        settings = {name: value for name in names if (value := getattr(self, name)) is not None}
        if isinstance(self.optimizer, Optimizer):
            if settings:
                raise ValueError(f"{self._op}: set `{next(iter(settings))}` in the `optimizer` object itself")
            return copy.deepcopy(self.optimizer)
        make = OPTIMIZERS[as_choice(self._op, "optimizer", self.optimizer, tuple(OPTIMIZERS))]
        for name in settings:
            if name not in inspect.signature(make).parameters:
                raise ValueError(f"{self._op}: the optimizer {brief(self.optimizer)} has no `{name}`")
        return make(**settings)

    def _callbacks(self, epochs: int) -> list[Callback]:
        if self.schedule is None:
            return []
        if isinstance(self.schedule, Callback):
            return [copy.deepcopy(self.schedule)]
        name = as_choice(self._op, "schedule", self.schedule, SCHEDULES)
        return [LinearDecay() if name == "linear" else CosineDecay(epochs)]

    # Prediction

    def _output(self, op: str, X: ArrayLike) -> NDArray:
        """Return the network's output; of a few images, which are multiplied in another order, as if they were more."""
        check_is_fitted(self)
        images = self._checked(X)
        if 0 < len(images) < LEAST_IMAGES:
            repeated = np.resize(images, (LEAST_IMAGES, *images.shape[1:]))
            return self.network_._predict(op, repeated)[: len(images)]
        return self.network_._predict(op, images)


def _is_flat(X: ArrayLike) -> bool:
    """Return whether data is a table and not images."""
    return len(X.shape if hasattr(X, "shape") else np.asarray(X).shape) < 3


def small_network(
    input_shape: Shape, outputs: int, channels: Sequence[int], hidden: Sequence[int], seed: int | None = None
) -> Network:
    """Return the default network: 3x3 convolutions, each with ReLU and pooling, and dense layers.

    Parameters
    ----------
    input_shape : tuple of int
        (C, H, W), or (features,), which has no convolutions.
    outputs : int
        Numbers that come out.
    channels : sequence of int
        Channels of each convolution; each halves the image, as long as it has two rows and columns.
    hidden : sequence of int
        Outputs of each dense layer but the last.
    seed : int, optional
        Source of the initial weights: He's.

    Examples
    --------
    >>> from cyconv.sklearn.base import small_network
    >>> network = small_network((1, 8, 8), 10, [16], [64])
    >>> [type(layer).__name__ for layer in network]
    ['Conv2d', 'ReLU', 'MaxPool2d', 'Flatten', 'Linear', 'ReLU', 'Linear']
    """
    layers: list[Layer] = []
    shape = input_shape
    for count in channels:
        layers += [Conv2d(shape[0], count, 3, padding=1, initializer="he_normal"), ReLU()]
        shape = (count, *shape[1:])
        if min(shape[1:]) > 1:
            layers.append(MaxPool2d(2))
            shape = (count, shape[1] // 2, shape[2] // 2)
    if len(shape) == 3:
        layers.append(Flatten())
    features = int(np.prod(shape))
    for count in hidden:
        layers += [Linear(features, count, initializer="he_normal"), ReLU()]
        features = count
    return Network([*layers, Linear(features, outputs)], input_shape=input_shape, seed=seed)


def _extents(op: str, name: str, value: Any) -> list[int]:
    """Return an int, or a sequence of ints, as a list."""
    if isinstance(value, (tuple, list, np.ndarray)):
        return [as_int(op, name, each) for each in value]
    return [as_int(op, name, value)]
