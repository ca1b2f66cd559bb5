"""Minimal filtering against the float64 loops: its accuracy is stated, so it is measured here."""

import numpy as np
import pytest

import cyconv
from cyconv import functional as F
from cyconv.functional._correlation import Winograd
from cyconv.functional.conv import planned
from tests import references

SHAPES = {  # batch, in_channels, out_channels, height, width, padding, groups, filter, stride
    "whole tiles": (2, 32, 32, 8, 8, 1),
    "edge tiles": (1, 32, 48, 7, 9, 0),
    "asymmetric padding": (3, 48, 80, 6, 5, (2, 1)),
    "several channel chunks": (5, 144, 80, 13, 12, 1),
    "one pixel": (1, 16, 16, 1, 1, 1),
    "padding beyond the filter": (1, 16, 16, 3, 2, 4),
    "empty batch": (0, 32, 32, 8, 8, 1),
    "parts of vectors": (2, 17, 39, 10, 9, 1),
    "more parts of vectors": (3, 72, 100, 8, 5, 0),
    "groups": (2, 96, 64, 9, 8, 1, 2),
    "groups of parts of vectors": (2, 57, 72, 6, 11, 1, 3),
    "long rows": (1, 16, 32, 5, 203, 1),
    "many large tiles": (2, 80, 48, 38, 41, 1),
    "5x5": (2, 32, 48, 9, 8, 2, 1, 5),
    "5x5, parts of vectors, groups": (3, 60, 42, 7, 10, (1, 3), 2, 5),
    "5x5, padding beyond the filter": (1, 16, 16, 3, 2, 6, 1, 5),
    "5x5, one output": (4, 16, 16, 5, 5, 0, 1, 5),
    "2x2": (2, 32, 48, 9, 8, 0, 1, 2),
    "2x2, parts of vectors, groups": (3, 57, 72, 6, 11, (1, 0), 3, 2),
    "2x2, padding beyond the filter": (1, 16, 16, 3, 2, 3, 1, 2),
    "4x4, stride 2": (2, 32, 48, 16, 16, 1, 1, 4, 2),
    "4x4, stride 2, odd sizes": (2, 32, 16, 13, 18, (0, 1), 1, 4, 2),
    "4x4, stride 2, asymmetric padding": (2, 48, 16, 9, 8, ((2, 1), (3, 0)), 1, 4, 2),
    "4x4, stride 2, parts of vectors, groups": (3, 60, 42, 9, 14, (1, 2), 2, 4, 2),
    "4x4, stride 2, padding beyond the filter": (1, 16, 16, 3, 2, 5, 1, 4, 2),
    "4x4, stride 2, one row": (2, 16, 16, 1, 21, (2, 1), 1, 4, 2),
    "4x4, stride 2, one output": (4, 16, 16, 4, 4, 0, 1, 4, 2),
    "4x4, stride 2, channel chunks": (3, 144, 144, 18, 14, 1, 1, 4, 2),
    "4x4, stride 2, long rows": (1, 16, 32, 6, 406, 1, 1, 4, 2),
    "4x4, stride 2, empty batch": (0, 32, 32, 8, 8, 1, 1, 4, 2),
    "5x5, stride 2": (2, 32, 48, 13, 16, 2, 1, 5, 2),
    "5x5, stride 2, parts of vectors, groups": (2, 34, 46, 8, 11, (1, 2), 2, 5, 2),
    "6x6, stride 2": (2, 32, 48, 16, 13, 2, 1, 6, 2),
}


def arrays(batch, in_channels, out_channels, height, width, padding, groups=1, size=3, stride=1, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((batch, in_channels, height, width), np.float32)
    weight = rng.standard_normal((out_channels, in_channels // groups, size, size), np.float32)
    bias = rng.standard_normal(out_channels, np.float32)
    grad = rng.standard_normal(F.conv2d(x, weight, bias, stride, padding, 1, groups).shape, np.float32)
    return grad, x, weight, bias


def all_directions(grad, x, weight, bias, padding, groups=1, stride=1, algorithm="winograd"):
    backward = F.conv2d_backward(grad, x, weight, bias, stride, padding, 1, groups, algorithm=algorithm)
    return F.conv2d(x, weight, bias, stride, padding, 1, groups, algorithm=algorithm), *backward


def reference_directions(grad, x, weight, bias, padding, groups=1, stride=1):
    if np.ndim(padding) == 2:
        padding = (*padding[0], *padding[1])
    backward = references.conv2d_backward(grad, x, weight, bias, stride, padding, 1, groups)
    return references.conv2d(x, weight, bias, stride, padding, 1, groups), *backward


def rms_error(got, wanted):
    return np.sqrt(np.mean((got - wanted) ** 2) / np.mean(wanted**2))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_equals_the_reference(shape, threads, small_work_threaded):
    _, _, _, _, _, padding, *rest = SHAPES[shape]
    groups, _, stride = (*rest, *(1, 3, 1)[len(rest) :])
    operands = arrays(*SHAPES[shape])
    with cyconv.num_threads(threads):
        got = all_directions(*operands, padding, groups, stride)
    wanted = reference_directions(*operands, padding, groups, stride)
    for array, reference in zip(got, wanted, strict=True):
        assert array.shape == reference.shape
        assert array.size == 0 or np.all(reference == array) or rms_error(array, reference) < 2e-6


KINDS = pytest.mark.parametrize(("size", "stride", "padding"), [(3, 1, 1), (5, 1, 2), (2, 1, 0), (4, 2, 1), (5, 2, 2)])


@KINDS
def test_error_at_256_channels_is_as_documented(size, stride, padding):
    operands = arrays(1, 256, 256, 12, 12, padding, size=size, stride=stride)
    wanted = reference_directions(*operands, padding, stride=stride)
    for array, reference in zip(all_directions(*operands, padding, stride=stride)[:3], wanted, strict=False):
        assert rms_error(array, reference) < 3e-6 * stride


@KINDS
def test_same_bits_for_any_number_of_threads(size, stride, padding, small_work_threaded):
    operands = arrays(4, 64, 96, 17, 14, padding, size=size, stride=stride)
    with cyconv.num_threads(1):
        once = all_directions(*operands, padding, stride=stride)
    for threads in (2, 3, 8):
        with cyconv.num_threads(threads):
            for first, again in zip(once, all_directions(*operands, padding, stride=stride), strict=True):
                np.testing.assert_array_equal(first, again)


def test_auto_takes_it_in_float32_only():
    _, x, weight, bias = arrays(8, 32, 32, 16, 16, 1)
    auto, winograd = (F.conv2d(x, weight, bias, 1, 1, algorithm=name) for name in ("auto", "winograd"))
    np.testing.assert_array_equal(auto, winograd)
    wide = [array.astype(np.float64) for array in (x, weight, bias)]
    _, plan = planned("conv2d", *wide, 1, 1, 1, 1)
    assert not isinstance(plan.forward, Winograd)
    assert not isinstance(plan.adjoint, Winograd)


def test_nan_stays_within_the_tiles_that_read_it():
    _, x, weight, bias = arrays(1, 16, 16, 12, 12, 1)
    x[0, 3, 0, 0] = np.nan
    out = F.conv2d(x, weight, bias, 1, 1, algorithm="winograd")
    assert np.isnan(out[0, :, :2, :2]).all()
    assert np.isfinite(out[0, :, 4:, :]).all()
    assert np.isfinite(out[0, :, :, 4:]).all()


@pytest.mark.parametrize(
    ("weight", "keywords"),
    [
        (np.ones((16, 16, 4, 4), np.float32), {}),
        (np.ones((16, 16, 4, 4), np.float32), {"stride": (2, 1)}),
        (np.ones((16, 16, 2, 4), np.float32), {"stride": (1, 2)}),
        (np.ones((16, 16, 2, 2), np.float32), {"stride": 2}),
        (np.ones((16, 16, 3, 3), np.float32), {"stride": 2}),
        (np.ones((16, 16, 3, 3), np.float32), {"dilation": 2}),
        (np.ones((32, 8, 3, 3), np.float32), {"groups": 2}),
        (np.ones((15, 16, 3, 3), np.float32), {}),
        (np.ones((16, 16, 3, 3), np.float64), {}),
    ],
)
def test_refuses_what_it_cannot_compute(weight, keywords):
    x = np.ones((1, 16, 9, 9), weight.dtype)
    with pytest.raises(ValueError, match="conv2d: `algorithm` 'winograd' needs float32, 2x2, 3x3 or 5x5 filters"):
        F.conv2d(x, weight, **keywords, algorithm="winograd")
