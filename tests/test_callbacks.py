"""Callbacks by themselves: what each does with the numbers of a run. Whole trainings with them: test_training.py."""

import numpy as np
import pytest

from cyconv import layers, losses, optimizers
from cyconv.callbacks import Callback, Checkpoint, EarlyStopping, ProgressBar, Run, as_callbacks, load_checkpoint
from tests import processes

EVENTS = ["on_train_begin", "on_epoch_begin", "on_batch_end", "on_epoch_end", "on_train_end"]


def new_run(callbacks=(), seed=0, **keywords):
    network = layers.Linear(3, 2).initialize(seed)
    loss, optimizer = losses.CrossEntropyLoss(), optimizers.SGD(0.1, momentum=0.5)
    return Run(network, loss, optimizer, np.random.default_rng(0), callbacks=callbacks, **{"epochs": 9, **keywords})


def play(run, name, numbers):
    """Let the epochs of a run record these numbers; the weights are the epoch's. Return how many there were."""
    run.notify("on_train_begin")
    for number in numbers:
        run.epoch += 1
        run.network.weight.data = np.full((2, 3), run.epoch, np.float32)
        run.logs = {name: number}
        run.notify("on_epoch_end")
        if run.stop:
            break
    run.notify("on_train_end")
    return run.epoch


def test_events_reach_all_callbacks_in_their_order():
    seen = []

    class Recorder(Callback):
        def __init__(self, name):
            self.name = name

    for event in EVENTS:
        setattr(Recorder, event, lambda self, run, event=event: seen.append((self.name, event, run)))
    run = new_run([Recorder("a"), Recorder("b")])
    for event in EVENTS:
        run.notify(event)
    assert seen == [(name, event, run) for event in EVENTS for name in "ab"]


@pytest.mark.parametrize("event", EVENTS)
def test_a_callback_need_not_write_every_method(event):
    run = new_run([Callback()])
    before = vars(run).copy()
    run.notify(event)
    assert vars(run) == before


@pytest.mark.parametrize("callbacks", [3, [3], [Callback]])
def test_other_things_are_refused(callbacks):
    with pytest.raises(TypeError, match="fit: `callbacks`"):
        as_callbacks("fit", callbacks)


@pytest.mark.parametrize(
    ("name", "numbers", "patience", "min_delta", "epochs", "best"),
    [
        ("val_loss", [3, 2, 2, 2, 1], 2, 0, 4, 2),
        ("val_loss", [3, 2, 2.5, 1.9, 1.95, 2, 2], 3, 0, 7, 4),
        ("val_loss", [3, 2.9, 2.8, 2.7, 2.6], 2, 0.15, 5, 5),  # each second epoch is better by more than 0.15
        ("val_accuracy", [0.5, 0.6, 0.6, 0.6, 0.9], 2, 0, 4, 2),
        ("val_loss", [1, float("nan"), float("nan"), 0], 2, 0, 3, 1),
    ],
)
def test_early_stopping_waits_for_the_best_epoch(name, numbers, patience, min_delta, epochs, best):
    run = new_run([EarlyStopping(name, patience, min_delta)])
    assert play(run, name, numbers) == epochs
    np.testing.assert_array_equal(run.network.weight.data, best)


def test_early_stopping_may_leave_the_last_weights():
    run = new_run([EarlyStopping("val_loss", patience=1, restore_best=False)])
    assert play(run, "val_loss", [1, 2, 0]) == 2
    np.testing.assert_array_equal(run.network.weight.data, 2)


def test_a_second_run_starts_anew():
    stopping = EarlyStopping("val_loss", patience=2)
    play(new_run([stopping]), "val_loss", [1, 2, 3])
    run = new_run([stopping])
    assert play(run, "val_loss", [9, 8, 8.5, 8.2, 1]) == 4
    np.testing.assert_array_equal(run.network.weight.data, 2)


def test_a_checkpoint_is_written_every_so_often_and_at_the_end(tmp_path):
    play(new_run([Checkpoint(tmp_path / "{epoch}", every=2)], epochs=5), "loss", [5, 4, 3, 2, 1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "4", "5"]


def test_a_checkpoint_is_the_run(tmp_path):
    """A run from other weights, with another optimizer's state, is after loading where the first one was."""
    first = new_run([Checkpoint(tmp_path / "c")])
    for number in (1.5, 0.5):
        first.network.weight.grad = np.full((2, 3), number, np.float32)
        first.optimizer.step(first.network.parameters())
    first.epoch, first.logs = 2, {"loss": 0.5}
    first.history.epochs = [{"loss": 1.5}, {"loss": 0.5}]
    first.rng.standard_normal(7)
    first.notify("on_epoch_end")
    second = new_run([Checkpoint(tmp_path / "other")], seed=1)
    load_checkpoint(tmp_path / "c", second)
    assert (second.epoch, second.history.epochs) == (2, first.history.epochs)
    assert second.rng.bit_generator.state == first.rng.bit_generator.state
    for run in (first, second):
        run.network.weight.grad = np.ones((2, 3), np.float32)
        run.optimizer.step(run.network.parameters())
    np.testing.assert_array_equal(second.network.weight.data, first.network.weight.data)


def test_the_bar_counts_images_on_stderr():
    code = """
    from cyconv import layers, losses, optimizers
    from cyconv.callbacks import ProgressBar, Run
    import numpy as np
    bar = ProgressBar()
    run = Run(layers.Linear(3, 2), losses.CrossEntropyLoss(), optimizers.SGD(0.1), np.random.default_rng(0), epochs=4)
    run.callbacks, run.images, run.epoch = [bar], 50, 3
    run.notify("on_epoch_begin")
    run.seen, run.logs = 50, {"loss": 0.25}
    for event in ("on_batch_end", "on_epoch_end", "on_train_end"):
        run.notify(event)
    """
    status, printed, said = processes.run(code)
    assert (status, printed) == (0, "")
    assert "epoch 3/4" in said
    assert "50/50" in said
    assert "loss=0.25" in said
    ProgressBar().on_train_end(new_run())  # a run that ended before its first epoch
