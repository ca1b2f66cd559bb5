"""What a network looks for: gradients with respect to its input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv._validation import as_array, as_generator, as_int, as_int_array, as_number, brief
from cyconv.analysis.counts import input_shape_of
from cyconv.analysis.probes import differentiable_twin_of, inputs, probe, up_to
from cyconv.layers.base import Layer

__all__ = ["input_gradient", "maximizing_images", "saliency"]

FLAT = 1e-12  # root mean square of a gradient below which there is no direction to go


def input_gradient(layer: Layer, x: ArrayLike, target: ArrayLike | None = None) -> NDArray:
    """Return the gradient of each image's score for a class with respect to the image.

    Parameters
    ----------
    layer : Layer
        A network that returns scores, or images of scores, along axis 1. It is left as it is.
    x : ndarray of shape (N, C, H, W), float32, float64 or uint8
        The images, as for `Network.predict`; they are computed at once.
    target : array-like of int of shape (N,), or int, optional
        The classes; by default those of the largest scores, of images of scores summed over the pixels.

    Returns
    -------
    ndarray of the shape of `x`
        Of the network as it predicts: batch normalisation by its running averages, no dropout.

    Raises
    ------
    TypeError, ValueError
        If `layer` is none, `x` or `target` does not suit it, or a class does not exist.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.analysis import input_gradient
    >>> from cyconv.layers import Linear
    >>> scores = Linear(3, 2)
    >>> gradient = input_gradient(scores, np.ones((1, 3), np.float32), 1)
    >>> bool(np.all(gradient == scores.weight.data[1]))
    True
    """
    return _gradient("input_gradient", layer, x, target)


def _gradient(op: str, layer: Layer, x: ArrayLike, target: ArrayLike | None) -> NDArray:
    batch = inputs(op, layer, x)
    twin = differentiable_twin_of(layer)
    scores = twin.forward(batch)
    if scores.ndim < 2:
        raise ValueError(f"{op}: the network must return scores along axis 1, got shape {scores.shape}")
    N, K = scores.shape[:2]
    if target is None:
        classes = scores.reshape(N, K, -1).sum(axis=2).argmax(axis=1)
    else:
        given = as_int_array(op, "target", target)
        if given.ndim and given.shape != (N,):
            raise ValueError(f"{op}: `target` must be a class for each of the {N} images, got shape {given.shape}")
        classes = np.broadcast_to(given, (N,))
        if classes.min() < 0 or classes.max() >= K:
            raise ValueError(
                f"{op}: `target` must be classes from 0 to {K - 1}, got {classes.min()} to {classes.max()}"
            )
    grad_output = np.zeros_like(scores)
    grad_output[np.arange(N), classes] = 1
    gradient: Any = twin.backward(grad_output)
    return gradient


def saliency(layer: Layer, x: ArrayLike, target: ArrayLike | None = None) -> NDArray:
    """Return how much each pixel matters for the score of a class.

    Parameters
    ----------
    layer, x, target
        As for `input_gradient`.

    Returns
    -------
    ndarray of shape (N, H, W)

    Raises
    ------
    TypeError, ValueError
        As `input_gradient`.

    Notes
    -----
    ``max over c of |d score / d x_c|`` (Simonyan, Vedaldi and Zisserman, Deep inside convolutional networks, 2014).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import models
    >>> from cyconv.analysis import saliency
    >>> saliency(models.lenet5(seed=0), np.zeros((2, 32, 32), np.float32), 7).shape
    (2, 32, 32)
    """
    return np.abs(_gradient("saliency", layer, x, target)).max(axis=1)


MOST_BLUR = 10_000  # pixels


def maximizing_images(
    layer: Layer,
    name: str,
    channels: Sequence[int] | None = None,
    *,
    input_shape: Sequence[int] | None = None,
    steps: int = 100,
    learning_rate: float = 0.1,
    decay: float = 0.01,
    blur: float = 0.0,
    rng: np.random.Generator | int | None = 0,
) -> NDArray:
    """Return images that make filters respond as strongly as they can: gradient ascent on the input.

    Parameters
    ----------
    layer : Layer
        A network. It is left as it is.
    name : str
        The dotted name of a layer inside, as in `summary`. Take a convolution rather than the ReLU behind it, which
        gives no direction where it is silent.
    channels : sequence of int, optional
        Channels of its output; by default all.
    input_shape : sequence of int, optional
        Shape of an image, (C, H, W); by default that of the network.
    steps : int, default 100
        How many there are.
    learning_rate : float, default 0.1
        Size of the steps: the root mean square by which pixels change in one.
    decay : float, default 0.01
        Share of the image that is taken away in each step, so that pixels that do not matter become zero.
    blur : float, default 0
        Standard deviation, in pixels, of a Gaussian filter after each step. For the scores of classes about 0.5 brings
        out shapes, where there would be fine patterns.
    rng : numpy.random.Generator, int or None, default 0
        Draws the noise that the images start from, of standard deviation 0.1.

    Returns
    -------
    ndarray of shape (number of channels, C, H, W)
        In the network's dtype, of any size; they start around zero.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or out of range, or there is no such layer or channel.

    Notes
    -----
    ``x <- (1 - decay) (x + learning_rate g / rms(g))``, g the gradient of the channel's mean over its positions, of the
    network as it predicts (Erhan, Bengio, Courville and Vincent, Visualizing higher-layer features of a deep network,
    2009; Simonyan et al. 2014; Yosinski, Clune, Nguyen, Fuchs and Lipson, Understanding neural networks through deep
    visualization, 2015).

    Examples
    --------
    >>> from cyconv import models
    >>> from cyconv.analysis import maximizing_images
    >>> maximizing_images(models.lenet5(seed=0), "3", [0, 5], steps=5).shape
    (2, 1, 32, 32)
    """
    op = "maximizing_images"
    shape = input_shape_of(op, layer, input_shape)
    count = as_int(op, "steps", steps, 0)
    rate = as_number(op, "learning_rate", learning_rate, 0, open_minimum=True)
    kept = 1 - as_number(op, "decay", decay, 0, 1, open_maximum=True)
    width = as_number(op, "blur", blur, 0, MOST_BLUR)
    twin = differentiable_twin_of(layer)
    (seen,) = probe(op, twin, [name]).values()
    twin = up_to(twin, [name])
    generator = as_generator(op, rng)
    start = generator.normal(0, 0.1, shape)
    images = inputs(op, layer, start[np.newaxis])
    _forward(op, twin, seen, name, images)
    K = seen.output.shape[1]  # type: ignore[union-attr]
    wanted = np.arange(K) if channels is None else as_int_array(op, "channels", as_array(op, "channels", channels), 1)
    if wanted.size == 0 or wanted.min() < 0 or wanted.max() >= K:
        raise ValueError(f"{op}: `channels` must be from 0 to {K - 1}, at least one, got {brief(channels)}")
    images = np.repeat(images, len(wanted), axis=0)
    axes = tuple(range(1, images.ndim))
    for _ in range(count):
        output = _forward(op, twin, seen, name, images)
        response: Any = seen.output
        seen.grad_output = np.zeros_like(response)
        seen.grad_output[np.arange(len(wanted)), wanted] = 1
        gradient: Any = twin.backward(np.zeros_like(output))
        size = np.sqrt(np.mean(np.square(gradient), axis=axes, keepdims=True))
        images += (rate * gradient / np.where(size > FLAT, size, np.inf)).astype(images.dtype)
        images *= images.dtype.type(kept)
        images = _blurred(images, width)
    return images


def _blurred(images: NDArray, width: float) -> NDArray:
    """Return images without fine detail; vectors, and all for a width of zero, as they are."""
    if width == 0 or images.ndim < 3:
        return images
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(images, (0, 0, *(width for _ in images.shape[2:])), mode="nearest")


def _forward(op: str, twin: Layer, seen: Any, name: str, images: NDArray) -> NDArray:
    """Return the network's output, after making sure that the layer ran."""
    output = twin.forward(images)
    if seen.output is None:
        raise ValueError(f"{op}: the layer {name!r} does not run while predicting")
    return output
