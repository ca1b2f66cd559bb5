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
