"""How ops run their kernels: at once, or noted down too, to be run again (see `cyconv.layers.recording`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import DTypeLike, NDArray

from cyconv import memory


class Calls:
    """Run kernels at once, on fresh memory.

    The core of an op takes one of these, so that whoever hands it another one learns all that the op does: which memory
    it asks for and which kernels it runs on what, whatever it had to find out before.
    """

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
        """Return an uninitialised array."""
        return memory.empty(shape, dtype)

    def __call__(self, kernel: Callable[..., Any], *arguments: Any) -> None:
        """Run a kernel, which writes into arrays among its arguments."""
        kernel(*arguments)


AT_ONCE = Calls()
