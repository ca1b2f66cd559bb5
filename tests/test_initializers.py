from functools import partial

import numpy as np
import pytest

from cyconv import initializers as init
from cyconv.layers import Conv2d

WEIGHT = (64, 32, 3, 3)  # fan_in 288, fan_out 576

VARIANCES = {
    "he_normal": 2 / 288,
    "he_uniform": 2 / 288,
    "glorot_normal": 2 / 864,
    "glorot_uniform": 2 / 864,
    "lecun_normal": 1 / 288,
    "lecun_uniform": 1 / 288,
    "fan_in_uniform": 1 / (3 * 288),
}


@pytest.mark.parametrize("name", VARIANCES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_variances(name, dtype):
    values = getattr(init, name)(WEIGHT, np.random.default_rng(0), dtype)
    assert values.shape == WEIGHT
    assert values.dtype == dtype
    assert abs(values.var() / VARIANCES[name] - 1) < 0.05
    assert abs(values.mean()) < 0.05 * np.sqrt(VARIANCES[name])
    if "uniform" in name:
        assert np.abs(values).max() <= np.sqrt(3 * VARIANCES[name]) * (1 + 1e-6)


@pytest.mark.parametrize("name", [*VARIANCES, "normal", "zeros", "ones", "orthogonal", "bilinear"])
def test_draws_are_a_function_of_the_generator(name):
    draw = getattr(init, name)
    np.testing.assert_array_equal(draw(WEIGHT, np.random.default_rng(1)), draw(WEIGHT, np.random.default_rng(1)))


def test_constants():
    rng = np.random.default_rng(0)
    assert not init.zeros((3,), rng).any()
    assert (init.ones((3,), rng) == 1).all()
    assert (init.constant((3,), rng, value=0.5) == 0.5).all()


@pytest.mark.parametrize("shape", [(8, 50), (50, 8), (4, 2, 3, 3)])
def test_orthogonal(shape):
    matrix = init.orthogonal(shape, np.random.default_rng(0), np.float64, gain=2.0).reshape(shape[0], -1)
    product = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-12)


def test_bilinear_is_the_tent_of_the_fcn_paper():
    weight = init.bilinear((2, 2, 4, 4), np.random.default_rng(0), np.float64)
    tent = np.array([0.25, 0.75, 0.75, 0.25])
    np.testing.assert_allclose(weight[0, 0], np.outer(tent, tent))
    np.testing.assert_array_equal(weight[0, 1], 0)
    grouped = init.bilinear((2, 1, 3, 3), np.random.default_rng(0), np.float64)
    np.testing.assert_allclose(grouped[1, 0, 1], [0.5, 1, 0.5])


def test_bad_arguments_are_named():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="needs an output and an input axis"):
        init.he_normal((3,), rng)
    with pytest.raises(ValueError, match="normal: `std` must be at least 0, got -1"):
        init.normal((3,), rng, std=-1)
    with pytest.raises(ValueError, match=r"bilinear: `shape` must be that of a convolution's weight"):
        init.bilinear((3, 3), rng)
    with pytest.raises(ValueError, match=r"op: `initializer` 'uniform' needs `bound`: give functools\.partial\(init"):
        init.as_initializer("op", "uniform")
    with pytest.raises(ValueError, match=r"op: `initializer` 'constant' needs `value`: give"):
        init.as_initializer("op", "constant")
    with pytest.raises(ValueError, match=r"op: `initializer` must be one of 'bilinear', .*got 'magic'"):
        init.as_initializer("op", "magic")
    assert init.as_initializer("op", "fan_in_uniform") is init.fan_in_uniform
    assert init.as_initializer("op", "he_normal") is init.he_normal
    assert callable(init.as_initializer("op", partial(init.normal, std=1)))


NAMES = [*VARIANCES, "normal", "uniform", "constant", "zeros", "ones", "orthogonal", "bilinear"]
MORE = {"uniform": {"bound": 1.0}, "constant": {"value": 2.0}}


@pytest.mark.parametrize("name", NAMES)
def test_generator_seed_or_none(name):
    draw = partial(getattr(init, name), (4, 3, 3, 3), **MORE.get(name, {}))
    expected = draw(np.random.default_rng(7))
    for seed in (7, np.int64(7)):
        np.testing.assert_array_equal(draw(seed), expected)
    assert draw(None).shape == draw().shape == (4, 3, 3, 3)
    if name not in ("constant", "zeros", "ones", "bilinear"):
        assert not np.array_equal(draw(None), draw(None))


@pytest.mark.parametrize("name", NAMES)
def test_what_every_initializer_refuses(name):
    draw = partial(getattr(init, name), **MORE.get(name, {}))
    for rng in ("7", 1.5, True, np.random.RandomState(0), np.zeros(2)):
        with pytest.raises(TypeError, match=rf"^{name}: `rng` must be an integer, a numpy.random.Generator or None"):
            draw((4, 3, 3, 3), rng)
    with pytest.raises(TypeError, match=rf"^{name}: `shape` must be a tuple of integers, got 4"):
        draw(4, 0)
    with pytest.raises(ValueError, match=rf"^{name}: `shape` must have at most 32 axes, got 33$"):
        draw((1,) * 33, 0)
    with pytest.raises(TypeError, match=rf"^{name}: `shape` must be an integer, got 1.5"):
        draw((4, 1.5, 3, 3), 0)
    for dtype in (np.float16, int, "text"):
        with pytest.raises(TypeError, match=rf"^{name}: `dtype` must be float32 or float64, got"):
            draw((4, 3, 3, 3), 0, dtype)


def test_seed_may_be_given_to_a_layers_initializer():
    layer = Conv2d(2, 3, 3, initializer=partial(init.normal, std=1)).initialize(3)
    np.testing.assert_array_equal(layer.weight.data, layer.initialize(3).weight.data)
