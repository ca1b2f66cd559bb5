"""Training on augmented and sampled data: what `fit` hands on, refuses, and goes on with."""

import numpy as np
import pytest

from cyconv.data import BalancedSampler, Batches
from cyconv.data.augmentation import (
    CropTargets,
    ElasticTransform,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    RandomShift,
)
from cyconv.layers import Conv2d, ReLU
from cyconv.losses import CrossEntropyLoss, weighted
from cyconv.network import Network
from cyconv.optimizers import Adam
from cyconv.training import Callback, Checkpoint
from tests.test_network import bits, data, fit, small_net

X, Y = data()
AUGMENT = [RandomHorizontalFlip(), RandomShift(1), ElasticTransform(0.3)]


class InterruptAt(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, run):
        if (run.epoch, run.batch) == (self.epoch, 2):
            raise KeyboardInterrupt


def without_seconds(history):
    return [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in history.epochs]


def test_fit_augments_the_training_images_alone():
    plain, augmented, by_batches = small_net(), small_net(), small_net()
    expected = fit(plain, X, Y, seed=1, validation_data=(X, Y))
    history = fit(augmented, X, Y, seed=1, augment=AUGMENT, validation_data=(X, Y))
    assert history.epochs[0]["loss"] != expected.epochs[0]["loss"]
    assert bits(augmented) != bits(plain)
    assert history.epochs[-1]["val_loss"] == augmented.evaluate(X, Y, batch_size=16)["loss"]
    rng = np.random.default_rng(1)
    fit(by_batches, Batches(X, Y, 16, shuffle=True, rng=rng, augment=AUGMENT, workers=2), seed=rng)
    assert bits(by_batches) == bits(augmented)


def run(net, form, **keywords):
    if form == "arrays":
        return fit(net, X, Y, epochs=4, augment=AUGMENT, seed=3, **keywords)
    if form == "sampled arrays":
        return fit(net, X, Y, epochs=4, augment=AUGMENT, sampler=BalancedSampler(Y), seed=3, **keywords)
    batches = Batches(X, Y, 16, shuffle=True, rng=11, augment=AUGMENT, workers=2)
    return fit(net, batches, epochs=4, seed=3, **keywords)


@pytest.mark.parametrize("form", ["arrays", "sampled arrays", "batches"])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_is_augmented_as_the_unbroken_one(tmp_path, form, stop):
    whole, broken, resumed = small_net(), small_net(), small_net(seed=7)
    expected = run(whole, form)
    with pytest.raises(KeyboardInterrupt):
        run(broken, form, callbacks=[Checkpoint(tmp_path / "c"), InterruptAt(stop + 1)])
    history = run(resumed, form, resume=tmp_path / "c")
    assert bits(resumed) == bits(whole)
    assert without_seconds(history) == without_seconds(expected)


def test_a_checkpoint_of_batches_is_not_one_of_arrays(tmp_path):
    run(small_net(), "batches", callbacks=[Checkpoint(tmp_path / "c")])
    with pytest.raises(
        ValueError, match=r"^fit: `resume` .* does not suit this run: `x` and `y`, or the batches, must"
    ):
        run(small_net(), "arrays", resume=tmp_path / "c")


def test_images_may_get_the_networks_size_only_then():
    larger = np.pad(X, ((0, 0), (0, 0), (2, 2), (2, 2)))
    history = fit(small_net(), larger, Y, augment=[RandomCrop(8)])
    assert len(history) == 2
    grey = larger[:, 0]
    net, twin = small_net(), small_net()
    fit(net, grey, Y, augment=[RandomCrop(8)])
    fit(twin, larger, Y, augment=RandomCrop(8))
    assert bits(net) == bits(twin)
    with pytest.raises(ValueError, match=r"^fit: augment: `x` must have shape \(N, 1, 8, 8\), got \(16, 1, 9, 9\)"):
        fit(small_net(), larger, Y, augment=[RandomCrop(9)])


@pytest.mark.parametrize("weights", [False, True])
def test_pixels_of_a_network_of_valid_convolutions(weights):
    """Image and classes move together, then the classes lose the border that the output lacks."""
    y = (X[:, 0] > 0.5).astype(int)
    targets = weighted(y, 1 + y) if weights else y
    net = Network([Conv2d(1, 8, 3), ReLU(), Conv2d(8, 2, 1)], input_shape=(1, 8, 8), seed=0)
    with pytest.raises(ValueError, match="fit: `y` must have"):
        fit(net, X, targets, augment=AUGMENT)
    augment = [RandomHorizontalFlip(), RandomShift(1, mode="reflect"), CropTargets(1)]
    fit(net, X, targets, epochs=40, augment=augment, optimizer=Adam(0.03))
    assert net.evaluate(X, y[:, 1:-1, 1:-1])["accuracy"] > 0.97


def test_normalised_data_for_training_validation_and_prediction():
    normalize = Normalize.of(X)
    net, ready = small_net(), normalize.apply(X)
    history = fit(net, X, Y, epochs=12, augment=[normalize], validation_data=Batches(X, Y, 256, augment=normalize))
    assert net.evaluate(ready, Y)["loss"] == history.epochs[-1]["val_loss"]
    assert (net.predict(ready).argmax(1) == Y).mean() > 0.95


def test_a_sampler_balances_the_classes():
    rare = np.flatnonzero((Y != 0) | (np.arange(60) < 8))
    seen = []

    class Seen(CrossEntropyLoss):
        def forward(self, output, target):
            seen.extend(target)
            return super().forward(output, target)

    history = fit(small_net(), X[rare], Y[rare], epochs=3, sampler=BalancedSampler(Y[rare], 45), loss=Seen())
    assert np.bincount(seen).tolist() == [45, 45, 45]
    assert len(history) == 3


@pytest.mark.parametrize(
    ("x", "y", "keywords", "message"),
    [
        (X, Y, {"augment": 3}, r"^fit: `augment` must be transforms, callables of \(x, y, rng\), got 3"),
        (X, Y, {"augment": RandomShift}, r"^fit: `augment` must be transforms, .*; call the class to make one"),
        (X, Y, {"sampler": 3}, "^fit: `sampler` must be a function of a generator that has a length, got 3"),
        (
            [(X, Y)],
            None,
            {"augment": AUGMENT},
            r"^fit: `augment` needs `x` and `y`; .*: Batches\(\.\.\., augment=\.\.\.\)",
        ),
        ([(X, Y)], None, {"sampler": BalancedSampler(Y)}, "^fit: `sampler` needs `x` and `y`; batches have it already"),
        (X, Y, {"augment": [RandomCrop(9)]}, r"^RandomCrop: `size` \(9, 9\) is larger than the images, 8x8"),
        (X[:, 0, 0], Y, {"augment": AUGMENT}, "^RandomHorizontalFlip: `x` must have 4 dimensions"),
        (X, Y, {"augment": lambda x, y, rng: (x, y[:, np.newaxis])}, "^fit: `y` must "),
        (X, Y, {"sampler": BalancedSampler(np.arange(70) % 3)}, "^Batches: `sampler` must return rows from 0 to 59"),
    ],
)
def test_refuses_before_any_step(x, y, keywords, message):
    net = small_net()
    before = bits(net)
    with pytest.raises((ValueError, TypeError), match=message):
        fit(net, x, y, **keywords)
    assert bits(net) == before
