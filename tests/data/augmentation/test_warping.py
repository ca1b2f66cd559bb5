import numpy as np
import pytest

import cyconv
from cyconv.data.augmentation import ElasticTransform, RandomAffine, RandomRotation

ndimage = pytest.importorskip("scipy.ndimage")
TRANSFORMS = {
    "affine": RandomAffine(degrees=30, scale=0.3, shear=10, shift=0.2),
    "reflected affine": RandomAffine(degrees=30, scale=1, shear=10, shift=0.5, mode="reflect"),
    "rotation": RandomRotation(45),
    "elastic": ElasticTransform(deviation=4),
    "constant elastic": ElasticTransform(deviation=4, grid=(4, 2), mode="constant"),
}
SIZES = [(12, 9), (1, 7), (6, 1), (1, 1)]


def images(*shape, dtype=np.float32):
    return np.random.default_rng(0).random(shape).astype(dtype)


def outward(position, size):
    """Walk from the first pixel to a position, turning back at the ends."""
    at, step = 0, 1
    for _ in range(abs(position) if size > 1 else 0):
        at += step
        step = -step if at in (0, size - 1) else step
    return at


def pixel(image, row, column, mode):
    """One pixel [H, W] of an image that goes on for ever."""
    H, W = image.shape
    if mode == "constant" and not (0 <= row < H and 0 <= column < W):
        return 0
    return image[outward(row, H), outward(column, W)]


def one_by_one(transform, x, smooth=True, seed=0):
    """Read each pixel where the transform says: between the four around that place, or the nearest."""
    move = transform.drawn(len(x), x.shape[2:], np.random.default_rng(seed))
    result = np.empty_like(x)
    for i, channel, h, w in np.ndindex(x.shape):
        image, row, column = x[i, channel], float(move.rows[i, h, w]), float(move.columns[i, h, w])
        if smooth:
            top, left = int(np.floor(row)), int(np.floor(column))
            result[i, channel, h, w] = sum(
                (1 - abs(row - r)) * (1 - abs(column - c)) * pixel(image, r, c, transform.mode)
                for r in (top, top + 1)
                for c in (left, left + 1)
            )
        else:
            result[i, channel, h, w] = pixel(image, round(row), round(column), transform.mode)
    return result


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_images_are_interpolated_linearly(name, size, dtype):
    x = images(4, 3, *size, dtype=dtype)
    result, y = TRANSFORMS[name](x, np.arange(4), 0)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, one_by_one(TRANSFORMS[name], x), atol=1e-5)
    np.testing.assert_array_equal(y, np.arange(4))


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("size", SIZES)
def test_classes_of_pixels_take_the_nearest(name, size):
    x = images(4, 1, *size)
    y = np.random.default_rng(1).integers(1, 1000, (4, *size))
    _, targets = TRANSFORMS[name](x, y, 0)
    assert targets.dtype == y.dtype
    np.testing.assert_array_equal(targets, one_by_one(TRANSFORMS[name], y[:, np.newaxis], smooth=False)[:, 0])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_targets_that_are_numbers_are_interpolated_as_images_are(name):
    x = images(4, 2, 12, 9)
    moved, targets = TRANSFORMS[name](x, x, 0)
    np.testing.assert_array_equal(moved, targets)
    np.testing.assert_array_equal(TRANSFORMS[name](x, x[:, 1], 0)[1], moved[:, 1])


def test_labels_with_weights_stay_pairs():
    y = np.empty((2, 16, 16), [("label", "i8"), ("weight", "f4")])
    y["label"] = np.arange(512).reshape(2, 16, 16)
    y["weight"] = y["label"]
    _, targets = ElasticTransform(3)(images(2, 1, 16, 16), y, 0)
    np.testing.assert_array_equal(targets["label"], targets["weight"])
    assert not np.array_equal(targets, y)


# Where pixels are read


def place(transform, count, size, seed=0):
    move = transform.drawn(count, size, np.random.default_rng(seed))
    return move.rows.astype(float), move.columns.astype(float)


def test_rotation_keeps_the_middle_and_all_distances():
    rows, columns = place(RandomRotation(30), 50, (9, 13))
    np.testing.assert_allclose(rows[:, 4, 6], 4, atol=1e-5)
    np.testing.assert_allclose(columns[:, 4, 6], 6, atol=1e-5)
    down, across = np.meshgrid(np.arange(9) - 4, np.arange(13) - 6, indexing="ij")
    np.testing.assert_allclose(np.hypot(rows - 4, columns - 6), np.tile(np.hypot(down, across), (50, 1, 1)), atol=1e-4)
    angles = np.degrees(np.arctan2(rows[:, 4, 12] - 4, columns[:, 4, 12] - 6))
    assert -30 < angles.min() < -20
    assert 20 < angles.max() < 30


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_numpys(turns):
    class Fixed:
        def uniform(self, low, high, size):
            values = np.zeros(size)
            values[0] = turns / 2 if turns < 3 else -0.5
            return values

    x = images(2, 3, 7, 7)
    move = RandomRotation(180).drawn(2, (7, 7), Fixed())
    turned = move(np.ascontiguousarray(x.transpose(0, 2, 3, 1)), True).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(turned, np.rot90(x, turns, axes=(2, 3)), atol=1e-5)


def linear_part(rows, columns):
    """The matrices of affine maps, [N, 2, 2], from where they send neighbours."""
    return np.stack(
        [
            np.stack([rows[:, 1, 0] - rows[:, 0, 0], rows[:, 0, 1] - rows[:, 0, 0]], axis=1),
            np.stack([columns[:, 1, 0] - columns[:, 0, 0], columns[:, 0, 1] - columns[:, 0, 0]], axis=1),
        ],
        axis=1,
    )


def test_zooms_lie_in_their_range_evenly_on_a_logarithmic_scale():
    matrices = linear_part(*place(RandomAffine(scale=1.0), 400, (8, 8)))
    np.testing.assert_allclose(matrices[:, 0, 1], 0, atol=1e-5)
    np.testing.assert_allclose(matrices[:, 0, 0], matrices[:, 1, 1], atol=1e-5)
    logarithms = np.log2(matrices[:, 0, 0])
    assert -1 <= logarithms.min() < -0.9
    assert 0.9 < logarithms.max() <= 1
    assert abs(logarithms.mean()) < 0.1


def test_shears_move_rows_sideways():
    rows, columns = place(RandomAffine(shear=45), 100, (8, 8))
    matrices = linear_part(rows, columns)
    np.testing.assert_allclose(rows, np.tile(np.arange(8.0)[:, np.newaxis], (100, 1, 8)), atol=1e-5)
    np.testing.assert_allclose(matrices[:, 1, 1], 1, atol=1e-5)
    assert 0.9 < np.abs(matrices[:, 1, 0]).max() <= 1


def test_shifts_are_shares_of_the_size():
    rows, columns = place(RandomAffine(shift=0.25), 200, (8, 16))
    assert 1.8 < np.abs(rows[:, 0, 0]).max() <= 2
    assert 3.6 < np.abs(columns[:, 0, 0]).max() <= 4
    np.testing.assert_allclose(np.diff(rows, axis=1), 1, atol=1e-5)


def test_the_grids_points_move_by_the_deviation():
    rows, columns = place(ElasticTransform(deviation=10), 500, (65, 33))
    for moved, start in ((rows, np.arange(65.0)[:, np.newaxis]), (columns, np.arange(33.0))):
        at_points = (moved - start)[:, ::32, ::16]  # the 3 by 3 grid
        assert 9.5 < at_points.std() < 10.5
        assert abs(at_points.mean()) < 0.5
        assert np.abs(np.corrcoef(at_points.reshape(500, 9).T) - np.eye(9)).max() < 0.25


def test_between_the_grids_points_runs_a_cubic_spline():
    """Natural to the mirror at the ends: the oracle is SciPy's own enlargement of the grid."""
    coarse = np.random.default_rng(0).normal(scale=10, size=(2, 1, 3, 4))
    rows, columns = place(ElasticTransform(deviation=10, grid=(3, 4)), 1, (21, 31))
    places = np.meshgrid(np.linspace(0, 2, 21), np.linspace(0, 3, 31), indexing="ij")
    for moved, start, grid in (
        (rows, np.arange(21)[:, np.newaxis], coarse[0, 0]),
        (columns, np.arange(31), coarse[1, 0]),
    ):
        expected = start + ndimage.map_coordinates(grid, places, order=3, mode="mirror")
        np.testing.assert_allclose(moved[0], expected, atol=1e-4)


@pytest.mark.parametrize(
    "transform", [RandomAffine(), RandomRotation(0), ElasticTransform(0), RandomAffine(mode="reflect")]
)
def test_nothing_drawn_changes_nothing(transform):
    x = images(3, 2, 8, 9)
    np.testing.assert_allclose(transform(x, np.arange(3), 0)[0], x, atol=1e-6)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_memory_order_seed_and_arguments(name):
    x, y = images(5, 3, 12, 9), np.arange(5 * 12 * 9).reshape(5, 12, 9)
    before = x.copy()
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    expected, _ = TRANSFORMS[name](x, y, 5)
    np.testing.assert_array_equal(TRANSFORMS[name](last, y, np.random.default_rng(5))[0], expected)
    assert not np.array_equal(TRANSFORMS[name](x, y, 6)[0], expected)
    np.testing.assert_array_equal(x, before)
    assert TRANSFORMS[name](x[:0], y[:0], 0)[0].shape == (0, 3, 12, 9)


def test_splines_are_computed_once():
    cyconv.memory.empty_cache()
    held = []
    for seed in range(3):
        ElasticTransform()(images(1, 1, 8, 9), [0], seed)
        held.append(cyconv.memory.statistics()["tables"])
    assert held[0] > 0
    assert held == held[:1] * 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: RandomAffine(degrees=200),
            ValueError,
            "^RandomAffine: `degrees` must be at least 0 and at most 180, got 200",
        ),
        (lambda: RandomAffine(scale=-1), ValueError, "^RandomAffine: `scale` must be at least 0, got -1"),
        (lambda: RandomAffine(shear=90), ValueError, "^RandomAffine: `shear` must be at least 0 and below 90, got 90"),
        (lambda: RandomAffine(shift="x"), TypeError, "^RandomAffine: `shift` must be a number, got 'x'"),
        (
            lambda: RandomAffine(mode="x"),
            ValueError,
            "^RandomAffine: `mode` must be one of 'constant', 'reflect', got 'x'",
        ),
        (
            lambda: RandomRotation(-1),
            ValueError,
            "^RandomRotation: `degrees` must be at least 0 and at most 180, got -1",
        ),
        (lambda: ElasticTransform(-1), ValueError, "^ElasticTransform: `deviation` must be at least 0, got -1"),
        (lambda: ElasticTransform(grid=1), ValueError, "^ElasticTransform: `grid` must be at least 2, got 1"),
        (lambda: ElasticTransform(mode=0), ValueError, "^ElasticTransform: `mode` must be one of"),
    ],
)
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()
