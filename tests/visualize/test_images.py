import numpy as np
import pytest

from cyconv import visualize
from tests.visualize.drawing import drawn

pytest.importorskip("matplotlib")

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(50, 200, size=(6, 8), dtype=np.uint8)
TRUTH = RNG.integers(3, size=(6, 8))


def brief(axes):
    return np.asarray(axes.images[0].get_array())


def test_saliency_stands_below_each_image():
    images, maps = RNG.random((3, 3, 5, 4)), RNG.random((3, 5, 4))
    figure = visualize.saliency(images, maps, ["a", "b", "c"])
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c", "", "", ""]
    low, high = images[1].min(), images[1].max()
    np.testing.assert_allclose(brief(figure.axes[1]), np.moveaxis((images[1] - low) / (high - low), 0, -1))
    np.testing.assert_array_equal(brief(figure.axes[4]), maps[1])
    assert figure.axes[4].images[0].norm.vmin == 0
    drawn(figure)
    grey = visualize.saliency(IMAGE[np.newaxis], np.zeros((1, 6, 8)))  # bytes, and nothing matters
    assert (brief(grey.axes[0]).min(), brief(grey.axes[0]).max()) == (0, 1)
    drawn(grey)


def test_segmentation_tints_classes_and_marks_what_is_wrong():
    prediction = TRUTH.copy()
    prediction[0, :3] = (prediction[0, :3] + 1) % 3
    figure = visualize.segmentation(IMAGE, prediction, TRUTH, ["sky", "road", "car"])
    assert [axes.get_title() for axes in figure.axes] == ["image", "predicted", "true", "wrong: 6.25%"]
    image, predicted, true, wrong = map(shown, figure.axes)
    base = (IMAGE - IMAGE.min()) / (IMAGE.max() - IMAGE.min())
    np.testing.assert_allclose(image, np.repeat(base[..., np.newaxis], 3, axis=2))
    differs = (prediction != TRUTH)[..., np.newaxis]
    np.testing.assert_array_equal((predicted != true).any(axis=2, keepdims=True), differs)
    np.testing.assert_array_equal((wrong != image).any(axis=2, keepdims=True), differs)
    tints = [np.unique((predicted - 0.55 * image)[prediction == k].round(6), axis=0) for k in range(3)]
    assert [len(tint) for tint in tints] == [1, 1, 1]  # one colour a class
    assert len(np.unique(np.concatenate(tints), axis=0)) == 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["sky", "road", "car"]
    drawn(figure)


def test_segmentation_leaves_alone_what_is_not_known():
    truth = TRUTH.copy()
    truth[:3], truth[3] = -100, 255
    prediction = TRUTH.copy()
    prediction[0] = -1
    figure = visualize.segmentation(IMAGE, prediction, truth, ["a", "b", "c"])
    image, predicted, true, wrong = map(shown, figure.axes)
    np.testing.assert_array_equal(true[:4], image[:4])
    assert (true[4:] != image[4:]).any(axis=2).all()
    np.testing.assert_array_equal(predicted[0], image[0])
    np.testing.assert_array_equal(wrong, image)
    assert figure.axes[3].get_title() == "wrong: 0.00%"


def test_segmentation_without_truth_in_colour():
    figure = visualize.segmentation(RNG.random((3, 6, 8)), TRUTH)
    assert [axes.get_title() for axes in figure.axes] == ["image", "predicted"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0", "1", "2"]
    drawn(figure)
    many = visualize.segmentation(IMAGE, np.arange(48).reshape(6, 8) % 20)
    drawn(many)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: visualize.saliency(np.ones((2, 2, 4, 4)), np.ones((2, 4, 4))),
            ValueError,
            r"saliency: `images` must have shape \(N, 1 or 3, H, W\) as `maps` \(2, 4, 4\) has, got \(2, 2, 4, 4\)",
        ),
        (
            lambda: visualize.saliency(np.ones((2, 4, 4)), np.ones((2, 4, 4)), ["a"]),
            ValueError,
            "saliency: `names` must be 2, one for each image, got 1",
        ),
        (
            lambda: visualize.segmentation(IMAGE[:2], TRUTH),
            ValueError,
            r"segmentation: `image` must have shape \(1 or 3, H, W\) as `prediction` \(6, 8\) has, got \(2, 8\)",
        ),
        (
            lambda: visualize.segmentation(IMAGE, TRUTH, TRUTH[1:]),
            ValueError,
            r"segmentation: `truth` must have shape \(6, 8\) \(that of `prediction`\), got \(5, 8\)",
        ),
        (
            lambda: visualize.segmentation(IMAGE, TRUTH, class_names=["a", "b"]),
            ValueError,
            "segmentation: classes must be below 2, got up to 2",
        ),
        (
            lambda: visualize.segmentation(IMAGE, TRUTH * 20),
            ValueError,
            "segmentation: classes must be below 20, got up to 40",
        ),
        (
            lambda: visualize.segmentation(IMAGE, TRUTH * 0 - 1),
            ValueError,
            "segmentation: `prediction` must hold a class, got negative numbers only",
        ),
        (lambda: visualize.segmentation(IMAGE, TRUTH * 0.5), TypeError, "segmentation: `prediction` must be integers"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
