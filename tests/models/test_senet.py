from functools import partial

import pytest

from cyconv import models
from cyconv.layers import Gate
from tests.models import networks


def test_counts():
    assert networks.count(models.se_resnet50()) == 28_088_024
    plain = networks.count(models.resnet18())
    added = sum(2 * (2 * c * (c // 16) + c // 16 + c) for c in (64, 128, 256, 512))
    assert networks.count(models.se_resnet(18)) == plain + added


def test_each_body_ends_in_a_gate():
    network = models.se_resnet50()
    gates = [name for name, layer in network.walk() if isinstance(layer, Gate)]
    assert len(gates) == 16
    assert all(name.endswith(".body.se.") for name in gates)
    assert networks.shapes(network)["layer4"] == (2048, 7, 7)


@pytest.mark.parametrize("depth", [18, 50])
def test_narrow(depth, tmp_path):
    make = partial(models.se_resnet, depth, 3, 2, width=4, reduction=2, small_stem=True, input_size=9)
    networks.check(make, tmp_path, max_entries=1)


def test_refuses():
    with pytest.raises(ValueError, match="se_resnet: `depth` must be 18, 34, 50, 101 or 152, got 49"):
        models.se_resnet(49)
