import inspect

import numpy as np
import pytest

from cyconv import Network, models
from cyconv.layers import Flatten, Linear
from cyconv.models.registry import build, facts, networks, short


def test_every_network_is_there():
    assert set(networks()) == set(models.__all__) - {"load_torchvision", "torchvision_names"}
    assert all(networks()[name] is getattr(models, name) for name in networks())


@pytest.mark.parametrize("name", networks())
def test_facts_are_those_of_the_network(name):
    known = facts(name)
    network = networks()[name]()
    assert known.input_shape == network.input_shape
    assert known.output_shape == network.output_shape(network.input_shape)
    assert known.parameters == sum(parameter.size for parameter in network.parameters().values())
    assert known.classifies == (networks()[name](num_classes=7).output_shape(network.input_shape) == (7,))
    assert known.papers
    for paper in known.papers:
        assert short(paper)[-4:].isdigit()


def test_papers_are_those_named_in_the_page():
    assert facts("resnet50").short_papers == "He et al. 2016"
    assert facts("vgg16").short_papers == "Simonyan and Zisserman 2015"
    assert facts("alexnet").short_papers == "Krizhevsky et al. 2012; Krizhevsky 2014"
    assert facts("shufflenet_v1").short_papers == "Zhang et al. 2018"
    assert facts("shufflenet_v2").short_papers == "Ma et al. 2018"
    assert facts("xception").papers == (
        "F. Chollet, Xception: deep learning with depthwise separable convolutions, CVPR, 2017",
    )


SIZES = {"lenet5": 28, "vgg": 64, "vgg11": 64, "vgg13": 64, "vgg16": 64, "vgg19": 64, "alexnet": 96, "xception": 96}


@pytest.mark.parametrize("name", [name for name in networks() if facts(name).classifies])
def test_every_classifier_is_built_for_given_images_and_classes(name):
    size = SIZES.get(name, 32)
    network = build(name, (1, size, size), 7, seed=0)
    assert network.input_shape == (1, size, size)
    assert network.output_shape(network.input_shape) == (7,)
    assert not any(parameter.is_drawn for parameter in network.parameters().values())


def test_rectangles_options_and_seeds_are_handed_on():
    network = build("resnet_v2_cifar", (3, 24, 40), 4, {"depth": 11, "width": 8}, seed=3)
    assert network.input_shape == (3, 24, 40)
    same = models.resnet_v2_cifar(11, 4, width=8, input_size=(24, 40), seed=3)
    for name, array in network.state_dict().items():
        np.testing.assert_array_equal(array, same.state_dict()[name])


def dense(input_shape, num_classes):
    flatten = [Flatten()] if len(input_shape) == 3 else []
    return Network([*flatten, Linear(int(np.prod(input_shape)), num_classes)])


def test_functions_get_the_keywords_that_they_take():
    assert build(dense, (2, 3, 4), 5).output_shape((2, 3, 4)) == (5,)
    assert build(lambda seed: dense((6,), 2), (6,), 2).output_shape((6,)) == (2,)
    options = build(lambda **keywords: dense((1, 4, keywords["input_size"]), keywords["num_classes"]), (1, 4, 4), 3)
    assert options.output_shape((1, 4, 4)) == (3,)


def test_a_network_is_copied():
    given = dense((6,), 2)
    made = build(given, (6,), 2)
    assert made is not given
    np.testing.assert_array_equal(made.state_dict()["0.weight"], given.state_dict()["0.weight"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("nonet", (1, 8, 8), 2), ValueError, "build: `network` must be one of 'alexnet', .*'xception', got 'nonet'"),
        (("lenet5", (64,), 2), ValueError, r"build: lenet5 needs images of shape \(C, H, W\), got .* shape \(64,\)"),
        (("lenet5", (1, 8, 8), 2), ValueError, "lenet5: `input_size` must be 28 or 32, got 8"),
        ((5, (1, 8, 8), 2), TypeError, "build: `network` must be a name or a function that builds a Network, got 5"),
        ((list, (1, 8, 8), 2), TypeError, "build: list must return a Network, got list"),
        ((dense, (1, 8, 8), 0), ValueError, "build: `num_classes` must be at least 1, got 0"),
        ((dense, (1, 0, 8), 1), ValueError, "build: `input_shape` must be at least 1, got 0"),
        ((lambda: dense((9,), 2), (4,), 2), ValueError, "Linear: needs vectors of shape"),
        (
            (models.lenet5(), (1, 28, 28), 10),
            ValueError,
            r"build: the network takes inputs of shape \(1, 32, 32\), but these have \(1, 28, 28\)",
        ),
        (("resnet20", (1, 8, 8), 2, {"wide": 3}), TypeError, "unexpected keyword argument 'wide'"),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        build(*arguments)


def test_a_paper_without_authors():
    with pytest.raises(ValueError, match="short: `paper` must be authors, title, place and year, got 'A book'"):
        short("A book")
    with pytest.raises(ValueError, match="`name` must be one of 'alexnet'"):
        facts("nonet")


@pytest.mark.parametrize("name", ["lenet5", "resnet_v2", "resnet_v2_cifar", "shufflenet_v1", "shufflenet_v2", "unet"])
def test_sizes_may_be_numpys(name):
    """Products of small integers of NumPy would wrap round, or raise OverflowError."""
    build = getattr(models, name)
    parameters = inspect.signature(build).parameters.values()
    given = {p.name: p.default for p in parameters if type(p.default) is int and p.default < 128 and p.name != "seed"}
    small = build(**{key: np.int8(value) for key, value in given.items()})
    shapes = {key: value.shape for key, value in build(**given).state_dict().items()}
    assert {key: value.shape for key, value in small.state_dict().items()} == shapes
