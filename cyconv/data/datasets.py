"""Data sets of labelled images: digits that come with the package, and MNIST's files read from a folder."""

from __future__ import annotations

import math
import os
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
        ``t10k-labels-idx1-ubyte``, each plain or gzipped (``.gz``).

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
    folder = as_folder("mnist", root)
    train_x, train_y = _read_part(folder, "train")
    test_x, test_y = _read_part(folder, "t10k")
    return Dataset(train_x, train_y, test_x, test_y, TEN_DIGITS)


def as_folder(op: str, root: str | os.PathLike[str]) -> Path:
    """Return the folder that a user names."""
    from pathlib import Path  # here, because it takes milliseconds to import

    if not isinstance(root, (str, os.PathLike)):
        raise TypeError(f"{op}: `root` must be a str or a path, got {brief(root)}")
    return Path(os.fsdecode(root))


def _read_part(root: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images and labels of one part of the set."""
    images_file, labels_file = _find(root, f"{part}-images-idx3-ubyte"), _find(root, f"{part}-labels-idx1-ubyte")
    labels = _read_idx(labels_file, (None,))
    images = _read_idx(images_file, (None, 28, 28))
    if len(images) != len(labels):
        raise ValueError(f"mnist: {images_file} has {len(images)} images, but {labels_file} has {len(labels)} labels")
    if labels.size and labels.max() >= len(TEN_DIGITS):
        raise ValueError(f"mnist: {labels_file} has the label {labels.max()}, expected 0 to 9")
    return images[:, np.newaxis], labels.astype(np.int64)


def _find(root: Path, name: str) -> Path:
    """Return the path of the file, plain or gzipped."""
    for path in (root / name, root / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"mnist: {root} has neither {name} nor {name}.gz")


def _read_idx(path: Path, expected_shape: tuple[int | None, ...]) -> NDArray[np.uint8]:
    """Return the array in an IDX file of bytes, plain or gzipped; None stands for any extent."""
    import gzip  # here, because they take milliseconds to import
    import zlib

    with path.open("rb") as raw:
        gzipped = raw.read(2) == GZIP_MAGIC  # by content: downloads often lose or keep a misleading suffix
        raw.seek(0)
        if not gzipped:
            return _parse_idx(raw, path, expected_shape)
        try:
            with gzip.GzipFile(fileobj=raw) as stream:
                return _parse_idx(stream, path, expected_shape)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"mnist: {path} is a truncated or damaged gzip file ({error})") from None


def _parse_idx(stream: IO[bytes] | GzipFile, path: Path, expected_shape: tuple[int | None, ...]) -> NDArray[np.uint8]:
    """Return the array in `stream`, which comes from the file `path`."""
    ndim = len(expected_shape)
    header = stream.read(4 + 4 * ndim)
    if header[:2] != b"\0\0" or len(header) < 4:
        raise ValueError(f"mnist: {path} is not an IDX file: it begins with {header[:4]!r}, expected two zero bytes")
    if header[2] != UNSIGNED_BYTE:
        raise ValueError(f"mnist: {path} has the type code {header[2]:#04x}, expected 0x08 (unsigned bytes)")
    if header[3] != ndim:
        raise ValueError(f"mnist: {path} has {header[3]} axes, expected {ndim}")
    if len(header) < 4 + 4 * ndim:
        raise ValueError(f"mnist: {path} is truncated within its header of {4 + 4 * ndim} bytes")
    shape = tuple(int.from_bytes(header[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(ndim))
    if any(wanted not in (None, extent) for wanted, extent in zip(expected_shape, shape, strict=True)):
        wanted_shape = ", ".join("N" if wanted is None else str(wanted) for wanted in expected_shape)
        raise ValueError(f"mnist: {path} has shape {shape}, expected ({wanted_shape})")
    if shape[0] > MOST_IMAGES:
        raise ValueError(f"mnist: {path} has the shape {shape} in its header, more than {MOST_IMAGES} images")
    size = math.prod(shape)
    values = bytearray()
    while len(values) <= size and (piece := stream.read(min(PIECE, size + 1 - len(values)))):
        values += piece
    if len(values) != size:
        found = "more" if len(values) > size else f"only {len(values)}"
        raise ValueError(f"mnist: {path} has the shape {shape} in its header, {size} bytes, but holds {found}")
    return np.frombuffer(values, np.uint8).reshape(shape)
