"""Data sets and the mini-batches made of them."""

from cyconv.data.batches import Batches
from cyconv.data.datasets import Dataset, digits, mnist
from cyconv.data.tiling import predict_tiled, tiles, untile

__all__ = ["Batches", "Dataset", "digits", "mnist", "predict_tiled", "tiles", "untile"]
