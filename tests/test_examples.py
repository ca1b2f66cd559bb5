"""The examples, on as little as shows that they run."""

import runpy
from pathlib import Path

import pytest

from cyconv.nas import SearchResult

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


def test_architecture_search_compares_with_random_ones(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    main = runpy.run_path(str(EXAMPLES / "nas.py"))["main"]
    main(["--space", "macro", "--epochs", "1", "--training-epochs", "1", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    header = next(line for line in printed.splitlines() if line.startswith("epoch"))
    assert header.split() == ["epoch", "loss", "accuracy", "reward", "baseline", "entropy"]
    best = SearchResult.load(tmp_path / "search.json").best
    assert str(best) in printed
    accuracies = [float(line.split()[-3]) for line in printed.splitlines() if line.endswith(" parameters")]
    assert len(accuracies) == 6
    assert f"found {accuracies[0]:.4f}, mean of 5 random ones " in printed
    assert (tmp_path / "best.png").stat().st_size > 10_000
