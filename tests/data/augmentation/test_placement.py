import numpy as np
import pytest

from cyconv.data.augmentation import CropTargets, RandomCrop, RandomHorizontalFlip, RandomShift, RandomVerticalFlip

DTYPES = [np.float32, np.float64]


def images(*shape, dtype=np.float32):
    """Images that have no two pixels alike, so that each shows where it came from."""
    return np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape).astype(dtype) + 1


def pieces(image, size, padding, mode):
    """Every piece of the padded image (C, H, W), by where it begins."""
    (PH, PW), (OH, OW) = padding, size
    padded = np.pad(image, ((0, 0), (PH, PH), (PW, PW)), mode=mode)
    _, H, W = padded.shape
    return {
        (top, left): padded[:, top : top + OH, left : left + OW]
        for top in range(H - OH + 1)
        for left in range(W - OW + 1)
    }


def found(result, candidates):
    """Return the one place whose piece the result is."""
    places = [place for place, piece in candidates.items() if np.array_equal(piece, result)]
    assert places
    return places[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize(
    ("transform", "flipped"),
    [(RandomHorizontalFlip, lambda x: x[..., ::-1]), (RandomVerticalFlip, lambda x: x[..., ::-1, :])],
)
def test_flips(transform, flipped, channels, dtype):
    x = images(200, channels, 4, 5, dtype=dtype)
    result, y = transform()(x, np.arange(200), 0)
    assert result.dtype == dtype
    was_flipped = (result == flipped(x)).all((1, 2, 3))
    assert np.all(was_flipped | (result == x).all((1, 2, 3)))
    assert 70 < was_flipped.sum() < 130  # of 200; beyond that with a probability of 2e-5
    np.testing.assert_array_equal(y, np.arange(200))
    np.testing.assert_array_equal(transform(0)(x, y, 0)[0], x)
    np.testing.assert_array_equal(transform(1)(x, y, 0)[0], flipped(x))


@pytest.mark.parametrize("mode", ["constant", "reflect"])
@pytest.mark.parametrize(
    ("size", "padding"), [((3, 4), (0, 0)), ((6, 5), (2, 1)), ((6, 5), (2, 2)), ((8, 2), (1, 0)), ((6, 5), (4, 4))]
)
def test_crops_are_pieces_of_the_padded_image(size, padding, mode):
    x = images(40, 3, 6, 5)
    result, _ = RandomCrop(size, padding, mode)(x, np.arange(40), 0)
    assert result.shape == (40, 3, *size)
    assert result.transpose(0, 2, 3, 1).flags.c_contiguous
    places = [found(crop, pieces(image, size, padding, mode)) for crop, image in zip(result, x, strict=True)]
    assert len(set(places)) > 1


def test_every_place_is_cut_equally_often():
    x = np.tile(images(1, 1, 6, 5), (4000, 1, 1, 1))
    result, _ = RandomCrop((4, 4))(x, np.arange(4000), 0)
    candidates = pieces(x[0], (4, 4), (0, 0), "constant")
    counts = np.bincount([list(candidates).index(found(crop, candidates)) for crop in result], minlength=6)
    assert len(counts) == 6
    assert np.all(np.abs(counts - 4000 / 6) < 5 * np.sqrt(4000 / 6))


@pytest.mark.parametrize("mode", ["constant", "reflect"])
@pytest.mark.parametrize("most", [2, (0, 3), (1, 0), 7])
def test_shifts(mode, most):
    x = images(60, 2, 6, 5)
    vertical, horizontal = (most, most) if isinstance(most, int) else most
    result, _ = RandomShift(most, mode)(x, np.arange(60), 3)
    candidates = [pieces(image, (6, 5), (vertical, horizontal), mode) for image in x]
    places = {found(shifted, each) for shifted, each in zip(result, candidates, strict=True)}
    assert {top for top, _ in places} <= set(range(2 * vertical + 1))
    assert len(places) > 3 * max(vertical, horizontal) / 2


TRANSFORMS = {
    "horizontal": RandomHorizontalFlip(),
    "vertical": RandomVerticalFlip(),
    "crop": RandomCrop((4, 5), padding=(1, 2)),
    "reflected crop": RandomCrop(6, padding=2, mode="reflect"),
    "shift": RandomShift(2),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.bool_, [("label", "i8"), ("weight", "f4")]])
def test_targets_of_pixels_move_with_them(name, dtype):
    """The target is the image itself in another form, before and after."""
    x = images(20, 1, 6, 6)
    y = x[:, 0].astype(dtype)
    moved, targets = TRANSFORMS[name](x, y, 0)
    assert targets.dtype == y.dtype
    np.testing.assert_array_equal(targets, moved[:, 0].astype(dtype))
    stacked = np.concatenate([x, 2 * x], axis=1)
    moved, targets = TRANSFORMS[name](x, stacked, 0)
    np.testing.assert_array_equal(targets, np.concatenate([moved, 2 * moved], axis=1))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_arguments_are_left_alone(name):
    x, y = images(20, 3, 6, 6), np.arange(20 * 36).reshape(20, 6, 6)
    before = x.copy(), y.copy()
    x.flags.writeable = y.flags.writeable = False
    moved, targets = TRANSFORMS[name](x, y, 0)
    moved[...] = targets[...] = 0
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_memory_order_and_seed(name):
    x = images(20, 3, 6, 6)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    expected = TRANSFORMS[name](x, np.arange(20), 5)[0]
    for each in (last, x.astype(">f4"), x[:, ::-1][:, ::-1]):
        np.testing.assert_array_equal(TRANSFORMS[name](each, np.arange(20), np.random.default_rng(5))[0], expected)
    assert not np.array_equal(TRANSFORMS[name](x, np.arange(20), 6)[0], expected)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_no_images(name):
    x, y = TRANSFORMS[name](np.zeros((0, 3, 6, 6), np.float32), np.zeros(0, int), 0)
    assert (len(x), x.shape[1], y.shape) == (0, 3, (0,))


def test_targets_lose_their_border():
    x, y = images(2, 1, 9, 10), np.arange(2 * 90).reshape(2, 9, 10)
    same, middle = CropTargets((2, 3))(x, y)
    np.testing.assert_array_equal(same, x)
    np.testing.assert_array_equal(middle, y[:, 2:7, 3:7])
    np.testing.assert_array_equal(CropTargets(1)(x, y[:, np.newaxis])[1], y[:, np.newaxis, 1:-1, 1:-1])
    np.testing.assert_array_equal(CropTargets(0)(x, y)[1], y)


X = np.zeros((2, 3, 6, 6), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: RandomHorizontalFlip(1.5),
            ValueError,
            "^RandomHorizontalFlip: `probability` must be .* at most 1, got",
        ),
        (lambda: RandomVerticalFlip("x"), TypeError, "^RandomVerticalFlip: `probability` must be a number, got 'x'"),
        (lambda: RandomCrop(0), ValueError, "^RandomCrop: `size` must be at least 1, got 0"),
        (lambda: RandomCrop(4, -1), ValueError, "^RandomCrop: `padding` must be at least 0, got -1"),
        (
            lambda: RandomCrop(4, mode="wrap"),
            ValueError,
            "^RandomCrop: `mode` must be one of 'constant', 'reflect', got",
        ),
        (lambda: RandomShift(1.5), TypeError, "^RandomShift: `most` must be an integer, got 1.5"),
        (lambda: RandomShift(1, "x"), ValueError, "^RandomShift: `mode` must be one of"),
        (lambda: CropTargets(-1), ValueError, "^CropTargets: `border` must be at least 0, got -1"),
        (
            lambda: RandomCrop(9, 1)(X, [0, 1], 0),
            ValueError,
            r"^RandomCrop: `size` \(9, 9\) is larger than the images, 6x6 with `padding` \(1, 1\)",
        ),
        (
            lambda: RandomShift(1)(X, np.zeros((2, 4, 4)), 0),
            ValueError,
            r"^RandomShift: `y` must be a row for each image, or have the size of the images, 6x6, got shape",
        ),
        (lambda: RandomShift(1)(X, np.zeros((2, 1, 1, 6, 6)), 0), ValueError, r"6x6, got shape \(2, 1, 1, 6, 6\)"),
        (
            lambda: RandomShift(1)(X[0], [0], 0),
            ValueError,
            r"^RandomShift: `x` must have 4 dimensions .*, got shape \(",
        ),
        (
            lambda: RandomShift(1)(X.astype(int), [0, 1], 0),
            TypeError,
            "^RandomShift: `x` must be float32 or float64",
        ),
        (lambda: RandomShift(1)(X, None, 0), TypeError, "^RandomShift: `y` must be an array, got None"),
        (
            lambda: RandomShift(1)(X, [0, 1], "a"),
            TypeError,
            "^RandomShift: `rng` must be an integer, a numpy",
        ),
        (
            lambda: CropTargets(3)(X, np.zeros((2, 6, 6))),
            ValueError,
            r"^CropTargets: `y` must be .* larger than twice the border \(3, 3\), got shape \(2, 6, 6\)",
        ),
        (
            lambda: CropTargets(1)(X, [0, 1]),
            ValueError,
            r"^CropTargets: `y` must be \(N, H, W\) or .*, got shape \(",
        ),
    ],
)
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()
