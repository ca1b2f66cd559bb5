"""Neighbouring layers that run as one: a convolution, its batch normalisation, a sum and ReLU, and pooling after ReLU.

Each layer still keeps what its share of the backward pass needs; a group only knows in which order to ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from cyconv import functional as F
from cyconv.functional._arrays import add
from cyconv.functional.activation import rectified
from cyconv.layers import base
from cyconv.layers.activation import ReLU
from cyconv.layers.base import Layer, completed, is_patched
from cyconv.layers.convolution import Conv2d, ConvTranspose2d
from cyconv.layers.normalization import BatchNorm2d
from cyconv.layers.pooling import MaxPool2d
from cyconv.layers.recording import Recording


class Group:
    """A layer with what follows it, all optional: [main] [normalisation] [+ addend] [ReLU [max pooling]].

    Training, a convolution in front writes what the normalisation reads; that sums, rectifies and writes in one pass.
    Predicting, the normalisation is folded into the convolution's filters. Pooling after a ReLU lets its gradients
    pass the ReLU while there are few: before it spreads them.
    """

    def __init__(
        self,
        main: Layer | None,
        norm: BatchNorm2d | None = None,
        relu: ReLU | None = None,
        pool: MaxPool2d | None = None,
    ) -> None:
        self.main, self.norm, self.relu, self.pool = main, norm, relu, pool
        self.layers = [layer for layer in (main, norm, relu, pool) if layer is not None]

    def run(self, x: NDArray, addend: NDArray | None = None, relu: bool = False) -> NDArray:
        """Return the output + addend, with `relu` negative numbers set to zero."""
        if self.relu is not None and (addend is not None or relu):
            return completed(type(self.layers[-1]).__name__, self.run(x), addend, relu)
        relu = relu or self.relu is not None
        if self.norm is None:
            output = x if self.main is None else base.run(self.main, x, addend, relu)
        elif self.main is None:
            output = self.norm.run(x, addend, relu)
        elif isinstance(self.main, (Conv2d, ConvTranspose2d)) and not (self.main.training or self.norm.training):
            output = self.main.run_folded(x, self.norm, addend, relu)
        else:
            output = self.norm.run(self.main.run(x), addend, relu)
        if self.pool is not None:
            output = self.pool.forward(output)
            if self.main is self.norm is None:  # ReLU and maximum may change places
                output = F.relu(output)
        if self.relu is not None and (self.norm is None or self.pool is not None):
            self.relu.remember(output)  # otherwise the normalisation finds out again what was cut off
        return output

    def record(self, x: NDArray, addend: NDArray | None, relu: bool, calls: Recording) -> NDArray:
        """Do what `run` does in evaluation mode, by kernels that `calls` is given to run, now and for later inputs."""
        if self.relu is not None and (addend is not None or relu):
            return completed(type(self.layers[-1]).__name__, self.record(x, None, False, calls), addend, relu, calls)
        relu = relu or self.relu is not None
        if self.relu is not None:
            calls.depend_on(self.relu)
        if self.norm is not None and isinstance(self.main, (Conv2d, ConvTranspose2d)):
            for layer in (self.main, self.norm):
                calls.depend_on(layer)
            output = self.main.record_folded(x, self.norm, addend, relu, calls)
        else:  # a normalisation stands alone, or behind a convolution
            front = self.norm if self.main is None else self.main
            output = x if front is None else calls.run(front, x, addend, relu)
        if self.pool is not None:
            output = calls.run(self.pool, output)
            if self.main is self.norm is None:  # ReLU and maximum may change places
                output = rectified(output, calls)
        return output

    def run_backward(self, grad_output: NDArray, needs_grad_input: bool, addend: NDArray | None = None) -> Any:
        """Add to the parameters' gradients; return that of the input + addend."""
        gradient: Any = grad_output
        del grad_output
        if self.relu is not None and (self.norm is None or self.pool is not None):
            gradient = self.relu.backward(gradient)
        if self.pool is not None:
            gradient = self.pool.backward(gradient)
        if self.norm is not None:
            behind = self.relu is not None and self.pool is None
            gradient = self.norm.backward_of_relu(gradient) if behind else self.norm.backward(gradient)
        if self.main is None:
            return gradient if addend is None else add(gradient, addend)
        if addend is None:
            return self.main.backward(gradient, needs_grad_input)
        return base.run_backward(self.main, gradient, addend)


def grouped(layers: Iterable[Layer], fuse: bool) -> list[Group]:
    """Return the layers in groups, each of its own unless `fuse`.

    Only these very classes are joined, as they are: who writes a subclass, or another `forward`, means something else.
    """
    groups: list[Group] = []
    rest = list(layers)
    while rest:
        first = rest.pop(0)
        if not fuse or is_patched(first):
            groups.append(Group(first))
            continue
        main: Layer | None = first
        if type(main) in (BatchNorm2d, ReLU):
            rest.insert(0, first)
            main = None
        norm = _next(rest, BatchNorm2d) if main is None or type(main) in (Conv2d, ConvTranspose2d) else None
        relu = _next(rest, ReLU)
        pool = None if relu is None else _next(rest, MaxPool2d)
        if main is norm is pool is None:
            main, relu = relu, None
        groups.append(Group(main, norm, relu, pool))
    return groups


def _next(rest: list[Layer], kind: type) -> Any:
    """Take the first layer of the rest if it is of this kind."""
    return rest.pop(0) if rest and type(rest[0]) is kind and not is_patched(rest[0]) else None


class Runs(Protocol):
    """What runs as one: a `Group`, or several that keep little."""

    layers: list[Layer]

    def run(self, x: NDArray, addend: NDArray | None = None, relu: bool = False) -> NDArray:
        """Return the output + addend, with `relu` negative numbers set to zero."""

    def run_backward(self, grad_output: NDArray, needs_grad_input: bool, addend: NDArray | None = None) -> Any:
        """Add to the parameters' gradients; return that of the input + addend."""


def run(groups: Sequence[Runs], x: NDArray, addend: NDArray | None = None, relu: bool = False) -> NDArray:
    """Return what the groups, one after the other, make of x, + addend, with `relu` negative numbers set to zero."""
    if not groups:
        return completed("Sequential", x, addend, relu)
    for group in groups[:-1]:
        x = group.run(x)
    return groups[-1].run(x, addend, relu)


def run_backward(
    groups: Sequence[Runs], grad_output: NDArray, needs_grad_input: bool, addend: NDArray | None = None
) -> Any:
    """Add to the parameters' gradients; return that of the input + addend."""
    # Where nobody wants the input's gradient, nothing below the first trainable layer needs to run.
    first = 0 if needs_grad_input else _first_trainable(groups)
    held: list[Any] = [grad_output]  # handed over, so that a gradient's memory is free as soon as it is used
    del grad_output
    for index in range(len(groups) - 1, first - 1, -1):
        added = addend if index == 0 else None
        held.append(groups[index].run_backward(held.pop(), needs_grad_input or index > first, added))
    for group in groups[:first]:
        for layer in group.layers:
            layer.forget()
    if not groups and addend is not None:
        return add(held.pop(), addend)
    return held.pop() if needs_grad_input else None


def _first_trainable(groups: Sequence[Runs]) -> int:
    for index, group in enumerate(groups):
        if any(parameter.trainable for layer in group.layers for parameter in layer.parameters().values()):
            return index
    return len(groups)
