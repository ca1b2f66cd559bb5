"""What the estimators share: the default network, and what becomes of the arguments."""

import itertools

import numpy as np
import pytest

pytest.importorskip("sklearn")

from cyconv.layers import Conv2d, Linear
from cyconv.optimizers import SGD, Adam
from cyconv.sklearn.base import ConvNetEstimator, small_network


@pytest.mark.parametrize(
    ("shape", "channels", "hidden", "maps"),
    [
        ((1, 8, 8), [16, 32], [64], (32, 2, 2)),
        ((3, 9, 5), [4, 5, 6], [], (6, 2, 1)),  # 9x5, 4x2, 2x1: one column is not halved
        ((2, 1, 6), [4], [7, 8], (4, 1, 6)),
        ((5,), [16], [3], (5,)),  # a table: no convolutions
        ((2, 4, 4), [], [], (2, 4, 4)),
    ],
)
def test_the_default_network(shape, channels, hidden, maps):
    used = channels if len(shape) == 3 else []
    network = small_network(shape, 10, used, hidden, seed=0)
    features = [int(np.prod(maps)), *hidden, 10]
    dense = [layer for layer in network if isinstance(layer, Linear)]
    assert [(layer.in_features, layer.out_features) for layer in dense] == list(itertools.pairwise(features))
    assert [layer.out_channels for layer in network if isinstance(layer, Conv2d)] == used
    assert network.output_shape(shape) == (10,)
    count = sum(9 * a * b + b for a, b in zip([shape[0], *used], used, strict=False))
    count += sum(a * b + b for a, b in itertools.pairwise(features))
    assert sum(parameter.data.size for parameter in network.parameters().values()) == count


def test_the_seed_draws_the_weights():
    first, same, other = (small_network((1, 6, 6), 3, [4], [5], seed) for seed in (0, 0, 1))
    for name, parameter in first.parameters().items():
        np.testing.assert_array_equal(parameter.data, same.parameters()[name].data)
    assert any((first.parameters()[name].data != other.parameters()[name].data).any() for name in first.parameters())


def test_optimizers_belong_to_the_estimator():
    given = SGD(0.5, momentum=0.5)
    made = ConvNetEstimator(optimizer=given)._new_optimizer()
    assert made is not given
    assert repr(made) == repr(given)
    by_name = ConvNetEstimator(optimizer="adam", learning_rate=0.25, weight_decay=0.125)._new_optimizer()
    assert type(by_name) is Adam
    assert (by_name.learning_rate, by_name.weight_decay) == (0.25, 0.125)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": SGD(), "learning_rate": 0.1}, "ConvNetEstimator: set `learning_rate` in the `optimizer` object"),
        ({"optimizer": "adam", "momentum": 0.9}, "ConvNetEstimator: the optimizer 'adam' has no `momentum`"),
        ({"optimizer": "magic"}, "ConvNetEstimator: `optimizer` must be one of"),
    ],
)
def test_optimizers_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConvNetEstimator(**arguments)._new_optimizer()


@pytest.mark.parametrize(
    ("shape", "given", "expected"),
    [
        ((4, 2, 3, 3), None, (2, 3, 3)),
        ((4, 3, 5), None, (1, 3, 5)),  # grey images
        ((4, 12), None, (12,)),
        ((4, 12), (3, 2, 2), (3, 2, 2)),  # rows of a table that are images
        ((4, 2, 3, 3), [2, 3, 3], (2, 3, 3)),
    ],
)
def test_the_shape_of_an_input_is_found(shape, given, expected):
    estimator = ConvNetEstimator(input_shape=given)
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    images = estimator._shaped(x, reset=True)
    assert images.shape == (4, *expected)
    assert estimator.n_features_in_ == np.prod(expected)
    np.testing.assert_array_equal(images.ravel(), x.ravel())


@pytest.mark.parametrize(
    ("shape", "given", "message"),
    [
        ((4, 2, 2, 2, 2), None, r"`X` must have shape \(N, C, H, W\), \(N, H, W\) or \(N, features\), got"),
        ((4, 12), (2, 2), r"`input_shape` must be \(C, H, W\), got \(2, 2\)"),
        ((4, 12), (1, 3, 5), r"inputs of shape \(12,\), which are not of the `input_shape` \(1, 3, 5\)"),
        ((4, 2, 3, 3), (3, 2, 3), r"inputs of shape \(2, 3, 3\), which are not of the `input_shape`"),
    ],
)
def test_other_shapes_are_refused(shape, given, message):
    with pytest.raises(ValueError, match=f"ConvNetEstimator: .*{message}"):
        ConvNetEstimator(input_shape=given)._shaped(np.zeros(shape, np.float32), reset=True)
