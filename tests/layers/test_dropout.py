import numpy as np
import pytest

from cyconv.gradient_check import check_gradients
from cyconv.layers import Dropout, Dropout2d, Sequential

ONES = np.ones((100, 100), np.float32)


def test_gradients():
    check_gradients(Dropout(0.3), np.random.default_rng(0).standard_normal((4, 5)))


def test_the_share_of_zeros_is_p_and_the_rest_is_scaled():
    y = Dropout(0.25).initialize(0)(ONES)
    assert abs((y == 0).mean() - 0.25) < 0.02
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.75], rtol=1e-6)


def test_masks_move_on_and_start_over_with_the_seed():
    layer = Dropout().initialize(0)
    first, second = layer(ONES), layer(ONES)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(layer.initialize(0)(ONES), first)
    state = layer.random_state()
    np.testing.assert_array_equal(layer(ONES), second)
    layer.load_random_state(state)
    np.testing.assert_array_equal(layer(ONES), second)


def test_backward_uses_the_mask_of_its_forward():
    layer = Dropout().initialize(0)
    y = layer(ONES)
    np.testing.assert_array_equal(layer.backward(ONES), y)


def test_evaluation_changes_nothing():
    np.testing.assert_array_equal(Dropout().eval()(ONES), ONES)


@pytest.mark.parametrize("p", [-0.1, 1.0, np.nan])
def test_bad_arguments_are_named(p):
    with pytest.raises(ValueError, match="Dropout: `p` must be at least 0 and below 1"):
        Dropout(p)


def test_dropout2d_drops_channels():
    layer = Dropout2d(0.4).initialize(0)
    x = np.ones((50, 20, 3, 4), np.float32)
    y = layer(x)
    np.testing.assert_array_equal(y, y[:, :, :1, :1] * x)
    assert 0.3 < (y[:, :, 0, 0] == 0).mean() < 0.5
    np.testing.assert_array_equal(layer.backward(x), y)
    assert layer.offset == 1000
    assert not np.array_equal(layer(x), y)
    np.testing.assert_array_equal(layer.eval()(x), x)
    check_gradients(Dropout2d(0.5), np.random.default_rng(0).standard_normal((2, 5, 2, 2)))
    with pytest.raises(ValueError, match="Dropout2d: `p` must be"):
        Dropout2d(1.0)


def test_reseed_takes_a_generator_a_seed_or_none():
    network = Sequential(Dropout(0.5), Dropout(0.5))
    network.reseed(3)
    seeds = network[0].seed, network[1].seed
    assert seeds[0] != seeds[1]
    network.reseed(np.random.default_rng(3))
    assert (network[0].seed, network[1].seed) == seeds
    network.reseed()
    assert network[0].seed != seeds[0]
    with pytest.raises(
        TypeError, match=r"^reseed: `rng` must be an integer, a numpy.random.Generator or None, got '3'$"
    ):
        network.reseed("3")
