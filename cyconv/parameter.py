"""Parameter: a trainable array with its gradient."""

from __future__ import annotations

import itertools
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

import cyconv.functional  # noqa: F401  (whole, before its parts: see cyconv/__init__.py)
from cyconv import memory
from cyconv._validation import as_array, as_float_array, as_float_dtype, as_generator, check_shape
from cyconv.functional._arrays import NHWC, add, flat
from cyconv.initializers import Initializer, Shape

_versions = itertools.count()  # no two states of any parameters share one: what is made of values is kept by it


def random_seed() -> int:
    """Return a seed from the system, of 56 bits."""
    return int.from_bytes(os.urandom(7), "little")


def _holders(array: NDArray) -> tuple[int, int]:
    """Return how many references there are to an array, and to the array that it is a view of."""
    owner = array.base
    return sys.getrefcount(array), sys.getrefcount(owner) if isinstance(owner, np.ndarray) else 0


def owned(array: NDArray) -> NDArray:
    """Return an array that may be written to, and no file with it: a copy of one that is read-only or memory-mapped."""
    return array if type(array) is np.ndarray and array.flags.writeable else np.array(array, order="K", subok=False)


class _Limit:
    """Parameters, and elements in them, that may still be made."""

    def __init__(self, parameters: int, elements: int) -> None:
        self.parameters, self.elements = parameters, elements
        self.text = f"{parameters} arrays, of {elements} elements in all"

    def take(self, shape: Shape) -> None:
        self.parameters -= 1
        self.elements -= math.prod(shape)
        if self.parameters < 0 or self.elements < 0:
            raise ValueError(f"the network does not fit, it needs more weights than there are: {self.text}")


_LIMIT: ContextVar[_Limit | None] = ContextVar("limit of parameters", default=None)


@contextmanager
def limited_to(parameters: int, elements: int) -> Iterator[None]:
    """Let no more parameters, and elements in them, be made inside the ``with``: ValueError before they are."""
    token = _LIMIT.set(_Limit(parameters, elements))
    try:
        yield
    finally:
        _LIMIT.reset(token)


class Parameter:
    """A trainable array with its gradient.

    The weight of a convolution has the shape (OC, IC, KH, KW) and lies as [OC, KH, KW, IC] in memory.

    Parameters
    ----------
    data : array-like, float32 or float64
        Initial values; copied.

    Attributes
    ----------
    data : ndarray
        The values. Assigning writes them in place, so shape, dtype and memory order stay.
    grad : ndarray or None
        What `accumulate` has summed since it was None, which stands for zero.
    trainable : bool, default True
        False freezes it: no gradient is computed and the optimizer leaves it alone.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.parameter import Parameter
    >>> parameter = Parameter(np.ones(2))
    >>> parameter.accumulate(np.array([0.5, 0.25]))
    >>> parameter.accumulate(np.array([0.5, 0.25]))
    >>> parameter.grad
    array([1. , 0.5])
    """

    def __init__(self, data: ArrayLike) -> None:
        values = as_float_array("Parameter", "data", data)
        self._describe(values.shape, values.dtype)
        self.data = values

    @classmethod
    def drawn(cls, shape: Shape, initializer: Initializer, dtype: DTypeLike = np.float32) -> Parameter:
        """Return a parameter whose values the initializer draws when they are first used.

        Until then it takes no memory: a network can be counted, or its weights loaded, without drawing them. The seed
        is fixed beforehand, so it does not matter when, or in which thread, the first use happens.
        """
        parameter = cls.__new__(cls)
        parameter._describe(shape, np.dtype(dtype))
        parameter._initializer = initializer
        return parameter

    def _describe(self, shape: Shape, dtype: np.dtype) -> None:
        limit = _LIMIT.get()
        if limit is not None:
            limit.take(shape)
        self.shape = shape
        self.dtype = dtype
        self.trainable = True
        self._grad: NDArray | None = None
        self._data: NDArray | None = None
        self._initializer: Initializer | None = None
        self._seed = random_seed()
        self._version = next(_versions)

    @property
    def version(self) -> int | None:
        """A number that is that of these values alone; None while anybody else holds the array or a part of it."""
        if self._data is None or _holders(self._data) not in ALONE:
            return None
        return self._version

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def is_drawn(self) -> bool:
        """Whether there are values already, drawn or assigned."""
        return self._data is not None

    @property
    def data(self) -> NDArray:
        """The values, drawn now if this is their first use."""
        self._version = next(_versions)  # who asks may write
        return self.read()

    @data.setter
    def data(self, values: ArrayLike) -> None:
        values = as_array("Parameter", "data", values)
        if values.dtype.kind not in "fiu":
            raise TypeError(f"Parameter: `data` must be numbers, got {values.dtype}")
        check_shape("Parameter", "data", values, self.shape)
        self._version = next(_versions)
        if self._data is None:
            fresh = self._empty()
            fresh[...] = values
            self._data = fresh  # last: another thread sees all values or none
        else:
            self._data[...] = values

    def read(self) -> NDArray:
        """Return the values to who will not write to them."""
        if self._data is None and self._initializer is not None:
            self.data = self._initializer(self.shape, np.random.default_rng(self._seed), self.dtype)
        return cast(NDArray, self._data)

    @property
    def grad(self) -> NDArray | None:
        """The gradient, None for zero."""
        return self._grad

    @grad.setter
    def grad(self, gradient: NDArray | None) -> None:
        if gradient is not None:
            gradient = as_array("Parameter", "grad", gradient)
            check_shape("Parameter", "grad", gradient, self.shape)
            if gradient.dtype != self.dtype:
                raise TypeError(f"Parameter: `grad` must be {self.dtype} as the values are, got {gradient.dtype}")
        self._grad = gradient

    def frozen(self) -> Parameter:
        """Return a parameter of the same values, in the same memory, that takes no gradient and stays as it is."""
        twin = type(self).__new__(type(self))
        vars(twin).update(vars(self), _data=self.read(), _grad=None, trainable=False)
        return twin

    def _empty(self) -> NDArray:
        if len(self.shape) != 4:
            return memory.empty(self.shape, self.dtype)
        OC, IC, KH, KW = self.shape
        return memory.empty((OC, KH, KW, IC), self.dtype).transpose(0, 3, 1, 2)

    def initialize(self, rng: np.random.Generator | int | None = None) -> None:
        """Forget the values; the initializer draws new ones, from a seed of `rng`, when they are next used.

        A parameter made from given values keeps them.
        """
        if self._initializer is not None:
            self._seed = int(as_generator("initialize", rng).integers(2**63))
            self._data = None
            self._version = next(_versions)

    def astype(self, dtype: DTypeLike) -> None:
        """Change the dtype, float32 or float64; the gradient is dropped."""
        wanted = as_float_dtype("astype", "dtype", dtype)
        values, self._data = self._data, None
        self.dtype, self.grad = wanted, None
        if values is not None:
            self.data = values

    def accumulate(self, gradient: NDArray | None) -> None:
        """Add to the gradient; None, for one that nobody wanted, adds nothing. The array is kept, never written to."""
        if gradient is not None:
            self.grad = gradient if self.grad is None else add(self.grad, gradient)

    def flat(self, array: NDArray) -> NDArray:
        """Return an array of this parameter's shape in the order of its memory, one-dimensional: a view of `data`."""
        return flat(array, NHWC if array.ndim == 4 else tuple(range(array.ndim)))

    def __getstate__(self) -> dict:
        # A pickled array comes back in C order, which would undo the memory order: the values are assigned anew.
        return {**vars(self), "_data": None, "_grad": None, "values": self._data}

    def __setstate__(self, state: dict) -> None:
        values = state.pop("values")
        vars(self).update(state)
        if values is not None:
            self.data = values

    def __repr__(self) -> str:
        frozen = "" if self.trainable else ", trainable=False"
        return f"Parameter(shape={self.shape}, dtype={self.dtype}{frozen})"


def _alone(*shape: int) -> tuple[int, int]:
    parameter = Parameter(np.zeros(shape, np.float32))
    return _holders(cast(NDArray, parameter._data))


ALONE = {_alone(1), _alone(1, 1, 1, 1)}  # references to values that only their parameter holds
