"""Which rows of a data set an epoch takes, where that is not each once; and disjoint parts of a set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv._validation import as_array, as_bool, as_generator, as_int, as_int_array, as_number, brief

Rows = NDArray[np.int64]
TINY = 1e-9  # of a row: products of shares are not exact


class Sampler(Protocol):
    """What `Batches` and `Network.fit` take as ``sampler``."""

    def __len__(self) -> int:
        """Return how many rows an epoch takes."""

    def __call__(self, rng: np.random.Generator) -> Rows:
        """Return the rows of a new epoch, in order."""


def as_sampler(op: str, value: Any) -> Sampler | None:
    """Return what says which rows to take, or None."""
    if value is not None and (isinstance(value, type) or not callable(value) or not hasattr(value, "__len__")):
        hint = "; call the class to make one" if isinstance(value, type) else ""
        raise TypeError(
            f"{op}: `sampler` must be a function of a generator that has a length, got {brief(value)}{hint}"
        )
    return value


class BalancedSampler:
    """Take each class equally often, however rare it is.

    Parameters
    ----------
    labels : array_like of N integers
        Class of each row.
    size : int, optional
        Rows an epoch. Default: N.

    Raises
    ------
    TypeError, ValueError
        If `labels` are not integers (N,), or there is none.

    Notes
    -----
    Of K classes, K rows in a row are one of each, in random order; so the classes of a batch differ by one row at most.
    A class that runs out begins anew in another order: each of its rows is taken as often as the others, or once more.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.data import Batches, BalancedSampler
    >>> y = np.array([0] * 90 + [1] * 10)
    >>> batches = Batches(np.zeros((100, 8, 8), np.uint8), y, 20, sampler=BalancedSampler(y), rng=0)
    >>> [int(labels.sum()) for _, labels in batches]
    [10, 10, 10, 10, 10]
    """

    def __init__(self, labels: ArrayLike, size: int | None = None) -> None:
        classes = as_int_array("BalancedSampler", "labels", labels, 1)
        if not len(classes):
            raise ValueError("BalancedSampler: `labels` is empty")
        self.size = len(classes) if size is None else as_int("BalancedSampler", "size", size)
        self.members = _members(classes)

    def __len__(self) -> int:
        return self.size

    def __call__(self, rng: np.random.Generator) -> Rows:
        """Return the rows of a new epoch, in order."""
        rounds = -(-self.size // len(self.members))
        drawn = np.stack([_passes(members, rounds, rng) for members in self.members], axis=1)  # [rounds, classes]
        return rng.permuted(drawn, axis=1).reshape(-1)[: self.size]


class WeightedSampler:
    """Draw rows with probabilities of their own, each draw from all rows.

    Parameters
    ----------
    weights : array_like of N numbers
        How likely each row is, compared to the others; at least 0.
    size : int, optional
        Rows an epoch. Default: N.

    Raises
    ------
    TypeError, ValueError
        If `weights` are not finite numbers (N,) that are at least 0 and not all 0.

    Examples
    --------
    >>> from cyconv.data import WeightedSampler
    >>> import numpy as np
    >>> WeightedSampler([0, 1, 3], size=8)(np.random.default_rng(0))
    array([2, 2, 1, 1, 2, 2, 2, 2])
    """

    def __init__(self, weights: ArrayLike, size: int | None = None) -> None:
        numbers = as_array("WeightedSampler", "weights", weights)
        if numbers.dtype.kind not in "iuf" or numbers.ndim != 1:
            raise TypeError(
                f"WeightedSampler: `weights` must be numbers (N,), got {numbers.dtype} of shape {numbers.shape}"
            )
        total = numbers.sum(dtype=np.float64)
        if not (numbers >= 0).all() or not 0 < total < np.inf:
            raise ValueError("WeightedSampler: `weights` must be finite, at least 0, and not all 0")
        self.probabilities = numbers / total
        self.size = len(numbers) if size is None else as_int("WeightedSampler", "size", size)

    def __len__(self) -> int:
        return self.size

    def __call__(self, rng: np.random.Generator) -> Rows:
        """Return the rows of a new epoch, in order."""
        return rng.choice(len(self.probabilities), self.size, p=self.probabilities)


def split(
    x: ArrayLike,
    y: ArrayLike,
    fractions: Sequence[float] = (0.8, 0.2),
    *,
    stratify: bool = False,
    rng: np.random.Generator | int | None = None,
) -> list[tuple[NDArray, NDArray]]:
    """Divide a data set at random, for training, validation and testing.

    Parameters
    ----------
    x, y : array_like of N rows
        Images and their labels or targets.
    fractions : sequence of float, default (0.8, 0.2)
        Share of each part; together 1.
    stratify : bool, default False
        Whether each class of the labels `y` is divided in these proportions, to less than one row.
    rng : numpy.random.Generator, int or None
        Generator, or its seed.

    Returns
    -------
    list of (x, y)
        The parts: copies of the rows, in their old order. Each row is in one of them.

    Raises
    ------
    TypeError, ValueError
        If `y` has another length than `x`; the fractions are not positive numbers that add up to 1, or leave a part
        empty; or labels to be stratified are not integers (N,).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.data import digits, split
    >>> data = digits()
    >>> train, validation = split(data.train_x, data.train_y, (0.9, 0.1), stratify=True, rng=0)
    >>> np.bincount(validation[1]).tolist()
    [14, 15, 14, 15, 14, 15, 14, 15, 14, 14]
    """
    images, targets = as_array("split", "x", x), as_array("split", "y", y)
    if not images.ndim or images.shape[:1] != targets.shape[:1]:
        raise ValueError(
            f"split: `x` and `y` must have the same number of rows, got shapes {images.shape} and {targets.shape}"
        )
    shares = _as_fractions(fractions)
    generator = as_generator("split", rng)
    groups = [np.arange(len(images))]
    if as_bool("split", "stratify", stratify):
        groups = _members(as_int_array("split", "y", targets, 1))
    counts = _apportioned([len(group) for group in groups], shares)
    parts: list[list[Rows]] = [[] for _ in shares]
    for group, count in zip(groups, counts, strict=True):
        pieces = np.split(generator.permutation(group), np.cumsum(count)[:-1])
        for part, piece in zip(parts, pieces, strict=True):
            part.append(piece)
    rows = [np.sort(np.concatenate(part)) for part in parts]
    if not all(map(len, rows)):
        raise ValueError(f"split: `fractions` {fractions} of {len(images)} rows leave a part empty")
    return [(images[part], targets[part]) for part in rows]


def _as_fractions(fractions: Any) -> NDArray[np.float64]:
    if isinstance(fractions, str) or not isinstance(fractions, (Sequence, np.ndarray)):
        raise TypeError(f"split: `fractions` must be a sequence of numbers, got {fractions!r}")
    shares = np.array([as_number("split", "fractions", share, 0, 1, open_minimum=True) for share in fractions])
    if abs(shares.sum() - 1) > 1e-6:
        raise ValueError(f"split: `fractions` must add up to 1, got {fractions}")
    return shares / shares.sum()


def _apportioned(sizes: list[int], shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many of each group go to each part: its share or the whole number next to it.

    What rounding down leaves of a group goes to the parts that are farthest behind their share of all groups so far,
    one to each: the parts as a whole come close to their shares too.
    """
    exact = np.outer(sizes, shares)
    counts = np.floor(exact + TINY).astype(np.int64)
    behind = np.zeros(len(shares))
    for size, wanted, count in zip(sizes, exact, counts, strict=True):
        rest = wanted - count
        behind += rest
        first = np.argsort(np.where(rest > TINY, -behind, np.inf), kind="stable")[: size - count.sum()]
        count[first] += 1
        behind[first] -= 1
    return counts


def _members(classes: NDArray[np.int64]) -> list[Rows]:
    """Return the rows of each class that there is."""
    order = np.argsort(classes, kind="stable")
    _, starts = np.unique(classes[order], return_index=True)
    return np.split(order, starts[1:])


def _passes(members: Rows, count: int, rng: np.random.Generator) -> Rows:
    """Return `count` members: all in random order, again and again."""
    passes = -(-count // len(members))
    return np.concatenate([rng.permutation(members) for _ in range(passes)])[:count]
