import gzip

import numpy as np
import pytest

from cyconv.data import emnist
from tests.data.test_datasets import idx, images


def write(folder, part, train, test, compress=gzip.compress):
    """Write a part whose labels are the given ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for half, labels in (("train", train), ("test", test)):
        name = f"emnist-{part}-{half}"
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(compress(idx(images(len(labels)))))
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(compress(idx(np.array(labels, np.uint8))))


@pytest.mark.parametrize("compress", [gzip.compress, bytes])
@pytest.mark.parametrize("folder", ["", "gzip", "raw", "EMNIST/raw"])
def test_images_are_upright(folder, compress, tmp_path):
    write(tmp_path / folder, "balanced", [0, 46, 10], [36, 5], compress)
    data = emnist(tmp_path)
    np.testing.assert_array_equal(data.train_x[:, 0], images(3).transpose(0, 2, 1))
    np.testing.assert_array_equal(data.test_x[:, 0], images(2).transpose(0, 2, 1))
    assert data.train_x.flags.c_contiguous
    assert [data.class_names[label] for label in data.train_y] == ["0", "t", "A"]
    assert [data.class_names[label] for label in data.test_y] == ["a", "5"]


@pytest.mark.parametrize(
    ("part", "classes"), [("byclass", 62), ("bymerge", 47), ("balanced", 47), ("digits", 10), ("mnist", 10)]
)
def test_parts(part, classes, tmp_path):
    write(tmp_path, part, [0, classes - 1], [1])
    data = emnist(str(tmp_path), part)
    assert len(data.class_names) == classes
    assert data.train_y.tolist() == [0, classes - 1]
    write(tmp_path, part, [0, classes], [1])
    with pytest.raises(ValueError, match=rf"^emnist: .*train-labels.* has the label {classes}, expected 0 to"):
        emnist(tmp_path, part)


def test_letters_count_from_zero(tmp_path):
    write(tmp_path, "letters", [1, 26], [2])
    data = emnist(tmp_path, "letters")
    assert [data.class_names[label] for label in data.train_y] == ["A", "Z"]
    assert data.test_y.tolist() == [1]
    for labels, wrong in (([0], 0), ([27], 27)):
        write(tmp_path, "letters", labels, [2])
        with pytest.raises(ValueError, match=f"^emnist: .* has the label {wrong}"):
            emnist(tmp_path, "letters")


def test_refuses(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^emnist: .* has neither emnist-letters-train-images-idx3-ubyte nor"):
        emnist(tmp_path, "letters")
    with pytest.raises(ValueError, match=r"^emnist: `part` must be one of 'byclass', .*, got 'all'"):
        emnist(tmp_path, "all")
    write(tmp_path, "digits", [1, 2], [3])
    path = tmp_path / "emnist-digits-test-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"^emnist: .*test-images.* is a truncated or damaged gzip file"):
        emnist(tmp_path, "digits")
