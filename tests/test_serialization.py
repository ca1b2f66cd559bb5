import os
import stat

import numpy as np
import pytest

from cyconv import serialization
from cyconv.serialization import load_arrays, save_arrays

ARRAYS = {
    "weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2).transpose(0, 3, 1, 2),
    "count": np.array(3),
    "empty": np.zeros((0, 4)),
    "big endian": np.arange(3, dtype=">f8"),
    "reversed": np.arange(5, dtype=np.uint8)[::-1],
}


def test_round_trip_of_any_memory_order(tmp_path):
    save_arrays(tmp_path / "a.safetensors", ARRAYS, {"ü": "∂"})
    arrays, metadata = load_arrays(tmp_path / "a.safetensors")
    assert metadata == {"ü": "∂"}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].shape == array.shape


def test_other_programs_can_read_it(tmp_path):
    from safetensors.numpy import load_file

    save_arrays(tmp_path / "a.safetensors", ARRAYS)
    np.testing.assert_array_equal(load_file(tmp_path / "a.safetensors")["weight"], ARRAYS["weight"])


@pytest.mark.parametrize("length", [0, 4, 30, -3])
def test_truncated_files_are_refused(tmp_path, length):
    path = tmp_path / "a.safetensors"
    save_arrays(path, ARRAYS)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"load: '.*a\.safetensors' is no complete safetensors file"):
        load_arrays(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04" + bytes(100), b"\xff" * 200, b"\x80\x04N." * 40])
def test_foreign_files_are_refused(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match="is no complete safetensors file"):
        load_arrays(tmp_path / "a")


def test_a_missing_file_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_arrays(tmp_path / "a")


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, error):
    path = tmp_path / "a.safetensors"
    save_arrays(path, {"x": np.zeros(3)})

    def fail(*_):
        raise error

    monkeypatch.setattr(serialization, "_flush", fail)
    with pytest.raises(type(error)):
        save_arrays(path, {"x": np.ones(3)})
    assert os.listdir(tmp_path) == ["a.safetensors"]
    np.testing.assert_array_equal(load_arrays(path)[0]["x"], 0)


@pytest.mark.skipif(os.name != "posix", reason="permissions and links are POSIX's")
def test_permissions_follow_the_umask_and_links_stay(tmp_path):
    path, link = tmp_path / "a.safetensors", tmp_path / "link"
    save_arrays(path, ARRAYS)
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    link.symlink_to(path)
    save_arrays(link, {"x": np.ones(1)})
    assert link.is_symlink()
    assert list(load_arrays(path)[0]) == ["x"]


def test_nothing_is_something_too(tmp_path):
    for metadata in (None, {}, {"a": "b"}):
        save_arrays(tmp_path / "a", {}, metadata)
        assert load_arrays(tmp_path / "a") == ({}, metadata or {})


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((3, ARRAYS), TypeError, "save: `path` must be a str or a path, got 3"),
        ((None, ARRAYS), TypeError, "save: `path` must be a str or a path, got None"),
        (("", ARRAYS), ValueError, "save: `path` must be the path of a file, got ''"),
        (("a\0b", ARRAYS), ValueError, "save: `path` must be the path of a file, got 'a"),
        (("a", None), TypeError, "save: `arrays` must map names to arrays, got None"),
        (("a", {3: np.ones(1)}), TypeError, "save: `arrays` must map names to arrays, got {3:"),
        (("a", {"x": None}), TypeError, "save: `x` must be an array, got None"),
        (("a", {"x": np.ma.ones(1)}), TypeError, "save: `x` must have no mask"),
        (("a", {"x": np.ones(1, complex)}), ValueError, "save: `arrays` cannot be written: .*complex128"),
        (("a", {"x": np.array([None])}), ValueError, "save: `arrays` cannot be written: .*object"),
        (("a", {"__metadata__": np.ones(1)}), ValueError, "save: `arrays` must not hold the name '__metadata__'"),
        (("a", {}, "abc"), TypeError, "save: `metadata` must map names to text, got 'abc'"),
        (("a", {}, {"x": 3}), TypeError, "save: `metadata` must be text, got 3 for 'x'"),
    ],
)
def test_what_cannot_be_written_is_named(tmp_path, monkeypatch, arguments, kind, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=message):
        save_arrays(*arguments)
    assert os.listdir(tmp_path) == []


def test_where_there_is_no_file_to_write_or_read(tmp_path):
    with pytest.raises(IsADirectoryError, match=f"Is a directory: '{tmp_path}'"):
        save_arrays(tmp_path, ARRAYS)
    with pytest.raises(FileNotFoundError, match=f"No such folder to write to: '{tmp_path / 'no'}'"):
        save_arrays(tmp_path / "no" / "a", ARRAYS)
    with pytest.raises(TypeError, match="load: `path` must be a str or a path, got 0"):
        load_arrays(0)
