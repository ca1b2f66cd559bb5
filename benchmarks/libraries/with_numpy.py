"""The textbook in NumPy: a matrix of all patches and one matrix product (on NumPy's own BLAS)."""

from __future__ import annotations

import os

import numpy as np

from benchmarks.libraries.data import normal


def start(threads: int, channels_last: bool) -> None:
    """Check that the driver set the BLAS's thread count, which must happen before NumPy is imported."""
    assert os.environ.get("OPENBLAS_NUM_THREADS") == str(threads)


def describe() -> dict:
    """Return what was measured."""
    return {"library": "NumPy", "version": np.__version__}


def prepare(kind: str, **parameters) -> dict:
    """Return the functions to time, by name; only convolutions have a baseline here."""
    return _conv(**parameters) if kind == "conv" else {}


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


def _conv(network, batch, in_channels, out_channels, size, kernel, stride, padding, groups):
    x = normal(batch, in_channels, size, size)
    weight = normal(out_channels, in_channels // groups, kernel, kernel, seed=1)
    out = (size + 2 * padding - kernel) // stride + 1
    IC, OC = in_channels // groups, out_channels // groups
    filters = weight.reshape(groups, OC, -1)
    grad = normal(groups, batch * out * out, OC, seed=2)

    def columns_of(group):
        return im2col(x[:, group * IC : (group + 1) * IC], kernel, stride, padding)

    def forward():
        return np.stack([columns_of(g) @ filters[g].T for g in range(groups)])

    def grad_input():
        shape = (batch, IC, size, size)
        return np.stack([col2im(grad[g] @ filters[g], shape, kernel, stride, padding) for g in range(groups)])

    def grad_weight():
        return np.stack([grad[g].T @ columns_of(g) for g in range(groups)])

    return {"forward": forward, "grad_input": grad_input, "grad_weight": grad_weight}
