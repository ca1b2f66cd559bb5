"""Containers that run neighbours as one against the same layers run one by one."""

import numpy as np
import pytest

import cyconv
from cyconv import layers as L
from cyconv.layers import fusion


@pytest.fixture(autouse=True)
def fused_as_before():
    before = cyconv.is_fusing()
    yield
    cyconv.fusion(before)


def conv_norm_relu(channels=8, outputs=8, **options):
    return [L.Conv2d(channels, outputs, 3, padding=1, bias=False, **options), L.BatchNorm2d(outputs), L.ReLU()]


def residual(projection=False, last_norm=True):
    body = [*conv_norm_relu(), L.Conv2d(8, 8, 3, padding=1)] + ([L.BatchNorm2d(8)] if last_norm else [])
    shortcut = L.Sequential(L.Conv2d(8, 8, 1, bias=False), L.BatchNorm2d(8)) if projection else None
    return L.Residual(L.Sequential(body), shortcut)


COMPOSITIONS = {
    "conv relu": lambda: [L.Conv2d(8, 8, 3), L.ReLU()],
    "conv norm": lambda: [L.Conv2d(8, 16, 3), L.BatchNorm2d(16)],
    "conv norm relu": conv_norm_relu,
    "conv norm relu pool": lambda: [*conv_norm_relu(), L.MaxPool2d(2)],
    "conv relu pool": lambda: [L.Conv2d(8, 6, 5, padding=2), L.ReLU(), L.MaxPool2d(3, 2, 1)],
    "relu pool": lambda: [L.AvgPool2d(2), L.ReLU(), L.MaxPool2d(2)],
    "norm relu conv": lambda: [L.BatchNorm2d(8), L.ReLU(), L.Conv2d(8, 4, 1)],
    "norm relu pool": lambda: [L.BatchNorm2d(8), L.ReLU(), L.MaxPool2d(2)],
    "norm without parameters": lambda: [L.Conv2d(8, 8, 3), L.BatchNorm2d(8, affine=False), L.ReLU()],
    "winograd": lambda: [L.Conv2d(8, 32, 1), *conv_norm_relu(32, 32), L.Conv2d(32, 32, 3), L.ReLU()],
    "depthwise": lambda: [L.Conv2d(8, 8, 3, groups=8, padding=1), L.BatchNorm2d(8), L.ReLU()],
    "groups": lambda: conv_norm_relu(groups=2),
    "strided": lambda: [L.Conv2d(8, 8, 1, stride=3), L.BatchNorm2d(8), L.ReLU()],
    "transposed": lambda: [L.ConvTranspose2d(8, 6, 2, stride=2, groups=2), L.BatchNorm2d(6), L.ReLU()],
    "transposed, pixels that nothing reaches": lambda: [
        L.Residual(
            L.Sequential(L.Conv2d(8, 8, 1), L.ConvTranspose2d(8, 8, 1, stride=5, output_padding=4)),
            L.ConvTranspose2d(8, 8, 5, stride=5),
        ),
        L.ReLU(),
    ],
    "residual": lambda: [residual(), L.ReLU()],
    "residual without norm": lambda: [residual(last_norm=False), L.ReLU(), L.Conv2d(8, 2, 1)],
    "residual with projection": lambda: [*conv_norm_relu(), residual(projection=True), L.ReLU()],
    "residual of residuals": lambda: [L.Residual(L.Sequential(residual(), L.ReLU(), residual())), L.ReLU()],
    "residual before": lambda: [L.Residual(L.Sequential(L.BatchNorm2d(8), L.ReLU(), L.Conv2d(8, 8, 1)))],
    "residual of nothing": lambda: [L.Residual(L.Sequential([])), L.ReLU()],
    "three sums": lambda: [L.Branches([L.Conv2d(8, 4, 1), L.Conv2d(8, 4, 3, padding=1), L.Conv2d(8, 4, 1)], "sum")],
    "concatenated": lambda: [L.Branches([L.Conv2d(8, 4, 1), L.Identity(), L.Sequential(conv_norm_relu())]), L.ReLU()],
    "cropped sum": lambda: [L.Skip(L.Sequential(L.Conv2d(8, 8, 3), L.ReLU()), merge="sum"), L.ReLU()],
    "nested": lambda: [L.Sequential(L.Sequential(conv_norm_relu()), L.Conv2d(8, 8, 3)), L.ReLU(), L.MaxPool2d(2)],
    "linear": lambda: [L.Flatten(), L.Linear(8 * 12 * 12, 16), L.ReLU(), L.Linear(16, 4), L.ReLU()],
    "two norms": lambda: [L.BatchNorm2d(8), L.BatchNorm2d(8), L.ReLU(), L.ReLU()],
}


def results(name, fuse, dtype, needs_grad_input=True):
    """Return what two training steps and a prediction come to: outputs, gradients, running statistics."""
    cyconv.fusion(fuse)
    rng = np.random.default_rng(5)
    net = L.Sequential(COMPOSITIONS[name]()).initialize(7).astype(dtype)
    found = []
    for _ in range(2):
        x = rng.standard_normal((3, 8, 12, 12)).astype(dtype)
        net.zero_grad()
        y = net(x)
        grad = rng.standard_normal(y.shape).astype(dtype)
        found += [y, net.backward(grad, needs_grad_input)]
        found += [parameter.grad for parameter in net.parameters().values()]
    found += [array.copy() for array in net.state_dict().values()]
    for parameter in net.parameters().values():  # the batch norms' start as ones and zeros
        parameter.data[...] += 0.1 * rng.standard_normal(parameter.shape)
    net.eval()
    return [*found, net(x)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_same_as_one_by_one(name, dtype):
    tolerance = {"rtol": 2e-4, "atol": 2e-5} if dtype == np.float32 else {"rtol": 1e-11, "atol": 1e-12}
    together, apart = results(name, True, dtype), results(name, False, dtype)
    for a, b in zip(together, apart, strict=True):
        scale = max(1, np.abs(b).max())
        np.testing.assert_allclose(a / scale, b / scale, **tolerance)


@pytest.mark.parametrize("name", ["conv norm relu pool", "residual with projection", "concatenated"])
def test_same_without_the_input_s_gradient(name):
    together, apart = (results(name, fuse, np.float64, needs_grad_input=False) for fuse in (True, False))
    for a, b in zip(together, apart, strict=True):
        assert (a is None) == (b is None)
        if b is not None:
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def kinds(layers):
    return [[type(layer).__name__ for layer in group.layers] for group in fusion.grouped(layers, True)]


def test_what_goes_together():
    layers = [
        *conv_norm_relu(), L.MaxPool2d(2), L.MaxPool2d(2), L.ReLU(), residual(), L.ReLU(), L.BatchNorm2d(8), L.Flatten()
    ]  # fmt: skip
    assert kinds(layers) == [
        ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"], ["MaxPool2d", "ReLU"], ["Residual", "ReLU"], ["BatchNorm2d"],
        ["Flatten"],
    ]  # fmt: skip
    assert [len(group.layers) for group in fusion.grouped(layers, False)] == [1] * len(layers)


def test_subclasses_run_as_they_are_written():
    class Doubled(L.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

        def backward(self, grad_output, needs_grad_input=True):
            return super().backward(2 * grad_output, needs_grad_input)

    class Shifted(L.ReLU):
        def forward(self, x):
            return super().forward(x - 1)

    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 6, 6))
    conv, plain = Doubled(3, 3, 1).astype(np.float64), L.Conv2d(3, 3, 1).astype(np.float64)
    plain.load_state_dict(conv.state_dict())
    net = L.Sequential(L.Residual(conv), L.ReLU())
    y = np.maximum(2 * plain(x) + x, 0)
    np.testing.assert_allclose(net(x), y)
    grad = np.where(y > 0, 1.0, 0.0)
    np.testing.assert_allclose(net.backward(np.ones_like(y)), plain.backward(2 * grad) + grad)
    assert kinds([conv, L.BatchNorm2d(3)]) == [["Doubled"], ["BatchNorm2d"]]
    assert kinds([plain, Shifted()]) == [["Conv2d"], ["Shifted"]]
    np.testing.assert_allclose(L.Sequential(plain, Shifted()).eval()(x), np.maximum(plain(x) - 1, 0))


def test_a_network_may_change_sides_between_its_passes():
    net = L.Sequential(COMPOSITIONS["conv norm relu pool"]()).initialize(0)
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 8), np.float32)
    y = net(x)
    cyconv.fusion(False)
    first = net.backward(y)
    y = net(x)
    cyconv.fusion(True)
    np.testing.assert_allclose(net.backward(y), first, atol=1e-5)


def test_a_sum_of_different_shapes_is_refused():
    with pytest.raises(ValueError, match="outputs to be merged by 'sum' must have the same shape"):
        L.Sequential(L.Residual(L.Conv2d(8, 4, 1)), L.ReLU())(np.zeros((1, 8, 4, 4), np.float32))


# What predicting keeps of the weights


def predicting():
    net = L.Sequential(L.Conv2d(4, 32, 3), *conv_norm_relu(32, 32), L.Conv2d(32, 5, 1)).initialize(0).eval()
    x = np.random.default_rng(1).standard_normal((1, 4, 9, 9), np.float32)
    for _ in range(2):
        net(x)
    return net, x


def unkept(net, x):
    """Return the prediction of a network that has kept nothing."""
    fresh = L.Sequential(L.Conv2d(4, 32, 3), *conv_norm_relu(32, 32), L.Conv2d(32, 5, 1)).eval()
    fresh.load_state_dict(net.state_dict())
    fresh[2].eps = net[2].eps
    return fresh(x)


def held_view(net):
    view = net[1].weight.data[2:5, 1]
    net(np.zeros((1, 4, 9, 9), np.float32))
    yield
    view += 1


def held_memory(net):
    memory = memoryview(net[1].weight.data)
    net(np.zeros((1, 4, 9, 9), np.float32))
    yield
    np.asarray(memory)[:] *= 2


def held_whole(net):
    whole = net[1].weight.data
    yield
    net(np.zeros((1, 4, 9, 9), np.float32))
    whole[0] = 3


CHANGES = {
    "written through data": lambda net: net[1].weight.data.fill(0.01),
    "assigned": lambda net: setattr(net[1].weight, "data", np.full((32, 32, 3, 3), 0.02)),
    "loaded": lambda net: net.load_state_dict(
        {n: (1.5 * array).astype(array.dtype) for n, array in net.state_dict().items()}
    ),
    "drawn anew": lambda net: net.initialize(3),
    "bias": lambda net: net[0].bias.data.fill(7),
    "scale": lambda net: net[2].weight.data.fill(7),
    "running mean": lambda net: net[2].running_mean.fill(-1),
    "running variance": lambda net: net[2].running_var.__imul__(3),
    "epsilon": lambda net: setattr(net[2], "eps", 0.5),
    "a view that was held": held_view,
    "memory that was held": held_memory,
    "the array that was held": held_whole,
}


@pytest.mark.parametrize("name", CHANGES)
def test_predictions_follow_the_weights(name):
    net, x = predicting()
    before = net(x)
    change = CHANGES[name](net)
    if name.endswith("held"):
        for _ in change:
            net(x)
    after = net(x)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_array_equal(after, unkept(net, x))


def test_filters_are_kept_while_nothing_changes():
    net, x = predicting()
    kept = [layer._prepared for layer in net]
    np.testing.assert_array_equal(net(x), unkept(net, x))  # which reads the weights, so that they count as changed
    net(x)
    again = [layer._prepared for layer in net]
    net(x)
    assert kept[1] is not again[1]
    assert [layer._prepared for layer in net][1] is again[1]
    net.train()
    assert net[1]._prepared is None
