"""Find digits on a canvas: train a network that says which digit there is, and draws a box around it.

    python examples/boxes.py --out runs/boxes                # the bundled digits, about a minute
    python examples/boxes.py --root path/to/mnist --out runs/boxes

Each canvas of 64x64 pixels shows one digit, of any size from a quarter to two thirds of it, anywhere, among scraps of
others and noise. Held-out canvases show digits that training has not seen. Writes weights.safetensors and boxes.png.
"""

import argparse
from pathlib import Path

import numpy as np

from cyconv import boxes
from cyconv import functional as F
from cyconv.data import digits, mnist
from cyconv.models import box_regressor
from cyconv.optimizers import Adam
from cyconv.schedules import CosineDecay

SIZE = 64
SMALLEST, LARGEST = 16, 42  # of a digit's longer side, in pixels
SCRAPS, SCRAP = 4, 8  # how many pieces of other digits, and their height and width
CANVAS = np.array([0.0, 0.0, SIZE, SIZE], np.float32)  # the proposal: the network sees all of it


def cut_out(image):
    """Return the part of a digit's image that has ink."""
    rows, columns = (np.flatnonzero((image > 64).any(axis=axis)) for axis in (1, 0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def resized(image, longer):
    """Return a digit with a longer side of so many pixels."""
    factor = longer / max(image.shape)
    size = tuple(max(round(extent * factor), 3) for extent in image.shape)
    return F.interpolate(image[np.newaxis, np.newaxis].astype(np.float32), size, mode="bilinear")[0, 0]


def place(canvas, piece, rng):
    """Put a piece somewhere on a canvas, the brighter of the two in each pixel; return its box."""
    height, width = piece.shape
    top, left = rng.integers(SIZE - height + 1), rng.integers(SIZE - width + 1)
    part = canvas[top : top + height, left : left + width]
    np.maximum(part, piece, out=part)
    return left, top, left + width, top + height


def canvases(images, labels, count, rng):
    """Return `count` canvases of shape (1, 64, 64), the digits on them, and their boxes (left, top, right, bottom)."""
    cut = [cut_out(image[0]) for image in images]
    chosen = rng.integers(len(cut), size=count)
    x, where = np.empty((count, 1, SIZE, SIZE), np.uint8), np.empty((count, 4), np.float32)
    for canvas, box, digit in zip(x[:, 0], where, chosen, strict=True):
        drawn = rng.normal(20, 20, (SIZE, SIZE)).astype(np.float32)
        for other in rng.integers(len(cut), size=SCRAPS):
            scrap = resized(cut[other], rng.integers(SMALLEST, LARGEST + 1))
            top, left = (rng.integers(max(extent - SCRAP, 0) + 1) for extent in scrap.shape)
            place(drawn, scrap[top : top + SCRAP, left : left + SCRAP], rng)
        box[:] = place(drawn, resized(cut[digit], rng.integers(SMALLEST, LARGEST + 1)), rng)
        canvas[:] = drawn.clip(0, 255)
    return x, labels[chosen], where


def draw(path, x, labels, found_labels, truth, found):
    """Write a picture of canvases with their true boxes in green and those that were found in orange."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(12, 8), layout="constrained")
    for axes, *shown in zip(figure.subplots(4, 6).flat, x, labels, found_labels, truth, found, strict=False):
        image, label, found_label, *both = shown
        axes.imshow(image[0], cmap="gray", extent=(0, SIZE, SIZE, 0))
        for (left, top, right, bottom), colour in zip(both, ("limegreen", "orange"), strict=True):
            axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color=colour, linewidth=1.5))
        overlap = float(boxes.iou(*both))
        said = f"{found_label}" if label == found_label else f"{found_label}, not {label}"
        axes.set_title(f"{said} (IoU {overlap:.2f})", color="black" if label == found_label else "red", size=10)
        axes.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=100)


def main(arguments=None):
    """Draw canvases, train, and show what was found; return the mean intersection over union."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="folder of MNIST's files; default: the bundled digits")
    parser.add_argument("--out", default="runs/boxes", type=Path, help="folder to write to; default: %(default)s")
    parser.add_argument("--epochs", default=12, type=int, help="default: %(default)s")
    parser.add_argument("--canvases", default=8000, type=int, help="for training, in each epoch; default: %(default)s")
    parser.add_argument("--held-out", default=1000, type=int, help="default: %(default)s")
    parser.add_argument("--width", default=16, type=int, help="channels of the first stage; default: %(default)s")
    parser.add_argument("--seed", default=0, type=int)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)

    data = mnist(options.root) if options.root else digits()
    rng = np.random.default_rng(options.seed)
    print(f"drawing {options.canvases} and {options.held_out} canvases")
    train_x, train_labels, train_boxes = canvases(data.train_x, data.train_y, options.canvases, rng)
    test_x, test_labels, test_boxes = canvases(data.test_x, data.test_y, options.held_out, rng)

    network = box_regressor(width=options.width, seed=options.seed)
    network.fit(
        train_x,
        boxes.targets(train_labels, train_boxes, CANVAS),
        epochs=options.epochs,
        batch_size=64,
        optimizer=Adam(0.002),
        loss=boxes.BoxLoss(weight=5.0, beta=0.1),
        validation_data=(test_x, boxes.targets(test_labels, test_boxes, CANVAS)),
        callbacks=[CosineDecay(options.epochs)],
    )
    network.save(options.out / "weights.safetensors")

    labels, found = boxes.detect(network.predict(test_x), CANVAS)
    overlaps = boxes.iou(found, test_boxes)
    draw(options.out / "boxes.png", test_x, test_labels, labels, test_boxes, found)
    print(f"held-out canvases: mean IoU {overlaps.mean():.3f}, {np.mean(overlaps > 0.5):.1%} above 0.5")
    print(f"held-out canvases: digits {np.mean(labels == test_labels):.1%} right")
    return float(overlaps.mean())


if __name__ == "__main__":
    main()
