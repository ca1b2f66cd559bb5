"""Training: in which order things happen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

import cyconv.layers  # noqa: F401  (whole, before its parts: see cyconv/__init__.py)
from cyconv._dispatch import optimizer as kernel
from cyconv.callbacks import Callback, Checkpoint, EarlyStopping, ProgressBar
from cyconv.history import History
from cyconv.layers.base import Layer
from cyconv.losses import Loss
from cyconv.metrics import accuracy
from cyconv.optimizers import Optimizer
from cyconv.parameter import Parameter
from cyconv.threads import threads_for

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "ProgressBar",
    "Run",
    "evaluate",
    "train",
    "train_step",
]

Batches = Iterable[tuple[NDArray, NDArray]]


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

    def notify(self, event: str) -> None:
        """Call the method `event` of every callback."""
        for callback in self.callbacks:
            getattr(callback, event)(self)


def train_step(network: Layer, x: NDArray, y: NDArray, loss: Loss, optimizer: Optimizer) -> tuple[float, NDArray]:
    """Train on one batch; return its loss before the update, and the network's output.

    Gradients stay in the parameters until the next step.

    Raises
    ------
    FloatingPointError
        If the loss is not finite; the weights have not been touched then.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import layers, losses, optimizers
    >>> from cyconv.training import train_step
    >>> rng = np.random.default_rng(0)
    >>> network = layers.Linear(4, 2).initialize(rng)
    >>> x, y = rng.standard_normal((16, 4), np.float32), rng.integers(2, size=16)
    >>> sgd, loss = optimizers.SGD(0.1), losses.CrossEntropyLoss()
    >>> first, *_, last = (train_step(network, x, y, loss, sgd)[0] for _ in range(20))
    >>> last < first
    True
    """
    parameters = network.parameters()  # once: walking a deep network costs as much as a small layer
    _clear(parameters)
    value, output = _add_gradients(network, x, y, loss, optimizer)
    optimizer.step(parameters)
    return value, output


def _clear(parameters: Mapping[str, Parameter]) -> None:
    for parameter in parameters.values():
        parameter.grad = None


def _add_gradients(network: Layer, x: NDArray, y: NDArray, loss: Loss, optimizer: Optimizer) -> tuple[float, NDArray]:
    """Add a batch's gradients to the parameters'; return its loss and the output."""
    if not network.training:
        network.train()
    output = network.forward(x)
    value, gradient = loss.with_gradient(output, y)
    if gradient is None or not math.isfinite(value):
        network.forget()
        raise FloatingPointError(
            f"train_step: the loss is {value}, so the weights are left as they are; check the data for NaN, or lower "
            f"the learning rate (now {optimizer.learning_rate})"
        )
    network.backward(gradient, needs_grad_input=False)
    return value, output


def evaluate(network: Layer, batches: Batches, loss: Loss) -> dict[str, float]:
    """Return the mean loss, and for classifiers the accuracy, in evaluation mode; the network stays in that mode.

    Parameters
    ----------
    network : Layer
        What is evaluated.
    batches : iterable of (x, y)
        Iterated once.
    loss : Loss
        What is averaged, over all targets that count.

    Returns
    -------
    dict of str to float
        ``loss`` and, for classifiers, ``accuracy``.

    Raises
    ------
    ValueError
        If `batches` holds none.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import layers, losses
    >>> from cyconv.training import evaluate
    >>> batches = [(np.eye(2), np.array([0, 1])), (np.eye(2), np.array([0, 0]))]
    >>> evaluate(layers.Identity(), batches, losses.CrossEntropyLoss())["accuracy"]
    0.75
    """
    if network.training:
        network.eval()
    means = _Means()
    for x, y in batches:
        output = network.forward(x)
        means.add(loss, loss.forward(output, y), output, y)
    if not means.batches:
        raise ValueError("evaluate: there is no data")
    return means.values()


def train(run: Run, batches: Batches, validate: Callable[[], dict[str, float]] | None = None) -> History:
    """Train epoch after epoch, from where `run` stands, and return its history.

    Whatever ends the training, the network is left in evaluation mode, without gradients, and `on_train_end` is called.
    Ctrl-C is passed on as KeyboardInterrupt after that, with ``run.history.interrupted`` set.

    Parameters
    ----------
    run : Run
        What to train.
    batches : iterable of (x, y)
        Iterated once in each epoch.
    validate : callable, optional
        Called after each epoch; its numbers are recorded with the prefix ``val_``.

    Returns
    -------
    History
        That of `run`, the new epochs added.

    Raises
    ------
    FloatingPointError
        If the loss becomes NaN or infinite (see `train_step`).
    ValueError
        If `batches` holds none.
    KeyboardInterrupt
        On Ctrl-C.
    """
    try:
        run.notify("on_train_begin")
        while run.epoch < run.epochs and not run.stop:
            start = time.perf_counter()
            run.epoch += 1
            run.notify("on_epoch_begin")
            run_epoch(run, batches)
            if validate is not None:
                run.logs.update({f"val_{name}": value for name, value in validate().items()})
            run.history.epochs.append({**run.logs, "seconds": time.perf_counter() - start})
            run.notify("on_epoch_end")
    except KeyboardInterrupt:
        run.history.interrupted = True
        raise
    finally:
        run.network.eval().zero_grad()
        run.notify("on_train_end")
    return run.history


def run_epoch(run: Run, batches: Batches) -> None:
    """Train on every batch once, keeping count in `run`."""
    run.batch, run.seen, run.logs = 0, 0, {}
    means = _Means()
    steps: Iterator[tuple[NDArray, NDArray, float, NDArray]]
    if run.accumulate == 1:
        steps = ((x, y, *train_step(run.network, x, y, run.loss, run.optimizer)) for x, y in batches)
    else:
        steps = _accumulated(run, batches)
    for x, y, value, output in steps:
        means.add(run.loss, value, output, y)
        run.batch += 1
        run.seen += len(x)
        run.logs = means.values()
        run.notify("on_batch_end")
    if not means.batches:
        raise ValueError("fit: there is no data")


def _accumulated(run: Run, batches: Batches) -> Iterator[tuple[NDArray, NDArray, float, NDArray]]:
    """Train on the batches, every few as if they were one, and yield each with its loss and the output.

    Gradients are averaged, that of a batch with the weight of its targets: it is the gradient of the mean over all of
    them. What is left at the end of an epoch makes a step too.
    """
    parameters, means = run.network.parameters(), dict[str, NDArray]()
    ahead, added, targets = iter(batches), 0, 0
    batch = next(ahead, None)
    while batch is not None:
        x, y = batch
        _clear(parameters)
        value, output = _add_gradients(run.network, x, y, run.loss, run.optimizer)
        count = run.loss.count(y)
        batch = next(ahead, None)
        added, targets = added + 1, targets + count
        if count:
            _take_in(means, parameters, count / targets)
        run.updated = batch is None or added == run.accumulate
        if run.updated:
            for name, mean in means.items():
                parameters[name].grad = mean
            run.optimizer.step(parameters)
            added, targets = 0, 0
            means.clear()
        yield x, y, value, output


def _take_in(means: dict[str, NDArray], parameters: Mapping[str, Parameter], share: float) -> None:
    """Let the parameters' gradients have a share in the means, and the means so far the rest."""
    for name, parameter in parameters.items():
        if parameter.grad is not None and name in means:
            mean, gradient = parameter.flat(means[name]), parameter.flat(parameter.grad)
            kernel.average(mean, gradient, 1 - share, threads_for(parameter.size))
        elif parameter.grad is not None:
            means[name] = np.empty_like(parameter.read())  # in its memory order
            np.multiply(parameter.grad, parameter.dtype.type(share), out=means[name])
        elif name in means:
            means[name] *= parameter.dtype.type(1 - share)


class _Means:
    """Running means of the loss and, for classifiers, of the accuracy, over the targets that count."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0
        self.batches = 0

    def add(self, loss: Loss, value: float, output: NDArray, y: NDArray) -> None:
        self.batches += 1
        count = loss.count(y)
        if not count:
            return
        values = {"loss": value}
        if loss.classifies:
            ignored = getattr(loss, "ignore_index", None)
            values["accuracy"] = accuracy(loss.scores(output), loss.labels(y), ignore_index=ignored)
        self._count += count
        for name, number in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + number * count

    def values(self) -> dict[str, float]:
        return {name: total / self._count for name, total in self._sums.items()}
