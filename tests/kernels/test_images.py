"""The kernel for many small images, vectors along images: what it does before it stores, and groups that overlap."""

import numpy as np
import pytest

from cyconv._dispatch import images
from tests.kernels.test_conv2d import EPILOGUES, THREADS, TYPES, Epilogue, convolve, normal

SHAPES = [(16, 9, 5, 3, 6), (19, 3, 21, 1, 1), (31, 7, 6, 10, 20), (33, 4, 1, 2, 16)]  # N, H, W, C, OC


@TYPES
@THREADS
@EPILOGUES
@pytest.mark.parametrize("shape", SHAPES)
def test_convolve(shape, with_bias, with_addend, relu, dtype, threads):
    N, H, W, C, OC = shape
    if with_addend == "view":
        pytest.skip("takes whole arrays")
    x, weight = normal((N, H, W, C), dtype, 0), normal((OC, 3, 3, C), dtype, 1)
    epilogue = Epilogue((N, H, W, OC), dtype, with_bias, with_addend, relu)
    images.convolve(x, weight, epilogue.bias, epilogue.addend, 1, 1, epilogue.out, relu, threads)
    epilogue.check(convolve(x, weight), 1e-4 if dtype == np.float32 else 1e-12)


@TYPES
@THREADS
@pytest.mark.parametrize("shape", SHAPES)
def test_weight_gradient(shape, dtype, threads):
    N, H, W, C, OC = shape
    x, grad_output = normal((N, H, W, C), dtype, 0), normal((N, H, W, OC), dtype, 1)
    found = np.full((OC, 3, 3, C), np.nan, dtype)
    images.weight_gradient(x, grad_output, 1, 1, found, threads)
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    for kh in range(3):
        for kw in range(3):
            seen = padded[:, kh : kh + H, kw : kw + W].reshape(-1, C)
            wanted = grad_output.astype(np.float64).reshape(-1, OC).T @ seen
            np.testing.assert_allclose(found[:, kh, kw], wanted, atol=1e-3 if dtype == np.float32 else 1e-11)


@TYPES
def test_infinity_stays_in_its_image(dtype):
    x, weight = normal((20, 6, 6, 2), dtype, 0), normal((3, 3, 3, 2), dtype, 1)
    x[3, 2, 2, 0] = np.inf
    out = np.empty((20, 6, 6, 3), dtype)
    images.convolve(x, weight, None, None, 1, 1, out, False, 1)
    others = np.arange(20) != 3
    assert np.isfinite(out[others]).all()
    assert not np.isnan(out).any()
    assert np.isinf(out[3, 1:4, 1:4]).all()
