"""Convolution of volumes: two-dimensional, with the kernel's depth among the channels.

A slice of the output sees KD slices of the input; laid side by side as channels they make one image, [N*OD, H, W,
KD*IC], whose two-dimensional convolution it is. So all sums are taken inside the two-dimensional kernels. Volumes lie
channels-last here, [N, D, H, W, C].
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, reduce
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cyconv._window import Axes, Axis
from cyconv.functional._arrays import add
from cyconv.functional._calls import AT_ONCE, Calls
from cyconv.functional._correlation import Convolution
from cyconv.functional._taps import Geometry
from cyconv.functional.unfold import columns_nhwc, columns_nhwc_adjoint

STACK_BYTES = 64 << 20  # of the images with several slices as channels, at a time; those of one volume at least


class VolumeConvolution:
    """A convolution of volumes of given shapes, with the methods of `Convolution`.

    Parameters
    ----------
    depth : Axis
        How the kernel moves along the depth.
    geometry : Geometry
        How it moves over the slices.
    volumes : int
        N.
    outputs, inputs : int
        The filters' channels: OC, and IC of a group.
    dtype : dtype
        float32 or float64.
    """

    def __init__(
        self, depth: Axis, geometry: Geometry, volumes: int, outputs: int, inputs: int, dtype: DTypeLike
    ) -> None:
        self.depth, self.geometry, self.dtype = depth, geometry, np.dtype(dtype)
        self.weight_shape = outputs, depth.kernel, *geometry.kernel, inputs
        self.stacked_shape = outputs, *geometry.kernel, depth.kernel * inputs
        self.in_shape = volumes, depth.size, *geometry.in_size, inputs * geometry.groups
        self.out_shape = volumes, depth.output, *geometry.out_size, outputs
        self._images: dict[int, Convolution] = {}

    @cached_property
    def forward(self) -> VolumeCorrelator:
        """What computes out [N, OD, OH, OW, OC] from x [N, ID, IH, IW, IC]."""
        return VolumeCorrelator(self, adjoint=False)

    @cached_property
    def adjoint(self) -> VolumeCorrelator:
        """What computes the input gradient [N, ID, IH, IW, IC] from grad_output [N, OD, OH, OW, OC]."""
        return VolumeCorrelator(self, adjoint=True)

    def weight_gradient(self, x: NDArray, grad_output: NDArray) -> NDArray:
        """Return the derivative of sum(grad_output * convolution of x), [OC, KD, KH, KW, IC/groups]."""
        gradients = (
            self.of_images(x[some]).weight_gradient(self.stack(x[some]), slices(grad_output[some]))
            for some in self.parts()
        )
        OC, KD, KH, KW, IC = self.weight_shape
        return reduce(add, gradients).reshape(OC, KH, KW, KD, IC).transpose(0, 3, 1, 2, 4)

    def of_images(self, volumes: NDArray) -> Convolution:
        """Return the plan for the slices of some volumes."""
        count = len(volumes)
        if count not in self._images:
            self._images[count] = Convolution(self.geometry, count * self.depth.output, self.stacked_shape, self.dtype)
        return self._images[count]

    def parts(self) -> Iterator[slice]:
        """Yield a few volumes of the batch at a time, whose stacks take bounded memory."""
        N, _, H, W, C = self.in_shape
        bytes_each = self.depth.output * self.depth.kernel * C * H * W * self.dtype.itemsize
        several = max(1, STACK_BYTES // bytes_each)
        for start in range(0, max(1, N), several):
            yield slice(start, start + several)

    def stack(self, x: NDArray) -> NDArray:
        """Return [N, ID, H, W, IC] as images [N*OD, H, W, KD*IC]: what each output slice sees, group by group."""
        N, D, H, W, C = x.shape
        groups = self.geometry.groups
        columns = columns_nhwc(x.reshape(N, D, H * W * groups, C // groups), self._depth_axes())
        return columns.reshape(N * self.depth.output, H, W, self.depth.kernel * C)

    def unstack(self, images: NDArray) -> NDArray:
        """Do the adjoint of `stack`: add up where a slice is seen more than once."""
        count, H, W, channels = images.shape
        groups, C = self.geometry.groups, channels // self.depth.kernel
        shape = count // self.depth.output, self.depth.size, H * W * groups, C // groups
        return columns_nhwc_adjoint(images, shape, self._depth_axes()).reshape(*shape[:2], H, W, C)

    def _depth_axes(self) -> Axes:
        H, W = self.geometry.in_size
        positions = H * W * self.geometry.groups
        return self.depth, Axis(positions, positions, 1)


class VolumeCorrelator:
    """A convolution of volumes or its adjoint, with the methods of `Correlator`."""

    def __init__(self, plan: VolumeConvolution, adjoint: bool) -> None:
        self.plan, self.adjoint = plan, adjoint
        self.out_shape = plan.in_shape if adjoint else plan.out_shape

    def prepare(self, weight: NDArray) -> NDArray:
        """Return weight [OC, KD, KH, KW, IC/groups] in the form that `apply` takes."""
        return np.ascontiguousarray(weight.transpose(0, 2, 3, 1, 4)).reshape(self.plan.stacked_shape)

    def apply(
        self,
        x: NDArray,
        filters: Any,
        bias: NDArray | None,
        addend: NDArray | None = None,
        relu: bool = False,
        calls: Calls = AT_ONCE,
    ) -> NDArray:
        """Return the correlation of x by filters + bias + addend, with `relu` negative numbers set to zero."""
        out = calls.empty(self.out_shape, x.dtype)
        for some in self.plan.parts():
            images = self.plan.of_images(x[some])
            added = None if addend is None else addend[some]
            if not self.adjoint:
                correlator = images.forward
                arrays = correlator.prepare(filters), bias, None if added is None else slices(added)
                out[some] = correlator.apply(self.plan.stack(x[some]), *arrays, relu).reshape(out[some].shape)
                continue
            out[some] = self.plan.unstack(images.adjoint.run(slices(x[some]), filters))
            for summand in (bias, added):
                if summand is not None:
                    out[some] += summand
            if relu:
                np.maximum(out[some], 0, out=out[some])
        return out

    def run(self, x: NDArray, weight: NDArray, bias: NDArray | None = None) -> NDArray:
        """Return the correlation of x by weight + bias."""
        return self.apply(x, self.prepare(weight), bias)


def slices(volumes: NDArray) -> NDArray:
    """Return [N, D, H, W, C] as [N*D, H, W, C]."""
    return volumes.reshape(len(volumes) * volumes.shape[1], *volumes.shape[2:])
