"""What a network is made of and what it sees: parameters, multiply-adds, memory, receptive fields."""

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
from cyconv.analysis.receptive_field import receptive_field, receptive_fields, stack_windows
from cyconv.analysis.summary import Row, Summary, summary

__all__ = [
    "ReceptiveField",
    "Row",
    "Summary",
    "conv_flops",
    "conv_parameters",
    "count_flops",
    "count_parameters",
    "linear_flops",
    "linear_parameters",
    "multiply_adds",
    "receptive_field",
    "receptive_fields",
    "see_through",
    "stack_windows",
    "summary",
]
