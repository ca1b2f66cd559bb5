import numpy as np
import pytest

from cyconv.metrics import accuracy, confusion_matrix

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
    with pytest.raises(ValueError, match="confusion_matrix: classes must be 0 to 1, got 0 to 2"):
        confusion_matrix([0, 2], [0, 1], num_classes=2)
    with pytest.raises(ValueError, match="confusion_matrix: there may be at most 32768 classes, got 461168601842738"):
        confusion_matrix([2**62], [0])
