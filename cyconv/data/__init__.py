"""Data sets, the mini-batches made of them, and their augmentation."""

from cyconv.data import augmentation
from cyconv.data.batches import Batches
from cyconv.data.cifar import cifar10, cifar100
from cyconv.data.datasets import Dataset, digits, mnist
from cyconv.data.emnist import emnist
from cyconv.data.folders import ImageFolder, image_folder
from cyconv.data.sampling import BalancedSampler, WeightedSampler, split
from cyconv.data.tiling import predict_tiled, tiles, untile

__all__ = [
    "BalancedSampler",
    "Batches",
    "Dataset",
    "ImageFolder",
    "WeightedSampler",
    "augmentation",
    "cifar10",
    "cifar100",
    "digits",
    "emnist",
    "image_folder",
    "mnist",
    "predict_tiled",
    "split",
    "tiles",
    "untile",
]
