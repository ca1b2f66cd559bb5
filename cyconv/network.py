"""Network: layers in a row that train, predict, and go to files and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import cyconv.data
import cyconv.layers  # noqa: F401  (whole, before its parts: see cyconv/__init__.py)
from cyconv import analysis
from cyconv import functional as F
from cyconv._validation import as_array, as_bool, as_choice, as_generator, as_inputs, as_int, as_numbers
from cyconv.callbacks import Callback, ProgressBar, as_callbacks, load_checkpoint, load_weights
from cyconv.data.augmentation.transforms import Transform, as_transform
from cyconv.data.batches import Batches
from cyconv.data.sampling import Sampler, as_sampler
from cyconv.layers.activation import Softmax
from cyconv.layers.base import Layer, Shape
from cyconv.layers.containers import Layers, Sequential
from cyconv.layers.recording import replayed
from cyconv.losses import CrossEntropyLoss, Loss, as_loss
from cyconv.optimizers import Optimizer, as_optimizer
from cyconv.serialization import PathLike, save_arrays
from cyconv.training import History, Run, evaluate, train

__all__ = ["Network"]

Batch = tuple[NDArray, NDArray]


class Network(Sequential):
    """Layers in a row that can be trained, evaluated, saved and loaded.

    Parameters
    ----------
    layers : iterable of Layer, mapping of names to Layer, or Sequential
        The layers, in order.
    input_shape : tuple of int, optional
        Shape of one input, (C, H, W) or (features,). The layers are then checked against it, and so is all data later.
    seed : int, Generator or None
        Draws the initial weights of those layers that have none yet, shuffles in `fit`, and seeds dropout.

    Attributes
    ----------
    history : History or None
        Of the last `fit`, also where that was interrupted.

    Raises
    ------
    ValueError
        If a layer does not fit the one before it.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Network, layers
    >>> network = Network(
    ...     [layers.Conv2d(1, 8, 3), layers.ReLU(), layers.GlobalAvgPool2d(), layers.Flatten(), layers.Linear(8, 2)],
    ...     input_shape=(1, 8, 8),
    ...     seed=0,
    ... )
    >>> x = np.zeros((64, 1, 8, 8), np.float32)
    >>> x[:32, :, :4] = 1  # edges that run across
    >>> x[32:, :, :, :4] = 1  # and edges that run down
    >>> y = np.repeat([0, 1], 32)
    >>> history = network.fit(x, y, epochs=30, batch_size=16, optimizer="adam", progress=False)
    >>> network.evaluate(x, y)["accuracy"]
    1.0
    """

    def __init__(
        self,
        layers: Layer | Layers,
        input_shape: Sequence[int] | None = None,
        seed: np.random.Generator | int | None = None,
    ) -> None:
        super().__init__(layers.children() if isinstance(layers, Sequential) else layers)
        self.input_shape: Shape | None = None
        if input_shape is not None:
            if not isinstance(input_shape, (tuple, list)):
                raise TypeError(f"Network: `input_shape` must be (C, H, W) or (features,), got {input_shape!r}")
            self.input_shape = tuple(as_int("Network", "input_shape", extent) for extent in input_shape)
            list(self.trace(self.input_shape))
        self.history: History | None = None
        self.rng = as_generator("Network", seed, "seed")
        for parameter in self.parameters().values():
            if not parameter.is_drawn:
                parameter.initialize(self.rng)
        self.reseed(self.rng)
        self.eval()

    # Training

    def fit(
        self,
        x: ArrayLike | Iterable[Batch],
        y: ArrayLike | None = None,
        *,
        epochs: int = 1,
        batch_size: int = 32,
        optimizer: Optimizer | str = "sgd",
        loss: Loss | str = "cross_entropy",
        validation_data: tuple[ArrayLike, ArrayLike] | Iterable[Batch] | None = None,
        callbacks: Sequence[Callback] = (),
        seed: np.random.Generator | int | None = None,
        shuffle: bool = True,
        resume: PathLike | None = None,
        progress: bool = True,
        memory: str = "normal",
        accumulate: int = 1,
        augment: Transform | Sequence[Transform] | None = None,
        sampler: Sampler | None = None,
    ) -> History:
        """Train on images and their classes (or other targets).

        Parameters
        ----------
        x : ndarray of shape (N, *input_shape), float32, float64 or uint8; or iterable of (x, y) batches
            The data stays where it is, memory-mapped files too: each batch is taken and converted when it is needed.
            Bytes are divided by 255. Images of one channel may lack the channel's axis. Anything else that can be
            iterated anew for every epoch, a `cyconv.data.Batches` for one, supplies the batches itself.
        y : array-like of N rows
            For cross entropy the numbers of the classes, integers of shape (N,), or (N, H, W) for one class a pixel.
        epochs : int, default 1
            Passes over the data.
        batch_size : int, default 32
            Images a step; the last step of an epoch takes what is left.
        optimizer : str or Optimizer, default "sgd"
            "sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "amsgrad", "adamw", "adamax",
            "nadam" or "adabound" stands for that optimizer's defaults.
        loss : str or Loss, default "cross_entropy"
            What is made small: "cross_entropy", "binary_cross_entropy", "mse", "smooth_l1", "dice", or an object.
        validation_data : (x, y) or iterable of batches, optional
            Evaluated after each epoch.
        callbacks : sequence of Callback, default ()
            Called in this order, checkpoints last.
        seed : int, Generator or None
            Shuffles, augments and seeds dropout; by default the network's own generator goes on.
        shuffle : bool, default True
            Whether each epoch takes the images in a new order.
        resume : path, optional
            A file that `Checkpoint` wrote: go on from there, up to `epochs` in all. With the same arguments the result
            is, bit for bit, that of the run that was never stopped.
        progress : bool, default True
            Whether to show a bar for each epoch.
        memory : {"normal", "low"}, default "normal"
            "low" keeps the outputs of a few layers only and computes those between again for the gradients: deep
            networks train in half the memory or less, for one more forward pass. Results are the same, bit for bit.
        accumulate : int, default 1
            Batches whose gradients make one step, that of a batch so many times as large in the memory of one. (Batch
            normalisation sees each batch by itself.)
        augment : transform or sequence of transforms, optional
            Changes each training batch, in the thread that prepares it: see `cyconv.data.augmentation`.
        sampler : Sampler, optional
            Says which rows an epoch takes and in which order, instead of `shuffle`: `cyconv.data.BalancedSampler` takes
            all classes equally often.

        Returns
        -------
        History
            What each epoch came to; also kept in `history`.

        Raises
        ------
        TypeError, ValueError
            If the data does not suit the network or each other, before any work is done.
        FloatingPointError
            If the loss becomes NaN or infinite; the weights are those before that step.
        KeyboardInterrupt
            On Ctrl-C, after the callbacks' `on_train_end`; the network can be used, and `history` holds the epochs that
            were finished.
        """
        op = "fit"
        given = [*as_callbacks(op, callbacks), *([ProgressBar()] if as_bool(op, "progress", progress) else [])]
        run = Run(
            network=self,
            loss=as_loss(op, loss),
            optimizer=as_optimizer(op, optimizer),
            rng=self.rng if seed is None else as_generator(op, seed, "seed"),
            epochs=as_int(op, "epochs", epochs),
            callbacks=sorted(given, key=lambda callback: callback.last),
            accumulate=as_int(op, "accumulate", accumulate),
        )
        if isinstance(run.loss, CrossEntropyLoss) and len(self) and isinstance(self[-1], Softmax):
            raise ValueError("fit: cross entropy takes scores; leave the network's last Softmax to `predict_proba`")
        recomputes = as_choice(op, "memory", memory, ("normal", "low")) == "low"
        shuffle = as_bool(op, "shuffle", shuffle) and sampler is None
        options = {
            "shuffle": shuffle,
            "rng": run.rng,
            "augment": as_transform(op, augment),
            "sampler": as_sampler(op, sampler),
        }
        if isinstance(x, Batches):
            run.data_rng = x.rng
        batches, run.images = self._batches(op, x, y, run.loss, batch_size, run.epochs, **options)
        validate = None
        if validation_data is not None:
            held_x, held_y = _held_out(validation_data)
            held_out, _ = self._batches("fit: validation_data", held_x, held_y, run.loss, batch_size, run.epochs)
            validate = partial(evaluate, self, held_out, run.loss)
        if resume is None:
            self.reseed(run.rng)
        else:
            load_checkpoint(resume, run)
        self.history = run.history
        self.recomputes = recomputes
        try:
            return train(run, batches, validate)
        finally:
            self.recomputes = False

    def evaluate(
        self,
        x: ArrayLike | Iterable[Batch],
        y: ArrayLike | None = None,
        *,
        loss: Loss | str = "cross_entropy",
        batch_size: int = 256,
    ) -> dict[str, float]:
        """Return the mean ``loss`` over the data and, for classifiers, the ``accuracy``.

        Parameters are those of `fit`; so are the errors.
        """
        wanted = as_loss("evaluate", loss)
        batches, _ = self._batches("evaluate", x, y, wanted, batch_size)
        return evaluate(self, batches, wanted)

    # Prediction

    def predict(self, x: ArrayLike, batch_size: int = 256) -> NDArray:
        """Return the network's output, for a classifier the scores of the classes, in evaluation mode.

        Any number of threads may call this at once.

        Parameters
        ----------
        x : ndarray of shape (N, *input_shape), float32, float64 or uint8
            As for `fit`.
        batch_size : int, default 256
            Images at a time; bounds the memory needed.

        Returns
        -------
        ndarray of shape (N, *output shape)
        """
        if self.training:
            self.eval()
        images = as_inputs("predict", x, self.input_shape)
        size = as_int("predict", "batch_size", batch_size)
        if len(images) <= size and images.dtype == np.float32 and type(self).forward is Sequential.forward:
            known = replayed(self, images)
            if known is not None:
                return np.ascontiguousarray(known)
        first = self.forward(self._ready(images[:size]))
        output = np.empty((len(images), *first.shape[1:]), first.dtype)
        output[:size] = first
        for start in range(size, len(images), size):
            output[start : start + size] = self.forward(self._ready(images[start : start + size]))
        return output

    def predict_proba(self, x: ArrayLike, batch_size: int = 256) -> NDArray:
        """Return the probabilities of the classes along axis 1: softmax of the scores that `predict` returns.

        Parameters
        ----------
        x, batch_size
            As for `predict`.

        Returns
        -------
        ndarray of shape (N, *output shape)
            Adds up to 1 along axis 1. A network that ends in `Softmax` returns it already; it is not applied twice.
        """
        scores = self.predict(x, batch_size)
        return scores if len(self) and isinstance(self[-1], Softmax) else F.softmax(scores, axis=1)

    # Files

    def save(self, path: PathLike) -> None:
        """Write the weights and running statistics to a safetensors file, replacing an older one in one step.

        Parameters
        ----------
        path : str or path
            The file. Other programs read it too; a weight has its logical shape, (OC, IC, KH, KW), in C order.
        """
        save_arrays(path, self.state_dict())

    def load(self, path: PathLike, strict: bool = True) -> None:
        """Read weights and running statistics from a safetensors file: one of `save`, of `Checkpoint`, or of PyTorch.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is incomplete or of another kind, or does not fit the network (see `load_state_dict`); nothing
            has been changed then.
        """
        self.load_state_dict(load_weights(path), strict)

    # What it is

    def summary(self) -> str:
        """Return a table of the layers: output shapes, parameters, multiply-adds, bytes, receptive fields.

        `cyconv.analysis.summary` has the same as numbers and tells what each means.

        Raises
        ------
        ValueError
            If the network was built without an `input_shape`.

        Examples
        --------
        >>> from cyconv import Network, layers
        >>> print(Network([layers.Conv2d(1, 4, 3), layers.ReLU()], input_shape=(1, 8, 8)).summary())
        layer          output shape  parameters  multiply-adds  output bytes  receptive field
        -------------------------------------------------------------------------------------
        0      Conv2d  (4, 6, 6)             40          1,296           576              3x3
        1      ReLU    (4, 6, 6)              0              0           576              3x3
        -------------------------------------------------------------------------------------
        40 parameters, 1,296 multiply-adds, 1,152 bytes of outputs
        """
        return str(analysis.summary(self, dtype=self.dtype))

    # Data in

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the parameters, and so of the inputs."""
        each = (parameter for _, layer in self.walk() for parameter in layer.own_parameters().values())
        first = next(each, None)  # a deep network has hundreds
        return np.dtype(np.float32) if first is None else first.dtype

    def _batches(
        self, op: str, x: Any, y: Any, loss: Loss, batch_size: int, epochs: int = 1, **options: Any
    ) -> tuple[Iterable[Batch], int | None]:
        """Return batches that are ready for the network, and how many images they hold where that is known."""
        size = as_int(op, "batch_size", batch_size)
        if y is None:
            if isinstance(x, (np.ndarray, str, bytes, Mapping)) or not isinstance(x, Iterable):
                raise ValueError(
                    f"{op}: `y` is missing; only an iterable of (x, y) batches comes without it, got {type(x).__name__}"
                )
            if epochs > 1 and isinstance(x, Iterator):
                raise ValueError(f"{op}: `x` is an iterator, good for one epoch only; give what can be iterated anew")
            for name in ("augment", "sampler"):
                if options.get(name) is not None:
                    raise ValueError(
                        f"{op}: `{name}` needs `x` and `y`; batches have it already: Batches(..., {name}=...)"
                    )
            ready = _Ready(self, op, x)
            if isinstance(x, Sequence):  # here and now: others would have to prepare a batch
                ready.check(x)
            return ready, None
        augment = options.get("augment")
        images = as_inputs(op, x, self.input_shape if augment is None else None)
        targets = as_array(op, "y", y)
        if len(images) == 0:
            raise ValueError(f"{op}: `x` is empty")
        if targets.shape[:1] != images.shape[:1]:
            raise ValueError(f"{op}: `y` must have a row for each of the {len(images)} in `x`, got {targets.shape}")
        batches = Batches(images, targets, size, dtype=self.dtype, **options)
        if augment is not None:  # what it makes of a few images has to suit the network
            few = Batches(images[:size], targets[:size], size, rng=0, prefetch=0, dtype=self.dtype, augment=augment)
            images, augmented = next(iter(few))
            as_inputs(f"{op}: augment", images, self.input_shape)
            targets = targets if targets.shape[1:] == augmented.shape[1:] else augmented
        loss.check_target(op, targets, self.output_shape(images.shape[1:]))
        return _Ready(self, op, batches), batches.images

    def _ready(self, x: NDArray) -> NDArray:
        """Return a batch in the network's dtype; bytes become numbers from 0 to 1."""
        return as_numbers(x, self.dtype)


class _Ready:
    """Batches, each made ready for a network when its turn comes."""

    def __init__(self, network: Network, op: str, batches: Iterable[Batch]) -> None:
        self._network, self._op, self._batches = network, op, batches

    def __iter__(self) -> Iterator[Batch]:
        batch: Any = None
        for batch in self._batches:
            self.check([batch])
            x = as_inputs("batches", batch[0], self._network.input_shape)
            y = as_array("batches", "y", batch[1])
            if len(x) == 0 or y.shape[:1] != x.shape[:1]:
                raise ValueError(
                    f"batches: each needs images and a row of `y` for each of them, got {x.shape} and {y.shape}"
                )
            yield self._network._ready(x), y
        if batch is None:
            self.check([])

    def check(self, batches: Sequence[Any]) -> None:
        """Raise unless there are batches and each is a pair."""
        if not len(batches):
            raise ValueError(f"{self._op}: `x` is empty: it holds no (x, y) batch")
        for batch in batches:
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise TypeError(f"{self._op}: batches: each must be a pair (x, y), got {type(batch).__name__}")


def _held_out(data: Any) -> tuple[Any, Any]:
    """Return images and targets of `validation_data`; batches have no separate targets."""
    if not isinstance(data, tuple):
        return data, None
    if len(data) != 2 or data[1] is None:
        missing = "no targets" if len(data) == 2 else f"a tuple of {len(data)}"
        raise ValueError(f"fit: `validation_data` must be a pair (x, y) or an iterable of batches, got {missing}")
    return data
