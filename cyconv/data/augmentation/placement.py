"""Flips, crops and shifts: pixels get another place and keep their values."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import ArrayLike, NDArray

from cyconv._geometry import Pair, mirrored
from cyconv._validation import as_array, as_choice, as_image, as_number, as_pair
from cyconv.data.augmentation.transforms import Batch, Move, SpatialTransform, described

MODES = ("constant", "reflect")
Extent = int | tuple[int, int]


class RandomHorizontalFlip(SpatialTransform):
    """Exchange left and right in some of the images.

    Parameters
    ----------
    probability : float, default 0.5
        Of each image to be flipped.

    Raises
    ------
    TypeError, ValueError
        If `probability` is not a number from 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.data.augmentation import RandomHorizontalFlip
    >>> x, y = np.arange(3.0).reshape(1, 1, 1, 3), np.array([[[1, 0, 0]]])  # a class for each pixel
    >>> RandomHorizontalFlip(probability=1)(x, y, rng=0)
    (array([[[[2., 1., 0.]]]]), array([[[0, 0, 1]]]))
    """

    _axis = 2

    def __init__(self, probability: float = 0.5) -> None:
        self.probability = as_number(type(self).__name__, "probability", probability, 0, 1)

    def drawn(self, count: int, size: Pair, rng: np.random.Generator) -> Move:
        """Choose the images to flip."""
        chosen = rng.random(count) < self.probability

        def move(pixels: NDArray, smooth: bool) -> NDArray:
            whole = pixels.view((np.void, pixels.itemsize * pixels.shape[3]))  # to copy a pixel, not its channels
            moved = whole.copy()
            moved[chosen] = np.flip(whole[chosen], self._axis)
            return moved.view(pixels.dtype)

        return move


class RandomVerticalFlip(RandomHorizontalFlip):
    """Exchange top and bottom in some of the images.

    Parameters
    ----------
    probability : float, default 0.5
        Of each image to be flipped.

    Raises
    ------
    TypeError, ValueError
        If `probability` is not a number from 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.data.augmentation import RandomVerticalFlip
    >>> RandomVerticalFlip(probability=1)(np.array([[[[1.0], [2.0]]]]), [0], rng=0)[0].tolist()
    [[[[2.0], [1.0]]]]
    """

    _axis = 1


class RandomCrop(SpatialTransform):
    """Cut a piece out of each image, at a place of its own.

    Parameters
    ----------
    size : int or pair of ints
        Height and width of the pieces.
    padding : int or pair of ints, default 0
        Rows and columns added first, on both sides. With 4 and the images' own size it is what networks for CIFAR-10
        are trained with (Lee et al. 2015, He et al. 2016).
    mode : {"constant", "reflect"}, default "constant"
        What is added: zeros, or the image in a mirror at its edges. Targets of pixels are continued likewise.

    Raises
    ------
    TypeError, ValueError
        If a number is out of range; when called, if the padded images are smaller than `size`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.data.augmentation import RandomCrop
    >>> RandomCrop(2)(np.arange(16.0).reshape(1, 1, 4, 4), [0], rng=0)[0]
    array([[[[ 9., 10.],
             [13., 14.]]]])
    """

    def __init__(self, size: Extent, padding: Extent = 0, mode: str = "constant") -> None:
        self.size = as_pair("RandomCrop", "size", size)
        self.padding = as_pair("RandomCrop", "padding", padding, 0)
        self.mode = as_choice("RandomCrop", "mode", mode, MODES)

    def drawn(self, count: int, size: Pair, rng: np.random.Generator) -> Move:
        """Choose where to cut."""
        free = tuple(
            extent + 2 * padding - wanted for extent, padding, wanted in zip(size, self.padding, self.size, strict=True)
        )
        if min(free) < 0:
            raise ValueError(
                f"RandomCrop: `size` {self.size} is larger than the images, {size[0]}x{size[1]} with `padding` "
                f"{self.padding}"
            )
        return _Cut(self.size, self.padding, self.mode, *(rng.integers(most + 1, size=count) for most in free))


class RandomShift(SpatialTransform):
    """Move each image up or down and left or right by a number of pixels of its own.

    Parameters
    ----------
    most : int or pair of ints
        Rows and columns by which an image moves at most.
    mode : {"constant", "reflect"}, default "constant"
        What moves in: zeros, or the image in a mirror at its edges. Targets of pixels are continued likewise.

    Raises
    ------
    TypeError, ValueError
        If `most` is not an integer or a pair of them, or negative; or `mode` is another.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.data.augmentation import RandomShift
    >>> RandomShift((0, 2))(np.array([[[[1.0, 2.0, 3.0]]]]), [0], rng=4)[0]
    array([[[[2., 3., 0.]]]])
    """

    def __init__(self, most: Extent, mode: str = "constant") -> None:
        self.most = as_pair("RandomShift", "most", most, 0)
        self.mode = as_choice("RandomShift", "mode", mode, MODES)

    def drawn(self, count: int, size: Pair, rng: np.random.Generator) -> Move:
        """Choose how far to move."""
        return _Cut(size, self.most, self.mode, *(rng.integers(2 * most + 1, size=count) for most in self.most))


class _Cut:
    """A piece of each padded image."""

    def __init__(self, size: Pair, padding: Pair, mode: str, tops: NDArray[np.int64], lefts: NDArray[np.int64]) -> None:
        self.size, self.padding, self.mode, self.tops, self.lefts = size, padding, mode, tops, lefts

    def __call__(self, pixels: NDArray, smooth: bool) -> NDArray:
        padded = self._padded(pixels)
        N, H, W, C = padded.shape
        (OH, OW), (image, row, column, channel) = self.size, padded.strides
        # Every piece of every image, as a view: the pieces wanted are copied in one go.
        shape, strides = (N, H - OH + 1, W - OW + 1, OH, OW, C), (image, row, column, row, column, channel)
        return as_strided(padded, shape, strides, writeable=False)[np.arange(N), self.tops, self.lefts]

    def _padded(self, pixels: NDArray) -> NDArray:
        (N, H, W, C), (vertical, horizontal) = pixels.shape, self.padding
        if not vertical and not horizontal:
            return pixels
        if self.mode == "reflect":
            rows, columns = (
                mirrored(np.arange(-vertical, H + vertical), H),
                mirrored(np.arange(-horizontal, W + horizontal), W),
            )
            return pixels.take(rows, axis=1).take(columns, axis=2)
        padded = np.zeros((N, H + 2 * vertical, W + 2 * horizontal, C), pixels.dtype)
        padded[:, vertical : vertical + H, horizontal : horizontal + W] = pixels
        return padded


class CropTargets:
    """Cut the border off targets of pixels, for networks of valid convolutions, whose output lacks it.

    Parameters
    ----------
    border : int or pair of ints
        Rows above and below, columns left and right: 92 for the U-Net that makes 388x388 of 572x572.

    Raises
    ------
    TypeError, ValueError
        If `border` is not an integer or a pair of them, or negative; when called, if it leaves nothing.

    Examples
    --------
    Move image and classes together, with what lies around, and crop last:

    >>> import numpy as np
    >>> from cyconv.data.augmentation import Compose, CropTargets, RandomVerticalFlip
    >>> augment = Compose([RandomVerticalFlip(), CropTargets(92)])
    >>> x, y = augment(np.zeros((1, 1, 572, 572), np.float32), np.zeros((1, 572, 572), int), 0)
    >>> x.shape, y.shape
    ((1, 1, 572, 572), (1, 388, 388))
    """

    def __init__(self, border: Extent) -> None:
        self.border = as_pair("CropTargets", "border", border, 0)

    def __call__(self, x: ArrayLike, y: ArrayLike, rng: np.random.Generator | int | None = None) -> Batch:
        """Return the images as they are, and the middles of the targets."""
        images, targets = as_image("CropTargets", "x", x), as_array("CropTargets", "y", y)
        if targets.ndim not in (3, 4) or any(
            extent <= 2 * border for extent, border in zip(targets.shape[-2:], self.border, strict=True)
        ):
            raise ValueError(
                f"CropTargets: `y` must be (N, H, W) or (N, C, H, W) and larger than twice the border {self.border}, "
                f"got shape {targets.shape}"
            )
        (H, W), (vertical, horizontal) = targets.shape[-2:], self.border
        return images, targets[..., vertical : H - vertical, horizontal : W - horizontal]

    def __repr__(self) -> str:
        return described(self)
