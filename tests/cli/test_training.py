"""Training, evaluating and predicting with every kind of network and data."""

import json

import numpy as np
import pytest

from cyconv import cli
from cyconv.models.registry import facts, networks
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
