"""What convolution kernels do before they store: add a bias, add an array, cut off what is below zero."""

import numpy as np
import pytest

from cyconv._dispatch import conv2d, winograd
from tests.references import conv2d as reference

TYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
THREADS = pytest.mark.parametrize("threads", [1, 3])
EPILOGUES = pytest.mark.parametrize(
    ("with_bias", "with_addend", "relu"),
    [(True, None, True), (False, "other", False), (True, "out", True), (False, "out", False), (True, "view", True)],
)
TAPS = np.array([(kh, kw) for kh in (-1, 0, 1) for kw in (-1, 0, 1)], np.intp).T.copy()


def normal(shape, dtype, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


class Epilogue:
    """A result's array and what is added to it, and what must have become of it."""

    def __init__(self, shape, dtype, with_bias, with_addend, relu):
        self.relu = relu
        self.bias = normal(shape[3], dtype, 2) if with_bias else None
        if with_addend == "view":  # every other pixel of larger arrays
            N, H, W, C = shape
            self.out = np.full((N, 2 * H, 2 * W, C), 7, dtype)[:, ::2, 1::2]
            self.addend = normal((N, 2 * H, 2 * W, C), dtype, 3)[:, ::2, 1::2]
        else:
            self.out = normal(shape, dtype, 3) if with_addend == "out" else np.full(shape, np.nan, dtype)
            self.addend = self.out if with_addend == "out" else None
            if with_addend == "other":
                self.addend = normal(shape, dtype, 4)
        self.added = 0 if self.addend is None else self.addend.astype(np.float64)

    def check(self, convolved, tolerance):
        """`convolved` lacks all that the epilogue adds."""
        wanted = convolved + (0 if self.bias is None else self.bias) + self.added
        if self.relu:
            wanted = np.maximum(wanted, 0)
        assert np.all((wanted == self.out) | (abs(wanted - self.out) < tolerance))
        if self.relu:
            assert not np.signbit(self.out).any()
        if self.out.base is not None:  # nothing else was written
            assert np.all(self.out.base[:, 1::2] == 7)
            assert np.all(self.out.base[:, :, ::2] == 7)


def convolve(x, weight, groups=1):
    """Return the convolution with a border of one zero, in float64 and channels-last."""
    nchw = x.astype(np.float64).transpose(0, 3, 1, 2)
    return reference(nchw, weight.astype(np.float64).transpose(0, 3, 1, 2), None, 1, 1, 1, groups).transpose(0, 2, 3, 1)


@TYPES
@THREADS
@EPILOGUES
@pytest.mark.parametrize(("channels", "groups"), [(5, 1), (16, 1), (40, 1), (48, 2), (70, 1)])
def test_direct(channels, groups, with_bias, with_addend, relu, threads, dtype):
    x, weight = normal((2, 9, 7, 6), dtype, 0), normal((channels, 3, 3, 6 // groups), dtype, 1)
    epilogue = Epilogue((2, 9, 7, channels), dtype, with_bias, with_addend, relu)
    size = conv2d.packed_size(groups, 9, 6 // groups, channels // groups, x.reshape(-1)[:1])
    panels = np.empty(size, dtype)
    conv2d.pack_weights(weight, np.arange(9), groups, False, panels, threads)
    conv2d.conv_taps(x, panels, epilogue.bias, epilogue.addend, TAPS, 1, 1, groups, epilogue.out, relu, threads)
    epilogue.check(convolve(x, weight, groups), 1e-4 if dtype == np.float32 else 1e-12)


@THREADS
@EPILOGUES
@pytest.mark.parametrize("channels", [16, 48, 80])
@pytest.mark.parametrize("size", [(8, 8), (9, 7), (3, 2)])
def test_winograd(size, channels, with_bias, with_addend, relu, threads):
    dtype = np.float32
    x, weight = normal((3, *size, 32), dtype, 0), normal((channels, 3, 3, 32), dtype, 1)
    epilogue = Epilogue((3, *size, channels), dtype, with_bias, with_addend, relu)
    taps = np.empty(conv2d.packed_size(1, 9, 32, channels, x.reshape(-1)[:1]), dtype)
    conv2d.pack_weights(weight, np.arange(9), 1, False, taps, threads)
    filters = np.empty(winograd.filters_size(1, 3, 1, 32, channels), dtype)
    winograd.transform_filters(taps, 1, 3, 1, 32, channels, filters, threads)
    winograd.conv(x, filters, epilogue.bias, epilogue.addend, 3, 1, 1, 1, 1, epilogue.out, relu, threads)
    epilogue.check(convolve(x, weight), 3e-3)


@TYPES
@pytest.mark.parametrize("channels", [5, 16, 40])
def test_relu_lets_nan_pass(channels, dtype):
    x = np.full((1, 4, 4, 3), np.nan, dtype)
    panels = np.ones(conv2d.packed_size(1, 1, 3, channels, x.reshape(-1)[:1]), dtype)
    out = np.zeros((1, 4, 4, channels), dtype)
    conv2d.conv_taps(x, panels, None, None, np.zeros((2, 1), np.intp), 1, 1, 1, out, True, 1)
    assert np.isnan(out).all()


def test_winograd_relu_lets_nan_pass():
    x, filters = np.full((1, 4, 4, 16), np.nan, np.float32), np.ones(36 * 16 * 16, np.float32)
    out = np.zeros_like(x)
    winograd.conv(x, filters, None, None, 3, 1, 1, 1, 1, out, True, 1)
    assert np.isnan(out).all()
