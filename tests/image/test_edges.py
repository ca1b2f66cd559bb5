import numpy as np
import pytest
from scipy import ndimage

from cyconv import image
from cyconv._boundary import BOUNDARIES
from tests.image import oracles
from tests.image.oracles import photograph

SHAPES = [(1, 1), (1, 40), (3, 2), (33, 71), (2, 5000), (17, 29, 3)]
ROWS = np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]])
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
each_boundary = pytest.mark.parametrize("boundary", BOUNDARIES)
each_dtype = pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])


def check(output, expected, x):
    assert output.shape == x.shape
    assert output.dtype == (np.float64 if x.dtype == np.float64 else np.float32)
    np.testing.assert_allclose(output, expected, rtol=1e-6 if x.dtype != np.float64 else 1e-13, atol=1e-10)


@each_dtype
@each_shape
@each_boundary
def test_sobel_is_ndimages(boundary, shape, dtype):
    x = photograph(shape, dtype)
    wide = x.astype(np.float64)
    planes = [wide] if wide.ndim == 2 else np.moveaxis(wide, -1, 0)
    along = []
    for axis in (0, 1):
        filtered = [ndimage.sobel(plane, axis, mode=boundary) for plane in planes]
        along.append(np.stack(filtered, -1).reshape(shape))
        check(image.sobel(x, axis, boundary), along[axis], x)
    check(image.sobel(x, boundary=boundary), np.hypot(*along), x)


@each_dtype
@each_shape
@each_boundary
def test_laplacian_is_ndimages(boundary, shape, dtype):
    x = photograph(shape, dtype)
    expected = ndimage.laplace(x.astype(np.float64), mode=boundary, cval=9.5, axes=(0, 1))
    check(image.laplacian(x, boundary, 9.5), expected, x)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_constant_surrounds_the_image_itself(axis):
    x = photograph((8, 9), np.float64)
    kernel = ROWS if axis == 0 else ROWS.T
    expected = ndimage.correlate(x, kernel, mode="constant", cval=100.0)
    np.testing.assert_allclose(image.sobel(x, axis, "constant", 100.0), expected, atol=1e-12)
    np.testing.assert_allclose(expected, oracles.centred(x, kernel, "constant", 100.0), atol=1e-12)


def test_uint8_keeps_its_sign_unless_told_otherwise():
    x = np.array([[0, 0, 200, 0, 0]], np.uint8)
    np.testing.assert_array_equal(image.sobel(x, 1), [[0, 800, 0, -800, 0]])
    np.testing.assert_array_equal(image.sobel(x, 1, dtype=np.uint8), [[0, 255, 0, 0, 0]])
    np.testing.assert_array_equal(image.laplacian(x), [[0, 200, -400, 200, 0]])
    np.testing.assert_array_equal(image.laplacian(x, dtype=np.uint8), [[0, 200, 0, 200, 0]])


X = np.ones((4, 5))
WRONG = [
    (lambda: image.sobel(X > 0), TypeError, "sobel: `image` must be uint8, float32 or float64, got bool"),
    (lambda: image.sobel(X, 2), ValueError, "sobel: `axis` must be at most 1, got 2"),
    (lambda: image.sobel(X, -1), ValueError, "sobel: `axis` must be at least 0, got -1"),
    (lambda: image.sobel(X, "x"), TypeError, "sobel: `axis` must be an integer, got 'x'"),
    (lambda: image.sobel(X, boundary=None), ValueError, "sobel: `boundary` must be one of .*, got None"),
    (lambda: image.laplacian(X[None, None]), ValueError, r"laplacian: `image` must have shape .*, got \(1, 1, 4, 5\)"),
    (lambda: image.laplacian(X, dtype=bool), TypeError, "laplacian: `dtype` must be uint8, .*, got bool"),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_wrong_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
