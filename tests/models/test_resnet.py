from functools import partial

import pytest

from cyconv import models
from cyconv.layers import Conv2d, MaxPool2d
from tests.models import networks

PUBLISHED = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}


@pytest.mark.parametrize("depth", PUBLISHED)
def test_counts(depth):
    network = models.resnet(depth)
    assert networks.count(network) == PUBLISHED[depth]
    assert networks.count(getattr(models, f"resnet{depth}")()) == PUBLISHED[depth]
    names = [name for name, parameter in network.parameters().items() if len(parameter.shape) > 1]
    assert len([name for name in names if "shortcut" not in name]) == depth


@pytest.mark.parametrize(("depth", "expansion"), [(18, 1), (50, 4)])
def test_shapes(depth, expansion):
    stages = [(64 * expansion, 56, 56), (128 * expansion, 28, 28), (256 * expansion, 14, 14), (512 * expansion, 7, 7)]
    found = networks.shapes(models.resnet(depth))
    assert found["conv1"] == (64, 112, 112)
    assert [found[f"layer{i}"] for i in (1, 2, 3, 4)] == stages
    assert found["fc"] == (1000,)


def test_small_stem():
    network = models.resnet18(10, small_stem=True, input_size=32)
    assert networks.shapes(network)["layer4"] == (512, 4, 4)
    assert not any(isinstance(layer, MaxPool2d) for _, layer in network.walk())
    assert networks.count(network) == 11_173_962  # as of the usual ResNet-18 for CIFAR-10


def test_a_bottlenecks_stride_is_in_its_3x3_convolution():
    network = models.resnet50()
    strides = [
        layer.stride for name, layer in network.walk() if name.startswith("layer2.0.") and hasattr(layer, "stride")
    ]
    assert strides == [1, 2, 1, 2]
    assert all(layer.bias is None for _, layer in network.walk() if isinstance(layer, Conv2d))


@pytest.mark.parametrize(
    "options", [{"depth": 18, "input_size": 33}, {"depth": 50, "input_size": 9, "small_stem": True}]
)
def test_narrow(options, tmp_path):
    networks.check(partial(models.resnet, num_classes=3, in_channels=2, width=4, **options), tmp_path)


def test_refuses():
    with pytest.raises(ValueError, match="resnet: `depth` must be 18, 34, 50, 101 or 152, got 20"):
        models.resnet(20)
