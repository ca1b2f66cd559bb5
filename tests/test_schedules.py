import inspect
import math

import numpy as np
import pytest

from cyconv import schedules
from cyconv.layers import Linear
from cyconv.network import Network
from cyconv.optimizers import SGD
from cyconv.schedules import (
    CosineDecay,
    ExponentialDecay,
    LinearDecay,
    MultiStepDecay,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    StepDecay,
    WarmUp,
)
from cyconv.training import Callback, Checkpoint

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((8, 4)).astype(np.float32), RNG.integers(0, 3, 8)
TOTAL = 20

# Schedule, its formula, and PyTorch's name and arguments.
CASES = {
    "StepDecay": (
        StepDecay(3, 0.5),
        lambda t: 0.5 ** (t // 3),
        ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ),
    "MultiStepDecay": (
        MultiStepDecay([9, 2]),
        lambda t: 1 if t < 2 else 0.1 if t < 9 else 0.01,
        ("MultiStepLR", {"milestones": [2, 9]}),
    ),
    "ExponentialDecay": (
        ExponentialDecay(0.9),
        lambda t: math.exp(t * math.log(0.9)),
        ("ExponentialLR", {"gamma": 0.9}),
    ),
    "CosineDecay": (
        CosineDecay(TOTAL, 0.01),
        lambda t: 0.01 + 0.99 * math.cos(math.pi * t / TOTAL / 2) ** 2,
        ("CosineAnnealingLR", {"T_max": TOTAL, "eta_min": 0.01}),
    ),
    "WarmUp": (
        WarmUp(5, 0.25),
        lambda t: min(1, 0.25 + 0.15 * t),
        ("LinearLR", {"start_factor": 0.25, "total_iters": 5}),
    ),
    "OneCycle": (
        OneCycle(TOTAL),
        lambda t: (
            0.04 + 0.96 * math.sin(math.pi * t / 10) ** 2
            if t <= 5
            else 4e-6 + (1 - 4e-6) * math.cos(math.pi * (t - 5) / 28) ** 2
        ),
        ("OneCycleLR", {"max_lr": 1.0, "total_steps": TOTAL, "cycle_momentum": False}),
    ),
}


def test_every_schedule_has_its_row():
    public = {name for name in schedules.__all__ if inspect.isclass(getattr(schedules, name))}
    assert {*CASES} == public - {"Schedule", "LinearDecay", "ReduceOnPlateau"}  # these have tests of their own
    for name, (schedule, *_) in CASES.items():
        assert type(schedule).__name__ == name


@pytest.mark.parametrize("name", CASES)
def test_rates_are_those_of_the_formula(name):
    schedule, formula, _ = CASES[name]
    rates = [schedule.rate(1.0, t) for t in range(TOTAL)]
    np.testing.assert_allclose(rates, [formula(t) for t in range(TOTAL)], rtol=1e-12, atol=1e-15)
    assert schedule.rate(1.0, 10 * TOTAL) <= 1


@pytest.mark.parametrize("name", CASES)
def test_rates_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    schedule, _, (kind, arguments) = CASES[name]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    peer = getattr(torch.optim.lr_scheduler, kind)(optimizer, **arguments)
    for t in range(TOTAL):
        assert schedule.rate(1.0, t) == pytest.approx(peer.get_last_lr()[0], rel=1e-9, abs=1e-12)
        optimizer.step()
        if t < TOTAL - 1:
            peer.step()


def test_warm_up_goes_over_into_another_as_pytorchs():
    torch = pytest.importorskip("torch")
    schedule = WarmUp(4, 0.1, then=CosineDecay(10))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    s = torch.optim.lr_scheduler
    parts = [s.LinearLR(optimizer, 0.1, total_iters=4), s.CosineAnnealingLR(optimizer, 10)]
    peer = s.SequentialLR(optimizer, parts, [4])
    for t in range(12):
        assert schedule.rate(1.0, t) == pytest.approx(peer.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        peer.step()


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
@pytest.mark.parametrize("cooldown", [0, 2])
def test_plateaus_are_pytorchs(monitor, cooldown):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    arguments = {"factor": 0.5, "patience": 2, "threshold": 0.05, "cooldown": cooldown}
    mode = "max" if "accuracy" in monitor else "min"
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode, **arguments, min_lr=0.05, eps=0)
    plateau, rate = ReduceOnPlateau(monitor, **arguments, minimum=0.05), 1.0
    rng = np.random.default_rng(0)
    for t in range(60):
        value = 1 + (-1 if mode == "min" else 1) * 0.01 * t + 0.1 * rng.standard_normal()
        rate = plateau.next_rate(rate, value)
        peer.step(value)
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
    assert rate < 0.5


def test_a_plateau_by_hand():
    plateau, rate, rates = ReduceOnPlateau(factor=0.5, patience=1, minimum=0.3), 1.0, []
    for value in (3, 2, 2, 2, 1, 1, 1, 1, 1):
        rates.append(rate := plateau.next_rate(rate, value))
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3]


class Watch(Callback):
    """Notes the rates at which steps are made: those before each batch's end."""

    def __init__(self):
        self.rates = []

    def on_batch_end(self, run):
        self.rates.append(run.optimizer.learning_rate)


def rates_of(schedule, optimizer, epochs=4, **options):
    watch, network = Watch(), Network([Linear(4, 3)], input_shape=(4,), seed=0)
    callbacks = [watch, schedule, *options.pop("callbacks", [])]  # first, before the schedule changes the rate
    options = {"batch_size": 8, "progress": False, **options}
    network.fit(X, Y, epochs=epochs, optimizer=optimizer, callbacks=callbacks, **options)
    return watch.rates


def test_linear_decay_falls_from_the_optimizers_rate_and_gives_it_back():
    optimizer = SGD(0.1)
    np.testing.assert_allclose(rates_of(LinearDecay(), optimizer), [0.1, 0.075, 0.05, 0.025])
    assert optimizer.learning_rate == 0.1


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("per", ["epoch", "step"])
def test_fit_sets_the_rate_before_each_epoch_or_step(name, per):
    schedule = CASES[name][0]
    optimizer, given = SGD(0.1), schedule.per
    schedule.per = per
    try:
        rates = rates_of(schedule, optimizer, epochs=5, batch_size=2)
    finally:
        schedule.per = given
    times = range(20) if per == "step" else np.repeat(range(5), 4)
    expected = [schedule.rate(0.1, int(t)) for t in times]
    np.testing.assert_allclose(rates, expected)
    assert optimizer.learning_rate == 0.1


def test_steps_are_those_of_the_optimizer():
    rates = rates_of(ExponentialDecay(0.5, per="step"), SGD(1.0), epochs=2, batch_size=2, accumulate=3)
    assert rates == [1, 1, 1, 0.5, 0.25, 0.25, 0.25, 0.125]


def test_fit_reduces_the_rate_on_a_plateau():
    optimizer = SGD(0.0)  # nothing improves
    optimizer.learning_rate = 1e-30
    rates = rates_of(ReduceOnPlateau("loss", patience=1, factor=0.5), optimizer, epochs=6)
    np.testing.assert_allclose(np.array(rates) / 1e-30, [1, 1, 1, 0.5, 0.5, 0.25])
    assert optimizer.learning_rate == 1e-30


class Values(Callback):
    """Records one number of each epoch."""

    def __init__(self, name, values):
        self.name, self.values = name, values

    def on_epoch_end(self, run):
        run.logs[self.name] = self.values[run.epoch - 1]


def test_a_warm_up_scales_what_a_plateau_decides():
    """The loss stands still from the first epoch on; the rise goes over four epochs: reductions come within it."""
    optimizer, values = SGD(1.0), Values("loss", [1.0] * 6)
    for order in (lambda *pair: pair, lambda *pair: pair[::-1]):
        callbacks = order(WarmUp(4, start=0.2), ReduceOnPlateau("loss", factor=0.5, patience=1))
        rates = rates_of(values, optimizer, epochs=6, callbacks=callbacks)
        np.testing.assert_allclose(rates, [0.2, 0.4, 0.6, 0.4, 0.5, 0.25], rtol=1e-12)
        assert optimizer.learning_rate == 1.0


@pytest.mark.parametrize(
    ("callbacks", "expected"),
    [
        (lambda: [WarmUp(2, 0.5), LinearDecay()], [0.5, 0.75 * 0.75, 0.5, 0.25]),
        (lambda: [LinearDecay(), WarmUp(2, 0.5)], [0.5, 0.75 * 0.75, 0.5, 0.25]),
        (lambda: [WarmUp(2, 0.5, per="step"), StepDecay(2, 0.1)], [0.5, 1, 0.1, 0.1]),
        (lambda: [StepDecay(1, 0.5), ExponentialDecay(0.5), WarmUp(2, 0.5)], [0.5, 0.25 * 0.75, 1 / 16, 1 / 64]),
        (lambda: [CosineDecay(2, 0.5), StepDecay(3, 0.5)], [1, 0.75, 0.5, 0.25]),
        (lambda: [StepDecay(3, 0.5), CosineDecay(2, 0.5)], [1, 0.75, 0.5, 0.5]),  # whose minimum holds
    ],
)
def test_schedules_compose_in_the_order_of_the_callbacks(callbacks, expected):
    first, *others = callbacks()
    rates = rates_of(first, SGD(1.0), batch_size=4, callbacks=others)
    np.testing.assert_allclose(rates[::2], expected, rtol=1e-12)  # at the first of two steps of each epoch


def test_composed_schedules_resume(tmp_path):
    path = tmp_path / "run.safetensors"

    def rates(epochs, **options):
        rest = [ReduceOnPlateau("loss", patience=0, threshold=0.5), StepDecay(3, 0.5, per="step"), Checkpoint(path)]
        options |= {"batch_size": 2, "seed": 0, "callbacks": rest}
        return rates_of(WarmUp(4), SGD(0.1), epochs=epochs, **options)

    whole = rates(6)
    assert rates(3) + rates(6, resume=path) == whole


def test_a_schedule_that_another_callback_calls_sets_the_rate():
    class Wrapped(Callback):
        def __init__(self):
            self.inner = StepDecay(1, 0.5)

        def on_train_begin(self, run):
            self.inner.on_train_begin(run)

        def on_epoch_begin(self, run):
            self.inner.on_epoch_begin(run)

    assert rates_of(Wrapped(), SGD(1.0), epochs=3) == [1, 0.5, 0.25]


def test_a_plateau_of_what_is_to_grow():
    scores = [0.5, 0.6, 0.6, 0.6, 0.7]
    for monitor, mode in (("val_iou", "auto"), ("mine", "max")):
        plateau = ReduceOnPlateau(monitor, factor=0.5, patience=0, mode=mode)
        assert [plateau.next_rate(1.0, score) for score in scores] == [1, 1, 0.5, 0.5, 1]
    plateau = ReduceOnPlateau("mine", factor=0.5, patience=0, mode="min")
    assert [plateau.next_rate(1.0, score) for score in scores] == [1, 0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(("mode", "sign"), [("min", 1), ("max", -1)])
def test_a_plateau_of_negative_numbers(mode, sign):
    plateau = ReduceOnPlateau("score", factor=0.5, patience=0, threshold=0.1, mode=mode)
    values = [-10 * sign, -10 * sign, -10.9 * sign, -11.1 * sign]
    assert [plateau.next_rate(1.0, value) for value in values] == [1, 0.5, 0.5, 1]
    plateau = ReduceOnPlateau("score", factor=0.5, patience=0, threshold=0.1, mode="max")
    assert [plateau.next_rate(1.0, value) for value in (-10, -10, -9.1, -8.9)] == [1, 0.5, 0.5, 1]


def test_a_plateau_begins_with_the_first_number_that_is_one():
    plateau = ReduceOnPlateau(factor=0.5, patience=1)
    assert [plateau.next_rate(1.0, value) for value in (np.nan, 3.0, 2.0, 1.0, np.nan, 1.0)] == [1, 1, 1, 1, 1, 0.5]


@pytest.mark.parametrize(
    "make",
    [lambda: OneCycle(24), lambda: StepDecay(2), lambda: ReduceOnPlateau("loss", patience=0, threshold=0.5)],
)
def test_resumed_runs_have_the_same_rates(make, tmp_path):
    path = tmp_path / "run.safetensors"
    whole = rates_of(make(), SGD(0.1), epochs=6, batch_size=2, seed=0)
    first = rates_of(make(), SGD(0.1), epochs=3, batch_size=2, seed=0, callbacks=[Checkpoint(path)])
    with pytest.warns(UserWarning, match=r"the optimizer's settings in the file: `learning_rate` .* instead of 0\.7;"):
        rest = rates_of(make(), SGD(0.7), epochs=6, batch_size=2, seed=0, resume=path, callbacks=[Checkpoint(path)])
    assert first + rest == whole


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: StepDecay(0), "StepDecay: `every` must be at least 1, got 0"),
        (lambda: StepDecay(1, -1), "StepDecay: `factor` must be at least 0, got -1.0"),
        (lambda: StepDecay(1, per="batch"), "StepDecay: `per` must be one of 'epoch', 'step', got 'batch'"),
        (lambda: MultiStepDecay(3), "MultiStepDecay: `milestones` must be a sequence of integers, got 3"),
        (lambda: MultiStepDecay([0]), "MultiStepDecay: `milestones` must be at least 1, got 0"),
        (lambda: ExponentialDecay("a"), "ExponentialDecay: `factor` must be a number, got 'a'"),
        (lambda: CosineDecay(0), "CosineDecay: `total` must be at least 1, got 0"),
        (lambda: CosineDecay(1, -1), "CosineDecay: `minimum` must be at least 0, got -1.0"),
        (lambda: WarmUp(1, 2), "WarmUp: `start` must be at least 0 and at most 1, got 2.0"),
        (lambda: WarmUp(1, then="cosine"), "WarmUp: `then` must be a Schedule, got 'cosine'"),
        (lambda: WarmUp(1, then=OneCycle(5)), "WarmUp: `then` must count what `per` says, epochs, got one per step"),
        (lambda: OneCycle(1), "OneCycle: `total` must be at least 2, got 1"),
        (lambda: OneCycle(5, rise=2), "OneCycle: `rise` must be at least 0 and at most 1, got 2.0"),
        (lambda: ReduceOnPlateau(3), "ReduceOnPlateau: `monitor` must be the name of a recorded number, got 3"),
        (lambda: ReduceOnPlateau(factor=1), "ReduceOnPlateau: `factor` must be at least 0 and below 1, got 1.0"),
        (lambda: ReduceOnPlateau(patience=-1), "ReduceOnPlateau: `patience` must be at least 0, got -1"),
        (lambda: ReduceOnPlateau("mine"), "ReduceOnPlateau: `mode` must be 'min' or 'max' for `monitor` 'mine'"),
        (lambda: ReduceOnPlateau(mode="most"), "ReduceOnPlateau: `mode` must be one of 'auto', 'min', 'max', got 'm"),
        (lambda: ReduceOnPlateau().next_rate("a", 1.0), "ReduceOnPlateau: `rate` must be a number, got 'a'"),
        (lambda: ReduceOnPlateau().next_rate(1.0, None), "ReduceOnPlateau: `value` must be a number, got None"),
        (
            lambda: WarmUp(1, then=ReduceOnPlateau()),
            "WarmUp: `then` must be a Schedule, .*; other callbacks come aft",
        ),
        (lambda: rates_of(ReduceOnPlateau(), SGD()), "ReduceOnPlateau: `monitor` 'val_loss' is not recorded, only"),
        (lambda: Schedule().rate(1.0, 0), "Schedule: `rate` is not written"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises((ValueError, TypeError, NotImplementedError), match=message):
        call()
