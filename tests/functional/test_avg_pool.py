import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cyconv
from cyconv import functional as F
from tests import references
from tests.memory_formats import FORMATS

CASES = [  # kernel, stride, padding, ceil_mode, count_include_pad
    (2, 2, 0, False, True),
    (2, None, 0, True, True),
    (3, 2, 1, False, True),
    (3, 2, 1, True, False),
    (3, 1, 1, False, False),
    ((3, 4), (1, 3), (1, 2), True, True),
    ((2, 3), (2, 1), ((1, 0), (0, 1)), False, True),
    (2, 3, 0, False, True),  # gaps between windows
    ((9, 11), 1, 0, False, True),
    (17, 4, 8, True, True),
    (3, 2, "same", False, False),
]
CHANNELS = [1, 3, 11, 16, 21, 32, 70, 128]  # every block width, with and without overlap of the last block


def places(case, H=9, W=11):
    kernel, stride, padding, ceil_mode, _ = case
    if padding == "same":  # of 9 x 11 by 3 with stride 2
        padding = (1, 1, 1, 1)
    elif np.ndim(padding) == 2:
        padding = (*padding[0], *padding[1])
    return list(references.pool_windows(H, W, kernel, stride or kernel, padding, 1, ceil_mode))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def image(rng, channels=5, dtype=np.float64):
    return rng.standard_normal((2, channels, 9, 11)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_reference(rng, case, threads, dtype, small_work_threaded):
    x, tolerance = image(rng, dtype=dtype), 2e-6 if dtype == np.float32 else 1e-14
    expected = references.average_over(x, places(case), case[4])
    grad = rng.standard_normal(expected.shape).astype(dtype)
    expected_grad = references.average_over_backward(grad, places(case), 9, 11, case[4])
    with cyconv.num_threads(threads):
        output = F.avg_pool2d(x, *case)
        grad_x = F.avg_pool2d_backward(grad, x, *case)
        again = F.avg_pool2d_backward(grad, None, *case, input_shape=x.shape)
    assert output.dtype == grad_x.dtype == dtype
    np.testing.assert_allclose(output, expected, atol=tolerance)
    np.testing.assert_allclose(grad_x, expected_grad, atol=tolerance)
    np.testing.assert_array_equal(grad_x, again)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("case", CASES[:8], ids=str)
def test_any_number_of_channels(rng, case, channels):
    x = image(rng, channels)
    output = F.avg_pool2d(x, *case)
    grad = rng.standard_normal(output.shape)
    np.testing.assert_allclose(output, references.average_over(x, places(case), case[4]), atol=1e-14)
    expected_grad = references.average_over_backward(grad, places(case), 9, 11, case[4])
    np.testing.assert_allclose(F.avg_pool2d_backward(grad, x, *case), expected_grad, atol=1e-14)


def test_divisor_override(rng):
    x, parameters = image(rng), (3, 2, 1, True, False, 5)
    expected = references.average_over(x, places(parameters[:5]), divisor_override=5)
    output = F.avg_pool2d(x, *parameters)
    np.testing.assert_allclose(output, expected, atol=1e-14)
    expected_grad = references.average_over_backward(output, places(parameters[:5]), 9, 11, divisor_override=5)
    np.testing.assert_allclose(F.avg_pool2d_backward(output, x, *parameters), expected_grad, atol=1e-14)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_any_memory_format(rng, memory_format):
    x, change, case = image(rng), FORMATS[memory_format], CASES[3]
    given_x = change(x)
    output = F.avg_pool2d(given_x, *case)
    np.testing.assert_allclose(output, references.average_over(x, places(case), False), atol=1e-14)
    np.testing.assert_array_equal(given_x, x)
    assert output.transpose(0, 2, 3, 1).flags.c_contiguous
    grad = rng.standard_normal(output.shape)
    expected_grad = references.average_over_backward(grad, places(case), 9, 11, False)
    np.testing.assert_allclose(F.avg_pool2d_backward(change(grad), given_x, *case), expected_grad, atol=1e-14)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_parameters(data):
    """Against the reference, and <pool(x), y> = <x, backward(y)>: pooling is linear."""
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    N, C, H, W = draw(0, 2), draw(1, 3), draw(3, 8), draw(3, 8)
    kernel, stride = (draw(1, 3), draw(1, 3)), (draw(1, 4), draw(1, 4))
    padding = [(draw(0, size // 2), draw(0, size // 2)) for size in kernel]
    case = kernel, stride, padding, data.draw(st.booleans()), data.draw(st.booleans())
    rng = np.random.default_rng(draw(0, 99))
    x = rng.standard_normal((N, C, H, W))
    output = F.avg_pool2d(x, *case)
    np.testing.assert_allclose(output, references.average_over(x, places(case, H, W), case[4]), atol=1e-13)
    y = rng.standard_normal(output.shape)
    np.testing.assert_allclose(np.vdot(output, y), np.vdot(x, F.avg_pool2d_backward(y, x, *case)), atol=1e-12)


@pytest.mark.parametrize("output_size", [1, (3, 4), (9, 11), (12, 5)], ids=str)
@pytest.mark.parametrize("channels", [2, 20, 64])
def test_adaptive(rng, output_size, channels):
    x, parts = image(rng, channels), list(references.adaptive_windows(9, 11, output_size))
    output = F.adaptive_avg_pool2d(x, output_size)
    np.testing.assert_allclose(output, references.average_over(x, parts), atol=1e-14)
    grad = rng.standard_normal(output.shape)
    expected_grad = references.average_over_backward(grad, parts, 9, 11)
    np.testing.assert_allclose(F.adaptive_avg_pool2d_backward(grad, x, output_size), expected_grad, atol=1e-14)
    np.testing.assert_allclose(
        F.adaptive_avg_pool2d_backward(grad, output_size=output_size, input_shape=x.shape), expected_grad, atol=1e-14
    )


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("channels", [2, 20, 64, 200, 2100])
def test_global(rng, channels, threads, small_work_threaded):
    """Channels are shared out where images are fewer than threads."""
    x = rng.standard_normal((1, channels, 9, 11))
    with cyconv.num_threads(threads):
        output = F.global_avg_pool2d(x)
        grad_x = F.global_avg_pool2d_backward(output, input_shape=x.shape)
    assert output.shape == (1, channels, 1, 1)
    np.testing.assert_allclose(output, x.mean(axis=(2, 3), keepdims=True), atol=1e-14)
    np.testing.assert_allclose(grad_x, np.broadcast_to(output / 99, x.shape), atol=1e-14)
    with cyconv.num_threads(1):
        np.testing.assert_array_equal(output, F.global_avg_pool2d(x))


def test_large_window_keeps_precision():
    x = np.random.default_rng(0).random((1, 2, 300, 300)).astype(np.float32)
    np.testing.assert_allclose(F.global_avg_pool2d(x), x.mean(axis=(2, 3), keepdims=True, dtype=np.float64), rtol=2e-6)


def test_nan_stays_in_its_windows(rng):
    x = image(rng)
    x[0, 1, 4, 5] = np.nan
    assert np.isnan(F.avg_pool2d(x, 3, 1)).sum() == 9


def test_same_bits_for_any_number_of_threads(rng, small_work_threaded):
    x = rng.standard_normal((2, 70, 12, 11)).astype(np.float32)
    results = []
    for threads in (1, 2, 3, 5):
        with cyconv.num_threads(threads):
            output = F.avg_pool2d(x, 5, 1, 2)
            results.append((output, F.avg_pool2d_backward(output, x, 5, 1, 2)))
    for output, grad_x in results:
        np.testing.assert_array_equal(output, results[0][0])
        np.testing.assert_array_equal(grad_x, results[0][1])


@pytest.mark.parametrize("channels", [1, 3, 5, 11, 17])
@pytest.mark.parametrize("kernel", [2, (3, 2)])
@pytest.mark.parametrize("stride", [None, 1])
def test_threads_keep_to_their_rows(rng, stride, kernel, channels, small_work_threaded):
    """Few channels are written a vector at a time, which must not reach the rows of another thread."""
    x = rng.standard_normal((3, channels, 7, 5)).astype(np.float32)
    results = []
    for threads in range(1, 23):
        with cyconv.num_threads(threads):
            output = F.avg_pool2d(x, kernel, stride)
            results.append((output, F.avg_pool2d_backward(output, x, kernel, stride)))
    for output, grad_x in results[1:]:
        np.testing.assert_array_equal(output, results[0][0])
        np.testing.assert_array_equal(grad_x, results[0][1])


def test_empty_batch():
    x = np.ones((0, 3, 6, 6), np.float32)
    output = F.avg_pool2d(x, 2)
    assert output.shape == (0, 3, 3, 3)
    assert F.avg_pool2d_backward(output, x, 2).shape == x.shape
    assert F.global_avg_pool2d(x).shape == (0, 3, 1, 1)


def test_torch_agrees(rng):
    torch = pytest.importorskip("torch")
    for kernel, stride, padding, ceil_mode, include in CASES[:6]:
        x = image(rng)
        tensor = torch.tensor(x, requires_grad=True)
        expected = torch.nn.functional.avg_pool2d(tensor, kernel, stride, padding, ceil_mode, include)
        output = F.avg_pool2d(x, kernel, stride, padding, ceil_mode, include)
        np.testing.assert_allclose(output, expected.detach().numpy(), atol=1e-14)
        grad = rng.standard_normal(output.shape)
        expected.backward(torch.tensor(grad))
        grad_x = F.avg_pool2d_backward(grad, x, kernel, stride, padding, ceil_mode, include)
        np.testing.assert_allclose(grad_x, tensor.grad.numpy(), atol=1e-14)


X = np.ones((2, 3, 4, 5))
Y = np.ones((2, 3, 2, 2))
WRONG = [
    (lambda: F.avg_pool2d(X.astype(np.float16), 2), TypeError, "avg_pool2d: `x` must be float32 or float64"),
    (lambda: F.avg_pool2d(X[:, :0], 2), ValueError, r"avg_pool2d: only the batch of `x` may be empty"),
    (lambda: F.avg_pool2d(X, (2, 2, 2)), ValueError, "avg_pool2d: `kernel_size` must be an int or a pair of ints"),
    (lambda: F.avg_pool2d(X, 2, 2**62), ValueError, "avg_pool2d: `stride` must be at most 2147483647"),
    (lambda: F.avg_pool2d(X, 2, 2, 2), ValueError, "avg_pool2d: `padding` must be at most half of the window"),
    (lambda: F.avg_pool2d(X, 2, 2, "wide"), ValueError, 'avg_pool2d: `padding` must be "same", "valid"'),
    (lambda: F.avg_pool2d(X, 5), ValueError, r"avg_pool2d: the kernel spans \(5, 5\)"),
    (
        lambda: F.avg_pool2d(X, 2, divisor_override=0),
        ValueError,
        "avg_pool2d: `divisor_override` must be at least 1, got 0",
    ),
    (lambda: F.adaptive_avg_pool2d(X, (2, 0)), ValueError, "adaptive_avg_pool2d: `output_size` must be at least 1"),
    (
        lambda: F.adaptive_avg_pool2d(X[:0], 2**31 - 1),
        ValueError,
        r"adaptive_avg_pool2d: `output_size` must be at most 65536, got \(2147483647, 2147483647\)",
    ),
    (lambda: F.global_avg_pool2d(X[0]), ValueError, "global_avg_pool2d: `x` must have 4 dimensions"),
    (
        lambda: F.avg_pool2d_backward(Y[:1], X, 2),
        ValueError,
        r"avg_pool2d_backward: `grad_output` must have shape \(2, 3, 2, 2\), got \(1, 3, 2, 2\)",
    ),
    (lambda: F.avg_pool2d_backward(Y, None, 2), ValueError, "avg_pool2d_backward: `x` or `input_shape` is needed"),
    (
        lambda: F.avg_pool2d_backward(Y, None, 2, input_shape=(3, 4, 5)),
        ValueError,
        r"avg_pool2d_backward: `input_shape` must be \(N, C, H, W\), got \(3, 4, 5\)",
    ),
    (
        lambda: F.global_avg_pool2d_backward(Y, X),
        ValueError,
        r"global_avg_pool2d_backward: `grad_output` must have shape \(2, 3, 1, 1\), got \(2, 3, 2, 2\)",
    ),
    (
        lambda: F.adaptive_avg_pool2d_backward(Y, X.astype(np.float32), 2),
        TypeError,
        "adaptive_avg_pool2d_backward: all arrays must have the same dtype",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_wrong_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_gradient_of_long_windows_needs_no_table_of_all_their_positions():
    """Among 30,000 elements windows of 3,000 read 81 million positions."""
    size, kernel = 30_000, 3_000
    grad = np.random.default_rng(0).standard_normal((1, 1, size - kernel + 1))
    total = np.concatenate([[0.0], np.cumsum(grad[0, 0])])
    stop = np.arange(1, size + 1)
    expected = (total[np.minimum(stop, len(total) - 1)] - total[np.maximum(stop - kernel, 0)]) / kernel
    tracemalloc.start()
    try:
        found = F.avg_pool1d_backward(grad, None, kernel, 1, input_shape=(1, 1, size))
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-12)


def test_gradients_of_many_lengths_keep_few_bytes():
    for size in range(3_000, 3_060):
        F.avg_pool1d_backward(np.ones((1, 1, size - 299)), None, 300, 1, input_shape=(1, 1, size))
    assert cyconv.memory.statistics()["tables"] <= 32 * 2**20
