"""What max and average pooling share along one, two or three axes.

A sequence is an image of one row. Volumes are pooled as the images of their slices and then along the depth, as images
[N, D, H*W, C]: both kinds are separable, the maximum of a box is that of its slices' maxima, the average the average of
their averages.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv._window import SINGLE, Axes, Axis

Shape = tuple[int, ...]


def check_backward(
    op: str, axes: int, grad_output: ArrayLike, x: ArrayLike | None, input_shape: Any
) -> tuple[NDArray, NDArray | None, Shape]:
    """Return the output's gradient, x or None, and the shape of x wherever it comes from."""
    grad = check.as_float_array(op, "grad_output", grad_output)
    if x is None:
        if input_shape is None:
            raise ValueError(f"{op}: `x` or `input_shape` is needed")
        return grad, None, check.as_image_shape(op, "input_shape", input_shape, axes)
    x = check.as_image(op, "x", x, axes)
    if grad.dtype != x.dtype:
        check.check_same_dtype(op, grad_output=grad, x=x)
    return grad, x, x.shape


def check_grad(op: str, grad: NDArray, shape: Shape, axes: Axes) -> None:
    """Raise ValueError unless the output's gradient has the output's shape."""
    check.check_shape(op, "grad_output", grad, (*shape[:2], *(axis.output for axis in axes)))


def plane(axes: Axes) -> Axes:
    """Return the two axes along which images are pooled: those of the slices of volumes."""
    return (SINGLE, *axes) if len(axes) == 1 else axes[-2:]


def along_depth(axes: Axes) -> Axes:
    """Return the axes of the images [N, D, OH*OW, C] of pooled slices."""
    positions = axes[1].output * axes[2].output
    return axes[0], Axis(positions, positions, 1)
