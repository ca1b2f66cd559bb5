from functools import partial

import pytest

from cyconv import models
from cyconv.layers import BatchNorm2d, Conv2d
from tests.models import networks

# The paper's table 2 gives them in millions: 133, 133, 138 and 144.
PUBLISHED = {11: 132_863_336, 13: 133_047_848, 16: 138_357_544, 19: 143_667_240}


@pytest.mark.parametrize("depth", PUBLISHED)
def test_counts(depth):
    assert networks.count(models.vgg(depth)) == PUBLISHED[depth]
    assert networks.count(getattr(models, f"vgg{depth}")()) == PUBLISHED[depth]
    normalised = models.vgg(depth, batch_norm=True)
    channels = sum(layer.out_channels for _, layer in normalised.walk() if isinstance(layer, Conv2d))
    assert networks.count(normalised) == PUBLISHED[depth] + 2 * channels
    weights = [name for name, parameter in models.vgg(depth).parameters().items() if len(parameter.shape) > 1]
    assert len(weights) == depth


def test_shapes():
    network = models.vgg16()
    steps = {step.name: step.output_shape for step in network.trace((3, 224, 224))}
    pooled = [steps[f"features.{i}"] for i in (4, 9, 16, 23, 30)]
    assert pooled == [(64, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14), (512, 7, 7)]
    assert network.output_shape((3, 224, 224)) == (1000,)
    assert list(network.parameters())[-2:] == ["classifier.6.weight", "classifier.6.bias"]


def test_heads():
    small = models.vgg11(10, batch_norm=True, head="linear", input_size=32)
    assert networks.count(small) == 9_231_114
    assert list(small.parameters())[-2:] == ["classifier.weight", "classifier.bias"]
    assert networks.count(models.vgg16(head="none")) == 14_714_688
    assert models.vgg16(head="none").output_shape((3, 224, 224)) == (512, 7, 7)
    any_size = models.vgg11(10, head="linear", input_size=None)
    assert any_size.output_shape((3, 100, 48)) == (10,)
    assert sum(isinstance(layer, BatchNorm2d) for _, layer in small.walk()) == 8


@pytest.mark.parametrize(
    "options", [{"hidden": 8, "dropout": 0.2}, {"batch_norm": True, "head": "linear"}], ids=["dense", "linear"]
)
def test_narrow(options, tmp_path):
    networks.check(partial(models.vgg11, 3, 2, width=4, input_size=32, **options), tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 12}, "vgg: `depth` must be 11, 13, 16 or 19, got 12"),
        ({"head": "top"}, "vgg: `head` must be one of 'dense', 'linear', 'none', got 'top'"),
        ({"input_size": 31}, r"features\.20: MaxPool2d: the kernel spans"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.vgg(**{"depth": 11, **arguments})
