"""The kernel for few channels, vectors along pixels: what it does before it stores."""

import numpy as np
import pytest

from cyconv._dispatch import planar
from tests.kernels.test_conv2d import EPILOGUES, TAPS, THREADS, TYPES, Epilogue, convolve, normal


@TYPES
@THREADS
@EPILOGUES
@pytest.mark.parametrize("shape", [(2, 9, 21, 3, 6), (1, 40, 3, 1, 1), (3, 5, 33, 10, 20), (2, 4, 16, 2, 16)])
def test_planar(shape, with_bias, with_addend, relu, dtype, threads):
    N, H, W, C, OC = shape
    if with_addend == "view":
        pytest.skip("takes whole arrays")
    x, weight = normal((N, H, W, C), dtype, 0), normal((OC, 3, 3, C), dtype, 1)
    epilogue = Epilogue((N, H, W, OC), dtype, with_bias, with_addend, relu)
    planar.conv_taps(
        x, weight.reshape(OC, 9, C), epilogue.bias, epilogue.addend, TAPS, np.array([[0, 9, 0, 0]], np.intp), 1, 1,
        epilogue.out, relu, threads)  # fmt: skip
    epilogue.check(convolve(x, weight), 1e-4 if dtype == np.float32 else 1e-12)


@TYPES
@THREADS
@EPILOGUES
def test_planar_without_taps(with_bias, with_addend, relu, dtype, threads):
    if with_addend == "view":
        pytest.skip("takes whole arrays")
    epilogue = Epilogue((2, 5, 7, 3), dtype, with_bias, with_addend, relu)
    planar.conv_taps(
        normal((2, 5, 7, 4), dtype, 0), np.zeros((3, 0, 4), dtype), epilogue.bias, epilogue.addend,
        np.zeros((2, 0), np.intp), np.zeros((1, 4), np.intp), 1, 1, epilogue.out, relu, threads)  # fmt: skip
    epilogue.check(0.0, 1e-6)


@TYPES
@THREADS
@EPILOGUES
def test_planar_in_phases(with_bias, with_addend, relu, dtype, threads):
    """Four single taps, one a phase: each pixel of the output is a product with one pixel."""
    if with_addend == "view":
        pytest.skip("takes whole arrays")
    x, weight = normal((2, 4, 9, 3), dtype, 0), normal((5, 4, 3), dtype, 1)
    epilogue = Epilogue((2, 8, 18, 5), dtype, with_bias, with_addend, relu)
    phases = np.array([(t, 1, t // 2, t % 2) for t in range(4)], np.intp)
    planar.conv_taps(
        x, weight, epilogue.bias, epilogue.addend, np.zeros((2, 4), np.intp), phases, 2, 2, epilogue.out, relu, threads
    )
    wanted = np.zeros((2, 8, 18, 5))
    for t in range(4):
        wanted[:, t // 2 :: 2, t % 2 :: 2] = (x[..., np.newaxis, :].astype(np.float64) * weight[:, t]).sum(axis=-1)
    epilogue.check(wanted, 1e-5 if dtype == np.float32 else 1e-12)
