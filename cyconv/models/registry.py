"""The networks of `cyconv.models` by name: how to build each for given images and classes, and what it is."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from cyconv import models
from cyconv._validation import as_choice, as_int, brief
from cyconv.layers.base import Shape
from cyconv.network import Network

Builder = Callable[..., Network]

# "K. Q. Weinberger", "L. van der Maaten", "H.-T. Zheng"
AUTHOR = r"(?:[A-Z]\.[ -]?)+(?:[a-z]+ )*([A-Z][\w'-]+), "


def networks() -> dict[str, Builder]:
    """Return the functions of `cyconv.models` that build a network, by name.

    Examples
    --------
    >>> from cyconv.models.registry import networks
    >>> networks()["resnet20"]().input_shape
    (3, 32, 32)
    """
    functions = {name: getattr(models, name) for name in models.__all__}
    return {name: each for name, each in functions.items() if each.__annotations__.get("return") == "Network"}


def build(
    network: str | Builder | Network,
    input_shape: Shape,
    num_classes: int,
    options: Mapping[str, Any] | None = None,
    *,
    seed: np.random.Generator | int | None = None,
    op: str = "build",
) -> Network:
    """Build a network for images of a shape and a number of classes.

    Parameters
    ----------
    network : str, callable or Network
        A name in `networks`, a network to copy, or a function that builds a `Network`. That is called, as the functions
        of `cyconv.models` are, with those of the keywords ``num_classes``, ``in_channels``, ``input_size`` (one number
        for squares, else a pair), ``input_shape`` and ``seed`` that it takes.
    input_shape : tuple of int
        Shape of one input, (C, H, W) or (features,).
    num_classes : int
        Classes of the images, or of their pixels.
    options : mapping of str to any, optional
        More keywords for the function.
    seed : numpy.random.Generator, int or None
        Source of the initial weights.
    op : str, default "build"
        Whom errors name.

    Returns
    -------
    Network
        Its weights are drawn when they are first used.

    Raises
    ------
    ValueError
        If there is no such network, or it does not take such input.
    TypeError
        If the function does not take the options, or returns no `Network`.

    Examples
    --------
    >>> from cyconv.models.registry import build
    >>> build("resnet20", (1, 28, 28), 7, {"width": 8}).output_shape((1, 28, 28))
    (7,)
    """
    classes = as_int(op, "num_classes", num_classes)
    shape = tuple(as_int(op, "input_shape", extent) for extent in input_shape)
    if isinstance(network, Network):
        called, made = "the network", copy.deepcopy(network)
    elif isinstance(network, str):
        known = networks()
        called, function = network, known[as_choice(op, "network", network, tuple(known))]
        if len(shape) != 3:
            raise ValueError(f"{op}: {called} needs images of shape (C, H, W), got inputs of shape {shape}")
        made = _called(function, shape, classes, seed, options)
    elif callable(network):
        called = getattr(network, "__name__", repr(network))
        made = _called(network, shape, classes, seed, options)
    else:
        raise TypeError(f"{op}: `network` must be a name or a function that builds a Network, got {brief(network)}")
    if not isinstance(made, Network):
        raise TypeError(f"{op}: {called} must return a Network, got {type(made).__name__}")
    if made.input_shape not in (None, shape):
        raise ValueError(f"{op}: {called} takes inputs of shape {made.input_shape}, but these have {shape}")
    made.output_shape(shape)  # raises where the layers do not take such input
    return made


def _called(function: Builder, shape: Shape, num_classes: int, seed: Any, options: Mapping[str, Any] | None) -> Any:
    """Call a function with the options and with those of the usual keywords that it takes."""
    keywords: dict[str, Any] = {"num_classes": num_classes, "input_shape": shape, "seed": seed}
    if len(shape) == 3:
        C, H, W = shape
        keywords |= {"in_channels": C, "input_size": H if H == W else (H, W)}
    try:
        parameters = dict(inspect.signature(function).parameters)
    except ValueError:  # some built-in functions do not say what they take
        parameters = {}
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):  # handed on, as in `cyconv.models`
        del keywords["input_shape"]
    else:
        keywords = {name: value for name, value in keywords.items() if name in parameters}
    return function(**{**keywords, **(options or {})})


class Facts(NamedTuple):
    """What a network is as its function builds it without arguments.

    Attributes
    ----------
    parameters : int
        Numbers that are trained.
    input_shape, output_shape : tuple of int
        For one image.
    num_classes : int
        Classes of the images, or of their pixels.
    papers : tuple of str
        Where it is from.
    network : Network
        The network itself, its weights not drawn.

    Examples
    --------
    >>> from cyconv.models.registry import facts
    >>> facts("resnet20").parameters, facts("unet").classifies
    (269722, False)
    """

    parameters: int
    input_shape: Shape
    output_shape: Shape
    num_classes: int
    papers: tuple[str, ...]
    network: Network

    @property
    def classifies(self) -> bool:
        """Whether it gives the scores of an image's classes and nothing else, such as scores of pixels."""
        return self.output_shape == (self.num_classes,)

    @property
    def short_papers(self) -> str:
        """Authors and year of the papers."""
        return "; ".join(map(short, self.papers))


def facts(name: str) -> Facts:
    """Return what is known of a network in `networks`."""
    function = networks()[as_choice("facts", "name", name, tuple(networks()))]
    network = function()
    shape: Any = network.input_shape
    count = sum(parameter.size for parameter in network.parameters().values())
    classes = inspect.signature(function).parameters["num_classes"].default
    return Facts(count, shape, network.output_shape(shape), classes, _papers(function), network)


def _papers(function: Builder) -> tuple[str, ...]:
    """Return the papers under "References" in a function's docstring, else those in its module's, after the title."""
    _, _, own = (inspect.getdoc(function) or "").partition("References\n----------\n")
    own, _, _ = own.partition("\n\n")
    text = own or (inspect.getdoc(inspect.getmodule(function)) or "").partition("\n\n")[2]
    return tuple(" ".join(paper.split()).rstrip(".") for paper in text.split(";") if paper.strip())


def short(paper: str) -> str:
    """Return the authors and year of a paper, as in "He et al. 2016".

    Examples
    --------
    >>> from cyconv.models.registry import short
    >>> short("F. Chollet, Xception: deep learning with depthwise separable convolutions, CVPR, 2017")
    'Chollet 2017'
    """
    listed = re.match(f"(?:{AUTHOR})+", paper)
    authors = re.findall(AUTHOR, listed[0]) if listed else []
    year = re.search(r", ((?:19|20)\d\d)\b", paper)
    if not authors or year is None:
        raise ValueError(f"short: `paper` must be authors, title, place and year, got {brief(paper)}")
    first, *others = authors
    return f"{first}{' et al.' if len(others) > 1 else f' and {others[0]}' if others else ''} {year[1]}"
