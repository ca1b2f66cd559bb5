"""Normalisation that knows no batch: group, instance, layer and local response normalisation."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from cyconv import functional as F
from cyconv._validation import as_bool, as_int, as_number
from cyconv.initializers import ones, zeros
from cyconv.layers.activation import Activation
from cyconv.layers.base import Shape, accumulate, data_of
from cyconv.parameter import Parameter


class _Normalization(Activation):
    """What layers with a learned factor and summand share."""

    weight: Parameter | None
    bias: Parameter | None

    def _own(self, shape: Shape, affine: bool) -> None:
        self.weight = Parameter.drawn(shape, ones) if affine else None
        self.bias = Parameter.drawn(shape, zeros) if affine else None

    def _parameters(self) -> tuple[NDArray | None, NDArray | None]:
        return data_of(self.weight), data_of(self.bias)

    def _accumulated(self, gradients: tuple[NDArray, NDArray | None, NDArray | None]) -> NDArray:
        grad_input, grad_weight, grad_bias = gradients
        accumulate(self.weight, grad_weight)
        accumulate(self.bias, grad_bias)
        return grad_input


class GroupNorm(_Normalization):
    """Normalise groups of channels of each image, then scale and shift each channel (Wu and He 2018).

    Parameters
    ----------
    num_groups : int
        Into how many groups of neighbours the channels are divided.
    num_channels : int
        Channels.
    eps : float, default 1e-5
        Added to the variance.
    affine : bool, default True
        Whether the scale and shift are learned; otherwise there are none.

    Attributes
    ----------
    weight, bias : Parameter of shape (num_channels,) or None

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import GroupNorm
    >>> y = GroupNorm(2, 4)(np.random.default_rng(0).random((8, 4, 5, 5), np.float32))
    >>> bool(np.all(np.abs(y[:, :2].mean(axis=(1, 2, 3))) < 1e-6))
    True
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        self.num_groups = as_int("GroupNorm", "num_groups", num_groups)
        self.num_channels = as_int("GroupNorm", "num_channels", num_channels)
        if self.num_channels % self.num_groups:
            raise ValueError(f"GroupNorm: `num_groups` must divide `num_channels` {num_channels}, got {num_groups}")
        self.eps = as_number("GroupNorm", "eps", eps, 0, open_minimum=True)
        self.affine = as_bool("GroupNorm", "affine", affine)
        self._own((self.num_channels,), self.affine)

    def output_shape(self, input_shape: Shape) -> Shape:
        return _with_channels("GroupNorm", input_shape, self.num_channels)

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x)
        return F.group_norm(x, self.num_groups, *self._parameters(), self.eps)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (x,) = self.recall()
        arguments = self.num_groups, *self._parameters(), self.eps
        return self._accumulated(F.group_norm_backward(grad_output, x, *arguments))


class InstanceNorm2d(_Normalization):
    """Normalise each channel of each image (Ulyanov et al. 2016); learn a scale and shift if wanted.

    Parameters
    ----------
    num_features : int
        Channels.
    eps : float, default 1e-5
        Added to the variance.
    affine : bool, default False
        Whether a scale and shift are learned; otherwise there are none, as in PyTorch.

    Attributes
    ----------
    weight, bias : Parameter of shape (num_features,) or None

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import InstanceNorm2d
    >>> y = InstanceNorm2d(4)(np.random.default_rng(0).random((8, 4, 5, 5), np.float32))
    >>> bool(np.all(np.abs(y.mean(axis=(2, 3))) < 1e-6))
    True
    """

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = False) -> None:
        self.num_features = as_int("InstanceNorm2d", "num_features", num_features)
        self.eps = as_number("InstanceNorm2d", "eps", eps, 0, open_minimum=True)
        self.affine = as_bool("InstanceNorm2d", "affine", affine)
        self._own((self.num_features,), self.affine)

    def output_shape(self, input_shape: Shape) -> Shape:
        return _with_channels("InstanceNorm2d", input_shape, self.num_features)

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x)
        return F.instance_norm(x, *self._parameters(), self.eps)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (x,) = self.recall()
        return self._accumulated(F.instance_norm_backward(grad_output, x, *self._parameters(), self.eps))


class LayerNorm(_Normalization):
    """Normalise over the last axes, then scale and shift each element of them (Ba et al. 2016).

    Parameters
    ----------
    normalized_shape : int or tuple of int
        Extents of these axes: the number of features, or (C, H, W).
    eps : float, default 1e-5
        Added to the variance.
    elementwise_affine : bool, default True
        Whether the scale and shift are learned; otherwise there are none.

    Attributes
    ----------
    weight, bias : Parameter of shape `normalized_shape` or None

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import LayerNorm
    >>> LayerNorm(2)(np.array([[1.0, 3.0]], np.float32)).round(3)
    array([[-1.,  1.]], dtype=float32)
    """

    def __init__(self, normalized_shape: int | Shape, eps: float = 1e-5, elementwise_affine: bool = True) -> None:
        extents = normalized_shape if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
        self.normalized_shape = tuple(as_int("LayerNorm", "normalized_shape", extent) for extent in extents)
        self.eps = as_number("LayerNorm", "eps", eps, 0, open_minimum=True)
        self.elementwise_affine = as_bool("LayerNorm", "elementwise_affine", elementwise_affine)
        self._own(self.normalized_shape, self.elementwise_affine)

    def output_shape(self, input_shape: Shape) -> Shape:
        shape = tuple(input_shape)
        if shape[-len(self.normalized_shape) :] != self.normalized_shape:
            raise ValueError(f"LayerNorm: the last axes must be {self.normalized_shape}, got {shape}")
        return shape

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x)
        return F.layer_norm(x, self.normalized_shape, *self._parameters(), self.eps)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (x,) = self.recall()
        arguments = self.normalized_shape, *self._parameters(), self.eps
        return self._accumulated(F.layer_norm_backward(grad_output, x, *arguments))


class LocalResponseNorm(Activation):
    """Divide each number by a power of the mean square of the channels around it (Krizhevsky et al. 2012).

    Parameters
    ----------
    size : int
        How many channels count.
    alpha : float, default 1e-4
        Factor of their mean square; the paper's is of their sum, so `size` times smaller.
    beta : float, default 0.75
        Exponent.
    k : float, default 1.0
        Added to the mean square.

    Notes
    -----
    ``y_c = x_c / (k + alpha / size * sum of x_j^2)^beta``, see `cyconv.functional.local_response_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import LocalResponseNorm
    >>> LocalResponseNorm(1, alpha=3.0, beta=0.5)(np.ones((1, 1, 1, 1)))
    array([[[[0.5]]]])
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        self.size = as_int("LocalResponseNorm", "size", size)
        self.alpha = as_number("LocalResponseNorm", "alpha", alpha, 0)
        self.beta = as_number("LocalResponseNorm", "beta", beta)
        self.k = as_number("LocalResponseNorm", "k", k, 0, open_minimum=True)

    def forward(self, x: NDArray) -> NDArray:
        self.remember(x)
        return F.local_response_norm(x, *self._options())

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        (x,) = self.recall()
        return F.local_response_norm_backward(grad_output, x, *self._options())

    def _options(self) -> tuple[Any, ...]:
        return self.size, self.alpha, self.beta, self.k


def _with_channels(op: str, input_shape: Shape, channels: int) -> Shape:
    if not input_shape or input_shape[0] != channels:
        raise ValueError(f"{op}: needs {channels} channels, got an input of shape {tuple(input_shape)}")
    return tuple(input_shape)
