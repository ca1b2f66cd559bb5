"""Images for the command line: data sets by name, and pictures, each in the shape that a network takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyconv.data import Batches, Dataset, cifar10, cifar100, digits, emnist, image_folder, mnist, split
from cyconv.data.augmentation import ColorJitter, Cutout, RandomCrop, RandomHorizontalFlip, RandomRotation, RandomShift
from cyconv.data.pictures import Preparation

# Height and width of each data set's images; those of a folder are read at any.
DIGITS = 28
SIZES = {"digits": DIGITS, "mnist": 28, "emnist": 28, "cifar10": 32, "cifar100": 32, "folder": None}
ROOTS = {
    "mnist": "the folder with its four files",
    "emnist": "the folder with the four files of its balanced part",
    "cifar10": "the folder with its batches",
    "cifar100": "the folder with its files train and test",
    "folder": "a folder with a folder of images for each class, or with two such folders, train and test",
}
# Zeros around a digit, as MNIST's have. With them LeNet-5, trained by the command's defaults from 6 seeds, had 350 to
# 353 of the 355 test images right, without them 347 to 352.
BORDER = 4
MOST_NUMBERS = 2**23  # in a batch of inputs that is evaluated: the memory of large images stays bounded

# By name, for images of a height and width.
AUGMENTATIONS: dict[str, Any] = {
    "flip": lambda size: RandomHorizontalFlip(),
    "crop": lambda size: RandomCrop(size, padding=max(size) // 8),
    "shift": lambda size: RandomShift(max(1, max(size) // 14)),
    "rotate": lambda size: RandomRotation(10),
    "color": lambda size: ColorJitter(brightness=0.2, contrast=0.2),
    "cutout": lambda size: Cutout(max(1, max(size) // 4)),
}


def load(
    name: str,
    root: Path | None,
    preparation: Preparation,
    class_names: Sequence[str] | None = None,
    on_error: str = "raise",
) -> Dataset:
    """Return a data set; images of a folder in the size wanted, of the classes named, others in their own."""
    if root is None and name != "digits":
        raise ValueError(f"--data {name} needs --root, {ROOTS[name]}")
    data = _loaded(name, root, preparation, class_names, on_error)
    if preparation.invert:
        data = data._replace(train_x=255 - data.train_x, test_x=255 - data.test_x)
    return data


def _loaded(name: str, root: Any, preparation: Preparation, class_names: Any, on_error: str) -> Dataset:
    if name == "digits":
        data = digits(DIGITS - 2 * BORDER)
        return data._replace(train_x=_framed(data.train_x), test_x=_framed(data.test_x))
    if name == "folder":
        return _from_folder(root, preparation, class_names, on_error)
    return {"mnist": mnist, "emnist": emnist, "cifar10": cifar10, "cifar100": cifar100}[name](root)


def _framed(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(images, ((0, 0), (0, 0), (BORDER, BORDER), (BORDER, BORDER)))


def _from_folder(root: Path, preparation: Preparation, class_names: Sequence[str] | None, on_error: str) -> Dataset:
    """Return the images of a folder; without a folder for tests every fifth image or so is one, always the same."""
    options: dict[str, Any] = {**preparation._asdict(), "invert": False, "on_error": on_error, "progress": True}
    options["class_names"] = class_names
    if all((root / part).is_dir() for part in ("train", "test")):
        train = image_folder(root / "train", **options)
        test = image_folder(root / "test", **{**options, "class_names": train.class_names})
        return Dataset(train.x, train.y, test.x, test.y, train.class_names)
    every = image_folder(root, **options)
    (train_x, train_y), (test_x, test_y) = split(every.x, every.y, (0.8, 0.2), stratify=True, rng=0)
    return Dataset(train_x, train_y, test_x, test_y, every.class_names)


class Fit:
    """A transform that brings images of a data set to a network's channels and size.

    Parameters
    ----------
    preparation : Preparation
        What is done.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.cli.images import Fit
    >>> from cyconv.data.pictures import Preparation
    >>> Fit(Preparation((32, 32)))(np.zeros((2, 1, 28, 28), np.float32), np.arange(2))[0].shape
    (2, 3, 32, 32)
    """

    def __init__(self, preparation: Preparation) -> None:
        self.preparation = preparation

    def __call__(self, x: NDArray, y: NDArray, rng: Any = None) -> tuple[NDArray, NDArray]:
        """Return such images, and their targets as they are."""
        return self.preparation.apply(x), y


def check_channels(preparation: Preparation) -> None:
    """Raise unless pictures can have the channels that are needed."""
    if preparation.channels not in (1, 3):
        raise ValueError(
            f"the network takes images of {preparation.channels} channels, but these are grey or coloured: 1 or 3"
        )


def fitting(images: NDArray, preparation: Preparation) -> list[Fit]:
    """Return the transform that brings images, inverted already, to a network's shape, or none where they have it."""
    if images.shape[1:] == (preparation.channels, *preparation.size):
        return []
    check_channels(preparation)
    return [Fit(preparation._replace(invert=False))]


def batches(images: NDArray, labels: NDArray, preparation: Preparation) -> Batches:
    """Return images and labels in batches to be evaluated by a network that takes images so prepared."""
    size = min(256, max(1, MOST_NUMBERS // (preparation.channels * math.prod(preparation.size))))
    return Batches(images, labels, size, augment=fitting(images, preparation) or None)
