"""Data sets of labelled images: digits that come with the package, and MNIST's files read from a folder."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cyconv._validation import as_int, brief

if TYPE_CHECKING:
    from gzip import GzipFile
    from pathlib import Path

PIECE = 1 << 20  # bytes read at a time: memory grows with what a file really holds, not with what its header claims
GZIP_MAGIC = b"\x1f\x8b"
MOST_IMAGES = 1_000_000  # EMNIST, the largest set in this format, has 814,255
UNSIGNED_BYTE = 0x08  # the IDX format's type code


class Dataset(NamedTuple):
    """Images and labels, split into a training and a test part.

    Attributes
    ----------
    train_x, test_x : ndarray of shape (N, C, H, W), uint8
        Grey or colour levels, 0 to 255.
    train_y, test_y : ndarray of shape (N,), int64
        Index of each image's class.
    class_names : tuple of str
        Name of each class.
    """

    train_x: NDArray[np.uint8]
    train_y: NDArray[np.int64]
    test_x: NDArray[np.uint8]
    test_y: NDArray[np.int64]
    class_names: tuple[str, ...]

    def __repr__(self) -> str:
        return (
            f"Dataset({len(self.train_x)} training and {len(self.test_x)} test images of shape "
            f"{self.train_x.shape[1:]}, {len(self.class_names)} classes)"
        )


TEN_DIGITS = tuple("0123456789")


def digits(size: int | None = None) -> Dataset:
    """Return the bundled 1,797 handwritten digits.

    Parameters
    ----------
    size : int, optional
        Enlarge the 8x8 images to `size` x `size` (8 to 256) by bilinear interpolation. Default: leave them.

    Returns
    -------
    Dataset
        1,442 training and 355 test images of shape (1, `size`, `size`).

    Raises
    ------
    TypeError, ValueError
        If `size` is not an integer, or out of range.

    Notes
    -----
    Every fifth image of each class, in the source's order, is a test image: the same split each time, with the
    classes in the same proportions in both parts. Source: E. Alpaydin and C. Kaynak, Optical Recognition of
    Handwritten Digits, UCI Machine Learning Repository, 1998 (CC BY 4.0); its 17 grey levels are spread over 0 to 255.

    Examples
    --------
    >>> from cyconv.data import digits
    >>> digits(size=28)
    Dataset(1442 training and 355 test images of shape (1, 28, 28), 10 classes)
    """
    if size is not None:
        size = as_int("digits", "size", size, 8, 256)
    with np.load(os.path.join(os.path.dirname(__file__), "files", "digits.npz")) as file:
        levels, labels = file["images"].astype(np.float32), file["labels"].astype(np.int64)
    if size is not None:
        weights = _bilinear(levels.shape[-1], size)
        levels = weights @ levels @ weights.T  # [N, 8, 8] -> [N, size, size]
    images = np.rint(levels * (255 / 16)).astype(np.uint8)[:, np.newaxis]
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(len(TEN_DIGITS)):
        is_test[np.flatnonzero(labels == label)[4::5]] = True
    return Dataset(images[~is_test], labels[~is_test], images[is_test], labels[is_test], TEN_DIGITS)


def _bilinear(size: int, new_size: int) -> NDArray[np.float32]:
    """Return the matrix that interpolates `size` samples at `new_size` points, pixel areas aligned, edges repeated."""
    position = ((np.arange(new_size) + 0.5) * (size / new_size) - 0.5).clip(0, size - 1)
    return np.maximum(0, 1 - np.abs(position[:, np.newaxis] - np.arange(size))).astype(np.float32)


def mnist(root: str | os.PathLike[str]) -> Dataset:
    """Read MNIST, or a set in its format such as Fashion-MNIST, from a folder.

    Parameters
    ----------
    root : str or path
        Folder with ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
        ``t10k-labels-idx1-ubyte``, each plain or gzipped (``.gz``), also with a dot before ``idx``; or with the folder
        ``raw`` or ``MNIST/raw`` in which torchvision puts them.

    Returns
    -------
    Dataset
        The published split, 60,000 training and 10,000 test images of shape (1, 28, 28).

    Raises
    ------
    FileNotFoundError
        If one of the files is missing.
    ValueError
        If one is not what its place needs: no IDX file of bytes, wrong extents, truncated, damaged, or too long; or
        if the numbers of images and labels differ, or a label is not 0 to 9.

    Notes
    -----
    The IDX format: two zero bytes, a type code, the number of axes, each axis's extent as four bytes, highest first,
    then the values. Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits.
    """
    op = "mnist"
    folder = find_folder(op, as_folder(op, root), ("", "raw", "MNIST/raw"), "train-images-idx3-ubyte")
    return Dataset(*read_part(op, folder, "train", 10), *read_part(op, folder, "t10k", 10), TEN_DIGITS)


def as_folder(op: str, root: str | os.PathLike[str]) -> Path:
    """Return the folder that a user names."""
    from pathlib import Path  # here, because it takes milliseconds to import

    if not isinstance(root, (str, os.PathLike)):
        raise TypeError(f"{op}: `root` must be a str or a path, got {brief(root)}")
    return Path(os.fsdecode(root))


def find_folder(op: str, root: Path, folders: tuple[str, ...], name: str) -> Path:
    """Return the first of the folders in `root` that has the file; all of a set then comes from there."""
    for folder in folders:
        if _found(root / folder, name) is not None:
            return root / folder
    raise FileNotFoundError(f"{op}: {root} has neither {name} nor {name}.gz")


def read_part(op: str, folder: Path, part: str, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images and labels of one part of a set in MNIST's format."""
    images_file, labels_file = (_file(op, folder, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
    labels = _read_idx(op, labels_file, (None,))
    images = _read_idx(op, images_file, (None, 28, 28))
    if len(images) != len(labels):
        raise ValueError(f"{op}: {images_file} has {len(images)} images, but {labels_file} has {len(labels)} labels")
    if labels.size and labels.max() >= classes:
        raise ValueError(f"{op}: {labels_file} has the label {labels.max()}, expected 0 to {classes - 1}")
    return images[:, np.newaxis], labels.astype(np.int64)


def _file(op: str, folder: Path, name: str) -> Path:
    path = _found(folder, name)
    if path is None:
        raise FileNotFoundError(f"{op}: {folder} has neither {name} nor {name}.gz")
    return path


def _found(folder: Path, name: str) -> Path | None:
    """Return the path of the file, plain or gzipped, also if it lies in a folder of that name, as Kaggle's do."""
    dotted = name.replace("-idx", ".idx")
    for path in (folder / form / name for name in (name, dotted) for form in ("", name)):
        for each in (path, path.with_name(f"{path.name}.gz")):
            if each.is_file():
                return each
    return None


@contextmanager
def opened(op: str, path: Path) -> Iterator[IO[bytes] | GzipFile]:
    """Open a file, plain or gzipped: its content tells, as downloads often lose or keep a misleading suffix."""
    import gzip  # here, because they take milliseconds to import
    import zlib

    with path.open("rb") as raw:
        gzipped = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        if not gzipped:
            yield raw
            return
        try:
            with gzip.GzipFile(fileobj=raw) as stream:
                yield stream
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{op}: {path} is a truncated or damaged gzip file ({error})") from None


def read_at_most(stream: IO[bytes] | GzipFile, size: int) -> bytearray:
    """Return what is left of a stream, but no more than `size` bytes and one, which tells that there are more."""
    values = bytearray()
    while len(values) <= size and (piece := stream.read(min(PIECE, size + 1 - len(values)))):
        values += piece
    return values


def _read_idx(op: str, path: Path, expected_shape: tuple[int | None, ...]) -> NDArray[np.uint8]:
    """Return the array in an IDX file of bytes, plain or gzipped; None stands for any extent."""
    with opened(op, path) as stream:
        return _parse_idx(op, stream, path, expected_shape)


def _parse_idx(
    op: str, stream: IO[bytes] | GzipFile, path: Path, expected_shape: tuple[int | None, ...]
) -> NDArray[np.uint8]:
    """Return the array in `stream`, which comes from the file `path`."""
    ndim = len(expected_shape)
    header = stream.read(4 + 4 * ndim)
    if header[:2] != b"\0\0" or len(header) < 4:
        raise ValueError(f"{op}: {path} is not an IDX file: it begins with {header[:4]!r}, expected two zero bytes")
    if header[2] != UNSIGNED_BYTE:
        raise ValueError(f"{op}: {path} has the type code {header[2]:#04x}, expected 0x08 (unsigned bytes)")
    if header[3] != ndim:
        raise ValueError(f"{op}: {path} has {header[3]} axes, expected {ndim}")
    if len(header) < 4 + 4 * ndim:
        raise ValueError(f"{op}: {path} is truncated within its header of {4 + 4 * ndim} bytes")
    shape = tuple(int.from_bytes(header[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(ndim))
    if any(wanted not in (None, extent) for wanted, extent in zip(expected_shape, shape, strict=True)):
        wanted_shape = ", ".join("N" if wanted is None else str(wanted) for wanted in expected_shape)
        raise ValueError(f"{op}: {path} has shape {shape}, expected ({wanted_shape})")
    if shape[0] > MOST_IMAGES:
        raise ValueError(f"{op}: {path} has the shape {shape} in its header, more than {MOST_IMAGES} images")
    size = math.prod(shape)
    values = read_at_most(stream, size)
    if len(values) != size:
        found = "more" if len(values) > size else f"only {len(values)}"
        raise ValueError(f"{op}: {path} has the shape {shape} in its header, {size} bytes, but holds {found}")
    return np.frombuffer(values, np.uint8).reshape(shape)
