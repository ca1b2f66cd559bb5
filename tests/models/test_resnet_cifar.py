import os
import runpy
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cyconv import models, settings
from cyconv.torch_files import load_torch
from tests.models import networks

# Of Y. Idelbayev's networks, with padded shortcuts; in table 6 of the paper 0.27, 0.46, 0.66, 0.85 and 1.7 million.
PUBLISHED = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962}


@pytest.mark.parametrize("depth", PUBLISHED)
def test_counts(depth):
    assert networks.count(models.resnet_cifar(depth)) == PUBLISHED[depth]
    assert networks.count(getattr(models, f"resnet{depth}")()) == PUBLISHED[depth]
    projected = models.resnet_cifar(depth, shortcut="projection")
    assert networks.count(projected) == PUBLISHED[depth] + 16 * 32 + 32 * 64 + 2 * (32 + 64)


def test_shapes():
    found = networks.shapes(models.resnet20())
    assert [found[f"layer{i}"] for i in (1, 2, 3)] == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]
    assert found["linear"] == (10,)


@pytest.mark.parametrize("shortcut", ["padding", "projection"])
def test_narrow(shortcut, tmp_path):
    networks.check(partial(models.resnet20, 3, 2, width=4, input_size=9, shortcut=shortcut), tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 18}, "resnet_cifar: `depth` must be 6n \\+ 2, .*, got 18"),
        ({"shortcut": "A"}, "resnet_cifar: `shortcut` must be one of 'padding', 'projection', got 'A'"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.resnet_cifar(**arguments)


@pytest.mark.skipif("CYCONV_DATA" not in os.environ, reason="CYCONV_DATA names no folder of data sets")
def test_published_weights_give_the_published_outputs(monkeypatch):
    """PyTorch's scores of the first thousand test images, 915 of which are right; weights from either of two files."""
    monkeypatch.setattr(settings, "_exact", True)
    folder = Path(os.environ["CYCONV_DATA"])
    with np.load(folder / "resnet20_cifar10" / "resnet20.npz") as file:
        states = [dict(file), load_torch(folder / "resnet20_cifar10" / "resnet20.th")]
    decode = runpy.run_path(str(folder / "cifar10" / "unpack.py"))["decode"]
    images, labels = decode(folder / "cifar10" / "test_first1000.d2.xz")
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)[:, :, np.newaxis, np.newaxis]
    expected = np.load(folder / "resnet20_cifar10" / "resnet20_logits_test_first1000_torch.npy")
    for state in states:
        network = models.resnet20()
        models.load_torchvision(network, state)
        scores = network.predict((images / np.float32(255) - mean) / std)
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).mean())
        assert np.sum(scores.argmax(axis=1) == labels) == 915
