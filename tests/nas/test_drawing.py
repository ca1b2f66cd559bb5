import io
import sys

import numpy as np
import pytest

from cyconv import nas
from cyconv.nas import MacroSpace, MicroArchitecture, MicroSpace, draw

pytest.importorskip("matplotlib")
POOL, CONV = "max_pool_3x3", "separable_conv_3x3"


def drawn(figure):
    """The figure's pixels, which also proves that it renders without a warning."""
    file = io.BytesIO()
    figure.savefig(file, format="rgba")
    return np.frombuffer(file.getvalue(), np.uint8)


def texts(axes):
    return [text.get_text() for text in axes.texts if text.get_text()]


def arrows(axes):
    """Ends of all arrows: (from, to)."""
    return [(note.xyann, note.xy) for note in axes.texts if getattr(note, "arrow_patch", None) is not None]


def test_cells_show_every_operation_and_loose_end():
    normal = [((0, 1), ("identity", POOL)), ((2, 2), (CONV, "avg_pool_3x3"))]
    figure = draw(MicroArchitecture(normal, [((1, 1), (CONV, "separable_conv_5x5"))]))
    first, second = figure.axes
    assert texts(first) == [
        "identity", "max 3x3", "sep 3x3", "avg 3x3", "cell before\nthe last", "last cell", "node 2", "node 3", "output"
    ]  # fmt: skip
    assert len(arrows(first)) == 4 + 1
    assert texts(second)[:2] == ["sep 3x3", "sep 5x5"]
    assert len(arrows(second)) == 2 + 2  # the input that is not read is a loose end too
    assert len(np.unique(drawn(figure))) > 2


@pytest.mark.parametrize("seed", range(5))
def test_boxes_keep_apart_and_arrows_lead_to_the_right(seed):
    for axes in draw(MicroSpace(nodes=5).sample(seed)).axes:
        boxes = [text.get_position() for text in axes.texts if text.get_bbox_patch() and text.get_zorder() == 3]
        assert len(boxes) == 8
        distances = [np.hypot(a[0] - b[0], a[1] - b[1]) for i, a in enumerate(boxes) for b in boxes[:i]]
        assert min(distances) > 0.9
        assert all(start[0] < end[0] for start, end in arrows(axes))


def test_layers_show_operations_and_skips():
    architecture = MacroSpace(layers=4).sample(0)
    figure = draw(architecture)
    (axes,) = figure.axes
    labels = texts(axes)
    assert labels[0] == "stem"
    assert labels[-1] == "output"
    assert [label.split("\n")[0] for label in labels[1:-1]] == [f"layer {number}" for number in range(1, 5)]
    assert len(arrows(axes)) == 5 + sum(len(layer.skips) for layer in architecture.layers)
    drawn(figure)


def test_draw_refuses():
    with pytest.raises(TypeError, match="draw: `architecture` must be a micro or macro architecture, got 'cell'"):
        draw("cell")


def test_missing_matplotlib_is_named_with_its_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'needs matplotlib: pip install "cyconv\[plot\]"'):
        nas.draw(MicroSpace(1).sample(0))
