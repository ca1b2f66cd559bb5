"""Names of weights in files of others: which of a network's they stand for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

# What PyTorch's DataParallel and torch.compile, and people's training classes, put in front of the names.
WRAPPERS = ("module.", "_orig_mod.", "model.")
COUNTER = "num_batches_tracked"  # of batch normalisation: old files lack it, and predictions don't need it


def without_wrappers(name: str) -> str:
    """Return a name without what wrappers put in front of it.

    Examples
    --------
    >>> from cyconv.layers.naming import without_wrappers
    >>> without_wrappers("model._orig_mod.module.conv.weight")
    'conv.weight'
    """
    while name.startswith(WRAPPERS):
        _, _, name = name.partition(".")
    return name


def unwrapped(names: Iterable[str]) -> list[str]:
    """Return the names without the wrappers that all of them have."""
    listed = list(names)
    while listed and listed[0].startswith(WRAPPERS):
        first = listed[0].partition(".")[0] + "."
        if not all(name.startswith(first) for name in listed):
            break
        listed = [name.removeprefix(first) for name in listed]
    return listed


def fitted(names: Iterable[str], wanted: Collection[str]) -> dict[str, str]:
    """Return the wanted name that each name stands for: the same, or that which differs by wrappers; else itself.

    A name that could stand for several, or several that could stand for one, stay as they are.

    Examples
    --------
    >>> from cyconv.layers.naming import fitted
    >>> fitted(["module.conv.weight", "head.bias"], ["conv.weight", "conv.bias"])
    {'module.conv.weight': 'conv.weight', 'head.bias': 'head.bias'}
    """
    result = {name: name for name in names}
    left = [name for name in result if name not in wanted]
    if left:
        open_names = [name for name in wanted if name not in result]
        counts = Counter(map(without_wrappers, left)), Counter(map(without_wrappers, open_names))
        targets = {without_wrappers(name): name for name in open_names}
        for name in left:
            bare = without_wrappers(name)
            if counts[0][bare] == counts[1][bare] == 1:
                result[name] = targets[bare]
    return result
