import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cyconv
from cyconv import functional as F
from tests import references
from tests.memory_formats import FORMATS

CASES = [  # kernel, stride, padding, dilation, ceil_mode
    (2, 2, 0, 1, False),
    (2, None, 0, 1, True),
    (3, 2, 1, 1, False),
    (3, 1, 1, 1, False),
    ((3, 2), (1, 3), (1, 0), (2, 1), True),
    ((2, 3), (2, 1), ((1, 0), (0, 1)), 2, False),
    (2, 3, 0, 1, False),  # gaps between windows
    ((9, 11), 1, 0, 1, False),
    (17, 4, 8, 1, True),  # more than 256 taps
    (3, 2, "same", 1, False),
]
CHANNELS = [1, 3, 11, 16, 21, 32, 70, 128]  # every block width, with and without overlap of the last block


def arguments(case):
    """Return the reference's arguments: a stride, and padding as four numbers."""
    kernel, stride, padding, dilation, ceil_mode = case
    if padding == "same":  # of 9 x 11 by 3 with stride 2
        padding = (1, 1, 1, 1)
    elif np.ndim(padding) == 2:
        padding = (*padding[0], *padding[1])
    return kernel, kernel if stride is None else stride, padding, dilation, ceil_mode


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def image(rng, channels=5, dtype=np.float64):
    """Return an image in which maxima are often shared, as after a ReLU."""
    return np.maximum(np.round(rng.standard_normal((2, channels, 9, 11)), 1), 0).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_reference(rng, case, threads, dtype, small_work_threaded):
    x = image(rng, dtype=dtype)
    expected, expected_indices = references.max_over(x, references.pool_windows(9, 11, *arguments(case)))
    grad = rng.standard_normal(expected.shape).astype(dtype)
    expected_grad = references.max_over_backward(grad, expected_indices, 9, 11)
    with cyconv.num_threads(threads):
        output, indices = F.max_pool2d(x, *case, return_indices=True)
        same, winners = F.max_pool2d_with_winners(x, *case)
        grad_x = F.max_pool2d_backward(grad, x, *case)
        again = F.max_pool2d_backward(grad, None, *case, winners=winners, input_shape=x.shape)
    assert output.dtype == grad_x.dtype == dtype
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(output, same)
    np.testing.assert_array_equal(output, F.max_pool2d(x, *case))
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_allclose(grad_x, expected_grad, rtol=1e-5 if dtype == np.float32 else 1e-12)
    np.testing.assert_array_equal(grad_x, again)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("case", CASES[:7], ids=str)
def test_any_number_of_channels(rng, case, channels):
    x = image(rng, channels)
    expected, expected_indices = references.max_over(x, references.pool_windows(9, 11, *arguments(case)))
    output, indices = F.max_pool2d(x, *case, return_indices=True)
    grad = rng.standard_normal(output.shape)
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(indices, expected_indices)
    expected_grad = references.max_over_backward(grad, expected_indices, 9, 11)
    np.testing.assert_allclose(F.max_pool2d_backward(grad, x, *case), expected_grad, rtol=1e-12)


@pytest.mark.parametrize("channels", [2, 16, 64])
def test_nan_and_infinities(rng, channels):
    x = image(rng, channels)
    x[rng.random(x.shape) < 0.2] = np.nan
    x[:, :, :4] = -np.inf
    expected, expected_indices = references.max_over(x, references.pool_windows(9, 11, 3, 2, 1))
    output, indices = F.max_pool2d(x, 3, 2, 1, return_indices=True)
    assert np.isnan(output).any()
    assert np.isneginf(output).any()
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(indices, expected_indices)
    grad = rng.standard_normal(output.shape)
    grad[:, :, 0] = np.nan
    expected_grad = references.max_over_backward(grad, expected_indices, 9, 11)
    np.testing.assert_allclose(F.max_pool2d_backward(grad, x, 3, 2, 1), expected_grad, rtol=1e-12)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_any_memory_format(rng, memory_format):
    x, change = image(rng), FORMATS[memory_format]
    given_x = change(x)
    output, winners = F.max_pool2d_with_winners(given_x, 3, 2, 1)
    expected, indices = references.max_over(x, references.pool_windows(9, 11, 3, 2, 1))
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(given_x, x)
    assert output.transpose(0, 2, 3, 1).flags.c_contiguous
    grad = rng.standard_normal(output.shape)
    grad_x = F.max_pool2d_backward(change(grad), given_x, 3, 2, 1, winners=winners)
    np.testing.assert_allclose(grad_x, references.max_over_backward(grad, indices, 9, 11), rtol=1e-12)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_parameters(data):
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    N, C, H, W = draw(0, 2), draw(1, 3), draw(3, 8), draw(3, 8)
    kernel, stride, dilation = tuple(draw(1, 3) for _ in "hw"), (draw(1, 4), draw(1, 4)), (draw(1, 3), draw(1, 3))
    most = [(dilation[i] * (kernel[i] - 1) + 1) // 2 for i in (0, 1)]
    padding = [(draw(0, m), draw(0, m)) for m in most]
    for i, size in enumerate((H, W)):  # let a window fit
        if size + sum(padding[i]) < dilation[i] * (kernel[i] - 1) + 1:
            padding[i] = (most[i], most[i])
    case = kernel, stride, padding, dilation, data.draw(st.booleans())
    rng = np.random.default_rng(draw(0, 99))
    x = np.round(rng.standard_normal((N, C, H, W)), 1)
    places = list(references.pool_windows(H, W, *arguments(case)))
    expected, expected_indices = references.max_over(x, places)
    output, indices = F.max_pool2d(x, *case, return_indices=True)
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(indices, expected_indices)
    grad = rng.standard_normal(output.shape)
    grad_x = F.max_pool2d_backward(grad, x, *case)
    np.testing.assert_allclose(grad_x, references.max_over_backward(grad, expected_indices, H, W), atol=1e-12)


@pytest.mark.parametrize("output_size", [1, (3, 4), (9, 11), (12, 5)], ids=str)
@pytest.mark.parametrize("channels", [2, 20])
def test_adaptive(rng, output_size, channels):
    x = image(rng, channels)
    expected, expected_indices = references.max_over(x, references.adaptive_windows(9, 11, output_size))
    output, indices = F.adaptive_max_pool2d(x, output_size, return_indices=True)
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(output, F.adaptive_max_pool2d(x, output_size))
    np.testing.assert_array_equal(indices, expected_indices)
    grad = rng.standard_normal(output.shape)
    expected_grad = references.max_over_backward(grad, expected_indices, 9, 11)
    np.testing.assert_allclose(F.adaptive_max_pool2d_backward(grad, x, output_size), expected_grad, atol=1e-12)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("channels", [3, 40])
def test_unpool_inverts_where_windows_do_not_overlap(rng, channels, threads, small_work_threaded):
    x = rng.standard_normal((2, channels, 9, 11))
    output, indices = F.max_pool2d(x, 2, return_indices=True)
    expected = np.zeros(x.shape)
    np.put_along_axis(
        expected.reshape(2, channels, -1), indices.reshape(2, channels, -1), output.reshape(2, channels, -1), 2
    )
    with cyconv.num_threads(threads):
        np.testing.assert_array_equal(F.max_unpool2d(output, indices, 2, output_size=(9, 11)), expected)
        grad = rng.standard_normal(x.shape)
        grad_x = F.max_unpool2d_backward(grad, output, indices, 2, output_size=(9, 11))
    picked = np.take_along_axis(grad.reshape(2, channels, -1), indices.reshape(2, channels, -1), 2)
    np.testing.assert_array_equal(grad_x, picked.reshape(output.shape))


def test_unpool_keeps_the_last_of_equal_indices():
    x = np.arange(1.0, 5.0).reshape(1, 1, 2, 2)
    assert F.max_unpool2d(x, np.full(x.shape, 7), 2, 2)[0, 0, 1, 3] == 4


def test_unpool_default_size():
    x, indices = np.ones((1, 1, 3, 4)), np.zeros((1, 1, 3, 4), int)
    assert F.max_unpool2d(x, indices, 3, 2, 1).shape == (1, 1, 5, 7)


def test_same_bits_for_any_number_of_threads(rng, small_work_threaded):
    x = rng.standard_normal((2, 70, 40, 11)).astype(np.float32)
    grads = []
    for threads in (1, 2, 3, 5):
        with cyconv.num_threads(threads):
            output, winners = F.max_pool2d_with_winners(x, 5, 1, 2)
            grad = output**2
            grads.append(F.max_pool2d_backward(grad, x, 5, 1, 2, winners=winners))
    assert all(np.array_equal(grads[0], grad) for grad in grads)


@pytest.mark.parametrize("channels", [1, 3, 5, 11, 17])
@pytest.mark.parametrize("kernel", [2, (3, 2)])
def test_threads_keep_to_their_rows(rng, kernel, channels, small_work_threaded):
    """Few channels are written a vector at a time, which must not reach the rows of another thread."""
    x = rng.standard_normal((3, channels, 7, 5)).astype(np.float32)
    results = []
    for threads in range(1, 23):
        with cyconv.num_threads(threads):
            output, winners = F.max_pool2d_with_winners(x, kernel)
            results.append((output, winners, F.max_pool2d_backward(output, x, kernel, winners=winners)))
    for arrays in results[1:]:
        for first, second in zip(results[0], arrays, strict=True):
            np.testing.assert_array_equal(first, second)


def test_winners_are_compact(rng):
    x = image(rng)
    assert F.max_pool2d_with_winners(x, 2)[1].dtype == np.uint8
    assert F.max_pool2d_with_winners(x, 17, 17, 8)[1].dtype == np.int32


def test_empty_batch(rng):
    x = np.ones((0, 3, 6, 6), np.float32)
    output, indices = F.max_pool2d(x, 2, return_indices=True)
    assert output.shape == indices.shape == (0, 3, 3, 3)
    assert F.max_pool2d_backward(output, x, 2).shape == x.shape
    assert F.max_unpool2d(output, indices, 2).shape == x.shape
    assert F.max_unpool2d_backward(x, output, indices, 2).shape == output.shape


def test_any_winners_are_harmless(rng):
    """Winners that no forward could have returned name no position; memory stays intact."""
    grad = np.ones((1, 70, 3, 3))
    winners = rng.integers(0, 9, (1, 3, 3, 70)).astype(np.uint8)  # some in the padding
    total = F.max_pool2d_backward(grad, None, 3, 2, 1, winners=winners, input_shape=(1, 70, 5, 5)).sum()
    assert total <= grad.sum()


def test_torch_agrees(rng):
    torch = pytest.importorskip("torch")
    for kernel, stride, padding, dilation, ceil_mode in CASES[:5]:
        x = image(rng)
        tensor = torch.tensor(x, requires_grad=True)
        expected, expected_indices = torch.nn.functional.max_pool2d(
            tensor, kernel, stride, padding, dilation, ceil_mode, return_indices=True
        )
        output, indices = F.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode, return_indices=True)
        np.testing.assert_array_equal(output, expected.detach().numpy())
        np.testing.assert_array_equal(indices, expected_indices.numpy())
        grad = rng.standard_normal(output.shape)
        expected.backward(torch.tensor(grad))
        grad_x = F.max_pool2d_backward(grad, x, kernel, stride, padding, dilation, ceil_mode)
        np.testing.assert_allclose(grad_x, tensor.grad.numpy(), rtol=1e-12)


X = np.ones((2, 3, 4, 5))
Y = np.ones((2, 3, 2, 2))
ZEROS = np.zeros((2, 3, 2, 2), int)
WRONG = [
    (lambda: F.max_pool2d(X.astype(int), 2), TypeError, "max_pool2d: `x` must be float32 or float64, got int64"),
    (lambda: F.max_pool2d(X[0], 2), ValueError, r"max_pool2d: `x` must have 4 dimensions \(N, C, H, W\)"),
    (lambda: F.max_pool2d(X[:, :, :0], 2), ValueError, r"max_pool2d: only the batch of `x` may be empty"),
    (lambda: F.max_pool2d(X, 0), ValueError, "max_pool2d: `kernel_size` must be at least 1, got 0"),
    (lambda: F.max_pool2d(X, 2, 0), ValueError, "max_pool2d: `stride` must be at least 1, got 0"),
    (lambda: F.max_pool2d(X, 2, 2.0), TypeError, "max_pool2d: `stride` must be an integer, got 2.0"),
    (lambda: F.max_pool2d(X, 2, 2**62), ValueError, "max_pool2d: `stride` must be at most 2147483647"),
    (lambda: F.max_pool2d(X, 2, 2, 0, 2**62), ValueError, "max_pool2d: `dilation` must be at most 2147483647"),
    (
        lambda: F.max_pool2d(X, 3, 1, 2),
        ValueError,
        r"max_pool2d: `padding` must be at most half of the window, \(3, 3\), got \(2, 2\)",
    ),
    (
        lambda: F.max_pool2d(X, 5),
        ValueError,
        r"max_pool2d: the kernel spans \(5, 5\) \(`dilation` included\), more than the padded input \(4, 5\)",
    ),
    (
        lambda: F.max_pool2d(X, 2, 1, 4, 8),
        ValueError,
        r"max_pool2d: `dilation` \(8, 8\) steps over all of the input \(4, 5\): some windows are empty",
    ),
    (
        lambda: F.max_pool2d(X, 2**16, 1, 2**15),
        ValueError,
        r"max_pool2d: `kernel_size` must have at most 2147483647 positions, got \(65536, 65536\)",
    ),
    (lambda: F.adaptive_max_pool2d(X, 0), ValueError, "adaptive_max_pool2d: `output_size` must be at least 1, got 0"),
    (
        lambda: F.max_pool2d_backward(Y[:, :2], X, 2),
        ValueError,
        r"max_pool2d_backward: `grad_output` must have shape \(2, 3, 2, 2\), got \(2, 2, 2, 2\)",
    ),
    (
        lambda: F.max_pool2d_backward(Y.astype(np.float32), X, 2),
        TypeError,
        "max_pool2d_backward: all arrays must have the same dtype",
    ),
    (lambda: F.max_pool2d_backward(Y, None, 2), ValueError, "max_pool2d_backward: `x` or `input_shape` is needed"),
    (
        lambda: F.max_pool2d_backward(Y, None, 2, input_shape=X.shape),
        ValueError,
        "max_pool2d_backward: without `winners`, `x` is needed",
    ),
    (
        lambda: F.max_pool2d_backward(Y, X, 2, winners=np.zeros((2, 2, 2, 3))),
        TypeError,
        "max_pool2d_backward: `winners` must be uint8, got float64",
    ),
    (
        lambda: F.max_pool2d_backward(Y, X, 2, winners=np.full((2, 2, 2, 3), 4, np.uint8)),
        ValueError,
        "max_pool2d_backward: `winners` must be 0 to 3, got 0 to 4",
    ),
    (
        lambda: F.max_pool2d_backward(Y, X, 2, winners=np.zeros((2, 3, 2, 2), np.uint8)),
        ValueError,
        r"max_pool2d_backward: `winners` must have shape \(2, 2, 2, 3\), got \(2, 3, 2, 2\)",
    ),
    (lambda: F.max_pool2d(X, 2, ceil_mode="no"), TypeError, "max_pool2d: `ceil_mode` must be True or False, got 'no'"),
    (lambda: F.max_unpool2d(Y, Y, 2), TypeError, "max_unpool2d: `indices` must be integers, got float64"),
    (
        lambda: F.max_unpool2d(Y, ZEROS[:1], 2),
        ValueError,
        r"max_unpool2d: `indices` must have shape \(2, 3, 2, 2\) like `x`, got \(1, 3, 2, 2\)",
    ),
    (
        lambda: F.max_unpool2d(Y, ZEROS + 16, 2),
        ValueError,
        r"max_unpool2d: `indices` must be within 0 and 15 for a result of size \(4, 4\), got 16 to 16",
    ),
    (lambda: F.max_unpool2d(Y, ZEROS - 1, 2), ValueError, "max_unpool2d: `indices` must be within 0 and 15"),
    (
        lambda: F.max_unpool2d(Y, ZEROS, 2, 1, 2),
        ValueError,
        r"max_unpool2d: `padding` \(2, 2\) leaves an output of size \(-1, -1\); it must be at least 1 along each axis",
    ),
    (
        lambda: F.max_unpool2d_backward(X, Y, ZEROS, 2),
        ValueError,
        r"max_unpool2d_backward: `grad_output` must have shape \(2, 3, 4, 4\), got \(2, 3, 4, 5\)",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_wrong_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("winner", [-1, 17 * 17, 2**31 - 1])
def test_winners_outside_a_large_window_are_refused(winner):
    winners = np.full((1, 2, 2, 3), winner, np.int32)
    with pytest.raises(ValueError, match=r"^max_pool2d_backward: `winners` must be 0 to 288, got "):
        F.max_pool2d_backward(np.ones((1, 3, 2, 2)), None, 17, winners=winners, input_shape=(1, 3, 34, 34))
