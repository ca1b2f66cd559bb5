import itertools
from importlib import import_module

import numpy as np
import pytest

from cyconv import functional as F
from cyconv.gradient_check import check_gradients

rng = np.random.default_rng(0)
X, WEIGHT, TRANSPOSED, BIAS = (
    rng.standard_normal(s) for s in ((2, 4, 5, 6, 7), (6, 2, 3, 2, 3), (4, 3, 3, 2, 3), (6,))
)
OPTIONS = [
    {"groups": 2},
    {"stride": 2, "padding": 1, "groups": 2},
    {"stride": (1, 2, 1), "padding": (2, 0, 3), "dilation": (2, 1, 2), "groups": 2},
    {"stride": (3, 1, 1), "padding": (2, 1, 1), "groups": 2},
]


def triple(value):
    return value if isinstance(value, tuple) else (value,) * 3


def conv3d(x, weight, bias, stride=1, padding=0, dilation=1, groups=1):
    """Sum over all kernel positions of shifted volumes, in float64."""
    s, p, d = triple(stride), triple(padding), triple(dilation)
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    padded = np.pad(x, ((0, 0), (0, 0), *((n, n) for n in p)))
    kernel = weight.shape[2:]
    sizes = [(padded.shape[2 + i] - d[i] * (kernel[i] - 1) - 1) // s[i] + 1 for i in range(3)]
    output = np.zeros((x.shape[0], weight.shape[0], *sizes))
    IC, OC = weight.shape[1], weight.shape[0] // groups
    for place in itertools.product(*map(range, kernel)):
        window = tuple(slice(place[i] * d[i], place[i] * d[i] + (sizes[i] - 1) * s[i] + 1, s[i]) for i in range(3))
        seen = padded[(slice(None), slice(None), *window)]
        for g in range(groups):
            filters = weight[(slice(g * OC, (g + 1) * OC), slice(None), *place)]
            output[:, g * OC : (g + 1) * OC] += np.einsum("ncdhw,oc->nodhw", seen[:, g * IC : (g + 1) * IC], filters)
    return output + np.asarray(bias, np.float64).reshape(-1, 1, 1, 1)


@pytest.fixture(params=["whole", "one by one"])
def parts(request, monkeypatch):
    if request.param == "one by one":
        monkeypatch.setattr(import_module("cyconv.functional._volumes"), "STACK_BYTES", 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_reference(options, dtype, parts):
    x, weight, bias = (array.astype(dtype) for array in (X, WEIGHT, BIAS))
    found = F.conv3d(x, weight, bias, **options)
    assert found.dtype == dtype
    expected = conv3d(x, weight, bias, **options)
    np.testing.assert_allclose(found, expected, atol={np.float32: 2e-5, np.float64: 1e-12}[dtype])
    flipped = x[:, :, ::-1].copy()[:, :, ::-1]  # other strides
    np.testing.assert_array_equal(F.conv3d(flipped, weight, bias, **options), found)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients(options, parts):
    check_gradients(F.conv3d, X, WEIGHT, BIAS, backward=F.conv3d_backward, max_entries=40, **options)


@pytest.mark.parametrize("op", ["conv3d", "conv_transpose3d"])
def test_parts_of_a_batch_whose_slices_shrink_or_grow(op, monkeypatch):
    """Three volumes in parts of two, of the larger ones: the smaller ones are cut at the same places."""
    rng = np.random.default_rng(4)
    x, weight = rng.normal(size=(3, 2, 4, 6, 6)), rng.normal(size=(2, 2, 3, 3, 3))
    forward, backward = getattr(F, op), getattr(F, f"{op}_backward")
    whole = forward(x, weight, None, 2, 1)
    grad = rng.normal(size=whole.shape)
    gradients = backward(grad, x, weight, None, 2, 1)
    outputs, plane = (whole.shape[2], 36) if op == "conv3d" else (x.shape[2], whole.shape[3] * whole.shape[4])
    monkeypatch.setattr(import_module("cyconv.functional._volumes"), "STACK_BYTES", 2 * outputs * 3 * 2 * plane * 8)
    np.testing.assert_allclose(forward(x, weight, None, 2, 1), whole, atol=1e-12)
    for found, expected in zip(backward(grad, x, weight, None, 2, 1)[:2], gradients[:2], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


TRANSPOSED_OPTIONS = [
    {"groups": 2},
    {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2},
    {"stride": (1, 2, 2), "padding": (2, 0, 1), "output_padding": (0, 1, 1), "dilation": (2, 1, 2), "groups": 2},
    {"stride": (3, 1, 1), "padding": (1, 1, 1), "output_padding": (2, 0, 0), "groups": 2},
]


@pytest.mark.parametrize("options", TRANSPOSED_OPTIONS, ids=str)
def test_transposed_is_the_adjoint(options, parts):
    keywords = {"backward": F.conv_transpose3d_backward, "max_entries": 40, **options}
    check_gradients(F.conv_transpose3d, X, TRANSPOSED, BIAS, **keywords)
    y = F.conv_transpose3d(X, TRANSPOSED, **options)
    other = np.random.default_rng(1).standard_normal(y.shape)
    back = {name: value for name, value in options.items() if name != "output_padding"}
    D, H, W = X.shape[2:]
    forward = conv3d(other, TRANSPOSED, np.zeros(4), **back)[:, :, :D, :H, :W]
    np.testing.assert_allclose((y * other).sum(), (X * forward).sum())


def test_same_and_valid():
    assert F.conv3d(X, WEIGHT, padding="same", stride=2, groups=2).shape == (2, 6, 3, 3, 4)
    valid = F.conv3d(X, WEIGHT, padding="valid", groups=2)
    np.testing.assert_array_equal(valid, F.conv3d(X, WEIGHT, groups=2))


def test_empty_batch():
    assert F.conv3d(X[:0], WEIGHT, BIAS, groups=2).shape == (0, 6, 3, 5, 5)
    gradients = F.conv3d_backward(np.zeros((0, 6, 3, 5, 5)), X[:0], WEIGHT, BIAS, groups=2)
    assert [g.shape for g in gradients] == [(0, *X.shape[1:]), WEIGHT.shape, (6,)]
    assert F.conv_transpose3d(X[:0], TRANSPOSED, BIAS, groups=2).shape == (0, 6, 7, 7, 9)


def test_needs():
    y = F.conv3d(X, WEIGHT, BIAS, groups=2)
    gradients = F.conv3d_backward(y, X, WEIGHT, BIAS, groups=2, needs=(False, True, False))
    assert [g is None for g in gradients] == [True, False, True]


def test_against_torch():
    torch = pytest.importorskip("torch")
    t = [torch.from_numpy(array) for array in (X, WEIGHT, TRANSPOSED, BIAS)]
    functional = torch.nn.functional
    for options in OPTIONS:
        expected = functional.conv3d(t[0], t[1], t[3], **options).numpy()
        np.testing.assert_allclose(F.conv3d(X, WEIGHT, BIAS, **options), expected, atol=1e-12)
    for options in TRANSPOSED_OPTIONS:
        expected = functional.conv_transpose3d(t[0], t[2], t[3], **options).numpy()
        np.testing.assert_allclose(F.conv_transpose3d(X, TRANSPOSED, BIAS, **options), expected, atol=1e-12)


WRONG = [
    (lambda: F.conv3d(X[0], WEIGHT), ValueError, "conv3d: `x` must have 5 dimensions"),
    (
        lambda: F.conv3d(X, WEIGHT),
        ValueError,
        r"conv3d: `weight` expects 2 input channels \(2 per group x 1 groups\), but `x` has shape \(2, 4, 5, 6, 7\)",
    ),
    (lambda: F.conv3d(X, WEIGHT, stride=(1, 2), groups=2), ValueError, "conv3d: `stride` must be an int or three ints"),
    (
        lambda: F.conv3d(X[:, :, :1], WEIGHT, groups=2),
        ValueError,
        r"conv3d: the kernel spans \(3, 2, 3\) .*, more than the padded input \(1, 6, 7\)",
    ),
    (
        lambda: F.conv3d(X, WEIGHT, padding="wide", groups=2),
        ValueError,
        "`padding` must be .same., .valid., .full., an int or three",
    ),
    (
        lambda: F.conv_transpose3d(X, TRANSPOSED, output_padding=1, groups=2),
        ValueError,
        "conv_transpose3d: `output_padding` must be less than `stride` or `dilation`",
    ),
    (
        lambda: F.conv3d_backward(X, X, WEIGHT, groups=2),
        ValueError,
        r"conv3d_backward: `grad_output` must have shape \(2, 6, 3, 5, 5\), got \(2, 4, 5, 6, 7\)",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_wrong_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
