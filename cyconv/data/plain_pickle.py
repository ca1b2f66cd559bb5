"""Read pickles that hold data only, without executing them.

A pickle is a program for a small machine with a stack, and the ordinary reader runs whatever function it names. This
one knows the instructions that build dicts, lists, tuples, text, bytes, integers and arrays of unsigned bytes, in the
forms that Python 2 and 3 and NumPy 1 and 2 write from protocol 2 on, and refuses all others by name. It allocates a few
times the file's size at most, whatever lengths the file claims.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

PICKLE = b"\x80"  # what pickles from protocol 2 on begin with
RECONSTRUCT = {"numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}
FROM_BUFFER = {"numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"}
ENCODE = "_codecs.encode"  # how protocol 2 of Python 3 writes bytes
ARRAY, DTYPE = "numpy.ndarray", "numpy.dtype"
GLOBALS = {*RECONSTRUCT, *FROM_BUFFER, ENCODE, ARRAY, DTYPE}


def read_pickle(content: bytes) -> dict[str, Any]:
    """Return the dict that a pickle holds.

    Raises
    ------
    ValueError
        If it is truncated or inconsistent, or would do anything but build plain data.
    """
    return _Machine(content).run()


class _Global:
    """A function or class that the pickle names."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Bytes:
    """The dtype uint8, the only one there is."""


class _Array:
    """An array, empty until its state is built in."""

    def __init__(self) -> None:
        self.value: NDArray[np.uint8] = np.empty(0, np.uint8)


class _Mark:
    """Where the items of a list, tuple or dict begin on the stack."""


class _Machine:
    """The stack machine."""

    def __init__(self, content: bytes) -> None:
        self.content, self.position = content, 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.encodable = len(content)  # characters that may still be encoded, or one string a million times would be

    def run(self) -> dict[str, Any]:
        if self.content[:1] != PICKLE:
            raise ValueError(f"it begins with {self.content[:4]!r}, expected a pickle of protocol 2 or newer")
        while (code := self.take(1)) != b".":
            operation = OPERATIONS.get(code)
            if operation is None:
                raise ValueError(f"it needs the instruction {_name(code)} at byte {self.position - 1}")
            operation(self)
        result = self.pop(dict)
        return {key: value.value if isinstance(value, _Array) else value for key, value in result.items()}

    # Content and stack

    def take(self, size: int) -> bytes:
        piece = self.content[self.position : self.position + size]
        if len(piece) < size:
            raise ValueError(f"it is truncated: {size} bytes are to follow byte {self.position}, but {len(piece)} do")
        self.position += size
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def line(self) -> str:
        end = self.content.find(b"\n", self.position, self.position + 256)
        if end < 0:
            raise ValueError(f"it is truncated: a name at byte {self.position} has no end")
        return _decoded(self.take(end + 1 - self.position)[:-1], "ascii")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self, *kinds: type) -> Any:
        if not self.stack or isinstance(self.stack[-1], _Mark):
            raise ValueError(f"it takes a value from an empty stack at byte {self.position - 1}")
        return _expect(self.stack.pop(), *kinds) if kinds else self.stack.pop()

    def items(self) -> list[Any]:
        """Take all down to the last mark."""
        for start in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[start], _Mark):
                items = self.stack[start + 1 :]
                del self.stack[start:]
                return items
        raise ValueError(f"it looks for a mark that is not there at byte {self.position - 1}")

    def top(self, kind: type) -> Any:
        value = self.pop(kind)
        self.push(value)
        return value

    # Instructions

    def set_items(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise ValueError("a dict has a key without a value")
        target = self.top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Only text: to hash a tuple of tuples of tuples can take for ever.
            target[_text(key)] = value

    def append(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def remember(self, index: int) -> None:
        if not self.stack:
            raise ValueError(f"it remembers a value of an empty stack at byte {self.position - 1}")
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise ValueError(f"it recalls value {index}, which it has not remembered")
        self.push(self.memo[index])

    def find(self, module: str, name: str) -> None:
        if f"{module}.{name}" not in GLOBALS:
            raise ValueError(f"it names {f'{module}.{name}'[:100]!r}, which is not data")
        self.push(_Global(f"{module}.{name}"))

    def find_on_stack(self) -> None:
        name, module = self.pop(str), self.pop(str)
        self.find(module, name)

    def reduce(self) -> None:
        """Call one of the few functions that build data."""
        arguments, function = self.pop(tuple), self.pop(_Global).name
        if function in RECONSTRUCT:
            self.push(_Array())
        elif function == DTYPE:
            kind = _text(arguments[0]) if arguments else "nothing"
            if kind not in ("u1", "|u1"):
                raise ValueError(f"it has an array of the dtype {kind[:20]!r}, expected 'u1' (unsigned bytes)")
            self.push(_Bytes())
        elif function == ENCODE:
            text, encoding = (_expect(value, str) for value in _of_length(arguments, 2, ENCODE))
            if encoding not in ("latin1", "latin-1"):
                raise ValueError(f"it encodes text as {encoding[:20]!r}, expected 'latin1'")
            self.encodable -= len(text)
            if self.encodable < 0:
                raise ValueError("it encodes more text than it holds")
            try:
                self.push(text.encode("latin1"))
            except UnicodeEncodeError as error:
                raise ValueError(f"it encodes text that is not 'latin1' ({error.reason})") from None
        elif function in FROM_BUFFER:
            values, dtype, shape, order = _of_length(arguments, 4, function)
            array = _Array()
            array.value = _array(values, dtype, shape, _text(order) == "F")
            self.push(array)
        else:
            raise ValueError(f"it calls {function!r}, which is not data")

    def build(self) -> None:
        """Give an array, or its dtype, a state."""
        state, target = self.pop(tuple), self.top(object)
        if isinstance(target, _Array):
            _, shape, dtype, is_fortran, values = _of_length(state, 5, ARRAY)
            target.value = _array(values, dtype, shape, bool(_expect(is_fortran, bool, int)))
        else:
            _expect(target, _Bytes)  # its state is byte order and alignment, of which single bytes have none


def _array(values: Any, dtype: Any, shape: Any, is_fortran: bool) -> NDArray[np.uint8]:
    _expect(dtype, _Bytes)
    extents = [_expect(extent, int) for extent in _expect(shape, tuple)]
    size = len(_expect(values, bytes))
    if len(extents) > 8 or not all(0 <= extent <= size for extent in extents) or math.prod(extents) != size:
        raise ValueError(f"it has an array of shape {_short(extents)}, but {size} bytes for it")
    return np.frombuffer(values, np.uint8).reshape(extents, order="F" if is_fortran else "C")


def _expect(value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__.lstrip("_") for kind in kinds)
        raise ValueError(f"it has {type(value).__name__.lstrip('_')} where {wanted} is needed")
    return value


def _of_length(values: Any, length: int, what: str) -> Any:
    if len(values) != length:
        raise ValueError(f"it gives {what!r} {len(values)} values, expected {length}")
    return values


def _text(value: Any) -> str:
    """Return text; that of Python 2 are bytes."""
    return _decoded(value, "ascii") if isinstance(value, bytes) else _expect(value, str)


def _decoded(value: bytes, encoding: str) -> str:
    try:
        return value.decode(encoding, "surrogatepass" if encoding == "utf-8" else "strict")
    except UnicodeDecodeError as error:
        raise ValueError(f"it has text that is not {encoding} ({error.reason})") from None


def _short(values: list[int]) -> str:
    return f"({', '.join(str(value)[:20] for value in values[:9])})"


def _name(code: bytes) -> str:
    from pickletools import opcodes  # only to name what is refused

    return next((known.name for known in opcodes if known.code == code.decode("latin1")), repr(code))


def _constant(value: Any) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(value)


def _sized(size: int, convert: Callable[[bytes], Any] = bytes) -> Callable[[_Machine], None]:
    """Return the instruction for bytes behind a length of `size` bytes."""
    return lambda machine: machine.push(convert(machine.take(machine.number(size))))


def _utf8(value: bytes) -> str:
    return _decoded(value, "utf-8")


def _signed(value: bytes) -> int:
    return int.from_bytes(value, "little", signed=True)


def _tuple(length: int) -> Callable[[_Machine], None]:
    def operation(machine: _Machine) -> None:
        values = [machine.pop() for _ in range(length)]
        machine.push(tuple(reversed(values)))

    return operation


OPERATIONS: dict[bytes, Callable[[_Machine], Any]] = {
    PICKLE: lambda machine: machine.take(1),  # the protocol
    b"\x95": lambda machine: machine.take(8),  # a frame's length
    b"(": lambda machine: machine.push(_Mark()),
    b"}": lambda machine: machine.push({}),
    b"]": lambda machine: machine.push([]),
    b")": _constant(()),
    b"N": _constant(None),
    b"\x88": _constant(True),
    b"\x89": _constant(False),
    b"t": lambda machine: machine.push(tuple(machine.items())),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"s": lambda machine: machine.set_items([machine.pop(), machine.pop()][::-1]),
    b"u": lambda machine: machine.set_items(machine.items()),
    b"a": lambda machine: machine.append([machine.pop()]),
    b"e": lambda machine: machine.append(machine.items()),
    b"K": lambda machine: machine.push(machine.number(1)),
    b"M": lambda machine: machine.push(machine.number(2)),
    b"J": lambda machine: machine.push(_signed(machine.take(4))),
    b"\x8a": _sized(1, _signed),
    b"U": _sized(1),  # text of Python 2
    b"T": _sized(4),
    b"C": _sized(1),
    b"B": _sized(4),
    b"\x8e": _sized(8),
    b"\x96": _sized(8),  # a bytearray
    b"\x8c": _sized(1, _utf8),
    b"X": _sized(4, _utf8),
    b"\x8d": _sized(8, _utf8),
    b"q": lambda machine: machine.remember(machine.number(1)),
    b"r": lambda machine: machine.remember(machine.number(4)),
    b"\x94": lambda machine: machine.remember(len(machine.memo)),
    b"h": lambda machine: machine.recall(machine.number(1)),
    b"j": lambda machine: machine.recall(machine.number(4)),
    b"c": lambda machine: machine.find(machine.line(), machine.line()),
    b"\x93": _Machine.find_on_stack,
    b"R": _Machine.reduce,
    b"b": _Machine.build,
}
