"""Brightness, contrast, saturation, cut-out and normalisation: pixels keep their places and get other values."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv._validation import as_array, as_float_array, as_number, as_pair, as_rows, brief
from cyconv.data.augmentation.placement import Extent
from cyconv.data.augmentation.transforms import PixelTransform

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
PIECE = 1 << 20  # numbers looked at together


class ColorJitter(PixelTransform):
    """Change brightness, contrast, saturation and the channels of each image by factors of its own.

    Parameters
    ----------
    brightness, contrast, saturation, channels : float, default 0
        Strengths: a factor is drawn between max(0, 1 - strength) and 1 + strength, for `channels` one for each channel.

    Raises
    ------
    TypeError, ValueError
        If a strength is negative; when called, if `saturation` meets images that have not three channels.

    Notes
    -----
    In this order, with `grey` the sum of red, green and blue by the weights 0.299, 0.587 and 0.114, or the mean of the
    channels where there are not three: ``x = b * x``; ``x = mean(grey) + c * (x - mean(grey))``;
    ``x = grey + s * (x - grey)``; ``x = f * x``. Values are not clipped.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.data.augmentation import ColorJitter
    >>> x, y = ColorJitter(brightness=0.2)(np.full((2, 1, 1, 1), 0.5), [0, 1], rng=0)
    >>> x.ravel().round(3).tolist()
    [0.527, 0.454]
    """

    def __init__(self, brightness: float = 0, contrast: float = 0, saturation: float = 0, channels: float = 0) -> None:
        self.brightness = as_number("ColorJitter", "brightness", brightness, 0)
        self.contrast = as_number("ColorJitter", "contrast", contrast, 0)
        self.saturation = as_number("ColorJitter", "saturation", saturation, 0)
        self.channels = as_number("ColorJitter", "channels", channels, 0)

    def transformed(self, pixels: NDArray, rng: np.random.Generator) -> NDArray:
        """Change the colours."""
        N, _, _, C = pixels.shape
        if self.saturation and C != 3:
            raise ValueError(f"ColorJitter: `saturation` needs images of three channels, got {C}")
        b, c, s = (_factors(strength, (N, 1), rng) for strength in (self.brightness, self.contrast, self.saturation))
        factors = b * _factors(self.channels, (N, C), rng)
        luma = np.array(LUMA if C == 3 else [1 / C] * C)
        # Together: factors * (c * s * x + c * (1 - s) * grey + (1 - c) * mean(grey))
        mean = (_channel_means(pixels) * luma).sum(axis=1, keepdims=True) if self.contrast else np.zeros((N, 1))
        changed = _scaled(pixels, factors * c * s, factors * (1 - c) * mean)
        if self.saturation:
            grey = np.einsum("nhwc,c->nhw", pixels, luma.astype(pixels.dtype))
            share = (factors * c * (1 - s)).astype(pixels.dtype)
            for channel in range(C):
                changed[..., channel] += grey * share[:, channel, np.newaxis, np.newaxis]
        return changed


class Cutout(PixelTransform):
    """Set a rectangle of each image to zero, at a place of its own.

    Parameters
    ----------
    size : int or pair of ints
        Height and width of the rectangle.

    Raises
    ------
    TypeError, ValueError
        If `size` is not an integer or a pair of them, or not positive.

    Notes
    -----
    The middle is any pixel of the image, so the rectangle may lie partly outside. Zero is the mean of images that have
    been normalised before. T. DeVries, G. W. Taylor, Improved regularization of convolutional neural networks with
    cutout, 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.data.augmentation import Cutout
    >>> Cutout(2)(np.ones((1, 1, 4, 4)), [0], rng=0)[0]
    array([[[[1., 1., 1., 1.],
             [1., 1., 1., 1.],
             [1., 0., 0., 1.],
             [1., 0., 0., 1.]]]])
    """

    def __init__(self, size: Extent) -> None:
        self.size = as_pair("Cutout", "size", size)

    def transformed(self, pixels: NDArray, rng: np.random.Generator) -> NDArray:
        """Cut out."""
        N = len(pixels)
        within = []
        for extent, size in zip(pixels.shape[1:3], self.size, strict=True):
            start = rng.integers(extent, size=(N, 1)) - size // 2
            within.append((np.arange(extent) >= start) & (np.arange(extent) < start + size))
        rest = pixels.copy()
        rest[within[0][:, :, np.newaxis] & within[1][:, np.newaxis]] = 0
        return rest


class Normalize(PixelTransform):
    """Subtract a mean from each channel, and divide by a standard deviation.

    Parameters
    ----------
    mean, std : float or array-like of C numbers
        Of the channels, in the units of a network's input: bytes count from 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If they are not finite numbers, or `std` is not positive; when called, if the images have not so many channels.

    Notes
    -----
    What a network was trained on it has to be given later too: `apply` does the same for `Network.predict`, and
    validation data can be ``Batches(x, y, 256, augment=normalize)``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.data.augmentation import Normalize
    >>> images = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
    >>> normalize = Normalize.of(images)
    >>> normalize.apply(images).std(axis=(0, 2, 3)).round(5)
    array([1., 1., 1.], dtype=float32)
    """

    def __init__(self, mean: ArrayLike, std: ArrayLike) -> None:
        self.mean, self.std = _per_channel("mean", mean), _per_channel("std", std)
        if not np.all(self.std > 0):
            raise ValueError(f"Normalize: `std` must be positive, got {brief(self.std.tolist())}")

    @classmethod
    def of(cls, x: ArrayLike) -> Normalize:
        """Return the one that gives each channel of the images `x` the mean 0 and the standard deviation 1.

        Parameters
        ----------
        x : array_like of shape (N, C, H, W), float32, float64 or uint8
            The training images, also memory-mapped or read in pieces (h5py, zarr).

        Returns
        -------
        Normalize

        Raises
        ------
        TypeError, ValueError
            If `x` has another dtype or number of axes, or no pixel; or a channel is the same everywhere.
        """
        images = as_rows("Normalize", "x", x)
        if images.ndim != 4 or not images.size:
            raise ValueError(f"Normalize: `x` must be images (N, C, H, W), got shape {images.shape}")
        few = max(1, PIECE * len(images) // images.size)
        pieces = [slice(start, start + few) for start in range(0, len(images), few)]
        count = images.size // images.shape[1]
        mean = sum(_numbers(images[piece]).sum(axis=(0, 2, 3), dtype=float) for piece in pieces) / count
        squares = ((_numbers(images[piece]) - mean[:, np.newaxis, np.newaxis]) ** 2 for piece in pieces)
        std = np.sqrt(sum(square.sum(axis=(0, 2, 3)) for square in squares) / count)
        if not np.all(np.isfinite(mean) & (std > 0) & (std < np.inf)):
            raise ValueError("Normalize: `x` must be finite, and no channel the same everywhere")
        return cls(mean, std)

    def apply(self, x: ArrayLike) -> NDArray:
        """Return images normalised, as numbers.

        Parameters
        ----------
        x : array_like of shape (N, C, H, W), float32, float64 or uint8

        Returns
        -------
        ndarray of shape (N, C, H, W)
            In the dtype of `x`; of bytes float32.
        """
        return self(_numbers(as_array("Normalize", "x", x)), ())[0]

    def transformed(self, pixels: NDArray, rng: np.random.Generator) -> NDArray:
        """Normalise."""
        C = pixels.shape[3]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values.size not in (1, C):
                raise ValueError(f"Normalize: `{name}` has {values.size} numbers, but the images have {C} channels")
        gain = np.broadcast_to(1 / self.std, (1, C))
        return _scaled(pixels, gain, -self.mean * gain)


def _scaled(pixels: NDArray, gain: NDArray, offset: NDArray) -> NDArray:
    """Return gain * pixels + offset, of numbers for each image, or all, and channel: [N or 1, C]."""
    N, H, W, C = pixels.shape
    # Whole rows at a time: vectors along so few channels would be short.
    row_gain, row_offset = (np.tile(values, W).astype(pixels.dtype)[:, np.newaxis] for values in (gain, offset))
    scaled = pixels.reshape(N, H, W * C) * row_gain
    scaled += row_offset
    return scaled.reshape(pixels.shape)


def _channel_means(pixels: NDArray) -> NDArray[np.float64]:
    """Return the mean of each channel of each image, [N, C]."""
    N, H, W, C = pixels.shape
    rows = pixels.reshape(N, H, W * C).sum(axis=1).reshape(N, W, C)
    return rows.sum(axis=1, dtype=np.float64) / (H * W)


def _factors(strength: float, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.uniform(max(0.0, 1 - strength), 1 + strength, shape)


def _per_channel(name: str, value: ArrayLike) -> NDArray[np.float64]:
    numbers = as_array("Normalize", name, value)
    if numbers.dtype.kind not in "iuf" or numbers.ndim > 1 or not numbers.size or not np.all(np.isfinite(numbers)):
        raise ValueError(f"Normalize: `{name}` must be a finite number, or one for each channel, got {brief(value)}")
    return np.atleast_1d(numbers).astype(np.float64)


def _numbers(images: NDArray) -> NDArray:
    """Return images as numbers, bytes divided by 255."""
    if images.dtype == np.uint8:
        return np.divide(images, 255, dtype=np.float32)
    return as_float_array("Normalize", "x", images)
