"""The pickles of CIFAR-10's Python form: data, and arrays of unsigned bytes, read without executing them.

Names are those that Python 2 and 3 and NumPy 1 and 2 write. What is allocated is a few times the file's size at most,
whatever lengths the file claims.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyconv import _pickles
from cyconv._pickles import Stateful, as_text, expect, expect_length

RECONSTRUCT = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
FROM_BUFFER = ("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer")
ENCODE = "_codecs.encode"  # how protocol 2 of Python 3 writes bytes
ARRAY, DTYPE = "numpy.ndarray", "numpy.dtype"


def read_pickle(content: bytes) -> dict[str, Any]:
    """Return the dict that a pickle holds.

    Raises
    ------
    ValueError
        If it is truncated or inconsistent, or would do anything but build plain data.
    """
    names = {
        **dict.fromkeys(RECONSTRUCT, _reconstruct),
        **dict.fromkeys(FROM_BUFFER, _from_buffer),
        DTYPE: _dtype,
        ARRAY: None,  # only an argument
        ENCODE: _Encoder(len(content)).encode,
    }
    value, _ = _pickles.read_pickle(content, names=names)
    return {key: item.value if isinstance(item, _Array) else item for key, item in expect(value, dict).items()}


class _Bytes(Stateful):
    """The dtype uint8, the only one there is."""

    def set_state(self, state: Any) -> None:
        """Take byte order and alignment, of which single bytes have none."""


class _Array(Stateful):
    """An array, empty until its state is built in."""

    def __init__(self) -> None:
        self.value: NDArray[np.uint8] = np.empty(0, np.uint8)

    def set_state(self, state: Any) -> None:
        _, shape, dtype, is_fortran, values = expect_length(state, 5, ARRAY)
        self.value = _array(values, dtype, shape, bool(expect(is_fortran, bool, int)))


def _reconstruct(arguments: tuple[Any, ...]) -> _Array:
    return _Array()


def _from_buffer(arguments: tuple[Any, ...]) -> _Array:
    values, dtype, shape, order = expect_length(arguments, 4, FROM_BUFFER[0])
    array = _Array()
    array.value = _array(values, dtype, shape, as_text(order) == "F")
    return array


def _dtype(arguments: tuple[Any, ...]) -> _Bytes:
    kind = as_text(arguments[0]) if arguments else "nothing"
    if kind not in ("u1", "|u1"):
        raise ValueError(f"it has an array of the dtype {kind[:20]!r}, expected 'u1' (unsigned bytes)")
    return _Bytes()


class _Encoder:
    """Encodes no more text than a file holds: one string a million times would be a great deal."""

    def __init__(self, most: int) -> None:
        self.left = most

    def encode(self, arguments: tuple[Any, ...]) -> bytes:
        text, encoding = (expect(value, str) for value in expect_length(arguments, 2, ENCODE))
        if encoding not in ("latin1", "latin-1"):
            raise ValueError(f"it encodes text as {encoding[:20]!r}, expected 'latin1'")
        self.left -= len(text)
        if self.left < 0:
            raise ValueError("it encodes more text than it holds")
        try:
            return text.encode("latin1")
        except UnicodeEncodeError as error:
            raise ValueError(f"it encodes text that is not 'latin1' ({error.reason})") from None


def _array(values: Any, dtype: Any, shape: Any, is_fortran: bool) -> NDArray[np.uint8]:
    expect(dtype, _Bytes)
    extents = [expect(extent, int) for extent in expect(shape, tuple)]
    size = len(expect(values, bytes))
    if len(extents) > 8 or not all(0 <= extent <= size for extent in extents) or math.prod(extents) != size:
        raise ValueError(f"it has an array of shape {_short(extents)}, but {size} bytes for it")
    return np.frombuffer(values, np.uint8).reshape(extents, order="F" if is_fortran else "C")


def _short(values: list[int]) -> str:
    return f"({', '.join(str(value)[:20] for value in values[:9])})"
