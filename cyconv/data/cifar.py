"""CIFAR-10 and CIFAR-100, read from their published files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cyconv._pickles import PICKLE
from cyconv._validation import as_choice, as_int, brief
from cyconv.data.datasets import Dataset, as_folder, opened, read_at_most
from cyconv.data.plain_pickle import read_pickle

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FINE_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""
COARSE_NAMES = """
aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices household_furniture
insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores
medium_mammals non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2
"""
PIXELS = 3 * 32 * 32
MOST_IMAGES = 60_000  # of a whole set


class _Format(NamedTuple):
    """What the files of a set hold."""

    op: str
    name: str
    class_names: tuple[str, ...]
    key: str = "labels"  # of the Python form
    folders: tuple[str, ...] = ("", "cifar-100-binary", "cifar-100-python")  # of the published archives
    labels: int = 1  # bytes before an image in the binary form: labels; then red, green and blue, each row by row
    label: int = 0  # which of them

    @property
    def record(self) -> int:
        return self.labels + PIXELS


CIFAR10 = _Format("cifar10", "CIFAR-10", CLASSES, folders=("", "cifar-10-batches-bin", "cifar-10-batches-py"))
CIFAR100 = {
    "fine": _Format("cifar100", "CIFAR-100", tuple(FINE_NAMES.split()), "fine_labels", labels=2, label=1),
    "coarse": _Format("cifar100", "CIFAR-100", tuple(COARSE_NAMES.split()), "coarse_labels", labels=2, label=0),
}


def cifar10(root: str | os.PathLike[str], batches: Iterable[int] = (1, 2, 3, 4, 5)) -> Dataset:
    """Read CIFAR-10 from a folder, in its binary or in its Python form.

    Parameters
    ----------
    root : str or path
        Folder with ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``, or with the files of the Python
        form, whose names lack the ``.bin``, each plain or gzipped; or the folder above, into which an archive was
        unpacked.
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
    if isinstance(batches, (str, bytes)) or not isinstance(batches, Iterable) or getattr(batches, "shape", None) == ():
        raise TypeError(f"cifar10: `batches` must be a sequence of numbers from 1 to 5, got {brief(batches)}")
    numbers = [as_int("cifar10", "batches", number, 1, 5) for number in batches]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"cifar10: `batches` must be different numbers from 1 to 5, got {brief(numbers)}")
    train = [_find(CIFAR10, folder, f"data_batch_{number}") for number in numbers]
    return Dataset(*_joined(CIFAR10, train), *_joined(CIFAR10, [_find(CIFAR10, folder, "test_batch")]), CLASSES)


def cifar100(root: str | os.PathLike[str], labels: str = "fine") -> Dataset:
    """Read CIFAR-100 from a folder, in its binary or in its Python form.

    Parameters
    ----------
    root : str or path
        Folder with ``train.bin`` and ``test.bin``, or with the files of the Python form, whose names lack the ``.bin``,
        each plain or gzipped; or the folder above, into which an archive was unpacked.
    labels : {"fine", "coarse"}, default "fine"
        Which of an image's two labels: one of 100 classes, or one of 20 groups of these.

    Returns
    -------
    Dataset
        As published 50,000 training images and 10,000 test images, of shape (3, 32, 32). Files may hold fewer.

    Raises
    ------
    FileNotFoundError
        If one of the files is missing.
    TypeError, ValueError
        If `labels` is another; or a file is neither form, truncated or damaged, has a label out of range, or more
        images than the whole set.

    Notes
    -----
    See `cifar10` for the Python form.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from cyconv.data import cifar100
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("train.bin", "test.bin"):
    ...         _ = pathlib.Path(folder, name).write_bytes(bytes(2 * 3074))  # black apples
    ...     cifar100(folder)
    Dataset(2 training and 2 test images of shape (3, 32, 32), 100 classes)
    """
    form = CIFAR100[as_choice("cifar100", "labels", labels, tuple(CIFAR100))]
    folder = as_folder("cifar100", root)
    train, test = (_joined(form, [_find(form, folder, name)]) for name in ("train", "test"))
    return Dataset(*train, *test, form.class_names)


def _find(form: _Format, root: Path, name: str) -> Path:
    """Return the path of the file in either form, also in the folders of the published archives."""
    for folder in form.folders:
        for suffix in (".bin", "", ".bin.gz", ".gz"):
            path = root / folder / f"{name}{suffix}"
            if path.is_file():
                return path
    raise FileNotFoundError(f"{form.op}: {root} has neither {name}.bin nor {name}")


def _joined(form: _Format, paths: list[Path]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images and labels in files, one after the other."""
    images, labels = zip(*(_read(form, path) for path in paths), strict=True)
    pixels = np.empty((sum(map(len, labels)), 32, 32, 3), np.uint8)  # channels last in memory, as batches have them
    np.concatenate([each.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for each in images], out=pixels)
    return pixels.transpose(0, 3, 1, 2), np.concatenate(labels)


def _read(form: _Format, path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images, [N, 3072], and labels in one file."""
    op, size, largest = form.op, path.stat().st_size, 3 * MOST_IMAGES * form.record  # as text, bytes can be two
    if size > largest:
        raise ValueError(f"{op}: {path} has {size} bytes, more than {MOST_IMAGES} images need")
    with opened(op, path) as stream:
        content = bytes(read_at_most(stream, largest))
    if len(content) > largest:
        raise ValueError(f"{op}: {path} unpacks to more than {largest} bytes, more than {MOST_IMAGES} images need")
    if content[:1] == PICKLE:  # by content, and no label: downloads often have a misleading suffix
        images, labels = _read_python(form, path, content)
    else:
        records = _records(form, path, content)
        images, labels = records[:, form.labels :], records[:, form.label].astype(np.int64)
    if not 0 < len(images) <= MOST_IMAGES:
        raise ValueError(f"{op}: {path} has {len(images)} images, expected 1 to {MOST_IMAGES}")
    if len(images) != len(labels):
        raise ValueError(f"{op}: {path} has {len(images)} images, but {len(labels)} labels")
    wrong = np.flatnonzero((labels < 0) | (labels >= len(form.class_names)))
    if wrong.size:
        raise ValueError(
            f"{op}: {path} has the label {labels[wrong[0]]} for image {wrong[0]}, expected 0 to "
            f"{len(form.class_names) - 1}"
        )
    return images, labels


def _records(form: _Format, path: Path, content: bytes) -> NDArray[np.uint8]:
    """Return the rows of a file in the binary form."""
    count, rest = divmod(len(content), form.record)
    if rest:
        raise ValueError(
            f"{form.op}: {path} is truncated or no file of {form.name}: its {len(content)} bytes are {count} images of "
            f"{form.record} bytes and {rest} more"
        )
    return np.frombuffer(content, np.uint8).reshape(count, form.record)


def _read_python(form: _Format, path: Path, content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images, [N, 3072], and labels of a file in the Python form."""
    try:
        values = read_pickle(content)
    except ValueError as error:
        raise ValueError(f"{form.op}: {path} is no file of {form.name}, or a damaged one: {error}") from None
    images, labels = _entry(form, path, values, "data", np.ndarray), _entry(form, path, values, form.key, list)
    if images.ndim != 2 or images.shape[1] != PIXELS:
        raise ValueError(f"{form.op}: {path} has images of shape {images.shape}, expected (N, {PIXELS})")
    if any(type(label) is not int or abs(label) >= 2**63 for label in labels):
        raise ValueError(
            f"{form.op}: {path} has labels that are no integers, expected 0 to {len(form.class_names) - 1}"
        )
    return images, np.array(labels, np.int64)


def _entry(form: _Format, path: Path, values: dict[str, Any], key: str, kind: type) -> Any:
    if not isinstance(values.get(key), kind):
        found = type(values[key]).__name__ if key in values else "nothing"
        raise ValueError(f"{form.op}: {path} has {found} under {key!r}, expected {kind.__name__}")
    return values[key]
