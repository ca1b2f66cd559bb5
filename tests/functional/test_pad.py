import numpy as np
import pytest

import cyconv
from cyconv import functional as F
from cyconv.gradient_check import check_gradients
from tests import references
from tests.memory_formats import FORMATS


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((2, 3, 4, 5))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("value", [0.0, -1.5, -np.inf, np.nan, 3, np.float32(2)])
@pytest.mark.parametrize("padding", [(1, 2, 3, 4), (0, 0, 0, 0), (2, 1), [0, 3, 0, 1]], ids=str)
def test_equals_reference(x, padding, value, threads, dtype, small_work_threaded):
    x = x.astype(dtype)
    left, right, top, bottom = (*padding, 0, 0)[:4]
    expected = references.pad(x, (top, bottom, left, right), value)
    with cyconv.num_threads(threads):
        output = F.pad(x, padding, value)
        grad_x = F.pad_backward(output, x, padding, value)
    assert output.dtype == grad_x.dtype == dtype
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(grad_x, x)
    np.testing.assert_array_equal(F.pad_backward(output, None, padding), x)
    assert not np.shares_memory(output, x)
    assert not np.shares_memory(grad_x, output)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_any_memory_format(x, memory_format):
    given_x = FORMATS[memory_format](x)
    output = F.pad(given_x, (1, 0, 2, 0), 1.0)
    np.testing.assert_array_equal(output, references.pad(x, (2, 0, 1, 0), 1.0))
    np.testing.assert_array_equal(given_x, x)
    assert output.transpose(0, 2, 3, 1).flags.c_contiguous
    np.testing.assert_array_equal(F.pad_backward(FORMATS[memory_format](output), given_x, (1, 0, 2, 0)), x)


def test_empty_batch(x):
    assert F.pad(x[:0], (1, 1, 1, 1)).shape == (0, 3, 6, 7)
    assert F.pad_backward(x[:0], None, (1, 1, 1, 1)).shape == (0, 3, 2, 3)


def test_torch_agrees(x):
    torch = pytest.importorskip("torch")
    expected = torch.nn.functional.pad(torch.tensor(x), (1, 2, 3, 4), value=-2.0).numpy()
    np.testing.assert_array_equal(F.pad(x, (1, 2, 3, 4), -2.0), expected)


X = np.ones((2, 3, 4, 5))
WRONG = [
    (lambda: F.pad(X.astype(int), (1, 1)), TypeError, "pad: `x` must be float32 or float64, got int64"),
    (lambda: F.pad(X, 1), ValueError, r"pad: `padding` must be \(left, right\) or \(left, right, top, bottom\), got 1"),
    (lambda: F.pad(X, (1, 1, 1)), ValueError, r"pad: `padding` must be .*, got \(1, 1, 1\)"),
    (lambda: F.pad(X, (1, -1)), ValueError, "pad: `padding` must be at least 0, got -1"),
    (lambda: F.pad(X, (1, 2**62)), ValueError, "pad: `padding` must be at most 2147483647"),
    (lambda: F.pad(X, (1, 0.5)), TypeError, "pad: `padding` must be an integer, got 0.5"),
    (
        lambda: F.pad(X.astype(np.float32), (1, 1), 1e60),
        ValueError,
        r"pad: `value` must be within float32, 3\.403e\+38 at most, got 1e\+60",
    ),
    (lambda: F.pad(X, (1, 1), -(10**400)), ValueError, r"pad: `value` must be within float64, 1\.798e\+308 at most"),
    (lambda: F.pad(X, (1, 1), "zero"), TypeError, "pad: `value` must be a number, got 'zero'"),
    (
        lambda: F.pad_backward(X, X, (1, 1)),
        ValueError,
        r"pad_backward: `grad_output` must have shape \(2, 3, 4, 7\), got \(2, 3, 4, 5\)",
    ),
    (
        lambda: F.pad_backward(X, None, (3, 2)),
        ValueError,
        r"pad_backward: `grad_output` of shape \(2, 3, 4, 5\) is all padding, \(3, 2\)",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_wrong_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


NUMPY_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("padding", [(1, 2, 3, 0), (0, 0, 0, 0), (4, 3), (0, 2, 1, 3)], ids=str)
@pytest.mark.parametrize("mode", NUMPY_MODES)
def test_modes_are_numpys(x, mode, padding, memory_format, small_work_threaded):
    left, right, top, bottom = (*padding, 0, 0)[:4]
    expected = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), NUMPY_MODES[mode])
    for threads in (1, 3):
        with cyconv.num_threads(threads):
            np.testing.assert_array_equal(F.pad(FORMATS[memory_format](x), padding, mode=mode), expected)
            grad_x = F.pad_backward(FORMATS[memory_format](expected), None, padding, mode=mode)
    assert grad_x.shape == x.shape
    np.testing.assert_allclose((grad_x * x).sum(), (expected**2).sum())  # the adjoint


@pytest.mark.parametrize("mode", ["constant", *NUMPY_MODES])
def test_gradients(x, mode):
    check_gradients(F.pad, x, backward=F.pad_backward, padding=(1, 2, 3, 2), mode=mode)


@pytest.mark.parametrize("mode", NUMPY_MODES)
def test_torch_agrees_on_modes(x, mode):
    torch = pytest.importorskip("torch")
    expected = torch.nn.functional.pad(torch.tensor(x), (1, 2, 3, 2), mode=mode).numpy()
    np.testing.assert_array_equal(F.pad(x, (1, 2, 3, 2), mode=mode), expected)


def test_modes_refuse_what_the_image_has_not():
    with pytest.raises(ValueError, match="pad: `padding` must be at most 3 for `mode` 'reflect' and 4 pixels, got 4"):
        F.pad(X, (0, 0, 4, 0), mode="reflect")
    with pytest.raises(ValueError, match="pad: `padding` must be at most 5 for `mode` 'circular' and 5 pixels, got 6"):
        F.pad(X, (0, 6), mode="circular")
    with pytest.raises(ValueError, match=r"pad: `mode` must be one of 'constant', 'reflect', .*, got 'mirror'"):
        F.pad(X, (1, 1), mode="mirror")
