"""SciPy's side: the filters of scipy.ndimage, which run on one thread whatever is asked for."""

from __future__ import annotations

import numpy as np
import scipy
from scipy import ndimage

from benchmarks.libraries.data import Work, normal, photograph

AXES = (0, 1)


def start(threads: int, mode: str) -> None:
    """Do nothing: there are no threads to set."""


def describe() -> dict:
    """Return what was measured."""
    return {"library": "SciPy", "version": scipy.__version__}


def prepare(kind: str, **parameters) -> Work | None:
    """Return the functions to time; None for anything but filters of images."""
    return _image(**parameters) if kind == "image" else None


def _image(op, extent, channels, dtype, size) -> Work:
    x = photograph(size, channels, dtype)
    taps = normal(extent, extent) / extent
    kernel = taps if channels == 1 else taps[:, :, None]
    signed = np.float32  # of differences, as cyconv returns them

    def sobel():
        if channels == 1:
            return ndimage.sobel(x, 1, signed)
        return np.stack([ndimage.sobel(x[..., c], 1, signed) for c in range(channels)], -1)

    def sharpen():
        wide = x.astype(np.float32)
        sharp = 2 * wide - ndimage.gaussian_filter(wide, extent, axes=AXES)
        return np.rint(np.clip(sharp, 0, 255)).astype(np.uint8) if x.dtype == np.uint8 else sharp

    functions = {
        "gaussian": lambda: ndimage.gaussian_filter(x, extent, axes=AXES),
        "box": lambda: ndimage.uniform_filter(x, extent, axes=AXES),
        "sobel": sobel,
        "laplacian": lambda: ndimage.laplace(x, signed, axes=AXES),
        "sharpen": sharpen,
        "correlate": lambda: ndimage.correlate(x, kernel),
    }
    return Work({"forward": functions[op]})
