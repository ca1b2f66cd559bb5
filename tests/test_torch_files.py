"""PyTorch's files: written here by hand, by PyTorch where it is installed, and as published."""

import argparse
import collections
import contextlib
import datetime
import enum
import fractions
import functools
import math
import os
import pathlib
import pickle
import random
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cyconv import torch_files
from cyconv.layers import Linear
from cyconv.torch_files import load_torch

# A writer of both formats, instruction by instruction.


def text(value):
    return b"X" + struct.pack("<i", len(value)) + value.encode()


def integer(value):
    return b"J" + struct.pack("<i", value)


def several(*items):
    return b"(" + b"".join(items) + b"t"


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def mapping(entries, kind=b"}"):
    return kind + b"(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def pickled(value):
    return b"\x80\x02" + value + b"."


def storage(key, count, kind="Float"):
    return several(text("storage"), name("torch", f"{kind}Storage"), text(key), text("cpu"), integer(count)) + b"Q"


ORDERED = name("collections", "OrderedDict") + b")R"


def tensor(of, shape, strides, offset=0):
    shape, strides = (several(*map(integer, values)) for values in (shape, strides))
    arguments = several(of, integer(offset), shape, strides, b"\x89", ORDERED)
    return name("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def legacy(value, storages, counts=None):
    """Return the content of a file of the older format; `storages` are arrays by name."""
    head = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + pickled(b"M\xe9\x03") + pickled(b"}")
    keys = b"](" + b"".join(map(text, storages)) + b"e"
    body = b"".join(
        struct.pack("<q", (counts or {}).get(key, array.size)) + array.tobytes() for key, array in storages.items()
    )
    return head + pickled(value) + pickled(keys) + body


def write_zip(path, value, storages, order=b"little", compression=zipfile.ZIP_STORED, pickle="weights/data.pkl"):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(pickle, pickled(value))
        if order:
            archive.writestr("weights/byteorder", order)
        for key, array in storages.items():
            archive.writestr(f"weights/data/{key}", array.tobytes())
    return path


FLOATS = np.arange(24, dtype="<f4")
INTEGERS = np.arange(3, dtype="<i8")
STORAGES = {"0": FLOATS, "1": INTEGERS}
STATE = mapping(
    {
        "weight": tensor(storage("0", 24), (2, 3), (1, 4), offset=5),
        "count": tensor(storage("1", 3, "Long"), (), (), offset=2),
        "whole": tensor(storage("0", 24), (2, 3, 4), (12, 4, 1)),
        "none": tensor(storage("1", 3, "Long"), (0, 5), (5, 1), offset=3),
    },
    ORDERED,
)


def write(path, form, value=STATE, storages=STORAGES):
    if form == "zip":
        return write_zip(path, value, storages)
    path.write_bytes(legacy(value, storages))
    return path


@pytest.fixture(params=["legacy", "zip"])
def form(request):
    return request.param


def test_tensors_have_their_shapes_strides_and_offsets(form, tmp_path):
    state = load_torch(write(tmp_path / "weights.pt", form))
    assert list(state) == ["weight", "count", "whole", "none"]
    np.testing.assert_array_equal(state["weight"], [[5, 9, 13], [6, 10, 14]])
    np.testing.assert_array_equal(state["whole"], FLOATS.reshape(2, 3, 4))
    assert state["count"].shape == ()
    assert int(state["count"]) == 2
    assert state["none"].shape == (0, 5)
    assert [array.dtype for array in state.values()] == [np.float32, np.int64, np.float32, np.int64]
    state["whole"][0, 1, 1] = -1  # number 5: shared memory stays shared
    assert state["weight"][0, 0] == -1


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("Double", np.array([0.1, -np.inf], "<f8")),
        ("Half", np.array([0.5, 65504], "<f2")),
        ("Byte", np.array([0, 255], "u1")),
        ("Char", np.array([-128, 127], "i1")),
        ("Short", np.array([-(2**15), 5], "<i2")),
        ("Int", np.array([-(2**31), 5], "<i4")),
        ("ComplexFloat", np.array([1 + 2j, 3j], "<c8")),
        ("ComplexDouble", np.array([1 + 2j, 3j], "<c16")),
    ],
)
def test_kinds_of_numbers(kind, values, form, tmp_path):
    value = mapping({"x": tensor(storage("0", 2, kind), (2,), (1,))})
    state = load_torch(write(tmp_path / "weights.pt", form, value, {"0": values}))
    np.testing.assert_array_equal(state["x"], values)
    assert state["x"].dtype == values.dtype


def test_bfloat16_becomes_float32_and_bytes_become_bools(tmp_path):
    stored = np.array([1.5, -2.0, np.inf, 2.0**-130], np.float32)
    raw = (stored.view(np.uint32) >> 16).astype("<u2")
    flags = np.array([0, 1, 2, 255], "u1")
    value = mapping(
        {
            "x": tensor(storage("0", 4, "BFloat16"), (4,), (1,)),
            "flags": tensor(storage("1", 4, "Bool"), (4,), (1,)),
        }
    )
    state = load_torch(write(tmp_path / "weights.pt", "zip", value, {"0": raw, "1": flags}))
    assert state["x"].dtype == np.float32
    np.testing.assert_array_equal(state["x"], stored)
    np.testing.assert_array_equal(state["flags"].view(np.uint8), [0, 1, 1, 1])


def test_byte_orders(tmp_path):
    swapped = {key: array.byteswap() for key, array in STORAGES.items()}
    for order, storages in ((b"big", swapped), (b"little", STORAGES), (b"", STORAGES)):
        state = load_torch(write_zip(tmp_path / "weights.pt", STATE, storages, order))
        np.testing.assert_array_equal(state["whole"].ravel(), FLOATS)
        assert state["whole"].dtype.isnative


def test_checkpoints(form, tmp_path):
    weight = tensor(storage("0", 24), (24,), (1,))
    wrapped = mapping({"module.a": weight, "module.b.c": weight}, ORDERED)
    partly = mapping({"module.a": weight, "b": weight})
    value = mapping({"epoch": integer(7), "best": b"G" + struct.pack(">d", 0.5), "state_dict": wrapped, "ema": partly})
    path = write(tmp_path / "checkpoint.pth.tar", form, value, {"0": FLOATS})
    assert list(load_torch(path)) == ["a", "b.c"]
    assert list(load_torch(path, key="ema")) == ["module.a", "b"]
    with pytest.raises(ValueError, match=r"it has no state dict under 'model', only 'epoch' \(int\), 'best'"):
        load_torch(path, key="model")
    value = mapping({"epoch": integer(7), "net": wrapped})
    with pytest.raises(ValueError, match=r"entries that are no tensors, 'epoch' \(int\), 'net' \(OrderedDict\); `key`"):
        load_torch(write(path, form, value, {"0": FLOATS}))


def test_parameters_and_pairs_of_python_2(tmp_path):
    weight = tensor(storage("0", 24), (24,), (1,))
    parameter = name("torch._utils", "_rebuild_parameter") + several(weight, b"\x88", ORDERED) + b"R"
    pairs = b"](" + b"](" + text("a") + parameter + b"ee"
    value = name("collections", "OrderedDict") + several(pairs) + b"R" + mapping({"_metadata": b"}"}) + b"b"
    state = load_torch(write(tmp_path / "weights.pt", "legacy", value, {"0": FLOATS}))
    np.testing.assert_array_equal(state["a"], FLOATS)


def test_only_what_is_asked_for_is_read(tmp_path):
    value = mapping(
        {
            "optimizer": mapping({"momentum": tensor(storage("0", 24), (24,), (1,))}),
            "model": mapping({"w": tensor(storage("1", 3, "Long"), (3,), (1,))}),
        }
    )
    for form in ("legacy", "zip"):
        state = load_torch(write(tmp_path / "weights.pt", form, value))
        np.testing.assert_array_equal(state["w"], INTEGERS)


WEIGHT = tensor(storage("0", 24), (24,), (1,))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            mapping({"w": name("os", "system") + several(text("true")) + b"R"}),
            r"it has entries that are no tensors, 'w' \(os\.system\); `key` says",
        ),
        (mapping({"w": name("torch", "QInt8Storage")}), r"entries that are no tensors, 'w' \(torch\.QInt8Storage\)"),
        (several(text("module"), integer(1)) + b"Q", "it holds a whole model, whose code it needs"),
        (several() + b"Q", "it holds a whole model"),
        (WEIGHT, "it has Tensor where dict is needed"),
        (mapping({"w": storage("0", 24)}), r"entries that are no tensors, 'w' \(Storage\)"),
        (
            mapping({"w": tensor(storage("0", 24), (25,), (1,))}),
            "a tensor of 25 numbers, 1 apart, from 0 on, in",
        ),
        (
            mapping({"w": tensor(storage("0", 24), (24,), (1,), 1)}),
            "tensor of 24 numbers, 1 apart, from 1 on, in",
        ),
        (mapping({"w": tensor(storage("0", 24), (2, 2), (24, 1))}), "a tensor of 2x2 numbers, 24x1 apart, from 0 on"),
        (mapping({"w": tensor(storage("0", 24), (2**30,), (0,))}), "a tensor of 1073741824 numbers, 0 apart"),
        (mapping({"w": tensor(storage("0", 24), (0,), (1,), 25)}), "a tensor of 0 numbers, 1 apart, from 25 on"),
        (mapping({"w": tensor(storage("0", 24), (2,), (1, 1))}), "a tensor of 2 numbers, 1x1 apart"),
        (
            mapping({"w": tensor(storage("0", 24), (-1,), (1,))}),
            "it has a tensor of more axes than there can be",
        ),
        (mapping({"w": tensor(storage("0", 24), (2,), (-1,))}), "or of numbers below 0"),
        (mapping({"w": tensor(storage("0", 24), (1,) * 33, (1,) * 33)}), "a tensor of more axes than there can be"),
        (mapping({"w": tensor(storage("0", 2**31 - 1), (1,), (1,))}), "it has storages that are larger than the file"),
        (mapping({"w": tensor(storage("0", -1), (1,), (1,))}), "it has storages that are larger than the file"),
        (mapping({"v": WEIGHT, "w": tensor(storage("0", 23), (1,), (1,))}), "it has two storages of the same name"),
        (mapping({"w": tensor(integer(5), (1,), (1,))}), "it has int where Storage is needed"),
        (mapping({"w": name("torch._utils", "_rebuild_tensor") + b")R"}), "a tensor made of 0 values, expected 4"),
        (name("torch", "FloatStorage") + b")R", "it calls _Kind at byte .*, which is no function"),
        (
            several(text("storage"), *[b"N"] * 4, integer(1)) + b"Q",
            "it has storages that are parts of others, or are described in an unknown way",
        ),
    ],
)
def test_refuses_what_is_no_state_dict(value, message, form, tmp_path):
    path = write(tmp_path / "weights.pt", form, value, {"0": FLOATS})
    with pytest.raises(ValueError, match=rf"^load_torch: '.*weights\.pt' cannot be read: .*{message}"):
        load_torch(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it begins with b'', as no file of weights does that torch.save writes"),
        (b"hello world", "it begins with b'hell'"),
        (pickled(b"K\x05"), "it is a pickle, but none that torch.save writes"),
        (
            legacy(STATE, STORAGES).replace(b"M\xe9\x03", b"M\xea\x03", 1),
            "it has another version of the format",
        ),
        (legacy(STATE, STORAGES)[:-1], "it is truncated: storages are missing"),
        (legacy(STATE, {"0": FLOATS}), "it has other storages than its tensors name"),
        (legacy(STATE, STORAGES, {"0": 25}), "it has a storage that is said to be of 24 numbers, but is not"),
        (b"PK\x03\x04" + bytes(100), "it is a damaged zip archive"),
    ],
)
def test_refuses_damaged_files(content, message, tmp_path):
    path = tmp_path / "weights.th"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_torch(path)


def test_refuses_other_archives(tmp_path):
    path = tmp_path / "weights.pt"
    cases = [
        ({"pickle": "data.pkl"}, "it is a zip archive, but none that torch.save writes: it lacks data.pkl"),
        ({"compression": zipfile.ZIP_DEFLATED}, "it is a compressed zip archive, or a damaged one"),
        ({"order": b"middle"}, "it has neither byte order, little nor big"),
        ({"storages": {"0": FLOATS}}, "it is a damaged zip archive .*There is no item named 'weights/data/1'"),
        ({"storages": {"0": FLOATS[:3], "1": INTEGERS}}, "it has 12 bytes for a storage of 24 numbers"),
    ]
    for options, message in cases:
        write_zip(path, STATE, **{"storages": STORAGES, **options})
        with pytest.raises(ValueError, match=message):
            load_torch(path)


def test_refuses_arguments(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_torch(tmp_path / "none.pt")
    with pytest.raises(TypeError, match="load_torch: `path` must be a str or a path, got 5"):
        load_torch(5)
    with pytest.raises(TypeError, match="load_torch: `key` must be text, got 5"):
        load_torch(tmp_path / "none.pt", key=5)


@pytest.mark.filterwarnings("ignore:load_torch. entries that are no tensors are left out")
def test_damaged_files_are_refused_or_read(form, tmp_path):
    """Bytes changed and cut off anywhere: ValueError or arrays, in memory of the file's size."""
    path = write(tmp_path / "weights.pt", form)
    whole, rng, refused, read = path.read_bytes(), random.Random(0), 0, 0
    load_torch(path)
    tracemalloc.start()
    try:
        for _ in range(500):
            content = bytearray(whole)
            for _ in range(rng.choice((0, 1, 1, 2, 5))):
                content[rng.randrange(len(content))] = rng.choice((0, 1, 255, rng.randrange(256)))
            if rng.random() < 0.3:
                del content[rng.randrange(len(content)) :]
            path.write_bytes(content)
            try:
                load_torch(path)
                read += 1
            except ValueError:
                refused += 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused > 150
    assert read > 50
    assert peak < 2**21


def test_files_of_pytorch(form, tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    state = module.state_dict()
    state["half"], state["brain"] = torch.randn(3, 4).half(), torch.randn(3, 4).bfloat16()
    state["transposed"] = torch.randn(3, 4).T
    state["parameter"] = torch.nn.Parameter(torch.randn(2))
    state["part"] = torch.arange(10)[2:9:3]
    state["flag"] = torch.tensor(True)
    path = tmp_path / "weights.pt"
    checkpoint = {"epoch": 3, "optimizer": torch.optim.Adam(module.parameters()).state_dict(), "state_dict": state}
    for value in (state, checkpoint):
        torch.save(value, path, _use_new_zipfile_serialization=form == "zip")
        arrays = load_torch(path)
        assert list(arrays) == list(state)
        for key, expected in state.items():
            found = torch.from_numpy(np.array(arrays[key]))
            assert found.dtype == (torch.float32 if expected.dtype == torch.bfloat16 else expected.dtype)
            assert torch.equal(found, expected.detach().to(found.dtype)), key
    torch.save(module, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(
        ValueError, match=r"it holds a whole model, .*\(torch\.nn\.modules\.container\.Sequential\); only a"
    ):
        load_torch(path)


class Color(enum.Enum):
    RED = 1


class Settings:
    """A class of one's own, and below more kinds of them."""

    def __init__(self, depth):
        self.depth = depth


class Slots:
    __slots__ = ("value",)


class Names(dict):
    pass


class Numbers(list):
    pass


def foreign_objects():
    """Return what people keep in checkpoints beside the weights; some of it twice, and some in circles."""
    arguments = argparse.Namespace(lr=0.1, milestones=[30, 60])
    arguments.myself = arguments
    slots = Slots()
    slots.value = 5
    circle = set()
    settings = Settings(3)
    settings.circle = (settings, circle)
    circle.add(settings)
    return {
        "arguments": arguments,
        "again": arguments,
        "counter": collections.Counter("abc"),
        "set": {1, 2, (3, 4)},
        "frozen": frozenset("ab"),
        "default": collections.defaultdict(list, {"a": [1]}),
        "deque": collections.deque([1, 2], 5),
        "path": pathlib.PurePosixPath("/data/train"),
        "date": datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
        "delta": datetime.timedelta(3),
        "color": Color.RED,
        "settings": settings,
        "slots": slots,
        "names": Names(a=1),
        "numbers": Numbers([1, 2]),
        "scalar": np.float64(0.5),
        "integer": np.int64(3),
        "array": np.arange(6).reshape(2, 3),
        "objects": np.array([None, "a"], object),
        "dtype": np.dtype("f4"),
        "generator": np.random.default_rng(0),
        "random state": np.random.RandomState(0).get_state(),
        "python state": random.getstate(),
        "bytes": b"\xff\0",
        "bytearray": bytearray(b"ab"),
        "complex": 1 + 2j,
        "fraction": fractions.Fraction(1, 3),
        "huge": 2**5000,
        "range": range(3),
        "slice": slice(1, 2),
        "function": math.sin,
        "class": collections.OrderedDict,
        "partial": functools.partial(int, base=2),
        "keys": {
            None: 1,
            (1, 2): 2,
            0.5: 3,
            True: 4,
            b"\xff": 5,
            2**40: 6,
            Color.RED: 7,
            frozenset(): 8,
            "x" * 5000: 9,
        },
        "ellipsis": ...,
        "exception": ValueError("a"),
    }


def pickled_objects(value, protocol):
    """Return the instructions of a pickle of `value` that leave it on the stack of another."""
    content = pickle.dumps(value, protocol)
    assert content[:1] == b"\x80"
    return content[2:-1]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_foreign_objects_beside_the_weights_are_passed_over(protocol, form, tmp_path):
    """Each kind by itself, and all of them."""
    objects = foreign_objects()
    for chosen in [*({name: value} for name, value in objects.items()), objects]:
        entries = pickled_objects(chosen, protocol)
        value = entries + b"(" + text("state_dict") + mapping({"module.w": WEIGHT}) + b"u"
        arrays = load_torch(write(tmp_path / "checkpoint.pt", form, value, {"0": FLOATS}))
        assert list(arrays) == ["w"], chosen
        np.testing.assert_array_equal(arrays["w"], FLOATS)
        flat = write(tmp_path / "checkpoint.pt", form, entries + b"(" + text("w") + WEIGHT + b"u", {"0": FLOATS})
        with pytest.warns(UserWarning, match="load_torch: entries that are no tensors are left out: '"):
            arrays = load_torch(flat)
        assert list(arrays) == ["w"], chosen


def test_objects_in_the_place_of_weights_are_an_error(form, tmp_path):
    state = mapping({"w": WEIGHT, "bias": pickled_objects(Settings(3), 2)})
    path = write(tmp_path / "checkpoint.pt", form, mapping({"state_dict": state}), {"0": FLOATS})
    with pytest.raises(
        ValueError, match=r"it has entries that are no tensors, 'bias' \(.*test_torch_files\.Settings\)"
    ):
        load_torch(path)
    state = mapping({"w": WEIGHT, "norm._extra_state": pickled_objects(Settings(3), 2)})
    path = write(tmp_path / "checkpoint.pt", form, mapping({"state_dict": state}), {"0": FLOATS})
    assert list(load_torch(path)) == ["w"]
    weights = Linear(24, 1, bias=False)
    path = write(tmp_path / "weights.pt", form, mapping({"other": WEIGHT, "weight": b"N"}), {"0": FLOATS})
    with pytest.warns(UserWarning, match=r"are left out: 'weight' \(NoneType\)"):
        state = load_torch(path)
    with pytest.raises(ValueError, match="missing: weight; unexpected: other"):
        weights.load_state_dict(state)
    path = write(tmp_path / "weights.pt", form, pickled_objects(Settings(3), 2), {})
    with pytest.raises(
        ValueError, match=r"it holds a whole model, .* or another object \(.*Settings\); only a state dict"
    ):
        load_torch(path)
    nested = mapping({"loss": WEIGHT, "net": mapping({"w": WEIGHT})})
    path = write(tmp_path / "weights.pt", form, nested, {"0": FLOATS})
    with pytest.raises(ValueError, match=r"no tensors, 'net' \(dict\); `key` says which entry"):
        load_torch(path)


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def test_nothing_is_executed(form, tmp_path):
    owned = tmp_path / "owned"
    for protocol in (2, 3, 4, 5):
        attack = pickled_objects(Attack(owned), protocol)
        for value in (attack, mapping({"state_dict": mapping({"w": WEIGHT}), "x": attack}), mapping({"w": attack})):
            path = write(tmp_path / "weights.pt", form, value, {"0": FLOATS})
            with contextlib.suppress(ValueError):
                load_torch(path)
            assert not owned.exists()
    pickle.loads(pickle.dumps(Attack(owned)))  # it is one
    assert owned.exists()


@pytest.mark.parametrize("prefix", ["model.", "module.model._orig_mod.", "_orig_mod.module."])
def test_wrappers_are_taken_off_in_any_order(prefix, form, tmp_path):
    value = mapping({prefix + "a": WEIGHT, prefix + "b.model.c": WEIGHT})
    assert list(load_torch(write(tmp_path / "weights.pt", form, value, {"0": FLOATS}))) == ["a", "b.model.c"]
    value = mapping({prefix + "weight": tensor(storage("0", 24), (1, 24), (24, 1)), "loss.weight": WEIGHT})
    state = load_torch(write(tmp_path / "weights.pt", form, value, {"0": FLOATS}))
    network = Linear(24, 1, bias=False)
    assert network.load_state_dict(state, strict=False) == ([], ["loss.weight"])
    np.testing.assert_array_equal(network.weight.data, [FLOATS])


def test_tensors_with_attributes(tmp_path):
    shape, strides = several(integer(24)), several(integer(1))
    inner = several(storage("0", 24), integer(0), shape, strides, b"\x89", ORDERED)
    function = name("torch._utils", "_rebuild_tensor_v2")
    value = name("torch._tensor", "_rebuild_from_type_v2")
    value += several(function, name("torch", "Tensor"), inner, b"}") + b"R"
    state = load_torch(write(tmp_path / "weights.pt", "zip", mapping({"w": value}), {"0": FLOATS}))
    np.testing.assert_array_equal(state["w"], FLOATS)


def test_foreign_objects_of_pytorch(form, tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    checkpoint = {
        **foreign_objects(),
        "device": torch.device("cpu"),
        "torch dtype": torch.bfloat16,
        "size": torch.Size([1, 2]),
        "torch state": torch.get_rng_state(),
        "whole": module,
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 5).state_dict(),
        "layout": torch.strided,
        "sparse": torch.eye(3).to_sparse(),
        "state_dict": {f"module._orig_mod.{key}": value for key, value in module.state_dict().items()},
    }
    named = module.state_dict()["0.weight"].clone()
    named.purpose = "kernel"
    checkpoint["state_dict"]["module._orig_mod.named"] = named
    if form == "zip":
        checkpoint["unsigned"] = torch.ones(3, dtype=torch.uint16)
        checkpoint["eight bits"] = torch.ones(3).to(torch.float8_e4m3fn)
    path = tmp_path / "checkpoint.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(checkpoint, path, _use_new_zipfile_serialization=form == "zip")
    arrays = load_torch(path)
    expected = {**module.state_dict(), "named": named}
    assert list(arrays) == list(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(arrays[key], value.numpy(), err_msg=key)


@pytest.mark.skipif("CYCONV_DATA" not in os.environ, reason="CYCONV_DATA names no folder of data sets")
def test_a_published_file():
    """Of 2018, in the older format, from a network that was trained on several GPUs."""
    folder = Path(os.environ["CYCONV_DATA"], "resnet20_cifar10")
    state = load_torch(folder / "resnet20.th")
    with np.load(folder / "resnet20.npz") as expected:
        assert sorted(state) == sorted(expected)
        for key in expected:
            np.testing.assert_array_equal(state[key], expected[key])


def test_storages_together_are_no_larger_than_the_file(tmp_path):
    """In an archive several names can stand for the same bytes."""
    names = [str(number) for number in range(20)]
    value = mapping({name: tensor(storage(name, 2000), (2000,), (1,)) for name in names})
    path = write_zip(tmp_path / "weights.pt", value, {"0": np.zeros(2000, "<f4")})
    with pytest.raises(ValueError, match="it has storages that are larger than the file"):
        load_torch(path)


def test_the_pickles_of_the_older_format_are_bounded(monkeypatch, tmp_path):
    path = write(tmp_path / "weights.th", "legacy")
    monkeypatch.setattr(torch_files, "MOST_PICKLED", 100)
    with pytest.raises(ValueError, match="it is truncated"):
        load_torch(path)


def test_a_list_fills_one_dict(tmp_path):
    """Recalled, it has nothing left for the next one: a file cannot grow by that."""
    pairs = b"](" + several(text("a"), storage_of("0")) + b"eq\x01"
    twice = name("collections", "OrderedDict") + pairs + b"\x85R" + name("collections", "OrderedDict") + b"h\x01\x85R"
    value = b"}(" + text("first") + twice.replace(b"\x85R", b"\x85R" + text("second"), 1) + b"u"
    path = write_zip(tmp_path / "weights.pt", value, {"0": np.zeros(2, np.float32)})
    assert list(load_torch(path, "first")) == ["a"]
    assert load_torch(path, "second") == {}


def storage_of(key):
    return tensor(storage(key, 2), (2,), (1,))
