"""PyTorch's side, in either of its memory layouts."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from benchmarks.libraries.data import normal

LAYOUT = torch.contiguous_format


def start(threads: int, channels_last: bool) -> None:
    """Set the thread count and the layout."""
    global LAYOUT
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    LAYOUT = torch.channels_last if channels_last else torch.contiguous_format


def describe() -> dict:
    """Return what was measured."""
    return {"library": "PyTorch", "version": torch.__version__, "layout": str(LAYOUT)}


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return data of shape (N, C, H, W) in the layout under test."""
    return torch.from_numpy(normal(*shape, seed=seed)).contiguous(memory_format=LAYOUT)


def prepare(kind: str, **parameters) -> dict:
    """Return the functions to time, by name."""
    return globals()[f"_{kind}"](**parameters)


def _conv(network, batch, in_channels, out_channels, size, kernel, stride, padding, groups):
    x = image(batch, in_channels, size, size)
    weight = image(out_channels, in_channels // groups, kernel, kernel, seed=1)
    grad = F.conv2d(x, weight, None, stride, padding, 1, groups)
    pairs = ([stride] * 2, [padding] * 2, [1, 1])

    def backward(mask):
        return torch.ops.aten.convolution_backward(grad, x, weight, None, *pairs, False, [0, 0], groups, mask)

    return {
        "forward": lambda: F.conv2d(x, weight, None, stride, padding, 1, groups),
        "grad_input": lambda: backward([True, False, False]),
        "grad_weight": lambda: backward([False, True, False]),
    }


_direct = _conv


def _pool(op, kernel, stride, padding, batch, channels, size):
    x = image(batch, channels, size, size)
    pairs = ([kernel] * 2, [stride] * 2, [padding] * 2)
    if op == "max":
        out, indices = torch.ops.aten.max_pool2d_with_indices(x, *pairs)
        return {
            "forward": lambda: torch.ops.aten.max_pool2d_with_indices(x, *pairs),
            "backward": lambda: torch.ops.aten.max_pool2d_with_indices_backward(out, x, *pairs, [1, 1], False, indices),
        }
    out = F.avg_pool2d(x, kernel, stride, padding)
    return {
        "forward": lambda: F.avg_pool2d(x, kernel, stride, padding),
        "backward": lambda: torch.ops.aten.avg_pool2d_backward(out, x, *pairs, False, True, None),
    }


def _norm(batch, channels, size):
    x, grad = image(batch, channels, size, size), image(batch, channels, size, size, seed=1)
    weight, bias = torch.ones(channels), torch.zeros(channels)
    running = torch.zeros(channels), torch.ones(channels)
    _, mean, inverse = torch.ops.aten.native_batch_norm(x, weight, bias, *running, True, 0.1, 1e-5)
    return {
        "forward": lambda: torch.ops.aten.native_batch_norm(x, weight, bias, *running, True, 0.1, 1e-5),
        "backward": lambda: torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, *running, mean, inverse, True, 1e-5, [True, True, True]
        ),
    }
