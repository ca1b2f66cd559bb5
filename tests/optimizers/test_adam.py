"""What is particular to Adam's family."""

import numpy as np
import pytest

from cyconv.optimizers import AdaBound, Adam, Adamax, AdamW, NAdam
from tests.optimizers.updates import trainable


def test_bounds_follow_a_schedule():
    """Halving the rate halves every later step of AdaBound, as with the authors' program."""
    whole, half = AdaBound(0.1), AdaBound(0.05, base_learning_rate=0.1)
    a, b = trainable(w=3), trainable(w=3)
    whole.step(a)
    half.step(b)
    np.testing.assert_allclose(1 - b["w"].read(), (1 - a["w"].read()) / 2, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("kind", [Adam, AdamW, Adamax, NAdam])
def test_the_first_step_does_not_depend_on_the_gradients_scale(kind, scale):
    """Bias correction makes it the learning rate in the direction of the sign (Kingma and Ba, section 2.1)."""
    parameters = trainable(w=3)
    parameters["w"].grad = scale * np.array([1.0, -2.0, 4.0])
    start = parameters["w"].read().copy()
    settings = {"weight_decay": 0.0} if kind is AdamW else {}
    kind(0.25, epsilon=1e-30, **settings).step(parameters)
    moved = parameters["w"].read() - start
    if kind is NAdam:  # Nesterov's look-ahead scales all by one number (Dozat 2016)
        moved *= 0.25 / abs(moved[0])
    np.testing.assert_allclose(moved, [-0.25, 0.25, -0.25], rtol=1e-12)


def test_amsgrad_remembers_the_largest_second_moment():
    """After a large gradient small ones move less than without (Reddi, Kale and Kumar 2018): two steps by hand."""
    for amsgrad in (False, True):
        parameters = trainable(w=1)
        optimizer = Adam(1.0, beta1=0.0, beta2=0.5, epsilon=0.0, amsgrad=amsgrad)
        for gradient in (4.0, 1.0):
            parameters["w"].grad = np.array([gradient])
            before = parameters["w"].read()[0]
            optimizer.step(parameters)
        # v1 = 8, v2 = 8/2 + 1/2 = 4.5 < v1; corrected by 1 - 0.5^2.
        expected = 1.0 / np.sqrt((8.0 if amsgrad else 4.5) / 0.75)
        assert before - parameters["w"].read()[0] == pytest.approx(expected, rel=1e-12)


def test_decoupled_decay_is_the_learning_rate_times_the_weight():
    parameters = trainable(w=2)
    parameters["w"].grad = np.zeros(2)
    AdamW(0.1, weight_decay=0.5).step(parameters)
    np.testing.assert_allclose(parameters["w"].read(), 1 - 0.1 * 0.5, rtol=1e-12)
