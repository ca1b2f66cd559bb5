import numpy as np
import pytest

from cyconv.gradient_check import check_gradients
from cyconv.layers import (
    BatchNorm2d,
    Branches,
    Conv2d,
    Dropout,
    Flatten,
    Identity,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Skip,
    Tanh,
)


def images(shape=(2, 3, 8, 8), dtype=np.float64):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


CONTAINERS = {
    "sequential": Sequential(Conv2d(3, 4, 3), Tanh(), Dropout(0.2), Conv2d(4, 2, 1)),
    "empty": Sequential(),
    "residual": Residual(Sequential(Conv2d(3, 3, 3, padding=1), BatchNorm2d(3))),
    "projection": Residual(Conv2d(3, 5, 3, stride=2, padding=1), shortcut=Conv2d(3, 5, 1, stride=2)),
    "concat": Branches([Conv2d(3, 2, 1), Conv2d(3, 4, 3, padding=1), Sequential(Conv2d(3, 1, 1), Tanh())]),
    "sum": Branches({"a": Conv2d(3, 2, 1), "b": Conv2d(3, 2, 3, padding=1)}, merge="sum"),
    "dense": Skip(Conv2d(3, 4, 3, padding=1)),
    "cropping": Skip(Sequential(Conv2d(3, 4, 3), Tanh(), Conv2d(4, 5, 2))),
    "skip sum": Skip(Conv2d(3, 3, 4), merge="sum"),
    "nested": Residual(Sequential(Branches([Conv2d(3, 1, 1), Residual(Conv2d(3, 3, 1))]), Conv2d(4, 3, 1))),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_gradients(name):
    check_gradients(CONTAINERS[name], images())


@pytest.mark.parametrize("name", CONTAINERS)
def test_output_shape_is_that_of_forward(name):
    net = CONTAINERS[name]
    assert net(images(dtype=np.float32)).shape[1:] == net.output_shape((3, 8, 8))
    steps = list(net.trace((3, 8, 8)))
    assert not steps or steps[-1].output_shape == net.output_shape((3, 8, 8))


def test_vectors_are_concatenated_too():
    net = Branches([Linear(4, 2), Linear(4, 3)])
    check_gradients(net, images((5, 4)))
    assert net(images((5, 4), np.float32)).shape == (5, 5)


def test_forward_of_each_merge():
    x = images(dtype=np.float32)
    conv = Conv2d(3, 3, 1).initialize(0)
    y = conv(x)
    np.testing.assert_allclose(Residual(conv)(x), x + y, rtol=1e-6)
    np.testing.assert_array_equal(Skip(conv)(x), np.concatenate([x, y], axis=1))
    valid = Conv2d(3, 3, 3).initialize(0)
    np.testing.assert_array_equal(Skip(valid)(x)[:, :3], x[:, :, 1:-1, 1:-1])


def test_names_may_be_given():
    net = Sequential({"stem": Conv2d(3, 4, 3), "head": Sequential(Flatten(), Linear(4, 2))})
    assert list(net.parameters()) == ["stem.weight", "stem.bias", "head.1.weight", "head.1.bias"]
    assert net["stem"] is net[0]
    assert [type(layer) for layer in net] == [Conv2d, Sequential]
    assert len(net) == 2


def test_a_list_and_arguments_are_the_same():
    layers = [Conv2d(3, 4, 3), ReLU()]
    assert repr(Sequential(layers)) == repr(Sequential(*layers))
    assert list(Sequential(Sequential(Conv2d(3, 4, 3))).parameters()) == ["0.0.weight", "0.0.bias"]


def test_the_first_layers_input_gradient_is_not_computed():
    net = Sequential(MaxPool2d(2), Conv2d(3, 4, 1), ReLU()).initialize(0)
    y = net(images(dtype=np.float32))
    assert net.backward(y, needs_grad_input=False) is None
    assert net[1].weight.grad is not None
    with pytest.raises(RuntimeError, match="MaxPool2d: each `backward`"):
        net[0].backward(y)  # what it kept is gone though it did not run


def test_layers_below_the_first_trainable_one_do_not_run():
    net = Sequential(Conv2d(3, 4, 1), ReLU(), Conv2d(4, 2, 1)).initialize(0)
    for parameter in net[0].parameters().values():
        parameter.trainable = False
    assert net.backward(net(images(dtype=np.float32)), needs_grad_input=False) is None
    assert net[0].weight.grad is None
    assert net[2].weight.grad is not None


def test_repr_is_indented():
    assert repr(Sequential(Residual(ReLU()), Flatten())) == (
        "Sequential(\n  (0): Residual(\n    (body): ReLU()\n    (shortcut): Identity()\n  )\n  (1): Flatten()\n)"
    )
    assert repr(Branches([ReLU()], merge="sum")) == "Branches(\n  (0): ReLU()\n  merge='sum'\n)"
    assert repr(Sequential()) == "Sequential()"


def test_bad_layers_are_named():
    with pytest.raises(TypeError, match="Sequential: `layers` must be layers, got 3 at '1'"):
        Sequential(ReLU(), 3)
    with pytest.raises(ValueError, match=r"a layer's name must be a string without dots, got 'a\.b'"):
        Sequential({"a.b": ReLU()})
    shared = ReLU()
    with pytest.raises(ValueError, match=r"Sequential: the ReLU at '1\.0' stands elsewhere too"):
        Sequential(shared, Sequential(shared))
    for given in (None, 3, "ab", ReLU):
        with pytest.raises(TypeError, match="Sequential: `layers` must be layers or a mapping of names to them, got"):
            Sequential(given)
    with pytest.raises(TypeError, match=r"Branches: `layers` must be layers or .*, got ReLU\(\)"):
        Branches(ReLU())
    with pytest.raises(ValueError, match="Branches: `layers` must hold at least one layer"):
        Branches([])
    with pytest.raises(ValueError, match="Branches: `merge` must be one of 'concat', 'sum', got 'mean'"):
        Branches([ReLU()], merge="mean")


def test_branches_that_do_not_fit_are_named():
    net = Branches([Conv2d(3, 2, 1), Conv2d(3, 2, 3)])
    message = (
        r"Branches: outputs to be merged by 'concat' must have the same height and width, got \(2, 8, 8\), \(2, 6, 6"
    )
    with pytest.raises(ValueError, match=message):
        net.output_shape((3, 8, 8))
    with pytest.raises(ValueError, match=message):
        net(images(dtype=np.float32))
    with pytest.raises(ValueError, match="Residual: outputs to be merged by 'sum' must have the same shape"):
        Residual(Conv2d(3, 4, 1)).output_shape((3, 8, 8))
    assert Identity().output_shape((3,)) == (3,)
