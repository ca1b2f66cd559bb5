import copy
import json
import multiprocessing
import pickle
import sys
import threading
import tracemalloc
import warnings

import numpy as np
import pytest

import cyconv
from cyconv import losses, optimizers
from cyconv.data import Batches
from cyconv.layers import (
    AvgPool3d,
    BatchNorm2d,
    Conv1d,
    Conv2d,
    Conv3d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool1d,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Softmax,
)
from cyconv.models.registry import build
from cyconv.network import Network
from cyconv.parameter import Parameter
from cyconv.training import Callback


def small_net(seed=0):
    return Network(
        [
            Conv2d(1, 8, 3, padding=1, bias=False),
            BatchNorm2d(8),
            ReLU(),
            MaxPool2d(2),
            Residual(Sequential(Conv2d(8, 8, 3, padding=1), ReLU())),
            Flatten(),
            Dropout(0.2),
            Linear(8 * 4 * 4, 3),
        ],
        input_shape=(1, 8, 8),
        seed=seed,
    )


def data(n=60, dtype=np.float32):
    """Return images with a bright band across the top, the middle or the bottom, and which it is."""
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=n)
    x = rng.random((n, 1, 8, 8)) * 0.3
    for i, row in enumerate(y):
        x[i, :, 3 * row : 3 * row + 2] += 0.7
    return (x * 255).astype(np.uint8) if dtype == np.uint8 else x.astype(dtype), y


def fit(net, x, y=None, **keywords):
    return net.fit(x, y, **{"epochs": 2, "batch_size": 16, "optimizer": "adam", "progress": False, **keywords})


def bits(net):
    return {name: array.tobytes() for name, array in net.state_dict().items()}


# Training


def test_training_learns_and_records():
    net, (x, y) = small_net(), data()
    history = fit(net, x, y, epochs=12, validation_data=data(20))
    assert list(history.epochs[0]) == ["loss", "accuracy", "val_loss", "val_accuracy", "seconds"]
    assert len(history) == 12
    assert history["loss"][-1] < 0.3 * history["loss"][0]
    assert net.evaluate(x, y)["accuracy"] > 0.95
    assert net.history is history
    assert not net.training


def test_regression():
    x = np.random.default_rng(0).standard_normal((64, 5)).astype(np.float32)
    y = x @ np.arange(10, dtype=np.float32).reshape(5, 2)
    net = Network([Linear(5, 2)], input_shape=(5,), seed=0)
    history = fit(net, x, y, epochs=40, loss="mse", optimizer=optimizers.SGD(0.1, momentum=0.9))
    assert list(history.epochs[0]) == ["loss", "seconds"]
    assert net.evaluate(x, y, loss=losses.MSELoss())["loss"] < 1e-3


def test_classes_of_pixels():
    x, _ = data(8)
    net = Network([Conv2d(1, 4, 3, padding=1), ReLU(), Conv2d(4, 2, 1)], input_shape=(1, 8, 8), seed=0)
    history = fit(net, x, (x[:, 0] > 0.5).astype(int), epochs=80, optimizer=optimizers.Adam(0.05))
    assert history["accuracy"][-1] > 0.98
    assert net.predict_proba(x).shape == (8, 2, 8, 8)


def test_the_seed_decides_everything():
    x, y = data()
    nets = [small_net(seed) for seed in (0, 0, 1)]
    for net in nets:
        fit(net, x, y)
    assert bits(nets[0]) == bits(nets[1]) != bits(nets[2])
    twins = [small_net(0), small_net(0)]
    fit(twins[0], x, y, seed=1)
    fit(twins[1], x, y, seed=2)
    assert bits(twins[0]) != bits(twins[1])


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_the_number_of_threads_does_not_change_a_bit(threads):
    x, y = data()
    reference, net = small_net(), small_net()
    fit(reference, x, y)
    with cyconv.num_threads(threads):
        fit(net, x, y)
        assert net.predict(x).tobytes() == reference.predict(x).tobytes()
    assert bits(net) == bits(reference)


def test_all_forms_of_the_same_data_give_the_same_bits(tmp_path):
    x, y = data(dtype=np.uint8)
    scaled = x.astype(np.float32) / np.float32(255)
    mapped = np.memmap(tmp_path / "x", np.uint8, "w+", shape=x.shape)
    mapped[...] = x
    forms = {
        "bytes": (x, y),
        "numbers": (scaled, y),
        "without channel": (x[:, 0], y),
        "channels last": (np.ascontiguousarray(scaled.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2), y.astype(np.uint8)),
        "mapped": (mapped, list(y)),
        "batches": (Batches(x, y, 16), None),
        "list of batches": ([(x[i : i + 16], y[i : i + 16]) for i in range(0, 60, 16)], None),
    }
    results = {}
    for name, (images, labels) in forms.items():
        net = small_net()
        fit(net, images, labels, shuffle=False, validation_data=(images, labels) if labels is not None else images)
        results[name] = bits(net)
    assert all(result == results["bytes"] for result in results.values())


def test_pixels_to_be_ignored_do_not_count():
    x, _ = data(8)
    y = (x[:, 0] > 0.5).astype(int)
    kept = np.random.default_rng(1).random(y.shape) < 0.5
    kept[5:] = False  # images without any label, and with batches of one also batches
    marked, spoilt = np.where(kept, y, 9), np.where(kept, y, 1 - y)
    net = Network([Conv2d(1, 4, 3, padding=1), ReLU(), Conv2d(4, 2, 1)], input_shape=(1, 8, 8), seed=0)
    loss = losses.CrossEntropyLoss(ignore_index=9)
    history = fit(net, x, marked, epochs=80, optimizer=optimizers.Adam(0.05), loss=loss, batch_size=1)
    assert history["accuracy"][-1] > 0.98
    assert net.evaluate(x, spoilt)["accuracy"] < 0.7
    whole, parts = (net.evaluate(x, marked, loss=loss, batch_size=size) for size in (8, 3))
    assert parts == pytest.approx(whole)


def test_a_float64_network_takes_the_same_data():
    x, y = data(dtype=np.uint8)
    net = small_net().astype(np.float64)
    fit(net, x, y)
    assert net.predict(x).dtype == np.float64
    numbers = np.random.default_rng(0).standard_normal(x.shape)
    loss = losses.CrossEntropyLoss().forward(net.predict(numbers), y)
    assert net.evaluate(numbers, y)["loss"] == pytest.approx(loss, rel=1e-14)


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_touched():
    net, (x, y) = small_net(), data()
    x[3] = np.nan
    parameters = {name: parameter.data.tobytes() for name, parameter in net.parameters().items()}
    with pytest.raises(FloatingPointError, match="the loss is nan, so the weights are left as they are"):
        fit(net, x, y, batch_size=60)
    assert {name: parameter.data.tobytes() for name, parameter in net.parameters().items()} == parameters
    assert not net.training


def test_nothing_of_the_training_stays_in_memory():
    net, (x, y) = small_net(), data()
    fit(net, x, y)
    assert all(parameter.grad is None for parameter in net.parameters().values())
    with pytest.raises(RuntimeError, match="training mode"):
        net.backward(np.ones((60, 3), np.float32))


def test_a_sequential_becomes_a_network_of_its_layers():
    net = Network(Sequential({"conv": Conv2d(1, 2, 3), "relu": ReLU()}))
    assert list(net.parameters()) == ["conv.weight", "conv.bias"]


def test_pretrained_layers_keep_their_weights():
    stem = Conv2d(1, 4, 3).initialize(0)
    kept = stem.weight.data.copy()
    net = Network([stem, GlobalAvgPool2d(), Flatten(), Linear(4, 2)], seed=1)
    np.testing.assert_array_equal(net[0].weight.data, kept)


# Prediction


def test_predictions_do_not_depend_on_the_batch_size():
    net, (x, _) = small_net(), data()
    np.testing.assert_allclose(net.predict(x, batch_size=7), net.predict(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(net.predict_proba(x).sum(axis=1), 1, rtol=1e-6)
    assert net.predict(x[:0]).shape == (0, 3)


def test_predict_proba_does_not_apply_softmax_twice():
    x, _ = data()
    net = small_net()
    head = Network([*net, Softmax()], input_shape=(1, 8, 8))
    np.testing.assert_allclose(head.predict_proba(x), net.predict_proba(x), rtol=1e-6)


def test_prediction_never_hands_out_its_input():
    x = np.ones((3, 4), np.float32)
    net = Network([Dropout(0.5)])
    net.train()
    assert not np.shares_memory(net.predict(x), x)
    np.testing.assert_array_equal(net.predict(x), x)


def test_eight_threads_predict_at_once():
    net, twin, (x, _) = small_net(), small_net(), data(200)
    expected = twin.predict(x, batch_size=32).tobytes()
    results = [[] for _ in range(8)]
    barrier = threading.Barrier(8)

    def work(mine):
        barrier.wait()  # so that all meet weights that have not been drawn yet
        mine.extend(net.predict(x, batch_size=32).tobytes() for _ in range(5))

    workers = [threading.Thread(target=work, args=(mine,)) for mine in results]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == [[expected] * 5] * 8


def _train_in_child(net, queue):
    x, y = data()
    fit(net, x, y)
    queue.put(bits(net))


@pytest.mark.skipif(sys.platform != "linux", reason="fork")
def test_a_forked_child_trains():
    x, y = data()
    net, twin = small_net(), small_net()
    net.predict(x)  # the threads of the parent are up
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks with threads
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=_train_in_child, args=(net, queue))
        child.start()
    result = queue.get(timeout=60)
    child.join(60)
    assert child.exitcode == 0
    fit(twin, x, y)
    assert result == bits(twin)


# Files and tables


def test_saved_weights_come_back(tmp_path):
    net, other, (x, y) = small_net(), small_net(1), data()
    fit(net, x, y)
    net.save(tmp_path / "weights.safetensors")
    other.load(tmp_path / "weights.safetensors")
    assert other.predict(x).tobytes() == net.predict(x).tobytes()


def test_weights_of_another_network_are_refused_and_change_nothing(tmp_path):
    net = small_net()
    Network([Conv2d(1, 8, 3, padding=1), BatchNorm2d(9)]).save(tmp_path / "w")
    before = bits(net)
    with pytest.raises(
        ValueError, match=r"missing: 4\.body.*; unexpected: 0\.bias; misshapen: 1\.weight \(9,\) instead"
    ):
        net.load(tmp_path / "w")
    (tmp_path / "w").write_bytes(b"no")
    with pytest.raises(ValueError, match="is no complete safetensors file"):
        net.load(tmp_path / "w")
    assert bits(net) == before


def test_half_precision_is_converted_and_what_is_not_wanted_is_passed_over(tmp_path):
    """Of a file of others: a weight of bfloat16, one of float16, and one of a type that NumPy lacks."""
    entries = {"module.0.weight": ("BF16", [1, 2], 4), "module.0.bias": ("F16", [1], 2), "scale": ("F8_E4M3", [3], 3)}
    header, position = {}, 0
    for name, (kind, shape, size) in entries.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header).encode()
    path = tmp_path / "w"
    content = b"\x80\x3f\x40\xc0" + b"\x00\x38" + bytes(3)  # 1 and -3, 0.5
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    net = Network([Linear(2, 1)], seed=0)
    before = bits(net)
    with pytest.raises(ValueError, match=r"unexpected: scale$"):
        net.load(path)
    assert bits(net) == before
    assert net.load(path, strict=False) == ([], ["scale"])
    np.testing.assert_array_equal(net[0].weight.data, [[1, -3]])
    assert net[0].bias.data == 0.5
    with pytest.raises(ValueError, match=r"missing: 0\.scores; unexpected: module\.0\.weight, module\.0\.bias, scale$"):
        Network({"0": Scores()}).load(path, strict=False)


class Scores(Layer):
    def __init__(self):
        self.scores = Parameter(np.ones(1))


def test_files_of_pytorch_are_read_elsewhere(tmp_path):
    for content in (b"PK\x03\x04" + bytes(50), b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j"):
        (tmp_path / "x.pth").write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.pth' is no complete safetensors .*`cyconv\.torch_files\.load_torch`"):
            small_net().load(tmp_path / "x.pth")


def test_a_file_of_larger_arrays_takes_no_memory(tmp_path):
    small, large = Network([Linear(3, 2)], seed=0), Network([Linear(3000, 2000)], seed=0)
    large.save(tmp_path / "w")
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"misshapen: 0\.weight \(2000, 3000\) instead"):
            small.load(tmp_path / "w")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_network_without_parameters_has_a_dtype(dtype):
    x = np.random.default_rng(0).integers(256, size=(3, 1, 4, 4), dtype=np.uint8)
    net = Network([ReLU(), MaxPool2d(2), Flatten()])
    assert net.dtype == np.float32
    assert net.astype(dtype) is net
    for each in (net, pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert each.dtype == dtype
        output, pixels = each.predict(x), x / dtype(255)
        assert output.dtype == dtype
        np.testing.assert_array_equal(output, pixels.reshape(3, 2, 2, 2, 2).max(axis=(2, 4)).reshape(3, 4))
    inside = Sequential(Network([ReLU()])).astype(dtype)
    assert inside["0"].dtype == dtype


def test_summary():
    lines = small_net().summary().splitlines()
    assert lines[0].startswith("layer")
    assert lines[0].endswith("receptive field")
    assert lines[2].split() == ["0", "Conv2d", "(8,", "8,", "8)", "72", "4,608", "2,048", "3x3"]
    assert lines[-1].startswith("1,059 parameters, ")
    assert len({len(line) for line in lines[:-1]}) == 1
    with pytest.raises(ValueError, match="summary: the network needs an `input_shape`"):
        Network([ReLU()]).summary()


def test_counting_draws_nothing():
    net = Network([Linear(100_000, 100_000)], input_shape=(100_000,))  # 40 GB
    assert "10,000,100,000 parameters" in net.summary()


# Errors


def test_layers_that_do_not_fit_are_named():
    with pytest.raises(
        ValueError, match=r"layer 1: Linear: needs vectors of shape \(100,\), got \(4, 6, 6\); put a Flat"
    ):
        Network([Conv2d(1, 4, 3), Linear(100, 10)], input_shape=(1, 8, 8))


X, Y = data()


@pytest.mark.parametrize(
    ("x", "y", "keywords", "message"),
    [
        (X, None, {}, "fit: `y` is missing"),
        (X[:0], Y[:0], {}, "fit: `x` is empty"),
        (X, Y[:-1], {}, r"fit: `y` must have a row for each of the 60 in `x`, got \(59,\)"),
        (X[:, :, :5], Y, {}, r"fit: `x` must have shape \(N, 1, 8, 8\), got \(60, 1, 5, 8\)"),
        (X.astype(int), Y, {}, "fit: `x` must be float32, float64 or uint8, got int64; cast it"),
        (X, Y + 1, {}, "fit: `y` must be class numbers from 0 to 2, got 1 to 3"),
        (X, Y - 1, {}, "fit: `y` must be class numbers from 0 to 2, got -1 to 1"),
        (X, Y.astype(float), {}, "fit: `y` must be integers"),
        (X, Y, {"epochs": 0}, "fit: `epochs` must be at least 1, got 0"),
        (X, Y, {"batch_size": 2.5}, "fit: `batch_size` must be an integer, got 2.5"),
        (X, Y, {"optimizer": "magic"}, "fit: `optimizer` must be one of"),
        (X, Y, {"loss": "magic"}, "fit: `loss` must be one of"),
        (X, Y, {"shuffle": "no"}, "fit: `shuffle` must be True or False, got 'no'"),
        (X, Y, {"progress": None}, "fit: `progress` must be True or False, got None"),
        (X, Y, {"epochs": -3}, "fit: `epochs` must be at least 1, got -3"),
        (X, Y, {"batch_size": 0}, "fit: `batch_size` must be at least 1, got 0"),
        (X, Y, {"batch_size": -1}, "fit: `batch_size` must be at least 1, got -1"),
        (X, Y, {"seed": -1}, "fit: `seed` must be at least 0"),
        (X, Y, {"seed": "a"}, "fit: `seed` must be an integer, a numpy.random.Generator or None, got 'a'"),
        (X, Y, {"callbacks": [print]}, "fit: `callbacks` must be Callback objects, got <built-in function print>"),
        (X, Y, {"callbacks": [Callback]}, "fit: `callbacks` must be Callback objects, got .*; call the class to make"),
        (X, Y, {"callbacks": Callback()}, "fit: `callbacks` must be a sequence of Callback objects, got <cyconv"),
        (X, Y, {"callbacks": None}, "fit: `callbacks` must be a sequence of Callback objects, got None"),
        (X, Y, {"validation_data": (X, Y[:3])}, "fit: validation_data: `y` must have a row for each"),
        (X, Y, {"validation_data": (X,)}, r"fit: `validation_data` must be a pair \(x, y\) or .*, got a tuple of 1"),
        (X, Y, {"validation_data": (X, Y, Y)}, r"fit: `validation_data` must be a pair \(x, y\) .*, got a tuple of 3"),
        (X, Y, {"validation_data": (X, None)}, r"fit: `validation_data` must be a pair \(x, y\) or .*, got no targets"),
        (X, Y, {"validation_data": X}, "fit: validation_data: `y` is missing; .*, got ndarray"),
        (X, Y, {"validation_data": 3}, "fit: validation_data: `y` is missing; .*, got int"),
        (
            X,
            Y,
            {"validation_data": [X, Y, Y]},
            "fit: validation_data: batches: each must be a pair .*, got ndarray",
        ),
        (X, Y, {"validation_data": []}, r"fit: validation_data: `x` is empty: it holds no \(x, y\) batch"),
        (
            X,
            Y,
            {"validation_data": iter([(X, Y)])},
            "fit: validation_data: `x` is an iterator, good for one epoch",
        ),
        (X, Y, {"validation_data": ((X, Y) for _ in "a")}, "fit: validation_data: `x` is an iterator, good for one"),
        (None, None, {}, "fit: `y` is missing; .*, got NoneType"),
        (None, Y, {}, "fit: `x` must be an array, got None"),
        (np.ma.masked_array(X, X > 0.5), Y, {}, "fit: `x` must have no mask, got a masked array; fill it with"),
        (X, np.ma.masked_array(Y, Y > 1), {}, "fit: `y` must have no mask, got a masked array; fill it with"),
        (iter([]), None, {"epochs": 1}, r"fit: `x` is empty: it holds no \(x, y\) batch"),
        ([(X, Y), (X[:0], Y[:0])], None, {}, r"batches: each needs images and a row of `y` .*, got \(0, 1, 8, 8\) and"),
        ([(X, Y[:3])], None, {}, r"batches: each needs images and a row of `y` .*, got \(60, 1, 8, 8\) and \(3,\)"),
        (iter([(X, Y)]), None, {}, "fit: `x` is an iterator, good for one epoch only"),
        ([], None, {}, r"fit: `x` is empty: it holds no \(x, y\) batch"),
        ([X, Y], None, {}, r"fit: batches: each must be a pair \(x, y\), got ndarray"),
        ([(X[:, :, :5], Y)], None, {}, r"batches: `x` must have shape \(N, 1, 8, 8\), got"),
    ],
)
def test_bad_data_is_named(x, y, keywords, message):
    net = small_net()
    before = bits(net)
    with pytest.raises((ValueError, TypeError), match=message):
        fit(net, x, y, **keywords)
    assert not net.training
    if y is not None:  # of batches those before the bad one are trained on
        assert bits(net) == before


def test_softmax_in_front_of_cross_entropy_is_refused():
    net = Network([Flatten(), Linear(64, 3), Softmax()], input_shape=(1, 8, 8))
    with pytest.raises(ValueError, match="cross entropy takes scores; leave the network's last Softmax"):
        fit(net, X, Y)


def test_bad_arguments_of_the_rest_are_named():
    net = small_net()
    with pytest.raises(ValueError, match=r"predict: `x` must have shape \(N, 1, 8, 8\), got \(8, 8\)"):
        net.predict(X[0, 0])
    with pytest.raises(ValueError, match="predict: `batch_size` must be at least 1, got 0"):
        net.predict(X, batch_size=0)
    with pytest.raises(ValueError, match="evaluate: `x` is empty"):
        net.evaluate(X[:0], Y[:0])
    with pytest.raises(ValueError, match="Network: `input_shape` must be at least 1, got 0"):
        Network([ReLU()], input_shape=(0, 8, 8))
    for shape in (3, {1, 8}, "abc"):
        with pytest.raises(TypeError, match=r"Network: `input_shape` must be \(C, H, W\) or \(features,\), got"):
            Network([ReLU()], input_shape=shape)
    with pytest.raises(
        TypeError, match=r"Network: `seed` must be an integer, a numpy.random.Generator or None, got 'a'"
    ):
        Network([ReLU()], seed="a")


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([Conv1d(2, 4, 3), ReLU(), MaxPool1d(2), Conv1d(4, 3, 5)], (2, 12)),
        ([Conv3d(1, 4, 3), ReLU(), AvgPool3d(2), Conv3d(4, 3, 2)], (1, 6, 6, 6)),
    ],
    ids=["sequences", "volumes"],
)
def test_networks_of_sequences_and_volumes_learn(layers, shape):
    net, rng = Network(layers, shape, seed=0), np.random.default_rng(0)
    y = np.arange(48) % 3
    x = rng.standard_normal((48, *shape)).astype(np.float32) + y.reshape(-1, *(1 for _ in shape))
    targets = np.eye(3, dtype=np.float32)[y].reshape(-1, 3, *(1 for _ in shape[1:]))  # for the one position left
    batches = [(x[i : i + 8], targets[i : i + 8]) for i in range(0, 48, 8)]
    history = net.fit(batches, epochs=12, optimizer="adam", loss="mse", progress=False)
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert net.predict(x).shape == (48, 3, *(1 for _ in shape[1:]))
    with pytest.raises(ValueError, match=r"predict: `x` must have shape \(N, "):
        net.predict(x[:, 0])


# A last batch of one image


def one_pixel_net(**keywords):
    """Return a network that normalises maps of one pixel."""
    layers = [Conv2d(1, 4, 8), Residual(Sequential(Conv2d(4, 4, 1), BatchNorm2d(4))), ReLU(), Flatten(), Linear(4, 3)]
    return Network(layers, **{"input_shape": (1, 8, 8), "seed": 0, **keywords})


class Sizes(Callback):
    """Notes how many images each batch has."""

    def __init__(self):
        self.sizes = []

    def on_epoch_begin(self, run):
        self.before = 0

    def on_batch_end(self, run):
        self.sizes.append(run.seen - self.before)
        self.before = run.seen


@pytest.mark.parametrize(
    ("make", "n", "options", "expected"),
    [
        (one_pixel_net, 17, {}, [8, 9]),
        (one_pixel_net, 18, {}, [8, 8, 2]),
        (one_pixel_net, 17, {"drop_last": True}, [8, 8]),
        (one_pixel_net, 17, {"accumulate": 2}, [8, 9]),
        (one_pixel_net, 17, {"augment": lambda x, y, rng: (x, y)}, [8, 9]),
        (one_pixel_net, 20, {"sampler": cyconv.data.WeightedSampler(np.ones(20), size=17)}, [8, 9]),
        (one_pixel_net, 17, {"progress": True}, [8, 9]),
        (lambda: one_pixel_net(input_shape=None), 17, {}, [8, 9]),
        (lambda: one_pixel_net(input_shape=None), 17, {"validation_data": data(17)}, [8, 9]),
        (small_net, 17, {}, [8, 8, 1]),  # normalises larger maps
        (small_net, 17, {"drop_last": True, "progress": True}, [8, 8]),
        (small_net, 8, {"drop_last": True}, [8]),
    ],
)
def test_one_image_that_is_left_joins_the_batch_before_where_it_must(make, n, options, expected):
    sizes, net = Sizes(), make()
    history = fit(net, *data(n), batch_size=8, callbacks=[sizes], **options)
    assert sizes.sizes == 2 * expected
    assert np.isfinite(history["loss"]).all()


PAIRS = [(data(8)[0], data(8)[1]), (data(1)[0], data(1)[1])]


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (*data(1), {}, "fit: `x` must be at least 2 images, got 1: BatchNorm2d 1.body.1 normalises maps of one pixel"),
        (*data(8), {"batch_size": 1}, "fit: `batch_size` must be at least 2 images, got 1: BatchNorm2d 1.body.1 norm"),
        (PAIRS, None, {}, "fit: every batch of `x` must hold at least 2 images, got one of 1: BatchNorm2d 1.body.1"),
        (Batches(*data(9), 8), None, {}, "fit: every batch of `x` must hold at least 2 images, got one of 1: BatchN"),
        (*data(8), {"batch_size": 9, "drop_last": True}, "fit: `drop_last` leaves nothing of 8 images in batches of 9"),
        (*data(8), {"drop_last": 1}, "fit: `drop_last` must be True or False, got 1"),
        (PAIRS, None, {"drop_last": True}, "fit: `drop_last` needs `x` and `y`; batches have it already"),
    ],
)
def test_what_cannot_be_normalised_is_an_error_before_training(x, y, options, message):
    for net in (one_pixel_net(), one_pixel_net(input_shape=None)):
        before, sizes = bits(net), Sizes()
        with pytest.raises((ValueError, TypeError), match=message):
            fit(net, x, y, callbacks=[sizes], **options)
        assert bits(net) == before
        assert sizes.sizes == []


def test_batches_of_ones_own_may_join_or_leave_out():
    for options in ({"min_batch": 2}, {"drop_last": True}):
        fit(one_pixel_net(), Batches(*data(17), 8, **options))
    one_pixel_net().evaluate(Batches(*data(17), 8))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v1", "shufflenet_v2", "shufflenet_v1"])
def test_networks_for_large_images_train_on_small_ones(name):
    """Their last maps are of one pixel for images of 32x32."""
    net = build(name, (3, 32, 32), 2, seed=0)
    x, y = np.random.default_rng(0).random((5, 3, 32, 32), np.float32), np.arange(5) % 2
    history = net.fit(x, y, batch_size=2, epochs=1, progress=False)
    assert len(history) == 1


# Forms of data and targets


def test_validation_data_may_be_a_list():
    x, y = data(24)
    reference = fit(small_net(), x, y, validation_data=(x, y)).epochs
    forms = {
        "list": [x, y],
        "lists": [list(x), list(y)],
        "two batches": [(x[:12], y[:12]), (x[12:], y[12:])],
        "two batches as lists": [[x[:12], y[:12]], [x[12:], y[12:]]],
    }
    for name, form in forms.items():
        epochs = fit(small_net(), x, y, validation_data=form).epochs
        for epoch, expected in zip(epochs, reference, strict=True):
            assert epoch["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-5), name
    two = [x[:2], y[:2]]
    assert (
        fit(small_net(), x, y, validation_data=two)["val_loss"]
        == fit(small_net(), x, y, validation_data=(*two,))["val_loss"]
    )


@pytest.mark.parametrize("loss", ["mse", "binary_cross_entropy", "smooth_l1", losses.DiceLoss(binary=True)])
def test_targets_may_be_booleans(loss):
    x, _ = data(16)
    masks = x > 0.5
    nets = [Network([Conv2d(1, 1, 3, padding=1)], input_shape=(1, 8, 8), seed=0) for _ in range(2)]
    first = fit(nets[0], x, masks, loss=loss, validation_data=(x, masks))
    second = fit(nets[1], x, masks.astype(np.float32), loss=loss, validation_data=(x, masks.astype(np.float32)))
    assert first["val_loss"] == second["val_loss"]
    assert bits(nets[0]) == bits(nets[1])
    assert nets[0].evaluate(x, masks, loss=loss) == nets[1].evaluate(x, masks.astype(np.float64), loss=loss)


class Tensor:
    """An array of another library: its dtype is none of NumPy's, but it can be made one."""

    dtype = "torch.uint8"

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype)

    def __len__(self):
        return len(self.array)


class Frame:
    """A data frame whose columns are of pandas' own kind of bytes, perhaps with a missing value."""

    dtypes = ("UInt8", "UInt8", "uint8")

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __array__(self, dtype=None, copy=None):
        return self.array.astype(object)


@pytest.mark.parametrize("form", [list, Tensor, lambda x: [list(image) for image in x]])
def test_bytes_in_other_containers_are_bytes(form):
    x, y = data(12, np.uint8)
    net = small_net()
    np.testing.assert_array_equal(net.predict(form(x)), net.predict(x))
    assert net.evaluate(form(x), y) == net.evaluate(x, y)
    first, second = small_net(), small_net()
    fit(first, x, y)
    fit(second, form(x), y)
    assert bits(first) == bits(second)


def test_data_frames_of_bytes_are_bytes():
    x = np.random.default_rng(0).integers(256, size=(5, 3), dtype=np.uint8)
    net = Network([Linear(3, 2)], input_shape=(3,), seed=0)
    np.testing.assert_array_equal(net.predict(Frame(x)), net.predict(x))
    with pytest.raises(ValueError, match="predict: `x` must have no missing values"):
        net.predict(Frame(np.array([[1, 2, None]])))


def test_data_frames_of_pandas():
    pandas = pytest.importorskip("pandas")
    x = np.random.default_rng(0).integers(256, size=(5, 3), dtype=np.uint8)
    net = Network([Linear(3, 2)], input_shape=(3,), seed=0)
    for dtype in ("uint8", "UInt8"):
        np.testing.assert_array_equal(net.predict(pandas.DataFrame(x, dtype=dtype)), net.predict(x))
    with pytest.raises(ValueError, match="predict: `x` must have no missing values"):
        net.predict(pandas.DataFrame([[1, 2, None]], dtype="UInt8"))


def test_tensors_of_pytorch():
    torch = pytest.importorskip("torch")
    x, _ = data(12, np.uint8)
    net = small_net()
    np.testing.assert_array_equal(net.predict(torch.from_numpy(x)), net.predict(x))
    with pytest.raises(TypeError, match="predict: `x` must be an array: Can't call numpy"):
        net.predict(torch.zeros((1, 1, 8, 8), requires_grad=True))


# What predicts


def test_logarithms_of_probabilities_are_exact_for_small_ones():
    x, _ = data(4)
    net = small_net()
    net["7"].weight.data *= 3000
    scores = net.predict(x).astype(np.float64)
    expected = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    assert net.predict_proba(x).min() == 0  # too small for float32
    np.testing.assert_allclose(net.predict_log_proba(x), expected, rtol=1e-5, atol=1e-5)
    ended = Network([Linear(2, 2), Softmax()], input_shape=(2,), seed=0)
    ended[0].weight.data = [[400, 0], [0, 0]]
    np.testing.assert_array_equal(ended.predict_log_proba(np.array([[1, 0]], np.float32)), [[0, -np.inf]])


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba"])
def test_errors_name_the_method_that_was_called(method):
    net = small_net()
    with pytest.raises(ValueError, match=rf"^{method}: `x` must have shape \(N, 1, 8, 8\), got \(2, 3\)"):
        getattr(net, method)(np.zeros((2, 3), np.float32))
    with pytest.raises(TypeError, match=rf"^{method}: `x` must be float32, float64 or uint8, got int64; cast it"):
        getattr(net, method)(np.zeros((2, 1, 8, 8), int))
    with pytest.raises(ValueError, match=rf"^{method}: `batch_size` must be at least 1, got 0"):
        getattr(net, method)(data(2)[0], batch_size=0)


def test_fit_names_itself_where_the_loss_is_not_finite():
    net = small_net()
    with pytest.raises(FloatingPointError, match=r"^fit: the loss is nan"):
        fit(net, np.full((4, 1, 8, 8), np.nan, np.float32), np.zeros(4, int))


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "evaluate", "fit"])
def test_what_would_disturb_a_training_in_another_thread_says_so(method):
    """And the training goes on as if nothing had been; its own callbacks may predict, and copies too."""
    import copy

    x, y = data(24)
    reference, net, errors, copies = small_net(), small_net(), [], []

    def disturb():
        arguments = (x, y) if method in ("evaluate", "fit") else (x,)
        try:
            getattr(net, method)(*arguments)
        except RuntimeError as error:
            errors.append(str(error))
        copies.append(getattr(copy.deepcopy(net), method)(*arguments))

    class Disturb(Callback):
        def on_batch_end(self, run):
            thread = threading.Thread(target=disturb)
            thread.start()
            thread.join(60)

        def on_epoch_end(self, run):
            run.network.predict(x)

    fit(reference, x, y)
    fit(net, x, y, callbacks=[Disturb()])
    assert (
        errors
        == [
            f"{method}: the network is being trained by `fit` in another thread; use a copy, `copy.deepcopy(network)`, "
            "or wait for it to end"
        ]
        * 4
    )
    assert len(copies) == 4
    assert bits(net) == bits(reference)
    thread = threading.Thread(target=lambda: copies.append(net.predict(x)))
    thread.start()
    thread.join(60)
    np.testing.assert_array_equal(copies[-1], reference.predict(x))


def test_a_prediction_that_a_training_overtakes_says_so():
    net, (x, y) = small_net(), data(8)
    begun, go_on = threading.Event(), threading.Event()

    class Slow(ReLU):
        def forward(self, x):
            if not self.training:
                begun.set()
                go_on.wait(60)
            return super().forward(x)

    class Release(Callback):
        def on_epoch_begin(self, run):
            go_on.set()
            thread.join(60)

    net, errors = Network([Flatten(), Slow(), Linear(64, 3)], input_shape=(1, 8, 8), seed=0), []

    def predict():
        try:
            net.predict(x)
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=predict)
    thread.start()
    assert begun.wait(60)
    fit(net, x, y, callbacks=[Release()])
    assert len(errors) == 1
    assert errors[0].startswith("predict: the network is being trained by `fit` in another thread")
