import itertools
import tracemalloc

import numpy as np
import pytest

from cyconv.data import predict_tiled, tiles, untile
from cyconv.layers import Conv2d, Flatten, Linear, MaxPool2d, Sequential
from cyconv.models import unet
from cyconv.network import Network


def random_images(*shape, dtype=np.float32):
    return (np.random.default_rng(0).random(shape) * 250).astype(dtype)


def axis_starts(size, middle, overlap):
    """The rule of the documentation, one tile after the other."""
    starts = [0]
    while starts[-1] + middle < size:
        starts.append(min(starts[-1] + middle - overlap, size - middle))
    return starts


GRIDS = [  # size, tile, border, overlap
    ((9, 12), 4, 0, 0),
    ((9, 12), (4, 5), 0, (1, 2)),
    ((9, 12), 6, 1, 0),
    ((9, 12), (7, 8), (2, 1), (1, 4)),
    ((9, 12), 16, 0, 0),
    ((2, 3), 16, 3, 2),
    ((1, 1), 4, 1, 0),
    ((30, 7), 8, 0, 7),
]


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize(("size", "tile", "border", "overlap"), GRIDS)
def test_tiles_are_cut_from_the_mirrored_image(size, tile, border, overlap, channels):
    images = random_images(2, *channels, *size)
    (TH, TW), (BH, BW), (OH, OW) = (
        value if isinstance(value, tuple) else (value,) * 2 for value in (tile, border, overlap)
    )
    around = [(0, 0)] * (1 + len(channels)) + [(BH, BH + TH), (BW, BW + TW)]
    padded = np.pad(images, around, mode="reflect") if 1 not in size else np.pad(images, around, mode="edge")
    expected = [
        image[..., row : row + TH, column : column + TW]
        for image in padded
        for row in axis_starts(size[0], TH - 2 * BH, OH)
        for column in axis_starts(size[1], TW - 2 * BW, OW)
    ]
    np.testing.assert_array_equal(tiles(images, tile, border, overlap), expected)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float64, ">f4"])
def test_tiles_keep_the_dtype_and_lie_channels_last(dtype):
    cut = tiles(random_images(1, 3, 6, 6).astype(dtype), 4)
    assert cut.dtype == dtype
    assert cut.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize(("size", "tile", "border", "overlap"), GRIDS)
def test_untile_is_the_inverse(size, tile, border, overlap, channels):
    images = random_images(2, *channels, *size)
    middle = tuple(np.subtract(tile, 2 * np.array(border)) * np.ones(2, int))
    whole = untile(tiles(images, middle, 0, overlap), size, overlap)
    np.testing.assert_array_equal(whole, images)
    assert whole.dtype == images.dtype


@pytest.mark.parametrize(("overlap", "size"), [(0, 20), (2, 20), (3, 17), (5, 9), (7, 31)])
def test_each_pixel_is_that_of_the_tile_whose_edge_is_farthest(overlap, size):
    starts = axis_starts(size, 8, overlap)
    pieces = np.repeat(np.arange(len(starts)), 64).reshape(-1, 8, 8)
    from_tile = untile(pieces[:, :, :], (8, size), overlap)[0, 0]

    def depth(pixel, start):  # to the nearer edge inside the image
        return min(pixel - start + 1 if start else size, start + 8 - pixel if start + 8 < size else size)

    for pixel, chosen in enumerate(from_tile):
        depths = [depth(pixel, start) if start <= pixel < start + 8 else 0 for start in starts]
        assert depths[chosen] >= max(depths) - 1  # an odd overlap has a middle pixel
        assert depths[chosen] >= min((overlap + 1) // 2, max(depths))


def test_results_are_fresh():
    images = random_images(1, 2, 4, 4)
    before = images.copy()
    tiles(images, 4)[:] = -1
    untile(images, (4, 4))[:] = -1
    np.testing.assert_array_equal(images, before)


def test_no_images_no_tiles():
    assert tiles(np.zeros((0, 1, 9, 9)), 4).shape == (0, 1, 4, 4)
    assert untile(np.zeros((0, 1, 4, 4)), (9, 9)).shape == (0, 1, 9, 9)


# Prediction


def pixel_classifier(padding):
    return Network(
        [Conv2d(2, 4, 3, padding=padding), Conv2d(4, 3, 5, padding=2 * padding)], seed=0
    )  # sees 3 pixels in each direction


@pytest.mark.parametrize(("overlap", "tile"), [(0, 14), (4, (17, 22)), (0, 80)])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_valid_convolutions_see_the_mirrored_image(overlap, tile, batch_size):
    images, network = random_images(2, 2, 33, 41), pixel_classifier(0)
    whole = network.predict(np.pad(images, ((0, 0), (0, 0), (3, 3), (3, 3)), mode="reflect"))
    tiled = predict_tiled(network, images, tile, overlap, batch_size)
    np.testing.assert_allclose(tiled, whole, rtol=1e-5, atol=1e-4)  # sums in another order


def test_padded_convolutions_see_the_edges_of_the_image():
    images, network = random_images(2, 2, 33, 41), pixel_classifier(1)
    whole = network.predict(images)
    np.testing.assert_allclose(predict_tiled(network, images, 16, overlap=6), whole, rtol=1e-5, atol=1e-4)
    too_little = predict_tiled(network, images, 16, overlap=4)
    assert np.abs(too_little - whole).max() > 1  # the tolerance above would notice a single pixel's seam


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_unet_of_two_levels_has_no_seams(padding):
    network = unet(2, 1, padding=padding, depth=2, width=4, input_size=None, seed=0)
    images = random_images(1, 1, 72, 96) / 255
    # Radius of the receptive field: 2 + 2 * 2 + 4 * 2 rows down, 2 * 2 + 2 up, and up to 3 where a square is halved.
    if padding == "valid":
        whole = network.predict(np.pad(images, ((0, 0), (0, 0), (20, 20), (20, 20)), mode="reflect"))
        tiled = predict_tiled(network, images, tile=64)
    else:
        whole, tiled = network.predict(images), predict_tiled(network, images, tile=64, overlap=48)
    assert whole.shape == tiled.shape == (1, 2, 72, 96)
    np.testing.assert_allclose(tiled, whole, rtol=1e-4, atol=1e-5)


def test_the_papers_tiles():
    network = unet(depth=4, width=1, seed=0)
    image = random_images(1, 400, 500, dtype=np.uint8)
    inputs, targets = tiles(image, 572, border=92), tiles(image, 388)
    np.testing.assert_array_equal(inputs[:, 92:-92, 92:-92], targets)
    assert predict_tiled(network, image).shape == (1, 2, 400, 500)


def test_bytes_and_big_endian_numbers_are_predicted_as_predict_does():
    images = random_images(1, 2, 20, 20, dtype=np.uint8)
    network = pixel_classifier(1)
    expected = network.predict(images)
    np.testing.assert_allclose(predict_tiled(network, images, 16, 6), expected, rtol=1e-5, atol=1e-6)
    big = (images / 255).astype(">f4")
    np.testing.assert_allclose(predict_tiled(network, big, 16, 6), expected, rtol=1e-5, atol=1e-6)


def test_only_a_few_tiles_are_made_at_a_time(tmp_path, monkeypatch):
    mapped = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (2, 2, 50, 60))
    network = pixel_classifier(0)
    predict, sizes = network.predict, []
    monkeypatch.setattr(network, "predict", lambda x, n: sizes.append(len(x)) or predict(x, n))
    predict_tiled(network, mapped, 16, batch_size=5)
    assert max(sizes) == 5
    assert sum(sizes) == 2 * len(list(itertools.product(axis_starts(50, 10, 0), axis_starts(60, 10, 0))))


# Errors

IMAGE = np.zeros((1, 2, 9, 9), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: tiles(IMAGE[0, 0], 4),
            ValueError,
            r"^tiles: `images` must have shape \(N, C, H, W\) or .*, got \(9, 9\)",
        ),
        (
            lambda: tiles(IMAGE[:, :, :0], 4),
            ValueError,
            r"^tiles: only the batch of `images` may be empty, got shape \(1,",
        ),
        (lambda: tiles(None, 4), TypeError, "^tiles: `images` must be an array, got None"),
        (lambda: tiles(IMAGE, 0), ValueError, "^tiles: `tile` must be at least 1, got 0"),
        (lambda: tiles(IMAGE, 4.0), TypeError, "^tiles: `tile` must be an integer, got 4.0"),
        (lambda: tiles(IMAGE, 4, -1), ValueError, "^tiles: `border` must be at least 0, got -1"),
        (
            lambda: tiles(IMAGE, 4, 0, (1, 2, 3)),
            ValueError,
            r"^tiles: `overlap` must be an int or a pair of ints, got \(",
        ),
        (
            lambda: tiles(IMAGE, 4, 2),
            ValueError,
            "^tiles: `overlap` 0 and `border` 2 on both sides leave nothing of a tile of 4",
        ),
        (
            lambda: tiles(IMAGE, (8, 4), 1, 2),
            ValueError,
            "^tiles: `overlap` 2 and `border` 1 on both sides leave nothing of a tile of 4",
        ),
        (lambda: untile(IMAGE, 9), TypeError, r"^untile: `size` must be \(height, width\), got 9"),
        (lambda: untile(IMAGE, (9, 0)), ValueError, "^untile: `size` must be at least 1, got 0"),
        (lambda: untile(IMAGE[0, 0], (9, 9)), ValueError, r"^untile: `tiles` must have shape .*, got \(9, 9\)"),
        (
            lambda: untile(IMAGE, (10, 20), 1),
            ValueError,
            r"^untile: `tiles` must be 6 for each image of 10x20 \(2 x 3 of 9x9, overlap 1\), got 1",
        ),
        (lambda: untile(IMAGE, (9, 9), 9), ValueError, "^untile: `overlap` 9 and `border` 0 .* a tile of 9"),
        (
            lambda: predict_tiled(pixel_classifier(0), IMAGE),
            ValueError,
            "^predict_tiled: `tile` is missing, and the network has no input size of its own",
        ),
        (
            lambda: predict_tiled(pixel_classifier(0), IMAGE.astype(int), 9),
            TypeError,
            "^predict_tiled: `images` must be float32, float64 or uint8, got int64",
        ),
        (
            lambda: predict_tiled(pixel_classifier(0), IMAGE[0, 0], 9),
            ValueError,
            r"^predict_tiled: `images` must have shape \(N, C, H, W\) or \(N, H, W\), got \(9, 9\)",
        ),
        (
            lambda: predict_tiled(pixel_classifier(0), IMAGE, 9, 3),
            ValueError,
            "^predict_tiled: `overlap` 3 and `border` 3",
        ),
        (
            lambda: predict_tiled(pixel_classifier(0), IMAGE, 9, 0, 0),
            ValueError,
            "`batch_size` must be at least 1, got 0",
        ),
    ],
)
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([Flatten(), Linear(128, 3)], r"\(3,\)"),
        ([MaxPool2d(2, stride=1)], r"\(2, 7, 7\)"),
        ([Sequential([Conv2d(2, 1, 1, padding=1)])], r"\(1, 10, 10\)"),
    ],
)
def test_networks_whose_output_is_no_middle_of_the_tile_are_refused(layers, shape):
    message = rf"^predict_tiled: `network` must give images as large as its tiles, .*; it makes {shape} of \(2, 8, 8\)"
    with pytest.raises(ValueError, match=message):
        predict_tiled(Network(layers, seed=0), IMAGE, 8)


def test_a_tile_far_too_large_is_an_error_at_once():
    with pytest.raises((MemoryError, ValueError)):
        tiles(IMAGE, 2**31 - 1)


def test_untile_refuses_a_huge_size_before_it_lays_out_tiles():
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"^untile: `tiles` must be 250000000000000000 for each image of 10{9}x"):
            untile(np.zeros((3, 1, 2, 2)), (10**9, 10**9))
        assert untile(np.zeros((0, 1, 2, 2), np.uint8), (10**5, 10**5)).shape == (0, 1, 10**5, 10**5)
        assert tracemalloc.get_traced_memory()[1] < 10**5
    finally:
        tracemalloc.stop()
