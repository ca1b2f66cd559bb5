"""Mini-batches of a data set, prepared by background threads while those before them are worked on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextvars import copy_context
from functools import partial
from itertools import chain, count, islice, pairwise, repeat, starmap
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from cyconv import memory
from cyconv._sources import Source, with_channel
from cyconv._validation import FLOATS, as_array, as_bool, as_float_dtype, as_generator, as_int, as_rows
from cyconv.data.augmentation.transforms import NHWC, Batch, Transform, as_transform
from cyconv.data.sampling import Sampler, as_sampler

Rows = slice | NDArray[np.int64]
Work = tuple[Rows, "np.random.SeedSequence | None"]  # np.random takes long to import


class Batches:
    """Iterate over a data set in mini-batches of floats, images among them in channels-last memory.

    Each iteration is one epoch. The data set itself is never copied, so it may be a memory-mapped file, a dataset of
    h5py or an array of zarr: of what has a shape, a dtype and `__getitem__`, each batch reads its own rows.

    Parameters
    ----------
    x : ndarray of shape (N, C, H, W), (N, H, W) or (N, features), float32, float64 or uint8
        Images, or vectors; bytes are divided by 255.
    y : array-like of N rows
        Labels or targets (likewise), handed on with their own dtype.
    batch_size : int
        Images a batch; the last batch has what is left.
    shuffle : bool, default False
        Draw a new order at the start of each iteration. The generator is used then and at no other time.
    rng : numpy.random.Generator, int or None
        Generator, or its seed, for `shuffle`, `sampler` and `augment`.
    prefetch : int, optional
        Batches prepared ahead; 0 prepares each when it is asked for, without a thread. Default: one for each of the
        `workers`. The batches are the same.
    drop_last : bool, default False
        Leave out a last batch smaller than `batch_size`.
    min_batch : int, default 1
        A last batch smaller than this is joined to the one before it, where there is one.
    dtype : dtype, default float32
        Of the images or vectors: float32 or float64.
    augment : transform or sequence of transforms, optional
        Changes each batch, see `cyconv.data.augmentation`. It is given the batch and a generator that depends on `rng`,
        the iteration and the number of the batch alone.
    sampler : Sampler, optional
        Says which rows each iteration takes, and in which order: a `BalancedSampler`, a `WeightedSampler` or a function
        of a generator that has a length. Default: each row once.
    workers : int, default 1
        Threads that prepare batches. More than one pay where `augment` takes longer than a training step.

    Attributes
    ----------
    images : int
        Images or vectors an iteration takes.
    rng : numpy.random.Generator
        What the next iteration draws from.

    Yields
    ------
    tuple
        Images (n, C, H, W) or vectors (n, features), and their rows of `y`: fresh arrays.

    Raises
    ------
    TypeError, ValueError
        If `x` has another dtype or number of axes, `y` another length, `dtype` is another, or a number is out of range;
        while iterating, if `sampler` or `augment` return something else than they should.

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
        x: ArrayLike | Source,
        y: ArrayLike | Source,
        batch_size: int,
        shuffle: bool = False,
        rng: np.random.Generator | int | None = None,
        prefetch: int | None = None,
        drop_last: bool = False,
        dtype: DTypeLike = np.float32,
        augment: Transform | Sequence[Transform] | None = None,
        sampler: Sampler | None = None,
        workers: int = 1,
        min_batch: int = 1,
    ) -> None:
        images, targets = as_rows("Batches", "x", x), as_rows("Batches", "y", y)
        if images.dtype != np.uint8 and images.dtype.newbyteorder("=") not in FLOATS:
            raise TypeError(f"Batches: `x` must be uint8, float32 or float64, got {images.dtype}")
        if images.ndim not in (2, 3, 4):
            raise ValueError(
                f"Batches: `x` must have the shape (N, C, H, W), (N, H, W) or (N, features), got {images.shape}"
            )
        if targets.shape[:1] != images.shape[:1]:
            raise ValueError(f"Batches: `y` must have a row for each of the {len(images)} in `x`, got {targets.shape}")
        self._dtype = as_float_dtype("Batches", "dtype", dtype)
        self._x = with_channel(images) if images.ndim == 3 else images
        self._y = targets
        self._batch_size = as_int("Batches", "batch_size", batch_size)
        self._workers = as_int("Batches", "workers", workers)
        self._prefetch = self._workers if prefetch is None else as_int("Batches", "prefetch", prefetch, 0)
        self.rng = as_generator("Batches", rng)
        self._augment = as_transform("Batches", augment)
        self._shuffle = as_bool("Batches", "shuffle", shuffle)
        self._sampler = as_sampler("Batches", sampler)
        if self._shuffle and self._sampler is not None:
            raise ValueError("Batches: `sampler` gives an order already, so `shuffle` must be False")
        self.images = len(images) if self._sampler is None else len(self._sampler)
        self._drop_last = as_bool("Batches", "drop_last", drop_last)
        self._min_batch = as_int("Batches", "min_batch", min_batch)

    def __len__(self) -> int:
        whole, rest = divmod(self.images, self._batch_size)
        return whole if self._drop_last or not rest or (whole and rest < self._min_batch) else whole + 1

    @property
    def smallest(self) -> int:
        """How many images or vectors the smallest batch has."""
        return min((stop - start for start, stop in pairwise(self._bounds())), default=0)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of an image or a vector, None where `augment` may change it."""
        return self._x.shape[1:] if self._augment is None else None

    def __iter__(self) -> Iterator[Batch]:
        # Here and not in a generator's body: the order is drawn now, not when the first batch is asked for.
        order = self._order()
        slices = starmap(slice, pairwise(self._bounds()))
        rows = slices if order is None else (order[positions] for positions in slices)
        work: Iterator[Work] = zip(rows, repeat(None) if self._augment is None else self._seeds(), strict=False)
        return self._prefetched(work) if self._prefetch else starmap(self._prepare, work)

    def _bounds(self) -> list[int]:
        """Return where each batch begins, and the last one ends."""
        bounds = [number * self._batch_size for number in range(len(self) + 1)]
        if len(self) and not self._drop_last:
            bounds[-1] = self.images  # with what is left of a batch, or joined to one
        return bounds

    def _order(self) -> NDArray[np.int64] | None:
        """Return the rows of this iteration; None stands for all as they are."""
        if self._sampler is None:
            return self.rng.permutation(len(self._x)) if self._shuffle else None
        rows = np.asarray(self._sampler(self.rng))
        if rows.dtype.kind not in "iu" or rows.shape != (self.images,):
            raise ValueError(
                f"Batches: `sampler` must return as many integers as its length, {self.images}, got {rows.dtype} of "
                f"shape {rows.shape}"
            )
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self._x):
            raise ValueError(
                f"Batches: `sampler` must return rows from 0 to {len(self._x) - 1}, got {rows.min()} to {rows.max()}"
            )
        return rows

    def _seeds(self) -> Iterator[np.random.SeedSequence]:
        """Return a seed for each batch of this iteration."""
        entropy = int(self.rng.integers(2**63))
        return (np.random.SeedSequence(entropy, spawn_key=(number,)) for number in count())

    def _prefetched(self, work: Iterator[Work]) -> Iterator[Batch]:
        """Yield the batches in order, `prefetch` of them ready or under way while the consumer works."""
        from concurrent.futures import Future, ThreadPoolExecutor  # takes milliseconds to import

        process = os.getpid()
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="cyconv-batches")
        ahead: deque[tuple[Work, Future[Batch]]] = deque()
        try:
            while os.getpid() == process:
                for item in islice(work, self._prefetch + 1 - len(ahead)):
                    # In the context of the consumer, whose number of threads holds for `augment` too.
                    ahead.append((item, pool.submit(copy_context().run, partial(self._prepare, *item))))
                if not ahead:
                    return
                yield ahead.popleft()[1].result()
            # A child forked in mid-iteration has no thread and must not touch its locks: it prepares the rest itself.
            yield from starmap(self._prepare, chain((item for item, _ in ahead), work))
        finally:
            # A thread only ever holds work that was handed to it, never a full queue: cancelling that ends it. It is
            # not joined, because a garbage collection may run this on that very thread.
            if os.getpid() == process:
                pool.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, rows: Rows, seed: np.random.SeedSequence | None) -> Batch:
        """Return one batch."""
        x, y = self._numbers(rows), self._y[rows].copy()
        return (x, y) if self._augment is None else self._augmented(x, y, np.random.default_rng(seed))

    def _numbers(self, rows: Rows) -> NDArray:
        """Return images or vectors in the dtype of the batches."""
        # [n, C, H, W] -> [n, H, W, C]; rows are picked where each is one piece of memory
        if isinstance(self._x, np.ndarray) and self._x.ndim == 4 and self._x.transpose(NHWC).flags.c_contiguous:
            source = self._x.transpose(NHWC)[rows]
        else:
            source = self._x[rows].transpose(NHWC) if self._x.ndim == 4 else self._x[rows]
        values = memory.empty(source.shape, self._dtype)
        if source.dtype == np.uint8:
            np.divide(source, 255, out=values, dtype=self._dtype)
        else:
            np.copyto(values, source, casting="same_kind")
        return values.transpose(0, 3, 1, 2) if values.ndim == 4 else values

    def _augmented(self, x: NDArray, y: NDArray, rng: np.random.Generator) -> Batch:
        """Return a batch as `augment` changes it."""
        batch: Any = self._augment(x, y, rng)  # type: ignore[misc]
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise TypeError(f"Batches: `augment` must return a pair (x, y), got {type(batch).__name__}")
        x, y = as_array("Batches: augment", "x", batch[0]), as_array("Batches: augment", "y", batch[1])
        if x.dtype.kind != "f":
            raise TypeError(f"Batches: `augment` must return images of floating point numbers, got {x.dtype}")
        if not x.ndim or x.shape[:1] != y.shape[:1]:
            raise ValueError(
                f"Batches: `augment` must return as many images as targets, got shapes {x.shape} and {y.shape}"
            )
        return x.astype(self._dtype, copy=False), y
