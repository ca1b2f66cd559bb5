"""The commands that train a network, evaluate one and predict with one."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyconv import metrics, visualize
from cyconv._validation import as_int
from cyconv.cli import images, recipes
from cyconv.data import Dataset
from cyconv.data.pictures import Preparation, as_color, read_pictures
from cyconv.layers import Conv2d
from cyconv.network import Network
from cyconv.optimizers import SGD, Adam, AdamW, Optimizer
from cyconv.schedules import CosineDecay, LinearDecay
from cyconv.training import Callback, Checkpoint, History, Run

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": partial(SGD, learning_rate=0.03),
    "momentum": partial(SGD, learning_rate=0.005, momentum=0.9),
    "adam": partial(Adam, learning_rate=0.002),
    "adamw": partial(AdamW, learning_rate=0.002),
}
# How the learning rate falls over a number of epochs.
SCHEDULES: dict[str, Callable[[int], list[Callback]]] = {
    "linear": lambda epochs: [LinearDecay()],
    "cosine": lambda epochs: [CosineDecay(epochs)],
    "constant": lambda epochs: [],
}


CHECKPOINT = "checkpoint.safetensors"


class NamesOfTest(Callback):
    """Call the figures of the test images what they are; `fit` calls what it evaluates validation.

    Nothing is chosen by them: the training goes on to its end and its last weights are kept.
    """

    def on_epoch_end(self, run: Run) -> None:
        """Rename them, in the record and for the progress bar, which comes later."""
        run.logs = {_test_name(name): value for name, value in run.logs.items()}
        run.history.epochs[-1] = {_test_name(name): value for name, value in run.history.epochs[-1].items()}


def _test_name(name: str) -> str:
    return f"test_{name.removeprefix('val_')}" if name.startswith("val_") else name


class SameCommand(Callback):
    """Lets a run be resumed with the arguments of its command only; they are kept in its checkpoint.

    Of those that change its numbers: more epochs, other threads, and data that was moved elsewhere are no matter.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings

    def state_dict(self) -> dict[str, Any]:
        """Return the arguments as text."""
        return {name: str(value) for name, value in self.settings.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raise if those of the checkpoint are others."""
        now = self.state_dict()
        others = [f"{name} {state.get(name)} (now {now[name]})" for name in now if state.get(name) != now[name]]
        if others:
            raise ValueError(f"it was trained with {', '.join(others)}")


class KeptCheckpoint(Checkpoint):
    """A checkpoint after each epoch, which knows of which epoch it is."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.epoch = 0

    def on_train_begin(self, run: Run) -> None:
        """Note the epoch of the file that a run is resumed from."""
        super().on_train_begin(run)
        self.epoch = run.epoch

    def on_epoch_end(self, run: Run) -> None:
        """Write the file."""
        super().on_epoch_end(run)
        self.epoch = run.epoch


def train(options: argparse.Namespace) -> None:
    """Train a network; write its weights, history and figures, and a checkpoint after each epoch."""
    out = options.out or Path("runs", f"{options.model}-{options.data}")
    as_int("train", "epochs", options.epochs)
    as_int("train", "batch_size", options.batch_size)
    shape = recipes.input_shape(options.model, options.data, options.channels, options.input_size)
    chosen = recipes.parse_options(options.option)
    background = as_color("train", "--background", _level(options.background))
    recipe = recipes.Recipe(options.model, shape, (), chosen, options.data, options.fit, background, options.invert)
    data = images.load(options.data, options.root, recipe.preparation, on_error=options.on_error)
    recipe = recipe._replace(class_names=data.class_names)
    network = recipe.network(options.seed)
    optimizer = OPTIMIZERS[options.optimizer](**_given(options, "learning_rate", "weight_decay"))
    schedule = SCHEDULES[options.schedule](max(1, options.epochs))
    augment: list[Any] = images.fitting(data.train_x, recipe.preparation)
    augment += [images.AUGMENTATIONS[name](shape[1:]) for name in options.augment]
    out.mkdir(parents=True, exist_ok=True)  # now, and not when the training would be lost
    print(network.summary())
    before = _first_filters(network)
    checkpoint = KeptCheckpoint(out / CHECKPOINT)
    names = ("batch_size", "optimizer", "learning_rate", "weight_decay", "schedule", "augment", "seed")
    settings = {**recipe.metadata(), **{name: getattr(options, name) for name in names}, "images": len(data.train_x)}
    interrupted = False
    try:
        network.fit(
            data.train_x,
            data.train_y,
            epochs=options.epochs,
            batch_size=options.batch_size,
            optimizer=optimizer,
            validation_data=images.batches(data.test_x, data.test_y, recipe.preparation),
            callbacks=[SameCommand(settings), *schedule, NamesOfTest(), checkpoint],
            seed=options.seed,
            resume=checkpoint.path if options.resume else None,
            progress=True,
            augment=augment or None,
        )
    except KeyboardInterrupt:
        if not checkpoint.epoch:
            raise KeyboardInterrupt("interrupted before an epoch was finished; nothing is written") from None
        interrupted = True
    history: Any = network.history
    if interrupted:
        network.load(checkpoint.path)
        history.epochs = history.epochs[: checkpoint.epoch]
    recipes.save(out / "weights.safetensors", network, recipe)
    history.save(out / "history.json")
    confusions = _confusions(network, data, recipe.preparation)
    _draw(out, history, before, _first_filters(network), confusions, data.class_names)
    if interrupted:
        arguments = [*options.arguments, *([] if options.resume else ["--resume"])]
        raise KeyboardInterrupt(
            f"interrupted after {checkpoint.epoch} of {options.epochs} epochs; they are in {out}; to go on: "
            f"{shlex.join(['cyconv', *arguments])}"
        )
    _report(confusions)
    print(f"weights, history and figures are in {out}")


def _level(text: str) -> Any:
    """Return a grey level that was written as a number as one, or the name of a colour."""
    return int(text) if text.isdecimal() else text


def _given(options: argparse.Namespace, *names: str) -> dict[str, float]:
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _draw(
    out: Path, history: History, before: NDArray, after: NDArray, confusions: NDArray, class_names: tuple[str, ...]
) -> None:
    """Write the figures, unless matplotlib is missing."""
    try:
        figures = {
            "learning-curves.png": visualize.learning_curves(history),
            "filters.png": visualize.filters(before, after),
            "confusion-matrix.png": visualize.confusion_matrix(confusions, class_names),
        }
    except ImportError as error:
        print(f"no figures: {error}")
    else:
        for name, figure in figures.items():
            figure.savefig(out / name)


def evaluate(options: argparse.Namespace) -> None:
    """Print the accuracy of trained weights."""
    network, recipe = recipes.load(options.weights)
    name = options.data or recipe.data
    data = images.load(name, options.root, recipe.preparation, recipe.class_names, options.on_error)
    if data.class_names != recipe.class_names:
        raise ValueError(
            f"{options.weights} was trained on {recipe.data}, whose classes are not those of --data {name}"
        )
    _report(_confusions(network, data, recipe.preparation))


def predict(options: argparse.Namespace) -> None:
    """Print the class of each picture."""
    network, recipe = recipes.load(options.weights)
    preparation = recipe.preparation._replace(invert=recipe.invert != options.invert)
    images.check_channels(preparation)
    if options.background is not None:
        preparation = preparation._replace(background=as_color("predict", "--background", _level(options.background)))
    pixels, read = read_pictures("predict", options.images, preparation, options.on_error)
    for number, probabilities in zip(read, network.predict_proba(pixels.transpose(0, 3, 1, 2)), strict=True):
        name = recipe.class_names[probabilities.argmax()]
        print(f"{options.images[number]}: {name} ({probabilities.max():.1%})")


def _first_filters(network: Network) -> NDArray:
    """Return a copy of the first convolution's weights."""
    first = next(layer for _, layer in network.walk() if isinstance(layer, Conv2d))
    return first.weight.data.copy()


def _confusions(network: Network, data: Dataset, preparation: Preparation) -> NDArray[np.int64]:
    from tqdm import tqdm

    batches = images.batches(data.test_x, data.test_y, preparation)
    bar = tqdm(batches, "testing", leave=False, disable=None, unit=" batches")
    answers = [network.predict(x).argmax(axis=1) for x, _ in bar]
    return metrics.confusion_matrix(np.concatenate(answers), data.test_y, len(data.class_names))


def _report(confusions: NDArray[np.int64]) -> None:
    right, total = int(np.trace(confusions)), int(confusions.sum())
    print(f"test accuracy {right / max(total, 1):.4f} ({right} of {total})")
