"""Recorded predictions: what layers did for one shape, as kernel calls that need only be run again.

Predicting a single small image, a network spends more time on finding out what to do than on doing it. So what it did
is kept for the shapes that it meets: a list of kernels and arguments, buffers and prepared filters among them, which
is run again as long as all it was made from stays the same. `Recording` is handed through the layers in the place of
`functional._calls.AT_ONCE`; the first prediction is made while recording.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cyconv import memory
from cyconv._replay import ABSENT, Watch, replay
from cyconv._validation import FLOATS
from cyconv.functional._calls import Calls
from cyconv.layers import base
from cyconv.layers.base import Layer, is_patched
from cyconv.parameter import Parameter
from cyconv.settings import is_exact, is_fusing
from cyconv.threads import GRAIN, get_num_threads, threads_for, whole_teams

MOST_INPUTS = 1 << 16  # numbers that go in, up to which it pays: more than that take a millisecond and longer
MOST_SHAPES = 4  # of inputs, whose recordings are kept: each may hold filters of its own
MOST_WEIGHTS = 1 << 22  # of a network of which several are kept
MOST_BYTES = 16 << 20  # of the buffers: what lies between the layers of a recording stays allocated
ALIGNMENT = 64
KERNEL_TYPES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}

Call = tuple[Callable[..., Any], tuple]


class ChangedShapeError(Exception):
    """A layer returned an array of another shape or dtype than when it was recorded."""


class Recording(Calls):
    """Kernel calls as they are run for the first time, with all they depend on.

    Parameters
    ----------
    shape : tuple of int
        Of the network's input, with the batch axis.
    dtype : dtype
        Of the input as the layers see it.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._calls: list[Call] = []
        self._buffers: list[NDArray] = []
        self._watch = Watch()
        self._threads = 1  # the most that any kernel uses
        self._on_fewer: dict[int, list[Call]] = {}  # the calls as they are made on fewer threads
        self.x = self._like(shape, dtype)
        self._output = self.x

    # While recording

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
        array = super().empty(shape, dtype)
        self._buffers.append(array)
        return array

    def __call__(self, kernel: Callable[..., Any], *arguments: Any) -> None:
        kernel(*arguments)
        self._calls.append((kernel, arguments))
        if isinstance(arguments[-1], int):  # where kernels take it
            self._threads = max(self._threads, arguments[-1])

    def apply(self, function: Callable[..., NDArray], *arguments: Any) -> NDArray:
        """Return what a function of arrays returns, to be called again each time: it may do anything."""
        output = function(*arguments)
        kept = self._like(output.shape, output.dtype)
        kept[...] = output
        self._calls.append((_fill, (kept, function, *arguments)))
        return kept

    def run(self, layer: Layer, x: NDArray, addend: NDArray | None = None, relu: bool = False) -> NDArray:
        """Return what the layer's `run` does, recorded kernel by kernel where it knows how."""
        if is_patched(layer) or type(layer).record is Layer.record:
            return self.apply(base.run, layer, x, addend, relu)
        self.depend_on(layer)
        return layer.record(x, addend, relu, self)

    def depend_on(self, layer: Layer) -> None:
        """Note a layer's attributes, but for what it keeps for itself, and its class's `forward`: they must stay."""
        attributes = vars(layer)
        self._watch.forward_of(type(layer))
        self._watch.item(attributes, "forward", attributes.get("forward", ABSENT))
        for name, value in attributes.items():
            if not name.startswith("_") and name != "forward":
                self._watch.item(attributes, name, value)
        inside = attributes.get("_layers", {})
        for name, child in inside.items():
            self._watch.item(inside, name, child)

    def reads(self, *parameters: Parameter | None) -> None:
        """Note that kernels read these parameters' values where they lie."""
        for parameter in parameters:
            if parameter is not None:
                self._watch.item(vars(parameter), "_data", parameter.read())

    def copies(self, *values: Parameter | NDArray | None) -> None:
        """Note that something was made of these numbers, of which there are few: they must stay the same."""
        for each in values:
            if isinstance(each, Parameter):
                self.reads(each)
            if each is not None:
                self._watch.contents(each.read() if isinstance(each, Parameter) else each)

    def prepares(self, weight: Parameter) -> bool:
        """Note that filters are made of these; return False if somebody holds the array, who may write to it.

        So asked, nobody but the parameter itself may hold it.
        """
        weight.read()
        return self._watch.weights_of(vars(weight))

    def _like(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
        """Return an array of `shape` that lies in memory as layers like it, channels last."""
        if len(shape) != 4:
            return self.empty(shape, dtype)
        N, C, H, W = shape
        return self.empty((N, H, W, C), dtype).transpose(0, 3, 1, 2)

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers, which share memory once `finish` was called."""
        return sum(buffer.nbytes for buffer in self._buffers)

    def finish(self, output: NDArray) -> None:
        """End the recording: buffers that are not in use at the same time come to lie in the same memory."""
        index = {id(buffer): i for i, buffer in enumerate(self._buffers)}
        lives = [[len(self._calls), -1] for _ in self._buffers]  # first and last call that uses it

        def buffer_of(array: Any) -> int | None:
            if not isinstance(array, np.ndarray):
                return None
            return index.get(id(array), index.get(id(array.base)))

        for at, (_, arguments) in enumerate([(None, (self.x,)), *self._calls, (None, (output,))]):
            for argument in arguments:
                i = buffer_of(argument)
                if i is not None:
                    lives[i] = [min(lives[i][0], at), max(lives[i][1], at)]
        starts = _places([buffer.nbytes for buffer in self._buffers], lives)
        total = max((start + buffer.nbytes for start, buffer in zip(starts, self._buffers, strict=True)), default=0)
        store = memory.empty((total,), np.uint8)

        def moved(array: Any) -> Any:
            i = buffer_of(array)
            if i is None:
                return array
            offset = starts[i] + _address(array) - _address(self._buffers[i])
            return np.ndarray(array.shape, array.dtype, store.data, offset, array.strides)

        self.x, self._output = moved(self.x), moved(output)
        self._calls = [(_specialised(f, args), tuple(moved(a) for a in args)) for f, args in self._calls]
        self._buffers = [store]

    # Afterwards

    def holds(self) -> bool:
        """Return whether all that the recording depends on is as it was."""
        return self._watch.holds()

    def replay(self) -> NDArray:
        """Return a fresh array of what comes of the numbers in `x`."""
        calls = self._calls
        if self._threads > 1:
            count = threads_for(self._threads * GRAIN)  # has them spread over the cores
            if count < self._threads:
                calls = self._on_fewer.setdefault(count, [])
                if not calls:
                    calls += [(kernel, _on_at_most(count, arguments)) for kernel, arguments in self._calls]
        replay(calls)
        return self._output.copy("K")


def _on_at_most(count: int, arguments: tuple) -> tuple:
    """Return a kernel's arguments for at most so many threads."""
    *others, last = arguments
    return (*others, min(last, count)) if isinstance(last, int) else arguments


def predicted(layer: Layer, x: NDArray, record: Callable[..., NDArray]) -> NDArray | None:
    """Return a layer's prediction for `x` by a recording, in a fresh array; None if it must run as usual.

    It must for large arrays, and for a shape that is met for the first time, which may well be the last. Of several
    threads at once each has a recording of its own. `record`, as `Layer.record`, makes it.
    """
    known = replayed(layer, x)
    if known is not None or not 0 < x.size <= MOST_INPUTS or x.ndim not in (2, 4) or x.dtype not in FLOATS:
        return known
    if layer._recorded is None:
        layer._recorded = {}
    recordings, key = layer._recorded, _key(x)
    idle = recordings.get(key, ABSENT)
    if idle is ABSENT:
        for oldest in list(recordings)[: max(0, 1 + len(recordings) - MOST_SHAPES)]:
            recordings.pop(oldest, None)
        recordings[key] = []  # those that no thread uses; None: it does not pay
        return None
    return None if idle is None else _recorded(layer, x, record, recordings, key)


def replayed(layer: Layer, x: NDArray) -> NDArray | None:
    """Return what `predicted` does if there is a recording already."""
    recordings = layer._recorded
    if recordings is None or x.size > MOST_INPUTS:
        return None
    key = _key(x)
    idle = recordings.get(key)
    if not idle:
        return None
    try:
        recording = idle.pop()
    except IndexError:  # another thread was faster
        return None
    if not recording.holds():
        idle.clear()
        return None
    np.copyto(recording.x, x)
    try:
        output = recording.replay()
    except ChangedShapeError:
        recordings[key] = None
        return None
    idle.append(recording)
    return output


def _key(x: NDArray) -> tuple:
    return x.shape, x.dtype, is_fusing(), is_exact(), get_num_threads()


def _recorded(layer: Layer, x: NDArray, record: Callable[..., NDArray], recordings: dict, key: tuple) -> NDArray | None:
    """Return a layer's prediction, recorded for the next time."""
    if any(inner.training for _, inner in layer.walk()):
        recordings[key] = None
        return None
    recording = Recording(x.shape, x.dtype)
    recording.x[...] = x
    recording.depend_on(layer)
    with whole_teams():  # replaying takes those that there are then
        output = record(recording.x, None, False, recording)
    result = output.copy("K")
    recording.finish(output)
    if sum(parameter.size for parameter in layer.parameters().values()) > MOST_WEIGHTS:
        for other in [other for other in list(recordings) if other != key]:
            recordings.pop(other, None)
    idle = recordings.get(key)
    if recording.nbytes > MOST_BYTES:
        recordings[key] = None
    elif idle is not None:
        idle.append(recording)
    return result


def _fill(kept: NDArray, function: Callable[..., NDArray], *arguments: Any) -> None:
    output = function(*arguments)
    if output.shape != kept.shape or output.dtype != kept.dtype:
        raise ChangedShapeError
    kept[...] = output


def _specialised(kernel: Callable[..., Any], arguments: tuple) -> Callable[..., Any]:
    """Return the kernel for the arguments' dtype, where that is all there is to choose: it need not look at them."""
    kinds = getattr(kernel, "__signatures__", {})
    if set(kinds) != set(KERNEL_TYPES.values()):
        return kernel
    dtypes = (argument.dtype for argument in arguments if isinstance(argument, np.ndarray))
    return kinds[next(KERNEL_TYPES[dtype] for dtype in dtypes if dtype in KERNEL_TYPES)]


def _address(array: NDArray) -> int:
    return array.__array_interface__["data"][0]


def _places(sizes: list[int], lives: list[list[int]]) -> list[int]:
    """Return where buffers of these sizes start that share memory unless they live at the same time: low ones first."""
    starts = [0] * len(sizes)
    placed: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: lives[i][0]):
        start = 0
        taken = [j for j in placed if lives[j][0] <= lives[i][1] and lives[i][0] <= lives[j][1]]
        for j in sorted(taken, key=starts.__getitem__):
            if start + sizes[i] <= starts[j]:
                break
            start = max(start, -(-(starts[j] + sizes[j]) // ALIGNMENT) * ALIGNMENT)
        starts[i] = start
        placed.append(i)
    return starts
