"""Search for an architecture, train the best one anew, and compare it with random ones trained the same way.

python examples/nas.py --data mnist --root path/to/mnist --space micro --minutes 15 --out runs/nas

With --epochs and --training-epochs low enough that the time is not used up, the result depends on the seed alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cyconv import nas
from cyconv.data import Dataset, digits, mnist
from cyconv.optimizers import Adam
from cyconv.schedules import LinearDecay

MNIST_IMAGES = 3000  # of the 60,000 training images, drawn at random, and each averaged over 2x2 pixels, to 14x14:
# the whole would leave time for few epochs.
VALIDATION_SHARE = 0.25
SEARCH_SHARE = 0.5  # of the time; the rest trains six networks
CHANNELS = 16
RANDOM = 5
ROWS = 12  # of the search's history that are printed
TRAINING = {"batch_size": 64, "progress": False}


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, search, train, compare."""
    options = arguments(argv)
    start, limit = time.perf_counter(), 60 * options.minutes
    data = load(options)
    space = nas.MicroSpace() if options.space == "micro" else nas.MacroSpace()
    options.out.mkdir(parents=True, exist_ok=True)

    cut = int(len(data.train_x) * (1 - VALIDATION_SHARE))
    result = nas.search(
        space,
        data.train_x[:cut],
        data.train_y[:cut],
        validation_data=(data.train_x[cut:], data.train_y[cut:]),
        epochs=options.epochs,
        seconds=SEARCH_SHARE * limit,
        channels=CHANNELS,
        seed=options.seed,
    )
    result.save(options.out / "search.json")
    report(result)
    nas.draw(result.best).savefig(options.out / "best.png")

    architectures = [result.best, *(space.sample(1000 * options.seed + i) for i in range(RANDOM))]
    epochs = options.training_epochs
    if epochs is None:
        epochs = affordable_epochs(architectures, data, limit - (time.perf_counter() - start))
    print(f"\n{epochs} epochs of training from scratch on {len(data.train_x):,} images, test accuracy:", flush=True)
    accuracies = []
    for i, architecture in enumerate(architectures):
        network = trained(architecture, data, epochs, seed=options.seed)
        size = sum(parameter.size for parameter in network.parameters().values())
        accuracies.append(network.evaluate(data.test_x, data.test_y)["accuracy"])
        print(f"{f'random {i}' if i else 'the best found':<16}{accuracies[-1]:.4f}  {size:,} parameters", flush=True)
    found, others = accuracies[0], accuracies[1:]
    print(f"found {found:.4f}, mean of {RANDOM} random ones {np.mean(others):.4f} (best {max(others):.4f})")
    print(f"{(time.perf_counter() - start) / 60:.1f} minutes; search.json and best.png are in {options.out}")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = " (default: %(default)s)"
    parser.add_argument("--space", choices=["micro", "macro"], default="micro", help=f"what is searched{default}")
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits", help=f"images{default}")
    parser.add_argument("--root", type=Path, help="folder with MNIST's four files")
    parser.add_argument("--minutes", type=float, default=15, help=f"for all of it{default}")
    parser.add_argument("--epochs", type=int, default=1000, help=f"most epochs of the search{default}")
    most = "epochs of each network's training (default: as many as there is time for)"
    parser.add_argument("--training-epochs", type=int, help=most)
    parser.add_argument("--seed", type=int, default=0, help=f"of all that is random{default}")
    parser.add_argument("--out", type=Path, default=Path("runs/nas"), help=f"folder for the results{default}")
    options = parser.parse_args(argv)
    if options.data == "mnist" and options.root is None:
        parser.error("--data mnist needs --root, the folder with its four files")
    if options.minutes <= 0:
        parser.error("--minutes must be above 0")
    return options


def load(options: argparse.Namespace) -> Dataset:
    """Return the data, training images in a random order."""
    data = digits() if options.data == "digits" else halved(mnist(options.root))
    chosen = np.random.default_rng(options.seed).permutation(len(data.train_x))[:MNIST_IMAGES]
    return data._replace(train_x=data.train_x[chosen], train_y=data.train_y[chosen])


def halved(data: Dataset) -> Dataset:
    """Return the images at half their height and width."""

    def smaller(images: np.ndarray) -> np.ndarray:
        N, C, H, W = images.shape
        return images.reshape(N, C, H // 2, 2, W // 2, 2).mean(axis=(3, 5), dtype=np.float32) / 255

    return data._replace(train_x=smaller(data.train_x), test_x=smaller(data.test_x))


def report(result: nas.SearchResult) -> None:
    """Print how the search went and what it found."""
    history = result.history
    names = ["loss", "accuracy", "reward", "baseline", "entropy"]
    print("\nepoch" + "".join(f"{name:>10}" for name in names))
    for row in sorted({*np.linspace(0, len(history) - 1, ROWS).astype(int)}):
        print(f"{row + 1:>5}" + "".join(f"{history.epochs[row].get(name, float('nan')):>10.4f}" for name in names))
    print(f"\nthe best of {len(result.candidates)} samples, validation accuracy with shared weights "
          f"{result.candidates[0].accuracy:.4f}:\n{result.best}", flush=True)  # fmt: skip


def affordable_epochs(architectures: list[nas.Architecture], data: Dataset, seconds: float) -> int:
    """Return how many epochs each may be trained for so that all are ready in time."""
    start = time.perf_counter()
    for architecture in architectures:
        trained(architecture, data, epochs=1, seed=0).evaluate(data.test_x, data.test_y)
    used = time.perf_counter() - start
    return max(1, int((seconds - used) / used))


def trained(architecture: nas.Architecture, data: Dataset, epochs: int, seed: int):
    """Return a network of this architecture, trained from scratch."""
    network = nas.build(architecture, data.train_x.shape[1:], len(data.class_names), channels=CHANNELS, seed=seed)
    network.fit(data.train_x, data.train_y, epochs=epochs, optimizer=Adam(0.003), callbacks=[LinearDecay()], **TRAINING)
    return network


if __name__ == "__main__":
    main()
