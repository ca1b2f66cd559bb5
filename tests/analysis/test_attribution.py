"""Gradients with respect to the input against differences, and images that filters respond to."""

import numpy as np
import pytest

from cyconv import Network, analysis
from cyconv import layers as L
from tests import numerical
from tests.fingerprints import fingerprint


def network():
    net = Network(
        [
            L.Conv2d(2, 4, 3, padding=1),
            L.BatchNorm2d(4),
            L.Softplus(),
            L.SideHead(L.Flatten()),
            L.Dropout2d(0.5),
            L.Residual(L.Sequential(L.Conv2d(4, 4, 3, padding=1), L.Tanh())),
            L.GlobalAvgPool2d(),
            L.Flatten(),
            L.Linear(4, 3),
        ],
        input_shape=(2, 5, 4),
        seed=0,
    ).astype(np.float64)
    rng = np.random.default_rng(1)
    net.train()
    for _ in range(3):
        net(rng.standard_normal((8, 2, 5, 4)))
    return net.eval()


X = np.random.default_rng(0).standard_normal((3, 2, 5, 4))


def test_input_gradient_is_that_of_predicting():
    net = network()
    before = fingerprint(net)
    found = analysis.input_gradient(net, X, [0, 2, 1])
    assert fingerprint(net) == before
    for i, target in enumerate((0, 2, 1)):
        expected = numerical.gradient(lambda x, k=target: net.predict(x[np.newaxis])[0, k], X[i])
        np.testing.assert_allclose(found[i], expected, rtol=1e-5, atol=1e-9)


def test_the_largest_score_is_the_default():
    net = network()
    best = net.predict(X).argmax(axis=1)
    np.testing.assert_array_equal(analysis.input_gradient(net, X), analysis.input_gradient(net, X, best))
    np.testing.assert_array_equal(analysis.saliency(net, X, 1), analysis.saliency(net, X, [1, 1, 1]))
    found = analysis.saliency(net, X)
    assert found.shape == (3, 5, 4)
    np.testing.assert_array_equal(found, np.abs(analysis.input_gradient(net, X)).max(axis=1))


def test_scores_of_pixels_are_summed():
    net = Network([L.Conv2d(1, 3, 3)], input_shape=(1, 4, 4), seed=0).astype(np.float64)
    found = analysis.input_gradient(net, np.zeros((1, 1, 4, 4)), 2)
    expected = numerical.gradient(lambda x: net.predict(x)[0, 2].sum(), np.zeros((1, 1, 4, 4)))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_saliency_looks_where_it_matters():
    layer = L.Sequential(L.Flatten(), L.Linear(16, 2))
    weight = np.zeros((2, 16), np.float32)
    weight[1, 5] = -3  # the second pixel of the second row
    layer["1"].weight.data = weight
    found = analysis.saliency(layer, np.ones((1, 1, 4, 4), np.float32), 1)
    assert found[0, 1, 1] == 3
    assert found.sum() == 3


def test_a_linear_filter_is_maximised_by_itself():
    net = Network([L.Conv2d(1, 3, 5, bias=False), L.ReLU(), L.Flatten(), L.Linear(3, 2)], input_shape=(1, 5, 5), seed=0)
    before = fingerprint(net)
    images = analysis.maximizing_images(net, "0", [2, 0], steps=60)
    assert fingerprint(net) == before
    assert images.dtype == np.float32
    for image, channel in zip(images, (2, 0), strict=True):
        assert np.corrcoef(image.ravel(), net["0"].weight.data[channel].ravel())[0, 1] > 0.999


def test_steps_raise_the_response_of_any_layer():
    net = network()
    for name in ("0", "2", "5.body.0", "5", "8"):
        few, many = (analysis.maximizing_images(net, name, [1], steps=steps) for steps in (0, 30))
        responses = [analysis.activations(net, x, [name])[name][0, 1].mean() for x in (few, many)]
        assert responses[1] > responses[0] + 0.1
        assert np.array_equal(many, analysis.maximizing_images(net, name, [1], steps=30))
    every = analysis.maximizing_images(net, "8", steps=1)
    assert every.shape == (3, 2, 5, 4)


def test_images_of_many_filters_are_those_of_each():
    net = network()
    together = analysis.maximizing_images(net, "5.body.0", [3, 1], steps=5)
    np.testing.assert_allclose(together[1:], analysis.maximizing_images(net, "5.body.0", [1], steps=5), rtol=1e-9)


def test_blur_takes_fine_detail_away():
    net = network()
    sharp, soft = (analysis.maximizing_images(net, "8", [0], steps=20, blur=blur)[0, 0] for blur in (0, 1.0))
    roughness = [np.abs(np.diff(image)).mean() / image.std() for image in (sharp, soft)]
    assert roughness[1] < 0.7 * roughness[0]
    vectors = L.Sequential(L.Linear(4, 3).initialize(0))
    options = {"input_shape": (4,), "steps": 3}
    plain, blurred = (analysis.maximizing_images(vectors, "0", blur=blur, **options) for blur in (0, 1.0))
    np.testing.assert_array_equal(plain, blurred)


def test_a_silent_filter_leaves_what_it_was_given():
    net = Network([L.Conv2d(1, 1, 3), L.ReLU()], input_shape=(1, 5, 5), seed=0)
    net["0"].bias.data = [-100]
    started, ended = (analysis.maximizing_images(net, "1", steps=steps, decay=0) for steps in (0, 5))
    np.testing.assert_array_equal(started, ended)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda net: analysis.input_gradient(net, X, [0, 1]),
            ValueError,
            "input_gradient: `target` must be a class fo",
        ),
        (
            lambda net: analysis.input_gradient(net, X, 3),
            ValueError,
            "input_gradient: `target` must be classes from 0",
        ),
        (lambda net: analysis.input_gradient(net, X, 0.5), TypeError, "input_gradient: `target` must be integers"),
        (
            lambda net: analysis.saliency(net, X, -1),
            ValueError,
            "saliency: `target` must be classes from 0 to 2",
        ),
        (lambda net: analysis.saliency(None, X), TypeError, "saliency: `layer` must be a layer or network"),
        (lambda net: analysis.maximizing_images(net, "x"), ValueError, "maximizing_images: there is no layer 'x'; the"),
        (
            lambda net: analysis.maximizing_images(net, "0", [4]),
            ValueError,
            "maximizing_images: `channels` must be from",
        ),
        (
            lambda net: analysis.maximizing_images(net, "0", []),
            (ValueError, TypeError),
            "maximizing_images: `channels`",
        ),
        (lambda net: analysis.maximizing_images(net, "0", steps=-1), ValueError, "`steps` must be at least 0, got -1"),
        (
            lambda net: analysis.maximizing_images(net, "0", learning_rate=0),
            ValueError,
            "`learning_rate` must be above",
        ),
        (
            lambda net: analysis.maximizing_images(net, "0", decay=1),
            ValueError,
            "`decay` must be at least 0 and below 1",
        ),
        (
            lambda net: analysis.maximizing_images(net, "0", blur=-1),
            ValueError,
            "`blur` must be at least 0 and",
        ),
        (lambda net: analysis.maximizing_images(L.ReLU(), "0"), ValueError, "the network needs an `input_shape`"),
        (lambda net: analysis.maximizing_images(net, "3.body"), ValueError, "there is no layer '3.body'"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(network())
