from functools import partial

import pytest

from cyconv import models
from cyconv.layers import Conv2d
from tests.models import networks

# As in the paper's table 6, in millions: 4.2, 2.6, 1.3 and 0.5.
PUBLISHED = {1.0: 4_231_976, 0.75: 2_585_560, 0.5: 1_331_592, 0.25: 470_072}


@pytest.mark.parametrize("width_multiplier", PUBLISHED)
def test_counts(width_multiplier):
    assert networks.count(models.mobilenet_v1(width_multiplier=width_multiplier)) == PUBLISHED[width_multiplier]


def test_shapes():
    network = models.mobilenet_v1()
    found = networks.shapes(network)
    assert found["stem"] == (32, 112, 112)
    assert [found[f"block{i}"] for i in (1, 3, 5, 11, 13)] == [
        (64, 112, 112),
        (128, 56, 56),
        (256, 28, 28),
        (512, 14, 14),
        (1024, 7, 7),
    ]
    convolutions = [layer for _, layer in network.walk() if isinstance(layer, Conv2d)]
    assert len(convolutions) == 27  # and the linear layer: 28 layers
    assert [conv.groups for conv in convolutions[1::2]] == [conv.in_channels for conv in convolutions[1::2]]
    small = models.mobilenet_v1(10, stem_stride=1, input_size=32)
    assert networks.shapes(small)["block13"] == (1024, 2, 2)


def test_narrow(tmp_path):
    networks.check(partial(models.mobilenet_v1, 3, 2, width_multiplier=0.1, stem_stride=1, input_size=17), tmp_path)


@pytest.mark.parametrize("width_multiplier", [0, -1.0, float("nan")])
def test_refuses(width_multiplier):
    with pytest.raises(ValueError, match="mobilenet_v1: `width_multiplier` must be"):
        models.mobilenet_v1(width_multiplier=width_multiplier)
