"""Convolution and pooling along one, two and three axes, by one table: what one rank can do the others can."""

import itertools

import numpy as np
import pytest
from scipy import ndimage, signal

from cyconv import functional as F
from cyconv.gradient_check import check_gradients
from tests import windows
from tests.windows import CASES, EVERY, IDS, SIZES

rng = np.random.default_rng(0)
every_case = pytest.mark.parametrize(("axes", "arguments", "each"), EVERY, ids=IDS)
every_rank = pytest.mark.parametrize("axes", [1, 2, 3])


def function(name, axes):
    """Return the function of so many axes."""
    form = next((form for form in ("_backward", "_with_winners") if name.endswith(form)), "")
    return getattr(F, f"{name.removesuffix(form)}{axes}d{form}")


def numbers(axes, channels=4):
    """Return a small batch of distinct numbers."""
    shape = 2, channels, *SIZES[axes]
    return rng.permutation(int(np.prod(shape))).reshape(shape) / 10


def of_convolution(arguments):
    return {name: value for name, value in arguments.items() if name != "kernel_size"}


@every_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_convolution_is_that_of_plain_loops(axes, arguments, each, dtype):
    x, weight = rng.standard_normal((2, 4, *SIZES[axes])), rng.standard_normal((6, 2, *(w[0] for w in each)))
    found = function("conv", axes)(x.astype(dtype), weight.astype(dtype), groups=2, **of_convolution(arguments))
    tolerance = {np.float32: 1e-5, np.float64: 1e-13}[dtype]
    np.testing.assert_allclose(found, windows.convolve(x, weight, each, 2), atol=tolerance)


@every_case
def test_convolution_is_that_of_scipy(axes, arguments, each):
    x, weight = rng.standard_normal((2, 3, *SIZES[axes])), rng.standard_normal((2, 3, *(w[0] for w in each)))
    padded = np.pad(x, [(0, 0), (0, 0), *((before, after) for _, _, before, after, _ in each)])
    spread = np.zeros((2, 3, *((kernel - 1) * dilation + 1 for kernel, _, _, _, dilation in each)))
    spread[(..., *(slice(None, None, w[4]) for w in each))] = weight
    steps = tuple(slice(None, None, w[1]) for w in each)
    expected = [[signal.correlate(image, filters, "valid")[0][steps] for filters in spread] for image in padded]
    np.testing.assert_allclose(function("conv", axes)(x, weight, **of_convolution(arguments)), expected, atol=1e-12)


@every_case
def test_convolution_gradients(axes, arguments, each):
    x, weight, bias = rng.standard_normal((2, 4, *SIZES[axes])), rng.standard_normal((6, 2, *(w[0] for w in each))), 6
    arrays = x, weight, rng.standard_normal(bias)
    keywords = {"groups": 2, **of_convolution(arguments)}
    check_gradients(
        function("conv", axes), *arrays, backward=function("conv_backward", axes), max_entries=25, **keywords
    )


@every_rank
@pytest.mark.parametrize("padding", ["valid", "full", 1, "uneven"])
def test_transposed_convolution_is_the_adjoint(axes, padding):
    """Of sums over plain loops: <conv(y), x> = <y, transposed(x)>."""
    sides = {"valid": [(0, 0)] * 3, "full": [(2, 2)] * 3, 1: [(1, 1)] * 3, "uneven": [(1, 0), (0, 1), (1, 1)]}[padding]
    padding = sides[:axes] if padding == "uneven" else padding
    each = [(3, 2, *sides[axis], 1) for axis in range(axes)]
    weight = rng.standard_normal((6, 2, *(3,) * axes))
    x = rng.standard_normal((2, 6, *(3, 4, 2)[:axes]))
    y = function("conv_transpose", axes)(x, weight, stride=2, padding=padding, output_padding=1, groups=2)
    other = rng.standard_normal(y.shape)
    forward = windows.convolve(other, weight, each, 2)[(..., *(slice(extent) for extent in x.shape[2:]))]
    np.testing.assert_allclose((y * other).sum(), (x * forward).sum())


@every_rank
def test_full_padding_is_every_place_where_they_overlap(axes):
    x, weight = rng.standard_normal((1, 1, *SIZES[axes])), rng.standard_normal((1, 1, *(2, 3, 2)[:axes]))
    turned = weight[(..., *(slice(None, None, -1),) * axes)]
    expected = signal.convolve(x, weight)
    np.testing.assert_allclose(function("conv", axes)(x, turned, padding="full"), expected, atol=1e-12)


@every_case
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_max_pooling_is_that_of_plain_loops(axes, arguments, each, ceil_mode):
    x = numbers(axes)
    expected = windows.pool(x, each, lambda inside: inside.max(axis=-1), ceil_mode)
    keywords = {"stride": 1, **arguments, "ceil_mode": ceil_mode}
    output, indices = function("max_pool", axes)(x, return_indices=True, **keywords)
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(
        np.take_along_axis(x.reshape(2, 4, -1), indices.reshape(2, 4, -1), 2), output.reshape(2, 4, -1)
    )
    np.testing.assert_array_equal(function("max_pool_with_winners", axes)(x, **keywords)[0], expected)
    check_gradients(
        function("max_pool", axes), x, backward=function("max_pool_backward", axes), max_entries=40, **keywords
    )


@every_rank
def test_max_pooling_is_that_of_scipy(axes):
    x = numbers(axes)
    expected = ndimage.maximum_filter(x, (1, 1, *(3,) * axes), mode="constant", cval=-np.inf)
    np.testing.assert_array_equal(function("max_pool", axes)(x, 3, 1, "same"), expected)
    np.testing.assert_array_equal(function("max_pool", axes)(x, 3, 1, 1), expected)


@every_case
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("divisor", [None, 5])
def test_average_pooling_is_that_of_plain_loops(axes, arguments, each, ceil_mode, divisor):
    if "dilation" in arguments:
        arguments = {name: value for name, value in arguments.items() if name != "dilation"}
        each = [(*window[:4], 1) for window in each]
    x = numbers(axes)
    mean = (lambda inside: inside.sum(axis=-1) / 5) if divisor else (lambda inside: inside.mean(axis=-1))
    keywords = {"stride": 1, **arguments, "ceil_mode": ceil_mode, "count_include_pad": False}
    keywords["divisor_override"] = divisor
    np.testing.assert_allclose(function("avg_pool", axes)(x, **keywords), windows.pool(x, each, mean, ceil_mode))
    check_gradients(
        function("avg_pool", axes), x, backward=function("avg_pool_backward", axes), max_entries=25, **keywords
    )


@every_rank
def test_average_pooling_counts_the_zeros_around(axes):
    x = numbers(axes)
    filters = np.ones((1, 1, *(3,) * axes)) / 3**axes
    expected = signal.correlate(x, filters, "same")
    np.testing.assert_allclose(function("avg_pool", axes)(x, 3, 1, 1), expected)
    np.testing.assert_allclose(function("avg_pool", axes)(x, 3, 1, "same"), expected)


@every_rank
@pytest.mark.parametrize("output", [1, 2, (2, None, 3), None])
def test_adaptive_pooling_divides_each_axis(axes, output):
    x, wanted = numbers(axes), output[:axes] if isinstance(output, tuple) else output
    sizes = wanted if isinstance(wanted, tuple) else (wanted,) * axes
    sizes = [extent if size is None else size for size, extent in zip(sizes, x.shape[2:], strict=True)]
    parts = [
        [slice(i * extent // size, -(-(i + 1) * extent // size)) for i in range(size)]
        for size, extent in zip(sizes, x.shape[2:], strict=True)
    ]
    for name, reduce in (("adaptive_max_pool", np.max), ("adaptive_avg_pool", np.mean)):
        expected = np.zeros((2, 4, *sizes))
        for index in np.ndindex(*sizes):
            box = tuple(part[i] for part, i in zip(parts, index, strict=True))
            expected[(..., *index)] = reduce(x[(..., *box)], axis=tuple(range(2, 2 + axes)))
        found = function(name, axes)(x, wanted)
        np.testing.assert_allclose(found, expected)
        backward = function(f"{name}_backward", axes)
        check_gradients(function(name, axes), x, backward=backward, max_entries=40, output_size=wanted)
    output, indices = function("adaptive_max_pool", axes)(x, wanted, return_indices=True)
    picked = np.take_along_axis(x.reshape(2, 4, -1), indices.reshape(2, 4, -1), 2)
    np.testing.assert_array_equal(picked.reshape(output.shape), output)


@every_rank
def test_global_pooling_is_the_mean(axes):
    x = numbers(axes)
    expected = x.mean(axis=tuple(range(2, 2 + axes)), keepdims=True)
    np.testing.assert_allclose(function("global_avg_pool", axes)(x), expected)
    grad = function("global_avg_pool_backward", axes)(np.ones_like(expected), input_shape=x.shape)
    np.testing.assert_allclose(grad, np.full(x.shape, 1 / np.prod(x.shape[2:])))


@every_rank
@pytest.mark.parametrize("arguments", [{"kernel_size": 2}, {"kernel_size": 2, "stride": 3, "padding": 1}], ids=str)
def test_unpooling_puts_maxima_back(axes, arguments):
    x = numbers(axes)
    output, indices = function("max_pool", axes)(x, return_indices=True, **arguments)
    found = function("max_unpool", axes)(output, indices, output_size=x.shape[2:], **arguments)
    expected = np.zeros(x.shape)
    np.put_along_axis(expected.reshape(2, 4, -1), indices.reshape(2, 4, -1), output.reshape(2, 4, -1), 2)
    np.testing.assert_array_equal(found, expected)
    grad = rng.standard_normal(x.shape)
    back = function("max_unpool_backward", axes)(grad, output, indices, output_size=x.shape[2:], **arguments)
    np.testing.assert_array_equal(
        back, np.take_along_axis(grad.reshape(2, 4, -1), indices.reshape(2, 4, -1), 2).reshape(output.shape)
    )


@every_rank
def test_unpooling_gives_the_smallest_input_by_default(axes):
    x = np.ones((1, 1, *(3,) * axes))
    places = np.zeros(x.shape, int)
    assert function("max_unpool", axes)(x, places, 3, 2, 1).shape[2:] == (5,) * axes
    assert function("max_unpool", axes)(x, places, 3, 2, ((1, 0),) * axes).shape[2:] == (6,) * axes


@every_rank
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_padding_is_numpys(axes, mode):
    x = numbers(axes)
    sides = ((1, 2), (0, 3), (2, 1))[:axes]
    widths = tuple(itertools.chain(*reversed(sides)))
    names = {"replicate": "edge", "circular": "wrap"}
    expected = np.pad(x, ((0, 0), (0, 0), *sides), names.get(mode, mode))
    np.testing.assert_array_equal(F.pad(x, widths, mode=mode), expected)
    np.testing.assert_array_equal(F.pad(x, list(widths[:2]), 3.0)[..., -1], np.full(x.shape[:-1], 3.0))
    check_gradients(F.pad, x, backward=F.pad_backward, max_entries=40, padding=widths, mode=mode)


@every_rank
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_sizes_may_be_numpys(axes, dtype):
    """Products of small integers of NumPy would wrap round."""
    size = {1: (300,), 2: (20, 30), 3: (6, 20, 7)}[axes]
    x, weight = rng.standard_normal((1, 120, *size)), rng.standard_normal((2, 120, *(3,) * axes))
    one, two = dtype(1), np.array([2] * axes, dtype)
    np.testing.assert_array_equal(
        function("conv", axes)(x, weight, None, two, one, tuple(one for _ in range(axes)), one),
        function("conv", axes)(x, weight, None, 2, 1, 1, 1),
    )
    np.testing.assert_array_equal(function("max_pool", axes)(x, dtype(3), two), function("max_pool", axes)(x, 3, 2))
    np.testing.assert_array_equal(
        function("avg_pool", axes)(x, two, divisor_override=dtype(100)),
        function("avg_pool", axes)(x, 2, divisor_override=100),
    )


LENGTH = {1: "an int", 2: "an int or a pair of ints", 3: "an int or three ints"}
LAYOUT = {1: r"\(N, C, L\)", 2: r"\(N, C, H, W\)", 3: r"\(N, C, D, H, W\)"}
SAID = {1: ("5", "2"), 2: (r"\(5, 5\)", r"\(2, 9\)"), 3: (r"\(5, 5, 5\)", r"\(2, 7, 5\)")}


@every_rank
def test_errors_speak_of_the_users_shapes(axes):
    x, weight = numbers(axes), np.ones((6, 4, *(3,) * axes))
    short = x[:, :, :2]
    span, padded = SAID[axes]
    wrong = (1,) * (axes + 1)
    for name, call in {
        "conv": lambda **keywords: function("conv", axes)(x, weight, **keywords),
        "conv_transpose": lambda **keywords: function("conv_transpose", axes)(x, weight[:4], **keywords),
        "max_pool": lambda **keywords: function("max_pool", axes)(x, 3, **keywords),
        "avg_pool": lambda **keywords: function("avg_pool", axes)(x, 3, **keywords),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}{axes}d: `stride` must be {LENGTH[axes]}, got"):
            call(stride=wrong)
        with pytest.raises(ValueError, match=f"^{name}{axes}d: `stride` must be at least 1, got 0"):
            call(stride=(*(1,) * (axes - 1), 0))
        with pytest.raises(
            ValueError, match=f'^{name}{axes}d: `padding` must be "same", "valid", "full", {LENGTH[axes]}'
        ):
            call(padding="wide")
        with pytest.raises(ValueError, match=f"^{name}{axes}d: `padding` must be .*, got .1, 1, 1, 1"):
            call(padding=(1, 1, 1, 1))
    for call, name in (
        (lambda x: function("conv", axes)(x, np.ones((1, 4, *(5,) * axes))), "conv"),
        (lambda x: function("max_pool", axes)(x, 5), "max_pool"),
        (lambda x: function("avg_pool", axes)(x, 5), "avg_pool"),
    ):
        with pytest.raises(
            ValueError, match=f"^{name}{axes}d: the kernel spans {span} .*, more than the padded input {padded}$"
        ):
            call(short)
        with pytest.raises(
            ValueError, match=f"^{name}{axes}d: `x` must have {axes + 2} dimensions {LAYOUT[axes]}, got shape"
        ):
            call(x[0])
        with pytest.raises(ValueError, match=f"^{name}{axes}d: only the batch of `x` may be empty, got shape .2, 0, "):
            call(x[:, :0])
    with pytest.raises(
        ValueError, match=rf"^conv{axes}d: `weight` must have {axes + 2} dimensions \(OC, IC // groups, .*K"
    ):
        function("conv", axes)(x, weight[0])
    with pytest.raises(
        ValueError, match=rf"^conv_transpose{axes}d: `weight` must have {axes + 2} dimensions \(IC, OC // g"
    ):
        function("conv_transpose", axes)(x, weight[0])
    with pytest.raises(ValueError, match=f"^max_pool{axes}d: `padding` must be at most half of the window, "):
        function("max_pool", axes)(x, 3, padding=2)
    with pytest.raises(ValueError, match=f"^conv_transpose{axes}d: `output_padding` must be less than `stride` or"):
        function("conv_transpose", axes)(x, weight[:4], output_padding=1)
    with pytest.raises(TypeError, match=f"^conv_transpose{axes}d: `output_padding` must be an integer, got None"):
        function("conv_transpose", axes)(x, weight[:4], output_padding=None)
    with pytest.raises(ValueError, match=f"^max_unpool{axes}d: `indices` must be within 0 and "):
        function("max_unpool", axes)(x, np.full(x.shape, 10**6), 2)
    with pytest.raises(ValueError, match=f"^adaptive_avg_pool{axes}d: `output_size` must be {LENGTH[axes]}, got"):
        function("adaptive_avg_pool", axes)(x, wrong)
    forms = ["left, right", "left, right, top, bottom", "left, right, top, bottom, front, back"]
    with pytest.raises(ValueError, match=rf"^pad: `padding` must be .*\({forms[axes - 1]}\), got"):
        F.pad(x, (1,))


@every_rank
def test_gradients_of_another_shape_are_named(axes):
    x, weight = numbers(axes), np.ones((4, 4, *(3,) * axes))
    shape = rf"\(2, 4, {', '.join(str(extent - 2) for extent in SIZES[axes])}\)"
    wanted = f"`grad_output` must have shape {shape}, got "
    for bad in (x, x[0], np.zeros(())):
        with pytest.raises(ValueError, match=f"^conv{axes}d_backward: {wanted}"):
            function("conv_backward", axes)(bad, x, weight)
        for name in ("max_pool", "avg_pool"):
            with pytest.raises(ValueError, match=f"^{name}{axes}d_backward: {wanted}"):
                function(f"{name}_backward", axes)(bad, x, 3, 1)
    for bad, kind in (((True, True), TypeError), ({}, TypeError), ((1, 1, 1), TypeError), (None, TypeError)):
        with pytest.raises(kind, match=f"^conv{axes}d_backward: `needs` must be "):
            function("conv_backward", axes)(np.ones((2, 4, *(n - 2 for n in SIZES[axes]))), x, weight, needs=bad)


def test_every_rank_has_the_same_functions():
    names = {name for name in F.__all__ if "1d" in name}
    for axes in (2, 3):
        assert names <= {name.replace(f"{axes}d", "1d") for name in F.__all__}


def test_the_cases_cover_each_rank_alike():
    assert [len(cases) for cases in CASES.values()] == [5, 5, 5]
