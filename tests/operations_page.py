"""Write docs/operations.md from the tables that the tests run: ``python -m tests.operations_page``."""

from __future__ import annotations

from pathlib import Path

from cyconv import functional as F
from cyconv.layers import Layer
from tests.methods import METHODS
from tests.operations import SECTIONS

PAGE = Path(__file__).parents[1] / "docs" / "operations.md"
INTRODUCTION = """# Operations and methods

Made by `make docs` from `tests/operations.py` and `tests/methods.py`, the tables that the tests run; don't edit it.
Functions are in `cyconv.functional` (`F`), the gradient of each beside it; layers in `cyconv.layers`, losses in
`cyconv.losses`. Every gradient is compared with central differences in float64.
"""
WITHOUT_GRADIENT = {"im2col": "col2im", "col2im": "im2col"}  # each is the other's


def page() -> str:
    """Return the page."""
    parts = [INTRODUCTION]
    for title, operations in SECTIONS.items():
        header = ("operation", "function", "gradient", "loss" if title == "Losses" else "layer")
        parts.append(_section(title, header, [_operation(op) for op in operations]))
    for title, methods in METHODS.items():
        if methods:
            cells = [(each.name, f"`{_path(each)}`", each.summary()) for each in methods]
            parts.append(_section(title, ("method", "code", "what it does"), cells))
    return "\n".join(parts)


def _operation(op) -> tuple[str, str, str, str]:
    function = gradient = ""
    if op.function:
        keywords = ", ".join(f"{k}={v!r}" for k, v in op.keywords.items() if isinstance(v, int | float | str | tuple))
        function = f"`F.{op.function}`" + (f" with `{keywords}`" if keywords else "")
        backward = WITHOUT_GRADIENT.get(op.function, f"{op.function}_backward")
        assert hasattr(F, backward)
        gradient = f"`F.{backward}`"
    layer = "" if op.layer is None else repr(op.layer)
    if "\n" in layer or (isinstance(op.layer, Layer) and any(op.layer.children().values())):
        layer = type(op.layer).__name__
    return op.name, function, gradient, layer and f"`{layer}`"


def _path(method) -> str:
    code, short = method.code, method.module.removeprefix("cyconv.")
    return code.replace("partial(", f"partial({short}.") if code.startswith("partial(") else f"{short}.{code}"


def _section(title: str, header: tuple[str, ...], cells: list[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *cells]
    return "\n".join([f"## {title}\n", *("| " + " | ".join(line) + " |" for line in lines), ""])


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
