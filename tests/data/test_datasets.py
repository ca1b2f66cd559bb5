import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cyconv.data import datasets, digits, mnist

PARTS = {"train": 7, "t10k": 3}


def idx(array, *, type_code=8, shape=None):
    """The bytes of an IDX file of `array`; `shape` lies about its extents."""
    shape = array.shape if shape is None else shape
    return struct.pack(f">2x2B{len(shape)}I", type_code, len(shape), *shape) + array.tobytes()


def images(count, size=28):
    return np.random.default_rng(count).integers(0, 256, (count, size, size), dtype=np.uint8)


def labels(count):
    return np.arange(count, dtype=np.uint8) % 10


@pytest.fixture
def root(tmp_path):
    """A complete small set in MNIST's format, one half of it gzipped."""
    for part, count in PARTS.items():
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images(count)))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels(count))))
    return tmp_path


def test_digits_are_scikit_learns_split_by_the_documented_rule():
    source = pytest.importorskip("sklearn.datasets").load_digits()
    data = digits()
    for label in range(10):
        of_class = np.rint(source.images[source.target == label] * 255 / 16)
        is_test = np.arange(len(of_class)) % 5 == 4
        np.testing.assert_array_equal(data.train_x[data.train_y == label, 0], of_class[~is_test])
        np.testing.assert_array_equal(data.test_x[data.test_y == label, 0], of_class[is_test])


def test_digits_shapes_and_dtypes():
    data = digits()
    assert data.train_x.shape == (1442, 1, 8, 8)
    assert data.test_x.shape == (355, 1, 8, 8)
    assert data.train_x.dtype == data.test_x.dtype == np.uint8
    assert data.train_x.max() == 255
    assert data.train_y.dtype == data.test_y.dtype == np.int64
    assert data.train_y[:10].tolist() == list(range(10))


@pytest.mark.parametrize("size", [8, 9, 28, 32])
def test_digits_are_enlarged_bilinearly(size):
    ndimage = pytest.importorskip("scipy.ndimage")
    small, large = digits(), digits(size)
    assert large.test_x.shape == (355, 1, size, size)
    expected = ndimage.zoom(small.test_x[0, 0].astype(float), size / 8, order=1, mode="nearest", grid_mode=True)
    # The interpolation here is of the 17 grey levels, before they are rounded to bytes: up to one level apart.
    assert np.abs(large.test_x[0, 0] - expected).max() <= 1
    np.testing.assert_array_equal(large.test_y, small.test_y)


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (7, ValueError, "digits: `size` must be at least 8, got 7"),
        (257, ValueError, "digits: `size` must be at most 256, got 257"),
        (28.0, TypeError, "digits: `size` must be an integer, got 28.0"),
    ],
)
def test_digits_refuses_sizes(size, error, message):
    with pytest.raises(error, match=message):
        digits(size)


def test_bundled_file_is_small_and_attributed():
    files = Path(datasets.__file__).with_name("files")
    assert (files / "digits.npz").stat().st_size < 100_000
    assert "CC BY 4.0" in (files / "digits.txt").read_text()


def test_mnist_reads_plain_and_gzipped_files(root):
    data = mnist(root)
    assert repr(data) == "Dataset(7 training and 3 test images of shape (1, 28, 28), 10 classes)"
    np.testing.assert_array_equal(data.train_x[:, 0], images(7))
    np.testing.assert_array_equal(data.test_x[:, 0], images(3))
    np.testing.assert_array_equal(data.train_y, labels(7))
    assert data.test_y.dtype == np.int64
    assert data.class_names == tuple("0123456789")


def test_mnist_goes_by_content_not_by_suffix(root):
    images_file = root / "train-images-idx3-ubyte"
    images_file.write_bytes(gzip.compress(images_file.read_bytes()))
    np.testing.assert_array_equal(mnist(str(root)).train_x[:, 0], images(7))


def test_mnist_missing_file(root):
    (root / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"mnist: .* has neither t10k-images-idx3-ubyte nor t10k-.*\.gz"):
        mnist(root)


GOOD = idx(images(7))
BAD_FILES = {
    "empty": (b"", r"is not an IDX file: it begins with b'', expected two zero bytes"),
    "a picture": (b"\x89PNG\r\n\x1a\n", r"is not an IDX file: it begins with b'\\x89PNG'"),
    "type": (idx(images(7), type_code=0x0D), r"has the type code 0x0d, expected 0x08 \(unsigned bytes\)"),
    "axes": (idx(labels(7)), r"has 1 axes, expected 3"),
    "header": (GOOD[:15], r"is truncated within its header of 16 bytes"),
    "image size": (idx(images(7, 27)), r"has shape \(7, 27, 27\), expected \(N, 28, 28\)"),
    "truncated": (GOOD[:-1], r"has the shape \(7, 28, 28\) in its header, 5488 bytes, but holds only 5487"),
    "trailing": (GOOD + b"\0", r"has the shape \(7, 28, 28\) in its header, 5488 bytes, but holds more"),
    "gzip truncated": (gzip.compress(GOOD)[:-9], r"is a truncated or damaged gzip file"),
    "gzip damaged": (gzip.compress(GOOD)[:40] + b"????" + gzip.compress(GOOD)[44:], r"is a truncated or damaged gzip"),
    "gzip checksum": (gzip.compress(GOOD)[:-8] + b"\0" * 8, r"is a truncated or damaged gzip file \(CRC"),
    "count": (idx(images(6)), r"train-images-idx3-ubyte has 6 images, but .*train-labels-idx1-ubyte.gz has 7 labels"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_mnist_says_what_is_wrong_with_a_file(root, name):
    content, message = BAD_FILES[name]
    (root / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(ValueError, match=rf"mnist: .*{message}"):
        mnist(root)


def test_mnist_refuses_labels_over_nine(root):
    (root / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(np.array([1, 2, 10], np.uint8)))
    with pytest.raises(ValueError, match=r"mnist: .*t10k-labels-idx1-ubyte.gz has the label 10, expected 0 to 9"):
        mnist(root)


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("count", "message"), [(10**6, "but holds only 5488"), (2**32 - 1, "more than 1000000 images")]
)
def test_mnist_never_allocates_what_a_header_claims(root, compress, count, message):
    lying = idx(images(7), shape=(count, 28, 28))
    (root / "train-images-idx3-ubyte").write_bytes(compress(lying))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            mnist(root)
        assert tracemalloc.get_traced_memory()[1] < 8 * datasets.PIECE
    finally:
        tracemalloc.stop()


def test_mnist_stops_reading_a_gzip_bomb(root):
    bomb = gzip.compress(GOOD + bytes(256 * datasets.PIECE), compresslevel=1)
    (root / "train-images-idx3-ubyte").write_bytes(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="but holds more"):
            mnist(root)
        assert tracemalloc.get_traced_memory()[1] < 8 * datasets.PIECE
    finally:
        tracemalloc.stop()


@pytest.mark.skipif("CYCONV_DATA" not in os.environ, reason="CYCONV_DATA names no folder of data sets")
def test_mnist_itself():
    data = mnist(Path(os.environ["CYCONV_DATA"], "mnist"))
    assert data.train_x.shape == (60_000, 1, 28, 28)
    assert data.test_x.shape == (10_000, 1, 28, 28)
    assert data.train_y[:5].tolist() == [5, 0, 4, 1, 9]
    # The mean and deviation that everyone who trains on MNIST subtracts and divides by.
    assert abs(data.train_x.mean() / 255 - 0.1307) < 1e-4
    assert abs(data.train_x.std() / 255 - 0.3081) < 1e-4


@pytest.mark.parametrize("root", [None, 3, b"data"])
def test_a_folder_is_a_path(root):
    with pytest.raises(TypeError, match=r"^mnist: `root` must be a str or a path, got "):
        mnist(root)


@pytest.mark.parametrize("folder", ["raw", "MNIST/raw"])
def test_mnist_in_torchvisions_folders(root, folder):
    (root / folder).mkdir(parents=True)
    for path in list(root.glob("*ubyte*")):
        path.rename(root / folder / path.name)
    np.testing.assert_array_equal(mnist(root).train_x[:, 0], images(7))


@pytest.mark.parametrize("form", ["{}", "{}/{}"])
def test_mnist_by_its_other_names(root, form):
    """Of Kaggle's archives: a dot instead of a hyphen, and files in folders of their name."""
    for path in list(root.glob("*ubyte*")):
        name = path.name.replace("-idx", ".idx")
        moved = path.rename(root / f"{name}.moved")
        target = root / form.format(name.removesuffix(".gz"), name)
        target.parent.mkdir(exist_ok=True)
        moved.rename(target)
    data = mnist(root)
    np.testing.assert_array_equal(data.test_x[:, 0], images(3))
    np.testing.assert_array_equal(data.train_y, labels(7))


def test_mnist_is_read_from_one_folder(root):
    """Not images from here and labels from there."""
    (root / "raw").mkdir()
    (root / "train-labels-idx1-ubyte.gz").rename(root / "raw" / "train-labels-idx1-ubyte.gz")
    with pytest.raises(FileNotFoundError, match="has neither train-labels-idx1-ubyte nor"):
        mnist(root)
