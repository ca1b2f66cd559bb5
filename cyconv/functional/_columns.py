"""Convolution by the matrix of all patches: the textbook's way, readable reference and honest baseline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cyconv.functional._taps import Geometry
from cyconv.functional.linear import matmul
from cyconv.functional.unfold import columns_nhwc, columns_nhwc_adjoint

COLUMN_BYTES = 4 << 20  # of the matrix of patches at a time: it stays in the outer cache


def _groups_of(array: NDArray, groups: int) -> list[NDArray]:
    """Return channel slices [..., C/groups] of a channels-last array."""
    return np.split(array, groups, axis=-1)


def correlate(x: NDArray, filters: NDArray, bias: NDArray | None, geometry: Geometry, out: NDArray) -> None:
    """Fill out [N, OH, OW, OC] with the convolution of x by filters [G, OC/G, KH*KW*IC/G] + bias."""
    for group, (x_g, out_g) in enumerate(
        zip(_groups_of(x, geometry.groups), _groups_of(out, geometry.groups), strict=True)
    ):
        columns = columns_nhwc(x_g, geometry.kernel, geometry.stride, geometry.padding, geometry.dilation)
        out_g[...] = matmul(columns, filters[group].T).reshape(out_g.shape)
    if bias is not None:
        out += bias


def correlate_adjoint(
    grad_output: NDArray, filters: NDArray, bias: NDArray | None, geometry: Geometry, out: NDArray
) -> None:
    """Fill out [N, IH, IW, IC] with its adjoint + bias."""
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


def _images_per_chunk(filters: NDArray, geometry: Geometry) -> int:
    """Return how many images' columns fit the workspace."""
    positions = geometry.out_size[0] * geometry.out_size[1]
    return max(1, COLUMN_BYTES // (positions * filters.shape[2] * filters.itemsize))


def weight_gradient(x: NDArray, grad_output: NDArray, geometry: Geometry, out: NDArray) -> None:
    """Fill out [OC, KH, KW, IC/G] with the filters' gradient."""
    targets = np.split(out, geometry.groups)
    for x_g, grad_g, out_g in zip(
        _groups_of(x, geometry.groups), _groups_of(grad_output, geometry.groups), targets, strict=True
    ):
        columns = columns_nhwc(x_g, geometry.kernel, geometry.stride, geometry.padding, geometry.dilation)
        out_g[...] = matmul(grad_g.reshape(-1, grad_g.shape[3]).T, columns).reshape(out_g.shape)
