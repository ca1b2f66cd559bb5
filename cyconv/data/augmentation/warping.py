"""Rotations, other affine maps and elastic deformations: each pixel is read from a place between others."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cyconv._geometry import Pair, mirrored
from cyconv._validation import as_choice, as_number, as_pair
from cyconv.data.augmentation.placement import MODES, Extent
from cyconv.data.augmentation.transforms import Move, SpatialTransform


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
        rows, columns = (
            _per_image(matrix[axis, 0]) * np.arange(size[0])[:, np.newaxis]
            + _per_image(matrix[axis, 1]) * np.arange(size[1])
            + _per_image(start[axis])
            for axis in (0, 1)
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
        coarse = rng.normal(scale=self.deviation, size=(2, count, *self.grid))
        down, across = (_spline_basis(points, extent) for points, extent in zip(self.grid, size, strict=True))
        fine = _spread(_spread(coarse.swapaxes(2, 3), down).swapaxes(2, 3), across)  # [2, N, H, W]
        rows, columns = np.arange(size[0])[:, np.newaxis], np.arange(size[1])
        return _Warp(fine[0] + rows, fine[1] + columns, self.mode)


def _spread(values: NDArray, basis: NDArray) -> NDArray:
    """Return the products [..., extent] of values [..., points] and a basis [extent, points].

    Not by np.matmul: the threads of BLAS would keep those of the training from their cores.
    """
    return sum(values[..., point, np.newaxis] * basis[:, point] for point in range(basis.shape[1]))


@lru_cache(maxsize=16)
def _spline_basis(points: int, extent: int) -> NDArray[np.float64]:
    """Return the matrix [extent, points] that interpolates values at `points` places by a cubic spline."""
    from scipy.ndimage import map_coordinates

    places = np.linspace(0, points - 1, extent)
    return np.stack([map_coordinates(unit, [places], order=3, mode="mirror") for unit in np.eye(points)], axis=1)


class _Warp:
    """Reads each pixel of an image from a place of its own, rows and columns [N, H, W]."""

    def __init__(self, rows: NDArray, columns: NDArray, mode: str) -> None:
        self.rows, self.columns, self.mode = rows, columns, mode

    def __call__(self, pixels: NDArray, smooth: bool) -> NDArray:
        return self._between(pixels) if smooth else self._nearest(pixels)

    def _between(self, pixels: NDArray) -> NDArray:
        """Return numbers, interpolated linearly; outside of a constant image's outermost pixels they fall to zero."""
        from scipy.ndimage import map_coordinates

        output = np.empty_like(pixels)
        mode = {"constant": "grid-constant", "reflect": "mirror"}[self.mode]
        for number, places in enumerate(np.stack([self.rows, self.columns], axis=1)):
            for channel in range(pixels.shape[3]):
                target = output[number, ..., channel]
                map_coordinates(pixels[number, ..., channel], places, target, order=1, mode=mode)
        return output

    def _nearest(self, pixels: NDArray) -> NDArray:
        """Return values of any kind, each one that was there before, or zero outside of a constant image."""
        N, H, W, C = pixels.shape
        rows, columns = np.rint(self.rows).astype(np.intp), np.rint(self.columns).astype(np.intp)
        outside = (rows < 0) | (rows >= H) | (columns < 0) | (columns >= W)
        rows[outside], columns[outside] = mirrored(rows[outside], H), mirrored(columns[outside], W)
        output = pixels.reshape(-1, C)[(_per_image(np.arange(N) * H) + rows) * W + columns]
        if self.mode == "constant":
            output[outside] = 0
        return output


def _per_image(values: NDArray) -> NDArray:
    """Return numbers, one for each image, that broadcast over [N, H, W]."""
    return values[:, np.newaxis, np.newaxis]
