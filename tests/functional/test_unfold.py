import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cyconv
from cyconv import functional as F
from cyconv._window import Axis
from cyconv.functional.unfold import columns_nhwc, columns_nhwc_adjoint
from tests import references
from tests.memory_formats import FORMATS

CASES = [  # kernel, stride, padding, dilation
    (1, 1, 0, 1),
    (3, 1, 1, 1),
    ((3, 2), (2, 1), (1, 0), (1, 2)),
    (2, 3, 0, 1),
    ((2, 3), (1, 2), ((3, 0), (1, 4)), 3),
    ((9, 11), 1, 0, 1),
    (1, 1, 3, 1),  # some windows lie wholly in the padding
]


def four(padding):
    return (*padding[0], *padding[1]) if np.ndim(padding) == 2 else padding


def unfolded(columns, N):
    """Rearrange im2col's rows as unfold's columns."""
    return columns.reshape(N, len(columns) // N, -1).transpose(0, 2, 1)


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 3, 9, 11))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_columns_equal_reference(x, rng, case, threads, dtype, small_work_threaded):
    kernel, stride, padding, dilation = case
    x = x.astype(dtype)
    expected = references.im2col(x, kernel, stride, four(padding), dilation)
    grad = rng.standard_normal(expected.shape).astype(dtype)
    expected_image = references.col2im(grad, x.shape, kernel, stride, four(padding), dilation)
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    with cyconv.num_threads(threads):
        columns, image = F.im2col(x, *case), F.col2im(grad, x.shape, *case)
        transposed = F.unfold(x, kernel, dilation, padding, stride)
        folded = F.fold(unfolded(grad, 2), x.shape[2:], kernel, dilation, padding, stride)
    assert columns.dtype == transposed.dtype == image.dtype == folded.dtype == dtype
    np.testing.assert_array_equal(columns, expected)
    np.testing.assert_array_equal(transposed, unfolded(expected, 2))
    np.testing.assert_allclose(image, expected_image, atol=tolerance)
    np.testing.assert_allclose(folded, expected_image, atol=tolerance)


@pytest.mark.parametrize("channels", [1, 3, 40])
def test_channels_innermost_is_a_reordering(rng, channels):
    x = rng.standard_normal((2, channels, 7, 6))
    arguments = (2, 3), (2, 1), ((1, 0), (2, 1)), (1, 2)
    expected = F.im2col(x, *arguments)
    axes = Axis(7, 4, 2, 2, 1), Axis(6, 5, 3, 1, 2, 2)
    columns = columns_nhwc(np.ascontiguousarray(x.transpose(0, 2, 3, 1)), axes)
    reordered = columns.reshape(-1, 6, channels).transpose(0, 2, 1).reshape(expected.shape)
    np.testing.assert_array_equal(reordered, expected)
    image = columns_nhwc_adjoint(columns, (2, 7, 6, channels), axes)
    np.testing.assert_allclose(image.transpose(0, 3, 1, 2), F.col2im(expected, x.shape, *arguments))


def test_channels_innermost_reads_a_slice_of_channels(rng):
    x = rng.standard_normal((2, 5, 5, 8))
    axes = (Axis(5, 5, 3, 1, 1),) * 2
    np.testing.assert_array_equal(columns_nhwc(x[..., 2:5], axes), columns_nhwc(x[..., 2:5].copy(), axes))


@pytest.mark.parametrize("memory_format", FORMATS)
def test_any_memory_format(x, memory_format):
    given_x = FORMATS[memory_format](x)
    before = given_x.copy()
    columns, transposed = F.im2col(given_x, 3, 2, 1), F.unfold(given_x, 3, 1, 1, 2)
    np.testing.assert_array_equal(columns, references.im2col(x, 3, 2, 1))
    np.testing.assert_array_equal(transposed, unfolded(columns, 2))
    np.testing.assert_array_equal(given_x, before)
    assert not np.shares_memory(columns, given_x)
    image = F.col2im(columns, x.shape, 3, 2, 1)
    flipped = columns[::-1, ::-1].copy()[::-1, ::-1]
    np.testing.assert_array_equal(F.col2im(flipped, x.shape, 3, 2, 1), image)
    assert image.transpose(0, 2, 3, 1).flags.c_contiguous


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_adjoint(data):
    """<im2col(x), y> = <x, col2im(y)>, for both arrangements, over the space of parameters."""
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    N, C = draw(0, 2), draw(1, 3)
    kernel, stride, dilation = (tuple(draw(1, 3) for _ in range(2)) for _ in range(3))
    padding = tuple((draw(0, 3), draw(0, 3)) for _ in range(2))
    H, W = (max(1, dilation[i] * (kernel[i] - 1) + 1 - sum(padding[i])) + draw(0, 5) for i in range(2))
    rng = np.random.default_rng(draw(0, 99))
    x = rng.standard_normal((N, C, H, W))
    columns, transposed = F.im2col(x, kernel, stride, padding, dilation), F.unfold(x, kernel, dilation, padding, stride)
    assert columns.shape[1] == transposed.shape[1] == C * kernel[0] * kernel[1]
    y, z = rng.standard_normal(columns.shape), rng.standard_normal(transposed.shape)
    image = F.col2im(y, x.shape, kernel, stride, padding, dilation)
    folded = F.fold(z, (H, W), kernel, dilation, padding, stride)
    assert image.shape == folded.shape == x.shape
    np.testing.assert_allclose(np.vdot(columns, y), np.vdot(x, image), atol=1e-10)
    np.testing.assert_allclose(np.vdot(transposed, z), np.vdot(x, folded), atol=1e-10)


def test_same_padding_gives_one_row_per_stride():
    assert F.im2col(np.ones((1, 1, 5, 5)), 3, 2, "same").shape == (9, 9)
    assert F.im2col(np.ones((1, 1, 5, 5)), 3, 2, "valid").shape == (4, 9)


def test_same_bits_for_any_number_of_threads(rng, small_work_threaded):
    columns = rng.standard_normal((2 * 81, 5 * 9)).astype(np.float32)
    images = []
    for threads in (1, 2, 3, 5):
        with cyconv.num_threads(threads):
            images.append(F.col2im(columns, (2, 5, 9, 9), 3, 1, 1))
    assert all(np.array_equal(images[0], image) for image in images)


def test_torch_agrees(x, rng):
    torch = pytest.importorskip("torch")
    columns = F.unfold(x, (3, 2), (2, 1), (1, 2), (1, 2))
    np.testing.assert_array_equal(
        columns, torch.nn.functional.unfold(torch.tensor(x), (3, 2), (2, 1), (1, 2), (1, 2)).numpy()
    )
    grad = rng.standard_normal(columns.shape)
    expected = torch.nn.functional.fold(torch.tensor(grad), (9, 11), (3, 2), (2, 1), (1, 2), (1, 2)).numpy()
    np.testing.assert_allclose(F.fold(grad, (9, 11), (3, 2), (2, 1), (1, 2), (1, 2)), expected, atol=1e-12)


ONES = np.ones((2, 3, 4, 5))
WRONG = [
    (lambda: F.im2col(ONES.astype(int), 2), TypeError, r"im2col: `x` must be float32 or float64, got int64"),
    (
        lambda: F.im2col(ONES[0], 2),
        ValueError,
        r"im2col: `x` must have 4 dimensions \(N, C, H, W\), got shape \(3, 4, 5\)",
    ),
    (
        lambda: F.unfold(ONES[:, :0], 2),
        ValueError,
        r"unfold: only the batch of `x` may be empty, got shape \(2, 0, 4, 5\)",
    ),
    (lambda: F.im2col(ONES, 5), ValueError, r"im2col: the kernel spans \(5, 5\).*more than the padded input \(4, 5\)"),
    (lambda: F.im2col(ONES, 0), ValueError, r"im2col: `kernel_size` must be at least 1, got 0"),
    (lambda: F.im2col(ONES, 2, 0), ValueError, r"im2col: `stride` must be at least 1, got 0"),
    (lambda: F.im2col(ONES, 2, 1, -1), ValueError, r"im2col: `padding` must be at least 0, got -1"),
    (lambda: F.unfold(ONES, 2, 2**62), ValueError, r"unfold: `dilation` must be at most 2147483647"),
    (lambda: F.im2col(ONES, 2, 1, 2**62), ValueError, r"im2col: `padding` must be at most 2147483647"),
    (
        lambda: F.im2col(ONES, 2**30, 1, 2**30),
        ValueError,
        r"im2col: \d+ windows of \d+ x 3 numbers do not fit into memory",
    ),
    (
        lambda: F.col2im(ONES[0, 0], ONES.shape, 2),
        ValueError,
        r"col2im: `columns` must have shape \(24, 12\), got \(4, 5\)",
    ),
    (
        lambda: F.col2im(ONES[0, 0], (3, 4, 5), 2),
        ValueError,
        r"col2im: `input_shape` must be \(N, C, H, W\), got \(3, 4, 5\)",
    ),
    (lambda: F.col2im(ONES[0, 0], (1, 0, 4, 5), 2), ValueError, r"col2im: `input_shape` must be at least 1, got 0"),
    (
        lambda: F.fold(ONES[0], 4, 3),
        ValueError,
        r"fold: `x` must have a multiple of KH \* KW = 9 rows, got shape \(3, 4, 5\)",
    ),
    (lambda: F.fold(ONES[0], 4, 2), ValueError, r"fold: `x` must have shape \(3, 4, 9\), got \(3, 4, 5\)"),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_wrong_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
