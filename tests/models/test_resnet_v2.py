from functools import partial

import numpy as np
import pytest

from cyconv import models
from cyconv.losses import CrossEntropyLoss
from cyconv.optimizers import SGD
from cyconv.training import train_step
from tests.models import networks


def test_counts():
    # A bottleneck's normalisations are before its convolutions, and shortcuts have none.
    assert networks.count(models.resnet_v2(50)) == 25_549_352
    for depth, millions in ((164, 1.7), (1001, 10.3)):  # table 4 of the paper, but for its 10.2
        assert round(networks.count(models.resnet_v2_cifar(depth)) / 1e6, 1) == millions
    network = models.resnet_v2_cifar(1001)
    weights = [name for name, parameter in network.parameters().items() if len(parameter.shape) > 1]
    assert len([name for name in weights if "shortcut" not in name]) == 1001


def test_shapes():
    found = networks.shapes(models.resnet_v2(50))
    assert [found[f"layer{i}"] for i in (1, 2, 3, 4)] == [(256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7)]
    assert networks.shapes(models.resnet_v2_cifar(164))["layer3"] == (256, 8, 8)


@pytest.mark.parametrize("depth", [18, 50])
def test_narrow(depth, tmp_path):
    networks.check(partial(models.resnet_v2, depth, 3, 2, width=4, input_size=32), tmp_path)


def test_narrow_cifar(tmp_path):
    networks.check(partial(models.resnet_v2_cifar, 20, 3, 2, width=4, input_size=8), tmp_path)


def test_a_thousand_layers_train():
    network = models.resnet_v2_cifar(1001, width=4, input_size=8, seed=0).train()
    x, y = networks.images(network, 32), np.arange(32) % 10
    optimizer = SGD(0.1, momentum=0.9)
    losses = [train_step(network, x, y, CrossEntropyLoss(), optimizer)[0] for _ in range(10)]
    assert all(np.isfinite(losses))
    assert losses[-1] < losses[0] - 0.2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(models.resnet_v2, 20), "resnet_v2: `depth` must be 18, 34, 50, 101 or 152, got 20"),
        (partial(models.resnet_v2_cifar, 20 + 1), "resnet_v2_cifar: `depth` must be 9n \\+ 2"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
