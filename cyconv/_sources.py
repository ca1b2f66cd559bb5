"""Data sets that stay where they are: rows of what has a shape, a dtype and `__getitem__`, read when they are needed.

Datasets of h5py and arrays of zarr are such, and whatever else is sliced as they are.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

PIECE = 1 << 22  # bytes read at a time, where all of a source is looked at


class Source:
    """The rows of an array-like that is read in pieces.

    What indexing returns is an array: ``source[2:9]``, ``source[rows]`` for an integer array in any order, also with
    repetitions (h5py wants increasing indices, each once).

    Parameters
    ----------
    values : array-like with `shape`, `dtype` and `__getitem__`
        Where the rows are.
    has_channel : bool, default True
        False adds an axis of one channel to images (N, H, W).
    """

    def __init__(self, values: Any, has_channel: bool = True) -> None:
        self._values, self._has_channel = values, has_channel
        extents = tuple(map(int, values.shape))
        self.shape = extents if has_channel else (extents[0], 1, *extents[1:])
        self.dtype = np.dtype(values.dtype)
        self.ndim, self.size = len(self.shape), math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray:
        """Return a slice of the rows, or those of an array of indices."""
        if isinstance(rows, slice):
            found = self._read(slice(*rows.indices(len(self))))
        else:
            each, places = np.unique(rows, return_inverse=True)
            found = self._read(each if len(each) else slice(0, 0))[places]
        return found if self._has_channel else found[:, np.newaxis]

    def _read(self, rows: Any) -> NDArray:
        return np.asarray(self._values[rows], self.dtype)

    def with_channel(self) -> Source:
        """Return images (N, H, W) as (N, 1, H, W)."""
        return Source(self._values, has_channel=False)

    def samples(self) -> NDArray:
        """Return rows that hold all the values there are, of real numbers the least and the largest, in some order.

        They pass or fail any check of values as the whole would, which is read for them a few megabytes at a time.
        """
        if self.dtype.names is not None or not self.size:
            return self[:]
        few = max(1, PIECE * len(self) // (self.size * self.dtype.itemsize))
        values = np.empty(0, self.dtype)
        for start in range(0, len(self), few):
            piece = self[start : start + few]
            extremes = [piece.min(), piece.max()] if self.dtype.kind == "f" else piece.ravel()
            values = np.unique(np.append(values, extremes))  # a NaN among the extremes stays one
        return np.resize(values, (-(-len(values) * len(self) // self.size), *self.shape[1:]))


Rows = NDArray | Source


def as_source(value: Any) -> Source | None:
    """Return rows that are read when needed, or None for all that is in memory or cannot be read so.

    Tables of pandas are indexed by labels, rows of sparse matrices are sparse, tensors' dtypes are not NumPy's: they
    are none.
    """
    if isinstance(value, Source):
        return value
    if isinstance(value, (np.ndarray, np.generic, list, tuple)) or hasattr(value, "iloc") or hasattr(value, "tocsr"):
        return None
    if not all(hasattr(value, name) for name in ("shape", "dtype", "__getitem__")):
        return None
    try:
        source = Source(value)
        return source if source.ndim and not source.dtype.hasobject else None
    except (TypeError, ValueError):
        return None


def with_channel(images: Rows) -> Rows:
    """Return images (N, H, W) as (N, 1, H, W)."""
    return images.with_channel() if isinstance(images, Source) else images[:, np.newaxis]


def samples(rows: Rows) -> NDArray:
    """Return an array itself, and of a source rows with all of its values."""
    return rows.samples() if isinstance(rows, Source) else rows
