"""LeNet-5 as a textbook writes it in NumPy: im2col, matrix products, and a momentum step."""
# ruff: noqa: D102 (forward and backward of every layer mean the same)

from __future__ import annotations

import numpy as np

from benchmarks.libraries import LEARNING_RATE, MOMENTUM
from benchmarks.libraries.im2col import col2im, im2col


class Convolution:
    """A 5x5 convolution."""

    def __init__(self, channels: int, out: int, rng: np.random.Generator):
        scale = (2 / (25 * channels)) ** 0.5
        self.weight = rng.standard_normal((25 * channels, out), np.float32) * np.float32(scale)
        self.bias = np.zeros(out, np.float32)

    def forward(self, x: np.ndarray) -> np.ndarray:
        N, _, H, W = self.shape = x.shape
        self.columns = im2col(x, 5, 1, 0)
        out = self.columns @ self.weight + self.bias
        return out.reshape(N, H - 4, W - 4, -1).transpose(0, 3, 1, 2)

    def backward(self, grad: np.ndarray, needs_input: bool = True) -> np.ndarray | None:
        rows = grad.transpose(0, 2, 3, 1).reshape(len(self.columns), -1)
        self.gradients = self.columns.T @ rows, rows.sum(axis=0)
        return col2im(rows @ self.weight.T, self.shape, 5, 1, 0) if needs_input else None


class Linear:
    """A fully connected layer."""

    def __init__(self, features: int, out: int, rng: np.random.Generator):
        self.weight = rng.standard_normal((features, out), np.float32) * np.float32((2 / features) ** 0.5)
        self.bias = np.zeros(out, np.float32)

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.x = x
        return x @ self.weight + self.bias

    def backward(self, grad: np.ndarray, needs_input: bool = True) -> np.ndarray | None:
        self.gradients = self.x.T @ grad, grad.sum(axis=0)
        return grad @ self.weight.T if needs_input else None


class ReLU:
    """max(0, x)."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.positive = x > 0
        return x * self.positive

    def backward(self, grad: np.ndarray, needs_input: bool = True) -> np.ndarray:
        return grad * self.positive


class MaxPool:
    """The largest of each 2x2 pixels."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        N, C, H, W = self.shape = x.shape
        windows = x.reshape(N, C, H // 2, 2, W // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(N, C, H // 2, W // 2, 4)
        self.winners = windows.argmax(axis=-1)[..., None]
        return np.take_along_axis(windows, self.winners, -1)[..., 0]

    def backward(self, grad: np.ndarray, needs_input: bool = True) -> np.ndarray:
        N, C, H, W = self.shape
        windows = np.zeros((N, C, H // 2, W // 2, 4), grad.dtype)
        np.put_along_axis(windows, self.winners, grad[..., None], -1)
        return windows.reshape(N, C, H // 2, W // 2, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(self.shape)


class Flatten:
    """Images as rows."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, grad: np.ndarray, needs_input: bool = True) -> np.ndarray:
        return grad.reshape(self.shape)


class LeNet5:
    """The layers in a row, and how they are trained."""

    def __init__(self, channels: int, classes: int):
        rng = np.random.default_rng(0)
        self.layers = [
            *(Convolution(channels, 6, rng), ReLU(), MaxPool()),
            *(Convolution(6, 16, rng), ReLU(), MaxPool()),
            Flatten(),
            *(Linear(400, 120, rng), ReLU(), Linear(120, 84, rng), ReLU(), Linear(84, classes, rng)),
        ]
        self.trained = [layer for layer in self.layers if isinstance(layer, Convolution | Linear)]
        self.size = sum(layer.weight.size + layer.bias.size for layer in self.trained)
        self.velocities = [(np.zeros_like(layer.weight), np.zeros_like(layer.bias)) for layer in self.trained]

    def forward(self, x: np.ndarray) -> np.ndarray:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        scores = self.forward(x)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)
        rows = np.arange(len(y))
        loss = -np.log(shares[rows, y]).mean()
        grad = shares
        grad[rows, y] -= 1
        grad /= len(y)
        for i, layer in reversed(list(enumerate(self.layers))):
            grad = layer.backward(grad, needs_input=i > 0)
        for layer, velocities in zip(self.trained, self.velocities, strict=True):
            for value, velocity, gradient in zip((layer.weight, layer.bias), velocities, layer.gradients, strict=True):
                velocity *= MOMENTUM
                velocity += gradient
                value -= LEARNING_RATE * velocity
        return float(loss)
