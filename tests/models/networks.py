"""What every network of `cyconv.models` has to do, on small and narrow ones."""

import numpy as np

from cyconv.gradient_check import check_gradients
from cyconv.layers import AvgPool2d, MaxPool2d, ReLU, Tanh
from cyconv.losses import CrossEntropyLoss
from cyconv.optimizers import SGD
from cyconv.training import train_step


def count(network):
    """Return the number of parameters; no weights are drawn for it."""
    parameters = network.parameters().values()
    assert not any(parameter.is_drawn for parameter in parameters)
    return sum(parameter.size for parameter in parameters)


def shapes(network, input_shape=None):
    """Return the output shape of each top-level layer, by name."""
    shape, found = input_shape or network.input_shape, {}
    for name, layer in network.children().items():
        shape = found[name] = layer.output_shape(shape)
    return found


def images(network, N=2, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal((N, *network.input_shape)).astype(dtype)


def check_trains_and_predicts(network):
    """Three steps on one batch lower its loss, and no gradient is missing."""
    x = images(network, 4)
    output_shape = network.output_shape(network.input_shape)
    y = np.random.default_rng(1).integers(output_shape[0], size=(4, *output_shape[1:]))
    assert network.predict(x).shape == (4, *output_shape)
    optimizer = SGD(0.02, momentum=0.9)
    network.train()
    losses = [train_step(network, x, y, CrossEntropyLoss(), optimizer)[0] for _ in range(6)]
    assert all(np.isfinite(losses))
    assert min(losses[1:]) < losses[0]
    for name, parameter in network.parameters().items():
        assert np.isfinite(parameter.data).all(), name


def smooth(network):
    """Put smooth layers in the place of ReLUs and max pooling: of thousands of numbers, a few always stand at kinks."""
    for _, layer in list(network.walk()):
        children = dict(layer.children())
        for name, child in children.items():
            if isinstance(child, ReLU):
                layer[name] = Tanh()
            elif isinstance(child, MaxPool2d):
                layer[name] = AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
    assert not any(isinstance(layer, ReLU | MaxPool2d) for _, layer in network.walk())
    return network


def check_network_gradients(network, N=3, max_entries=2, most=60, **options):
    """Compare gradients of the input and of up to `most` parameters with difference quotients, in float64."""
    rng = np.random.default_rng(3)
    parameters = list(network.parameters().values())
    for parameter in parameters:
        if len(parameter.shape) == 1:  # so that no bias is zero
            parameter.data = parameter.data + rng.uniform(0.01, 0.1, parameter.shape)
    for index in rng.permutation(len(parameters))[most:]:
        parameters[index].trainable = False
    check_gradients(smooth(network), images(network, N, np.float64), max_entries=max_entries, **options)


def check_saves_and_loads(make, tmp_path):
    """A file brings a network's outputs back."""
    network, other = make(seed=0), make(seed=1)
    network.train()
    network(images(network, 4))  # moves the running statistics
    x = images(network)
    network.save(tmp_path / "weights.safetensors")
    assert not np.array_equal(other.predict(x), network.predict(x))
    other.load(tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(other.predict(x), network.predict(x))


def check(make, tmp_path, **options):
    """Check a narrow network, made by ``make(seed=...)``, in all these ways."""
    check_saves_and_loads(make, tmp_path)
    check_trains_and_predicts(make(seed=0))
    check_network_gradients(make(seed=0), **options)
