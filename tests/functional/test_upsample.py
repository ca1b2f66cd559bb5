import numpy as np
import pytest

import cyconv
from cyconv import functional as F
from cyconv.gradient_check import check_gradients
from tests.memory_formats import FORMATS


def along(x, axis, outputs, step, mode, aligned):
    """Interpolate along one axis, an output at a time."""
    size, parts = x.shape[axis], []
    for i in range(outputs):
        if mode == "nearest":
            parts.append(x.take(min(int(np.floor(i * step)), size - 1), axis))
            continue
        position = i * (size - 1) / max(1, outputs - 1) if aligned else max(0.0, (i + 0.5) * step - 0.5)
        first = min(int(position), size - 1)
        fraction = position - first
        parts.append((1 - fraction) * x.take(first, axis) + fraction * x.take(min(first + 1, size - 1), axis))
    return np.stack(parts, axis)


CASES = [
    {"size": (10, 9)},
    {"size": 12},
    {"scale_factor": 2},
    {"scale_factor": (1.7, 0.6)},
    {"size": (3, 2)},
    {"size": (1, 1)},
]
MODES = [("nearest", False), ("bilinear", False), ("bilinear", True)]


def reference(x, mode, align_corners, size=None, scale_factor=None):
    H, W = x.shape[2:]
    if size is None:
        fh, fw = scale_factor if isinstance(scale_factor, tuple) else (scale_factor, scale_factor)
        outputs, steps = (int(H * fh), int(W * fw)), (1 / fh, 1 / fw)
    else:
        outputs = size if isinstance(size, tuple) else (size, size)
        steps = (H / outputs[0], W / outputs[1])
    rows = along(x.astype(np.float64), 2, outputs[0], steps[0], mode, align_corners)
    return along(rows, 3, outputs[1], steps[1], mode, align_corners)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize(("mode", "aligned"), MODES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_reference(case, mode, aligned, fmt, dtype, small_work_threaded):
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(dtype)
    expected = reference(x, mode, aligned, **case)
    results = []
    for threads in (1, 2, 3):
        with cyconv.num_threads(threads):
            results.append(F.interpolate(FORMATS[fmt](x), **case, mode=mode, align_corners=aligned))
    assert results[0].dtype == dtype
    assert all(np.array_equal(results[0], other) for other in results)
    np.testing.assert_allclose(results[0], expected, atol={np.float32: 1e-6, np.float64: 1e-14}[dtype])
    grad = np.random.default_rng(1).standard_normal(expected.shape)
    back = F.interpolate_backward(grad, x.astype(np.float64), **case, mode=mode, align_corners=aligned)
    np.testing.assert_allclose((back * x).sum(), (grad * expected).sum(), rtol=1e-5)  # the adjoint


@pytest.mark.parametrize(("mode", "aligned"), MODES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients(case, mode, aligned):
    x = np.random.default_rng(1).standard_normal((2, 2, 4, 3))
    options = {**case, "mode": mode, "align_corners": aligned}
    check_gradients(F.interpolate, x, backward=F.interpolate_backward, **options)


@pytest.mark.parametrize(("mode", "aligned"), MODES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_torch(case, mode, aligned):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(2).standard_normal((2, 3, 5, 7))
    options = {"align_corners": aligned} if mode == "bilinear" else {}
    expected = torch.nn.functional.interpolate(torch.from_numpy(x), **case, mode=mode, **options)
    np.testing.assert_allclose(F.interpolate(x, **case, mode=mode, align_corners=aligned), expected, atol=1e-12)


def test_nearest_copies_infinities_and_leaves_the_others():
    x = np.array([np.inf, 1.0, np.nan]).reshape(1, 1, 1, 3)
    np.testing.assert_array_equal(F.interpolate(x, scale_factor=(1, 2))[0, 0, 0], np.repeat(x[0, 0, 0], 2))
    aligned = F.interpolate(x, (1, 3), mode="bilinear", align_corners=True)
    np.testing.assert_array_equal(aligned, x)


def test_empty_batch_and_shape_in_place_of_the_array():
    assert F.interpolate(np.zeros((0, 2, 3, 3)), 6).shape == (0, 2, 6, 6)
    grad = np.ones((1, 1, 4, 4))
    assert F.interpolate_backward(grad, None, 4, input_shape=(1, 1, 2, 2)).tolist() == [[[[4, 4], [4, 4]]]]


X = np.ones((1, 1, 4, 4))
WRONG = [
    (lambda: F.interpolate(X), ValueError, "interpolate: either `size` or `scale_factor` must be given"),
    (lambda: F.interpolate(X, 3, 2), ValueError, "interpolate: either `size` or `scale_factor` must be given"),
    (lambda: F.interpolate(X, 0), ValueError, "interpolate: `size` must be at least 1, got 0"),
    (lambda: F.interpolate(X, scale_factor=0.1), ValueError, "interpolate: `scale_factor` 0.1 leaves nothing"),
    (lambda: F.interpolate(X, 3, mode="cubic"), ValueError, "`mode` must be one of 'nearest', 'bilinear', got 'cubic'"),
    (lambda: F.interpolate(X, 3, align_corners=True), ValueError, "`align_corners` has a meaning for bilinear"),
    (lambda: F.interpolate(X, scale_factor=(1, 2, 3)), ValueError, "`scale_factor` must be a number or a pair"),
    (lambda: F.interpolate_backward(X, X, 5), ValueError, r"`grad_output` must have shape \(1, 1, 5, 5\)"),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_wrong_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
