"""The choice of the instruction set, and that all sets compute the same."""

import functools

import numpy as np
import pytest

from cyconv import _cpu, _dispatch
from tests import processes

SHOW = "from cyconv import _dispatch; print(_dispatch.ISA)"


def test_fastest_usable_set_is_the_default():
    assert processes.output(SHOW).strip() == _dispatch.USABLE[-1]


def test_blank_choice_is_none():
    assert processes.output(SHOW, CYCONV_ISA="  ").strip() == _dispatch.USABLE[-1]


def test_sets_are_known_and_in_order():
    assert set(_dispatch.USABLE) <= set(_dispatch.BUILT) <= set(_dispatch.KNOWN)
    assert [tag for tag in _dispatch.KNOWN if tag in _dispatch.USABLE] == _dispatch.USABLE
    assert set(_cpu.usable_instruction_sets()) <= set(_dispatch.KNOWN)


def test_unknown_set():
    status, _, said = processes.run("import cyconv.functional", CYCONV_ISA="mmx")
    assert status == 1
    usable = ", ".join(_dispatch.USABLE)
    assert f"ImportError: cyconv: CYCONV_ISA='mmx' is not a known instruction set; usable here: {usable}" in said


@pytest.mark.parametrize(
    ("built", "usable", "reason"),
    [(["baseline"], ["baseline"], "was not built"), (["baseline", "avx2"], ["baseline"], "cannot run on this CPU")],
)
def test_known_set_that_cannot_be_used(monkeypatch, built, usable, reason):
    monkeypatch.setattr(_dispatch, "BUILT", built)
    monkeypatch.setattr(_dispatch, "USABLE", usable)
    monkeypatch.setenv("CYCONV_ISA", "avx2")
    with pytest.raises(ImportError, match=f"^cyconv: CYCONV_ISA='avx2' {reason}; usable here: baseline$"):
        _dispatch._choose()


def test_no_usable_set(monkeypatch):
    monkeypatch.setattr(_dispatch, "BUILT", ["avx512"])
    monkeypatch.setattr(_dispatch, "USABLE", [])
    monkeypatch.delenv("CYCONV_ISA", raising=False)
    with pytest.raises(ImportError, match=r"^cyconv: no kernels for this CPU were built \(built: \['avx512'\]\)$"):
        _dispatch._choose()


# One pass through the kernels; channel counts with whole and broken vectors of every set.
COMPUTE = """
import sys
import numpy as np
from cyconv import functional as F, image

results = {}
for dtype in (np.float32, np.float64):
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape).astype(dtype)

    for C in (3, 24, 37):
        x, weight, bias = normal(2, C, 9, 11), normal(C + 1, C, 3, 3), normal(C + 1)
        for algorithm in ("auto", "im2col"):
            y = F.conv2d(x, weight, bias, 2, 1, algorithm=algorithm)
            gradients = F.conv2d_backward(y, x, weight, bias, 2, 1, algorithm=algorithm)
            results.update({f"conv2d {algorithm} {dtype.__name__} {C} {i}": a for i, a in enumerate((y, *gradients))})
        filters = normal(C, 1, 3, 3)
        y = F.conv2d(x, filters, None, 1, 1, 1, C)
        gradients = F.conv2d_backward(y, x, filters, None, 1, 1, 1, C)[:2]
        results.update({f"depthwise {dtype.__name__} {C} {i}": a for i, a in enumerate((y, *gradients))})
        results[f"transposed {dtype.__name__} {C}"] = F.conv_transpose2d(y, weight[:C], stride=2)
        rows, matrix = normal(5, 40 * C), normal(C, 40 * C)
        results[f"linear {dtype.__name__} {C}"] = F.linear(rows, matrix)
        results[f"softmax {dtype.__name__} {C}"] = F.softmax(x)
        results[f"tanh {dtype.__name__} {C}"] = F.tanh(x)
        results[f"relu {dtype.__name__} {C}"] = F.relu(x)
        mean, variance = F.batch_norm_statistics(x)
        results[f"mean {dtype.__name__} {C}"], results[f"variance {dtype.__name__} {C}"] = mean, variance
        results[f"batch_norm {dtype.__name__} {C}"] = F.batch_norm(x, mean, variance)
        picture = normal(40, 50, C)
        results[f"correlate {dtype.__name__} {C}"] = image.correlate(picture, normal(4, 5))
        results[f"gaussian {dtype.__name__} {C}"] = image.gaussian(picture, 1.5)
        results[f"box {dtype.__name__} {C}"] = image.box(picture, 15)
        results[f"sobel {dtype.__name__} {C}"] = image.sobel(picture)
np.savez(sys.stdout.buffer, **results)
"""


@functools.cache
def results_of(isa, folder):
    path = folder / f"{isa}.npz"
    code = COMPUTE.replace("sys.stdout.buffer", repr(str(path)))
    processes.output(code, CYCONV_ISA=isa, OMP_NUM_THREADS="2")
    with np.load(path) as file:
        return dict(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("instruction-sets")


@pytest.mark.parametrize("isa", _dispatch.USABLE)
def test_every_set_computes_the_same(isa, folder):
    """Sets sum in other orders and with or without fused multiply-add, so they differ by rounding only."""
    expected, actual = results_of(_dispatch.USABLE[-1], folder), results_of(isa, folder)
    assert actual.keys() == expected.keys()
    for name, array in actual.items():
        assert array.dtype == expected[name].dtype
        eps = np.finfo(np.float32 if "float32" in name else np.float64).eps  # statistics of float32 are float64
        tolerance = 16 * eps * np.abs(expected[name]).max()
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=tolerance, err_msg=name)
