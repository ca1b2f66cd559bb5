import numpy as np
import pytest

from cyconv import visualize
from cyconv.training import History
from tests.visualize.drawing import drawn

matplotlib = pytest.importorskip("matplotlib")
EPOCHS = [
    {"loss": 2.0, "accuracy": 0.2, "val_loss": 2.1, "val_accuracy": 0.1, "seconds": 1.0},
    {"loss": 0.5, "accuracy": 0.8, "val_loss": 0.6, "val_accuracy": 0.75, "seconds": 1.0},
]


def test_learning_curves_draw_what_was_recorded():
    figure = visualize.learning_curves(History(EPOCHS))
    loss, accuracy = figure.axes
    assert [line.get_ydata().tolist() for line in loss.lines] == [[2.0, 0.5], [2.1, 0.6]]
    assert [line.get_ydata().tolist() for line in accuracy.lines] == [[0.2, 0.8], [0.1, 0.75]]
    assert [line.get_xdata().tolist() for line in loss.lines] == [[1, 2]] * 2
    assert [text.get_text() for text in loss.get_legend().get_texts()] == [
        "training, last 0.5000",
        "validation, last 0.6000",
    ]
    assert len(np.unique(drawn(figure))) > 2


def test_learning_curves_of_test_data_are_called_so():
    figure = visualize.learning_curves(History([{"loss": 1.0, "test_loss": 2.0}]))
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["training, last 1.0000", "test, last 2.0000"]


def test_learning_curves_leave_out_what_was_not_recorded():
    figure = visualize.learning_curves(History([{"loss": 1.0}]))
    (loss,) = figure.axes
    assert len(loss.lines) == 1
    drawn(figure)


def test_learning_curves_of_whatever_callbacks_recorded():
    epochs = [{"loss": 1.0, "top_5": 0.5, "val_top_5": 0.4, "learning_rate": 0.1, "seconds": 2.0}, {"loss": 0.5}]
    figure = visualize.learning_curves(History(epochs))
    assert [axes.get_title() for axes in figure.axes] == ["Loss", "Learning rate", "Top 5"]
    assert [len(axes.lines) for axes in figure.axes] == [1, 1, 2]
    drawn(figure)


def test_learning_curves_need_an_epoch():
    with pytest.raises(ValueError, match="learning_curves: `history` has no finished epoch"):
        visualize.learning_curves(History())


def test_confusion_matrix_colours_shares_and_writes_counts():
    figure = visualize.confusion_matrix([[3, 1, 0], [0, 4, 0], [0, 0, 0]], ["a", "b", "c"])
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0.75, 0.25, 0], [0, 1, 0], [0, 0, 0]])
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {
        ((0, 0), "3"),
        ((1, 0), "1"),
        ((1, 1), "4"),
    }
    assert axes.get_title() == "Confusion matrix: 7 of 8 right (87.50%)"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    drawn(figure)


def test_confusion_matrix_of_many_classes_has_no_numbers():
    figure = visualize.confusion_matrix(np.eye(40, dtype=int), [f"class {index}" for index in range(40)])
    assert not figure.axes[0].texts
    drawn(figure)


@pytest.mark.parametrize(
    ("matrix", "names", "message"),
    [
        (
            [[1, 0]],
            ["a", "b"],
            r"confusion_matrix: `matrix` must have shape \(2, 2\), a row for each of the 2 `class_names`, got \(1, 2\)",
        ),
        ([[1, -1], [0, 1]], ["a", "b"], "confusion_matrix: `matrix` must hold non-negative integers"),
        ([[0.5]], ["a"], "confusion_matrix: `matrix` must hold non-negative integers"),
        (np.zeros((0, 0), int), [], "confusion_matrix: `matrix` must hold non-negative integers, at least one"),
    ],
)
def test_confusion_matrix_refuses(matrix, names, message):
    with pytest.raises(ValueError, match=message):
        visualize.confusion_matrix(matrix, names)
