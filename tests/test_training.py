import json

import numpy as np
import pytest

from cyconv.callbacks import CHECKPOINT
from cyconv.layers import Conv2d, Linear, ReLU, SideHead
from cyconv.losses import CrossEntropyLoss, DiceLoss, weighted
from cyconv.models.googlenet import AuxiliaryLoss
from cyconv.network import Network
from cyconv.optimizers import OPTIMIZERS, SGD, Adam, ClipNorm, ParameterGroup, as_optimizer
from cyconv.schedules import ExponentialDecay
from cyconv.serialization import load_arrays, save_arrays
from cyconv.training import Callback, Checkpoint, EarlyStopping, History, ProgressBar, train_step
from tests.test_network import bits, data, fit, small_net

X, Y = data()


class Recorder(Callback):
    def __init__(self):
        self.events = []

    def __getattribute__(self, name):
        if name.startswith("on_"):
            return lambda run: self.events.append((name, run.epoch, run.batch))
        return super().__getattribute__(name)


class InterruptAt(Callback):
    def __init__(self, epoch, error=KeyboardInterrupt):
        self.epoch, self.error = epoch, error

    def on_batch_end(self, run):
        if (run.epoch, run.batch) == (self.epoch, 2):
            raise self.error


def without_seconds(history):
    return [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in history.epochs]


def test_events_come_in_order():
    recorder = Recorder()
    fit(small_net(), X, Y, batch_size=30, callbacks=[recorder])
    epoch = [("on_epoch_begin", 0), ("on_batch_end", 1), ("on_batch_end", 2), ("on_epoch_end", 2)]
    events = [(name, batch) for name, _, batch in recorder.events[1:-1]]
    assert events == [*epoch, ("on_epoch_begin", 2), *epoch[1:]]
    assert recorder.events[0] == ("on_train_begin", 0, 0)
    assert recorder.events[-1] == ("on_train_end", 2, 2)


def test_gradients_of_the_last_step_can_be_looked_at():
    net = small_net()
    train_step(net, X, Y, CrossEntropyLoss(), SGD(0.1))
    assert all(parameter.grad is not None for parameter in net.parameters().values())


# Interruption


def test_ctrl_c_leaves_everything_usable():
    net, recorder = small_net(), Recorder()
    with pytest.raises(KeyboardInterrupt):
        fit(net, X, Y, epochs=5, callbacks=[recorder, InterruptAt(3)])
    assert net.history.interrupted
    assert len(net.history) == 2
    assert recorder.events[-1][0] == "on_train_end"
    assert not net.training
    net.predict(X)
    assert not fit(net, X, Y).interrupted


def test_errors_end_the_run_properly_too():
    net, recorder = small_net(), Recorder()
    with pytest.raises(ZeroDivisionError):
        fit(net, X, Y, callbacks=[recorder, InterruptAt(1, ZeroDivisionError)])
    assert not net.history.interrupted
    assert recorder.events[-1][0] == "on_train_end"


# Resumption


@pytest.mark.parametrize("optimizer", [SGD, lambda: SGD(0.05, momentum=0.9, nesterov=True), Adam])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_gives_the_bits_of_the_unbroken_one(tmp_path, optimizer, stop):
    def run(net, callbacks=(), **keywords):
        return fit(
            net, X, Y, epochs=5, optimizer=optimizer(), validation_data=(X, Y),
            callbacks=[*callbacks, EarlyStopping("val_loss", patience=2)], **keywords,
        )  # fmt: skip

    path = tmp_path / "run.safetensors"
    whole, broken, resumed = small_net(), small_net(), small_net(seed=7)
    expected = run(whole)
    with pytest.raises(KeyboardInterrupt):
        run(broken, callbacks=[Checkpoint(path), InterruptAt(stop + 1)])
    history = run(resumed, resume=path)
    assert bits(resumed) == bits(whole)
    assert without_seconds(history) == without_seconds(expected)


def test_every_checkpoint_may_have_a_file_of_its_own(tmp_path):
    fit(small_net(), X, Y, epochs=5, callbacks=[Checkpoint(tmp_path / "{epoch}", every=2)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "4", "5"]


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    net, twin = small_net(), small_net(1)
    expected = fit(net, X, Y, callbacks=[Checkpoint(tmp_path / "c")])
    history = fit(twin, X, Y, resume=tmp_path / "c")
    assert history.epochs == expected.epochs
    assert bits(twin) == bits(net)


def test_weights_can_be_read_from_a_checkpoint(tmp_path):
    net, twin = small_net(), small_net(1)
    fit(net, X, Y, callbacks=[Checkpoint(tmp_path / "c")])
    twin.load(tmp_path / "c")
    assert bits(twin) == bits(net)


def test_resuming_with_other_settings_goes_on_with_those_in_the_file_and_warns(tmp_path):
    def decayed():
        return [ExponentialDecay(0.5)]

    path = tmp_path / "c"
    fit(small_net(), X, Y, optimizer=SGD(0.1, 0.9), epochs=2, callbacks=[*decayed(), Checkpoint(path)])
    whole = small_net()
    fit(whole, X, Y, optimizer=SGD(0.1, 0.9), epochs=3, callbacks=decayed())
    other = SGD(0.02, 0.8).add_group(ParameterGroup("0", learning_rate_scale=0.5))
    net = small_net()
    message = (
        r"fit: `resume` goes on with the optimizer's settings in the file: `learning_rate` 0\.05 instead of 0\.02, "
        r"`momentum` 0\.9 instead of 0\.8, its groups; to go on with others, set them in the `on_train_begin`"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        fit(net, X, Y, optimizer=other, epochs=3, callbacks=decayed(), resume=path)
    assert caught[0].filename.endswith("test_network.py")  # where `fit` calls it
    assert bits(net) == bits(whole)
    assert (other.learning_rate, other.momentum) == (0.1, 0.9)


def test_resuming_with_the_same_settings_warns_of_nothing(tmp_path):
    """Nor where a schedule has changed the rate, nor the second time, nor with the optimizer that has trained."""
    path, used = tmp_path / "c", SGD(0.1, 0.9)

    def resumed(epochs, optimizer, **options):
        callbacks = [ExponentialDecay(0.5), Checkpoint(path)]
        fit(small_net(), X, Y, optimizer=optimizer, epochs=epochs, callbacks=callbacks, **options)

    resumed(2, used)
    resumed(3, SGD(0.1, 0.9), resume=path)
    resumed(4, SGD(0.1, 0.9), resume=path)
    resumed(5, used, resume=path)
    assert used.learning_rate == 0.1


def test_a_callback_can_give_a_resumed_run_another_rate(tmp_path):
    class Slower(Callback):
        def on_train_begin(self, run):
            run.optimizer.learning_rate = 0.01

    path, optimizer = tmp_path / "c", SGD(0.1)
    fit(small_net(), X, Y, optimizer=SGD(0.1), callbacks=[Checkpoint(path)])
    fit(small_net(), X, Y, optimizer=optimizer, epochs=2, callbacks=[Slower()], resume=path)
    assert optimizer.learning_rate == 0.01


def test_what_cannot_be_resumed_is_named(tmp_path):
    net = small_net()
    fit(net, X, Y, callbacks=[Checkpoint(tmp_path / "c")])
    with pytest.raises(ValueError, match="SGD: the state to load is that of Adam"):
        fit(small_net(), X, Y, optimizer="sgd", resume=tmp_path / "c")
    with pytest.raises(ValueError, match="`callbacks` must be those of the run to resume: 0 of them left a state, 1 l"):
        fit(small_net(), X, Y, callbacks=[EarlyStopping("loss")], resume=tmp_path / "c")
    net.save(tmp_path / "w")
    with pytest.raises(ValueError, match="holds weights only, no checkpoint"):
        fit(small_net(), X, Y, resume=tmp_path / "w")
    with pytest.raises(FileNotFoundError):
        fit(small_net(), X, Y, resume=tmp_path / "none")
    with pytest.raises(ValueError, match="Checkpoint: `every` must be at least 1, got 0"):
        Checkpoint(tmp_path / "c", every=0)


def test_a_checkpoint_needs_a_folder_before_the_first_epoch(tmp_path):
    net = small_net()
    before = bits(net)
    with pytest.raises(FileNotFoundError, match="No such folder to write to"):
        fit(net, X, Y, callbacks=[Checkpoint(tmp_path / "no" / "c")])
    assert bits(net) == before
    with pytest.raises(TypeError, match="Checkpoint: `path` must be a str or a path, got 3"):
        Checkpoint(3)
    with pytest.raises(TypeError, match="fit: `resume` must be a str or a path, got 3"):
        fit(net, X, Y, resume=3)


@pytest.mark.parametrize("state", [3, {"a": object()}, {"a": {1, 2}}])
def test_a_callbacks_state_that_cannot_be_saved_is_named(tmp_path, state):
    class Stateful(Callback):
        def state_dict(self):
            return state

    with pytest.raises(TypeError, match="Checkpoint: `state_dict` of Stateful must return a dict of arrays and of"):
        fit(small_net(), X, Y, callbacks=[Stateful(), Checkpoint(tmp_path / "c")])
    assert list(tmp_path.iterdir()) == []


# Early stopping


class Script(Callback):
    """Write given numbers as the validation's, and the epoch's number into a bias."""

    def __init__(self, name, values):
        self.name, self.values = name, values

    def on_epoch_end(self, run):
        run.logs[self.name] = self.values[run.epoch - 1]
        run.network.load_state_dict({"0.bias": np.full(2, run.epoch, np.float32)}, strict=False)


@pytest.mark.parametrize(
    ("monitor", "values", "epochs", "best"),
    [
        ("val_loss", [3, 2, 2.5, 2.4, 0], 4, 2),
        ("val_accuracy", [0.5, 0.7, 0.6, 0.7, 0.9], 4, 2),
        ("val_loss", [3, np.nan, np.nan, 1, 1], 3, 1),
        ("val_loss", [5, 4, 3, 2, 1], 5, 5),
    ],
)
def test_early_stopping_returns_to_the_best_epoch(monitor, values, epochs, best):
    x, y = np.ones((8, 3), np.float32), np.zeros(8, int)
    net = Network([Linear(3, 2)], seed=0)
    history = fit(net, x, y, epochs=5, callbacks=[Script(monitor, values), EarlyStopping(monitor, patience=2)])
    assert len(history) == epochs
    np.testing.assert_array_equal(net[0].bias.data, best)


@pytest.mark.parametrize(
    ("monitor", "mode", "best"),
    [
        ("val_iou", "auto", 2),
        ("val_f1", "auto", 2),
        ("val_dice", "auto", 2),
        ("top_5_accuracy", "auto", 2),
        ("Mean-IoU", "auto", 2),
        ("val_f1_macro", "auto", 2),
        ("mine", "max", 2),
        ("val_loss", "max", 2),
        ("mine", "min", 1),
        ("val_dice_loss", "auto", 1),
        ("val_mean_squared_error", "auto", 1),
        ("val_accuracy", "min", 1),
    ],
)
def test_early_stopping_knows_what_is_better(monitor, mode, best, tmp_path):
    """Of 0.5, 0.7, 0.6; also when the run is resumed after the second."""
    x, y, path, values = np.ones((8, 3), np.float32), np.zeros(8, int), tmp_path / "run", [0.5, 0.7, 0.6]

    def run(net, epochs, **options):
        callbacks = [Script(monitor, values), EarlyStopping(monitor, patience=9, mode=mode), Checkpoint(path)]
        fit(net, x, y, epochs=epochs, callbacks=callbacks, **options)
        np.testing.assert_array_equal(net[0].bias.data, min(best, epochs))

    run(Network([Linear(3, 2)], seed=0), 3)
    run(Network([Linear(3, 2)], seed=0), 2)
    run(Network([Linear(3, 2)], seed=0), 3, resume=path)


@pytest.mark.parametrize("monitor", ["mine", "val_custom", "seconds", "loss_accuracy", ""])
def test_what_is_better_must_be_said_of_other_names(monitor):
    with pytest.raises(ValueError, match=f"EarlyStopping: `mode` must be 'min' or 'max' for `monitor` '{monitor}'"):
        EarlyStopping(monitor)
    EarlyStopping(monitor, mode="min")


def test_early_stopping_can_keep_the_last_weights():
    net = Network([Linear(3, 2)], seed=0)
    stopping = EarlyStopping(patience=1, min_delta=0.5, restore_best=False)
    fit(net, np.ones((8, 3)), np.zeros(8, int), epochs=5, callbacks=[Script("val_loss", [3, 2, 1.9, 0, 0]), stopping])
    np.testing.assert_array_equal(net[0].bias.data, 3)


def test_what_is_not_recorded_cannot_be_watched():
    with pytest.raises(ValueError, match="EarlyStopping: `monitor` 'val_loss' is not recorded, only loss, accuracy"):
        fit(small_net(), X, Y, callbacks=[EarlyStopping()])
    with pytest.raises(ValueError, match="EarlyStopping: `patience` must be at least 1, got 0"):
        EarlyStopping(patience=0)
    with pytest.raises(TypeError, match="EarlyStopping: `monitor` must be the name of a recorded number, got None"):
        EarlyStopping(None)
    with pytest.raises(TypeError, match="EarlyStopping: `restore_best` must be True or False, got 'yes'"):
        EarlyStopping(restore_best="yes")


# Reports


def test_the_progress_bar_shows_loss_accuracy_and_speed(capsys):
    fit(small_net(), X, Y, progress=True)
    shown = capsys.readouterr().err
    for part in ("epoch 2/2", "60/60", "loss=", "accuracy=", " images/s"):
        assert part in shown


def test_the_progress_bar_survives_an_end_before_its_first_epoch():
    ProgressBar().on_train_end(None)


def test_history_round_trip(tmp_path):
    history = fit(small_net(), X, Y)
    history.interrupted = True
    history.save(tmp_path / "history.json")
    loaded = History.load(tmp_path / "history.json")
    assert loaded.epochs == history.epochs
    assert loaded.interrupted
    assert loaded.names == ["loss", "accuracy", "seconds"]
    assert repr(loaded).startswith("History(2 epochs; loss ")
    assert repr(History()) == "History(0 epochs; empty)"
    with pytest.raises(KeyError, match="'val_loss' is not recorded; recorded are"):
        loaded["val_loss"]


@pytest.mark.parametrize("epochs", [None, 3, "ab", [3]])
def test_a_history_is_made_of_mappings(epochs):
    with pytest.raises(TypeError, match=r"History: `epochs` must be .*mappings of names to numbers, got"):
        History(epochs)


@pytest.mark.parametrize("content", ["", "{}", "[1]", json.dumps({"epochs": 3, "interrupted": False})])
def test_foreign_histories_are_refused(tmp_path, content):
    (tmp_path / "h").write_text(content)
    with pytest.raises(ValueError, match=r"History\.load: .* is not a saved history"):
        History.load(tmp_path / "h")


def edited(path, change):
    """Write the checkpoint at `path` with `change` made to its arrays and its content to a file beside it."""
    arrays, metadata = load_arrays(path)
    content = json.loads(metadata[CHECKPOINT])
    change(arrays, content)
    other = path.with_name("edited")
    save_arrays(other, arrays, {CHECKPOINT: json.dumps(content)})
    return other


def put(*keys):
    """Return a change of the content: the value at the keys before it."""
    *path, last, value = keys

    def change(arrays, content):
        for key in path:
            content = content[key]
        content[last] = value

    return change


def put_array(name, value):
    return lambda arrays, content: arrays.update({name: value})


WEIGHT = "optimizer.0.weight"
DAMAGED, OTHER = "is a damaged checkpoint: ", "does not suit this run: "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("epoch", "x"), DAMAGED),
        (put("epoch", 1.5), DAMAGED),
        (put("epoch", -1), OTHER + "checkpoint: `epoch` must be at least 0, got -1"),
        (put("epoch", 7), OTHER + "its history is not that of 7 epochs"),
        (put("epoch", 10**30), OTHER + "checkpoint: `epoch` must be at most"),
        (put("history", None), DAMAGED),
        (put("history", [1]), DAMAGED),
        (put("history", 0, "loss", "low"), OTHER + "its history is not that of 2 epochs"),
        (put("generators", 0, None), DAMAGED),
        (put("generators", 0, "bit_generator", "MT19937"), OTHER + "state must be for a PCG64 RNG"),
        (put("generators", 0, "state", "inc", -1), DAMAGED),
        (
            put("random_state", []),
            OTHER + r"load_random_state: `state` must map 6\.seed, 6\.offset to integers, got",
        ),
        (
            put("random_state", "6.offset", -1),
            OTHER + r"load_random_state: `6\.offset` must be at least 0, got -1",
        ),
        (put("random_state", "6.seed", "1"), DAMAGED),
        (put("optimizer", {}), OTHER + "Adam: the state to load lacks `kind`"),
        (put("optimizer", "steps", None), OTHER + "Adam: the state to load lacks `steps`"),
        (
            put("optimizer", "steps", "0.weight", -3),
            OTHER + r"Adam: `steps of 0\.weight` must be at least 1, got -3",
        ),
        (put("optimizer", "steps", "0.weight", 1.5), OTHER + "Adam: the state to load is damaged: .*got 1.5"),
        (put("optimizer", "steps", "9.weight", 1), OTHER + r"Adam: the state to load lacks arrays of `9\.weight`"),
        (put("optimizer", "hyper_parameters", "speed", 3), OTHER + "Adam: the state to load is damaged: .*speed"),
        (put("optimizer", "hyper_parameters", "beta1", 2), OTHER + "Adam: `beta1` must be at least 0 and below 1"),
        (
            put_array(f"{WEIGHT}.v", np.zeros(72, np.int64)),
            OTHER + r"Adam: the state of `0\.weight` must be vectors of float32 or float64, got float32 of shape "
            r"\(72,\), int64 of shape \(72,\)",
        ),
        (
            put_array(f"{WEIGHT}.m", np.zeros(72)),
            OTHER + r"Adam: the state kept for `0\.weight` is that of another",
        ),
        (
            put_array(f"{WEIGHT}.m", np.zeros(3, np.float32)),
            OTHER + r"Adam: the state kept for `0\.weight` is that of another parameter",
        ),
        (
            put_array("network.7.bias", np.zeros(4)),
            OTHER + r"load_state_dict: .* misshapen: 7\.bias \(4,\) instead",
        ),
        (
            put_array("network.7.bias", np.zeros(3, int)),
            DAMAGED + ".*`7.bias` must be of the kind of float32, got int64",
        ),
        (put("callbacks", None), DAMAGED),
        (put("callbacks", [3]), DAMAGED),
        (
            put("callbacks", 0, "wait", -1),
            OTHER + "EarlyStopping: state to load: `wait` must be at least 0, got -1",
        ),
        (
            put("callbacks", 0, "best", "x"),
            OTHER + "EarlyStopping: state to load: `best` must be a number, got 'x'",
        ),
        (put_array("callback0.weights.7.bias", np.zeros(4)), OTHER + "load_state_dict: .* misshapen: 7"),
        (lambda arrays, content: arrays.pop("network.7.bias"), OTHER + r"load_state_dict: .* missing: 7\.bias"),
    ],
)
def test_checkpoints_that_cannot_be_resumed_are_named_and_change_nothing(tmp_path, change, message):
    fit(small_net(), X, Y, callbacks=[EarlyStopping("loss"), Checkpoint(tmp_path / "c")])
    path = edited(tmp_path / "c", change)
    net, optimizer = small_net(1), Adam()
    fit(net, X, Y, optimizer=optimizer, epochs=1)
    before = everything(net, optimizer)
    with pytest.raises(ValueError, match=r"^fit: `resume` .*edited'\) " + message):
        fit(net, X, Y, optimizer=optimizer, callbacks=[EarlyStopping("loss")], resume=path)
    assert everything(net, optimizer) == before


def everything(net, optimizer):
    state = optimizer.state_dict()
    arrays = {name: array.tobytes() for name, array in state.pop("arrays").items()}
    return bits(net), net.random_state(), net.rng.bit_generator.state, len(net.history), state, arrays


def test_a_checkpoint_of_no_content_is_damaged(tmp_path):
    fit(small_net(), X, Y, callbacks=[Checkpoint(tmp_path / "c")])
    for content in ("[", "3", "[]", "null", "{}", "[" * 100_000):
        save_arrays(tmp_path / "d", load_arrays(tmp_path / "c")[0], {CHECKPOINT: content})
        with pytest.raises(ValueError, match=r"fit: `resume` .* is a damaged checkpoint: "):
            fit(small_net(), X, Y, resume=tmp_path / "d")


def ready_network(dtype=np.float64):
    return Network([Linear(5, 4), ReLU(), Linear(4, 3)], input_shape=(5,), seed=0).astype(dtype)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_accumulated_gradients_are_those_of_larger_batches(optimizer):
    """Also where the epoch's end leaves fewer, smaller batches, and where labels do not count."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((23, 5)), rng.integers(3, size=23)
    y[::4] = -100
    large, small = ready_network(), ready_network()
    options = {"epochs": 3, "optimizer": optimizer, "shuffle": False, "progress": False}
    first = large.fit(x, y, batch_size=8, **options)
    second = small.fit(x, y, batch_size=2, accumulate=4, **options)
    for name, array in large.state_dict().items():
        np.testing.assert_allclose(small.state_dict()[name], array, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose([e["loss"] for e in first.epochs], [e["loss"] for e in second.epochs], rtol=1e-12)
    assert all(parameter.grad is None for parameter in small.parameters().values())


RARE = np.array([0, 0, 1, 0, 2, 0, 0, 0])  # classes: the parts of a batch have weights of all sizes, and none


@pytest.mark.parametrize("sizes", [(8, 1), (2, 4), (1, 8), (3, 3)])
@pytest.mark.parametrize(
    ("loss", "weights"),
    [
        (CrossEntropyLoss([0.1, 3, 1]), None),
        (CrossEntropyLoss([0, 3, 1]), None),
        (CrossEntropyLoss([0, 3, 1], label_smoothing=0.2), None),
        (CrossEntropyLoss(), [5, 0, 0.1, 1, 2, 0, 0, 3]),
        (CrossEntropyLoss([0.5, 3, 1], 0.1, ignore_index=2), [5, 0, 0.1, 1, 2, 0, 0, 3]),
    ],
)
def test_accumulated_weights_are_those_of_larger_batches(loss, weights, sizes):
    size, accumulate = sizes
    x = np.random.default_rng(0).standard_normal((8, 5))
    y = RARE if weights is None else weighted(RARE, weights)
    large, small = ready_network(), ready_network()
    options = {"epochs": 3, "optimizer": SGD(0.1, momentum=0.9), "loss": loss, "shuffle": False, "progress": False}
    first = large.fit(x, y, batch_size=size * accumulate, **options)
    options["optimizer"] = SGD(0.1, momentum=0.9)
    second = small.fit(x, y, batch_size=size, accumulate=accumulate, **options)
    for name, array in large.state_dict().items():
        np.testing.assert_allclose(small.state_dict()[name], array, rtol=1e-12, atol=1e-14)
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(first[name], second[name], rtol=1e-12)


@pytest.mark.parametrize("loss", [CrossEntropyLoss([0.1, 3, 1], 0.1), DiceLoss(), CrossEntropyLoss(ignore_index=1)])
def test_accumulated_pixels_are_those_of_larger_batches(loss):
    rng, networks = np.random.default_rng(0), []
    x, y = rng.standard_normal((6, 2, 4, 4)), rng.integers(3, size=(6, 4, 4))
    y[1:3] = 0  # two images of one class
    for options in ({"batch_size": 6}, {"batch_size": 1, "accumulate": 6}):
        networks.append(Network([Conv2d(2, 3, 3, padding=1)], input_shape=(2, 4, 4), seed=0).astype(np.float64))
        options |= {"epochs": 2, "optimizer": SGD(0.5), "loss": loss, "shuffle": False, "progress": False}
        networks[-1].fit(x, y, **options)
    for name, array in networks[0].state_dict().items():
        np.testing.assert_allclose(networks[1].state_dict()[name], array, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("loss", "weights"), [(CrossEntropyLoss([0.1, 3, 0]), None), (CrossEntropyLoss(), [5, 0, 0.1, 1, 2, 0, 0, 3])]
)
def test_an_evaluation_does_not_depend_on_the_batch_size(loss, weights):
    x = np.random.default_rng(0).standard_normal((8, 5))
    y = RARE if weights is None else weighted(RARE, weights)
    network = ready_network()
    whole, single = (network.evaluate(x, y, loss=loss, batch_size=size) for size in (8, 1))
    assert whole["loss"] == pytest.approx(loss.forward(network.predict(x), y), rel=1e-12)
    assert single == pytest.approx(whole, rel=1e-12)


def test_a_run_in_which_nothing_counts_changes_nothing():
    network = ready_network()
    before = {name: array.copy() for name, array in network.state_dict().items()}
    loss, options = CrossEntropyLoss([0, 1, 1]), {"batch_size": 2, "progress": False}
    for more in ({}, {"accumulate": 2}):
        history = network.fit(np.ones((6, 5)), np.zeros(6, int), loss=loss, **options, **more)
        assert history["loss"] == [0]
    for name, array in network.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_losses_that_leave_gradients_in_the_network_accumulate_too():
    """Side heads get their gradients past what `backward` returns."""
    rng = np.random.default_rng(0)
    x, y, results = rng.standard_normal((8, 5)), rng.integers(3, size=8), []
    for options in ({"batch_size": 8}, {"batch_size": 2, "accumulate": 4}):
        network = Network([Linear(5, 4), SideHead(Linear(4, 3)), Linear(4, 3)], input_shape=(5,), seed=0)
        network.astype(np.float64)
        network.fit(x, y, loss=AuxiliaryLoss(network), optimizer=SGD(0.1), shuffle=False, progress=False, **options)
        results.append(network.state_dict())
    for name, array in results[0].items():
        np.testing.assert_allclose(results[1][name], array, rtol=1e-12, err_msg=name)


def test_a_bad_number_of_batches_to_accumulate_is_named():
    with pytest.raises(ValueError, match="fit: `accumulate` must be at least 1, got 0"):
        ready_network().fit(np.zeros((2, 5)), np.zeros(2, int), accumulate=0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resumed_runs_of_every_optimizer_are_those_without_a_stop(name, tmp_path):
    rng = np.random.default_rng(0)
    x, y, path = rng.standard_normal((12, 5)), rng.integers(3, size=12), tmp_path / "run.safetensors"

    def optimizer(groups=True):
        made = as_optimizer("fit", name).add_hook(ClipNorm(1.0))
        return made.add_group(ParameterGroup("2", learning_rate_scale=0.5)) if groups else made  # kept in the file

    whole, first, rest = (ready_network() for _ in range(3))
    options = {"batch_size": 4, "seed": 0, "progress": False}
    whole.fit(x, y, epochs=4, optimizer=optimizer(), **options)
    first.fit(x, y, epochs=2, optimizer=optimizer(), callbacks=[Checkpoint(path)], **options)
    rest.fit(x, y, epochs=4, optimizer=optimizer(groups=False), resume=path, **options)
    for key, array in whole.state_dict().items():
        np.testing.assert_array_equal(rest.state_dict()[key], array)
