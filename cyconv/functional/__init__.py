"""functional."""

from cyconv.functional.unfold import col2im, fold, im2col, unfold

__all__ = ["col2im", "fold", "im2col", "unfold"]
