"""Network: layers in a row that train, predict, and go to files and back."""

from __future__ import annotations

from _thread import get_ident  # `threading` takes a millisecond to import
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import cyconv.data
import cyconv.layers  # noqa: F401  (whole, before its parts: see cyconv/__init__.py)
from cyconv import _feed as feed
from cyconv import analysis
from cyconv import functional as F
from cyconv._sources import samples
from cyconv._validation import as_bool, as_choice, as_generator, as_inputs, as_int, as_numbers, as_rows, brief
from cyconv.callbacks import Callback, ProgressBar, as_callbacks, load_checkpoint, load_weights
from cyconv.data.augmentation.transforms import Transform, as_transform
from cyconv.data.batches import Batches
from cyconv.data.sampling import Sampler, as_sampler
from cyconv.layers.activation import Softmax
from cyconv.layers.base import Layer, Mismatch, Shape, is_patched
from cyconv.layers.containers import Layers, Sequential
from cyconv.layers.recording import replayed
from cyconv.losses import CrossEntropyLoss, Loss, as_loss
from cyconv.optimizers import Optimizer, as_optimizer
from cyconv.serialization import PathLike, save_arrays
from cyconv.training import History, Run, evaluate, train

__all__ = ["Network"]

Batch = feed.Batch


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

    _trainer: int | None = None  # the thread in which `fit` is running

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
                raise TypeError(f"Network: `input_shape` must be (C, H, W) or (features,), got {brief(input_shape)}")
            self.input_shape = tuple(as_int("Network", "input_shape", extent) for extent in input_shape)
            try:
                list(self.trace(self.input_shape))
            except ValueError as error:
                raise ValueError(
                    f"Network: `input_shape` {self.input_shape} does not suit the layers: {error}"
                ) from None
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
        validation_data: Sequence[ArrayLike] | Iterable[Batch] | None = None,
        callbacks: Sequence[Callback] = (),
        seed: np.random.Generator | int | None = None,
        shuffle: bool = True,
        resume: PathLike | None = None,
        progress: bool = True,
        memory: str = "normal",
        accumulate: int = 1,
        augment: Transform | Sequence[Transform] | None = None,
        sampler: Sampler | None = None,
        drop_last: bool = False,
    ) -> History:
        """Train on images and their classes (or other targets).

        Parameters
        ----------
        x : ndarray of shape (N, *input_shape), float32, float64 or uint8; or iterable of (x, y) batches
            The data stays where it is, memory-mapped files, h5py datasets and zarr arrays too: each batch is read and
            converted when it is needed. Bytes are divided by 255, also in lists, tensors and data frames of them.
            Images of one channel may lack the channel's axis. Anything else that can be iterated anew for every epoch,
            a `cyconv.data.Batches` for one, supplies the batches itself.
        y : array-like of N rows
            For cross entropy the numbers of the classes, integers of shape (N,), or (N, H, W) for one class a pixel.
        epochs : int, default 1
            Passes over the data.
        batch_size : int, default 32
            Images a step; the last step of an epoch takes what is left. Where a network normalises maps of one pixel,
            which takes two images, a single one that is left joins the step before.
        optimizer : str or Optimizer, default "sgd"
            "sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "amsgrad", "adamw", "adamax",
            "nadam" or "adabound" stands for that optimizer's defaults.
        loss : str or Loss, default "cross_entropy"
            What is made small: "cross_entropy", "binary_cross_entropy", "mse", "smooth_l1", "dice", or an object.
        validation_data : (x, y) or iterable of batches, optional
            Evaluated after each epoch. A list of two arrays is a pair (x, y) as well.
        callbacks : sequence of Callback, default ()
            Called in this order, checkpoints last.
        seed : int, Generator or None
            Shuffles, augments and seeds dropout; by default the network's own generator goes on.
        shuffle : bool, default True
            Whether each epoch takes the images in a new order.
        resume : path, optional
            A file that `Checkpoint` wrote: go on from there, up to `epochs` in all. With the same arguments the result
            is, bit for bit, that of the run that was never stopped. The optimizer's settings, its learning rate among
            them, are those in the file: where the optimizer given had others when the run began, a warning says so.
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
        drop_last : bool, default False
            Whether to leave out what is left at the end of an epoch, fewer than `batch_size` images.

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
        self._check_untrained(op)
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
        if isinstance(run.loss, CrossEntropyLoss) and self._ends_in_softmax():
            raise ValueError("fit: cross entropy takes scores; leave the network's last Softmax to `predict_proba`")
        recomputes = as_choice(op, "memory", memory, ("normal", "low")) == "low"
        shuffle = as_bool(op, "shuffle", shuffle) and sampler is None
        options = {
            "shuffle": shuffle,
            "rng": run.rng,
            "augment": as_transform(op, augment),
            "sampler": as_sampler(op, sampler),
            "drop_last": as_bool(op, "drop_last", drop_last),
        }
        if isinstance(x, Batches):
            run.data_rng = x.rng
        batches, run.images = self._batches(op, x, y, run.loss, batch_size, run.epochs, training=True, **options)
        validate = None
        if validation_data is not None:
            held_x, held_y = feed.held_out(validation_data)
            held_out, _ = self._batches("fit: validation_data", held_x, held_y, run.loss, batch_size, run.epochs)
            validate = partial(evaluate, self, held_out, run.loss)
        if resume is None:
            self.reseed(run.rng)
        else:
            load_checkpoint(resume, run)
        self.history = run.history
        self.recomputes, self._trainer = recomputes, get_ident()
        try:
            return train(run, batches, validate)
        finally:
            self.recomputes, self._trainer = False, None

    def _check_untrained(self, op: str) -> None:
        """Raise if `fit` is running in another thread, in which this would leave the layers in the wrong mode."""
        if self._trainer is not None and self._trainer != get_ident():
            raise RuntimeError(
                f"{op}: the network is being trained by `fit` in another thread; use a copy, `copy.deepcopy(network)`, "
                "or wait for it to end"
            )

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
        self._check_untrained("evaluate")
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
        return self._predict("predict", x, batch_size)

    def _predict(self, op: str, x: ArrayLike, batch_size: int = 256) -> NDArray:
        """Return what `predict` does; errors name `op`."""
        self._check_untrained(op)
        if self.training:
            self.eval()
        images = as_inputs(op, x, self.input_shape)
        size = as_int(op, "batch_size", batch_size)
        plain = type(self).forward is Sequential.forward and not is_patched(self)
        if plain and len(images) <= size and images.dtype == np.float32:
            known = replayed(self, images[:])
            if known is not None:
                return np.ascontiguousarray(known)
        first = self.forward(self._ready(images[:size]))
        output = np.empty((len(images), *first.shape[1:]), first.dtype)
        output[:size] = first
        for start in range(size, len(images), size):
            output[start : start + size] = self.forward(self._ready(images[start : start + size]))
        self._check_untrained(op)
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
        scores = self._predict("predict_proba", x, batch_size)
        return scores if self._ends_in_softmax() else F.softmax(scores, axis=1)

    def predict_log_proba(self, x: ArrayLike, batch_size: int = 256) -> NDArray:
        """Return the logarithms of the probabilities that `predict_proba` returns, also of those too small for it.

        Parameters
        ----------
        x, batch_size
            As for `predict`.

        Returns
        -------
        ndarray of shape (N, *output shape)
        """
        scores = self._predict("predict_log_proba", x, batch_size)
        if not self._ends_in_softmax():
            return F.log_softmax(scores, axis=1)
        with np.errstate(divide="ignore"):
            return np.log(scores)

    def _ends_in_softmax(self) -> bool:
        return len(self) > 0 and isinstance(self[-1], Softmax)

    def __getstate__(self) -> dict:
        return {name: value for name, value in super().__getstate__().items() if name != "_trainer"}

    # Files

    def save(self, path: PathLike) -> None:
        """Write the weights and running statistics to a safetensors file, replacing an older one in one step.

        Parameters
        ----------
        path : str or path
            The file. Other programs read it too; a weight has its logical shape, (OC, IC, KH, KW), in C order.
        """
        save_arrays(path, self.state_dict())

    def load(self, path: PathLike, strict: bool = True) -> Mismatch:
        """Read weights and running statistics from a safetensors file: one of `save`, of `Checkpoint`, or of PyTorch.

        Parameters
        ----------
        path : str or path
            The file. Weights in half precision and bfloat16 are converted, exactly. Files of ``torch.save`` are read by
            `cyconv.torch_files.load_torch`.
        strict : bool, default True
            False leaves what the file lacks as it is and passes over what the network lacks.

        Returns
        -------
        Mismatch
            The names that are ``missing`` in the file, and those in it that are ``unexpected``; none if strict.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is incomplete, of another kind or damaged (see `cyconv.serialization.load_arrays`), or does not
            fit the network (see `load_state_dict`); nothing has been changed then.
        """
        shapes = {name: entry.shape for name, entry in self._entries().items()}
        return self.load_state_dict(load_weights(path, shapes), strict)

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
        """Dtype of the parameters, and so of the inputs; without parameters that of `astype`, float32 before."""
        each = (parameter for _, layer in self.walk() for parameter in layer.own_parameters().values())
        first = next(each, None)  # a deep network has hundreds
        return self._dtype if first is None else first.dtype

    def _batches(
        self,
        op: str,
        x: Any,
        y: Any,
        loss: Loss,
        batch_size: int,
        epochs: int = 1,
        training: bool = False,
        **options: Any,
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
            for name in ("augment", "sampler", "drop_last"):
                if options.get(name):
                    raise ValueError(
                        f"{op}: `{name}` needs `x` and `y`; batches have it already: Batches(..., {name}=...)"
                    )
            ready = feed.Ready(op, x, self.input_shape, self.dtype)
            if isinstance(x, Sequence):  # here and now: others would have to prepare a batch
                ready.check(x)
            if training:
                feed.check_smallest(op, x, self, self.input_shape)
            return ready, None
        augment = options.get("augment")
        images = as_inputs(op, x, self.input_shape if augment is None else None)
        targets = as_rows(op, "y", y)
        if len(images) == 0:
            raise ValueError(f"{op}: `x` is empty")
        if targets.shape[:1] != images.shape[:1]:
            raise ValueError(f"{op}: `y` must have a row for each of the {len(images)} in `x`, got {targets.shape}")
        shape, expected = images.shape[1:], targets
        if augment is not None:  # what it makes of a few images has to suit the network
            few = Batches(images[:size], targets[:size], size, rng=0, prefetch=0, dtype=self.dtype, augment=augment)
            changed, augmented = next(iter(few))
            shape = as_inputs(f"{op}: augment", changed, self.input_shape).shape[1:]
            expected = targets if targets.shape[1:] == augmented.shape[1:] else augmented
        loss.check_target(op, samples(expected), self.output_shape(shape))
        single = feed.single_values(self, shape) if training else None
        batches = Batches(images, targets, size, dtype=self.dtype, min_batch=1 if single is None else 2, **options)
        if not len(batches):
            raise ValueError(f"{op}: `drop_last` leaves nothing of {batches.images} images in batches of {size}")
        if single is not None and batches.smallest < 2:
            name = "`batch_size`" if size < 2 else "`x`"
            raise ValueError(f"{op}: {name} must be at least 2 images, got {batches.smallest}: {single}")
        return feed.Ready(op, batches, self.input_shape, self.dtype), batches.images - (
            batches.images % size if options.get("drop_last") else 0
        )

    def _ready(self, x: NDArray) -> NDArray:
        """Return a batch in the network's dtype; bytes become numbers from 0 to 1."""
        return as_numbers(x, self.dtype)
