"""Adagrad, Adadelta and RMSprop: what follows from their formulas by hand."""

import numpy as np
import pytest

from cyconv.optimizers import Adadelta, Adagrad, RMSprop
from tests.optimizers.updates import trainable


def lengths(optimizer, gradients):
    """Return how far each gradient moves a weight."""
    parameters, moved = trainable(w=1), []
    for gradient in gradients:
        before = parameters["w"].read()[0]
        parameters["w"].grad = np.array([gradient])
        optimizer.step(parameters)
        moved.append(before - parameters["w"].read()[0])
    return moved


@pytest.mark.parametrize("gradient", [1e-3, 7.0, -7.0])
def test_adagrads_steps_shrink_with_the_root_of_their_number(gradient):
    expected = np.sign(gradient) * 0.1 / np.sqrt(np.arange(1, 6))
    np.testing.assert_allclose(lengths(Adagrad(0.1, epsilon=1e-30), [gradient] * 5), expected, rtol=1e-12)


def test_adagrads_learning_rate_decays():
    expected = 0.1 / (1 + 0.5 * np.arange(3)) / np.sqrt(np.arange(1, 4))
    optimizer = Adagrad(0.1, learning_rate_decay=0.5, epsilon=1e-30)
    np.testing.assert_allclose(lengths(optimizer, [2.0] * 3), expected, rtol=1e-12)


def test_rmsprop_forgets_geometrically():
    """Under a constant gradient the mean square is (1 - alpha^t) g^2."""
    expected = 0.1 / np.sqrt(1 - 0.5 ** np.arange(1, 6))
    np.testing.assert_allclose(lengths(RMSprop(0.1, alpha=0.5, epsilon=1e-30), [3.0] * 5), expected, rtol=1e-12)


def test_centred_rmsprop_divides_by_the_standard_deviation():
    """Gradients 2 and -2 with alpha 0.5: mean squares 2 and 3, means 1 and -0.5."""
    expected = [0.1 * 2 / np.sqrt(2 - 1), 0.1 * -2 / np.sqrt(3 - 0.25)]
    moved = lengths(RMSprop(0.1, alpha=0.5, epsilon=1e-30, centered=True), [2.0, -2.0])
    np.testing.assert_allclose(moved, expected, rtol=1e-12)


def test_adadeltas_first_step_is_given_by_epsilon():
    """No step yet: sqrt(e) / sqrt((1 - rho) g^2 + e) g (Zeiler 2012, algorithm 1); its length does not grow with g."""
    expected = np.sqrt(1e-6) / np.sqrt(0.1 * 9.0 + 1e-6) * 3.0
    assert lengths(Adadelta(1.0, rho=0.9, epsilon=1e-6), [3.0])[0] == pytest.approx(expected, rel=1e-12)
    assert lengths(Adadelta(1.0, rho=0.9, epsilon=1e-6), [3e6])[0] == pytest.approx(np.sqrt(1e-6 / 0.1), rel=1e-9)
