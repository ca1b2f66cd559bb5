"""What an output sees of the input, and the rules by which a layer passes that on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce, singledispatch
from operator import or_
from typing import Any

from numpy.typing import NDArray

from cyconv import layers as L
from cyconv._geometry import Pair
from cyconv._validation import as_int, brief
from cyconv._window import Axis as Windows
from cyconv.analysis import _axes
from cyconv.analysis._axes import Axis, Reach
from cyconv.functional.pad import continued
from cyconv.functional.upsample import output_size
from cyconv.layers.base import Layer, Shape

__all__ = ["ReceptiveField", "see_through"]


@dataclass(frozen=True, eq=False)
class ReceptiveField:
    """What the outputs of a layer see of the network's input, along each axis of the latter.

    Attributes
    ----------
    size : tuple of int
        How many neighbouring inputs, holes of dilated kernels included, an output sees along each axis: the one that
        sees most, far from the edges, so the number can exceed the image.
    jump : tuple of float or None
        How many inputs further the next output looks: the product of the strides, less than 1 after upsampling, 0 where
        all outputs see the same, None where there is no such number.
    start : tuple of int or None
        The first input that the first output sees, negative in the padding; None if it sees nothing.

    Examples
    --------
    >>> from cyconv.analysis import receptive_field
    >>> from cyconv.layers import Conv2d, MaxPool2d, Sequential
    >>> field = receptive_field(Sequential(Conv2d(1, 1, 3, padding=1), MaxPool2d(2)), (1, 8, 8))
    >>> field.size, field.jump, field.start
    ((4, 4), (2.0, 2.0), (-1, -1))
    >>> field.region((0, 3))  # the rows and columns that the output in the upper right corner sees
    (slice(0, 3, None), slice(5, 8, None))
    """

    axes: tuple[Axis, ...]

    @property
    def size(self) -> tuple[int, ...]:
        """Extents of what an output sees."""
        return tuple(axis.size for axis in self.axes)

    @property
    def jump(self) -> tuple[float | None, ...]:
        """Distances between what neighbours see."""
        return tuple(axis.jump for axis in self.axes)

    @property
    def start(self) -> tuple[int | None, ...]:
        """Where what the first output sees begins."""
        return tuple(axis.start for axis in self.axes)

    def region(self, position: int | Sequence[int]) -> tuple[slice, ...]:
        """Return the smallest box of the input that holds all that an output sees, exactly, the edges considered.

        Parameters
        ----------
        position : int or sequence of int
            Row and column of the output, or its position along each axis. Behind a `Flatten` all count.

        Raises
        ------
        ValueError
            If there is no such output.
        """
        wanted = tuple(position) if isinstance(position, (tuple, list)) else (position,)
        if len(wanted) != len(self.axes):
            raise ValueError(f"region: `position` must have {len(self.axes)} numbers, got {brief(position)}")
        box = []
        for index, axis in zip(wanted, self.axes, strict=True):
            i = as_int("region", "position", index, 0, len(axis.first) - 1)
            box.append(slice(int(axis.first[i]), int(axis.last[i]) + 1))
        return tuple(box) if all(part.start < part.stop for part in box) else tuple(slice(0, 0) for _ in box)

    def __str__(self) -> str:
        return "x".join(map(str, self.size))

    def __repr__(self) -> str:
        return f"ReceptiveField(size={self.size}, jump={self.jump}, start={self.start})"


Inside = Callable[[str, ReceptiveField, Shape], "ReceptiveField | None"]


@singledispatch
def see_through(layer: Layer, field: ReceptiveField, input_shape: Shape, inside: Inside) -> ReceptiveField | None:
    """Return what the outputs of a layer see, given what its inputs see; None where it cannot be told.

    Parameters
    ----------
    layer : Layer
        The layer.
    field : ReceptiveField
        What its inputs see.
    input_shape : tuple of int
        Shape of one of its inputs.
    inside : callable
        ``inside(name, field, shape)`` does the same for a layer inside this one.

    Returns
    -------
    ReceptiveField or None

    Examples
    --------
    >>> from cyconv.analysis import receptive_field, see_through
    >>> from cyconv.layers import Conv2d, Layer, Sequential
    >>> class Scale(Layer):
    ...     def output_shape(self, input_shape):
    ...         return input_shape
    >>> @see_through.register
    ... def _(layer: Scale, field, input_shape, inside):
    ...     return field
    >>> receptive_field(Sequential(Conv2d(1, 1, 3), Scale()), (1, 8, 8)).size
    (3, 3)
    """
    return None


def _along(field: ReceptiveField, reaches: Sequence[Reach]) -> ReceptiveField:
    """Return what is seen by a layer that has this reach along each axis."""
    return ReceptiveField(tuple(axis.through(reach) for axis, reach in zip(field.axes, reaches, strict=True)))


def _union(fields: Sequence[ReceptiveField | None]) -> ReceptiveField | None:
    """Return what is seen by any of these ways, None if that of one cannot be told."""
    known = [field for field in fields if field is not None]
    if len(known) < len(fields):
        return None
    return ReceptiveField(tuple(reduce(or_, axes) for axes in zip(*(field.axes for field in known), strict=True)))


# Each position by itself

for kind in (
    *(L.ELU, L.GELU, L.LeakyReLU, L.Maxout, L.PReLU, L.ReLU, L.SELU, L.SiLU, L.Sigmoid, L.Softmax, L.Softplus, L.Tanh),
    *(
        L.BatchNorm1d,
        L.BatchNorm2d,
        L.BatchNorm3d,
        L.LocalResponseNorm,
        L.Dropout,
        L.ChannelShuffle,
        L.Identity,
        L.PadChannels,
    ),
):
    see_through.register(kind, lambda layer, field, input_shape, inside: field)


@see_through.register
def _(layer: L.WeightNorm, field: ReceptiveField, input_shape: Shape, inside: Inside) -> ReceptiveField | None:
    return see_through(layer.layer, field, input_shape, inside)


# All positions


@see_through.register(L.Flatten)
@see_through.register(L.Linear)
@see_through.register(L.GlobalAvgPool1d)
@see_through.register(L.GlobalAvgPool2d)
@see_through.register(L.GlobalAvgPool3d)
def _(layer: Layer, field: ReceptiveField, input_shape: Shape, inside: Inside) -> ReceptiveField:
    return ReceptiveField(tuple(axis.everything() for axis in field.axes))


@see_through.register(L.GroupNorm)
@see_through.register(L.InstanceNorm2d)
def _(layer: Layer, field: ReceptiveField, input_shape: Shape, inside: Inside) -> ReceptiveField:
    return _spread(field, [True for _ in field.axes])


@see_through.register
def _(layer: L.LayerNorm, field: ReceptiveField, input_shape: Shape, inside: Inside) -> ReceptiveField:
    first = len(input_shape) - len(layer.normalized_shape)  # of the axes over which it takes means
    return _spread(field, [axis >= first for axis in range(1, len(field.axes) + 1)])


def _spread(field: ReceptiveField, over: Sequence[bool]) -> ReceptiveField:
    """Return what is seen where each position depends on all along some axes."""
    axes = []
    for axis, whole in zip(field.axes, over, strict=True):
        everything, size = axis.everything(), len(axis.first)
        axes.append(Axis(everything.first.repeat(size), everything.last.repeat(size), None) if whole else axis)
    return ReceptiveField(tuple(axes))


# Windows


@see_through.register(L.Conv1d)
@see_through.register(L.Conv2d)
@see_through.register(L.Conv3d)
def _(layer: Any, field: ReceptiveField, input_shape: Shape, inside: Inside) -> ReceptiveField:
    axes = layer.windows(input_shape[1:])
    if layer.padding_mode != "zeros":
        field = _along(field, [_padded(axis.size, axis.before, axis.after, layer.padding_mode) for axis in axes])
        axes = [axis._replace(before=0) for axis in axes]
    return _along(field, [_reach(axis) for axis in axes])


@see_through.register(L.ConvTranspose1d)
@see_through.register(L.ConvTranspose2d)
@see_through.register(L.ConvTranspose3d)
def _(layer: Any, field: ReceptiveField, input_shape: Shape, inside: Inside) -> ReceptiveField:
    return _along(field, [_transposed_reach(axis) for axis in layer.windows(input_shape[1:])])


@see_through.register(L.AvgPool1d)
@see_through.register(L.AvgPool2d)
@see_through.register(L.AvgPool3d)
@see_through.register(L.MaxPool1d)
@see_through.register(L.MaxPool2d)
@see_through.register(L.MaxPool3d)
def _(layer: Any, field: ReceptiveField, input_shape: Shape, inside: Inside) -> ReceptiveField:
    return _along(field, [_reach(axis) for axis in layer.windows(input_shape[1:])])


@see_through.register(L.AdaptiveAvgPool1d)
@see_through.register(L.AdaptiveAvgPool2d)
@see_through.register(L.AdaptiveAvgPool3d)
@see_through.register(L.AdaptiveMaxPool1d)
@see_through.register(L.AdaptiveMaxPool2d)
@see_through.register(L.AdaptiveMaxPool3d)
def _(layer: Any, field: ReceptiveField, input_shape: Shape, inside: Inside) -> ReceptiveField:
    return _along(field, [_axes.adaptive_window(axis.output, axis.size) for axis in layer.windows(input_shape[1:])])


def _reach(axis: Windows) -> Reach:
    """Return what windows along an axis read."""
    return _axes.window(axis.output, axis.kernel, axis.stride, axis.before, axis.dilation)


def _transposed_reach(axis: Windows) -> Reach:
    """Return what the adjoint of windows reads at each of their inputs."""
    return _axes.transposed_window(axis.size, axis.kernel, axis.stride, axis.before, axis.dilation)


def _padded(size: int, before: int, after: int, mode: str) -> Reach:
    """Return what each position of a padded axis is a copy of."""

    def copied(positions: NDArray, inputs: int) -> NDArray:
        return continued("Pad", mode, inputs, before, after).sources[positions + before]

    return _axes.shifted(before + size + after, -before, _axes.zeros_around if mode == "constant" else copied)


@see_through.register
def _(layer: L.Upsample, field: ReceptiveField, input_shape: Shape, inside: Inside) -> ReceptiveField:
    size: Pair = input_shape[1], input_shape[2]
    outputs, steps = output_size("Upsample", size, layer.size, layer.scale_factor)
    return _along(
        field, [_axes.resampled(outputs[i], size[i], steps[i], layer.mode, layer.align_corners) for i in (0, 1)]
    )


@see_through.register
def _(layer: L.Pad, field: ReceptiveField, input_shape: Shape, inside: Inside) -> ReceptiveField:
    layer.output_shape(input_shape)  # checks
    size, widths = input_shape[1:], layer.widths(len(input_shape) - 1)
    widths = (*widths, *(0,) * (2 * len(size) - len(widths)))[::-1]
    sides = zip(size, widths[1::2], widths[::2], strict=True)
    return _along(field, [_padded(*side, layer.mode) for side in sides])


# Containers


@see_through.register
def _(layer: L.Sequential, field: ReceptiveField, input_shape: Shape, inside: Inside) -> ReceptiveField | None:
    seen: ReceptiveField | None = field
    for name, child in layer.children().items():
        if seen is None:
            return None
        seen = inside(name, seen, input_shape)
        input_shape = child.output_shape(input_shape)
    return seen


@see_through.register
def _(layer: L.Branches, field: ReceptiveField, input_shape: Shape, inside: Inside) -> ReceptiveField | None:
    fields = [inside(name, field, input_shape) for name in layer.children()]
    if layer.crops:
        sizes = layer.output_shape(input_shape)[1:]
        shapes = [child.output_shape(input_shape) for child in layer]
        fields = [_cropped(each, shape[1:], sizes) for each, shape in zip(fields, shapes, strict=True)]
    return _union(fields)


def _cropped(field: ReceptiveField | None, old: Shape, new: Shape) -> ReceptiveField | None:
    """Return what is seen by the central part."""
    if field is None or old == new:
        return field
    return _along(field, [_axes.shifted(n, (o - n) // 2) for o, n in zip(old, new, strict=True)])


@see_through.register
def _(layer: L.Split, field: ReceptiveField, input_shape: Shape, inside: Inside) -> ReceptiveField | None:
    shares = zip(layer.children(), layer.inputs(input_shape), strict=True)
    return _union([inside(name, field, shape) for name, (_, shape) in shares])


@see_through.register
def _(layer: L.Gate, field: ReceptiveField, input_shape: Shape, inside: Inside) -> ReceptiveField | None:
    return _union([field, inside("body", field, input_shape)])


@see_through.register
def _(layer: L.SideHead, field: ReceptiveField, input_shape: Shape, inside: Inside) -> ReceptiveField:
    inside("body", field, input_shape)
    return field


@see_through.register
def _(layer: L.SameSize, field: ReceptiveField, input_shape: Shape, inside: Inside) -> ReceptiveField | None:
    whole = inside("body", field, input_shape)
    return None if whole is None else _along(whole, [_axes.shifted(extent) for extent in input_shape[1:]])


@see_through.register(L.MaxUnpool1d)
@see_through.register(L.MaxUnpool2d)
@see_through.register(L.MaxUnpool3d)
def _(layer: Any, field: ReceptiveField, input_shape: Shape, inside: Inside) -> ReceptiveField | None:
    axes = layer.windows(input_shape[1:])
    pooled = _along(field, [_reach(axis) for axis in axes])
    numbers = inside("body", pooled, (input_shape[0], *(axis.output for axis in axes)))
    seen = _union([pooled, numbers])  # the places of the maxima, and what is put there
    return None if seen is None else _along(seen, [_transposed_reach(axis) for axis in axes])
