"""Arrays in files: safetensors, which others read too, written so that a crash leaves the old file or the new one."""

from __future__ import annotations

import errno
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cyconv._validation import as_array, brief

if TYPE_CHECKING:
    from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks, and lets nobody delete a file that is open
    fcntl = None  # type: ignore[assignment]

__all__ = ["load_arrays", "save_arrays"]

PathLike = str | os.PathLike[str]

METADATA, DIGEST = "__metadata__", "cyconv.digest"  # keys of the header, and of the metadata in it
MAX_HEADER = 100_000_000  # bytes, by the format's definition
MAX_AXES = 64  # of NumPy's arrays
CHUNK = 1 << 20  # bytes at a time of what is only checked
# Element types by their names in the format. NumPy has no bfloat16: it is the upper half of a float32.
DTYPES = {
    **{f"{kind}{8 * size}": np.dtype(f"<{kind.lower()}{size}") for kind in "IU" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
    "BF16": np.dtype("<u2"),
    "BOOL": np.dtype("u1"),
}
# Types that others write and NumPy cannot hold, with their bits: they can be passed over.
FOREIGN_BITS = {
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "C64": 64},
    **dict.fromkeys(("F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ"), 8),
}
# What other formats begin with, and who reads them.
OTHERS = {
    b"PK\x03\x04": "a file of torch.save is read by `cyconv.torch_files.load_torch`, one of numpy.savez by numpy.load",
    b"\x80": "a file of torch.save is read by `cyconv.torch_files.load_torch`",
    b"\x93NUMPY": "a file of numpy.save is read by numpy.load",
}


def save_arrays(path: PathLike, arrays: Mapping[str, NDArray], metadata: Mapping[str, str] | None = None) -> None:
    """Write named arrays, and text to go with them, to a safetensors file.

    Parameters
    ----------
    path : str or path
        The file; it is replaced in one step and keeps its permissions. A pipe or device is written to.
    arrays : mapping of str to ndarray
        Of any shape and memory order; the file holds them in C order.
    metadata : mapping of str to str, optional
        Kept in the file's header, beside a digest of the whole content by which `load_arrays` notices damage.

    Raises
    ------
    TypeError, ValueError
        If a path, name or text is none, or an array of no numbers; an older file stays as it is then.
    OSError
        If the file cannot be written, as when the disk is full; likewise.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> from cyconv.serialization import load_arrays, save_arrays
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "weights.safetensors")
    ...     save_arrays(path, {"weight": np.arange(3)}, {"epoch": "7"})
    ...     load_arrays(path)
    ({'weight': array([0, 1, 2])}, {'epoch': '7'})
    """
    text = {} if metadata is None else metadata
    for given, name in ((arrays, "arrays"), (text, "metadata")):
        if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
            kind = "text" if given is text else "arrays"
            raise TypeError(f"save: `{name}` must map names to {kind}, got {brief(given)}")
    for key, value in text.items():
        if not isinstance(value, str):
            raise TypeError(f"save: `metadata` must be text, got {brief(value)} for {brief(key)}")
    if METADATA in arrays:
        raise ValueError(f"save: `arrays` must not hold the name {METADATA!r}, which the format keeps for itself")
    checked = {name: as_array("save", name, array) for name, array in arrays.items()}
    named = {(dtype.kind, dtype.itemsize): name for name, dtype in DTYPES.items() if name not in ("BF16", "BOOL")}
    named["b", 1] = "BOOL"
    entries = {}
    for name, array in checked.items():
        if (array.dtype.kind, array.dtype.itemsize) not in named:
            raise ValueError(f"save: `arrays` cannot be written: {brief(name)} is of {array.dtype}")
        entries[name] = _Entry(named[array.dtype.kind, array.dtype.itemsize], array.shape, 0, array.nbytes)
    for name in (*entries, *text, *text.values()):
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(f"save: {brief(name)} cannot be written: it is no valid text") from None
    order, position = sorted(checked, key=lambda name: -checked[name].itemsize), 0  # all are aligned then
    for name in order:
        size = entries[name].end
        entries[name] = entries[name]._replace(begin=position, end=position + size)
        position += size
    kept = {key: value for key, value in text.items() if key != DIGEST}

    def write(file: IO[bytes]) -> None:
        header = _header(entries, {DIGEST: "0" * 64, **kept})
        file.write(header)
        digest = _Digest(kept)
        for name in order:
            ordered = np.ascontiguousarray(checked[name], checked[name].dtype.newbyteorder("<"))
            content = ordered.reshape(-1).view(np.uint8).data
            digest.add(name, entries[name], [content])
            file.write(content)
        file.seek(header.index(b"0" * 64))  # the digest comes first in the metadata, and they in the header
        file.write(digest.value().encode())

    write_atomically(as_path("save", path), write)


def load_arrays(path: PathLike) -> tuple[dict[str, NDArray], dict[str, str]]:
    """Read what `save_arrays`, or another program, wrote to a safetensors file.

    Returns
    -------
    arrays : dict of str to ndarray
        Those of bfloat16 become float32, which holds each of its values.
    metadata : dict of str to str

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a complete safetensors file of NumPy's types, or was changed after `save_arrays` wrote it.

    Notes
    -----
    A file takes at most three times its size while it is read, and thirty times the size of its header.
    """
    with open_arrays(path) as file:
        return file.arrays(), file.metadata


class _Entry(NamedTuple):
    """An array in a file: its element type's name, its shape, and where its bytes are behind the header."""

    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int


class ArrayFile:
    """An open safetensors file, its header read.

    Attributes
    ----------
    shapes : dict of str to tuple of int
        The shape of each array, by name, in the file's order.
    metadata : dict of str to str
        The text that goes with them.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._entries, self.metadata = _read_header(file)
        self._digest = self.metadata.pop(DIGEST, None)
        self._start = file.tell()
        self.shapes = {name: entry.shape for name, entry in self._entries.items()}

    def arrays(self, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, NDArray]:
        """Return the arrays whose names are wanted; the others are only checked."""
        for name, entry in self._entries.items():
            if wanted(name) and entry.kind not in DTYPES:
                raise _UnreadableError(f"{brief(name)} is of type {entry.kind}, which NumPy lacks")
        digest, found = _Digest(self.metadata), {}
        for name, entry in self._entries.items():
            self._file.seek(self._start + entry.begin)
            if wanted(name):
                array = np.empty(entry.shape, DTYPES[entry.kind])
                content = array.reshape(-1).view(np.uint8).data
                if self._file.readinto(content) < len(content):  # type: ignore[attr-defined]
                    raise _UnreadableError("it was cut off while it was read")
                digest.add(name, entry, [content])
                found[name] = _decoded(array, entry.kind)
            elif self._digest is not None:
                size = entry.end - entry.begin
                digest.add(name, entry, (self._file.read(min(CHUNK, size - i)) for i in range(0, size, CHUNK)))
        if self._digest is not None and digest.value() != self._digest:
            raise _UnreadableError("it is damaged: its content differs from the digest in its metadata")
        return found


class _UnreadableError(ValueError):
    """Says what is wrong with a file."""


@contextmanager
def open_arrays(path: PathLike) -> Iterator[ArrayFile]:
    """Open a safetensors file; errors in reading it name it."""
    text = as_path("load", path)
    if os.path.exists(text) and not os.path.isfile(text) and not os.path.isdir(text):  # to open a pipe could take ever
        raise ValueError(f"load: {text!r} is no safetensors file but a pipe or device")
    with open(text, "rb") as file:  # a missing or unreadable file is the system's error, not the format's
        try:
            yield ArrayFile(file)
        except _UnreadableError as error:
            raise ValueError(f"load: {text!r} is no complete safetensors file of NumPy's types: {error}") from None


class _Digest:
    """SHA-256 of names, types, shapes, elements and metadata, whatever their order in the file."""

    def __init__(self, metadata: Mapping[str, str]) -> None:
        self._metadata = metadata
        self._rows: list[list[Any]] = []

    def add(self, name: str, entry: _Entry, contents: Iterable[Any]) -> None:
        from hashlib import sha256  # here, because it takes milliseconds to import

        each = sha256()
        for content in contents:
            each.update(content)
        self._rows.append([name, entry.kind, list(entry.shape), each.hexdigest()])

    def value(self) -> str:
        import json
        from hashlib import sha256

        return sha256(json.dumps([sorted(self._rows), sorted(self._metadata.items())]).encode()).hexdigest()


def _header(entries: Mapping[str, _Entry], metadata: Mapping[str, str]) -> bytes:
    """Return a file's beginning: a length, and JSON with the metadata first, padded so that the arrays are aligned."""
    import json

    listed = {
        name: {"dtype": entry.kind, "shape": list(entry.shape), "data_offsets": [entry.begin, entry.end]}
        for name, entry in entries.items()
    }
    text = json.dumps({METADATA: metadata, **listed}, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _read_header(file: IO[bytes]) -> tuple[dict[str, _Entry], dict[str, str]]:
    """Return the arrays and the metadata that a file's beginning lists; the arrays fill the rest of it exactly."""
    import json

    begin, size = file.read(8), os.fstat(file.fileno()).st_size
    hint = next((f"; {hint}" for start, hint in OTHERS.items() if begin.startswith(start)), "")
    length = int.from_bytes(begin, "little")
    if len(begin) < 8 or not 2 <= length <= min(size - 8, MAX_HEADER):
        raise _UnreadableError(f"its header cannot be {length} bytes of {size}{hint}")
    try:
        header = json.loads(file.read(length).decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _UnreadableError(f"its header is no JSON ({str(error)[:100]}){hint}") from None
    if not isinstance(header, dict):
        raise _UnreadableError("its header is no JSON object")
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise _UnreadableError("its metadata is not text")
    entries = {name: _entry(name, entry) for name, entry in header.items()}
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        if entry.begin != position:
            raise _UnreadableError(f"{brief(name)} begins at byte {entry.begin}, expected {position}")
        position = entry.end
    if size - 8 - length != position:
        raise _UnreadableError(f"it has {size - 8 - length} bytes of arrays, expected {position}")
    return entries, metadata


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a name stands twice")
    return result


def _entry(name: str, entry: Any) -> _Entry:
    """Return what the header says of an array, checked."""
    try:
        kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if type(shape) is not list or len(entry) > 3 or len(shape) > MAX_AXES:
            raise ValueError
        if any(type(extent) is not int or extent < 0 for extent in (*shape, begin, end)):
            raise ValueError
        if math.prod(max(extent, 1) for extent in shape) >= 2**56:  # NumPy has no larger shapes, empty ones neither
            raise ValueError
        bits = 8 * DTYPES[kind].itemsize if kind in DTYPES else FOREIGN_BITS[kind]
    except (TypeError, KeyError, ValueError):
        raise _UnreadableError(f"it describes {brief(name)} as {brief(entry)}") from None
    if math.prod(shape) * bits != 8 * (end - begin):
        raise _UnreadableError(f"it has {end - begin} bytes for {brief(name)}, of shape {brief(shape)} and {kind}")
    return _Entry(kind, tuple(shape), begin, end)


def _decoded(array: NDArray, kind: str) -> NDArray:
    """Return an array as read in a type of NumPy and in this machine's byte order."""
    if kind == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    if kind == "BOOL":
        return array != 0
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def json_of(value: Any) -> bytes:
    """Return a value as standard JSON, which lacks NaN and infinity: they become "NaN", "Infinity" and "-Infinity"."""
    import json

    return json.dumps(_spelled(value), indent=1, allow_nan=False).encode()


def read_json(file: IO[bytes]) -> Any:
    """Return what `json_of` wrote; ValueError or RecursionError if it is something else."""
    import json

    return _unspelled(json.load(file))


def _spelled(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _spelled(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spelled(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _unspelled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _unspelled(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_unspelled(each) for each in value]
    return float(value) if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity") else value


def as_path(op: str, path: PathLike, name: str = "path") -> str:
    """Return a path as text; a number, which the system would take for an open file, is none."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{op}: `{name}` must be a str or a path, got {brief(path)}")
    text = os.fsdecode(path)
    if not text or "\0" in text:
        raise ValueError(f"{op}: `{name}` must be the path of a file, got {brief(text)}")
    return text


def check_target(path: PathLike) -> Path:
    """Return the file that writing to `path` replaces or, if it is a pipe or device, writes to; OSError if none can."""
    from pathlib import Path  # here, because it takes milliseconds to import

    if _is_stream(path):
        return Path(path)
    target = Path(os.path.realpath(path))  # a link stays a link: what it points at is replaced
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder to write to", os.fspath(target.parent))
    return target


def _is_stream(path: PathLike) -> bool:
    """Return whether a path is that of a pipe, a device or a socket."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def write_atomically(path: PathLike, write: Callable[[IO[bytes]], object]) -> None:
    """Have `write` fill a temporary file beside `path`, then put it in place: readers find the old file or the new.

    The data is on the disk before the name is, and the name before this returns. A file that is replaced hands on its
    permissions. What earlier writers of the same file left behind when they were killed is deleted. A pipe or device is
    not replaced: it is written to when all is ready.
    """
    target = check_target(path)
    if _is_stream(target):
        import shutil
        import tempfile

        with tempfile.TemporaryFile() as ready:
            write(ready)
            ready.seek(0)
            with open(target, "wb") as stream:
                shutil.copyfileobj(ready, stream)
        return
    _delete_stale(target)
    file, temporary = _temporary(target)
    try:
        with file:
            write(file)
            file.flush()
            _inherit(file, target)
            os.fsync(file.fileno())
            if fcntl is not None:  # still open, so that it stays locked: see `_delete_stale`
                os.replace(temporary, target)
        if fcntl is None:
            os.replace(temporary, target)
    except BaseException:  # Ctrl-C too must leave no litter
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        _flush_folder(target.parent)


def _temporary(target: Path) -> tuple[IO[bytes], Path]:
    """Return a new file beside `target`, locked, and its path; until it is complete nobody else may read it."""
    while True:
        path = target.with_name(f".{target.name}.{os.urandom(8).hex()}")
        file = open(path, "x+b", opener=_opener(0o600 if target.exists() else 0o666))  # noqa: SIM115
        _lock(file)
        if os.fstat(file.fileno()).st_nlink or os.name != "posix":
            return file, path
        file.close()  # deleted as stale before it was locked


def _opener(mode: int) -> Callable[[str, int], int]:
    return lambda path, flags: os.open(path, flags, mode)


def _lock(file: IO[bytes] | int, flags: int = 0) -> bool:
    """Lock a file as long as it is open; return whether that was possible."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | flags)
    except OSError:  # somebody else has it, or the file system has no locks
        return False
    return True


def _delete_stale(target: Path) -> None:
    """Delete the temporary files of this target that no living writer has locked."""
    if fcntl is None:
        return
    name = re.compile(re.escape(f".{target.name}.") + "[0-9a-f]{16}")
    for each in os.listdir(target.parent):
        if not name.fullmatch(each):
            continue
        path = target.parent / each
        with suppress(OSError):  # gone meanwhile, or another user's
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if stat.S_ISREG(os.fstat(descriptor).st_mode) and _lock(descriptor, fcntl.LOCK_NB):
                    path.unlink()
            finally:
                os.close(descriptor)


def _inherit(file: IO[bytes], target: Path) -> None:
    """Give a file the permissions, and as far as allowed the owner and group, of the one that it replaces."""
    try:
        old = target.stat()
    except FileNotFoundError:
        return
    new = os.fstat(file.fileno())
    if os.name == "posix" and (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        with suppress(PermissionError):
            os.chown(file.fileno(), old.st_uid, old.st_gid)
    mode = stat.S_IMODE(old.st_mode) & 0o777
    if os.name == "posix":
        os.fchmod(file.fileno(), mode)


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
