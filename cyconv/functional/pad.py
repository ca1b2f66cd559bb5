"""Padding with a constant or with what the image holds, and its gradient."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv._boundary import sources
from cyconv._geometry import Padding
from cyconv.functional._arrays import channels_last, empty_image, nhwc
from cyconv.functional._tables import Table, apply_tables, selection

BOUNDARY = {"reflect": "mirror", "replicate": "nearest", "circular": "wrap"}
MODES = ("constant", *BOUNDARY)


def pad(x: ArrayLike, padding: tuple[int, ...], value: float = 0.0, *, mode: str = "constant") -> NDArray:
    """Surround each image with a constant, or continue it over its edges.

    Parameters
    ----------
    x : array_like of shape (N, C, H, W)
        float32 or float64.
    padding : tuple (left, right) or (left, right, top, bottom)
        Columns and rows to add; the last axis comes first, as in PyTorch.
    value : float, default 0.0
        What to fill them with in mode "constant"; NaN and infinities are welcome.
    mode : {"constant", "reflect", "replicate", "circular"}, default "constant"
        Fill with `value`; mirror the image at its edge pixels, which are not repeated; repeat the edge pixels; or go on
        at the other side. NumPy calls the last three "reflect", "edge" and "wrap".

    Returns
    -------
    ndarray of shape (N, C, top + H + bottom, left + W + right)

    Raises
    ------
    TypeError
        If `x` is not float32 or float64, a width is not an integer, or `value` not a number.
    ValueError
        If `padding` has not two or four numbers, or a negative one; `value` is finite and beyond the dtype; `mode` is
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
    x = check.as_image("pad", "x", x)
    N, C, H, W = x.shape
    top, bottom, left, right = _check_padding("pad", padding)
    value = check.as_fill_value("pad", "value", value, x.dtype)
    if check.as_choice("pad", "mode", mode, MODES) != "constant":
        return apply_tables(x, continued("pad", mode, H, top, bottom), continued("pad", mode, W, left, right))
    output = empty_image(N, C, top + H + bottom, left + W + right, x.dtype)
    pixels = nhwc(output)
    pixels[:, :top] = pixels[:, top + H :] = value
    pixels[:, :, :left] = pixels[:, :, left + W :] = value
    pixels[:, top : top + H, left : left + W] = channels_last(x)
    return output


def pad_backward(
    grad_output: ArrayLike, x: ArrayLike | None, padding: tuple[int, ...], value: float = 0.0, *, mode: str = "constant"
) -> NDArray:
    """Return the gradient of `pad` with respect to `x`: that of each pixel and of its copies in the padding.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, top + H + bottom, left + W + right)
    x : array_like of shape (N, C, H, W), or None
        Only its shape matters; None for whatever fits.
    padding, value, mode
        As in `pad`; the value does not matter.

    Returns
    -------
    ndarray of shape (N, C, H, W)

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
    grad = check.as_image("pad_backward", "grad_output", grad_output)
    N, C, OH, OW = grad.shape
    top, bottom, left, right = _check_padding("pad_backward", padding)
    if x is not None:
        shape = check.as_image("pad_backward", "x", x).shape
        expected = (*shape[:2], top + shape[2] + bottom, left + shape[3] + right)
        check.check_shape("pad_backward", "grad_output", grad, expected)
    H, W = OH - top - bottom, OW - left - right
    if min(H, W) < 1:
        raise ValueError(f"pad_backward: `grad_output` of shape {grad.shape} is all padding, {tuple(padding)}")
    if check.as_choice("pad_backward", "mode", mode, MODES) != "constant":
        rows = continued("pad_backward", mode, H, top, bottom)
        return apply_tables(grad, rows.adjoint(), continued("pad_backward", mode, W, left, right).adjoint())
    grad_x = empty_image(N, C, H, W, grad.dtype)
    nhwc(grad_x)[...] = channels_last(grad)[:, top : top + H, left : left + W]
    return grad_x


def continued(op: str, mode: str, size: int, before: int, after: int) -> Table:
    """Return which of the `size` pixels along an axis each pixel of the padded axis is a copy of."""
    most = {"reflect": size - 1, "circular": size}.get(mode)
    if most is not None and max(before, after) > most:
        raise ValueError(
            f"{op}: `padding` must be at most {most} for `mode` {mode!r} and {size} pixels, got {max(before, after)}"
        )
    return selection(size, sources(BOUNDARY[mode], size, before, before + size + after))


def _check_padding(op: str, padding: Any) -> Padding:
    if not isinstance(padding, (tuple, list)) or len(padding) not in (2, 4):
        raise ValueError(
            f"{op}: `padding` must be (left, right) or (left, right, top, bottom), got {check.brief(padding)}"
        )
    left, right, top, bottom = (check.as_int(op, "padding", width, 0) for width in (*padding, 0, 0)[:4])
    return Padding(top, bottom, left, right)
