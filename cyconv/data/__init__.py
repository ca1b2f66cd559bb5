"""Data sets and the mini-batches made of them."""

from cyconv.data.batches import Batches
from cyconv.data.cifar import cifar10
from cyconv.data.datasets import Dataset, digits, mnist
from cyconv.data.tiling import predict_tiled, tiles, untile

__all__ = ["Batches", "Dataset", "cifar10", "digits", "mnist", "predict_tiled", "tiles", "untile"]
