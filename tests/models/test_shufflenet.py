from functools import partial

import pytest

from cyconv import models
from cyconv.layers import BatchNorm2d, ChannelShuffle, Conv2d
from tests.models import networks

# torchvision's; in the paper 1.4, 2.3, 3.5 and 7.4 million
V2 = {
    0.5: 1_366_792,
    1.0: 2_278_604,
    1.5: 3_503_624,
    2.0: 7_393_996,
}


@pytest.mark.parametrize("width_multiplier", V2)
def test_v2_counts(width_multiplier):
    assert networks.count(models.shufflenet_v2(width_multiplier=width_multiplier)) == V2[width_multiplier]


def expected_v1(groups, width):
    """Add up table 1 of the paper, each convolution with its normalisation."""

    def conv(inputs, outputs, size, groups=1):
        return outputs * (inputs // groups) * size * size + 2 * outputs

    total, channels = conv(3, 24, 3), 24
    for stage, repeats in enumerate((4, 8, 4)):
        for k in range(repeats):
            inside, leaving = width // 4, width - channels if k == 0 else width
            total += conv(channels, inside, 1, 1 if stage == k == 0 else groups)
            total += conv(inside, inside, 3, inside) + conv(inside, leaving, 1, groups)
            channels = width
        width *= 2
    return total + channels * 1000 + 1000


@pytest.mark.parametrize(("groups", "width"), [(1, 144), (2, 200), (3, 240), (4, 272), (8, 384)])
def test_v1_counts(groups, width):
    network = models.shufflenet_v1(groups=groups)
    assert networks.count(network) == expected_v1(groups, width)
    found = networks.shapes(network)
    assert [found[f"stage{i}"] for i in (2, 3, 4)] == [(width, 28, 28), (2 * width, 14, 14), (4 * width, 7, 7)]


def test_v2_shapes():
    network = models.shufflenet_v2()
    found = networks.shapes(network)
    assert [found[name] for name in ("maxpool", "stage2", "stage3", "stage4", "conv5")] == [
        (24, 56, 56),
        (116, 28, 28),
        (232, 14, 14),
        (464, 7, 7),
        (1024, 7, 7),
    ]
    assert len([layer for _, layer in network.walk() if isinstance(layer, ChannelShuffle)]) == 16
    small = models.shufflenet_v2(10, stem_stride=1, input_size=32)
    assert networks.shapes(small)["conv5"] == (1024, 4, 4)


def test_v1_shuffles_between_the_groups():
    unit = models.shufflenet_v1(groups=4)["stage3"]["1"]["body"]
    kinds = [type(layer) for layer in unit]
    assert kinds.index(ChannelShuffle) == 3
    assert [layer.groups for layer in unit if isinstance(layer, Conv2d)] == [4, 136, 4]
    assert kinds[-1] is BatchNorm2d


@pytest.mark.parametrize(
    "make",
    [
        partial(models.shufflenet_v1, 3, 2, groups=2, width=32),
        partial(models.shufflenet_v2, 3, 2, widths=(8, 12, 16, 10)),
    ],
    ids=["v1", "v2"],
)
def test_narrow(make, tmp_path):
    networks.check(partial(make, stem_stride=1, input_size=9), tmp_path, max_entries=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(models.shufflenet_v1, groups=5), "shufflenet_v1: `groups` must be 1, 2, 3, 4 or 8, got 5"),
        (
            partial(models.shufflenet_v1, groups=8, width=48),
            "`width` must be a multiple of 4 \\* groups, 32, got 48",
        ),
        (partial(models.shufflenet_v2, width_multiplier=3), "shufflenet_v2: `width_multiplier` must be 0.5, .*, got 3"),
        (partial(models.shufflenet_v2, widths=(8, 7, 6, 5)), "shufflenet_v2: `widths` must be four numbers, the first"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
