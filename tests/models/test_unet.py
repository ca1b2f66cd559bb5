from functools import partial

import numpy as np
import pytest

from cyconv import models
from cyconv.layers import ConvTranspose2d, Dropout
from tests.models import networks


def expected_count(in_channels, num_classes, widths):
    """Add up figure 1 of the paper."""
    pairs, channels = 0, in_channels
    for width in widths:
        pairs += 9 * channels * width + width + 9 * width * width + width
        channels = width
    ups = sum(4 * 2 * width * width + width for width in widths[:-1])
    pairs += sum(9 * 2 * width * width + width + 9 * width * width + width for width in widths[:-1])
    return pairs + ups + widths[0] * num_classes + num_classes


def test_counts():
    assert networks.count(models.unet()) == expected_count(1, 2, [64, 128, 256, 512, 1024]) == 31_030_658
    assert networks.count(models.unet(3, 3, depth=2, width=8)) == expected_count(3, 3, [8, 16, 32])
    normalised = models.unet(3, 3, depth=2, width=8, batch_norm=True)
    assert networks.count(normalised) == expected_count(3, 3, [8, 16, 32]) + 2 * (2 * 8 + 2 * 16) + 2 * 32


@pytest.mark.parametrize(("size", "output"), [(572, 388), (188, 4), ((572, 700), (388, 516))])
def test_shapes_of_the_papers_form(size, output):
    pair = output if isinstance(output, tuple) else (output, output)
    network = models.unet(input_size=size)
    assert network.output_shape(network.input_shape) == (2, *pair)


def test_shapes_inside():
    steps = {step.name: step.output_shape for step in models.unet().trace((1, 572, 572))}
    below = "skip.body." * 4
    assert steps["contract.3"] == (64, 568, 568)
    assert steps[f"{below}contract.3"] == (1024, 28, 28)
    assert steps["skip.body.up"] == (64, 392, 392)
    assert steps["skip"] == (128, 392, 392)
    assert steps["expand.3"] == (64, 388, 388)


@pytest.mark.parametrize("size", [512, (32, 48)])
def test_the_padded_form_keeps_the_size(size):
    network = models.unet(3, padding="same", input_size=size)
    assert network.output_shape(network.input_shape) == (3, *network.input_shape[1:])
    assert models.unet(padding="same").input_shape == (1, 512, 512)
    up = [layer for _, layer in network.walk() if isinstance(layer, ConvTranspose2d)]
    assert [(layer.kernel_size, layer.stride) for layer in up] == [(2, 2)] * 4


@pytest.mark.parametrize(
    "options",
    [{"input_size": 44}, {"padding": "same", "batch_norm": True, "dropout": 0.3, "input_size": (8, 12)}],
    ids=["valid", "same"],
)
def test_narrow(options, tmp_path):
    networks.check(partial(models.unet, 3, 2, depth=2, width=4, **options), tmp_path)


def test_dropout_ends_the_contracting_path():
    names = [name for name, layer in models.unet(dropout=0.5).walk() if isinstance(layer, Dropout)]
    assert names == ["skip.body." * depth + "contract.4." for depth in (3, 4)]


def test_refuses():
    with pytest.raises(ValueError, match="unet: `padding` must be one of 'valid', 'same', got 'reflect'"):
        models.unet(padding="reflect")
    message = "unet: each image to be halved must have an even height and width, got 283x283"
    with pytest.raises(ValueError, match=message):
        models.unet(input_size=578)
    with pytest.raises(ValueError, match=message.replace("283x283", "10x7")):
        models.unet(padding="same", depth=1, width=2, input_size=None).predict(np.zeros((1, 1, 10, 7), np.float32))
