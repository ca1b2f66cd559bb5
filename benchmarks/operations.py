"""What is measured of the operations beside convolution, pooling and batch normalisation of images."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from benchmarks.shapes import ITEM

# How a label writes options, where not by their names.
SHORT = {"out_channels": "to ", "out_features": "to ", "kernel": "k", "stride": "s", "padding": "p", "mode": ""}
# Operations whose result has the input's shape, so that it is known what crosses the memory bus.
ONE_TO_ONE = ("activations", "normalisation", "dropout")


class Operation(NamedTuple):
    """One operation of `cyconv.functional`, or an optimizer's step: on an input of `shape`, with these options."""

    family: str
    op: str
    shape: tuple[int, ...]
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed

    operations = 0

    @property
    def label(self) -> str:
        """Return the operation, its options and its input."""
        words = [SHORT.get(name, f"{name} ") + str(value) for name, value in self.options.items()]
        return " ".join([self.op, "x".join(map(str, self.shape)), *words])

    @property
    def batch(self) -> int:
        """Return the number of examples."""
        return self.shape[0]

    @property
    def groups_of_table(self) -> list[str]:
        """Return the rows of the summary that this operation counts for."""
        return ["other operations", self.family]

    def traffic(self, direction: str) -> int:
        """Return the bytes of input and result, of both gradients and the input; 0 where that is not said so simply."""
        if self.family not in ONE_TO_ONE:
            return 0
        return ITEM * math.prod(self.shape) * (2 if direction == "forward" or self.op == "dropout" else 3)


SEQUENCES = "1-D convolution and pooling"
VOLUMES = "3-D convolution and pooling"
IMAGES = "resizing, padding, unpooling, unfolding"
DENSE = "linear, embedding, LSTM"
MAP = (8, 64, 56, 56)  # ResNet-50's first stage


def _filters(out_channels: int, kernel: int, stride: int = 1, padding: int = 0) -> dict[str, int]:
    return {"out_channels": out_channels, "kernel": kernel, "stride": stride, "padding": padding}


def _window(kernel: int, stride: int, padding: int = 0) -> dict[str, int]:
    return {"kernel": kernel, "stride": stride, "padding": padding}


OPERATIONS = [
    Operation(SEQUENCES, "conv1d", (16, 64, 1024), _filters(128, 3, 1, 1)),
    Operation(SEQUENCES, "conv1d", (16, 128, 512), _filters(128, 9, 1, 4)),
    Operation(SEQUENCES, "conv1d", (16, 1, 4096), _filters(32, 16, 4)),
    Operation(SEQUENCES, "conv_transpose1d", (16, 128, 256), _filters(64, 4, 2, 1)),
    Operation(SEQUENCES, "max_pool1d", (16, 128, 2048), _window(2, 2)),
    Operation(SEQUENCES, "max_pool1d", (16, 128, 1024), _window(3, 2, 1)),
    Operation(SEQUENCES, "avg_pool1d", (16, 128, 2048), _window(2, 2)),
    Operation(VOLUMES, "conv3d", (2, 3, 16, 56, 56), _filters(64, 3, 1, 1)),
    Operation(VOLUMES, "conv3d", (2, 64, 8, 28, 28), _filters(128, 3, 1, 1)),
    Operation(VOLUMES, "conv3d", (2, 128, 8, 14, 14), _filters(128, 3, 1, 1)),
    Operation(VOLUMES, "conv3d", (2, 64, 8, 28, 28), _filters(128, 3, 2, 1)),
    Operation(VOLUMES, "conv_transpose3d", (2, 64, 8, 14, 14), _filters(32, 2, 2)),
    Operation(VOLUMES, "max_pool3d", (2, 64, 16, 56, 56), _window(2, 2)),
    Operation(VOLUMES, "max_pool3d", (2, 64, 8, 28, 28), _window(3, 2, 1)),
    Operation(VOLUMES, "avg_pool3d", (2, 64, 16, 56, 56), _window(2, 2)),
    Operation("normalisation", "layer_norm", (32, 196, 768)),
    Operation("normalisation", "layer_norm", (8, 3136, 96)),
    Operation("normalisation", "group_norm", (8, 256, 28, 28), {"groups": 32}),
    Operation("normalisation", "instance_norm", MAP),
    Operation("normalisation", "local_response_norm", (8, 96, 55, 55), {"size": 5}),
    *(
        Operation("activations", op, MAP)
        for op in ("relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "sigmoid", "tanh")
    ),
    Operation("activations", "softmax", (256, 1000)),
    Operation("activations", "softmax", (2, 21, 128, 128)),
    Operation(IMAGES, "interpolate", (8, 64, 28, 28), {"mode": "nearest"}),
    Operation(IMAGES, "interpolate", (8, 64, 28, 28), {"mode": "bilinear"}),
    *(Operation(IMAGES, "pad", MAP, {"mode": mode}) for mode in ("constant", "reflect", "replicate", "circular")),
    Operation(IMAGES, "max_unpool2d", (8, 64, 28, 28)),
    Operation(IMAGES, "unfold", (8, 64, 28, 28)),
    Operation(IMAGES, "im2col", (8, 64, 28, 28)),
    Operation(DENSE, "linear", (64, 400), {"out_features": 120}),
    Operation(DENSE, "linear", (16, 4096), {"out_features": 4096}),
    Operation(DENSE, "linear", (64, 4096), {"out_features": 1000}),
    Operation(DENSE, "linear", (4, 25088), {"out_features": 4096}),
    Operation(DENSE, "embedding", (64, 35), {"rows": 10000, "width": 256}),
    Operation(DENSE, "lstm", (1, 40, 100), {"units": 100}),
    Operation(DENSE, "lstm", (32, 35, 256), {"units": 256}),
    Operation("dropout", "dropout", MAP),
    Operation("losses", "cross_entropy", (256, 1000)),
    Operation("losses", "cross_entropy", (4, 21, 128, 128)),
    Operation("losses", "binary_cross_entropy_with_logits", (32, 1, 128, 128)),
    Operation("losses", "smooth_l1_loss", (8, 8732, 4)),
    Operation("losses", "mse_loss", (8, 3, 256, 256)),
    Operation("losses", "dice_loss", (4, 21, 128, 128)),
    *(
        Operation("optimizers", name, (count, 2**20))
        for name in ("SGD", "momentum", "Adam", "AdamW")
        for count in (1, 24)
    ),
]
