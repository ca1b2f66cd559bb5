"""The record of a training run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from cyconv._validation import as_list, brief
from cyconv.serialization import PathLike, as_path, json_of, read_json, write_atomically

__all__ = ["History"]


class History:
    """What each epoch of a training run came to.

    Attributes
    ----------
    epochs : list of dict
        One for each finished epoch: ``loss``, ``accuracy`` (for classifiers), ``val_loss``, ``val_accuracy`` (where
        there is validation data), ``seconds``.
    interrupted : bool
        Whether Ctrl-C ended the run.

    Examples
    --------
    >>> from cyconv.training import History
    >>> history = History([{"loss": 2.3}, {"loss": 0.7}])
    >>> history["loss"]
    [2.3, 0.7]
    """

    def __init__(self, epochs: Iterable[Mapping[str, float]] = ()) -> None:
        given = as_list("History", "epochs", epochs, "mappings of names to numbers")
        if not all(isinstance(epoch, Mapping) for epoch in given):
            raise TypeError(f"History: `epochs` must be mappings of names to numbers, got {brief(epochs)}")
        self.epochs = [dict(epoch) for epoch in given]
        self.interrupted = False

    def __len__(self) -> int:
        return len(self.epochs)

    def __getitem__(self, name: str) -> list[float]:
        if not any(name in epoch for epoch in self.epochs):
            raise KeyError(f"History: {brief(name)} is not recorded; recorded are {self.names}")
        return [epoch.get(name, math.nan) for epoch in self.epochs]

    @property
    def names(self) -> list[str]:
        """Names of what is recorded, in the order in which they appeared."""
        return list(dict.fromkeys(name for epoch in self.epochs for name in epoch))

    def save(self, path: PathLike) -> None:
        """Write a JSON file, replacing an older one in one step; numbers that JSON lacks become "NaN", "Infinity"."""
        text = json_of({"epochs": self.epochs, "interrupted": self.interrupted})
        write_atomically(as_path("History.save", path), lambda file: file.write(text))

    @classmethod
    def load(cls, path: PathLike) -> History:
        """Read what `save` wrote; ValueError if it is something else."""
        with open(as_path("History.load", path), "rb") as file:
            try:
                content = read_json(file)
                history = cls(content["epochs"])
                history.interrupted = bool(content["interrupted"])
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise ValueError(f"History.load: {path!r} is not a saved history: {error!r}") from error
        return history

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {value:.4g}" for name, value in self.epochs[-1].items()) if self.epochs else "empty"
        return f"History({len(self)} epochs; {last})"
