"""Data sets and the mini-batches made of them."""

from cyconv.data.batches import Batches
from cyconv.data.datasets import Dataset, digits, mnist

__all__ = ["Batches", "Dataset", "digits", "mnist"]
