"""Convolution and transposed convolution along one, two or three axes, with their gradients.

The public functions of one and three axes are in `conv1d` and `conv3d`; all of them check and plan here. A plan knows
images: a sequence is an image of one row, and for volumes see `_volumes`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _validation as check
from cyconv._geometry import Padding
from cyconv._validation import Array
from cyconv._window import SINGLE, Axes, Window, are_plain, said, window
from cyconv.functional._arrays import image_of, pixels_of, sum_channels
from cyconv.functional._correlation import ALGORITHMS, Convolution, allows_winograd
from cyconv.functional._taps import Geometry
from cyconv.functional._volumes import VolumeConvolution
from cyconv.settings import is_exact
from cyconv.threads import MAX_THREADS

ALL = (True, True, True)
KERNEL = {1: "K", 2: "KH, KW", 3: "KD, KH, KW"}
Plan = Convolution | VolumeConvolution
Shape = tuple[int, ...]
Gradients = tuple[NDArray | None, NDArray | None, NDArray | None]


def _checked(op: str, axes: int, weight: Any, bias: Any, transposed: bool) -> tuple[NDArray, NDArray | None]:
    """Return the filters and the bias."""
    weight = check.as_float_array(op, "weight", weight)
    if weight.ndim != axes + 2:
        layout = f"({'IC, OC' if transposed else 'OC, IC'} // groups, {KERNEL[axes]})"
        raise ValueError(f"{op}: `weight` must have {axes + 2} dimensions {layout}, got shape {weight.shape}")
    if 0 in weight.shape:
        raise ValueError(f"{op}: `weight` must not be empty, got shape {weight.shape}")
    return weight, None if bias is None else np.ascontiguousarray(check.as_float_array(op, "bias", bias, 1))


def planned(
    op: str,
    x: Any,
    weight: Array,
    bias: Array | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    algorithm: Any = "auto",
    output_padding: Any = None,
) -> tuple[NDArray, Plan]:
    """Return x with its channels last and the plan of its convolution, along as many axes as the filters have.

    With `output_padding`: the plan of the convolution whose adjoint, the transposed convolution, is to be applied.
    """
    filters = weight.shape
    image = check.as_image(op, "x", x, len(filters) - 2)
    if image.dtype is not weight.dtype or (bias is not None and bias.dtype is not image.dtype):
        check.check_same_dtype(op, x=image, weight=weight, bias=bias)
    parameters = stride, padding, dilation, groups, algorithm, output_padding
    usual = type(stride) is type(padding) is type(dilation) is type(groups) is int and output_padding is None
    read = _remembered_plan if (usual and type(algorithm) is str) or are_plain(parameters) else _read_plan
    arrays = image.shape, filters, None if bias is None else bias.shape, image.dtype
    return pixels_of(image), read(op, *arrays, *parameters, is_exact())


def _read_plan(
    op: str,
    x: Shape,
    weight: Shape,
    bias: Shape | None,
    dtype: np.dtype,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    algorithm: Any,
    output_padding: Any,
    exact: bool,
) -> Plan:
    """Check the parameters, each for itself, and return the plan."""
    windows = window(op, len(weight) - 2, weight[2:], stride, padding, dilation, output_padding=output_padding)
    algorithm = check.as_choice(op, "algorithm", algorithm, ALGORITHMS)
    if exact and algorithm in ("auto", "winograd"):
        algorithm = "exact"
    return _plan(op, x, weight, bias, dtype, windows, check.as_int(op, "groups", groups), algorithm)


_remembered_plan = lru_cache(maxsize=4096)(_read_plan)


@lru_cache(maxsize=4096)
def _plan(
    op: str,
    x: Shape,
    weight: Shape,
    bias: Shape | None,
    dtype: np.dtype,
    windows: Window,
    groups: int,
    algorithm: str,
) -> Plan:
    """Check the shapes of a convolution's arrays against each other and its parameters, and plan it."""
    _check_channels(op, x, weight, bias, groups, windows.output_padding is not None)
    axes = windows.place(op, x[2:])
    # Kernels count on it that padded images, once for each thread, do not outgrow 64 bits.
    padded = [axis.padded for axis in axes]
    if math.prod(padded) * max(weight[0], weight[1] * groups) * 8 * MAX_THREADS >= 2**63:
        sides = [(axis.before, axis.after) for axis in axes]
        raise ValueError(f"{op}: the padded input {said(padded)} is too large; `padding` adds {said(sides)}")
    if windows.output_padding is not None and any(
        extra >= stride for extra, stride in zip(windows.output_padding[-2:], windows.stride[-2:], strict=True)
    ):
        algorithm = "direct"  # the result has room for more windows than `x` has pixels: columns would count them all
    A, B, *kernel = weight  # the filters' channels, out and in; of a transposed convolution in and out
    if len(axes) == 3:
        depth, *plane = axes
        geometry = _geometry_of(tuple(plane), groups, False, algorithm)
        return VolumeConvolution(depth, geometry, x[0], A, B, dtype)
    if len(axes) == 1:
        axes, kernel = (SINGLE, *axes), [1, *kernel]
    geometry = _geometry_of(axes, groups, B == 1 and groups == A and groups > 1, algorithm)
    shape = A, *kernel, B  # as it lies in memory
    if algorithm == "winograd" and not allows_winograd(shape, dtype, geometry):
        raise ValueError(
            f"{op}: `algorithm` 'winograd' needs float32, 2x2, 3x3 or 5x5 filters of stride 1, or 4x4, 5x5 or 6x6 "
            f"ones of stride 2, no dilation, and at least 16 channels a group; got {dtype} `weight` of shape "
            f"{weight}, stride {windows.stride}, dilation {windows.dilation}, groups {groups}"
        )
    return Convolution(geometry, x[0], shape, dtype)


def _check_channels(op: str, x: Shape, weight: Shape, bias: Shape | None, groups: int, transposed: bool) -> None:
    if transposed:
        if x[1] % groups or weight[0] != x[1]:
            raise ValueError(
                f"{op}: `weight` of shape {weight} expects {weight[0]} input channels in groups of equal size, "
                f"but `x` has shape {x} and `groups` is {groups}"
            )
    else:
        if weight[0] % groups:
            raise ValueError(f"{op}: `groups` must divide the {weight[0]} output channels of `weight`, got {groups}")
        if x[1] != weight[1] * groups:
            raise ValueError(
                f"{op}: `weight` expects {weight[1] * groups} input channels ({weight[1]} per group x {groups} "
                f"groups), but `x` has shape {x}"
            )
    channels = weight[1] * groups if transposed else weight[0]
    if bias not in (None, (channels,)):
        raise ValueError(f"{op}: `bias` must have shape ({channels},) (one per output channel), got {bias}")


def _geometry_of(axes: Axes, groups: int, depthwise: bool, algorithm: str) -> Geometry:
    rows, columns = axes
    return Geometry(
        (rows.size, columns.size),
        (rows.output, columns.output),
        (rows.kernel, columns.kernel),
        (rows.stride, columns.stride),
        Padding(rows.before, rows.after, columns.before, columns.after),
        (rows.dilation, columns.dilation),
        groups,
        depthwise,
        algorithm,
    )


def _transposes(op: str, keywords: dict[str, Any]) -> bool:
    if "output_padding" in keywords and keywords["output_padding"] is None:  # which says that nothing is transposed
        check.as_int(op, "output_padding", None)
    return "output_padding" in keywords


def convolved(op: str, axes: int, x: Any, weight: Any, bias: Any, *parameters: Any, **keywords: Any) -> NDArray:
    """Do what `conv2d` does, along so many axes; with `output_padding` what `conv_transpose2d` does."""
    transposed = _transposes(op, keywords)
    weight, bias = _checked(op, axes, weight, bias, transposed)
    pixels, plan = planned(op, x, weight, bias, *parameters, **keywords)
    correlator = plan.adjoint if transposed else plan.forward
    return image_of(correlator.run(pixels, pixels_of(weight), bias), axes)


def convolved_backward(
    op: str, axes: int, needs: Any, grad_output: Any, x: Any, weight: Any, bias: Any, *parameters: Any, **keywords: Any
) -> Gradients:
    """Do what `conv2d_backward` does, along so many axes; with `output_padding` `conv_transpose2d_backward`."""
    transposed = _transposes(op, keywords)
    weight, bias = _checked(op, axes, weight, bias, transposed)
    needs = check.as_needs(op, needs)
    pixels, plan = planned(op, x, weight, bias, *parameters, **keywords)
    return gradients(op, grad_output, pixels, weight, bias is not None, plan, needs, transposed)


def conv2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int, int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
) -> NDArray:
    """Convolve images with a bank of filters (cross-correlation, as all deep-learning libraries have it).

    Parameters
    ----------
    x : array_like of shape (N, IC, IH, IW)
        Images, float32 or float64; channels-last memory is read in place, any other is copied once.
    weight : array_like of shape (OC, IC // groups, KH, KW)
        Filters, same dtype.
    bias : array_like of shape (OC,), optional
        Same dtype. Default: none.
    stride, dilation : int or (vertical, horizontal), default 1
    padding : int, (vertical, horizontal), ((top, bottom), (left, right)), "same", "valid" or "full", default 0
        Zeros around the image. "same" gives ceil(size / stride) outputs, the odd zero at the bottom and right; "full"
        has every place where kernel and image overlap.
    groups : int, default 1
        The g-th share of the output channels sees only the g-th share of the input channels.
    algorithm : {"auto", "direct", "winograd", "im2col"}, default "auto"
        "direct" reads the image in place. "winograd" needs a quarter of the multiplications for 3x3 filters of stride 1
        and 6x6 of stride 2, and about a third for 2x2 and 5x5 of stride 1 and 4x4 and 5x5 of stride 2, of 16 channels
        or more, in float32, with a rounding error some five times that of "direct" (up to 1.6e-6 of the output's root
        mean square for any number of channels; up to 7.2 times PyTorch's). A NaN or infinity spreads within its tile
        of 4x4 outputs, of 5x5 filters of stride 1 2x2. "auto" takes it where it is faster. "im2col" builds the matrix
        of patches, the textbook reference.

    Returns
    -------
    ndarray of shape (N, OC, OH, OW)
        Channels-last in memory; OH = floor((IH + top + bottom - dilation*(KH - 1) - 1) / stride) + 1.

    Raises
    ------
    TypeError
        For integer, complex or mixed dtypes.
    ValueError
        For shapes that do not fit, a kernel larger than the padded image, or parameters out of range.

    Notes
    -----
    ``y[n, o, i, j] = b[o] + sum over c, k, l of w[o, c, k, l] * x[n, c, i*stride + k*dilation - top, ...]``
    (Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> x = np.ones((1, 1, 4, 4), np.float32)
    >>> F.conv2d(x, np.ones((1, 1, 3, 3), np.float32))[0, 0]
    array([[9., 9.],
           [9., 9.]], dtype=float32)
    """
    return convolved("conv2d", 2, x, weight, bias, stride, padding, dilation, groups, algorithm)


def conv2d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int, int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
    needs: tuple[bool, bool, bool] = ALL,
) -> Gradients:
    """Return the gradients of `conv2d` with respect to x, weight and bias.

    Parameters
    ----------
    grad_output : array_like of shape (N, OC, OH, OW)
        Gradient of the loss with respect to `conv2d`'s result.
    x, weight, bias, stride, padding, dilation, groups, algorithm
        As given to `conv2d`.
    needs : tuple of three bools, default (True, True, True)
        Which gradients to compute; None stands for the others and for an absent bias.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray or None
        In the shapes of x, weight and bias.

    Raises
    ------
    TypeError, ValueError
        As `conv2d`, and for a `grad_output` of another shape than its result.

    Notes
    -----
    grad_x is the transposed convolution of grad_output by the same filters, grad_weight the correlation of x with
    grad_output, grad_bias the sum of grad_output over images and positions.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> x, w = np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3))
    >>> grad_x, grad_w, grad_b = F.conv2d_backward(np.ones((1, 1, 2, 2)), x, w, np.zeros(1))
    >>> grad_x[0, 0, 0], grad_w[0, 0, 0], grad_b
    (array([1., 2., 2., 1.]), array([4., 4., 4.]), array([4.]))
    """
    arrays = grad_output, x, weight, bias
    return convolved_backward("conv2d_backward", 2, needs, *arrays, stride, padding, dilation, groups, algorithm)


def gradients(
    op: str,
    grad_output: ArrayLike,
    x: NDArray,
    weight: NDArray,
    has_bias: bool,
    plan: Plan,
    needs: tuple[bool, bool, bool],
    transposed: bool = False,
    addend: NDArray | None = None,
) -> Gradients:
    """Return the gradients of a planned convolution, or transposed one, of x, channels last, by the user's weight.

    ``addend``, shaped as the gradient of x, is added to that.
    """
    axes = weight.ndim - 2
    gradient = check.as_float_array(op, "grad_output", grad_output)
    check.check_same_dtype(op, x=x, grad_output=gradient)
    N, *size, C = plan.in_shape if transposed else plan.out_shape
    check.check_shape(op, "grad_output", gradient, (N, C, *size[-axes:]))
    gradient = pixels_of(gradient)
    grad_x = grad_weight = None
    if needs[0]:
        correlator = plan.forward if transposed else plan.adjoint
        added = None if addend is None else pixels_of(addend)
        grad_x = image_of(correlator.apply(gradient, correlator.prepare(pixels_of(weight)), None, added), axes)
    if needs[1]:
        images = (gradient, x) if transposed else (x, gradient)
        grad_weight = image_of(plan.weight_gradient(*images), axes)
    return grad_x, grad_weight, sum_channels(gradient) if needs[2] and has_bias else None


def conv_transpose2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int, int] = 1,
    padding: Any = 0,
    output_padding: int | tuple[int, int] = 0,
    groups: int = 1,
    dilation: int | tuple[int, int] = 1,
    *,
    algorithm: str = "auto",
) -> NDArray:
    """Apply the adjoint of a convolution: each input pixel paints a weighted copy of the filters.

    Parameters
    ----------
    x : array_like of shape (N, IC, IH, IW)
        float32 or float64.
    weight : array_like of shape (IC, OC // groups, KH, KW)
        Same dtype.
    bias : array_like of shape (OC,), optional
        Same dtype. Default: none.
    stride, dilation : int or (vertical, horizontal), default 1
    padding : int, (vertical, horizontal) or ((top, bottom), (left, right)), default 0
        The padding of the convolution that this undoes: so much is cut off the result.
    output_padding : int or (vertical, horizontal), default 0
        Rows and columns added at the bottom and right; less than the stride or the dilation.
    groups : int, default 1
        The g-th share of the output channels sees only the g-th share of the input channels.
    algorithm : {"auto", "direct", "winograd", "im2col"}, default "auto"
        As in `conv2d`.

    Returns
    -------
    ndarray of shape (N, OC, OH, OW)
        OH = (IH - 1)*stride - top - bottom + dilation*(KH - 1) + output_padding + 1.

    Raises
    ------
    TypeError
        For integer, complex or mixed dtypes.
    ValueError
        For shapes that do not fit or parameters out of range.

    Notes
    -----
    ``<conv2d(y, w), x> = <y, conv_transpose2d(x, w)>`` for all x, y: the input gradient of `conv2d`
    (Zeiler et al., Deconvolutional networks, 2010).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> x = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> F.conv_transpose2d(x, np.ones((1, 1, 2, 2)), stride=2)[0, 0]
    array([[1., 1., 2., 2.],
           [1., 1., 2., 2.],
           [3., 3., 4., 4.],
           [3., 3., 4., 4.]])
    """
    parameters = stride, padding, dilation, groups, algorithm
    return convolved("conv_transpose2d", 2, x, weight, bias, *parameters, output_padding=output_padding)


def conv_transpose2d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int, int] = 1,
    padding: Any = 0,
    output_padding: int | tuple[int, int] = 0,
    groups: int = 1,
    dilation: int | tuple[int, int] = 1,
    *,
    algorithm: str = "auto",
    needs: tuple[bool, bool, bool] = ALL,
) -> Gradients:
    """Return the gradients of `conv_transpose2d` with respect to x, weight and bias.

    Parameters
    ----------
    grad_output : array_like of shape (N, OC, OH, OW)
    x, weight, bias, stride, padding, output_padding, groups, dilation, algorithm
        As given to `conv_transpose2d`.
    needs : tuple of three bools, default (True, True, True)
        Which gradients to compute; None stands for the others and for an absent bias.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray or None
        In the shapes of x, weight and bias.

    Raises
    ------
    TypeError, ValueError
        As `conv_transpose2d`, and for a `grad_output` of another shape than its result.

    Notes
    -----
    The adjoint of the adjoint: grad_x is `conv2d` of grad_output by the same filters.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> x, w = np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2))
    >>> grad_x, _, _ = F.conv_transpose2d_backward(np.ones((1, 1, 4, 4)), x, w, stride=2)
    >>> grad_x[0, 0]
    array([[4., 4.],
           [4., 4.]])
    """
    op, arrays = "conv_transpose2d_backward", (grad_output, x, weight, bias)
    parameters = stride, padding, dilation, groups, algorithm
    return convolved_backward(op, 2, needs, *arrays, *parameters, output_padding=output_padding)
