import itertools

import numpy as np
import pytest

from cyconv import boxes, models
from cyconv.optimizers import Adam
from cyconv.training import train_step
from tests.models import networks


def expected_count(in_channels, classes, width, hidden, cells):
    widths = [in_channels, width, 2 * width, 4 * width, 4 * width]
    total = sum(9 * a * b + 2 * b for a, b in itertools.pairwise(widths))
    return total + 4 * width * cells * hidden + hidden + 5 * classes * (hidden + 1)


def test_counts():
    assert networks.count(models.box_regressor()) == expected_count(1, 10, 16, 128, 16) == 198_050
    narrow = models.box_regressor(3, 2, width=4, hidden=8, input_size=(33, 48))
    assert networks.count(narrow) == expected_count(2, 3, 4, 8, 2 * 3)


def test_shapes():
    network = models.box_regressor()
    found = networks.shapes(network)
    assert [found[f"pool{i}"] for i in (1, 2, 3, 4)] == [(16, 32, 32), (32, 16, 16), (64, 8, 8), (64, 4, 4)]
    assert found["heads"] == (50,)
    parts = network["heads"].split(np.zeros((3, 50)))
    assert {name: part.shape for name, part in parts.items()} == {"scores": (3, 10), "boxes": (3, 40)}


def test_boxes_start_as_the_whole_image():
    network = models.box_regressor(width=2, hidden=4, seed=0)
    whole = np.array([0, 0, 64, 64], np.float32)
    _, found = boxes.detect(network.predict(networks.images(network)), whole)
    np.testing.assert_array_equal(found, [whole, whole])


def test_narrow(tmp_path):
    def make(seed):
        return models.box_regressor(3, 2, width=3, hidden=6, input_size=(16, 32), seed=seed)

    networks.check_saves_and_loads(make, tmp_path)
    networks.check_network_gradients(make(0))
    network, rng = make(0), np.random.default_rng(0)
    x = networks.images(network, 8)
    corner = rng.uniform(0, 8, (8, 2)).astype(np.float32)
    target = boxes.targets(rng.integers(3, size=8), np.concatenate([corner, corner + 6], 1), np.float32([0, 0, 32, 16]))
    loss, adam = boxes.BoxLoss(), Adam(0.02)
    losses = [train_step(network, x, target, loss, adam)[0] for _ in range(30)]
    assert losses[-1] < 0.2 * losses[0]


def test_refuses():
    with pytest.raises(ValueError, match="box_regressor: `input_size` must be at least 16 pixels, got 64x15"):
        models.box_regressor(input_size=(64, 15))
