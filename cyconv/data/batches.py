"""Mini-batches of a data set, each prepared by a background thread while the one before it is worked on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from itertools import chain, islice

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from cyconv import memory
from cyconv._validation import FLOATS, as_array, as_bool, as_float_dtype, as_generator, as_int

Batch = tuple[NDArray, NDArray]
Rows = slice | NDArray[np.int64]


class Batches:
    """Iterate over a data set in mini-batches of floats, images among them in channels-last memory.

    Each iteration is one epoch. The data set itself is never copied, so it may be a memory-mapped file.

    Parameters
    ----------
    x : ndarray of shape (N, C, H, W), (N, H, W) or (N, features), float32, float64 or uint8
        Images, or vectors; bytes are divided by 255.
    y : array-like of N rows
        Labels or targets, handed on with their own dtype.
    batch_size : int
        Images a batch; the last batch has what is left.
    shuffle : bool, default False
        Draw a new order at the start of each iteration. The generator is used then and at no other time.
    rng : numpy.random.Generator, int or None
        Generator, or its seed, for `shuffle`.
    prefetch : int, default 1
        Batches prepared ahead; 0 prepares each when it is asked for, without a thread. The batches are the same.
    drop_last : bool, default False
        Leave out a last batch smaller than `batch_size`.
    dtype : dtype, default float32
        Of the images or vectors: float32 or float64.

    Yields
    ------
    tuple
        Images (n, C, H, W) or vectors (n, features), and their rows of `y`: fresh arrays.

    Raises
    ------
    TypeError, ValueError
        If `x` has another dtype or number of axes, `y` another length, `dtype` is another, or a number is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.data import Batches
    >>> batches = Batches(np.full((5, 8, 8), 255, np.uint8), np.arange(5), batch_size=2)
    >>> for x, y in batches:
    ...     print(x.shape, x.dtype, x.max(), y)
    (2, 1, 8, 8) float32 1.0 [0 1]
    (2, 1, 8, 8) float32 1.0 [2 3]
    (1, 1, 8, 8) float32 1.0 [4]
    """

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        batch_size: int,
        shuffle: bool = False,
        rng: np.random.Generator | int | None = None,
        prefetch: int = 1,
        drop_last: bool = False,
        dtype: DTypeLike = np.float32,
    ) -> None:
        images, targets = as_array("Batches", "x", x), as_array("Batches", "y", y)
        if images.dtype != np.uint8 and images.dtype.newbyteorder("=") not in FLOATS:
            raise TypeError(f"Batches: `x` must be uint8, float32 or float64, got {images.dtype}")
        if images.ndim not in (2, 3, 4):
            raise ValueError(
                f"Batches: `x` must have the shape (N, C, H, W), (N, H, W) or (N, features), got {images.shape}"
            )
        if targets.shape[:1] != images.shape[:1]:
            raise ValueError(f"Batches: `y` must have a row for each of the {len(images)} in `x`, got {targets.shape}")
        self._dtype = as_float_dtype("Batches", "dtype", dtype)
        self._x = images[:, np.newaxis] if images.ndim == 3 else images
        self._y = targets
        self._batch_size = as_int("Batches", "batch_size", batch_size)
        self._prefetch = as_int("Batches", "prefetch", prefetch, 0)
        self._rng = as_generator("Batches", rng)
        self._shuffle = as_bool("Batches", "shuffle", shuffle)
        self._drop_last = as_bool("Batches", "drop_last", drop_last)

    def __len__(self) -> int:
        whole, rest = divmod(len(self._x), self._batch_size)
        return whole if self._drop_last or not rest else whole + 1

    def __iter__(self) -> Iterator[Batch]:
        # Here and not in a generator's body: the order is drawn now, not when the first batch is asked for.
        order = self._rng.permutation(len(self._x)) if self._shuffle else None
        starts = range(0, len(self) * self._batch_size, self._batch_size)
        slices = (slice(start, start + self._batch_size) for start in starts)
        rows = slices if order is None else (order[positions] for positions in slices)
        return self._prefetched(rows) if self._prefetch else map(self._prepare, rows)

    def _prefetched(self, rows: Iterator[Rows]) -> Iterator[Batch]:
        """Yield the batches in order, `prefetch` of them ready or under way while the consumer works."""
        from concurrent.futures import Future, ThreadPoolExecutor  # takes milliseconds to import

        process = os.getpid()
        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cyconv-batches")
        ahead: deque[tuple[Rows, Future[Batch]]] = deque()
        try:
            while os.getpid() == process:
                for selection in islice(rows, self._prefetch + 1 - len(ahead)):
                    ahead.append((selection, pool.submit(self._prepare, selection)))
                if not ahead:
                    return
                yield ahead.popleft()[1].result()
            # A child forked in mid-iteration has no thread and must not touch its locks: it prepares the rest itself.
            yield from map(self._prepare, chain((selection for selection, _ in ahead), rows))
        finally:
            # The thread only ever holds work that was handed to it, never a full queue: cancelling that ends it. It is
            # not joined, because a garbage collection may run this on that very thread.
            if os.getpid() == process:
                pool.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, rows: Rows) -> Batch:
        """Return one batch."""
        source = self._x[rows]
        if source.ndim == 4:
            source = source.transpose(0, 2, 3, 1)  # [n, C, H, W] -> [n, H, W, C]
        values = memory.empty(source.shape, self._dtype)
        if source.dtype == np.uint8:
            np.divide(source, 255, out=values, dtype=self._dtype)
        else:
            np.copyto(values, source, casting="same_kind")
        return values.transpose(0, 3, 1, 2) if values.ndim == 4 else values, self._y[rows].copy()
