"""Batch normalisation."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cyconv import functional as F
from cyconv._validation import as_bool, as_int, as_number
from cyconv.functional._calls import AT_ONCE, Calls
from cyconv.functional.normalization import follow, normalized
from cyconv.initializers import ones, zeros
from cyconv.layers.base import Layer, Shape, accumulate, data_of, image_shape
from cyconv.layers.recording import Recording
from cyconv.parameter import Parameter


class BatchNorm2d(Layer):
    """Normalise each channel to mean 0 and variance 1, then scale and shift it (Ioffe and Szegedy 2015).

    While training, mean and variance are the batch's; in evaluation mode they are the running averages.

    Parameters
    ----------
    num_features : int
        Channels.
    eps : float, default 1e-5
        Added to the variance.
    momentum : float, default 0.1
        Weight of the newest batch in the running averages.
    affine : bool, default True
        Whether the scale and shift are learned; otherwise there are none.

    Attributes
    ----------
    weight, bias : Parameter of shape (num_features,) or None
        Scale and shift.
    running_mean, running_var : ndarray of shape (num_features,)
        Averages over the batches seen, the variance with n - 1 in its denominator, as in PyTorch.
    num_batches_tracked : ndarray of shape (), int64
        How many batches these are.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import BatchNorm2d
    >>> x = np.random.default_rng(0).random((8, 2, 4, 4), np.float32)
    >>> y = BatchNorm2d(2)(x)
    >>> bool(np.all(np.abs(y.mean(axis=(0, 2, 3))) < 1e-6))
    True
    """

    buffers: ClassVar[tuple[str, ...]] = ("running_mean", "running_var", "num_batches_tracked")

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        self.num_features = as_int("BatchNorm2d", "num_features", num_features)
        self.eps = as_number("BatchNorm2d", "eps", eps, 0, open_minimum=True)
        self.momentum = as_number("BatchNorm2d", "momentum", momentum, 0, 1)
        self.affine = affine = as_bool("BatchNorm2d", "affine", affine)
        shape = (self.num_features,)
        self.weight = Parameter.drawn(shape, ones) if affine else None
        self.bias = Parameter.drawn(shape, zeros) if affine else None
        self.running_mean = np.zeros(shape, np.float32)
        self.running_var = np.ones(shape, np.float32)
        self.num_batches_tracked = np.array(0)

    def output_shape(self, input_shape: Shape) -> Shape:
        return image_shape("BatchNorm2d", input_shape, self.num_features)

    def forward(self, x: NDArray) -> NDArray:
        return self._run(x)

    def run(self, x: NDArray, addend: NDArray | None = None, relu: bool = False) -> NDArray:
        return self._run(x, addend, relu)

    def record(self, x: NDArray, addend: NDArray | None, relu: bool, calls: Recording) -> NDArray:
        calls.reads(self.weight, self.bias)
        calls.copies(self.running_mean, self.running_var)
        return self._run(x, addend, relu, calls)

    def _run(self, x: NDArray, addend: NDArray | None = None, relu: bool = False, calls: Calls = AT_ONCE) -> NDArray:
        parameters = data_of(self.weight), data_of(self.bias)
        if not self.training:
            running = self.running_mean, self.running_var
            return normalized("batch_norm", x, *running, *parameters, self.eps, addend, relu, calls)
        if x.size < 2 * self.num_features:
            raise ValueError(f"BatchNorm2d: training needs more than one value per channel, got `x` of shape {x.shape}")
        output, mean, var = F.batch_norm_with_statistics(x, *parameters, eps=self.eps, residual=addend, relu=relu)
        if np.isfinite(mean).all() and np.isfinite(var).all():  # one bad batch would spoil the averages for good
            follow(self.running_mean, self.running_var, mean, var, x, self.momentum)
            self.num_batches_tracked += 1
        self.remember(x, mean, var)
        return output

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        x, mean, var = self.recall()
        return self._accumulated(F.batch_norm_backward(grad_output, x, data_of(self.weight), mean, var, self.eps))

    def backward_of_relu(self, grad_output: NDArray) -> NDArray:
        """Return what `backward` does behind a ReLU that `run` has applied."""
        x, mean, var = self.recall()
        parameters = data_of(self.weight), data_of(self.bias)
        return self._accumulated(F.batch_norm_relu_backward(grad_output, x, *parameters, mean, var, self.eps))

    def _accumulated(self, gradients: tuple[NDArray, NDArray | None, NDArray]) -> NDArray:
        """Add to the parameters' gradients; return that of the input."""
        grad_input, grad_weight, grad_bias = gradients
        accumulate(self.weight, grad_weight)
        accumulate(self.bias, grad_bias)
        return grad_input

    def scale_and_shift(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what normalising by the running averages does: x * scale + shift, a number each for each channel."""
        scale = 1 / np.sqrt(self.running_var.astype(np.float64) + self.eps)
        if self.weight is not None:
            scale *= self.weight.read()
        shift = -self.running_mean * scale
        if self.bias is not None:
            shift += self.bias.read()
        return scale, shift

    def state(self) -> tuple:
        """Return all that `scale_and_shift` depends on, to compare."""
        weight, bias = data_of(self.weight), data_of(self.bias)
        parameters = None if weight is None else weight.tobytes(), None if bias is None else bias.tobytes()
        return *parameters, self.running_mean.tobytes(), self.running_var.tobytes(), self.eps
