import numpy as np
import pytest

from cyconv.cli import images
from cyconv.data import digits
from cyconv.data.pictures import Preparation, read_pictures

RNG = np.random.default_rng(0)


def test_grey_is_what_pillow_makes_of_colour():
    image_module = pytest.importorskip("PIL.Image")
    colours = RNG.integers(0, 256, (6, 5, 3), np.uint8)
    expected = np.asarray(image_module.fromarray(colours).convert("L"), float)
    grey, _ = images.Fit(Preparation((6, 5), 1))(
        (colours.transpose(2, 0, 1)[np.newaxis] / 255).astype(np.float32), np.zeros(1)
    )
    np.testing.assert_allclose(grey[0, 0] * 255, expected, atol=0.51)  # Pillow rounds


def test_colour_is_grey_three_times():
    x = RNG.random((2, 1, 4, 4), np.float32)
    coloured, labels = images.Fit(Preparation((4, 4)))(x, np.arange(2))
    assert labels.tolist() == [0, 1]
    for channel in range(3):
        np.testing.assert_array_equal(coloured[:, channel], x[:, 0])


def test_sizes_are_interpolated():
    x = np.array([[[[0.0, 1.0], [0.0, 1.0]]]])
    enlarged, _ = images.Fit(Preparation((2, 4), 1, "stretch"))(x, np.zeros(1))
    np.testing.assert_allclose(enlarged[0, 0], [[0, 0.25, 0.75, 1]] * 2)


def test_nothing_is_done_to_images_that_fit():
    x = np.zeros((1, 3, 8, 8), np.uint8)
    assert images.fitting(x, Preparation((8, 8))) == []
    with pytest.raises(ValueError, match="the network takes images of 4 channels, but these are grey or coloured"):
        images.fitting(x, Preparation((8, 8), 4))


def test_batches_are_in_the_networks_shape_and_bounded():
    x, y = np.full((300, 1, 8, 8), 255, np.uint8), np.arange(300)
    for shape, most in (((1, 8, 8), 256), ((3, 256, 256), 42)):
        found = list(images.batches(x, y, Preparation(shape[1:], shape[0])))
        assert {batch.shape[1:] for batch, _ in found} == {shape}
        assert max(len(batch) for batch, _ in found) == most
        np.testing.assert_array_equal(np.concatenate([labels for _, labels in found]), y)
        assert found[0][0].max() == 1


def test_digits_have_a_border():
    data = images.load("digits", None, Preparation((28, 28), 1))
    np.testing.assert_array_equal(data.test_x[:, :, 4:-4, 4:-4], digits(20).test_x)
    assert data.test_x.sum() == digits(20).test_x.sum()


@pytest.mark.parametrize("name", images.ROOTS)
def test_other_data_needs_a_folder(name):
    with pytest.raises(ValueError, match=f"--data {name} needs --root, {images.ROOTS[name]}"):
        images.load(name, None, Preparation((28, 28), 1))


@pytest.mark.parametrize("name", images.AUGMENTATIONS)
@pytest.mark.parametrize("size", [(28, 28), (32, 48), (224, 224)])
def test_augmentations_keep_the_shape(name, size):
    x = RNG.random((4, 3, *size), np.float32)
    changed, labels = images.AUGMENTATIONS[name](size)(x, np.arange(4), np.random.default_rng(0))
    assert changed.shape == x.shape
    assert labels.tolist() == [0, 1, 2, 3]
    assert not np.array_equal(changed, x)


@pytest.fixture
def folder(tmp_path):
    """Two classes, ten pictures each: bright ones and dark ones."""
    image_module = pytest.importorskip("PIL.Image")
    for name, level in (("bright", 200), ("dark", 20)):
        (tmp_path / name).mkdir()
        for number in range(10):
            pixels = RNG.integers(level, level + 40, (20, 24, 3), np.uint8)
            image_module.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    return tmp_path


def test_a_folder_is_divided_always_alike(folder):
    data, again = (images.load("folder", folder, Preparation((16, 16))) for _ in range(2))
    assert data.class_names == ("bright", "dark")
    assert data.train_x.shape == (16, 3, 16, 16)
    assert np.bincount(data.test_y).tolist() == [2, 2]
    np.testing.assert_array_equal(data.test_x, again.test_x)


def test_a_folder_may_be_divided_already(folder, tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
    for name in ("bright", "dark"):
        (tmp_path / "test" / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"{number}.png").rename(tmp_path / "test" / name / f"{number}.png")
        (tmp_path / name).rename(tmp_path / "train" / name)
    data = images.load("folder", tmp_path, Preparation((16, 16), 1), ["dark", "bright"])
    assert data.class_names == ("dark", "bright")
    assert (len(data.train_x), len(data.test_x)) == (14, 6)
    assert data.train_x[data.train_y == 0].max() < data.train_x[data.train_y == 1].min()


def test_inverted_data_is_inverted_once():
    plain, inverted = (images.load("digits", None, Preparation((28, 28), 1, invert=invert)) for invert in (False, True))
    np.testing.assert_array_equal(inverted.train_x, 255 - plain.train_x)
    x, _ = next(iter(images.batches(inverted.test_x, inverted.test_y, Preparation((32, 32), 1, invert=True))))
    y, _ = next(iter(images.batches(plain.test_x, plain.test_y, Preparation((32, 32), 1))))
    np.testing.assert_allclose(x, 1 - y, atol=1e-6)


def test_pictures_of_16_bits_and_turned_ones_are_read_as_they_are(tmp_path):
    image_module = pytest.importorskip("PIL.Image")

    def picture(name, size):
        return read_pictures("predict", [tmp_path / name], Preparation(size, 1))[0][0, ..., 0]

    image_module.fromarray(np.full((8, 8), 30000, np.uint16)).save(tmp_path / "16.png")
    assert np.unique(picture("16.png", (4, 4))).tolist() == [30000 >> 8]
    turned, exif = np.zeros((8, 8), np.uint8), image_module.Exif()
    turned[:, 4:], exif[0x0112] = 255, 6  # orientation: a quarter turn to the right
    image_module.fromarray(turned).save(tmp_path / "turned.png", exif=exif)
    upright = picture("turned.png", (8, 8))
    assert upright[:4].max() == 0 < 255 == upright[4:].min()
    image_module.fromarray(RNG.integers(0, 256, (32, 32), np.uint8)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"predict: .*cut.png is no image, or a damaged one"):
        picture("cut.png", (4, 4))
