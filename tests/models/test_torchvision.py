import numpy as np
import pytest

from cyconv import models
from cyconv.models import load_torchvision, torchvision_names


def test_names_are_torchvisions():
    names = torchvision_names(models.vgg11())
    assert all(ours == theirs for ours, theirs in names.items())
    names = torchvision_names(models.resnet50())
    assert len(names) == 320  # of which 53 convolutions, 5 for each of as many normalisations, and the linear layer's 2
    expected = {
        "conv1.weight": "conv1.weight",
        "layer1.0.body.bn3.running_mean": "layer1.0.bn3.running_mean",
        "layer4.0.shortcut.1.num_batches_tracked": "layer4.0.downsample.1.num_batches_tracked",
        "fc.bias": "fc.bias",
    }
    assert expected.items() <= names.items()
    assert len(set(names.values())) == len(names)


def test_loading_renames():
    source, target = (models.resnet20(width=2, shortcut="projection", seed=seed) for seed in (0, 1))
    source["bn1"].num_batches_tracked += 3
    names, arrays = torchvision_names(source), source.state_dict()
    state = {theirs: arrays[ours] for ours, theirs in names.items()}
    load_torchvision(target, state)
    for name, array in target.state_dict().items():
        np.testing.assert_array_equal(array, arrays[name])
    old = {name: array for name, array in state.items() if not name.endswith("num_batches_tracked")}
    load_torchvision(target, old)
    assert target["bn1"].num_batches_tracked == 3


def test_loading_the_wrong_weights_changes_nothing():
    source, target = models.resnet20(width=2, seed=0), models.resnet20(width=2, seed=1)
    before = {name: array.copy() for name, array in target.state_dict().items()}
    arrays = source.state_dict()
    state = {theirs: arrays[ours] for ours, theirs in torchvision_names(source).items()}
    with pytest.raises(ValueError, match=r"missing: linear\.bias; unexpected: head\.bias"):
        load_torchvision(target, {name.replace("linear.bias", "head.bias"): array for name, array in state.items()})
    for name, array in target.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
