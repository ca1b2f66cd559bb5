"""What a network is fed with: batches that are ready for it, and checks of them before any work is done."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cyconv.layers  # noqa: F401  (whole, before its parts: see cyconv/__init__.py)
from cyconv._validation import as_array, as_inputs, as_numbers
from cyconv.data.batches import Batches
from cyconv.layers.base import Layer, Shape

Batch = tuple[NDArray, NDArray]


class Ready:
    """Batches, each made ready for a network when its turn comes."""

    def __init__(self, op: str, batches: Iterable[Batch], input_shape: Shape | None, dtype: np.dtype) -> None:
        self._op, self._batches, self._input_shape, self._dtype = op, batches, input_shape, dtype

    def __iter__(self) -> Iterator[Batch]:
        batch: Any = None
        for batch in self._batches:
            self.check([batch])
            op = f"{self._op}: batches"
            x = as_inputs(op, batch[0], self._input_shape)[:]
            y = as_array(op, "y", batch[1])
            if len(x) == 0 or y.shape[:1] != x.shape[:1]:
                raise ValueError(
                    f"{op}: each needs images and a row of `y` for each of them, got {x.shape} and {y.shape}"
                )
            yield as_numbers(x, self._dtype), y
        if batch is None:
            self.check([])

    def check(self, batches: Sequence[Any]) -> None:
        """Raise unless there are batches and each is a pair."""
        if not len(batches):
            raise ValueError(f"{self._op}: `x` is empty: it holds no (x, y) batch")
        for batch in batches:
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise TypeError(f"{self._op}: batches: each must be a pair (x, y), got {type(batch).__name__}")


def held_out(data: Any) -> tuple[Any, Any]:
    """Return images and targets of `validation_data`; batches have no separate targets."""
    if isinstance(data, list) and len(data) == 2 and not all(map(_is_batch, data)):
        data = tuple(data)
    if not isinstance(data, tuple):
        return data, None
    if len(data) != 2 or data[1] is None:
        missing = "no targets" if len(data) == 2 else f"a tuple of {len(data)}"
        raise ValueError(f"fit: `validation_data` must be a pair (x, y) or an iterable of batches, got {missing}")
    return data


def _is_batch(value: Any) -> bool:
    """Return whether a member of a list of two is a batch, and not the images or the targets of all."""
    return isinstance(value, (tuple, list)) and len(value) == 2 and np.ndim(value[0]) > 1


def single_values(network: Layer, input_shape: Shape) -> str | None:
    """Return where one image has one value per channel to normalise while training, None if there is no such place.

    Two images are needed there for a variance.
    """
    for step in network.trace(input_shape):
        if "running_var" in step.layer.buffers and math.prod(step.input_shape[1:]) == 1:
            layer = f"{type(step.layer).__name__} {step.name}"
            return f"{layer} normalises maps of one pixel, which takes two images while training"
    return None


def check_smallest(op: str, batches: Any, network: Layer, input_shape: Shape | None) -> None:
    """Raise if one of the batches is too small to be normalised, where their sizes are known beforehand."""
    if isinstance(batches, Batches):
        shape, sizes = batches.shape, [batches.smallest]
    elif isinstance(batches, Sequence):
        shapes = [getattr(x, "shape", ()) for x, _ in batches]
        shape, sizes = shapes[0][1:] or None, [each[0] for each in shapes if each]
    else:
        return
    wanted = input_shape or shape
    if wanted and 1 in sizes and (single := single_values(network, wanted)):
        raise ValueError(
            f"{op}: every batch of `x` must hold at least 2 images, got one of 1: {single}; "
            "`Batches` can leave it out, `drop_last=True`, or join it to another, `min_batch=2`"
        )
