import numpy as np

from cyconv.layers import Embedding


def test_looks_up_and_adds_gradients():
    layer, indices = Embedding(5, 3).initialize(0), np.array([[1, 4], [4, 4]])
    y = layer(indices)
    np.testing.assert_array_equal(y, layer.weight.data[indices])
    assert y.shape[1:] == layer.output_shape((2,))
    assert layer.backward(np.ones((2, 2, 3), np.float32)) is None
    np.testing.assert_array_equal(layer.weight.grad, np.repeat([[0], [1], [0], [0], [3]], 3, axis=1))
    assert 0.8 < Embedding(100, 100).weight.data.std() < 1.2
