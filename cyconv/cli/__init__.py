"""The command ``cyconv``: what this installation runs on; training, evaluating and using a network from the shell."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cyconv
import cyconv.data
import cyconv.layers
import cyconv.models
from cyconv import _cpu, _dispatch, memory, threads
from cyconv.cli.catalogue import show_models, show_summary
from cyconv.cli.images import AUGMENTATIONS, ROOTS, SIZES
from cyconv.cli.recipes import parse_size
from cyconv.cli.training import OPTIMIZERS, SCHEDULES, evaluate, predict, train
from cyconv.models.registry import facts, networks

BROKEN_PIPE = 141  # as shells say it of a program that SIGPIPE, 13, has ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    It is 0, 2 for a user's error (one line on stderr), 130 for Ctrl-C, or 141, in silence, where nobody reads on.
    """
    try:
        try:
            return _run(sys.argv[1:] if arguments is None else list(arguments))
        finally:
            sys.stdout.flush()  # here, where what goes wrong is noticed
    except BrokenPipeError:
        with contextlib.suppress(OSError):  # what is left to be written goes nowhere, and so does Python's complaint
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _run(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    options.arguments = arguments
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            if getattr(options, "threads", None) is not None:
                threads.set_num_threads(options.threads)
            options.command(options)
    except BrokenPipeError:
        raise
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print("cyconv: error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print("cyconv:", *stop.args or ["interrupted"], file=sys.stderr)
        return 130
    return 0


def _show_warning(message: Warning | str, *details: Any) -> None:
    print("cyconv: warning:", " ".join(str(message).split()), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cyconv", description="Train and run convolutional networks on the CPU.")
    parser.add_argument("--version", action="version", version=f"cyconv {cyconv.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(function: Callable, name: str, summary: str) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=summary, description=summary)
        subparser.set_defaults(command=function)
        return subparser

    command(_info, "info", "Show the version, instruction sets, OpenMP, threads and memory.")
    command(show_models, "models", "List the networks: parameters, multiply-adds, input and output, paper.")
    summary = command(show_summary, "summary", "Show the layers of a network.")
    training = command(train, "train", "Train a network; write its weights, history and figures.")
    evaluation = command(evaluate, "evaluate", "Show the accuracy of trained weights on test images.")
    prediction = command(predict, "predict", "Classify image files.")

    default = " (default: %(default)s)"
    summary.add_argument("model", type=_network, metavar="NETWORK", help="a name that `cyconv models` lists")
    summary.add_argument("--classes", type=int, help="number of classes (default: the network's own)")
    add = training.add_argument
    add("--model", type=_classifier, metavar="NETWORK", default="lenet5", help=f"see `cyconv models`{default}")
    add("--epochs", type=int, default=20, help=f"passes over the training images{default}")
    add("--batch-size", type=int, default=16, help=f"images a step{default}")
    add("--optimizer", choices=OPTIMIZERS, default="adam", help=f"rule of the steps{default}")
    add("--learning-rate", type=float, help="size of the steps (default: one that suits the optimizer)")
    add("--weight-decay", type=float, help="pull of the weights towards zero (default: the optimizer's)")
    add("--schedule", choices=SCHEDULES, default="linear", help=f"how the learning rate falls{default}")
    add("--augment", choices=AUGMENTATIONS, nargs="+", default=[], help="random changes of the training images")
    add("--seed", type=int, default=0, help=f"of the initial weights, the shuffling and augmentation{default}")
    fits = "how images of another shape come to the network's: cut off on both sides, or squeezed"
    add("--fit", choices=("crop", "stretch"), default="crop", help=f"{fits}{default}")
    background = "colour or grey level behind transparent pictures"
    add("--background", default="white", metavar="COLOR", help=f"{background}{default}")
    add("--invert", action="store_true", help="train on images with light and dark exchanged")
    add("--resume", action="store_true", help="go on from the checkpoint in --out, where training was stopped")
    add("--out", type=Path, help="folder for the results (default: runs/NETWORK-DATA)")
    for subparser in (summary, training):
        size = "height and width of the network's input (default: the network's own%s)"
        if_small = ", or those of the data where the network is for small images" if subparser is training else ""
        subparser.add_argument("--input-size", type=parse_size, metavar="N or HxW", help=size % if_small)
        subparser.add_argument("--channels", type=int, help="its channels, 1 for grey, 3 for colour (default: its own)")
        keyword = "argument of the network's function in cyconv.models, such as width=8; may be repeated"
        subparser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help=keyword)
    training.add_argument("--data", choices=SIZES, default="digits", help=f"images{default}")
    evaluation.add_argument("--data", choices=SIZES, help="images (default: those that the weights were trained on)")
    for subparser in (training, evaluation):
        roots = "; ".join(f"of {name}, {what}" for name, what in ROOTS.items())
        subparser.add_argument("--root", type=Path, help=f"where the data is: {roots}")
    for subparser in (evaluation, prediction):
        subparser.add_argument("--weights", type=Path, required=True, help="file that `cyconv train` wrote")
    for subparser in (training, evaluation, prediction):
        on_error = f"whether damaged pictures are an error, or left out with a warning{default}"
        subparser.add_argument("--on-error", choices=("raise", "skip"), default="raise", help=on_error)
        subparser.add_argument("--threads", type=int, help="threads to use (default: see `cyconv info`)")
    inverted = "the images are dark on light, unlike those trained on"
    prediction.add_argument("--invert", action="store_true", help=inverted)
    prediction.add_argument("--background", metavar="COLOR", help=f"{background} (default: as in training)")
    prediction.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="files that Pillow reads")
    return parser


def _network(name: str) -> str:
    if name not in networks():
        raise argparse.ArgumentTypeError(f"there is no network {name!r}; `cyconv models` lists them")
    return name


def _classifier(name: str) -> str:
    if not facts(_network(name)).classifies:
        raise argparse.ArgumentTypeError(f"{name} does not give the classes of images, which the data sets here have")
    return name


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
