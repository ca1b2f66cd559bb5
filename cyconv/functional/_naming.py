"""Errors of operations that are made of others."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
PARTS = re.compile(r"(conv2d|conv_transpose2d|max_pool2d|avg_pool2d)(_backward|_with_winners)?: ")


def named(operation: Callable[P, R]) -> Callable[P, R]:
    """Let the errors of the two-dimensional operations that one is made of bear its own name."""

    @wraps(operation)
    def call(*arguments: P.args, **keywords: P.kwargs) -> R:
        try:
            return operation(*arguments, **keywords)
        except (TypeError, ValueError) as error:
            part = PARTS.match(str(error))
            if part is None:
                raise
            raise type(error)(f"{operation.__name__}: {str(error)[part.end() :]}") from None

    return call
