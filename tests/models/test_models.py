"""What all networks have in common, and that they learn from real images."""

import inspect
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cyconv import Network, models
from cyconv.data import digits
from cyconv.losses import CrossEntropyLoss
from cyconv.optimizers import Adam
from cyconv.schedules import LinearDecay
from cyconv.training import train_step

BUILDERS = sorted(set(models.__all__) - {"load_torchvision", "torchvision_names"})


@pytest.mark.parametrize("name", BUILDERS)
def test_each_is_built_without_arguments_and_draws_no_weights(name):
    build = getattr(models, name)
    network = build()
    assert type(network) is Network
    assert not any(parameter.is_drawn for parameter in network.parameters().values())
    outputs, *_ = network.output_shape(network.input_shape)
    each = 5 if name == "box_regressor" else 1  # a score and a box
    default = inspect.signature(build).parameters["num_classes"].default
    assert outputs == each * default
    assert build(num_classes=7).output_shape(network.input_shape)[0] == each * 7
    assert network.summary().startswith("layer")


@pytest.mark.parametrize("value", [np.arange(6.0).reshape(2, 3), np.array(["native", "he"]), "x" * 10**5, object()])
@pytest.mark.parametrize("name", BUILDERS)
def test_a_bad_argument_is_named(name, value):
    build = getattr(models, name)
    for argument in inspect.signature(build).parameters.values():
        if argument.kind is argument.VAR_KEYWORD:
            continue
        try:
            build(**{argument.name: value})
        except (TypeError, ValueError) as error:
            message = str(error)
            assert ": " in message
            assert "truth value" not in message
            assert len(message) < 400


@pytest.mark.parametrize("name", BUILDERS)
def test_a_seed_and_other_channels_are_taken(name):
    build = getattr(models, name)
    assert build(in_channels=5, seed=3).input_shape[0] == 5
    first, same, other = (list(build(seed=seed).parameters().values())[-2] for seed in (1, 1, 2))
    if first.size < 10**6 and "fcn" not in name and "box" not in name:  # scores of an FCN and boxes start at zero
        assert np.array_equal(first.data, same.data)
        assert len(first.shape) == 1 or not np.array_equal(first.data, other.data)


SMALL = {
    "alexnet": partial(models.alexnet, width_multiplier=0.25, hidden=128, input_size=67),
    "densenet121": partial(models.densenet121, growth=4, input_size=32),
    "googlenet": partial(models.googlenet, width_multiplier=0.15, input_size=32),
    "googlenet, normalised": partial(models.googlenet, form="torchvision", width_multiplier=0.15, input_size=32),
    "mobilenet_v1": partial(models.mobilenet_v1, width_multiplier=0.25, stem_stride=1, input_size=32),
    "resnet18": partial(models.resnet18, width=8, small_stem=True, input_size=32),
    "resnet20": partial(models.resnet20, width=8),
    "resnet_v2_cifar": partial(models.resnet_v2_cifar, 29, width=8),
    "se_resnet": partial(models.se_resnet, 18, width=8, small_stem=True, input_size=32),
    "shufflenet_v1": partial(models.shufflenet_v1, groups=2, width=48, stem_stride=1, input_size=32),
    "shufflenet_v2": partial(models.shufflenet_v2, widths=(24, 48, 96, 128), stem_stride=1, input_size=32),
    "vgg11": partial(models.vgg11, width=8, hidden=128, dropout=0.2, input_size=32),
    "vgg11, normalised": partial(models.vgg11, batch_norm=True, head="linear", width=8, input_size=32),
    "xception": partial(models.xception, width_multiplier=0.06, middle=2, input_size=32),
}
EPOCHS = {"mobilenet_v1": 12}  # it learns later than the others, for which 6 are enough


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_learns_digits(name):
    """Chance has a tenth of them right."""
    network = SMALL[name](num_classes=10, in_channels=1, seed=0)
    data = digits(network.input_shape[1])
    options = {"batch_size": 32, "optimizer": Adam(learning_rate=2e-3), "callbacks": [LinearDecay()], "progress": False}
    network.fit(data.train_x, data.train_y, epochs=EPOCHS.get(name, 6), **options)
    assert network.evaluate(data.test_x, data.test_y)["accuracy"] > 0.7


@pytest.mark.slow
@pytest.mark.skipif("CYCONV_DATA" not in os.environ, reason="CYCONV_DATA names no folder of data sets")
@pytest.mark.parametrize(
    ("build", "size", "margin"),
    [
        (partial(models.unet, depth=2, width=8), 140, 0.08),
        (partial(models.unet, depth=2, width=8, padding="same", batch_norm=True), 128, 0.08),
        (partial(models.fcn, 8, 2, 1, width=8, hidden=64), 128, 0.04),  # scores of 8x8 pixels, wider than membranes
    ],
    ids=["unet", "unet, padded", "fcn"],
)
def test_learns_to_segment_membranes(build, size, margin):
    """Saying "cell" everywhere has three pixels of four right."""
    image = pytest.importorskip("PIL.Image")
    folder = Path(os.environ["CYCONV_DATA"], "membrane", "train")
    grey, cell = (
        np.stack([np.asarray(image.open(folder / kind / f"{i}.png").convert("L")) for i in range(6)])
        for kind in ("image", "label")
    )
    x, y = (grey[:, np.newaxis] / 255 - 0.5).astype(np.float32), (cell > 127).astype(np.int64)
    network = build(input_size=size, seed=0)
    _, _, output = network.output_shape((1, size, size))
    border, optimizer, rng = (size - output) // 2, Adam(learning_rate=3e-3), np.random.default_rng(0)

    def crop(i, top, left):
        inside = slice(top + border, top + border + output), slice(left + border, left + border + output)
        return x[i, :, top : top + size, left : left + size], y[i, *inside]

    network.train()
    for _ in range(100):
        batch = [crop(rng.integers(5), *rng.integers(512 - size, size=2)) for _ in range(4)]
        train_step(network, *map(np.stack, zip(*batch, strict=True)), CrossEntropyLoss(), optimizer)
    held_out = [crop(5, top, left) for top in (0, 200) for left in (0, 200)]
    images, labels = map(np.stack, zip(*held_out, strict=True))
    right = np.mean(network.predict(images).argmax(axis=1) == labels)
    assert right > labels.mean() + margin
