"""Whatever is legally changed about a network between two predictions, the next one is of the network as it is now.

A state machine changes it at random. The oracle has no memory: it computes each layer's output, one after the other,
from the parameters' values with NumPy and SciPy alone, in float64.
"""

import copy
import pickle
import types

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from scipy import signal

import cyconv
from cyconv import Network
from cyconv.layers import (
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
)
from cyconv.losses import CrossEntropyLoss
from cyconv.optimizers import SGD
from cyconv.parameter import Parameter
from cyconv.training import train_step

CHANNELS = 4


def network_of(seed):
    body = Sequential(Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False), BatchNorm2d(CHANNELS))
    layers = {
        "conv": Conv2d(2, CHANNELS, 3, padding=1), "norm": BatchNorm2d(CHANNELS), "relu": ReLU(),
        "block": Residual(body), "after": ReLU(), "pool": MaxPool2d(2), "dropout": Dropout(0.5),
        "second": Conv2d(CHANNELS, CHANNELS, 1), "act": ReLU(), "mean": GlobalAvgPool2d(), "flat": Flatten(),
        "linear": Linear(CHANNELS, 3), "last": ReLU(),
    }  # fmt: skip
    network = Network(layers, input_shape=(2, 8, 8), seed=seed)
    rng = np.random.default_rng(seed)
    for _, layer in network.walk():
        if isinstance(layer, BatchNorm2d):
            for array in (layer.running_mean, layer.running_var, layer.weight.data, layer.bias.data):
                array[...] = rng.uniform(0.5, 1.5, array.shape)
    return network.eval()


# The oracle


def values(parameter):
    return np.array(parameter.read(), np.float64)


def convolved(layer, x):
    weight, (_, pad) = values(layer.weight), (0, 1 if layer.padding == 1 else 0)
    x = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    maps = [
        [sum(signal.correlate2d(image[i], kernel[i], "valid") for i in range(len(kernel))) for kernel in weight]
        for image in x
    ]
    return np.array(maps) + (0 if layer.bias is None else values(layer.bias)[:, None, None])


def normalised(layer, x):
    shaped = [np.float64(each).reshape(-1, 1, 1) for each in (layer.running_mean, layer.running_var)]
    y = (x - shaped[0]) / np.sqrt(shaped[1] + layer.eps)
    return y * values(layer.weight).reshape(-1, 1, 1) + values(layer.bias).reshape(-1, 1, 1)


def pooled(layer, x):
    N, C, H, W = x.shape
    return x[:, :, : H // 2 * 2, : W // 2 * 2].reshape(N, C, H // 2, 2, W // 2, 2).max(axis=(3, 5))


PLAIN = {
    Conv2d: convolved,
    BatchNorm2d: normalised,
    ReLU: lambda layer, x: np.maximum(x, 0),
    LeakyReLU: lambda layer, x: np.where(x > 0, x, layer.negative_slope * x),
    Sigmoid: lambda layer, x: 1 / (1 + np.exp(-x)),
    MaxPool2d: pooled,
    Dropout: lambda layer, x: x,
    GlobalAvgPool2d: lambda layer, x: x.mean(axis=(2, 3), keepdims=True),
    Flatten: lambda layer, x: x.reshape(len(x), -1),
    Linear: lambda layer, x: x @ values(layer.weight).T + values(layer.bias),
}


def expected(layer, x):
    if isinstance(layer, Residual):
        y = expected(layer["body"], x) + expected(layer["shortcut"], x) if x.size else x
    elif isinstance(layer, Sequential):
        y = x
        for inner in layer:
            y = expected(inner, y)
    else:
        y = PLAIN.get(type(layer), lambda layer, x: x)(layer, x)
    return y * 3 ** (("forward" in vars(layer)) + (type(layer) in PATCHED))


PATCHED = {}  # class: its own `forward`


def tripled(layer, x):
    return type(layer).forward(layer, x) * np.float32(3)


def tripled_by_class(layer, x):
    return PATCHED[type(layer)](layer, x) * np.float32(3)


class Changes(RuleBasedStateMachine):
    """A network, in the hands of somebody who changes everything that may be changed."""

    @initialize(seed=st.integers(0, 3))
    def build(self, seed):
        self.network = network_of(seed)
        self.rng = np.random.default_rng(seed)
        self.held = []

    def teardown(self):
        for kind, forward in PATCHED.items():
            kind.forward = forward
        PATCHED.clear()
        cyconv.fusion()
        cyconv.exact(False)

    @property
    def parameters(self):
        return self.network.parameters()

    def draw(self, shape):
        return self.rng.uniform(-1, 1, shape).astype(self.network.dtype)

    # What may be changed

    @rule(name=st.sampled_from(["conv", "second", "linear"]), which=st.sampled_from(["weight", "bias"]))
    def replace_a_parameter(self, name, which):
        layer = self.network[name]
        setattr(layer, which, Parameter(self.draw(getattr(layer, which).shape)))

    @rule(index=st.integers(0, 20))
    def assign(self, index):
        parameter = list(self.parameters.values())[index % len(self.parameters)]
        parameter.data = self.draw(parameter.shape)

    @rule(index=st.integers(0, 20))
    def edit_in_place(self, index):
        list(self.parameters.values())[index % len(self.parameters)].data[...] *= -1.5

    @rule(index=st.integers(0, 20))
    def hold(self, index):
        self.held.append(list(self.parameters.values())[index % len(self.parameters)].data.T)

    @precondition(lambda self: self.held)
    @rule()
    def edit_what_is_held(self):
        self.held[-1][...] *= -0.75

    @precondition(lambda self: self.held)
    @rule()
    def let_go(self):
        self.held.pop()

    @rule(seed=st.integers(0, 3))
    def load(self, seed):
        self.network.load_state_dict(network_of(seed).astype(self.network.dtype).state_dict())

    @rule(seed=st.integers(0, 3))
    def draw_anew(self, seed):
        self.network.initialize(seed)

    @rule(index=st.integers(0, 20), trainable=st.booleans())
    def freeze(self, index, trainable):
        list(self.parameters.values())[index % len(self.parameters)].trainable = trainable

    @rule(name=st.sampled_from(["conv", "relu", "norm", "block", "after", "second", "linear", "mean"]))
    def patch_or_restore_an_object(self, name):
        layer = self.network[name]
        if "forward" in vars(layer):
            del layer.forward
        else:
            layer.forward = types.MethodType(tripled, layer)

    @rule(kind=st.sampled_from([ReLU, Conv2d, GlobalAvgPool2d]))
    def patch_or_restore_a_class(self, kind):
        if kind in PATCHED:
            kind.forward = PATCHED.pop(kind)
        elif not any("forward" in vars(layer) for _, layer in self.network.walk()):
            PATCHED[kind] = kind.forward
            kind.forward = tripled_by_class

    @rule(name=st.sampled_from(["relu", "act", "last"]), kind=st.sampled_from([ReLU, Sigmoid, LeakyReLU]))
    def replace_a_layer(self, name, kind):
        self.network[name] = kind()

    @rule()
    def replace_an_inner_layer(self):
        self.network["block"]["body"]["0"] = Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False).astype(
            self.network.dtype
        )

    @rule()
    def change_settings_of_layers(self):
        self.network["norm"].eps *= 4
        for _, layer in self.network.walk():
            if isinstance(layer, LeakyReLU):
                layer.negative_slope -= 0.125

    @rule(in_place=st.booleans())
    def change_statistics(self, in_place):
        norm = self.network["norm"]
        if in_place:
            norm.running_mean += 0.5
        else:
            norm.running_var = norm.running_var * 2

    @rule(dtype=st.sampled_from([np.float32, np.float64]))
    def change_the_dtype(self, dtype):
        self.network.astype(dtype)

    @rule(how=st.sampled_from(["copy", "pickle"]))
    def go_on_with_a_copy(self, how):
        if how == "copy" or not any("forward" in vars(layer) for _, layer in self.network.walk()):
            self.network = copy.deepcopy(self.network) if how == "copy" else pickle.loads(pickle.dumps(self.network))
            self.held.clear()

    @precondition(lambda self: not PATCHED and not any("forward" in vars(layer) for _, layer in self.network.walk()))
    @rule()
    def train(self):
        self.network.train()
        x = self.draw((4, 2, 8, 8))
        train_step(self.network, x, self.rng.integers(0, 3, 4), CrossEntropyLoss(), SGD(0.25))
        self.network.eval()

    @rule(fuse=st.booleans(), exact=st.booleans())
    def change_settings(self, fuse, exact):
        cyconv.fusion(fuse)
        cyconv.exact(exact)

    # What must hold

    @rule(batch=st.sampled_from([1, 2, 5]), size=st.sampled_from([8, 11]), threads=st.sampled_from([1, 2]))
    def predict(self, batch, size, threads):
        with cyconv.num_threads(threads):
            self.check((batch, 2, size, size), again=3)

    @invariant()
    def predicts_as_it_is(self):
        if hasattr(self, "network"):
            self.check((1, 2, 8, 8))

    def check(self, shape, again=1):
        x = self.draw(shape)
        wanted = expected(self.network, x.astype(np.float64))
        tolerance = 2e-4 * max(1, np.abs(wanted).max())
        for _ in range(again):
            np.testing.assert_allclose(self.network.forward(x), wanted, rtol=2e-4, atol=tolerance)


TestChanges = Changes.TestCase
TestChanges.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_the_second_parameter_put_in_the_place_of_another():
    """Filters that were prepared for one parameter were taken for another's of the same number of changes."""
    network, x = network_of(0), np.ones((1, 2, 8, 8), np.float32)
    rng = np.random.default_rng(0)
    for predictions in (1, 2, 3):
        for _ in range(4):
            network["conv"].weight = Parameter(rng.uniform(-1, 1, (CHANNELS, 2, 3, 3)).astype(np.float32))
            for _ in range(predictions):
                np.testing.assert_allclose(network.predict(x), expected(network, np.float64(x)), rtol=1e-4, atol=1e-4)


def test_children_cannot_be_written_to():
    network = network_of(0)
    for layer in (network, network["block"], network["conv"]):
        with pytest.raises(TypeError, match="mappingproxy"):
            layer.children()["relu"] = Sigmoid()


def test_a_parameter_is_replaced_by_a_parameter_or_nothing():
    conv = Conv2d(1, 2, 3)
    with pytest.raises(TypeError, match=r"Conv2d: `weight` must be a Parameter or None, got ndarray; `weight.data = "):
        conv.weight = np.zeros((2, 1, 3, 3), np.float32)
    conv.bias = None
    assert list(conv.parameters()) == ["weight"]


def test_a_forward_of_the_network_itself():
    network, x = network_of(0), np.ones((1, 2, 8, 8), np.float32)
    before = [network.predict(x) for _ in range(3)][-1]
    network.forward = lambda images: images
    np.testing.assert_array_equal(network.predict(x), x)
    del network.forward
    np.testing.assert_array_equal(network.predict(x), before)


def test_a_layer_stands_in_one_place():
    network = network_of(0)
    with pytest.raises(ValueError, match="Network: the ReLU at 'act' stands elsewhere too"):
        network["relu"] = network["act"]
    with pytest.raises(ValueError, match="Sequential: cannot stand within itself, at '1'"):
        network["block"]["body"]["1"] = network["block"]
    with pytest.raises(KeyError, match="there is no layer 'none', only conv, norm"):
        network["none"] = ReLU()
    with pytest.raises(TypeError, match="a layer must be put in the place of 'act', got 3"):
        network["act"] = 3
    assert [type(layer) for layer in network][:3] == [Conv2d, BatchNorm2d, ReLU]
    network["block"]["body"]["1"] = network["norm"]  # nobody looks up from inside
    with pytest.raises(ValueError, match=r"Network: the BatchNorm2d at 'block\.body\.1' stands elsewhere too"):
        network.train()


def test_a_layer_put_in_the_place_of_another_takes_its_mode():
    network = network_of(0)
    assert network["dropout"].training is False
    network["dropout"] = Dropout(0.25)
    network[4] = Sigmoid()
    assert network["dropout"].training is network["after"].training is False
