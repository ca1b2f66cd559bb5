"""Rounding errors of long sums in float32, beside sums in float64 by plain NumPy at a sample of the results.

The bounds are 1.5 times what PyTorch 2.13 reaches on the same data, in its more accurate layout (`python -m benchmarks
accuracy --peer torch`, AVX2): root mean square of the errors over that of the results.
"""

import numpy as np
import pytest

import cyconv
from benchmarks import accuracy, operations, shapes
from benchmarks.libraries import with_cyconv
from cyconv import functional as F

OF_TORCH = {  # forward, input gradient, weight gradient
    "ResNet-50 3x3 512-512 @7 n8": (1.09e-6, 2.81e-7, 3.21e-7),
    "ResNet-50 1x1 2048-512 @7 n8": (2.63e-7, 2.42e-7, 1.41e-7),
    "ResNet-50 1x1 512-2048 @7 n8": (2.41e-7, 2.50e-7, 1.37e-7),
    "GoogLeNet 5x5 48-128 @7 n8": (5.52e-7, 4.39e-7, 3.11e-7),
    "LeNet-5 5x5 6-16 @14 n64": (2.14e-7, 1.48e-7, 1.43e-6),
    "ResNet-20 3x3 64-64 @8 n128": (3.91e-7, 2.98e-7, 1.50e-6),
    "ResNeXt-50 3x3 g32 128-128 @56 n8": (8.14e-8, 7.20e-8, 3.12e-7),
    "groups of 4 5x5 g16 64-64 @28 n8": (1.72e-7, 9.62e-8, 2.86e-7),
    "MobileNet dw3x3 512-512 @14 n8": (5.45e-8, 5.84e-8, 6.49e-7),
    "DCGAN tr4x4 s2 128-3 @32 n64": (2.80e-7, 1.14e-7, 4.20e-6),
    "linear 16x4096 to 4096": (2.75e-7, 2.73e-7, 7.59e-8),
    "linear 4x25088 to 4096": (3.27e-7, 2.42e-7, 4.14e-8),
    "linear 64x4096 to 1000": (2.82e-7, 2.60e-7, 1.44e-7),
}
CASES = {shape.label: ("conv", shape) for shape in shapes.CONVOLUTIONS}
CASES |= {each.label: ("ops", each) for each in operations.OPERATIONS if each.op == "linear"}


def errors(label, exact):
    kind, shape = CASES[label]
    was = cyconv.is_exact()
    try:
        return accuracy.errors(kind, shape._asdict(), with_cyconv.results(kind, shape._asdict(), exact))
    finally:
        cyconv.exact(was)


@pytest.mark.parametrize("label", OF_TORCH)
def test_exact_sums_round_like_those_of_pytorch(label):
    for (direction, error), of_torch in zip(errors(label, exact=True).items(), OF_TORCH[label], strict=True):
        assert error < 1.5 * of_torch, direction


@pytest.mark.parametrize("label", ["ResNet-50 3x3 512-512 @7 n8", "GoogLeNet 5x5 48-128 @7 n8"])
def test_winograd_stays_below_the_error_that_is_documented(label):
    for direction, error in errors(label, exact=False).items():
        assert error < 1.6e-6, direction


@pytest.mark.parametrize("scale", [0.3, 1, 3])
def test_the_gradient_of_tanh_rounds_like_that_of_pytorch(scale):
    of_torch = {0.3: 3.21e-8, 1: 4.48e-8, 3: 7.81e-8}[scale]
    rng = np.random.default_rng(0)
    x = (scale * rng.standard_normal(1 << 18)).astype(np.float32)
    grad = rng.standard_normal(1 << 18).astype(np.float32)
    wanted = grad / np.cosh(x.astype(np.float64)) ** 2
    found = F.tanh_backward(grad, F.tanh(x))
    assert np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2)) < 1.5 * of_torch
