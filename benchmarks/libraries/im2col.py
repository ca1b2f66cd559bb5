"""Patches of images as rows of a matrix and back, in plain NumPy."""

from __future__ import annotations

import numpy as np


def im2col(x: np.ndarray, kernel: int, stride: int, padding: int) -> np.ndarray:
    """Return the patches of x (N, C, H, W) as rows (N*OH*OW, C*KH*KW)."""
    N, C, H, W = x.shape
    OH, OW = (H + 2 * padding - kernel) // stride + 1, (W + 2 * padding - kernel) // stride + 1
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    columns = np.empty((N, C, kernel, kernel, OH, OW), x.dtype)
    for kh in range(kernel):
        for kw in range(kernel):
            columns[:, :, kh, kw] = padded[:, :, kh : kh + stride * OH : stride, kw : kw + stride * OW : stride]
    return columns.transpose(0, 4, 5, 1, 2, 3).reshape(N * OH * OW, -1)


def col2im(columns: np.ndarray, shape: tuple, kernel: int, stride: int, padding: int) -> np.ndarray:
    """Add rows of patches back into an image of `shape`."""
    N, C, H, W = shape
    OH, OW = (H + 2 * padding - kernel) // stride + 1, (W + 2 * padding - kernel) // stride + 1
    patches = columns.reshape(N, OH, OW, C, kernel, kernel).transpose(0, 3, 4, 5, 1, 2)
    image = np.zeros((N, C, H + 2 * padding + stride - 1, W + 2 * padding + stride - 1), columns.dtype)
    for kh in range(kernel):
        for kw in range(kernel):
            image[:, :, kh : kh + stride * OH : stride, kw : kw + stride * OW : stride] += patches[:, :, kh, kw]
    return image[:, :, padding : padding + H, padding : padding + W]
