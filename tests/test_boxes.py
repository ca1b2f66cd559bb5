"""Boxes against plain loops, and their loss against differences."""

import math

import numpy as np
import pytest

from cyconv import boxes
from cyconv.boxes import BoxLoss
from cyconv.layers import Linear
from cyconv.losses import CrossEntropyLoss
from cyconv.network import Network
from cyconv.optimizers import Adam


def random_boxes(shape, seed=0, dtype=np.float64):
    corner, size = np.random.default_rng(seed).uniform(1, 60, (2, *shape, 2))
    return np.concatenate([corner, corner + size], axis=-1).astype(dtype)


def overlap(a, b):
    """Return the intersection over union of two boxes, as in a textbook."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_encoding_is_the_papers_and_decoding_its_inverse(dtype):
    truth, proposals = random_boxes((5, 3), 0, dtype), random_boxes((5, 3), 1, dtype)
    offsets = boxes.encode(truth, proposals)
    assert offsets.dtype == dtype
    for index in np.ndindex(5, 3):
        (gl, gt, gr, gb), (pl, pt, pr, pb) = truth[index].tolist(), proposals[index].tolist()
        expected = [
            ((gl + gr) / 2 - (pl + pr) / 2) / (pr - pl),
            ((gt + gb) / 2 - (pt + pb) / 2) / (pb - pt),
            math.log((gr - gl) / (pr - pl)),
            math.log((gb - gt) / (pb - pt)),
        ]
        np.testing.assert_allclose(offsets[index], expected, rtol=1e-4 if dtype == np.float32 else 1e-12, atol=1e-5)
    np.testing.assert_allclose(boxes.decode(offsets, proposals), truth, rtol=1e-5 if dtype == np.float32 else 1e-12)
    np.testing.assert_array_equal(boxes.encode(proposals, proposals), np.zeros((5, 3, 4)))


def test_one_proposal_serves_all():
    truth, whole = random_boxes((7,)), np.array([0.0, 0, 64, 64])
    offsets = boxes.encode(truth, whole)
    np.testing.assert_array_equal(offsets, boxes.encode(truth, np.tile(whole, (7, 1))))
    np.testing.assert_allclose(boxes.decode(offsets, whole), truth, rtol=1e-12)
    assert boxes.encode(truth[:0], whole).shape == (0, 4)


def test_overlap():
    first, second = random_boxes((20,), 0), random_boxes((30,), 1)
    table = boxes.iou(first[:, np.newaxis], second)
    assert table.shape == (20, 30)
    for i, j in np.ndindex(20, 30):
        assert table[i, j] == pytest.approx(overlap(first[i], second[j]), rel=1e-12)
    np.testing.assert_array_equal(boxes.iou(first, first), np.ones(20))
    assert boxes.iou([0.0, 0, 1, 1], [1.0, 0, 2, 1]) == 0  # they touch
    assert boxes.iou([1.0, 1, 1, 1], [1.0, 1, 1, 1]) == 0  # without area
    assert boxes.iou([0.0, 0, 4, 4], [1.0, 1, 3, 3]) == 0.25


def test_suppression():
    found, scores = random_boxes((60,), 2), np.random.default_rng(3).permutation(60) / 60
    for threshold in (0.0, 0.3, 0.7, 1.0):
        kept = []
        for index in sorted(range(60), key=lambda i: -scores[i]):
            if all(overlap(found[index], found[other]) <= threshold for other in kept):
                kept.append(index)
        assert boxes.nms(found, scores, threshold).tolist() == kept
    assert boxes.nms(found[:0], scores[:0]).tolist() == []
    same = np.repeat(found[:1], 3, axis=0)
    assert boxes.nms(same, np.ones(3)).tolist() == [0]


WHOLE = np.array([0.0, 0, 64, 64])


def loss_inputs(N=6, K=3, seed=4):
    rng = np.random.default_rng(seed)
    labels = rng.integers(K, size=N)
    labels[0] = 0
    target = boxes.targets(labels, random_boxes((N,), seed), WHOLE)
    return rng.standard_normal((N, 5 * K)), target, labels


def expected_loss(output, target, weight, beta, background):
    """Return the mean over proposals, each computed by itself."""
    N, K = len(output), output.shape[1] // 5
    total = 0.0
    for row, label, offsets in zip(output, target["label"], target["offsets"], strict=True):
        total += math.log(sum(math.exp(score) for score in row[:K])) - row[label]
        if label != background:
            for found, wanted in zip(row[K + 4 * label : K + 4 * label + 4], offsets, strict=True):
                difference = abs(found - wanted)
                total += weight * (difference**2 / (2 * beta) if difference < beta else difference - beta / 2)
    return total / N


@pytest.mark.parametrize(("weight", "beta", "background"), [(1.0, 1.0, None), (3.0, 0.2, 0), (0.0, 1.0, 2)])
def test_loss(weight, beta, background):
    output, target, labels = loss_inputs()
    loss = BoxLoss(weight, beta, background)
    assert loss.forward(output, target) == pytest.approx(expected_loss(output, target, weight, beta, background))
    gradient = loss.backward(output, target)
    step = 1e-6
    for index in np.ndindex(output.shape):
        moved = [output.copy(), output.copy()]
        for sign, array in zip((1, -1), moved, strict=True):
            array[index] += sign * step
        difference = (loss.forward(moved[0], target) - loss.forward(moved[1], target)) / (2 * step)
        assert gradient[index] == pytest.approx(difference, abs=1e-7)
    np.testing.assert_array_equal(loss.labels(target), labels)
    np.testing.assert_array_equal(loss.scores(output), output[:, :3])
    assert loss.classifies
    single = loss.backward(output.astype(np.float32), target)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, gradient, atol=1e-6)


def test_all_background():
    output, target, _ = loss_inputs()
    target["label"] = 1
    assert BoxLoss(background=1).forward(output, target) == pytest.approx(
        CrossEntropyLoss().forward(output[:, :3], target["label"])
    )


def test_detect_takes_the_box_of_the_likeliest_class():
    output, _, _ = loss_inputs()
    labels, found = boxes.detect(output, WHOLE)
    for row, label, box in zip(output, labels, found, strict=True):
        assert label == row[:3].argmax()
        np.testing.assert_array_equal(box, boxes.decode(row[3 + 4 * label : 7 + 4 * label], WHOLE))


def test_training_reports_the_loss_and_the_classes_accuracy():
    """The box of a point's class is a linear function of the point here, and so is the class."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (256, 2)).astype(np.float32)
    labels = (x[:, 0] > 0).astype(np.int64)
    centre = 32 + 16 * x
    truth = np.concatenate([centre - 8, centre + 8], axis=1)
    target = boxes.targets(labels, truth, WHOLE.astype(np.float32))
    network = Network([Linear(2, 10)], input_shape=(2,), seed=0)
    history = network.fit(
        x, target, epochs=60, batch_size=32, optimizer=Adam(0.02), loss=BoxLoss(), seed=0, progress=False,
        validation_data=(x, target),
    )  # fmt: skip
    assert history.epochs[-1]["loss"] < 0.5 * history.epochs[0]["loss"]
    found_labels, found = boxes.detect(network.predict(x), WHOLE.astype(np.float32))
    assert history.epochs[-1]["val_accuracy"] == np.mean(found_labels == labels) > 0.8
    assert boxes.iou(found, truth).mean() > 0.4


BOX, ROW = [0.0, 0.0, 1.0, 1.0], np.zeros((2, 10))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: boxes.encode([0, 0, 1, 1], BOX), TypeError, "encode: `boxes` must be float32 or float64, got int64"),
        (lambda: boxes.encode([0.0], BOX), ValueError, r"encode: `boxes` must have shape \(\.\.\., 4\), got \(1,\)"),
        (lambda: boxes.encode(BOX, 1.0), ValueError, r"encode: `proposals` must have shape \(\.\.\., 4\), got \(\)"),
        (
            lambda: boxes.encode(np.ones((2, 4)), np.ones((3, 4))),
            ValueError,
            r"encode: `boxes` and `proposals` must broadcast, got \(2, 4\) and \(3, 4\)",
        ),
        (lambda: boxes.encode(BOX, np.ones(4, np.float32)), TypeError, "encode: all arrays must have the same dtype"),
        (lambda: boxes.encode([0.0, 0, 0, 1], BOX), ValueError, "encode: `boxes` must be .* with left < right and top"),
        (
            lambda: boxes.encode(BOX, [0.0, 0, 1, np.nan]),
            ValueError,
            "encode: `proposals` must be finite numbers of at most",
        ),
        (lambda: boxes.decode(BOX, [0.0, 1, 1, 0]), ValueError, "decode: `proposals` must be .* left < right"),
        (lambda: boxes.iou([1.0, 0, 0, 1], BOX), ValueError, "iou: `boxes` must be .* with left <= right"),
        (lambda: boxes.iou(BOX, [0.0, 1, 1, 0]), ValueError, "iou: `others` must be .* with left <= right"),
        (lambda: boxes.nms(BOX, [1.0]), ValueError, "nms: `boxes` must have 2 dimensions"),
        (
            lambda: boxes.nms([BOX], [1.0, 2.0]),
            ValueError,
            r"nms: `scores` must have shape \(1,\) \(one",
        ),
        (lambda: boxes.nms([BOX], [np.nan]), ValueError, "nms: `scores` must not be NaN"),
        (lambda: boxes.nms([BOX], [1.0], 1.5), ValueError, "nms: `threshold` must be at least 0 and at most 1"),
        (lambda: boxes.nms([[1.0, 0, 0, 1]], [1.0]), ValueError, "nms: `boxes` must be .* with left <= right"),
        (lambda: boxes.targets([0.5], [BOX], BOX), TypeError, "targets: `labels` must be integers, got float64"),
        (lambda: boxes.targets([0, 1], [BOX], BOX), ValueError, r"targets: `boxes` must have shape \(2, 4\)"),
        (lambda: boxes.detect(ROW[:, :7], BOX), ValueError, "detect: `output` must have K scores and 4 K .* got 7 col"),
        (lambda: BoxLoss(weight=-1), ValueError, "BoxLoss: `weight` must be at least 0"),
        (lambda: BoxLoss(beta="a"), TypeError, "BoxLoss: `beta` must be a number"),
        (lambda: BoxLoss(background=-1), ValueError, "BoxLoss: `background` must be at least 0"),
        (lambda: BoxLoss().forward(ROW[:, :9], None), ValueError, "BoxLoss: `output` must have K scores and 4 K"),
    ],
)
def test_refuses(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_fit_refuses_targets_that_do_not_suit():
    x, loss = np.zeros((2, 3), np.float32), BoxLoss()
    target = boxes.targets([0, 5], np.array([BOX, BOX]), BOX)
    network = Network([Linear(3, 10)], input_shape=(3,), seed=0)
    with pytest.raises(TypeError, match=r"fit: `y` must come from `cyconv\.boxes\.targets` for the boxes' loss"):
        network.fit(x, [0, 1], loss=loss)
    with pytest.raises(ValueError, match="fit: `y` must be classes from 0 to 1, got 0 to 5"):
        network.fit(x, target, loss=loss)
    with pytest.raises(ValueError, match=r"the boxes' loss needs a network of K \+ 4 K outputs, not of shape \(7,\)"):
        Network([Linear(3, 7)], input_shape=(3,), seed=0).fit(x, target, loss=loss)


def test_the_loss_alone_says_what_it_needs():
    with pytest.raises(TypeError, match=r"BoxLoss: `y` must come from `cyconv\.boxes\.targets`"):
        boxes.BoxLoss().forward(np.zeros((1, 10)), [1])


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e200])
@pytest.mark.parametrize(
    ("function", "names"),
    [
        (boxes.encode, ("boxes", "proposals")),
        (boxes.iou, ("boxes", "others")),
        (boxes.decode, (None, "proposals")),
        (lambda first, _: boxes.nms(first[np.newaxis], np.zeros(1)), ("boxes", None)),
    ],
)
def test_boxes_are_finite(function, names, value):
    good, bad = np.array([0.0, 0.0, 4.0, 4.0]), np.array([0.0, 0.0, value, 4.0])
    for name, arguments in zip(names, [(bad, good), (good, bad)], strict=True):
        if name is not None:
            with pytest.raises(ValueError, match=rf": `{name}` must be finite numbers of at most 3\.4e\+153"):
                function(*arguments)


def test_offsets_that_are_not_finite_stay_so():
    found = boxes.decode([[0.0, 0.0, np.nan, 1e4], [np.inf, 0.0, 0.0, 0.0]], [0.0, 0.0, 4.0, 4.0])
    assert np.isfinite(found).sum(axis=1).tolist() == [0, 2]
