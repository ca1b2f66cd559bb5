import numpy as np
import pytest

from cyconv import visualize
from tests.visualize.drawing import drawn

pytest.importorskip("matplotlib")


@pytest.fixture
def weights():
    return np.random.default_rng(0).standard_normal((5, 1, 3, 2))


def test_grey_filters_keep_their_values_and_places(weights):
    figure = visualize.filters(weights, 10 * weights)
    before, after = (axes.images[0] for axes in figure.axes[:2])
    grid = np.ma.filled(before.get_array(), np.nan)
    assert grid.shape == (7, 8)  # 2 x 3 filters of 3 x 2, a pixel between neighbours
    np.testing.assert_array_equal(grid[:3, :2], weights[0, 0])
    np.testing.assert_array_equal(grid[4:, 3:5], weights[4, 0])
    assert np.isnan(grid[3]).all()
    assert np.isnan(grid[4:, 6:]).all()  # no sixth filter
    assert after.norm.vmax == -after.norm.vmin == 10 * np.abs(weights).max()
    drawn(figure)


def test_colour_filters_map_zero_to_grey(weights):
    colour = np.repeat(weights, 3, axis=1)
    figure = visualize.filters(0 * colour, colour)
    before, after = (axes.images[0].get_array() for axes in figure.axes)
    assert before.shape == (7, 8, 3)
    np.testing.assert_array_equal(before[:3, :2], 0.5)
    np.testing.assert_allclose(after[:3, :2, 1], (weights[0, 0] / np.abs(weights).max() + 1) / 2)
    drawn(figure)


@pytest.mark.parametrize(
    ("before", "after", "error", "message"),
    [
        ((2, 1, 3), (2, 1, 3), ValueError, r"filters: `weights_before` must have 4 dimensions"),
        (
            (2, 1, 3, 3),
            (3, 1, 3, 3),
            ValueError,
            r"filters: `weights_after` must have shape \(2, 1, 3, 3\) as `weights_b",
        ),
        (
            (2, 2, 3, 3),
            (2, 2, 3, 3),
            ValueError,
            r"must have 1 or 3 input channels and no extent 0, got \(2, 2, 3, 3\)",
        ),
        (
            (0, 1, 3, 3),
            (0, 1, 3, 3),
            ValueError,
            r"must have 1 or 3 input channels and no extent 0, got \(0, 1, 3, 3\)",
        ),
    ],
)
def test_filters_refuse(before, after, error, message):
    with pytest.raises(error, match=message):
        visualize.filters(np.zeros(before), np.zeros(after))


def test_feature_maps_keep_their_values_each_on_its_scale():
    maps = np.random.default_rng(0).standard_normal((5, 4, 6)).astype(np.float32)
    maps[3] = 7
    figure = visualize.feature_maps(maps)
    assert [axes.get_title() for axes in figure.axes if axes.images] == ["0", "1", "2", "3", "4"]
    for axes, expected in zip(figure.axes, maps, strict=False):
        np.testing.assert_array_equal(axes.images[0].get_array(), expected)
    norms = [axes.images[0].norm for axes in figure.axes if axes.images]
    assert [(norm.vmin, norm.vmax) for norm in norms[:1]] == [(maps[0].min(), maps[0].max())]
    assert (norms[3].vmin, norms[3].vmax) == (7, 8)  # even: dark
    drawn(figure)


def test_maximizing_images_lie_around_grey():
    images = np.random.default_rng(0).standard_normal((3, 1, 8, 8)) * 5 + 100
    figure = visualize.maximizing_images(images, ["a", "b", "c"])
    axes = [each for each in figure.axes if each.images]
    assert [each.get_title() for each in axes] == ["a", "b", "c"]
    shown = np.array([each.images[0].get_array() for each in axes])
    np.testing.assert_allclose(shown.mean(axis=(1, 2)), 0.5, atol=0.02)
    expected = np.clip((images[1, 0] - images[1].mean()) / images[1].std() / 5 + 0.5, 0, 1)
    np.testing.assert_allclose(shown[1], expected)
    drawn(figure)


def test_maximizing_images_in_colour_and_without_contrast():
    figure = visualize.maximizing_images(np.ones((2, 3, 4, 4), np.float32))
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), np.full((4, 4, 3), 0.5))
    assert figure.axes[1].get_title() == "1"
    drawn(figure)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: visualize.feature_maps(np.ones((2, 2))), ValueError, "feature_maps: `maps` must have 3 dimensions"),
        (lambda: visualize.feature_maps(np.ones((2, 0, 2))), ValueError, "feature_maps: `maps` must have no extent 0"),
        (lambda: visualize.feature_maps(np.ones((2, 2, 2), int)), TypeError, "feature_maps: `maps` must be float32"),
        (
            lambda: visualize.maximizing_images(np.ones((2, 2, 4, 4))),
            ValueError,
            r"maximizing_images: `images` must have 1 or 3 channels and no extent 0, got shape \(2, 2, 4, 4\)",
        ),
        (
            lambda: visualize.maximizing_images(np.ones((2, 1, 4, 4)), ["a"]),
            ValueError,
            "maximizing_images: `names` must be 2, one for each image, got 1",
        ),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
