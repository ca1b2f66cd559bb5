"""What a transform of a batch is, and several in a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv._geometry import Pair
from cyconv._validation import FLOATS, as_array, as_generator, as_image, brief

Batch = tuple[NDArray, NDArray]
Transform = Callable[[NDArray, NDArray, "np.random.Generator"], Batch]  # np.random takes long to import
Move = Callable[[NDArray, bool], NDArray]
NHWC, NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


class Compose:
    """Transforms in a row, as one.

    Parameters
    ----------
    transforms : iterable of callables
        Each takes images (N, C, H, W), their targets, and a generator, and returns images and targets.

    Raises
    ------
    TypeError
        If one cannot be called.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.data.augmentation import Compose, RandomCrop, RandomHorizontalFlip
    >>> augment = Compose([RandomHorizontalFlip(), RandomCrop(32, padding=4)])
    >>> x, y = augment(np.ones((8, 3, 32, 32), np.float32), np.arange(8), np.random.default_rng(0))
    >>> x.shape
    (8, 3, 32, 32)
    """

    def __init__(self, transforms: Iterable[Transform]) -> None:
        if isinstance(transforms, str) or not isinstance(transforms, Iterable):
            raise TypeError(f"Compose: `transforms` must be a sequence of transforms, got {transforms!r}")
        self.transforms = tuple(transforms)
        for transform in self.transforms:
            check_transform("Compose", "transforms", transform)

    def __call__(self, x: ArrayLike, y: ArrayLike, rng: np.random.Generator | int | None = None) -> Batch:
        """Return the images and targets that come out at the end."""
        images, targets, generator = (
            as_array("Compose", "x", x),
            as_array("Compose", "y", y),
            as_generator("Compose", rng),
        )
        for transform in self.transforms:
            images, targets = transform(images, targets, generator)
        return images, targets

    def __repr__(self) -> str:
        return f"Compose([{', '.join(map(repr, self.transforms))}])"


def check_transform(op: str, name: str, value: Any) -> None:
    """Raise unless `value` can be called; of a class, most likely, an instance is meant."""
    if isinstance(value, type) or not callable(value):
        hint = "; call the class to make one" if isinstance(value, type) else ""
        raise TypeError(f"{op}: `{name}` must be transforms, callables of (x, y, rng), got {brief(value)}{hint}")


def as_transform(op: str, value: Any) -> Transform | None:
    """Return a transform, several in a row as one, or None."""
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        for each in value:
            check_transform(op, "augment", each)
        return Compose(value)
    check_transform(op, "augment", value)
    return value


class PixelTransform:
    """A transform of the colours of images; their targets stay."""

    def __call__(self, x: ArrayLike, y: ArrayLike, rng: np.random.Generator | int | None = None) -> Batch:
        """Return new images, and the targets."""
        op = type(self).__name__
        pixels, targets = _channels_last(as_image(op, "x", x)), as_array(op, "y", y)
        return self.transformed(pixels, as_generator(op, rng)).transpose(NCHW), targets

    def transformed(self, pixels: NDArray, rng: np.random.Generator) -> NDArray:
        """Return new pixels, [N, H, W, C]."""
        raise NotImplementedError(f"{type(self).__name__}: `transformed` is not written")

    def __repr__(self) -> str:
        return described(self)


class SpatialTransform:
    """A transform that moves pixels: those of images, and those of targets that have as many."""

    def __call__(self, x: ArrayLike, y: ArrayLike, rng: np.random.Generator | int | None = None) -> Batch:
        """Return new images, and targets that still fit them."""
        op = type(self).__name__
        pixels, targets = _channels_last(as_image(op, "x", x)), as_array(op, "y", y)
        if targets.ndim > 2 and (targets.ndim > 4 or targets.shape[-2:] != pixels.shape[1:3]):
            raise ValueError(
                f"{op}: `y` must be a row for each image, or have the size of the images, "
                f"{pixels.shape[1]}x{pixels.shape[2]}, got shape {targets.shape}"
            )
        move = self.drawn(len(pixels), pixels.shape[1:3], as_generator(op, rng))
        moved = move(pixels, True).transpose(NCHW)
        if targets.ndim < 3:
            return moved, targets
        smooth = targets.dtype.newbyteorder("=") in FLOATS  # classes have nothing between them
        if targets.ndim == 3:
            return moved, move(np.ascontiguousarray(targets)[..., np.newaxis], smooth)[..., 0]
        return moved, move(_channels_last(targets), smooth).transpose(NCHW)

    def drawn(self, count: int, size: Pair, rng: np.random.Generator) -> Move:
        """Return a function of pixels [N, H, W, C], and whether they may be mixed, that returns those pixels moved."""
        raise NotImplementedError(f"{type(self).__name__}: `drawn` is not written")

    def __repr__(self) -> str:
        return described(self)


def _channels_last(images: NDArray) -> NDArray:
    """Return the C-contiguous [N, H, W, C] array of an (N, C, H, W) one."""
    return np.ascontiguousarray(images.transpose(NHWC))


def described(transform: Any) -> str:
    """Return a transform as the call that makes it."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in vars(transform).items())
    return f"{type(transform).__name__}({arguments})"
