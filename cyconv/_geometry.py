"""Output sizes and padding: pure integers, each formula written once."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int]
Positions = TypeVar("Positions", int, NDArray[np.int64], NDArray[np.float32])


class Padding(NamedTuple):
    """Rows and columns added on each side."""

    top: int
    bottom: int
    left: int
    right: int


def effective_kernel(kernel: int, dilation: int) -> int:
    """Return how many input positions a dilated kernel spans."""
    return dilation * (kernel - 1) + 1


def conv_output(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    """Return how often the kernel fits: floor((size + padding - span) / stride) + 1; less than 1 if it never does."""
    return (size + before + after - effective_kernel(kernel, dilation)) // stride + 1


def pool_output(size: int, kernel: int, stride: int, before: int, after: int, dilation: int, ceil_mode: bool) -> int:
    """Return the pooled size; with `ceil_mode` a last window may hang over the end if it starts inside.

    A window that would start in the padding after the input is dropped, as in PyTorch.
    """
    if not ceil_mode:
        return conv_output(size, kernel, stride, before, after, dilation)
    span = size + before + after - effective_kernel(kernel, dilation)
    output = -(-span // stride) + 1
    return output - 1 if (output - 1) * stride >= size + before else output


def conv_transpose_output(
    size: int, kernel: int, stride: int, before: int, after: int, dilation: int, output_padding: int
) -> int:
    """Return the size whose convolution has `size` outputs, plus `output_padding` for the choice that stride leaves."""
    return (size - 1) * stride - before - after + effective_kernel(kernel, dilation) + output_padding


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> Pair:
    """Return the padding (before, after) that gives ceil(size / stride) outputs, the odd one after (TensorFlow)."""
    output = -(-size // stride)
    total = max(0, (output - 1) * stride + effective_kernel(kernel, dilation) - size)
    return total // 2, total - total // 2


def adaptive_bounds(index: int, size: int, output: int) -> Pair:
    """Return the input range [start, stop) that adaptive pooling averages into output position `index`."""
    return index * size // output, -(-(index + 1) * size // output)


def mirrored(position: Positions, size: int) -> Positions:
    """Return which of `size` pixels two mirrors, on the first and the last of them, show at any position."""
    if size == 1:
        return 0 * position
    return (size - 1) - abs((size - 1) - position % (2 * size - 2))
