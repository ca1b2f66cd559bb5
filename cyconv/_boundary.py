"""How an image goes on over its edges, under the names of scipy.ndimage: each rule written once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cyconv._geometry import mirrored

BOUNDARIES = ("constant", "reflect", "mirror", "nearest", "wrap")
OUTSIDE = -1


def sources(boundary: str, size: int, before: int, count: int) -> NDArray[np.intp]:
    """Return which of `size` pixels each of `count` is a copy of, the first of which lies `before` pixels before them.

    Those that "constant" fills are OUTSIDE.
    """
    position = np.arange(-before, count - before, dtype=np.intp)
    if boundary == "constant":
        return np.where((position >= 0) & (position < size), position, OUTSIDE)
    if boundary == "nearest":
        return np.clip(position, 0, size - 1)
    if boundary == "wrap":
        return position % size
    if boundary == "reflect":  # d c b a | a b c d | d c b a
        position %= 2 * size
        return np.minimum(position, 2 * size - 1 - position)
    return mirrored(position, size)  # d c b | a b c d | c b a
