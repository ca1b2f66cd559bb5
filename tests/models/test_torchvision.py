from functools import partial

import numpy as np
import pytest

from cyconv import models
from cyconv.models import load_torchvision, torchvision_names


def test_names_are_torchvisions():
    names = torchvision_names(models.vgg11())
    assert all(ours == theirs for ours, theirs in names.items())
    names = torchvision_names(models.resnet50())
    assert len(names) == 320  # of which 53 convolutions, 5 for each of as many normalisations, and the linear layer's 2
    expected = {
        "conv1.weight": "conv1.weight",
        "layer1.0.body.bn3.running_mean": "layer1.0.bn3.running_mean",
        "layer4.0.shortcut.1.num_batches_tracked": "layer4.0.downsample.1.num_batches_tracked",
        "fc.bias": "fc.bias",
    }
    assert expected.items() <= names.items()
    assert len(set(names.values())) == len(names)


# The names in torchvision's state dicts, as its code puts them together.


def norm(prefix):
    return [f"{prefix}.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]


def with_bias(prefix):
    return [f"{prefix}.weight", f"{prefix}.bias"]


def vgg_names(convolutions, batch_norm):
    """Return the names for so many convolutions before each pooling."""
    place = 0
    for count in convolutions:
        for _ in range(count):
            yield from with_bias(f"features.{place}")
            if batch_norm:
                yield from norm(f"features.{place + 1}")
            place += 3 if batch_norm else 2
        place += 1
    for place in (0, 3, 6):
        yield from with_bias(f"classifier.{place}")


def resnet_names(blocks, convolutions):
    """Return the names for so many blocks in each layer, of so many convolutions."""
    yield from ("conv1.weight", *norm("bn1"), *with_bias("fc"))
    for layer, count in enumerate(blocks, 1):
        for block in range(count):
            prefix = f"layer{layer}.{block}"
            for i in range(1, convolutions + 1):
                yield from (f"{prefix}.conv{i}.weight", *norm(f"{prefix}.bn{i}"))
            if block == 0 and (layer > 1 or convolutions == 3):
                yield from (f"{prefix}.downsample.0.weight", *norm(f"{prefix}.downsample.1"))


def densenet_names(blocks):
    yield from ("features.conv0.weight", *norm("features.norm0"), *norm("features.norm5"), *with_bias("classifier"))
    for block, count in enumerate(blocks, 1):
        for layer in range(1, count + 1):
            prefix = f"features.denseblock{block}.denselayer{layer}"
            for i in (1, 2):
                yield from (f"{prefix}.conv{i}.weight", *norm(f"{prefix}.norm{i}"))
        if block < len(blocks):
            yield from (f"features.transition{block}.conv.weight", *norm(f"features.transition{block}.norm"))


def googlenet_names():
    branches = ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1")
    modules = [
        f"inception{name}.{branch}"
        for name in ("3a", "3b", *(f"4{i}" for i in "abcde"), "5a", "5b")
        for branch in branches
    ]
    for prefix in ("conv1", "conv2", "conv3", *modules, "aux1.conv", "aux2.conv"):
        yield from (f"{prefix}.conv.weight", *norm(f"{prefix}.bn"))
    for prefix in ("fc", "aux1.fc1", "aux1.fc2", "aux2.fc1", "aux2.fc2"):
        yield from with_bias(prefix)


def shufflenet_names():
    for prefix in ("conv1", "conv5"):
        yield from (f"{prefix}.0.weight", *norm(f"{prefix}.1"))
    yield from with_bias("fc")
    for stage, count in ((2, 4), (3, 8), (4, 4)):
        for block in range(count):
            first = ((0, 1), (2, 3)) if block == 0 else ()
            parts = [("branch1", *pair) for pair in first] + [("branch2", i, i + 1) for i in (0, 3, 5)]
            for branch, place, after in parts:
                prefix = f"stage{stage}.{block}.{branch}"
                yield from (f"{prefix}.{place}.weight", *norm(f"{prefix}.{after}"))


def alexnet_names():
    return [name for place in (0, 3, 6, 8, 10) for name in with_bias(f"features.{place}")] + [
        name for place in (1, 4, 6) for name in with_bias(f"classifier.{place}")
    ]


VGG = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
RESNET = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
DENSENET = {121: (6, 12, 24, 16), 161: (6, 12, 36, 24), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}
# Of each family: how it is built here, and torchvision's names.
FAMILIES = {
    "googlenet": (lambda: models.googlenet(form="torchvision", auxiliary=True), googlenet_names),
    "alexnet": (lambda: models.alexnet(form="2014"), alexnet_names),
}
for n, counts in VGG.items():
    FAMILIES[f"vgg{n}"] = partial(models.vgg, n), partial(vgg_names, counts, False)
    FAMILIES[f"vgg{n}_bn"] = partial(models.vgg, n, batch_norm=True), partial(vgg_names, counts, True)
for n, counts in RESNET.items():
    FAMILIES[f"resnet{n}"] = partial(models.resnet, n), partial(resnet_names, counts, 2 if n < 50 else 3)
for n, counts in DENSENET.items():
    FAMILIES[f"densenet{n}"] = partial(models.densenet, n), partial(densenet_names, counts)
for n in (0.5, 1.0, 1.5, 2.0):
    FAMILIES[f"shufflenet_v2 x{n}"] = partial(models.shufflenet_v2, width_multiplier=n), shufflenet_names


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_torchvisions_names(name):
    make, theirs = FAMILIES[name]
    listed = list(theirs())
    assert len(set(listed)) == len(listed)
    assert set(torchvision_names(make()).values()) == set(listed)


def published(network, rename=lambda name: name):
    """Return a network's weights as they are in a file: under torchvision's names, without the counts of batches."""
    arrays = network.state_dict()
    names = torchvision_names(network).items()
    return {rename(theirs): arrays[ours] for ours, theirs in names if not theirs.endswith("num_batches_tracked")}


def of_2017(name):
    """Return a name of DenseNet as in the published files."""
    parts = name.split(".")
    if len(parts) > 3 and parts[2].startswith("denselayer"):
        parts[3] = f"{parts[3][:-1]}.{parts[3][-1]}"
    return ".".join(parts)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_densenets_are_loaded(prefix):
    source, target = models.densenet121(growth=4, seed=0), models.densenet121(growth=4, seed=1)
    state = published(source, lambda name: prefix + of_2017(name))
    assert f"{prefix}features.denseblock1.denselayer1.norm.1.weight" in state
    assert f"{prefix}features.denseblock4.denselayer16.conv.2.weight" in state
    assert f"{prefix}features.transition1.norm.running_var" in state
    load_torchvision(target, state)
    for name, array in source.state_dict().items():
        np.testing.assert_array_equal(target.state_dict()[name], array, err_msg=name)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_googlenets_heads_are_passed_over_where_there_are_none(prefix):
    source, target = (
        models.googlenet(10, form="torchvision", width_multiplier=0.125, auxiliary=heads, seed=0)
        for heads in (True, False)
    )
    target.initialize(1)
    state = published(source, lambda name: prefix + name)
    assert f"{prefix}aux1.conv.conv.weight" in state
    load_torchvision(target, state)
    np.testing.assert_array_equal(target.state_dict()["fc.weight"], state[f"{prefix}fc.weight"])
    del state[f"{prefix}aux2.fc2.bias"]
    with pytest.raises(ValueError, match=r"missing: aux2\.body\.fc2\.bias$"):
        load_torchvision(source, state)
    with pytest.raises(ValueError, match=r"unexpected: head\.weight$"):
        load_torchvision(target, {**state, "head.weight": np.ones(1)})


def test_loading_renames():
    source, target = (models.resnet20(width=2, shortcut="projection", seed=seed) for seed in (0, 1))
    source["bn1"].num_batches_tracked += 3
    names, arrays = torchvision_names(source), source.state_dict()
    state = {theirs: arrays[ours] for ours, theirs in names.items()}
    load_torchvision(target, state)
    for name, array in target.state_dict().items():
        np.testing.assert_array_equal(array, arrays[name])
    old = {name: array for name, array in state.items() if not name.endswith("num_batches_tracked")}
    load_torchvision(target, old)
    assert target["bn1"].num_batches_tracked == 3


def test_loading_the_wrong_weights_changes_nothing():
    source, target = models.resnet20(width=2, seed=0), models.resnet20(width=2, seed=1)
    before = {name: array.copy() for name, array in target.state_dict().items()}
    arrays = source.state_dict()
    state = {theirs: arrays[ours] for ours, theirs in torchvision_names(source).items()}
    with pytest.raises(ValueError, match=r"missing: linear\.bias; unexpected: head\.bias"):
        load_torchvision(target, {name.replace("linear.bias", "head.bias"): array for name, array in state.items()})
    for name, array in target.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


# Ours, torchvision's name and its options, and the size of the images.
TWINS = {
    "vgg11": (models.vgg11, "vgg11", {"dropout": 0.0}, {"dropout": 0.0}),
    "vgg13_bn": (models.vgg13, "vgg13_bn", {"dropout": 0.0}, {"batch_norm": True, "dropout": 0.0}),
    "resnet18": (models.resnet18, "resnet18", {}, {}),
    "resnet50": (models.resnet50, "resnet50", {}, {}),
    "alexnet": (models.alexnet, "alexnet", {"dropout": 0.0}, {"form": "2014", "dropout": 0.0}),
    "googlenet": (
        models.googlenet,
        "googlenet",
        {"init_weights": True, "aux_logits": True, "dropout": 0.0, "dropout_aux": 0.0},
        {"form": "torchvision", "auxiliary": True, "dropout": 0.0},
    ),
    "densenet121": (models.densenet121, "densenet121", {}, {}),
    "shufflenet_v2": (models.shufflenet_v2, "shufflenet_v2_x1_0", {}, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TWINS)
def test_outputs_and_gradients_are_torchvisions(name):
    """In float64: scores in evaluation mode, then a training step's gradients and running statistics."""
    torch = pytest.importorskip("torch")
    zoo = pytest.importorskip("torchvision").models
    make, their_name, their_options, options = TWINS[name]
    torch.manual_seed(0)
    theirs = getattr(zoo, their_name)(num_classes=7, **their_options).double()
    ours = make(7, input_size=None, **options).astype(np.float64)
    load_torchvision(ours, {key: tensor.numpy() for key, tensor in theirs.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((3, 3, 64, 96))
    with torch.no_grad():
        expected = theirs.eval()(torch.tensor(x)).numpy()
    np.testing.assert_allclose(ours.predict(x), expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())

    output = theirs.train()(torch.tensor(x))
    output = output[0] if isinstance(output, tuple) else output
    grad_output = np.random.default_rng(1).standard_normal(tuple(output.shape))
    output.backward(torch.tensor(grad_output))
    scores = ours.train().forward(x)
    np.testing.assert_allclose(scores, output.detach().numpy(), rtol=1e-6, atol=1e-8)
    ours.backward(grad_output, needs_grad_input=False)
    names = torchvision_names(ours)
    their_gradients = {key: parameter.grad for key, parameter in theirs.named_parameters()}
    for key, parameter in ours.parameters().items():
        expected = their_gradients[names[key]]
        assert (parameter.grad is None) == (expected is None), key
        if expected is not None:
            scale = max(1e-3, float(expected.abs().max()))
            np.testing.assert_allclose(parameter.grad, expected.numpy(), rtol=1e-5, atol=1e-6 * scale, err_msg=key)
    state = theirs.state_dict()
    for key, array in ours.state_dict().items():
        np.testing.assert_allclose(array, state[names[key]].numpy(), rtol=1e-6, atol=1e-9, err_msg=key)
