"""The command ``cyconv``: what this installation runs on; training, evaluating and using a network from the shell."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import cyconv
from cyconv import _cpu, _dispatch, memory, metrics, threads, visualize
from cyconv.data import Dataset, digits, mnist
from cyconv.layers import Conv2d
from cyconv.models import lenet5, simple_convnet
from cyconv.network import Network
from cyconv.optimizers import SGD, Adam, AdamW, Optimizer
from cyconv.schedules import LinearDecay
from cyconv.serialization import load_arrays, save_arrays
from cyconv.training import Callback, Run

IMAGE_SIZE = 28  # of every model here, so that each takes either data set
# Zeros around a digit, as MNIST's have. With them LeNet-5, trained by the defaults below from 6 seeds, had 350 to 353
# of the 355 test images right, without them 347 to 352.
BORDER = 4
MODELS: dict[str, Callable[..., Network]] = {
    "lenet5": partial(lenet5, input_size=IMAGE_SIZE),
    "simple_convnet": simple_convnet,
}
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": partial(SGD, learning_rate=0.03),
    "momentum": partial(SGD, learning_rate=0.005, momentum=0.9),
    "adam": partial(Adam, learning_rate=0.002),
    "adamw": partial(AdamW, learning_rate=0.002),
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, 2 for a user's error (one line on stderr), 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        if getattr(options, "threads", None) is not None:
            threads.set_num_threads(options.threads)
        options.command(options)
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print("cyconv: error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("cyconv: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cyconv", description="Train and run convolutional networks on the CPU.")
    parser.add_argument("--version", action="version", version=f"cyconv {cyconv.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(function, name: str, summary: str) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=summary, description=summary)
        subparser.set_defaults(command=function)
        return subparser

    command(_info, "info", "Show the version, instruction sets, OpenMP, threads and memory.")
    train = command(_train, "train", "Train a network; write its weights, history and figures.")
    evaluate = command(_evaluate, "evaluate", "Show the accuracy of trained weights on test images.")
    predict = command(_predict, "predict", "Classify image files.")

    default = " (default: %(default)s)"
    train.add_argument("--model", choices=MODELS, default="lenet5", help=f"network{default}")
    train.add_argument("--epochs", type=int, default=20, help=f"passes over the training images{default}")
    train.add_argument("--batch-size", type=int, default=16, help=f"images a step{default}")
    train.add_argument("--optimizer", choices=OPTIMIZERS, default="adam", help=f"rule of the steps{default}")
    train.add_argument("--learning-rate", type=float, help="size of the steps (default: one that suits the optimizer)")
    train.add_argument("--seed", type=int, default=0, help=f"of the initial weights and the shuffling{default}")
    train.add_argument("--out", type=Path, help="folder for the results (default: runs/MODEL-DATA)")
    for subparser in (train, evaluate):
        subparser.add_argument("--data", choices=["digits", "mnist"], default="digits", help=f"images{default}")
        subparser.add_argument("--root", type=Path, help="folder with MNIST's four files")
    for subparser in (evaluate, predict):
        subparser.add_argument("--weights", type=Path, required=True, help="file that `cyconv train` wrote")
    for subparser in (train, evaluate, predict):
        subparser.add_argument("--threads", type=int, help="threads to use (default: see `cyconv info`)")
    inverted = "the images are dark on light, unlike those trained on"
    predict.add_argument("--invert", action="store_true", help=inverted)
    predict.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="files that Pillow reads")
    return parser


def _info(options: argparse.Namespace) -> None:
    used = memory.statistics()
    rows = {
        "version": cyconv.__version__,
        "instruction sets": f"{_dispatch.ISA} in use; built: {', '.join(_dispatch.BUILT)}; "
        f"usable here: {', '.join(_dispatch.USABLE)}",
        "OpenMP": f"{_cpu.OPENMP_VERSION}, {'safe' if _cpu.FORK_SAFE else 'not safe'} to fork"
        if _cpu.OPENMP_VERSION
        else "none (serial build)",
        "threads": f"{threads.get_num_threads()} ({threads.source()}); placement: {threads.placement()}",
        "memory": f"{used['used']} bytes in arrays, {used['cached']} kept for reuse, "
        f"limit {'automatic' if used['limit'] is None else used['limit']}",
    }
    for name, value in rows.items():
        print(f"{name:<18}{value}")


def _train(options: argparse.Namespace) -> None:
    out = options.out or Path("runs", f"{options.model}-{options.data}")
    data = _load_data(options)
    network = MODELS[options.model](seed=options.seed)
    given = {} if options.learning_rate is None else {"learning_rate": options.learning_rate}
    optimizer = OPTIMIZERS[options.optimizer](**given)
    out.mkdir(parents=True, exist_ok=True)  # now, and not when the training would be lost
    print(network.summary())
    before = _first_filters(network)
    history = network.fit(
        data.train_x,
        data.train_y,
        epochs=options.epochs,
        batch_size=options.batch_size,
        optimizer=optimizer,
        validation_data=(data.test_x, data.test_y),
        callbacks=[LinearDecay(), NamesOfTest()],
        seed=options.seed,
        progress=True,
    )
    metadata = {"model": options.model, "input_size": str(IMAGE_SIZE)}
    save_arrays(out / "weights.safetensors", network.state_dict(), metadata)
    history.save(out / "history.json")
    confusions = _confusions(network, data)
    try:
        figures = {
            "learning-curves.png": visualize.learning_curves(history),
            "filters.png": visualize.filters(before, _first_filters(network)),
            "confusion-matrix.png": visualize.confusion_matrix(confusions, data.class_names),
        }
    except ImportError as error:
        print(f"no figures: {error}")
    else:
        for name, figure in figures.items():
            figure.savefig(out / name)
    _report(confusions)
    print(f"weights, history and figures are in {out}")


def _evaluate(options: argparse.Namespace) -> None:
    network = _load_network(options.weights)
    _report(_confusions(network, _load_data(options)))


def _predict(options: argparse.Namespace) -> None:
    network = _load_network(options.weights)
    images = np.stack([_read_image(path, options.invert) for path in options.images])
    for path, probabilities in zip(options.images, network.predict_proba(images), strict=True):
        print(f"{path}: {probabilities.argmax()} ({probabilities.max():.1%})")


def _load_data(options: argparse.Namespace) -> Dataset:
    if options.data == "digits":
        data = digits(IMAGE_SIZE - 2 * BORDER)
        return data._replace(train_x=_frame(data.train_x), test_x=_frame(data.test_x))
    if options.root is None:
        raise ValueError("--data mnist needs --root, the folder with its four files")
    return mnist(options.root)


def _frame(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(images, ((0, 0), (0, 0), (BORDER, BORDER), (BORDER, BORDER)))


def _load_network(path: Path) -> Network:
    """Return the network that the file's metadata names, with the file's weights."""
    arrays, metadata = load_arrays(path)
    if metadata.get("model") not in MODELS:
        raise ValueError(f"{path} does not name its model ({' or '.join(MODELS)}), as files of `cyconv train` do")
    network = MODELS[metadata["model"]]()
    try:
        network.load_state_dict(arrays)
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error
    return network


def _read_image(path: Path, invert: bool) -> NDArray[np.uint8]:
    """Return the image in grey levels at the networks' size, [1, H, W]."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('`cyconv predict` needs Pillow: pip install "cyconv[image]"') from error
    try:
        with Image.open(path) as image:
            levels = np.asarray(image.convert("L").resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR))
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: {error}") from error
    return (255 - levels if invert else levels)[np.newaxis]


def _first_filters(network: Network) -> NDArray:
    """Return a copy of the first convolution's weights."""
    first = next(layer for _, layer in network.walk() if isinstance(layer, Conv2d))
    return first.weight.data.copy()


def _confusions(network: Network, data: Dataset) -> NDArray[np.int64]:
    return metrics.confusion_matrix(network.predict(data.test_x), data.test_y, len(data.class_names))


def _report(confusions: NDArray[np.int64]) -> None:
    right, total = int(np.trace(confusions)), int(confusions.sum())
    print(f"test accuracy {right / max(total, 1):.4f} ({right} of {total})")
