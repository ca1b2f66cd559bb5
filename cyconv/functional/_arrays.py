"""Arrays as the kernels want them: channels-last images, flat memory, and the threaded copies that get there."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cyconv import memory
from cyconv._dispatch import elementwise
from cyconv.functional._calls import AT_ONCE, Calls
from cyconv.threads import threads_for

Axes = tuple[int, ...]
NHWC: Axes = (0, 2, 3, 1)
NCHW: Axes = (0, 3, 1, 2)  # its inverse


def nhwc(image: NDArray) -> NDArray:
    """Return the [N, H, W, C] view of an (N, C, H, W) array."""
    return image.transpose(NHWC)


def empty_image(N: int, C: int, H: int, W: int, dtype: DTypeLike, calls: Calls = AT_ONCE) -> NDArray:
    """Return an uninitialised (N, C, H, W) view of fresh channels-last memory."""
    return calls.empty((N, H, W, C), dtype).transpose(NCHW)


def copy(source: NDArray, target: NDArray, calls: Calls = AT_ONCE) -> None:
    """Copy between two arrays of four axes, any strides; fastest if axis 2 is dense in `source` and 3 in `target`."""
    calls(elementwise.copy, source, target, threads_for(source.size))


def channels_last(image: NDArray) -> NDArray:
    """Return the C-contiguous [N, H, W, C] array of an (N, C, H, W) one: a view if it lies so already, else a copy."""
    pixels = nhwc(image)
    return pixels if pixels.flags.c_contiguous else copied_channels_last(image)


def copied_channels_last(image: NDArray) -> NDArray:
    """Return a fresh C-contiguous [N, H, W, C] array of an (N, C, H, W) one."""
    pixels = memory.empty(nhwc(image).shape, image.dtype)
    copy(nhwc(image), pixels)
    return pixels


def pixels_of(x: NDArray) -> NDArray:
    """Return (N, C, ...) of three to five axes as C-contiguous [N, ..., C]; a sequence as an image of one row."""
    if x.ndim == 4:  # the usual case, in as few steps as there can be
        pixels = x.transpose(NHWC)
        return pixels if pixels.flags.c_contiguous else copied_channels_last(x)
    if x.ndim == 3:
        return channels_last(x[:, :, None])
    pixels = x.transpose(0, 2, 3, 4, 1)
    if pixels.flags.c_contiguous:
        return pixels
    N, C, D, H, W = x.shape
    return channels_last(x.reshape(N, C, D * H, W)).reshape(pixels.shape)


def image_of(pixels: NDArray, axes: int) -> NDArray:
    """Return [N, ..., C] as (N, C, and `axes` more): a view, and the inverse of `pixels_of`."""
    if axes == 2:
        return pixels.transpose(NCHW)
    return pixels.transpose(0, 4, 1, 2, 3) if axes == 3 else pixels.transpose(NCHW)[:, :, 0]


def as_images(x: NDArray) -> NDArray:
    """Return (N, C, L), (N, C, H, W), or the slices of (N, C, D, H, W), as images (N, C, H, W)."""
    if x.ndim != 5:
        return x[:, :, None] if x.ndim == 3 else x
    pixels = pixels_of(x)
    return pixels.reshape(len(pixels) * pixels.shape[1], *pixels.shape[2:]).transpose(NCHW)


def as_columns(slices: NDArray, depth: int) -> NDArray:
    """Return channels-last slices (N*D, C, H, W) as (N, C, D, H*W)."""
    count, H, W, C = nhwc(slices).shape
    return nhwc(slices).reshape(count // depth, depth, H * W, C).transpose(NCHW)


def as_volumes(x: NDArray, shape: tuple[int, ...]) -> NDArray:
    """Return channels-last slices or columns as volumes of `shape`, (N, C, D, H, W)."""
    N, C, *size = shape
    return image_of(nhwc(x).reshape(N, *size, C), 3)


def dense(array: NDArray) -> NDArray:
    """Return `array` itself, or a copy, in C order with the strides that follow from its shape alone."""
    if array.flags.c_contiguous and 1 not in array.shape:
        return array
    return np.ascontiguousarray(array).reshape(-1).reshape(array.shape)  # an axis of one element may have any stride


def usual_axes(ndim: int) -> Axes:
    """Return the order of axes in which arrays of so many usually lie in memory."""
    return NHWC if ndim == 4 else tuple(range(ndim))


def memory_axes(x: NDArray) -> Axes:
    """Return the order of axes in which `x` lies in memory; the usual one if its memory has gaps or runs backwards."""
    usual = usual_axes(x.ndim)
    if x.transpose(usual).flags.c_contiguous:
        return usual
    by_stride = tuple(sorted(range(x.ndim), key=lambda axis: -x.strides[axis]))
    return by_stride if x.transpose(by_stride).flags.c_contiguous else usual


def flat(x: NDArray, axes: Axes) -> NDArray:
    """Return the elements of `x` in the order of `axes`, one-dimensional: a view if they lie so, else a copy."""
    ordered = x.transpose(axes) if x.ndim > 1 else x
    if not ordered.flags.c_contiguous:
        target = memory.empty(ordered.shape, x.dtype)
        if x.ndim == 4:
            copy(ordered, target)
        else:
            target[...] = ordered
        ordered = target
    return ordered.reshape(-1) if x.ndim != 1 else ordered


def empty_ordered(shape: tuple[int, ...], axes: Axes, dtype: DTypeLike, calls: Calls = AT_ONCE) -> NDArray:
    """Return an uninitialised array of `shape` whose memory has the order of `axes`."""
    return calls.empty(tuple([shape[axis] for axis in axes]), dtype).transpose(_inverse(axes))


@memory.remembered
def _inverse(axes: Axes) -> Axes:
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def add(a: NDArray, b: NDArray, calls: Calls = AT_ONCE) -> NDArray:
    """Return a + b for two arrays of one shape, in the memory order of `a`."""
    axes = memory_axes(a)
    total = empty_ordered(a.shape, axes, a.dtype, calls)
    calls(elementwise.add, flat(a, axes), flat(b, axes), flat(total, axes), threads_for(a.size))
    return total


def sum_channels(pixels: NDArray) -> NDArray:
    """Return the sum over all but the last axis of a C-contiguous array."""
    C = pixels.shape[-1]
    sums = memory.zeros((C,), pixels.dtype)
    if pixels.size:
        elementwise.sum_channels(pixels.reshape(-1, C), sums, threads_for(pixels.size))
    return sums
