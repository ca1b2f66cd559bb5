"""Initial values of weights: functions of a shape and a random generator.

Each is called as ``initializer(shape, rng, dtype)``; further keywords are fixed with `functools.partial`, as in
``partial(normal, std=0.01)``. A weight's shape is (outputs, inputs, ...), the rest being the kernel's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cyconv._validation import as_choice, as_number

__all__ = [
    "bilinear",
    "constant",
    "fan_in_uniform",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "uniform",
    "zeros",
]

NEED_MORE = {"constant": "value", "uniform": "bound"}  # no layer can take these by their names alone
Shape = tuple[int, ...]
Initializer = Callable[[Shape, "np.random.Generator", DTypeLike], NDArray]  # quoted: numpy.random is slow to import


def fans(shape: Shape) -> tuple[int, int]:
    """Return (fan_in, fan_out): how many inputs an output sums, and how many outputs an input reaches."""
    if len(shape) < 2:
        raise ValueError(f"initializers: `shape` needs an output and an input axis to count inputs, got {shape}")
    receptive_field = math.prod(shape[2:])
    return shape[1] * receptive_field, shape[0] * receptive_field


def zeros(shape: Shape, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> NDArray:
    """Return zeros."""
    return np.zeros(shape, dtype)


def ones(shape: Shape, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> NDArray:
    """Return ones."""
    return np.ones(shape, dtype)


def constant(shape: Shape, rng: np.random.Generator, dtype: DTypeLike = np.float32, *, value: float) -> NDArray:
    """Return an array filled with `value`."""
    return np.full(shape, value, dtype)


def normal(shape: Shape, rng: np.random.Generator, dtype: DTypeLike = np.float32, *, std: float = 0.01) -> NDArray:
    """Return draws from the normal distribution of mean 0 and standard deviation `std`.

    Examples
    --------
    >>> from functools import partial
    >>> import numpy as np
    >>> from cyconv import initializers, layers
    >>> conv = layers.Conv2d(1, 30, 5, initializer=partial(initializers.normal, std=0.01))
    >>> print(f"{conv.initialize(0).weight.data.std():.3f}")
    0.010
    """
    as_number("normal", "std", std, 0)
    kind: Any = np.dtype(dtype)
    values = rng.standard_normal(shape, kind)
    values *= std
    return values


def uniform(shape: Shape, rng: np.random.Generator, dtype: DTypeLike = np.float32, *, bound: float) -> NDArray:
    """Return draws from the uniform distribution on [-bound, bound)."""
    as_number("uniform", "bound", bound, 0)
    kind: Any = np.dtype(dtype)
    values = rng.random(shape, kind)
    values -= 0.5
    values *= 2 * bound
    return values


def he_normal(shape: Shape, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> NDArray:
    """Return normal draws of variance 2 / fan_in, which keeps the variance through ReLUs (He et al. 2015)."""
    return normal(shape, rng, dtype, std=math.sqrt(2 / fans(shape)[0]))


def he_uniform(shape: Shape, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> NDArray:
    """Return uniform draws of variance 2 / fan_in (He et al. 2015)."""
    return uniform(shape, rng, dtype, bound=math.sqrt(6 / fans(shape)[0]))


def glorot_normal(shape: Shape, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> NDArray:
    """Return normal draws of variance 2 / (fan_in + fan_out), for sigmoid and tanh (Glorot and Bengio 2010)."""
    return normal(shape, rng, dtype, std=math.sqrt(2 / sum(fans(shape))))


def glorot_uniform(shape: Shape, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> NDArray:
    """Return uniform draws of variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010)."""
    return uniform(shape, rng, dtype, bound=math.sqrt(6 / sum(fans(shape))))


def lecun_normal(shape: Shape, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> NDArray:
    """Return normal draws of standard deviation 1 / sqrt(fan_in) (LeCun et al. 1998)."""
    return normal(shape, rng, dtype, std=1 / math.sqrt(fans(shape)[0]))


def lecun_uniform(shape: Shape, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> NDArray:
    """Return uniform draws of variance 1 / fan_in (LeCun et al. 1998)."""
    return uniform(shape, rng, dtype, bound=math.sqrt(3 / fans(shape)[0]))


def fan_in_uniform(shape: Shape, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> NDArray:
    """Return uniform draws on [-b, b), b = 1 / sqrt(fan_in): what PyTorch starts Linear and Conv2d with."""
    return uniform(shape, rng, dtype, bound=1 / math.sqrt(fans(shape)[0]))


def orthogonal(shape: Shape, rng: np.random.Generator, dtype: DTypeLike = np.float32, *, gain: float = 1.0) -> NDArray:
    """Return a random matrix with orthonormal rows, or columns if there are more rows, times `gain` (Saxe et al. 2014).

    A convolution's weight is read as the matrix (outputs, inputs * kernel positions).
    """
    fan_in = fans(shape)[0]
    rows, columns = max(shape[0], fan_in), min(shape[0], fan_in)
    q, r = np.linalg.qr(rng.standard_normal((rows, columns)))
    q *= np.sign(np.diag(r))  # makes the factorisation unique, so the draw is uniform over orthogonal matrices
    return (gain * (q if shape[0] >= fan_in else q.T)).reshape(shape).astype(dtype)


def bilinear(shape: Shape, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> NDArray:
    """Return the weight with which a transposed convolution interpolates bilinearly (Long et al. 2015).

    Each channel is enlarged by itself: the tent-shaped kernel stands where a channel meets its own number, in its group
    if there are groups, and zeros elsewhere.
    """
    if len(shape) != 4:
        raise ValueError(f"bilinear: `shape` must be that of a convolution's weight (4 axes), got {shape}")
    vertical, horizontal = (1 - np.abs(np.arange(size) - (size - 1) / 2) / ((size + 1) // 2) for size in shape[2:])
    weight = np.zeros(shape, dtype)
    channel = np.arange(shape[0])
    weight[channel, channel % shape[1]] = np.outer(vertical, horizontal)
    return weight


def as_initializer(op: str, initializer: Initializer | str) -> Initializer:
    """Return the function itself, or the one of that name."""
    if isinstance(initializer, str):
        if initializer in NEED_MORE:
            raise ValueError(
                f"{op}: `initializer` {initializer!r} needs `{NEED_MORE[initializer]}`: give "
                f"functools.partial(initializers.{initializer}, {NEED_MORE[initializer]}=...)"
            )
        return cast(Initializer, globals()[as_choice(op, "initializer", initializer, tuple(__all__))])
    if not callable(initializer):
        raise TypeError(f"{op}: `initializer` must be a function (shape, rng, dtype) or a name, got {initializer!r}")
    return initializer
