"""A network to be examined, and images for it."""

import numpy as np

from cyconv import Network
from cyconv import layers as L


def network(**options):
    """Return a small network with all that can go wrong: running averages, dropout, a residual."""
    return Network(
        {
            "conv": L.Conv2d(1, 6, 3, padding=1, initializer="he_normal", **options),
            "bn": L.BatchNorm2d(6),
            "relu": L.ReLU(),
            "block": L.Residual(L.Sequential(L.Conv2d(6, 6, 3, padding=1), L.ReLU())),
            "pool": L.MaxPool2d(2),
            "flatten": L.Flatten(),
            "drop": L.Dropout(0.2),
            "scores": L.Linear(96, 4, initializer="lecun_normal"),
        },
        input_shape=(1, 8, 8),
        seed=0,
    )


def images(N=12):
    rng = np.random.default_rng(0)
    return rng.random((N, 1, 8, 8), np.float32), np.arange(N) % 4
