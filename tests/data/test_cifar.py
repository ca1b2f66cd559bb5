import gzip
import os
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cyconv.data import cifar10, cifar100
from tests.data.test_plain_pickle import pickle_of_python2

COUNTS = {
    "data_batch_1": 4,
    "data_batch_2": 5,
    "data_batch_3": 2,
    "data_batch_4": 1,
    "data_batch_5": 3,
    "test_batch": 6,
}


def batch(name):
    rng = np.random.default_rng(COUNTS[name])
    return rng.integers(0, 256, (COUNTS[name], 3072), dtype=np.uint8), rng.integers(0, 10, COUNTS[name])


def binary(images, labels):
    return b"".join(bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True))


def python2(images, labels):
    return pickle_of_python2(images, labels.tolist())


def python3(images, labels):
    return pickle.dumps({"data": images, "labels": labels.tolist()})


FORMS = {"binary": (binary, ".bin"), "python2": (python2, ""), "python3": (python3, "")}


def write(folder, form):
    encode, suffix = FORMS[form]
    folder.mkdir(exist_ok=True)
    for name in COUNTS:
        (folder / f"{name}{suffix}").write_bytes(encode(*batch(name)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("folder", ["", "cifar-10-batches-bin", "cifar-10-batches-py"])
def test_every_form_gives_the_same(tmp_path, form, folder):
    write(tmp_path / folder, form)
    data = cifar10(tmp_path)
    parts = [batch(f"data_batch_{number}") for number in range(1, 6)]
    np.testing.assert_array_equal(data.train_x.reshape(15, 3072), np.concatenate([images for images, _ in parts]))
    np.testing.assert_array_equal(data.train_y, np.concatenate([labels for _, labels in parts]))
    np.testing.assert_array_equal(data.test_x.reshape(6, 3072), batch("test_batch")[0])
    np.testing.assert_array_equal(data.test_y, batch("test_batch")[1])
    assert data.train_x.shape == (15, 3, 32, 32)
    assert data.train_x.dtype == data.test_x.dtype == np.uint8
    assert data.train_y.dtype == data.test_y.dtype == np.int64
    assert data.train_x.transpose(0, 2, 3, 1).flags.c_contiguous
    assert data.class_names[3] == "cat"


def test_pixels_have_their_channel_row_and_column(tmp_path):
    """The format's description: 1,024 red bytes row by row, then green, then blue."""
    write(tmp_path, "binary")
    image = np.zeros(3072, np.uint8)
    image[1024 + 5 * 32 + 7] = 255
    (tmp_path / "test_batch.bin").write_bytes(b"\x09" + image.tobytes())
    data = cifar10(tmp_path)
    assert np.argwhere(data.test_x).tolist() == [[0, 1, 5, 7]]
    assert data.test_y.tolist() == [9]


def test_some_batches(tmp_path):
    write(tmp_path, "binary")
    (tmp_path / "data_batch_1.bin").unlink()
    data = cifar10(str(tmp_path), batches=(5, 3))
    np.testing.assert_array_equal(data.train_y, np.concatenate([batch("data_batch_5")[1], batch("data_batch_3")[1]]))
    with pytest.raises(FileNotFoundError, match=r"^cifar10: .* has neither data_batch_1\.bin nor data_batch_1$"):
        cifar10(tmp_path)


def test_forms_are_told_by_content(tmp_path):
    write(tmp_path, "binary")
    (tmp_path / "test_batch.bin").write_bytes(python2(*batch("test_batch")))
    np.testing.assert_array_equal(cifar10(tmp_path).test_y, batch("test_batch")[1])


def test_results_can_be_written_to(tmp_path):
    write(tmp_path, "binary")
    for array in cifar10(tmp_path)[:4]:
        array[...] = 0


IMAGES, LABELS = batch("test_batch")


def of(**change):
    return pickle.dumps({"data": IMAGES, "labels": LABELS.tolist(), **change})


BAD = {
    "empty": (b"", r"has 0 images, expected 1 to 60000"),
    "truncated": (
        binary(IMAGES, LABELS)[:-1],
        r"is truncated or no file of CIFAR-10: its 18437 bytes are 5 images of 3073 bytes and 3072 more",
    ),
    "label": (binary(IMAGES, [0, 1, 2, 10, 3, 77]), r"has the label 10 for image 3, expected 0 to 9"),
    "pickled label": (of(labels=[0, 1, 2, 3, 4, -1]), r"has the label -1 for image 5, expected 0 to 9"),
    "few labels": (of(labels=[1]), r"has 6 images, but 1 labels"),
    "text": (of(labels=["a"] * 6), r"has labels that are no integers, expected 0 to 9"),
    "truth": (of(labels=[True] * 6), r"has labels that are no integers"),
    "large": (of(labels=[2**63] * 6), r"has labels that are no integers"),
    "no labels": (pickle.dumps({"data": IMAGES}), r"has nothing under 'labels', expected list"),
    "no images": (of(data=[1, 2]), r"has list under 'data', expected ndarray"),
    "small": (of(data=IMAGES[:, :-1].copy()), r"has images of shape \(6, 3071\), expected \(N, 3072\)"),
    "four axes": (of(data=IMAGES.reshape(6, 3, 32, 32)), r"has images of shape \(6, 3, 32, 32\), expected \(N, 3072\)"),
    "function": (of(data=print), r"is no file of CIFAR-10, or a damaged one: it names 'builtins\.print', which is not"),
    "half": (of()[:5000], r"is no file of CIFAR-10, or a damaged one: it is truncated"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_file_is_said(tmp_path, name):
    content, message = BAD[name]
    write(tmp_path, "binary")
    (tmp_path / "test_batch.bin").write_bytes(content)
    with pytest.raises(ValueError, match=rf"^cifar10: .*test_batch\.bin {message}"):
        cifar10(tmp_path)


def test_a_file_that_claims_to_be_huge_is_not_read(tmp_path):
    write(tmp_path, "binary")
    os.truncate(tmp_path / "test_batch.bin", 2**40)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"test_batch\.bin has 1099511627776 bytes, more than 60000 images need"):
            cifar10(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_more_images_than_there_are(tmp_path):
    write(tmp_path, "binary")
    os.truncate(tmp_path / "test_batch.bin", 60_001 * 3073)
    with pytest.raises(ValueError, match=r"test_batch\.bin has 60001 images, expected 1 to 60000"):
        cifar10(tmp_path)


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        (1, TypeError, "^cifar10: `batches` must be a sequence of numbers from 1 to 5, got 1"),
        ("12", TypeError, "^cifar10: `batches` must be a sequence of numbers from 1 to 5, got '12'"),
        ([0], ValueError, "^cifar10: `batches` must be at least 1, got 0"),
        ([6], ValueError, "^cifar10: `batches` must be at most 5, got 6"),
        ([], ValueError, r"^cifar10: `batches` must be different numbers from 1 to 5, got \[\]"),
        ([1, 1], ValueError, r"^cifar10: `batches` must be different numbers from 1 to 5, got \[1, 1\]"),
    ],
)
def test_bad_batches(tmp_path, batches, error, message):
    with pytest.raises(error, match=message):
        cifar10(tmp_path, batches)


def test_a_folder_is_a_path():
    with pytest.raises(TypeError, match=r"^cifar10: `root` must be a str or a path, got 3"):
        cifar10(3)


@pytest.mark.skipif("CYCONV_DATA" not in os.environ, reason="CYCONV_DATA names no folder of data sets")
def test_cifar10_itself(tmp_path):
    root = Path(os.environ["CYCONV_DATA"], "cifar10")
    if (root / "unpack.py").is_file():
        command = [sys.executable, root / "unpack.py", tmp_path, "--batches", "1"]
        subprocess.run(command, check=True, capture_output=True)
        root = tmp_path
    data = cifar10(root, batches=[1])
    assert data.train_x.shape == (10_000, 3, 32, 32)
    assert data.test_x.shape[1:] == (3, 32, 32)
    assert data.train_y[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]  # a frog, two trucks, a deer, ...
    # Close to what everyone who trains on CIFAR-10 subtracts, the mean of all five batches.
    np.testing.assert_allclose(data.train_x.mean((0, 2, 3)) / 255, [0.4914, 0.4822, 0.4465], atol=3e-3)


def test_files_may_be_gzipped(tmp_path):
    write(tmp_path, "binary")
    content = (tmp_path / "test_batch.bin").read_bytes()
    (tmp_path / "test_batch.bin").rename(tmp_path / "test_batch.bin.gz")
    (tmp_path / "test_batch.bin.gz").write_bytes(gzip.compress(content))
    np.testing.assert_array_equal(cifar10(tmp_path).test_y, batch("test_batch")[1])
    (tmp_path / "test_batch.bin.gz").write_bytes(gzip.compress(content)[:-9])
    with pytest.raises(ValueError, match=r"^cifar10: .*test_batch\.bin\.gz is a truncated or damaged gzip file"):
        cifar10(tmp_path)


def test_a_gzip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    write(tmp_path, "binary")
    monkeypatch.setattr("cyconv.data.cifar.MOST_IMAGES", 10)
    (tmp_path / "test_batch.bin").write_bytes(gzip.compress(bytes(2**24)))
    with pytest.raises(ValueError, match=r"^cifar10: .*test_batch\.bin unpacks to more than 92190 bytes"):
        cifar10(tmp_path)


# CIFAR-100

PIXELS100 = np.random.default_rng(0).integers(0, 256, (5, 3072), np.uint8)
FINE100, COARSE100 = [0, 99, 40, 7, 3], [4, 13, 5, 19, 0]


def binary100(count):
    rows = zip(COARSE100[:count], FINE100[:count], PIXELS100, strict=False)
    return b"".join(bytes([coarse, fine]) + pixels.tobytes() for coarse, fine, pixels in rows)


def python100(count):
    labels = {"fine_labels": FINE100[:count], "coarse_labels": COARSE100[:count]}
    return pickle.dumps({"data": PIXELS100[:count], "filenames": ["a.png"] * count, "batch_label": "x", **labels})


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("folder", "suffix", "encode"),
    [
        ("", ".bin", binary100),
        ("cifar-100-binary", ".bin", binary100),
        ("cifar-100-python", "", python100),
        ("", "", python100),
    ],
)
def test_cifar100_in_every_form(folder, suffix, encode, compress, tmp_path):
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / f"train{suffix}").write_bytes(compress(encode(5)))
    (tmp_path / folder / f"test{suffix}").write_bytes(compress(encode(2)))
    fine, coarse = cifar100(tmp_path), cifar100(str(tmp_path), labels="coarse")
    np.testing.assert_array_equal(fine.train_x.reshape(5, 3072), PIXELS100)
    np.testing.assert_array_equal(coarse.test_x.reshape(2, 3072), PIXELS100[:2])
    assert (fine.train_y.tolist(), coarse.train_y.tolist()) == (FINE100, COARSE100)
    assert fine.test_y.tolist() == FINE100[:2]
    assert (len(fine.class_names), len(coarse.class_names)) == (100, 20)
    assert [fine.class_names[label] for label in (0, 40, 99)] == ["apple", "lamp", "worm"]
    assert coarse.class_names[4] == "fruit_and_vegetables"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (binary100(2)[:-1], "is truncated or no file of CIFAR-100: its 6147 bytes are 1 images of 3074 bytes and 3073"),
        (bytes([0, 100]) + bytes(3072), "has the label 100 for image 0, expected 0 to 99"),
        (pickle.dumps({"data": PIXELS100, "labels": FINE100}), "has nothing under 'fine_labels', expected list"),
        (b"", "has 0 images, expected 1 to 60000"),
    ],
)
def test_cifar100_says_what_is_wrong(content, message, tmp_path):
    (tmp_path / "train.bin").write_bytes(content)
    (tmp_path / "test.bin").write_bytes(binary100(1))
    with pytest.raises(ValueError, match=rf"^cifar100: .*train\.bin {message}"):
        cifar100(tmp_path)


def test_cifar100_refuses(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^cifar100: .* has neither train\.bin nor train$"):
        cifar100(tmp_path)
    with pytest.raises(ValueError, match=r"^cifar100: `labels` must be one of 'fine', 'coarse', got 'both'"):
        cifar100(tmp_path, "both")
    with pytest.raises(TypeError, match=r"^cifar100: `root` must be a str or a path, got 3"):
        cifar100(3)
