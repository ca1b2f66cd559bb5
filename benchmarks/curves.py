"""Learning curves from the same initial weights: cyconv exact and fast, PyTorch, and cyconv with other shuffles.

The last are the measure of what a difference means: curves closer than these are to each other are the same curve.

    python -m benchmarks.curves --data mnist --root MNIST --epochs 3
    python -m benchmarks.curves --data cifar10 --root CIFAR10 --images 10000 --epochs 4 --json FILE --plot FILE
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import cyconv
from cyconv import models
from cyconv.data import Dataset, cifar10, mnist
from cyconv.losses import CrossEntropyLoss
from cyconv.metrics import accuracy
from cyconv.optimizers import SGD
from cyconv.training import train_step

LEARNING_RATE, MOMENTUM = 0.02, 0.9
OTHER_SHUFFLES = 2
NETWORKS: dict[str, tuple[str, Callable[[], cyconv.Network]]] = {  # PyTorch's name in torch_networks, and ours
    "mnist": ("LeNet-5", lambda: models.lenet5(input_size=32, seed=0)),
    "cifar10": ("ResNet-20", lambda: models.resnet20(shortcut="projection", seed=0)),
}
Step = Callable[[NDArray, NDArray], float]
Predict = Callable[[NDArray], NDArray]


def prepared(images: NDArray) -> NDArray:
    """Return images of 32x32 as floats around zero."""
    border = (32 - images.shape[2]) // 2
    framed = np.pad(images, ((0, 0), (0, 0), (border, border), (border, border)))
    return (framed.astype(np.float32) / 255 - 0.45) / 0.25


def with_cyconv(name: str) -> tuple[Step, Predict]:
    """Return what trains a step and what predicts."""
    network, loss, optimizer = NETWORKS[name][1](), CrossEntropyLoss(), SGD(LEARNING_RATE, momentum=MOMENTUM)

    def step(x: NDArray, y: NDArray) -> float:
        network.train()
        return train_step(network, x, y, loss, optimizer)[0]

    return step, lambda x: network.eval().predict(x)


def with_torch(name: str) -> tuple[Step, Predict]:
    """Return the same in PyTorch, from the same weights."""
    import torch

    from benchmarks.libraries.torch_networks import NETWORKS as THEIRS

    ours = NETWORKS[name][1]()
    network = THEIRS[NETWORKS[name][0]](ours.input_shape[0], 10)
    theirs = network.state_dict()
    for key, array in zip(theirs, ours.state_dict().values(), strict=True):  # in the same order, shapes are checked
        theirs[key] = torch.from_numpy(np.array(array)).reshape(theirs[key].shape)
    network.load_state_dict(theirs)
    torch.set_num_threads(cyconv.get_num_threads())
    optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE, MOMENTUM)

    def step(x: NDArray, y: NDArray) -> float:
        network.train()
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        return loss.item()

    def predict(x: NDArray) -> NDArray:
        network.eval()
        with torch.inference_mode():
            return np.concatenate([network(torch.from_numpy(part)).numpy() for part in np.array_split(x, 8)])

    return step, predict


def curve(library: tuple[Step, Predict], data: Dataset, epochs: int, batch_size: int, seed: int, title: str) -> dict:
    """Train; return the loss of every step and the test accuracy after every epoch."""
    step, predict = library
    rng, losses, accuracies = np.random.default_rng(seed), [], []
    test = prepared(data.test_x)
    for _ in range(epochs):
        order = rng.permutation(len(data.train_x))
        starts: Iterator[int] = tqdm(range(0, len(order) - batch_size + 1, batch_size), desc=title, leave=False)
        for start in starts:
            rows = order[start : start + batch_size]
            losses.append(step(prepared(data.train_x[rows]), data.train_y[rows]))
        accuracies.append(accuracy(predict(test), data.test_y))
    return {"losses": losses, "accuracies": accuracies}


def curves(name: str, data: Dataset, epochs: int, batch_size: int) -> dict[str, dict]:
    """Return all curves."""

    def train(library: Callable[[str], tuple[Step, Predict]], title: str, seed: int = 0) -> dict:
        return curve(library(name), data, epochs, batch_size, seed, title)

    found = {}
    for title, exact in (("cyconv, exact", True), ("cyconv", False)):
        before = cyconv.is_exact()
        cyconv.exact(exact)
        try:
            found[title] = train(with_cyconv, title)
        finally:
            cyconv.exact(before)
    try:
        found["PyTorch"] = train(with_torch, "PyTorch")
    except ImportError as error:
        print(f"PyTorch: not available: {error}")
    for seed in range(1, 1 + OTHER_SHUFFLES):
        found[f"cyconv, shuffle {seed}"] = train(with_cyconv, f"cyconv, shuffle {seed}", seed)
    return found


def report(found: dict[str, dict], epochs: int) -> str:
    """Return the mean loss and the test accuracy of each epoch, a line a curve."""
    lines = ["", f"{'':<20}" + "".join(f"  epoch {epoch + 1}: loss, test" for epoch in range(epochs))]
    for title, values in found.items():
        means = [float(np.mean(part)) for part in np.array_split(values["losses"], epochs)]
        cells = [f"{mean:>14.4f} {share:>7.2%}" for mean, share in zip(means, values["accuracies"], strict=True)]
        lines.append(f"{title:<20}" + " ".join(cells))
    return "\n".join(lines)


def plot(found: dict[str, dict], title: str, path: Path) -> None:
    """Draw the losses, smoothed over some steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, values in found.items():
        other = "shuffle" in name
        smooth = np.convolve(values["losses"], np.full(20, 1 / 20), "valid")
        axes.plot(smooth, label=name, color="0.7" if other else None, zorder=1 if other else 2, linewidth=1.2)
    axes.set(title=title, xlabel="step", ylabel="training loss, mean of 20 steps", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Parse arguments, train, print, save."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.curves", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=NETWORKS, required=True, help="LeNet-5 on MNIST or ResNet-20 on CIFAR-10")
    parser.add_argument("--root", type=Path, required=True, help="folder with the data set's files")
    parser.add_argument("--images", type=int, help="training images (default: all)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--json", type=Path, help="write all values")
    parser.add_argument("--plot", type=Path, help="write a picture (PNG)")
    arguments = parser.parse_args()
    readers: dict[str, Callable[[Any], Dataset]] = {"mnist": mnist, "cifar10": cifar10}
    data = readers[arguments.data](arguments.root)
    data = data._replace(train_x=data.train_x[: arguments.images], train_y=data.train_y[: arguments.images])
    found = curves(arguments.data, data, arguments.epochs, arguments.batch_size)
    print(report(found, arguments.epochs))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))
    if arguments.plot:
        plot(found, f"{NETWORKS[arguments.data][0]} on {len(data.train_x)} images", arguments.plot)


if __name__ == "__main__":
    main()
