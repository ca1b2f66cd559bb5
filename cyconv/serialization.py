"""Arrays in files: safetensors, which others read too, written so that a crash leaves the old file or the new one."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cyconv._validation import as_array, brief

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["load_arrays", "save_arrays"]

PathLike = str | os.PathLike[str]


def save_arrays(path: PathLike, arrays: Mapping[str, NDArray], metadata: Mapping[str, str] | None = None) -> None:
    """Write named arrays, and text to go with them, to a safetensors file.

    Parameters
    ----------
    path : str or path
        The file; it is replaced in one step.
    arrays : mapping of str to ndarray
        Of any shape and memory order; the file holds them in C order.
    metadata : mapping of str to str, optional
        Kept in the file's header.

    Raises
    ------
    TypeError, ValueError
        If a path, name or text is none, or an array of no numbers; an older file stays as it is then.
    OSError
        If the file cannot be written; likewise.

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
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    text = {} if metadata is None else metadata
    for given, name in ((arrays, "arrays"), (text, "metadata")):
        if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
            raise TypeError(f"save: `{name}` must map names to {'text' if given is text else 'arrays'}, got {given!r}")
    for key, value in text.items():
        if not isinstance(value, str):
            raise TypeError(f"save: `metadata` must be text, got {value!r} for {key!r}")
    if "__metadata__" in arrays:
        raise ValueError("save: `arrays` must not hold the name '__metadata__', which the format keeps for itself")
    contiguous = {name: np.require(as_array("save", name, array), requirements="C") for name, array in arrays.items()}

    def write(temporary: Path) -> None:
        try:
            save_file(contiguous, temporary, dict(text) or None)  # of an empty one it makes a damaged file
        except SafetensorError as error:  # a dtype that the format lacks, or an impossible name
            raise ValueError(f"save: `arrays` cannot be written: {error}") from error

    write_atomically(as_path("save", path), write)


def load_arrays(path: PathLike) -> tuple[dict[str, NDArray], dict[str, str]]:
    """Read what `save_arrays`, or another program, wrote to a safetensors file.

    Returns
    -------
    arrays : dict of str to ndarray
    metadata : dict of str to str

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a complete safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    path = as_path("load", path)
    with open(path, "rb"):  # a missing or unreadable file is the system's error, not the format's
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, TypeError) as error:  # TypeError: a number format that NumPy lacks
        raise ValueError(f"load: {path!r} is no complete safetensors file of NumPy's types: {error}") from error


def as_path(op: str, path: PathLike, name: str = "path") -> str:
    """Return a path as text; a number, which the system would take for an open file, is none."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{op}: `{name}` must be a str or a path, got {brief(path)}")
    text = os.fsdecode(path)
    if not text or "\0" in text:
        raise ValueError(f"{op}: `{name}` must be the path of a file, got {brief(text)}")
    return text


def check_target(path: PathLike) -> Path:
    """Return the file that writing to `path` replaces; raise OSError where there can be none."""
    from pathlib import Path  # here, because it takes milliseconds to import

    target = Path(os.path.realpath(path))  # a link stays a link: what it points at is replaced
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder to write to", os.fspath(target.parent))
    return target


def write_atomically(path: PathLike, write: Callable[[Path], object]) -> None:
    """Have `write` fill a temporary file beside `path`, then put it in place: readers find the old file or the new.

    The data is on the disk before the name is, and the name before this returns.
    """
    target = check_target(path)
    temporary = target.with_name(f".{target.name}.{os.urandom(8).hex()}")
    with open(temporary, "xb"):
        mode = temporary.stat().st_mode  # what the user's umask gives a new file
    try:
        write(temporary)
        temporary.chmod(mode)
        _flush(temporary)
        os.replace(temporary, target)
    except BaseException:  # Ctrl-C too must leave no litter
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        _flush(target.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
