"""Weights in PyTorch's files, read without PyTorch."""

from __future__ import annotations

import errno
import math
import os
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from cyconv._pickles import PICKLE, Foreign, Stateful, as_text, expect, expect_length, read_pickle
from cyconv._validation import brief
from cyconv.layers.naming import unwrapped
from cyconv.serialization import PathLike, as_path

if TYPE_CHECKING:
    from zipfile import ZipFile

__all__ = ["load_torch"]

ZIP = b"PK\x03\x04"
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the format from before PyTorch 1.6
MOST_PICKLED = 2**26  # bytes of that format's pickles, which stand before the numbers
MOST_AXES = 32
Order = Literal["<", ">"]
ORDERS: dict[bytes, Order] = {b"little": "<", b"big": ">"}
USUAL_KEYS = ("state_dict", "model_state_dict", "model")
EXTRA = "_extra_state"  # of modules: whatever their code makes of it


def load_torch(path: PathLike, key: str | None = None) -> dict[str, NDArray]:
    """Read the weights in a file that ``torch.save`` wrote: a state dict, or a checkpoint that has one.

    A file of PyTorch is a program that can do anything to who loads it. This reader knows dicts, lists, tuples, text,
    numbers and tensors, and executes nothing: other objects in a checkpoint, its arguments, random states or own
    classes, are passed over.

    Parameters
    ----------
    path : str or path
        A file of the present format (.pt, .pth), or of that from before PyTorch 1.6 (.th, .pth.tar).
    key : str, optional
        Which entry of a checkpoint holds the weights. By default "state_dict", "model_state_dict" or "model" if that is
        a dict, else the file itself: what is no tensor there is left out, with a warning.

    Returns
    -------
    dict of str to ndarray
        In the file's order and of the file's numbers, but that bfloat16 becomes float32. Tensors that share memory in
        the file do so here. "module.", "_orig_mod." and "model." are taken off, in any order, while all names begin
        with one.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is none of PyTorch's, truncated or inconsistent, has no such entry, has anything but a tensor in the place
        of a weight, or holds a whole model: only its state dict can be read.

    Notes
    -----
    `Network.load_state_dict` takes weights under their names here, with or without those prefixes,
    `cyconv.models.load_torchvision` those of published networks under theirs. Nothing is allocated that the file does
    not hold.

    Examples
    --------
    >>> from cyconv import models
    >>> from cyconv.torch_files import load_torch
    >>> network = models.resnet50()
    >>> models.load_torchvision(network, load_torch("resnet50-0676ba61.pth"))  # doctest: +SKIP
    """
    text = as_path("load_torch", path)
    if key is not None and not isinstance(key, str):
        raise TypeError(f"load_torch: `key` must be text, got {brief(key)}")
    with open(text, "rb") as file:
        try:
            return _File(file).weights(key)
        except ValueError as error:
            raise ValueError(f"load_torch: {text!r} cannot be read: {error}") from None


@dataclass(frozen=True)
class _Kind:
    """A kind of number, and how it lies in the file."""

    dtype: str
    is_bfloat16: bool = False

    @property
    def size(self) -> int:
        return np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class _Storage:
    """Numbers in the file, in a row."""

    key: str
    kind: _Kind
    count: int


@dataclass(frozen=True)
class _Tensor:
    """Numbers of a storage in a shape."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, numbers: NDArray) -> NDArray:
        """Return the tensor as a view of its storage's numbers."""
        strides = [stride * numbers.itemsize for stride in self.strides]
        return as_strided(numbers[self.offset :], self.shape, strides)


class _OrderedDict(dict, Stateful):
    """A dict; what PyTorch notes beside the entries of a state dict is left out."""

    def set_state(self, state: Any) -> None:
        expect(state, dict)


KINDS = {
    "Float": _Kind("f4"),
    "Double": _Kind("f8"),
    "Half": _Kind("f2"),
    "BFloat16": _Kind("u2", is_bfloat16=True),
    "ComplexFloat": _Kind("c8"),
    "ComplexDouble": _Kind("c16"),
    "Byte": _Kind("u1"),
    "Char": _Kind("i1"),
    "Short": _Kind("i2"),
    "Int": _Kind("i4"),
    "Long": _Kind("i8"),
    "Bool": _Kind("?"),
}


def _ordered_dict(arguments: tuple[Any, ...]) -> _OrderedDict:
    result = _OrderedDict()
    if arguments:  # as Python 2 writes it
        (pairs,) = expect_length(arguments, 1, "collections.OrderedDict")
        for pair in expect(pairs, list):
            name, value = _pair(pair)
            result[as_text(name)] = value
        pairs.clear()  # recalled, they would fill one more dict with each instruction
    return result


def _pair(value: Any) -> Any:
    return expect_length(tuple(value) if isinstance(value, list) else value, 2, "collections.OrderedDict")


def _size(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    return _integers(expect_length(arguments, 1, "torch.Size")[0])


def _tensor(length: int) -> Callable[[tuple[Any, ...]], _Tensor | Foreign]:
    """Return the builder of a tensor from a storage, an offset, a shape, strides, and what matters to training only."""

    def build(arguments: tuple[Any, ...]) -> _Tensor | Foreign:
        if arguments and isinstance(arguments[0], Foreign):  # numbers of an unknown kind
            return arguments[0]
        if len(arguments) < length:
            raise ValueError(f"it has a tensor made of {len(arguments)} values, expected {length}")
        storage, shape, strides = expect(arguments[0], _Storage), _integers(arguments[2]), _integers(arguments[3])
        (offset,) = _integers((arguments[1],))
        last = offset + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=False))
        fits = last < storage.count if math.prod(shape) else offset <= storage.count
        if len(shape) != len(strides) or not fits or math.prod(shape) > storage.count:
            raise ValueError(
                f"it has a tensor of {_listed(shape)} numbers, {_listed(strides)} apart, from {offset} on, "
                f"in a storage of {storage.count}"
            )
        return _Tensor(storage, offset, shape, strides)

    return build


def _parameter(length: int) -> Callable[[tuple[Any, ...]], _Tensor | Foreign]:
    """Return the builder of a parameter from its tensor and what matters to training only."""
    return lambda arguments: expect(
        expect_length(arguments, length, "torch._utils._rebuild_parameter")[0], _Tensor, Foreign
    )


def _with_attributes(arguments: tuple[Any, ...]) -> Any:
    """Return a tensor to which somebody gave attributes, or one of a class of its own, without these."""
    build, _, inner, _ = expect_length(arguments, 4, "torch._tensor._rebuild_from_type_v2")
    return build(expect(inner, tuple)) if callable(build) else expect(build, Foreign)


def _default_dict(arguments: tuple[Any, ...]) -> _OrderedDict:
    return _OrderedDict()


def _integers(values: Any) -> tuple[int, ...]:
    integers = tuple(expect(value, int) for value in expect(values, tuple))
    if len(integers) > MOST_AXES or not all(0 <= value < 2**62 for value in integers):
        raise ValueError("it has a tensor of more axes than there can be, or of numbers below 0")
    return tuple(map(int, integers))


def _listed(values: tuple[int, ...]) -> str:
    return "x".join(map(str, values)) or "1"


NAMES: dict[str, Any] = {
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": _default_dict,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor(4),
    "torch._utils._rebuild_tensor_v2": _tensor(6),
    "torch._utils._rebuild_parameter": _parameter(3),
    "torch._utils._rebuild_parameter_with_state": _parameter(4),
    "torch._tensor._rebuild_from_type_v2": _with_attributes,
    **{f"torch.{name}Storage": kind for name, kind in KINDS.items()},
}


class _File:
    """A file of PyTorch, and the storages that it names."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.size = file, os.fstat(file.fileno()).st_size
        self.storages: dict[str, _Storage] = {}
        self.named = 0  # bytes of all of them

    def weights(self, key: str | None) -> dict[str, NDArray]:
        begin = self.file.read(4)
        self.file.seek(0)
        if begin == ZIP:
            return self._from_zip(key)
        if begin[:1] == PICKLE:
            return self._from_legacy(key)
        raise ValueError(f"it begins with {begin!r}, as no file of weights does that torch.save writes")

    def storage(self, identity: tuple[Any, ...]) -> _Storage | Foreign:
        """Return the storage of a persistent id."""
        kind, *values = identity or (None,)
        if kind in ("module", b"module") and values and isinstance(values[0], Foreign):
            return values[0]  # a class, with its source code
        if kind not in ("storage", b"storage"):
            raise ValueError("it holds a whole model, whose code it needs; only a state dict can be read")
        if len(values) not in (4, 5) or (len(values) == 5 and values[4] is not None):
            raise ValueError("it has storages that are parts of others, or are described in an unknown way")
        if isinstance(values[0], Foreign):
            return Foreign(values[0].name)
        storage = _Storage(as_text(values[1]), expect(values[0], _Kind), expect(values[3], int))
        if self.storages.setdefault(storage.key, storage) != storage:
            raise ValueError("it has two storages of the same name")
        if storage is self.storages[storage.key]:
            self.named += storage.count * storage.kind.size
            if storage.count < 0 or self.named > self.size:  # of an archive, the same bytes could be several files
                raise ValueError("it has storages that are larger than the file")
        return storage

    # The format from before PyTorch 1.6: pickles, one behind the other, then the storages

    def _from_legacy(self, key: str | None) -> dict[str, NDArray]:
        content = self.file.read(min(self.size, MOST_PICKLED))
        magic, end = read_pickle(content, names={})
        if magic != MAGIC:
            raise ValueError("it is a pickle, but none that torch.save writes")
        protocol, end = read_pickle(content, end, names={})
        if protocol != PROTOCOL:
            raise ValueError("it has another version of the format than 1001")
        _, end = read_pickle(content, end, names={})  # the byte order of the machine; the file's is little-endian
        value, end = read_pickle(content, end, names=NAMES, persistent=self.storage, foreign=True)
        keys, end = read_pickle(content, end, names={})
        del content
        wanted = _tensors(value, key)
        names = [as_text(name) for name in expect(keys, list)]
        if sorted(names) != sorted(self.storages):
            raise ValueError("it has other storages than its tensors name, or some of an unknown kind")
        self.file.seek(end)
        used = {tensor.storage.key for tensor in wanted.values()}
        numbers = {name: self._next_storage(self.storages[name], name in used) for name in names}
        return {name: tensor.array(numbers[tensor.storage.key]) for name, tensor in wanted.items()}

    def _next_storage(self, storage: _Storage, is_used: bool) -> NDArray:
        """Read a storage, or pass over it."""
        count, size = self.file.read(8), storage.count * storage.kind.size
        if len(count) < 8 or self.size - self.file.tell() < size:
            raise ValueError("it is truncated: storages are missing")
        if int.from_bytes(count, "little") != storage.count:
            raise ValueError(f"it has a storage that is said to be of {storage.count} numbers, but is not")
        if is_used:
            return _numbers(self.file.read(size), storage, "<")
        self.file.seek(size, os.SEEK_CUR)
        return np.empty(0)

    # The present format: a zip archive, not compressed, of one pickle, and one file for each storage

    def _from_zip(self, key: str | None) -> dict[str, NDArray]:
        from zipfile import BadZipFile, ZipFile  # here, because it takes milliseconds to import

        damage = (BadZipFile, EOFError, KeyError, NotImplementedError, OverflowError, RuntimeError, struct.error)
        try:
            with ZipFile(self.file) as archive:
                return self._from_archive(archive, key)
        except damage as error:
            raise ValueError(f"it is a damaged zip archive ({error})") from None
        except OSError as error:
            if error.errno != errno.EINVAL:  # a position before the file's beginning
                raise
            raise ValueError("it is a damaged zip archive (it has wrong positions)") from None

    def _from_archive(self, archive: ZipFile, key: str | None) -> dict[str, NDArray]:
        pickles = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("it is a zip archive, but none that torch.save writes: it lacks data.pkl")
        folder = pickles[0].removesuffix("data.pkl")
        order: Order = "<"
        if f"{folder}byteorder" in archive.namelist():
            word = self._member(archive, f"{folder}byteorder")
            if word not in ORDERS:
                raise ValueError("it has neither byte order, little nor big")
            order = ORDERS[word]
        content = self._member(archive, pickles[0])
        value, _ = read_pickle(content, names=NAMES, persistent=self.storage, foreign=True)
        del content
        wanted = _tensors(value, key)
        numbers = {
            storage.key: _numbers(self._member(archive, f"{folder}data/{storage.key}"), storage, order)
            for storage in {tensor.storage for tensor in wanted.values()}
        }
        return {name: tensor.array(numbers[tensor.storage.key]) for name, tensor in wanted.items()}

    def _member(self, archive: ZipFile, name: str) -> bytes:
        """Return a file of the archive; one that is compressed, which torch.save never does, could be of any size."""
        found = archive.getinfo(name)
        if found.compress_type != 0 or found.compress_size != found.file_size or found.file_size > self.size:
            raise ValueError("it is a compressed zip archive, or a damaged one")
        return archive.read(found)


def _numbers(content: bytes, storage: _Storage, order: Order) -> NDArray:
    """Return the numbers of a storage."""
    if len(content) != storage.count * storage.kind.size:
        raise ValueError(f"it has {len(content)} bytes for a storage of {storage.count} numbers")
    numbers = np.frombuffer(content, np.dtype(storage.kind.dtype).newbyteorder(order))
    if storage.kind.is_bfloat16:
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    if storage.kind.dtype == "?":
        return numbers.view(np.uint8) != 0
    return numbers.astype(storage.kind.dtype)  # writable, aligned, in this machine's byte order


def _tensors(value: Any, key: str | None) -> dict[str, _Tensor]:
    """Return the tensors of a state dict, or of that in a checkpoint."""
    if isinstance(value, Foreign):
        raise ValueError(
            f"it holds a whole model, whose code it needs, or another object ({value.name}); only a state dict can be "
            "read"
        )
    entries = expect(value, dict)
    if key is None and not all(isinstance(entry, _Tensor) for entry in entries.values()):
        key = next((usual for usual in USUAL_KEYS if isinstance(entries.get(usual), dict)), None)
    if key is not None:
        if not isinstance(entries.get(key), dict):
            raise ValueError(f"it has no state dict under {key!r}, only {_names(entries)}")
        entries = entries[key]
    tensors = {name: entry for name, entry in entries.items() if isinstance(entry, _Tensor)}
    others = {name: entry for name, entry in entries.items() if name not in tensors}
    if key is not None:
        others = {name: entry for name, entry in others.items() if not str(name).endswith(EXTRA)}
    # A dict of weights has nothing else in it, but a file may have weights and other values side by side.
    if others and (key is not None or not tensors or any(map(_has_tensors, others.values()))):
        raise ValueError(
            f"it has entries that are no tensors, {_names(others)}; `key` says which entry of a checkpoint is read"
        )
    if others:
        warnings.warn(f"load_torch: entries that are no tensors are left out: {_names(others)}", stacklevel=5)
    return dict(zip(unwrapped(map(str, tensors)), tensors.values(), strict=True))


def _has_tensors(entry: Any) -> bool:
    return isinstance(entry, dict) and any(isinstance(each, _Tensor) for each in entry.values())


def _names(entries: dict) -> str:
    """Return the names of the first few entries, with their types."""
    shown = [
        f"{(_kind(name) if isinstance(name, Foreign) else str(name))[:60]!r} ({_kind(entry)[:60]})"
        for name, entry in list(entries.items())[:6]
    ]
    return ", ".join(shown) + (", ..." if len(entries) > 6 else "")


def _kind(value: Any) -> str:
    return value.name if isinstance(value, Foreign) else type(value).__name__.lstrip("_")
