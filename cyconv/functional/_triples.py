"""Arguments of operations on volumes: a number for each of three axes."""

from __future__ import annotations

from typing import Any

from cyconv import _validation as check

Triple = tuple[int, int, int]


def as_triple(op: str, name: str, value: Any, minimum: int = 1) -> Triple:
    """Return an int or three ints as (depth, vertical, horizontal)."""
    values = value if isinstance(value, (tuple, list)) else (value, value, value)
    if len(values) != 3:
        raise ValueError(f"{op}: `{name}` must be an int or three ints, got {value!r}")
    depth, vertical, horizontal = (check.as_int(op, name, number, minimum) for number in values)
    return depth, vertical, horizontal
