"""Convolution of volumes: two-dimensional, with the kernel's depth among the channels.

A slice of the output sees KD slices of the input; laid side by side as channels they make one image, [N*OD, H, W,
KD*IC], whose two-dimensional convolution it is. So all sums are taken inside the two-dimensional kernels. Volumes lie
channels-last here, [N, D, H, W, C].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import _geometry, memory
from cyconv import _validation as check
from cyconv._geometry import Padding, Pair
from cyconv.functional._arrays import NCHW, add, sum_channels
from cyconv.functional._naming import named
from cyconv.functional._volumes import Triple, as_triple, slices, volumes, voxels
from cyconv.functional.conv import ALL, conv2d, conv2d_backward, conv_transpose2d, conv_transpose2d_backward
from cyconv.functional.unfold import columns_nhwc, columns_nhwc_adjoint

Gradients = tuple[NDArray | None, NDArray | None, NDArray | None]
STACK_BYTES = 64 << 20  # of the images with several slices as channels, at a time; those of one volume at least


class _Depth(NamedTuple):
    """How the kernel moves along the depth of a volume."""

    size: int  # slices of the input of a convolution
    outputs: int  # of its output; of a transposed convolution these two change places
    kernel: int
    stride: int
    before: int
    dilation: int

    def window(self) -> tuple[Pair, Pair, Padding, Pair]:
        """Return kernel, stride, padding and dilation over images of `size` rows, each of which is a slice."""
        reach = (self.outputs - 1) * self.stride + (self.kernel - 1) * self.dilation + 1
        after = reach - self.before - self.size  # negative where the last rows are left out
        return (self.kernel, 1), (self.stride, 1), Padding(self.before, after, 0, 0), (self.dilation, 1)


@named
def conv3d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | Triple = 1,
    padding: Any = 0,
    dilation: int | Triple = 1,
    groups: int = 1,
) -> NDArray:
    """Correlate volumes with filters.

    Parameters
    ----------
    x : array_like of shape (N, IC, ID, IH, IW)
        float32 or float64.
    weight : array_like of shape (OC, IC // groups, KD, KH, KW)
        Same dtype.
    bias : array_like of shape (OC,), optional
        Same dtype. Default: none.
    stride, dilation : int or triple of int, default 1
        Step of the filter, and distance between its elements.
    padding : int, triple of int, "same" or "valid", default 0
        Zeros around the volume.
    groups : int, default 1
        The g-th share of the output channels sees only the g-th share of the input channels.

    Returns
    -------
    ndarray of shape (N, OC, OD, OH, OW)
        Along each axis floor((I + 2*padding - dilation*(K - 1) - 1) / stride) + 1.

    Raises
    ------
    TypeError
        For integer, complex or mixed dtypes.
    ValueError
        For shapes that do not fit or parameters out of range.

    Notes
    -----
    ``y[n, o, d, h, w] = bias[o] + sum over c and the kernel of weight[o, c, i, j, k] * x[n, c, d*stride - padding +
    i*dilation, ...]``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.conv3d(np.ones((1, 1, 3, 2, 2)), np.ones((1, 1, 2, 2, 2))).ravel()
    array([8., 8.])
    """
    op = "conv3d"
    x, weight, bias, groups = _checked(op, x, weight, bias, groups)
    depth, plane = _convolution(op, x, weight, stride, padding, dilation)
    filters = _stacked_filters(weight)
    parts = [
        conv2d(_stack(x[some], depth, groups), filters, bias, *plane, groups) for some in _parts(x, x.shape[1:], depth)
    ]
    return volumes(_joined(parts), depth.outputs)


@named
def conv3d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | Triple = 1,
    padding: Any = 0,
    dilation: int | Triple = 1,
    groups: int = 1,
    *,
    needs: tuple[bool, bool, bool] = ALL,
) -> Gradients:
    """Return the gradients of `conv3d` with respect to x, weight and bias.

    Parameters
    ----------
    grad_output : array_like of shape (N, OC, OD, OH, OW)
        Gradient of the result.
    x, weight, bias, stride, padding, dilation, groups
        As given to `conv3d`.
    needs : tuple of three bools, default (True, True, True)
        Which gradients to compute; None stands for the others and for an absent bias.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray or None
        In the shapes of x, weight and bias.

    Raises
    ------
    TypeError, ValueError
        As `conv3d`, and for a `grad_output` of another shape than its result.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> x, weight = np.ones((1, 1, 3, 1, 1)), np.ones((1, 1, 2, 1, 1))
    >>> [g.ravel() for g in F.conv3d_backward(np.ones((1, 1, 2, 1, 1)), x, weight)[:2]]
    [array([1., 2., 1.]), array([2., 2.])]
    """
    op = "conv3d_backward"
    x, weight, bias, groups = _checked(op, x, weight, bias, groups)
    depth, plane = _convolution(op, x, weight, stride, padding, dilation)
    grad = _checked_gradient(op, grad_output, x, weight.shape[0], depth.outputs)
    filters, grads_x = _stacked_filters(weight), []
    grad_weight = grad_bias = None
    for some in _parts(x, x.shape[1:], depth):
        arrays = slices(grad[some]), _stack(x[some], depth, groups, filled=needs[1]), filters, bias
        grad_stack, by_weight, by_bias = conv2d_backward(*arrays, *plane, groups, needs=needs)
        if grad_stack is not None:
            grads_x.append(_unstack(grad_stack, depth, groups))
        grad_weight, grad_bias = _sum(grad_weight, by_weight), _sum(grad_bias, by_bias)
    return _joined(grads_x) if needs[0] else None, _unstacked_filters(grad_weight, weight.shape), grad_bias


@named
def conv_transpose3d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | Triple = 1,
    padding: int | Triple = 0,
    output_padding: int | Triple = 0,
    groups: int = 1,
    dilation: int | Triple = 1,
) -> NDArray:
    """Apply the adjoint of `conv3d`: each voxel adds a weighted copy of the filters.

    Parameters
    ----------
    x : array_like of shape (N, IC, ID, IH, IW)
        float32 or float64.
    weight : array_like of shape (IC, OC // groups, KD, KH, KW)
        Same dtype.
    bias : array_like of shape (OC,), optional
        Same dtype. Default: none.
    stride, dilation : int or triple of int, default 1
        Those of the convolution that this is the adjoint of.
    padding : int or triple of int, default 0
        How much is cut off each side of the result.
    output_padding : int or triple of int, default 0
        How much is added at the end of each axis; less than the stride or the dilation.
    groups : int, default 1
        As in `conv3d`.

    Returns
    -------
    ndarray of shape (N, OC, OD, OH, OW)
        Along each axis (I - 1)*stride - 2*padding + dilation*(K - 1) + output_padding + 1.

    Raises
    ------
    TypeError
        For integer, complex or mixed dtypes.
    ValueError
        For shapes that do not fit or parameters out of range.

    Notes
    -----
    ``<conv3d(y, w), x> = <y, conv_transpose3d(x, w)>`` for all x, y.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> F.conv_transpose3d(np.array([1.0, 2.0]).reshape(1, 1, 2, 1, 1), np.ones((1, 1, 2, 1, 1)), stride=2).ravel()
    array([1., 1., 2., 2.])
    """
    op = "conv_transpose3d"
    x, weight, bias, groups = _checked(op, x, weight, bias, groups)
    OC = weight.shape[1] * groups
    depth, plane = _transposed(op, x, weight, stride, padding, output_padding, groups, dilation)
    if bias is not None:
        check.check_shape(op, "bias", bias, (OC,), " (one per output channel)")
    filters = _stacked_filters(weight)
    size = conv_transpose2d(slices(x[:0, :, :1]), filters, None, *plane).shape[2:]
    parts = [
        _unstack(conv_transpose2d(slices(x[some]), filters, None, *plane), depth, groups)
        for some in _parts(x, (OC, depth.size, *size), depth)
    ]
    output = _joined(parts)
    if bias is not None:
        output += bias.reshape(-1, 1, 1, 1)
    return output


@named
def conv_transpose3d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | Triple = 1,
    padding: int | Triple = 0,
    output_padding: int | Triple = 0,
    groups: int = 1,
    dilation: int | Triple = 1,
    *,
    needs: tuple[bool, bool, bool] = ALL,
) -> Gradients:
    """Return the gradients of `conv_transpose3d` with respect to x, weight and bias.

    Parameters
    ----------
    grad_output : array_like of shape (N, OC, OD, OH, OW)
        Gradient of the result.
    x, weight, bias, stride, padding, output_padding, groups, dilation
        As given to `conv_transpose3d`.
    needs : tuple of three bools, default (True, True, True)
        Which gradients to compute; None stands for the others and for an absent bias.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray or None
        In the shapes of x, weight and bias.

    Raises
    ------
    TypeError, ValueError
        As `conv_transpose3d`, and for a `grad_output` of another shape than its result.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import functional as F
    >>> x, weight = np.array([1.0, 2.0]).reshape(1, 1, 2, 1, 1), np.ones((1, 1, 2, 1, 1))
    >>> grad = np.ones((1, 1, 4, 1, 1))
    >>> [g.ravel() for g in F.conv_transpose3d_backward(grad, x, weight, stride=2)[:2]]
    [array([2., 2.]), array([3., 3.])]
    """
    op = "conv_transpose3d_backward"
    x, weight, bias, groups = _checked(op, x, weight, bias, groups)
    OC = weight.shape[1] * groups
    depth, plane = _transposed(op, x, weight, stride, padding, output_padding, groups, dilation)
    grad = _checked_gradient(op, grad_output, x, OC, depth.size)
    filters, grads_x = _stacked_filters(weight), []
    grad_weight = None
    for some in _parts(x, grad.shape[1:], depth):
        arrays = _stack(grad[some], depth, groups), slices(x[some]), filters, None
        grad_slices, by_weight, _ = conv_transpose2d_backward(*arrays, *plane, needs=(*needs[:2], False))
        if grad_slices is not None:
            grads_x.append(volumes(grad_slices, depth.outputs))
        grad_weight = _sum(grad_weight, by_weight)
    grad_bias = sum_channels(voxels(grad)) if needs[2] and bias is not None else None
    return _joined(grads_x) if needs[0] else None, _unstacked_filters(grad_weight, weight.shape), grad_bias


# Volumes as images


def _stack(x: NDArray, depth: _Depth, groups: int, filled: bool = True) -> NDArray:
    """Return (N, C, size, H, W) as images (N*outputs, C*kernel, H, W): what each output slice sees, group by group.

    Not filled where the numbers do not matter.
    """
    N, C, _, H, W = x.shape
    shape = N * depth.outputs, H, W, depth.kernel * C
    if not filled:
        return memory.empty(shape, x.dtype).transpose(NCHW)
    columns = voxels(x).reshape(N, depth.size, H * W * groups, C // groups)
    return columns_nhwc(columns, *depth.window()).reshape(shape).transpose(NCHW)


def _unstack(images: NDArray, depth: _Depth, groups: int) -> NDArray:
    """Do the adjoint of `_stack`: add up where a slice is seen more than once."""
    stack = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    count, H, W, channels = stack.shape
    N, C = count // depth.outputs, channels // depth.kernel
    columns = columns_nhwc_adjoint(stack, (N, depth.size, H * W * groups, C // groups), *depth.window())
    return columns.reshape(N, depth.size, H, W, C).transpose(0, 4, 1, 2, 3)


def _stacked_filters(weight: NDArray) -> NDArray:
    """Return (A, B, KD, KH, KW) as (A, KD*B, KH, KW)."""
    A, B, KD, KH, KW = weight.shape
    return weight.transpose(0, 2, 1, 3, 4).reshape(A, KD * B, KH, KW)


def _unstacked_filters(filters: NDArray | None, shape: tuple[int, ...]) -> NDArray | None:
    if filters is None:
        return None
    A, B, KD, KH, KW = shape
    return filters.reshape(A, KD, B, KH, KW).transpose(0, 2, 1, 3, 4)


def _parts(x: NDArray, stacked: tuple[int, ...], depth: _Depth) -> Iterator[slice]:
    """Yield a few volumes of the batch at a time, whose stacks, of shape `stacked`, take bounded memory."""
    C, _, H, W = stacked
    several = max(1, STACK_BYTES // max(1, depth.outputs * depth.kernel * C * H * W * x.itemsize))
    for start in range(0, max(1, len(x)), several):
        yield slice(start, start + several)


def _joined(parts: list[NDArray]) -> NDArray:
    """Return arrays as one along the first axis, their channels last in memory."""
    if len(parts) == 1:
        return parts[0]
    last = [np.moveaxis(part, 1, -1) for part in parts]
    joined = memory.empty((sum(map(len, last)), *last[0].shape[1:]), last[0].dtype)
    return np.moveaxis(np.concatenate(last, out=joined), -1, 1)


def _sum(total: NDArray | None, summand: NDArray | None) -> NDArray | None:
    return summand if total is None or summand is None else add(total, summand)


# Checks


def _checked(op: str, x: Any, weight: Any, bias: Any, groups: Any) -> tuple[NDArray, NDArray, NDArray | None, int]:
    x = check.as_float_array(op, "x", x, 5)
    weight = check.as_float_array(op, "weight", weight, 5)
    bias = None if bias is None else check.as_float_array(op, "bias", bias, 1)
    check.check_same_dtype(op, x=x, weight=weight, bias=bias)
    if 0 in x.shape[1:] or 0 in weight.shape:
        raise ValueError(f"{op}: only the batch may be empty, got `x` {x.shape} and `weight` {weight.shape}")
    groups = check.as_int(op, "groups", groups)
    if weight.shape[0] % groups:
        raise ValueError(f"{op}: `groups` must divide the first axis of `weight` {weight.shape}, got {groups}")
    expected = weight.shape[0] if "transpose" in op else weight.shape[1] * groups
    if x.shape[1] != expected:
        raise ValueError(
            f"{op}: `weight` of shape {weight.shape} expects {expected} input channels with `groups` {groups}, "
            f"but `x` has shape {x.shape}"
        )
    return x, weight, bias, groups


def _checked_gradient(op: str, grad_output: Any, x: NDArray, channels: int, slices: int) -> NDArray:
    """Return the gradient; its height and width are checked with the images."""
    grad = check.as_float_array(op, "grad_output", grad_output, 5)
    check.check_same_dtype(op, grad_output=grad, x=x)
    check.check_shape(op, "grad_output", grad, (len(x), channels, slices, *grad.shape[3:]))
    return grad


def _convolution(
    op: str, x: NDArray, weight: NDArray, stride: Any, padding: Any, dilation: Any
) -> tuple[_Depth, tuple[Any, Any, Any]]:
    """Return the way along the depth; stride, padding and dilation of the slices."""
    steps, spread = as_triple(op, "stride", stride), as_triple(op, "dilation", dilation)
    size, kernel = x.shape[2], weight.shape[2]
    if isinstance(padding, str):
        check.as_choice(op, "padding", padding, ("same", "valid"))
        same = padding == "same"
        before, after = _geometry.same_padding(size, kernel, steps[0], spread[0]) if same else (0, 0)
        pads: Any = padding
    else:
        before, *pads = as_triple(op, "padding", padding, 0)
        after, pads = before, tuple(pads)
    outputs = _geometry.conv_output(size, kernel, steps[0], before, after, spread[0])
    if outputs < 1:
        raise ValueError(f"{op}: the padded depth of `x` {x.shape} is smaller than the kernel {weight.shape}")
    return _Depth(size, outputs, kernel, steps[0], before, spread[0]), (steps[1:], pads, spread[1:])


def _transposed(
    op: str,
    x: NDArray,
    weight: NDArray,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> tuple[_Depth, tuple]:
    """Return the way along the depth, and the arguments of the slices' transposed convolution."""
    steps, spread = as_triple(op, "stride", stride), as_triple(op, "dilation", dilation)
    pads, extra = as_triple(op, "padding", padding, 0), as_triple(op, "output_padding", output_padding, 0)
    if extra[0] >= max(steps[0], spread[0]):
        raise ValueError(
            f"{op}: `output_padding` must be less than `stride` or `dilation`, got {extra} for {steps}, {spread}"
        )
    outputs, kernel = x.shape[2], weight.shape[2]
    size = _geometry.conv_transpose_output(outputs, kernel, steps[0], pads[0], pads[0], spread[0], extra[0])
    if size < 1:
        raise ValueError(f"{op}: `padding` {pads} leaves nothing of the depth of the result")
    depth = _Depth(size, outputs, kernel, steps[0], pads[0], spread[0])
    return depth, (steps[1:], pads[1:], extra[1:], groups, spread[1:])
