"""Gradient descent with momentum."""

import numpy as np
import pytest

from cyconv.optimizers import SGD
from cyconv.parameter import Parameter
from tests.optimizers.updates import trainable


def test_momentum_may_be_turned_on_and_off():
    optimizer, parameter = SGD(1.0), Parameter(np.zeros(1))
    for momentum, expected in ((0.0, -1.0), (0.5, -2.0), (0.5, -3.5), (0.0, -4.5)):
        optimizer.momentum = momentum
        parameter.grad = np.ones(1)
        optimizer.step({"w": parameter})
        assert parameter.data[0] == expected
        assert len(optimizer.state_dict()["arrays"]) == (momentum > 0)


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_momentum_adds_a_geometric_series(momentum):
    """Under a constant gradient g the n-th step is (1 + m + ... + m^(n-1)) g, with Nesterov's one term more."""
    for nesterov in (False, True):
        parameters, steps = trainable(w=1), []
        optimizer = SGD(1.0, momentum=momentum, nesterov=nesterov)
        for _ in range(4):
            before = parameters["w"].read()[0]
            parameters["w"].grad = np.ones(1)
            optimizer.step(parameters)
            steps.append(before - parameters["w"].read()[0])
        expected = [sum(momentum**k for k in range(n + nesterov)) for n in range(1, 5)]
        np.testing.assert_allclose(steps, expected, rtol=1e-12)


def test_decay_pulls_towards_zero():
    parameters = trainable(w=2)
    SGD(0.1, weight_decay=0.5).step(parameters)
    np.testing.assert_allclose(parameters["w"].read(), 1 - 0.1 * (1 + 0.5), rtol=1e-12)
