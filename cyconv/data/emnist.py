"""EMNIST: handwritten letters and digits in MNIST's format, read from its published files."""

from __future__ import annotations

import os
from string import ascii_lowercase, ascii_uppercase, digits

import numpy as np
from numpy.typing import NDArray

from cyconv._validation import as_choice
from cyconv.data.datasets import Dataset, as_folder, find_folder, read_part

FOLDERS = ("", "gzip", "raw", "EMNIST/raw")  # the published archive's, and torchvision's
MERGED = digits + ascii_uppercase + "abdefghnqrt"  # small letters that look like their capitals are these
CLASSES = {
    "byclass": digits + ascii_uppercase + ascii_lowercase,
    "bymerge": MERGED,
    "balanced": MERGED,
    "letters": ascii_uppercase,
    "digits": digits,
    "mnist": digits,
}


def emnist(root: str | os.PathLike[str], part: str = "balanced") -> Dataset:
    """Read a part of EMNIST from a folder.

    Parameters
    ----------
    root : str or path
        Folder with ``emnist-PART-train-images-idx3-ubyte``, ``emnist-PART-train-labels-idx1-ubyte`` and the same for
        ``test``, each plain or gzipped (``.gz``); or with the folder ``gzip`` of the published archive, ``raw`` or
        ``EMNIST/raw``.
    part : {"byclass", "bymerge", "balanced", "letters", "digits", "mnist"}, default "balanced"
        Which part: 62 classes, 47 (small letters that look like capitals count as these), the same with 2,400 training
        images each, 26 letters (small and capital ones alike), or ten digits.

    Returns
    -------
    Dataset
        The published split, images of shape (1, 28, 28), upright: in the files, rows and columns are exchanged.

    Raises
    ------
    FileNotFoundError
        If one of the files is missing.
    TypeError, ValueError
        If `part` is another, or a file is not what its place needs, as for `mnist`.

    Notes
    -----
    Letters count from 0 here, in the files from 1. G. Cohen, S. Afshar, J. Tapson, A. van Schaik, EMNIST: extending
    MNIST to handwritten letters, IJCNN, 2017.
    """
    op = "emnist"
    classes = CLASSES[as_choice(op, "part", part, tuple(CLASSES))]
    folder = find_folder(op, as_folder(op, root), FOLDERS, f"emnist-{part}-train-images-idx3-ubyte")
    train_x, train_y = _read(op, folder, part, "train", len(classes))
    test_x, test_y = _read(op, folder, part, "test", len(classes))
    return Dataset(train_x, train_y, test_x, test_y, tuple(classes))


def _read(op: str, folder: os.PathLike[str], part: str, half: str, classes: int) -> tuple[NDArray, NDArray[np.int64]]:
    first = int(part == "letters")
    images, labels = read_part(op, as_folder(op, folder), f"emnist-{part}-{half}", classes + first)
    if labels.size and labels.min() < first:
        raise ValueError(f"{op}: {folder} has the label 0 for a letter, expected 1 to {classes}")
    return np.ascontiguousarray(images.swapaxes(2, 3)), labels - first
