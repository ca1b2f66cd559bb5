"""CIFAR-10, read from its published files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cyconv._pickles import PICKLE
from cyconv._validation import as_int, brief
from cyconv.data.datasets import Dataset, as_folder
from cyconv.data.plain_pickle import read_pickle

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PIXELS = 3 * 32 * 32
RECORD = 1 + PIXELS  # a label, then red, green and blue, each row by row
MOST_IMAGES = 60_000  # of the whole set
FOLDERS = ("", "cifar-10-batches-bin", "cifar-10-batches-py")  # the published archives' folders


def cifar10(root: str | os.PathLike[str], batches: Iterable[int] = (1, 2, 3, 4, 5)) -> Dataset:
    """Read CIFAR-10 from a folder, in its binary or in its Python form.

    Parameters
    ----------
    root : str or path
        Folder with ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``, or with the files of the Python
        form, whose names lack the ``.bin``; or the folder above, into which an archive was unpacked.
    batches : iterable of int, default (1, 2, 3, 4, 5)
        Which of the five training files to read.

    Returns
    -------
    Dataset
        As published 50,000 training images, 10,000 a file, and 10,000 test images, of shape (3, 32, 32). Files may hold
        fewer.

    Raises
    ------
    FileNotFoundError
        If one of the files is missing.
    TypeError, ValueError
        If `batches` are not numbers from 1 to 5; or a file is neither form, truncated or damaged, has a label that is
        not 0 to 9, or more images than the whole set.

    Notes
    -----
    The Python form is a pickle, which ordinary readers execute. Here it is only parsed: a file that names anything but
    plain data is refused. A. Krizhevsky, Learning multiple layers of features from tiny images, 2009.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from cyconv.data import cifar10
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("data_batch_1.bin", "test_batch.bin"):
    ...         _ = pathlib.Path(folder, name).write_bytes(bytes(2 * 3073))  # black airplanes
    ...     cifar10(folder, batches=[1])
    Dataset(2 training and 2 test images of shape (3, 32, 32), 10 classes)
    """
    folder = as_folder("cifar10", root)
    if isinstance(batches, (str, bytes)) or not isinstance(batches, Iterable):
        raise TypeError(f"cifar10: `batches` must be a sequence of numbers from 1 to 5, got {brief(batches)}")
    numbers = [as_int("cifar10", "batches", number, 1, 5) for number in batches]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"cifar10: `batches` must be different numbers from 1 to 5, got {brief(numbers)}")
    train = [_find(folder, f"data_batch_{number}") for number in numbers]
    return Dataset(*_joined(train), *_joined([_find(folder, "test_batch")]), CLASSES)


def _find(root: Path, name: str) -> Path:
    """Return the path of the file in either form."""
    for folder in FOLDERS:
        for path in (root / folder / f"{name}.bin", root / folder / name):
            if path.is_file():
                return path
    raise FileNotFoundError(f"cifar10: {root} has neither {name}.bin nor {name}")


def _joined(paths: list[Path]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images and labels in files, one after the other."""
    images, labels = zip(*map(_read, paths), strict=True)
    pixels = np.empty((sum(map(len, labels)), 32, 32, 3), np.uint8)  # channels last in memory, as batches have them
    np.concatenate([each.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for each in images], out=pixels)
    return pixels.transpose(0, 3, 1, 2), np.concatenate(labels)


def _read(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images, [N, 3072], and labels in one file."""
    with path.open("rb") as file:
        size, largest = os.fstat(file.fileno()).st_size, 3 * MOST_IMAGES * RECORD  # as text, bytes can be two
        if size > largest:
            raise ValueError(f"cifar10: {path} has {size} bytes, more than {MOST_IMAGES} images need")
        content = file.read(size)
    if content[:1] == PICKLE:  # by content, and no label: downloads often have a misleading suffix
        images, labels = _read_python(path, content)
    else:
        records = _records(path, content)
        images, labels = records[:, 1:], records[:, 0].astype(np.int64)
    if not 0 < len(images) <= MOST_IMAGES:
        raise ValueError(f"cifar10: {path} has {len(images)} images, expected 1 to {MOST_IMAGES}")
    if len(images) != len(labels):
        raise ValueError(f"cifar10: {path} has {len(images)} images, but {len(labels)} labels")
    wrong = np.flatnonzero((labels < 0) | (labels >= len(CLASSES)))
    if wrong.size:
        raise ValueError(f"cifar10: {path} has the label {labels[wrong[0]]} for image {wrong[0]}, expected 0 to 9")
    return images, labels


def _records(path: Path, content: bytes) -> NDArray[np.uint8]:
    """Return the rows of a file in the binary form."""
    count, rest = divmod(len(content), RECORD)
    if rest:
        raise ValueError(
            f"cifar10: {path} is truncated or no file of CIFAR-10: its {len(content)} bytes are {count} images of "
            f"{RECORD} bytes and {rest} more"
        )
    return np.frombuffer(content, np.uint8).reshape(count, RECORD)


def _read_python(path: Path, content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images, [N, 3072], and labels of a file in the Python form."""
    try:
        values = read_pickle(content)
    except ValueError as error:
        raise ValueError(f"cifar10: {path} is no file of CIFAR-10, or a damaged one: {error}") from None
    images, labels = _entry(path, values, "data", np.ndarray), _entry(path, values, "labels", list)
    if images.ndim != 2 or images.shape[1] != PIXELS:
        raise ValueError(f"cifar10: {path} has images of shape {images.shape}, expected (N, {PIXELS})")
    if any(type(label) is not int or abs(label) >= 2**63 for label in labels):
        raise ValueError(f"cifar10: {path} has labels that are no integers, expected 0 to 9")
    return images, np.array(labels, np.int64)


def _entry(path: Path, values: dict[str, Any], key: str, kind: type) -> Any:
    if not isinstance(values.get(key), kind):
        found = type(values[key]).__name__ if key in values else "nothing"
        raise ValueError(f"cifar10: {path} has {found} under {key!r}, expected {kind.__name__}")
    return values[key]
