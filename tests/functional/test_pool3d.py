import itertools

import numpy as np
import pytest

from cyconv import functional as F
from cyconv.gradient_check import check_gradients
from tests import references

X = np.random.default_rng(0).permutation(2 * 3 * 5 * 6 * 7).reshape(2, 3, 5, 6, 7) / 10.0
WINDOWS = [
    (2, None, 0, 1, False),
    (3, 2, 1, 1, True),
    (3, 1, 1, 2, False),
    ((1, 2, 3), (2, 1, 3), (0, 1, 1), (1, 1, 1), False),
]
NAMES = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")


def triple(value):
    return value if isinstance(value, tuple) else (value,) * 3


def boxes(shape, window):
    """Return the output's size, and for each output the positions of its box inside the volume and its divisor."""
    kernel, stride, padding, dilation, ceil_mode = window
    kernel, padding, dilation = triple(kernel), triple(padding), triple(dilation)
    stride = kernel if stride is None else triple(stride)
    axes = []
    for i, size in enumerate(shape):
        count = references.pool_size(size, kernel[i], stride[i], padding[i], padding[i], dilation[i], ceil_mode)
        taps = [[o * stride[i] - padding[i] + k * dilation[i] for k in range(kernel[i])] for o in range(count)]
        axes.append([([t for t in ts if 0 <= t < size], sum(t < size + padding[i] for t in ts)) for ts in taps])
    found = {}
    for index in itertools.product(*(range(len(axis)) for axis in axes)):
        parts = [axes[i][index[i]] for i in range(3)]
        found[index] = list(itertools.product(*(inside for inside, _ in parts))), np.prod([n for _, n in parts])
    return tuple(map(len, axes)), found


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_max_equals_reference(window):
    size, found = boxes(X.shape[2:], window)
    H, W = X.shape[3:]
    expected, indices = np.zeros((2, 3, *size)), np.zeros((2, 3, *size), int)
    for index, (inside, _) in found.items():
        values = np.stack([X[:, :, d, h, w] for d, h, w in inside])
        expected[(..., *index)] = values.max(axis=0)
        flat = np.array([(d * H + h) * W + w for d, h, w in inside])
        indices[(..., *index)] = flat[values.argmax(axis=0)]
    output, places = F.max_pool3d(X, *window, return_indices=True)
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(places, indices)
    np.testing.assert_array_equal(F.max_pool3d(X, *window), expected)
    options = dict(zip(NAMES, window, strict=True))
    check_gradients(F.max_pool3d, X, backward=F.max_pool3d_backward, **options)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_winners_stand_for_the_input(window):
    output, winners = F.max_pool3d_with_winners(X, *window)
    np.testing.assert_array_equal(output, F.max_pool3d(X, *window))
    grad = np.random.default_rng(1).normal(size=output.shape)
    found = F.max_pool3d_backward(grad, None, *window, winners=winners, input_shape=X.shape)
    np.testing.assert_array_equal(found, F.max_pool3d_backward(grad, X, *window))


def test_backward_without_input_says_what_it_needs():
    output, winners = F.max_pool3d_with_winners(X, 2)
    with pytest.raises(ValueError, match="max_pool3d_backward: `x` or `input_shape` is needed"):
        F.max_pool3d_backward(output, None, 2, winners=winners)
    with pytest.raises(ValueError, match="max_pool3d_backward: without `winners`, `x` is needed"):
        F.max_pool3d_backward(output, None, 2, input_shape=X.shape)
    with pytest.raises(TypeError, match="max_pool3d_backward: `winners` must be two arrays, got int"):
        F.max_pool3d_backward(output, None, 2, winners=1, input_shape=X.shape)
    with pytest.raises(ValueError, match="`winners` must have shape"):
        F.max_pool3d_backward(output, None, 2, winners=winners[::-1], input_shape=X.shape)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("window", [WINDOWS[0], WINDOWS[1], WINDOWS[3]], ids=str)
def test_average_equals_reference(window, include):
    size, found = boxes(X.shape[2:], window)
    expected = np.zeros((2, 3, *size))
    for index, (inside, divisor) in found.items():
        total = sum(X[:, :, d, h, w] for d, h, w in inside)
        expected[(..., *index)] = total / (divisor if include else len(inside))
    options = dict(zip(NAMES, window, strict=True), count_include_pad=include)
    del options["dilation"]
    np.testing.assert_allclose(F.avg_pool3d(X, **options), expected)
    check_gradients(F.avg_pool3d, X, backward=F.avg_pool3d_backward, **options)


def test_nan_passes():
    x = X.copy()
    x[0, 0, 1, 1, 1] = np.nan
    assert np.isnan(F.max_pool3d(x, 2)[0, 0, 0, 0, 0])


def test_empty_batch():
    assert F.max_pool3d(X[:0], 2).shape == F.avg_pool3d(X[:0], 2).shape == (0, 3, 2, 3, 3)
    grad = np.zeros((0, 3, 2, 3, 3))
    assert F.max_pool3d_backward(grad, X[:0], 2).shape == F.avg_pool3d_backward(grad, X[:0], 2).shape == X[:0].shape


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="max_pool3d: `x` must have 5 dimensions"):
        F.max_pool3d(X[0], 2)
    with pytest.raises(ValueError, match="avg_pool3d: `kernel_size` must be an int or three ints"):
        F.avg_pool3d(X, (2, 2))
    with pytest.raises(
        ValueError, match=r"max_pool3d_backward: `grad_output` must have shape \(2, 3, 2, 3, 3\), got \(2, 3, 5, 6, 7\)"
    ):
        F.max_pool3d_backward(X, X, 2)
