"""Convolution and its adjoint against plain loops, in float64, over everything a caller can choose.

The test data are standard normal, so a sum of K products is of the size sqrt(K). Adding them one by one in arithmetic
of precision eps errs by 0.15 * eps * K, and the largest of many thousand such errors, whose partial sums wandered off
furthest, was measured at eight times that. So results may differ from the reference by eps * (2 + 1.5 * sqrt(K)) times
sqrt(K), in float32 by 1 to 6e-6 of their size for the K of 10 to 1000 that occur here, and unusually large results by
eps * sqrt(K) / 2 of their own.
"""

import functools
import math
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cyconv
from cyconv import functional as F
from cyconv import threads
from cyconv.gradient_check import check_gradients
from tests import references
from tests.memory_formats import FORMATS

DTYPES = [np.float32, np.float64]
ALGORITHMS = ["auto", "direct", "im2col"]


class Case(NamedTuple):
    """Shapes and parameters; `padding` as a caller writes it, `sides` the four numbers where that is a word."""

    x: tuple[int, int, int, int] = (2, 3, 8, 9)
    out_channels: int = 4
    kernel: tuple[int, int] = (3, 3)
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1
    output_padding: Any = 0
    sides: tuple[int, int, int, int] | None = None

    @property
    def keywords(self):
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    @property
    def reference_keywords(self):
        sides = self.sides
        if sides is None:
            sides = (*self.padding[0], *self.padding[1]) if np.ndim(self.padding) == 2 else self.padding
        return {**self.keywords, "padding": sides}


def depthwise(channels, **keywords):
    return Case((2, channels, 8, 9), channels, groups=channels, **keywords)


CASES = {
    "1x1": Case((2, 5, 6, 7), 4, (1, 1)),
    "1x1 stride 2": Case((2, 5, 7, 8), 4, (1, 1), 2),
    "1x1 in padding": Case((2, 5, 3, 4), 4, (1, 1), padding=2),
    "3x3": Case(),
    "3x3 padding": Case(padding=1),
    "5x5": Case(kernel=(5, 5), padding=2),
    "7x7 stem": Case((2, 3, 17, 15), 20, (7, 7), 2, 3),
    "1x7": Case(kernel=(1, 7), padding=(0, 3)),
    "7x1": Case(kernel=(7, 1), padding=(3, 0)),
    "2x4": Case(kernel=(2, 4), stride=(1, 2), padding=(1, 0)),
    "stride 3": Case(stride=3, padding=1),
    "stride beyond kernel": Case((2, 3, 11, 12), kernel=(2, 2), stride=3),
    "stride far beyond kernel": Case((2, 3, 11, 12), kernel=(2, 1), stride=(5, 4), padding=1),
    "stride beyond image": Case(stride=(20, 100)),
    "asymmetric padding": Case(padding=((0, 2), (3, 1))),
    "same": Case(padding="same", sides=(1, 1, 1, 1)),
    "same, even kernel": Case(kernel=(2, 4), padding="same", sides=(0, 1, 1, 2)),
    "same, stride 2": Case((2, 3, 8, 9), stride=2, padding="same", sides=(0, 1, 1, 1)),
    "same, stride beyond kernel": Case((2, 3, 8, 9), kernel=(1, 2), stride=3, padding="same", sides=(0, 0, 0, 0)),
    "same, dilation": Case(dilation=(2, 3), padding="same", sides=(2, 2, 3, 3)),
    "valid": Case(stride=2, padding="valid", sides=(0, 0, 0, 0)),
    "padding beyond kernel": Case((2, 3, 4, 5), kernel=(2, 3), padding=(5, 4)),
    "padding beyond kernel, stride": Case((2, 3, 4, 5), kernel=(2, 3), padding=(5, 4), stride=(2, 3)),
    "dilation": Case(dilation=2),
    "dilation, stride, padding": Case((2, 3, 13, 12), stride=(2, 3), padding=((1, 2), (3, 0)), dilation=(3, 2)),
    "dilation beyond image": Case((1, 2, 3, 4), dilation=7, padding=7),
    "2 groups": Case((2, 6, 7, 6), 4, padding=1, groups=2),
    "3 groups, stride": Case((2, 6, 7, 8), 9, stride=2, padding=(1, 2), groups=3),
    "2 wide groups": Case((2, 34, 5, 5), 66, padding=1, groups=2),
    "groups of 1x1": Case((2, 8, 5, 5), 12, (1, 1), groups=4),
    "groups with a multiplier": Case((2, 5, 6, 6), 10, padding=1, groups=5),
    "groups into one": Case((2, 6, 6, 6), 3, padding=1, groups=3),
    "depthwise 5": depthwise(5),
    "depthwise 16": depthwise(16, padding=1),
    "depthwise 17, stride": depthwise(17, stride=(2, 1), padding=(1, 2)),
    "depthwise 40": depthwise(40, padding=1),
    "depthwise 5x5, stride 2": depthwise(33, kernel=(5, 5), stride=2, padding=2),
    "depthwise, dilation": depthwise(6, dilation=(2, 3), padding=3),
    "depthwise, asymmetric": depthwise(6, kernel=(2, 3), padding=((0, 3), (4, 0)), stride=3),
    "depthwise, padding beyond kernel": depthwise(3, kernel=(2, 2), padding=5),
    "depthwise, image in one window": Case((2, 20, 2, 3), 20, padding=1, groups=20),
    "whole image": Case((3, 4, 6, 5), 7, (6, 5)),
    "one pixel": Case((1, 1, 1, 1), 1, (1, 1)),
    "one pixel in padding": Case((3, 17, 1, 1), 5, (3, 3), padding=1),
    "one row": Case((2, 3, 1, 40), 5, (1, 3), (1, 2), padding=(0, 1)),
    "one column": Case((2, 3, 40, 1), 5, (3, 1), (2, 1), padding=(1, 0)),
    "many small images": Case((37, 4, 3, 3), 6, padding=1),
    "several bands": Case((2, 64, 40, 24), 33, padding=1),
    "several bands in place": Case((1, 33, 34, 40), 16, stride=(2, 1)),
    "weights beyond the cache": Case((1, 192, 4, 4), 200, padding=1),
    "lines a page apart": Case((1, 64, 5, 16), 5, (3, 3), (1, 1), 0),
    "no images": Case((0, 3, 8, 9), padding=1),
    "no images, groups": Case((0, 4, 8, 9), groups=2),
    "no images, depthwise": Case((0, 4, 8, 9), 4, groups=4),
}
CHANNELS = [1, 3, 15, 16, 17, 31, 32, 33, 64, 65]
for ic, oc in zip(CHANNELS, CHANNELS[::-1], strict=True):
    CASES[f"{ic} to {oc} channels"] = Case((2, ic, 5, 4), oc, padding=1)
for channels in CHANNELS:
    CASES[f"1x1, {channels} to {channels} channels"] = Case((2, channels, 3, 5), channels, (1, 1))

# Of the transposed convolution: `x` is its own input, `padding` is cut off the result.
TRANSPOSED = {
    "1x1": Case((2, 5, 6, 7), 4, (1, 1)),
    "1x1 stride 2": Case((2, 5, 4, 3), 4, (1, 1), 2),
    "3x3": Case(),
    "3x3 padding": Case(padding=1),
    "2x2 stride 2": Case((2, 16, 4, 5), 8, (2, 2), 2),
    "4x4 stride 2": Case((2, 6, 4, 5), 3, (4, 4), 2, 1),
    "5x5 stride 2": Case((2, 6, 4, 5), 9, (5, 5), 2, 2, output_padding=1),
    "2x5": Case((2, 3, 4, 5), 4, (2, 5), (1, 2), (0, 1)),
    "stride 3 beyond kernel": Case((2, 3, 4, 5), 4, (2, 1), 3),
    "output padding": Case((2, 3, 4, 5), 4, (3, 3), (2, 3), 1, output_padding=(1, 2)),
    "output padding by dilation": Case((2, 3, 4, 5), 4, (2, 2), 1, 0, (3, 2), output_padding=(2, 1)),
    "output padding beyond kernel": Case((2, 3, 4, 5), 4, (1, 1), 4, output_padding=3),
    "asymmetric padding": Case((2, 3, 5, 6), 4, (4, 3), 2, ((0, 2), (3, 1))),
    "valid": Case((2, 3, 4, 5), 4, padding="valid", sides=(0, 0, 0, 0)),
    "padding beyond kernel": Case((2, 3, 9, 8), 4, (2, 3), padding=(3, 2)),
    "dilation": Case((2, 3, 5, 4), 4, (3, 2), (2, 1), (2, 1), (2, 3)),
    "2 groups": Case((2, 6, 4, 5), 8, (3, 3), 2, 1, groups=2),
    "2 wide groups": Case((1, 34, 3, 4), 66, (3, 3), 1, 1, groups=2),
    "depthwise": Case((2, 17, 4, 5), 17, (3, 3), 2, 1, groups=17, output_padding=1),
    "depthwise 40": Case((2, 40, 4, 5), 40, (3, 3), 1, 1, groups=40),
    "depthwise, one channel": Case((2, 1, 4, 5), 1, (3, 3), 1, 1),
    "one pixel": Case((1, 1, 1, 1), 1, (1, 1)),
    "several bands": Case((1, 33, 30, 24), 64, (2, 2), 2),
    "no images": Case((0, 3, 4, 5), stride=2),
    "no images, depthwise": Case((0, 3, 4, 5), 3, groups=3),
}
for ic, oc in zip(CHANNELS, CHANNELS[::-1], strict=True):
    TRANSPOSED[f"{ic} to {oc} channels"] = Case((2, ic, 4, 3), oc, (3, 3), 2, 1)


def operands(case, transposed=False, dtype=np.float64):
    """Return x, weight and bias, the same numbers in float32 and float64."""
    rng = np.random.default_rng(0)
    IC = case.x[1]
    if transposed:
        shape = (IC, case.out_channels // case.groups, *case.kernel)
    else:
        shape = (case.out_channels, IC // case.groups, *case.kernel)
    arrays = rng.standard_normal(case.x), rng.standard_normal(shape), rng.standard_normal(case.out_channels)
    return [array.astype(np.float32).astype(dtype) for array in arrays]


def some_gradient(shape, dtype=np.float64):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32).astype(dtype)


@functools.cache
def expected_of_conv2d(case):
    """Return the reference's (output, grad_x, grad_weight, grad_bias)."""
    x, weight, bias = operands(case)
    output = references.conv2d(x, weight, bias, **case.reference_keywords)
    return output, *references.conv2d_backward(some_gradient(output.shape), x, weight, bias, **case.reference_keywords)


@functools.cache
def expected_of_conv_transpose2d(case):
    x, weight, bias = operands(case, transposed=True)
    keywords = {**case.reference_keywords, "output_padding": case.output_padding}
    output = references.conv_transpose2d(x, weight, bias, **keywords)
    return output, *references.conv_transpose2d_backward(some_gradient(output.shape), x, weight, bias, **keywords)


def terms(case, output_shape, transposed=False):
    """Return how many products make one number of the output, of grad_x, of grad_weight and of grad_bias."""
    gathered = spread = 1  # filter positions that meet in an output of the convolution, and of its adjoint
    for k, s, d in zip(case.kernel, *map(references.pair, (case.stride, case.dilation)), strict=True):
        gathered *= k
        spread *= -(-k // (s // math.gcd(s, d)))
    N, IC, *size = case.x
    of_output, of_grad_x = (spread, gathered) if transposed else (gathered, spread)
    positions = N * math.prod(size if transposed else output_shape[2:])
    bias_terms = N * math.prod(output_shape[2:])
    return [of_output * IC // case.groups, of_grad_x * case.out_channels // case.groups, positions, bias_terms]


def assert_close(actual, expected, dtype, terms):
    """Compare with float64 `expected`, sums of `terms` products (see the module's docstring)."""
    assert actual.shape == expected.shape
    assert actual.dtype == dtype
    tolerance = np.finfo(dtype).eps * (2 + 1.5 * np.sqrt(terms)) * np.sqrt(terms + 1)  # 1: the bias
    np.testing.assert_allclose(actual, expected, rtol=np.finfo(dtype).eps * np.sqrt(terms) / 2, atol=tolerance)


def assert_all_close(actual, expected, dtype, terms):
    for actual_array, expected_array, count in zip(actual, expected, terms, strict=True):
        assert_close(actual_array, expected_array, dtype, count)


def run_conv2d(case, arrays, grad_output, **keywords):
    output = F.conv2d(*arrays, **case.keywords, **keywords)
    return output, *F.conv2d_backward(grad_output, *arrays, **case.keywords, **keywords)


def run_conv_transpose2d(case, arrays, grad_output, **keywords):
    keywords.update(case.keywords, output_padding=case.output_padding)
    output = F.conv_transpose2d(*arrays, **keywords)
    return output, *F.conv_transpose2d_backward(grad_output, *arrays, **keywords)


def assert_same_bits_for_any_threads(run, counts=(1, 2, 3)):
    """Call `run` with several numbers of threads; return the first result."""
    with cyconv.num_threads(counts[0]):
        first = run()
    for count in counts[1:]:
        with cyconv.num_threads(count):
            for one, other in zip(first, run(), strict=True):
                np.testing.assert_array_equal(one, other, err_msg=f"{count} threads")
    return first


# Against the references


@pytest.mark.usefixtures("small_work_threaded")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_conv2d_equals_reference(name, dtype, algorithm):
    case = CASES[name]
    expected = expected_of_conv2d(case)
    arrays, grad_output = operands(case, dtype=dtype), some_gradient(expected[0].shape, dtype)
    results = assert_same_bits_for_any_threads(lambda: run_conv2d(case, arrays, grad_output, algorithm=algorithm))
    assert_all_close(results, expected, dtype, terms(case, expected[0].shape))


@pytest.mark.usefixtures("small_work_threaded")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TRANSPOSED)
def test_conv_transpose2d_equals_reference(name, dtype, algorithm):
    case = TRANSPOSED[name]
    expected = expected_of_conv_transpose2d(case)
    arrays, grad_output = operands(case, True, dtype), some_gradient(expected[0].shape, dtype)
    results = assert_same_bits_for_any_threads(
        lambda: run_conv_transpose2d(case, arrays, grad_output, algorithm=algorithm)
    )
    assert_all_close(results, expected, dtype, terms(case, expected[0].shape, transposed=True))


@pytest.mark.usefixtures("small_work_threaded")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["3x3 padding", "several bands in place", "weights beyond the cache", "depthwise 40"])
def test_same_bits_with_far_more_threads_than_cores(name, dtype):
    case = CASES[name]
    arrays = operands(case, dtype=dtype)
    grad_output = some_gradient(F.conv2d(*arrays, **case.keywords).shape, dtype)
    assert_same_bits_for_any_threads(lambda: run_conv2d(case, arrays, grad_output), (1, 8))


IN_EVERY_FORMAT = ["3x3 padding", "1x1", "depthwise 17, stride", "2 groups", "1 to 65 channels", "one row", "no images"]


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("name", IN_EVERY_FORMAT)
def test_result_does_not_depend_on_memory_format(name, memory_format):
    case, lay_out = CASES[name], FORMATS[memory_format]
    for dtype in DTYPES:
        x, weight, bias = operands(case, dtype=dtype)
        grad_output = some_gradient(expected_of_conv2d(case)[0].shape, dtype)
        arrays = lay_out(x), lay_out(weight), lay_out(bias[np.newaxis, :, np.newaxis, np.newaxis])[0, :, 0, 0]
        results = run_conv2d(case, arrays, lay_out(grad_output))
        for actual, expected in zip(results, run_conv2d(case, (x, weight, bias), grad_output), strict=True):
            assert actual.dtype == dtype
            np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("name", ["3x3 padding", "depthwise", "2 groups", "no images"])
def test_transposed_result_does_not_depend_on_memory_format(name, memory_format):
    case, lay_out = TRANSPOSED[name], FORMATS[memory_format]
    for dtype in DTYPES:
        x, weight, bias = operands(case, True, dtype)
        grad_output = some_gradient(expected_of_conv_transpose2d(case)[0].shape, dtype)
        arrays = lay_out(x), lay_out(weight), bias
        results = run_conv_transpose2d(case, arrays, lay_out(grad_output))
        for actual, expected in zip(results, run_conv_transpose2d(case, (x, weight, bias), grad_output), strict=True):
            np.testing.assert_array_equal(actual, expected)


def test_broadcast_input_is_read_right():
    x = np.broadcast_to(np.arange(5.0), (2, 3, 6, 5))
    weight = np.broadcast_to(np.float64(2), (4, 3, 3, 3))
    np.testing.assert_allclose(F.conv2d(x, weight), references.conv2d(x, weight))


def test_lists_are_taken_as_float64():
    np.testing.assert_array_equal(F.conv2d([[[[1.0, 2.0]]]], [[[[3.0]]]], [0.5]), [[[[3.5, 6.5]]]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_bias(dtype):
    case = CASES["3x3 padding"]
    x, weight, _ = operands(case, dtype=dtype)
    expected = expected_of_conv2d(case)
    output = references.conv2d(x, weight, **case.reference_keywords)
    assert_close(F.conv2d(x, weight, **case.keywords), output, dtype, 27)
    gradients = F.conv2d_backward(some_gradient(output.shape, dtype), x, weight, **case.keywords)
    assert gradients[2] is None
    assert_all_close(gradients[:2], expected[1:3], dtype, terms(case, output.shape)[1:3])


@pytest.mark.parametrize("needs", list(np.ndindex(2, 2, 2)), ids=str)
def test_needs_selects_gradients(needs):
    case = CASES["3x3 padding"]
    arrays, grad_output = operands(case), some_gradient(expected_of_conv2d(case)[0].shape)
    every = F.conv2d_backward(grad_output, *arrays, **case.keywords)
    some = F.conv2d_backward(grad_output, *arrays, **case.keywords, needs=needs)
    case = TRANSPOSED["3x3 padding"]
    arrays, grad_output = operands(case, True), some_gradient(expected_of_conv_transpose2d(case)[0].shape)
    every += F.conv_transpose2d_backward(grad_output, *arrays, **case.keywords)
    some += F.conv_transpose2d_backward(grad_output, *arrays, **case.keywords, needs=needs)
    for wanted, one, other in zip(needs * 2, every, some, strict=True):
        if wanted:
            np.testing.assert_array_equal(one, other)
        else:
            assert other is None


def test_result_is_channels_last_in_memory():
    case = CASES["3x3 padding"]
    output, grad_x, grad_weight, _ = run_conv2d(case, operands(case), some_gradient((2, 4, 8, 9)))
    for array in (output, grad_x, grad_weight):
        assert array.transpose(0, 2, 3, 1).flags.c_contiguous
        assert array.flags.writeable


def test_pairs_may_be_lists_and_arrays():
    x, weight, _ = operands(CASES["3x3"])
    expected = F.conv2d(x, weight, stride=(2, 1), padding=((1, 0), (0, 2)), dilation=(1, 2))
    actual = F.conv2d(x, weight, stride=np.array([2, 1]), padding=[[1, 0], [0, 2]], dilation=[1, np.int64(2)])
    np.testing.assert_array_equal(actual, expected)
    x, weight, _ = operands(TRANSPOSED["3x3"], transposed=True)
    expected = F.conv_transpose2d(x, weight, stride=2, padding=(1, 0), output_padding=(0, 1))
    actual = F.conv_transpose2d(x, weight, stride=np.array(2), padding=np.array([1, 0]), output_padding=[0, 1])
    np.testing.assert_array_equal(actual, expected)


# Properties


@st.composite
def geometries(draw, transposed=False):
    """Return any legal small case."""
    pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
    kernel, stride, dilation = draw(pairs), draw(pairs), draw(pairs)
    groups = draw(st.integers(1, 3))
    vertical, horizontal = draw(st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * 2))
    per_group = st.sampled_from([1, 2, 3, 5, 8, 16, 17, 33])
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size, extra = [], []
    for span, s, d, sides in zip(spans, stride, dilation, (vertical, horizontal), strict=True):
        if transposed:
            extra.append(draw(st.integers(0, max(s, d) - 1)))
            least = max(1, -(-(sum(sides) + 1 - span - extra[-1]) // s) + 1)  # leaves one output after cutting
        else:
            least = max(1, span - sum(sides))
        size.append(least + draw(st.integers(0, 4)))
    N, IC, OC = draw(st.integers(0, 3)), groups * draw(per_group), groups * draw(per_group)
    return Case((N, IC, *size), OC, kernel, stride, (vertical, horizontal), dilation, groups, tuple(extra))


@settings(max_examples=150, deadline=None)
@given(geometries(), st.sampled_from(DTYPES), st.sampled_from(ALGORITHMS), st.integers(1, 4))
def test_conv2d_equals_reference_for_any_parameters(case, dtype, algorithm, num_threads):
    expected = expected_of_conv2d.__wrapped__(case)
    arrays, grad_output = operands(case, dtype=dtype), some_gradient(expected[0].shape, dtype)
    with mock.patch.object(threads, "GRAIN", 1), cyconv.num_threads(num_threads):
        results = run_conv2d(case, arrays, grad_output, algorithm=algorithm)
    assert_all_close(results, expected, dtype, terms(case, expected[0].shape))


@settings(max_examples=150, deadline=None)
@given(geometries(transposed=True), st.sampled_from(DTYPES), st.sampled_from(ALGORITHMS), st.integers(1, 4))
def test_conv_transpose2d_equals_reference_for_any_parameters(case, dtype, algorithm, num_threads):
    expected = expected_of_conv_transpose2d.__wrapped__(case)
    arrays, grad_output = operands(case, True, dtype), some_gradient(expected[0].shape, dtype)
    with mock.patch.object(threads, "GRAIN", 1), cyconv.num_threads(num_threads):
        results = run_conv_transpose2d(case, arrays, grad_output, algorithm=algorithm)
    assert_all_close(results, expected, dtype, terms(case, expected[0].shape, transposed=True))


@pytest.mark.parametrize("name", ["3x3 padding", "7x7 stem", "asymmetric padding", "2 groups", "depthwise 40", "1x1"])
def test_transposed_convolution_is_the_adjoint(name):
    """<conv(x, w), y> = <x, conv_transpose(y, w)>, with the output padding that restores the size of x."""
    case = CASES[name]
    x, weight, _ = operands(case)
    output = F.conv2d(x, weight, **case.keywords)
    y = some_gradient(output.shape)
    smallest = F.conv_transpose2d(y, weight, **case.keywords).shape
    missing = tuple(np.subtract(x.shape[2:], smallest[2:]))
    back = F.conv_transpose2d(y, weight, output_padding=missing, **case.keywords)
    assert back.shape == x.shape
    scale = np.linalg.norm(output) * np.linalg.norm(y)
    assert abs(np.vdot(output, y) - np.vdot(x, back)) <= 1e-13 * scale


@pytest.mark.parametrize("name", ["3x3 padding", "stride 3", "dilation, stride, padding", "2 groups", "depthwise 5"])
def test_gradients_equal_difference_quotients(name):
    """Convolution is linear in each argument, so a wide step leaves rounding as the only error."""
    case = CASES[name]
    arrays = operands(case)
    check_gradients(
        F.conv2d, *arrays, backward=F.conv2d_backward, epsilon=1e-2, tolerance=1e-9, max_entries=40, **case.keywords
    )


@pytest.mark.parametrize("name", ["output padding", "dilation", "2 groups", "depthwise"])
def test_transposed_gradients_equal_difference_quotients(name):
    case = TRANSPOSED[name]
    arrays = operands(case, transposed=True)
    check_gradients(
        F.conv_transpose2d,
        *arrays,
        backward=F.conv_transpose2d_backward,
        epsilon=1e-2,
        tolerance=1e-9,
        max_entries=40,
        output_padding=case.output_padding,
        **case.keywords,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("small_work_threaded")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("out_channels", CHANNELS)
@pytest.mark.parametrize("in_channels", CHANNELS)
@pytest.mark.parametrize("kernel", [1, 3])
def test_every_pair_of_channel_counts(kernel, in_channels, out_channels, dtype):
    case = Case((2, in_channels, 4, 5), out_channels, (kernel, kernel), padding=kernel // 2)
    expected = expected_of_conv2d.__wrapped__(case)
    arrays, grad_output = operands(case, dtype=dtype), some_gradient(expected[0].shape, dtype)
    results = assert_same_bits_for_any_threads(lambda: run_conv2d(case, arrays, grad_output))
    assert_all_close(results, expected, dtype, terms(case, expected[0].shape))


# Infinities and NaN


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "name", ["1x1", "3x3 padding", "stride 3", "2 groups", "depthwise 17, stride", "15 to 33 channels"]
)
def test_non_finite_input_reaches_its_windows_only(name, algorithm, value):
    case = CASES[name]
    x, weight, bias = operands(case)
    clean = F.conv2d(x, weight, bias, **case.keywords, algorithm=algorithm)
    x[0, 1, 3, 3] = value
    output = F.conv2d(x, weight, bias, **case.keywords, algorithm=algorithm)
    expected = references.conv2d(x, weight, bias, **case.reference_keywords)
    touched = ~np.isfinite(expected)
    assert touched.any()
    np.testing.assert_array_equal(output[touched], expected[touched])
    np.testing.assert_array_equal(output[~touched], clean[~touched])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", ["1x1", "3x3 padding", "2 groups", "depthwise 17, stride"])
def test_nan_in_gradient_reaches_its_window_only(name, algorithm):
    case = CASES[name]
    x, weight, bias = operands(case)
    grad_output = some_gradient(expected_of_conv2d(case)[0].shape)
    grad_output[0, 1, 2, 3] = np.nan
    expected, _, expected_bias = references.conv2d_backward(grad_output, x, weight, bias, **case.reference_keywords)
    grad_x, _, grad_bias = F.conv2d_backward(grad_output, x, weight, bias, **case.keywords, algorithm=algorithm)
    np.testing.assert_array_equal(np.isnan(grad_x), np.isnan(expected))
    np.testing.assert_array_equal(np.isnan(grad_bias), np.isnan(expected_bias))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", ["1x1", "3x3 padding", "2 groups", "depthwise 17, stride"])
def test_nan_in_input_reaches_its_weights_only(name, algorithm):
    case = CASES[name]
    x, weight, bias = operands(case)
    x[0, 1, 3, 3] = np.nan
    grad_output = some_gradient(expected_of_conv2d(case)[0].shape)
    _, expected, _ = references.conv2d_backward(grad_output, x, weight, bias, **case.reference_keywords)
    grad_weight = F.conv2d_backward(grad_output, x, weight, bias, **case.keywords, algorithm=algorithm)[1]
    np.testing.assert_array_equal(np.isnan(grad_weight), np.isnan(expected))


# Memory: arguments are read only, results are nobody else's


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", ["1x1", "3x3 padding", "one pixel", "2 groups", "depthwise 17, stride"])
def test_arguments_stay_as_they_are_and_results_are_fresh(name, algorithm):
    case = CASES[name]
    x, weight, bias = operands(case)
    arrays = [FORMATS["channels_last"](x), FORMATS["channels_last"](weight), bias]
    grad_output = FORMATS["channels_last"](some_gradient(expected_of_conv2d(case)[0].shape))
    before = [array.copy() for array in (*arrays, grad_output)]
    first = run_conv2d(case, arrays, grad_output, algorithm=algorithm)
    kept = [array.copy() for array in first]
    second = run_conv2d(case, arrays, -grad_output, algorithm=algorithm)
    for array, copy in zip((*arrays, grad_output), before, strict=True):
        np.testing.assert_array_equal(array, copy)
    for array, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(array, copy)
    everything = [*arrays, grad_output, *first, *second]
    for i, array in enumerate(everything[4:], 4):
        assert not any(np.shares_memory(array, other) for j, other in enumerate(everything) if j != i)


# Errors: the op, the argument, what came and what is needed


ARRAYS = np.ones((2, 4, 8, 8)), np.ones((6, 4, 3, 3)), np.ones(6)
IMAGES, FILTERS, BIAS = ARRAYS

WRONG_SHAPES = {
    "x of 3 axes": ((IMAGES[0], FILTERS), {}, r"`x` must have 4 dimensions \(N, C, H, W\), got shape \(4, 8, 8\)"),
    "weight of 2 axes": ((IMAGES, FILTERS[0, 0]), {}, r"`weight` must have 4 dimensions .*, got shape \(3, 3\)"),
    "bias of 2 axes": ((*ARRAYS[:2], BIAS[np.newaxis]), {}, r"`bias` must have 1 dimensions, got shape \(1, 6\)"),
    "bias too long": (
        (*ARRAYS[:2], np.ones(7)),
        {},
        r"`bias` must have shape \(6,\) \(one per output channel\), got \(7,\)",
    ),
    "bias of 1": ((*ARRAYS[:2], np.ones(1)), {}, r"`bias` must have shape \(6,\)"),
    "other channels": (
        (IMAGES[:, :3], FILTERS),
        {},
        r"`weight` expects 4 input channels \(4 per group x 1 groups\), but `x` has shape \(2, 3, 8, 8\)",
    ),
    "channels for groups": (ARRAYS, {"groups": 2}, r"`weight` expects 8 input channels \(4 per group x 2 groups\)"),
    "groups not dividing": (
        (np.ones((2, 16, 8, 8)), FILTERS),
        {"groups": 4},
        r"`groups` must divide the 6 output channels of `weight`, got 4",
    ),
    "kernel beyond image": (
        (IMAGES[:, :, :2], FILTERS),
        {},
        r"kernel spans \(3, 3\) \(`dilation` included\), more than the padded input \(2, 8\)",
    ),
    "dilated kernel beyond image": (ARRAYS, {"dilation": (1, 4)}, r"kernel spans \(3, 9\) .* padded input \(8, 8\)"),
    "kernel beyond padding": ((IMAGES[:, :, :1, :1], FILTERS), {"padding": ((1, 0), (0, 0))}, r"padded input \(2, 1\)"),
    "no channels": ((IMAGES[:, :0], FILTERS), {}, r"only the batch of `x` may be empty, got shape \(2, 0, 8, 8\)"),
    "no rows": ((IMAGES[:, :, :0], FILTERS), {}, r"only the batch of `x` may be empty, got shape \(2, 4, 0, 8\)"),
    "no columns": ((IMAGES[..., :0], FILTERS), {"padding": 3}, r"only the batch of `x` may be empty"),
    "no filters": ((IMAGES, FILTERS[:0]), {}, r"`weight` must not be empty, got shape \(0, 4, 3, 3\)"),
    "filters without channels": ((IMAGES, FILTERS[:, :0]), {}, r"`weight` must not be empty"),
    "empty filters": ((IMAGES, FILTERS[:, :, :0]), {}, r"`weight` must not be empty, got shape \(6, 4, 0, 3\)"),
}

WRONG_PARAMETERS = {
    "stride 0": ({"stride": 0}, r"`stride` must be at least 1, got 0"),
    "stride -1": ({"stride": (1, -1)}, r"`stride` must be at least 1, got -1"),
    "stride 2**62": ({"stride": 2**62}, r"`stride` must be at most 2147483647, got 4611686018427387904"),
    "stride of three": ({"stride": (1, 2, 3)}, r"`stride` must be an int or a pair of ints, got \(1, 2, 3\)"),
    "dilation 0": ({"dilation": (0, 1)}, r"`dilation` must be at least 1, got 0"),
    "dilation 2**62": ({"dilation": 2**62}, r"`dilation` must be at most 2147483647"),
    "padding -1": ({"padding": -1}, r"`padding` must be at least 0, got -1"),
    "padding 2**62": ({"padding": (0, 2**62)}, r"`padding` must be at most 2147483647"),
    "negative side": ({"padding": ((0, 0), (1, -2))}, r"`padding` must be at least 0, got -2"),
    "padding of three": ({"padding": (1, 1, 1)}, r"`padding` must be an int or a pair of ints, got \(1, 1, 1\)"),
    "unknown padding": ({"padding": "full"}, r"""`padding` must be "same", "valid", .*, got 'full'"""),
    "groups 0": ({"groups": 0}, r"`groups` must be at least 1, got 0"),
    "groups 2**62": ({"groups": 2**62}, r"`groups` must be at most 2147483647"),
    "unknown algorithm": ({"algorithm": "fft"}, r"`algorithm` must be one of 'auto', 'direct', 'im2col', got 'fft'"),
    "no algorithm": ({"algorithm": None}, r"`algorithm` must be one of 'auto', 'direct', 'im2col', got None"),
}

NOT_INTEGERS = {
    "stride 1.0": ({"stride": 1.0}, r"`stride` must be an integer, got 1\.0"),
    "stride True": ({"stride": (True, 1)}, r"`stride` must be an integer, got True"),
    "stride None": ({"stride": None}, r"`stride` must be an integer, got None"),
    "dilation 2.5": ({"dilation": (1, 2.5)}, r"`dilation` must be an integer, got 2\.5"),
    "padding nan": ({"padding": float("nan")}, r"`padding` must be an integer, got nan"),
    "padding None": ({"padding": None}, r"`padding` must be an integer, got None"),
    "groups 1.0": ({"groups": 1.0}, r"`groups` must be an integer, got 1\.0"),
}

WRONG_DTYPES = {
    "integers": ((IMAGES.astype(np.int64), FILTERS), r"`x` must be float32 or float64, got int64; cast it with"),
    "bytes": ((IMAGES.astype(np.uint8), FILTERS), r"`x` must be float32 or float64, got uint8"),
    "half": ((IMAGES, FILTERS.astype(np.float16)), r"`weight` must be float32 or float64, got float16"),
    "complex": ((IMAGES, FILTERS, BIAS.astype(complex)), r"`bias` must be float32 or float64, got complex128"),
    "bool": ((IMAGES > 0, FILTERS), r"`x` must be float32 or float64, got bool"),
    "objects": ((IMAGES.astype(object), FILTERS), r"`x` must be float32 or float64, got object"),
    "None": ((None, FILTERS), r"`x` must be float32 or float64, got object"),
    "text": (("image", FILTERS), r"`x` must be float32 or float64, got <U5"),
    "mixed": (
        (IMAGES, FILTERS.astype(np.float32)),
        r"all arrays must have the same dtype, got `x` float64, `weight` float32; cast one",
    ),
    "mixed bias": (
        (IMAGES, FILTERS, BIAS.astype(np.float32)),
        r"all arrays must have the same dtype, got .*`bias` float32",
    ),
}

# Filters of the transposed convolution from 4 channels to 6.
TRANSPOSED_FILTERS = FILTERS.transpose(1, 0, 2, 3)


def either(op, arrays, keywords):
    """Call conv2d or conv_transpose2d, forward or backward, with the first of these arguments that it takes."""
    grad = (np.ones((2, 6, 6, 6)) if "transpose" not in op else np.ones((2, 6, 10, 10)),) if "backward" in op else ()
    return getattr(F, op)(*grad, *arrays, **keywords)


CONVOLUTIONS = ["conv2d", "conv2d_backward"]
TRANSPOSED_CONVOLUTIONS = ["conv_transpose2d", "conv_transpose2d_backward"]


@pytest.mark.parametrize("op", CONVOLUTIONS)
@pytest.mark.parametrize("name", WRONG_SHAPES)
def test_wrong_shapes(name, op):
    arrays, keywords, message = WRONG_SHAPES[name]
    with pytest.raises(ValueError, match=f"^{op}: .*{message}"):
        either(op, arrays, keywords)


@pytest.mark.parametrize("op", [*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS])
@pytest.mark.parametrize("name", WRONG_PARAMETERS)
def test_parameters_out_of_range(name, op):
    keywords, message = WRONG_PARAMETERS[name]
    weight = TRANSPOSED_FILTERS if "transpose" in op else FILTERS
    with pytest.raises(ValueError, match=f"^{op}: {message}"):
        either(op, (IMAGES, weight, BIAS), keywords)


@pytest.mark.parametrize("op", [*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS])
@pytest.mark.parametrize("name", NOT_INTEGERS)
def test_parameters_that_are_no_integers(name, op):
    keywords, message = NOT_INTEGERS[name]
    weight = TRANSPOSED_FILTERS if "transpose" in op else FILTERS
    with pytest.raises(TypeError, match=f"^{op}: {message}"):
        either(op, (IMAGES, weight, BIAS), keywords)


@pytest.mark.parametrize("op", [*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS])
@pytest.mark.parametrize("name", WRONG_DTYPES)
def test_wrong_dtypes(name, op):
    arrays, message = WRONG_DTYPES[name]
    with pytest.raises(TypeError, match=f"^{op}: {message}"):
        either(op, arrays, {})


@pytest.mark.parametrize("shape", [(2, 6, 6, 5), (1, 6, 6, 6), (2, 5, 6, 6), (2, 6, 36)])
def test_gradient_of_another_shape(shape):
    wanted = r"must have shape \(2, 6, 6, 6\)" if len(shape) == 4 else "must have 4 dimensions"
    with pytest.raises(ValueError, match=f"^conv2d_backward: `grad_output` {wanted}.*, got"):
        F.conv2d_backward(np.ones(shape), *ARRAYS)
    wanted = wanted.replace("6, 6, 6", "6, 10, 10")
    with pytest.raises(ValueError, match=f"^conv_transpose2d_backward: `grad_output` {wanted}.*, got"):
        F.conv_transpose2d_backward(np.ones(shape), IMAGES, TRANSPOSED_FILTERS, BIAS)


def test_gradient_of_another_dtype():
    with pytest.raises(TypeError, match=r"^conv2d_backward: .*same dtype, got `x` float64, `grad_output` float32"):
        F.conv2d_backward(np.ones((2, 6, 6, 6), np.float32), *ARRAYS)
    with pytest.raises(TypeError, match=r"^conv_transpose2d_backward: `grad_output` must be float32 or .* got int64"):
        F.conv_transpose2d_backward(np.ones((2, 6, 10, 10), np.int64), IMAGES, TRANSPOSED_FILTERS)


WRONG_TRANSPOSED = {
    "output padding of the stride": (
        {"stride": 2, "output_padding": 2},
        r"`output_padding` must be less than `stride` or `dilation`, got \(2, 2\) for \(2, 2\), \(1, 1\)",
    ),
    "output padding without stride": ({"output_padding": (0, 1)}, r"`output_padding` must be less than"),
    "output padding -1": ({"output_padding": -1}, r"`output_padding` must be at least 0, got -1"),
    "output padding 2**62": ({"output_padding": 2**62}, r"`output_padding` must be at most 2147483647"),
    "padding eats all": (
        {"padding": 5},
        r"`padding` 5 leaves an output of size \(0, 0\); it must be at least \(1, 1\)",
    ),
    "padding eats columns": ({"padding": ((0, 0), (9, 9))}, r"leaves an output of size \(10, -8\)"),
    "same": ({"padding": "same"}, r"""`padding` "same" has no meaning here"""),
    "groups not dividing": ({"groups": 3}, r"expects 4 input channels .* and `groups` is 3"),
}


@pytest.mark.parametrize("op", TRANSPOSED_CONVOLUTIONS)
@pytest.mark.parametrize("name", WRONG_TRANSPOSED)
def test_wrong_transposed_parameters(name, op):
    keywords, message = WRONG_TRANSPOSED[name]
    with pytest.raises(ValueError, match=f"^{op}: .*{message}"):
        either(op, (IMAGES, TRANSPOSED_FILTERS), keywords)


@pytest.mark.parametrize("op", TRANSPOSED_CONVOLUTIONS)
def test_wrong_transposed_shapes(op):
    expects = r"`weight` of shape \(6, 4, 3, 3\) expects 6 input channels .* but `x` has shape \(2, 4, 8, 8\)"
    with pytest.raises(ValueError, match=f"^{op}: {expects}"):
        either(op, (IMAGES, FILTERS), {})
    with pytest.raises(ValueError, match=f"^{op}: only the batch of `x` may be empty"):
        either(op, (IMAGES[:, :0], TRANSPOSED_FILTERS), {})
    with pytest.raises(ValueError, match=f"^{op}: `x` must have 4 dimensions"):
        either(op, (IMAGES[0], TRANSPOSED_FILTERS), {})


def test_wrong_transposed_bias():
    with pytest.raises(ValueError, match=r"^conv_transpose2d: `bias` must have shape \(6,\) .*, got \(4,\)"):
        F.conv_transpose2d(IMAGES, TRANSPOSED_FILTERS, np.ones(4))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("groups", [1, 4])
def test_padded_image_beyond_64_bits(groups, algorithm):
    x, weight = np.ones((1, 4, 3, 3)), np.ones((4, 4 // groups, 3, 3))
    keywords = {"groups": groups, "algorithm": algorithm}
    for far in (
        {"padding": 2**31 - 1},
        {"padding": "same", "dilation": 2**31 - 1},
        {"padding": 2**31 - 1, "stride": 2**31 - 1},
    ):
        with pytest.raises(ValueError, match=r"^conv2d: the padded image \(4294967\d+, 4294967\d+\) is too large"):
            F.conv2d(x, weight, **far, **keywords)
        with pytest.raises(ValueError, match=r"^conv2d_backward: the padded image .* is too large"):
            F.conv2d_backward(x, x, weight, **far, **keywords)
    for far in ({"dilation": 2**31 - 1}, {"stride": 2**31 - 1}):
        with pytest.raises(ValueError, match=r"^conv_transpose2d: the padded image .* is too large"):
            F.conv_transpose2d(x, weight, **far, **keywords)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("groups", [1, 4])
def test_taps_far_outside_the_image(groups, algorithm):
    """All taps but the middle one read zeros, however far away: the right numbers or MemoryError, never a crash."""
    x, weight, _ = operands(Case((1, 4, 3, 3), 4, padding=1, groups=groups))
    keywords = {"padding": "same", "dilation": 10**6, "groups": groups, "algorithm": algorithm}
    middle = weight[:, :, 1:2, 1:2]
    expected = references.conv2d(x, middle, groups=groups)
    try:
        np.testing.assert_allclose(F.conv2d(x, weight, **keywords), expected, atol=1e-13)
        grad_x, grad_weight, _ = F.conv2d_backward(expected, x, weight, **keywords)
    except MemoryError:
        return
    expected_x, expected_weight, _ = references.conv2d_backward(expected, x, middle, groups=groups)
    np.testing.assert_allclose(grad_x, expected_x, atol=1e-13)
    np.testing.assert_allclose(grad_weight[:, :, 1:2, 1:2], expected_weight, atol=1e-13)
    assert np.count_nonzero(grad_weight) == expected_weight.size


# PyTorch, where it is installed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "name", ["7x7 stem", "dilation, stride, padding", "3 groups, stride", "depthwise 5x5, stride 2"]
)
def test_conv2d_equals_pytorch(name, dtype):
    torch = pytest.importorskip("torch")
    case = CASES[name]._replace(padding=(1, 2))
    arrays = [torch.tensor(array, requires_grad=True) for array in operands(case, dtype=dtype)]
    expected = torch.nn.functional.conv2d(*arrays, **case.keywords)
    grad_output = some_gradient(expected.shape, dtype)
    expected.backward(torch.tensor(grad_output))
    results = run_conv2d(case, operands(case, dtype=dtype), grad_output)
    expected_arrays = [expected.detach().numpy(), *(array.grad.numpy() for array in arrays)]
    assert_all_close(results, expected_arrays, dtype, terms(case, tuple(expected.shape)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "name", ["4x4 stride 2", "output padding", "output padding by dilation", "2 groups", "depthwise"]
)
def test_conv_transpose2d_equals_pytorch(name, dtype):
    torch = pytest.importorskip("torch")
    case = TRANSPOSED[name]
    arrays = [torch.tensor(array, requires_grad=True) for array in operands(case, True, dtype)]
    expected = torch.nn.functional.conv_transpose2d(*arrays, **case.keywords, output_padding=case.output_padding)
    grad_output = some_gradient(expected.shape, dtype)
    expected.backward(torch.tensor(grad_output))
    results = run_conv_transpose2d(case, operands(case, True, dtype), grad_output)
    expected_arrays = [expected.detach().numpy(), *(array.grad.numpy() for array in arrays)]
    assert_all_close(results, expected_arrays, dtype, terms(case, tuple(expected.shape), transposed=True))
