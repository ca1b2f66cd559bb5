"""How pictures become a network's inputs: one description, for files by way of Pillow and for arrays alike."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cyconv import threads
from cyconv._geometry import Pair
from cyconv._validation import as_bool, as_choice, as_int, as_pair

if TYPE_CHECKING:
    from pathlib import Path

# Pillow's names of the formats that are read, and their suffixes. Others are refused, as files tell by their content
# what they are: some of Pillow's formats start other programs (EPS: Ghostscript).
FORMATS = {
    "AVIF": (".avif",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg"),
    "PNG": (".png",),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
SUFFIXES = tuple(sorted(suffix for suffixes in FORMATS.values() for suffix in suffixes))
MODES = {1: "L", 3: "RGB"}  # Pillow's names
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in grey: ITU-R BT.601, as Pillow's
WHITE = (255, 255, 255)
NAMED = {"white": WHITE, "black": (0, 0, 0)}  # what takes no Pillow
BITS_PER_SAMPLE = 258  # a tag of TIFF
MOST_NAMED = 100  # of damaged files in one message

Color = tuple[int, int, int]


class Preparation(NamedTuple):
    """How a picture comes to the channels and the size that a network takes.

    Attributes
    ----------
    size : pair of ints
        Height and width.
    channels : {1, 3}
        Grey, or red, green and blue.
    fit : {"crop", "stretch"}
        How a picture of another shape comes to this one: what is too long is cut off on both sides, or all is squeezed.
    background : tuple of 3 ints
        Red, green and blue of what shows through where a picture is transparent.
    invert : bool
        Whether light becomes dark.
    """

    size: Pair
    channels: int = 3
    fit: str = "crop"
    background: Color = WHITE
    invert: bool = False

    @classmethod
    def checked(
        cls, op: str, size: Any, channels: Any, fit: Any, background: Any, invert: Any, fit_name: str = "fit"
    ) -> Preparation:
        """Return the preparation that a user's arguments describe."""
        height, width = as_pair(op, "size", size)
        count = as_int(op, "channels", channels)
        if count not in MODES:
            raise ValueError(f"{op}: `channels` must be 1 or 3, got {count}")
        way = as_choice(op, fit_name, fit, ("crop", "stretch"))
        color = as_color(op, "background", background)
        return cls((height, width), count, way, color, as_bool(op, "invert", invert))

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Return the picture in a file in bytes, [H, W, C]; with Pillow.

        Raises
        ------
        OSError
            The system's, such as a missing file.
        ValueError
            If the file is no picture, a damaged one, or has more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``.
        """
        from PIL import Image

        Image.init()
        try:
            with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
                most = Image.MAX_IMAGE_PIXELS
                if most is not None and image.width * image.height > most:
                    raise ValueError(f"its {image.width}x{image.height} pixels are more than PIL's MAX_IMAGE_PIXELS")
                opaque = _opaque(image, self.background).convert(MODES[self.channels])
                top, left, bottom, right = self._box(opaque.height, opaque.width)
                box = (left, top, right, bottom)
                resized = opaque.resize(self.size[::-1], Image.Resampling.BILINEAR, box)
                pixels = np.asarray(resized).reshape(*self.size, self.channels)
                return 255 - pixels if self.invert else pixels
        except MemoryError:
            raise
        except Exception as error:  # damaged files make Pillow raise a dozen kinds
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the system's: no permission, no such file
            hint = "" if "AVIF" in Image.OPEN or path.suffix.lower() != ".avif" else " (AVIF needs Pillow 11.3)"
            raise ValueError(f"{path} is no image, or a damaged one: {error}{hint}") from error

    def apply(self, images: NDArray) -> NDArray:
        """Return images (N, C, H, W) of numbers from 0 to 1 as `read` returns those of files, but for its rounding."""
        x = images
        if x.shape[1] == 3 and self.channels == 1:
            x = np.tensordot(np.array([LUMA], x.dtype), x, (1, 1)).swapaxes(0, 1)  # [N, 3, H, W] -> [N, 1, H, W]
        box = self._box(*x.shape[2:])
        pixels = x.transpose(0, 2, 3, 1)  # [N, H, W, C]
        for axis, wanted in enumerate(self.size):
            pixels = _resized(pixels, axis + 1, box[axis], box[axis + 2], wanted)
        pixels = 1 - pixels if self.invert else pixels
        x = pixels.transpose(0, 3, 1, 2)
        return np.repeat(x, 3, axis=1) if (x.shape[1], self.channels) == (1, 3) else x

    def _box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Return top, left, bottom and right of what is kept of an image."""
        if self.fit == "stretch":
            return 0, 0, height, width
        down = min(height, width * self.size[0] / self.size[1])
        across = min(width, height * self.size[1] / self.size[0])
        top, left = (height - down) / 2, (width - across) / 2
        return top, left, top + down, left + across


def as_color(op: str, name: str, value: Any) -> Color:
    """Return a colour, given by its name, a grey level or three levels, as red, green and blue."""
    if isinstance(value, str) and value in NAMED:
        return NAMED[value]
    if isinstance(value, str):
        check_pillow(op, "colours by name need")
        from PIL import ImageColor

        try:
            value = ImageColor.getrgb(value)
        except ValueError:
            raise ValueError(
                f"{op}: `{name}` must be a colour such as 'white' or '#ffffff', got {value[:40]!r}"
            ) from None
    if isinstance(value, (tuple, list)):
        if len(value) != 3:
            raise ValueError(f"{op}: `{name}` must be a colour of three levels, got {len(value)}")
        red, green, blue = (as_int(op, name, level, 0, 255) for level in value)
        return red, green, blue
    level = as_int(op, name, value, 0, 255)
    return level, level, level


def check_pillow(op: str, what: str = "reading images needs") -> None:
    """Raise unless Pillow can be imported."""
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise ImportError(f'{op}: {what} Pillow: pip install "cyconv[image]"') from error


def read_pictures(
    op: str, paths: Sequence[Path], preparation: Preparation, on_error: Any = "raise", progress: Any = False
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the pictures in files, [N, H, W, C], and which of the paths they are; several are read at a time.

    All files that are no pictures, or damaged, are named at once, in an error or, if ``on_error="skip"``, a warning.
    """
    from concurrent.futures import ThreadPoolExecutor

    from tqdm.auto import tqdm

    check_pillow(op)
    skips = as_choice(op, "on_error", on_error, ("raise", "skip")) == "skip"
    silent = not as_bool(op, "progress", progress)
    pixels = np.empty((len(paths), *preparation.size, preparation.channels), np.uint8)

    def read(number: int) -> str | None:
        try:
            pixels[number] = preparation.read(paths[number])
        except ValueError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(threads.get_num_threads()) as pool:
        try:
            results = pool.map(read, range(len(paths)))
            found = list(tqdm(results, "reading", len(paths), disable=silent, leave=False, unit=" images"))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    errors = [message for message in found if message is not None]
    if errors:
        more = f"; and {len(errors) - MOST_NAMED} more" if len(errors) > MOST_NAMED else ""
        named = "; ".join(errors[:MOST_NAMED]) + more
        if not skips:
            raise ValueError(f"{op}: {named}")
        warnings.warn(f"{op}: skipped {len(errors)} of {len(paths)} files: {named}", stacklevel=3)
    kept = np.flatnonzero([message is None for message in found])
    return (pixels[kept] if errors else pixels), kept


def _opaque(image: Any, background: Color) -> Any:
    """Return Pillow's image upright and of 8 bits a channel, laid over a background where it is transparent."""
    from PIL import Image, ImageOps

    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    bits = max(getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (16,)))
    upright = ImageOps.exif_transpose(image)
    if sixteen:  # 16 bits, of some TIFF files 12: the upper eight
        levels, clear = np.asarray(upright), upright.info.get("transparency")
        upright = Image.fromarray((levels >> (bits - 8)).astype(np.uint8))
        if isinstance(clear, int):
            upright.putalpha(Image.fromarray((255 * (levels != clear)).astype(np.uint8)))
    elif upright.mode in ("I", "F"):
        kind = "floating point numbers" if upright.mode == "F" else "integers of 32 bits"
        raise ValueError(f"its mode {upright.mode}, {kind}, has no range; convert it to 8 or 16 bits")
    if upright.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in upright.info:
        colors = upright.convert("LA") if upright.mode == "La" else upright
        ground = Image.new("RGBA", upright.size, (*background, 255))
        return Image.alpha_composite(ground, colors.convert("RGBA")).convert("RGB")
    return upright


def _resized(pixels: NDArray, axis: int, start: float, stop: float, size: int) -> NDArray:
    """Return `size` pixels for those between two places along an axis: interpolated, or all weighed (antialiased).

    Not by np.matmul: the threads of BLAS would keep those of the training from their cores.
    """
    extent, scale = pixels.shape[axis], (stop - start) / size
    if (start, stop) == (0, extent) and size == extent:
        return pixels
    support = max(scale, 1.0)
    centers = start + (np.arange(size) + 0.5) * scale
    taps = np.floor(centers - support)[:, np.newaxis].astype(np.int64) + np.arange(2 * math.ceil(support) + 1)
    weights = np.maximum(0, 1 - np.abs(taps + 0.5 - centers[:, np.newaxis]) / support)
    weights[(taps < 0) | (taps >= extent)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    taps = taps.clip(0, extent - 1)
    shape = [size if each == axis else 1 for each in range(pixels.ndim)]
    total = np.zeros([size if each == axis else n for each, n in enumerate(pixels.shape)], pixels.dtype)
    for tap, weight in zip(taps.T, weights.T, strict=True):
        if weight.any():
            total += pixels.take(tap, axis) * weight.astype(pixels.dtype).reshape(shape)
    return total
