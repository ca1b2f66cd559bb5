"""Random changes of training images, in whole batches: moved, warped, recoloured; targets of pixels move along.

A transform takes images (N, C, H, W), their targets and a generator, and returns new images and targets; any function
of those three is one. `Network.fit` and `Batches` take transforms as ``augment``, which they apply to each batch with a
generator of its own: the results are the same for any number of threads.
"""

from cyconv.data.augmentation.color import ColorJitter, Cutout, Normalize
from cyconv.data.augmentation.placement import (
    CropTargets,
    RandomCrop,
    RandomHorizontalFlip,
    RandomShift,
    RandomVerticalFlip,
)
from cyconv.data.augmentation.transforms import Compose, PixelTransform, SpatialTransform
from cyconv.data.augmentation.warping import ElasticTransform, RandomAffine, RandomRotation

__all__ = [
    "ColorJitter",
    "Compose",
    "CropTargets",
    "Cutout",
    "ElasticTransform",
    "Normalize",
    "PixelTransform",
    "RandomAffine",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomRotation",
    "RandomShift",
    "RandomVerticalFlip",
    "SpatialTransform",
]
