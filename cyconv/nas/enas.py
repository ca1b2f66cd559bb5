"""The search: shared weights and the controller take turns, then the best of several samples is kept."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cyconv._validation import as_array, as_bool, as_generator, as_int, as_int_array, as_number, brief
from cyconv.data.batches import Batch, Batches
from cyconv.history import History
from cyconv.losses import CrossEntropyLoss
from cyconv.metrics import accuracy
from cyconv.nas.architecture import Architecture, MacroSpace, Space, architecture_from, as_space
from cyconv.nas.child import SharedWeights
from cyconv.nas.controller import Controller
from cyconv.optimizers import SGD, ClipNorm
from cyconv.serialization import PathLike, as_path, write_atomically
from cyconv.training import train_step

VALIDATION_BATCH = 128  # images by which a sample is judged
WARM_UP = 1 / 3  # of the search: before, the rewards would tell what learns fast, and lead to cells of pooling alone
SAMPLES = 8  # architectures by which the controller learns in one step, all judged by the same images
# Of the shared weights' optimizer, as in the paper's appendix B (its rate falls from 0.05 to 0.001).
MOMENTUM, WEIGHT_DECAY, LONGEST_GRADIENT, LAST_RATE = 0.9, 1e-4, 5.0, 0.02


class Candidate(NamedTuple):
    """A sampled architecture and how it did.

    Attributes
    ----------
    architecture : MicroArchitecture or MacroArchitecture
        What the controller sampled.
    accuracy : float
        On the validation data, with the shared weights.
    """

    architecture: Architecture
    accuracy: float


@dataclass
class SearchResult:
    """What a search came to.

    Attributes
    ----------
    candidates : list of Candidate
        What was sampled in the end, each architecture once, the best first.
    history : History
        For each epoch: ``loss`` and ``accuracy`` of the children on the training data, and ``seconds``; once the
        controller learns, ``reward`` (mean accuracy on the validation data), ``baseline`` and ``entropy`` (in nats).

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from cyconv import nas
    >>> found = nas.SearchResult([nas.Candidate(nas.MacroSpace(layers=3).sample(0), 0.9)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "found.json")
    ...     found.save(path)
    ...     nas.SearchResult.load(path).best == found.best
    True
    """

    candidates: list[Candidate]
    history: History = field(default_factory=History)

    @property
    def best(self) -> Architecture:
        """The best candidate's architecture."""
        return self.candidates[0].architecture

    def save(self, path: PathLike) -> None:
        """Write a JSON file, replacing an older one in one step."""
        import json  # here, because it takes milliseconds to import

        candidates = [{"accuracy": each.accuracy, **each.architecture.as_dict()} for each in self.candidates]
        text = json.dumps({"candidates": candidates, "epochs": self.history.epochs}, indent=1)
        write_atomically(as_path("SearchResult.save", path), lambda temporary: temporary.write_text(text))

    @classmethod
    def load(cls, path: PathLike) -> SearchResult:
        """Read what `save` wrote; ValueError if it is something else."""
        import json

        op = "SearchResult.load"
        with open(as_path(op, path)) as file:
            try:
                content = json.load(file)
                candidates = [
                    Candidate(architecture_from(each), as_number(op, "accuracy", each["accuracy"], 0, 1))
                    for each in content["candidates"]
                ]
                history = History(content["epochs"])
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise ValueError(f"{op}: {path!r} is not a saved search: {error}") from error
        if not candidates:
            raise ValueError(f"{op}: {path!r} is not a saved search: it has no candidate")
        return cls(candidates, history)


def search(
    space: Space | str,
    x: ArrayLike,
    y: ArrayLike,
    *,
    validation_data: tuple[ArrayLike, ArrayLike],
    epochs: int = 100,
    seconds: float | None = None,
    batch_size: int = 64,
    channels: int = 16,
    cells: int | None = None,
    learning_rate: float = 0.05,
    controller: Controller | None = None,
    controller_steps: int = 10,
    candidates: int = 30,
    seed: np.random.Generator | int | None = None,
    progress: bool = True,
) -> SearchResult:
    """Search for an architecture that does well on the validation data: ENAS (Pham et al. 2018).

    Parameters
    ----------
    space : Space, "micro" or "macro"
        What is searched; a name stands for the space of default size.
    x : ndarray of shape (N, C, H, W) or (N, H, W), float32, float64 or uint8
        Training images; bytes are divided by 255.
    y : array-like of int of shape (N,)
        Their classes.
    validation_data : (x, y)
        Held-out images and their classes, whose accuracy is the controller's reward.
    epochs : int, default 100
        Passes over the training data.
    seconds : float, optional
        End before that much time is over, but not before the controller has learnt in one epoch. The result then
        depends on the machine's speed, also for a given seed.
    batch_size : int, default 64
        Training images a step.
    channels, cells : int, default 16 and 1
        Width and depth of the children, as for `build`; no `cells` for the macro space.
    learning_rate : float, default 0.05
        Of the shared weights, at first; it falls along half a cosine to a fiftieth.
    controller : Controller, optional
        A new one, of the space's decisions; by default one with the default settings. It learns while it is used.
    controller_steps : int, default 10
        Steps of the controller after each epoch, each by 8 samples.
    candidates : int, default 30
        Architectures sampled in the end.
    seed : numpy.random.Generator, int or None
        Source of all that is random; with the same seed the result is the same for any number of threads.
    progress : bool, default True
        Whether to show a bar.

    Returns
    -------
    SearchResult
        Train its `best` anew: ``build(result.best, ...).fit(...)``.

    Raises
    ------
    TypeError, ValueError
        If the data do not belong together, or an argument is of another kind or out of range, before any work is done.
    FloatingPointError
        If the loss becomes NaN or infinite.

    Notes
    -----
    In each epoch every training batch trains the shared weights of one child that the controller sampled; then, from a
    third of the search on, the controller learns by batches of the validation data which children do well. Children
    normalise by the statistics of the batch they see, since running averages would be those of many children. In the
    end several children are sampled, and judged by all whole batches of the validation data. The shared weights learn
    by Nesterov's momentum, with weight decay 1e-4 and gradients no longer than 5.

    H. Pham, M. Guan, B. Zoph, Q. Le, J. Dean, Efficient neural architecture search via parameter sharing, ICML 2018.

    Examples
    --------
    >>> from cyconv import nas
    >>> from cyconv.data import digits
    >>> x, y = digits().train_x[:96], digits().train_y[:96]
    >>> held_out = digits().test_x[:64], digits().test_y[:64]
    >>> small = {"epochs": 1, "channels": 2, "controller_steps": 1, "candidates": 2, "progress": False}
    >>> result = nas.search(nas.MicroSpace(nodes=1), x, y, validation_data=held_out, seed=0, **small)
    >>> network = nas.build(result.best, input_shape=(1, 8, 8), num_classes=10, seed=0)
    """
    op = "search"
    chosen = as_space(op, space)
    rng = as_generator(op, seed, "seed")
    size = as_int(op, "batch_size", batch_size, 2)
    batches = _Data(op, x, y, size, rng)
    if not isinstance(validation_data, tuple) or len(validation_data) != 2:
        raise TypeError(f"{op}: `validation_data` must be a pair (x, y), got {type(validation_data).__name__}")
    held_out = _Data(f"{op}: validation_data", *validation_data, VALIDATION_BATCH, rng)
    if held_out.shape != batches.shape:
        raise ValueError(f"{op}: `validation_data` must have images of {batches.shape} as `x`, got {held_out.shape}")
    if cells is not None and isinstance(chosen, MacroSpace):
        raise ValueError(f"{op}: `cells` must be None for the macro space, got {brief(cells)}")
    if controller is None:
        controller = Controller(chosen.decisions, rng=rng)
    elif not isinstance(controller, Controller):
        raise TypeError(f"{op}: `controller` must be a Controller, got {brief(controller)}")
    elif list(controller.policy.decisions) != chosen.decisions:
        raise ValueError(f"{op}: `controller` must have the decisions of {chosen}")
    run = _Search(
        space=chosen,
        shared=SharedWeights(
            batches.shape[0],
            max(batches.classes, held_out.classes),
            as_int(op, "channels", channels),
            as_int(op, "cells", 1 if cells is None else cells),
            rng,
        ),
        controller=controller,
        optimizer=SGD(learning_rate, MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY),
        batches=batches,
        held_out=held_out,
    )
    total = as_int(op, "epochs", epochs)
    limit = None if seconds is None else as_number(op, "seconds", seconds, 0, open_minimum=True)
    steps, wanted = as_int(op, "controller_steps", controller_steps), as_int(op, "candidates", candidates)
    history = _epochs(run, total, limit, steps, as_bool(op, "progress", progress))
    return SearchResult(run.derive(wanted), history)


class _Data:
    """Images and classes, checked, and the batches that are drawn of them."""

    def __init__(self, op: str, x: Any, y: Any, batch_size: int, rng: np.random.Generator) -> None:
        images = as_array(op, "x", x)
        labels = as_int_array(op, "y", y, 1)
        if images.ndim not in (3, 4):
            raise ValueError(f"{op}: `x` must have shape (N, C, H, W) or (N, H, W), got {images.shape}")
        if len(images) < 2 or len(labels) != len(images):
            raise ValueError(
                f"{op}: there must be two images at least, and a class for each, got `x` of shape {images.shape} "
                f"and `y` of shape {labels.shape}"
            )
        if labels.min() < 0:
            raise ValueError(f"{op}: `y` must be classes from 0, got {labels.min()}")
        self.classes = int(labels.max()) + 1
        self.shape = images.shape[1:] if images.ndim == 4 else (1, *images.shape[1:])
        # A batch of one image has no statistics to normalise by: what is left of an epoch waits for the next.
        options: dict[str, Any] = {"shuffle": True, "rng": rng, "drop_last": True, "prefetch": 0}
        self._batches = Batches(images, labels, min(batch_size, len(images)), **options)
        self._endless = self._on_and_on()

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._batches)

    def _on_and_on(self) -> Iterator[Batch]:
        while True:
            yield from self._batches

    def next(self) -> Batch:
        """Return the next batch, after the last of an epoch the first of another."""
        return next(self._endless)


@dataclass
class _Search:
    """What takes part in a search, and what each does in turn."""

    space: Space
    shared: SharedWeights
    controller: Controller
    optimizer: SGD
    batches: _Data
    held_out: _Data
    loss: CrossEntropyLoss = field(default_factory=CrossEntropyLoss)

    def __post_init__(self) -> None:
        self.optimizer.add_hook(ClipNorm(LONGEST_GRADIENT))

    def train_weights(self) -> dict[str, float]:
        """Train a sampled child on each batch; return their mean loss and accuracy."""
        samples = self.controller.sample(len(self.batches))
        rows = []
        for choices, (x, y) in zip(samples, self.batches, strict=True):
            child = self.shared.child(self.space.architecture(choices))
            value, output = train_step(child, x, y, self.loss, self.optimizer)
            rows.append((value, accuracy(output, y)))
        loss, right = np.mean(rows, axis=0)
        return {"loss": float(loss), "accuracy": float(right)}

    def train_controller(self, steps: int) -> dict[str, float]:
        """Let the controller learn by sampled children's accuracy; return means, and the baseline in the end."""
        rows = []
        for _ in range(steps):
            choices = self.controller.sample(SAMPLES)
            batch = self.held_out.next()  # one for all: what differs is the children
            rewards = [self.judge(self.space.architecture(each), [batch]) for each in choices]
            rows.append((float(np.mean(rewards)), self.controller.update(choices, rewards)))
        reward, entropy = np.mean(rows, axis=0)
        return {"reward": float(reward), "baseline": float(self.controller.baseline or 0), "entropy": float(entropy)}

    def judge(self, architecture: Architecture, batches: Sequence[Batch]) -> float:
        """Return the mean accuracy of an architecture with the shared weights."""
        child = self.shared.child(architecture)
        shares = [accuracy(child.forward(x), y) for x, y in batches]  # in training mode: by the batch's statistics
        child.forget()
        return float(np.mean(shares))

    def derive(self, count: int) -> list[Candidate]:
        """Sample architectures and return them, the best first."""
        batches = list(self.held_out)
        sampled = dict.fromkeys(self.space.architecture(choices) for choices in self.controller.sample(count))
        found = [Candidate(architecture, self.judge(architecture, batches)) for architecture in sampled]
        return sorted(found, key=lambda candidate: -candidate.accuracy)


def _epochs(run: _Search, epochs: int, seconds: float | None, steps: int, progress: bool) -> History:
    """Let weights and controller take turns until all epochs are done, or no other would end in time."""
    from tqdm.auto import tqdm

    history, start, first, learnt = History(), time.perf_counter(), run.optimizer.learning_rate, False
    with tqdm(total=epochs, desc="search", unit=" epochs", disable=not progress) as bar:
        for epoch in range(epochs):
            used = time.perf_counter() - start
            if seconds is not None and epoch and used * (epoch + 1) / epoch > seconds and learnt:
                break
            done = max(epoch / epochs, 0 if seconds is None else used / seconds)
            run.optimizer.learning_rate = first * (LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * done)) / 2)
            logs = run.train_weights()
            if done >= WARM_UP or epochs == 1:
                logs |= run.train_controller(steps)
                learnt = True
            history.epochs.append({**logs, "seconds": time.perf_counter() - start - used})
            bar.set_postfix(logs, refresh=False)
            bar.update()
    return history
