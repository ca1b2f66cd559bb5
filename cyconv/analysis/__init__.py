"""What a network is made of, what it sees and what it looks for."""

import cyconv.functional
import cyconv.layers  # noqa: F401  (whole, before its parts: see cyconv/__init__.py)
from cyconv.analysis.attribution import input_gradient, maximizing_images, saliency
from cyconv.analysis.counts import (
    conv_flops,
    conv_parameters,
    count_flops,
    count_parameters,
    linear_flops,
    linear_parameters,
    multiply_adds,
)
from cyconv.analysis.fields import ReceptiveField, see_through
from cyconv.analysis.probes import activations
from cyconv.analysis.receptive_field import receptive_field, receptive_fields, stack_windows
from cyconv.analysis.summary import Row, Summary, summary

__all__ = [
    "ReceptiveField",
    "Row",
    "Summary",
    "activations",
    "conv_flops",
    "conv_parameters",
    "count_flops",
    "count_parameters",
    "input_gradient",
    "linear_flops",
    "linear_parameters",
    "maximizing_images",
    "multiply_adds",
    "receptive_field",
    "receptive_fields",
    "saliency",
    "see_through",
    "stack_windows",
    "summary",
]
