"""Which algorithm computes which convolution: a pure function of shapes, dtype and what was asked for."""

import numpy as np
import pytest

from cyconv._dispatch import images
from cyconv.functional._correlation import FILTER_BYTES, Columns, Direct, Grouped, Images, Planes, Winograd
from cyconv.functional.conv import _read_plan, planned
from tests import references

# batch, input channels, output channels, size, kernel, stride, padding, groups: forward, input gradient
CHOICES = {
    "VGG-16 conv3": ((16, 256, 256, 56, 3, 1, 1, 1), Winograd, Winograd),
    "VGG-16 conv1": ((3, 3, 64, 224, 3, 1, 1, 1), Direct, Planes),
    "ResNet-20 first stage": ((128, 16, 16, 32, 3, 1, 1, 1), Winograd, Winograd),
    "ResNet-50 stem": ((3, 3, 64, 224, 7, 2, 3, 1), Direct, Planes),
    "ResNet-50 1x1": ((8, 256, 64, 56, 1, 1, 0, 1), Direct, Direct),
    "ResNet-50 3x3, strided": ((8, 128, 128, 56, 3, 2, 1, 1), Direct, Direct),
    "GoogLeNet 5x5": ((16, 48, 128, 14, 5, 1, 2, 1), Winograd, Winograd),
    "MobileNet depthwise": ((16, 128, 128, 56, 3, 1, 1, 128), Grouped, Grouped),
    "LeNet-5 conv1, one image": ((1, 1, 6, 28, 5, 1, 2, 1), Planes, Planes),
    "one image of 16 tiles": ((1, 256, 256, 14, 3, 1, 1, 1), Winograd, Winograd),
    "one image of 4 tiles": ((1, 512, 512, 7, 3, 1, 1, 1), Direct, Direct),
    "rows of two pixels": ((16, 32, 32, (2, 64), 3, 1, 1, 1), Winograd, Winograd),
    "rows of one pixel": ((3, 32, 32, (1, 64), 3, 1, 1, 1), Direct, Direct),
    "15 channels": ((3, 15, 15, 32, 3, 1, 1, 1), Direct, Direct),
    "DCGAN": ((64, 128, 256, 32, 4, 2, 1, 1), Winograd, Winograd),
    "DCGAN, to an image": ((64, 3, 128, 64, 4, 2, 1, 1), Direct, Planes),
    "4x4, strided, 32 tiles": ((32, 256, 512, 8, 4, 2, 1, 1), Winograd, Winograd),
    "4x4, strided, 31 tiles": ((31, 256, 512, 8, 4, 2, 1, 1), Direct, Direct),
    "4x4, strided, 31 channels": ((64, 31, 64, 32, 4, 2, 1, 1), Direct, Direct),
    "4x4, strided, 9 of 16 pixels": ((64, 256, 256, 12, 4, 2, 1, 1), Direct, Direct),
    "4x4, strided, only its outputs fill tiles": ((64, 64, 64, 10, 4, 2, 0, 1), Winograd, Direct),
    "5x5, strided": ((16, 64, 128, 32, 5, 2, 2, 1), Winograd, Winograd),
    "6x6, strided, 16 channels, 16 tiles": ((1, 16, 16, 32, 6, 2, 2, 1), Winograd, Winograd),
    "2x2": ((16, 64, 64, 33, 2, 1, 0, 1), Winograd, Winograd),
    "2x2, strided": ((16, 64, 64, 32, 2, 2, 0, 1), Direct, Direct),
    "4x4": ((16, 64, 64, 32, 4, 1, 0, 1), Direct, Direct),
    "dilated": ((16, 64, 64, 32, (3, 2), 1, 2, 1), Direct, Direct),
}


def plan(shape, dtype=np.float32, algorithm="auto"):
    N, IC, OC, size, kernel, stride, padding, groups = shape
    H, W = size if isinstance(size, tuple) else (size, size)
    kernel, dilation = kernel if isinstance(kernel, tuple) else (kernel, 1)
    parameters = stride, padding, dilation, groups, algorithm, None, False
    return _read_plan("conv2d", (N, IC, H, W), (OC, IC // groups, kernel, kernel), None, np.dtype(dtype), *parameters)


@pytest.mark.parametrize("name", CHOICES)
def test_choice(name):
    shape, forward, adjoint = CHOICES[name]
    chosen = plan(shape)
    assert (type(chosen.forward), type(chosen.adjoint)) == (forward, adjoint)


@pytest.mark.parametrize("name", CHOICES)
def test_float64_is_never_filtered_minimally(name):
    chosen = plan(CHOICES[name][0], np.float64)
    assert Winograd not in (type(chosen.forward), type(chosen.adjoint))


@pytest.mark.parametrize(("algorithm", "kind"), [("direct", Direct), ("im2col", Columns), ("winograd", Winograd)])
def test_what_was_asked_for(algorithm, kind):
    chosen = plan((2, 16, 16, 8, 3, 1, 1, 1), algorithm=algorithm)
    assert type(chosen.forward) is type(chosen.adjoint) is kind


def test_many_small_images_of_few_channels():
    lanes = images.vector_lanes(np.empty(1, np.float32))
    shape = (1, 6, 28, 5, 1, 2, 1)
    assert type(plan((4 * lanes, *shape)).forward) is Images
    assert type(plan((lanes - 1, *shape)).forward) is Planes
    assert type(plan((lanes + 1, *shape)).forward) is Planes  # half of the lanes would be idle


def test_a_shape_is_planned_once():
    assert plan(CHOICES["GoogLeNet 5x5"][0]) is plan(CHOICES["GoogLeNet 5x5"][0])


def test_large_filters_are_not_transformed_at_once():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 1024, 8, 8), np.float32)
    weight = rng.standard_normal((832, 3, 3, 1024), np.float32).transpose(0, 3, 1, 2)
    _, chosen = planned("conv2d", x, weight, None, 1, 1, 1, 1, "winograd")
    assert 4 * weight.nbytes > 2 * FILTER_BYTES
    assert chosen.forward.prepare(weight.transpose(0, 2, 3, 1)).size == weight.size
    pixels = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    addend = rng.standard_normal(chosen.forward.out_shape, np.float32)
    bias = rng.standard_normal(832, np.float32)
    filters = weight.transpose(0, 2, 3, 1)
    found = chosen.forward.apply(pixels, chosen.forward.prepare(filters), bias, addend, True)
    expected = references.conv2d(x, weight, bias, padding=1).transpose(0, 2, 3, 1) + addend
    assert relative_error(found, np.maximum(expected, 0)) < 5e-6
    found = chosen.adjoint.apply(addend, chosen.adjoint.prepare(filters), None)
    grad = addend.transpose(0, 3, 1, 2)
    expected = references.conv2d_backward(grad, x, weight, padding=1)[0]
    assert relative_error(found, expected.transpose(0, 2, 3, 1)) < 5e-6


def relative_error(found, expected):
    return np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))
