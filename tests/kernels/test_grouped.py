"""The kernel for groups of few channels: what it does before it stores, and that groups do not see each other."""

import numpy as np
import pytest

from cyconv._dispatch import grouped, grouped_weight
from tests.kernels.test_conv2d import EPILOGUES, TAPS, THREADS, TYPES, Epilogue, convolve, normal

ONE_PHASE = np.array([[0, 9, 0, 0]], np.intp)
GROUPS = [(16, 2, 1), (3, 4, 2), (5, 4, 4), (4, 8, 8), (9, 1, 5), (2, 7, 3)]  # and of each the outputs and inputs


def packed(weight):
    """Return weight [OC, KH, KW, IC] as the kernel wants it."""
    filters = weight.reshape(weight.shape[0], -1, weight.shape[-1])
    vectors = np.empty(grouped.filters_shape(filters, filters.shape[1]), weight.dtype)
    grouped.pack_filters(filters, np.arange(filters.shape[1]), vectors)
    return vectors


@TYPES
@THREADS
@EPILOGUES
@pytest.mark.parametrize("width", [1, 8, 14, 17])
@pytest.mark.parametrize("groups", GROUPS)
def test_grouped(groups, width, with_bias, with_addend, relu, threads, dtype):
    if with_addend == "view":
        pytest.skip("its results are contiguous")
    G, M, IC = groups
    x, weight = normal((2, 18, width, G * IC), dtype, 0), normal((G * M, 3, 3, IC), dtype, 1)
    epilogue = Epilogue((2, 18, width, G * M), dtype, with_bias, with_addend, relu)
    grouped.conv_taps(
        x, packed(weight), epilogue.bias, epilogue.addend, TAPS, 1, 1, ONE_PHASE, 1, 1, epilogue.out, relu, threads
    )
    epilogue.check(convolve(x, weight, G), 1e-4 if dtype == np.float32 else 1e-12)


@TYPES
@THREADS
@EPILOGUES
def test_grouped_in_phases(with_bias, with_addend, relu, dtype, threads):
    """Four single taps, one a phase, the last row and column left out: an output is a product with one pixel."""
    if with_addend == "view":
        pytest.skip("its results are contiguous")
    x, weight = normal((2, 4, 9, 6), dtype, 0), normal((6, 4, 2), dtype, 1)
    epilogue = Epilogue((2, 7, 17, 6), dtype, with_bias, with_addend, relu)
    phases = np.array([(t, 1, t // 2, t % 2) for t in range(4)], np.intp)
    grouped.conv_taps(
        x, packed(weight), epilogue.bias, epilogue.addend, np.zeros((2, 4), np.intp), 1, 1, phases, 2, 2,
        epilogue.out, relu, threads)  # fmt: skip
    wanted = np.zeros((2, 8, 18, 6))
    for t in range(4):
        products = x.astype(np.float64).reshape(2, 4, 9, 3, 1, 2) * weight[:, t].reshape(3, 2, 2)
        wanted[:, t // 2 :: 2, t % 2 :: 2] = products.sum(axis=-1).reshape(2, 4, 9, 6)
    epilogue.check(wanted[:, :7, :17], 1e-5 if dtype == np.float32 else 1e-12)


@TYPES
@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_grouped_keeps_groups_apart(groups, value, dtype):
    """A number that is not finite shows in the windows of its own group and nowhere else."""
    G, M, IC = groups
    x, weight = normal((2, 9, 17, G * IC), dtype, 0), normal((G * M, 3, 3, IC), dtype, 1)
    x[1, 3, 5, -1] = value
    out = np.empty((2, 9, 17, G * M), dtype)
    grouped.conv_taps(x, packed(weight), None, None, TAPS, 1, 1, ONE_PHASE, 1, 1, out, False, 1)
    touched = np.zeros(out.shape, bool)
    touched[1, 2:5, 4:7, -M:] = True
    np.testing.assert_array_equal(~np.isfinite(out), touched)
    grad_weight = np.empty((G * M, 9, IC), dtype)
    grouped_weight.weight_gradient(x, normal(out.shape, dtype, 2), TAPS, 1, 1, grad_weight, 1)
    assert not np.isfinite(grad_weight[-M:, :, -1]).any()
    grad_weight[-M:, :, -1] = 0
    assert np.isfinite(grad_weight).all()


@TYPES
def test_relu_lets_nan_pass(dtype):
    x, out = np.full((1, 4, 4, 4), np.nan, dtype), np.zeros((1, 4, 4, 8), dtype)
    weight, phases = packed(np.ones((8, 1, 2), dtype)), np.array([[0, 1, 0, 0]], np.intp)
    grouped.conv_taps(x, weight, None, None, np.zeros((2, 1), np.intp), 1, 1, phases, 1, 1, out, True, 1)
    assert np.isnan(out).all()
