"""Containers: layers made of layers, which is how networks branch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from types import EllipsisType, MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cyconv._validation import as_choice, brief
from cyconv.functional._arrays import add, copy, empty_image, nhwc
from cyconv.functional._calls import AT_ONCE, Calls
from cyconv.layers import base
from cyconv.layers.activation import Activation
from cyconv.layers.base import Layer, Shape, Step, check_distinct, completed, is_patched
from cyconv.layers.fusion import Group, grouped, run, run_backward
from cyconv.layers.recompute import Segment, segments
from cyconv.layers.recording import Recording, predicted
from cyconv.settings import is_fusing

Layers = Iterable[Layer] | Mapping[str, Layer]


class Identity(Activation):
    """Hand the input on: a branch that does nothing.

    Examples
    --------
    >>> from cyconv.layers import Branches, Conv2d, Identity
    >>> Branches([Identity(), Conv2d(8, 4, 1)]).output_shape((8, 28, 28))
    (12, 28, 28)
    """

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x.shape)
        return x

    def record(self, x: NDArray, addend: NDArray | None, relu: bool, calls: Recording) -> NDArray:
        return completed("Identity", x, addend, relu, calls)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (shape,) = self.recall()
        return self.check_gradient(grad_output, shape)


class Container(Layer):
    """A layer that owns others by name: "0", "1", ... unless they come in a mapping."""

    def __init__(self, layers: Layers) -> None:
        op = type(self).__name__
        if isinstance(layers, (str, type)) or not isinstance(layers, Iterable) or getattr(layers, "shape", 0) == ():
            raise TypeError(f"{op}: `layers` must be layers or a mapping of names to them, got {brief(layers)}")
        named = dict(layers) if isinstance(layers, Mapping) else {str(i): layer for i, layer in enumerate(layers)}
        for name, layer in named.items():
            if not isinstance(layer, Layer):
                raise TypeError(f"{op}: `layers` must be layers, got {brief(layer)} at {brief(name)}")
            if not isinstance(name, str) or not name or "." in name:
                raise ValueError(f"{op}: a layer's name must be a string without dots, got {brief(name)}")
        self._layers = named
        check_distinct(self)

    def children(self) -> Mapping[str, Layer]:
        return MappingProxyType(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers.values())

    def __getitem__(self, index: int | str) -> Layer:
        return self._layers[index] if isinstance(index, str) else list(self)[index]

    def __setitem__(self, index: int | str, layer: Layer) -> None:
        """Put a layer in the place of another, in the mode, training or evaluation, that the container is in.

        Raises
        ------
        KeyError, IndexError
            If there is no layer of that name or number.
        TypeError
            If it is no layer.
        ValueError
            If it stands in this container already, or holds it.
        """
        name = index if isinstance(index, str) else list(self._layers)[index]
        if name not in self._layers:
            raise KeyError(f"{type(self).__name__}: there is no layer {brief(name)}, only {', '.join(self._layers)}")
        if not isinstance(layer, Layer):
            raise TypeError(f"{type(self).__name__}: a layer must be put in the place of {name!r}, got {brief(layer)}")
        if any(inner is self for _, inner in layer.walk()):
            raise ValueError(f"{type(self).__name__}: cannot stand within itself, at {name!r}")
        before = self._layers[name]
        self._layers[name] = layer
        try:
            check_distinct(self)
        except ValueError:
            self._layers[name] = before
            raise
        layer.train(self.training)

    def _options(self) -> str:
        """Return what `repr` shows after the layers."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {layer!r}".replace("\n", "\n  ") for name, layer in self._layers.items()]
        body = "".join(f"\n  {line}" for line in lines)
        return f"{type(self).__name__}({body}\n{self._options()})" if lines else f"{type(self).__name__}()"


class Sequential(Container):
    """Run layers one after the other.

    Parameters
    ----------
    *layers : Layer
        The layers, or one iterable of them, or one mapping of names to them.

    Examples
    --------
    >>> from cyconv.layers import Linear, ReLU, Sequential
    >>> net = Sequential(Linear(4, 8), ReLU(), Linear(8, 2))
    >>> list(net.parameters())
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    recomputes: bool = False  # whether training keeps few outputs and computes the others again: see `recompute`

    def __init__(self, *layers: Layer | Layers) -> None:
        single = len(layers) == 1 and (isinstance(layers[0], Mapping) or not isinstance(layers[0], Layer))
        super().__init__(layers[0] if single else layers)  # type: ignore[arg-type]

    def output_shape(self, input_shape: Shape) -> Shape:
        return reduce(lambda shape, layer: layer.output_shape(shape), self, tuple(input_shape))

    def trace(self, input_shape: Shape, prefix: str = "") -> Iterator[Step]:
        shape = tuple(input_shape)
        for name, layer in self.children().items():
            for step in layer.trace(shape, f"{prefix}{name}."):
                yield step
                shape = step.output_shape

    def _groups(self) -> list[Group]:
        """Return the layers as they run, those that go together in one."""
        fuse = is_fusing()
        state = fuse, *[(id(layer), is_patched(layer)) for layer in self]
        kept = self._prepared
        if kept is None or kept[0] != state:
            self._prepared = kept = state, grouped(self, fuse)
        return kept[1]

    def _flat_groups(self) -> Iterator[Group]:
        """Yield the groups, of a Sequential that stands alone in one those inside it."""
        for group in self._groups():
            if type(group.main) is Sequential and len(group.layers) == 1 and not is_patched(group.main):
                yield from group.main._flat_groups()
            else:
                yield group

    def forward(self, x: NDArray) -> NDArray:
        known = None if self.training else predicted(self, x, self._record)
        return self._run(x) if known is None else known

    def run(self, x: NDArray, addend: NDArray | None = None, relu: bool = False) -> NDArray:
        return self._run(x, addend, relu)

    def record(self, x: NDArray, addend: NDArray | None, relu: bool, calls: Recording) -> NDArray:
        return self._record(x, addend, relu, calls)

    def _record(self, x: NDArray, addend: NDArray | None, relu: bool, calls: Recording) -> NDArray:
        groups = self._groups()
        for group in groups[:-1]:
            x = group.record(x, None, False, calls)
        return groups[-1].record(x, addend, relu, calls) if groups else completed("Sequential", x, addend, relu, calls)

    def _run(self, x: NDArray, addend: NDArray | None = None, relu: bool = False) -> NDArray:
        groups: Sequence[Group | Segment] = self._groups()
        if self.recomputes and self.training:
            groups = segments(list(self._flat_groups()))
        self.remember(groups)
        return run(groups, x, addend, relu)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (groups,), held = self.recall(), [grad_output]
        del grad_output
        return run_backward(groups, held.pop(), needs_grad_input)

    def run_backward(self, grad_output: NDArray, addend: NDArray | None = None) -> NDArray:
        (groups,), held = self.recall(), [grad_output]
        del grad_output
        return run_backward(groups, held.pop(), True, addend)


class Branches(Container):
    """Run layers side by side on the same input and merge what they return.

    Parameters
    ----------
    layers : iterable of Layer, or mapping of names to Layer
        The branches.
    merge : {"concat", "sum"}, default "concat"
        Whether outputs are concatenated along the channels, as in GoogLeNet, or added, as in ResNet.

    Examples
    --------
    >>> from cyconv.layers import Branches, Conv2d
    >>> inception = Branches([Conv2d(8, 16, 1), Conv2d(8, 24, 3, padding=1)])
    >>> inception.output_shape((8, 28, 28))
    (40, 28, 28)
    """

    crops: ClassVar[bool] = False  # whether larger images are cropped to the size of the smallest

    def __init__(self, layers: Layers, merge: str = "concat") -> None:
        super().__init__(layers)
        self.merge = as_choice(type(self).__name__, "merge", merge, ("concat", "sum"))
        if not self._layers:
            raise ValueError(f"{type(self).__name__}: `layers` must hold at least one layer")

    def output_shape(self, input_shape: Shape) -> Shape:
        return self._merged_shape([layer.output_shape(input_shape) for layer in self])

    def trace(self, input_shape: Shape, prefix: str = "") -> Iterator[Step]:
        for name, layer in self.children().items():
            yield from layer.trace(input_shape, f"{prefix}{name}.")
        yield from super().trace(input_shape, prefix)  # the merge itself

    def forward(self, x: NDArray) -> NDArray:
        return self._run(x)

    def run(self, x: NDArray, addend: NDArray | None = None, relu: bool = False) -> NDArray:
        return self._run(x, addend, relu)

    def _run(self, x: NDArray, addend: NDArray | None = None, relu: bool = False) -> NDArray:
        if self.merge == "concat" or self.crops or not is_fusing():
            return completed(type(self).__name__, self._merged(x), addend, relu)
        first, *others = self
        try:
            for layer in reversed(others):  # each adds to what it returns what came before it
                addend = base.run(layer, x, addend)
            output = base.run(first, x, addend, relu)
        except ValueError:
            self.output_shape(x.shape[1:])  # says it, if it is the branches that do not suit each other
            raise
        self.remember([output.shape] * len(self))
        return output

    def record(self, x: NDArray, addend: NDArray | None, relu: bool, calls: Recording) -> NDArray:
        if self.crops or (self.merge == "sum" and not is_fusing()):
            return super().record(x, addend, relu, calls)
        if self.merge == "concat":
            outputs = [calls.run(layer, x) for layer in self]
            shape = self._merged_shape([output.shape[1:] for output in outputs])
            if len(shape) == 1:
                return super().record(x, addend, relu, calls)
            return completed(type(self).__name__, _joined(outputs, shape, calls), addend, relu, calls)
        first, *others = self
        for layer in reversed(others):
            addend = calls.run(layer, x, addend)
        return calls.run(first, x, addend, relu)

    def _merged(self, x: NDArray) -> NDArray:
        """Return what comes of the branches, each by itself."""
        outputs = [layer.forward(x) for layer in self]
        shapes = [output.shape for output in outputs]
        self.remember(shapes)
        shape = self._merged_shape([shape[1:] for shape in shapes])
        outputs = [_crop(output, shape) for output in outputs]
        if self.merge == "sum":
            return reduce(add, outputs)
        if len(shape) == 1:
            return np.concatenate(outputs, axis=1)
        return _joined(outputs, shape)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (shapes,) = self.recall()
        self.check_gradient(grad_output, (shapes[0][0], *self._merged_shape([shape[1:] for shape in shapes])))
        if self.merge == "sum":
            parts = [grad_output] * len(shapes)
        else:
            parts = np.split(grad_output, _boundaries(shapes), axis=1)
        total: Any = None
        for layer, part, shape in zip(reversed(list(self)), reversed(parts), reversed(shapes), strict=True):
            gradient = _uncrop(part, shape)
            total = base.run_backward(layer, gradient, total) if needs_grad_input else layer.backward(gradient, False)
        return total if needs_grad_input else None

    def _merged_shape(self, shapes: list[Shape]) -> Shape:
        """Return the shape of the merged output, all without the batch axis."""
        sizes = {shape[1:] for shape in shapes}
        channels = [shape[0] for shape in shapes]
        if self.crops and all(len(size) == 2 for size in sizes):
            sizes = {tuple(map(min, zip(*sizes, strict=True)))}
        if len(sizes) > 1 or (self.merge == "sum" and len(set(channels)) > 1):
            raise ValueError(
                f"{type(self).__name__}: outputs to be merged by {self.merge!r} must have the same "
                f"{'shape' if self.merge == 'sum' else 'height and width'}, got {', '.join(map(str, shapes))}"
            )
        return (channels[0] if self.merge == "sum" else sum(channels), *sizes.pop())

    def _options(self) -> str:
        return f"  merge={self.merge!r}\n"


class Residual(Branches):
    """Add a layer's output to its input: body(x) + shortcut(x) (He et al. 2016).

    Parameters
    ----------
    body : Layer
        What learns the difference.
    shortcut : Layer, optional
        What brings x to the shape of the body's output, a 1x1 convolution for one; by default x itself.

    Examples
    --------
    >>> from cyconv.layers import Conv2d, Residual
    >>> Residual(Conv2d(8, 8, 3, padding=1)).output_shape((8, 32, 32))
    (8, 32, 32)
    """

    def __init__(self, body: Layer, shortcut: Layer | None = None) -> None:
        super().__init__({"body": body, "shortcut": Identity() if shortcut is None else shortcut}, merge="sum")

    def _options(self) -> str:
        return ""


class Skip(Branches):
    """Set a layer's input beside its output: x and body(x), as in U-Net and DenseNet.

    Where the body's unpadded convolutions return a smaller image, x is cropped around its centre.

    Parameters
    ----------
    body : Layer
        What the skip goes around.
    merge : {"concat", "sum"}, default "concat"
        Whether the two are concatenated along the channels, x first, or added.

    Examples
    --------
    >>> from cyconv.layers import Conv2d, Skip
    >>> Skip(Conv2d(8, 4, 3)).output_shape((8, 32, 32))
    (12, 30, 30)
    """

    crops: ClassVar[bool] = True

    def __init__(self, body: Layer, merge: str = "concat") -> None:
        super().__init__({"skip": Identity(), "body": body}, merge)


def _joined(outputs: list[NDArray], shape: Shape, calls: Calls = AT_ONCE) -> NDArray:
    """Return images side by side along their channels, (N, *shape)."""
    C, H, W = shape
    merged = empty_image(len(outputs[0]), C, H, W, outputs[0].dtype, calls)
    parts = np.split(merged, _boundaries([output.shape for output in outputs]), axis=1)
    for output, part in zip(outputs, parts, strict=True):
        copy(nhwc(output), nhwc(part), calls)
    return merged


def _boundaries(shapes: list[Shape]) -> list[int]:
    """Return the channels at which a concatenation is cut again."""
    return [int(channel) for channel in np.cumsum([shape[1] for shape in shapes])[:-1]]


def _window(size: Shape, cropped: Shape) -> tuple[EllipsisType | slice, ...]:
    """Return where the central part of `cropped` height and width lies."""
    starts = [(old - new) // 2 for old, new in zip(size, cropped, strict=True)]
    return ..., *(slice(start, start + new) for start, new in zip(starts, cropped, strict=True))


def _crop(image: NDArray, shape: Shape) -> NDArray:
    """Return the central part of an image that has the height and width of `shape`."""
    return image if image.shape[2:] == tuple(shape[1:]) else image[_window(image.shape[2:], shape[1:])]


def _uncrop(gradient: NDArray, shape: Shape) -> NDArray:
    """Return the gradient of `_crop`: zero where the image of `shape` was cut off."""
    if gradient.shape[2:] == tuple(shape[2:]):
        return gradient
    N, C, H, W = shape
    image = empty_image(N, C, H, W, gradient.dtype)
    image.fill(0)
    image[_window((H, W), gradient.shape[2:])] = gradient
    return image
