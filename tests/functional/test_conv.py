"""Convolution and its adjoint against plain loops, in float64, over everything a caller can choose."""

import itertools
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cyconv
from cyconv import functional as F
from cyconv import threads
from cyconv.functional import _columns, _correlation
from cyconv.gradient_check import check_gradients
from tests import references
from tests.convolutions import (
    ALGORITHMS,
    CASES,
    CHANNELS,
    DTYPES,
    TRANSPOSED,
    Case,
    assert_all_close,
    assert_close,
    assert_same_bits_for_any_threads,
    expected_of_conv2d,
    expected_of_conv_transpose2d,
    operands,
    run_conv2d,
    run_conv_transpose2d,
    some_gradient,
    terms,
)
from tests.memory_formats import FORMATS

# Against the references

ROUGHER = {"start": 20, "growth": 4.5}  # what Winograd's minimal filtering is allowed


@pytest.fixture
def winograd_calls(monkeypatch):
    """Count the calls of Winograd's kernels."""
    calls = []

    def counted(kernel):
        return lambda *arguments: (calls.append(kernel), kernel(*arguments))[1]

    kernels = _correlation.winograd_kernels
    for name in ("conv", "weight_gradient"):
        monkeypatch.setattr(kernels, name, counted(getattr(kernels, name)))
    return calls


@pytest.mark.usefixtures("small_work_threaded")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_conv2d_equals_reference(name, dtype, algorithm, winograd_calls):
    case = CASES[name]
    expected = expected_of_conv2d(case)
    arrays, grad_output = operands(case, dtype=dtype), some_gradient(expected[0].shape, dtype)
    results = assert_same_bits_for_any_threads(lambda: run_conv2d(case, arrays, grad_output, algorithm=algorithm))
    assert_all_close(results, expected, dtype, terms(case, expected[0].shape), **(ROUGHER if winograd_calls else {}))


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


@pytest.mark.parametrize("name", ["3x3 padding", "1x1 stride 2", "3 groups, stride"])
def test_im2col_an_image_at_a_time_equals_reference(name, monkeypatch):
    """As images are that have more patches than fit the workspace."""
    monkeypatch.setattr(_columns, "COLUMN_BYTES", 1)
    case = CASES[name]
    expected = expected_of_conv2d(case)
    arrays, grad_output = operands(case, dtype=np.float64), some_gradient(expected[0].shape, np.float64)
    results = run_conv2d(case, arrays, grad_output, algorithm="im2col")
    assert_all_close(results, expected, np.float64, terms(case, expected[0].shape))


# Winograd's minimal filtering in float32: 3x3 filters, or 4x4 ones of stride 2, outputs in tiles of 4x4.
WINOGRAD = {
    "whole tiles": Case((2, 16, 8, 8), 16, padding=1),
    "broken tiles": Case((2, 32, 17, 14), 48, padding=1),
    "valid": Case((3, 16, 7, 9), 32),
    "asymmetric padding": Case((2, 16, 9, 10), 16, padding=((0, 2), (3, 1))),
    "padding beyond kernel": Case((2, 16, 5, 6), 16, padding=(5, 4)),
    "several panels": Case((2, 64, 16, 16), 80, padding=1),
    "many channels": Case((1, 256, 14, 14), 128, padding=1),
    "one pixel": Case((5, 16, 1, 1), 16, padding=1),
    "one row": Case((2, 16, 1, 40), 32, padding=1),
    "one output": Case((2, 16, 3, 3), 16),
    "many images": Case((40, 32, 8, 8), 32, padding=1),
    "no images": Case((0, 16, 8, 8), 16, padding=1),
    "strided": Case((2, 16, 17, 14), 32, (4, 4), 2, 1),
    "strided, whole tiles": Case((2, 32, 16, 8), 48, (4, 4), 2, 1),
    "strided, many images": Case((40, 32, 8, 8), 32, (4, 4), 2, 1),
}
CHOSEN = ["many images", "strided, many images"]  # so is by "auto"


@pytest.mark.usefixtures("small_work_threaded")
@pytest.mark.parametrize(
    ("name", "algorithm"), [*((name, "winograd") for name in WINOGRAD), *((name, "auto") for name in CHOSEN)]
)
def test_winograd_equals_reference(name, algorithm, winograd_calls):
    case = WINOGRAD[name]
    expected = expected_of_conv2d(case)
    arrays, grad_output = operands(case, dtype=np.float32), some_gradient(expected[0].shape, np.float32)
    results = assert_same_bits_for_any_threads(lambda: run_conv2d(case, arrays, grad_output, algorithm=algorithm))
    assert len(winograd_calls) == 3 * (2 + case.stride**2)  # output, weights and phases of the input, three times
    assert_all_close(results, expected, np.float32, terms(case, expected[0].shape), **ROUGHER)


@pytest.mark.usefixtures("small_work_threaded")
@pytest.mark.parametrize("name", ["whole tiles", "valid", "one output", "no images", "strided"])
def test_transposed_winograd_equals_reference(name, winograd_calls):
    case = WINOGRAD[name]
    expected = expected_of_conv_transpose2d(case)
    arrays, grad_output = operands(case, True, np.float32), some_gradient(expected[0].shape, np.float32)
    results = assert_same_bits_for_any_threads(
        lambda: run_conv_transpose2d(case, arrays, grad_output, algorithm="winograd")
    )
    assert len(winograd_calls) == 3 * (2 + case.stride**2)
    assert_all_close(results, expected, np.float32, terms(case, expected[0].shape, transposed=True), **ROUGHER)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_winograd_spreads_what_is_not_finite_over_tiles_at_most(value):
    """Every window that sees it shows it; a window that does not, only in a tile of 4x4 whose patch of 6x6 does."""
    case = Case((2, 16, 24, 24), 16, padding=1)
    x, weight, bias = operands(case, dtype=np.float32)
    clean = F.conv2d(x, weight, bias, padding=1, algorithm="winograd")
    x[0, 3, 9, 14] = value
    output = F.conv2d(x, weight, bias, padding=1, algorithm="winograd")
    touched = np.zeros(output.shape, bool)
    touched[0, :, 8:11, 13:16] = True
    tiles = np.zeros(output.shape, bool)
    tiles[0, :, 8:12, 12:16] = True
    assert not np.isfinite(output[touched]).any()
    np.testing.assert_array_equal(output[~tiles], clean[~tiles])


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


@pytest.mark.parametrize("needs", list(itertools.product([False, True], repeat=3)), ids=str)
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


@pytest.mark.parametrize("groups", [1, 20])
def test_taps_that_only_see_padding_cost_nothing(groups):
    """The middle tap alone reads a 3x3 image under a dilation of 20000: no border of that width is laid out."""
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 20, 3, 3)), rng.standard_normal((20, 20 // groups, 3, 3))
    middle = np.ascontiguousarray(weight[:, :, 1:2, 1:2])
    wide = {"padding": "same", "dilation": 20000, "groups": groups}
    out = F.conv2d(x, weight, **wide)
    np.testing.assert_array_equal(out, F.conv2d(x, middle, groups=groups))
    grad_x, grad_weight, _ = F.conv2d_backward(out, x, weight, **wide)
    grad_x_middle, grad_middle, _ = F.conv2d_backward(out, x, middle, groups=groups)
    np.testing.assert_array_equal(grad_x, grad_x_middle)
    np.testing.assert_array_equal(grad_weight[:, :, 1:2, 1:2], grad_middle)
    assert np.count_nonzero(grad_weight) == grad_middle.size
