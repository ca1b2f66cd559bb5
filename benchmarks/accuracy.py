"""Rounding errors: results of float32 beside sums in float64, at a sample of their elements, with plain NumPy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from benchmarks import shapes
from benchmarks.libraries.data import normal

SAMPLE = 1024  # elements of a result: the root mean square of so many errors is known to 2%
Index = tuple[NDArray[np.intp], ...]


def relative_error(result: NDArray, index: Index, expected: NDArray) -> float:
    """Return the root mean square of the errors at `index` over that of the expected values."""
    error = result[index].astype(np.float64) - expected
    return float(np.sqrt(np.mean(error**2) / np.mean(expected**2)))


def errors(kind: str, parameters: dict, results: Mapping[str, NDArray]) -> dict[str, float]:
    """Return the relative error of each direction's result, on the data that all libraries are given."""
    reference = _Linear(**parameters) if kind == "ops" else _Convolution(shapes.Conv(**parameters))
    found = {}
    for direction, result in results.items():
        rng = np.random.default_rng(0)
        index = tuple(rng.integers(0, size, SAMPLE) for size in result.shape)
        expected = getattr(reference, direction)(index)
        found[direction] = relative_error(result, index, expected)
    return found


class _Linear:
    """The fully connected layer of `out_features`."""

    def __init__(self, shape: tuple[int, int], options: dict, **_: str):
        self.x, self.weight = normal(*shape), normal(options["out_features"], shape[1], seed=1)
        self.grad = normal(shape[0], options["out_features"], seed=2)

    def forward(self, index: Index) -> NDArray:
        n, out = index
        return _dot(self.x[n], self.weight[out])

    def grad_input(self, index: Index) -> NDArray:
        n, feature = index
        return _dot(self.grad[n], self.weight.T[feature])

    def grad_weight(self, index: Index) -> NDArray:
        out, feature = index
        return _dot(self.grad.T[out], self.x.T[feature])


def _dot(a: NDArray, b: NDArray) -> NDArray:
    return np.array([np.dot(one.astype(np.float64), other.astype(np.float64)) for one, other in zip(a, b, strict=True)])


class _Convolution:
    """A convolution or, as its adjoint, a transposed one."""

    def __init__(self, layer: shapes.Conv):
        x = normal(layer.batch, layer.in_channels, layer.size, layer.size)
        grad = normal(layer.batch, layer.out_channels, layer.out_size, layer.out_size, seed=2)
        ends = (layer.in_channels, layer.out_channels) if layer.transposed else (layer.out_channels, layer.in_channels)
        self.weight = normal(ends[0], ends[1] // layer.groups, layer.kernel, layer.kernel, seed=1)
        self.stride, self.padding = layer.stride, layer.padding
        # Of the convolution itself: its input and the gradient of its output.
        self.x, self.grad = (grad, x) if layer.transposed else (x, grad)
        self.forward, self.grad_input = self._correlate, self._adjoint
        if layer.transposed:
            self.forward, self.grad_input = self._adjoint, self._correlate
        bottom = (self.grad.shape[2] - 1) * layer.stride + layer.kernel - layer.padding - self.x.shape[2]
        sides = (layer.padding, max(bottom, 0))
        self.padded = np.pad(self.x, ((0, 0), (0, 0), sides, sides))

    def _correlate(self, index: Index) -> NDArray:
        """Return sums over channels and kernel positions."""
        (OC, IC, K, _), s = self.weight.shape, self.stride
        groups = self.x.shape[1] // IC
        found = []
        for n, oc, i, j in zip(*index, strict=True):
            first = oc // (OC // groups) * IC
            window = self.padded[n, first : first + IC, i * s : i * s + K, j * s : j * s + K]
            found.append(np.sum(window.astype(np.float64) * self.weight[oc]))
        return np.array(found)

    def _adjoint(self, index: Index) -> NDArray:
        """Return sums over output channels and the windows that hold a pixel."""
        (OC, IC, K, _), s, size = self.weight.shape, self.stride, self.grad.shape[2]
        each = OC // (self.x.shape[1] // IC)  # output channels of a group
        found = []
        for n, ic, i, j in zip(*index, strict=True):
            group = slice(ic // IC * each, (ic // IC + 1) * each)
            rows, columns = (
                [(k, (at - k) // s) for k in range(K) if (at - k) % s == 0 and 0 <= (at - k) // s < size]
                for at in (i + self.padding, j + self.padding)
            )
            total = 0.0
            for kh, oh in rows:
                for kw, ow in columns:
                    weights = self.weight[group, ic % IC, kh, kw].astype(np.float64)
                    total += np.dot(self.grad[n, group, oh, ow], weights)
            found.append(total)
        return np.array(found)

    def grad_weight(self, index: Index) -> NDArray:
        """Return sums over images and positions."""
        (OC, IC, _, _), s, size = self.weight.shape, self.stride, self.grad.shape[2]
        each = OC // (self.x.shape[1] // IC)
        found = []
        for oc, ic, kh, kw in zip(*index, strict=True):
            span = (size - 1) * s + 1
            seen = self.padded[:, oc // each * IC + ic, kh : kh + span : s, kw : kw + span : s]
            found.append(np.sum(seen.astype(np.float64) * self.grad[:, oc]))
        return np.array(found)
