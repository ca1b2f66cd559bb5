"""Large images in overlapping tiles: cut, put together again, and predicted a few tiles at a time.

O. Ronneberger, P. Fischer, T. Brox, U-Net: convolutional networks for biomedical image segmentation, MICCAI, 2015,
figure 2: the overlap-tile strategy.
"""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv._geometry import Pair, mirrored
from cyconv._sources import Rows, with_channel
from cyconv._validation import FLOATS, as_array, as_int, as_pair, as_rows, brief

Extent = int | tuple[int, int]
NETWORK = ("predict", "output_shape", "input_shape", "dtype")  # of a Network, which this module cannot import


def tiles(images: ArrayLike, tile: Extent, border: Extent = 0, overlap: Extent = 0) -> NDArray:
    """Cut images into tiles whose middles cover them, mirrored where a tile reaches over an edge.

    Parameters
    ----------
    images : array_like of shape (N, C, H, W) or (N, H, W)
        Images, or one number a pixel such as its class, of any dtype.
    tile : int or pair of ints
        Height and width of a tile: what a network takes.
    border : int or pair of ints, default 0
        Rows above and below, and columns left and right, of a tile's middle: what the network's output lacks. A U-Net
        of valid convolutions takes tiles of 572 for middles of 388, so its border is 92.
    overlap : int or pair of ints, default 0
        Rows and columns, at least, that neighbouring middles share.

    Returns
    -------
    ndarray of shape (N * tiles, C, TH, TW) or (N * tiles, TH, TW)
        The tiles of the first image, row by row, then those of the next: a fresh array.

    Raises
    ------
    TypeError, ValueError
        If `images` has another number of axes, or no pixel; or `border` and `overlap` leave nothing of a tile.

    Notes
    -----
    A middle starts every ``tile - 2 * border - overlap`` pixels; the last is moved back to end where the image does.
    Where they lie depends on their size alone: ``tiles(x, 572, border=92)`` are the inputs for the targets
    ``tiles(y, 388)``. A mirror does not repeat the pixels of the edge. Images smaller than a tile are mirrored as often
    as it takes.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.data import tiles
    >>> image = np.arange(16).reshape(1, 4, 4)
    >>> tiles(image, 2).tolist()
    [[[0, 1], [4, 5]], [[2, 3], [6, 7]], [[8, 9], [12, 13]], [[10, 11], [14, 15]]]
    >>> tiles(image, 4, border=1)[0]  # 0, 1, 4 and 5 with what surrounds them
    array([[ 5,  4,  5,  6],
           [ 1,  0,  1,  2],
           [ 5,  4,  5,  6],
           [ 9,  8,  9, 10]])
    """
    pixels = _pixels_last("tiles", "images", images)
    grid = _Grid.checked("tiles", tile, border, overlap)
    places = grid.places(pixels.shape[1:3])
    output = np.empty((len(pixels) * len(places), *grid.tile, *pixels.shape[3:]), pixels.dtype)
    for number, (image, place) in enumerate(product(pixels, places)):
        output[number] = grid.cut(image, place)
    return _channels_first(output)


def untile(tiles: ArrayLike, size: tuple[int, int], overlap: Extent = 0) -> NDArray:
    """Put tiles together to images, the inverse of `tiles`.

    Parameters
    ----------
    tiles : array_like of shape (N * tiles, C, TH, TW) or (N * tiles, TH, TW)
        Middles without borders, in the order in which `tiles` cuts them.
    size : pair of ints
        Height and width of the images.
    overlap : int or pair of ints, default 0
        That of the tiles.

    Returns
    -------
    ndarray of shape (N, C, H, W) or (N, H, W)
        Where tiles overlap, each pixel is that of the tile whose edge is farthest: a fresh array.

    Raises
    ------
    TypeError, ValueError
        If `tiles` has another number of axes, or is not a whole number of images.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.data import tiles, untile
    >>> image = np.random.default_rng(0).random((1, 3, 50, 70))
    >>> np.array_equal(untile(tiles(image, 32, overlap=8), (50, 70), overlap=8), image)
    True
    """
    pixels = _pixels_last("untile", "tiles", tiles)
    if not isinstance(size, (tuple, list)):
        raise TypeError(f"untile: `size` must be (height, width), got {brief(size)}")
    H, W = as_pair("untile", "size", size)
    grid = _Grid.checked("untile", pixels.shape[1:3], 0, overlap)
    rows, columns = grid.middles(0, H), grid.middles(1, W)
    N, rest = divmod(len(pixels), rows * columns)
    if rest:
        raise ValueError(
            f"untile: `tiles` must be {rows * columns} for each image of {H}x{W} ({rows} x {columns} of "
            f"{grid.tile[0]}x{grid.tile[1]}, overlap {overlap}), got {len(pixels)}"
        )
    output = np.empty((N, H, W, *pixels.shape[3:]), pixels.dtype)
    places = grid.places((H, W)) if N else []
    for (image, place), piece in zip(product(output, places), pixels, strict=True):
        place.paste(piece, image)
    return _channels_first(output)


class Predictor(Protocol):
    """What `predict_tiled` needs of a `Network`."""

    input_shape: tuple[int, ...] | None

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the output."""

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of an output, without the batch axis."""

    def predict(self, x: ArrayLike, batch_size: int = 256) -> NDArray:
        """Return the outputs of a batch."""


def predict_tiled(
    network: Predictor, images: ArrayLike, tile: Extent | None = None, overlap: Extent = 0, batch_size: int = 4
) -> NDArray:
    """Predict every pixel of images that are too large for the network or for memory, tile by tile.

    Parameters
    ----------
    network : Network
        Gives each pixel its scores. Its output has the input's size (padded convolutions), or lacks a border of the
        same width on opposite sides (valid ones).
    images : ndarray of shape (N, C, H, W), or (N, H, W) for one channel; float32, float64 or uint8
        Whole images, also memory-mapped, or read from h5py and zarr one at a time.
    tile : int or pair of ints, optional
        Height and width of what the network is given at a time. Default: the network's own input size.
    overlap : int or pair of ints, default 0
        Pixels that the outputs of neighbouring tiles share; of those, each tile gives the half that lies on its side.
    batch_size : int, default 4
        Tiles at a time.

    Returns
    -------
    ndarray of shape (N, classes, H, W)

    Raises
    ------
    TypeError, ValueError
        If the network's output is no image, or larger or off the middle; `tile` is missing; or an argument is wrong.

    Notes
    -----
    There are no seams, and no difference from predicting the whole image at once (mirrored by the border, for a network
    of valid convolutions), where a kept pixel sees all that it would see there. Valid convolutions need no overlap
    for that: what they lack at the border is cut with the tile, and mirrored at the edges of the image. Padded
    ones need ``overlap`` twice the radius of the receptive field. Networks that pool by two, `k` times, see the same
    squares if tiles start at multiples of ``2**k``: choose the image's size, ``tile`` and ``overlap`` so.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Network, layers
    >>> from cyconv.data import predict_tiled
    >>> image = np.random.default_rng(0).random((1, 1, 60, 80), np.float32)
    >>> valid = Network([layers.Conv2d(1, 2, 5)], seed=0)
    >>> predict_tiled(valid, image, tile=36).shape
    (1, 2, 60, 80)
    >>> padded = Network([layers.Conv2d(1, 2, 5, padding=2)], seed=0)
    >>> np.allclose(predict_tiled(padded, image, tile=32, overlap=4), padded.predict(image), atol=1e-6)
    True
    """
    op = "predict_tiled"
    if isinstance(network, type) or not all(hasattr(network, name) for name in NETWORK):
        raise TypeError(f"{op}: `network` must be a Network, got {type(network).__name__}")
    array = as_rows(op, "images", images)
    if array.dtype != np.uint8 and array.dtype.newbyteorder("=") not in FLOATS:
        raise TypeError(f"{op}: `images` must be float32, float64 or uint8, got {array.dtype}")
    pixels = with_channel(array) if array.ndim == 3 else array
    _check_images(op, "images", pixels.shape)
    N, C, H, W = pixels.shape
    if tile is None:
        shape = network.input_shape
        if shape is None or len(shape) != 3:
            raise ValueError(f"{op}: `tile` is missing, and the network has no input size of its own")
        tile = shape[1:]
    TH, TW = as_pair(op, "tile", tile)
    if network.input_shape not in (None, (C, TH, TW)):
        raise ValueError(
            f"{op}: `tile` and the channels of `images` must be the network's input, {network.input_shape}, got "
            f"{(C, TH, TW)}"
        )
    shape = network.output_shape((C, TH, TW))
    if len(shape) != 3 or any(out > size or (size - out) % 2 for out, size in zip(shape[1:], (TH, TW), strict=True)):
        raise ValueError(
            f"{op}: `network` must give images as large as its tiles, or without an even border; it makes {shape} "
            f"of {(C, TH, TW)}"
        )
    grid = _Grid.checked(op, (TH, TW), ((TH - shape[1]) // 2, (TW - shape[2]) // 2), overlap)
    work = list(product(range(N), grid.places((H, W))))
    size = as_int(op, "batch_size", batch_size)
    output = np.empty((N, H, W, shape[0]), network.dtype)
    held: dict[int, NDArray] = {}
    for start in range(0, len(work), size):
        group = work[start : start + size]
        held = {i: held[i] if i in held else _image(pixels, i) for i, _ in group}  # each is read once
        batch = np.stack([grid.cut(held[i], place) for i, place in group])
        scores = network.predict(_channels_first(batch), size).transpose(0, 2, 3, 1)
        for (i, place), piece in zip(group, scores, strict=True):
            place.paste(piece, output[i])
    return _channels_first(output)


class _Span(NamedTuple):
    """One tile's middle along an axis: where it starts, and from where to where its pixels are kept."""

    start: int
    first: int
    stop: int


class _Place(NamedTuple):
    """One tile's middle in an image."""

    rows: _Span
    columns: _Span

    def paste(self, piece: NDArray, image: NDArray) -> None:
        """Write what is kept of the middle `piece`, [TH, TW, ...], to an image."""
        source = tuple(slice(span.first - span.start, span.stop - span.start) for span in self)
        target = tuple(slice(span.first, span.stop) for span in self)
        image[target] = piece[source]


class _Grid(NamedTuple):
    """Sizes of tiles; both numbers of a pair are vertical, then horizontal."""

    tile: Pair
    border: Pair
    overlap: Pair

    @classmethod
    def checked(cls, op: str, tile: Any, border: Any, overlap: Any) -> _Grid:
        """Return the grid of a user's numbers."""
        grid = cls(as_pair(op, "tile", tile), as_pair(op, "border", border, 0), as_pair(op, "overlap", overlap, 0))
        for size, edge, shared in zip(*grid, strict=True):
            if size <= 2 * edge + shared:
                raise ValueError(
                    f"{op}: `overlap` {shared} and `border` {edge} on both sides leave nothing of a tile of {size}"
                )
        return grid

    def starts(self, axis: int, size: int) -> tuple[range, int]:
        """Return where the middles along an axis of `size` pixels start, the last one apart."""
        middle = self.tile[axis] - 2 * self.border[axis]
        last = max(size - middle, 0)
        return range(0, last, middle - self.overlap[axis]), last

    def middles(self, axis: int, size: int) -> int:
        """Return how many middles there are along an axis."""
        return len(self.starts(axis, size)[0]) + 1

    def spans(self, axis: int, size: int) -> list[_Span]:
        """Return the middles along an axis of `size` pixels; seams are halfway between the edges that overlap."""
        middle = self.tile[axis] - 2 * self.border[axis]
        firsts, last = self.starts(axis, size)
        starts = [*firsts, last]
        seams = [0, *((start + following + middle) // 2 for start, following in pairwise(starts)), size]
        return [_Span(start, *kept) for start, kept in zip(starts, pairwise(seams), strict=True)]

    def places(self, size: tuple[int, ...]) -> list[_Place]:
        """Return the middles in an image, row by row."""
        return [_Place(*spans) for spans in product(self.spans(0, size[0]), self.spans(1, size[1]))]

    def cut(self, image: NDArray, place: _Place) -> NDArray:
        """Return a tile, [TH, TW, ...], of an image [H, W, ...]."""
        rows, columns = (
            _positions(span.start - border, tile, size)
            for span, border, tile, size in zip(place, self.border, self.tile, image.shape[:2], strict=True)
        )
        return image[rows][:, columns]


def _positions(start: int, count: int, size: int) -> slice | NDArray[np.intp]:
    """Return the positions of `count` pixels from `start` on an axis of `size` that goes on as in two mirrors."""
    if 0 <= start <= size - count:
        return slice(start, start + count)
    return mirrored(np.arange(start, start + count), size)


def _pixels_last(op: str, name: str, value: ArrayLike) -> NDArray:
    """Return images as [N, H, W, C], or [N, H, W]."""
    array = as_array(op, name, value)
    _check_images(op, name, array.shape)
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def _check_images(op: str, name: str, shape: tuple[int, ...]) -> None:
    if len(shape) not in (3, 4):
        raise ValueError(f"{op}: `{name}` must have shape (N, C, H, W) or (N, H, W), got {shape}")
    if 0 in shape[1:]:
        raise ValueError(f"{op}: only the batch of `{name}` may be empty, got shape {shape}")


def _image(images: Rows, number: int) -> NDArray:
    """Return one of the images (N, C, H, W) as [H, W, C]."""
    return images[number : number + 1][0].transpose(1, 2, 0)


def _channels_first(pixels: NDArray) -> NDArray:
    return pixels.transpose(0, 3, 1, 2) if pixels.ndim == 4 else pixels
