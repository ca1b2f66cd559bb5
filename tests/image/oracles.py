"""Filters in plain float64: the image is continued by NumPy's `pad`, then summed tap by tap."""

import numpy as np

PAD_MODES = {"constant": "constant", "reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap"}


def extended(image, before, after, boundary, cval):
    """Return the image with `before` and `after` (vertical, horizontal) pixels around it."""
    width = [*zip(before, after, strict=True), *[(0, 0)] * (image.ndim - 2)]
    options = {"constant_values": cval} if boundary == "constant" else {}
    return np.pad(image.astype(np.float64), width, PAD_MODES[boundary], **options)


def correlate(image, kernel, before, after, boundary="constant", cval=0.0):
    """Return the sums of products at all places in the image with so many pixels around it."""
    x = extended(image, before, after, boundary, cval)
    kernel = np.asarray(kernel, np.float64)
    OH, OW = x.shape[0] - kernel.shape[0] + 1, x.shape[1] - kernel.shape[1] + 1
    out = np.zeros((OH, OW, *x.shape[2:]))
    for (kh, kw), weight in np.ndenumerate(kernel):
        out += weight * x[kh : kh + OH, kw : kw + OW]
    return out


def centred(image, kernel, boundary="constant", cval=0.0):
    """Return one result for each pixel, the kernel's number K // 2 on it."""
    before = [extent // 2 for extent in np.shape(kernel)]
    after = [(extent - 1) // 2 for extent in np.shape(kernel)]
    return correlate(image, kernel, before, after, boundary, cval)


def gaussian(sigma, truncate=4.0):
    """Return the kernel of a Gaussian of (vertical, horizontal) standard deviation."""
    lines = []
    for deviation in sigma:
        radius = int(truncate * deviation + 0.5)
        line = np.array([np.exp(-(x**2) / (2 * deviation**2)) if radius else 1.0 for x in range(-radius, radius + 1)])
        lines.append(line / line.sum())
    return np.outer(*lines)


def assert_rounds_to(actual, expected):
    """Check uint8 numbers against what they should be before rounding, but for ties that rounding errors decide."""
    assert actual.dtype == np.uint8
    distance = np.abs(actual.astype(np.float64) - np.clip(expected, 0, 255))
    assert distance.max(initial=0) <= 0.5 + 1e-4


def photograph(shape, dtype, seed=0):
    """Return noise in the range of 8-bit pictures."""
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)
