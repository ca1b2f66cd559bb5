"""Images in folders, one folder a class, read by Pillow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cyconv._validation import brief
from cyconv.data.datasets import as_folder
from cyconv.data.pictures import SUFFIXES, Preparation, check_pillow, read_pictures

if TYPE_CHECKING:
    from pathlib import Path

MACOS = "__MACOSX"  # the folder of copies without pictures that macOS adds to archives


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
    background: str | int | Sequence[int] = "white",
    invert: bool = False,
    on_error: str = "raise",
    progress: bool = False,
) -> ImageFolder:
    """Read the images of a folder that has a folder for each class, at one size.

    Parameters
    ----------
    root : str or path
        Folder whose folders are the classes. Images may lie in folders of their own within a class; files of other
        kinds, all whose name begins with a dot, and ``__MACOSX`` are passed over.
    size : int or pair of ints
        Height and width of the images returned.
    channels : {1, 3}, default 3
        Grey, or red, green and blue.
    fit : {"crop", "stretch"}, default "crop"
        How an image of another shape comes to this one: what is too long is cut off on both sides, or all is squeezed.
    class_names : sequence of str, optional
        The classes to read, in this order: give those of the training images for the test images. Default: all, sorted.
    background : str, int or sequence of 3 ints, default "white"
        What shows through where a picture is transparent: the name of a colour, a grey level, or red, green and blue.
    invert : bool, default False
        Whether light becomes dark.
    on_error : {"raise", "skip"}, default "raise"
        Whether files that are no images, or damaged, are an error that names them all, or are left out with a warning.
    progress : bool, default False
        Whether to show a bar.

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
        If an argument is wrong; there are no classes, or some without images; or files are no images, damaged, or have
        more pixels than ``PIL.Image.MAX_IMAGE_PIXELS`` (decompression bombs).

    Notes
    -----
    AVIF, BMP, GIF, JPEG, PNG, PPM, TIFF and WebP are read, as far as Pillow can. Images are turned upright as their
    EXIF data says, reduced with all pixels weighed (antialiased bilinear), 16-bit grey by its upper byte, of animations
    the first picture; images of 32-bit integers or floating point numbers, which have no range, are refused. Several
    are read at a time, `cyconv.get_num_threads`.

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
    op = "image_folder"
    check_pillow(op)
    folder = as_folder(op, root)
    preparation = Preparation.checked(op, size, channels, fit, background, invert)
    names = _classes(folder) if class_names is None else _as_names(class_names)
    files = [_files(folder / name) for name in names]
    empty = [name for name, found in zip(names, files, strict=True) if not found]
    if empty:
        listing = ", ".join(map(repr, empty[:100]))
        raise ValueError(f"{op}: {folder} has no image ({', '.join(SUFFIXES)}) in its folder {listing}")
    paths = [path for each in files for path in each]
    pixels, kept = read_pictures(op, paths, preparation, on_error, progress)
    labels = np.repeat(np.arange(len(names), dtype=np.int64), [len(each) for each in files])[kept]
    missing = [name for label, name in enumerate(names) if label not in labels]
    if missing:
        raise ValueError(f"{op}: no image of {folder} in {', '.join(map(repr, missing))} can be read")
    listed = tuple(paths[number].relative_to(folder).as_posix() for number in kept)
    return ImageFolder(pixels.transpose(0, 3, 1, 2), labels, names, listed)


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
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not _is_hidden(path.name)))
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
        and not any(map(_is_hidden, path.relative_to(folder).parts))
    )
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == MACOS
