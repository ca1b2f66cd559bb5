import numpy as np
import pytest

from cyconv import diagnose
from cyconv import layers as L
from tests.diagnose.subjects import images, network


def test_dead_units_are_counted():
    net, (x, _) = network(), images()
    healthy = diagnose.dead_relus(net, x)
    assert list(healthy.shares) == ["relu", "block.body.1"]
    assert healthy.shares["relu"] == 0  # normalised, each channel is positive somewhere
    bias = net["bn"].bias.data
    bias[:3] = -100
    net["bn"].bias.data = bias
    report = diagnose.dead_relus(net, x)
    assert report.shares["relu"] == 0.5
    assert not report.ok
    assert [line.split() for line in repr(report).splitlines()[1:3]] == [["layer", "dead"], ["relu", "50.0%", "<-"]]
    assert diagnose.dead_relus(net, x, limit=0.99).ok


def test_a_unit_that_one_image_wakes_is_alive():
    layer = L.Sequential(L.Linear(1, 2).initialize(0), L.ReLU())
    layer["0"].weight.data = [[1], [1]]
    layer["0"].bias.data = [-5, -7]
    x = np.array([[0], [1], [6]], np.float32)
    assert diagnose.dead_relus(layer, x).shares == {"1": 0.5}


def test_a_network_without_relus():
    report = diagnose.dead_relus(L.Sequential(L.Linear(2, 2), L.Tanh()), np.ones((1, 2), np.float32))
    assert report.ok
    assert repr(report) == "dead ReLUs: ok\n  there are no ReLUs"


def test_statistics_are_those_of_the_outputs():
    net, (x, _) = network(), images()
    report = diagnose.activation_statistics(net, x)
    assert report.ok
    assert list(report.layers) == [
        "conv", "bn", "relu", "block.body.0", "block.body.1", "block.shortcut", "pool", "flatten", "drop", "scores",
    ]  # fmt: skip
    output = net["conv"](x).astype(float)
    found = report.layers["conv"]
    expected = (output.mean(), output.std(), output.min(), output.max(), np.mean(output == 0))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert report.layers["bn"].mean == pytest.approx(0, abs=1e-5)  # by the batch's own statistics
    assert report.layers["bn"].std == pytest.approx(1, abs=1e-3)
    assert 0.3 < report.layers["relu"].zero < 0.7
    assert report.layers["drop"].zero > report.layers["flatten"].zero
    header, first = (line.split() for line in repr(report).splitlines()[1:3])
    assert header == ["layer", "mean", "std", "min", "max", "zero"]
    assert first[0] == "conv"


def stack(std):
    rng = np.random.default_rng(0)
    net = L.Sequential([layer for _ in range(6) for layer in (L.Linear(32, 32, bias=False), L.ReLU())])
    for parameter in net.parameters().values():
        parameter.data = rng.normal(0, std, parameter.shape)
    return net


@pytest.mark.parametrize(("std", "remark"), [(0.01, "<- vanishes"), (3.0, "<- explodes")])
def test_numbers_that_vanish_or_explode_are_found_out(std, remark):
    x = np.random.default_rng(1).standard_normal((50, 32), np.float32)
    report = diagnose.activation_statistics(stack(std), x)
    assert not report.ok
    assert remark in repr(report).splitlines()[-1]
    assert remark not in repr(report).splitlines()[2]
    assert diagnose.activation_statistics(stack((2 / 32) ** 0.5), x).ok  # He's


def test_what_is_not_finite_is_found_out():
    x = np.ones((2, 32), np.float32)
    x[0, 0] = np.inf
    report = diagnose.activation_statistics(stack(0.1), x)
    assert not report.ok
    assert "<- not finite" in repr(report)


def test_bad_arguments_are_named():
    net, (x, _) = network(), images()
    with pytest.raises(ValueError, match="dead_relus: `limit` must be at least 0 and at most 1"):
        diagnose.dead_relus(net, x, limit=2)
    with pytest.raises(ValueError, match="activation_statistics: `limits` must be two numbers"):
        diagnose.activation_statistics(net, x, limits=(1, 2, 3))
