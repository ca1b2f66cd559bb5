"""From an architecture to a network: with weights of its own, or with those that all architectures share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cyconv._validation import as_generator, as_int, brief
from cyconv.initializers import he_normal
from cyconv.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Identity,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)
from cyconv.layers.base import image_shape
from cyconv.nas.architecture import CELL_INPUTS, Architecture, CellNode, MacroArchitecture, MicroArchitecture
from cyconv.nas.graph import Edge, Graph, Node
from cyconv.network import Network

STAGES = 3  # of the image's size: whole, half, quarter; each has twice the channels of the one before

NOISE = 0.3  # of He's initial weights in `keeping`; with 1, sharing hardly works either

Part = Callable[[str, Callable[[], Layer]], Layer]  # (name, how to make it) -> the layer of that name


def build(
    architecture: Architecture,
    input_shape: Sequence[int],
    num_classes: int,
    *,
    channels: int = 16,
    cells: int | None = None,
    seed: np.random.Generator | int | None = None,
) -> Network:
    """Build the network of an architecture, with weights of its own.

    Parameters
    ----------
    architecture : MicroArchitecture or MacroArchitecture
        As `search` finds it.
    input_shape : (C, H, W)
        Of the images.
    num_classes : int
        Outputs, one score a class.
    channels : int, default 16
        Width of the first stage. There are three, each with half the height and width and twice the channels of the
        one before.
    cells : int, optional
        Normal cells in each stage of a micro architecture, default 1; a reduction cell stands between two stages.
    seed : numpy.random.Generator, int or None
        Source of the initial weights: see `keeping`.

    Returns
    -------
    Network
        To be trained as any other.

    Raises
    ------
    TypeError, ValueError
        If `architecture` is none, a number is out of range, or `cells` comes with a macro architecture.

    Notes
    -----
    Convolutions come as ReLU, convolution, batch normalisation; those of a cell are separable and applied twice, as in
    the paper (appendix B). What no node of a cell reads is concatenated and brought to the cell's width by a 1x1
    convolution. A reduction cell applies what reads its inputs with stride 2.

    Examples
    --------
    >>> from cyconv import nas
    >>> network = nas.build(nas.MicroSpace(nodes=2).sample(0), (1, 28, 28), 10, channels=8, seed=0)
    >>> network.output_shape((1, 28, 28))
    (10,)
    """
    if not isinstance(architecture, MicroArchitecture | MacroArchitecture):
        raise TypeError(f"build: `architecture` must be a micro or macro architecture, got {brief(architecture)}")
    if cells is not None and isinstance(architecture, MacroArchitecture):
        raise ValueError(f"build: `cells` must be None for a macro architecture, got {brief(cells)}")
    if not isinstance(input_shape, (tuple, list)):
        raise TypeError(f"build: `input_shape` must be (C, H, W), got {brief(input_shape)}")
    if len(input_shape) != 3:
        raise ValueError(f"build: `input_shape` must be (C, H, W), got {brief(input_shape)}")
    shape = image_shape("build", tuple(as_int("build", "input_shape", extent) for extent in input_shape))
    layers = _layers(
        architecture,
        shape[0],
        as_int("build", "num_classes", num_classes),
        as_int("build", "channels", channels),
        as_int("build", "cells", 1 if cells is None else cells),
        lambda name, make: make(),
    )
    return Network(layers, input_shape=shape, seed=seed)


class SharedWeights:
    """The layers of all architectures, made when a child first needs them: ENAS's shared parameters.

    A layer belongs to a place and an operation, whatever value it reads, and is the same layer in every child that has
    it there. So its parameters bear the same names in each, and the optimizer's state goes along.

    Parameters
    ----------
    in_channels, num_classes, channels, cells : int
        As for `build`.
    rng : numpy.random.Generator, int or None
        Source of the initial weights.

    Examples
    --------
    >>> from cyconv import nas
    >>> shared, space = nas.SharedWeights(1, 10, channels=4, cells=1, rng=0), nas.MicroSpace(nodes=1)
    >>> first, other = (shared.child(space.sample(seed)) for seed in (0, 1))
    >>> sorted({*first.parameters()} & {*other.parameters()})[-3:]
    ['stem.0.weight', 'stem.1.bias', 'stem.1.weight']
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        channels: int = 16,
        cells: int = 1,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self._sizes = in_channels, num_classes, channels, cells
        self._rng = as_generator("SharedWeights", rng)
        self._layers: dict[str, Layer] = {}

    def child(self, architecture: Architecture) -> Sequential:
        """Return an architecture's network, made of shared layers: only one child at a time may run."""
        return Sequential(_layers(architecture, *self._sizes, self._part))

    def _part(self, name: str, make: Callable[[], Layer]) -> Layer:
        layer = self._layers.get(name)
        if layer is None:
            layer = self._layers[name] = make().initialize(self._rng)
        return layer


def _layers(
    architecture: Architecture, in_channels: int, num_classes: int, channels: int, cells: int, part: Part
) -> dict[str, Layer]:
    """Return the layers of an architecture's network, each as `part` has it."""
    plan = _Plan(part, channels)
    if isinstance(architecture, MicroArchitecture):
        _stack(plan, architecture, cells)
    else:
        _chain(plan, architecture)
    width, _ = plan.shapes[-1]
    return {
        "stem": part("stem", partial(_stem, in_channels, channels)),
        "graph": Graph(plan.nodes),
        "relu": part("relu", ReLU),
        "pool": part("pool", GlobalAvgPool2d),
        "flatten": part("flatten", Flatten),
        "classifier": part("classifier", partial(Linear, width, num_classes)),
    }


class _Plan:
    """A graph as it grows: its nodes, and for each value its channels and how often the image was halved."""

    def __init__(self, part: Part, channels: int) -> None:
        self._part = part
        self.nodes: list[Node] = []
        self.shapes = [(channels, 0)]

    def add(
        self,
        shape: tuple[int, int],
        edges: Sequence[tuple[str, int, Callable[[], Layer]]],
        behind: tuple[str, Callable[[], Layer]] | None = None,
    ) -> int:
        """Add a value and return its number."""
        made = tuple(Edge(name, source, self._part(name, make)) for name, source, make in edges)
        self.nodes.append(Node(made, None if behind is None else (behind[0], self._part(*behind))))
        self.shapes.append(shape)
        return len(self.nodes)


# Micro: cells


def _stack(plan: _Plan, architecture: MicroArchitecture, cells: int) -> None:
    """Add normal cells, and a reduction cell between two stages; each reads the outputs of the two before it."""
    stage = ["normal"] * cells
    kinds = [*[*stage, "reduction"] * (STAGES - 1), *stage]
    before = last = 0
    for number, kind in enumerate(kinds):
        nodes = getattr(architecture, kind)
        before, last = last, _cell(plan, f"cell{number}", nodes, before, last, halves=kind == "reduction")


def _cell(plan: _Plan, name: str, nodes: tuple[CellNode, ...], before: int, last: int, halves: bool) -> int:
    """Add a cell and return the number of its output."""
    width, level = plan.shapes[last]
    if plan.shapes[before] != (width, level):  # the cell between the two is a reduction cell
        stride = 2 ** (level - plan.shapes[before][1])
        make = partial(_pointwise, plan.shapes[before][0], width, stride)
        before = plan.add((width, level), [(f"{name}_input", before, make)])
    inside = width, level + halves
    output = width * 2**halves, level + halves

    def stride_of(source: int) -> int:
        return 2 if halves and source < CELL_INPUTS else 1

    values = [before, last]
    for number, node in enumerate(nodes, CELL_INPUTS):
        edges = [
            (
                f"{name}_node{number}{side}_{operation}{'_halving' if stride_of(source) == 2 else ''}",
                values[source],
                partial(_operation, operation, width, stride_of(source)),
            )
            for side, source, operation in zip("ab", node.inputs, node.operations, strict=True)
        ]
        values.append(plan.add(inside, edges))
    read = {source for node in nodes for source in node.inputs}
    loose = [  # a 1x1 convolution of the concatenated values is the sum of one for each
        (f"{name}_end_{source}", value, partial(_projection, width, output[0], stride_of(source)))
        for source, value in enumerate(values)
        if source not in read
    ]
    return plan.add(output, loose, (f"{name}_norm", partial(BatchNorm2d, output[0])))


# Macro: layers


def _chain(plan: _Plan, architecture: MacroArchitecture) -> None:
    """Add the layers; one that has skips, or a new size, reads a 1x1 convolution of all that comes in."""
    outputs = [0]
    for index, (operation, skips) in enumerate(architecture.layers):
        level = index * STAGES // len(architecture.layers)
        shape = plan.shapes[0][0] * 2**level, level
        name, source = f"layer{index + 1}", outputs[-1]
        if skips or plan.shapes[source] != shape:
            edges = [
                (f"{name}_from_{j}", outputs[j], partial(_brought, *plan.shapes[outputs[j]], *shape))
                for j in (*skips, index)
            ]
            source = plan.add(shape, edges, (f"{name}_norm", partial(_norm_relu, shape[0])))
        made = f"{name}_{operation}", source, partial(_operation, operation, shape[0], 1, times=1)
        outputs.append(plan.add(shape, [made]))


# What values are made of


def keeping(shape: tuple[int, ...], rng: np.random.Generator, dtype: DTypeLike = np.float32) -> NDArray:
    """Draw filters that hand each channel on, the first again behind the last, with some noise.

    So a channel means much the same to all children from the start, whichever way it comes, and what one child learns
    helps the others. With He's weights alone each child sees another random mixture: after 15 epochs on the bundled
    digits, a random child for each batch, children have 21% of the training images right, with these 85%.

    Parameters
    ----------
    shape : (OC, IC, KH, KW)
        Of the weight.
    rng : numpy.random.Generator
        Source of the noise.
    dtype : dtype, default float32
        Of the weight.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.nas.child import keeping
    >>> keeping((3, 2, 1, 1), np.random.default_rng(0)).round().astype(int)[:, :, 0, 0].tolist()
    [[1, 0], [0, 1], [1, 0]]
    """
    weight = NOISE * he_normal(shape, rng, dtype)
    OC, IC, KH, KW = shape
    outputs = np.arange(OC)
    weight[outputs, outputs % IC, KH // 2, KW // 2] += 1
    return weight


def _operation(name: str, channels: int, stride: int, times: int = 2) -> Layer:
    """Return an operation; separable convolutions are applied so many times."""
    kind, _, size = name.rpartition("_")
    if kind == "avg_pool":
        return AvgPool2d(3, stride=stride, padding=1, count_include_pad=False)
    if kind == "max_pool":
        return MaxPool2d(3, stride=stride, padding=1)
    if name == "identity":
        return Identity() if stride == 1 else _pointwise(channels, channels, stride)
    kernel = int(size[0])
    layers: list[Layer] = []
    for step in (stride, *[1] * (times - 1)):
        options: Any = {"stride": step, "padding": kernel // 2, "bias": False, "initializer": keeping}
        if kind == "conv":
            return Sequential(ReLU(), Conv2d(channels, channels, kernel, **options), BatchNorm2d(channels))
        depthwise = Conv2d(channels, channels, kernel, groups=channels, **options)
        layers += [ReLU(), depthwise, _conv1x1(channels, channels), BatchNorm2d(channels)]
    return Sequential(layers)


def _stem(in_channels: int, channels: int) -> Layer:
    conv = Conv2d(in_channels, channels, 3, padding=1, bias=False, initializer="he_normal")
    return Sequential(conv, BatchNorm2d(channels))


def _conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> Conv2d:
    return Conv2d(in_channels, out_channels, 1, stride=stride, bias=False, initializer=keeping)


def _projection(in_channels: int, out_channels: int, stride: int) -> Layer:
    """Return what brings a value to another width and size; a normalisation follows the sum of several."""
    return Sequential(ReLU(), _conv1x1(in_channels, out_channels, stride))


def _pointwise(in_channels: int, out_channels: int, stride: int) -> Layer:
    return Sequential(ReLU(), _conv1x1(in_channels, out_channels, stride), BatchNorm2d(out_channels))


def _brought(in_channels: int, in_level: int, out_channels: int, out_level: int) -> Layer:
    """Return what brings a layer's output to the width and size of another's."""
    conv = _conv1x1(in_channels, out_channels)
    shrink = 2 ** (out_level - in_level)
    return conv if shrink == 1 else Sequential(AvgPool2d(shrink, ceil_mode=True), conv)


def _norm_relu(channels: int) -> Layer:
    return Sequential(BatchNorm2d(channels), ReLU())
