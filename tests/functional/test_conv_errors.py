"""Errors of the convolutions: the op, the argument, what came and what is needed."""

import numpy as np
import pytest

from cyconv import functional as F
from tests import references
from tests.convolutions import ALGORITHMS, Case, operands

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
    "padding of three": ({"padding": (1, 1, 1)}, r"`padding` must be an int or a pair of ints, or .*, got \(1, 1, 1\)"),
    "unknown padding": ({"padding": "wide"}, r"""`padding` must be "same", "valid", "full", .*, got 'wide'"""),
    "groups 0": ({"groups": 0}, r"`groups` must be at least 1, got 0"),
    "groups 2**62": ({"groups": 2**62}, r"`groups` must be at most 2147483647"),
    "unknown algorithm": ({"algorithm": "fft"}, r"`algorithm` must be one of 'auto', 'direct', .*, got 'fft'"),
    "no algorithm": ({"algorithm": None}, r"`algorithm` must be one of 'auto', 'direct', .*, got None"),
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
    "None": ((None, FILTERS), "`x` must be an array, got None"),
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
    wanted = r"must have shape \(2, 6, 6, 6\)"
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
        r"`padding` \(5, 5\) leaves an output of size \(0, 0\); it must be at least 1 along each axis",
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
        with pytest.raises(ValueError, match=r"^conv2d: the padded input \(4294967\d+, 4294967\d+\) is too large"):
            F.conv2d(x, weight, **far, **keywords)
        with pytest.raises(ValueError, match=r"^conv2d_backward: the padded input .* is too large"):
            F.conv2d_backward(x, x, weight, **far, **keywords)
    for far in ({"dilation": 2**31 - 1}, {"stride": 2**31 - 1}):
        with pytest.raises(ValueError, match=r"^conv_transpose2d: the padded input .* is too large"):
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
