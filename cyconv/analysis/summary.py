"""The table of a network: shapes, parameters, multiply-adds, memory and receptive fields, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from cyconv._validation import as_float_dtype
from cyconv.analysis.counts import count_parameters, input_shape_of, multiply_adds, predicting_steps
from cyconv.analysis.fields import ReceptiveField
from cyconv.analysis.receptive_field import receptive_fields
from cyconv.layers.base import Layer, Shape

__all__ = ["Row", "Summary", "summary"]


class Row(NamedTuple):
    """What one layer of a network comes to, for one input.

    Attributes
    ----------
    name, kind : str
        Its dotted name and its class.
    output_shape : tuple of int
        Without the batch axis.
    parameters : int
        Its own.
    flops : int or None
        Multiply-adds; 0 for layers that run only while training, None where there is no rule for it.
    memory : int
        Bytes of its output.
    receptive_field : ReceptiveField or None
        What each of its outputs sees of the network's input; None where it cannot be told.

    Examples
    --------
    >>> from cyconv.analysis import summary
    >>> from cyconv.layers import Conv2d
    >>> summary(Conv2d(1, 2, 3), (1, 4, 4)).rows[0].flops
    72
    """

    name: str
    kind: str
    output_shape: Shape
    parameters: int
    flops: int | None
    memory: int
    receptive_field: ReceptiveField | None


class Summary(NamedTuple):
    """A network layer by layer; printed, it is a table.

    Attributes
    ----------
    rows : list of Row
        In the order in which data meets the layers.
    parameters : int
        Of all layers.
    flops : int or None
        Multiply-adds of a prediction for one input; None where a layer has no rule.
    memory : int
        Bytes of all outputs for one input: what training keeps, roughly, for each image of a batch.

    Examples
    --------
    >>> from cyconv.analysis import summary
    >>> from cyconv.layers import Conv2d, MaxPool2d, Sequential
    >>> print(summary(Sequential(Conv2d(1, 2, 3), MaxPool2d(2)), (1, 10, 10)))
    layer             output shape  parameters  multiply-adds  output bytes  receptive field
    ----------------------------------------------------------------------------------------
    0      Conv2d     (2, 8, 8)             20          1,152           512              3x3
    1      MaxPool2d  (2, 4, 4)              0              0           128              4x4
    ----------------------------------------------------------------------------------------
    20 parameters, 1,152 multiply-adds, 640 bytes of outputs
    """

    rows: list[Row]
    parameters: int
    flops: int | None
    memory: int

    def __str__(self) -> str:
        cells = [("layer", "", "output shape", "parameters", "multiply-adds", "output bytes", "receptive field")]
        for row in self.rows:
            flops = "?" if row.flops is None else f"{row.flops:,}"
            field = "?" if row.receptive_field is None else str(row.receptive_field)
            numbers = f"{row.parameters:,}", flops, f"{row.memory:,}", field
            cells.append((row.name, row.kind, str(row.output_shape), *numbers))
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(
                f"{cell:{'<' if column < 3 else '>'}{width}}"
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in cells
        ]
        rule = "-" * len(lines[0])
        flops = "?" if self.flops is None else f"{self.flops:,}"
        total = f"{self.parameters:,} parameters, {flops} multiply-adds, {self.memory:,} bytes of outputs"
        return "\n".join([lines[0], rule, *lines[1:], rule, total])


def summary(layer: Layer, input_shape: Sequence[int] | None = None, dtype: DTypeLike = np.float32) -> Summary:
    """Return what a network comes to, layer by layer.

    Parameters
    ----------
    layer : Layer
        A layer or network. No weights are drawn for it.
    input_shape : sequence of int, optional
        Shape of one input, (C, H, W) or (features,); by default that of the network.
    dtype : dtype, default float32
        Of the outputs, for their bytes.

    Returns
    -------
    Summary

    Raises
    ------
    TypeError
        If `layer` is none, or `dtype` neither float32 nor float64.
    ValueError
        If there is no shape, or the layers do not take it.

    Notes
    -----
    See `count_flops` for what multiply-adds are and `receptive_field` for what an output sees. Bytes are those of each
    layer's output for one input, whether it is kept or, where layers run as one, never written.

    Examples
    --------
    >>> from cyconv import models
    >>> from cyconv.analysis import summary
    >>> print(summary(models.lenet5()).flops)
    416520
    """
    op = "summary"
    shape = input_shape_of(op, layer, input_shape)
    itemsize = as_float_dtype(op, "dtype", dtype).itemsize
    fields = receptive_fields(layer, shape)
    predicting = {step.name for step in predicting_steps(layer, shape)}
    rows = []
    for name, inner, inputs, outputs in layer.trace(shape):
        own = sum(parameter.size for parameter in inner.own_parameters().values())
        flops = _flops(inner, inputs, outputs) if name in predicting else 0
        memory = math.prod(outputs) * itemsize
        rows.append(Row(name, type(inner).__name__, outputs, own, flops, memory, fields[name]))
    known = [row.flops for row in rows if row.flops is not None]
    total = sum(known) if len(known) == len(rows) else None
    return Summary(rows, count_parameters(layer), total, sum(row.memory for row in rows))


def _flops(layer: Layer, input_shape: Shape, output_shape: Shape) -> int | None:
    """Return the multiply-adds of a layer, None for one of the user's own that has no rule."""
    if multiply_adds.dispatch(type(layer)) is multiply_adds.dispatch(Layer):
        return None
    return multiply_adds(layer, input_shape, output_shape)
