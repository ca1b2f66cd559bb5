"""Switches that hold for the whole process: exact convolutions, and whether containers run neighbours as one."""

from __future__ import annotations

import os

from cyconv._validation import as_bool

__all__ = ["exact", "fusion", "is_exact", "is_fusing"]


def _from_environment(name: str, default: bool) -> bool:
    value = os.environ.get(name, "").strip()
    if value not in ("", "0", "1"):
        raise ImportError(f"cyconv: {name} must be 0 or 1, got {value!r}")
    return value == "1" if value else default


_exact = _from_environment("CYCONV_EXACT", False)
_fusing = _from_environment("CYCONV_FUSION", True)


def exact(on: bool = True) -> None:
    """Never use Winograd's minimal filtering, whatever `algorithm` says: each product is computed and summed.

    That costs speed, in float32 and with filters of 2x2 to 6x6, and gains most of a digit. Sums are rounded in blocks:
    the root mean square of the errors, over that of the results, stays below 4e-7 on all layers that the benchmarks
    measure, up to sums over 200,000 products, and within 1.5 times PyTorch's; with Winograd below 1.6e-6 (`python -m
    benchmarks accuracy --peer torch`). A single result that nearly cancels has a larger error in relation to itself. A
    NaN stays within the windows that hold it. The variable CYCONV_EXACT=1 switches it on at import.

    Parameters
    ----------
    on : bool, default True

    Raises
    ------
    TypeError
        If `on` is not a bool.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.exact()
    >>> cyconv.is_exact()
    True
    >>> cyconv.exact(False)
    """
    global _exact
    _exact = as_bool("exact", "on", on)


def is_exact() -> bool:
    """Return whether `exact` is on.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.is_exact()
    False
    """
    return _exact


def fusion(on: bool = True) -> None:
    """Let containers run neighbouring layers as one: a convolution, its batch normalisation, a sum and ReLU.

    On by default. Results are the same within rounding; switch it off to compare, or to see every layer's own output.
    The variable CYCONV_FUSION=0 switches it off at import.

    Parameters
    ----------
    on : bool, default True

    Raises
    ------
    TypeError
        If `on` is not a bool.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.fusion(False)
    >>> cyconv.is_fusing()
    False
    >>> cyconv.fusion()
    """
    global _fusing
    _fusing = as_bool("fusion", "on", on)


def is_fusing() -> bool:
    """Return whether `fusion` is on.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.is_fusing()
    True
    """
    return _fusing
