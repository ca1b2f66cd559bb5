"""Convolution and transposed convolution, with their gradients."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _geometry
from cyconv import _validation as check
from cyconv._geometry import Padding, Pair
from cyconv._validation import Array
from cyconv.functional._arrays import NCHW, channels_last, sum_channels
from cyconv.functional._correlation import ALGORITHMS, Convolution, allows_winograd
from cyconv.functional._taps import Geometry
from cyconv.settings import is_exact
from cyconv.threads import MAX_THREADS

ALL = (True, True, True)
Shape = tuple[int, ...]
Gradients = tuple[NDArray | None, NDArray | None, NDArray | None]


def _checked(op: str, weight: Any, bias: Any) -> tuple[NDArray, NDArray | None]:
    """Return the filters and the bias."""
    weight = check.as_float_array(op, "weight", weight, 4)
    if 0 in weight.shape:
        raise ValueError(f"{op}: `weight` must not be empty, got shape {weight.shape}")
    return weight, None if bias is None else np.ascontiguousarray(check.as_float_array(op, "bias", bias, 1))


def _image(op: str, x: Any, weight: Array, bias: Array | None) -> NDArray:
    """Return `x` as an image of the others' dtype."""
    image = check.as_image(op, "x", x)
    if image.dtype is not weight.dtype or (bias is not None and bias.dtype is not image.dtype):
        check.check_same_dtype(op, x=image, weight=weight, bias=bias)
    return image


def _parameters(
    op: str, stride: Any, padding: Any, dilation: Any, groups: Any, algorithm: Any
) -> tuple[Pair, Padding | str, Pair, int, str]:
    """Return a convolution's parameters in the one form by which plans are kept, each checked for itself."""
    plain = type(stride) is type(padding) is type(dilation) is type(groups) is int and type(algorithm) is str
    checked = _remembered_parameters if plain else _checked_parameters  # of these types what is equal means the same
    return checked(op, stride, padding, dilation, groups, algorithm, is_exact())


def _checked_parameters(
    op: str, stride: Any, padding: Any, dilation: Any, groups: Any, algorithm: Any, exact: bool
) -> tuple[Pair, Padding | str, Pair, int, str]:
    stride, dilation = check.as_pair(op, "stride", stride), check.as_pair(op, "dilation", dilation)
    if not isinstance(padding, str):  # a string's meaning depends on the image
        padding = check.as_padding(op, padding, stride, stride, stride, dilation)
    algorithm = check.as_choice(op, "algorithm", algorithm, ALGORITHMS)
    if exact and algorithm in ("auto", "winograd"):
        algorithm = "exact"
    return stride, padding, dilation, check.as_int(op, "groups", groups), algorithm


_remembered_parameters = lru_cache(maxsize=256)(_checked_parameters)


def _check_bias(op: str, bias: Shape | None, channels: int) -> None:
    if bias not in (None, (channels,)):
        raise ValueError(f"{op}: `bias` must have shape ({channels},) (one per output channel), got {bias}")


def _planned(op: str, geometry: Geometry, images: int, weight: Shape, dtype: np.dtype) -> Convolution:
    """Return the plan of a convolution that fits memory and the algorithm asked for."""
    OC, IC, KH, KW = weight
    # Kernels count on it that padded images, once for each thread, do not outgrow 64 bits.
    padding = geometry.padding
    height, width = geometry.in_size[0] + sum(padding[:2]), geometry.in_size[1] + sum(padding[2:])
    if height * width * max(OC, IC * geometry.groups) * 8 * MAX_THREADS >= 2**63:
        raise ValueError(f"{op}: the padded image ({height}, {width}) is too large; `padding` adds {tuple(padding)}")
    shape = OC, KH, KW, IC  # as it lies in memory
    if geometry.algorithm == "winograd" and not allows_winograd(shape, dtype, geometry):
        raise ValueError(
            f"{op}: `algorithm` 'winograd' needs float32, 2x2, 3x3 or 5x5 filters of stride 1, or 4x4, 5x5 or 6x6 "
            f"ones of stride 2, no dilation, and at least 16 channels a group; got {dtype} `weight` of shape "
            f"{weight}, stride {geometry.stride}, dilation {geometry.dilation}, groups {geometry.groups}"
        )
    return Convolution(geometry, images, shape, dtype)


@lru_cache(maxsize=4096)
def _plan(
    op: str,
    x: Shape,
    weight: Shape,
    bias: Shape | None,
    dtype: np.dtype,
    stride: Pair,
    padding: Padding | str,
    dilation: Pair,
    groups: int,
    algorithm: str,
) -> Convolution:
    """Check the shapes of a convolution's arrays against each other and its parameters, and plan it."""
    (OC, IC, KH, KW), (IH, IW) = weight, x[2:]
    size, kernel = (IH, IW), (KH, KW)
    if OC % groups:
        raise ValueError(f"{op}: `groups` must divide the {OC} output channels of `weight`, got {groups}")
    if x[1] != IC * groups:
        raise ValueError(
            f"{op}: `weight` expects {IC * groups} input channels ({IC} per group x {groups} groups), "
            f"but `x` has shape {x}"
        )
    _check_bias(op, bias, OC)
    resolved = check.as_padding(op, padding, size, kernel, stride, dilation)
    out_size = (
        _geometry.conv_output(size[0], kernel[0], stride[0], resolved.top, resolved.bottom, dilation[0]),
        _geometry.conv_output(size[1], kernel[1], stride[1], resolved.left, resolved.right, dilation[1]),
    )
    if min(out_size) < 1:
        span = tuple(_geometry.effective_kernel(kernel[axis], dilation[axis]) for axis in (0, 1))
        padded = (size[0] + resolved.top + resolved.bottom, size[1] + resolved.left + resolved.right)
        raise ValueError(f"{op}: the kernel spans {span} (`dilation` included), more than the padded input {padded}")
    depthwise = IC == 1 and groups == OC and groups > 1
    geometry = Geometry(size, out_size, kernel, stride, resolved, dilation, groups, depthwise, algorithm)
    return _planned(op, geometry, x[0], weight, dtype)


def planned_conv2d(
    op: str,
    x: Any,
    weight: Array,
    bias: Array | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    algorithm: Any = "auto",
) -> tuple[NDArray, Convolution]:
    """Return x as [N, H, W, C] and the plan of its convolution."""
    image = _image(op, x, weight, bias)
    parameters = _parameters(op, stride, padding, dilation, groups, algorithm)
    plan = _plan(op, image.shape, weight.shape, None if bias is None else bias.shape, image.dtype, *parameters)
    return channels_last(image), plan


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
    padding : int, (vertical, horizontal), ((top, bottom), (left, right)), "same" or "valid", default 0
        Zeros around the image. "same" gives ceil(size / stride) outputs, the odd zero at the bottom and right.
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
    op = "conv2d"
    weight, bias = _checked(op, weight, bias)
    pixels, plan = planned_conv2d(op, x, weight, bias, stride, padding, dilation, groups, algorithm)
    return plan.forward.run(pixels, channels_last(weight), bias).transpose(NCHW)


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
    op = "conv2d_backward"
    weight, bias = _checked(op, weight, bias)
    pixels, plan = planned_conv2d(op, x, weight, bias, stride, padding, dilation, groups, algorithm)
    return gradients(op, grad_output, pixels, weight, bias is not None, plan, needs)


def gradients(
    op: str,
    grad_output: ArrayLike,
    x: NDArray,
    weight: NDArray,
    has_bias: bool,
    plan: Convolution,
    needs: tuple[bool, bool, bool],
    transposed: bool = False,
    addend: NDArray | None = None,
) -> Gradients:
    """Return the gradients of a planned convolution, or transposed one, of x [N, H, W, C] by weight (OC, IC, KH, KW).

    ``addend``, shaped as the gradient of x, is added to that.
    """
    gradient = check.as_float_array(op, "grad_output", grad_output, 4)
    check.check_same_dtype(op, x=x, grad_output=gradient)
    N, H, W, C = plan.in_shape if transposed else plan.out_shape
    check.check_shape(op, "grad_output", gradient, (N, C, H, W))
    gradient = channels_last(gradient)
    grad_x = grad_weight = None
    if needs[0]:
        correlator = plan.forward if transposed else plan.adjoint
        added = None if addend is None else channels_last(addend)
        grad_x = correlator.apply(gradient, correlator.prepare(channels_last(weight)), None, added).transpose(NCHW)
    if needs[1]:
        images = (gradient, x) if transposed else (x, gradient)
        grad_weight = plan.weight_gradient(*images).transpose(NCHW)
    return grad_x, grad_weight, sum_channels(gradient) if needs[2] and has_bias else None


@lru_cache(maxsize=4096)
def _plan_of_transpose(
    op: str,
    x: Shape,
    weight: Shape,
    bias: Shape | None,
    dtype: np.dtype,
    extra: Pair,
    stride: Pair,
    padding: Padding | str,
    dilation: Pair,
    groups: int,
    algorithm: str,
) -> Convolution:
    """Plan the convolution whose adjoint the transposed convolution is; check the shapes of its arrays."""
    (KH, KW), (IH, IW) = weight[2:], x[2:]
    kernel, size = (KH, KW), (IH, IW)
    if padding == "same":
        raise ValueError(f'{op}: `padding` "same" has no meaning here; give the numbers that undo a convolution\'s')
    resolved = check.as_padding(op, padding, size, kernel, stride, dilation)
    if x[1] % groups or weight[0] != x[1]:
        raise ValueError(
            f"{op}: `weight` of shape {weight} expects {weight[0]} input channels in groups of equal size, "
            f"but `x` has shape {x} and `groups` is {groups}"
        )
    _check_bias(op, bias, weight[1] * groups)
    for axis in (0, 1):
        if extra[axis] >= max(stride[axis], dilation[axis]):
            raise ValueError(
                f"{op}: `output_padding` must be less than `stride` or `dilation`, got {extra} for {stride}, {dilation}"
            )
    sides = ((resolved.top, resolved.bottom), (resolved.left, resolved.right))
    out_h, out_w = (
        _geometry.conv_transpose_output(
            size[axis], kernel[axis], stride[axis], *sides[axis], dilation[axis], extra[axis]
        )
        for axis in (0, 1)
    )
    out_size = out_h, out_w
    if min(out_size) < 1:
        raise ValueError(
            f"{op}: `padding` {tuple(resolved)} leaves an output of size {out_size}; it must be at least (1, 1)"
        )
    if any(extra[axis] >= stride[axis] for axis in (0, 1)):
        algorithm = "direct"  # the result has room for more windows than `x` has pixels: columns would count them all
    depthwise = weight[1] == 1 and weight[0] == groups and groups > 1
    geometry = Geometry(out_size, size, kernel, stride, resolved, dilation, groups, depthwise, algorithm)
    return _planned(op, geometry, x[0], weight, dtype)


def planned_conv_transpose2d(
    op: str,
    x: Any,
    weight: Array,
    bias: Array | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    algorithm: Any = "auto",
) -> tuple[NDArray, Convolution]:
    """Return x as [N, H, W, C] and the plan of the convolution whose adjoint is to be applied to it."""
    image = _image(op, x, weight, bias)
    extra = check.as_pair(op, "output_padding", output_padding, 0)
    shapes = image.shape, weight.shape, None if bias is None else bias.shape
    parameters = _parameters(op, stride, padding, dilation, groups, algorithm)
    return channels_last(image), _plan_of_transpose(op, *shapes, image.dtype, extra, *parameters)


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
    op = "conv_transpose2d"
    weight, bias = _checked(op, weight, bias)
    arguments = stride, padding, output_padding, groups, dilation, algorithm
    pixels, plan = planned_conv_transpose2d(op, x, weight, bias, *arguments)
    return plan.adjoint.run(pixels, channels_last(weight), bias).transpose(NCHW)


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
    op = "conv_transpose2d_backward"
    weight, bias = _checked(op, weight, bias)
    arguments = stride, padding, output_padding, groups, dilation, algorithm
    pixels, plan = planned_conv_transpose2d(op, x, weight, bias, *arguments)
    return gradients(op, grad_output, pixels, weight, bias is not None, plan, needs, transposed=True)
