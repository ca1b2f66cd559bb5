"""How convolutions are computed: correlation, its adjoint, and the weight gradient, by the algorithm that suits.

Convolution and transposed convolution are each other's adjoints, so these three serve all six directions. Arrays here
are channels-last; shapes are checked already.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cyconv import memory
from cyconv._dispatch import conv2d as kernels
from cyconv._dispatch import conv2d_weight as weight_kernels
from cyconv._dispatch import grouped as grouped_kernels
from cyconv._dispatch import grouped_weight as grouped_weight_kernels
from cyconv._dispatch import images as image_kernels
from cyconv._dispatch import planar as planar_kernels
from cyconv._dispatch import winograd as winograd_kernels
from cyconv.functional import _columns
from cyconv.functional._calls import AT_ONCE, Calls
from cyconv.functional._taps import Geometry, Sum, adjoint_sums, filtered_sums, forward_sum, phases, taps_a_side
from cyconv.threads import threads_for

Maybe = NDArray | None
ALGORITHMS = ("auto", "direct", "winograd", "im2col")
FILTER_BYTES = 48 << 20  # of transformed filters at a time: a 3x3 convolution of 1024 channels would have 151 MB
PART = 64  # output channels that filters are cut at multiples of: whole panels of the tile on every instruction set
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
# Filters that grow more than 3x3 ones do, those of 2x2 taps and 5x5 ones of stride 2, save less besides. They need
# twice as many tiles and channels, and more of the tiles' pixels in the image (4x4, stride 2, 16 tiles: 0.8 to 1.3
# times; input gradient of 16 channels: 0.9 times; 9 of a tile's 16 pixels: 0.9 to 1.1 times, all: 1.6 to 2 times).
USUAL_GROWTH = 4
FILTERED = {((k, k), (s, s)) for k, s in ((2, 1), (3, 1), (5, 1), (4, 2), (5, 2), (6, 2))}
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
        elif self._suits_winograd(LEAST_TILES, adjoint):
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

    def _suits_winograd(self, least_tiles: int, adjoint: bool) -> bool:
        """Whether minimal filtering can compute it and pays, from so many tiles on, or was asked for."""
        geometry = self.geometry
        if geometry.algorithm == "winograd":
            return True
        if geometry.algorithm != "auto" or not allows_winograd(self.weight_shape, self.dtype, geometry):
            return False
        scale = 2 if filter_growth(geometry) > USUAL_GROWTH else 1
        if min(self.weight_shape[0] // geometry.groups, self.weight_shape[3]) < scale * LEAST_CHANNELS:
            return False
        OH, OW = geometry.out_size
        if adjoint:  # the outputs of a phase
            OH, OW = (-(-size // stride) for size, stride in zip(geometry.in_size, geometry.stride, strict=True))
        side = winograd_kernels.tile_side(taps_a_side(geometry))
        per_image = -(-OH // side) * -(-OW // side)
        # With less than half of the tiles' pixels in the image the direct kernel is faster.
        share = OH * OW / (side**2 * per_image)
        least_tiles = max(least_tiles, scale * LEAST_TILES)
        return self.out_shape[0] * per_image >= least_tiles and share >= (0.5 if scale == 1 else 0.6)

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
            _columns.weight_gradient(x, grad_output, geometry, out)
            return
        if self._suits_winograd(LEAST_GRADIENT_TILES, adjoint=False):
            stride, n = geometry.stride[0], taps_a_side(geometry)
            side = stride * n
            whole = flat if side == KH else memory.empty((OC, side * side, IC), out.dtype)
            arguments = n, stride, geometry.padding.top, geometry.padding.left, geometry.groups
            winograd_kernels.weight_gradient(x, grad_output, *arguments, whole, threads)
            if side != KH:
                out[...] = whole.reshape(OC, side, side, IC)[:, :KH, :KW]
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
            grouped_weight_kernels.weight_gradient(*arguments, out, threads)
        elif geometry.kernel == geometry.stride == (1, 1) and out.shape[0] <= FEW_CHANNELS < out.shape[2]:
            # A matrix product, whose vectors had better lie along the longer side (64 -> 2 channels: 2.5 times).
            turned = memory.empty(out.shape[::-1], out.dtype)
            weight_kernels.weight_gradient(grad_output, x, -total.taps, 1, 1, 1, turned, threads)
            out[...] = turned.T
        else:
            weight_kernels.weight_gradient(*arguments, geometry.groups, out, threads)


def allows_winograd(weight_shape: tuple[int, ...], dtype: DTypeLike, geometry: Geometry) -> bool:
    """Whether Winograd's minimal filtering can compute it: some sizes and strides, some channels, float32."""
    plain = (geometry.kernel, geometry.stride) in FILTERED and geometry.dilation == (1, 1)
    channels = min(weight_shape[0] // geometry.groups, weight_shape[3])
    return plain and channels >= LEAST_CHANNELS and dtype == np.float32


def filter_growth(geometry: Geometry) -> float:
    """Return how many times as large filters are in minimal filtering's form."""
    n = taps_a_side(geometry)
    points = winograd_kernels.tile_side(n) + n - 1
    return float((points * geometry.stride[0] / geometry.kernel[0]) ** 2)


class Correlator(ABC):
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

    @abstractmethod
    def prepare(self, weight: NDArray) -> Any:
        """Return weight [OC, KH, KW, IC/groups] in the form that `apply` takes; itself if that would be too large."""

    def apply(
        self, x: NDArray, filters: Any, bias: Maybe, addend: Maybe = None, relu: bool = False, calls: Calls = AT_ONCE
    ) -> NDArray:
        """Return the correlation of x by filters + bias + addend, with `relu` negative numbers set to zero."""
        out = calls.empty(self.out_shape, x.dtype)
        if self.covers and (self.completes or (addend is None and not relu)):
            self._apply(x, filters, bias, addend, relu, out, calls)
        else:
            calls(self._complete, x, filters, bias, addend, relu, out)
        return out

    def _complete(self, x: NDArray, filters: Any, bias: Maybe, addend: Maybe, relu: bool, out: NDArray) -> None:
        """Do what `apply` does where `_apply` leaves something to do."""
        out[...] = 0 if bias is None else bias  # where nothing is added it stays so
        self._apply(x, filters, bias, None, False, out, AT_ONCE)
        if addend is not None:
            out += addend
        if relu:
            np.maximum(out, 0, out=out)

    @abstractmethod
    def _apply(
        self, x: NDArray, filters: Any, bias: Maybe, addend: Maybe, relu: bool, out: NDArray, calls: Calls
    ) -> None:
        """Do what `apply` does, for all outputs that any pixel reaches."""

    def run(self, x: NDArray, weight: NDArray, bias: NDArray | None = None) -> NDArray:
        """Return the correlation of x by weight + bias."""
        return self.apply(x, self.prepare(weight), bias)


class Direct(Correlator):
    """The register tile on the image's rows in place, a sum for each phase of the adjoint's stride."""

    def prepare(self, weight: NDArray) -> list[NDArray]:
        threads = threads_for(weight.size)
        return [_packed(weight, total, self.geometry.groups, self.adjoint, threads) for total in self.sums]

    def _apply(
        self, x: NDArray, filters: Any, bias: Maybe, addend: Maybe, relu: bool, out: NDArray, calls: Calls
    ) -> None:
        threads = threads_for(self.work)
        for total, panels in zip(self.sums, filters, strict=True):
            where = np.s_[:, total.start[0] :: self.phase[0], total.start[1] :: self.phase[1]]
            added = None if addend is None else addend[where]
            arguments = total.taps, *self.step, self.geometry.groups
            calls(kernels.conv_taps, x, panels, bias, added, *arguments, out[where], relu, threads)


class Winograd(Correlator):
    """Minimal filtering, F(4x4, 3x3), F(2x2, 5x5) and F(4x4, 2x2), a sum for each phase of the adjoint's stride."""

    def __init__(self, plan: Convolution, adjoint: bool) -> None:
        super().__init__(plan, adjoint)
        self.sums = filtered_sums(self.geometry, adjoint)
        self.n = taps_a_side(self.geometry)
        self.growth = filter_growth(self.geometry)

    def prepare(self, weight: NDArray) -> NDArray | list[NDArray]:
        # Large filters, some times as large in this form, are transformed part by part when they are applied.
        large = self.growth * weight.nbytes > FILTER_BYTES and self.geometry.groups == 1
        return weight if large else self._transformed(weight)

    def _transformed(self, weight: NDArray) -> list[NDArray]:
        OC, KH, KW, IC = weight.shape
        side = self.geometry.stride[0] * self.n
        if side != KH:
            small, weight = weight, memory.zeros((OC, side, side, IC), weight.dtype)
            weight[:, :KH, :KW] = small
        groups, threads = self.geometry.groups, threads_for(weight.size)
        rows, columns = (OC // groups, IC) if self.adjoint else (IC, OC // groups)
        shape = self.n, self.step[0], rows, columns
        found = []
        for total in self.sums:
            packed = _packed(weight, total, groups, self.adjoint, threads)
            filters = memory.empty((winograd_kernels.filters_size(groups, *shape),), weight.dtype)
            winograd_kernels.transform_filters(packed, groups, *shape, filters, threads)
            found.append(filters)
        return found

    def _apply(
        self, x: NDArray, filters: Any, bias: Maybe, addend: Maybe, relu: bool, out: NDArray, calls: Calls
    ) -> None:
        if isinstance(filters, list):
            self._convolve(x, filters, bias, addend, relu, out, calls)
        else:
            calls(self._convolve_in_parts, x, filters, bias, addend, relu, out)

    def _convolve_in_parts(
        self, x: NDArray, filters: NDArray, bias: Maybe, addend: Maybe, relu: bool, out: NDArray
    ) -> None:
        channels = out.shape[3]
        parts = -(-int(self.growth * filters.nbytes) // FILTER_BYTES)
        for start in range(0, channels, width := -(-channels // parts // PART) * PART):
            part = slice(start, start + width)
            chosen = np.ascontiguousarray(filters[..., part]) if self.adjoint else filters[part]
            arrays = None if bias is None else bias[part], None if addend is None else addend[..., part]
            self._convolve(x, self._transformed(chosen), *arrays, relu, out[..., part], AT_ONCE)

    def _convolve(
        self, x: NDArray, filters: list[NDArray], bias: Maybe, addend: Maybe, relu: bool, out: NDArray, calls: Calls
    ) -> None:
        threads = threads_for(self.work)
        for total, transformed in zip(self.sums, filters, strict=True):
            where = np.s_[:, total.start[0] :: self.phase[0], total.start[1] :: self.phase[1]]
            added = None if addend is None else addend[where]
            arguments = self.n, self.step[0], *(-total.taps[:, 0]).tolist(), self.geometry.groups
            calls(winograd_kernels.conv, x, transformed, bias, added, *arguments, out[where], relu, threads)


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
        self, x: NDArray, filters: Any, bias: Maybe, addend: Maybe, relu: bool, out: NDArray, calls: Calls
    ) -> None:
        if filters is not None:
            taps, table = self.phases
            arguments = taps, *self.step, table, *self.phase
            calls(grouped_kernels.conv_taps, x, filters, bias, addend, *arguments, out, relu, threads_for(self.work))


class Images(Correlator):
    """Few channels, many images: vectors along images."""

    def prepare(self, weight: NDArray) -> NDArray:
        if self.adjoint:  # the convolution by the filters turned half round
            weight = weight[:, ::-1, ::-1].transpose(3, 1, 2, 0)
        filters = memory.empty(weight.shape, weight.dtype)
        filters[...] = weight
        return filters

    def _apply(
        self, x: NDArray, filters: Any, bias: Maybe, addend: Maybe, relu: bool, out: NDArray, calls: Calls
    ) -> None:
        top, left = self.geometry.padding.top, self.geometry.padding.left
        if self.adjoint:
            top, left = self.geometry.kernel[0] - 1 - top, self.geometry.kernel[1] - 1 - left
        calls(image_kernels.convolve, x, filters, bias, addend, top, left, out, relu, threads_for(self.work))


class Planes(Correlator):
    """Few output channels: vectors along pixels."""

    def prepare(self, weight: NDArray) -> NDArray | None:
        filters = weight.reshape(weight.shape[0], -1, weight.shape[3])
        return _taken(filters.transpose(2, 1, 0) if self.adjoint else filters, self.sums, 1)

    def _apply(
        self, x: NDArray, filters: Any, bias: Maybe, addend: Maybe, relu: bool, out: NDArray, calls: Calls
    ) -> None:
        if filters is not None:
            taps, table = self.phases
            threads = threads_for(self.work)
            calls(planar_kernels.conv_taps, x, filters, bias, addend, taps, table, *self.phase, out, relu, threads)


class Columns(Correlator):
    """The textbook's way, a matrix of all patches and one matrix product: readable reference and honest baseline."""

    completes = False

    def prepare(self, weight: NDArray) -> NDArray:
        filters = memory.empty(weight.shape, weight.dtype)
        filters[...] = weight
        return filters.reshape(self.geometry.groups, weight.shape[0] // self.geometry.groups, -1)

    def _apply(
        self, x: NDArray, filters: Any, bias: Maybe, addend: Maybe, relu: bool, out: NDArray, calls: Calls
    ) -> None:
        correlate = _columns.correlate_adjoint if self.adjoint else _columns.correlate
        calls(correlate, x, filters, bias, self.geometry, out)


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
