import math

import numpy as np
import pytest

from cyconv import Network, diagnose
from cyconv import layers as L
from cyconv.data import digits
from cyconv.losses import CrossEntropyLoss
from cyconv.models import lenet5
from cyconv.optimizers import SGD, Adam
from tests.diagnose.subjects import images, network


def test_initial_loss_is_log_of_the_classes():
    x, y = images()
    net = network()
    net["scores"].weight.data = 0.1 * net["scores"].weight.data
    report = diagnose.initial_loss(net, x, y)
    assert report.ok
    assert report.expected == math.log(4)
    assert abs(report.loss - report.expected) <= 0.3 * report.expected


def test_initial_loss_of_large_weights_is_found_out():
    net, (x, y) = network(), images()
    net["scores"].weight.data = 30 * net["scores"].weight.data
    report = diagnose.initial_loss(net, x, y)
    assert not report.ok
    assert report.loss > 2 * report.expected
    assert "initial weights too large" in repr(report)
    assert diagnose.initial_loss(net, x, y, tolerance=100).ok


def test_initial_loss_of_other_losses():
    net, (x, y) = network(), images()
    net["scores"].weight.data = 0 * net["scores"].weight.data
    net["scores"].bias.data = np.zeros(4)
    binary = diagnose.initial_loss(net, x, np.eye(4)[y], "binary_cross_entropy", tolerance=1e-6)
    assert binary.ok
    assert binary.expected == math.log(2)
    squared = diagnose.initial_loss(net, x, np.eye(4)[y], "mse", expected=0.25, tolerance=1e-6)
    assert squared.ok
    with pytest.raises(ValueError, match=r"initial_loss: `expected` must be given for MSELoss\(\): the loss of a netw"):
        diagnose.initial_loss(net, x, np.eye(4)[y], "mse")


def test_lenet_learns_digits_by_heart():
    data = digits(28)
    x = np.pad(data.train_x[:12], ((0, 0), (0, 0), (2, 2), (2, 2)))
    report = diagnose.overfit(lenet5(seed=0), x, data.train_y[:12], optimizer=Adam(0.003), steps=100)
    assert report.ok, report
    assert len(report.losses) == 101
    assert report.losses[-1] < 0.05 * report.losses[0]


def test_what_cannot_be_learned_is_found_out():
    """Two like images of different classes."""
    net, (x, y) = network(), images()
    x[1] = x[0]
    report = diagnose.overfit(net, x[:2], y[:2], optimizer=SGD(0.1), steps=40)
    assert not report.ok
    assert np.mean(report.losses[-10:]) > 0.6
    assert "do the targets belong to the images?" in repr(report)
    assert diagnose.overfit(net, x[:2], y[:2], steps=1, ratio=10).ok


def test_smoothed_labels_need_another_ratio():
    net, (x, y) = network(), images(4)
    smoothed = CrossEntropyLoss(label_smoothing=0.5)
    least = -(0.625 * math.log(0.625) + 3 * 0.125 * math.log(0.125))
    report = diagnose.overfit(net, x, y, smoothed, Adam(0.01), steps=150, ratio=0.9)
    assert report.ok
    assert report.losses[-1] > least * 0.999


def test_bad_arguments_are_named():
    x, y = images()
    with pytest.raises(ValueError, match="overfit: `steps` must be at least 1, got 0"):
        diagnose.overfit(network(), x, y, steps=0)
    with pytest.raises(ValueError, match="overfit: `ratio` must be at least 0"):
        diagnose.overfit(network(), x, y, ratio=-1)
    with pytest.raises(ValueError, match="overfit: `optimizer` must be one of"):
        diagnose.overfit(network(), x, y, optimizer="lion")
    with pytest.raises(ValueError, match="initial_loss: `tolerance` must be at least 0"):
        diagnose.initial_loss(network(), x, y, tolerance=-1)
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        diagnose.overfit(Network([L.Linear(2, 2)], (2,), seed=0), np.full((2, 2), np.nan, np.float32), [0, 1])
