import inspect

import numpy as np
import pytest

from cyconv import losses
from cyconv.gradient_check import check_gradients
from cyconv.layers import Conv2d, Linear
from cyconv.losses import (
    LOSSES,
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    DiceLoss,
    Loss,
    MSELoss,
    SmoothL1Loss,
    as_loss,
    weighted,
)
from cyconv.network import Network

RNG = np.random.default_rng(0)


def test_cross_entropy_is_minus_the_mean_log_probability():
    scores, target = RNG.standard_normal((5, 3)), np.array([0, 2, 1, 1, 0])
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    expected = -np.log(probabilities[np.arange(5), target]).mean()
    assert CrossEntropyLoss().forward(scores, target) == pytest.approx(expected, rel=1e-12)


def test_mse_is_the_mean_square_whatever_the_targets_dtype():
    output = np.array([[1, 2], [3, 5]], np.float32)
    assert MSELoss().forward(output, [[1, 2], [3, 4]]) == pytest.approx(0.25)
    assert MSELoss().backward(output, [[1, 2], [3, 4]]).dtype == np.float32


def pixels(*shape):
    return RNG.standard_normal((2, 3, 4, 5)), RNG.integers(3, size=(2, 4, 5))


def pair():
    return RNG.standard_normal((4, 3)), RNG.standard_normal((4, 3))


def yes_or_no():
    return RNG.standard_normal((4, 3)), RNG.integers(2, size=(4, 3))


LABELS = np.array([0, 2, 1, 1])
SCORES = RNG.standard_normal((4, 3))
CASES = [  # of the name in `fit`, None for other forms
    ("cross_entropy", CrossEntropyLoss(), SCORES, LABELS),
    (None, CrossEntropyLoss([1, 2, 0.5], label_smoothing=0.1), SCORES, LABELS),
    (None, CrossEntropyLoss([1, 2, 0.5], label_smoothing=0.1), SCORES, weighted(LABELS, [1, 0.5, 0, 2])),
    (None, CrossEntropyLoss(), *pixels()),
    (None, CrossEntropyLoss(ignore_index=1), *pixels()),
    (None, CrossEntropyLoss(), pixels()[0], weighted(pixels()[1], RNG.uniform(0, 2, (2, 4, 5)))),
    ("binary_cross_entropy", BinaryCrossEntropyLoss(), *yes_or_no()),
    (None, BinaryCrossEntropyLoss([1, 2, 0.5]), *yes_or_no()),
    ("mse", MSELoss(), *pair()),
    ("smooth_l1", SmoothL1Loss(), *pair()),
    (None, SmoothL1Loss(0.3), *pair()),
    ("dice", DiceLoss(), *pixels()),
    (None, DiceLoss(0.5, ignore_index=1), *pixels()),
    (None, DiceLoss(), SCORES, LABELS),
    (None, DiceLoss(0, binary=True), RNG.standard_normal((2, 1, 4, 5)), RNG.integers(2, size=(2, 1, 4, 5))),
]


def test_every_loss_has_its_row():
    public = {getattr(losses, name) for name in losses.__all__}
    kinds = {each for each in public if inspect.isclass(each) and issubclass(each, Loss)} - {Loss}
    assert {type(loss) for _, loss, _, _ in CASES} == kinds
    assert {name: type(loss) for name, loss, _, _ in CASES if name} == LOSSES
    assert {*LOSSES} == {"cross_entropy", "binary_cross_entropy", "mse", "smooth_l1", "dice"}


@pytest.mark.parametrize(("_", "loss", "output", "target"), CASES)
def test_gradients(_, loss, output, target):
    def backward(grad_output, output):
        return grad_output * loss.backward(output, target)

    check_gradients(lambda output: np.array(loss.forward(output, target)), output, backward=backward)


def test_ignored_labels_have_no_part_in_loss_and_gradient():
    loss, scores, target = CrossEntropyLoss(ignore_index=7), RNG.standard_normal((5, 3)), np.array([0, 7, 1, 7, 2])
    counted = target != 7
    assert loss.count(target) == 3
    assert loss.forward(scores, target) == pytest.approx(CrossEntropyLoss().forward(scores[counted], target[counted]))
    gradient = loss.backward(scores, target)
    np.testing.assert_allclose(gradient[counted], CrossEntropyLoss().backward(scores[counted], target[counted]))
    np.testing.assert_array_equal(gradient[~counted], 0)
    loss.check_target("op", target, (3,))


@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 4, 5)])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"ignore_index": 1}])
def test_labels_of_a_class_without_weight_are_as_ones_to_be_ignored(shape, options):
    loss, rng = CrossEntropyLoss([0, 2, 1], **options), np.random.default_rng(0)
    scores, labels = rng.standard_normal(shape), rng.integers(3, size=(shape[0], *shape[2:]), dtype=np.uint8)
    none = np.zeros_like(labels)
    assert loss.total_weight(none) == 0
    value, gradient = loss.with_gradient(scores, none)
    for number in (value, loss.forward(scores, none), gradient, loss.backward(scores, none)):
        np.testing.assert_array_equal(number, 0)
    assert not loss.with_gradient(scores.astype(np.float32), none)[1].any()
    # In a batch with others, the mean is that of the others.
    places, columns = labels.reshape(-1), np.moveaxis(scores, 1, -1).reshape(-1, 3)
    others = places != 0
    expected = CrossEntropyLoss([5, 2, 1], **options).forward(columns[others], places[others])
    if not loss.label_smoothing:  # which has the weights of all classes
        assert loss.forward(scores, labels) == pytest.approx(expected, rel=1e-12)
    assert not np.moveaxis(loss.backward(scores, labels), 1, -1).reshape(-1, 3)[~others].any()


@pytest.mark.parametrize(("_", "loss", "output", "target"), CASES)
def test_a_batch_is_the_weighted_mean_of_its_parts(_, loss, output, target):
    """Of every loss, whatever the weights, down to parts of one image."""
    cuts = [slice(0, 1), slice(1, None)]
    weights = [loss.total_weight(target[cut]) for cut in cuts]
    values = [loss.forward(output[cut], target[cut]) for cut in cuts]
    assert sum(weights) == pytest.approx(loss.total_weight(target), rel=1e-12)
    assert np.average(values, weights=weights) == pytest.approx(loss.forward(output, target), rel=1e-9)
    gradients = [loss.backward(output[cut], target[cut]) * weight for cut, weight in zip(cuts, weights, strict=True)]
    expected = loss.backward(output, target) * sum(weights)
    np.testing.assert_allclose(np.concatenate(gradients), expected, rtol=1e-9, atol=1e-12)


def test_weights_are_summed_by_hand():
    labels, pixels_ = np.array([0, 2, 1, 1]), np.array([[[0, 2], [7, 1]]], np.uint8)
    assert CrossEntropyLoss().total_weight(labels) == 4
    assert CrossEntropyLoss([1, 2, 0.5]).total_weight(labels) == 1 + 0.5 + 2 + 2
    assert CrossEntropyLoss([1, 2, 0.5]).total_weight(weighted(labels, [1, 3, 0, 2])) == 1 + 1.5 + 4
    assert CrossEntropyLoss([1, 2, 0.5], ignore_index=7).total_weight(pixels_) == 3.5
    assert MSELoss().total_weight(np.zeros((2, 3))) == 6
    assert BinaryCrossEntropyLoss([9, 9, 9]).total_weight(np.zeros((2, 3))) == 6
    assert DiceLoss().total_weight(pixels_) == 1


def test_means_of_a_loss_of_ones_own_are_plain():
    class Absolute(Loss):
        def forward(self, output, target):
            return float(np.abs(output - target).mean())

        def backward(self, output, target):
            return np.sign(output - target) / output.size

    assert Absolute().total_weight(np.zeros((5, 2))) == 5


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (MSELoss(), (4, 3)),
        (SmoothL1Loss(), (4, 3)),
        (BinaryCrossEntropyLoss(), (4, 3)),
        (DiceLoss(binary=True), (2, 1, 4, 5)),
        (DiceLoss(), (2, 2, 4, 5)),
        (CrossEntropyLoss(), (2, 2, 4, 5)),
    ],
)
def test_booleans_are_zeros_and_ones(loss, shape):
    output, classes = RNG.standard_normal(shape), loss.classifies
    numbers = RNG.integers(2, size=(shape[0], *shape[2:]) if classes else shape)
    yes = numbers.astype(bool)
    loss.check_target("op", yes, shape[1:])
    assert loss.forward(output, yes) == loss.forward(output, numbers)
    np.testing.assert_array_equal(loss.backward(output, yes), loss.backward(output, numbers))
    assert loss.total_weight(yes) == loss.total_weight(numbers)
    if classes:
        np.testing.assert_array_equal(loss.labels(yes), numbers)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 4), (2, 4, 3, 3)])
@pytest.mark.parametrize(
    "loss",
    [
        CrossEntropyLoss(),
        CrossEntropyLoss([1.0, 2.0, 0.5, 3.0], 0.1, ignore_index=2),
        CrossEntropyLoss([0.0, 0.0, 0.0, 0.0]),
    ],
    ids=["plain", "weighted", "of no weight"],
)
def test_loss_and_gradient_in_one_go_are_those_of_two(loss, shape, dtype):
    rng = np.random.default_rng(0)
    scores, labels = rng.standard_normal(shape).astype(dtype), rng.integers(0, 4, (shape[0], *shape[2:]))
    factors = rng.uniform(0, 2, labels.shape)
    for target in (labels, weighted(labels, factors), weighted(labels, 0 * factors), np.full_like(labels, 2)):
        value, gradient = loss.with_gradient(scores, target)
        np.testing.assert_equal(value, loss.forward(scores, target))
        np.testing.assert_array_equal(gradient, loss.backward(scores, target))


def test_a_loss_that_writes_one_of_forward_and_backward_is_asked_for_it():
    class Doubled(CrossEntropyLoss):
        def forward(self, output, target):
            return 2 * super().forward(output, target)

    class Halved(CrossEntropyLoss):
        def backward(self, output, target):
            return super().backward(output, target) / 2

    scores, labels = np.array([[1.0, 2.0]]), np.array([0])
    value, gradient = CrossEntropyLoss().with_gradient(scores, labels)
    assert Doubled().with_gradient(scores, labels)[0] == 2 * value
    np.testing.assert_array_equal(Halved().with_gradient(scores, labels)[1], gradient / 2)


def test_there_is_no_gradient_of_a_loss_that_is_not_finite():
    value, gradient = losses.MSELoss().with_gradient(np.array([[np.inf]]), np.array([[0.0]]))
    assert value == np.inf
    assert gradient is None


def test_where_no_label_counts_there_is_nothing_to_learn():
    loss, scores, target = CrossEntropyLoss(), RNG.standard_normal((2, 3)), np.array([-100, -100])
    assert loss.forward(scores, target) == 0
    np.testing.assert_array_equal(loss.backward(scores, target), np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("loss", "target", "kind", "message"),
    [
        (CrossEntropyLoss(), np.zeros(3), TypeError, "op: `y` must be integers, the classes' numbers"),
        (
            CrossEntropyLoss(),
            np.zeros((3, 1), int),
            ValueError,
            r"op: `y` must have shape \(N,\) for this network, got",
        ),
        (CrossEntropyLoss(), np.array([0, 4]), ValueError, "op: `y` must be class numbers from 0 to 3, got 0 to 4"),
        (
            CrossEntropyLoss(),
            np.array([-100, -100]),
            ValueError,
            "op: `y` holds no class, only the `ignore_index`",
        ),
        (CrossEntropyLoss(ignore_index=3), np.array([3, 4]), ValueError, "from 0 to 3, got 4 to 4"),
        (CrossEntropyLoss(), np.array([-1, 3]), ValueError, "from 0 to 3, got -1 to 3"),
        (CrossEntropyLoss([1, 2]), np.array([0, 1]), ValueError, "op: the loss has weights for 2 classes, but the net"),
        (BinaryCrossEntropyLoss(), np.full((3, 4), 2), ValueError, "op: `y` must be 0 to 1 for binary cross entropy"),
        (SmoothL1Loss(), np.array(["a"]), TypeError, "op: `y` must be numbers for the smooth absolute error"),
        (DiceLoss(), np.zeros(3), TypeError, "op: `y` must be integers, the classes' numbers, for the Dice loss, got"),
        (DiceLoss(), np.array([0, 4]), ValueError, "op: `y` must be class numbers from 0 to 3, got 0 to 4"),
        (DiceLoss(binary=True), np.array([["a"]]), TypeError, "op: `y` must be numbers for the Dice loss, got <U1"),
        (DiceLoss(binary=True), np.full((3, 4), 2), ValueError, "op: `y` must be 0 to 1 for the Dice loss, got 2 to 2"),
        (DiceLoss(binary=True), np.zeros((3, 2)), ValueError, "op: `y` must have shape"),
        (CrossEntropyLoss(), weighted([0, 4], 1), ValueError, "op: `y` must be class numbers from 0 to 3, got 0 to 4"),
        (MSELoss(), np.array(["a"]), TypeError, "op: `y` must be numbers"),
        (MSELoss(), np.zeros((3, 2)), ValueError, r"op: `y` must have shape \(N, 4\) for this network, got \(3, 2\)"),
    ],
)
def test_bad_targets_are_named(loss, target, kind, message):
    with pytest.raises(kind, match=message):
        loss.check_target("op", target, (4,))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="CrossEntropyLoss: `weight` must be finite numbers that are at least 0"):
        CrossEntropyLoss([1, np.nan])
    with pytest.raises(ValueError, match="CrossEntropyLoss: `label_smoothing` must be at least 0 and at most 1, got 2"):
        CrossEntropyLoss(label_smoothing=2)
    with pytest.raises(TypeError, match=r"CrossEntropyLoss: `ignore_index` must be an integer, got 1\.5"):
        CrossEntropyLoss(ignore_index=1.5)
    with pytest.raises(TypeError, match="CrossEntropyLoss: `weight` must be numbers, got <U1"):
        CrossEntropyLoss(["a"])
    with pytest.raises(TypeError, match="MSELoss: `target` must be an array, got None"):
        MSELoss().forward(np.ones((1, 1)), None)
    with pytest.raises(TypeError, match="MSELoss: `target` must be numbers, got complex128"):
        MSELoss().backward(np.ones((1, 1)), [[1j]])


def test_names():
    assert isinstance(as_loss("fit", "mse"), MSELoss)
    loss = CrossEntropyLoss()
    assert as_loss("fit", loss) is loss
    assert repr(loss) == "CrossEntropyLoss()"
    with pytest.raises(ValueError, match=r"fit: `loss` must be one of 'cross_entropy', .*, 'dice', got 'l1'"):
        as_loss("fit", "l1")
    with pytest.raises(NotImplementedError, match="Loss: `forward` is not written"):
        Loss().forward(np.ones(1), np.ones(1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SmoothL1Loss(-1), "SmoothL1Loss: `beta` must be at least 0, got -1"),
        (lambda: BinaryCrossEntropyLoss("a"), "BinaryCrossEntropyLoss: `pos_weight` must be numbers, got <U1"),
        (
            lambda: BinaryCrossEntropyLoss([-1]),
            "BinaryCrossEntropyLoss: `pos_weight` must be finite numbers that",
        ),
        (lambda: DiceLoss(-1), "DiceLoss: `smooth` must be at least 0, got -1"),
        (lambda: DiceLoss(binary=1), "DiceLoss: `binary` must be True or False, got 1"),
        (lambda: DiceLoss().forward(np.ones((1, 2)), [0.5]), "DiceLoss: `target` must be integers, got float64"),
        (lambda: weighted([0.5], 1), "weighted: `labels` must be integers, got float64"),
        (lambda: weighted([0], "a"), "weighted: `weight` must be numbers, got <U1"),
        (lambda: weighted([0, 1], [1, -1]), "weighted: `weight` must be finite numbers that are at least 0"),
        (lambda: weighted([0, 1], [1, 1, 1]), r"weighted: `weight` must broadcast to the labels' \(2,\), got \(3,\)"),
    ],
)
def test_arguments_that_losses_refuse(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_a_weight_counts_like_so_many_samples():
    counts = np.array([1, 3, 0, 2])
    loss, target = CrossEntropyLoss([1, 2, 0.5], label_smoothing=0.1), weighted(LABELS, counts)
    expected = loss.forward(np.repeat(SCORES, counts, axis=0), np.repeat(LABELS, counts))
    assert loss.forward(SCORES, target) == pytest.approx(expected, rel=1e-12)
    assert loss.count(target) == 3
    assert CrossEntropyLoss().forward(SCORES, weighted(LABELS, 0)) == 0
    np.testing.assert_array_equal(loss.labels(target), [0, 2, -100, 1])  # of no weight: to be ignored


def test_dice_by_hand():
    """Two regions that share one of their two pixels each; then a pixel less that counts."""
    scores = 100 * np.array([[[[1.0, 1, 0, 0]], [[0.0, 0, 1, 1]]]])  # classes 0 0 1 1
    loss = DiceLoss(smooth=0)
    assert loss.forward(scores, np.array([[[1, 0, 1, 0]]])) == pytest.approx(0.5)
    assert loss.forward(scores, np.array([[[-100, 0, 1, 0]]])) == pytest.approx((0 + 0.5 - 0.5 + 2 / 3) / 2)


@pytest.mark.parametrize("name", LOSSES)
def test_fit_accepts_the_names(name):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((32, 4)).astype(np.float32)
    yes = (x[:, :2] > 0).astype(int)
    y = yes if name in ("mse", "smooth_l1", "binary_cross_entropy") else yes[:, 0]
    network = Network([Linear(4, 2)], input_shape=(4,), seed=0)
    history = network.fit(x, y, epochs=20, batch_size=8, optimizer="adagrad", loss=name, progress=False, seed=0)
    assert history["loss"][-1] < history["loss"][0]
    assert ("accuracy" in history.epochs[0]) == (name in ("cross_entropy", "dice"))
    assert network.evaluate(x, y, loss=name)["loss"] < history["loss"][0]


def test_fit_takes_weighted_pixels():
    """Pixels of no weight teach nothing: whatever their labels, the weights come out the same."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 1, 4, 4)).astype(np.float32), rng.integers(2, size=(8, 4, 4))
    weight = rng.integers(2, size=y.shape)
    results = []
    for labels in (y, np.where(weight, y, 1 - y)):
        network = Network([Conv2d(1, 2, 3, padding=1)], input_shape=(1, 4, 4), seed=0)
        network.fit(x, weighted(labels, weight), epochs=2, batch_size=4, progress=False, seed=0)
        results.append(network.state_dict()["0.weight"].copy())
    np.testing.assert_array_equal(*results)
