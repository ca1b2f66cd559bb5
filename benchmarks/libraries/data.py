"""What all libraries share: random arrays, and the form of what they hand to the worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Work(NamedTuple):
    """The functions to time, by direction; of a network also what lets its peers be compared."""

    functions: dict[str, Callable[[], object]]
    parameters: int | None = None
    operations: int = 0  # of one prediction


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Return float32 numbers from the unit normal distribution."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def photograph(size: int, channels: int, dtype: str) -> np.ndarray:
    """Return an image (size, size) or (size, size, channels) in the range of 8-bit pictures."""
    shape = (size, size) if channels == 1 else (size, size, channels)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8).astype(dtype)


def labels(shape: tuple[int, ...], classes: int) -> np.ndarray:
    """Return random classes."""
    return np.random.default_rng(1).integers(0, classes, shape)
