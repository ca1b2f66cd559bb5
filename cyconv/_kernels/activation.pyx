"""Activations over flat memory, and their gradients: one loop each, chosen once per block."""

from cython cimport floating
from cython.parallel cimport prange

from cyconv._kernels.parallel cimport Listener, interrupted, listen, raise_if_interrupted
from cyconv._kernels.vecmath cimport sigmoid, tanh

cdef enum:
    BLOCK = 16384   # numbers a task takes
    RELU_ = 0
    LEAKY_RELU_ = 1
    SIGMOID_ = 2
    TANH_ = 3

RELU, LEAKY_RELU, SIGMOID, TANH = RELU_, LEAKY_RELU_, SIGMOID_, TANH_


cdef void forward_block(
    int kind, const floating* x, floating* out, Py_ssize_t COUNT, floating slope
) noexcept nogil:
    cdef Py_ssize_t i
    if kind == RELU_:
        for i in range(COUNT):
            out[i] = 0 if x[i] < 0 else x[i]
    elif kind == LEAKY_RELU_:
        for i in range(COUNT):
            out[i] = x[i] * slope if x[i] < 0 else x[i]
    elif kind == SIGMOID_:
        for i in range(COUNT):
            out[i] = sigmoid(x[i])
    else:
        for i in range(COUNT):
            out[i] = tanh(x[i])


def forward(
    int kind,
    const floating[::1] x,      # IN
    floating[::1] out,          # OUT
    double slope,               # of LEAKY_RELU
    int num_threads,
):
    """Apply an activation; NaN stays NaN."""
    cdef Py_ssize_t SIZE = out.shape[0], i
    cdef Listener listener
    listen(&listener)
    for i in prange(0, SIZE, BLOCK, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        forward_block(kind, &x[i], &out[i], min(<Py_ssize_t>BLOCK, SIZE - i), <floating>slope)
    raise_if_interrupted(&listener)


cdef void backward_block(
    int kind, const floating* grad, const floating* saved, floating* grad_x, Py_ssize_t COUNT, floating slope
) noexcept nogil:
    """`saved` is the output, but the input of LEAKY_RELU, whose output loses the sign if its slope is negative."""
    cdef Py_ssize_t i
    cdef floating g, one = 1
    if kind == RELU_:
        for i in range(COUNT):
            g = grad[i]  # read in any case, or the loop has a branch
            grad_x[i] = 0 if saved[i] <= 0 else g
    elif kind == LEAKY_RELU_:
        for i in range(COUNT):
            grad_x[i] = grad[i] if saved[i] > 0 else grad[i] * slope
    elif kind == SIGMOID_:
        for i in range(COUNT):
            grad_x[i] = grad[i] * (saved[i] * (one - saved[i]))
    else:
        for i in range(COUNT):
            grad_x[i] = grad[i] * (one - saved[i] * saved[i])


def backward(
    int kind,
    const floating[::1] grad,   # IN
    const floating[::1] saved,  # IN
    floating[::1] grad_x,       # OUT
    double slope,
    int num_threads,
):
    """Multiply a gradient by an activation's derivative."""
    cdef Py_ssize_t SIZE = grad_x.shape[0], i
    cdef Listener listener
    listen(&listener)
    for i in prange(0, SIZE, BLOCK, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        backward_block(kind, &grad[i], &saved[i], &grad_x[i], min(<Py_ssize_t>BLOCK, SIZE - i), <floating>slope)
    raise_if_interrupted(&listener)
