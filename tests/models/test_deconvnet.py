from functools import partial

import numpy as np
import pytest

from cyconv import models
from cyconv.data import digits
from cyconv.layers import Conv2d, ConvTranspose2d, MaxUnpool2d
from cyconv.optimizers import Adam
from tests.models import networks

# Table of the paper's appendix: kernel size, channels in, channels out.
ENCODER = [(3, 3, 64), (3, 64, 64), (3, 64, 128), (3, 128, 128), (3, 128, 256), (3, 256, 256), (3, 256, 256)]
ENCODER += [(3, 256, 512)] + [(3, 512, 512)] * 5 + [(7, 512, 4096), (1, 4096, 4096)]
DECODER = [(7, 4096, 512)] + [(3, 512, 512)] * 5 + [(3, 512, 256)] + [(3, 256, 256)] * 2 + [(3, 256, 128)]
DECODER += [(3, 128, 128), (3, 128, 64), (3, 64, 64), (3, 64, 64)]


def test_counts():
    weights = [k * k * a * b for k, a, b in ENCODER + DECODER]
    channels = [b for _, _, b in ENCODER + DECODER]
    expected = sum(weights) + 2 * sum(channels) + 64 * 21 + 21
    assert networks.count(models.deconvnet()) == expected == 251_788_949
    assert networks.count(models.deconvnet(batch_norm=False)) == expected - sum(channels)


def test_shapes_are_those_of_the_papers_table():
    steps = {step.name: step.output_shape for step in models.deconvnet().trace((3, 224, 224))}
    below = "".join(f"pool{i}.body." for i in (1, 2, 3, 4, 5))
    assert steps["conv1_2.relu"] == (64, 224, 224)
    assert steps[f"{below.removesuffix('pool5.body.')}conv5_3.relu"] == (512, 14, 14)
    assert steps[f"{below}fc6.relu"] == steps[f"{below}fc7.relu"] == (4096, 1, 1)
    assert steps[f"{below}deconv_fc6.relu"] == (512, 7, 7)
    assert steps["pool1.body.pool2.body.pool3"] == (256, 56, 56)
    assert steps["pool1.body.pool2.body.deconv3_3.relu"] == (128, 56, 56)
    assert steps["pool1.body.deconv2_2.relu"] == (64, 112, 112)
    assert steps["pool1"] == (64, 224, 224)
    assert steps["score"] == (21, 224, 224)


def test_numbers_return_to_where_the_maxima_were():
    """With filters that copy, what is left of an image are its maxima, each in its place."""
    network = models.deconvnet(
        1, 1, widths=(1, 1), convolutions=(1, 1), hidden=None, batch_norm=False, input_size=(8, 12)
    )
    for _, layer in network.walk():
        if isinstance(layer, Conv2d | ConvTranspose2d):
            weight = np.zeros(layer.weight.shape, np.float32)
            weight[0, 0, weight.shape[2] // 2, weight.shape[3] // 2] = 1
            layer.weight.data = weight
            if layer.bias is not None:
                layer.bias.data = np.zeros(1, np.float32)
    x = np.random.default_rng(0).uniform(1, 2, (3, 1, 8, 12)).astype(np.float32)
    blocks = x.reshape(3, 2, 4, 3, 4).max(axis=(2, 4), keepdims=True)
    expected = np.where(x.reshape(3, 2, 4, 3, 4) == blocks, blocks, 0).reshape(x.shape)
    np.testing.assert_array_equal(network.predict(x), expected)


def test_each_pooling_has_its_unpooling():
    network = models.deconvnet(2, 1, widths=(2, 3, 4), convolutions=(1, 2, 1), hidden=None, input_size=16)
    names = [name for name, layer in network.walk() if isinstance(layer, MaxUnpool2d)]
    assert names == ["pool1.", "pool1.body.pool2.", "pool1.body.pool2.body.pool3."]
    assert sum(isinstance(layer, ConvTranspose2d) for _, layer in network.walk()) == 4


@pytest.mark.parametrize("options", [{}, {"batch_norm": False, "hidden": None}], ids=["whole", "without the middle"])
def test_narrow(options, tmp_path):
    make = partial(models.deconvnet, 3, 2, widths=(3, 4), convolutions=(2, 1), hidden=5, input_size=(8, 12))
    make = partial(make, **options)
    networks.check_saves_and_loads(make, tmp_path)
    networks.check_trains_and_predicts(make(seed=0))
    networks.check_network_gradients(make(seed=0), eps=1e-5)


def test_reconstructs_digits():
    """From 16 numbers and the positions; the mean image leaves all of the variance."""
    data = digits(size=16)
    x, held_out = (images.astype(np.float32) / 255 for images in (data.train_x, data.test_x))
    network = models.deconvnet(1, 1, widths=(8, 16), convolutions=(1, 1), hidden=16, input_size=16, seed=0)
    network.fit(x, x, epochs=4, batch_size=32, optimizer=Adam(0.005), loss="mse", seed=0, progress=False)
    left = np.mean((network.predict(held_out) - held_out) ** 2) / np.mean((held_out - x.mean(axis=0)) ** 2)
    assert left < 0.2


def test_refuses():
    with pytest.raises(ValueError, match="deconvnet: `convolutions` must be one for each of 2 `widths`, got 1"):
        models.deconvnet(widths=(2, 3), convolutions=(1,))
    with pytest.raises(ValueError, match=r"deconvnet: `input_size` must be multiples of 32 = 2\^5, got 224x220"):
        models.deconvnet(input_size=(224, 220))
