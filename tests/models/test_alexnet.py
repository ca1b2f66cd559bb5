from functools import partial

import numpy as np
import pytest

from cyconv import models
from cyconv.layers import Conv2d, Linear
from tests.models import networks


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, 62_378_344), ({"grouped": True}, 60_965_224), ({"form": "2014"}, 61_100_840)],
)
def test_counts(options, expected):
    assert networks.count(models.alexnet(**options)) == expected


@pytest.mark.parametrize(("form", "widths"), [("2012", (96, 256, 256)), ("2014", (64, 192, 256))])
def test_shapes(form, widths):
    network = models.alexnet(form=form)
    steps = {step.name: step.output_shape for step in network.trace(network.input_shape)}
    assert steps["features.0"] == (widths[0], 55, 55)
    pooled = [steps[f"features.{i}"] for i in (2, 5, 12)]
    assert pooled == [(width, size, size) for width, size in zip(widths, (27, 13, 6), strict=True)]
    assert steps["flatten"] == (9216,)
    assert network.output_shape(network.input_shape) == (1000,)


def test_initial_weights_may_be_the_papers():
    network = models.alexnet(grouped=True, width_multiplier=0.1, hidden=64, initial="2012", seed=0)
    layers = [layer for _, layer in network.walk() if isinstance(layer, Conv2d | Linear)]
    assert all(0.009 < layer.weight.data.std() < 0.011 for layer in layers)
    assert [layer.bias.data.tolist()[0] for layer in layers] == [0, 1, 0, 1, 1, 1, 1, 0]
    assert [layer.groups for layer in layers[:5]] == [1, 2, 1, 2, 2]


def test_narrow(tmp_path):
    make = partial(models.alexnet, 3, 2, grouped=True, width_multiplier=0.05, hidden=12, dropout=0.1, input_size=67)
    networks.check(make, tmp_path)


def test_refuses():
    with pytest.raises(ValueError, match="alexnet: `form` must be one of '2012', '2014', got '2013'"):
        models.alexnet(form="2013")
    with pytest.raises(ValueError, match="alexnet: `initial` must be one of 'he', '2012', got 'normal'"):
        models.alexnet(initial="normal")
    with pytest.raises(ValueError, match=r"features\.12: MaxPool2d: the kernel spans"):
        models.alexnet(input_size=66)


def test_any_size():
    network = models.alexnet(3, 1, width_multiplier=0.02, hidden=4, input_size=None)
    assert network.predict(np.zeros((1, 1, 67, 90), np.float32)).shape == (1, 3)


def test_response_normalization_is_the_papers():
    names = {
        form: [name for name, _ in models.alexnet(form=form).walk() if "norm" in name] for form in ("2012", "2014")
    }
    assert names == {"2012": ["features.norm1.", "features.norm2."], "2014": []}
    plain = models.alexnet(response_norm=False)
    assert list(plain.parameters()) == list(models.alexnet().parameters())
    features = list(models.alexnet()["features"].children())
    assert features[:7] == ["0", "1", "norm1", "2", "3", "4", "norm2"]
    layer = models.alexnet()["features"]["norm1"]
    x = np.random.default_rng(0).standard_normal((1, 7, 1, 1)).astype(np.float32) * 50
    squares = np.array([sum(x[0, j, 0, 0] ** 2 for j in range(max(0, c - 2), min(7, c + 3))) for c in range(7)])
    np.testing.assert_allclose(layer(x)[0, :, 0, 0], x[0, :, 0, 0] / (2 + 1e-4 * squares) ** 0.75, rtol=1e-5)
