"""What max and average pooling check alike."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from cyconv import _geometry
from cyconv import _validation as check
from cyconv._geometry import Padding, Pair
from cyconv.functional._windows import Axes, Axis, adaptive_axis, windows
from cyconv.memory import remembered

Shape = tuple[int, ...]
PLAIN = {int, type(None)}  # of these types what is equal means the same, which True and 1 do not
MOST_PARTS = 2**16  # of adaptive pooling along an axis, to bound the work of laying them out


def window_axes(
    op: str, size: Shape, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[Axes, Padding]:
    """Check the windows' parameters against an image of `size`; return the axes and the resolved padding."""
    plain = {type(kernel_size), type(stride), type(padding), type(dilation)} <= PLAIN
    checked = _remembered_axes if plain else _window_axes
    return checked(op, size, kernel_size, stride, padding, dilation, ceil_mode)


def _window_axes(
    op: str, size: Shape, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[Axes, Padding]:
    kernel = check.as_pair(op, "kernel_size", kernel_size)
    stride = kernel if stride is None else check.as_pair(op, "stride", stride)
    dilation = check.as_pair(op, "dilation", dilation)
    resolved = check.as_padding(op, padding, (size[0], size[1]), kernel, stride, dilation)
    return _fitting_axes(op, (size[0], size[1]), kernel, stride, resolved, dilation, ceil_mode), resolved


_remembered_axes = remembered(_window_axes)


def adaptive_axes(op: str, shape: Shape, output_size: Any) -> Axes:
    """Check an adaptive pooling's output size against an image of `shape`."""
    OH, OW = check.as_pair(op, "output_size", output_size)
    if max(OH, OW) > MOST_PARTS:
        raise ValueError(f"{op}: `output_size` must be at most {MOST_PARTS}, got {(OH, OW)}")
    return adaptive_axis(shape[2], OH), adaptive_axis(shape[3], OW)


def check_backward(
    op: str, grad_output: ArrayLike, x: ArrayLike | None, input_shape: Any
) -> tuple[NDArray, NDArray | None, Shape]:
    """Return the output's gradient, x or None, and the shape of x wherever it comes from."""
    grad = check.as_float_array(op, "grad_output", grad_output, 4)
    if x is None:
        if input_shape is None:
            raise ValueError(f"{op}: `x` or `input_shape` is needed")
        return grad, None, check.as_image_shape(op, "input_shape", input_shape)
    x = check.as_image(op, "x", x)
    if grad.dtype != x.dtype:
        check.check_same_dtype(op, grad_output=grad, x=x)
    return grad, x, x.shape


def check_grad(op: str, grad: NDArray, shape: Shape, axes: Axes) -> None:
    """Raise ValueError unless the output's gradient has the output's shape."""
    check.check_shape(op, "grad_output", grad, (*shape[:2], axes[0].output, axes[1].output))


@remembered
def _fitting_axes(
    op: str, size: Pair, kernel: Pair, stride: Pair, resolved: Padding, dilation: Pair, ceil_mode: bool
) -> Axes:
    check.as_bool(op, "ceil_mode", ceil_mode)
    if kernel[0] * kernel[1] > check.LARGEST:
        raise ValueError(f"{op}: `kernel_size` must have at most {check.LARGEST} positions, got {kernel}")
    span = tuple(_geometry.effective_kernel(kernel[i], dilation[i]) for i in (0, 1))
    if max(resolved[:2]) > span[0] // 2 or max(resolved[2:]) > span[1] // 2:
        raise ValueError(f"{op}: `padding` must be at most half of the window, {span}, got {tuple(resolved)}")
    rows, columns = (
        Axis(
            size[i],
            _geometry.pool_output(size[i], kernel[i], stride[i], before, after, dilation[i], ceil_mode),
            kernel[i],
            stride[i],
            before,
            dilation[i],
        )
        for i, (before, after) in enumerate((resolved[:2], resolved[2:]))
    )
    if min(rows.output, columns.output) < 1:
        padded = size[0] + resolved.top + resolved.bottom, size[1] + resolved.left + resolved.right
        raise ValueError(f"{op}: the window spans {span} (`dilation` included), more than the padded input {padded}")
    if _steps_over(rows) or _steps_over(columns):
        raise ValueError(f"{op}: `dilation` {dilation} steps over all of the input {size}: some windows are empty")
    return rows, columns


def _steps_over(axis: Axis) -> bool:
    """Return whether some window reads nothing but padding, which takes a dilation larger than the input."""
    if axis.size >= axis.dilation:
        return False
    _, first, stop = windows(axis).T
    return bool((first == stop).any())
