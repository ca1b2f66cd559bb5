import numpy as np
import pytest
from scipy import ndimage

import cyconv
from cyconv import image
from cyconv._boundary import BOUNDARIES
from tests.image import oracles
from tests.image.oracles import photograph
from tests.memory_formats import PICTURES

SHAPES = [(1, 1), (1, 50), (3, 2), (40, 71), (2, 2600), (17, 29, 3), (5, 6, 1)]
SIGMAS = [0, 0.1, 0.6, 1, 2.5, (0, 3), (1.5, 0), (6, 0.4)]
SIZES = [1, 2, 3, 5, 6, 7, 16, (1, 9), (31, 1), (4, 13), (20, 63)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
each_boundary = pytest.mark.parametrize("boundary", BOUNDARIES)
each_dtype = pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])


def pair(value):
    return (value, value) if np.isscalar(value) else value


def check(output, expected, x):
    assert output.shape == x.shape
    if x.dtype == np.uint8:
        oracles.assert_rounds_to(output, expected)
    else:
        assert output.dtype == x.dtype
        np.testing.assert_allclose(output, expected, rtol=0, atol=5e-4 if x.dtype == np.float32 else 1e-10)


@each_dtype
@each_shape
@each_boundary
def test_gaussian_is_ndimages(boundary, shape, dtype):
    x = photograph(shape, dtype)
    for sigma in SIGMAS:
        output = image.gaussian(x, sigma, boundary=boundary, cval=30.5)
        expected = ndimage.gaussian_filter(
            x.astype(np.float64), pair(sigma), mode=boundary, cval=30.5, truncate=4.0, axes=(0, 1)
        )
        check(output, expected, x)


@pytest.mark.parametrize("truncate", [0, 0.3, 1, 2.5, 6])
def test_gaussian_ends_where_it_is_told_to(truncate):
    x = photograph((20, 30), np.float64)
    expected = ndimage.gaussian_filter(x, (1.2, 2.0), truncate=truncate)
    np.testing.assert_allclose(image.gaussian(x, (1.2, 2.0), truncate), expected, atol=1e-10)
    own = oracles.centred(x, oracles.gaussian((1.2, 2.0), truncate), "reflect")
    np.testing.assert_allclose(image.gaussian(x, np.array([1.2, 2.0]), truncate), own, atol=1e-10)


def test_gaussians_of_any_width():
    x = photograph((5, 6), np.float64)
    np.testing.assert_allclose(image.gaussian(x, 2000.0, boundary="wrap"), np.full((5, 6), x.mean()), rtol=1e-3)
    np.testing.assert_array_equal(image.gaussian(x, 1e-300), x)
    np.testing.assert_array_equal(image.gaussian(x, 1e-200, truncate=3e200), x)


@each_dtype
@each_shape
@each_boundary
def test_box_is_ndimages(boundary, shape, dtype):
    x = photograph(shape, dtype)
    for size in SIZES:
        output = image.box(x, size, boundary, cval=30.5)
        expected = ndimage.uniform_filter(x.astype(np.float64), pair(size), mode=boundary, cval=30.5, axes=(0, 1))
        check(output, expected, x)


def test_means_of_uint8_are_exact():
    """Halves are rounded to the even number; no rounding error decides."""
    x = photograph((64, 300), np.uint8)
    for size in [(2, 1), (2, 2), (3, 4), (6, 6), (8, 16), (10, 50)]:
        sums = oracles.centred(x, np.ones(size), "reflect")
        np.testing.assert_array_equal(image.box(x, size), np.rint(sums / (size[0] * size[1])))


def test_a_mean_depends_on_its_own_pixels_alone():
    x = np.ones((60, 90))
    x[30, 40] = np.inf
    x[10, 10] = np.nan
    for size in (3, 15):
        output = image.box(x, size)
        reach = size // 2
        touched = np.zeros(x.shape, bool)
        for i, j in ((30, 40), (10, 10)):
            touched[i - reach : i + reach + 1, j - reach : j + reach + 1] = True
        np.testing.assert_array_equal(np.isfinite(output), ~touched)
        np.testing.assert_allclose(output[~touched], 1.0, rtol=1e-14)


@each_dtype
@each_shape
@each_boundary
def test_sharpening_adds_what_blurring_takes_away(boundary, shape, dtype):
    x = photograph(shape, dtype)
    for sigma, amount in [(1.0, 1.0), ((0, 2), 0.5), (1.5, -1.0), (0.7, 3)]:
        wide = x.astype(np.float64)
        blurred = ndimage.gaussian_filter(wide, pair(sigma), mode=boundary, cval=30.5, axes=(0, 1))
        output = image.sharpen(x, sigma, amount, boundary=boundary, cval=30.5)
        check(output, wide + amount * (wide - blurred), x)


def test_sharpening_has_customary_defaults():
    x = photograph((12, 13), np.float64)
    np.testing.assert_allclose(image.sharpen(x), 2 * x - ndimage.gaussian_filter(x, 1.0), atol=1e-10)
    np.testing.assert_allclose(image.sharpen(x, np.array(0)), x, atol=1e-12)


FILTERS = {
    "gaussian": lambda x, **options: image.gaussian(x, 1.5, **options),
    "box": lambda x, **options: image.box(x, (2, 3), **options),
    "large box": lambda x, **options: image.box(x, (9, 12), **options),
    "sharpen": lambda x, **options: image.sharpen(x, (0.5, 1), **options),
    "sobel": image.sobel,
    "laplacian": image.laplacian,
}
each_filter = pytest.mark.parametrize("function", FILTERS.values(), ids=FILTERS)


@each_filter
@pytest.mark.parametrize("memory_format", PICTURES)
@each_dtype
def test_any_memory_format(function, memory_format, dtype, small_work_threaded):
    x = photograph((25, 30, 3), dtype)
    given = PICTURES[memory_format](x)
    np.testing.assert_array_equal(function(given), function(x))
    np.testing.assert_array_equal(function(given[..., 2]), function(x)[..., 2])
    np.testing.assert_array_equal(given, x)


@each_filter
@each_dtype
@pytest.mark.parametrize("shape", [(130, 600), (90, 211, 3), (7, 5000)], ids=str)
def test_the_same_bits_for_any_number_of_threads(function, dtype, shape, small_work_threaded):
    x = photograph(shape, dtype) / 7 if dtype != np.uint8 else photograph(shape, dtype)
    x = x.astype(dtype)
    with cyconv.num_threads(1):
        expected = function(x)
    for threads in (2, 3):
        with cyconv.num_threads(threads):
            np.testing.assert_array_equal(function(x), expected)


@each_filter
@each_dtype
def test_channels_do_not_mix_and_empty_images_stay_empty(function, dtype):
    x = photograph((9, 31, 4), dtype)
    output = function(x)
    for channel in range(4):
        np.testing.assert_array_equal(output[..., channel], function(x[..., channel]))
    for shape in [(0, 4), (4, 0), (3, 4, 0)]:
        assert function(np.zeros(shape, dtype)).shape == shape


@each_filter
@pytest.mark.parametrize("wanted", [np.uint8, np.float32, np.float64])
def test_any_dtype_of_the_result(function, wanted):
    x = photograph((20, 30), np.uint8)
    output, expected = function(x, dtype=wanted), function(x.astype(np.float64))
    if wanted == np.uint8:
        oracles.assert_rounds_to(output, expected)
    else:
        assert output.dtype == wanted
        np.testing.assert_allclose(output, expected, atol=1e-3 if wanted == np.float32 else 1e-11)


X = np.ones((4, 5))
WRONG = [
    (lambda: image.gaussian(X.astype(np.int16), 1), TypeError, "gaussian: `image` must be uint8, .*, got int16"),
    (lambda: image.gaussian(X, -1), ValueError, "gaussian: `sigma` must be at least 0, got -1"),
    (lambda: image.gaussian(X, np.nan), ValueError, "gaussian: `sigma` must be at least 0, got nan"),
    (lambda: image.gaussian(X, "1"), TypeError, "gaussian: `sigma` must be a number, got '1'"),
    (lambda: image.gaussian(X, (1, 2, 3)), ValueError, "gaussian: `sigma` must be a number or a pair of numbers, got"),
    (lambda: image.gaussian(X, (1, None)), TypeError, "gaussian: `sigma` must be a number, got None"),
    (lambda: image.gaussian(X, 1, -1), ValueError, "gaussian: `truncate` must be at least 0, got -1"),
    (
        lambda: image.gaussian(X, 1e9),
        ValueError,
        r"gaussian: `sigma` times `truncate` must be at most 8191, got 1000000000\.0 times 4\.0",
    ),
    (lambda: image.gaussian(X, 1, boundary="fill"), ValueError, "gaussian: `boundary` must be one of .*, got 'fill'"),
    (lambda: image.gaussian(X, 1, cval=None), TypeError, "gaussian: `cval` must be a number, got None"),
    (lambda: image.gaussian(X, 1, dtype=">f4"), TypeError, "gaussian: `dtype` must be uint8, .*, got >f4"),
    (lambda: image.box(X[0]), ValueError, r"box: `image` must have shape \(H, W\) or \(H, W, C\), got \(5,\)"),
    (lambda: image.box(X, 0), ValueError, "box: `size` must be at least 1, got 0"),
    (lambda: image.box(X, (3, 2.5)), TypeError, "box: `size` must be an integer, got 2.5"),
    (lambda: image.box(X, 16384), ValueError, "box: `size` must be at most 16383, got 16384"),
    (lambda: image.box(X, (1, 2, 3)), ValueError, "box: `size` must be an int or a pair of ints"),
    (lambda: image.sharpen(X.astype(str)), TypeError, "sharpen: `image` must be uint8, float32 or float64"),
    (lambda: image.sharpen(X, amount="much"), TypeError, "sharpen: `amount` must be a number, got 'much'"),
    (lambda: image.sharpen(X, amount=np.inf), ValueError, "sharpen: `amount` must be finite, got inf"),
    (lambda: image.sharpen(X, -1), ValueError, "sharpen: `sigma` must be at least 0, got -1"),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_wrong_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
