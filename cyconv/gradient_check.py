"""Gradient check: a backward pass against central differences of its forward pass, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import cyconv.layers  # noqa: F401  (whole, before its parts: see cyconv/__init__.py)
from cyconv._validation import as_array, as_generator, as_int, as_number
from cyconv.layers.base import Layer

__all__ = ["GradientError", "GradientReport", "check_gradients"]


class GradientError(ArithmeticError):
    """A gradient differs from the difference quotient; the message names the worst entry.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.gradient_check import GradientError, check_gradients
    >>> try:
    ...     check_gradients(np.square, np.ones(1), backward=lambda grad_output, x: grad_output)
    ... except GradientError as error:
    ...     print(str(error)[:56])
    check_gradients: the gradient of input 0 at (0,) is 0.12
    """


@dataclass(frozen=True)
class GradientReport:
    """The largest error found in the gradient of one array.

    Attributes
    ----------
    name : str
        The array: the parameter's name, or "input 0", ...
    error : float
        ``|analytic - numeric| / max(1, |analytic|, |numeric|)`` at its largest.
    position : tuple of int
        Where.
    analytic, numeric : float
        What `backward` and the difference quotient say there.
    checked : int
        How many entries were compared.
    """

    name: str
    error: float
    position: tuple[int, ...]
    analytic: float
    numeric: float
    checked: int


def check_gradients(
    function: Layer | Callable[..., NDArray],
    *inputs: ArrayLike,
    backward: Callable[..., Any] | None = None,
    epsilon: float = 1e-6,
    tolerance: float = 1e-6,
    max_entries: int = 100,
    rng: np.random.Generator | int | None = 0,
    **keywords: Any,
) -> list[GradientReport]:
    """Compare a layer's, or an op's, backward pass with central differences.

    Parameters
    ----------
    function : Layer or callable
        A layer or network, of which a float64 copy in training mode is checked, with all parameters; or a forward
        function of arrays.
    *inputs : array-like
        Its input, or its array arguments. Keep them away from kinks: no equal numbers in a window of max pooling, no
        zeros in front of a ReLU.
    backward : callable, optional
        For a function: ``backward(grad_output, *inputs, **keywords)`` returning one gradient for each input.
    epsilon : float, default 1e-6
        Step of the differences.
    tolerance : float, default 1e-6
        Largest error allowed.
    max_entries : int, default 100
        Entries compared in each array; of larger ones a random choice is.
    rng : Generator, int or None, default 0
        Draws that choice and the gradient that comes in from above.
    **keywords
        Passed to a function and its `backward`.

    Returns
    -------
    list of GradientReport
        One for each input and parameter.

    Raises
    ------
    GradientError
        If an error exceeds the tolerance; it names the worst entry.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.gradient_check import check_gradients
    >>> from cyconv.layers import Linear
    >>> x = np.random.default_rng(0).standard_normal((4, 3))
    >>> [report.name for report in check_gradients(Linear(3, 2), x)]
    ['input 0', 'weight', 'bias']

    Notes
    -----
    The scalar that is differentiated is the output times a random array, summed.
    """
    step = as_number("check_gradients", "epsilon", epsilon, 0, open_minimum=True)
    entries = as_int("check_gradients", "max_entries", max_entries)
    generator = as_generator("check_gradients", rng)
    arrays = {
        f"input {i}": np.array(as_array("check_gradients", f"input {i}", value), np.float64)
        for i, value in enumerate(inputs)
    }
    if isinstance(function, Layer):
        run, gradients_for = _of_layer(function, arrays)
    else:
        run, gradients_for = _of_op(function, backward, arrays, keywords)
    gradients = gradients_for(grad_output := generator.standard_normal(run().shape))
    reports = []
    for name, gradient in gradients.items():
        if gradient.size:
            reports.append(compare(run, arrays[name], gradient, grad_output, name, step, entries, generator))
    wrong = [report for report in reports if not report.error <= tolerance]
    if wrong:
        worst = max(wrong, key=lambda report: np.nan_to_num(report.error, nan=np.inf))
        raise GradientError(
            f"check_gradients: the gradient of {worst.name} at {worst.position} is {worst.analytic:.9g}, but the "
            f"difference quotient is {worst.numeric:.9g} (error {worst.error:.2g}, tolerance {tolerance:.2g})"
        )
    return reports


def compare(
    run: Run,
    array: NDArray,
    gradient: NDArray,
    grad_output: NDArray,
    name: str,
    step: float,
    entries: int,
    rng: np.random.Generator,
    unit: float = 1.0,
) -> GradientReport:
    """Return the largest error among some entries of a gradient of ``sum(grad_output * run())``.

    Parameters
    ----------
    run : callable
        The forward pass, which reads `array`.
    array, gradient, grad_output : ndarray
        What is varied, the gradient with respect to it, and the factors of the outputs.
    name : str
        What `array` is called.
    step : float
        Of the central differences.
    entries : int
        How many are compared, at most.
    rng : Generator
        Chooses them.
    unit : float, default 1.0
        Errors of gradients that are smaller are relative to this.
    """
    chosen = np.sort(rng.permutation(gradient.size)[:entries])
    positions = [tuple(map(int, np.unravel_index(index, gradient.shape))) for index in chosen]
    analytic = np.array([gradient[position] for position in positions])
    numeric = np.array([_quotient(run, array, position, grad_output, step) for position in positions])
    errors = np.abs(analytic - numeric) / np.maximum(unit, np.maximum(np.abs(analytic), np.abs(numeric)))
    i = int(np.argmax(errors))  # NaN counts as the largest
    return GradientReport(name, float(errors[i]), positions[i], float(analytic[i]), float(numeric[i]), errors.size)


Run = Callable[[], NDArray]
GradientsFor = Callable[[NDArray], dict[str, NDArray]]


def _of_layer(original: Layer, arrays: dict[str, NDArray]) -> tuple[Run, GradientsFor]:
    """Return a layer's forward pass and its gradients by name; add its parameters to `arrays`."""
    if len(arrays) != 1:
        raise ValueError(f"check_gradients: a layer takes one input, got {len(arrays)}")
    layer = copy.deepcopy(original).astype(np.float64).train()
    random_state = layer.random_state()
    parameters = {name: parameter for name, parameter in layer.parameters().items() if parameter.trainable}
    arrays.update((name, parameter.data) for name, parameter in parameters.items())

    def run() -> NDArray:
        layer.load_random_state(random_state)  # the same dropout every time
        return layer.forward(arrays["input 0"])

    def gradients_for(grad_output: NDArray) -> dict[str, NDArray]:
        layer.zero_grad()
        gradients = {"input 0": layer.backward(grad_output), **{name: p.grad for name, p in parameters.items()}}
        return {name: gradient for name, gradient in gradients.items() if gradient is not None}

    return run, gradients_for


def _of_op(
    forward: Callable[..., NDArray], backward: Callable[..., Any] | None, arrays: dict[str, NDArray], keywords: dict
) -> tuple[Run, GradientsFor]:
    """Return the same two for a function and its `backward`."""
    if backward is None:
        raise ValueError("check_gradients: `backward` must be given for a function")

    def run() -> NDArray:
        return np.asarray(forward(*arrays.values(), **keywords))

    def gradients_for(grad_output: NDArray) -> dict[str, NDArray]:
        gradients = backward(grad_output, *arrays.values(), **keywords)
        several = gradients if isinstance(gradients, tuple) else (gradients,)
        return {name: array for name, array in zip(arrays, several, strict=True) if array is not None}

    return run, gradients_for


def _quotient(run: Run, array: NDArray, position: tuple[int, ...], grad_output: NDArray, step: float) -> float:
    """Return the central difference quotient of sum(grad_output * output) by one entry of an array."""
    value = array[position]
    array[position] = value + step
    above = run().copy()  # copied, because an identity returns the very array that is changed next
    array[position] = value - step
    difference = above - run()
    array[position] = value
    return float(np.sum(difference * grad_output) / (2 * step))
