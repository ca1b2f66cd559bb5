"""Layers that lead channels elsewhere: gates, heads, splits, shuffles, padding, cropping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cyconv import memory
from cyconv._validation import as_array, as_float_array, as_int, as_list, brief
from cyconv.functional._arrays import add, channels_last, copy, empty_image, nhwc
from cyconv.functional._calls import AT_ONCE, Calls
from cyconv.layers.activation import Activation
from cyconv.layers.base import Layer, Shape, Step, completed, image_shape
from cyconv.layers.containers import Branches, Container, Layers
from cyconv.layers.recording import Recording


class Gate(Container):
    """Multiply the input by what a layer makes of it: x * body(x), as in squeeze-and-excitation (Hu et al. 2018).

    Parameters
    ----------
    body : Layer
        Returns a factor for each number of x or, of shape (C, 1, 1), one for each channel of an image.

    Notes
    -----
    ``grad_x = grad_y * body(x) + body'(grad_y * x)``, the latter product summed over the pixels that share a factor.

    Examples
    --------
    >>> from cyconv.layers import Conv2d, Gate, GlobalAvgPool2d, Sequential, Sigmoid
    >>> gate = Gate(Sequential(GlobalAvgPool2d(), Conv2d(8, 8, 1), Sigmoid()))
    >>> gate.output_shape((8, 32, 32))
    (8, 32, 32)
    """

    def __init__(self, body: Layer) -> None:
        super().__init__({"body": body})

    def output_shape(self, input_shape: Shape) -> Shape:
        shape, factors = tuple(input_shape), self["body"].output_shape(input_shape)
        if factors != shape and factors != (shape[0],) + (1,) * (len(shape) - 1):
            raise ValueError(f"Gate: `body` must return {shape} or one number for each channel, got {factors}")
        return shape

    def trace(self, input_shape: Shape, prefix: str = "") -> Iterator[Step]:
        yield from self["body"].trace(input_shape, f"{prefix}body.")
        yield from super().trace(input_shape, prefix)  # the product itself

    def forward(self, x: NDArray) -> NDArray:
        self.output_shape(x.shape[1:])
        factors = self["body"].forward(x)
        self.remember(x, factors)
        return _product(x, factors)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        x, factors = self.recall()
        gradient = self.check_gradient(grad_output, x.shape)
        for_body = self["body"].backward(_sum_to(_product(gradient, x), factors.shape), needs_grad_input)
        return None if for_body is None else add(_product(gradient, factors), for_body)


class SideHead(Container):
    """Hand the input on and, while training, run a layer beside the way: an auxiliary classifier (Szegedy et al. 2015).

    A loss reads what the layer returned off `output` and leaves the gradient in `grad_output`, for `backward` to add;
    `cyconv.models.googlenet.AuxiliaryLoss` does.

    Parameters
    ----------
    body : Layer
        What runs beside the way.

    Attributes
    ----------
    grad_output : ndarray or None
        Gradient of the loss with respect to `output`; None for zero.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import Linear, SideHead
    >>> tap = SideHead(Linear(4, 2))
    >>> tap(np.zeros((3, 4), np.float32)).shape, tap.output.shape
    ((3, 4), (3, 2))
    """

    recomputable = False  # the loss reads `output`

    def __init__(self, body: Layer) -> None:
        super().__init__({"body": body})
        self.grad_output: NDArray | None = None

    @property
    def output(self) -> NDArray | None:
        """What the layer returned in the last `forward` that `backward` has not used up yet."""
        return None if self._remembered is None else self._remembered[1]

    def output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def trace(self, input_shape: Shape, prefix: str = "") -> Iterator[Step]:
        yield from self["body"].trace(input_shape, f"{prefix}body.")
        yield from super().trace(input_shape, prefix)  # the way itself

    def forward(self, x: NDArray) -> NDArray:
        if self.training:
            self.remember(x.shape, self["body"].forward(x))
            self.grad_output = None
        return x

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        shape, _ = self.recall()
        gradient = self.check_gradient(grad_output, shape)
        beside, self.grad_output = self.grad_output, None
        if beside is None:
            self["body"].forget()
            return gradient
        from_body = self["body"].backward(beside, needs_grad_input)
        return gradient if from_body is None else add(gradient, from_body)


class SameSize(Container):
    """Cut rows and columns off the bottom and right of a layer's output until it has its input's height and width.

    So a network that halves images, rounding up, and enlarges them again gives a result for each pixel (Long et al.
    2015).

    Parameters
    ----------
    body : Layer
        What returns an image that is at least as large.

    Examples
    --------
    >>> from cyconv.layers import ConvTranspose2d, MaxPool2d, SameSize, Sequential
    >>> halved = MaxPool2d(2, ceil_mode=True)
    >>> SameSize(Sequential(halved, ConvTranspose2d(3, 3, 2, stride=2))).output_shape((3, 7, 5))
    (3, 7, 5)
    """

    def __init__(self, body: Layer) -> None:
        super().__init__({"body": body})

    def output_shape(self, input_shape: Shape) -> Shape:
        return self._cropped(input_shape, self["body"].output_shape(input_shape))

    def _cropped(self, input_shape: Shape, whole: Shape) -> Shape:
        _, H, W = image_shape("SameSize", input_shape)
        if len(whole) != 3 or whole[1] < H or whole[2] < W:
            raise ValueError(f"SameSize: `body` must return images of at least {H}x{W}, got shape {tuple(whole)}")
        return whole[0], H, W

    def trace(self, input_shape: Shape, prefix: str = "") -> Iterator[Step]:
        yield from self["body"].trace(input_shape, f"{prefix}body.")
        yield from super().trace(input_shape, prefix)  # the cut itself

    def forward(self, x: NDArray) -> NDArray:
        whole = self["body"].forward(x)
        _, H, W = self._cropped(x.shape[1:], whole.shape[1:])
        self.remember(whole.shape, (H, W))
        return whole if whole.shape[2:] == (H, W) else _concatenated([whole[:, :, :H, :W]])

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        shape, (H, W) = self.recall()
        gradient = self.check_gradient(grad_output, (*shape[:2], H, W))
        if shape[2:] != (H, W):
            whole = _empty(shape, gradient.dtype)
            whole[:, :, H:], whole[:, :, :H, W:] = 0, 0
            copy(nhwc(gradient), nhwc(whole[:, :, :H, :W]))
            gradient = whole
        return self["body"].backward(gradient, needs_grad_input)


def _checked(x: NDArray) -> NDArray:
    """Return an input that has channels to be shared."""
    array = as_float_array("Split", "x", x)
    if array.ndim < 2:
        raise ValueError(f"Split: `x` must have channels, (N, C, ...), got shape {array.shape}")
    return array


class Split(Branches):
    """Give each layer its own share of the channels and concatenate what they return (ShuffleNet v2, Ma et al. 2018).

    Parameters
    ----------
    layers : iterable of Layer, or mapping of names to Layer
        Who gets a share, in the order of the channels.
    sizes : sequence of int, optional
        Channels of each share; by default all are equal.

    Examples
    --------
    >>> from cyconv.layers import Conv2d, Identity, Split
    >>> Split([Identity(), Conv2d(8, 12, 3, padding=1)]).output_shape((16, 28, 28))
    (20, 28, 28)
    """

    def __init__(self, layers: Layers, sizes: Sequence[int] | None = None) -> None:
        super().__init__(layers)
        given = None if sizes is None else as_list("Split", "sizes", sizes, "integers")
        self.sizes = None if given is None else tuple(as_int("Split", "sizes", size) for size in given)
        if self.sizes is not None and len(self.sizes) != len(self):
            raise ValueError(
                f"Split: `sizes` must give one for each of the {len(self)} layers, got {brief(self.sizes)}"
            )

    def _shares(self, channels: int) -> tuple[int, ...]:
        """Return how many channels each layer gets."""
        sizes = (channels // len(self),) * len(self) if self.sizes is None else self.sizes
        if sum(sizes) != channels:
            needed = f"a multiple of {len(self)}" if self.sizes is None else f"{sum(sizes)}"
            raise ValueError(f"Split: needs {needed} channels, got {channels}")
        return sizes

    def output_shape(self, input_shape: Shape) -> Shape:
        return self._merged_shape([layer.output_shape(shape) for layer, shape in self.inputs(input_shape)])

    def inputs(self, input_shape: Shape) -> list[tuple[Layer, Shape]]:
        if not isinstance(input_shape, (tuple, list)) or not input_shape:
            raise ValueError(f"Split: `input_shape` must be (C, H, W) or (features,), got {brief(input_shape)}")
        channels, *size = input_shape
        return [(layer, (share, *size)) for layer, share in zip(self, self._shares(channels), strict=True)]

    def trace(self, input_shape: Shape, prefix: str = "") -> Iterator[Step]:
        for name, (layer, shape) in zip(self.children(), self.inputs(input_shape), strict=True):
            yield from layer.trace(shape, f"{prefix}{name}.")
        yield from Layer.trace(self, input_shape, prefix)

    def forward(self, x: NDArray) -> NDArray:
        x = _checked(x)
        shares = self._shares(x.shape[1])
        outputs = [layer.forward(part) for layer, part in zip(self, _parts(x, shares), strict=True)]
        self._merged_shape([output.shape[1:] for output in outputs])
        self.remember([output.shape for output in outputs])
        return _concatenated(outputs)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (shapes,) = self.recall()
        shape = (shapes[0][0], *self._merged_shape([shape[1:] for shape in shapes]))
        parts = _parts(self.check_gradient(grad_output, shape), [shape[1] for shape in shapes])
        gradients: list[Any] = [layer.backward(part, needs_grad_input) for layer, part in zip(self, parts, strict=True)]
        return _concatenated(gradients) if needs_grad_input else None

    def _options(self) -> str:
        return "" if self.sizes is None else f"  sizes={self.sizes!r}\n"


class Heads(Branches):
    """Give a network several outputs: layers side by side on the same input, in one array, one behind the other.

    A loss that knows how many channels are whose trains them together: `cyconv.boxes.BoxLoss` for one, the scores of
    classes and their boxes.

    Parameters
    ----------
    layers : mapping of names to Layer
        The heads.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import Heads, Linear
    >>> heads = Heads({"scores": Linear(64, 10), "boxes": Linear(64, 40)})
    >>> output = heads(np.zeros((3, 64), np.float32))
    >>> output.shape, heads.split(output)["boxes"].shape
    ((3, 50), (3, 40))
    """

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        if not isinstance(layers, Mapping):
            raise TypeError(f"Heads: `layers` must be a mapping of names to layers, got {brief(layers)}")
        super().__init__(layers)
        self._sizes: list[int] | None = None

    def _merged_shape(self, shapes: list[Shape]) -> Shape:
        self._sizes = [shape[0] for shape in shapes]
        return super()._merged_shape(shapes)

    def split(self, output: NDArray) -> dict[str, NDArray]:
        """Return each head's own part of an output of this layer, or of a network that ends in it, as views.

        Raises
        ------
        ValueError
            If the output is not of this layer's number of channels, or nothing has told it yet how many these are.
        """
        array = as_array("Heads.split", "output", output)
        if self._sizes is None:
            raise ValueError("Heads.split: how many outputs each head has is known after `forward` or `output_shape`")
        if array.ndim < 2 or array.shape[1] != sum(self._sizes):
            raise ValueError(f"Heads.split: `output` must have {sum(self._sizes)} channels, got shape {array.shape}")
        return dict(zip(self.children(), _parts(array, self._sizes), strict=True))

    def _options(self) -> str:
        return ""


class ChannelShuffle(Activation):
    """Deal the channels of several groups out in turn, so that the next groups see all of them (Zhang et al. 2018).

    Parameters
    ----------
    groups : int
        Groups that the channels of the input are in.

    Notes
    -----
    Channel ``i`` of group ``j`` becomes channel ``i * groups + j``: a transposition, whose gradient is the other one.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import ChannelShuffle
    >>> ChannelShuffle(2)(np.arange(6.0).reshape(1, 6, 1, 1)).ravel()
    array([0., 3., 1., 4., 2., 5.])
    """

    def __init__(self, groups: int) -> None:
        self.groups = as_int("ChannelShuffle", "groups", groups)

    def output_shape(self, input_shape: Shape) -> Shape:
        C, *_ = shape = image_shape("ChannelShuffle", input_shape)
        if C % self.groups:
            raise ValueError(f"ChannelShuffle: needs a multiple of {self.groups} channels, got {C}")
        return shape

    def forward(self, x: NDArray) -> NDArray:
        self.output_shape(x.shape[1:])
        self.remember(x.shape)
        return _shuffled(x, self.groups)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (shape,) = self.recall()
        return _shuffled(self.check_gradient(grad_output, shape), shape[1] // self.groups)


class PadChannels(Layer):
    """Set channels of zeros around those of the input: a shortcut without parameters (He et al. 2016, option A).

    Parameters
    ----------
    before, after : int, default 0
        Channels of zeros before the first and after the last.

    Examples
    --------
    >>> from cyconv.layers import PadChannels
    >>> PadChannels(8, 8).output_shape((16, 32, 32))
    (32, 32, 32)
    """

    def __init__(self, before: int = 0, after: int = 0) -> None:
        self.before = as_int("PadChannels", "before", before, 0)
        self.after = as_int("PadChannels", "after", after, 0)

    def output_shape(self, input_shape: Shape) -> Shape:
        C, H, W = image_shape("PadChannels", input_shape)
        return self.before + C + self.after, H, W

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x.shape)
        return self._padded(x)

    def record(self, x: NDArray, addend: NDArray | None, relu: bool, calls: Recording) -> NDArray:
        return completed("PadChannels", self._padded(x, calls), addend, relu, calls)

    def _padded(self, x: NDArray, calls: Calls = AT_ONCE) -> NDArray:
        N, C, H, W = x.shape
        padded = empty_image(N, self.before + C + self.after, H, W, x.dtype, calls)
        calls(np.copyto, padded[:, : self.before], 0)
        calls(np.copyto, padded[:, self.before + C :], 0)
        copy(nhwc(x), nhwc(padded[:, self.before : self.before + C]), calls)
        return padded

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (shape,) = self.recall()
        self.check_gradient(grad_output, (shape[0], *self.output_shape(shape[1:])))
        return _concatenated([grad_output[:, self.before : self.before + shape[1]]])


def _empty(shape: Shape, dtype: DTypeLike) -> NDArray:
    N, C, H, W = shape
    return empty_image(N, C, H, W, dtype)


def _product(x: NDArray, y: NDArray) -> NDArray:
    """Return x * y, in fresh memory; a factor of 1x1 pixels counts for all."""
    if x.ndim != 4:
        return np.multiply(x, y, out=memory.empty(x.shape, x.dtype))
    product = _empty(x.shape, x.dtype)
    np.multiply(nhwc(x), nhwc(y), out=nhwc(product))
    return product


def _sum_to(x: NDArray, shape: Shape) -> NDArray:
    """Return the sum over the pixels where `shape` has but one: the gradient of what `_product` spread out."""
    return x if x.shape == shape else x.sum(axis=(2, 3), keepdims=True)


def _parts(x: NDArray, sizes: Sequence[int]) -> list[NDArray]:
    """Return the shares of the channels, of these sizes, as views."""
    return np.split(x, [int(channel) for channel in np.cumsum(sizes)[:-1]], axis=1)


def _concatenated(arrays: list[NDArray]) -> NDArray:
    """Return arrays side by side along the channels, in fresh memory."""
    if arrays[0].ndim != 4:
        return np.concatenate(arrays, axis=1)
    sizes = [array.shape[1] for array in arrays]
    N, _, H, W = arrays[0].shape
    whole = empty_image(N, sum(sizes), H, W, arrays[0].dtype)
    for array, part in zip(arrays, _parts(whole, sizes), strict=True):
        copy(nhwc(array), nhwc(part))
    return whole


def _shuffled(x: NDArray, groups: int) -> NDArray:
    """Return the channels in the order in which they are dealt out of so many groups."""
    N, C, H, W = x.shape
    shuffled = _empty(x.shape, x.dtype)
    dealt = nhwc(shuffled).reshape(N * H * W, 1, C // groups, groups)
    copy(channels_last(x).reshape(N * H * W, 1, groups, C // groups).swapaxes(2, 3), dealt)
    return shuffled
