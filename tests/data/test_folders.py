import contextlib
import os
import struct
import zlib

import numpy as np
import pytest

import cyconv
from cyconv.data import image_folder
from tests import processes

Image = pytest.importorskip("PIL.Image")


def levels(height, width, channels=3, seed=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, array=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels(8, 8) if array is None else array).save(path, **options)


@pytest.fixture
def root(tmp_path):
    for seed, name in enumerate(["dog/b.png", "dog/a.PNG", "dog/old/z.bmp", "cat/1.png", "cat/10.png", "cat/2.tif"]):
        save(tmp_path / name, levels(8, 8, seed=seed))
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    save(tmp_path / "dog" / ".hidden.png")
    save(tmp_path / ".cache" / "1.png")
    (tmp_path / "readme.md").write_text("no folder")
    return tmp_path


def test_classes_are_folders_and_all_is_sorted(root):
    data = image_folder(root, 8)
    assert data.class_names == ("cat", "dog")
    assert data.files == ("cat/1.png", "cat/10.png", "cat/2.tif", "dog/a.PNG", "dog/b.png", "dog/old/z.bmp")
    assert data.y.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.y.dtype == np.int64
    expected = [levels(8, 8, seed=seed).transpose(2, 0, 1) for seed in (3, 4, 5, 1, 0, 2)]
    np.testing.assert_array_equal(data.x, expected)
    assert data.x.dtype == np.uint8
    assert repr(data) == "ImageFolder(6 images of shape (3, 8, 8), 2 classes)"


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_changes_nothing(root, threads):
    expected = image_folder(root, (5, 7))
    with cyconv.num_threads(threads):
        data = image_folder(str(root), (5, 7))
    np.testing.assert_array_equal(data.x, expected.x)
    assert data.files == expected.files


def test_class_names_choose_and_order(root):
    save(root / "bird" / "1.png")
    data = image_folder(root, 8, class_names=["dog", "bird"])
    assert data.class_names == ("dog", "bird")
    assert data.y.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("shape", [(20, 10), (10, 20), (7, 9), (1, 30)])
def test_cropping_keeps_the_middle_and_the_proportions(tmp_path, shape):
    array = levels(*shape)
    save(tmp_path / "c" / "1.png", array)
    side = min(shape)
    top, left = (shape[0] - side) / 2, (shape[1] - side) / 2
    image = Image.fromarray(array).resize((side, side), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    np.testing.assert_array_equal(image_folder(tmp_path, side).x[0].transpose(1, 2, 0), np.asarray(image))
    if (shape[0] - side) % 2 == (shape[1] - side) % 2 == 0:  # whole pixels: nothing is interpolated
        np.testing.assert_array_equal(
            np.asarray(image), array[int(top) : int(top) + side, int(left) : int(left) + side]
        )


def test_stretching_shows_all(tmp_path):
    array = np.zeros((10, 40, 3), np.uint8)
    array[:, :20] = 200
    save(tmp_path / "c" / "1.png", array)
    stretched = image_folder(tmp_path, 10, fit="stretch").x[0]
    cropped = image_folder(tmp_path, 10).x[0]
    assert stretched[0, 0, 0] == cropped[0, 0, 0] == 200
    assert (stretched[0] > 100).mean() == (cropped[0] > 100).mean() == 0.5
    array[:, 10:] = 0
    save(tmp_path / "c" / "1.png", array)
    assert image_folder(tmp_path, 10).x.max() == 0
    assert image_folder(tmp_path, 10, fit="stretch").x.max() == 200


def test_grey_and_colour(tmp_path):
    save(tmp_path / "c" / "1.png", levels(6, 6, 1))
    color = image_folder(tmp_path, 6).x
    grey = image_folder(tmp_path, 6, channels=1).x
    assert (color.shape, grey.shape) == ((1, 3, 6, 6), (1, 1, 6, 6))
    np.testing.assert_array_equal(grey[0, 0], levels(6, 6, 1))
    np.testing.assert_array_equal(color, np.repeat(grey, 3, axis=1))


def test_sixteen_bits_keep_their_upper_byte(tmp_path):
    array = np.arange(36, dtype=np.uint16).reshape(6, 6) * 1800
    save(tmp_path / "c" / "1.png", array)
    np.testing.assert_array_equal(image_folder(tmp_path, 6, channels=1).x[0, 0], array // 256)


def test_images_are_turned_upright(tmp_path):
    array = levels(6, 6)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    save(tmp_path / "c" / "1.png", array, exif=exif)
    np.testing.assert_array_equal(image_folder(tmp_path, 6).x[0].transpose(1, 2, 0), np.rot90(array, -1))


def test_palettes_and_animations_are_read(tmp_path):
    array = levels(6, 6)
    Image.fromarray(array).convert("P").save(tmp_path / "1.gif")
    frames = [Image.fromarray(levels(6, 6, seed=seed)) for seed in (1, 2)]
    (tmp_path / "c").mkdir()
    frames[0].save(tmp_path / "c" / "2.gif", save_all=True, append_images=frames[1:])
    save(tmp_path / "c" / "3.png", array)
    data = image_folder(tmp_path, 6)
    np.testing.assert_array_equal(data.x[1].transpose(1, 2, 0), array)
    assert np.abs(data.x[0].transpose(1, 2, 0).astype(int) - np.asarray(frames[0])).mean() < 40  # of 256 colours


# Errors


def png(width, height, content=b""):
    """A PNG file that claims a size."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def whole_png(folder):
    save(folder / "whole.png", levels(64, 64))
    return (folder / "whole.png").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot identify image file"),
        (b"no image", "cannot identify image file"),
        (png(8, 8), r"image file is truncated|unrecognized data stream"),
        (png(8, 8, zlib.compress(b"\0" * 20)), "image file is truncated|not enough image data"),
        (png(0, 0), "."),
    ],
)
def test_damaged_files_are_named(root, content, message):
    (root / "dog" / "b.png").write_bytes(content)
    with pytest.raises(ValueError, match=rf"^image_folder: .*b\.png is no image, or a damaged one: ({message})"):
        image_folder(root, 8)


def test_no_damage_has_another_error(root):
    good, rng = whole_png(root / "elsewhere"), np.random.default_rng(0)
    (root / "elsewhere" / "whole.png").unlink()
    os.rmdir(root / "elsewhere")
    failed = 0
    for _ in range(60):
        content = bytearray(good)
        for _ in range(3):
            content[rng.integers(len(content))] = rng.integers(256)
        (root / "dog" / "b.png").write_bytes(content[: rng.integers(len(content) // 2, len(content))])
        with contextlib.suppress(ValueError):  # of no other kind
            image_folder(root, 8, class_names=["dog"])
            continue
        failed += 1
    assert failed > 30


def test_all_damaged_files_are_named_at_once(root):
    for name in ("dog/b.png", "cat/10.png"):
        (root / name).write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"^image_folder: .*10\.png is no image, .*; .*b\.png is no image, "):
        image_folder(root, 8)
    with pytest.warns(
        UserWarning, match=r"^image_folder: skipped 2 of 6 files: .*10\.png is no image, .*; .*b\.png is"
    ):
        data = image_folder(root, 8, on_error="skip")
    assert data.files == ("cat/1.png", "cat/2.tif", "dog/a.PNG", "dog/old/z.bmp")
    assert data.y.tolist() == [0, 0, 1, 1]
    for x, seed in zip(data.x, (3, 5, 1, 2), strict=True):
        np.testing.assert_array_equal(x, levels(8, 8, seed=seed).transpose(2, 0, 1))


def test_a_class_of_damaged_files_cannot_be_skipped(root):
    for path in (root / "cat").iterdir():
        path.write_bytes(b"no image")
    with (
        pytest.raises(ValueError, match=r"^image_folder: no image of .* in 'cat' can be read"),
        pytest.warns(UserWarning, match="skipped 3 of 6 files"),
    ):
        image_folder(root, 8, on_error="skip")


def test_what_macos_adds_to_archives_is_no_class(root):
    for name in ("__MACOSX/dog/1.png", "dog/__MACOSX/2.png"):
        save(root / name)
    assert image_folder(root, 8).class_names == ("cat", "dog")
    assert len(image_folder(root, 8).x) == 6


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".jpeg", ".JPG", ".pgm", ".pnm", ".webp", ".tiff", ".avif"])
def test_suffixes(suffix, tmp_path):
    form = {".jfif": "JPEG", ".jpe": "JPEG", ".pnm": "PPM"}.get(suffix)
    Image.init()
    if suffix in (".avif", ".webp") and suffix[1:].upper() not in Image.SAVE:
        pytest.skip("this Pillow cannot write it")
    save(tmp_path / "c" / f"1{suffix}", np.full((8, 8), 90, np.uint8), format=form)
    x = image_folder(tmp_path, 8).x
    assert x.shape == (1, 3, 8, 8)
    assert abs(int(x.mean()) - 90) <= 2


@pytest.mark.parametrize("size", [(60_000, 60_000), (10_000, 10_000)])
@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
def test_decompression_bombs_are_refused(root, size):
    (root / "cat" / "1.png").write_bytes(png(*size))
    with pytest.raises(ValueError, match=r"^image_folder: .*1\.png is no image, or a damaged one: .*pixels"):
        image_folder(root, 8)


def test_without_pillow_the_extra_is_named(root):
    code = (
        f"import sys; sys.modules['PIL'] = None; from cyconv.data import image_folder; image_folder({str(root)!r}, 8)"
    )
    status, _, said = processes.run(code)
    assert status == 1
    assert 'ImportError: image_folder: reading images needs Pillow: pip install "cyconv[image]"' in said


def test_the_systems_errors_stay_what_they_are(root, monkeypatch):
    def refuse(path, formats):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(PermissionError, match="Permission denied"):
        image_folder(root, 8)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"size": 0}, ValueError, "^image_folder: `size` must be at least 1, got 0"),
        ({"channels": 2}, ValueError, "^image_folder: `channels` must be 1 or 3, got 2"),
        ({"fit": "pad"}, ValueError, "^image_folder: `fit` must be one of 'crop', 'stretch', got 'pad'"),
        ({"on_error": "ignore"}, ValueError, "^image_folder: `on_error` must be one of 'raise', 'skip', got 'ignore'"),
        ({"background": "pink-ish"}, ValueError, "^image_folder: `background` must be a colour such as"),
        ({"background": (1, 2)}, ValueError, "^image_folder: `background` must be a colour of three levels, got 2"),
        ({"background": 256}, ValueError, "^image_folder: `background` must be at most 255, got 256"),
        ({"background": None}, TypeError, "^image_folder: `background` must be an integer, got None"),
        ({"invert": 1}, TypeError, "^image_folder: `invert` must be True or False, got 1"),
        ({"progress": 1}, TypeError, "^image_folder: `progress` must be True or False, got 1"),
        ({"root": 3}, TypeError, "^image_folder: `root` must be a str or a path, got 3"),
        ({"class_names": "dog"}, TypeError, "^image_folder: `class_names` must be a sequence of names, got 'dog'"),
        ({"class_names": [1]}, TypeError, "^image_folder: `class_names` must be names, got 1"),
        ({"class_names": []}, ValueError, r"^image_folder: `class_names` must be different names, got \[\]"),
        ({"class_names": ["dog", "dog"]}, ValueError, "^image_folder: `class_names` must be different names"),
        (
            {"class_names": ["../dog"]},
            ValueError,
            r"^image_folder: `class_names` must be names of folders, got '\.\./dog'",
        ),
        ({"class_names": ["owl"]}, FileNotFoundError, "^image_folder: there is no folder .*owl"),
    ],
)
def test_refuses(root, keywords, error, message):
    with pytest.raises(error, match=message):
        image_folder(**{"root": root, "size": 8, **keywords})


def test_folders_without_content(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        image_folder(tmp_path / "nowhere", 8)
    with pytest.raises(ValueError, match=r"^image_folder: .* has no folder in it: each class needs one"):
        image_folder(tmp_path, 8)
    (tmp_path / "cat").mkdir()
    (tmp_path / "owl").mkdir()
    save(tmp_path / "dog" / "1.png")
    with pytest.raises(ValueError, match=r"^image_folder: .* has no image \(\.avif, .*\) in its folder 'cat', 'owl'$"):
        image_folder(tmp_path, 8)
