"""The examples, on as little as shows that they run."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_search_prints_a_table_for_each_search(capsys):
    pytest.importorskip("sklearn")
    main = runpy.run_path(str(EXAMPLES / "search_lenet.py"))["main"]
    main(["--epochs", "1", "--images", "120", "--draws", "2", "--folds", "2"])
    grid, draws, best = capsys.readouterr().out.split("\n\n")
    for text, title, rows in ((grid, "Grid search", 6), (draws, "Random search", 2)):
        heading, columns, *results = text.splitlines()
        assert heading == title
        assert columns.split() == ["rank", "accuracy", "+-", "seconds", "settings"]
        assert len(results) == rows
        scores = [float(row.split()[1]) for row in results]
        assert scores == sorted(scores, reverse=True)
        assert all("learning_rate" in row for row in results)
    assert best.startswith("Best: {")
    assert best.splitlines()[1].endswith(" on 355 images")
