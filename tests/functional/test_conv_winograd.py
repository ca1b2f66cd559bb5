"""Minimal filtering against the float64 loops: its accuracy is stated, so it is measured here."""

import numpy as np
import pytest

import cyconv
from cyconv import functional as F
from cyconv.functional._correlation import Winograd
from cyconv.functional.conv import planned_conv2d
from tests import references

SHAPES = {  # batch, in_channels, out_channels, height, width, padding, groups, filter
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
}


def arrays(batch, in_channels, out_channels, height, width, padding, groups=1, size=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((batch, in_channels, height, width), np.float32)
    weight = rng.standard_normal((out_channels, in_channels // groups, size, size), np.float32)
    bias = rng.standard_normal(out_channels, np.float32)
    grad = rng.standard_normal(F.conv2d(x, weight, bias, 1, padding, 1, groups).shape, np.float32)
    return grad, x, weight, bias


def all_directions(grad, x, weight, bias, padding, groups=1, algorithm="winograd"):
    backward = F.conv2d_backward(grad, x, weight, bias, 1, padding, 1, groups, algorithm=algorithm)
    return F.conv2d(x, weight, bias, 1, padding, 1, groups, algorithm=algorithm), *backward


def rms_error(got, wanted):
    return np.sqrt(np.mean((got - wanted) ** 2) / np.mean(wanted**2))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_equals_the_reference(shape, threads, small_work_threaded):
    _, _, _, _, _, *geometry = SHAPES[shape]
    padding, groups = (*geometry, 1)[:2]
    grad, x, weight, bias = arrays(*SHAPES[shape])
    with cyconv.num_threads(threads):
        got = all_directions(grad, x, weight, bias, padding, groups)
    wanted = (
        references.conv2d(x, weight, bias, 1, padding, 1, groups),
        *references.conv2d_backward(grad, x, weight, bias, 1, padding, 1, groups),
    )
    for array, reference in zip(got, wanted, strict=True):
        assert array.shape == reference.shape
        assert array.size == 0 or np.all(reference == array) or rms_error(array, reference) < 2e-6


@pytest.mark.parametrize("size", [3, 5])
def test_error_at_256_channels_is_as_documented(size):
    padding = size // 2
    grad, x, weight, bias = arrays(1, 256, 256, 12, 12, padding, size=size)
    wanted = (
        references.conv2d(x, weight, bias, 1, padding),
        *references.conv2d_backward(grad, x, weight, bias, 1, padding),
    )
    for array, reference in zip(all_directions(grad, x, weight, bias, padding)[:3], wanted, strict=False):
        assert rms_error(array, reference) < 3e-6


def test_same_bits_for_any_number_of_threads(small_work_threaded):
    grad, x, weight, bias = arrays(4, 64, 96, 17, 14, 1)
    with cyconv.num_threads(1):
        once = all_directions(grad, x, weight, bias, 1)
    for threads in (2, 3, 8):
        with cyconv.num_threads(threads):
            for first, again in zip(once, all_directions(grad, x, weight, bias, 1), strict=True):
                np.testing.assert_array_equal(first, again)


def test_auto_takes_it_in_float32_only():
    _, x, weight, bias = arrays(8, 32, 32, 16, 16, 1)
    auto, winograd = (F.conv2d(x, weight, bias, 1, 1, algorithm=name) for name in ("auto", "winograd"))
    np.testing.assert_array_equal(auto, winograd)
    wide = [array.astype(np.float64) for array in (x, weight, bias)]
    _, plan = planned_conv2d("conv2d", *wide, 1, 1, 1, 1)
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
        (np.ones((16, 16, 3, 3), np.float32), {"stride": 2}),
        (np.ones((16, 16, 3, 3), np.float32), {"dilation": 2}),
        (np.ones((32, 8, 3, 3), np.float32), {"groups": 2}),
        (np.ones((15, 16, 3, 3), np.float32), {}),
        (np.ones((16, 16, 3, 3), np.float64), {}),
    ],
)
def test_refuses_what_it_cannot_compute(weight, keywords):
    x = np.ones((1, 16, 9, 9), weight.dtype)
    with pytest.raises(ValueError, match="conv2d: `algorithm` 'winograd' needs float32, 3x3 or 5x5 filters of stride"):
        F.conv2d(x, weight, **keywords, algorithm="winograd")
