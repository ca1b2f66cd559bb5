"""Initial values of weights: functions of a shape and a random generator.

Each is called as ``initializer(shape, rng, dtype)``; `rng` may also be a seed or None. Further keywords are fixed with
`functools.partial`, as in ``partial(normal, std=0.01)``. A weight's shape is (outputs, inputs, ...), the rest being the
kernel's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cyconv._validation import as_choice, as_fill_value, as_float_dtype, as_generator, as_int, as_number, brief

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
MOST_AXES = 32  # of NumPy 1
Shape = tuple[int, ...]
Rng: TypeAlias = "np.random.Generator | int | None"  # quoted: numpy.random is slow to import
Initializer = Callable[[Shape, "np.random.Generator", DTypeLike], NDArray]


def fans(shape: Shape, op: str = "initializers") -> tuple[int, int]:
    """Return (fan_in, fan_out): how many inputs an output sums, and how many outputs an input reaches."""
    shape = _as_shape(op, shape)
    if len(shape) < 2:
        raise ValueError(f"{op}: `shape` needs an output and an input axis to count inputs, got {brief(shape)}")
    if 0 in shape[1:]:
        raise ValueError(f"{op}: `shape` must have at least one input, got {brief(shape)}")
    receptive_field = math.prod(shape[2:])
    return shape[1] * receptive_field, shape[0] * receptive_field


def _as_shape(op: str, shape: Any) -> Shape:
    if not isinstance(shape, (tuple, list)):
        raise TypeError(f"{op}: `shape` must be a tuple of integers, got {brief(shape)}")
    if len(shape) > MOST_AXES:
        raise ValueError(f"{op}: `shape` must have at most {MOST_AXES} axes, got {len(shape)}")
    return tuple(as_int(op, "shape", extent, 0) for extent in shape)


def _check(op: str, shape: Any, rng: Rng, dtype: DTypeLike) -> tuple[Shape, np.random.Generator, Any]:
    """Return what every initializer is given, checked; an integer or None as a generator."""
    return _as_shape(op, shape), as_generator(op, rng), as_float_dtype(op, "dtype", dtype)


def _normal(op: str, shape: Shape, rng: Rng, dtype: DTypeLike, std: float) -> NDArray:
    shape, generator, kind = _check(op, shape, rng, dtype)
    values = generator.standard_normal(shape, kind)
    values *= std
    return values


def _uniform(op: str, shape: Shape, rng: Rng, dtype: DTypeLike, bound: float) -> NDArray:
    shape, generator, kind = _check(op, shape, rng, dtype)
    values = generator.random(shape, kind)
    values -= 0.5
    values *= 2 * bound
    return values


def zeros(shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32) -> NDArray:
    """Return zeros; the generator is left alone.

    Parameters
    ----------
    shape, rng, dtype
        As for `normal`.

    Returns
    -------
    ndarray of `shape` and `dtype`

    Examples
    --------
    >>> from cyconv import initializers
    >>> initializers.zeros((2,), 0)
    array([0., 0.], dtype=float32)
    """
    shape, _, kind = _check("zeros", shape, rng, dtype)
    return np.zeros(shape, kind)


def ones(shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32) -> NDArray:
    """Return ones; the generator is left alone.

    Parameters
    ----------
    shape, rng, dtype
        As for `normal`.

    Returns
    -------
    ndarray of `shape` and `dtype`

    Examples
    --------
    >>> from cyconv import initializers
    >>> initializers.ones((2,), 0)
    array([1., 1.], dtype=float32)
    """
    shape, _, kind = _check("ones", shape, rng, dtype)
    return np.ones(shape, kind)


def constant(shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32, *, value: float) -> NDArray:
    """Return an array filled with one number.

    Parameters
    ----------
    shape, rng, dtype
        As for `normal`.
    value : float
        The number.

    Returns
    -------
    ndarray of `shape` and `dtype`

    Examples
    --------
    >>> from cyconv import initializers
    >>> initializers.constant((2,), 0, value=0.5)
    array([0.5, 0.5], dtype=float32)
    """
    shape, _, kind = _check("constant", shape, rng, dtype)
    return np.full(shape, as_fill_value("constant", "value", value, kind), kind)


def normal(shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32, *, std: float = 0.01) -> NDArray:
    """Return draws from the normal distribution of mean 0 and standard deviation `std`.

    Parameters
    ----------
    shape : tuple of int
        Any shape.
    rng : numpy.random.Generator, int or None, default None
        Source of the draws: a generator, the seed of a new one, or None for a seed from the system.
    dtype : dtype, default float32
        float32 or float64.
    std : float, default 0.01
        Standard deviation.

    Returns
    -------
    ndarray of `shape` and `dtype`

    Raises
    ------
    TypeError, ValueError
        If `std` is not a number, or negative.

    Examples
    --------
    >>> from functools import partial
    >>> import numpy as np
    >>> from cyconv import initializers, layers
    >>> conv = layers.Conv2d(1, 30, 5, initializer=partial(initializers.normal, std=0.01))
    >>> print(f"{conv.initialize(0).weight.data.std():.3f}")
    0.010
    """
    return _normal("normal", shape, rng, dtype, as_number("normal", "std", std, 0))


def uniform(shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32, *, bound: float) -> NDArray:
    """Return draws from the uniform distribution on [-bound, bound).

    Parameters
    ----------
    shape, rng, dtype
        As for `normal`.
    bound : float
        Half the width of the interval.

    Returns
    -------
    ndarray of `shape` and `dtype`

    Raises
    ------
    TypeError, ValueError
        If `bound` is not a number, or negative.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import initializers
    >>> bool(np.abs(initializers.uniform((100,), 0, bound=0.1)).max() <= 0.1)
    True
    """
    return _uniform("uniform", shape, rng, dtype, as_number("uniform", "bound", bound, 0))


def he_normal(shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32) -> NDArray:
    """Return normal draws whose variance is kept through layers of ReLUs.

    Parameters
    ----------
    shape, rng, dtype
        As for `normal`; the shape is (outputs, inputs, ...).

    Returns
    -------
    ndarray of `shape` and `dtype`

    Raises
    ------
    ValueError
        If `shape` has no output and input axis.

    Notes
    -----
    Standard deviation ``sqrt(2 / fan_in)``; an output sums fan_in numbers, inputs times kernel positions.
    K. He, X. Zhang, S. Ren, J. Sun, Delving Deep into Rectifiers, ICCV 2015.

    Examples
    --------
    >>> from cyconv import initializers
    >>> print(f"{initializers.he_normal((64, 32, 3, 3), 0).std():.3f}")
    0.083
    """
    return _normal("he_normal", shape, rng, dtype, math.sqrt(2 / fans(shape, "he_normal")[0]))


def he_uniform(shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32) -> NDArray:
    """Return uniform draws of the variance of `he_normal`.

    Parameters
    ----------
    shape, rng, dtype
        As for `normal`; the shape is (outputs, inputs, ...).

    Returns
    -------
    ndarray of `shape` and `dtype`

    Notes
    -----
    On [-b, b) with ``b = sqrt(6 / fan_in)``, so the standard deviation is ``sqrt(2 / fan_in)`` (He et al. 2015).

    Examples
    --------
    >>> from cyconv import initializers
    >>> print(f"{initializers.he_uniform((64, 32, 3, 3), 0).std():.3f}")
    0.084
    """
    return _uniform("he_uniform", shape, rng, dtype, math.sqrt(6 / fans(shape, "he_uniform")[0]))


def glorot_normal(shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32) -> NDArray:
    """Return normal draws for layers of sigmoids and hyperbolic tangents.

    Parameters
    ----------
    shape, rng, dtype
        As for `normal`; the shape is (outputs, inputs, ...).

    Returns
    -------
    ndarray of `shape` and `dtype`

    Raises
    ------
    ValueError
        If `shape` has no output and input axis.

    Notes
    -----
    Standard deviation ``sqrt(2 / (fan_in + fan_out))``, between what keeps the variance forward and backward.
    X. Glorot, Y. Bengio, Understanding the difficulty of training deep feedforward neural networks, AISTATS 2010.

    Examples
    --------
    >>> from cyconv import initializers
    >>> print(f"{initializers.glorot_normal((64, 32, 3, 3), 0).std():.3f}")
    0.048
    """
    return _normal("glorot_normal", shape, rng, dtype, math.sqrt(2 / sum(fans(shape, "glorot_normal"))))


def glorot_uniform(shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32) -> NDArray:
    """Return uniform draws of the variance of `glorot_normal`.

    Parameters
    ----------
    shape, rng, dtype
        As for `normal`; the shape is (outputs, inputs, ...).

    Returns
    -------
    ndarray of `shape` and `dtype`

    Notes
    -----
    On [-b, b) with ``b = sqrt(6 / (fan_in + fan_out))`` (Glorot and Bengio 2010).

    Examples
    --------
    >>> from cyconv import initializers
    >>> print(f"{initializers.glorot_uniform((64, 32, 3, 3), 0).std():.3f}")
    0.048
    """
    return _uniform("glorot_uniform", shape, rng, dtype, math.sqrt(6 / sum(fans(shape, "glorot_uniform"))))


def lecun_normal(shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32) -> NDArray:
    """Return normal draws that keep the variance through linear layers.

    Parameters
    ----------
    shape, rng, dtype
        As for `normal`; the shape is (outputs, inputs, ...).

    Returns
    -------
    ndarray of `shape` and `dtype`

    Raises
    ------
    ValueError
        If `shape` has no output and input axis.

    Notes
    -----
    Standard deviation ``1 / sqrt(fan_in)``.
    Y. LeCun, L. Bottou, G. Orr, K.-R. Müller, Efficient BackProp, 1998.

    Examples
    --------
    >>> from cyconv import initializers
    >>> print(f"{initializers.lecun_normal((64, 32, 3, 3), 0).std():.3f}")
    0.059
    """
    return _normal("lecun_normal", shape, rng, dtype, 1 / math.sqrt(fans(shape, "lecun_normal")[0]))


def lecun_uniform(shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32) -> NDArray:
    """Return uniform draws of the variance of `lecun_normal`.

    Parameters
    ----------
    shape, rng, dtype
        As for `normal`; the shape is (outputs, inputs, ...).

    Returns
    -------
    ndarray of `shape` and `dtype`

    Notes
    -----
    On [-b, b) with ``b = sqrt(3 / fan_in)`` (LeCun et al. 1998).

    Examples
    --------
    >>> from cyconv import initializers
    >>> print(f"{initializers.lecun_uniform((64, 32, 3, 3), 0).std():.3f}")
    0.059
    """
    return _uniform("lecun_uniform", shape, rng, dtype, math.sqrt(3 / fans(shape, "lecun_uniform")[0]))


def fan_in_uniform(shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32) -> NDArray:
    """Return the draws that layers start with unless told otherwise, as PyTorch's do.

    Parameters
    ----------
    shape, rng, dtype
        As for `normal`; the shape is (outputs, inputs, ...).

    Returns
    -------
    ndarray of `shape` and `dtype`

    Raises
    ------
    ValueError
        If `shape` has no output and input axis.

    Notes
    -----
    Uniform on [-b, b) with ``b = 1 / sqrt(fan_in)``.

    Examples
    --------
    >>> from cyconv import initializers
    >>> print(f"{initializers.fan_in_uniform((64, 32, 3, 3), 0).std():.3f}")
    0.034
    """
    return _uniform("fan_in_uniform", shape, rng, dtype, 1 / math.sqrt(fans(shape, "fan_in_uniform")[0]))


def orthogonal(shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32, *, gain: float = 1.0) -> NDArray:
    """Return a random matrix with orthonormal rows, or columns if there are more rows, times `gain` (Saxe et al. 2014).

    A convolution's weight is read as the matrix (outputs, inputs * kernel positions).

    Parameters
    ----------
    shape, rng, dtype
        As for `normal`; the shape is (outputs, inputs, ...).
    gain : float, default 1
        Factor of all numbers.

    Returns
    -------
    ndarray of `shape` and `dtype`

    Raises
    ------
    ValueError
        If `shape` has no output and input axis.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import initializers
    >>> q = initializers.orthogonal((3, 5), 0, np.float64)
    >>> np.allclose(q @ q.T, np.eye(3))
    True
    """
    op = "orthogonal"
    shape, generator, kind = _check(op, shape, rng, dtype)
    gain = as_number(op, "gain", gain)
    fan_in = fans(shape, op)[0]
    rows, columns = max(shape[0], fan_in), min(shape[0], fan_in)
    q, r = np.linalg.qr(generator.standard_normal((rows, columns)))
    q *= np.sign(np.diag(r))  # makes the factorisation unique, so the draw is uniform over orthogonal matrices
    return (gain * (q if shape[0] >= fan_in else q.T)).reshape(shape).astype(kind)


def bilinear(shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32) -> NDArray:
    """Return the weight with which a transposed convolution interpolates bilinearly (Long et al. 2015).

    Each channel is enlarged by itself: the tent-shaped kernel stands where a channel meets its own number, in its group
    if there are groups, and zeros elsewhere.

    Parameters
    ----------
    shape, rng, dtype
        As for `normal`; the shape is (in_channels, out_channels / groups, KH, KW).

    Returns
    -------
    ndarray of `shape` and `dtype`

    Raises
    ------
    ValueError
        If `shape` has not 4 axes.

    Examples
    --------
    >>> from cyconv import initializers
    >>> initializers.bilinear((1, 1, 1, 4))
    array([[[[0.25, 0.75, 0.75, 0.25]]]], dtype=float32)
    """
    shape, _, kind = _check("bilinear", shape, rng, dtype)
    if len(shape) != 4 or 0 in shape[1:]:
        raise ValueError(f"bilinear: `shape` must be that of a convolution's weight (4 axes), got {brief(shape)}")
    vertical, horizontal = (1 - np.abs(np.arange(size) - (size - 1) / 2) / ((size + 1) // 2) for size in shape[2:])
    weight = np.zeros(shape, kind)
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
        raise TypeError(
            f"{op}: `initializer` must be a function (shape, rng, dtype) or a name, got {brief(initializer)}"
        )
    return initializer
