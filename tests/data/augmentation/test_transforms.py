import numpy as np
import pytest

from cyconv.data.augmentation import (
    ColorJitter,
    Compose,
    PixelTransform,
    RandomCrop,
    RandomHorizontalFlip,
    RandomRotation,
    RandomShift,
    SpatialTransform,
)

X = np.random.default_rng(0).random((4, 3, 6, 6)).astype(np.float32)


def test_compose_hands_on_images_targets_and_generator():
    transforms = [RandomShift(2), ColorJitter(0.3), RandomHorizontalFlip()]
    x, y = Compose(transforms)(X, np.arange(4), 0)
    rng, expected = np.random.default_rng(0), X
    for transform in transforms:
        expected, _ = transform(expected, np.arange(4), rng)
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(y, np.arange(4))
    same, _ = Compose([])(X, y)
    np.testing.assert_array_equal(same, X)


def test_functions_are_transforms():
    x, y = Compose([lambda x, y, rng: (2 * x, y + rng.integers(5, 6))])(X, np.arange(4), 0)
    np.testing.assert_array_equal(x, 2 * X)
    assert y.tolist() == [5, 6, 7, 8]


def test_transforms_of_ones_own():
    class Darken(PixelTransform):
        def transformed(self, pixels, rng):
            return pixels / 2

    class Transpose(SpatialTransform):
        def drawn(self, count, size, rng):
            return lambda pixels, smooth: np.ascontiguousarray(pixels.swapaxes(1, 2))

    x, y = Compose([Darken(), Transpose()])(X, X[:, 0] > 0.5)
    np.testing.assert_array_equal(x, X.swapaxes(2, 3) / 2)
    np.testing.assert_array_equal(y, x[:, 0] > 0.25)


def test_representations_are_the_calls():
    assert repr(Compose([RandomCrop(32, 4), RandomRotation(15), ColorJitter(0.5)])) == (
        "Compose([RandomCrop(size=(32, 32), padding=(4, 4), mode='constant'), "
        "RandomRotation(degrees=15.0, mode='constant'), "
        "ColorJitter(brightness=0.5, contrast=0.0, saturation=0.0, channels=0.0)])"
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: Compose(RandomShift(1)),
            TypeError,
            "^Compose: `transforms` must be a sequence of transforms, got",
        ),
        (lambda: Compose("ab"), TypeError, "^Compose: `transforms` must be a sequence of transforms, got 'ab'"),
        (
            lambda: Compose([3]),
            TypeError,
            r"^Compose: `transforms` must be transforms, callables of",
        ),
        (lambda: Compose([RandomShift]), TypeError, "^Compose: `transforms` must be .*; call the class to make one"),
        (lambda: Compose([])(None, [0]), TypeError, "^Compose: `x` must be an array, got None"),
        (
            lambda: Compose([])(X, [0], "a"),
            TypeError,
            "^Compose: `rng` must be an integer, a numpy.random",
        ),
        (lambda: PixelTransform()(X, [0]), NotImplementedError, "^PixelTransform: `transformed` is not written"),
        (lambda: SpatialTransform()(X, [0]), NotImplementedError, "^SpatialTransform: `drawn` is not written"),
    ],
)
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()
