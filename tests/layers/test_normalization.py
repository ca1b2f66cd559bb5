import numpy as np
import pytest

from cyconv import Network, losses, optimizers
from cyconv import layers as L
from cyconv.gradient_check import check_gradients
from cyconv.layers import BatchNorm1d, BatchNorm2d, BatchNorm3d


def images(dtype=np.float32):
    return np.random.default_rng(0).standard_normal((4, 3, 5, 2)).astype(dtype) * 3 + 1


@pytest.mark.parametrize("affine", [True, False])
def test_gradients(affine):
    layer = BatchNorm2d(3, affine=affine)
    if affine:
        layer.weight.data, layer.bias.data = [0.5, -1.5, 2], [1, 2, 3]
    check_gradients(layer, images(np.float64))


def test_training_normalises_by_the_batch_and_follows_it():
    layer, x = BatchNorm2d(3, momentum=0.25), images(np.float64)
    layer.astype(np.float64)
    y = layer(x)
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    np.testing.assert_allclose(y, (x - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None], atol=1e-12)
    np.testing.assert_allclose(layer.running_mean, 0.25 * mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var, 0.75 + 0.25 * x.var((0, 2, 3), ddof=1), rtol=1e-12)
    assert int(layer.num_batches_tracked) == 1


def test_evaluation_normalises_by_the_running_statistics():
    layer, x = BatchNorm2d(3).eval(), images()
    layer.running_mean[...] = [1, 2, 3]
    layer.running_var[...] = 4
    expected = (x - layer.running_mean[:, None, None]) / np.sqrt(np.float32(4 + 1e-5))
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="BatchNorm2d: `eps` must be above 0, got 0"):
        BatchNorm2d(3, eps=0)
    with pytest.raises(ValueError, match="BatchNorm2d: `momentum` must be at least 0 and at most 1, got nan"):
        BatchNorm2d(3, momentum=np.nan)
    with pytest.raises(ValueError, match=r"BatchNorm2d: needs images of shape \(3, H, W\), got \(4, 2, 2\)"):
        BatchNorm2d(3).output_shape((4, 2, 2))
    with pytest.raises(ValueError, match="BatchNorm2d: training needs more than one value per channel"):
        BatchNorm2d(3)(np.ones((1, 3, 1, 1), np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_bad_batch_leaves_the_running_statistics(value):
    layer, x = BatchNorm2d(3), images()
    layer(x)
    before = {name: array.copy() for name, array in layer.state_dict().items()}
    x[0, 0, 0, 0] = value
    layer(x)
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


RANKS = [(BatchNorm1d, ()), (BatchNorm1d, (5,)), (BatchNorm2d, (5, 2)), (BatchNorm3d, (2, 3, 2))]
every_rank = pytest.mark.parametrize(("kind", "size"), RANKS, ids=str)


@every_rank
def test_every_rank_normalises_each_channel(kind, size):
    x = np.random.default_rng(0).standard_normal((4, 3, *size)) * 3 + 1
    layer = kind(3, momentum=0.25).astype(np.float64)
    axes, by_channel = (0, *range(2, x.ndim)), (slice(None), *(np.newaxis,) * len(size))
    expected = (x - x.mean(axes)[by_channel]) / np.sqrt(x.var(axes) + 1e-5)[by_channel]
    np.testing.assert_allclose(layer(x), expected, atol=1e-12)
    np.testing.assert_allclose(layer.running_mean, 0.25 * x.mean(axes), rtol=1e-12)
    np.testing.assert_allclose(layer.running_var, 0.75 + 0.25 * x.var(axes, ddof=1), rtol=1e-12)
    assert layer.output_shape(x.shape[1:]) == x.shape[1:]
    check_gradients(kind(3), x, max_entries=60)
    layer.eval()
    expected = (x - layer.running_mean[by_channel]) / np.sqrt(layer.running_var + 1e-5)[by_channel]
    np.testing.assert_allclose(layer(x), expected, atol=1e-12)


@every_rank
def test_an_empty_batch_stays_empty_and_changes_nothing(kind, size):
    layer, x = kind(3), np.zeros((0, 3, *size), np.float32)
    before = {name: array.copy() for name, array in layer.state_dict().items()}
    y = layer(x)
    assert y.shape == x.shape
    assert layer.backward(y).shape == x.shape
    assert not layer.weight.grad.any()
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_an_empty_batch_passes_fused_groups():
    network = L.Sequential(L.Conv2d(1, 3, 3), BatchNorm2d(3), L.ReLU(), L.MaxPool2d(2)).initialize(0)
    y = network(np.zeros((0, 1, 6, 6), np.float32))
    assert y.shape == (0, 3, 2, 2)
    assert network.backward(y).shape == (0, 1, 6, 6)


@every_rank
def test_without_momentum_the_averages_are_of_all_batches(kind, size):
    layer = kind(3, momentum=None).astype(np.float64)
    batches = np.random.default_rng(0).standard_normal((5, 4, 3, *size))
    for x in batches:
        layer(x)
    axes = (1, *range(3, batches.ndim))
    np.testing.assert_allclose(layer.running_mean, batches.mean(axes).mean(0), rtol=1e-12)
    np.testing.assert_allclose(layer.running_var, batches.var(axes, ddof=1).mean(0), rtol=1e-12)
    assert repr(layer) == f"{kind.__name__}(3, momentum=None)"


def test_a_network_normalises_behind_linear_layers():
    layers = L.Linear(4, 8), BatchNorm1d(8), L.ReLU(), L.Linear(8, 2)
    network = Network(list(layers), input_shape=(4,), seed=0)
    x = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    history = network.fit(x, y, epochs=30, optimizer=optimizers.Adam(0.02), loss=losses.CrossEntropyLoss(), seed=0)
    assert network.evaluate(x, y)["accuracy"] > 0.9, history
    assert int(layers[1].num_batches_tracked) > 0


def test_other_ranks_are_named():
    for kind, shape, said in (
        (BatchNorm1d, (2, 3, 4, 4), "2 or 3"),
        (BatchNorm2d, (2, 3, 4), "2 or 4"),
        (BatchNorm3d, (2, 3, 4, 4), "5"),
    ):
        with pytest.raises(ValueError, match=f"^{kind.__name__}: `x` must have {said} dimensions, got shape"):
            kind(3)(np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match=r"^BatchNorm1d: needs sequences of shape \(3, L\), got \(4,\)"):
        BatchNorm1d(3).output_shape((4,))
    with pytest.raises(ValueError, match=r"^BatchNorm3d: training needs more than one value per channel"):
        BatchNorm3d(3)(np.ones((1, 3, 1, 1, 1), np.float32))
    with pytest.raises(TypeError, match=r"^BatchNorm1d: `affine` must be True or False, got 1"):
        BatchNorm1d(3, affine=1)
