from functools import partial

import pytest

from cyconv import models
from cyconv.layers import Conv2d
from tests.models import networks


def test_counts():
    network = models.xception()
    assert networks.count(network) == 22_855_952
    # 36 layers as the paper counts them, a separable convolution as one, without those of the shortcuts
    convolutions = [name for name, layer in network.walk() if isinstance(layer, Conv2d) and "shortcut" not in name]
    assert len([name for name in convolutions if not name.endswith("pointwise.")]) == 36


def test_shapes():
    found = networks.shapes(models.xception())
    assert found["conv2"] == (64, 147, 147)
    assert [found[f"block{i}"] for i in (1, 2, 3, 11, 12)] == [
        (128, 74, 74),
        (256, 37, 37),
        (728, 19, 19),
        (728, 19, 19),
        (1024, 10, 10),
    ]
    assert found["relu4"] == (2048, 10, 10)


def test_narrow(tmp_path):
    networks.check(partial(models.xception, 3, 2, width_multiplier=0.02, middle=2, input_size=40), tmp_path)


def test_refuses():
    with pytest.raises(ValueError, match="xception: `width_multiplier` must be"):
        models.xception(width_multiplier=0)


def test_blocks_are_counted():
    with pytest.raises(ValueError, match="xception: `middle` must be at most 1000, got 2000000000"):
        models.xception(middle=2_000_000_000)
