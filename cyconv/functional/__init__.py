"""functional."""

from cyconv.functional.avg_pool import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    global_avg_pool2d,
    global_avg_pool2d_backward,
)
from cyconv.functional.max_pool import (
    adaptive_max_pool2d,
    adaptive_max_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
    max_pool2d_with_winners,
    max_unpool2d,
    max_unpool2d_backward,
)
from cyconv.functional.pad import pad, pad_backward
from cyconv.functional.unfold import col2im, fold, im2col, unfold

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "col2im",
    "fold",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "im2col",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_with_winners",
    "max_unpool2d",
    "max_unpool2d_backward",
    "pad",
    "pad_backward",
    "unfold",
]
