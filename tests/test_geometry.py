"""Output sizes by the inequalities that define them: what fits does fit, and no more would."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cyconv import _geometry as geometry

SIZES = st.integers(1, 60)
KERNELS = st.integers(1, 9)
SMALL = st.integers(1, 5)
SIDES = st.integers(0, 8)


@given(SIZES, KERNELS, SMALL, SIDES, SIDES, SMALL)
def test_convolution_has_as_many_outputs_as_windows_that_fit(size, kernel, stride, before, after, dilation):
    output = geometry.conv_output(size, kernel, stride, before, after, dilation)
    last_position = dilation * (kernel - 1)  # of a window that starts at 0
    end = size + before + after
    assert max(output, 0) * stride + last_position >= end  # one more window would end outside
    if output >= 1:
        assert (output - 1) * stride + last_position < end


@given(KERNELS, SMALL)
def test_effective_kernel_reaches_from_first_to_last_tap(kernel, dilation):
    taps = [dilation * k for k in range(kernel)]
    assert geometry.effective_kernel(kernel, dilation) == len(range(taps[0], taps[-1] + 1))


@given(SIZES, KERNELS, SMALL, SIDES, SIDES, SMALL, st.booleans())
def test_pooling_has_as_many_outputs_as_windows_that_may_be(size, kernel, stride, before, after, dilation, ceil_mode):
    span = dilation * (kernel - 1) + 1
    assume(before < span and after < span)  # no window lies wholly in the padding

    def may_be(index):
        start, end = index * stride, size + before + after
        fits = start + span <= end
        finishes = start < size + before and start - stride + span < end  # takes what the window before it left
        return fits or (ceil_mode and finishes)

    output = max(0, geometry.pool_output(size, kernel, stride, before, after, dilation, ceil_mode))
    assert all(may_be(index) for index in range(output))
    assert not may_be(output)


@given(SIZES, KERNELS, SMALL, SIDES, SIDES, SMALL, st.integers(0, 4))
def test_transposed_convolution_has_the_size_that_a_convolution_brings_back(
    size, kernel, stride, before, after, dilation, output_padding
):
    assume(output_padding < stride)
    smallest = geometry.conv_transpose_output(size, kernel, stride, before, after, dilation, 0)
    output = geometry.conv_transpose_output(size, kernel, stride, before, after, dilation, output_padding)
    assert output == smallest + output_padding
    assert geometry.conv_output(output, kernel, stride, before, after, dilation) == size
    assert geometry.conv_output(smallest - 1, kernel, stride, before, after, dilation) == size - 1


@given(SIZES, KERNELS, SMALL, SMALL)
def test_same_padding_is_the_least_that_reaches_every_stride(size, kernel, stride, dilation):
    before, after = geometry.same_padding(size, kernel, stride, dilation)
    output = geometry.conv_output(size, kernel, stride, before, after, dilation)
    assert (output - 1) * stride < size <= output * stride
    assert 0 <= after - before <= 1
    if after:
        assert geometry.conv_output(size, kernel, stride, before, after - 1, dilation) < output


@given(SIZES, st.integers(1, 60))
def test_adaptive_bounds_hold_the_positions_that_touch_their_share(size, outputs):
    """Output i's share of the axis is [i*size/outputs, (i + 1)*size/outputs), position p covers [p, p + 1)."""
    for index in range(outputs):
        start, stop = geometry.adaptive_bounds(index, size, outputs)
        touching = [p for p in range(size) if (p + 1) * outputs > index * size and p * outputs < (index + 1) * size]
        assert list(range(start, stop)) == touching
        assert touching


@pytest.mark.parametrize("large", [2**31 - 1, 2**40])
def test_large_numbers_do_not_wrap(large):
    assert geometry.conv_output(large, 1, 1, large, large, large) == 3 * large
    assert geometry.conv_output(5, 3, 1, 0, 0, large) == 5 - 2 * large
    assert geometry.conv_transpose_output(large, 3, large, 0, 0, large, 0) == (large - 1) * large + 2 * large + 1


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_mirrored_is_numpys_reflection(size):
    position = np.arange(-20, size + 20)
    expected = np.pad(np.arange(size), 20, mode="reflect") if size > 1 else np.zeros(41, int)
    np.testing.assert_array_equal(geometry.mirrored(position, size), expected)
    assert [geometry.mirrored(int(each), size) for each in position] == expected.tolist()
    half = geometry.mirrored(position.astype(np.float32) + np.float32(0.5), size)
    np.testing.assert_array_equal(half[:-1], (expected[1:] + expected[:-1]) / 2)  # as if it went on evenly between
