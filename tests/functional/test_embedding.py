import numpy as np
import pytest

from cyconv import functional as F

WEIGHT = np.random.default_rng(0).standard_normal((7, 3))
INDICES = np.random.default_rng(1).integers(0, 6, (4, 5))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_reference(dtype):
    weight = WEIGHT.astype(dtype)
    y = F.embedding(INDICES, weight)
    np.testing.assert_array_equal(y, weight[INDICES])
    assert y.dtype == dtype
    grad = np.random.default_rng(2).standard_normal(y.shape).astype(dtype)
    expected = np.zeros((7, 3))
    for place in np.ndindex(INDICES.shape):
        expected[INDICES[place]] += grad[place]
    found = F.embedding_backward(grad, INDICES, weight)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_no_indices():
    assert F.embedding(np.zeros((0, 2), int), WEIGHT).shape == (0, 2, 3)
    assert not F.embedding_backward(np.zeros((0, 2, 3)), np.zeros((0, 2), int), WEIGHT).any()


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"embedding: `indices` must be from 0 to 6, .*, got -1 to 2"):
        F.embedding([-1, 2], WEIGHT)
    with pytest.raises(TypeError, match="embedding: `indices` must be integers, got float64"):
        F.embedding([0.5], WEIGHT)
    with pytest.raises(ValueError, match=r"embedding_backward: `grad_output` must have shape \(1, 3\)"):
        F.embedding_backward(np.ones((2, 3)), [1], WEIGHT)
