import numpy as np
import pytest

from cyconv import models
from cyconv.layers import Conv2d
from cyconv.models.fcn import load_vgg16
from tests.models import networks

SCORES = {32: {32: 1}, 16: {2: 1, 16: 1}, 8: {2: 2, 8: 1}}  # enlargements, by their factor
SCORED = {32: (4096,), 16: (4096, 512), 8: (4096, 512, 256)}  # channels that scores are made from


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_counts(stride):
    """VGG-16 up to its second dense layer, scores, and the enlargements, which have no biases."""
    vgg = 138_357_544 - 4_097_000
    scores = sum(21 * channels + 21 for channels in SCORED[stride])
    enlargements = sum(count * 21 * 21 * (2 * factor) ** 2 for factor, count in SCORES[stride].items())
    assert networks.count(models.fcn(stride)) == vgg + scores + enlargements
    assert networks.count(getattr(models, f"fcn{stride}s")()) == vgg + scores + enlargements


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("size", [(500, 375), (64, 32), (33, 71), (1, 1)])
def test_the_output_has_the_images_size(stride, size):
    network = models.fcn(stride, 5, 1, width=1, hidden=2, input_size=size, seed=0)
    assert network.output_shape((1, *size)) == (5, *size)
    if max(size) < 100:
        assert network.predict(networks.images(network)).shape == (2, 5, *size)


def test_scores_start_at_zero_and_enlarging_is_bilinear():
    network = models.fcn32s(2, 1, width=2, hidden=2, dropout=0, input_size=64, seed=0)
    assert not network.predict(networks.images(network)).any()
    parameters = network.parameters()
    parameters["fcn.body.score_fr.bias"].data = np.array([1.0, -2.0])
    inside = network.predict(networks.images(network))[0, :, 16:48, 16:48]
    np.testing.assert_allclose(inside[0], 1, rtol=1e-5)
    np.testing.assert_allclose(inside[1], -2, rtol=1e-5)


@pytest.mark.parametrize("stride", [8, 32])
def test_narrow(stride, tmp_path):
    def make(seed):
        network = models.fcn(stride, 3, 2, width=2, hidden=4, dropout=0.2, input_size=(35, 40), seed=seed)
        for name, parameter in network.parameters().items():
            if ".score_" in name:  # zeros would hide all that is below them
                parameter.data = np.random.default_rng(seed).standard_normal(parameter.shape)
        return network

    networks.check(make, tmp_path, epsilon=1e-5)


@pytest.mark.parametrize("stride", [8, 32])
def test_vgg16s_weights_load(stride):
    source = models.vgg16(7, 2, width=2, hidden=4, input_size=32, seed=0)
    network = models.fcn(stride, 3, 2, width=2, hidden=4, input_size=32, seed=1)
    load_vgg16(network, source.state_dict())
    theirs = [layer for _, layer in source["features"].walk() if isinstance(layer, Conv2d)]
    ours = {name.split(".")[-2]: layer for name, layer in network.walk() if isinstance(layer, Conv2d)}
    names = [f"conv{i}_{k}" for i, count in enumerate((2, 2, 3, 3, 3), 1) for k in range(1, count + 1)]
    for name, conv in zip(names, theirs, strict=True):
        np.testing.assert_array_equal(ours[name].weight.data, conv.weight.data)
        np.testing.assert_array_equal(ours[name].bias.data, conv.bias.data)
    # In the middle of 7x7 positions the convolution sees what the dense layer does.
    x = np.random.default_rng(0).standard_normal((2, 16, 7, 7)).astype(np.float32)
    dense = source["classifier"][0](x.reshape(2, -1))
    np.testing.assert_allclose(ours["fc6"](x)[:, :, 3, 3], dense, rtol=1e-4, atol=1e-6)
    assert not any(layer.weight.data.any() for name, layer in ours.items() if name.startswith("score"))


def test_refuses():
    with pytest.raises(ValueError, match="fcn: `stride` must be 8, 16 or 32, got 4"):
        models.fcn(4)
    network = models.fcn(width=2, hidden=4)
    with pytest.raises(ValueError, match="load_vgg16: `state` must be that of a VGG-16, got one with 8 convolutions"):
        load_vgg16(network, models.vgg11(width=2, hidden=4).state_dict())
    with pytest.raises(ValueError, match=r"load_vgg16: `features.0.weight` must have shape \(2, 3, 3, 3\), got \(3, 3"):
        load_vgg16(network, models.vgg16(width=3, hidden=4).state_dict())
