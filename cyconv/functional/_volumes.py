"""What operations on volumes share: numbers for each of three axes, and volumes as the images of their slices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyconv import _validation as check
from cyconv.functional._arrays import NCHW

Triple = tuple[int, int, int]


def as_triple(op: str, name: str, value: Any, minimum: int = 1) -> Triple:
    """Return an int or three ints as (depth, vertical, horizontal)."""
    values = value if isinstance(value, (tuple, list)) else (value, value, value)
    if len(values) != 3:
        raise ValueError(f"{op}: `{name}` must be an int or three ints, got {value!r}")
    depth, vertical, horizontal = (check.as_int(op, name, number, minimum) for number in values)
    return depth, vertical, horizontal


def voxels(x: NDArray) -> NDArray:
    """Return (N, C, D, H, W) as C-contiguous [N, D, H, W, C]: a view where it lies so, else a copy."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 4, 1))


def slices(x: NDArray) -> NDArray:
    """Return (N, C, D, H, W) as the images of its slices, (N*D, C, H, W)."""
    pixels = voxels(x)
    return pixels.reshape(len(pixels) * pixels.shape[1], *pixels.shape[2:]).transpose(NCHW)


def volumes(images: NDArray, depth: int) -> NDArray:
    """Return slices (N*D, C, H, W) as (N, C, D, H, W)."""
    pixels = images.transpose(0, 2, 3, 1)
    return pixels.reshape(len(pixels) // depth, depth, *pixels.shape[1:]).transpose(0, 4, 1, 2, 3)
