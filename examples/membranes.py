"""Find the membranes between cells: train U-Net or FCN-8s on electron-microscope images.

    python examples/membranes.py --root path/to/membrane/train --out runs/unet
    python examples/membranes.py --root path/to/membrane/train --network fcn8s --out runs/fcn8s

The folder has images and their masks, `image/NUMBER.png` and `label/NUMBER.png`, of 512x512 pixels: those of the ISBI
2012 challenge (Cardona et al. 2010), 30 of them. The last five are held out. Training sees random pieces, deformed and
flipped; whole images are predicted by overlapping tiles. Needs Pillow and matplotlib. Writes weights.safetensors,
curves.png and a picture of each held-out image.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from cyconv import metrics, models, visualize
from cyconv.data import predict_tiled
from cyconv.data.augmentation import (
    Compose,
    CropTargets,
    ElasticTransform,
    RandomCrop,
    RandomHorizontalFlip,
    RandomVerticalFlip,
)
from cyconv.losses import CrossEntropyLoss
from cyconv.optimizers import Adam
from cyconv.schedules import CosineDecay

CLASSES = ["membrane", "cell"]
RARE = [2.0, 1.0]  # weights: a fifth of the pixels are membrane
HELD_OUT = 5

# How each network is built, on which tiles it is trained, and how many pixels those overlap by that it predicts: as
# many as the padded U-Net sees around a pixel (FCN-8s sees more, but little of it counts), none without padding.
NETWORKS = {
    "unet": {"tile": 188, "overlap": 0, "build": lambda w, seed: unet("valid", w, seed)},  # gives the middle, 100x100
    "unet-same": {"tile": 128, "overlap": 104, "build": lambda w, seed: unet("same", w, seed)},
    "fcn8s": {
        "tile": 128,
        "overlap": 128,
        "build": lambda w, seed: models.fcn8s(2, 1, width=w, hidden=16 * w, dropout=0.2, input_size=None, seed=seed),
    },
}


def unet(padding, width, seed):
    """Return a U-Net of three levels."""
    return models.unet(padding=padding, depth=3, width=width, batch_norm=True, input_size=None, seed=seed)


def read(folder):
    """Return the images and masks in a folder, in the order of their numbers: bytes, and classes 0 and 1."""
    from PIL import Image

    paths = sorted((folder / "image").glob("*.png"), key=lambda path: int(path.stem))
    if len(paths) <= HELD_OUT:
        raise SystemExit(f"{folder / 'image'} has {len(paths)} images; more than {HELD_OUT} are needed")
    images, masks = [], []
    for path in paths:
        for pictures, source in ((images, path), (masks, folder / "label" / path.name)):
            with Image.open(source) as picture:
                pictures.append(np.asarray(picture.convert("L")))
    return np.stack(images)[:, np.newaxis], (np.stack(masks) > 127).astype(np.int64)


def main(arguments=None):
    """Train and predict the held-out images; return their accuracy and intersection over union."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True, type=Path, help="folder with image/ and label/")
    parser.add_argument("--network", default="unet", choices=NETWORKS, help="default: %(default)s")
    parser.add_argument("--out", default="runs/membranes", type=Path, help="folder to write to; default: %(default)s")
    parser.add_argument("--epochs", default=15, type=int, help="default: %(default)s")
    parser.add_argument("--pieces", default=8, type=int, help="of each image, in an epoch; default: %(default)s")
    parser.add_argument("--width", default=12, type=int, help="channels of the first level; default: %(default)s")
    parser.add_argument("--learning-rate", default=0.002, type=float, help="default: %(default)s")
    parser.add_argument("--seed", default=0, type=int)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)

    images, masks = read(options.root)
    chosen = NETWORKS[options.network]
    network, tile = chosen["build"](options.width, options.seed), chosen["tile"]
    border = (tile - network.output_shape((1, tile, tile))[1]) // 2
    augment = [
        RandomCrop(tile + 16),
        ElasticTransform(deviation=4),
        RandomCrop(tile),
        RandomHorizontalFlip(),
        RandomVerticalFlip(),
    ]
    train = np.repeat(np.arange(len(images) - HELD_OUT), options.pieces)
    start = time.perf_counter()
    history = network.fit(
        images[train],
        masks[train],
        epochs=options.epochs,
        batch_size=4,
        optimizer=Adam(options.learning_rate),
        loss=CrossEntropyLoss(weight=RARE),
        augment=Compose([*augment, CropTargets(border)]),
        callbacks=[CosineDecay(options.epochs)],
    )
    seconds = time.perf_counter() - start
    network.save(options.out / "weights.safetensors")
    visualize.learning_curves(history).savefig(options.out / "curves.png")

    held_out, truth = images[-HELD_OUT:], masks[-HELD_OUT:]
    scores = predict_tiled(network, held_out, tile=2 * tile if border == 0 else tile + 200, overlap=chosen["overlap"])
    found = scores.argmax(axis=1)
    for number, (image, classes, right) in enumerate(zip(held_out, found, truth, strict=True)):
        visualize.segmentation(image, classes, right, CLASSES).savefig(options.out / f"held-out-{number}.png")
    accuracy, overlaps = metrics.accuracy(scores, truth), metrics.iou(scores, truth, average=None)
    print(f"{sum(parameter.size for parameter in network.parameters().values()):,} parameters, {seconds:.0f} s")
    print(f"held-out images: {accuracy:.2%} of the pixels right, IoU of membranes {overlaps[0]:.3f}, of cells ", end="")
    print(f"{overlaps[1]:.3f}, mean {overlaps.mean():.3f}")
    return accuracy, float(overlaps.mean())


if __name__ == "__main__":
    main()
