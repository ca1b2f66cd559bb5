"""The three computations behind all convolutions: correlation, its adjoint, and the weight gradient.

Convolution and transposed convolution are each other's adjoints, so these three serve all six directions. Arrays here
are channels-last; shapes are checked already.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cyconv import memory
from cyconv._dispatch import conv2d as kernels
from cyconv._dispatch import conv2d_weight as weight_kernels
from cyconv._dispatch import depthwise as depthwise_kernels
from cyconv._dispatch import images as image_kernels
from cyconv._dispatch import planar as planar_kernels
from cyconv._dispatch import winograd as winograd_kernels
from cyconv._geometry import Padding, Pair
from cyconv.functional.linear import matmul
from cyconv.functional.unfold import columns_nhwc, columns_nhwc_adjoint
from cyconv.threads import threads_for

ALGORITHMS = ("auto", "direct", "winograd", "im2col")
FEW_PHASES = 4  # of a stride, whose outputs are filled one by one, even with nothing
COLUMN_BYTES = 4 << 20  # of the matrix of patches at a time: it stays in the outer cache
# Output channels up to which vectors run along pixels: along channels most of their lanes would be idle
# (`python -m benchmarks conv`: 6 channels, 5x5: 2.5 times faster; the input gradient of 3 channels: 5 times).
FEW_CHANNELS = 8
# Of more channels, so many sums over so many numbers for each channel are still best computed with vectors along images
# (`python -m benchmarks conv`, batch 64: 6 -> 16 channels, 5x5: 1.1 times; 3 -> 16, 3x3: 0.96 times).
MOST_IMAGE_CHANNELS = 32
MOST_IMAGE_GRADIENTS = 16
DEPTH_OF_IMAGES = 6
# Winograd's transformed filters must be shared by so many 4x4 tiles to pay, and channels outweigh its transforms
# (`python -m benchmarks conv`: 512 channels @7, 32 tiles: 1.4 times the direct kernel's speed forward, 0.9 times for
# the weight gradient; 16 channels: 1.1 times forward, 1.6 times for the weight gradient).
LEAST_TILES = 24
LEAST_GRADIENT_TILES = 128
LEAST_CHANNELS = 32
LEAST_GRADIENT_CHANNELS = 16


class Geometry(NamedTuple):
    """All that the computations need to know of a convolution besides its arrays."""

    in_size: Pair
    out_size: Pair
    kernel: Pair
    stride: Pair
    padding: Padding
    dilation: Pair
    groups: int
    depthwise: bool
    algorithm: str


def _work(x: NDArray, weight: NDArray, geometry: Geometry) -> int:
    """Return the multiply-adds of one direction."""
    return x.shape[0] * geometry.out_size[0] * geometry.out_size[1] * weight.size


class Sum(NamedTuple):
    """A sum over taps: rows and columns of displacements, each tap's kernel position, and where the outputs lie."""

    taps: NDArray[np.intp]
    positions: NDArray[np.intp]
    start: Pair = (0, 0)


def _reaches(tap: int, step: int, outputs: int, inputs: int) -> bool:
    """Whether a tap reads the image at any output position; one that never does only widens the border of zeros."""
    return tap < inputs and (outputs - 1) * step + tap >= 0


@lru_cache(maxsize=1024)
def _forward_sum(geometry: Geometry) -> Sum:
    """Return the taps of the convolution itself: kernel position (kh, kw) reads kh*dilation - padding further."""

    def taps(axis: int, before: int) -> list[tuple[int, int]]:
        dilation, stride = geometry.dilation[axis], geometry.stride[axis]
        return [
            (k * dilation - before, k)
            for k in range(geometry.kernel[axis])
            if _reaches(k * dilation - before, stride, geometry.out_size[axis], geometry.in_size[axis])
        ]

    return _sum(geometry, taps(0, geometry.padding.top), taps(1, geometry.padding.left), (0, 0))


def _sum(geometry: Geometry, rows: list[tuple[int, int]], columns: list[tuple[int, int]], start: Pair) -> Sum:
    """Return the sum over all pairs of (displacement, kernel row) and (displacement, kernel column)."""
    pairs = [(dh, dw, kh * geometry.kernel[1] + kw) for dh, kh in rows for dw, kw in columns]
    table = np.array(pairs, np.intp).reshape(-1, 3)
    return Sum(np.ascontiguousarray(table[:, :2].T), np.ascontiguousarray(table[:, 2]), start)


@lru_cache(maxsize=1024)
def _adjoint_sums(geometry: Geometry) -> list[Sum]:
    """Return the sums of the input gradient, one for each phase of the stride; of many, those that receive anything.

    Input row ih = r + s*q receives grad_output row oh through kernel row kh when oh*s + kh*d - p = ih, so phase r has
    the kernel rows with (r + p - kh*d) divisible by s, displaced by that quotient; columns likewise.
    """

    def phases(axis: int, before: int) -> dict[int, list[tuple[int, int]]]:
        stride, dilation, size = geometry.stride[axis], geometry.dilation[axis], geometry.in_size[axis]
        found: dict[int, list[tuple[int, int]]] = {}
        for k in range(geometry.kernel[axis]):
            r = (k * dilation - before) % stride
            tap = (r + before - k * dilation) // stride
            if r < size and _reaches(tap, 1, -(-(size - r) // stride), geometry.out_size[axis]):
                found.setdefault(r, []).append((tap, k))
        return found if stride > FEW_PHASES else {r: found.get(r, []) for r in range(min(stride, size))}

    return [
        _sum(geometry, sorted(rows), sorted(columns), (r_h, r_w))
        for r_h, rows in sorted(phases(0, geometry.padding.top).items())
        for r_w, columns in sorted(phases(1, geometry.padding.left).items())
    ]


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


def allows_winograd(weight: NDArray, geometry: Geometry) -> bool:
    """Whether Winograd's minimal filtering can compute it: 3x3, stride 1, whole vectors of channels, float32."""
    OC, IC = weight.shape[0], weight.shape[3]
    plain = geometry.stride == geometry.dilation == (1, 1) and geometry.groups == 1
    return geometry.kernel == (3, 3) and plain and IC % 16 == OC % 16 == 0 and weight.dtype == np.float32


def suits_winograd(x: NDArray, weight: NDArray, geometry: Geometry, tiles: int, channels: int) -> bool:
    """Whether minimal filtering pays too, from so many tiles and channels on, or was asked for."""
    if geometry.algorithm == "winograd":
        return True
    if geometry.algorithm != "auto" or not allows_winograd(weight, geometry):
        return False
    (OH, OW), (OC, _, _, IC) = geometry.out_size, weight.shape
    per_image = -(-OH // 4) * -(-OW // 4)
    # With less than half of the tiles' pixels in the image the direct kernel is faster.
    return x.shape[0] * per_image >= tiles and min(IC, OC) >= channels and 8 * per_image <= OH * OW


def _winograd_filters(weight: NDArray, positions: NDArray, transposed: bool, num_threads: int) -> NDArray:
    """Return weights [OC, 3, 3, IC] transformed and packed in the tile's panels."""
    rows, columns = (weight.shape[0], weight.shape[3]) if transposed else (weight.shape[3], weight.shape[0])
    taps = _packed(weight, Sum(positions, positions), 1, transposed, num_threads)
    filters = memory.empty((4 * taps.size,), weight.dtype)  # 36 points for 9 taps
    winograd_kernels.transform_filters(taps, rows, columns, filters, num_threads)
    return filters


def correlate(x: NDArray, weight: NDArray, bias: NDArray | None, geometry: Geometry, out: NDArray) -> None:
    """Fill out [N, OH, OW, OC] with the convolution of x [N, IH, IW, IC] by weight [OC, KH, KW, IC/groups]."""
    threads = threads_for(_work(x, weight, geometry))
    total = _forward_sum(geometry)
    padding = geometry.padding
    if geometry.algorithm == "im2col":
        _correlate_im2col(x, weight, bias, geometry, out)
    elif geometry.depthwise:
        _depthwise(x, weight, bias, geometry, False, out, threads)
    elif suits_winograd(x, weight, geometry, LEAST_TILES, LEAST_CHANNELS):
        filters = _winograd_filters(weight, np.arange(9), False, threads)
        winograd_kernels.conv3x3(x, filters, bias, None, padding.top, padding.left, out, False, threads)
    elif _suits_images(x, out.shape[3], weight[0].size, geometry):
        image_kernels.convolve(x, weight, bias, None, padding.top, padding.left, out, False, threads)
    elif geometry.stride == (1, 1) and _suits_planes(weight.shape[0], geometry):
        _correlate_planes(x, weight.reshape(weight.shape[0], -1, weight.shape[3]), bias, geometry, False, out, threads)
    else:
        panels = _packed(weight, total, geometry.groups, False, threads)
        kernels.conv_taps(x, panels, bias, None, total.taps, *geometry.stride, geometry.groups, out, False, threads)


def correlate_adjoint(
    grad_output: NDArray, weight: NDArray, bias: NDArray | None, geometry: Geometry, out: NDArray
) -> None:
    """Fill out [N, IH, IW, IC] with the adjoint of `correlate` applied to grad_output [N, OH, OW, OC]."""
    threads = threads_for(_work(grad_output, weight, geometry))
    if geometry.algorithm == "im2col":
        _correlate_adjoint_im2col(grad_output, weight, bias, geometry, out)
        return
    if suits_winograd(grad_output, weight, geometry, LEAST_TILES, LEAST_CHANNELS):
        # The adjoint is the convolution by the filters turned half round, with the rest of the full padding.
        filters = _winograd_filters(weight, np.arange(9)[::-1].copy(), True, threads)
        padding = geometry.padding
        top, left = 2 - padding.top, 2 - padding.left
        winograd_kernels.conv3x3(grad_output, filters, bias, None, top, left, out, False, threads)
        return
    sums = _adjoint_sums(geometry)
    stride_h, stride_w = geometry.stride
    if len(sums) < min(stride_h, geometry.in_size[0]) * min(stride_w, geometry.in_size[1]):
        out[...] = 0 if bias is None else bias  # the other phases receive nothing
    if not sums:
        return
    if geometry.depthwise:
        _depthwise(grad_output, weight, bias, geometry, True, out, threads)
        return
    if _suits_images(grad_output, out.shape[3], weight[..., 0].size, geometry):
        turned = np.ascontiguousarray(weight[:, ::-1, ::-1].transpose(3, 1, 2, 0))
        top, left = geometry.kernel[0] - 1 - geometry.padding.top, geometry.kernel[1] - 1 - geometry.padding.left
        image_kernels.convolve(grad_output, turned, bias, None, top, left, out, False, threads)
        return
    if _suits_planes(weight.shape[3], geometry):
        filters = weight.reshape(weight.shape[0], -1, weight.shape[3]).transpose(2, 1, 0)
        _correlate_planes(grad_output, filters, bias, geometry, True, out, threads)
        return
    for total in sums:
        phase = out[:, total.start[0] :: stride_h, total.start[1] :: stride_w]
        panels = _packed(weight, total, geometry.groups, True, threads)
        kernels.conv_taps(grad_output, panels, bias, None, total.taps, 1, 1, geometry.groups, phase, False, threads)


def weight_gradient(x: NDArray, grad_output: NDArray, geometry: Geometry, out: NDArray) -> None:
    """Fill out [OC, KH, KW, IC/groups] with the derivative of sum(grad_output * correlate(x, weight))."""
    threads = threads_for(_work(x, out, geometry))
    total = _forward_sum(geometry)
    OC, KH, KW, IC = out.shape
    flat = out.reshape(OC, KH * KW, IC)
    if geometry.algorithm == "im2col":
        _weight_gradient_im2col(x, grad_output, geometry, out)
    elif suits_winograd(x, out, geometry, LEAST_GRADIENT_TILES, LEAST_GRADIENT_CHANNELS):
        padding = geometry.padding
        winograd_kernels.weight_gradient3x3(x, grad_output, padding.top, padding.left, flat, threads)
    elif OC <= MOST_IMAGE_GRADIENTS and _suits_images(x, OC, KH * KW * IC, geometry):
        image_kernels.weight_gradient(x, grad_output, geometry.padding.top, geometry.padding.left, out, threads)
    elif len(total.positions) == KH * KW:
        _weight_gradient_of_taps(x, grad_output, total, geometry, flat, threads)
    else:  # the taps left out saw nothing but padding
        some = memory.empty((OC, len(total.positions), IC), out.dtype)
        _weight_gradient_of_taps(x, grad_output, total, geometry, some, threads)
        flat[...] = 0
        flat[:, total.positions] = some


def _weight_gradient_of_taps(
    x: NDArray, grad_output: NDArray, total: Sum, geometry: Geometry, out: NDArray, threads: int
) -> None:
    """Fill out [OC, taps, IC/groups] for the taps of `total`."""
    if not len(total.positions):
        return
    if geometry.depthwise:
        depthwise_kernels.weight_gradient(x, grad_output, total.taps, *geometry.stride, out[:, :, 0], threads)
    else:
        weight_kernels.weight_gradient(x, grad_output, total.taps, *geometry.stride, geometry.groups, out, threads)


def _depthwise(
    x: NDArray,
    weight: NDArray,
    bias: NDArray | None,
    geometry: Geometry,
    adjoint: bool,
    out: NDArray,
    threads: int,
) -> None:
    """Fill out with the depthwise convolution of x, or its adjoint."""
    taps, positions, phases = _phases(geometry, adjoint)
    filters = weight.reshape(weight.shape[0], -1)
    if not np.array_equal(positions, np.arange(filters.shape[1])):
        filters = filters[:, positions]
    step, phase = ((1, 1), geometry.stride) if adjoint else (geometry.stride, (1, 1))
    by_tap = np.ascontiguousarray(filters.T)
    depthwise_kernels.conv_taps(x, by_tap, bias, None, taps, *step, phases, *phase, out, False, threads)


def _suits_images(x: NDArray, channels: int, depth: int, geometry: Geometry) -> bool:
    """Whether `channels` sums over `depth` numbers a pixel are best computed with vectors along images.

    Weights are its scalars, so idle lanes and borders cost nothing, but turning the images round must pay.
    """
    plain = geometry.stride == geometry.dilation == (1, 1) and geometry.groups == 1
    if not plain or geometry.algorithm != "auto" or not x.size:
        return False
    if channels > FEW_CHANNELS and (channels > MOST_IMAGE_CHANNELS or depth < DEPTH_OF_IMAGES * channels):
        return False
    (KH, KW), padding = geometry.kernel, geometry.padding
    if min(padding) < 0 or max(padding.top, padding.bottom) >= KH or max(padding.left, padding.right) >= KW:
        return False
    lanes = image_kernels.vector_lanes(x.reshape(-1)[:1])
    return len(x) >= lanes and -len(x) % lanes <= len(x) // 4  # images of the last group that are in the one before


def _suits_planes(channels: int, geometry: Geometry) -> bool:
    """Whether an output of so many channels is best computed with vectors along pixels."""
    return channels <= FEW_CHANNELS and geometry.groups == 1 and geometry.algorithm == "auto"


def _correlate_planes(
    x: NDArray, filters: NDArray, bias: NDArray | None, geometry: Geometry, adjoint: bool, out: NDArray, threads: int
) -> None:
    """Fill out with the convolution of x by filters [out channels, kernel positions, channels], or its adjoint."""
    taps, positions, phases = _phases(geometry, adjoint)
    phase = geometry.stride if adjoint else (1, 1)
    weight = np.ascontiguousarray(filters[:, positions])
    planar_kernels.conv_taps(x, weight, bias, None, taps, phases, *phase, out, False, threads)


@lru_cache(maxsize=1024)
def _phases(geometry: Geometry, adjoint: bool) -> tuple[NDArray, NDArray, NDArray]:
    """Return all sums' taps, their positions, and [first tap, taps, first row, first column] of each sum."""
    sums = _adjoint_sums(geometry) if adjoint else [_forward_sum(geometry)]
    counts = [len(total.positions) for total in sums]
    phases = [(sum(counts[:i]), counts[i], *total.start) for i, total in enumerate(sums)]
    taps = np.concatenate([total.taps for total in sums], axis=1)
    return np.ascontiguousarray(taps), np.concatenate([t.positions for t in sums]), np.array(phases, np.intp)


# The textbook path: a matrix of all patches, one matrix product. Readable reference and honest baseline.


def _groups_of(array: NDArray, groups: int) -> list[NDArray]:
    """Return channel slices [..., C/groups] of a channels-last array."""
    return np.split(array, groups, axis=-1)


def _correlate_im2col(x, weight, bias, geometry, out):
    filters = weight.reshape(geometry.groups, weight.shape[0] // geometry.groups, -1)
    for group, (x_g, out_g) in enumerate(
        zip(_groups_of(x, geometry.groups), _groups_of(out, geometry.groups), strict=True)
    ):
        columns = columns_nhwc(x_g, geometry.kernel, geometry.stride, geometry.padding, geometry.dilation)
        out_g[...] = matmul(columns, filters[group].T).reshape(out_g.shape)
    if bias is not None:
        out += bias


def _correlate_adjoint_im2col(grad_output, weight, bias, geometry, out):
    filters = weight.reshape(geometry.groups, weight.shape[0] // geometry.groups, -1)
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
    if bias is not None:
        out += bias


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
