"""Enlarging and shrinking images by interpolation, with its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv.functional._tables import Table, apply_tables, selection, table
from cyconv.memory import remembered, require

MODES = ("nearest", "bilinear")
Shape = tuple[int, ...]


def interpolate(
    x: ArrayLike,
    size: int | tuple[int, int] | None = None,
    scale_factor: float | tuple[float, float] | None = None,
    mode: str = "nearest",
    align_corners: bool = False,
) -> NDArray:
    """Bring images to another size.

    Parameters
    ----------
    x : array_like of shape (N, C, H, W)
        float32 or float64.
    size : int or pair of int, optional
        Height and width of the result; either this or `scale_factor`.
    scale_factor : float or pair of float, optional
        Result by input, above 0; the sizes are rounded down.
    mode : {"nearest", "bilinear"}, default "nearest"
        Copy the nearest pixel, or weight the four nearest.
    align_corners : bool, default False
        For "bilinear": whether the centres of the corner pixels keep their places, rather than the image's corners.

    Returns
    -------
    ndarray of shape (N, C, OH, OW)

    Raises
    ------
    TypeError
        If `x` is not float32 or float64, or a size or factor not a number.
    ValueError
        If both or neither of `size` and `scale_factor` are given, a size is below 1, or `align_corners` is asked for
        with "nearest".

    Notes
    -----
    Output i reads position ``s``: ``floor(i r)`` for "nearest"; for "bilinear" ``max(0, (i + 1/2) r - 1/2)``, or ``i (I
    - 1) / (O - 1)`` with `align_corners`; r is 1 / `scale_factor`, or I / O for a given `size`. Bilinear weights are
    ``1 - (s - floor(s))`` and ``s - floor(s)``. These are PyTorch's rules; its positions are in the precision of `x`,
    here in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> x = np.array([[[[0.0, 1.0]]]])
    >>> F.interpolate(x, scale_factor=(1, 2))
    array([[[[0., 0., 1., 1.]]]])
    >>> F.interpolate(x, (1, 4), mode="bilinear")
    array([[[[0.  , 0.25, 0.75, 1.  ]]]])
    """
    op = "interpolate"
    x = check.as_image(op, "x", x)
    return apply_tables(x, *_tables(op, x.shape, size, scale_factor, mode, align_corners))


def interpolate_backward(
    grad_output: ArrayLike,
    x: ArrayLike | None,
    size: int | tuple[int, int] | None = None,
    scale_factor: float | tuple[float, float] | None = None,
    mode: str = "nearest",
    align_corners: bool = False,
    *,
    input_shape: Shape | None = None,
) -> NDArray:
    """Return the gradient of `interpolate` with respect to `x`: the adjoint map.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OH, OW)
        Gradient of the result.
    x : array_like of shape (N, C, H, W), or None
        Only its shape matters.
    size, scale_factor, mode, align_corners
        As in `interpolate`.
    input_shape : tuple (N, C, H, W), optional
        The shape of `x` where `x` is None.

    Returns
    -------
    ndarray of shape (N, C, H, W)

    Raises
    ------
    TypeError, ValueError
        As `interpolate`, and if `grad_output` has the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.interpolate_backward(np.ones((1, 1, 1, 4)), np.zeros((1, 1, 1, 2)), (1, 4))
    array([[[[2., 2.]]]])
    """
    op = "interpolate_backward"
    grad = check.as_image(op, "grad_output", grad_output)
    if x is None:
        shape = check.as_image_shape(op, "input_shape", input_shape)
    else:
        image = check.as_image(op, "x", x)
        check.check_same_dtype(op, grad_output=grad, x=image)
        shape = image.shape
    rows, columns = _tables(op, shape, size, scale_factor, mode, align_corners)
    check.check_shape(op, "grad_output", grad, (*shape[:2], rows.outputs, columns.outputs))
    return apply_tables(grad, rows.adjoint(), columns.adjoint())


def output_size(op: str, image: Shape, size: Any, scale_factor: Any) -> tuple[tuple[int, int], tuple[float, float]]:
    """Return the size of the result for an image (H, W), and how far apart neighbouring outputs read."""
    if (size is None) == (scale_factor is None):
        given = f"{check.brief(size)} and {check.brief(scale_factor)}"
        raise ValueError(f"{op}: either `size` or `scale_factor` must be given, got {given}")
    H, W = image
    if size is not None:
        OH, OW = check.as_pair(op, "size", size)
        return (OH, OW), (H / OH, W / OW)
    pair = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor, scale_factor)
    if len(pair) != 2:
        raise ValueError(f"{op}: `scale_factor` must be a number or a pair, got {check.brief(scale_factor)}")
    factors = [check.as_number(op, "scale_factor", factor, 0, check.LARGEST, open_minimum=True) for factor in pair]
    OH, OW = int(H * factors[0]), int(W * factors[1])
    if min(OH, OW) < 1:
        raise ValueError(
            f"{op}: `scale_factor` {check.brief(scale_factor)} leaves nothing of an image of size ({H}, {W})"
        )
    return (OH, OW), (1 / factors[0], 1 / factors[1])


def _tables(op: str, shape: Shape, size: Any, scale_factor: Any, mode: Any, align_corners: Any) -> tuple[Table, Table]:
    mode = check.as_choice(op, "mode", mode, MODES)
    aligned = check.as_bool(op, "align_corners", align_corners)
    if aligned and mode == "nearest":
        raise ValueError(f"{op}: `align_corners` has a meaning for bilinear interpolation only")
    outputs, steps = output_size(op, shape[2:], size, scale_factor)
    rows, columns = (_table(shape[2 + i], outputs[i], steps[i], mode, aligned) for i in (0, 1))
    return rows, columns


@remembered
def _table(size: int, outputs: int, step: float, mode: str, aligned: bool) -> Table:
    """Return what each of the outputs reads along an axis of `size` pixels."""
    require(outputs * (40 if mode == "nearest" else 160))
    index = np.arange(outputs)
    if mode == "nearest":
        return selection(size, np.minimum(np.floor(index * step).astype(np.intp), size - 1))
    if aligned:
        position = index * ((size - 1) / (outputs - 1) if outputs > 1 else 0.0)
    else:
        position = np.maximum((index + 0.5) * step - 0.5, 0)
    first = np.minimum(np.floor(position).astype(np.intp), size - 1)
    second = np.minimum(first + 1, size - 1)
    fraction = np.clip(position - first, 0, 1)
    targets, sources = np.concatenate([index, index]), np.concatenate([first, second])
    return table(size, outputs, targets, sources, np.concatenate([1 - fraction, fraction]))
