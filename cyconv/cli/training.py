"""The commands that train a network, evaluate one and predict with one."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyconv import metrics, visualize
from cyconv._validation import as_int
from cyconv.cli import images, recipes
from cyconv.data import Dataset
from cyconv.layers import Conv2d
from cyconv.network import Network
from cyconv.optimizers import SGD, Adam, AdamW, Optimizer
from cyconv.schedules import CosineDecay, LinearDecay
from cyconv.training import Callback, History, Run

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


def train(options: argparse.Namespace) -> None:
    """Train a network; write its weights, history and figures."""
    out = options.out or Path("runs", f"{options.model}-{options.data}")
    as_int("train", "epochs", options.epochs)
    as_int("train", "batch_size", options.batch_size)
    shape = recipes.input_shape(options.model, options.data, options.channels, options.input_size)
    chosen = recipes.parse_options(options.option)
    data = images.load(options.data, options.root, shape)
    recipe = recipes.Recipe(options.model, shape, data.class_names, chosen, options.data)
    network = recipe.network(options.seed)
    optimizer = OPTIMIZERS[options.optimizer](**_given(options, "learning_rate", "weight_decay"))
    schedule = SCHEDULES[options.schedule](max(1, options.epochs))
    augment: list[Any] = images.fitting(data.train_x, shape)
    augment += [images.AUGMENTATIONS[name](shape[1:]) for name in options.augment]
    out.mkdir(parents=True, exist_ok=True)  # now, and not when the training would be lost
    print(network.summary())
    before = _first_filters(network)
    history = network.fit(
        data.train_x,
        data.train_y,
        epochs=options.epochs,
        batch_size=options.batch_size,
        optimizer=optimizer,
        validation_data=images.batches(data.test_x, data.test_y, shape),
        callbacks=[*schedule, NamesOfTest()],
        seed=options.seed,
        progress=True,
        augment=augment or None,
    )
    recipes.save(out / "weights.safetensors", network, recipe)
    history.save(out / "history.json")
    confusions = _confusions(network, data)
    _draw(out, history, before, _first_filters(network), confusions, data.class_names)
    _report(confusions)
    print(f"weights, history and figures are in {out}")


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
    data = images.load(name, options.root, recipe.input_shape, recipe.class_names)
    if data.class_names != recipe.class_names:
        raise ValueError(
            f"{options.weights} was trained on {recipe.data}, whose classes are not those of --data {name}"
        )
    _report(_confusions(network, data))


def predict(options: argparse.Namespace) -> None:
    """Print the class of each picture."""
    network, recipe = recipes.load(options.weights)
    pictures = np.stack([images.picture(path, recipe.input_shape, options.invert) for path in options.images])
    for path, probabilities in zip(options.images, network.predict_proba(pictures), strict=True):
        print(f"{path}: {recipe.class_names[probabilities.argmax()]} ({probabilities.max():.1%})")


def _first_filters(network: Network) -> NDArray:
    """Return a copy of the first convolution's weights."""
    first = next(layer for _, layer in network.walk() if isinstance(layer, Conv2d))
    return first.weight.data.copy()


def _confusions(network: Network, data: Dataset) -> NDArray[np.int64]:
    shape: Any = network.input_shape
    answers = [network.predict(x).argmax(axis=1) for x, _ in images.batches(data.test_x, data.test_y, shape)]
    return metrics.confusion_matrix(np.concatenate(answers), data.test_y, len(data.class_names))


def _report(confusions: NDArray[np.int64]) -> None:
    right, total = int(np.trace(confusions)), int(confusions.sum())
    print(f"test accuracy {right / max(total, 1):.4f} ({right} of {total})")
