"""Arrays in files: safetensors, which others read too, written so that a crash leaves the old file or the new one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

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
    from safetensors.numpy import save_file

    contiguous = {name: np.require(array, requirements="C") for name, array in arrays.items()}
    write_atomically(path, lambda temporary: save_file(contiguous, temporary, dict(metadata or {})))


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

    with open(path, "rb"):  # a missing or unreadable file is the system's error, not the format's
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, TypeError) as error:  # TypeError: a number format that NumPy lacks
        raise ValueError(
            f"load: {os.fspath(path)!r} is no complete safetensors file of NumPy's types: {error}"
        ) from error


def write_atomically(path: PathLike, write: Callable[[Path], object]) -> None:
    """Have `write` fill a temporary file beside `path`, then put it in place: readers find the old file or the new.

    The data is on the disk before the name is, and the name before this returns.
    """
    from pathlib import Path  # here, because it takes milliseconds to import

    target = Path(os.path.realpath(path))  # a link stays a link: what it points at is replaced
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
