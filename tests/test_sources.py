"""Data sets that are read in pieces."""

import numpy as np
import pytest
import scipy.sparse

from cyconv import Network, layers
from cyconv._sources import Source, as_source
from cyconv.data import Batches, predict_tiled, split
from cyconv.data.augmentation import Normalize
from tests import processes

N = 40
X = np.random.default_rng(0).integers(0, 256, (N, 3, 6, 5), np.uint8)
Y = np.arange(N) % 4


class Stored:
    """Rows as h5py hands them out: slices, or increasing indices, each once; never all of them at once."""

    def __init__(self, array, most=None):
        self.shape, self.dtype, self._array = array.shape, array.dtype, array
        self.most, self.largest = most, 0

    def __len__(self):
        return len(self._array)

    def __getitem__(self, rows):
        if not isinstance(rows, slice):
            assert np.all(np.diff(rows) > 0), "h5py: indexing elements must be in increasing order"
        found = self._array[rows]
        self.largest = max(self.largest, len(found))
        return found.copy()

    def __array__(self, *arguments, **keywords):
        raise AssertionError("all of it was read")


def stored_in_h5py(tmp_path, array):
    h5py = pytest.importorskip("h5py")
    return h5py.File(tmp_path / "data.h5", "a").create_dataset(f"d{array.ndim}{array.dtype}", data=array)


def stored_in_zarr(tmp_path, array):
    zarr = pytest.importorskip("zarr")
    path = str(tmp_path / f"d{array.ndim}{array.dtype}.zarr")
    stored = zarr.open(path, mode="w", shape=array.shape, chunks=(7, *array.shape[1:]), dtype=array.dtype)
    stored[:] = array
    return stored


STORES = {"fake": lambda tmp_path, array: Stored(array), "h5py": stored_in_h5py, "zarr": stored_in_zarr}
each_store = pytest.mark.parametrize("store", STORES.values(), ids=STORES)


@each_store
def test_rows_are_those_of_the_array(store, tmp_path):
    source = as_source(store(tmp_path, X))
    assert isinstance(source, Source)
    assert (source.shape, source.dtype, source.ndim, len(source)) == (X.shape, X.dtype, 4, N)
    for rows in (slice(None), slice(3, 9), slice(35, 99), slice(5, 5), slice(1, 20, 3)):
        np.testing.assert_array_equal(source[rows], X[rows])
    for rows in ([3, 1, 2], [7, 7, 0, 39, 7], [4], []):
        index = np.array(rows, np.int64)
        np.testing.assert_array_equal(source[index], X[index])


@each_store
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("data", [X, X[:, 0], X.reshape(N, -1), X.astype(">f4")], ids=["colour", "grey", "flat", "big"])
def test_batches_are_those_of_the_array(store, shuffle, data, tmp_path):
    expected = list(Batches(data, Y, 7, shuffle, rng=1))
    found = list(Batches(store(tmp_path, data), store(tmp_path, Y), 7, shuffle, rng=1))
    for (x, y), (wanted_x, wanted_y) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(x, wanted_x)
        np.testing.assert_array_equal(y, wanted_y)
        assert x.strides == wanted_x.strides


def network():
    return Network([layers.Conv2d(3, 4, 3), layers.ReLU(), layers.Flatten(), layers.Linear(48, 4)], (3, 6, 5), seed=0)


@each_store
def test_a_network_trains_evaluates_and_predicts_alike(store, tmp_path):
    x, y, one, other = store(tmp_path, X), store(tmp_path, Y), network(), network()
    options = {"epochs": 2, "batch_size": 8, "seed": 5, "progress": False}
    one.fit(X, Y, validation_data=(X, Y), **options)
    other.fit(x, y, validation_data=(x, y), **options)
    for name, array in one.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], array)
    assert one.evaluate(X, Y, batch_size=16) == other.evaluate(x, y, batch_size=16)
    for size in (7, 256):
        np.testing.assert_array_equal(one.predict(X, size), other.predict(x, size))


def test_no_more_than_a_batch_is_read_at_a_time(monkeypatch):
    monkeypatch.setattr("cyconv._sources.PIECE", 3 * X[0].size)
    x, y = Stored(X), Stored(Y)
    network().fit(x, y, epochs=2, batch_size=8, progress=False)
    network().predict(x, batch_size=8)
    assert x.largest == 8
    Normalize.of(x)


@pytest.mark.parametrize("values", [[0, 5, 3, 255, 3], [-1, 2], [7]])
def test_samples_hold_every_value(values, monkeypatch):
    monkeypatch.setattr("cyconv._sources.PIECE", 16)
    labels = np.resize(np.array(values), (6, 2, 3))
    samples = Source(Stored(labels)).samples()
    assert samples.shape[1:] == (2, 3)
    assert set(samples.ravel()) == set(values)
    numbers = Source(Stored(labels.astype(float))).samples()
    assert (numbers.min(), numbers.max()) == (min(values), max(values))
    labels = labels.astype(float)
    labels[4, 1, 1] = np.nan
    assert np.isnan(Source(Stored(labels)).samples()).any()


def test_wrong_labels_are_found_wherever_they_are(monkeypatch):
    monkeypatch.setattr("cyconv._sources.PIECE", 16)
    labels = Y.copy()
    labels[33] = 4
    with pytest.raises(ValueError, match=r"^fit: `y` must be class numbers from 0 to 3, got 0 to 4"):
        network().fit(X, Stored(labels), progress=False)


@each_store
def test_parts_of_a_split(store, tmp_path):
    for (x, y), (wanted_x, wanted_y) in zip(
        split(store(tmp_path, X), store(tmp_path, Y), stratify=True, rng=0),
        split(X, Y, stratify=True, rng=0),
        strict=True,
    ):
        np.testing.assert_array_equal(x, wanted_x)
        np.testing.assert_array_equal(y, wanted_y)


@each_store
def test_large_images_are_read_one_at_a_time(store, tmp_path):
    padded = Network([layers.Conv2d(3, 2, 3, padding=1)], seed=0)
    expected = predict_tiled(padded, X[:3], tile=4, overlap=2)
    np.testing.assert_array_equal(predict_tiled(padded, store(tmp_path, X[:3]), tile=4, overlap=2), expected)
    stored = Stored(X)
    predict_tiled(padded, stored, tile=4, overlap=2, batch_size=3)
    assert stored.largest == 1


def test_what_is_in_memory_is_no_source():
    pandas_like = type("Series", (), {"iloc": None, "shape": (3,), "dtype": np.dtype(int), "__getitem__": None})()
    sparse = scipy.sparse.eye(3, format="csr")
    for value in (X, Y.tolist(), np.float32(1), None, "text", pandas_like, sparse, Stored(np.array(["a", 1], object))):
        assert as_source(value) is None


MEMORY = """
import resource, sys
import numpy as np
from cyconv import Network, layers

network = Network([layers.Conv2d(3, 4, 3, stride=4), layers.GlobalAvgPool2d(), layers.Flatten(), layers.Linear(4, 2)],
                  (3, 64, 64), seed=0)
y = np.arange(N) % 2
network.fit(np.zeros((64, 3, 64, 64), np.uint8), y[:64], progress=False)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
network.fit(opened(), y, progress=False)
network.predict(opened())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
OPENED = {
    "h5py": "import h5py\ndef opened(): return h5py.File(PATH)['x']",
    "zarr": "import zarr\ndef opened(): return zarr.open(PATH, mode='r')",
}


@pytest.mark.parametrize("name", OPENED)
def test_a_large_file_stays_on_the_disk(name, tmp_path):
    module, N = pytest.importorskip(name), 12_000  # 147 MB
    path, row = str(tmp_path / "x"), (3, 64, 64)
    if name == "h5py":
        with module.File(path, "w") as file:
            file.create_dataset("x", data=np.full((N, *row), 3, np.uint8))
    else:
        module.open(path, mode="w", shape=(N, *row), chunks=(64, *row), dtype="u1")[:] = np.full((N, *row), 3, np.uint8)
    status, printed, said = processes.run(f"N, PATH = {N}, {path!r}\n{OPENED[name]}\n{MEMORY}")
    assert status == 0, said
    assert int(printed) < 30_000  # kilobytes
