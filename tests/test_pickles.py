"""The reader of pickles: it builds what the ordinary one builds from data, and nothing from anything else."""

import collections
import math
import pickle
import pickletools
import random
import struct
import tracemalloc

import pytest

from cyconv import _pickles
from cyconv._pickles import Foreign, Stateful, as_text, expect, expect_length, read_pickle

DATA = {
    "none": None,
    "flags": [True, False],
    "integers": [0, 255, 256, 65535, 65536, -1, -(2**31), 2**31, 2**62, -(2**200), 2**500],
    "floats": [0.0, -1.5, 1e300, math.inf],
    "text": ["", "a", "é", "x" * 300, "日本"],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
    "nested": {"a": {"b": [{}, [], ({"c": ()},)]}},
    7: "seven",
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_data_is_what_the_ordinary_reader_returns(protocol):
    content = b"before" + pickle.dumps(DATA, protocol) + b"behind"
    value, end = read_pickle(content, 6, names={})
    assert value == DATA
    assert [type(number) for number in value["flags"]] == [bool, bool]
    assert content[end:] == b"behind"


def test_bytes_are_read():
    for protocol in (3, 4, 5):
        assert read_pickle(pickle.dumps([b"", b"\xff" * 300], protocol), names={})[0] == [b"", b"\xff" * 300]
    assert read_pickle(pickle.dumps(bytearray(b"ab"), 5), names={})[0] == b"ab"


def test_text_of_python_2_is_bytes_but_as_a_key():
    content = b"\x80\x02}U\x04dataU\x02\xff\x00s."
    assert read_pickle(content, names={})[0] == {"data": b"\xff\x00"}
    assert as_text(b"ab") == as_text("ab") == "ab"


def test_shared_and_cyclic_values():
    shared = [1]
    shared.append(shared)
    value, _ = read_pickle(pickle.dumps((shared, shared), 4), names={})
    assert value[0] is value[1] is value[0][1]


class _Point(Stateful):
    def set_state(self, state):
        self.state = expect_length(state, 2, "point")


def test_names_are_those_of_the_table():
    names = {"geometry.Point": lambda arguments: _Point(), "geometry.ORIGIN": 0}
    content = b"\x80\x02(cgeometry\nPoint\n)RK\x01K\x02\x86bcgeometry\nORIGIN\nt."
    (point, origin), _ = read_pickle(content, names=names)
    assert (point.state, origin) == ((1, 2), 0)
    assert read_pickle(pickle.dumps(collections.OrderedDict, 4), names={"collections.OrderedDict": 5})[0] == 5


def test_persistent_ids_are_looked_up():
    assert read_pickle(b"\x80\x02K\x05\x85Q.", names={}, persistent=lambda key: key[0] * 2)[0] == 10


def test_nothing_is_executed(tmp_path):
    class Attack:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'owned')!r}, 'w')",)

    for protocol in (2, 3, 4, 5):
        content = pickle.dumps({"state": Attack()}, protocol)
        with pytest.raises(ValueError, match=r"^it names '(builtins|__builtin__)\.exec', which is not data$"):
            read_pickle(content, names={})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has b'' at byte 0, expected a pickle of protocol 2 or newer"),
        (b"(dp0\n.", r"it has b'\(dp0' at byte 0, expected a pickle of protocol 2"),
        (b"\x80\x02X\xff\xff\xff\x7fab.", "it is truncated: 2147483647 bytes are to follow byte 7, but 3 do"),
        (b"\x80\x02", "it is truncated: 1 bytes are to follow byte 2, but 0 do"),
        (b"\x80\x02.", "it takes a value from an empty stack at byte 2"),
        (b"\x80\x02(.", "it takes a value from an empty stack at byte 3"),
        (b"\x80\x02Nt.", "it looks for a mark that is not there at byte 3"),
        (b"\x80\x02h\x05.", "it recalls value 5, which it has not remembered"),
        (b"\x80\x02}(Nu.", "it has a dict with a key that lacks a value"),
        (b"\x80\x02}NNs.", "it has NoneType where str is needed"),
        (b"\x80\x02}))s.", "it has tuple where str is needed"),
        (b"\x80\x02}J\x00\x00\x00\x80Ns.", "it has int where str is needed"),
        (b"\x80\x02}U\x01\xffNs.", "it has text that is not ascii"),
        (b"\x80\x02NNa.", "it has NoneType where list is needed"),
        (b"\x80\x02X\x01\x00\x00\x00\xff.", "it has text that is not utf-8"),
        (b"\x80\x02cos\nsystem\n.", "it names 'os.system', which is not data"),
        (b"\x80\x02cos", "it has a name without end at byte 3"),
        (b"\x80\x02NN\x93.", "it has NoneType where str is needed"),
        (b"\x80\x02N)R.", "it calls NoneType at byte 4, which is no function"),
        (b"\x80\x02})b.", "it has dict where Stateful is needed"),
        (b"\x80\x02)Q.", "it needs the instruction BINPERSID at byte 3: refused"),
        (b"\x80\x02N\x82\x01.", "it needs the instruction EXT1 at byte 3: refused"),
        (b"\x80\x02(i\x00", "it needs the instruction INST at byte 3: refused"),
        (b"\x80\x02\xff.", r"it needs the instruction b'\\xff' at byte 2: refused"),
    ],
)
def test_refuses(content, message):
    with pytest.raises(ValueError, match=message):
        read_pickle(content, names={})


def test_helpers_say_what_is_wrong():
    with pytest.raises(ValueError, match="it has str where int or float is needed"):
        expect("a", int, float)
    with pytest.raises(ValueError, match=r"it gives 'torch\.Size' 2 values, expected 1"):
        expect_length((1, 2), 1, "torch.Size")


def test_instructions_are_counted(monkeypatch):
    monkeypatch.setattr(_pickles, "MOST_INSTRUCTIONS", 100)
    with pytest.raises(ValueError, match="it is a pickle of more than 100 instructions"):
        read_pickle(b"\x80\x02" + b"N" * 200 + b".", names={})


def test_keys_are_short():
    """A long one could be recalled, and looked up, with each instruction."""
    key = b"T" + struct.pack("<I", 5000) + b"a" * 5000
    with pytest.raises(ValueError, match="it has a name of 5000 characters, more than 4096"):
        read_pickle(b"\x80\x02}" + key + b"Ns.", names={})


def test_deep_nesting_is_no_recursion():
    depth = 300_000
    value, _ = read_pickle(b"\x80\x02)" + b"\x85" * depth + b".", names={})
    for _ in range(depth):
        (value,) = value
    assert value == ()


@pytest.mark.parametrize("foreign", [False, True])
def test_damaged_pickles_are_refused_or_read(foreign):
    """Bytes changed, cut out and put in: ValueError or a value, in little memory."""
    rng = random.Random(0)
    names = {"collections.OrderedDict": lambda arguments: {}}
    codes = [ord(code.code) for code in pickletools.opcodes]
    whole = [pickle.dumps([DATA, collections.OrderedDict(), (b"xy",)], protocol) for protocol in (2, 4)]
    outcomes = collections.Counter()
    tracemalloc.start()
    try:
        for _ in range(4000):
            content = bytearray(rng.choice(whole))
            for _ in range(rng.randint(1, 4)):
                place = rng.randrange(len(content))
                content[place : place + rng.choice((0, 1, 1, 9))] = [rng.choice(codes), rng.randrange(256)][
                    : rng.randint(0, 2)
                ]
            content = bytes(content[: rng.choice((len(content), rng.randrange(len(content) + 1)))])
            try:
                read_pickle(content, names=names, persistent=len, foreign=foreign)
                outcomes["read"] += 1
            except ValueError:
                outcomes["refused"] += 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert outcomes["read"] > 50
    assert outcomes["refused"] > 2000
    assert peak < 2**20


def test_placeholders_stand_for_what_is_foreign():
    """Classes, functions, what they make and take, sets and unusual keys: nothing is looked up."""
    value = {
        "set": {1, 2},
        "frozen": frozenset("a"),
        "counter": collections.Counter("ab"),
        (1, 2): "tuple",
        None: "none",
        "x" * 5000: "long",
        "plain": [1, {"a": 2.5}],
        "huge": 2**5000,
        "class": collections.deque,
    }
    for protocol in (2, 3, 4, 5):
        found, _ = read_pickle(pickle.dumps(value, protocol), names={}, foreign=True)
        assert found["plain"] == [1, {"a": 2.5}]
        assert found["huge"] == 2**5000
        kinds = {key: each.name for key, each in found.items() if isinstance(each, Foreign)}
        module = "__builtin__" if protocol == 2 else "builtins"
        assert kinds["set"] in (f"{module}.set", "builtins.set")
        assert kinds["frozen"] in (f"{module}.frozenset", "builtins.frozenset")
        assert kinds["counter"] == "collections.Counter"
        assert kinds["class"] == "collections.deque"
        keys = [key.name for key in found if isinstance(key, Foreign)]
        assert keys == ["tuple", "NoneType", "str"]
        with pytest.raises(ValueError, match=r"^it (names|needs the instruction|has)"):
            read_pickle(pickle.dumps(value, protocol), names={})


def test_placeholders_of_old_classes_and_of_circles():
    content = b"\x80\x02(cold\nStyle\nK\x01o}X\x01\x00\x00\x00aK\x02sb."  # an instance as Python 2 writes it
    found, end = read_pickle(content, names={}, foreign=True)
    assert (found.name, end) == ("old.Style", len(content))
    circle = []
    circle.append((circle, {1: circle}))
    for protocol in (2, 4):
        found, _ = read_pickle(pickle.dumps((circle,), protocol), names={}, foreign=True)
        assert found[0][0][0] is found[0]
    with pytest.raises(ValueError, match="it calls NoneType at byte 3, which is no function"):
        read_pickle(b"\x80\x02(o.", names={}, foreign=True)
