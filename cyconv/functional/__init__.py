"""Stateless operations on arrays, each with its gradient directly below it: ``op`` and ``op_backward``."""

from cyconv.functional.activation import (
    leaky_relu,
    leaky_relu_backward,
    log_softmax,
    log_softmax_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    softmax,
    softmax_backward,
    tanh,
    tanh_backward,
)
from cyconv.functional.avg_pool import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    global_avg_pool2d,
    global_avg_pool2d_backward,
)
from cyconv.functional.conv import conv2d, conv2d_backward, conv_transpose2d, conv_transpose2d_backward
from cyconv.functional.dice import dice_loss, dice_loss_backward
from cyconv.functional.dropout import dropout, dropout_backward
from cyconv.functional.flatten import flatten, flatten_backward
from cyconv.functional.linear import linear, linear_backward
from cyconv.functional.loss import cross_entropy, cross_entropy_backward
from cyconv.functional.max_pool import (
    adaptive_max_pool2d,
    adaptive_max_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
    max_pool2d_with_winners,
    max_unpool2d,
    max_unpool2d_backward,
)
from cyconv.functional.normalization import (
    batch_norm,
    batch_norm_backward,
    batch_norm_relu,
    batch_norm_relu_backward,
    batch_norm_statistics,
    batch_norm_with_statistics,
)
from cyconv.functional.pad import pad, pad_backward
from cyconv.functional.pointwise_loss import (
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_backward,
    mse_loss,
    mse_loss_backward,
    smooth_l1_loss,
    smooth_l1_loss_backward,
)
from cyconv.functional.unfold import col2im, fold, im2col, unfold

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_relu",
    "batch_norm_relu_backward",
    "batch_norm_statistics",
    "batch_norm_with_statistics",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_backward",
    "col2im",
    "conv2d",
    "conv2d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "dice_loss",
    "dice_loss_backward",
    "dropout",
    "dropout_backward",
    "flatten",
    "flatten_backward",
    "fold",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "im2col",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "log_softmax",
    "log_softmax_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_with_winners",
    "max_unpool2d",
    "max_unpool2d_backward",
    "mse_loss",
    "mse_loss_backward",
    "pad",
    "pad_backward",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "smooth_l1_loss",
    "smooth_l1_loss_backward",
    "softmax",
    "softmax_backward",
    "tanh",
    "tanh_backward",
    "unfold",
]
