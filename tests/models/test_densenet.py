from functools import partial

import pytest

from cyconv import models
from tests.models import networks

PUBLISHED = {121: 7_978_856, 161: 28_681_000, 169: 14_149_480, 201: 20_013_928}


@pytest.mark.parametrize("depth", PUBLISHED)
def test_counts(depth):
    network = models.densenet(depth)
    assert networks.count(network) == PUBLISHED[depth]
    assert len([name for name, parameter in network.parameters().items() if len(parameter.shape) > 1]) == depth


def test_shapes():
    network = models.densenet121()
    steps = {step.name: step.output_shape for step in network.trace((3, 224, 224))}
    assert steps["features.pool0"] == (64, 56, 56)
    assert steps["features.denseblock1.denselayer1"] == (96, 56, 56)
    transitions = [steps[f"features.transition{i}.pool"] for i in (1, 2, 3)]
    assert transitions == [(128, 28, 28), (256, 14, 14), (512, 7, 7)]
    assert steps["features.norm5"] == (1024, 7, 7)
    small = models.densenet121(10, growth=12, small_stem=True, input_size=32)
    assert small["features"].output_shape((3, 32, 32)) == (384, 4, 4)


def test_narrow(tmp_path):
    make = partial(models.densenet121, 3, 2, growth=2, small_stem=True, input_size=16)
    networks.check(make, tmp_path, max_entries=1)


def test_refuses():
    with pytest.raises(ValueError, match="densenet: `depth` must be 121, 161, 169 or 201, got 120"):
        models.densenet(120)
