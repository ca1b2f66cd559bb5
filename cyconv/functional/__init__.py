"""Stateless operations on arrays, each with its gradient directly below it: ``op`` and ``op_backward``."""

from cyconv.functional.conv import conv2d, conv2d_backward, conv_transpose2d, conv_transpose2d_backward
from cyconv.functional.linear import linear, linear_backward

__all__ = [
    "conv2d",
    "conv2d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "linear",
    "linear_backward",
]
