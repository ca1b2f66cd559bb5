"""Callbacks: what watches a training run, ends it early, and writes it to files it can go on from."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import cyconv.layers  # noqa: F401  (whole, before its parts: see cyconv/__init__.py)
from cyconv._validation import as_bool, as_choice, as_int, as_list, as_number, brief
from cyconv.history import History
from cyconv.layers.base import Layer, Shape
from cyconv.layers.naming import fitted
from cyconv.losses import Loss
from cyconv.optimizers import Optimizer
from cyconv.serialization import PathLike, as_path, check_target, load_arrays, open_arrays, save_arrays

__all__ = ["Callback", "Checkpoint", "EarlyStopping", "ProgressBar", "Run"]

CHECKPOINT = "cyconv.checkpoint"  # key of a run's state in a safetensors file's metadata


@dataclass
class Run:
    """Where a training run stands: what callbacks see and may change.

    Attributes
    ----------
    network, loss, optimizer
        What is trained, on what, how.
    rng : Generator
        Shuffles the data.
    epochs : int
        How many epochs there are to be.
    history : History
        The finished epochs.
    callbacks : list of Callback
        In the order in which they are called.
    data_rng : Generator or None
        Draws in the batches that `fit` was given, where they can say so.
    images : int or None
        Images in an epoch, where that is known.
    epoch : int
        Number of the epoch, from 1; 0 before the first.
    batch, seen : int
        Batches and images of this epoch so far.
    logs : dict
        Means over this epoch so far.
    stop : bool
        Set it to end the training after this epoch.
    accumulate : int
        Batches whose gradients make one step.
    updated : bool
        Whether the last batch ended in a step, so that the weights have changed.
    settings : dict
        The optimizer's hyper-parameters when the run began, for its checkpoints.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import layers, losses, optimizers
    >>> from cyconv.training import Run, train
    >>> network, loss, sgd = layers.Linear(2, 2).initialize(0), losses.CrossEntropyLoss(), optimizers.SGD(0.1)
    >>> run = Run(network, loss, sgd, np.random.default_rng(0), epochs=3)
    >>> history = train(run, [(np.ones((4, 2), np.float32), np.arange(4) % 2)])
    >>> run.epoch, run.seen, list(run.logs)
    (3, 4, ['loss', 'accuracy'])
    """

    network: Layer
    loss: Loss
    optimizer: Optimizer
    rng: np.random.Generator
    epochs: int
    history: History = field(default_factory=History)
    callbacks: Sequence[Callback] = ()
    data_rng: np.random.Generator | None = None
    images: int | None = None
    epoch: int = 0
    batch: int = 0
    seen: int = 0
    logs: dict[str, float] = field(default_factory=dict)
    stop: bool = False
    accumulate: int = 1
    updated: bool = True
    settings: dict[str, Any] = field(default_factory=dict)

    def notify(self, event: str) -> None:
        """Call the method `event` of every callback."""
        for callback in self.callbacks:
            getattr(callback, event)(self)


class Callback:
    """Something that watches a training run; a subclass writes the methods it cares for.

    Each method is given the `Run`: what is trained, how far it is, its numbers so far. Setting ``run.stop`` ends the
    training after the epoch.

    Attributes
    ----------
    last : bool, default False
        Whether it is called after the callbacks for which this is False.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Network, layers
    >>> from cyconv.training import Callback
    >>> class StopBelow(Callback):
    ...     def __init__(self, loss):
    ...         self.loss = loss
    ...     def on_epoch_end(self, run):
    ...         run.stop = run.logs["loss"] < self.loss
    >>> network = Network([layers.Linear(1, 1)], input_shape=(1,), seed=0)
    >>> x = np.linspace(-1, 1, 32, dtype=np.float32)[:, np.newaxis]
    >>> history = network.fit(x, 2 * x, epochs=1000, loss="mse", callbacks=[StopBelow(0.01)], progress=False)
    >>> len(history) < 1000
    True
    """

    last: ClassVar[bool] = False  # whether it is called after those that are not

    def on_train_begin(self, run: Run) -> None:
        """Run before everything else."""

    def on_epoch_begin(self, run: Run) -> None:
        """Run before the first batch of an epoch."""

    def on_batch_end(self, run: Run) -> None:
        """Run after each batch; the weights have been updated if ``run.updated``."""

    def on_epoch_end(self, run: Run) -> None:
        """Run after the validation, with the epoch in ``run.history``."""

    def on_train_end(self, run: Run) -> None:
        """Run at the end, however the training ended, perhaps before its first epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: arrays, and values that JSON can hold."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set what `state_dict` returned, before `on_train_begin`."""


def as_callbacks(op: str, callbacks: Iterable[Callback]) -> list[Callback]:
    """Return the callbacks as a list."""
    checked = as_list(op, "callbacks", callbacks, "Callback objects")
    for callback in checked:
        if not isinstance(callback, Callback):
            hint = "; call the class to make one" if isinstance(callback, type) else ""
            raise TypeError(f"{op}: `callbacks` must be Callback objects, got {brief(callback)}{hint}")
    return checked


GROWING = {"accuracy", "acc", "top1", "top5", "precision", "recall", "sensitivity", "specificity", "f1", "score"}
GROWING |= {"iou", "miou", "jaccard", "dice", "ap", "map", "auc", "auroc", "kappa", "mcc", "r2", "psnr", "ssim"}
SHRINKING = {"loss", "error", "mse", "mae", "rmse", "nll", "bce", "perplexity", "distance", "cost"}


class Monitor:
    """A recorded number that a callback watches, and whether it is to grow or to shrink.

    Parameters
    ----------
    op : str
        Who watches, for errors.
    name : str
        Of the number.
    mode : {"auto", "min", "max"}
        Whether smaller or larger is better; "auto" goes by the words of the name.
    """

    def __init__(self, op: str, name: str, mode: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{op}: `monitor` must be the name of a recorded number, got {brief(name)}")
        if as_choice(op, "mode", mode, ("auto", "min", "max")) == "auto":
            mode = _mode(op, name)
        self.op, self.name, self.grows = op, name, mode == "max"

    def value(self, run: Run) -> float:
        """Return the number of an epoch."""
        if self.name not in run.logs:
            raise ValueError(
                f"{self.op}: `monitor` {self.name!r} is not recorded, only {', '.join(run.logs)}; "
                "names in val_ need `validation_data`"
            )
        return run.logs[self.name]

    def improves(self, value: float, best: float, margin: float) -> bool:
        """Return whether a number is better than the best by more than a margin; NaN never is."""
        return value > best + margin if self.grows else value < best - margin

    @property
    def worst(self) -> float:
        """What every number is better than."""
        return -math.inf if self.grows else math.inf


def _mode(op: str, name: str) -> str:
    """Return "min" or "max" by the words of a name; of an accuracy's or overlap's loss, the last word decides."""
    words = name.lower().replace("-", "_").split("_")
    grows, shrinks = not GROWING.isdisjoint(words), not SHRINKING.isdisjoint(words)
    if grows and shrinks and words[-1] in SHRINKING:
        return "min"
    if grows == shrinks:
        raise ValueError(
            f"{op}: `mode` must be 'min' or 'max' for `monitor` {name!r}: its name does not say what is better"
        )
    return "max" if grows else "min"


class ProgressBar(Callback):
    """Show a bar for each epoch, with its loss, accuracy and images a second, on stderr or in a notebook.

    `Network.fit` adds one after the other callbacks, unless ``progress=False``; given among them it has another place.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Network, layers
    >>> from cyconv.training import ProgressBar
    >>> network = Network([layers.Linear(2, 2)], seed=0)
    >>> x, y = np.zeros((8, 2), np.float32), np.zeros(8, int)
    >>> history = network.fit(x, y, callbacks=[ProgressBar()], progress=False)
    """

    def __init__(self) -> None:
        self._bar: Any = None

    def on_epoch_begin(self, run: Run) -> None:
        """Draw an empty bar."""
        from tqdm.auto import tqdm

        self._bar = tqdm(total=run.images, desc=f"epoch {run.epoch}/{run.epochs}", unit=" images")

    def on_batch_end(self, run: Run) -> None:
        """Draw what has been done."""
        self._bar.set_postfix(run.logs, refresh=False)
        self._bar.update(run.seen - self._bar.n)

    def on_epoch_end(self, run: Run) -> None:
        """Add the validation's numbers."""
        self._bar.set_postfix(run.logs)
        self._bar.close()

    def on_train_end(self, run: Run) -> None:
        """Leave the terminal in order."""
        if self._bar is not None:
            self._bar.close()


class EarlyStopping(Callback):
    """Stop when a recorded number no longer improves, and return to the weights of its best epoch.

    Parameters
    ----------
    monitor : str, default "val_loss"
        What is watched.
    patience : int, default 5
        Epochs without improvement after which to stop.
    min_delta : float, default 0
        By how much a number must be better than the best one to count as an improvement.
    restore_best : bool, default True
        Whether to end with the weights of the best epoch instead of the last.
    mode : {"auto", "min", "max"}, default "auto"
        Whether the number is to shrink or to grow; "auto" knows the usual names, such as loss and error, accuracy, IoU
        and F1.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or out of range, or "auto" does not know the name; in `fit`, if `monitor` is
        not recorded.

    Notes
    -----
    With ``best`` the best number so far, an epoch improves on it if ``number < best - min_delta``, or if it is to grow
    ``number > best + min_delta``. It is the number of held-out data that tells how long to train (Prechelt 1998).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Network, layers
    >>> from cyconv.training import EarlyStopping
    >>> network = Network([layers.Linear(2, 2)], input_shape=(2,), seed=0)
    >>> x, y = np.zeros((8, 2), np.float32), np.arange(8) % 2  # nothing that could be learned
    >>> stopping = EarlyStopping("val_accuracy", patience=3)
    >>> history = network.fit(x, y, epochs=100, validation_data=(x, y), callbacks=[stopping], progress=False)
    >>> len(history)
    4
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        restore_best: bool = True,
        mode: str = "auto",
    ) -> None:
        self._monitor = Monitor("EarlyStopping", monitor, mode)
        self.monitor, self.mode = monitor, mode
        self.patience = as_int("EarlyStopping", "patience", patience)
        self.min_delta = as_number("EarlyStopping", "min_delta", min_delta, 0)
        self.restore_best = as_bool("EarlyStopping", "restore_best", restore_best)
        self._best, self._wait = self._monitor.worst, 0
        self.weights: dict[str, NDArray] = {}  # of the best epoch

    def on_train_begin(self, run: Run) -> None:
        """Forget former runs, unless this one is resumed."""
        if run.epoch == 0:
            self._best, self._wait, self.weights = self._monitor.worst, 0, {}

    def on_epoch_end(self, run: Run) -> None:
        """Compare with the best epoch."""
        value = self._monitor.value(run)
        self._wait += 1
        if self._monitor.improves(value, self._best, self.min_delta):
            self._best, self._wait = value, 0
            if self.restore_best:
                self.weights = {name: array.copy() for name, array in run.network.state_dict().items()}
        run.stop = run.stop or self._wait >= self.patience

    def on_train_end(self, run: Run) -> None:
        """Return to the best epoch's weights."""
        if self.weights:
            run.network.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the best epoch's number, negative if it is to grow, and weights, and the epochs since."""
        best = -self._best if self._monitor.grows else self._best
        return {"best": best, "wait": self._wait, **{f"weights.{k}": v for k, v in self.weights.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set what `state_dict` returned."""
        op = "EarlyStopping: state to load"
        if type(state["best"]) not in (int, float) or math.isnan(state["best"]):
            raise ValueError(f"{op}: `best` must be a number, got {brief(state['best'])}")
        self._best = -state["best"] if self._monitor.grows else state["best"]
        self._wait = as_int(op, "wait", state["wait"], 0)
        self.weights = _under("weights.", state)


class Checkpoint(Callback):
    """Write all that a run is made of to one file after an epoch, for ``fit(resume=path)`` to go on from.

    The file holds the weights, the optimizer's state, the states of shuffling, augmentation and dropout, the history,
    and the other callbacks' states: a resumed run gives, bit for bit, what the run would have given without the stop.
    `Network.load` reads the weights alone.

    The optimizer of a resumed run has the settings in the file, its learning rate among them, also where the one that
    `fit` is given has others: a warning says so. To go on with others, set them in the `on_train_begin` of a callback.

    Parameters
    ----------
    path : str or path
        A safetensors file; ``{epoch}`` in it stands for the epoch's number. It is replaced in one step.
    every : int, default 1
        Epochs between checkpoints; the last epoch always gets one.

    Raises
    ------
    TypeError, ValueError
        If `every` is not an integer, or below 1.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> from cyconv import Network, layers
    >>> from cyconv.training import Checkpoint
    >>> x, y = np.zeros((8, 2), np.float32), np.arange(8) % 2
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "run.safetensors")
    ...     network = Network([layers.Linear(2, 2)], seed=0)
    ...     _ = network.fit(x, y, epochs=2, callbacks=[Checkpoint(path)], progress=False)
    ...     len(network.fit(x, y, epochs=5, resume=path, progress=False))
    5
    """

    last: ClassVar[bool] = True  # the others' states shall be those after the epoch

    def __init__(self, path: PathLike, every: int = 1) -> None:
        self.path = as_path("Checkpoint", path)
        self.every = as_int("Checkpoint", "every", every)

    def on_train_begin(self, run: Run) -> None:
        """Raise OSError if there is no folder to write to: now, and not when an epoch would be lost."""
        check_target(self._path(run.epoch + 1))
        run.settings = run.settings or run.optimizer.hyper_parameters

    def on_epoch_end(self, run: Run) -> None:
        """Write the file if it is time."""
        if run.epoch % self.every == 0 or run.epoch == run.epochs or run.stop:
            save_checkpoint(self._path(run.epoch), run)

    def _path(self, epoch: int) -> str:
        return self.path.replace("{epoch}", str(epoch))


def save_checkpoint(path: PathLike, run: Run) -> None:
    """Write a run to a file."""
    import json  # here, because it takes milliseconds to import

    optimizer = run.optimizer.state_dict()
    arrays = {f"network.{name}": array for name, array in run.network.state_dict().items()}
    arrays.update({f"optimizer.{name}": array for name, array in optimizer.pop("arrays").items()})
    callbacks = []
    for i, callback in enumerate(_with_state(run)):
        state = callback.state_dict()
        try:
            json.dumps({name: value for name, value in state.items() if not isinstance(value, np.ndarray)})
        except (TypeError, AttributeError, ValueError, RecursionError) as error:
            raise TypeError(
                f"Checkpoint: `state_dict` of {type(callback).__name__} must return a dict of arrays and of values "
                f"that JSON can hold, got {brief(state)}"
            ) from error
        arrays.update({f"callback{i}.{k}": v for k, v in state.items() if isinstance(v, np.ndarray)})
        callbacks.append({k: v for k, v in state.items() if not isinstance(v, np.ndarray)})
    content = {
        "epoch": run.epoch,
        "stop": run.stop,
        "history": run.history.epochs,
        "generators": [rng.bit_generator.state for rng in _generators(run)],
        "random_state": run.network.random_state(),
        "optimizer": optimizer,
        "settings": run.settings or optimizer["hyper_parameters"],
        "callbacks": callbacks,
    }
    save_arrays(path, arrays, {CHECKPOINT: json.dumps(content, default=np.ndarray.tolist)})


def load_checkpoint(path: PathLike, run: Run) -> None:
    """Bring a run to where the file's run stood."""
    import json

    arrays, metadata = load_arrays(as_path("fit", path, "resume"))
    if CHECKPOINT not in metadata:
        raise ValueError(f"fit: `resume` {path!r} holds weights only, no checkpoint")
    try:
        _restore(run, arrays, json.loads(metadata[CHECKPOINT]))
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError, json.JSONDecodeError) as error:
        raise ValueError(f"fit: `resume` {path!r} is a damaged checkpoint: {error!r}") from error
    except ValueError as error:
        raise ValueError(f"fit: `resume` {path!r} does not suit this run: {error}") from error


def _restore(run: Run, arrays: Mapping[str, NDArray], content: dict[str, Any]) -> None:
    callbacks = _with_state(run)
    if len(content["callbacks"]) != len(callbacks):
        raise ValueError(
            f"`callbacks` must be those of the run to resume: {len(content['callbacks'])} of them left a state, "
            f"{len(callbacks)} look for one"
        )
    # First all that may turn out wrong: an unsuitable file leaves network and optimizer as they are.
    epoch, history = as_int("checkpoint", "epoch", content["epoch"], 0), History(content["history"])
    numbers = [value for each in history.epochs for value in each.values()]
    if len(history) != epoch or not all(type(value) in (int, float) for value in numbers):
        raise ValueError(f"its history is not that of {epoch} epochs")
    weights = _under("network.", arrays)
    run.network.check_state_dict(weights)
    given = run.optimizer.state_dict()
    optimizer = copy.copy(run.optimizer)  # shares with the original nothing that loading changes in place
    optimizer.load_state_dict({**content["optimizer"], "arrays": _under("optimizer.", arrays)})
    optimizer.check_parameters(run.network.parameters())
    settings = dict(content.get("settings", {}))  # files of older versions lack them
    generators, states = _generators(run), content["generators"]
    if len(states) != len(generators):
        raise ValueError("`x` and `y`, or the batches, must be as they were in the run to resume")
    for rng, state in zip(generators, states, strict=True):
        copy.deepcopy(rng).bit_generator.state = state
    for i, (callback, state) in enumerate(zip(callbacks, content["callbacks"], strict=True)):
        callback.load_state_dict({**state, **_under(f"callback{i}.", arrays)})
        if isinstance(callback, EarlyStopping) and callback.weights:
            run.network.check_state_dict(callback.weights)

    run.network.load_random_state(content["random_state"])  # the last that checks: as a whole or not at all
    run.network.load_state_dict(weights)
    vars(run.optimizer).update(vars(optimizer))
    run.settings = settings
    for rng, state in zip(generators, states, strict=True):
        rng.bit_generator.state = state
    run.history.epochs = history.epochs
    run.epoch, run.stop = epoch, bool(content["stop"])
    _warn_of_changes(given, content["optimizer"], run.settings)


def _warn_of_changes(given: Mapping[str, Any], loaded: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Warn where the optimizer's settings are not those with which the run in the file began, which hold."""
    now, saved = given["hyper_parameters"], loaded["hyper_parameters"]
    # A schedule has changed the rate since: an optimizer that has trained this far, too, is the one in the file.
    differ = [name for name in now if name in settings and _plain(now[name]) not in (settings[name], saved.get(name))]
    listed = [f"`{name}` {saved.get(name)!r} instead of {now[name]!r}" for name in differ]
    if given["groups"] and _plain(given["groups"]) != loaded.get("groups", []):
        listed.append("its groups")
    if listed:
        warnings.warn(
            f"fit: `resume` goes on with the optimizer's settings in the file: {', '.join(listed)}; to go on with "
            "others, set them in the `on_train_begin` of a callback",
            stacklevel=5,
        )


def _plain(value: Any) -> Any:
    """Return a value as it comes back from JSON."""
    import json

    return json.loads(json.dumps(value, default=np.ndarray.tolist))


def _generators(run: Run) -> list[np.random.Generator]:
    """Return what the run draws from besides the network's layers."""
    return [rng for rng in (run.rng, run.data_rng) if rng is not None]


def _with_state(run: Run) -> list[Callback]:
    return [callback for callback in run.callbacks if callback.state_dict()]


def load_weights(path: PathLike, shapes: Mapping[str, Shape]) -> dict[str, NDArray]:
    """Return the network's arrays in a file of weights or a checkpoint, by name.

    Those that the network lacks, or has in another of its `shapes`, are not read: what stands for them takes no memory.
    """
    with open_arrays(path) as file:
        prefix = "network." if CHECKPOINT in file.metadata else ""
        listed = _under(prefix, file.shapes)
        names = fitted(listed, shapes)
        suitable = {prefix + name for name, shape in listed.items() if shapes.get(names[name]) == shape}
        arrays = _under(prefix, file.arrays(lambda name: name in suitable))
    return {name: arrays.get(name, np.broadcast_to(np.float32(0), shape)) for name, shape in listed.items()}


def _under(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
