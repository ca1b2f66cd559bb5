"""How convolutions are computed: correlation, its adjoint, and the weight gradient, by the algorithm that suits.

Convolution and transposed convolution are each other's adjoints, so these three serve all six directions. Arrays here
are channels-last; shapes are checked already.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cyconv import memory
from cyconv._dispatch import conv2d as kernels
from cyconv._dispatch import conv2d_weight as weight_kernels
from cyconv._dispatch import grouped as grouped_kernels
from cyconv._dispatch import images as image_kernels
from cyconv._dispatch import planar as planar_kernels
from cyconv._dispatch import winograd as winograd_kernels
from cyconv.functional._taps import Geometry, Sum, adjoint_sums, forward_sum, phases
from cyconv.functional.linear import matmul
from cyconv.functional.unfold import columns_nhwc, columns_nhwc_adjoint
from cyconv.threads import threads_for

ALGORITHMS = ("auto", "direct", "winograd", "im2col")
FILTER_BYTES = 48 << 20  # of transformed filters at a time: a 3x3 convolution of 1024 channels would have 151 MB
PART = 64  # output channels that filters are cut at multiples of: whole panels of the tile on every instruction set
COLUMN_BYTES = 4 << 20  # of the matrix of patches at a time: it stays in the outer cache
# Output channels up to which vectors run along pixels: along channels most of their lanes would be idle
# (`python -m benchmarks conv`: 6 channels, 5x5: 2.5 times faster; the input gradient of 3 channels: 5 times).
FEW_CHANNELS = 8
# Of more channels, so many sums over so many numbers for each channel are still best computed with vectors along
# images, if these have so many lanes (both ways in one process, batch 64: 6 -> 16 channels, 5x5: 1.2 times, with 8
# lanes 0.86 times; 16 -> 32: 1.26 times; 3 -> 16, 3x3: no gain).
MOST_IMAGE_CHANNELS = 32
MOST_IMAGE_GRADIENTS = 16  # of the weight gradient: 6 -> 16 channels, 5x5: 1.2 times; 16 -> 32: 0.7 times
DEPTH_OF_IMAGES = 6
LANES_OF_IMAGES = 16
# Winograd's transformed filters must be shared by so many tiles to pay, and channels outweigh its transforms (both ways
# in one process, one AVX-512 core: 256 channels @14, 16 tiles: 1.1 times the direct kernel's speed, 64 @8, 4 tiles: 0.8
# times; weight gradient of 512 channels, 16 tiles: 0.5 times, 32 tiles: 1.2 times; 17 channels: 1.1 times).
LEAST_TILES = 16
LEAST_GRADIENT_TILES = 32
LEAST_CHANNELS = 16  # of a group


# Groups of fewer output channels than this share vectors (`python -m benchmarks conv`, weight gradients: groups of 4,
# 5x5: 4 times as fast as the register tile, whose vectors belong to one group; of 8, 3x3: twice; of 16 that tile is
# full). The filters reach no further than MOST_REACH: all that lies between their taps is spread, too.
MOST_GROUP = 16
MOST_REACH = 32


class Convolution:
    """A convolution of given shapes: each direction's algorithm is chosen once, on first use.

    Parameters
    ----------
    geometry : Geometry
        Sizes, strides and the rest.
    images : int
        N.
    weight_shape : tuple of int
        [OC, KH, KW, IC/groups].
    dtype : dtype
        float32 or float64.
    """

    def __init__(self, geometry: Geometry, images: int, weight_shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.geometry = geometry
        self.weight_shape = weight_shape
        self.dtype = np.dtype(dtype)
        OC, _, _, IC = weight_shape
        self.in_shape = images, *geometry.in_size, IC * geometry.groups
        self.out_shape = images, *geometry.out_size, OC
        self.work = math.prod(self.out_shape[:3]) * math.prod(weight_shape)  # multiply-adds of one direction

    @cached_property
    def forward(self) -> Correlator:
        """What computes out [N, OH, OW, OC] from x [N, IH, IW, IC]."""
        OC, KH, KW, IC = self.weight_shape
        return self._correlator(OC // self.geometry.groups, KH * KW * IC, adjoint=False)

    @cached_property
    def adjoint(self) -> Correlator:
        """What computes the input gradient [N, IH, IW, IC] from grad_output [N, OH, OW, OC]."""
        OC, KH, KW, IC = self.weight_shape
        return self._correlator(IC, KH * KW * OC // self.geometry.groups, adjoint=True)

    def _correlator(self, channels: int, depth: int, adjoint: bool) -> Correlator:
        """Return the best algorithm for so many channels a group of sums over `depth` numbers."""
        geometry = self.geometry
        free = geometry.groups == 1 and geometry.algorithm in ("auto", "exact")
        kind: type[Correlator] = Direct
        if geometry.algorithm == "im2col":
            kind = Columns
        elif geometry.depthwise or self._suits_groups(channels):
            kind = Grouped
        elif self._suits_winograd(LEAST_TILES):
            kind = Winograd
        elif free and self._suits_images(channels, depth):
            kind = Images
        elif free and channels <= FEW_CHANNELS and (adjoint or geometry.stride == (1, 1)):
            kind = Planes
        return kind(self, adjoint)

    def _suits_images(self, channels: int, depth: int) -> bool:
        """Whether `channels` sums over `depth` numbers a pixel are best computed with vectors along images.

        Weights are its scalars, so idle lanes and borders cost nothing, but turning the images round must pay.
        """
        geometry, images = self.geometry, self.out_shape[0]
        if geometry.stride != (1, 1) or geometry.dilation != (1, 1):
            return False
        lanes = image_kernels.vector_lanes(np.empty(1, self.dtype))
        most = MOST_IMAGE_CHANNELS if lanes >= LANES_OF_IMAGES and depth >= DEPTH_OF_IMAGES * channels else FEW_CHANNELS
        if channels > most:
            return False
        (KH, KW), padding = geometry.kernel, geometry.padding
        if max(padding.top, padding.bottom) >= KH or max(padding.left, padding.right) >= KW:
            return False
        return images >= lanes and -images % lanes <= images // 4  # images of the last group that are in the one before

    def _suits_groups(self, channels: int) -> bool:
        """Whether groups with so many output channels are best computed several in a vector."""
        geometry = self.geometry
        if geometry.groups == 1 or channels >= MOST_GROUP:
            return False
        return all(
            (k - 1) * d < MOST_REACH and s <= k
            for k, d, s in zip(geometry.kernel, geometry.dilation, geometry.stride, strict=True)
        )

    def _suits_winograd(self, least_tiles: int) -> bool:
        """Whether minimal filtering can compute it and pays, from so many tiles on, or was asked for."""
        geometry = self.geometry
        if geometry.algorithm == "winograd":
            return True
        if geometry.algorithm != "auto" or not allows_winograd(self.weight_shape, self.dtype, geometry):
            return False
        (OH, OW), side = geometry.out_size, 7 - geometry.kernel[0]
        per_image = -(-OH // side) * -(-OW // side)
        # With less than half of the tiles' pixels in the image the direct kernel is faster.
        return self.out_shape[0] * per_image >= least_tiles and side**2 * per_image <= 2 * OH * OW

    def weight_gradient(self, x: NDArray, grad_output: NDArray) -> NDArray:
        """Return the derivative of sum(grad_output * convolution of x), [OC, KH, KW, IC/groups]."""
        out = memory.empty(self.weight_shape, x.dtype)
        self._fill_weight_gradient(x, grad_output, out)
        return out

    def _fill_weight_gradient(self, x: NDArray, grad_output: NDArray, out: NDArray) -> None:
        geometry, threads = self.geometry, threads_for(self.work)
        OC, KH, KW, IC = out.shape
        flat = out.reshape(OC, KH * KW, IC)
        if geometry.algorithm == "im2col":
            _weight_gradient_im2col(x, grad_output, geometry, out)
            return
        if self._suits_winograd(LEAST_GRADIENT_TILES):
            padding = geometry.padding
            arguments = KH, padding.top, padding.left, geometry.groups
            winograd_kernels.weight_gradient(x, grad_output, *arguments, flat, threads)
            return
        free = geometry.groups == 1 and geometry.algorithm != "direct"
        if free and OC <= MOST_IMAGE_GRADIENTS and self._suits_images(OC, KH * KW * IC):
            image_kernels.weight_gradient(x, grad_output, geometry.padding.top, geometry.padding.left, out, threads)
            return
        total = forward_sum(geometry)
        if len(total.positions) == KH * KW:
            self._weight_gradient_of_taps(x, grad_output, total, flat, threads)
        else:  # the taps left out saw nothing but padding
            some = memory.empty((OC, len(total.positions), IC), out.dtype)
            self._weight_gradient_of_taps(x, grad_output, total, some, threads)
            flat[...] = 0
            flat[:, total.positions] = some

    def _weight_gradient_of_taps(
        self, x: NDArray, grad_output: NDArray, total: Sum, out: NDArray, threads: int
    ) -> None:
        """Fill out [OC, taps, IC/groups] for the taps of `total`."""
        geometry = self.geometry
        if not len(total.positions):
            return
        arguments = x, grad_output, total.taps, *geometry.stride
        if geometry.depthwise or self._suits_groups(out.shape[0] // geometry.groups):
            grouped_kernels.weight_gradient(*arguments, out, threads)
        elif geometry.kernel == geometry.stride == (1, 1) and out.shape[0] <= FEW_CHANNELS < out.shape[2]:
            # A matrix product, whose vectors had better lie along the longer side (64 -> 2 channels: 2.5 times).
            turned = memory.empty(out.shape[::-1], out.dtype)
            weight_kernels.weight_gradient(grad_output, x, -total.taps, 1, 1, 1, turned, threads)
            out[...] = turned.T
        else:
            weight_kernels.weight_gradient(*arguments, geometry.groups, out, threads)


def allows_winograd(weight_shape: tuple[int, ...], dtype: DTypeLike, geometry: Geometry) -> bool:
    """Whether Winograd's minimal filtering can compute it: 3x3 or 5x5 of stride 1, some channels, float32."""
    plain = geometry.kernel in ((3, 3), (5, 5)) and geometry.stride == geometry.dilation == (1, 1)
    channels = min(weight_shape[0] // geometry.groups, weight_shape[3])
    return plain and channels >= LEAST_CHANNELS and dtype == np.float32


class Correlator:
    """One algorithm for one direction: filters are brought into its form, then applied to images.

    Parameters
    ----------
    plan : Convolution
        What is computed.
    adjoint : bool
        Whether it is the adjoint.
    """

    completes: ClassVar[bool] = True  # whether the kernel itself adds `addend` and applies `relu`

    def __init__(self, plan: Convolution, adjoint: bool) -> None:
        geometry = plan.geometry
        self.geometry = geometry
        self.work = plan.work
        self.adjoint = adjoint
        self.out_shape = plan.in_shape if adjoint else plan.out_shape
        self.sums = adjoint_sums(geometry) if adjoint else [forward_sum(geometry)]
        self.phase = geometry.stride if adjoint else (1, 1)  # between an output of a sum and its next
        self.step = (1, 1) if adjoint else geometry.stride  # between the pixels that these read
        self.covers = not adjoint or len(self.sums) == math.prod(map(min, geometry.stride, geometry.in_size))

    @cached_property
    def phases(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """All sums in the form of one table."""
        return phases(self.geometry, self.adjoint)

    def prepare(self, weight: NDArray) -> Any:
        """Return weight [OC, KH, KW, IC/groups] in the form that `apply` takes; itself if that would be too large."""
        raise NotImplementedError

    def apply(
        self, x: NDArray, filters: Any, bias: NDArray | None, addend: NDArray | None = None, relu: bool = False
    ) -> NDArray:
        """Return the correlation of x by filters + bias + addend, with `relu` negative numbers set to zero."""
        out = memory.empty(self.out_shape, x.dtype)
        if self.covers and (self.completes or (addend is None and not relu)):
            self._apply(x, filters, bias, addend, relu, out)
            return out
        out[...] = 0 if bias is None else bias  # where nothing is added it stays so
        self._apply(x, filters, bias, None, False, out)
        if addend is not None:
            out += addend
        return np.maximum(out, 0, out=out) if relu else out

    def _apply(
        self, x: NDArray, filters: Any, bias: NDArray | None, addend: NDArray | None, relu: bool, out: NDArray
    ) -> None:
        """Do what `apply` does, for all outputs that any pixel reaches."""
        raise NotImplementedError

    def run(self, x: NDArray, weight: NDArray, bias: NDArray | None = None) -> NDArray:
        """Return the correlation of x by weight + bias."""
        return self.apply(x, self.prepare(weight), bias)


class Direct(Correlator):
    """The register tile on the image's rows in place, a sum for each phase of the adjoint's stride."""

    def prepare(self, weight: NDArray) -> list[NDArray]:
        threads = threads_for(weight.size)
        return [_packed(weight, total, self.geometry.groups, self.adjoint, threads) for total in self.sums]

    def _apply(
        self, x: NDArray, filters: Any, bias: NDArray | None, addend: NDArray | None, relu: bool, out: NDArray
    ) -> None:
        threads = threads_for(self.work)
        for total, panels in zip(self.sums, filters, strict=True):
            where = np.s_[:, total.start[0] :: self.phase[0], total.start[1] :: self.phase[1]]
            added = None if addend is None else addend[where]
            arguments = total.taps, *self.step, self.geometry.groups
            kernels.conv_taps(x, panels, bias, added, *arguments, out[where], relu, threads)


class Winograd(Correlator):
    """Minimal filtering, F(4x4, 3x3) and F(2x2, 5x5)."""

    def prepare(self, weight: NDArray) -> NDArray:
        # Large filters, four times as large in this form, are transformed part by part when they are applied.
        large = 4 * weight.nbytes > FILTER_BYTES and self.geometry.groups == 1
        return weight if large else self._transformed(weight)

    def _transformed(self, weight: NDArray) -> NDArray:
        taps = weight.shape[1] * weight.shape[2]
        positions = np.arange(taps)[::-1].copy() if self.adjoint else np.arange(taps)
        groups = self.geometry.groups
        rows, columns = weight.shape[3], weight.shape[0] // groups
        if self.adjoint:
            rows, columns = columns, rows
        threads = threads_for(weight.size)
        packed = _packed(weight, Sum(positions, positions), groups, self.adjoint, threads)
        filters = memory.empty((winograd_kernels.filters_size(groups, rows, columns),), weight.dtype)
        winograd_kernels.transform_filters(packed, groups, taps, rows, columns, filters, threads)
        return filters

    def _apply(
        self, x: NDArray, filters: Any, bias: NDArray | None, addend: NDArray | None, relu: bool, out: NDArray
    ) -> None:
        if filters.ndim == 1:
            self._convolve(x, filters, bias, addend, relu, out)
            return
        channels = out.shape[3]
        parts = -(-4 * filters.nbytes // FILTER_BYTES)
        for start in range(0, channels, width := -(-channels // parts // PART) * PART):
            part = slice(start, start + width)
            chosen = np.ascontiguousarray(filters[..., part]) if self.adjoint else filters[part]
            arrays = None if bias is None else bias[part], None if addend is None else addend[..., part]
            self._convolve(x, self._transformed(chosen), *arrays, relu, out[..., part])

    def _convolve(
        self, x: NDArray, filters: NDArray, bias: NDArray | None, addend: NDArray | None, relu: bool, out: NDArray
    ) -> None:
        size, top, left = self.geometry.kernel[0], self.geometry.padding.top, self.geometry.padding.left
        if self.adjoint:  # the convolution by the filters turned half round, with the rest of the full padding
            top, left = size - 1 - top, size - 1 - left
        arguments = size, top, left, self.geometry.groups
        winograd_kernels.conv(x, filters, bias, addend, *arguments, out, relu, threads_for(self.work))


class Grouped(Correlator):
    """Groups of few channels, one or several in a vector."""

    def prepare(self, weight: NDArray) -> NDArray | None:
        if not self.sums:
            return None
        OC, KH, KW, IC = weight.shape
        filters: NDArray = weight.reshape(OC, KH * KW, IC)
        if self.adjoint:
            groups = self.geometry.groups
            turned = filters.reshape(groups, OC // groups, KH * KW, IC).transpose(0, 3, 2, 1)
            filters = turned.reshape(groups * IC, KH * KW, OC // groups)
        filters = np.ascontiguousarray(filters)
        positions = np.concatenate([total.positions for total in self.sums])
        vectors = memory.empty(grouped_kernels.filters_shape(filters, len(positions)), weight.dtype)
        grouped_kernels.pack_filters(filters, positions, vectors)
        return vectors

    def _apply(
        self, x: NDArray, filters: Any, bias: NDArray | None, addend: NDArray | None, relu: bool, out: NDArray
    ) -> None:
        if filters is not None:
            taps, table = self.phases
            arguments = taps, *self.step, table, *self.phase
            grouped_kernels.conv_taps(x, filters, bias, addend, *arguments, out, relu, threads_for(self.work))


class Images(Correlator):
    """Few channels, many images: vectors along images."""

    def prepare(self, weight: NDArray) -> NDArray:
        if self.adjoint:  # the convolution by the filters turned half round
            weight = weight[:, ::-1, ::-1].transpose(3, 1, 2, 0)
        filters = memory.empty(weight.shape, weight.dtype)
        filters[...] = weight
        return filters

    def _apply(
        self, x: NDArray, filters: Any, bias: NDArray | None, addend: NDArray | None, relu: bool, out: NDArray
    ) -> None:
        top, left = self.geometry.padding.top, self.geometry.padding.left
        if self.adjoint:
            top, left = self.geometry.kernel[0] - 1 - top, self.geometry.kernel[1] - 1 - left
        image_kernels.convolve(x, filters, bias, addend, top, left, out, relu, threads_for(self.work))


class Planes(Correlator):
    """Few output channels: vectors along pixels."""

    def prepare(self, weight: NDArray) -> NDArray | None:
        filters = weight.reshape(weight.shape[0], -1, weight.shape[3])
        return _taken(filters.transpose(2, 1, 0) if self.adjoint else filters, self.sums, 1)

    def _apply(
        self, x: NDArray, filters: Any, bias: NDArray | None, addend: NDArray | None, relu: bool, out: NDArray
    ) -> None:
        if filters is not None:
            taps, table = self.phases
            threads = threads_for(self.work)
            planar_kernels.conv_taps(x, filters, bias, addend, taps, table, *self.phase, out, relu, threads)


class Columns(Correlator):
    """The textbook's way, a matrix of all patches and one matrix product: readable reference and honest baseline."""

    completes = False

    def prepare(self, weight: NDArray) -> NDArray:
        filters = memory.empty(weight.shape, weight.dtype)
        filters[...] = weight
        return filters.reshape(self.geometry.groups, weight.shape[0] // self.geometry.groups, -1)

    def _apply(
        self, x: NDArray, filters: Any, bias: NDArray | None, addend: NDArray | None, relu: bool, out: NDArray
    ) -> None:
        (_correlate_adjoint_im2col if self.adjoint else _correlate_im2col)(x, filters, self.geometry, out)
        if bias is not None:
            out += bias


def _taken(filters: NDArray, sums: list[Sum], axis: int) -> NDArray | None:
    """Return the filters at the kernel positions of all sums, along `axis`, in fresh memory; None for no sums."""
    if not sums:
        return None
    positions = np.concatenate([total.positions for total in sums])
    shape = *filters.shape[:axis], len(positions), *filters.shape[axis + 1 :]
    return np.take(filters, positions, axis, memory.empty(shape, filters.dtype))


def _packed(weight: NDArray, total: Sum, groups: int, transposed: bool, num_threads: int) -> NDArray:
    """Return the weights [OC, KH, KW, IC] of a sum's taps in the tile's panels."""
    rows, columns = weight.shape[3], weight.shape[0] // groups
    if transposed:
        rows, columns = columns, rows
    size = kernels.packed_size(groups, len(total.positions), rows, columns, weight.reshape(-1)[:1])
    panels = memory.empty((max(size, 1),), weight.dtype)
    if size:
        kernels.pack_weights(weight, total.positions, groups, transposed, panels, num_threads)
    return panels


def _groups_of(array: NDArray, groups: int) -> list[NDArray]:
    """Return channel slices [..., C/groups] of a channels-last array."""
    return np.split(array, groups, axis=-1)


def _correlate_im2col(x, filters, geometry, out):
    for group, (x_g, out_g) in enumerate(
        zip(_groups_of(x, geometry.groups), _groups_of(out, geometry.groups), strict=True)
    ):
        columns = columns_nhwc(x_g, geometry.kernel, geometry.stride, geometry.padding, geometry.dilation)
        out_g[...] = matmul(columns, filters[group].T).reshape(out_g.shape)


def _correlate_adjoint_im2col(grad_output, filters, geometry, out):
    images = _images_per_chunk(filters, geometry)
    for start in range(0, out.shape[0], images):
        chunk = slice(start, start + images)
        pairs = zip(
            _groups_of(grad_output[chunk], geometry.groups), _groups_of(out[chunk], geometry.groups), strict=True
        )
        for group, (grad_g, out_g) in enumerate(pairs):
            columns = matmul(grad_g.reshape(-1, grad_g.shape[3]), filters[group])
            out_g[...] = columns_nhwc_adjoint(
                columns, out_g.shape, geometry.kernel, geometry.stride, geometry.padding, geometry.dilation
            )


def _images_per_chunk(filters, geometry):
    """Return how many images' columns fit the workspace."""
    positions = geometry.out_size[0] * geometry.out_size[1]
    return max(1, COLUMN_BYTES // (positions * filters.shape[2] * filters.itemsize))


def _weight_gradient_im2col(x, grad_output, geometry, out):
    targets = np.split(out, geometry.groups)
    for x_g, grad_g, out_g in zip(
        _groups_of(x, geometry.groups), _groups_of(grad_output, geometry.groups), targets, strict=True
    ):
        columns = columns_nhwc(x_g, geometry.kernel, geometry.stride, geometry.padding, geometry.dilation)
        out_g[...] = matmul(grad_g.reshape(-1, grad_g.shape[3]).T, columns).reshape(out_g.shape)
