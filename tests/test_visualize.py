import io
import sys

import numpy as np
import pytest

from cyconv import visualize
from cyconv.training import History

matplotlib = pytest.importorskip("matplotlib")
EPOCHS = [
    {"loss": 2.0, "accuracy": 0.2, "val_loss": 2.1, "val_accuracy": 0.1, "seconds": 1.0},
    {"loss": 0.5, "accuracy": 0.8, "val_loss": 0.6, "val_accuracy": 0.75, "seconds": 1.0},
]


@pytest.fixture
def weights():
    return np.random.default_rng(0).standard_normal((5, 1, 3, 2))


def drawn(figure):
    """The figure's pixels, which also proves that it renders without a warning."""
    file = io.BytesIO()
    figure.savefig(file, format="rgba")
    return np.frombuffer(file.getvalue(), np.uint8)


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


def test_learning_curves_need_an_epoch():
    with pytest.raises(ValueError, match="learning_curves: `history` has no finished epoch"):
        visualize.learning_curves(History())


def test_grey_filters_keep_their_values_and_places(weights):
    figure = visualize.filters(weights, 10 * weights)
    before, after = (axes.images[0] for axes in figure.axes[:2])
    grid = np.ma.filled(before.get_array(), np.nan)
    assert grid.shape == (7, 8)  # 2 x 3 filters of 3 x 2, a pixel between neighbours
    np.testing.assert_array_equal(grid[:3, :2], weights[0, 0])
    np.testing.assert_array_equal(grid[4:, 3:5], weights[4, 0])
    assert np.isnan(grid[3]).all()
    assert np.isnan(grid[4:, 6:]).all()  # no sixth filter
    assert after.norm.vmax == -after.norm.vmin == 10 * np.abs(weights).max()
    drawn(figure)


def test_colour_filters_map_zero_to_grey(weights):
    colour = np.repeat(weights, 3, axis=1)
    figure = visualize.filters(0 * colour, colour)
    before, after = (axes.images[0].get_array() for axes in figure.axes)
    assert before.shape == (7, 8, 3)
    np.testing.assert_array_equal(before[:3, :2], 0.5)
    np.testing.assert_allclose(after[:3, :2, 1], (weights[0, 0] / np.abs(weights).max() + 1) / 2)
    drawn(figure)


@pytest.mark.parametrize(
    ("before", "after", "error", "message"),
    [
        ((2, 1, 3), (2, 1, 3), ValueError, r"filters: `weights_before` must have 4 dimensions"),
        (
            (2, 1, 3, 3),
            (3, 1, 3, 3),
            ValueError,
            r"filters: `weights_after` must have shape \(2, 1, 3, 3\) as `weights_b",
        ),
        (
            (2, 2, 3, 3),
            (2, 2, 3, 3),
            ValueError,
            r"must have 1 or 3 input channels and no extent 0, got \(2, 2, 3, 3\)",
        ),
        (
            (0, 1, 3, 3),
            (0, 1, 3, 3),
            ValueError,
            r"must have 1 or 3 input channels and no extent 0, got \(0, 1, 3, 3\)",
        ),
    ],
)
def test_filters_refuse(before, after, error, message):
    with pytest.raises(error, match=message):
        visualize.filters(np.zeros(before), np.zeros(after))


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
        ([[1, 0]], ["a", "b"], r"confusion_matrix: `matrix` must have shape \(2, 2\) for 2 class names, got \(1, 2\)"),
        ([[1, -1], [0, 1]], ["a", "b"], "confusion_matrix: `matrix` must hold non-negative integers"),
        ([[0.5]], ["a"], "confusion_matrix: `matrix` must hold non-negative integers"),
        (np.zeros((0, 0), int), [], "confusion_matrix: `matrix` must hold non-negative integers, at least one"),
    ],
)
def test_confusion_matrix_refuses(matrix, names, message):
    with pytest.raises(ValueError, match=message):
        visualize.confusion_matrix(matrix, names)


def test_figures_open_no_window(weights):
    before = "matplotlib.pyplot" in sys.modules
    visualize.filters(weights, weights)
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_missing_matplotlib_is_named_with_its_cure(monkeypatch, weights):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'needs matplotlib: pip install "cyconv\[plot\]"'):
        visualize.filters(weights, weights)
