import numpy as np
import pytest

from cyconv import functional as F
from cyconv.gradient_check import check_gradients
from tests import references

rng = np.random.default_rng(0)
X, WEIGHT, TRANSPOSED, BIAS = (rng.standard_normal(s) for s in ((2, 4, 9), (6, 2, 3), (4, 3, 3), (6,)))
OPTIONS = [
    {"groups": 2},
    {"stride": 2, "padding": 3, "dilation": 2, "groups": 2},
    {"padding": (2, 0), "groups": 2},
    {"padding": "same", "stride": 2, "groups": 2},
    {"padding": "valid", "groups": 2},
]


def in_rows(options):
    """Return the options of the image with a single row."""
    options = dict(options)
    padding = options.pop("padding", 0)
    if padding == "same":  # ceil(9 / 2) = 5 outputs
        padding = (1, 1)
    elif padding == "valid":
        padding = 0
    before, after = (padding, padding) if isinstance(padding, int) else padding
    wide = {name: (1, value) for name, value in options.items() if name in ("stride", "dilation")}
    return {**wide, "padding": (0, 0, before, after), "groups": options.get("groups", 1)}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_reference(options, dtype):
    x, weight, bias = (array.astype(dtype) for array in (X, WEIGHT, BIAS))
    expected = references.conv2d(x[:, :, None], weight[:, :, None], bias, **in_rows(options))[:, :, 0]
    found = F.conv1d(x, weight, bias, **options)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, atol={np.float32: 1e-5, np.float64: 1e-13}[dtype])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients(options):
    check_gradients(F.conv1d, X, WEIGHT, BIAS, backward=F.conv1d_backward, **options)


TRANSPOSED_OPTIONS = [
    {"groups": 2},
    {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2},
    {"stride": 3, "dilation": 2, "groups": 2},
]


@pytest.mark.parametrize("options", TRANSPOSED_OPTIONS, ids=str)
def test_transposed_is_the_adjoint(options):
    check_gradients(F.conv_transpose1d, X, TRANSPOSED, BIAS, backward=F.conv_transpose1d_backward, **options)
    y = F.conv_transpose1d(X, TRANSPOSED, **options)
    other = np.random.default_rng(1).standard_normal(y.shape)
    back = {name: value for name, value in options.items() if name != "output_padding"}
    forward = F.conv1d(other, TRANSPOSED, **back)[:, :, : X.shape[2]]
    np.testing.assert_allclose((y * other).sum(), (X * forward).sum())


def test_needs():
    gradients = F.conv1d_backward(np.ones((2, 6, 7)), X, WEIGHT, BIAS, groups=2, needs=(False, True, False))
    assert [g is None for g in gradients] == [True, False, True]


def test_against_torch():
    torch = pytest.importorskip("torch")
    t = [torch.from_numpy(array) for array in (X, WEIGHT, TRANSPOSED, BIAS)]
    functional = torch.nn.functional
    expected = functional.conv1d(t[0], t[1], t[3], 2, 3, 2, 2).numpy()
    np.testing.assert_allclose(F.conv1d(X, WEIGHT, BIAS, 2, 3, 2, 2), expected, atol=1e-12)
    expected = functional.conv_transpose1d(t[0], t[2], t[3], 2, 1, 1, 2, 2).numpy()
    np.testing.assert_allclose(F.conv_transpose1d(X, TRANSPOSED, BIAS, 2, 1, 1, 2, 2), expected, atol=1e-12)


WRONG = [
    (lambda: F.conv1d(X[0], WEIGHT), ValueError, "conv1d: `x` must have 3 dimensions"),
    (lambda: F.conv1d(X, WEIGHT, stride=0), ValueError, "conv1d: `stride` must be at least 1, got 0"),
    (lambda: F.conv1d(X, WEIGHT, padding=-1), ValueError, "conv1d: `padding` must be at least 0, got -1"),
    (lambda: F.conv_transpose1d(X, TRANSPOSED, padding="same"), ValueError, "`padding` .same. has no meaning here"),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_wrong_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
