import numpy as np

from cyconv.models import simple_convnet


def test_simple_convnet_is_the_books():
    network = simple_convnet(seed=0)
    parameters = network.parameters().values()
    assert sum(parameter.size for parameter in parameters) == 433_890
    weights = [parameter for parameter in parameters if len(parameter.shape) > 1]
    assert [weight.shape for weight in weights] == [(30, 1, 5, 5), (100, 4320), (10, 100)]
    assert all(abs(weight.data.std() - 0.01) < 0.001 for weight in weights)
    assert network.predict_proba(np.zeros((2, 1, 28, 28), np.float32)).shape == (2, 10)


def test_a_seed_fixes_the_weights():
    first, same, other = (simple_convnet(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], same[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)
