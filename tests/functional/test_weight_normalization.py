import numpy as np
import pytest

from cyconv import functional as F
from cyconv.gradient_check import check_gradients
from tests.memory_formats import FORMATS

rng = np.random.default_rng(0)
V = rng.standard_normal((5, 3, 2, 2))


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_lengths_and_directions(dim):
    g = np.ones([extent if axis == dim % 4 else 1 for axis, extent in enumerate(V.shape)]) * 2.5
    w = F.weight_norm(V, g, dim)
    for i in range(V.shape[dim]):
        filter_, direction = w.take(i, dim).ravel(), V.take(i, dim).ravel()
        np.testing.assert_allclose(np.linalg.norm(filter_), 2.5)
        np.testing.assert_allclose(filter_ @ direction, 2.5 * np.linalg.norm(direction))
    check_gradients(F.weight_norm, V, g, backward=F.weight_norm_backward, dim=dim)


def test_dtype():
    v, g = V.astype(np.float32), np.ones((5, 1, 1, 1), np.float32)
    assert F.weight_norm(v, g).dtype == np.float32
    assert [a.dtype for a in F.weight_norm_backward(v, v, g)] == [np.float32] * 2


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"weight_norm: `g` must have shape \(5, 1, 1, 1\)"):
        F.weight_norm(V, np.ones(5))
    with pytest.raises(ValueError, match="weight_norm: `dim` must be at most 3, got 4"):
        F.weight_norm(V, np.ones(5), 4)


def test_results_are_the_same_in_any_memory_order():
    v, grad = np.random.default_rng(5).standard_normal((2, 7, 6, 5, 3)).astype(np.float32)
    g = np.random.default_rng(6).standard_normal((7, 1, 1, 1)).astype(np.float32)
    expected = F.weight_norm(v, g), *F.weight_norm_backward(grad, v, g)
    for change in FORMATS.values():
        found = F.weight_norm(change(v), g), *F.weight_norm_backward(change(grad), change(v), g)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
