import json
import os
import subprocess
import sys

import numpy as np
import pytest

import cyconv
from cyconv import cli
from cyconv.data import digits
from cyconv.serialization import load_arrays, save_arrays
from tests import processes
from tests.data.test_datasets import idx

FIGURES = ["learning-curves.png", "filters.png", "confusion-matrix.png"]
FILES = ["checkpoint.safetensors", "history.json", "weights.safetensors"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a short training run."""
    out = tmp_path_factory.mktemp("run")
    assert cli.main(["train", "--epochs", "2", "--seed", "3", "--out", str(out)]) == 0
    return out


def picture(folder, index=0, invert=False):
    """A picture file of one of the test images, and its class."""
    image_module = pytest.importorskip("PIL.Image")
    data = digits(size=40)
    levels = np.pad(data.test_x[index, 0], 8)
    path = folder / f"digit-{index}.png"
    image_module.fromarray(255 - levels if invert else levels).convert("RGB").save(path)
    return path, int(data.test_y[index])


def error_of(capsys, *arguments):
    """What a command that must fail prints: one line, on stderr."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("cyconv: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_info_says_what_runs_here(capsys):
    assert cli.main(["info"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].split() == ["version", cyconv.__version__]
    assert [row.split("  ")[0] for row in rows] == ["version", "instruction sets", "OpenMP", "threads", "memory"]
    assert f"{cyconv.get_num_threads()} (" in rows[3]


def test_train_writes_weights_history_and_figures(trained, capsys):
    pytest.importorskip("matplotlib")
    assert {path.name for path in trained.iterdir()} == {*FIGURES, *FILES}
    assert all((trained / name).read_bytes().startswith(b"\x89PNG") for name in FIGURES)
    history = json.loads((trained / "history.json").read_text())
    assert list(history["epochs"][0]) == ["loss", "accuracy", "test_loss", "test_accuracy", "seconds"]
    _, metadata = load_arrays(trained / "weights.safetensors")
    assert metadata == {
        "model": "lenet5",
        "input_size": "28",
        "channels": "1",
        "classes": json.dumps(list("0123456789")),
        "options": "{}",
        "data": "digits",
        "preparation": '{"fit": "crop", "background": [255, 255, 255], "invert": false, "scale": "1/255"}',
    }


def test_evaluate_reports_what_train_reported(tmp_path, capsys):
    arguments = ["--model", "simple_convnet", "--optimizer", "momentum", "--learning-rate", "0.03", "--epochs", "1"]
    assert cli.main(["train", *arguments, "--batch-size", "64", "--threads", "1", "--out", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "test_accuracy=" in captured.err  # of the progress bar; nothing was chosen by it, so it is no validation
    assert "val" not in captured.err
    report = captured.out.splitlines()[-2]
    assert report.startswith("test accuracy 0.")
    assert report.endswith(" of 355)")
    assert cli.main(["evaluate", "--weights", str(tmp_path / "weights.safetensors")]) == 0
    assert capsys.readouterr().out.splitlines() == [report]


@pytest.fixture(autouse=True)
def keep_thread_count():
    with cyconv.num_threads(cyconv.get_num_threads()):
        yield


@pytest.mark.parametrize("optimizer", cli.OPTIMIZERS)
def test_every_optimizer_learns(optimizer, tmp_path, capsys):
    assert cli.main(["train", "--optimizer", optimizer, "--epochs", "2", "--out", str(tmp_path)]) == 0
    accuracy = float(capsys.readouterr().out.splitlines()[-2].split()[2])
    assert accuracy > 0.8


def test_predict_names_class_and_probability(trained, tmp_path, capsys):
    pictures = [picture(tmp_path, index) for index in range(20)]
    weights = str(trained / "weights.safetensors")
    assert cli.main(["predict", "--weights", weights, *(str(path) for path, _ in pictures)]) == 0
    rows = capsys.readouterr().out.splitlines()
    answers = [int(row.split(": ")[1][0]) for row in rows]
    assert [row.split(": ")[0] for row in rows] == [str(path) for path, _ in pictures]
    assert all(row.endswith("%)") for row in rows)
    assert np.mean([answer == label for answer, (_, label) in zip(answers, pictures, strict=True)]) >= 0.85


def test_predict_inverts_dark_on_light(trained, tmp_path, capsys):
    light, dark = (tmp_path / name for name in ("light", "dark"))
    light.mkdir()
    dark.mkdir()
    weights = str(trained / "weights.safetensors")
    assert cli.main(["predict", "--weights", weights, str(picture(light)[0])]) == 0
    assert cli.main(["predict", "--weights", weights, "--invert", str(picture(dark, invert=True)[0])]) == 0
    plain, inverted = (row.split(": ")[1] for row in capsys.readouterr().out.splitlines())
    assert plain[0] == inverted[0]
    # Pillow rounds while it resizes, and does so the other way round in the inverted image.
    assert float(plain[3:-2]) == pytest.approx(float(inverted[3:-2]), abs=2)


def test_mnist_from_its_folder(tmp_path, capsys):
    data = digits(size=28)
    for part, x, y in (("train", data.train_x, data.train_y), ("t10k", data.test_x, data.test_y)):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(x[:, 0]))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(y.astype(np.uint8)))
    arguments = ["--data", "mnist", "--root", str(tmp_path)]
    assert cli.main(["train", *arguments, "--epochs", "1", "--out", str(tmp_path)]) == 0
    assert cli.main(["evaluate", *arguments, "--weights", str(tmp_path / "weights.safetensors")]) == 0
    assert "of 355)" in capsys.readouterr().out


def test_results_go_to_runs_unless_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "--epochs", "1"]) == 0
    assert (tmp_path / "runs" / "lenet5-digits" / "weights.safetensors").is_file()


def test_train_goes_on_without_matplotlib(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert cli.main(["train", "--epochs", "1", "--out", str(tmp_path)]) == 0
    assert 'no figures: cyconv.visualize needs matplotlib: pip install "cyconv[plot]"' in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)


def test_errors_in_data_and_numbers_are_one_line(tmp_path, capsys):
    assert "--data mnist needs --root" in error_of(capsys, "train", "--data", "mnist")
    assert "has neither train-images" in error_of(capsys, "train", "--data", "mnist", "--root", tmp_path)
    assert "must be at least 1, got 0" in error_of(capsys, "train", "--epochs", "0", "--out", tmp_path)
    assert "must be at least 1, got -4" in error_of(capsys, "train", "--batch-size", "-4", "--out", tmp_path)
    assert "learning_rate" in error_of(capsys, "train", "--learning-rate", "nan", "--out", tmp_path)
    assert "`count` must be 1 to 1024, got 0" in error_of(capsys, "train", "--threads", "0")
    assert "got -1" in error_of(capsys, "train", "--seed", "-1", "--out", tmp_path)


def test_errors_in_files_are_one_line(trained, tmp_path, capsys):
    weights, text = trained / "weights.safetensors", tmp_path / "text.png"
    text.write_text("no picture")
    assert "No such file" in error_of(capsys, "evaluate", "--weights", tmp_path / "none")
    assert "safetensors" in error_of(capsys, "evaluate", "--weights", text)
    assert "No such file" in error_of(capsys, "predict", "--weights", weights, tmp_path / "none.png")
    assert "cannot identify image file" in error_of(capsys, "predict", "--weights", weights, text)
    assert "text.png" in error_of(capsys, "train", "--out", text)


def test_weights_of_another_program_or_shape(tmp_path, capsys):
    path = tmp_path / "weights.safetensors"
    save_arrays(path, {"weight": np.zeros(3)})
    assert "does not name its model, as files of `cyconv train` do" in error_of(capsys, "evaluate", "--weights", path)
    save_arrays(path, {"weight": np.zeros(3)}, {"model": "lenet5"})
    assert "does not fit" in error_of(capsys, "evaluate", "--weights", path)


def test_predict_refuses_a_decompression_bomb(trained, tmp_path, monkeypatch, capsys):
    path, _ = picture(tmp_path)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)
    assert "decompression bomb" in error_of(capsys, "predict", "--weights", trained / "weights.safetensors", path)


def test_predict_names_the_extra_it_needs(trained, tmp_path, monkeypatch, capsys):
    path, _ = picture(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    message = error_of(capsys, "predict", "--weights", trained / "weights.safetensors", path)
    assert 'needs Pillow: pip install "cyconv[image]"' in message


def test_interrupted(monkeypatch, tmp_path, capsys):
    def interrupt(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr("cyconv.network.Network.fit", interrupt)
    assert cli.main(["train", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "cyconv: interrupted before an epoch was finished; nothing is written\n"
    monkeypatch.setattr("cyconv.cli.training._confusions", interrupt)
    monkeypatch.setattr(
        "cyconv.cli.recipes.load", lambda path: (None, cli.training.recipes.Recipe("lenet5", (1, 28, 28)))
    )
    assert cli.main(["evaluate", "--weights", "any"]) == 130
    assert capsys.readouterr().err == "cyconv: interrupted\n"


@pytest.mark.parametrize("arguments", [[], ["fly"], ["train", "--model", "alexnett"], ["train", "--epochs", "many"]])
def test_usage_errors(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert "usage: cyconv" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["models"], ["--help"], ["info"], ["summary", "vgg16"], ["train", "--epochs", "1"]]
)
def test_a_reader_that_has_gone_ends_it_quietly(arguments, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "cyconv", *arguments]
        environment = processes.environment(PYTHONUNBUFFERED="1" if arguments[0] == "summary" else "")
        ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)
    finally:
        os.close(writer)
    assert ended.returncode == 141
    assert [line for line in ended.stderr.splitlines() if "epoch" not in line] == []


def test_as_a_module():
    command = [sys.executable, "-m", "cyconv"]
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout == f"cyconv {cyconv.__version__}\n"
    failed = subprocess.run([*command, "train", "--data", "mnist"], capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.startswith("cyconv: error: ")


def test_the_defaults_reach_98_percent(tmp_path, capsys):
    assert cli.main(["train", "--out", str(tmp_path)]) == 0
    assert float(capsys.readouterr().out.splitlines()[-2].split()[2]) >= 0.98


def test_weights_of_another_kind_are_named_without_a_traceback(trained, tmp_path, capsys):
    arrays, metadata = load_arrays(trained / "weights.safetensors")
    save_arrays(tmp_path / "w", {name: array.astype(int) for name, array in arrays.items()}, metadata)
    assert cli.main(["evaluate", "--weights", str(tmp_path / "w")]) == 2
    assert "must be of the kind of float32, got int64" in capsys.readouterr().err
