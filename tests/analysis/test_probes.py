"""Activations of layers inside, and that looking changes nothing."""

import numpy as np
import pytest

from cyconv import Network, analysis, models
from cyconv import layers as L
from tests.fingerprints import fingerprint


def network():
    return Network(
        {
            "conv": L.Conv2d(1, 4, 3, padding=1),
            "bn": L.BatchNorm2d(4),
            "relu": L.ReLU(),
            "block": L.Residual(L.Sequential(L.Conv2d(4, 4, 3, padding=1), L.ReLU())),
            "drop": L.Dropout(0.5),
            "flatten": L.Flatten(),
            "scores": L.Linear(144, 3),
        },
        input_shape=(1, 6, 6),
        seed=0,
    )


X = np.random.default_rng(0).standard_normal((5, 1, 6, 6)).astype(np.float32)


def test_activations_are_what_the_layers_return():
    net = network()
    net.train()(X)  # moves the running averages
    before = fingerprint(net)
    found = analysis.activations(net, X)
    assert fingerprint(net) == before
    assert net.training
    net.eval()
    x = X
    for name in ("conv", "bn", "relu"):
        x = net[name](x)
        np.testing.assert_allclose(found[name], x, rtol=1e-5, atol=1e-6)
    inner = net["block"]["body"]
    np.testing.assert_allclose(found["block.body.0"], inner["0"](x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["block"], x + found["block.body.1"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["drop"], found["block"])  # predicting, it hands on
    np.testing.assert_allclose(found["scores"], net.predict(X), rtol=1e-4, atol=1e-5)
    assert list(found) == [prefix[:-1] for prefix, _ in net.walk() if prefix]


def test_some_activations_in_the_order_asked_for():
    net = network()
    some, every = analysis.activations(net, X, ["block.body.0", "conv"]), analysis.activations(net, X)
    assert list(some) == ["block.body.0", "conv"]
    for name, output in some.items():
        np.testing.assert_array_equal(output, every[name])


def test_bytes_and_missing_axes_are_taken_as_predict_does():
    net = network()
    levels = np.random.default_rng(0).integers(256, size=(2, 6, 6), dtype=np.uint8)
    found = analysis.activations(net, levels, ["scores"])["scores"]
    np.testing.assert_allclose(found, net.predict(levels), rtol=1e-4, atol=1e-5)


def test_every_container_can_be_looked_into():
    net = models.googlenet(10, auxiliary=True, width_multiplier=0.05, input_size=224, seed=0)
    x = np.random.default_rng(0).random((2, *net.input_shape), np.float32)
    found = analysis.activations(net, x, ["inception4a.branch2.1.conv", "inception4a", "fc"])
    np.testing.assert_allclose(found["fc"], net.predict(x), rtol=1e-3, atol=1e-5)
    beside = next(prefix[:-1] for prefix, layer in net.walk() if isinstance(layer, L.SideHead))
    with pytest.raises(ValueError, match=rf"activations: the layer '{beside}\.body' does not run while predicting"):
        analysis.activations(net, x, [f"{beside}.body"])


def test_layers_held_by_attributes_are_found():
    class Twice(L.Layer):
        def __init__(self):
            self.inner = L.Linear(3, 3)

        def output_shape(self, input_shape):
            return input_shape

        def forward(self, x):
            return 2 * self.inner(x)

    layer, x = Twice(), np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(analysis.activations(layer, x)["inner"], layer.inner(x))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda net: analysis.activations("net", X), TypeError, "activations: `layer` must be a layer or network"),
        (lambda net: analysis.activations(net, X, "conv"), TypeError, "activations: `names` must be several names"),
        (lambda net: analysis.activations(net, X, ["cnv"]), ValueError, "activations: there is no layer 'cnv'; the na"),
        (lambda net: analysis.activations(net, X[:, :, 1:]), ValueError, r"activations: `x` must have shape \(N, 1, 6"),
        (lambda net: analysis.activations(net, X.astype(int)), TypeError, "activations: `x` must be float32, float64"),
        (lambda net: analysis.activations(net, X[:0]), ValueError, "activations: `x` is empty"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(network())
