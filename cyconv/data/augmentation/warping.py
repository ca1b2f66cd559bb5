"""Rotations, other affine maps and elastic deformations: each pixel is read from a place between others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cyconv import memory
from cyconv._geometry import Pair, mirrored
from cyconv._validation import as_choice, as_number, as_pair
from cyconv.data.augmentation.placement import MODES, Extent
from cyconv.data.augmentation.transforms import Move, SpatialTransform

BLOCK = 1 << 14  # pixels read together: fewer, and threads wait for each other; more, and the cache is too small


class RandomAffine(SpatialTransform):
    """Turn, zoom, shear and move each image about its middle, by amounts of its own.

    Parameters
    ----------
    degrees : float, default 0
        Turned by an angle between -degrees and degrees.
    scale : float, default 0
        Zoomed by a factor between 1 / (1 + scale) and 1 + scale; its logarithm is drawn.
    shear : float, default 0
        Rows are moved sideways, by an angle between -shear and shear degrees.
    shift : float, default 0
        Moved by a share between -shift and shift of the height and of the width.
    mode : {"constant", "reflect"}, default "constant"
        What lies outside of an image: zeros, or the image in a mirror at its edges.

    Raises
    ------
    TypeError, ValueError
        If a number is out of range, or `mode` is another.

    Notes
    -----
    A pixel is interpolated linearly between the four around its place in the old image; targets that are not floating
    point numbers, such as classes of pixels, take the nearest.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.data.augmentation import RandomAffine
    >>> x, y = np.random.default_rng(0).random((4, 3, 32, 32), np.float32), np.zeros(4, int)
    >>> RandomAffine(degrees=15, scale=0.2, shear=5, shift=0.1)(x, y, rng=0)[0].shape
    (4, 3, 32, 32)
    """

    def __init__(
        self, degrees: float = 0, scale: float = 0, shear: float = 0, shift: float = 0, mode: str = "constant"
    ) -> None:
        self.degrees = as_number("RandomAffine", "degrees", degrees, 0, 180)
        self.scale = as_number("RandomAffine", "scale", scale, 0)
        self.shear = as_number("RandomAffine", "shear", shear, 0, 90, open_maximum=True)
        self.shift = as_number("RandomAffine", "shift", shift, 0)
        self.mode = as_choice("RandomAffine", "mode", mode, MODES)

    def drawn(self, count: int, size: Pair, rng: np.random.Generator) -> Move:
        """Choose a map for each image."""
        angle, log_zoom, shear, down, right = rng.uniform(-1, 1, (5, count))
        angle, tangent = np.radians(self.degrees * angle), np.tan(np.radians(self.shear * shear))
        zoom = (1 + self.scale) ** log_zoom
        cosine, sine = np.cos(angle) / zoom, np.sin(angle) / zoom
        # [row, column] in the old image = matrix @ ([row, column] in the new one - middle - shift) + middle, with
        # matrix = [[cosine, sine], [-sine, cosine]] @ [[1, 0], [tangent, 1]]
        matrix = np.array([[cosine + sine * tangent, sine], [cosine * tangent - sine, cosine]])  # [2, 2, N]
        middle, extents = (np.array(size)[:, np.newaxis] - 1) / 2, np.array(size)[:, np.newaxis]
        start = middle - np.einsum("ijn,jn->in", matrix, middle + self.shift * extents * [down, right])
        matrix, start = matrix[..., np.newaxis, np.newaxis], start[..., np.newaxis, np.newaxis]
        rows, columns = (
            (of_row * np.arange(size[0])[:, np.newaxis] + offset).astype(np.float32)
            + (of_column * np.arange(size[1])).astype(np.float32)
            for (of_row, of_column), offset in zip(matrix, start, strict=True)
        )
        return _Warp(rows, columns, self.mode)


class RandomRotation(RandomAffine):
    """Turn each image about its middle by an angle of its own.

    Parameters
    ----------
    degrees : float
        Turned by an angle between -degrees and degrees.
    mode : {"constant", "reflect"}, default "constant"
        What lies outside of an image: zeros, or the image in a mirror at its edges.

    Raises
    ------
    TypeError, ValueError
        If `degrees` is not a number from 0 to 180, or `mode` is another.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.data.augmentation import RandomRotation
    >>> x, y = np.random.default_rng(0).random((4, 1, 28, 28), np.float32), np.zeros(4, int)
    >>> RandomRotation(10)(x, y, rng=0)[0].shape
    (4, 1, 28, 28)
    """

    def __init__(self, degrees: float, mode: str = "constant") -> None:
        super().__init__(as_number("RandomRotation", "degrees", degrees, 0, 180), mode=mode)

    def __repr__(self) -> str:
        return f"RandomRotation(degrees={self.degrees!r}, mode={self.mode!r})"


class ElasticTransform(SpatialTransform):
    """Deform each image smoothly, as if it were printed on rubber.

    Parameters
    ----------
    deviation : float, default 10
        Standard deviation, in pixels, by which the points of a coarse grid move in each direction.
    grid : int or pair of ints, default 3
        Points of that grid, which spans the image, down and across; those between move as a cubic spline says.
    mode : {"constant", "reflect"}, default "reflect"
        What lies outside of an image: zeros, or the image in a mirror at its edges.

    Raises
    ------
    TypeError, ValueError
        If a number is out of range, or `mode` is another.

    Notes
    -----
    The defaults are U-Net's (Ronneberger et al. 2015, section 3.1). Images are interpolated linearly; targets that are
    not floating point numbers, such as classes of pixels, take the nearest.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.data.augmentation import ElasticTransform
    >>> image = np.random.default_rng(0).random((1, 1, 64, 64), np.float32)
    >>> x, y = ElasticTransform(deviation=3)(image, image[:, 0] > 0.5, rng=0)
    >>> x.shape, y.shape, y.dtype
    ((1, 1, 64, 64), (1, 64, 64), dtype('bool'))
    """

    def __init__(self, deviation: float = 10, grid: Extent = 3, mode: str = "reflect") -> None:
        self.deviation = as_number("ElasticTransform", "deviation", deviation, 0)
        self.grid = as_pair("ElasticTransform", "grid", grid, 2)
        self.mode = as_choice("ElasticTransform", "mode", mode, MODES)

    def drawn(self, count: int, size: Pair, rng: np.random.Generator) -> Move:
        """Choose a field of displacements for each image."""
        coarse = rng.normal(scale=self.deviation, size=(2, count, *self.grid)).astype(np.float32)
        down, across = (_spline_basis(points, extent) for points, extent in zip(self.grid, size, strict=True))
        places = _spread(_spread(coarse.swapaxes(2, 3), down).swapaxes(2, 3), across)  # [2, N, H, W]
        places[0] += np.arange(size[0], dtype=np.float32)[:, np.newaxis]
        places[1] += np.arange(size[1], dtype=np.float32)
        return _Warp(places[0], places[1], self.mode)


def _spread(values: NDArray, basis: NDArray) -> NDArray:
    """Return the products [..., extent] of values [..., points] and a basis [extent, points].

    Not by np.matmul: the threads of BLAS would keep those of the training from their cores.
    """
    total = values[..., :1] * basis[:, 0]
    for point in range(1, basis.shape[1]):
        total += values[..., point, np.newaxis] * basis[:, point]
    return total


@memory.remembered
def _spline_basis(points: int, extent: int) -> NDArray[np.float32]:
    """Return the matrix [extent, points] that interpolates values at `points` places by a cubic spline."""
    from scipy.ndimage import map_coordinates

    places = np.linspace(0, points - 1, extent)
    columns = [map_coordinates(unit, [places], order=3, mode="mirror") for unit in np.eye(points)]
    return np.stack(columns, axis=1).astype(np.float32)


class _Warp:
    """Reads each pixel of an image from a place of its own, rows and columns [N, H, W].

    In NumPy, whose loops let other threads run; SciPy's map_coordinates, otherwise the same, keeps them all waiting. A
    few thousand pixels at a time: what is computed on the way stays in the cache.
    """

    def __init__(self, rows: NDArray[np.float32], columns: NDArray[np.float32], mode: str) -> None:
        self.rows, self.columns, self.mode = rows, columns, mode

    def __call__(self, pixels: NDArray, smooth: bool) -> NDArray:
        source = pixels if self.mode == "reflect" else _framed(pixels)
        within = _mirrored if self.mode == "reflect" else _within_frame
        _, H, W, C = source.shape
        # [N, H, W, C] -> [C, N, H, W] to interpolate: vectors are short along channels, long along pixels.
        planes = np.ascontiguousarray(source.transpose(3, 0, 1, 2)) if smooth else source
        output = memory.empty(pixels.shape, pixels.dtype)
        for block in _blocks(self.rows.shape):
            images, target = block[0], output[block]
            rows, columns = within(self.rows[block], H), within(self.columns[block], W)
            if smooth:
                _interpolate(planes[:, images], rows, columns, target)
            else:
                first = _per_image(np.arange(len(target)) * (H * W))
                index = first + np.rint(rows).astype(np.intp) * W + np.rint(columns).astype(np.intp)
                target[...] = source[images].reshape(-1, C)[index]
        return output


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Yield the images and rows of [N, H, W] in pieces."""
    N, H, W = shape
    images, rows = max(1, BLOCK // (H * W)), max(1, BLOCK // W)
    for image in range(0, N, images):
        for row in range(0, H, rows):
            yield slice(image, image + images), slice(row, row + rows)


def _framed(pixels: NDArray) -> NDArray:
    """Return images [N, H, W, C] in a frame of zeros, which stands for all that lies outside."""
    N, H, W, C = pixels.shape
    framed = np.zeros((N, H + 2, W + 2, C), pixels.dtype)
    framed[:, 1:-1, 1:-1] = pixels
    return framed


def _within_frame(places: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return places along an axis of `size` pixels, whose first and last are the frame."""
    return np.clip(places + np.float32(1), 0, size - 1)


def _mirrored(places: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return where mirrors on the first and last of `size` pixels show what lies outside."""
    outside = (places < 0) | (places > size - 1)
    folded = places.copy()
    folded[outside] = mirrored(places[outside], size)
    return folded


def _interpolate(planes: NDArray, rows: NDArray[np.float32], columns: NDArray[np.float32], target: NDArray) -> None:
    """Fill `target`, [n, h, w, C], with what lies linearly between the pixels of [C, n, H, W] around places within."""
    C, N, H, W = planes.shape
    # Cut off to whole numbers; at the last pixel to the one before, with a share of 1 of the last.
    top = np.minimum(rows.astype(np.intp), max(H - 2, 0))
    left = np.minimum(columns.astype(np.intp), max(W - 2, 0))
    down, across = rows - top.astype(np.float32), columns - left.astype(np.float32)
    index = _per_image(np.arange(N) * (H * W)) + top * W + left
    below, right = W if H > 1 else 0, 1 if W > 1 else 0
    for channel in range(C):
        plane = planes[channel].reshape(-1)
        upper = _mixed(plane.take(index), plane[right:].take(index), across)
        lower = _mixed(plane[below:].take(index), plane[below + right :].take(index), across)
        target[..., channel] = _mixed(upper, lower, down)


def _mixed(a: NDArray, b: NDArray, share: NDArray[np.float32]) -> NDArray:
    """Return a + share * (b - a), in place of `b`."""
    b -= a
    b *= share
    b += a
    return b


def _per_image(values: NDArray) -> NDArray:
    """Return numbers, one for each image, that broadcast over [N, H, W]."""
    return values[:, np.newaxis, np.newaxis]
