"""The textbook in NumPy: a matrix of all patches and one matrix product (on NumPy's own BLAS)."""

from __future__ import annotations

import os

import numpy as np

from benchmarks.libraries.data import Work, labels, normal
from benchmarks.libraries.im2col import col2im, im2col
from benchmarks.libraries.numpy_lenet5 import LeNet5


def start(threads: int, mode: str) -> None:
    """Check that the driver set the BLAS's thread count, which must happen before NumPy is imported."""
    assert os.environ.get("OPENBLAS_NUM_THREADS") == str(threads)


def describe() -> dict:
    """Return what was measured."""
    return {"library": "NumPy", "version": np.__version__}


def prepare(kind: str, **parameters) -> Work | None:
    """Return the functions to time; None where there is no baseline here."""
    if kind == "conv" and not parameters["transposed"]:
        return _conv(**parameters)
    if kind in ("train", "predict") and parameters["network"] == "LeNet-5":
        return _lenet5(kind, **parameters)
    return None


def _conv(
    network, batch, in_channels, out_channels, size, kernel, stride, padding, groups, transposed, output_padding
) -> Work:
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

    return Work({"forward": forward, "grad_input": grad_input, "grad_weight": grad_weight})


def _lenet5(kind, network, batch, input_shape, classes) -> Work:
    net = LeNet5(input_shape[0], classes)
    x, y = normal(batch, *input_shape), labels((batch,), classes)
    functions = {"train": {"step": lambda: net.step(x, y)}, "predict": {"predict": lambda: net.forward(x)}}
    return Work(functions[kind], net.size)
