"""The examples, on as little as shows that they run."""

import runpy
from pathlib import Path

import numpy as np
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


def test_boxes_are_found_and_drawn(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    main = runpy.run_path(str(EXAMPLES / "boxes.py"))["main"]
    overlap = main(["--out", str(tmp_path), "--epochs", "1", "--canvases", "32", "--held-out", "24", "--width", "2"])
    assert 0 < overlap < 1
    assert f"held-out canvases: mean IoU {overlap:.3f}" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"boxes.png", "weights.safetensors"}


def test_canvases_have_their_digits_in_the_boxes():
    example = runpy.run_path(str(EXAMPLES / "boxes.py"))
    white, labels = np.full((3, 1, 8, 8), 255, np.uint8), np.array([4, 5, 6])
    x, chosen, boxes = example["canvases"](white, labels, 20, np.random.default_rng(0))
    assert x.shape == (20, 1, 64, 64)
    assert set(chosen) <= set(labels)
    for canvas, (left, top, right, bottom) in zip(x[:, 0], boxes.astype(int), strict=True):
        assert 16 <= right - left == bottom - top <= 42
        assert canvas[top:bottom, left:right].min() >= 254  # but for rounding
        assert (canvas >= 254).sum() > (right - left) ** 2  # and scraps beside it


def test_digits_are_reconstructed_and_drawn(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    main = runpy.run_path(str(EXAMPLES / "reconstruct.py"))["main"]
    lost = main(["--out", str(tmp_path), "--epochs", "2", "--widths", "4", "8", "--hidden", "8"])
    assert 0 < lost < 1
    assert f"{lost:.1%} of the variance is lost" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"reconstruct.png", "weights.safetensors"}


@pytest.mark.parametrize("network", ["unet", "unet-same", "fcn8s"])
def test_membranes_are_found_and_drawn(network, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    cells = np.add.outer(np.arange(210) // 30, np.arange(230) // 30) % 2 == 0
    for folder, pixels in (("image", 100 + 100 * cells), ("label", 255 * cells)):
        (tmp_path / folder).mkdir()
        for number in range(6):
            image.fromarray(pixels.astype(np.uint8)).save(tmp_path / folder / f"{number}.png")
    main, out = runpy.run_path(str(EXAMPLES / "membranes.py"))["main"], tmp_path / "out"
    arguments = ["--root", str(tmp_path), "--out", str(out), "--network", network, "--epochs", "1", "--width", "2"]
    accuracy, overlap = main([*arguments, "--pieces", "1"])
    assert 0 <= overlap <= accuracy <= 1
    assert f"held-out images: {accuracy:.2%} of the pixels right" in capsys.readouterr().out
    pictures = {f"held-out-{number}.png" for number in range(5)}
    assert {path.name for path in out.iterdir()} == {"curves.png", "weights.safetensors", *pictures}
    (tmp_path / "image" / "5.png").unlink()
    with pytest.raises(SystemExit, match="has 5 images; more than 5 are needed"):
        main(arguments)


def test_short_runs_show_losses(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        records = rng.integers(0, 256, (10, 3073), np.uint8)
        records[:, 0] %= 10
        (tmp_path / name).write_bytes(records.tobytes())
    main = runpy.run_path(str(EXAMPLES / "short_runs.py"))["main"]
    losses = main(["shufflenet_v2", "alexnet", "--root", str(tmp_path), "--steps", "2", "--batch-size", "3"])
    assert [len(each) for each in losses.values()] == [2, 2]
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == list(losses)
    with pytest.raises(SystemExit):
        main(["lenet", "--root", str(tmp_path)])
