"""Plain float64 oracles: a loop over output positions, vectorised over batch and channels only.

Nothing here shares code with cyconv. All arrays are (N, C, H, W) and weights (OC, IC/groups, KH, KW), or
(IC, OC/groups, KH, KW) for the transposed convolution. `stride` and `dilation` are an int or a pair; `padding` is an
int, a pair (vertical, horizontal), or four numbers (top, bottom, left, right).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np


def pair(value):
    return (value, value) if np.isscalar(value) else tuple(value)


def four(padding):
    if not np.isscalar(padding) and len(padding) == 4:
        return tuple(padding)
    vertical, horizontal = pair(padding)
    return vertical, vertical, horizontal, horizontal


def pad(x, padding, value=0.0):
    """Return float64 `x` with (top, bottom, left, right) rows and columns of `value` around it."""
    top, bottom, left, right = four(padding)
    N, C, H, W = x.shape
    padded = np.full((N, C, H + top + bottom, W + left + right), value, np.float64)
    padded[:, :, top : top + H, left : left + W] = x
    return padded


def unpad(padded, padding):
    """Return the inner part that `pad` surrounded."""
    top, bottom, left, right = four(padding)
    H, W = padded.shape[2:]
    return padded[:, :, top : H - bottom, left : W - right].copy()


def windows(H, W, kernel, stride, dilation) -> Iterator[tuple[int, int, tuple]]:
    """Yield (oh, ow, index) for each place where the kernel fits into an H x W image; index selects its positions."""
    (KH, KW), (stride_h, stride_w), (dilation_h, dilation_w) = pair(kernel), pair(stride), pair(dilation)
    span_h, span_w = dilation_h * (KH - 1) + 1, dilation_w * (KW - 1) + 1
    for oh, top in enumerate(range(0, H - span_h + 1, stride_h)):
        for ow, left in enumerate(range(0, W - span_w + 1, stride_w)):
            rows, columns = slice(top, top + span_h, dilation_h), slice(left, left + span_w, dilation_w)
            yield oh, ow, (slice(None), slice(None), rows, columns)


def count(H, W, kernel, stride, dilation):
    """Return (OH, OW): how often the kernel fits."""
    places = [(oh, ow) for oh, ow, _ in windows(H, W, kernel, stride, dilation)]
    return (places[-1][0] + 1, places[-1][1] + 1) if places else (0, 0)


def channel_groups(in_channels, out_channels, groups):
    """Yield the input and output channel slices of each group."""
    IC, OC = in_channels // groups, out_channels // groups
    for g in range(groups):
        yield slice(g * IC, (g + 1) * IC), slice(g * OC, (g + 1) * OC)


# Convolution


def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    weight = np.asarray(weight, np.float64)
    padded = pad(x, padding)
    N, IC, H, W = padded.shape
    OC, kernel = weight.shape[0], weight.shape[2:]
    output = np.zeros((N, OC, *count(H, W, kernel, stride, dilation)))
    for oh, ow, window in windows(H, W, kernel, stride, dilation):
        for ic, oc in channel_groups(IC, OC, groups):
            output[:, oc, oh, ow] = np.einsum("nihw,oihw->no", padded[window][:, ic], weight[oc])
    return output if bias is None else output + np.asarray(bias, np.float64)[:, None, None]


def conv2d_backward(grad_output, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Return (grad_x, grad_weight, grad_bias); grad_bias is computed whether or not there is a bias."""
    grad_output, weight = np.asarray(grad_output, np.float64), np.asarray(weight, np.float64)
    padded = pad(x, padding)
    grad_padded, grad_weight = np.zeros_like(padded), np.zeros_like(weight)
    (_, IC, H, W), OC, kernel = padded.shape, weight.shape[0], weight.shape[2:]
    for oh, ow, window in windows(H, W, kernel, stride, dilation):
        for ic, oc in channel_groups(IC, OC, groups):
            grad = grad_output[:, oc, oh, ow]
            grad_padded[window][:, ic] += np.einsum("no,oihw->nihw", grad, weight[oc])
            grad_weight[oc] += np.einsum("no,nihw->oihw", grad, padded[window][:, ic])
    return unpad(grad_padded, padding), grad_weight, grad_output.sum(axis=(0, 2, 3))


def conv_transpose2d(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Spread every input pixel over its window of the output, then cut the padding off the border."""
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    (N, IC, IH, IW), (_, OC, *kernel) = x.shape, weight.shape
    OC *= groups
    H, W = _transposed_extent((IH, IW), kernel, stride, output_padding, dilation)
    full = np.zeros((N, OC, H, W))
    for ih, iw, window in windows(H, W, kernel, stride, dilation):
        if ih < IH and iw < IW:  # output padding may leave room for one more window, which has no input
            for ic, oc in channel_groups(IC, OC, groups):
                full[window][:, oc] += np.einsum("ni,iohw->nohw", x[:, ic, ih, iw], weight[ic])
    output = unpad(full, padding)
    return output if bias is None else output + np.asarray(bias, np.float64)[:, None, None]


def conv_transpose2d_backward(
    grad_output, x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
):
    """Return (grad_x, grad_weight, grad_bias); grad_bias is computed whether or not there is a bias."""
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    (_, IC, IH, IW), (_, OC, *kernel) = x.shape, weight.shape
    OC *= groups
    grad_full = pad(grad_output, padding)
    grad_x, grad_weight = np.zeros_like(x), np.zeros_like(weight)
    for ih, iw, window in windows(*grad_full.shape[2:], kernel, stride, dilation):
        if ih < IH and iw < IW:
            for ic, oc in channel_groups(IC, OC, groups):
                grad = grad_full[window][:, oc]
                grad_x[:, ic, ih, iw] = np.einsum("nohw,iohw->ni", grad, weight[ic])
                grad_weight[ic] += np.einsum("ni,nohw->iohw", x[:, ic, ih, iw], grad)
    return grad_x, grad_weight, np.asarray(grad_output, np.float64).sum(axis=(0, 2, 3))


def _transposed_extent(size, kernel, stride, output_padding, dilation):
    """Return the output size before the padding is cut off."""
    return tuple(
        (i - 1) * s + d * (k - 1) + 1 + o
        for i, k, s, o, d in zip(size, kernel, pair(stride), pair(output_padding), pair(dilation), strict=True)
    )


# Columns


def im2col(x, kernel_size, stride=1, padding=0, dilation=1):
    """Return (N*OH*OW, C*KH*KW): one row per output position, columns in (c, kh, kw) order."""
    padded = pad(x, padding)
    N, C, H, W = padded.shape
    KH, KW = pair(kernel_size)
    OH, OW = count(H, W, kernel_size, stride, dilation)
    columns = np.zeros((N, OH, OW, C * KH * KW))
    for oh, ow, window in windows(H, W, kernel_size, stride, dilation):
        columns[:, oh, ow] = padded[window].reshape(N, C * KH * KW)
    return columns.reshape(N * OH * OW, C * KH * KW)


def col2im(columns, input_shape, kernel_size, stride=1, padding=0, dilation=1):
    """Return the image of `input_shape` into which every row of `columns` was added where im2col read it."""
    padded = pad(np.zeros(input_shape), padding)
    N, C, H, W = padded.shape
    OH, OW = count(H, W, kernel_size, stride, dilation)
    columns = np.asarray(columns, np.float64).reshape(N, OH, OW, C, *pair(kernel_size))
    for oh, ow, window in windows(H, W, kernel_size, stride, dilation):
        padded[window] += columns[:, oh, ow]
    return unpad(padded, padding)


# Pooling: one window after another, positions outside the image skipped one by one


def pool_size(size, kernel, stride, before, after, dilation, ceil_mode):
    """Return the number of windows along an axis, by trying them in turn."""
    span, end, outputs = dilation * (kernel - 1) + 1, size + before + after, 0
    while True:
        start = outputs * stride
        fits = start + span <= end
        # With ceil_mode one window may hang over the end, if it starts before the padding there.
        hangs = ceil_mode and start < size + before and start - stride + span < end
        if not (fits or hangs):
            return outputs
        outputs += 1


def pool_windows(H, W, kernel_size, stride, padding, dilation=1, ceil_mode=False):
    """Yield (oh, ow, positions inside the image, divisor counting the padding), windows in order."""
    (KH, KW), (stride_h, stride_w), (dilation_h, dilation_w) = pair(kernel_size), pair(stride), pair(dilation)
    top, bottom, left, right = four(padding)
    for oh in range(pool_size(H, KH, stride_h, top, bottom, dilation_h, ceil_mode)):
        for ow in range(pool_size(W, KW, stride_w, left, right, dilation_w, ceil_mode)):
            rows = [oh * stride_h - top + kh * dilation_h for kh in range(KH)]
            columns = [ow * stride_w - left + kw * dilation_w for kw in range(KW)]
            inside = [(ih, iw) for ih in rows for iw in columns if 0 <= ih < H and 0 <= iw < W]
            divisor = sum(ih < H + bottom for ih in rows) * sum(iw < W + right for iw in columns)
            yield oh, ow, inside, divisor


def adaptive_windows(H, W, output_size):
    """Yield what `pool_windows` does, for windows that divide the image into OH x OW parts."""
    OH, OW = pair(output_size)
    for oh in range(OH):
        for ow in range(OW):
            rows = range(math.floor(oh * H / OH), math.ceil((oh + 1) * H / OH))
            columns = range(math.floor(ow * W / OW), math.ceil((ow + 1) * W / OW))
            yield oh, ow, [(ih, iw) for ih in rows for iw in columns], len(rows) * len(columns)


def max_over(x, places):
    """Return (output, flat indices); the first maximum wins, and the last NaN wins over every number (PyTorch)."""
    x, places = np.asarray(x, np.float64), list(places)
    OH, OW = (places[-1][0] + 1, places[-1][1] + 1) if places else (0, 0)
    N, C, _, W = x.shape
    output, indices = np.full((N, C, OH, OW), -np.inf), np.zeros((N, C, OH, OW), np.int64)
    for oh, ow, inside, _ in places:
        indices[:, :, oh, ow] = inside[0][0] * W + inside[0][1]
        for ih, iw in inside:
            value = x[:, :, ih, iw]
            wins = (value > output[:, :, oh, ow]) | np.isnan(value)
            output[:, :, oh, ow] = np.where(wins, value, output[:, :, oh, ow])
            indices[:, :, oh, ow] = np.where(wins, ih * W + iw, indices[:, :, oh, ow])
    return output, indices


def max_over_backward(grad_output, indices, H, W):
    """Return grad_x: each output's gradient added at its index."""
    N, C = grad_output.shape[:2]
    grad_x = np.zeros((N, C, H * W))
    for n, c, oh, ow in np.ndindex(*grad_output.shape):
        grad_x[n, c, indices[n, c, oh, ow]] += grad_output[n, c, oh, ow]
    return grad_x.reshape(N, C, H, W)


def average_over(x, places, count_include_pad=True, divisor_override=None):
    """Return the mean of each window."""
    x, places = np.asarray(x, np.float64), list(places)
    OH, OW = (places[-1][0] + 1, places[-1][1] + 1) if places else (0, 0)
    output = np.zeros((*x.shape[:2], OH, OW))
    for oh, ow, inside, divisor in places:
        for ih, iw in inside:
            output[:, :, oh, ow] += x[:, :, ih, iw]
        output[:, :, oh, ow] /= divisor_override or (divisor if count_include_pad else len(inside))
    return output


def average_over_backward(grad_output, places, H, W, count_include_pad=True, divisor_override=None):
    """Return grad_x: each output's gradient shared equally over its window."""
    grad_x = np.zeros((*grad_output.shape[:2], H, W))
    for oh, ow, inside, divisor in places:
        share = grad_output[:, :, oh, ow] / (divisor_override or (divisor if count_include_pad else len(inside)))
        for ih, iw in inside:
            grad_x[:, :, ih, iw] += share
    return grad_x
