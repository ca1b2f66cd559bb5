"""Figures of networks, their training and results. Each function returns a matplotlib figure and shows nothing."""

from cyconv.visualize.curves import confusion_matrix, learning_curves
from cyconv.visualize.images import saliency, segmentation
from cyconv.visualize.layers import feature_maps, filters, maximizing_images

__all__ = [
    "confusion_matrix",
    "feature_maps",
    "filters",
    "learning_curves",
    "maximizing_images",
    "saliency",
    "segmentation",
]
