"""What holds for every figure."""

import sys

import numpy as np
import pytest

from cyconv import visualize
from cyconv.training import History

FIGURES = {
    "confusion_matrix": lambda: visualize.confusion_matrix([[1]], ["a"]),
    "feature_maps": lambda: visualize.feature_maps(np.ones((2, 3, 3))),
    "filters": lambda: visualize.filters(np.ones((2, 1, 3, 3)), np.ones((2, 1, 3, 3))),
    "learning_curves": lambda: visualize.learning_curves(History([{"loss": 1.0}])),
    "maximizing_images": lambda: visualize.maximizing_images(np.ones((2, 1, 3, 3))),
    "saliency": lambda: visualize.saliency(np.ones((2, 1, 3, 3)), np.ones((2, 3, 3))),
    "segmentation": lambda: visualize.segmentation(np.ones((3, 3)), np.ones((3, 3), int), np.ones((3, 3), int)),
}


def test_every_figure_is_tested():
    assert {*FIGURES} == {*visualize.__all__}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_open_no_window(name):
    matplotlib = pytest.importorskip("matplotlib.figure")
    before = "matplotlib.pyplot" in sys.modules
    assert type(FIGURES[name]()) is matplotlib.Figure
    assert ("matplotlib.pyplot" in sys.modules) == before


@pytest.mark.parametrize("name", FIGURES)
def test_missing_matplotlib_is_named_with_its_cure(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'needs matplotlib: pip install "cyconv\[plot\]"'):
        FIGURES[name]()
