"""The tables of methods: all that is promised and all that is public is there, and does what its section is for."""

import importlib
import inspect

import numpy as np
import pytest

from cyconv import Network, schedules
from cyconv import layers as L
from cyconv.optimizers import OPTIMIZERS as NAMES
from cyconv.optimizers import SGD, Optimizer, ParameterGroup, as_optimizer
from cyconv.parameter import Parameter
from cyconv.training import Callback
from tests import methods
from tests.methods import METHODS

ALL = [method for section in METHODS.values() for method in section]

PROMISED = {
    "Optimizers": "SGD|momentum|Nesterov|AdaGrad|AdaDelta|RMSProp|Adam|AdamW|Adamax|Nadam|AMSGrad|AdaBound|"
    "weight decay",
    "Gradients and groups of parameters": "L1 penalty|L2 penalty|gradient clipping by norm|gradient clipping by value|"
    "parameter groups|frozen layers",
    "Schedules of the learning rate": "step|cosine|exponential|warm up|one cycle|on plateau",
    "Callbacks": "early stopping|moving average of the weights",
    "Initial weights": "constant standard deviation|one over root n|Glorot|He|orthogonal|bilinear",
    "Augmentation": "flips|crops|shifts|rotation|colour|cut out|elastic",
    "Metrics": "accuracy|top k accuracy|confusion matrix|precision|recall|F1|intersection over union|Dice",
    "Sanity checks": "initial loss near log of the classes|overfit a tiny batch|gradient check|dead ReLU share|"
    "update to weight ratio",
    "Understanding a network": "summary table|number of parameters|number of multiply adds|receptive field|saliency|"
    "images that maximise a filter|training curves|confusion matrix drawn|filters before and after training|"
    "feature maps drawn|segmentation overlays",
}


@pytest.mark.parametrize(("section", "name"), [(s, n) for s, names in PROMISED.items() for n in names.split("|")])
def test_what_is_promised_is_in_the_tables(section, name):
    assert [method.name for method in METHODS[section]].count(name) == 1


# Public names that are no method: bases to derive from, results, and what other rows are made with.
NO_METHODS = {
    "cyconv.optimizers": {"Optimizer", "Step"},
    "cyconv.schedules": {"Schedule"},
    "cyconv.data.augmentation": {"PixelTransform", "SpatialTransform"},
    "cyconv.metrics": set(),
    "cyconv.initializers": set(),
    "cyconv.visualize": set(),
    "cyconv.image": set(),
    "cyconv.diagnose": {
        "ActivationStatistics", "Activations", "DeadReLUs", "Gradients", "InitialLoss", "Overfit", "Report",
        "UpdateRatios",
    },
    "cyconv.analysis": {"ReceptiveField", "Row", "Summary", "multiply_adds", "see_through"},
}  # fmt: skip


@pytest.mark.parametrize("name", NO_METHODS)
def test_every_public_method_is_in_the_tables(name):
    listed = [method for method in ALL if method.module == name]
    if not listed:
        assert name == "cyconv.image"  # not built
        return
    mentioned = {word for method in listed for word in importlib.import_module(name).__all__ if word in words(method)}
    assert mentioned == {*importlib.import_module(name).__all__} - NO_METHODS[name]


def words(method):
    return method.code.replace("(", " ").replace(",", " ").split()


def test_every_name_that_fit_takes_for_an_optimizer_is_in_the_table():
    made = {repr(method.make()).split("(")[0] for method in methods.OPTIMIZERS}
    assert {type(as_optimizer("fit", name)).__name__ for name in NAMES} == made


@pytest.mark.parametrize("method", ALL, ids=lambda method: f"{method.module}: {method.name}")
def test_rows_are_documented_code(method):
    assert method.summary().endswith(".")
    assert callable(method.make()) or not inspect.isfunction(method.make())


@pytest.mark.parametrize("method", methods.OPTIMIZERS, ids=lambda method: method.name)
def test_optimizers_find_the_bottom_of_a_bowl(method):
    optimizer = method.make()
    assert isinstance(optimizer, Optimizer)
    weight, scales = Parameter(np.array([3.0, -2.0, 1.0])), np.array([1.0, 0.5, 2.0])
    values = []
    for _ in range(200):
        values.append(float(np.sum(scales * weight.data**2)))
        weight.grad = 2 * scales * weight.data
        optimizer.step({"weight": weight})
    assert min(values[-10:]) < 0.05 * values[0]


@pytest.mark.parametrize("method", methods.STEPS, ids=lambda method: method.name)
def test_hooks_and_groups_change_the_step(method):
    made, results = method.make(), []
    for used in (False, True):
        weight, optimizer = Parameter(np.array([3.0, -4.0])), SGD(0.1, weight_decay=0.5)
        if used:
            optimizer.add_group(made) if isinstance(made, ParameterGroup) else optimizer.add_hook(made)
        weight.grad = np.array([6.0, 8.0])
        optimizer.step({"weight": weight})
        results.append(weight.data.copy())
    assert not np.allclose(*results)


def network():
    return Network([L.Linear(4, 3)], input_shape=(4,), seed=0)


RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((16, 4)).astype(np.float32), RNG.integers(3, size=16)


class Rates(Callback):
    def __init__(self):
        self.rates = []

    def on_batch_end(self, run):
        self.rates.append(run.optimizer.learning_rate)


@pytest.mark.parametrize("method", methods.SCHEDULES, ids=lambda method: method.name)
def test_schedules_change_the_rate_and_give_it_back(method):
    schedule, rates, optimizer = method.make(), Rates(), SGD(0.1)
    options = {"validation_data": (X, Y), "progress": False, "optimizer": optimizer}
    network().fit(X, Y, epochs=6, batch_size=8, callbacks=[schedule, rates], **options)
    assert len(rates.rates) == 12
    assert len({*rates.rates}) > 1
    assert optimizer.learning_rate == 0.1
    assert {type(each.make()).__name__ for each in methods.SCHEDULES} == {*schedules.__all__} - {"Schedule"}


@pytest.mark.parametrize("method", methods.CALLBACKS, ids=lambda method: method.name)
def test_callbacks_take_part_in_training(method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    callback, net = method.make(), network()
    assert isinstance(callback, Callback)
    history = net.fit(X, Y, epochs=3, callbacks=[callback], validation_data=(X, Y), progress=False)
    assert len(history) == 3


@pytest.mark.parametrize("method", methods.INITIALIZERS, ids=lambda method: method.name)
def test_initializers_fill_weights(method):
    layer = L.ConvTranspose2d(3, 3, 4, initializer=method.make()).initialize(0)
    assert layer.weight.shape == (3, 3, 4, 4)
    assert np.isfinite(layer.weight.data).all()
    assert not layer.bias.data.any() or method.name == "as PyTorch"


@pytest.mark.parametrize("method", methods.AUGMENTATION, ids=lambda method: method.name)
def test_augmentations_are_a_function_of_the_generator(method):
    transform = method.make()
    x, y = RNG.random((8, 3, 16, 16), np.float32), RNG.integers(2, size=(8, 16, 16))
    before = x.copy()
    (first, target), (second, _) = (transform(x, y, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(x, before)
    assert first.shape[:2] == (8, 3)
    changed = target.shape != y.shape or not np.array_equal(first, x)
    assert changed


@pytest.mark.parametrize("method", methods.METRICS, ids=lambda method: method.name)
def test_metrics_of_the_right_answers(method):
    found = method.make()(np.eye(3)[Y] + 0.0, Y)
    if method.name == "confusion matrix":
        np.testing.assert_array_equal(found, np.diag(np.bincount(Y)))
    else:
        assert found == 1
