"""Images for the command line: data sets by name, and pictures, each in the shape that a network takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyconv import functional as F
from cyconv.data import Batches, Dataset, cifar10, digits, image_folder, mnist, split
from cyconv.data.augmentation import ColorJitter, Cutout, RandomCrop, RandomHorizontalFlip, RandomRotation, RandomShift
from cyconv.data.folders import read_image
from cyconv.layers.base import Shape

# Height and width of each data set's images; those of a folder are read at any.
DIGITS = 28
SIZES = {"digits": DIGITS, "mnist": 28, "cifar10": 32, "folder": None}
ROOTS = {
    "mnist": "the folder with its four files",
    "cifar10": "the folder with its batches",
    "folder": "a folder with a folder of images for each class, or with two such folders, train and test",
}
# Zeros around a digit, as MNIST's have. With them LeNet-5, trained by the command's defaults from 6 seeds, had 350 to
# 353 of the 355 test images right, without them 347 to 352.
BORDER = 4
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in grey: ITU-R BT.601, as Pillow's
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


def load(name: str, root: Path | None, shape: Shape, class_names: Sequence[str] | None = None) -> Dataset:
    """Return a data set; images of a folder in the given shape, of the classes named, others in their own."""
    if name == "digits":
        data = digits(DIGITS - 2 * BORDER)
        return data._replace(train_x=_framed(data.train_x), test_x=_framed(data.test_x))
    if root is None:
        raise ValueError(f"--data {name} needs --root, {ROOTS[name]}")
    if name == "folder":
        return _from_folder(root, shape, class_names)
    return {"mnist": mnist, "cifar10": cifar10}[name](root)


def _framed(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(images, ((0, 0), (0, 0), (BORDER, BORDER), (BORDER, BORDER)))


def _from_folder(root: Path, shape: Shape, class_names: Sequence[str] | None) -> Dataset:
    """Return the images of a folder; without a folder for tests every fifth image or so is one, always the same."""
    channels, *size = shape
    options: dict[str, Any] = {"size": tuple(size), "channels": channels, "class_names": class_names}
    if all((root / part).is_dir() for part in ("train", "test")):
        train = image_folder(root / "train", **options)
        test = image_folder(root / "test", **{**options, "class_names": train.class_names})
        return Dataset(train.x, train.y, test.x, test.y, train.class_names)
    every = image_folder(root, **options)
    (train_x, train_y), (test_x, test_y) = split(every.x, every.y, (0.8, 0.2), stratify=True, rng=0)
    return Dataset(train_x, train_y, test_x, test_y, every.class_names)


class Fit:
    """A transform that brings images to a network's channels and size: grey or coloured, interpolated bilinearly.

    Parameters
    ----------
    channels : {1, 3}
        Grey, or red, green and blue.
    size : pair of ints
        Height and width.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.cli.images import Fit
    >>> Fit(3, (32, 32))(np.zeros((2, 1, 28, 28), np.float32), np.arange(2))[0].shape
    (2, 3, 32, 32)
    """

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        self.channels, self.size = channels, size

    def __call__(self, x: NDArray, y: NDArray, rng: Any = None) -> tuple[NDArray, NDArray]:
        """Return such images, and their targets as they are."""
        if x.shape[1] == 3 and self.channels == 1:
            x = np.tensordot(np.array([LUMA], x.dtype), x, (1, 1)).swapaxes(0, 1)  # [N, 3, H, W] -> [N, 1, H, W]
        if x.shape[2:] != self.size:
            x = F.interpolate(x, self.size, mode="bilinear")
        return (np.repeat(x, 3, axis=1) if (x.shape[1], self.channels) == (1, 3) else x), y


def fitting(images: NDArray, shape: Shape) -> list[Fit]:
    """Return the transform that brings images to a shape, or none where they have it."""
    channels, height, width = shape
    if images.shape[1:] == shape:
        return []
    if channels not in (1, 3):
        raise ValueError(f"the network takes images of {channels} channels, but these are grey or coloured: 1 or 3")
    return [Fit(channels, (height, width))]


def batches(images: NDArray, labels: NDArray, shape: Shape) -> Batches:
    """Return images and labels in batches to be evaluated by a network that takes images of a shape."""
    size = min(256, max(1, MOST_NUMBERS // int(np.prod(shape))))
    return Batches(images, labels, size, augment=fitting(images, shape) or None)


def picture(path: Path, shape: Shape, invert: bool) -> NDArray[np.uint8]:
    """Return the picture in a file in the shape that a network takes, [C, H, W]."""
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise ImportError('`cyconv predict` needs Pillow: pip install "cyconv[image]"') from error
    channels, height, width = shape
    pixels = read_image("predict", path, (height, width), channels, crops=False).transpose(2, 0, 1)
    return 255 - pixels if invert else pixels
