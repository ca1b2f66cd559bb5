"""Networks for the command line: by name and options, and from files that name them."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from cyconv._validation import brief
from cyconv.cli.images import SIZES
from cyconv.data.datasets import TEN_DIGITS
from cyconv.data.pictures import WHITE, Color, Preparation
from cyconv.layers.base import Shape
from cyconv.models.registry import build, facts, networks
from cyconv.network import Network
from cyconv.parameter import limited_to
from cyconv.serialization import open_arrays, save_arrays

MAX_INPUT = 2**26  # elements of an image; as many float32 take 256 MiB
SCALE = "1/255"  # of bytes: the one there is, said so that other files are refused
FLAGS = {"num_classes": "--data", "in_channels": "--channels", "input_size": "--input-size", "seed": "--seed"}


class Recipe(NamedTuple):
    """All that a network of `cyconv.models` is built from.

    Attributes
    ----------
    model : str
        Its name there.
    input_shape : tuple of int
        Shape of an image, (C, H, W).
    class_names : tuple of str
        What its outputs stand for.
    options : mapping of str to any
        More keywords for its function.
    data : str
        The data set that it is trained on.
    fit, background, invert
        How its pictures are prepared, see `Preparation`. The defaults are also those of files that do not say it.
    """

    model: str
    input_shape: Shape
    class_names: tuple[str, ...] = TEN_DIGITS
    options: Mapping[str, Any] = MappingProxyType({})
    data: str = "digits"
    fit: str = "crop"
    background: Color = WHITE
    invert: bool = False

    @property
    def preparation(self) -> Preparation:
        """How a picture comes to the shape of the input."""
        channels, height, width = self.input_shape
        return Preparation((height, width), channels, self.fit, self.background, self.invert)

    def network(self, seed: int | None = None) -> Network:
        """Return the network, its weights not drawn."""
        classes = len(self.class_names)
        try:
            network = build(self.model, self.input_shape, classes, self.options, seed=seed, op=f"--model {self.model}")
        except TypeError as error:  # of options that it lacks, or of another kind
            raise ValueError(f"--option: {error}") from error
        shape = network.output_shape(self.input_shape)
        if shape != (classes,):
            raise ValueError(f"{self.model} must give scores of {classes} classes, got outputs of shape {shape}")
        return network

    def metadata(self) -> dict[str, str]:
        """Return it as text."""
        channels, height, width = self.input_shape
        return {
            "model": self.model,
            "input_size": str(height) if height == width else f"{height}x{width}",
            "channels": str(channels),
            "classes": json.dumps(self.class_names),
            "options": json.dumps(dict(self.options)),
            "data": self.data,
            "preparation": json.dumps(
                {"fit": self.fit, "background": self.background, "invert": self.invert, "scale": SCALE}
            ),
        }


def input_shape(model: str, data: str, channels: int | None = None, size: tuple[int, int] | None = None) -> Shape:
    """Return the shape of a network's input: its own, but networks for small images take the size of the data."""
    own_channels, *own_size = facts(model).input_shape
    data_size = SIZES[data]
    if size is None and data_size is not None and max(own_size) <= max(filter(None, SIZES.values())):
        size = (data_size, data_size)
    return (own_channels if channels is None else channels, *(size or own_size))


def parse_options(texts: Iterable[str]) -> dict[str, Any]:
    """Return the keywords written as NAME=VALUE; a value is a number, True, False, None, a tuple, or else text."""
    options = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name.isidentifier() or not equals:
            raise ValueError(f"--option must be NAME=VALUE, such as width=8, got {brief(text)}")
        if name in FLAGS:
            raise ValueError(f"--option {name}: say it by {FLAGS[name]}")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            options[name] = value
    return options


def parse_size(text: str) -> tuple[int, int]:
    """Return the height and width written as "32" or "32x48"."""
    height, _, width = text.partition("x")
    sizes = int(height), int(width or height)
    if min(sizes) < 1:
        raise ValueError(text)
    return sizes


def save(path: Path, network: Network, recipe: Recipe) -> None:
    """Write a network's weights, and what it was built from."""
    save_arrays(path, network.state_dict(), recipe.metadata())


def load(path: Path) -> tuple[Network, Recipe]:
    """Return the network that the file's metadata describes, with the file's weights."""
    with open_arrays(path) as file:
        recipe = _recipe(path, file.metadata)
        sizes = [math.prod(shape) for shape in file.shapes.values()]
    try:
        with limited_to(len(sizes), sum(sizes)):  # whatever the metadata asks for, the file has so many
            network = recipe.network()
        network.load(path)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error
    return network, recipe


def _recipe(path: Path, metadata: Mapping[str, str]) -> Recipe:
    """Return what a file says; those of older versions say less, as they held LeNet-5 and SimpleConvNet alone."""
    model = metadata.get("model")
    if model not in networks():
        raise ValueError(f"{path} does not name its model, as files of `cyconv train` do")
    try:
        channels = int(metadata.get("channels", "1"))
        shape = (channels, *parse_size(metadata.get("input_size", "28")))
        if math.prod(shape) > MAX_INPUT:
            raise ValueError(f"images of shape {str(shape)[:200]}")
        names = _as_names(json.loads(metadata["classes"])) if "classes" in metadata else TEN_DIGITS
        options = json.loads(metadata.get("options", "{}"))
        if not isinstance(options, dict) or FLAGS.keys() & options.keys():
            raise ValueError(f"options {brief(options)}")
        data = metadata.get("data", "digits")
        if data not in SIZES:
            raise ValueError(f"data {brief(data)}")
        prepared = _as_preparation(metadata.get("preparation"), shape)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} has damaged metadata: {error}") from error
    return Recipe(model, shape, names, options, data, *prepared)


def _as_preparation(text: str | None, shape: Shape) -> tuple[str, Color, bool]:
    """Return how pictures are fitted, what lies behind them, and whether they are inverted."""
    values = {"fit": "crop", "background": WHITE, "invert": False, "scale": SCALE} if text is None else json.loads(text)
    if not isinstance(values, dict) or values.keys() != {"fit", "background", "invert", "scale"}:
        raise ValueError(f"preparation {text[:80]!r}" if text else "preparation")
    if values["scale"] != SCALE:
        raise ValueError(f"preparation: `scale` must be {SCALE!r}, got {str(values['scale'])[:20]!r}")
    wanted = [values[name] for name in ("fit", "background", "invert")]
    checked = Preparation.checked("preparation", shape[1:], 3, *wanted)
    return checked.fit, checked.background, checked.invert


def _as_names(names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"classes {brief(names)}")
    return tuple(names)
