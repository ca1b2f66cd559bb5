import contextlib
import errno
import json
import math
import os
import random
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cyconv import layers
from cyconv.averaging import AverageWeights
from cyconv.history import History
from cyconv.network import Network
from cyconv.serialization import load_arrays, open_arrays, save_arrays
from cyconv.training import Checkpoint, EarlyStopping

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

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        save_arrays(path, {"x": np.ones(3)})
    assert os.listdir(tmp_path) == ["a.safetensors"]
    np.testing.assert_array_equal(load_arrays(path)[0]["x"], 0)


posix = pytest.mark.skipif(os.name != "posix", reason="permissions, links, pipes and signals are POSIX's")


@posix
def test_permissions_of_a_new_file_follow_the_umask_and_links_stay(tmp_path):
    path, link = tmp_path / "a.safetensors", tmp_path / "link"
    save_arrays(path, ARRAYS)
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    link.symlink_to(path)
    save_arrays(link, {"x": np.ones(1)})
    assert link.is_symlink()
    assert list(load_arrays(path)[0]) == ["x"]
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "new")
    save_arrays(dangling, ARRAYS)
    assert dangling.is_symlink()
    assert not (tmp_path / "new").is_symlink()


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o444])
@pytest.mark.parametrize("save", [lambda path: save_arrays(path, ARRAYS), lambda path: History().save(path)])
def test_a_file_that_is_replaced_hands_on_its_permissions(tmp_path, monkeypatch, mode, save):
    path, seen = tmp_path / "a", []
    path.touch()
    path.chmod(mode)
    flush = os.fsync

    def look(descriptor):
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    save(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert seen[0] == mode


@posix
def test_a_secret_file_is_never_open_to_others(tmp_path, monkeypatch):
    path, seen = tmp_path / "a", []
    path.touch()
    path.chmod(0o600)
    opened = os.open

    def look(*arguments, **keywords):
        descriptor = opened(*arguments, **keywords)
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    monkeypatch.setattr(os, "open", look)
    save_arrays(path, ARRAYS)
    assert seen[0] == 0o600


@posix
@pytest.mark.skipif("os.getuid() != 0", reason="only root can give a file away")
def test_a_file_that_is_replaced_keeps_its_owner(tmp_path):
    path = tmp_path / "a"
    path.touch()
    os.chown(path, 65534, 65533)
    save_arrays(path, ARRAYS)
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65533)


@posix
@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_written_to(tmp_path, linked):
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    path = pipe
    if linked:
        path = tmp_path / "link"
        path.symlink_to(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    save_arrays(path, ARRAYS, {"a": "b"})
    reader.join(30)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    (tmp_path / "copy").write_bytes(received[0])
    arrays, metadata = load_arrays(tmp_path / "copy")
    assert metadata == {"a": "b"}
    np.testing.assert_array_equal(arrays["weight"], ARRAYS["weight"])
    with pytest.raises(ValueError, match=r"load: '.*' is no safetensors file but a pipe or device"):
        load_arrays(path)


@posix
def test_a_device_stays_one(tmp_path):
    device = tmp_path / "full"  # a link: if it were replaced, then not the machine's
    device.symlink_to("/dev/full")
    if not stat.S_ISCHR(os.stat("/dev/full").st_mode):
        pytest.skip("there is no /dev/full")
    for save in (lambda: save_arrays(device, ARRAYS), lambda: History([{"loss": 1.0}]).save(device)):
        with pytest.raises(OSError, match="No space left") as caught:
            save()
        assert caught.value.errno == errno.ENOSPC
    save_arrays("/dev/null", ARRAYS)
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert os.listdir(tmp_path) == ["full"]


def child(code, *arguments, **keywords):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], text=True, **keywords)


@posix
def test_a_full_disk_is_the_systems_error(tmp_path):
    """A limit on the size of files stands for the disk."""
    path = tmp_path / "a"
    save_arrays(path, {"x": np.zeros(3)})
    code = """
import errno, resource, sys, numpy as np
from cyconv import Network, layers
from cyconv.history import History
from cyconv.serialization import save_arrays
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for save in (
    lambda path: save_arrays(path, {"x": np.zeros(10**4)}),
    Network([layers.Linear(100, 100)], seed=0).save,
    History([{"loss": 1.0}] * 10**4).save,
):
    try:
        save(sys.argv[1])
    except OSError as error:
        assert error.errno == errno.EFBIG, error
    else:
        raise AssertionError("there is no error")
"""
    assert child(code, path).wait(60) == 0
    assert os.listdir(tmp_path) == ["a"]
    np.testing.assert_array_equal(load_arrays(path)[0]["x"], 0)


@posix
@pytest.mark.skipif("os.getuid() != 0", reason="root can become somebody whom permissions hold back")
def test_a_folder_that_may_not_be_written_to():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a")
        save_arrays(path, {"x": np.zeros(3)})
        os.chmod(folder, 0o555)
        os.seteuid(65534)
        try:
            for target in (path, Path(folder, "new")):
                with pytest.raises(PermissionError, match=str(folder)):
                    save_arrays(target, ARRAYS)
        finally:
            os.seteuid(0)
        assert os.listdir(folder) == ["a"]


SLOW_SAVE = """
import os, sys, time, numpy as np
from cyconv.serialization import save_arrays
def wait(descriptor):
    print("writing", flush=True)
    time.sleep(100)
os.fsync = wait
save_arrays(sys.argv[1], {"x": np.ones(3)})
"""


@posix
def test_what_a_killed_run_left_behind_is_deleted_and_what_a_living_one_writes_is_not(tmp_path):
    path = tmp_path / "a.safetensors"
    save_arrays(path, {"x": np.zeros(3)})
    killed, living = (child(SLOW_SAVE, path, stdout=subprocess.PIPE) for _ in range(2))
    try:
        for process in (killed, living):
            assert process.stdout.readline() == "writing\n"
        killed.send_signal(signal.SIGKILL)
        killed.wait(30)
        assert len(os.listdir(tmp_path)) == 3
        others = [".a.safetensors.short", ".b.safetensors.0123456789abcdef", ".a.safetensors.0123456789abcdef.x"]
        for name in others:
            (tmp_path / name).touch()
        (tmp_path / ".a.safetensors.00000000000000ff").mkdir()
        (tmp_path / ".a.safetensors.000000000000000f").symlink_to(path)
        save_arrays(path, {"x": np.full(3, 2.0)})
        left = set(os.listdir(tmp_path)) - {path.name, *others}
        assert {".a.safetensors.00000000000000ff", ".a.safetensors.000000000000000f"} < left
        assert len(left) == 3  # and the living one's
        np.testing.assert_array_equal(load_arrays(path)[0]["x"], 2)
        living.send_signal(signal.SIGKILL)
        living.wait(30)
        History().save(path)  # whatever is written there
        assert len(os.listdir(tmp_path)) == 1 + len(others) + 2
    finally:
        for process in (killed, living):
            process.kill()
            process.wait(30)
            process.stdout.close()


def test_writers_of_one_file_at_once_leave_one_whole_file(tmp_path):
    path = tmp_path / "a"
    errors = []

    def write(value):
        try:
            for _ in range(20):
                save_arrays(path, {"x": np.full(1000, value)})
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert len(set(load_arrays(path)[0]["x"])) == 1
    assert os.listdir(tmp_path) == ["a"]


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    path = tmp_path / "a"
    save_arrays(path, ARRAYS, {"epoch": "7"})
    whole = path.read_bytes()
    padding = 8 + int.from_bytes(whole[:8], "little")
    unharmed = 0
    for place in range(len(whole)):
        for bit in range(8):
            change(path, place, whole[place] ^ 1 << bit)
            try:
                arrays, metadata = load_arrays(path)
            except ValueError:
                continue
            unharmed += 1
            assert place < padding  # blanks, or the name of the digest, which is then one more text
            assert metadata.pop("epoch") == "7"
            assert set(map(len, metadata.values())) <= {64}
            for name, array in ARRAYS.items():
                np.testing.assert_array_equal(arrays[name], array)
        change(path, place, whole[place])
    assert unharmed < 200


def change(path, place, byte):
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(bytes([byte]))


def header(arrays, **metadata):
    """Return the beginning of a file that others could have written: names, types, shapes and bytes."""
    listed, position = {"__metadata__": metadata} if metadata else {}, 0
    for name, (kind, shape, size) in arrays.items():
        listed[name] = {"dtype": kind, "shape": shape, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(listed).encode()
    return len(text).to_bytes(8, "little") + text


def test_files_without_a_digest_are_read(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(header({"x": ("F32", [2], 8), "flags": ("BOOL", [3], 3)}, a="b") + FLOATS.tobytes() + b"\0\1\2")
    arrays, metadata = load_arrays(path)
    assert metadata == {"a": "b"}
    np.testing.assert_array_equal(arrays["x"], FLOATS)
    assert arrays["flags"].tolist() == [False, True, True]


FLOATS = np.array([1.5, -2.0], "<f4")


def test_a_digest_that_differs_is_said(tmp_path):
    path = tmp_path / "a"
    save_arrays(path, {"x": FLOATS})
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(ValueError, match="it is damaged: its content differs from the digest in its metadata"):
        load_arrays(path)
    with open_arrays(path) as file, pytest.raises(ValueError, match="it is damaged"):
        file.arrays(lambda name: False)


def test_16_bit_types_are_read_exactly(tmp_path):
    """All of the 65,536 values of each."""
    path, bits = tmp_path / "a", np.arange(2**16, dtype="<u2")
    path.write_bytes(header({"b": ("BF16", [256, 256], 2**17), "h": ("F16", [2**16], 2**17)}) + bits.tobytes() * 2)
    arrays, _ = load_arrays(path)
    assert (arrays["b"].dtype, arrays["h"].dtype) == (np.float32, np.float16)
    fraction, exponent = bits & 127, (bits >> 7 & 255).astype(int)
    value = np.where(exponent > 0, 1 + fraction / 128, fraction / 64) * 2.0 ** (exponent - 127)
    value = np.where(exponent < 255, value, np.where(fraction > 0, np.nan, np.inf)) * np.where(bits >> 15, -1, 1)
    np.testing.assert_array_equal(arrays["b"].ravel(), value)
    np.testing.assert_array_equal(arrays["h"].view(np.uint16), bits)


def test_types_that_numpy_lacks_can_be_passed_over(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(header({"x": ("F32", [2], 8), "q": ("F8_E4M3", [3], 3)}) + FLOATS.tobytes() + bytes(3))
    with open_arrays(path) as file:
        assert file.shapes == {"x": (2,), "q": (3,)}
        np.testing.assert_array_equal(file.arrays(lambda name: name == "x")["x"], FLOATS)
    with pytest.raises(ValueError, match="'q' is of type F8_E4M3, which NumPy lacks"):
        load_arrays(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header({"x": ("F32", [2], 8)}), r"it has 0 bytes of arrays, expected 8"),
        (header({"x": ("F32", [3], 8)}) + bytes(8), r"it has 8 bytes for 'x', of shape \[3\] and F32"),
        (header({"x": ("F32", [0, 2**60], 0)}), "it describes 'x' as"),
        (header({"x": ("F99", [2], 8)}) + bytes(8), "it describes 'x' as"),
        (header({"x": ("F32", [-2, -1], 8)}) + bytes(8), "it describes 'x' as"),
        (header({"x": ("F32", [1] * 65, 4)}) + bytes(4), "it describes 'x' as"),
        (header({"x": ("F32", [2.0], 8)}) + bytes(8), "it describes 'x' as"),
        (header({}, a=3), "its metadata is not text"),
        (b"\x02" + bytes(7) + b"[]", "its header is no JSON object"),
        (b"\x09" + bytes(7) + b'{"a' + b"b" * 6, r"its header is no JSON \(Unterminated"),
        (b"\x12" + bytes(7) + b'{"a":"b","a":"b"} ', r"its header is no JSON \(a name stands twice"),
        (b"\xa0\x86\x01" + bytes(5) + b"[" * 100_000, r"its header is no JSON \(maximum recursion"),
        (b"\0\0\0\0\0\0\0\x01{}", "its header cannot be 72057594037927936 bytes of 10"),
        (b"PK\x03\x04" + bytes(99), "torch.save is read by `cyconv.torch_files.load_torch`, one of numpy.savez"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9", "a file of torch.save is read by `cyconv.torch_files.load_torch`"),
        (b"\x93NUMPY\x01\0v\0", "a file of numpy.save is read by numpy.load"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, content, message):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match=rf"load: '.*a' is no complete safetensors file of NumPy's types: .*{message}"):
        load_arrays(tmp_path / "a")


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
        (("a", {"\ud800": np.ones(1)}), ValueError, r"save: '\\ud800' cannot be written: it is no valid text"),
        (("a", {}, {"x": "\ud800"}), ValueError, r"save: '\\ud800' cannot be written: it is no valid text"),
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


def saved_files(folder):
    """Write one file of each kind; return how each is read."""
    x, y = np.random.default_rng(0).random((4, 1, 4, 4), np.float32), np.arange(4) % 2
    options = {"epochs": 2, "optimizer": "adam", "progress": False}

    def network():
        return Network([layers.Conv2d(1, 2, 3), layers.BatchNorm2d(2), layers.Flatten(), layers.Linear(8, 2)], seed=0)

    def callbacks():
        return [AverageWeights(0.5), EarlyStopping("loss")]

    def loaded(path):
        other = network()
        other.load(path)
        return other.state_dict()

    def resumed(path):
        other = network()
        history = other.fit(x, y, resume=path, callbacks=callbacks(), **options)
        return {**other.state_dict(), "history": np.array(history["loss"])}

    network().save(folder / "weights")
    save_arrays(folder / "arrays", ARRAYS, {"a": "b"})
    History([{"loss": 0.5, "accuracy": math.nan}, {"loss": math.inf, "accuracy": 1.0}]).save(folder / "history")
    network().fit(x, y, callbacks=[*callbacks(), Checkpoint(folder / "run")], **options)
    (folder / "without digest").write_bytes(without_digest(*load_arrays(folder / "run")))
    return {
        "weights": loaded,
        "arrays": lambda path: load_arrays(path)[0],
        "history": lambda path: {"text": np.array(str(History.load(path).epochs))},
        "run": resumed,
        "without digest": resumed,
    }


def without_digest(arrays, metadata):
    order = sorted(arrays, key=lambda name: -arrays[name].itemsize)
    kinds = {"f": "F", "i": "I", "u": "U"}
    listed = {
        name: (f"{kinds[arrays[name].dtype.kind]}{8 * arrays[name].itemsize}", arrays[name].shape, arrays[name].nbytes)
        for name in order
    }
    return header(listed, **metadata) + b"".join(arrays[name].tobytes() for name in order)


def mutated(rng, whole):
    """Return content with bits flipped, bytes set, cut, doubled or cut off."""
    content = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2, 5))):
        place = rng.randrange(len(content))
        length = rng.choice((1, 2, 8, 50))
        kind = rng.randrange(5)
        if kind == 0:
            content[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[place] = rng.choice((0, 1, 9, 34, 48, 57, 91, 93, 123, 125, 127, 128, 255))
        elif kind == 2 and len(content) > length:
            del content[place : place + length]
        elif kind == 3:
            content[place:place] = content[place : place + length]
        elif len(content) > 1:
            del content[rng.randrange(1, len(content)) :]
        content = content or bytearray(b"{")
    return bytes(content)


FACTOR, BASE = 60, 2**20  # of the file's size (a byte of JSON becomes up to 30, and messages quote it), and besides


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["weights", "arrays", "history", "run", "without digest"])
def test_damaged_files_are_refused_or_read(tmp_path, name, count):
    """Whatever was changed: what was written, or ValueError (a file without a digest may hold other numbers)."""
    rng, read = random.Random(f"{name} {count}"), saved_files(tmp_path)[name]
    path = tmp_path / name
    whole, expected, refused = path.read_bytes(), read(path), 0
    guarded = name in ("weights", "arrays", "run")
    tracemalloc.start()
    try:
        for _ in range(count // 5):  # there are five kinds
            content = mutated(rng, whole)
            path.write_bytes(content)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            found = None
            with contextlib.suppress(ValueError, FloatingPointError):
                found = read(path)
            assert tracemalloc.get_traced_memory()[1] - before < BASE + FACTOR * len(content)
            refused += found is None
            if found is not None and guarded:
                assert found.keys() == expected.keys()
                for key, array in expected.items():
                    np.testing.assert_array_equal(found[key], array, err_msg=key)
    finally:
        tracemalloc.stop()
    assert refused > count // 20
