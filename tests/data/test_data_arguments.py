"""Every argument of the public callables of data, images, figures, boxes and metrics, given what it is not for."""

import inspect
import warnings

import numpy as np
import pytest

from cyconv import Network, boxes, data, image, layers, metrics, visualize
from cyconv.data import augmentation, datasets
from cyconv.training import History

RNG = np.random.default_rng(0)
X, Y = RNG.random((4, 3, 8, 8), np.float32), np.arange(4) % 2
GREY = RNG.random((8, 8))
BOXES = np.array([[0.0, 0.0, 4.0, 4.0], [1.0, 2.0, 5.0, 6.0]])
NETWORK = Network([layers.Conv2d(3, 2, 3, padding=1)], (3, 8, 8), seed=0)

# What each callable is given ordinarily, by name.
USUAL = {
    data.BalancedSampler: {"labels": Y, "size": 4},
    data.Batches: {"x": X, "y": Y, "batch_size": 2},
    data.WeightedSampler: {"weights": [1.0, 2.0], "size": 4},
    data.cifar10: {"root": "/nowhere"},
    data.cifar100: {"root": "/nowhere"},
    data.digits: {"size": 8},
    data.emnist: {"root": "/nowhere"},
    data.image_folder: {"root": "/nowhere", "size": 8},
    data.mnist: {"root": "/nowhere"},
    data.predict_tiled: {"network": NETWORK, "images": X, "tile": 8},
    data.split: {"x": X, "y": Y, "fractions": (0.5, 0.5)},
    data.tiles: {"images": X, "tile": 4},
    data.untile: {"tiles": X, "size": (8, 8)},
    augmentation.ColorJitter: {},
    augmentation.Compose: {"transforms": [augmentation.RandomHorizontalFlip()]},
    augmentation.CropTargets: {"border": 1},
    augmentation.Cutout: {"size": 2},
    augmentation.ElasticTransform: {},
    augmentation.Normalize: {"mean": 0.5, "std": 0.5},
    augmentation.Normalize.of: {"x": X},
    augmentation.Normalize(0.5, 0.5).apply: {"x": X},
    augmentation.RandomAffine: {},
    augmentation.RandomCrop: {"size": 4},
    augmentation.RandomHorizontalFlip: {},
    augmentation.RandomRotation: {"degrees": 3},
    augmentation.RandomShift: {"most": 1},
    augmentation.RandomVerticalFlip: {},
    image.box: {"image": GREY, "size": 3},
    image.convolve: {"image": GREY, "kernel": np.ones((3, 3))},
    image.correlate: {"image": GREY, "kernel": np.ones((3, 3))},
    image.gaussian: {"image": GREY, "sigma": 1.0},
    image.laplacian: {"image": GREY},
    image.sharpen: {"image": GREY},
    image.sobel: {"image": GREY},
    boxes.BoxLoss: {},
    boxes.decode: {"offsets": 0.1 * BOXES, "proposals": BOXES},
    boxes.detect: {"output": RNG.random((2, 10)), "proposals": BOXES},
    boxes.encode: {"boxes": BOXES, "proposals": BOXES},
    boxes.iou: {"boxes": BOXES, "others": BOXES},
    boxes.nms: {"boxes": BOXES, "scores": np.array([0.5, 0.4])},
    boxes.targets: {"labels": [0, 1], "boxes": BOXES, "proposals": BOXES},
    metrics.accuracy: {"output": Y, "target": Y},
    metrics.confusion_matrix: {"output": Y, "target": Y},
    metrics.dice: {"output": Y, "target": Y},
    metrics.f1: {"output": Y, "target": Y},
    metrics.iou: {"output": Y, "target": Y},
    metrics.precision: {"output": Y, "target": Y},
    metrics.recall: {"output": Y, "target": Y},
    metrics.top_k_accuracy: {"output": RNG.random((4, 3)), "target": Y},
    visualize.confusion_matrix: {"matrix": np.eye(2, dtype=int), "class_names": ["a", "b"]},
    visualize.feature_maps: {"maps": RNG.random((2, 4, 4))},
    visualize.filters: {"weights_before": RNG.random((2, 1, 3, 3)), "weights_after": RNG.random((2, 1, 3, 3))},
    visualize.learning_curves: {"history": History([{"loss": 1.0}])},
    visualize.maximizing_images: {"images": X},
    visualize.saliency: {"images": X, "maps": RNG.random((4, 8, 8))},
    visualize.segmentation: {"image": GREY, "prediction": np.eye(8, dtype=int)},
}
# Transforms are called too.
for transform in (
    augmentation.ColorJitter(0.1),
    augmentation.Compose([augmentation.RandomHorizontalFlip()]),
    augmentation.CropTargets(1),
    augmentation.Cutout(2),
    augmentation.ElasticTransform(),
    augmentation.Normalize(0.5, 0.5),
    augmentation.RandomAffine(10),
    augmentation.RandomCrop(4),
    augmentation.RandomHorizontalFlip(),
    augmentation.RandomRotation(3),
    augmentation.RandomShift(1),
    augmentation.RandomVerticalFlip(),
):
    USUAL[transform] = {"x": X, "y": X if isinstance(transform, augmentation.CropTargets) else Y, "rng": 0}
for sampler in (data.BalancedSampler(Y), data.WeightedSampler([1.0, 2.0])):
    USUAL[sampler] = {"rng": np.random.default_rng(0)}

WRONG = {
    "None": None,
    "object": object(),
    "class": type("Thing", (), {}),
    "text": "x",
    "bytes": b"x",
    "minus": -1,
    "zero": 0,
    "fraction": 0.5,
    "NaN": float("nan"),
    "infinite": float("inf"),
    "huge": 10**30,
    "complex": 1j,
    "int8": np.int8(100),
    "true": True,
    "empty list": [],
    "ragged": [[1], [1, 2]],
    "texts": ["a", "b"],
    "Nones": [None, None],
    "mapping": {"a": 1},
    "function": len,
    "iterator": iter(()),
    "array": np.zeros((3, 0, 2)),
    "no axes": np.array(2.5),
    "pair of arrays": (np.zeros(2), np.zeros(2)),
    "objects": np.array([None, {}], object),
    "times": np.zeros(2, "M8[s]"),
    "complex array": np.zeros((2, 2), complex),
    "structured": np.zeros(2, [("a", int)]),
    "half": np.zeros((4, 3, 8, 8), np.float16),
    "NaNs": np.full((4, 3, 8, 8), np.nan, np.float32),
    "infinities": np.full((2, 4), np.inf),
    "large integers": np.full(4, 2**62),
    "unsigned": np.full(4, 2**64 - 1, np.uint64),
    "masked": np.ma.masked_array([1, 2], [0, 1]),
}
KINDS = ("O", "c16", "U9", "?", "f2", "i1", ">f8", "u8")  # dtypes in which the usual argument is given too
CASES = [(function, name) for function in USUAL for name in inspect.signature(function).parameters]


def label(value):
    return value if isinstance(value, str) else getattr(value, "__qualname__", type(value).__name__)


def refusal(function, keywords):
    """Return what a call raises, warnings among it, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            function(**keywords)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize(("function", "argument"), CASES, ids=label)
def test_a_wrong_argument_is_named(function, argument):
    """It works, or says by TypeError or ValueError which argument is wrong."""
    if inspect.isroutine(function) and function.__module__.startswith("cyconv.visualize"):
        pytest.importorskip("matplotlib")
    others = {}
    if isinstance(USUAL[function].get(argument), (np.ndarray, list)):
        usual = np.asarray(USUAL[function][argument])
        others = {} if usual.dtype.kind not in "iuf" else {f"in {kind}": usual.astype(kind) for kind in KINDS}
    for name, value in {**WRONG, **others}.items():
        error = refusal(function, {**USUAL[function], argument: value})
        if error is not None and not isinstance(error, FileNotFoundError):
            assert isinstance(error, (TypeError, ValueError)), f"{argument}={name}: {error!r}"
            assert f"`{argument}`" in str(error), f"{argument}={name}: {error!r}"


def test_every_public_callable_is_here():
    for module in (data, augmentation, image, boxes, metrics, visualize):
        for name in module.__all__:
            thing = getattr(module, name)
            if callable(thing) and thing not in (data.Dataset, data.ImageFolder) and not name.endswith("Transform"):
                assert thing in USUAL, name


@pytest.mark.parametrize("function", [datasets.Dataset, data.ImageFolder])
def test_what_holds_results_checks_nothing(function):
    """They are tuples with names, made by the readers."""
    assert issubclass(function, tuple)
