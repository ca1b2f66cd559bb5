import numpy as np
import pytest

from cyconv import diagnose
from cyconv import layers as L
from cyconv.functional import cross_entropy_backward
from cyconv.models import lenet5, resnet20
from cyconv.optimizers import SGD, Adam
from tests.diagnose.subjects import images, network


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "mse", "smooth_l1", "dice"])
def test_gradients_through_network_and_loss(loss):
    net, (x, y) = network(), images()
    targets = y if loss in ("cross_entropy", "dice") else np.eye(4)[y]
    report = diagnose.gradients(net, x, targets, loss)
    assert report.ok, report
    assert [each.name for each in report.reports] == ["input", *net.parameters()]
    assert all(each.checked == min(10, size) for each, size in zip(report.reports[1:], sizes(net), strict=True))


def sizes(net):
    return [parameter.size for parameter in net.parameters().values()]


@pytest.mark.parametrize("build", [lenet5, lambda: resnet20(width=4)])
def test_gradients_of_known_networks(build):
    net = build().initialize(0)
    x = np.random.default_rng(0).random((3, *net.input_shape), np.float32)
    report = diagnose.gradients(net, x, [1, 2, 3], max_entries=3)
    assert report.ok, report


def test_an_even_background_and_zero_biases_raise_no_alarm():
    """Exactly at the kinks of ReLU and max pooling there is no gradient to compare with."""
    net, (x, y) = lenet5(seed=0), images()
    canvas = np.zeros((12, 1, 32, 32), np.float32)
    canvas[:, :, 10:18, 12:20] = x
    report = diagnose.gradients(net, canvas, y)
    assert report.ok, report


class Wrong(L.ReLU):
    def backward(self, grad_output, needs_grad_input=True):
        return 1.01 * super().backward(grad_output)


def test_a_wrong_gradient_is_found_out():
    net, (x, y) = network(), images()
    net["relu"] = Wrong()
    report = diagnose.gradients(net, x, y)
    assert not report.ok
    errors = {each.name: each.error for each in report.reports}
    assert 0.002 < errors["conv.weight"] < 0.02
    assert errors["scores.weight"] < 1e-6
    lines = repr(report).splitlines()
    assert lines[0] == "gradients: look into this"
    assert lines[1].split() == ["array", "error", "backward", "differences"]
    assert any(line.split()[0] == "conv.weight" for line in lines)
    assert "scores.weight" not in repr(report)
    assert diagnose.gradients(net, x, y, tolerance=0.1).ok


def test_frozen_parameters_have_no_gradient():
    net, (x, y) = network(), images()
    net["conv"].weight.trainable = False
    assert "conv.weight" not in {each.name for each in diagnose.gradients(net, x, y).reports}
    assert "conv.weight" not in diagnose.update_ratios(net, x, y).ratios


def test_update_ratios_are_those_of_the_step():
    layer, rate = L.Linear(3, 2).initialize(0), 0.25
    layer.bias.data = np.zeros(2)
    x, y = np.random.default_rng(0).standard_normal((8, 3), np.float32), np.arange(8) % 2
    report = diagnose.update_ratios(layer, x, y, optimizer=SGD(rate))
    gradient = cross_entropy_backward(1.0, layer(x), y)
    expected = rate * np.linalg.norm(gradient.T @ x) / np.linalg.norm(layer.weight.data)
    assert report.ratios["weight"] == pytest.approx(expected, rel=1e-5)
    assert report.ratios["bias"] == np.inf  # it was zero, and is not judged
    assert report.judged == ["weight"]
    assert report.ok


@pytest.mark.parametrize(("rate", "remark"), [(1e-9, "<- small: does a gradient arrive"), (100.0, "<- large")])
def test_steps_of_the_wrong_size_are_found_out(rate, remark):
    x, y = images()
    report = diagnose.update_ratios(network(), x, y, optimizer=SGD(rate))
    assert not report.ok
    assert remark in repr(report)
    assert diagnose.update_ratios(network(), x, y, optimizer=SGD(rate), limits=(0, 1e9)).ok


def test_a_layer_that_no_gradient_reaches_is_found_out():
    net, (x, y) = network(), images()
    net["bn"].bias.data = np.full(6, -1e3)
    report = diagnose.update_ratios(net, x, y, optimizer=Adam(1e-3))
    assert not report.ok
    assert report.ratios["conv.weight"] == 0


def test_bad_arguments_are_named():
    x, y = images()
    for wrong, message in ((3, "must be two numbers, got 3"), ((2, 1), "must be at least 2"), ((-1, 1), "at least 0")):
        with pytest.raises(ValueError, match=f"update_ratios: `limits` {message}|`limits` must be {message}"):
            diagnose.update_ratios(network(), x, y, limits=wrong)
    with pytest.raises(ValueError, match="gradients: `max_entries` must be at least 1"):
        diagnose.gradients(network(), x, y, max_entries=0)
    with pytest.raises(ValueError, match="gradients: `epsilon` must be above 0"):
        diagnose.gradients(network(), x, y, epsilon=0)
    with pytest.raises(ValueError, match="gradients: `tolerance` must be at least 0"):
        diagnose.gradients(network(), x, y, tolerance=-1)
