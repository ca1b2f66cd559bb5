"""Recorded predictions: the same bits as layer by layer, whatever changes between one prediction and the next."""

import copy
import pickle
import threading
import weakref

import numpy as np
import pytest

import cyconv
from cyconv import Network, models, threads
from cyconv.layers import (
    AvgPool2d,
    BatchNorm2d,
    Branches,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    Gate,
    GlobalAvgPool2d,
    Identity,
    Layer,
    Linear,
    MaxPool2d,
    PadChannels,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    Skip,
    Tanh,
    recording,
)
from cyconv.losses import CrossEntropyLoss
from cyconv.optimizers import SGD
from cyconv.training import train_step


@pytest.fixture(autouse=True)
def _settings_as_before():
    yield
    cyconv.fusion()
    cyconv.exact(False)


def block(channels):
    return Sequential(
        Conv2d(channels, channels, 3, padding=1, bias=False), BatchNorm2d(channels), ReLU(),
        Conv2d(channels, channels, 3, padding=1), BatchNorm2d(channels),
    )  # fmt: skip


HALVING = Sequential(AvgPool2d(1, stride=2), PadChannels(1, 3))
NETWORKS = {
    "lenet5": lambda: models.lenet5(seed=0),
    "lenet5 of 1998": lambda: models.lenet5(form="1998", in_channels=3, seed=0),
    "resnet20": lambda: models.resnet20(in_channels=3, width=4, seed=0),
    "densenet": lambda: Network(
        [Conv2d(3, 4, 3, padding=1), Skip(Conv2d(4, 4, 3, padding=1)), Skip(Conv2d(8, 4, 5)), GlobalAvgPool2d()]
    ),
    "inception": lambda: Network(
        {"branches": Branches([Conv2d(3, 4, 1), Sequential(MaxPool2d(3, 1, 1), Conv2d(3, 5, 1)), Identity()])}
    ),
    "residual": lambda: Network(
        [Conv2d(3, 20, 3), Residual(block(20)), ReLU(), Residual(block(20), Conv2d(20, 20, 1)), Dropout(), ReLU()]
    ),
    "shortcut of zeros": lambda: Network([Residual(Conv2d(3, 7, 3, stride=2, padding=1), copy.deepcopy(HALVING))]),
    "normalised first": lambda: Network([BatchNorm2d(3), ReLU(), MaxPool2d(2), ReLU(), MaxPool2d(2), Flatten()]),
    "gate": lambda: Network([Gate(Sequential(GlobalAvgPool2d(), Conv2d(3, 3, 1), Sigmoid())), Tanh()]),
    "transposed": lambda: Network([ConvTranspose2d(3, 6, 3, stride=2), BatchNorm2d(6), ConvTranspose2d(6, 2, 1, 3)]),
    "depthwise": lambda: Network([Conv2d(3, 6, 3, groups=3), Conv2d(6, 6, 3, groups=6), Conv2d(6, 12, 1, groups=2)]),
    "nothing": lambda: Network([]),
}


def inputs(network, count, dtype=np.float32, batch=1, seed=0):
    shape = network.input_shape or (3, 12, 12)
    return list(np.random.default_rng(seed).standard_normal((count, batch, *shape)).astype(dtype))


def randomised(network, dtype=np.float32):
    """Return the network with statistics and shifts that are not those of a new one."""
    network.initialize(np.random.default_rng(1))
    rng = np.random.default_rng(2)
    for _, layer in network.walk():
        if isinstance(layer, BatchNorm2d):
            for array in (layer.running_mean, layer.running_var, layer.weight.data, layer.bias.data):
                array[...] = rng.uniform(0.5, 1.5, array.shape)
    return network.astype(dtype).eval()


def layer_by_layer(network, x):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "MOST_INPUTS", -1)
        return network.forward(x)


def recordings(network):
    return [each for idle in (network._recorded or {}).values() for each in idle or ()]


def recorded(network, x):
    """Let the network record its prediction for arrays like x."""
    for _ in range(3):
        network.predict(x)
    assert len(recordings(network)) == 1
    return network


def assert_predicts(network, xs):
    for x in xs:
        np.testing.assert_array_equal(network.predict(x), layer_by_layer(network, x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_same_bits_as_layer_by_layer(name, batch, dtype):
    network = randomised(NETWORKS[name](), dtype)
    xs = inputs(network, 5, network.dtype, batch)
    expected = [layer_by_layer(network, x) for x in xs]
    for fuse in (True, False):
        cyconv.fusion(fuse)
        for x in xs:
            by_network, by_layer = network.predict(x), network.forward(x)
            np.testing.assert_array_equal(by_network, by_layer)
            np.testing.assert_array_equal(by_layer, layer_by_layer(network, x))
        assert len(recordings(network)) == 1 + (not fuse)
    cyconv.fusion()
    for x, wanted in zip(xs, expected, strict=True):
        np.testing.assert_array_equal(network.predict(x), wanted)


@pytest.mark.usefixtures("small_work_threaded")
@pytest.mark.parametrize("name", ["lenet5", "residual"])
def test_any_number_of_threads(name):
    network = randomised(NETWORKS[name]())
    xs = inputs(network, 4)
    with cyconv.num_threads(1):
        wanted = [network.predict(x) for x in xs]
    for count in (2, 3):
        with cyconv.num_threads(count):
            for x, expected in zip(xs, wanted, strict=True):
                np.testing.assert_array_equal(network.predict(x), expected)


def test_other_memory_and_dtypes_of_the_input():
    network = randomised(models.lenet5(in_channels=2, seed=0))
    x = np.random.default_rng(0).integers(0, 256, (2, 2, 32, 32))
    for given in (
        x.astype(np.uint8),
        (x / 255).astype(np.float32),
        np.asfortranarray(x / 255),
        (x / 255).astype(">f4"),
        np.repeat(x / 255, 2, axis=3)[..., ::2],
    ):
        wanted = layer_by_layer(network, np.divide(x, 255, dtype=np.float32))
        for _ in range(3):
            np.testing.assert_allclose(network.predict(given), wanted, rtol=1e-4, atol=1e-4)
        before = given.copy()
        network.predict(given)
        np.testing.assert_array_equal(given, before)


def test_results_are_fresh():
    network = randomised(Network([Conv2d(3, 4, 3), ReLU()]))
    x, other = inputs(network, 2)
    recorded(network, x)
    first = network.predict(x)
    kept = first.copy()
    second = network.forward(other)
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, kept)
    first[...] = 0
    np.testing.assert_array_equal(network.predict(x), kept)
    assert network.predict(x).flags.c_contiguous
    unchanged = recorded(Network([], input_shape=(4,)), np.ones((1, 4), np.float32))
    given = np.ones((1, 4), np.float32)
    assert not np.shares_memory(unchanged.predict(given), given)


# What changes between predictions


def conv_weight(network):
    return next(layer for _, layer in network.walk() if isinstance(layer, Conv2d)).weight


def double_weights(network):
    for parameter in network.parameters().values():
        parameter.data *= 2


def assign(network):
    for parameter in network.parameters().values():
        parameter.data = np.full(parameter.shape, 0.01)


def change_statistics(network):
    network["bn"].running_mean += 1


def replace_statistics(network):
    network["bn"].running_var = network["bn"].running_var * 3


def train(network):
    network.train()
    x = inputs(network, 1, batch=8)[0]
    train_step(network, x, np.arange(8) % 4, CrossEntropyLoss(), SGD(0.5))
    network.eval()


def train_without_switching(network):
    for parameter in network.parameters().values():
        parameter.grad = np.ones(parameter.shape, np.float32)
    SGD(0.25).step(network.parameters())


CHANGES = {
    "in place": double_weights,
    "assigned": assign,
    "drawn anew": lambda network: network.initialize(7),
    "loaded": lambda network: network.load_state_dict(randomised(NETWORK()).initialize(9).state_dict()),
    "statistics": change_statistics,
    "other statistics": replace_statistics,
    "scale": lambda network: network["bn"].weight.data.fill(5),
    "epsilon": lambda network: setattr(network["bn"], "eps", 1.0),
    "bias": lambda network: network["conv"].bias.data.fill(3),
    "bias of linear": lambda network: network["linear"].bias.data.fill(3),
    "other parameter": lambda network: setattr(network["linear"], "bias", None),
    "pooling": lambda network: setattr(network["pool"], "kernel_size", 3),
    "training": train,
    "optimizer": train_without_switching,
    "a layer in training mode": lambda network: network["dropout"].train(),
    "dtype and back": lambda network: double_weights(network.astype(np.float64).astype(np.float32)),
    "exact": lambda network: cyconv.exact(),
    "fusion": lambda network: cyconv.fusion(False),
}


def NETWORK():
    layers = {
        "conv": Conv2d(3, 20, 3, padding=1), "bn": BatchNorm2d(20), "relu": ReLU(), "pool": MaxPool2d(2),
        "second": Conv2d(20, 20, 3, padding=1), "dropout": Dropout(0.5), "pooled": GlobalAvgPool2d(),
        "flat": Flatten(), "linear": Linear(20, 4),
    }  # fmt: skip
    return Network(layers, input_shape=(3, 16, 16))


@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_noticed(name):
    network = randomised(NETWORK())
    xs = inputs(network, 3)
    before = recorded(network, xs[0]).predict(xs[0])
    CHANGES[name](network)
    if name == "a layer in training mode":
        network["dropout"].offset = 0
        outputs = [network.predict(xs[0]) for _ in range(4)]
        assert not np.array_equal(outputs[2], outputs[3])  # drawn anew each time
        network.eval()
    after = network.predict(xs[0])
    if name not in ("exact", "fusion", "a layer in training mode"):
        assert not np.array_equal(after, before)
    assert_predicts(network, xs * 2)
    assert len(recordings(network)) in (1, 2)  # of the new state, and of the old where it may come back


def test_who_holds_the_weights_may_write_to_them():
    network = randomised(NETWORK())
    xs = inputs(network, 2)
    recorded(network, xs[0])
    state = network.state_dict()
    for factor in (1, 2, 3):
        for array in state.values():
            if array.ndim:
                array *= factor
        assert_predicts(network, xs)
    del state, array
    assert_predicts(network, xs)
    held = conv_weight(network).data[0]
    for _ in range(3):
        assert_predicts(network, xs)
        held += 1
    del held
    assert_predicts(network, xs)


def test_a_layer_that_is_replaced():
    network = randomised(Network({"inner": Sequential(Conv2d(3, 4, 3), ReLU()), "flat": Flatten()}))
    xs = inputs(network, 2)
    recorded(network, xs[0])
    network["inner"]["0"] = randomised(Conv2d(3, 4, 3))
    assert_predicts(network, xs)


class Shift(Conv2d):
    def forward(self, x):
        return super().forward(x) + 1


class Kept(Layer):
    """A layer of a user's own, which keeps count."""

    def __init__(self):
        self.calls = 0

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, x):
        self.calls += 1
        return x * self.calls


class Positive(Layer):
    """As many rows as there are positive sums."""

    def forward(self, x):
        return x[x.sum(axis=(1, 2, 3)) > 0]


class Refusing(Layer):
    def forward(self, x):
        if np.isnan(x).any():
            raise FloatingPointError("a NaN")
        return x


def test_layers_of_a_users_own():
    network = randomised(Network([Shift(3, 4, 3), Kept(), ReLU(), Conv2d(4, 2, 1)]))
    twin = copy.deepcopy(network)
    for x in inputs(network, 6):
        np.testing.assert_array_equal(network.predict(x), layer_by_layer(twin, x))
    assert network[1].calls == 6


class Doubling(Network):
    def forward(self, x):
        return 2 * super().forward(x)


def test_a_network_with_a_forward_of_its_own():
    network = randomised(Doubling([Conv2d(3, 4, 3), ReLU()], input_shape=(3, 12, 12)))
    plain = randomised(Network([Conv2d(3, 4, 3), ReLU()]))
    for x in inputs(network, 4):
        np.testing.assert_array_equal(network.predict(x), 2 * plain.predict(x))


def test_a_forward_of_one_object():
    network = randomised(Network([Conv2d(3, 4, 3), ReLU(), MaxPool2d(2)]))
    xs = inputs(network, 2)
    recorded(network, xs[0])
    network[2].forward = lambda x: x[:, :, ::2, ::2] + 1
    assert_predicts(network, xs * 2)
    del network[2].forward
    assert_predicts(network, xs * 2)


def test_outputs_whose_shape_depends_on_the_numbers():
    network = randomised(Network([Positive()]))
    x = np.ones((3, 1, 2, 2), np.float32)
    for _ in range(4):
        assert network.forward(x).shape == (3, 1, 2, 2)
    x[1] = -1
    for _ in range(4):
        assert network.forward(x).shape == (2, 1, 2, 2)


def test_an_error_leaves_the_network_usable():
    network = randomised(Network([Conv2d(3, 4, 3), Refusing(), ReLU()]))
    xs = inputs(network, 2)
    recorded(network, xs[0])
    with pytest.raises(FloatingPointError, match="a NaN"):
        network.predict(np.full_like(xs[0], np.nan))
    assert_predicts(network, xs * 2)


def test_wrong_input_is_refused_as_ever():
    network = randomised(Network([Conv2d(3, 4, 3)]))
    recorded(network, inputs(network, 1)[0])
    for _ in range(3):
        with pytest.raises(TypeError, match="same dtype"):
            network.forward(np.zeros((1, 3, 12, 12)))
        with pytest.raises(ValueError, match="expects 3 input channels"):
            network.forward(np.zeros((1, 4, 12, 12), np.float32))
        with pytest.raises(ValueError, match="more than the padded input"):
            network.predict(np.zeros((1, 3, 2, 2), np.float32))


# How many, and who


def test_few_shapes_are_kept_and_only_small_ones():
    network = randomised(Network([Conv2d(3, 4, 3), ReLU()]))
    for size in range(5, 15):
        for x in inputs(network, 3):
            network.predict(x[:, :, :size, :size])
    assert len(network._recorded) == len(recordings(network)) == recording.MOST_SHAPES
    network.predict(np.zeros((2, 3, 300, 300), np.float32))
    assert len(recordings(network)) == recording.MOST_SHAPES
    for x in (np.zeros((0, 3, 9, 9), np.float32), np.zeros((1, 3, 9, 9), np.float32)):
        for _ in range(3):
            assert network.forward(x).shape == (len(x), 4, 7, 7)


def test_of_a_large_network_one_shape_is_kept(monkeypatch):
    monkeypatch.setattr(recording, "MOST_WEIGHTS", 100)
    network = randomised(Network([Conv2d(3, 4, 3), ReLU()]))
    for size in (8, 9, 10):
        assert_predicts(network, [x[:, :, :size, :size] for x in inputs(network, 3)])
        assert len(network._recorded) == len(recordings(network)) == 1


def test_filters_are_shared_by_the_recordings_of_a_shape():
    network = randomised(Network([Conv2d(16, 16, 3)]))
    x = np.zeros((4, 16, 30, 30), np.float32)
    recorded(network, x)
    kept = network[0]._prepared[1][0]
    (key,) = network._recorded
    network._recorded[key].clear()  # as if another thread used it
    recorded(network, x)
    assert network[0]._prepared[1][0] is kept


def test_values_that_are_given_up_are_not_kept_alive():
    network = randomised(Network([Linear(8, 8)]))
    recorded(network, np.zeros((1, 8), np.float32))
    for give_up in (lambda: network.astype(np.float64), lambda: network.initialize(0)):
        values = weakref.ref(network[0].weight.read())
        give_up()
        assert values() is None
        recorded(network.eval(), np.zeros((1, 8), network.dtype))


def test_large_buffers_are_not_kept(monkeypatch):
    monkeypatch.setattr(recording, "MOST_BYTES", 1000)
    network = randomised(Network([Conv2d(3, 4, 3), ReLU()]))
    assert_predicts(network, inputs(network, 4))
    assert not recordings(network)


def test_copies_and_training_keep_none():
    network = randomised(NETWORK())
    xs = inputs(network, 2)
    recorded(network, xs[0])
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert twin._recorded is None
        np.testing.assert_array_equal(twin.predict(xs[0]), network.predict(xs[0]))
    network.train()
    assert not recordings(network)


def test_buffers_share_memory():
    network = randomised(Network([layer for _ in range(10) for layer in (Conv2d(16, 16, 3, padding=1), Tanh())]))
    recorded(network, np.zeros((1, 16, 16, 16), np.float32))
    assert recordings(network)[0].nbytes <= 3 * 16**3 * 4


def test_many_threads_predict_at_once():
    network = randomised(models.resnet20(width=4, seed=0))
    xs = inputs(network, 8)
    wanted = [layer_by_layer(network, x) for x in xs]
    failed, start = [], threading.Barrier(len(xs))

    def work(i):
        start.wait()
        for _ in range(30):
            if not np.array_equal(network.predict(xs[i]), wanted[i]):
                failed.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(xs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failed
    assert 1 <= len(recordings(network)) <= len(xs)


# Threads that other programs leave no core


@pytest.mark.usefixtures("small_work_threaded")
def test_replays_on_fewer_threads_while_some_are_left_out(monkeypatch):
    network, x = models.lenet5(seed=0).eval(), np.random.default_rng(0).random((2, 1, 32, 32), np.float32)
    with cyconv.num_threads(2):
        expected = [network.predict(x) for _ in range(3)][-1]
        used = []
        monkeypatch.setattr(recording, "replay", lambda calls: used.append(calls) or [f(*a) for f, a in calls])
        monkeypatch.setattr(recording, "threads_for", lambda work: 1)
        np.testing.assert_array_equal(network.predict(x), expected)
        monkeypatch.setattr(recording, "threads_for", lambda work: 2)
        np.testing.assert_array_equal(network.predict(x), expected)
    fewer, all_ = ({a[-1] for _, a in calls if type(a[-1]) is int} for calls in used)
    assert (fewer, all_) == ({1}, {2})
    assert len(recordings(network)) == 1


@pytest.mark.usefixtures("small_work_threaded")
def test_whole_teams_are_recorded_while_callers_share_the_cores(monkeypatch):
    """Each replay takes its part of what is recorded."""
    monkeypatch.setattr(threads, "_shared_cores", 1)
    monkeypatch.setattr(threads, "_count", 2)
    network, x = models.lenet5(seed=0).eval(), np.zeros((1, 1, 32, 32), np.float32)
    for _ in range(3):
        network.predict(x)
    (only,) = recordings(network)
    assert only._threads == 2
