"""Weights of PyTorch's torchvision, under the names that they have here."""

from __future__ import annotations

import re
from collections.abc import Mapping

from numpy.typing import NDArray

from cyconv._validation import as_instance, brief
from cyconv.layers.naming import fitted, without_wrappers
from cyconv.network import Network

# Parts of names that stand for containers, which torchvision writes as code, and what it calls them.
RENAMED = {"body": None, "residual": None, "shortcut": "downsample"}
DENSE = re.compile(r"(\bdenselayer\d+\.(?:norm|conv))\.([12]\.)")  # as of 2017, in the published files
HEADS = ("aux1.", "aux2.")  # of GoogLeNet, for training only


def torchvision_names(network: Network) -> dict[str, str]:
    """Return torchvision's name of each weight and running statistic of a network, by the name that it has here.

    Parameters
    ----------
    network : Network
        From a function of `cyconv.models` that says that it has torchvision's names, up to containers.

    Returns
    -------
    dict of str to str

    Examples
    --------
    >>> from cyconv.models import resnet18, torchvision_names
    >>> names = torchvision_names(resnet18())
    >>> names["layer2.0.body.conv1.weight"], names["layer2.0.shortcut.0.weight"]
    ('layer2.0.conv1.weight', 'layer2.0.downsample.0.weight')
    """
    as_instance("torchvision_names", "network", network, Network)
    names = {}
    for name in [*network.parameters(), *_buffers(network)]:
        parts = [RENAMED.get(part, part) for part in name.split(".")]
        names[name] = ".".join(part for part in parts if part is not None)
    return names


def load_torchvision(network: Network, state: Mapping[str, NDArray]) -> None:
    """Copy weights and running statistics of the same network in torchvision into one from here.

    Parameters
    ----------
    network : Network
        As for `torchvision_names`.
    state : mapping of str to ndarray
        The other's ``state_dict``, its tensors as arrays, or a published file's. That may have DenseNet's first names
        ("norm.1"), GoogLeNet's auxiliary heads where the network has none, or "module." in front of all names, and lack
        the number of batches seen; the network then keeps its own.

    Raises
    ------
    ValueError
        If names are missing or unexpected, or shapes differ; nothing has been changed then.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.models import load_torchvision, resnet18, torchvision_names
    >>> network = resnet18(width=4)
    >>> arrays = network.state_dict()
    >>> theirs = {name: arrays[ours] for ours, name in torchvision_names(network).items()}
    >>> load_torchvision(network, theirs)
    """
    own = {theirs: ours for ours, theirs in torchvision_names(network).items()}
    if not isinstance(state, Mapping):
        raise TypeError(f"load_torchvision: `state` must map names to arrays, got {brief(state)}")
    present = {DENSE.sub(r"\1\2", str(name)): array for name, array in state.items()}
    names = fitted(present, own)
    heads = {name for name in present if without_wrappers(name).startswith(HEADS) and names[name] not in own}
    without_heads = not any(name.startswith(HEADS) for name in own)
    network.load_state_dict(
        {own.get(names[name], name): array for name, array in present.items() if not (without_heads and name in heads)}
    )


def _buffers(network: Network) -> dict[str, NDArray]:
    """Return the running statistics, by name; unlike `state_dict` this draws no weights."""
    return {prefix + name: getattr(layer, name) for prefix, layer in network.walk() for name in layer.buffers}
