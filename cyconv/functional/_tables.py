"""Linear maps along an axis as tables of terms, and applying one along each axis of images: see _kernels/resample."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cyconv._dispatch import resample as kernels
from cyconv.functional._arrays import channels_last, empty_image, nhwc
from cyconv.threads import threads_for


class Table(NamedTuple):
    """Output i is the sum of ``factors[j] * input[sources[j]]`` for ``starts[i] <= j < starts[i + 1]``."""

    size: int  # of the input
    starts: NDArray[np.intp]
    sources: NDArray[np.intp]
    factors: NDArray[np.float64]

    @property
    def outputs(self) -> int:
        """How many outputs there are."""
        return len(self.starts) - 1

    def adjoint(self) -> Table:
        """Return the transposed map."""
        outputs = np.repeat(np.arange(self.outputs), np.diff(self.starts))
        return table(self.outputs, self.size, self.sources, outputs, self.factors)


def table(
    size: int, outputs: int, targets: NDArray[np.intp], sources: NDArray[np.intp], factors: NDArray[np.float64]
) -> Table:
    """Return the map of terms ``output[target] += factor * input[source]``; those of factor 0 are left out."""
    kept = factors != 0
    targets, sources, factors = targets[kept], sources[kept], factors[kept]
    order = np.argsort(targets, kind="stable")
    starts = np.zeros(outputs + 1, np.intp)
    np.cumsum(np.bincount(targets, minlength=outputs), out=starts[1:])
    return Table(size, starts, sources[order].astype(np.intp), factors[order].astype(np.float64))


def selection(size: int, sources: NDArray[np.intp]) -> Table:
    """Return the map that copies ``input[sources[i]]`` to output i."""
    return table(size, len(sources), np.arange(len(sources)), sources, np.ones(len(sources)))


def apply_tables(x: NDArray, rows: Table, columns: Table) -> NDArray:
    """Return the image made of x (N, C, IH, IW) by a map along its rows and one along its columns."""
    N, C = x.shape[:2]
    output = empty_image(N, C, rows.outputs, columns.outputs, x.dtype)
    if output.size:
        terms = max(1, len(rows.sources) * len(columns.sources))
        kernels.resample(channels_last(x), *rows[1:], *columns[1:], nhwc(output), threads_for(N * C * terms))
    return output
