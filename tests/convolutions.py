"""Convolutions to test with, what the references make of them, and how far results may differ.

The test data are standard normal, so a sum of K products is of the size sqrt(K). Adding them one by one in arithmetic
of precision eps errs by 0.15 * eps * K, and the largest of many thousand such errors, whose partial sums wandered off
furthest, was measured at eight times that. So results may differ from the reference by eps * (2 + 1.5 * sqrt(K)) times
sqrt(K), in float32 by 1 to 6e-6 of their size for the K of 10 to 1000 that occur here, and unusually large results by
eps * sqrt(K) / 2 of their own. Winograd's transforms add and subtract numbers of different sizes before and after the
products, which makes the errors three times as large, and those of few products larger still.
"""

import functools
import math
from typing import Any, NamedTuple

import numpy as np

import cyconv
from cyconv import functional as F
from tests import references

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


def depthwise_at(x, kernel, stride, padding):
    return Case(x, x[1], kernel, stride, padding, groups=x[1])


CASES = {
    "1x1": Case((2, 5, 6, 7), 4, (1, 1)),
    "1x1 stride 2": Case((2, 5, 7, 8), 4, (1, 1), 2),
    "1x1 in padding": Case((2, 5, 3, 4), 4, (1, 1), padding=2),
    "many images": Case((28, 3, 7, 6), 5, (3, 2), padding=1),  # vectors along images, the last of them overlapping
    "many images, one channel": Case((32, 1, 9, 20), 6, (5, 5), padding=2),
    "many images, more channels": Case((16, 11, 5, 6), 12, padding=((0, 2), (1, 0))),
    "many images, 1x1": Case((48, 7, 3, 4), 3, (1, 1)),
    "1x1, pixels of 4 KB": Case((1, 1024, 4, 5), 130, (1, 1)),  # each apart from the next, or they share a set of L1
    "pixels of 4 KB, stride 2": Case((1, 512, 3, 6), 130, (2, 2), (1, 2), 1),
    "few images, many channels": Case((3, 40, 7, 7), 170, padding=1),  # whose blocks threads share
    "few images, many channels, minimal filtering": Case((5, 40, 7, 7), 170, padding=1),
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
    "groups of 4": Case((2, 32, 9, 17), 32, padding=1, groups=8),
    "groups of 8, stride 2": Case((2, 40, 9, 31), 40, stride=2, padding=1, groups=5),
    "groups of 5 to 3, dilation": Case((2, 20, 9, 12), 12, stride=(1, 2), padding=(2, 1), dilation=2, groups=4),
    "groups of 12, 7x7": Case((1, 24, 11, 16), 24, (7, 7), stride=2, padding=3, groups=2),
    "groups of 2 to 15": Case((2, 6, 5, 20), 45, (5, 5), padding=((1, 3), (4, 0)), groups=3),
    "groups, stride 4 and 3": Case((1, 12, 17, 40), 12, (4, 5), stride=(4, 3), padding=1, groups=3),
    "groups, 6x9": Case((1, 6, 9, 18), 12, (6, 9), padding=4, groups=3),
    "groups, stride beyond kernel": Case((2, 8, 12, 13), 8, (2, 2), stride=3, groups=2),
    "groups in one vector, many images": Case((70, 4, 3, 2), 4, padding=1, groups=2),
    "groups, padding beyond kernel": Case((2, 4, 4, 5), 6, (2, 3), padding=5, groups=2),
    "multiplier 2": Case((2, 40, 9, 33), 80, padding=1, groups=40),
    "multiplier 2, stride 2": Case((2, 17, 10, 30), 34, (5, 5), stride=2, padding=2, groups=17),
    "multiplier 3": Case((2, 11, 9, 15), 33, padding=1, groups=11),
    "multiplier 4, stride 2": Case((2, 12, 9, 16), 48, (3, 3), stride=2, padding=1, groups=12),
    "multiplier 8": Case((1, 40, 5, 6), 320, (1, 3), groups=40),
    "three to one": Case((2, 60, 9, 11), 20, padding=1, groups=20),
    "depthwise 5": depthwise(5),
    "depthwise 16": depthwise(16, padding=1),
    "depthwise 17, stride": depthwise(17, stride=(2, 1), padding=(1, 2)),
    "depthwise 40": depthwise(40, padding=1),
    "depthwise 5x5, stride 2": depthwise(33, kernel=(5, 5), stride=2, padding=2),
    "depthwise, dilation": depthwise(6, dilation=(2, 3), padding=3),
    "depthwise, asymmetric": depthwise(6, kernel=(2, 3), padding=((0, 3), (4, 0)), stride=3),
    "depthwise, padding beyond kernel": depthwise(3, kernel=(2, 2), padding=5),
    "depthwise, image in one window": Case((2, 20, 2, 3), 20, padding=1, groups=20),
    "depthwise, wide": depthwise_at((3, 20, 17, 47), (3, 3), 1, 1),
    "depthwise, many channels": depthwise_at((1, 275, 9, 8), (3, 3), 1, 1),
    "depthwise 3x3, stride 2, wide": depthwise_at((1, 32, 9, 61), (3, 3), 2, 1),
    "depthwise 7x7": depthwise_at((1, 18, 11, 19), (7, 7), 1, 3),
    "depthwise 7x7, stride 2": depthwise_at((1, 16, 11, 33), (7, 7), 2, 3),
    "depthwise 4x4": depthwise_at((1, 16, 9, 18), (4, 4), 1, 2),
    "depthwise 6x9": depthwise_at((1, 16, 9, 18), (6, 9), 1, 4),
    "depthwise 1x8, stride 3": depthwise_at((2, 16, 3, 40), (1, 8), 3, 1),
    "depthwise, few channels": depthwise_at((2, 7, 12, 25), (3, 5), 1, 2),
    "to one channel": Case((2, 33, 9, 70), 1, padding=1),
    "to three channels": Case((2, 20, 40, 12), 3, (5, 5), padding=2),
    "to eight channels": Case((3, 16, 13, 29), 8, (3, 4), padding=(0, 2)),
    "two to six channels": Case((3, 2, 14, 35), 6, (5, 5)),
    "three to whole vectors": Case((3, 3, 9, 32), 16, padding=1),
    "six to a vector, odd lines": Case((5, 6, 14, 14), 16, (5, 5)),
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
    "no images, multiplier 2": Case((0, 4, 8, 9), 8, groups=4),
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
    "groups of 8 to 4, stride 2": Case((2, 32, 5, 9), 16, (4, 4), 2, 1, groups=4),
    "groups of 4, stride 5": Case((2, 8, 4, 5), 8, (3, 6), 5, 1, groups=2),
    "multiplier 2": Case((2, 17, 4, 5), 34, (3, 3), 2, 1, groups=17, output_padding=1),
    "depthwise": Case((2, 17, 4, 5), 17, (3, 3), 2, 1, groups=17, output_padding=1),
    "depthwise 40": Case((2, 40, 4, 5), 40, (3, 3), 1, 1, groups=40),
    "3 channels, stride 2": Case((2, 20, 9, 23), 3, (7, 7), 2, 3, output_padding=1),
    "depthwise 5x5, stride 2": Case((1, 32, 6, 17), 32, (5, 5), 2, 2, groups=32, output_padding=1),
    "depthwise, one channel": Case((2, 1, 4, 5), 1, (3, 3), 1, 1),
    "rows 5 apart": Case((3, 4, 6, 8), 1, (1, 3), (5, 1), (0, 1)),
    "rows 5 apart, 1x1": Case((3, 16, 2, 19), 3, (1, 1), (5, 1)),
    "one row, stride 3": Case((3, 5, 1, 9), 2, (1, 3), (3, 1), output_padding=(2, 0)),
    "the second of 5 rows alone": Case((2, 16, 1, 17), 3, (2, 1), (5, 1), (1, 0), (2, 1), output_padding=(3, 0)),
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


def assert_close(actual, expected, dtype, terms, start=2, growth=1.5):
    """Compare with float64 `expected`, sums of `terms` products (see the module's docstring)."""
    assert actual.shape == expected.shape
    assert actual.dtype == dtype
    tolerance = np.finfo(dtype).eps * (start + growth * np.sqrt(terms)) * np.sqrt(terms + 1)  # 1: the bias
    np.testing.assert_allclose(actual, expected, rtol=np.finfo(dtype).eps * np.sqrt(terms) / 2, atol=tolerance)


def assert_all_close(actual, expected, dtype, terms, **tolerance):
    for actual_array, expected_array, count in zip(actual, expected, terms, strict=True):
        assert_close(actual_array, expected_array, dtype, count, **tolerance)


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
