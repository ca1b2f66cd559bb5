"""Every check of a user's argument: the op, the argument, what came and what is needed, before any work is done."""

from __future__ import annotations

import math
import operator
import reprlib
import sys
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from cyconv._geometry import Pair
from cyconv._sources import Rows, as_source, with_channel

FLOAT32, FLOAT64 = FLOATS = np.dtype(np.float32), np.dtype(np.float64)
PIXELS = (np.dtype(np.uint8), *FLOATS)
LARGEST = 2**31 - 1  # of a stride, padding, dilation or kernel size: products of two fit 64 bits with room to spare
LAYOUT = {1: "L", 2: "H, W", 3: "D, H, W"}  # the axes behind the batch and the channels
EACH = {1: "an int", 2: "an int or a pair of ints", 3: "an int or three ints"}

MOST_CHARACTERS = 100  # of a bad argument that an error message repeats


class _Short(reprlib.Repr):
    """Represents a value in at most MOST_CHARACTERS without making more of a long one than that."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxtuple = self.maxlist = self.maxset = self.maxfrozenset = self.maxdeque = self.maxarray = 12
        self.maxdict = 8
        self.maxstring = self.maxother = MOST_CHARACTERS - 10

    def repr_int(self, value: int, level: int) -> str:
        """Return the digits of a number of 60 digits at most; Python refuses those of a very long one."""
        return repr(value) if value.bit_length() < 200 else f"an integer of {value.bit_length()} bits"

    def repr_instance(self, value: Any, level: int) -> str:
        """Return shape and dtype of an array, of whatever library."""
        shape, dtype = (getattr(value, name, None) for name in ("shape", "dtype"))
        if isinstance(shape, tuple) and dtype is not None and not isinstance(value, (type, np.generic)):
            return f"{type(value).__name__} of shape {shape} and dtype {dtype}"
        return super().repr_instance(value, level)


_SHORT = _Short()


def brief(value: Any) -> str:
    """Return what an error message says of a bad argument: its repr, shortened; shape and dtype of an array."""
    text = _SHORT.repr(value)
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 15]}...{text[-12:]}"


def as_instance(op: str, name: str, value: Any, kind: type) -> Any:
    """Return `value` if it is of a class."""
    if not isinstance(value, kind):
        hint = "; call the class to make one" if isinstance(value, type) and issubclass(value, kind) else ""
        article = "an" if kind.__name__[0] in "AEIO" else "a"
        raise TypeError(f"{op}: `{name}` must be {article} {kind.__name__}, got {brief(value)}{hint}")
    return value


def as_list(op: str, name: str, value: Any, of: str) -> list[Any]:
    """Return the members of what can be iterated, but for text and mappings, as a list."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable) or getattr(value, "shape", 0) == ():
        raise TypeError(f"{op}: `{name}` must be a sequence of {of}, got {brief(value)}")
    return list(value)


def as_array(op: str, name: str, value: ArrayLike) -> NDArray:
    """Return `value` as an ndarray; refuse None, ragged lists, and masked arrays, which would lose their mask."""
    if type(value) is np.ndarray:
        return value
    if value is None:
        raise TypeError(f"{op}: `{name}` must be an array, got None")
    masked = sys.modules.get("numpy.ma")  # where it was not imported there is no masked array
    if masked is not None and isinstance(value, masked.MaskedArray):
        raise TypeError(f"{op}: `{name}` must have no mask, got a masked array; fill it with `.filled(...)`")
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # a tensor that wants gradients raises the last
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{op}: `{name}` must be an array: {error}") from None


def as_data(op: str, name: str, value: ArrayLike) -> NDArray:
    """Return images or vectors as an array: bytes stay bytes in lists, tensors and data frames of them too."""
    array = as_array(op, name, value)
    if array.dtype.kind == "O" and number_kind(value) == "bytes":  # pandas' own kind, which NumPy makes objects of
        try:
            return array.astype(np.uint8)
        except (TypeError, ValueError):
            raise ValueError(f"{op}: `{name}` must have no missing values") from None
    return array


def number_kind(value: Any) -> str:
    """Return "bytes", which stand for 0 to 1, "integers" or "floats", for the numbers of an array or a data frame."""
    each = getattr(value, "dtypes", None)
    names = [str(kind).lower() for kind in (each if isinstance(each, Iterable) else [getattr(value, "dtype", each)])]
    if {*names} == {"uint8"}:
        return "bytes"
    return "integers" if names and all(name.startswith(("int", "uint")) for name in names) else "floats"


def as_rows(op: str, name: str, value: Any) -> Rows:
    """Return `value` as an ndarray or, where it can be read in pieces (h5py, zarr), as what does so."""
    source = as_source(value)
    return as_data(op, name, value) if source is None else source


def as_float_array(op: str, name: str, value: ArrayLike, ndim: int | tuple[int, ...] | None = None) -> NDArray:
    """Return `value` as a native, aligned float32 or float64 array of `ndim` axes; itself when it is one already."""
    if (  # the usual case, first: in small networks checks are most of the time
        type(value) is np.ndarray
        and (value.dtype is FLOAT32 or value.dtype is FLOAT64)
        and (value.ndim == ndim or ndim is None)
        and value.flags.aligned
    ):
        return value
    array = as_array(op, name, value)
    if array.dtype not in FLOATS:
        if array.dtype.newbyteorder("=") in FLOATS:
            array = array.astype(array.dtype.newbyteorder("="))
        else:
            raise TypeError(
                f"{op}: `{name}` must be float32 or float64, got {array.dtype}; cast it with `.astype(np.float32)`"
            )
    wanted = (ndim,) if isinstance(ndim, int) else ndim
    if wanted is not None and array.ndim not in wanted:
        axes = " or ".join(filter(None, (", ".join(map(str, wanted[:-1])), str(wanted[-1]))))
        layout = {4: " (N, C, H, W)", 2: " (N, features)"}.get(wanted[0], "") if len(wanted) == 1 else ""
        raise ValueError(f"{op}: `{name}` must have {axes} dimensions{layout}, got shape {array.shape}")
    return array if array.flags.aligned else array.copy()


def as_image(op: str, name: str, value: ArrayLike, axes: int = 2) -> NDArray:
    """Return `value` as a float array (N, C, and `axes` more) in which only the batch may be empty."""
    image = as_float_array(op, name, value)
    if image.size and image.ndim == axes + 2:  # the usual case
        return image
    if image.ndim != axes + 2:
        raise ValueError(
            f"{op}: `{name}` must have {axes + 2} dimensions (N, C, {LAYOUT[axes]}), got shape {image.shape}"
        )
    if 0 in image.shape[1:]:
        raise ValueError(f"{op}: only the batch of `{name}` may be empty, got shape {image.shape}")
    return image


def as_pixels(op: str, name: str, value: ArrayLike) -> NDArray:
    """Return `value` as a picture (H, W) or (H, W, C) of native, aligned uint8, float32 or float64 numbers."""
    array = as_array(op, name, value)
    native = array.dtype.newbyteorder("=")
    if native not in PIXELS:
        raise TypeError(
            f"{op}: `{name}` must be uint8, float32 or float64, got {array.dtype}; cast it with `.astype(np.float32)`"
        )
    if array.ndim not in (2, 3):
        raise ValueError(f"{op}: `{name}` must have shape (H, W) or (H, W, C), got {array.shape}")
    return array if array.dtype in PIXELS and array.flags.aligned else array.astype(native)


def as_image_shape(op: str, name: str, value: Any, axes: int = 2) -> tuple[int, ...]:
    """Return the shape of a batch of images, (N, C, and `axes` more)."""
    if not isinstance(value, (tuple, list)) or len(value) != axes + 2:
        raise ValueError(f"{op}: `{name}` must be (N, C, {LAYOUT[axes]}), got {brief(value)}")
    return tuple(as_int(op, name, extent, int(axis > 0)) for axis, extent in enumerate(value))


def as_int_array(op: str, name: str, value: ArrayLike, ndim: int | None = None) -> NDArray[np.int64]:
    """Return `value` as int64 of `ndim` axes; floats and bools are refused."""
    array = as_array(op, name, value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{op}: `{name}` must be integers, got {array.dtype}")
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{op}: `{name}` must have {ndim} dimension(s), got shape {array.shape}")
    if array.dtype.kind == "u" and array.max(initial=0) >= 2**63:
        raise ValueError(f"{op}: `{name}` must be below 2**63, got {array.max()}")
    return array.astype(np.int64)


def as_inputs(op: str, x: Any, input_shape: tuple[int, ...] | None) -> Rows:
    """Return `x`, floats or bytes, with the axes that a network needs; images of one channel may lack that axis."""
    array = as_rows(op, "x", x)
    if array.dtype != np.uint8 and array.dtype.newbyteorder("=") not in FLOATS:
        raise TypeError(
            f"{op}: `x` must be float32, float64 or uint8, got {array.dtype}; cast it with `.astype`: bytes, uint8, "
            "stand for 0 to 1, floats for themselves"
        )
    if array.ndim == 3 and (input_shape is None or (input_shape[0] == 1 and len(input_shape) == 3)):
        array = with_channel(array)  # [N, H, W] -> [N, 1, H, W]
    fits = array.ndim in (2, 4) if input_shape is None else array.shape[1:] == input_shape
    if not fits:
        needed = "N, C, H, W" if input_shape is None else ", ".join(map(str, ("N", *input_shape)))
        raise ValueError(f"{op}: `x` must have shape ({needed}), got {np.shape(x)}")
    return array


def as_numbers(x: NDArray, dtype: np.dtype) -> NDArray:
    """Return inputs in a network's dtype; bytes become numbers from 0 to 1."""
    return np.divide(x, 255, dtype=dtype) if x.dtype == np.uint8 else x.astype(dtype, copy=False)


class Array(Protocol):
    """What checks need to know of an array: a layer's `Parameter` will do."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents."""

    @property
    def dtype(self) -> np.dtype:
        """Kind of number."""


def check_same_dtype(op: str, **arrays: Array | None) -> None:
    """Raise TypeError unless all given arrays share one dtype."""
    first = None
    for array in arrays.values():  # the usual case: NumPy has one object for each native dtype
        if array is not None:
            first = array.dtype if first is None else first
            if array.dtype is not first:
                break
    else:
        return
    if len({array.dtype for array in arrays.values() if array is not None}) > 1:
        listing = ", ".join(f"`{name}` {array.dtype}" for name, array in arrays.items() if array is not None)
        raise TypeError(f"{op}: all arrays must have the same dtype, got {listing}; cast one with `.astype`")


def check_shape(op: str, name: str, array: NDArray, shape: tuple[int, ...], reason: str = "") -> None:
    """Raise ValueError unless `array` has exactly `shape`."""
    if array.shape != shape:
        raise ValueError(f"{op}: `{name}` must have shape {shape}{reason}, got {array.shape}")


def as_int(op: str, name: str, value: Any, minimum: int = 1, maximum: int = LARGEST) -> int:
    """Return `value` as an int within [minimum, maximum]."""
    if type(value) is int and minimum <= value <= maximum:
        return value
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{op}: `{name}` must be an integer, got {brief(value)}")
    try:
        checked = operator.index(value)
    except TypeError:
        raise TypeError(f"{op}: `{name}` must be an integer, got {brief(value)}") from None
    if not minimum <= checked <= maximum:
        bound = f"at least {minimum}" if checked < minimum else f"at most {maximum}"
        raise ValueError(f"{op}: `{name}` must be {bound}, got {brief(checked)}")
    return checked


def as_ints(op: str, name: str, value: Any, minimum: int = 1, maximum: int = LARGEST) -> tuple[int, ...]:
    """Return a sequence of integers within [minimum, maximum] as a tuple."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{op}: `{name}` must be a sequence of integers, got {brief(value)}")
    return tuple(as_int(op, name, number, minimum, maximum) for number in value)


def as_each(op: str, name: str, value: Any, axes: int, minimum: int = 1) -> tuple[int, ...]:
    """Return an int, or an int for each of `axes` axes, as a number for each axis."""
    if type(value) is int and minimum <= value <= LARGEST:
        return (value,) * axes
    if isinstance(value, np.ndarray):
        value = value.tolist()  # of an array without axes: the number
    if isinstance(value, (tuple, list)):
        if len(value) != axes:
            raise ValueError(f"{op}: `{name}` must be {EACH[axes]}, got {brief(value)}")
        return tuple([as_int(op, name, number, minimum) for number in value])
    return (as_int(op, name, value, minimum),) * axes


def as_pair(op: str, name: str, value: Any, minimum: int = 1) -> Pair:
    """Return an int or a pair of ints as (vertical, horizontal)."""
    vertical, horizontal = as_each(op, name, value, 2, minimum)
    return vertical, horizontal


def as_number(
    op: str,
    name: str,
    value: Any,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    *,
    open_minimum: bool = False,
    open_maximum: bool = False,
) -> float:
    """Return `value` as a finite float within the bounds; NaN is always refused."""
    if isinstance(value, (bool, np.bool_, str)):
        raise TypeError(f"{op}: `{name}` must be a number, got {brief(value)}")
    try:
        number = float(value)
    except OverflowError:  # an integer beyond all floats
        number = math.inf
    except (TypeError, ValueError):
        raise TypeError(f"{op}: `{name}` must be a number, got {brief(value)}") from None
    too_low = number <= minimum if open_minimum else number < minimum
    too_high = number >= maximum if open_maximum else number > maximum
    if not math.isfinite(number) or too_low or too_high:
        low = f"{'above' if open_minimum else 'at least'} {minimum}" if minimum > -math.inf else ""
        high = f"{'below' if open_maximum else 'at most'} {maximum}" if maximum < math.inf else ""
        need = " and ".join(filter(None, (low, high))) or "finite"
        raise ValueError(f"{op}: `{name}` must be {need}, got {number}")
    return number


def as_choice(op: str, name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{op}: `{name}` must be one of {', '.join(map(repr, choices))}, got {brief(value)}")
    return value


def as_member(op: str, name: str, value: Any, members: Iterable[float]) -> Any:
    """Return `value` if it is one of these numbers, of which there are several."""
    *firsts, last = sorted(members)
    if not isinstance(value, Real) or isinstance(value, bool) or value not in (*firsts, last):
        raise ValueError(f"{op}: `{name}` must be {', '.join(map(str, firsts))} or {last}, got {brief(value)}")
    return next(member for member in (*firsts, last) if member == value)  # of Python's own kind


def as_needs(op: str, value: Any) -> tuple[bool, bool, bool]:
    """Return which gradients are wanted: of the input, the weight and the bias."""
    if not isinstance(value, (tuple, list)) or len(value) != 3:
        raise TypeError(f"{op}: `needs` must be a tuple of three bools, got {brief(value)}")
    of_x, of_weight, of_bias = (as_bool(op, "needs", wanted) for wanted in value)
    return of_x, of_weight, of_bias


def as_bool(op: str, name: str, value: Any) -> bool:
    """Return `value` as a bool if it is one."""
    if value is True or value is False:
        return value
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{op}: `{name}` must be True or False, got {brief(value)}")
    return bool(value)


def as_float_dtype(op: str, name: str, value: DTypeLike) -> np.dtype:
    """Return `value` as a dtype, float32 or float64."""
    try:
        dtype = None if value is None else np.dtype(value)
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or dtype not in FLOATS:  # None equals float64 to NumPy
        raise TypeError(f"{op}: `{name}` must be float32 or float64, got {brief(value) if dtype is None else dtype}")
    return dtype


def as_pixel_dtype(op: str, name: str, value: DTypeLike) -> np.dtype:
    """Return `value` as a dtype: uint8, float32 or float64."""
    try:
        dtype = np.dtype(value)
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or dtype not in PIXELS:
        raise TypeError(
            f"{op}: `{name}` must be uint8, float32 or float64, got {brief(value) if dtype is None else dtype}"
        )
    return dtype


def as_fill_value(op: str, name: str, value: Any, dtype: np.dtype) -> float:
    """Return a number to fill with, NaN and infinities included, that `dtype` holds if it is finite."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{op}: `{name}` must be a number, got {brief(value)}")
    largest = float(np.finfo(dtype).max)
    try:
        number = float(value)
        fits = not math.isfinite(number) or abs(number) <= largest
    except OverflowError:  # an integer beyond all floats
        fits = False
    if not fits:
        raise ValueError(f"{op}: `{name}` must be within {dtype}, {largest:.4g} at most, got {brief(value)}")
    return number


def as_generator(op: str, rng: Any, name: str = "rng") -> np.random.Generator:
    """Return the generator itself, one seeded with an int, or a fresh one for None."""
    if rng is None or isinstance(rng, np.random.Generator):
        return np.random.default_rng(rng)
    if isinstance(rng, (bool, np.bool_)) or not hasattr(rng, "__index__") or np.ndim(rng) > 0:
        raise TypeError(f"{op}: `{name}` must be an integer, a numpy.random.Generator or None, got {brief(rng)}")
    return np.random.default_rng(as_int(op, name, rng, 0, 2**63 - 1))
