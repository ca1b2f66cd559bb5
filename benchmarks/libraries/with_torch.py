"""PyTorch's side, in either of its memory layouts or compiled."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.libraries import LEARNING_RATE, MOMENTUM, operations_of_torch
from benchmarks.libraries.data import Work, labels, normal
from benchmarks.libraries.torch_networks import NETWORKS

LAYOUT = torch.contiguous_format
COMPILED = False


def start(threads: int, mode: str) -> None:
    """Set the thread count, the layout and whether to compile."""
    global LAYOUT, COMPILED
    torch.set_num_threads(threads)
    LAYOUT = torch.contiguous_format if mode == "nchw" else torch.channels_last
    COMPILED = mode == "compile"
    if COMPILED:  # without a C++ compiler it fails here and not in the first network
        torch.compile(lambda x: torch.sin(x) + 1)(torch.zeros(64))


def describe() -> dict:
    """Return what was measured."""
    return {"library": "PyTorch", "version": torch.__version__, "layout": str(LAYOUT), "compiled": COMPILED}


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return data of shape (N, C, H, W) in the layout under test."""
    return torch.from_numpy(normal(*shape, seed=seed)).contiguous(memory_format=LAYOUT)


def prepare(kind: str, **parameters) -> Work | None:
    """Return the functions to time; None for filters of images, which are SciPy's."""
    if kind == "image":
        return None
    torch.set_grad_enabled(kind in ("train", "ops"))
    return globals()[f"_{kind}"](**parameters)


def results(kind: str, parameters: dict, exact: bool) -> dict[str, np.ndarray]:
    """Return what each direction gives; there is no other mode."""
    found = {direction: function() for direction, function in prepare(kind, **parameters).functions.items()}
    return {
        direction: next(each for each in (value if isinstance(value, tuple | list) else [value]) if each is not None)
        .detach()
        .numpy()
        for direction, value in found.items()
    }


def _conv(
    network, batch, in_channels, out_channels, size, kernel, stride, padding, groups, transposed, output_padding
) -> Work:
    x = image(batch, in_channels, size, size)
    ends = (in_channels, out_channels) if transposed else (out_channels, in_channels)
    weight = image(ends[0], ends[1] // groups, kernel, kernel, seed=1)
    geometry = ([stride] * 2, [padding] * 2, [1, 1], transposed, [output_padding] * 2, groups)

    def forward():
        if transposed:
            return F.conv_transpose2d(x, weight, None, stride, padding, output_padding, groups)
        return F.conv2d(x, weight, None, stride, padding, 1, groups)

    grad = image(*forward().shape, seed=2)

    def backward(mask):
        return torch.ops.aten.convolution_backward(grad, x, weight, None, *geometry, mask)

    return Work(
        {
            "forward": forward,
            "grad_input": lambda: backward([True, False, False]),
            "grad_weight": lambda: backward([False, True, False]),
        }
    )


_direct = _conv


def _pool(op, kernel, stride, padding, batch, channels, size) -> Work:
    x = image(batch, channels, size, size)
    pairs = ([kernel] * 2, [stride] * 2, [padding] * 2)
    if op == "max":
        out, indices = torch.ops.aten.max_pool2d_with_indices(x, *pairs)
        gradient = torch.ops.aten.max_pool2d_with_indices_backward
        return Work(
            {
                "forward": lambda: torch.ops.aten.max_pool2d_with_indices(x, *pairs),
                "backward": lambda: gradient(out, x, *pairs, [1, 1], False, indices),
            }
        )
    out = F.avg_pool2d(x, kernel, stride, padding)
    return Work(
        {
            "forward": lambda: F.avg_pool2d(x, kernel, stride, padding),
            "backward": lambda: torch.ops.aten.avg_pool2d_backward(out, x, *pairs, False, True, None),
        }
    )


def _norm(batch, channels, size, relu) -> Work:
    x, grad = image(batch, channels, size, size), image(batch, channels, size, size, seed=1)
    weight, bias = torch.ones(channels), torch.zeros(channels)
    running = torch.zeros(channels), torch.ones(channels)

    def normalise():
        return torch.ops.aten.native_batch_norm(x, weight, bias, *running, True, 0.1, 1e-5)

    def gradient(grad_output):
        return torch.ops.aten.native_batch_norm_backward(
            grad_output, x, weight, *running, mean, inverse, True, 1e-5, [True, True, True]
        )

    output, mean, inverse = normalise()
    if not relu:
        return Work({"forward": normalise, "backward": lambda: gradient(grad)})
    torch.relu_(output)
    return Work(
        {
            "forward": lambda: torch.relu_(normalise()[0]),
            "backward": lambda: gradient(torch.ops.aten.threshold_backward(grad, output, 0)),
        }
    )


def _ops(**parameters) -> Work:
    return operations_of_torch.prepare(torch.channels_last == LAYOUT, **parameters)


def _network(network: str, batch: int, input_shape: tuple, classes: int) -> tuple[torch.nn.Module, torch.Tensor, int]:
    torch.manual_seed(0)
    if network in NETWORKS:
        net = NETWORKS[network](input_shape[0], classes)
    else:  # imported here, as another kind measures how much memory a process takes that has PyTorch alone
        from benchmarks.libraries.torch_models import as_torch
        from cyconv import models

        net = as_torch(getattr(models, network)(num_classes=classes, in_channels=input_shape[0], seed=0))
    net = net.to(memory_format=LAYOUT)
    return net, image(batch, *input_shape), sum(parameter.numel() for parameter in net.parameters())


def _train(network, batch, input_shape, classes) -> Work:
    net, x, count = _network(network, batch, input_shape, classes)
    output = net(x)
    y = torch.from_numpy(labels((batch, *output.shape[2:]), classes))
    optimizer = torch.optim.SGD(net.parameters(), LEARNING_RATE, MOMENTUM, fused=True)

    def loss_of(x, y):
        return F.cross_entropy(net(x), y)

    if COMPILED:
        torch.compiler.reset()
        loss_of = torch.compile(loss_of)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return Work({"step": step}, count)


def _predict(network, batch, input_shape, classes) -> Work:
    net, x, count = _network(network, batch, input_shape, classes)
    net.eval()
    if COMPILED:
        torch.compiler.reset()
        net = torch.compile(net)

    def predict():
        with torch.inference_mode():
            return net(x)

    return Work({"predict": predict}, count)
