"""Training: in which order things happen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

import cyconv.layers  # noqa: F401  (whole, before its parts: see cyconv/__init__.py)
from cyconv._dispatch import optimizer as kernel
from cyconv._validation import as_array, as_instance, brief
from cyconv.callbacks import Callback, Checkpoint, EarlyStopping, ProgressBar, Run
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
    op = "train_step"
    as_instance(op, "network", network, Layer)
    as_instance(op, "loss", loss, Loss)
    as_instance(op, "optimizer", optimizer, Optimizer)
    return _step(op, network, as_array(op, "x", x), as_array(op, "y", y), loss, optimizer)


def _step(op: str, network: Layer, x: NDArray, y: NDArray, loss: Loss, optimizer: Optimizer) -> tuple[float, NDArray]:
    parameters = network.parameters()  # once: walking a deep network costs as much as a small layer
    _clear(parameters)
    value, output = _add_gradients(op, network, x, y, loss, optimizer)
    optimizer.step(parameters)
    return value, output


def _clear(parameters: Mapping[str, Parameter]) -> None:
    for parameter in parameters.values():
        parameter.grad = None


def _add_gradients(
    op: str, network: Layer, x: NDArray, y: NDArray, loss: Loss, optimizer: Optimizer
) -> tuple[float, NDArray]:
    """Add a batch's gradients to the parameters'; return its loss and the output."""
    if not network.training:
        network.train()
    output = network.forward(x)
    try:
        value, gradient = loss.with_gradient(output, y)
    except (ValueError, TypeError) as error:
        network.forget()
        raise _unsuitable(op, output, error) from error
    if gradient is None or not math.isfinite(value):
        network.forget()
        raise FloatingPointError(
            f"{op}: the loss is {value}, so the weights are left as they are; check the data for NaN, or lower "
            f"the learning rate (now {optimizer.learning_rate})"
        )
    network.backward(gradient, needs_grad_input=False)
    return value, output


def _unsuitable(op: str, output: NDArray, error: Exception) -> Exception:
    """Return the error of a loss, for those who know its arguments as `x` and `y`."""
    kind = ValueError if isinstance(error, ValueError) else TypeError
    return kind(f"{op}: `y` does not suit what the network makes of `x`, an output of shape {output.shape}: {error}")


def _pairs(op: str, batches: Batches) -> Iterator[tuple[NDArray, NDArray]]:
    """Yield the batches, each of which must be a pair of arrays."""
    if not isinstance(batches, Iterable) or getattr(batches, "shape", None) == ():
        raise TypeError(f"{op}: `batches` must be an iterable of pairs (x, y), got {brief(batches)}")
    for batch in batches:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise TypeError(f"{op}: `batches` must be pairs (x, y), got {brief(batch)}")
        yield as_array(op, "batches", batch[0]), as_array(op, "batches", batch[1])


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
    as_instance("evaluate", "network", network, Layer)
    as_instance("evaluate", "loss", loss, Loss)
    if network.training:
        network.eval()
    means = _Means()
    for x, y in _pairs("evaluate", batches):
        output = network.forward(x)
        try:
            means.add(loss, loss.forward(output, y), output, y)
        except (ValueError, TypeError) as error:
            raise _unsuitable("evaluate", output, error) from error
    if not means.batches:
        raise ValueError("evaluate: `batches` is empty: there is no data")
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
    as_instance("train", "run", run, Run)
    if validate is not None and not callable(validate):
        raise TypeError(f"train: `validate` must be callable, got {brief(validate)}")
    try:
        run.notify("on_train_begin")
        while run.epoch < run.epochs and not run.stop:
            start = time.perf_counter()
            run.epoch += 1
            run.notify("on_epoch_begin")
            run_epoch(run, batches)
            if validate is not None:
                numbers = as_instance("train: validate", "its result", validate(), Mapping)
                run.logs.update({f"val_{name}": value for name, value in numbers.items()})
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
    pairs = _pairs("train", batches)
    if run.accumulate == 1:
        steps = ((x, y, *_step("fit", run.network, x, y, run.loss, run.optimizer)) for x, y in pairs)
    else:
        steps = _accumulated(run, pairs)
    for x, y, value, output in steps:
        means.add(run.loss, value, output, y)
        run.batch += 1
        run.seen += len(x)
        run.logs = means.values()
        run.notify("on_batch_end")
    if not means.batches:
        raise ValueError("train: `batches` is empty: there is no data")


def _accumulated(run: Run, batches: Batches) -> Iterator[tuple[NDArray, NDArray, float, NDArray]]:
    """Train on the batches, every few as if they were one, and yield each with its loss and the output.

    Gradients are averaged, that of a batch by the total weight of its targets: it is the gradient of the mean over all
    of them. What is left at the end of an epoch makes a step too.
    """
    parameters, means = run.network.parameters(), dict[str, NDArray]()
    ahead, added, total = iter(batches), 0, 0.0
    batch = next(ahead, None)
    while batch is not None:
        x, y = batch
        _clear(parameters)
        value, output = _add_gradients("fit", run.network, x, y, run.loss, run.optimizer)
        weight = run.loss.total_weight(y)
        batch = next(ahead, None)
        added, total = added + 1, total + weight
        if weight:
            _take_in(means, parameters, weight / total)
        run.updated = batch is None or added == run.accumulate
        if run.updated:
            for name, mean in means.items():
                parameters[name].grad = mean
            run.optimizer.step(parameters)
            added, total = 0, 0.0
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
        self._weights: dict[str, float] = {}
        self.batches = 0

    def add(self, loss: Loss, value: float, output: NDArray, y: NDArray) -> None:
        self.batches += 1
        self._add("loss", value, loss.total_weight(y))
        if loss.classifies and (count := loss.count(y)):
            ignored = getattr(loss, "ignore_index", None)
            self._add("accuracy", accuracy(loss.scores(output), loss.labels(y), ignore_index=ignored), count)

    def _add(self, name: str, value: float, weight: float) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + value * weight
        self._weights[name] = self._weights.get(name, 0.0) + weight

    def values(self) -> dict[str, float]:
        return {name: total / (self._weights[name] or 1.0) for name, total in self._sums.items()}
