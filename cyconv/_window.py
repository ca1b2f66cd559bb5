"""Sliding windows along any number of axes: one description, parsed and checked once, for functions and layers alike.

`window` reads the arguments that convolutions, pooling and their relatives share, `Window.place` lays the windows on an
input of some size. Both know the op's name and the user's own shapes, so that errors speak of these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from cyconv import _geometry
from cyconv import _validation as check
from cyconv._geometry import Pair

Extents = tuple[int, ...]
PLAIN = frozenset({int, str, type(None)})
PLAIN_OR_TUPLES = PLAIN | {tuple}
MOST_PARTS = 2**16  # of adaptive pooling along an axis, to bound the work of laying them out
INPUTS = {1: "sequences", 2: "images", 3: "volumes"}


class Axis(NamedTuple):
    """All there is to know of the windows along one axis."""

    size: int  # input positions
    output: int  # windows
    kernel: int  # taps; the most that any window has, if the windows are adaptive
    stride: int = 1
    before: int = 0  # padding
    dilation: int = 1
    adaptive: bool = False
    after: int = 0  # padding

    @property
    def padded(self) -> int:
        """Size of the padded input."""
        return self.size + self.before + self.after


Axes = tuple[Axis, ...]
SINGLE = Axis(1, 1, 1)  # what makes a sequence an image of one row


class Window(NamedTuple):
    """A sliding window: numbers for each axis, whatever the size of the input."""

    kernel: Extents
    stride: Extents
    padding: tuple[Pair, ...] | None  # before and after; None for "same", which depends on the size
    dilation: Extents
    ceil_mode: bool = False
    output_padding: Extents | None = None  # of a transposed convolution

    @property
    def span(self) -> Extents:
        """How many positions the dilated kernel spans."""
        return tuple(map(_geometry.effective_kernel, self.kernel, self.dilation))

    def place(self, op: str, size: Sequence[int]) -> Axes:
        """Return the windows on an input of `size`.

        Of a transposed convolution: those of the convolution that it is the adjoint of, whose outputs are `size`.
        """
        return _placed(op, self, tuple(size))


def window(
    op: str,
    axes: int,
    kernel_size: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: Any = False,
    output_padding: Any = None,
) -> Window:
    """Return the window that these arguments describe, each checked by itself.

    All but `ceil_mode` are an int or an int for each axis. Padding may also be (before, after) along an axis, "valid"
    for none, "same" for ceil(size / stride) outputs, or "full" for every place where window and input overlap.
    """
    arguments = kernel_size, stride, padding, dilation, output_padding
    read = _remembered if are_plain(arguments) and type(ceil_mode) is bool else _read
    return read(op, axes, kernel_size, stride, padding, dilation, ceil_mode, output_padding)


def pooling_window(
    op: str, axes: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any = 1, ceil_mode: Any = False
) -> Window:
    """Return the window of pooling, whose stride is `kernel_size` by default and whose padding at most half of it."""
    read = window(op, axes, kernel_size, kernel_size if stride is None else stride, padding, dilation, ceil_mode)
    if math.prod(read.kernel) > check.LARGEST:
        raise ValueError(f"{op}: `kernel_size` must have at most {check.LARGEST} positions, got {said(read.kernel)}")
    for sides, span in zip(read.padding or (), read.span, strict=False):
        if max(sides) > span // 2:
            raise ValueError(
                f"{op}: `padding` must be at most half of the window, {said(read.span)}, got {said(read.padding)}"
            )
    return read


def pooling_axes(
    op: str, size: Extents, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> Axes:
    """Return the windows of pooling on an input of `size`, each of which holds something of it."""
    usual = type(kernel_size) is type(padding) is type(dilation) is int and stride is None
    plainly = usual or are_plain((kernel_size, stride, padding, dilation))
    place = _remembered_pooling if plainly and type(ceil_mode) is bool else _pooling_axes
    return place(op, size, kernel_size, stride, padding, dilation, ceil_mode)


def _pooling_axes(
    op: str, size: Extents, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> Axes:
    placed = pooling_window(op, len(size), kernel_size, stride, padding, dilation, ceil_mode).place(op, size)
    if any(map(_steps_over, placed)):
        dilation = [axis.dilation for axis in placed]
        raise ValueError(
            f"{op}: `dilation` {said(dilation)} steps over all of the input {said(size)}: some windows are empty"
        )
    return placed


_remembered_pooling = lru_cache(maxsize=1024)(_pooling_axes)


def are_plain(arguments: tuple[Any, ...]) -> bool:
    """Return whether arguments are of kinds of which what is equal means the same, which True and 1 do not."""
    kinds = set(map(type, arguments))
    if kinds <= PLAIN:  # the usual case
        return True
    return kinds <= PLAIN_OR_TUPLES and all(map(_holds_ints, (each for each in arguments if type(each) is tuple)))


def _holds_ints(values: tuple[Any, ...]) -> bool:
    return all(type(each) is int or (type(each) is tuple and _holds_ints(each)) for each in values)


def plain(value: Any) -> Any:
    """Return an argument with Python's numbers in the place of NumPy's, tuples in that of lists and arrays."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    return tuple(map(plain, value)) if isinstance(value, (tuple, list)) else value


def adaptive_outputs(op: str, axes: int, output_size: Any) -> tuple[int | None, ...]:
    """Return the output size of adaptive pooling: an int or None, which keeps the input's, or one for each axis."""
    each = plain(output_size)
    each = each if isinstance(each, tuple) else (each,) * axes
    if len(each) != axes:
        raise ValueError(f"{op}: `output_size` must be {check.EACH[axes]}, got {check.brief(output_size)}")
    sizes = tuple(None if extent is None else check.as_int(op, "output_size", extent) for extent in each)
    if max((extent for extent in sizes if extent is not None), default=0) > MOST_PARTS:
        raise ValueError(f"{op}: `output_size` must be at most {MOST_PARTS}, got {said(sizes)}")
    return sizes


def adaptive_axes(op: str, size: Sequence[int], output_size: Any) -> Axes:
    """Return the windows that divide an input of `size` into nearly equal parts."""
    outputs = adaptive_outputs(op, len(size), output_size)
    return tuple(
        _adaptive(extent, extent if output is None else output) for extent, output in zip(size, outputs, strict=True)
    )


def sample_shape(op: str, input_shape: Sequence[int], axes: int, channels: int | None = None) -> tuple[int, ...]:
    """Return the shape of an input without the batch if it is (C, and `axes` more), with so many channels if given."""
    shape = tuple(input_shape)
    if len(shape) != axes + 1 or channels not in (None, shape[0]):
        wanted = f"({'C' if channels is None else channels}, {check.LAYOUT[axes]})"
        raise ValueError(f"{op}: needs {INPUTS[axes]} of shape {wanted}, got {shape}")
    return shape


def _read(
    op: str,
    axes: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: Any,
    output_padding: Any,
) -> Window:
    kernel = check.as_each(op, "kernel_size", kernel_size, axes)
    stride, dilation = check.as_each(op, "stride", stride, axes), check.as_each(op, "dilation", dilation, axes)
    sides = _sides(op, axes, padding, tuple(map(_geometry.effective_kernel, kernel, dilation)))
    ceil_mode = check.as_bool(op, "ceil_mode", ceil_mode)
    if output_padding is None:
        return Window(kernel, stride, sides, dilation, ceil_mode)
    extra = check.as_each(op, "output_padding", output_padding, axes, 0)
    if sides is None:
        raise ValueError(f'{op}: `padding` "same" has no meaning here; give the numbers that undo a convolution\'s')
    if any(map(int.__ge__, extra, map(max, stride, dilation))):
        raise ValueError(
            f"{op}: `output_padding` must be less than `stride` or `dilation`, got {said(extra)} for "
            f"{said(stride)}, {said(dilation)}"
        )
    return Window(kernel, stride, sides, dilation, ceil_mode, extra)


_remembered = lru_cache(maxsize=1024)(_read)


def _sides(op: str, axes: int, padding: Any, span: Extents) -> tuple[Pair, ...] | None:
    """Return what is added before and after along each axis."""
    if isinstance(padding, str):
        if padding == "same":
            return None
        if padding in ("valid", "full"):
            return tuple((extent - 1, extent - 1) if padding == "full" else (0, 0) for extent in span)
        raise ValueError(
            f'{op}: `padding` must be "same", "valid", "full", {check.EACH[axes]}, or (before, after) along each axis, '
            f"got {check.brief(padding)}"
        )
    if isinstance(padding, np.ndarray):
        padding = padding.tolist()
    if not isinstance(padding, (tuple, list)):
        number = check.as_int(op, "padding", padding, 0)
        return ((number, number),) * axes
    if axes == 1 and len(padding) == 2:
        padding = (padding,)
    if len(padding) != axes:
        raise ValueError(
            f"{op}: `padding` must be {check.EACH[axes]}, or (before, after) along each axis, "
            f"got {check.brief(padding)}"
        )
    return tuple(check.as_pair(op, "padding", sides, 0) for sides in padding)


@lru_cache(maxsize=1024)
def _placed(op: str, window: Window, size: Extents) -> Axes:
    if window.output_padding is not None:
        return _placed_of_transposed(op, window, window.output_padding, size)
    placed = []
    for i, (extent, kernel, stride, dilation) in enumerate(
        zip(size, window.kernel, window.stride, window.dilation, strict=True)
    ):
        before, after = (
            _geometry.same_padding(extent, kernel, stride, dilation) if window.padding is None else window.padding[i]
        )
        outputs = _geometry.pool_output(extent, kernel, stride, before, after, dilation, window.ceil_mode)
        placed.append(Axis(extent, outputs, kernel, stride, before, dilation, after=after))
    if min(axis.output for axis in placed) < 1:
        raise ValueError(
            f"{op}: the kernel spans {said(window.span)} (`dilation` included), more than the padded input "
            f"{said([axis.padded for axis in placed])}"
        )
    return tuple(placed)


def _placed_of_transposed(op: str, window: Window, output_padding: Extents, size: Extents) -> Axes:
    placed = []
    for extent, kernel, stride, (before, after), dilation, extra in zip(
        size, window.kernel, window.stride, window.padding or (), window.dilation, output_padding, strict=True
    ):
        enlarged = _geometry.conv_transpose_output(extent, kernel, stride, before, after, dilation, extra)
        placed.append(Axis(enlarged, extent, kernel, stride, before, dilation, after=after))
    if min(axis.size for axis in placed) < 1:
        raise ValueError(
            f"{op}: `padding` {said(window.padding)} leaves an output of size {said([axis.size for axis in placed])}; "
            "it must be at least 1 along each axis"
        )
    return tuple(placed)


def _steps_over(axis: Axis) -> bool:
    """Return whether some window reads nothing but padding, which takes a dilation larger than the input."""
    if axis.size >= axis.dilation:
        return False
    origin = np.arange(axis.output) * axis.stride - axis.before
    first = np.maximum(-(origin // axis.dilation), 0)  # the tap that is inside, if any is
    return bool(((first >= axis.kernel) | (origin + first * axis.dilation >= axis.size)).any())


@lru_cache(maxsize=1024)
def _adaptive(size: int, output: int) -> Axis:
    return Axis(size, output, size // output + 2 * (size % output > 0), adaptive=True)  # they may overlap at both ends


def said(values: Sequence[Any] | None) -> Any:
    """Return numbers along the axes as a user would give them: one for one axis, one for two equal sides."""
    each = [side[0] if isinstance(side, tuple) and side[0] == side[1] else side for side in values or ()]
    return each[0] if len(each) == 1 else tuple(each)
