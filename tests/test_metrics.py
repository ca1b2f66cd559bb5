import numpy as np
import pytest

from cyconv import metrics
from cyconv.metrics import accuracy, confusion_matrix, top_k_accuracy

SCORES = np.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])


def test_accuracy_of_scores_and_of_classes():
    assert accuracy(SCORES, [1, 0, 2, 2]) == 0.75
    assert accuracy(SCORES.argmax(axis=1), [1, 0, 2, 2]) == 0.75


def test_accuracy_of_pixels():
    scores = np.stack([np.zeros((2, 3, 3)), np.ones((2, 3, 3))], axis=1)
    target = np.ones((2, 3, 3), int)
    target[0, 0, 0] = 0
    assert accuracy(scores, target) == pytest.approx(17 / 18)


def test_accuracy_without_an_ignored_class():
    assert accuracy(SCORES, [1, 9, 2, 2], ignore_index=9) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="accuracy: `target` is empty without 9"):
        accuracy(SCORES, [9, 9, 9, 9], ignore_index=9)


def test_confusion_matrix_has_the_true_class_in_rows():
    expected = [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    np.testing.assert_array_equal(confusion_matrix(SCORES, [1, 0, 2, 2]), expected)
    assert confusion_matrix([0, 1], [0, 1], num_classes=4).shape == (4, 4)
    assert confusion_matrix(SCORES[:2], [1, 0]).shape == (3, 3)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"accuracy: `output` must have a row of scores or one class for each"):
        accuracy(SCORES, [1, 0])
    with pytest.raises(TypeError, match="accuracy: `target` must be integers, got float64"):
        accuracy(SCORES, [1.0, 0, 2, 2])
    with pytest.raises(TypeError, match="accuracy: `output` must be integers"):
        accuracy([0.5, 0.5], [0, 1])
    with pytest.raises(ValueError, match="accuracy: `target` is empty"):
        accuracy(np.zeros((0, 3)), np.zeros(0, int))
    with pytest.raises(
        ValueError, match="confusion_matrix: `output` and `target` must be classes from 0 to 1, got 0 to 2"
    ):
        confusion_matrix([0, 2], [0, 1], num_classes=2)
    with pytest.raises(
        ValueError, match="confusion_matrix: `output` and `target` may have at most 32768 classes, got 461168601842738"
    ):
        confusion_matrix([2**62], [0])


RNG = np.random.default_rng(0)
TARGET = RNG.integers(4, size=60)
ANSWERS = np.where(RNG.uniform(size=60) < 0.6, TARGET, RNG.integers(3, size=60))
SKLEARN = {
    "precision": "precision_score",
    "recall": "recall_score",
    "f1": "f1_score",
    "dice": "f1_score",
    "iou": "jaccard_score",
    "accuracy": "accuracy_score",
    "confusion_matrix": "confusion_matrix",
    "top_k_accuracy": "top_k_accuracy_score",
}
SHARES = ["precision", "recall", "f1", "dice", "iou"]


def test_every_metric_has_its_row():
    assert {*SKLEARN} == {*metrics.__all__}


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("average", ["macro", "micro", "weighted", None])
@pytest.mark.parametrize("classes", [4, 6])
def test_shares_are_scikit_learns(name, average, classes):
    sklearn = pytest.importorskip("sklearn.metrics")
    theirs = getattr(sklearn, SKLEARN[name])
    ours = getattr(metrics, name)(ANSWERS, TARGET, average=average, num_classes=classes)
    expected = theirs(TARGET, ANSWERS, average=average, labels=range(classes), zero_division=0)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_is_scikit_learns(k):
    sklearn = pytest.importorskip("sklearn.metrics")
    scores = RNG.standard_normal((60, 6))
    assert top_k_accuracy(scores, TARGET, k) == sklearn.top_k_accuracy_score(TARGET, scores, k=k, labels=range(6))
    assert (
        confusion_matrix(scores, TARGET).tolist()
        == sklearn.confusion_matrix(TARGET, scores.argmax(1), labels=range(6)).tolist()
    )
    assert accuracy(scores, TARGET) == top_k_accuracy(scores, TARGET, 1)


def by_hand(name, answers, target, c):
    """Return a class's share, by going through the pixels one by one."""
    pairs = list(zip(answers.ravel().tolist(), target.ravel().tolist(), strict=True))
    both = sum(a == c and t == c for a, t in pairs)
    either = sum(a == c or t == c for a, t in pairs)
    answered, actual = sum(a == c for a, _ in pairs), sum(t == c for _, t in pairs)
    below = {"precision": answered, "recall": actual, "iou": either}.get(name, (answered + actual) / 2)
    return both / below if below else np.nan


@pytest.mark.parametrize("name", SHARES)
def test_shares_of_pixels_by_hand(name):
    scores, target = RNG.standard_normal((2, 4, 5, 6)), RNG.integers(3, size=(2, 5, 6))
    target[0, :2] = 255
    counted, answers = target != 255, scores.argmax(1)
    expected = [by_hand(name, answers[counted], target[counted], c) for c in range(4)]
    share = getattr(metrics, name)
    options = {"ignore_index": 255, "zero_division": np.nan}
    np.testing.assert_allclose(share(scores, target, average=None, **options), expected, rtol=1e-12)
    assert share(scores, target, **options) == pytest.approx(np.nanmean(expected))


def test_ties_and_ignored_classes_of_top_k():
    scores = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    assert [top_k_accuracy(scores, [1, 2], k) for k in (1, 2)] == [0, 1]
    assert top_k_accuracy(scores, [0, -1], 1, ignore_index=-1) == 1
    image = np.moveaxis(np.tile(scores[:1], (4, 1)).reshape(1, 2, 2, 3), -1, 1)
    assert top_k_accuracy(image, [[[0, 0], [0, 2]]], 1) == 0.75


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: top_k_accuracy(np.ones((2, 3)), [0, 3]),
            "top_k_accuracy: `target` must be classes from 0 to 2, got 0 to 3",
        ),
        (lambda: top_k_accuracy(np.ones((2, 3)), [0]), "top_k_accuracy: `output` must have a row of scores for each"),
        (lambda: top_k_accuracy(np.ones((2, 3)), [0, 1], 0), "top_k_accuracy: `k` must be at least 1, got 0"),
        (lambda: top_k_accuracy(np.ones((0, 3)), np.zeros(0, int)), "top_k_accuracy: `target` is empty"),
        (lambda: metrics.iou([0], [0], average="mean"), "iou: `average` must be one of 'macro', 'micro', 'weighted'"),
        (lambda: metrics.iou([0], [0], zero_division="warn"), "iou: `zero_division` must be a number, got 'warn'"),
        (lambda: confusion_matrix([0], [5], ignore_index=5), "confusion_matrix: `target` is empty without 5"),
    ],
)
def test_bad_arguments_of_shares_are_named(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
