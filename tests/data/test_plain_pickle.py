import collections
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from cyconv.data.plain_pickle import read_pickle

DATA = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
LABELS = [3, 9, 0, 300]


def text2(value):
    """Text as Python 2 pickles it."""
    return b"U" + bytes([len(value)]) + value


def pickle_of_python2(data=DATA, labels=LABELS, module=b"numpy.core.multiarray", dtype=b"u1", fortran=b"\x89"):
    """A batch as Python 2 and NumPy 1 wrote it, instruction by instruction."""
    shape = b"".join(b"J" + struct.pack("<i", extent) for extent in data.shape)
    array = (
        b"c" + module + b"\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85q\x07U\x01bq\x08\x87q\x09Rq\x0a"
        b"(K\x01" + shape + b"\x86q\x0bcnumpy\ndtype\nq\x0c" + text2(dtype) + b"K\x00K\x01\x87Rq\x0d"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb" + fortran
        + b"T" + struct.pack("<I", data.size) + data.tobytes("F" if fortran == b"\x88" else "C") + b"tb"
    )  # fmt: skip
    numbers = b"".join(b"K" + bytes([n]) if n < 256 else b"M" + struct.pack("<H", n) for n in labels)
    return (
        b"\x80\x02}q\x01(" + text2(b"batch_label") + text2(b"training batch 1 of 5") + text2(b"labels") + b"]q\x03("
        + numbers + b"e" + text2(b"data") + array + text2(b"filenames") + b"](" + text2(b"a.png") + b"h\x03eu."
    )  # fmt: skip


def check(content):
    result = read_pickle(content)
    np.testing.assert_array_equal(result["data"], DATA)
    assert result["data"].dtype == np.uint8
    assert result["labels"] == LABELS
    return result


def test_python_2():
    content = pickle_of_python2()
    np.testing.assert_array_equal(pickle.loads(content, encoding="latin1")["data"], DATA)  # it is one
    result = check(content)
    assert list(result) == ["batch_label", "labels", "data", "filenames"]
    assert result["batch_label"] == b"training batch 1 of 5"
    assert result["filenames"] == [b"a.png", LABELS]


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
@pytest.mark.parametrize("fortran", [b"\x88", b"\x89"])
def test_names_and_orders_of_numpy_1_and_2(module, fortran):
    check(pickle_of_python2(module=module, fortran=fortran))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", "CF")
def test_python_3(protocol, order):
    data = DATA.copy(order)
    content = pickle.dumps({"data": data, "labels": LABELS, "pair": (1, True), b"k": None, "grün": -(2**70)}, protocol)
    result = check(content)
    assert (result["pair"], result["k"], result["grün"]) == ((1, True), None, -(2**70))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_read_only_arrays_of_python_3(protocol):
    data = DATA.copy()
    data.flags.writeable = False
    check(pickle.dumps({"data": data, "labels": LABELS}, protocol))


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/executed",)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Evil(), r"^it names '(posix|nt)\.system', which is not data"),
        (collections.OrderedDict(), r"^it names 'collections\.OrderedDict', which is not data"),
        (print, r"^it names '(builtins|__builtin__)\.print', which is not data"),
        (np.int64(3), r"^it names 'numpy\._?core\.multiarray\.scalar', which is not data"),
        (np.zeros(3, np.float32), r"^it has an array of the dtype 'f4', expected 'u1'"),
        (np.zeros(3, object), r"^it has an array of the dtype 'O8', expected 'u1'"),
        ({2**40: 2}, "^it has int where str is needed"),
    ],
)
def test_what_is_not_plain_data_is_refused_by_name(protocol, value, message):
    with pytest.raises(ValueError, match=message):
        read_pickle(pickle.dumps({"value": value}, protocol))


@pytest.mark.parametrize("protocol", [4, 5])
def test_sets_are_refused_by_name(protocol):
    with pytest.raises(ValueError, match=r"^it needs the instruction EMPTY_SET at byte \d+: refused$"):
        read_pickle(pickle.dumps({"value": {1}}, protocol))


START = b"\x80\x02"
CALL = START + b"c_codecs\nencode\n"
BAD = {
    "no dict": (START + b"K\x01.", "^it has int where dict is needed"),
    "new object": (START + b"cnumpy\nndarray\n)\x81.", "^it needs the instruction NEWOBJ at byte "),
    "lying length": (
        START + b"B\xff\xff\xff\x7fabc.",
        "^it is truncated: 2147483647 bytes are to follow byte 7, but 4 do",
    ),
    "lying long length": (START + b"\x8e" + b"\xff" * 8, "^it is truncated: 18446744073709551615 bytes"),
    "call of a class": (START + b"cnumpy\nndarray\n)R.", "^it calls NoneType at byte 18, which is no function"),
    "build a list": (START + b"])b.", "^it has list where Stateful is needed"),
    "no dtype": (START + b"cnumpy\ndtype\n)R.", "^it has an array of the dtype 'nothing', expected 'u1'"),
    "few to encode": (CALL + b"X\1\0\0\0a\x85R.", "^it gives '_codecs.encode' 1 values, expected 2"),
    "bytes to encode": (CALL + b"U\x01aX\6\0\0\0latin1\x86R.", "^it has bytes where str is needed"),
    "codec": (CALL + b"X\1\0\0\0aX\3\0\0\0hex\x86R.", "^it encodes text as 'hex', expected 'latin1'"),
    "not latin1": (
        CALL + b"X\3\0\0\0\xe2\x82\xacX\6\0\0\0latin1\x86R.",
        "^it encodes text that is not 'latin1'",
    ),
    "shape": (
        pickle_of_python2().replace(b"J\x04\0\0\0", b"J\x05\0\0\0"),
        r"shape \(5, 3072\), but 12288 bytes for it",
    ),
    "negative": (
        pickle_of_python2().replace(b"J\x04\0\0\0", b"J\xfc\xff\xff\xff"),
        r"shape \(-4, 3072\), but 12288 bytes",
    ),
    "overflow": (
        pickle_of_python2(DATA[:0]).replace(b"J\0\0\0\0J\0\x0c\0\0", b"K\0\x8a\x09" + b"\x01" * 9),
        r"shape \(0, 185190",
    ),
    "many axes": (
        pickle_of_python2(DATA[:1, :1]).replace(b"(K\x01J\1\0\0\0J\1\0\0\0\x86", b"(K\x01(" + b"K\1" * 99 + b"t"),
        r"array of shape \(1, 1, 1, 1, 1, 1, 1, 1, 1\), but 1 bytes",
    ),
    "text as shape": (pickle_of_python2().replace(b"J\x04\0\0\0", b"U\x031e9"), "^it has bytes where int is needed"),
    "dtype": (
        pickle_of_python2(dtype=b"V99999999999999999999"),
        "^it has an array of the dtype 'V9999999999999999999', ex",
    ),
    "truncated": (pickle_of_python2()[:-100], "^it is truncated"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said(name):
    content, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        read_pickle(content)


def test_no_claim_makes_it_allocate():
    text = b"X" + struct.pack("<I", 10**6) + b"a" * 10**6
    many = CALL + text + b"X\6\0\0\0latin1\x86q\x01R" + b"c_codecs\nencode\nh\x01R" * 1000 + b"."
    tracemalloc.start()
    try:
        for content in (BAD["lying length"][0], BAD["lying long length"][0], many):
            with pytest.raises(ValueError, match=r"^it (is truncated|encodes more text than it holds)"):
                read_pickle(content)
        assert tracemalloc.get_traced_memory()[1] < 5 * len(many)
    finally:
        tracemalloc.stop()


def test_no_change_of_a_byte_makes_it_fail_otherwise():
    """Whatever the file, the answer is a dict or a ValueError."""
    good = [pickle_of_python2(DATA[:, :6], LABELS), pickle.dumps({"data": DATA[:, :6], "labels": LABELS}, 5)]
    rng, read = np.random.default_rng(0), 0
    for _ in range(20_000):
        content = bytearray(good[rng.integers(2)])
        for _ in range(rng.integers(1, 4)):
            content[rng.integers(len(content))] = rng.integers(256)
        try:
            assert isinstance(read_pickle(bytes(content[: rng.integers(len(content) // 2, 2 * len(content))])), dict)
            read += 1
        except ValueError:
            pass
    assert 0 < read < 20_000
