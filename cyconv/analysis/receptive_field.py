"""Receptive fields: which part of the input each output of a layer sees."""

from __future__ import annotations

from collections.abc import Sequence

from cyconv._validation import as_int, as_list, brief
from cyconv.analysis._axes import Axis
from cyconv.analysis.counts import input_shape_of
from cyconv.analysis.fields import ReceptiveField, see_through
from cyconv.layers.base import Layer, Shape

__all__ = ["receptive_field", "receptive_fields", "stack_windows"]

MOST_POSITIONS = 2**22  # along an axis: each layer takes 16 bytes for each of them


def receptive_field(layer: Layer, input_shape: Sequence[int] | None = None, name: str = "") -> ReceptiveField:
    """Return what the outputs of a network, or of one of its layers, see of the network's input.

    Parameters
    ----------
    layer : Layer
        A layer or network.
    input_shape : sequence of int, optional
        Shape of one input, (C, L), (C, H, W) or (C, D, H, W); by default that of the network.
    name : str, default ""
        The dotted name of a layer inside; by default the output of the whole.

    Returns
    -------
    ReceptiveField

    Raises
    ------
    TypeError
        If `layer` is none, or it cannot be told for a layer inside: `LSTM`, `Embedding`, and those of your own without
        a rule (see Notes).
    ValueError
        If there is no shape or no layer of that name, or the layers do not take the shape, or it is millions of
        positions long.

    Notes
    -----
    A window of k inputs, d apart, of stride s and with p inputs of padding makes of a field (size r, jump j, start b)
    one of ``r + (k - 1) d j``, ``j s`` and ``b - p j`` (Araujo, Norris and Sim, Computing receptive fields of
    convolutional neural networks, Distill, 2019). Where ways meet, the union counts. What looks at a whole image, as
    global pooling, a fully connected layer or group normalisation do, sees what all positions before it see together.
    It is that of predicting: batch normalisation and dropout look at one position, and layers beside the way do not
    count. A layer of your own needs a rule; of one that works on each position by itself::

        @cyconv.analysis.see_through.register
        def _(layer: Scale, field, input_shape, inside):
            return field

    Examples
    --------
    >>> from cyconv import models
    >>> from cyconv.analysis import receptive_field
    >>> from cyconv.layers import Conv2d, Sequential
    >>> receptive_field(Sequential(Conv2d(1, 8, 3), Conv2d(8, 8, 3), Conv2d(8, 8, 3)), (1, 32, 32)).size
    (7, 7)
    >>> receptive_field(models.vgg16(), name="features.28")  # the last convolution
    ReceptiveField(size=(196, 196), jump=(16.0, 16.0), start=(-90, -90))
    """
    op = "receptive_field"
    shape = input_shape_of(op, layer, input_shape)
    if _longest_axis(layer, shape) > MOST_POSITIONS:
        raise ValueError(
            f"{op}: there may be at most {MOST_POSITIONS} positions along an axis, `input_shape` is {shape}"
        )
    fields = _fields(layer, shape)
    known = {prefix.rstrip(".") for prefix, _ in layer.walk()}
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"{op}: `name` must be that of a layer, as in `trace`, got {brief(name)}")
    field = fields.get(name)
    if field is None:
        culprits = (inner for prefix, inner in layer.walk() if _has_no_rule(inner))
        culprit = type(next(culprits, layer)).__name__
        raise TypeError(
            f"{op}: there is no rule for {culprit}; for a layer of your own give one with "
            f"`cyconv.analysis.see_through.register({culprit})`"
        )
    return field


def receptive_fields(layer: Layer, input_shape: Sequence[int] | None = None) -> dict[str, ReceptiveField | None]:
    """Return what the outputs of every layer inside see of the input, by dotted name.

    Parameters
    ----------
    layer, input_shape
        As for `receptive_field`.

    Returns
    -------
    dict of str to ReceptiveField or None
        None where it cannot be told.

    Raises
    ------
    TypeError, ValueError
        As `receptive_field`, but for layers that have no rule.

    Examples
    --------
    >>> from cyconv.analysis import receptive_fields
    >>> from cyconv.layers import Conv2d, MaxPool2d, Sequential
    >>> for name, field in receptive_fields(Sequential(Conv2d(1, 1, 3), MaxPool2d(2)), (1, 8, 8)).items():
    ...     print(repr(name), field)
    '0' 3x3
    '1' 4x4
    '' 4x4
    """
    fields = _fields(layer, input_shape_of("receptive_fields", layer, input_shape))
    return {**{prefix.rstrip("."): None for prefix, _ in layer.walk() if prefix.rstrip(".") not in fields}, **fields}


def stack_windows(windows: Sequence[Sequence[int]]) -> tuple[int, int, int]:
    """Return size, jump and start of the receptive field of windows one behind the other.

    Parameters
    ----------
    windows : sequence of (kernel_size, stride, padding, dilation)
        From the input on; what is missing at the end of one is stride 1, padding 0, dilation 1.

    Returns
    -------
    size, jump, start : int

    Raises
    ------
    TypeError, ValueError
        If one has no kernel size or more than four numbers, or they are none.

    Notes
    -----
    ``size = 1 + sum of (k - 1) d j``, ``jump = product of s``, ``start = -sum of p j``, j the product of the strides
    before.

    Examples
    --------
    >>> from cyconv.analysis import stack_windows
    >>> stack_windows([(3,), (3,), (3,)])  # three of 3x3 see what one of 7x7 sees
    (7, 1, 0)
    >>> stack_windows([(7, 2, 3), (3, 2, 1)])  # the first layers of a ResNet
    (11, 4, -5)
    """
    op = "stack_windows"
    size, jump, start = 1, 1, 0
    for given in as_list(op, "windows", windows, "tuples of integers"):
        if not isinstance(given, (tuple, list)) or not 1 <= len(given) <= 4:
            raise ValueError(f"{op}: `windows` must be (kernel_size, stride, padding, dilation), got {brief(given)}")
        op = "stack_windows: `windows`"
        kernel, stride, padding, dilation = tuple(given) + (1, 0, 1)[len(given) - 1 :]
        size += (as_int(op, "kernel_size", kernel) - 1) * as_int(op, "dilation", dilation) * jump
        start -= as_int(op, "padding", padding, 0) * jump
        jump *= as_int(op, "stride", stride)
    return size, jump, start


def _longest_axis(layer: Layer, input_shape: Shape) -> int:
    """Return how many positions the input or any output has along an axis; name what does not fit."""
    shapes = [input_shape, *(step.output_shape for step in layer.trace(input_shape))]
    return max((extent for shape in shapes for extent in shape[1:]), default=0)


def _fields(layer: Layer, input_shape: Shape) -> dict[str, ReceptiveField | None]:
    """Return what every layer sees that can be told, by name."""
    fields: dict[str, ReceptiveField | None] = {}
    if _longest_axis(layer, input_shape) > MOST_POSITIONS:
        return fields

    def visit(layer: Layer, prefix: str, field: ReceptiveField, shape: Shape) -> ReceptiveField | None:
        def inside(name: str, field: ReceptiveField, shape: Shape) -> ReceptiveField | None:
            return visit(layer.children()[name], f"{prefix}{name}.", field, shape)

        fields[prefix.rstrip(".")] = result = see_through(layer, field, tuple(shape), inside)
        return result

    visit(layer, "", ReceptiveField(tuple(Axis.of_input(extent) for extent in input_shape[1:])), input_shape)
    return fields


def _has_no_rule(layer: Layer) -> bool:
    return see_through.dispatch(type(layer)) is see_through.dispatch(Layer)
