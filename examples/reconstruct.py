"""Reconstruct digits: train a deconvolution network to draw a digit again from a few numbers.

    python examples/reconstruct.py --out runs/reconstruct                # the bundled digits, under a minute
    python examples/reconstruct.py --root path/to/mnist --epochs 3 --out runs/reconstruct

Between the two halves of the network stand `--hidden` numbers, and the positions that its poolings recorded. Writes
weights.safetensors and reconstruct.png.
"""

import argparse
from pathlib import Path

import numpy as np

from cyconv.data import digits, mnist
from cyconv.models import deconvnet
from cyconv.optimizers import Adam
from cyconv.schedules import CosineDecay


def draw(path, originals, rebuilt):
    """Write a picture of digits, with what the network made of each below it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), layout="constrained")
    rows = figure.subplots(4, 12)
    for pair in (0, 2):
        for k in range(12):
            for axes, image in zip(rows[pair : pair + 2, k], (originals, rebuilt), strict=True):
                axes.imshow(image[6 * pair + k, 0], cmap="gray", vmin=0, vmax=1)
                axes.set(xticks=[], yticks=[])
        rows[pair, 0].set_ylabel("original")
        rows[pair + 1, 0].set_ylabel("rebuilt")
    figure.savefig(path, dpi=100)


def main(arguments=None):
    """Train and reconstruct held-out digits; return the share of their variance that is lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="folder of MNIST's files; default: the bundled digits")
    parser.add_argument("--out", default="runs/reconstruct", type=Path, help="folder to write to; default: %(default)s")
    parser.add_argument("--epochs", default=20, type=int, help="default: %(default)s")
    parser.add_argument("--hidden", default=16, type=int, help="numbers between the halves; default: %(default)s")
    parser.add_argument("--widths", default=[16, 32], type=int, nargs="+", help="channels; default: 16 32")
    parser.add_argument("--seed", default=0, type=int)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)

    data = mnist(options.root) if options.root else digits(size=28)
    train, held_out = (images.astype(np.float32) / 255 for images in (data.train_x, data.test_x))
    network = deconvnet(
        num_classes=1,
        in_channels=1,
        widths=options.widths,
        convolutions=[1] * len(options.widths),
        hidden=options.hidden,
        input_size=28,
        seed=options.seed,
    )
    network.fit(
        train,
        train,  # the target is the image itself
        epochs=options.epochs,
        batch_size=32,
        optimizer=Adam(0.005),
        loss="mse",
        validation_data=(held_out, held_out),
        callbacks=[CosineDecay(options.epochs)],
    )
    network.save(options.out / "weights.safetensors")

    rebuilt = network.predict(held_out)
    draw(options.out / "reconstruct.png", held_out, rebuilt)
    error = np.mean((rebuilt - held_out) ** 2)
    lost = error / np.mean((held_out - train.mean(axis=0)) ** 2)
    print(f"held-out digits: mean squared error {error:.5f}, {lost:.1%} of the variance is lost")
    return float(lost)


if __name__ == "__main__":
    main()
