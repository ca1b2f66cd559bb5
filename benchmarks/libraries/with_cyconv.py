"""cyconv's side."""

from __future__ import annotations

import numpy as np

import cyconv
from benchmarks.libraries.data import normal
from cyconv import _dispatch
from cyconv import functional as F


def start(threads: int, channels_last: bool) -> None:
    """Set the thread count."""
    cyconv.set_num_threads(threads)


def describe() -> dict:
    """Return what was measured."""
    return {"library": "cyconv", "version": cyconv.__version__, "isa": _dispatch.ISA}


def image(*shape: int, seed: int = 0) -> np.ndarray:
    """Return channels-last data of shape (N, C, H, W)."""
    return np.ascontiguousarray(normal(*shape, seed=seed).transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def prepare(kind: str, **parameters) -> dict:
    """Return the functions to time, by name."""
    return globals()[f"_{kind}"](**parameters)


def _conv(network, batch, in_channels, out_channels, size, kernel, stride, padding, groups, algorithm="auto"):
    x = image(batch, in_channels, size, size)
    weight = image(out_channels, in_channels // groups, kernel, kernel, seed=1)
    grad = F.conv2d(x, weight, None, stride, padding, 1, groups)
    same = {"stride": stride, "padding": padding, "groups": groups, "algorithm": algorithm}
    return {
        "forward": lambda: F.conv2d(x, weight, None, **same),
        "grad_input": lambda: F.conv2d_backward(grad, x, weight, None, **same, needs=(True, False, False)),
        "grad_weight": lambda: F.conv2d_backward(grad, x, weight, None, **same, needs=(False, True, False)),
    }


def _direct(**layer):
    return _conv(**layer, algorithm="direct")


def _pool(op, kernel, stride, padding, batch, channels, size):
    x = image(batch, channels, size, size)
    if op == "max":
        out, winners = F.max_pool2d_with_winners(x, kernel, stride, padding)
        return {
            "forward": lambda: F.max_pool2d_with_winners(x, kernel, stride, padding),
            "backward": lambda: F.max_pool2d_backward(out, x, kernel, stride, padding, winners=winners),
        }
    grad = F.avg_pool2d(x, kernel, stride, padding)
    return {
        "forward": lambda: F.avg_pool2d(x, kernel, stride, padding),
        "backward": lambda: F.avg_pool2d_backward(grad, x, kernel, stride, padding),
    }


def _norm(batch, channels, size):
    x, grad = image(batch, channels, size, size), image(batch, channels, size, size, seed=1)
    weight, bias = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    running_mean, running_var = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    mean, var = F.batch_norm_statistics(x)
    return {
        "forward": lambda: F.batch_norm(x, running_mean, running_var, weight, bias, training=True),
        "backward": lambda: F.batch_norm_backward(grad, x, weight, mean, var),
    }
