import numpy as np
import pytest

from cyconv.models import lenet5


def count(network):
    return sum(parameter.size for parameter in network.parameters().values())


@pytest.mark.parametrize("form", ["modern", "1998"])
@pytest.mark.parametrize("input_size", [28, 32])
def test_lenet5_is_the_papers(form, input_size):
    network = lenet5(form=form, input_size=input_size, seed=0)
    assert count(network) == 61_706
    shapes = [parameter.shape for parameter in network.parameters().values() if len(parameter.shape) > 1]
    assert shapes == [(6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84)]
    assert network.predict_proba(np.zeros((2, 1, input_size, input_size), np.float32)).shape == (2, 10)


def test_lenet5_of_other_images_and_classes():
    network = lenet5(num_classes=3, in_channels=3)
    assert count(network) == 61_706 + 2 * 150 - 7 * 85
    assert network.predict_proba(np.zeros((1, 3, 32, 32), np.float32)).shape == (1, 3)


def test_lenet5_forms_differ_in_activation_and_pooling():
    modern, original = (
        [type(step.layer).__name__ for step in lenet5(form=form).trace((1, 32, 32))] for form in ("modern", "1998")
    )
    assert modern[:3] == ["Conv2d", "ReLU", "MaxPool2d"]
    assert original[:3] == ["Conv2d", "Tanh", "AvgPool2d"]
    assert len(modern) == len(original) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"form": "2012"}, "lenet5: `form` must be one of 'modern', '1998', got '2012'"),
        ({"input_size": 30}, "lenet5: `input_size` must be 28 or 32, got 30"),
    ],
)
def test_lenet5_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        lenet5(**arguments)


def test_a_seed_fixes_the_weights():
    first, same, other = (lenet5(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], same[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)
