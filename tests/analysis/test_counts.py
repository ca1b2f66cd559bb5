"""Numbers of parameters and multiply-adds: those of the literature, and loops that count."""

import itertools

import numpy as np
import pytest

from cyconv import analysis, models
from cyconv import layers as L
from cyconv.functional import conv2d, conv_transpose2d

# Multiply-adds for one image of the size that the network is built for. ResNet, VGG-19, DenseNet and ShuffleNet v2: as
# torchvision publishes them, to three digits; VGG-16, AlexNet and MobileNet: by hand from the tables of the papers.
PUBLISHED = {
    "vgg16": 15.47e9,
    "vgg19": 19.63e9,
    "resnet18": 1.814e9,
    "resnet34": 3.664e9,
    "resnet50": 4.089e9,
    "resnet101": 7.801e9,
    "resnet152": 11.514e9,
    "densenet121": 2.834e9,
    "shufflenet_v2": 0.145e9,
    "mobilenet_v1": 569e6,
    "alexnet": 1.135e9,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_multiply_adds_are_the_published_ones(name):
    network = getattr(models, name)()
    assert analysis.count_flops(network) == pytest.approx(PUBLISHED[name], rel=1e-3)
    assert not any(parameter.is_drawn for parameter in network.parameters().values())


def test_vgg16_by_hand():
    """Thirteen convolutions of 3x3 and three fully connected layers."""
    size, channels, flops, parameters = 224, 3, 0, 0
    for stage in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)):
        for wide in stage:
            flops += size * size * channels * wide * 9
            parameters += channels * wide * 9 + wide
            channels = wide
        size //= 2
    for inputs, outputs in ((7 * 7 * 512, 4096), (4096, 4096), (4096, 1000)):
        flops += inputs * outputs
        parameters += inputs * outputs + outputs
    network = models.vgg16()
    assert analysis.count_flops(network) == flops == 15_470_264_320
    assert analysis.count_parameters(network) == parameters == 138_357_544


def test_grouped_alexnet_takes_half_in_three_layers():
    dense, grouped = (analysis.count_flops(models.alexnet(grouped=grouped)) for grouped in (False, True))
    halves = 27 * 27 * 256 * 96 * 25 + 13 * 13 * (384 * 384 + 384 * 256) * 9
    assert dense - grouped == halves // 2


def test_layers_beside_the_way_are_not_counted():
    with_heads, without = (models.googlenet(auxiliary=heads) for heads in (True, False))
    assert analysis.count_flops(with_heads) == analysis.count_flops(without)
    assert analysis.count_parameters(with_heads) > analysis.count_parameters(without)


def products(function, x_shape, weight_shape, **options):
    """Count the products of a convolution without padding: the sum over the output of ones times ones."""
    return int(function(np.ones(x_shape), np.ones(weight_shape), **options).sum())


@pytest.mark.parametrize(("stride", "dilation", "groups"), [*itertools.product((1, 2), repeat=3)])
def test_convolutions_by_their_own_products(stride, dilation, groups):
    options = {"stride": stride, "dilation": dilation, "groups": groups}
    layer = L.Conv2d(4, 6, (3, 2), **options)
    expected = products(conv2d, (1, 4, 9, 8), layer.weight.shape, **options)
    assert analysis.count_flops(layer, (4, 9, 8)) == expected
    _, *size = layer.output_shape((4, 9, 8))
    assert analysis.conv_flops(4, 6, (3, 2), size, groups) == expected
    transposed = L.ConvTranspose2d(4, 6, (3, 2), **options)
    expected = products(conv_transpose2d, (1, 4, 9, 8), transposed.weight.shape, **options)
    assert analysis.count_flops(transposed, (4, 9, 8)) == expected == analysis.conv_flops(4, 6, (3, 2), (9, 8), groups)


def test_formulas_are_those_of_the_layers():
    for groups, bias in itertools.product((1, 4), (True, False)):
        arguments = 8, 12, 3
        layer = L.Conv2d(*arguments, groups=groups, bias=bias)
        assert analysis.conv_parameters(*arguments, groups, bias) == analysis.count_parameters(layer)
        line = L.Conv1d(*arguments, groups=groups, bias=bias)
        assert analysis.conv_parameters(8, 12, (3,), groups, bias) == analysis.count_parameters(line)
        assert analysis.conv_flops(8, 12, 3, (20,), groups) == analysis.count_flops(line, (8, 22))
        box = L.Conv3d(8, 12, (1, 2, 3), groups=groups, bias=bias)
        assert analysis.conv_flops(8, 12, (1, 2, 3), (4, 5, 6), groups) == analysis.count_flops(box, (8, 4, 6, 8))
        linear = L.Linear(7, 5, bias=bias)
        assert analysis.linear_parameters(7, 5, bias) == analysis.count_parameters(linear)
        assert analysis.linear_flops(7, 5) == analysis.count_flops(linear, (7,)) == 35
        assert analysis.count_flops(L.WeightNorm(linear), (7,)) == 35
    assert analysis.count_flops(L.LSTM(3, 5), (7, 3)) == 7 * 4 * 5 * (3 + 5)


def test_frozen_parameters_can_be_left_out():
    network = L.Sequential(L.Linear(2, 3), L.Linear(3, 4))
    network["1"].bias.trainable = False
    assert analysis.count_parameters(network) == 25
    assert analysis.count_parameters(network, trainable=True) == 21


def test_every_layer_has_a_rule():
    kinds = [kind for name in L.__all__ if isinstance(kind := getattr(L, name), type) and issubclass(kind, L.Layer)]
    nowhere = analysis.multiply_adds.dispatch(L.Layer)
    without = {kind.__name__ for kind in kinds if analysis.multiply_adds.dispatch(kind) is nowhere}
    assert without == {"Layer", "Sequential"}  # the one is none, the other takes no step of its own


class Scale(L.Layer):
    def output_shape(self, input_shape):
        return input_shape


def test_layers_of_ones_own_need_a_rule():
    network = L.Sequential(L.Linear(2, 3), Scale())
    message = r"no rule for Scale; give one with `cyconv\.analysis\.multiply_adds\.register\(Scale\)`"
    with pytest.raises(TypeError, match=message):
        analysis.count_flops(network, (2,))

    class Doubled(Scale):
        pass

    analysis.multiply_adds.register(Doubled, lambda layer, input_shape, output_shape: input_shape[0])
    assert analysis.count_flops(L.Sequential(L.Linear(2, 3), Doubled()), (2,)) == 9


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: analysis.count_parameters("lenet5"), TypeError, "count_parameters: `layer` must be a layer or netw"),
        (lambda: analysis.count_parameters(L.ReLU(), 1), TypeError, "count_parameters: `trainable` must be True or F"),
        (lambda: analysis.count_flops(L.ReLU()), ValueError, "count_flops: the network needs an `input_shape`"),
        (lambda: analysis.count_flops(L.ReLU(), 4), TypeError, r"count_flops: `input_shape` must be \(C, H, W\) or"),
        (lambda: analysis.count_flops(L.ReLU(), (0,)), ValueError, "count_flops: `input_shape` must be at least 1"),
        (lambda: analysis.count_flops(L.Flatten(), (4,)), ValueError, "layer at the top: Flatten: needs images"),
        (lambda: analysis.conv_parameters(3, 4, 3, 2), ValueError, "conv_parameters: `groups` must divide"),
        (lambda: analysis.conv_parameters(3, 4, 0), ValueError, "conv_parameters: `kernel_size` must be at least 1"),
        (lambda: analysis.conv_parameters(3, 4, 3, bias=1), TypeError, "conv_parameters: `bias` must be True or"),
        (lambda: analysis.conv_flops(3, 4, (3,), (5, 5)), ValueError, "conv_flops: `kernel_size` must have as many"),
        (lambda: analysis.linear_parameters(3, 4.0), TypeError, "linear_parameters: `out_features` must be an integer"),
        (lambda: analysis.linear_flops(0, 4), ValueError, "linear_flops: `in_features` must be at least 1"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
