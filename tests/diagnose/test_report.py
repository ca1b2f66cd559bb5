"""What holds for every check: it changes nothing, says so in a few lines, and names bad arguments."""

import inspect

import numpy as np
import pytest

from cyconv import diagnose
from cyconv.data import Batches
from cyconv.models import googlenet
from cyconv.models.googlenet import AuxiliaryLoss
from cyconv.optimizers import Adam
from tests.diagnose.subjects import images, network
from tests.fingerprints import fingerprint

CHECKS = {name: check for name in diagnose.__all__ if inspect.isfunction(check := getattr(diagnose, name))}
OF_TARGETS = {name for name, check in CHECKS.items() if "y" in inspect.signature(check).parameters}


def run(name, net, x, y, **options):
    return CHECKS[name](net, x, y, **options) if name in OF_TARGETS else CHECKS[name](net, x, **options)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", CHECKS)
def test_the_network_stays_as_it_is(name, training):
    net, (x, y) = network(), images()
    net.train()
    net.backward(net(x))  # so that there are gradients, and running averages have moved
    net.train(training)
    before = fingerprint(net)
    report = run(name, net, x, y)
    assert isinstance(report, diagnose.Report)
    assert isinstance(report.ok, bool)
    assert fingerprint(net) == before
    assert repr(run(name, net, x, y)) == repr(report)


@pytest.mark.parametrize("name", CHECKS)
def test_weights_are_not_drawn_for_it(name):
    from cyconv.models import lenet5

    net, x, y = lenet5(), np.random.default_rng(0).random((4, 1, 32, 32), np.float32), np.arange(4)
    run(name, net, x, y, **({"steps": 2} if name == "overfit" else {}))
    assert not any(parameter.is_drawn for parameter in net.parameters().values())


@pytest.mark.parametrize("name", CHECKS)
def test_reports_are_lines_that_fit_a_screen(name):
    net, (x, y) = network(), images()
    first, *others = repr(run(name, net, x, y)).splitlines()
    assert first.endswith((": ok", ": look into this"))
    assert others
    for line in others:
        assert line.startswith("  ")
        assert line == line.rstrip()
        assert len(line) < 100


def test_an_optimizer_that_is_given_stays_as_it_is():
    net, (x, y) = network(), images()
    adam = Adam(0.01)
    diagnose.overfit(net, x, y, optimizer=adam, steps=3)
    diagnose.update_ratios(net, x, y, optimizer=adam)
    assert adam.state_dict()["steps"] == {}


def test_losses_that_know_layers_of_the_network_see_the_copy():
    net = googlenet(4, auxiliary=True, width_multiplier=0.05, in_channels=1, input_size=224, seed=0)
    x, y = np.random.default_rng(0).random((2, 1, 224, 224), np.float32), np.arange(2)
    for name, parameter in net.parameters().items():
        if name in ("fc.weight", "fc.bias") or ".fc2." in name:
            parameter.data = np.zeros(parameter.shape)
    before = fingerprint(net)
    loss = AuxiliaryLoss(net)
    report = diagnose.initial_loss(net, x, y, loss, expected=1.6 * np.log(4), tolerance=1e-5)
    assert fingerprint(net) == before
    assert report.ok, report
    assert loss._heads[0].output is None


@pytest.mark.parametrize("name", CHECKS)
def test_bad_arguments_are_named(name):
    net, (x, y) = network(), images()
    with pytest.raises(TypeError, match=f"{name}: `layer` must be a layer or network, got None"):
        run(name, None, x, y)
    with pytest.raises(ValueError, match=rf"{name}: `x` must have shape \(N, 1, 8, 8\)"):
        run(name, net, x[:, :, 1:], y)
    with pytest.raises(TypeError, match=f"{name}: `x` must be float32, float64 or uint8, got object"):
        run(name, net, Batches(x, y, 4), y)
    if name in OF_TARGETS:
        with pytest.raises(ValueError, match=rf"{name}: `y` must have a row for each of the 12 in `x`, got \(3,\)"):
            run(name, net, x, y[:3])
        with pytest.raises(ValueError, match=name):
            run(name, net, x, y + 1)
        with pytest.raises(ValueError, match=f"{name}: `loss` must be one of"):
            run(name, net, x, y, loss="hinge")
