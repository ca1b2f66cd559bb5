import numpy as np
import pytest
from scipy import ndimage, signal

import cyconv
from cyconv import image
from cyconv._boundary import BOUNDARIES
from cyconv.image.correlation import factored
from tests.image import oracles
from tests.image.oracles import photograph
from tests.memory_formats import PICTURES

RNG = np.random.default_rng(0)
KERNELS = {
    "1x1": np.array([[-2.5]]),
    "row": RNG.standard_normal((1, 4)),
    "column": RNG.standard_normal((5, 1)),
    "3x3": RNG.standard_normal((3, 3)),
    "4x6": RNG.standard_normal((4, 6)),
    "9x2": RNG.standard_normal((9, 2)),
    "rank one": np.outer(RNG.standard_normal(5), RNG.standard_normal(6)),
    "zeros within": np.array([[0, 1, 0], [0, 0, -3], [2, 0, 0]]),
    "zeros": np.zeros((3, 2)),
}
# Smaller than a kernel, narrower than a vector, several strips wide; one pixel, in colour, many channels.
SHAPES = [(1, 1), (2, 3), (1, 40), (37, 1), (45, 91), (3, 4500), (1, 1, 3), (19, 23, 3), (5, 700, 4), (6, 7, 33)]
each_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def tolerance(dtype, kernel, x):
    return (1e-12 if dtype == np.float64 else 2e-6) * max(1.0, np.abs(kernel).sum() * np.abs(x).max(initial=0))


@each_kernel
@each_shape
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_boundaries_and_centres_are_ndimages(boundary, shape, kernel):
    as_array = kernel if len(shape) == 2 else kernel[:, :, None]
    for dtype in (np.float64, np.float32, np.uint8):
        x = photograph(shape, dtype)
        for name in ("correlate", "convolve"):
            function, peer = getattr(image, name), getattr(ndimage, name)
            output = function(x, kernel, boundary=boundary, cval=7.25, origin=0)
            expected = peer(x, as_array, np.float64, mode=boundary, cval=7.25)
            assert output.shape == shape
            if dtype == np.uint8:
                oracles.assert_rounds_to(output, expected)
            else:
                assert output.dtype == dtype
                np.testing.assert_allclose(output, expected, rtol=0, atol=tolerance(dtype, kernel, x))


@each_kernel
@each_shape
@pytest.mark.parametrize("mode", ["same", "valid", "full"])
def test_modes_are_signals(mode, shape, kernel):
    x = photograph(shape, np.float64)
    if mode == "valid" and (kernel.shape[0] > shape[0] or kernel.shape[1] > shape[1]):
        with pytest.raises(ValueError, match=r"correlate: `kernel` of shape .* must fit into `image` of \d+ rows"):
            image.correlate(x, kernel, mode)
        return
    for name in ("correlate", "convolve"):
        output = getattr(image, name)(x, kernel, mode, cval=3.0)
        planes = [x] if x.ndim == 2 else np.moveaxis(x, -1, 0)
        found = [output] if x.ndim == 2 else np.moveaxis(output, -1, 0)
        for plane, result in zip(planes, found, strict=True):
            expected = getattr(signal, f"{name}2d")(plane, kernel, mode, fillvalue=3.0)
            np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance(np.float64, kernel, x))


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_full_result_continues_the_image_too(boundary):
    x, kernel = photograph((4, 6), np.float64), KERNELS["4x6"]
    expected = oracles.correlate(x, kernel, (3, 5), (3, 5), boundary, 2.0)
    np.testing.assert_allclose(image.correlate(x, kernel, "full", boundary, 2.0), expected, atol=1e-10)
    turned = kernel[::-1, ::-1]
    np.testing.assert_allclose(image.convolve(x, turned, "full", boundary, 2.0), expected, atol=1e-10)


@pytest.mark.parametrize("origin", [0, (-2, 2), (1, -3), (1, 2), (-2, -3)], ids=str)
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_origins_are_ndimages(boundary, origin):
    x, kernel = photograph((9, 8), np.float64), KERNELS["4x6"]
    for name in ("correlate", "convolve"):
        output = getattr(image, name)(x, kernel, boundary=boundary, cval=1.5, origin=origin)
        expected = getattr(ndimage, name)(x, kernel, mode=boundary, cval=1.5, origin=origin)
        np.testing.assert_allclose(output, expected, atol=1e-10)


@pytest.mark.parametrize("memory_format", PICTURES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_any_memory_format(dtype, memory_format, small_work_threaded):
    x = photograph((13, 70, 3), dtype)
    given = PICTURES[memory_format](x)
    for kernel in (KERNELS["4x6"], KERNELS["rank one"]):
        expected = image.correlate(x, kernel, boundary="wrap")
        np.testing.assert_array_equal(image.correlate(given, kernel, boundary="wrap"), expected)
        gray = image.correlate(given[:, :, 1], kernel, boundary="wrap")
        np.testing.assert_array_equal(gray, expected[:, :, 1])
    np.testing.assert_array_equal(given, x)


@pytest.mark.parametrize("shape", [(70, 900), (70, 301, 3), (2, 5000), (300, 4)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_the_same_bits_for_any_number_of_threads(dtype, shape, small_work_threaded):
    x = photograph(shape, dtype)
    for kernel in KERNELS.values():
        with cyconv.num_threads(1):
            expected = image.correlate(x, kernel, boundary="mirror")
        for threads in (2, 3):
            with cyconv.num_threads(threads):
                np.testing.assert_array_equal(image.correlate(x, kernel, boundary="mirror"), expected)


@pytest.mark.parametrize("given", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("wanted", [np.uint8, np.float32, np.float64])
def test_any_dtype_of_the_result(given, wanted):
    x, kernel = photograph((20, 30), given), KERNELS["3x3"] / 3
    output = image.correlate(x, kernel, dtype=wanted)
    expected = oracles.centred(x, kernel)
    assert output.dtype == wanted
    if wanted == np.uint8:
        oracles.assert_rounds_to(output, expected)
    else:
        exact = np.float64 in (given, wanted) and wanted != np.float32
        np.testing.assert_allclose(output, expected, atol=1e-11 if exact else 1e-3)
    assert image.correlate(x, kernel, dtype="float32").dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uint8_is_rounded_to_the_nearest_even_and_saturates(dtype):
    values = [-np.inf, -3, -0.5, 0.49, 0.5, 0.51, 1.5, 2.5, 254.5, 254.6, 255.5, 256, 1e9, np.inf, np.nan]
    expected = [0, 0, 0, 0, 0, 1, 2, 2, 254, 255, 255, 255, 255, 255, 0]
    output = image.correlate(np.array([values], dtype), [[1]], dtype=np.uint8)
    np.testing.assert_array_equal(output, [expected])


def test_integer_kernels_on_uint8_are_exact():
    x = photograph((50, 60), np.uint8)
    kernel = RNG.integers(-9, 10, (5, 5))
    np.testing.assert_array_equal(image.correlate(x, kernel, dtype=np.float32), oracles.centred(x, kernel))
    np.testing.assert_array_equal(image.correlate(x, kernel), np.clip(oracles.centred(x, kernel), 0, 255))


def test_pillow_agrees():
    pillow_image, pillow_filter = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.ImageFilter")
    x, kernel = photograph((40, 50, 3), np.uint8), RNG.integers(-5, 6, (5, 5))
    expected = np.asarray(pillow_image.fromarray(x).filter(pillow_filter.Kernel((5, 5), kernel.ravel().tolist(), 1)))
    upside_down = kernel[::-1]  # Pillow's rows of kernels run upwards
    np.testing.assert_array_equal(image.correlate(x, upside_down, "valid"), expected[2:-2, 2:-2])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_spreads_as_far_as_the_kernel_reaches(value):
    kernel = np.array([[1.0, 0.0, 2.0]])
    x = np.ones((3, 7))
    x[1, 3] = value
    output = image.correlate(x, kernel)
    touched = ~np.isfinite(output)
    assert np.argwhere(touched).tolist() == [[1, 2], [1, 4]]
    outside = image.correlate(np.ones((2, 2)), [[1.0, 1.0, 1.0]], cval=value)
    np.testing.assert_array_equal(outside, np.full((2, 2), value))


def test_results_are_fresh_and_arguments_unchanged():
    x, kernel = photograph((6, 7), np.float64), np.array([[1.0]])
    output = image.correlate(x, kernel)
    np.testing.assert_array_equal(output, x)
    assert not np.shares_memory(output, x)
    assert output.flags.c_contiguous
    assert output.flags.writeable


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (4, 5, 0), (0, 5, 3)], ids=str)
def test_empty_images_stay_empty(shape):
    for dtype in (np.uint8, np.float64):
        output = image.correlate(np.zeros(shape, dtype), np.ones((3, 3)), boundary="reflect")
        assert output.shape == shape
        assert output.dtype == dtype
    with pytest.raises(ValueError, match="convolve: `image` must have pixels"):
        image.convolve(np.zeros((0, 5)), np.ones((3, 3)), "full")


def test_a_kernel_much_larger_than_the_image():
    x, kernel = photograph((3, 5), np.float64), RNG.standard_normal((40, 61))
    for boundary in BOUNDARIES:
        expected = oracles.centred(x, kernel, boundary, 1.0)
        np.testing.assert_allclose(image.correlate(x, kernel, "same", boundary, 1.0, 0), expected, atol=1e-9)


def test_products_of_a_column_and_a_row_are_found():
    column, row = RNG.standard_normal(5), RNG.standard_normal(7)
    found = factored(np.outer(column, row))
    np.testing.assert_allclose(np.outer(*found), np.outer(column, row), rtol=1e-14)
    assert factored(np.outer(column, row) + np.eye(5, 7) * 1e-12) is None
    assert factored(np.outer([1.0, 2.0, 1.0], [-1.0, 0.0, 1.0])) is None  # six numbers: two passes are not faster
    assert factored(np.zeros((5, 5))) is None
    assert factored(np.full((5, 5), np.inf)) is None
    assert factored(np.ones((1, 9))) is None


X, K = np.ones((4, 5)), np.ones((3, 3))
WRONG = [
    (lambda: image.correlate(X.astype(int), K), TypeError, "correlate: `image` must be uint8, float32 or float64, got"),
    (lambda: image.correlate(X > 0, K), TypeError, r"got bool; cast it with `\.astype\(np\.float32\)`"),
    (lambda: image.convolve(X * 1j, K), TypeError, "convolve: `image` must be uint8, .*, got complex128"),
    (lambda: image.correlate(None, K), TypeError, "correlate: `image` must be an array, got None"),
    (lambda: image.correlate(X[0], K), ValueError, r"correlate: `image` must have shape \(H, W\) or .*, got \(5,\)"),
    (lambda: image.correlate(X, K * 1j), TypeError, "correlate: `kernel` must be real numbers, got complex128"),
    (lambda: image.correlate(X, [["a"]]), TypeError, "correlate: `kernel` must be real numbers, got <U1"),
    (
        lambda: image.correlate(X, K[0]),
        ValueError,
        r"correlate: `kernel` must have two dimensions .*, got shape \(3,\)",
    ),
    (lambda: image.correlate(X, K[:0]), ValueError, r"correlate: `kernel` must have two .*, got shape \(0, 3\)"),
    (lambda: image.correlate(X, K, "wrap"), ValueError, "correlate: `mode` must be one of 'same', .*, got 'wrap'"),
    (
        lambda: image.correlate(X, np.ones((5, 2)), "valid"),
        ValueError,
        r'`kernel` of shape \(5, 2\) must fit into `image` of 4 rows and 5 columns in mode "valid"',
    ),
    (
        lambda: image.correlate(X, K, boundary="symmetric"),
        ValueError,
        "correlate: `boundary` must be one of 'constant', 'reflect', 'mirror', 'nearest', 'wrap', got 'symmetric'",
    ),
    (lambda: image.correlate(X, K, cval="0"), TypeError, "correlate: `cval` must be a number, got '0'"),
    (
        lambda: image.correlate(X.astype(np.float32), K, cval=1e60),
        ValueError,
        r"correlate: `cval` must be within float32, 3\.403e\+38 at most, got 1e\+60",
    ),
    (lambda: image.correlate(X, K, origin=2), ValueError, "correlate: `origin` must be at most 1, got 2"),
    (lambda: image.convolve(X, K, origin=(0, -2)), ValueError, "convolve: `origin` must be at least -1, got -2"),
    (lambda: image.correlate(X, K, origin=0.5), TypeError, "correlate: `origin` must be an integer, got 0.5"),
    (lambda: image.correlate(X, K, origin=(1, 1, 1)), ValueError, "correlate: `origin` must be an int or a pair"),
    (lambda: image.correlate(X, K, "full", origin=0), ValueError, "`origin` is for `mode` \"same\", got 0 with 'full'"),
    (lambda: image.correlate(X, K, dtype=np.int16), TypeError, "`dtype` must be uint8, float32 or float64, got int16"),
    (lambda: image.correlate(X, K, dtype="pixels"), TypeError, "correlate: `dtype` must be uint8, .*, got 'pixels'"),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_wrong_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
