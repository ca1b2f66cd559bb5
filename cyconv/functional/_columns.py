"""Convolution by the matrix of all patches: the textbook's way, readable reference and honest baseline."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cyconv._window import Axes, Axis
from cyconv.functional._taps import Geometry
from cyconv.functional.linear import matmul
from cyconv.functional.unfold import columns_nhwc, columns_nhwc_adjoint

COLUMN_BYTES = 4 << 20  # of the matrix of patches at a time: it stays in the outer cache


def correlate(x: NDArray, filters: NDArray, bias: NDArray | None, geometry: Geometry, out: NDArray) -> None:
    """Fill out [N, OH, OW, OC] with the convolution of x by filters [G, OC/G, KH*KW*IC/G] + bias."""
    for chunk in _chunks(len(x), filters.shape[2], geometry, x.itemsize):
        pairs = zip(_groups_of(x[chunk], geometry.groups), _groups_of(out[chunk], geometry.groups), strict=True)
        for group, (x_g, out_g) in enumerate(pairs):
            out_g[...] = matmul(_columns_of(x_g, geometry), filters[group].T).reshape(out_g.shape)
    if bias is not None:
        out += bias


def correlate_adjoint(
    grad_output: NDArray, filters: NDArray, bias: NDArray | None, geometry: Geometry, out: NDArray
) -> None:
    """Fill out [N, IH, IW, IC] with its adjoint + bias."""
    for chunk in _chunks(len(out), filters.shape[2], geometry, out.itemsize):
        pairs = zip(
            _groups_of(grad_output[chunk], geometry.groups), _groups_of(out[chunk], geometry.groups), strict=True
        )
        for group, (grad_g, out_g) in enumerate(pairs):
            columns = matmul(grad_g.reshape(-1, grad_g.shape[3]), filters[group])
            out_g[...] = columns_nhwc_adjoint(columns, out_g.shape, _axes_of(geometry))
    if bias is not None:
        out += bias


def weight_gradient(x: NDArray, grad_output: NDArray, geometry: Geometry, out: NDArray) -> None:
    """Fill out [OC, KH, KW, IC/G] with the filters' gradient."""
    targets = np.split(out, geometry.groups)
    out.fill(0)
    for chunk in _chunks(len(x), out[0].size, geometry, x.itemsize):
        pairs = zip(_groups_of(x[chunk], geometry.groups), _groups_of(grad_output[chunk], geometry.groups), strict=True)
        for out_g, (x_g, grad_g) in zip(targets, pairs, strict=True):
            out_g += matmul(grad_g.reshape(-1, grad_g.shape[3]).T, _columns_of(x_g, geometry)).reshape(out_g.shape)


def _groups_of(array: NDArray, groups: int) -> list[NDArray]:
    """Return channel slices [..., C/groups] of a channels-last array."""
    return np.split(array, groups, axis=-1)


def _columns_of(x: NDArray, geometry: Geometry) -> NDArray:
    return columns_nhwc(x, _axes_of(geometry))


def _axes_of(geometry: Geometry) -> Axes:
    before = geometry.padding.top, geometry.padding.left
    numbers = geometry.in_size, geometry.out_size, geometry.kernel, geometry.stride, before, geometry.dilation
    return tuple(Axis(*each) for each in zip(*numbers, strict=True))


def _chunks(N: int, patch: int, geometry: Geometry, itemsize: int) -> Iterator[slice]:
    """Yield as many images at a time as fit the workspace with all their patches of so many numbers."""
    several = max(1, COLUMN_BYTES // (geometry.out_size[0] * geometry.out_size[1] * patch * itemsize))
    for start in range(0, N, several):
        yield slice(start, start + several)
