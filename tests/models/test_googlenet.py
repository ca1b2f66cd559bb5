from functools import partial

import numpy as np
import pytest

from cyconv import models
from cyconv.layers import Conv2d, Flatten, Linear, Sequential, SideHead, Tanh
from cyconv.losses import CrossEntropyLoss
from cyconv.models.googlenet import AuxiliaryLoss
from cyconv.optimizers import SGD
from cyconv.training import train_step
from tests import numerical
from tests.models import networks


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 6_998_552),  # as of the paper's network in Caffe's model zoo
        ({"auxiliary": True}, 13_378_280),
        ({"form": "torchvision"}, 6_624_904),
        ({"form": "torchvision", "auxiliary": True}, 13_004_888),
    ],
)
def test_counts(options, expected):
    assert networks.count(models.googlenet(**options)) == expected


# Table 1 of the paper, output sizes.
TABLE = {
    "conv1": (64, 112, 112),
    "maxpool1": (64, 56, 56),
    "conv3": (192, 56, 56),
    "maxpool2": (192, 28, 28),
    "inception3a": (256, 28, 28),
    "inception3b": (480, 28, 28),
    "maxpool3": (480, 14, 14),
    "inception4a": (512, 14, 14),
    "inception4b": (512, 14, 14),
    "inception4c": (512, 14, 14),
    "inception4d": (528, 14, 14),
    "inception4e": (832, 14, 14),
    "maxpool4": (832, 7, 7),
    "inception5a": (832, 7, 7),
    "inception5b": (1024, 7, 7),
    "avgpool": (1024, 1, 1),
    "fc": (1000,),
}


@pytest.mark.parametrize("form", ["2015", "torchvision"])
def test_shapes(form):
    network = models.googlenet(form=form, auxiliary=True)
    found = networks.shapes(network)
    assert {name: found[name] for name in TABLE} == TABLE
    steps = {step.name: step.output_shape for step in network.trace((3, 224, 224))}
    assert steps["aux1.body.avgpool"] == (512, 4, 4)
    assert steps["aux2.body.fc2"] == (1000,)


@pytest.mark.parametrize("form", ["2015", "torchvision"])
def test_narrow(form, tmp_path):
    networks.check(partial(models.googlenet, 3, 2, form=form, width_multiplier=0.07, input_size=33), tmp_path)


def test_side_heads_train():
    network = models.googlenet(3, 2, auxiliary=True, width_multiplier=0.05, input_size=224, seed=0)
    x, y = networks.images(network, 2), np.array([0, 2])
    loss, plain = AuxiliaryLoss(network), CrossEntropyLoss()
    sides = network["aux1"], network["aux2"]
    assert loss.forward(network.predict(x), y) == plain.forward(network.predict(x), y)
    before = {name: parameter.data.copy() for name, parameter in network.parameters().items() if "aux" in name}
    network.train()
    value, output = train_step(network, x, y, loss, SGD(0.01))
    assert value > plain.forward(output, y)
    assert all(side.output is None and side.grad_output is None for side in sides)
    for name, array in before.items():
        assert name.endswith("conv.conv.bias") or not np.array_equal(array, network.parameters()[name].data), name
    assert np.isfinite(loss.forward(network.predict(x), y))


def test_the_losss_gradients():
    """Of the sum of both losses, by central differences."""
    head = SideHead(Sequential(Flatten(), Linear(18, 3)))
    network = Sequential(Conv2d(1, 2, 2), Tanh(), head, Flatten(), Linear(18, 3)).initialize(0).astype(np.float64)
    x, y = np.random.default_rng(0).standard_normal((5, 1, 4, 4)), np.arange(5) % 3
    loss = AuxiliaryLoss(network, discount=0.4)
    output = network.forward(x)
    expected = CrossEntropyLoss().forward(output, y) + 0.4 * CrossEntropyLoss().forward(head.output, y)
    assert loss.forward(output, y) == pytest.approx(expected)
    network.backward(loss.backward(output, y))
    for name, parameter in network.parameters().items():

        def total(values, parameter=parameter):
            parameter.data = values
            return loss.forward(network.forward(x), y)

        values = parameter.data.copy()
        np.testing.assert_allclose(parameter.grad, numerical.gradient(total, values), atol=1e-7, err_msg=name)
        parameter.data = values


def test_refuses():
    with pytest.raises(ValueError, match="googlenet: `form` must be one of '2015', 'torchvision', got '2014'"):
        models.googlenet(form="2014")
    with pytest.raises(ValueError, match="AuxiliaryLoss: `network` has no `SideHead`; build it with `auxiliary=True`"):
        AuxiliaryLoss(models.googlenet())


def test_response_normalization_stands_where_the_paper_has_it():
    names = list(models.googlenet().children())
    assert names[:8] == ["conv1", "maxpool1", "norm1", "conv2", "conv3", "norm2", "maxpool2", "inception3a"]
    for options in ({"form": "torchvision"}, {"response_norm": False}):
        assert not any("norm1" in name for name in models.googlenet(**options).children())
