"""Read pickles that hold data only, without executing them.

A pickle is a program for a small machine with a stack, and the ordinary reader calls whatever function it names. This
one knows the instructions that build dicts, lists, tuples, text, bytes and numbers, in the forms that Python 2 and 3
write from protocol 2 on; of names it knows those of a table that its caller gives. It refuses all others by name, or
puts inert placeholders in their place where the caller wants that: nothing is looked up or called for them. What it
allocates is bounded by the size of the file, and by a number of instructions, whatever lengths the file claims.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

PICKLE = b"\x80"  # what pickles from protocol 2 on begin with
MOST_INSTRUCTIONS = 2**22  # each makes an object of some hundred bytes at most, besides what it takes from the file
LONGEST_NAME = 256  # of a function
LONGEST_TEXT = 4096  # of what else is looked up

Builder = Callable[[tuple[Any, ...]], Any]


class Stateful(ABC):
    """What a builder returns if the pickle may give it a state afterwards, as `__setstate__` would take."""

    @abstractmethod
    def set_state(self, state: Any) -> None:
        """Take the state, or raise ValueError."""


class Foreign(Stateful):
    """A placeholder for a class, a function, or what one made; it forgets all that the pickle gives it.

    Attributes
    ----------
    name : str
        "module.name" of the class or function.
    """

    def __init__(self, name: str) -> None:
        self.name = name[:LONGEST_NAME]

    def set_state(self, state: Any) -> None:
        """Forget it."""


def read_pickle(
    content: bytes,
    start: int = 0,
    *,
    names: Mapping[str, Any],
    persistent: Builder | None = None,
    foreign: bool = False,
) -> tuple[Any, int]:
    """Return the value of a pickle in `content`, and where it ends.

    Parameters
    ----------
    content : bytes
        What holds the pickle; more may follow it.
    start : int, default 0
        Where it begins.
    names : mapping of str to object
        What the pickle may name, as "module.name", and what stands for it here. A function is called with the tuple of
        arguments that the pickle has for it; it must check them itself, and raise ValueError.
    persistent : function of a tuple, optional
        Called with each persistent id, which must be a tuple; without it there may be none.
    foreign : bool, default False
        Whether other names, what they would make, sets, and keys that are no short text or small integers, become
        `Foreign` objects; else they are refused.

    Returns
    -------
    value : object
        Of None, bool, int, float, str, bytes, tuple, list, dict and what `names` and `persistent` gave. Keys are str or
        int. It may be nested to any depth, and contain itself: walk it with care, and do not show it.
    end : int
        Position of the first byte behind the pickle.

    Raises
    ------
    ValueError
        If it is truncated or inconsistent, or would do anything but build this. The text begins with "it".

    Examples
    --------
    >>> import pickle
    >>> from cyconv._pickles import read_pickle
    >>> read_pickle(pickle.dumps({"labels": [3, 7]}, 2), names={})
    ({'labels': [3, 7]}, 29)
    """
    machine = _Machine(content, start, names, persistent, foreign)
    return machine.run(), machine.position


def expect(value: Any, *kinds: type) -> Any:
    """Return a value that is of one of these types."""
    if not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__.lstrip("_") for kind in kinds if kind is not Foreign)
        raise ValueError(f"it has {type(value).__name__.lstrip('_')} where {wanted} is needed")
    return value


def expect_length(values: Any, length: int, what: str) -> Any:
    """Return a tuple of so many values."""
    if len(expect(values, tuple)) != length:
        raise ValueError(f"it gives {what!r} {len(values)} values, expected {length}")
    return values


def as_text(value: Any) -> str:
    """Return a short text; that of Python 2 are bytes."""
    characters = value if isinstance(value, bytes) else expect(value, str)
    if len(characters) > LONGEST_TEXT:  # it may be recalled, and decoded, again and again
        raise ValueError(f"it has a name of {len(value)} characters, more than {LONGEST_TEXT}")
    return _decoded(value, "ascii") if isinstance(value, bytes) else value


class _Mark:
    """Where the items of a list, tuple or dict begin on the stack."""


class _Machine:
    """The stack machine."""

    def __init__(
        self, content: bytes, position: int, names: Mapping[str, Any], persistent: Builder | None, foreign: bool
    ) -> None:
        self.content, self.position = content, position
        self.names, self.persistent, self.foreign = names, persistent, foreign
        self.operations = {**OPERATIONS, **FOREIGN_OPERATIONS} if foreign else OPERATIONS
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        begin = self.content[self.position : self.position + 4]
        if begin[:1] != PICKLE:
            raise ValueError(f"it has {begin!r} at byte {self.position}, expected a pickle of protocol 2 or newer")
        for _ in range(MOST_INSTRUCTIONS):
            code = self.take(1)
            if code == b".":
                return self.pop()
            operation = self.operations.get(code)
            if operation is None:
                raise ValueError(f"it needs the instruction {_name(code)} at byte {self.position - 1}: refused")
            operation(self)
        raise ValueError(f"it is a pickle of more than {MOST_INSTRUCTIONS} instructions")

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
        end = self.content.find(b"\n", self.position, self.position + LONGEST_NAME)
        if end < 0:
            raise ValueError(f"it has a name without end at byte {self.position}")
        return _decoded(self.take(end + 1 - self.position)[:-1], "ascii")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self, *kinds: type) -> Any:
        if not self.stack or self.stack[-1] is _Mark:
            raise ValueError(f"it takes a value from an empty stack at byte {self.position - 1}")
        return expect(self.stack.pop(), *kinds) if kinds else self.stack.pop()

    def items(self) -> list[Any]:
        """Take all down to the last mark."""
        for start in range(len(self.stack) - 1, -1, -1):
            if self.stack[start] is _Mark:
                items = self.stack[start + 1 :]
                del self.stack[start:]
                return items
        raise ValueError(f"it looks for a mark that is not there at byte {self.position - 1}")

    def top(self, *kinds: type) -> Any:
        value = self.pop(*kinds)
        self.push(value)
        return value

    # Instructions

    def set_items(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise ValueError("it has a dict with a key that lacks a value")
        target = self.top(dict, Foreign)
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[self.key(key)] = value

    def key(self, value: Any) -> Any:
        """Return a key that is quickly hashed: for a tuple of tuples of tuples that can take for ever."""
        if type(value) is int and abs(value) < 2**31:
            return value
        try:
            return as_text(value)
        except ValueError:
            if self.foreign:
                return Foreign(type(value).__name__)
            raise

    def append(self, items: list[Any]) -> None:
        target = self.top(list, Foreign)
        if isinstance(target, list):
            target.extend(items)

    def remember(self, index: int) -> None:
        self.memo[index] = self.top()

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise ValueError(f"it recalls value {index}, which it has not remembered")
        self.push(self.memo[index])

    def find(self, module: str, name: str) -> None:
        full = f"{module}.{name}"
        if full not in self.names and self.foreign:
            self.push(Foreign(full))
            return
        if full not in self.names:
            raise ValueError(f"it names {full[:LONGEST_NAME]!r}, which is not data")
        self.push(self.names[full])

    def find_on_stack(self) -> None:
        name, module = self.pop(str), self.pop(str)
        self.find(module, name)

    def reduce(self) -> None:
        """Call one of the few functions that build data."""
        arguments, function = self.pop(tuple), self.pop()
        self.call(function, arguments)

    def call(self, function: Any, arguments: tuple[Any, ...]) -> None:
        if isinstance(function, Foreign):
            self.push(Foreign(function.name))
            return
        if not callable(function):
            raise ValueError(f"it calls {type(function).__name__} at byte {self.position - 1}, which is no function")
        self.push(function(arguments))

    def new_with_keywords(self) -> None:
        self.pop()
        self.reduce()

    def new_old_style(self) -> None:
        function, *arguments = self.items() or [None]
        self.call(function, tuple(arguments))

    def add_to_set(self) -> None:
        self.items()
        self.top(Foreign)

    def freeze(self) -> None:
        self.items()
        self.push(Foreign("builtins.frozenset"))

    def build(self) -> None:
        state, target = self.pop(), self.top(Stateful)
        target.set_state(state)

    def find_persistent(self) -> None:
        if self.persistent is None:
            raise ValueError(f"it needs the instruction BINPERSID at byte {self.position - 1}: refused")
        self.push(self.persistent(self.pop(tuple)))


def _decoded(value: bytes, encoding: str) -> str:
    try:
        return value.decode(encoding, "surrogatepass" if encoding == "utf-8" else "strict")
    except UnicodeDecodeError as error:
        raise ValueError(f"it has text that is not {encoding} ({error.reason})") from None


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
    b"(": lambda machine: machine.push(_Mark),
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
    b"G": lambda machine: machine.push(struct.unpack(">d", machine.take(8))[0]),
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
    b"Q": _Machine.find_persistent,
}

# What only objects need, and long integers, which no plain data has.
FOREIGN_OPERATIONS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x81": _Machine.reduce,  # a new object of a class
    b"\x92": _Machine.new_with_keywords,
    b"o": _Machine.new_old_style,  # of Python 2
    b"\x8f": lambda machine: machine.push(Foreign("builtins.set")),
    b"\x90": _Machine.add_to_set,
    b"\x91": _Machine.freeze,
    b"\x8b": _sized(4, _signed),
    b"0": _Machine.pop,  # these two for objects that contain themselves
    b"1": _Machine.items,
}
