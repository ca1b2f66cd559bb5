import json
import tracemalloc

import numpy as np
import pytest

from cyconv import memory, models
from cyconv.cli.recipes import Recipe, input_shape, load, parse_options, parse_size, save
from cyconv.serialization import load_arrays, save_arrays

PREPARED = '{"fit": "crop", "background": [9, 9, 9], "invert": false, "scale": "1/255"}'


def test_what_was_saved_comes_back(tmp_path):
    recipe = Recipe("resnet_v2_cifar", (1, 24, 40), ("cat", "dog", "été"), {"depth": 11, "width": 4}, "folder")
    recipe = recipe._replace(fit="stretch", background=(1, 2, 3), invert=True)
    network = recipe.network(seed=3)
    save(tmp_path / "w", network, recipe)
    loaded, read = load(tmp_path / "w")
    assert read == recipe
    x = np.random.default_rng(0).random((2, 1, 24, 40), np.float32)
    np.testing.assert_array_equal(loaded.predict(x), network.predict(x))


def test_files_of_the_first_version_are_read(tmp_path):
    """They held one of two networks for 28x28 and said no more than which."""
    network = models.lenet5(input_size=28, seed=0)
    save_arrays(tmp_path / "w", network.state_dict(), {"model": "lenet5", "input_size": "28"})
    loaded, recipe = load(tmp_path / "w")
    assert recipe == Recipe("lenet5", (1, 28, 28))
    np.testing.assert_array_equal(loaded.state_dict()["0.weight"], network.state_dict()["0.weight"])


def test_a_seed_settles_the_weights():
    first, same, other = (Recipe("lenet5", (1, 28, 28)).network(seed).state_dict()["0.weight"] for seed in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        (("lenet5", "digits"), (1, 28, 28)),
        (("lenet5", "cifar10"), (1, 32, 32)),
        (("lenet5", "folder"), (1, 32, 32)),
        (("resnet20", "mnist"), (3, 28, 28)),
        (("simple_convnet", "cifar10", 3), (3, 32, 32)),
        (("resnet18", "cifar10"), (3, 224, 224)),
        (("resnet18", "cifar10", None, (32, 48)), (3, 32, 48)),
        (("xception", "folder", 1), (1, 299, 299)),
    ],
)
def test_shape_of_the_input(arguments, shape):
    assert input_shape(*arguments) == shape


def test_options_are_numbers_or_text():
    texts = ["width=8", "dropout=0.5", "small_stem=True", "growth=None", "form=1998x", "widths=(24, 48)", "head='a=b'"]
    assert parse_options(texts) == {
        "width": 8,
        "dropout": 0.5,
        "small_stem": True,
        "growth": None,
        "form": "1998x",
        "widths": (24, 48),
        "head": "a=b",
    }


@pytest.mark.parametrize("text", ["width", "=8", "a b=8", ""])
def test_options_without_a_name(text):
    with pytest.raises(ValueError, match="--option must be NAME=VALUE"):
        parse_options([text])


def test_sizes():
    assert parse_size("32") == (32, 32)
    assert parse_size("24x40") == (24, 40)
    for text in ("0", "-1", "x", "32x0", "3.5", ""):
        with pytest.raises(ValueError, match=r"invalid literal|^(0|-1|32x0)$"):
            parse_size(text)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("channels", "many", "damaged metadata: invalid literal"),
        ("input_size", "0", "damaged metadata: 0"),
        ("classes", "[]", r"damaged metadata: classes \[\]"),
        ("classes", '"ab"', "damaged metadata: classes 'ab'"),
        ("classes", "[1]", r"damaged metadata: classes \[1\]"),
        ("classes", "[", "damaged metadata"),
        ("classes", "[" * 100_000, "damaged metadata"),
        ("options", "[]", r"damaged metadata: options \[\]"),
        ("options", '{"seed": 1}', "damaged metadata: options {'seed': 1}"),
        ("options", '{"form": "2001"}', "lenet5: `form` must be one of"),
        ("options", '{"wide": 1}', "unexpected keyword argument 'wide'"),
        ("data", "imagenet", "damaged metadata: data 'imagenet'"),
        ("input_size", "31", "lenet5: `input_size` must be 28 or 32, got 31"),
        ("classes", '["a", "b"]', "does not fit this Network"),
        ("input_size", "1000000000", r"w has damaged metadata: images of shape \(1, 1000000000, 1000000000\)"),
        (
            "channels",
            "10000",
            "w: the network does not fit, it needs more weights than there are: 10 arrays, of 61706 el",
        ),
        ("preparation", "[]", "damaged metadata: preparation"),
        ("preparation", "{}", "damaged metadata: preparation"),
        ("preparation", PREPARED.replace("crop", "pad"), "damaged metadata: preparation: `fit` must be one of"),
        ("preparation", PREPARED.replace("[9, 9, 9]", "[9]"), "damaged metadata: preparation: `background` must be"),
        (
            "preparation",
            PREPARED.replace("false", "0"),
            "damaged metadata: preparation: `invert` must be True or False",
        ),
        ("preparation", PREPARED.replace("255", "127"), "damaged metadata: preparation: `scale` must be '1/255', got"),
        ("model", "nonet", "does not name its model, as files of `cyconv train` do"),
    ],
)
def test_damaged_files(name, text, message, tmp_path):
    recipe = Recipe("lenet5", (1, 28, 28))
    save(tmp_path / "w", recipe.network(0), recipe)
    arrays, metadata = load_arrays(tmp_path / "w")
    save_arrays(tmp_path / "w", arrays, {**metadata, name: text})
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "w")


def test_a_network_of_pixels_is_no_classifier(tmp_path):
    network = models.unet(padding="same", depth=1, width=2, input_size=8)
    metadata = {
        "model": "unet",
        "input_size": "8",
        "classes": json.dumps(["a", "b"]),
        "options": json.dumps({"padding": "same", "depth": 1, "width": 2}),
    }
    save_arrays(tmp_path / "w", network.state_dict(), metadata)
    with pytest.raises(ValueError, match=r"w: unet must give scores of 2 classes, got outputs of shape \(2, 8, 8\)"):
        load(tmp_path / "w")


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("resnet_v2_cifar", {"width": 10**9}),
        ("resnet_v2_cifar", {"width": 10**30}),
        ("resnet_v2_cifar", {"depth": 5999}),
        ("densenet", {"growth": 10**9}),
        ("resnet20", {"width": 1e300}),
        ("mobilenet_v1", {"width_multiplier": 1e12}),
        ("shufflenet_v2", {"widths": [10**9, 10**9, 10**9, 10**9]}),
        ("vgg11", {"hidden": 10**9}),
        ("vgg11", {"nothing": "x" * 1000}),
    ],
)
def test_no_network_is_built_that_is_larger_than_its_file(model, options, tmp_path):
    """Whatever width or depth the metadata asks for: an error, in the memory that the file takes."""
    arrays = {f"weight{i}": np.zeros(1000, np.float32) for i in range(100)}
    metadata = {"model": model, "channels": "3", "input_size": "32", "options": json.dumps(options)}
    save_arrays(tmp_path / "w", arrays, metadata)
    recipe = Recipe("lenet5", (1, 28, 28))
    save(tmp_path / "small", recipe.network(0), recipe)
    load(tmp_path / "small")  # what is imported and kept at the first time
    used = memory.statistics()["used"]
    memory.reset_peak()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"^{tmp_path / 'w'}: "):
            load(tmp_path / "w")
        assert tracemalloc.get_traced_memory()[1] < 2**23
        assert memory.statistics()["peak"] - used < 2**20
    finally:
        tracemalloc.stop()
