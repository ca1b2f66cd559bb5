"""Training, evaluating and predicting with every kind of network and data."""

import json
import shlex
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

from cyconv import cli
from cyconv.cli.training import NamesOfTest
from cyconv.models.registry import facts, networks
from cyconv.network import Network
from cyconv.serialization import load_arrays
from tests import processes
from tests.cli.test_images import folder  # noqa: F401  (a fixture)

# Arguments that make each network narrow enough for a test; others are small as they are.
WIDTH, MULTIPLIER = ["--option", "width=8"], ["--option", "width_multiplier=0.25"]
STEM = ["--option", "stem_stride=1"]
NARROW = {
    "alexnet": (67, [*MULTIPLIER, "--option", "hidden=32"]),
    "densenet": (32, ["--option", "growth=4"]),
    "densenet121": (32, ["--option", "growth=4"]),
    "googlenet": (32, MULTIPLIER),
    "lenet5": (28, []),
    "mobilenet_v1": (32, [*MULTIPLIER, *STEM]),
    "resnet_v2_cifar": (16, [*WIDTH, "--option", "depth=11"]),
    "shufflenet_v1": (32, ["--option", "width=48", "--option", "groups=2", *STEM]),
    "shufflenet_v2": (32, ["--option", "widths=(8, 16, 32, 64)", *STEM]),
    "simple_convnet": (16, []),
    "xception": (40, ["--option", "width_multiplier=0.06", "--option", "middle=1"]),
}
DENSE = ["--option", "hidden=32"]


def narrow(name):
    size, options = NARROW.get(name, (32, [*WIDTH, *(DENSE if name.startswith("vgg") else [])]))
    return ["--model", name, "--input-size", str(size), *options]


def run(capsys, *arguments):
    assert cli.main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("name", [name for name in networks() if facts(name).classifies])
def test_every_classifier_trains_and_is_found_again(name, folder, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr(cli.training, "_draw", lambda *arguments: None)  # takes longer than the rest; tested elsewhere
    data, out = ["--data", "folder", "--root", folder], tmp_path / "out"
    *_, trained, _ = run(capsys, "train", *narrow(name), *data, "--epochs", 1, "--batch-size", 8, "--out", out)
    assert trained.endswith(" of 4)")
    weights = ["--weights", out / "weights.safetensors"]
    assert run(capsys, "evaluate", *weights, "--root", folder) == [trained]
    (predicted,) = run(capsys, "predict", *weights, folder / "dark" / "0.png")
    assert predicted.split(": ")[1].split()[0] in ("bright", "dark")


def test_grey_digits_train_a_network_for_colours_at_another_size(tmp_path, capsys):
    arguments = ["--model", "resnet20", "--input-size", 20, "--option", "width=4", "--epochs", 2, "--seed", 1]
    augmented = ["--augment", "shift", "rotate", "--schedule", "cosine", "--weight-decay", "1e-4", "--batch-size", 64]
    *_, trained, _ = run(capsys, "train", *arguments, *augmented, "--optimizer", "momentum", "--out", tmp_path)
    history = json.loads((tmp_path / "history.json").read_text())["epochs"]
    assert history[1]["loss"] < history[0]["loss"]
    assert run(capsys, "evaluate", "--weights", tmp_path / "weights.safetensors") == [trained]


def test_a_folder_of_pictures_is_learned(folder, tmp_path, capsys):  # noqa: F811
    out = tmp_path / "out"
    arguments = ["--channels", 3, "--epochs", 20, "--data", "folder", "--root", folder, "--batch-size", 4]
    lines = run(capsys, "train", *arguments, "--out", out)
    assert lines[-2] == "test accuracy 1.0000 (4 of 4)"
    pictures = [folder / name / "3.png" for name in ("bright", "dark")]
    answers = run(capsys, "predict", "--weights", out / "weights.safetensors", *pictures)
    assert [answer.split(": ")[1].split()[0] for answer in answers] == ["bright", "dark"]


def cifar(root):
    """Write a few images in CIFAR-10's binary form."""
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]:
        records = rng.integers(0, 256, (20, 3073), np.uint8)
        records[:, 0] = np.arange(20) % 10
        (root / name).write_bytes(records.tobytes())


def test_colours_train_a_network_for_grey_images(tmp_path, capsys):
    cifar(tmp_path)
    data = ["--data", "cifar10", "--root", tmp_path]
    *_, trained, _ = run(capsys, "train", *data, "--epochs", 1, "--augment", "flip", "crop", "--out", tmp_path)
    assert trained.endswith(" of 20)")
    weights = ["--weights", tmp_path / "weights.safetensors"]
    assert run(capsys, "evaluate", *weights, "--root", tmp_path) == [trained]
    assert cli.main(["evaluate", *map(str, weights), "--data", "digits"]) == 2
    assert "was trained on cifar10, whose classes are not those of --data digits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "lenet5", "--input-size", "30"], "lenet5: `input_size` must be 28 or 32, got 30"),
        (["--option", "wide=3"], "--option: lenet5() got an unexpected keyword argument 'wide'"),
        (["--option", "form=2020"], "lenet5: `form` must be one of 'modern', '1998', got 2020"),
        (["--model", "resnet20", "--channels", "2"], "the network takes images of 2 channels, but these are grey"),
        (["--model", "resnet20", "--channels", "0"], "`input_shape` must be at least 1, got 0"),
        (["--weight-decay", "-1"], "`weight_decay` must be at least 0, got -1.0"),
        (["--data", "cifar10", "--root", "/nonexistent"], "/nonexistent"),
        (["--data", "folder", "--root", "/nonexistent"], "/nonexistent"),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path, capsys):
    assert cli.main(["train", *arguments, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


# One preparation


def stripes(root, suffix="png", mode="RGB"):
    """Write two classes of pictures of 40x120 whose middles are stripes down or across; the sides say nothing."""
    image_module, rng = pytest.importorskip("PIL.Image"), np.random.default_rng(0)
    for name in ("across", "down"):
        (root / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 256, (40, 120, 3), np.uint8)
            lines = np.broadcast_to(np.where(np.arange(40) // 8 % 2, 255, 0)[:, np.newaxis], (40, 40))
            pixels[:, 40:80] = (lines if name == "across" else lines.T)[..., np.newaxis]
            image_module.fromarray(pixels).convert(mode).save(root / name / f"{number}.{suffix}")


def test_predict_crops_as_train_does(tmp_path, capsys, monkeypatch):
    stripes(tmp_path / "data")
    root, out = ["--data", "folder", "--root", tmp_path / "data"], tmp_path / "out"
    size = ["--model", "simple_convnet", "--input-size", 16, "--channels", 1]
    run(capsys, "train", *size, *root, "--epochs", 8, "--batch-size", 4, "--out", out)
    seen = []
    forward = Network.forward
    monkeypatch.setattr(Network, "forward", lambda self, x: seen.append(np.array(x)) or forward(self, x))
    weights = ["--weights", out / "weights.safetensors"]
    run(capsys, "evaluate", *weights, "--root", tmp_path / "data")
    evaluated = seen.pop()
    pictures = sorted((tmp_path / "data").glob("*/*.png"))
    answers = run(capsys, "predict", *weights, *pictures)
    predicted = seen.pop()
    for image in evaluated:  # each is one of those, to the bit
        assert any(np.array_equal(image, other) for other in predicted)
    right = [
        answer.split(": ")[1].split()[0] == path.parent.name for answer, path in zip(answers, pictures, strict=True)
    ]
    assert np.mean(right) == 1


def test_what_is_said_in_training_holds_afterwards(tmp_path, capsys):
    stripes(tmp_path / "data")
    options = ["--fit", "stretch", "--invert", "--background", "#102030"]
    size = ["--model", "simple_convnet", "--input-size", 16, "--channels", 3]
    data = ["--data", "folder", "--root", tmp_path / "data", "--out", tmp_path]
    *_, trained, _ = run(capsys, "train", *size, *options, *data, "--epochs", 2)
    weights = tmp_path / "weights.safetensors"
    _, recipe = cli.recipes.load(weights)
    assert recipe.preparation == ((16, 16), 3, "stretch", (16, 32, 48), True)
    assert run(capsys, "evaluate", "--weights", weights, "--root", tmp_path / "data") == [trained]


def test_predict_lays_transparent_pictures_over_a_background(tmp_path, capsys):
    """Black strokes on nothing are black on white; inverted they are as those trained on."""
    image_module = pytest.importorskip("PIL.Image")
    run(capsys, "train", "--epochs", 4, "--out", tmp_path)
    data = cli.images.load("digits", None, cli.images.Preparation((28, 28), 1))
    opaque, clear = [], []
    for number in range(12):
        strokes = data.test_x[number, 0]
        opaque.append(tmp_path / f"{number}.png")
        image_module.fromarray(strokes).save(opaque[-1])
        clear.append(tmp_path / f"{number}-clear.png")
        image_module.fromarray(np.dstack([0 * strokes, strokes])).save(clear[-1])
    weights = ["--weights", tmp_path / "weights.safetensors"]
    expected = run(capsys, "predict", *weights, *opaque)
    found = run(capsys, "predict", *weights, "--invert", *clear)
    assert [line.split(": ")[1] for line in found] == [line.split(": ")[1] for line in expected]
    dark = run(capsys, "predict", *weights, "--background", "0", *clear)  # all black
    assert len({line.split(": ")[1] for line in dark}) == 1


def test_damaged_pictures_are_named_or_left_out(folder, tmp_path, capsys):  # noqa: F811
    data = ["--data", "folder", "--root", folder, "--out", tmp_path / "out"]
    for name in ("bright/3.png", "dark/5.png"):
        (folder / name).write_bytes(b"no picture")
    arguments = ["--channels", 3, "--epochs", 1, *data]
    assert cli.main(["train", *map(str, arguments)]) == 2
    said = capsys.readouterr().err
    assert "3.png is no image" in said
    assert "5.png is no image" in said
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert cli.main(["train", *map(str, arguments), "--on-error", "skip"]) == 0
    assert "cyconv: warning: image_folder: skipped 2 of 20 files: " in capsys.readouterr().err
    weights, pictures = ["--weights", tmp_path / "out" / "weights.safetensors"], sorted(folder.glob("*/*.png"))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        answers = run(capsys, "predict", *weights, "--on-error", "skip", *pictures)
    assert [line.split(": ")[0] for line in answers] == [str(path) for path in pictures if path.stat().st_size > 20]


def test_a_warning_is_one_line(folder, tmp_path):  # noqa: F811
    (folder / "bright" / "3.png").write_bytes(b"no picture")
    command = [
        "train",
        "--channels",
        "3",
        "--epochs",
        "1",
        "--data",
        "folder",
        "--root",
        str(folder),
        "--on-error",
        "skip",
    ]
    code = f"import sys; from cyconv import cli; sys.exit(cli.main({[*command, '--out', str(tmp_path / 'o')]!r}))"
    status, _, said = processes.run(code, warnings="default")
    assert status == 0
    lines = [line for line in said.splitlines() if "warning" in line.lower()]
    assert len(lines) == 1
    assert "cyconv: warning: image_folder: skipped 1 of 20 files: " in lines[0]


# Stopping and going on

SHORT = ["--model", "resnet20", "--option", "width=4", "--input-size", "16", "--batch-size", "128", "--seed", "2"]
SHORT += ["--augment", "shift", "rotate", "--schedule", "cosine", "--epochs", "4"]


def interrupt_at(monkeypatch, epoch, batch):
    def on_batch_end(self, run):
        if (run.epoch, run.batch) == (epoch, batch):
            raise KeyboardInterrupt

    monkeypatch.setattr(NamesOfTest, "on_batch_end", on_batch_end, raising=False)


def test_a_resumed_run_is_the_one_that_was_not_stopped(tmp_path, capsys, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    trained = run(capsys, "train", *SHORT, "--out", whole)
    arguments = ["train", *SHORT, "--out", str(parts)]
    for epoch in (3, 4):
        with monkeypatch.context() as patch:
            interrupt_at(patch, epoch, 5)
            assert cli.main(arguments) == 130
        printed, said = capsys.readouterr()
        line = said.splitlines()[-1]
        assert f"cyconv: interrupted after {epoch - 1} of 4 epochs; they are in {parts}; to go on: cyconv train" in line
        arguments = shlex.split(line.split("to go on: cyconv ")[1])
        assert arguments[-1] == "--resume"
        history = json.loads((parts / "history.json").read_text())
        assert (len(history["epochs"]), history["interrupted"]) == (epoch - 1, True)
        assert "test_accuracy" in history["epochs"][-1]
        assert "test accuracy" not in printed
        assert (parts / "learning-curves.png").is_file() == (whole / "learning-curves.png").is_file()
        evaluated = run(capsys, "evaluate", "--weights", parts / "weights.safetensors")
        assert evaluated[0].startswith(f"test accuracy {history['epochs'][-1]['test_accuracy']:.4f}")
    assert run(capsys, *arguments)[-2] == trained[-2]
    for name in ("weights.safetensors", "checkpoint.safetensors"):
        arrays, others = (load_arrays(out / name)[0] for out in (whole, parts))
        assert arrays.keys() == others.keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(others[key], array)
    histories = [json.loads((out / "history.json").read_text()) for out in (whole, parts)]
    for history in histories:
        for epoch in history["epochs"]:
            del epoch["seconds"]
    assert histories[0] == histories[1]


def test_a_run_is_resumed_by_its_own_arguments_only(tmp_path, capsys):
    command = ["--epochs", "1", "--model", "simple_convnet", "--batch-size", "64"]
    run(capsys, "train", *command, "--out", tmp_path)
    for change in (
        ["--batch-size", "32"],
        ["--seed", "1"],
        ["--augment", "shift"],
        ["--invert"],
        ["--learning-rate", "0.1"],
    ):
        assert cli.main(["train", *command, *change, "--out", str(tmp_path), "--resume"]) == 2
        message = capsys.readouterr().err.splitlines()[-1]
        assert "does not suit this run: it was trained with" in message
    run(capsys, "train", *command, "--epochs", "2", "--threads", "1", "--out", tmp_path, "--resume")
    assert len(json.loads((tmp_path / "history.json").read_text())["epochs"]) == 2
    assert cli.main(["train", *command, "--out", str(tmp_path / "none"), "--resume"]) == 2
    assert "No such file" in capsys.readouterr().err


def test_another_runs_checkpoint_is_not_taken_for_this_ones(tmp_path, capsys, monkeypatch):
    """A run that is stopped in its first epoch leaves what lies there from an earlier one."""
    run(capsys, "train", "--epochs", 1, "--out", tmp_path)
    before = (tmp_path / "weights.safetensors").read_bytes(), (tmp_path / "checkpoint.safetensors").read_bytes()
    interrupt_at(monkeypatch, 1, 3)
    assert cli.main(["train", "--epochs", "2", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err.endswith("cyconv: interrupted before an epoch was finished; nothing is written\n")
    assert (
        (tmp_path / "weights.safetensors").read_bytes(),
        (tmp_path / "checkpoint.safetensors").read_bytes(),
    ) == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_ctrl_c_in_a_process_of_its_own(tmp_path):
    command = [sys.executable, "-m", "cyconv", "train", "--epochs", "500", "--out", str(tmp_path)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=processes.environment()
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "checkpoint.safetensors").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("cyconv: interrupted after ")
    assert len(json.loads((tmp_path / "history.json").read_text())["epochs"]) >= 1
    _, metadata = load_arrays(tmp_path / "weights.safetensors")
    assert metadata["model"] == "lenet5"
