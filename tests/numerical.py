"""Gradients by central differences in float64."""

import numpy as np


def gradient(loss, x, step=1e-6):
    """Return d loss(x) / d x, one element at a time."""
    x = np.array(x, np.float64)
    grad = np.empty_like(x)
    for index in np.ndindex(x.shape):
        centre = x[index]
        x[index] = centre + step
        above = loss(x)
        x[index] = centre - step
        grad[index] = (above - loss(x)) / (2 * step)
        x[index] = centre
    return grad
