"""Padding with a constant or with what the input holds, and its gradient: of sequences, images and volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv import memory
from cyconv._boundary import sources
from cyconv._geometry import Pair
from cyconv.functional._arrays import as_columns, as_images, as_volumes, image_of, pixels_of
from cyconv.functional._tables import Table, apply_tables, selection

BOUNDARY = {"reflect": "mirror", "replicate": "nearest", "circular": "wrap"}
MODES = ("constant", *BOUNDARY)


def pad(x: ArrayLike, padding: tuple[int, ...], value: float = 0.0, *, mode: str = "constant") -> NDArray:
    """Surround each image with a constant, or continue it over its edges.

    Parameters
    ----------
    x : array_like of shape (N, C, L), (N, C, H, W) or (N, C, D, H, W)
        float32 or float64.
    padding : tuple (left, right), (left, right, top, bottom) or (left, right, top, bottom, front, back)
        Columns, rows and slices to add; the last axis comes first, as in PyTorch.
    value : float, default 0.0
        What to fill them with in mode "constant"; NaN and infinities are welcome.
    mode : {"constant", "reflect", "replicate", "circular"}, default "constant"
        Fill with `value`; mirror the image at its edge pixels, which are not repeated; repeat the edge pixels; or go on
        at the other side. NumPy calls the last three "reflect", "edge" and "wrap".

    Returns
    -------
    ndarray of shape (N, C, top + H + bottom, left + W + right), and so for the others

    Raises
    ------
    TypeError
        If `x` is not float32 or float64, a width is not an integer, or `value` not a number.
    ValueError
        If `padding` has another number of numbers, or a negative one; `value` is finite and beyond the dtype; `mode` is
        another; or the image has too few pixels to mirror (padding below the size) or to go round (at most the size).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.pad(np.ones((1, 1, 1, 2)), (1, 0, 0, 1), value=7)
    array([[[[7., 1., 1.],
             [7., 7., 7.]]]])
    >>> F.pad(np.arange(3.0).reshape(1, 1, 1, 3), (2, 2), mode="reflect")
    array([[[[2., 1., 0., 1., 2., 1., 0.]]]])
    """
    return padded("pad", x, padding, value, mode)


def pad_backward(
    grad_output: ArrayLike, x: ArrayLike | None, padding: tuple[int, ...], value: float = 0.0, *, mode: str = "constant"
) -> NDArray:
    """Return the gradient of `pad` with respect to `x`: that of each pixel and of its copies in the padding.

    Parameters
    ----------
    grad_output : array_like of the shape of the result
    x : array_like of the shape of the input, or None
        Only its shape matters; None for whatever fits.
    padding, value, mode
        As in `pad`; the value does not matter.

    Returns
    -------
    ndarray of the shape of the input

    Raises
    ------
    TypeError, ValueError
        As `pad`, and if `grad_output` has the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.pad_backward(np.arange(6.0).reshape(1, 1, 2, 3), None, (1, 0, 0, 1))
    array([[[[1., 2.]]]])
    """
    return padded_backward("pad_backward", grad_output, x, padding, mode)


def padded(op: str, x: Any, padding: Any, value: Any = 0.0, mode: Any = "constant") -> NDArray:
    """Do what `pad` does."""
    x = _as_any_image(op, "x", x)
    axes = x.ndim - 2
    sides = _check_padding(op, padding, axes)
    value = check.as_fill_value(op, "value", value, x.dtype)
    if check.as_choice(op, "mode", mode, MODES) != "constant":
        return _mapped(x, [continued(op, mode, size, *side) for size, side in zip(x.shape[2:], sides, strict=True)])
    inner = pixels_of(x)  # a sequence as an image of one row
    sides = [(0, 0)] * (inner.ndim - 2 - axes) + sides
    N, *size, C = inner.shape
    pixels = memory.empty(
        (N, *(before + n + after for n, (before, after) in zip(size, sides, strict=True)), C), x.dtype
    )
    for axis, (n, (before, _)) in enumerate(zip(size, sides, strict=True)):
        across = np.moveaxis(pixels, axis + 1, 0)
        across[:before] = across[before + n :] = value
    pixels[_inside(size, sides)] = inner
    return image_of(pixels, axes)


def padded_backward(op: str, grad_output: Any, x: Any, padding: Any, mode: Any = "constant") -> NDArray:
    """Do what `pad_backward` does."""
    grad = _as_any_image(op, "grad_output", grad_output)
    axes = grad.ndim - 2
    sides = _check_padding(op, padding, axes)
    if x is not None:
        x = _as_any_image(op, "x", x)
        check.check_same_dtype(op, grad_output=grad, x=x)
        if x.ndim == grad.ndim:
            size = tuple(before + n + after for n, (before, after) in zip(x.shape[2:], sides, strict=True))
            check.check_shape(op, "grad_output", grad, (*x.shape[:2], *size))
        else:
            raise ValueError(f"{op}: `grad_output` must have as many axes as `x` {x.shape}, got shape {grad.shape}")
    inner = [extent - before - after for extent, (before, after) in zip(grad.shape[2:], sides, strict=True)]
    if min(inner) < 1:
        raise ValueError(f"{op}: `grad_output` of shape {grad.shape} is all padding, {tuple(padding)}")
    if check.as_choice(op, "mode", mode, MODES) != "constant":
        tables = [continued(op, mode, n, *side).adjoint() for n, side in zip(inner, sides, strict=True)]
        return _mapped(grad, tables)
    pixels = pixels_of(grad)
    lifted = pixels.ndim - 2 - axes
    inside = pixels[_inside([1] * lifted + inner, [(0, 0)] * lifted + sides)]
    grad_x = memory.empty(inside.shape, grad.dtype)
    grad_x[...] = inside
    return image_of(grad_x, axes)


def continued(op: str, mode: str, size: int, before: int, after: int) -> Table:
    """Return which of the `size` pixels along an axis each pixel of the padded axis is a copy of."""
    most = {"reflect": size - 1, "circular": size}.get(mode)
    if most is not None and max(before, after) > most:
        raise ValueError(
            f"{op}: `padding` must be at most {most} for `mode` {mode!r} and {size} pixels, got {max(before, after)}"
        )
    return selection(size, sources(BOUNDARY[mode], size, before, before + size + after))


def _as_any_image(op: str, name: str, value: Any) -> NDArray:
    axes = check.as_array(op, name, value).ndim - 2
    return check.as_image(op, name, value, axes if axes in (1, 3) else 2)


def _check_padding(op: str, padding: Any, axes: int) -> list[Pair]:
    """Return what is added before and after along each axis, the first one first."""
    forms = "(left, right)", "(left, right, top, bottom)", "(left, right, top, bottom, front, back)"
    if isinstance(padding, np.ndarray):
        padding = padding.tolist()
    if not isinstance(padding, (tuple, list)) or len(padding) not in range(2, 2 * axes + 1, 2):
        raise ValueError(f"{op}: `padding` must be {' or '.join(forms[:axes])}, got {check.brief(padding)}")
    widths = [check.as_int(op, "padding", width, 0) for width in padding] + [0] * (2 * axes - len(padding))
    return list(zip(widths[::2], widths[1::2], strict=True))[::-1]


def _inside(size: Sequence[int], sides: Sequence[Pair]) -> tuple[slice, ...]:
    """Return where the input lies among padded pixels [N, ..., C]."""
    return (slice(None), *(slice(before, before + n) for n, (before, _) in zip(size, sides, strict=True)))


def _mapped(x: NDArray, tables: list[Table]) -> NDArray:
    """Return what a map along each axis makes of x."""
    if x.ndim == 4:
        return apply_tables(x, *tables)
    if x.ndim == 3:
        return apply_tables(as_images(x), _same(1), *tables)[:, :, 0]
    (N, C, D), (depth, rows, columns) = x.shape[:3], tables
    slices = apply_tables(as_images(x), rows, columns)
    pixels = apply_tables(as_columns(slices, D), depth, _same(rows.outputs * columns.outputs))
    return as_volumes(pixels, (N, C, depth.outputs, rows.outputs, columns.outputs))


def _same(size: int) -> Table:
    return selection(size, np.arange(size))
