"""Pictures of every mode that files have, in the shape that a network takes."""

import struct
import zlib

import numpy as np
import pytest

from cyconv.data.pictures import FORMATS, SUFFIXES, Preparation, as_color
from tests import processes

Image = pytest.importorskip("PIL.Image")
RNG = np.random.default_rng(0)


def levels(height, width, channels=3, seed=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def read(path, size, channels=3, **options):
    return Preparation(size, channels, **options).read(path)


# Transparency


def composited(colors, alpha, background):
    """The same by the formula, in float64."""
    share = alpha[..., np.newaxis] / 255
    return colors * share + np.array(background) * (1 - share)


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (10, 200, 90)])
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_transparent_pixels_show_the_background(background, suffix, tmp_path):
    colors, alpha = levels(6, 7), levels(6, 7, 1, seed=1)
    colors[:2], alpha[:2] = 0, 0  # black on black
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    Image.fromarray(np.dstack([colors, alpha])).save(tmp_path / f"1.{suffix}", **options)
    found = read(tmp_path / f"1.{suffix}", (6, 7), background=background)
    np.testing.assert_allclose(found, composited(colors, alpha, background), atol=1.01)
    assert (found[:2] == background).all()


def test_grey_with_transparency(tmp_path):
    grey, alpha = levels(6, 7, 1), levels(6, 7, 1, seed=1)
    Image.fromarray(np.dstack([grey, alpha])).save(tmp_path / "1.png")
    found = read(tmp_path / "1.png", (6, 7), 1, background=(40, 40, 40))
    expected = composited(grey[..., np.newaxis], alpha, [40])
    np.testing.assert_allclose(found, expected, atol=1.01)


def test_palettes_with_transparency(tmp_path):
    image = Image.new("P", (6, 6))
    image.putpalette([10, 20, 30, 200, 100, 50, 0, 0, 0])
    index = levels(6, 6, 1) % 3
    image.putdata(index.ravel().tolist())
    image.save(tmp_path / "one.png", transparency=2)
    image.save(tmp_path / "one.gif", transparency=2)
    image.save(tmp_path / "each.png", transparency=bytes([255, 128, 0]))
    colors = np.array([[10, 20, 30], [200, 100, 50], [0, 0, 0]])[index]
    for name, alpha in (("one.png", [255, 255, 0]), ("one.gif", [255, 255, 0]), ("each.png", [255, 128, 0])):
        expected = composited(colors, np.array(alpha)[index], (255, 255, 255))
        np.testing.assert_allclose(read(tmp_path / name, (6, 6)), expected, atol=1.01)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_colour_may_be_the_transparent_one(channels, tmp_path):
    array = levels(6, 6, channels)
    array[2:4] = 7
    Image.fromarray(array).save(tmp_path / "1.png", transparency=7 if channels == 1 else (7, 7, 7))
    array[2:4] = 255
    np.testing.assert_array_equal(read(tmp_path / "1.png", (6, 6), channels).squeeze(), array)


def test_edges_of_what_is_cut_out_are_not_dark(tmp_path):
    """The background comes first, then the size: pixels that cannot be seen are never mixed in."""
    array = np.zeros((8, 8, 4), np.uint8)
    array[:, 3:] = 255  # white on a transparent black
    Image.fromarray(array).save(tmp_path / "1.png")
    assert read(tmp_path / "1.png", (4, 4)).min() == 255


def test_sixteen_bits_with_a_transparent_level(tmp_path):
    array = np.array([[1000, 40000], [30000, 1000]], np.uint16)
    Image.fromarray(array).save(tmp_path / "1.png")
    content = (tmp_path / "1.png").read_bytes()
    body = struct.pack(">H", 1000)
    chunk = struct.pack(">I", 2) + b"tRNS" + body + struct.pack(">I", zlib.crc32(b"tRNS" + body))
    (tmp_path / "1.png").write_bytes(content[:33] + chunk + content[33:])  # behind the header
    found = read(tmp_path / "1.png", (2, 2), 1)[..., 0]
    assert found.tolist() == [[255, 40000 >> 8], [30000 >> 8, 255]]


# More than eight bits


@pytest.mark.parametrize(("largest", "name"), [(65535, "1.pgm"), (65535, "1.png"), (65535, "1.tif"), (4095, "1.pgm")])
def test_sixteen_bits_keep_their_range(largest, name, tmp_path):
    array = np.linspace(0, largest, 36).astype(np.uint16).reshape(6, 6)
    if name.endswith("pgm"):
        (tmp_path / name).write_bytes(b"P5 6 6 %d\n" % largest + array.astype(">u2").tobytes())
    else:
        Image.fromarray(array).save(tmp_path / name)
    found = read(tmp_path / name, (6, 6), 1)[..., 0]
    np.testing.assert_allclose(found, array / largest * 255, atol=1)
    assert found.max() == 255


def test_twelve_bits_of_tiff(tmp_path):
    """Two numbers in three bytes."""
    values = np.array([[0, 4095], [2048, 1024]], np.int64)
    pairs = values.reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1)
    data = packed.astype(np.uint8).tobytes()
    tags = [(256, 3, 2), (257, 3, 2), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 3, 2)]
    tags += [(279, 4, len(data))]
    header = b"II*\0" + (8 + len(data)).to_bytes(4, "little")
    entries = b"".join(
        tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + (1).to_bytes(4, "little") + value.to_bytes(4, "little")
        for tag, kind, value in tags
    )
    (tmp_path / "1.tif").write_bytes(header + data + len(tags).to_bytes(2, "little") + entries + bytes(4))
    assert read(tmp_path / "1.tif", (2, 2), 1)[..., 0].tolist() == (values >> 4).tolist()


@pytest.mark.parametrize(("kind", "mode"), [(np.float32, "F, floating point"), (np.int32, "I, integers of 32 bits")])
def test_pixels_without_a_range_are_refused(kind, mode, tmp_path):
    Image.fromarray(np.zeros((4, 4), kind)).save(tmp_path / "1.tif")
    with pytest.raises(ValueError, match=rf"1\.tif is no image, or a damaged one: its mode {mode}.*, has no range"):
        read(tmp_path / "1.tif", (4, 4))


def test_a_mode_without_bits_is_of_16_in_png(tmp_path, monkeypatch):
    """As Pillow before 11 opens them."""
    Image.fromarray(np.full((4, 4), 30000, np.uint16)).save(tmp_path / "1.png")
    opened = Image.open

    def older(path, formats):
        image = opened(path, formats=formats)
        image.load()
        converted = Image.fromarray(np.asarray(image).astype(np.int32))
        converted.format = image.format
        return converted

    monkeypatch.setattr(Image, "open", older)
    assert np.unique(read(tmp_path / "1.png", (4, 4), 1)).tolist() == [30000 >> 8]


# Formats


def test_only_the_listed_formats_are_opened(tmp_path):
    """An EPS file, whose pixels another program draws, is none of them, whatever it is called."""
    (tmp_path / "1.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    code = f"""
        import subprocess
        from pathlib import Path
        from cyconv.data.pictures import Preparation
        def refuse(*arguments, **keywords):
            raise SystemExit("a program was started")
        subprocess.Popen.__init__ = refuse
        try:
            Preparation((4, 4)).read(Path({str(tmp_path / "1.png")!r}))
        except ValueError as error:
            print(error)
    """
    assert "1.png is no image, or a damaged one: cannot identify" in processes.output(code)


def test_the_content_tells_the_format(tmp_path):
    Image.fromarray(levels(6, 6)).save(tmp_path / "1.bmp")
    (tmp_path / "1.bmp").rename(tmp_path / "1.jpg")
    np.testing.assert_array_equal(read(tmp_path / "1.jpg", (6, 6)), levels(6, 6))


def test_every_format_is_one_of_pillows():
    Image.init()
    known = {suffix: name for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    for suffix in SUFFIXES:
        assert known.get(suffix, "AVIF" if suffix == ".avif" else None) in FORMATS


def test_a_format_that_pillow_lacks_is_named(tmp_path, monkeypatch):
    Image.init()
    monkeypatch.delitem(Image.OPEN, "AVIF", raising=False)
    (tmp_path / "1.avif").write_bytes(b"\0\0\0 ftypavif" + bytes(40))
    with pytest.raises(ValueError, match=r"1\.avif is no image, .*\(AVIF needs Pillow 11\.3\)$"):
        read(tmp_path / "1.avif", (4, 4))


# Arrays


@pytest.mark.parametrize("fit", ["crop", "stretch"])
@pytest.mark.parametrize("size", [(8, 8), (20, 30), (5, 40), (7, 3), (33, 12)])
@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_are_prepared_as_files_are(fit, size, channels, tmp_path):
    array = levels(12, 20)
    Image.fromarray(array).save(tmp_path / "1.png")
    preparation = Preparation(size, channels, fit, invert=channels == 1)
    images = (array.transpose(2, 0, 1)[np.newaxis] / 255).astype(np.float32)
    found = preparation.apply(images)
    assert found.shape == (1, channels, *size)
    assert found.dtype == np.float32
    # Pillow rounds three times: to grey, along rows and along columns.
    np.testing.assert_allclose(found[0].transpose(1, 2, 0) * 255, preparation.read(tmp_path / "1.png"), atol=2)


def test_what_fits_is_left_as_it_is():
    x = RNG.random((2, 3, 5, 6), np.float32)
    np.testing.assert_array_equal(Preparation((5, 6)).apply(x), x)
    np.testing.assert_array_equal(Preparation((5, 6), invert=True).apply(x), 1 - x)


def test_colours():
    assert as_color("op", "name", "red") == (255, 0, 0)
    assert as_color("op", "name", "#0a0B0c") == (10, 11, 12)
    assert as_color("op", "name", 7) == (7, 7, 7)
    assert as_color("op", "name", [1, 2, 3]) == (1, 2, 3)
    for value in ("reddish", "#ff000080", [1, 2, 3, 4]):
        with pytest.raises(ValueError, match=r"^op: `name` must be a colour"):
            as_color("op", "name", value)


def test_usual_colours_need_no_pillow():
    code = """
    import sys
    sys.modules["PIL"] = None  # as if it were not installed
    from cyconv.data.pictures import as_color
    print(as_color("op", "background", "white"), as_color("op", "background", "black"))
    try:
        as_color("op", "background", "#ffffff")
    except ImportError as error:
        print(error)
    """
    colours, error = processes.output(code).splitlines()
    assert colours == "(255, 255, 255) (0, 0, 0)"
    assert error == 'op: colours by name need Pillow: pip install "cyconv[image]"'
