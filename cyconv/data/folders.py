"""Images in folders, one folder a class, read by Pillow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cyconv import threads
from cyconv._geometry import Pair
from cyconv._validation import as_choice, as_int, as_pair, brief
from cyconv.data.datasets import as_folder

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MODES = {1: "L", 3: "RGB"}  # Pillow's names


class ImageFolder(NamedTuple):
    """Images and labels of a folder.

    Attributes
    ----------
    x : ndarray of shape (N, C, H, W), uint8
        Grey or colour levels, 0 to 255.
    y : ndarray of shape (N,), int64
        Index of each image's class.
    class_names : tuple of str
        Name of each class.
    files : tuple of str
        Path of each image below the folder, its parts joined by slashes.
    """

    x: NDArray[np.uint8]
    y: NDArray[np.int64]
    class_names: tuple[str, ...]
    files: tuple[str, ...]

    def __repr__(self) -> str:
        return f"ImageFolder({len(self.x)} images of shape {self.x.shape[1:]}, {len(self.class_names)} classes)"


def image_folder(
    root: str | os.PathLike[str],
    size: int | tuple[int, int],
    *,
    channels: int = 3,
    fit: str = "crop",
    class_names: Sequence[str] | None = None,
) -> ImageFolder:
    """Read the images of a folder that has a folder for each class, at one size.

    Parameters
    ----------
    root : str or path
        Folder whose folders are the classes. Images may lie in folders of their own within a class; files of other
        kinds, and all whose name begins with a dot, are passed over.
    size : int or pair of ints
        Height and width of the images returned.
    channels : {1, 3}, default 3
        Grey, or red, green and blue.
    fit : {"crop", "stretch"}, default "crop"
        How an image of another shape comes to this one: what is too long is cut off on both sides, or all is squeezed.
    class_names : sequence of str, optional
        The classes to read, in this order: give those of the training images for the test images. Default: all, sorted.

    Returns
    -------
    ImageFolder
        ``x``, ``y``, ``class_names`` and ``files``: class after class, each sorted by path, the same on every system.

    Raises
    ------
    ImportError
        Without Pillow (``pip install "cyconv[image]"``).
    FileNotFoundError
        If the folder, or that of a class, is missing.
    TypeError, ValueError
        If an argument is wrong; there are no classes, or one without images; or a file is no image, damaged, or has
        more pixels than ``PIL.Image.MAX_IMAGE_PIXELS`` (a decompression bomb).

    Notes
    -----
    Images are turned upright as their EXIF data says, reduced with all pixels weighed (antialiased bilinear), 16-bit
    grey by its upper byte, of animations the first picture. Several are read at a time, `cyconv.get_num_threads`.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from PIL import Image
    >>> from cyconv.data import image_folder
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for name, color in (("sea", "blue"), ("meadow", "green")):
    ...         pathlib.Path(root, name).mkdir()
    ...         Image.new("RGB", (60, 40), color).save(pathlib.Path(root, name, "1.png"))
    ...     data = image_folder(root, size=32)
    >>> data
    ImageFolder(2 images of shape (3, 32, 32), 2 classes)
    >>> data.files, data.y
    (('meadow/1.png', 'sea/1.png'), array([0, 1]))
    """
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise ImportError('image_folder: reading images needs Pillow: pip install "cyconv[image]"') from error
    from concurrent.futures import ThreadPoolExecutor

    folder = as_folder("image_folder", root)
    H, W = as_pair("image_folder", "size", size)
    C = as_int("image_folder", "channels", channels)
    if C not in MODES:
        raise ValueError(f"image_folder: `channels` must be 1 or 3, got {channels}")
    crops = as_choice("image_folder", "fit", fit, ("crop", "stretch")) == "crop"
    names = _classes(folder) if class_names is None else _as_names(class_names)
    files = [_files(folder / name) for name in names]
    paths = [path for each in files for path in each]
    pixels = np.empty((len(paths), H, W, C), np.uint8)

    def read(number: int) -> None:
        pixels[number] = read_image("image_folder", paths[number], (H, W), C, crops)

    with ThreadPoolExecutor(threads.get_num_threads()) as pool:
        try:
            for _ in pool.map(read, range(len(paths))):  # the first error in order, whoever meets one first
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    labels = np.repeat(np.arange(len(names), dtype=np.int64), [len(each) for each in files])
    return ImageFolder(
        pixels.transpose(0, 3, 1, 2), labels, names, tuple(path.relative_to(folder).as_posix() for path in paths)
    )


def _as_names(class_names: Any) -> tuple[str, ...]:
    if isinstance(class_names, str) or not isinstance(class_names, Sequence):
        raise TypeError(f"image_folder: `class_names` must be a sequence of names, got {brief(class_names)}")
    for name in class_names:
        if not isinstance(name, str):
            raise TypeError(f"image_folder: `class_names` must be names, got {brief(name)}")
        if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise ValueError(f"image_folder: `class_names` must be names of folders, got {brief(name)}")
    if not class_names or len(set(class_names)) < len(class_names):
        raise ValueError(f"image_folder: `class_names` must be different names, got {brief(class_names)}")
    return tuple(class_names)


def _classes(folder: Path) -> tuple[str, ...]:
    """Return the names of the folders in a folder."""
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
    if not names:
        raise ValueError(f"image_folder: {folder} has no folder in it: each class needs one")
    return names


def _files(folder: Path) -> list[Path]:
    """Return the images in the folder of a class, sorted by path."""
    if not folder.is_dir():
        raise FileNotFoundError(f"image_folder: there is no folder {folder}")
    found = (
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    files = sorted(found, key=lambda path: path.relative_to(folder).parts)
    if not files:
        raise ValueError(f"image_folder: {folder} has no image in it ({', '.join(SUFFIXES)})")
    return files


def read_image(op: str, path: Path, size: Pair, channels: int, crops: bool) -> NDArray[np.uint8]:
    """Return an image in bytes, [H, W, C]; with Pillow."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            most = Image.MAX_IMAGE_PIXELS
            if most is not None and image.width * image.height > most:
                raise ValueError(f"its {image.width}x{image.height} pixels are more than PIL.Image.MAX_IMAGE_PIXELS")
            upright = _as_bytes(ImageOps.exif_transpose(image)).convert(MODES[channels])
            box = _middle(upright.size, size) if crops else None
            pixels = np.asarray(upright.resize(size[::-1], Image.Resampling.BILINEAR, box))
            return pixels.reshape(*size, channels)
    except MemoryError:
        raise
    except Exception as error:  # damaged files make Pillow raise a dozen kinds
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's: no permission, no such file
        raise ValueError(f"{op}: {path} is no image, or a damaged one: {error}") from error


def _as_bytes(image: Any) -> Any:
    """Return a grey image of 16 bits as one of 8."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"Pillow reads its pixels as numbers without a largest one (mode {image.mode})")
    return image


def _middle(image: Pair, size: Pair) -> tuple[float, float, float, float]:
    """Return the largest box in the middle of an image (width, height) that has the proportions of (height, width)."""
    width, height = image
    across, down = min(width, height * size[1] / size[0]), min(height, width * size[0] / size[1])
    left, top = (width - across) / 2, (height - down) / 2
    return left, top, left + across, top + down
