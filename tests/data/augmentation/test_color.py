import numpy as np
import pytest

from cyconv.data.augmentation import ColorJitter, Cutout, Normalize


def images(*shape, dtype=np.float32):
    return np.random.default_rng(0).random(shape).astype(dtype)


class Halves:
    """Draws the middle between the upper end and the middle of every range."""

    def uniform(self, low, high, shape):
        return np.full(shape, low + 0.75 * (high - low))


def step_by_step(x, brightness, contrast, saturation, channels):
    """The documentation's formulas, one image after the other, with strengths that `Halves` makes factors of."""
    b, c, s, f = (1 + strength / 2 for strength in (brightness, contrast, saturation, channels))

    def grey(image):
        return 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2] if len(image) == 3 else image.mean(0)

    result = []
    for image in x.astype(np.float64):
        image = b * image
        image = grey(image).mean() + c * (image - grey(image).mean())
        image = grey(image) + s * (image - grey(image)) if saturation else image
        result.append(f * image)
    return np.array(result)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "strengths",
    [(0.4, 0, 0, 0), (0, 0.4, 0, 0), (0, 0, 0.4, 0), (0, 0, 0, 0.4), (0.1, 0.2, 0.3, 0.4), (1, 1, 1, 1), (0, 0, 0, 0)],
)
@pytest.mark.parametrize("channels", [3, 1, 4])
def test_color_jitter_follows_its_formulas(strengths, channels, dtype):
    x = images(3, channels, 6, 5, dtype=dtype)
    if channels != 3:
        strengths = (*strengths[:2], 0, strengths[3])
    pixels = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    changed = ColorJitter(*strengths).transformed(pixels, Halves())
    assert changed.dtype == dtype
    np.testing.assert_allclose(changed.transpose(0, 3, 1, 2), step_by_step(x, *strengths), rtol=1e-5, atol=1e-6)


def test_factors_are_drawn_for_each_image_and_channel():
    x = np.ones((300, 3, 2, 2), np.float32)
    bright, _ = ColorJitter(brightness=0.3)(x, np.arange(300), 0)
    assert 0.7 <= bright.min() < 0.72
    assert 1.28 < bright.max() <= 1.3
    assert len(np.unique(bright)) == 300
    changed, _ = ColorJitter(channels=2)(x, np.arange(300), 0)
    assert 0 <= changed.min() < 0.05
    assert 2.95 < changed.max() <= 3
    assert len(np.unique(changed)) == 900


def test_no_saturation_is_grey():
    x = images(5, 3, 4, 4)
    strong = ColorJitter(saturation=1)

    class Lowest(Halves):
        def uniform(self, low, high, shape):
            return np.full(shape, low)

    grey = strong.transformed(np.ascontiguousarray(x.transpose(0, 2, 3, 1)), Lowest())
    np.testing.assert_allclose(grey[..., 0], grey[..., 2], atol=1e-6)


@pytest.mark.parametrize("size", [1, 4, (2, 5), 20])
def test_cutout_is_a_rectangle_around_any_pixel(size):
    x = np.ones((500, 3, 7, 6))
    result, _ = Cutout(size)(x, np.arange(500), 0)
    SH, SW = (size, size) if isinstance(size, int) else size
    candidates = set()
    for row in range(7):
        for column in range(6):
            image = np.ones((7, 6))
            top, left = row - SH // 2, column - SW // 2
            image[max(top, 0) : max(top + SH, 0), max(left, 0) : max(left + SW, 0)] = 0
            candidates.add(image.tobytes())
    seen = {channel.tobytes() for image in result for channel in image}
    assert seen == candidates  # each was drawn, of at most 42 in 500
    np.testing.assert_array_equal(result[:, 0], result[:, 2])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_normalize_of_images_gives_mean_0_and_deviation_1(dtype, monkeypatch):
    monkeypatch.setattr("cyconv.data.augmentation.color.PIECE", 1000)  # several pieces
    x = (images(50, 3, 8, 9, dtype=np.float64) * [[[50]], [[100]], [[200]]]).astype(dtype)
    normalize = Normalize.of(x)
    scale = 255 if dtype == np.uint8 else 1
    np.testing.assert_allclose(normalize.mean, x.mean((0, 2, 3), dtype=float) / scale, rtol=1e-6)
    np.testing.assert_allclose(normalize.std, x.std((0, 2, 3), dtype=float) / scale, rtol=1e-5)
    result = normalize.apply(x)
    assert result.dtype == (np.float64 if dtype == np.float64 else np.float32)
    np.testing.assert_allclose(result.mean((0, 2, 3), dtype=float), 0, atol=1e-5)
    np.testing.assert_allclose(result.std((0, 2, 3), dtype=float), 1, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.25), ([0.1, 0.2, 0.3], [1, 2, 3]), ([0.1, 0.2, 0.3], 2)])
def test_normalize(mean, std, dtype):
    x = images(4, 3, 5, 6, dtype=dtype)
    result, y = Normalize(mean, std)(x, [3, 1, 2, 0])
    per_channel = (np.broadcast_to(np.asarray(value), 3)[:, np.newaxis, np.newaxis] for value in (mean, std))
    np.testing.assert_allclose(result, (x - next(per_channel)) / next(per_channel), rtol=1e-5, atol=1e-6)
    assert y.tolist() == [3, 1, 2, 0]


@pytest.mark.parametrize("transform", [ColorJitter(0.1, 0.1, 0.1, 0.1), Cutout(3), Normalize(1, 2)])
def test_arguments_are_left_alone(transform):
    x, y = images(4, 3, 5, 6), np.arange(4)
    before = x.copy()
    for each in (x, np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)):
        each.flags.writeable = False
        result, targets = transform(each, y, 0)
        result[...] = 7
        np.testing.assert_array_equal(each, before)
        np.testing.assert_array_equal(targets, np.arange(4))
    assert transform(x[:0], y[:0], 0)[0].shape == (0, 3, 5, 6)


X = np.zeros((2, 1, 4, 4), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ColorJitter(brightness=-1), ValueError, "^ColorJitter: `brightness` must be at least 0, got -1"),
        (lambda: ColorJitter(contrast="x"), TypeError, "^ColorJitter: `contrast` must be a number, got 'x'"),
        (lambda: ColorJitter(saturation=-1), ValueError, "^ColorJitter: `saturation` must be at least 0"),
        (lambda: ColorJitter(channels=np.inf), ValueError, "^ColorJitter: `channels` must be at least 0, got inf"),
        (
            lambda: ColorJitter(saturation=1)(X, [0, 1], 0),
            ValueError,
            "^ColorJitter: `saturation` needs images of three channels, got 1",
        ),
        (
            lambda: ColorJitter()(X.astype(int), [0, 1], 0),
            TypeError,
            "^ColorJitter: `x` must be float32 or float64",
        ),
        (lambda: Cutout(0), ValueError, "^Cutout: `size` must be at least 1, got 0"),
        (lambda: Normalize(0, 0), ValueError, r"^Normalize: `std` must be positive, got \[0\.0\]"),
        (
            lambda: Normalize(np.nan, 1),
            ValueError,
            "^Normalize: `mean` must be a finite number, or one for each",
        ),
        (lambda: Normalize("a", 1), ValueError, "^Normalize: `mean` must be a finite number, .*, got 'a'"),
        (lambda: Normalize(0, []), ValueError, r"^Normalize: `std` must be a finite number, .*, got \[\]"),
        (
            lambda: Normalize([1, 2], 1).apply(X),
            ValueError,
            "^Normalize: `mean` has 2 numbers, but the images have 1 channels",
        ),
        (
            lambda: Normalize(1, 1).apply(X.astype(int)),
            TypeError,
            "^Normalize: `x` must be float32 or float64, got",
        ),
        (
            lambda: Normalize.of(X[0]),
            ValueError,
            r"^Normalize: `x` must be images \(N, C, H, W\), got shape \(1",
        ),
        (lambda: Normalize.of(X[:0]), ValueError, r"^Normalize: `x` must be images .*, got shape \(0, 1, 4, 4\)"),
        (lambda: Normalize.of(X), ValueError, "^Normalize: `x` must be finite, and no channel the same everywhere"),
    ],
)
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()
