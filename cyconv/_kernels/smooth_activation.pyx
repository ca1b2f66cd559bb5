"""Smooth activations over flat memory, and their gradients: one loop each, chosen once per block."""

from cython cimport floating
from cython.parallel cimport prange

from cyconv._kernels.parallel cimport Listener, interrupted, listen, raise_if_interrupted
from cyconv._kernels.vecmath cimport (
    exp_nonpositive, expm1_nonpositive, log1p_unit, magnitude, normal_tail, sigmoid
)

cdef enum:
    BLOCK = 4096    # numbers a task takes
    ELU_ = 0
    GELU_ = 1
    GELU_TANH_ = 2
    SILU_ = 3
    SOFTPLUS_ = 4

ELU, GELU, GELU_TANH, SILU, SOFTPLUS = ELU_, GELU_, GELU_TANH_, SILU_, SOFTPLUS_


# Far from zero the curves are straight lines, but infinity times zero is not a number: arguments stop at `limit`.

cdef inline floating at_least(floating x, floating limit) noexcept nogil:
    return limit if x < limit else x


cdef inline floating within(floating x, floating limit) noexcept nogil:
    return limit if x > limit else at_least(x, -limit)


cdef inline floating elu(floating x, floating alpha, floating scale) noexcept nogil:
    cdef floating negative = scale * alpha * expm1_nonpositive(<floating>0 if x > 0 else x)
    return scale * x if x > 0 else negative


cdef inline floating elu_slope(floating x, floating alpha, floating scale) noexcept nogil:
    cdef floating negative = scale * alpha * exp_nonpositive(<floating>0 if x > 0 else x)
    return scale if x > 0 else negative


cdef inline floating gelu(floating x) noexcept nogil:
    cdef floating exponential, one = 1, tail = normal_tail(magnitude(x), &exponential)
    return at_least(x, -100) * (tail if x < 0 else one - tail)


cdef inline floating gelu_slope(floating x) noexcept nogil:
    cdef floating exponential, one = 1, tail = normal_tail(magnitude(x), &exponential)
    return (tail if x < 0 else one - tail) + within(x, 100) * (exponential * <floating>0.3989422804014327)


cdef inline floating gelu_tanh(floating x) noexcept nogil:
    """x (1 + tanh u) / 2 = x sigmoid(2 u)."""
    cdef floating one = 1
    x = at_least(x, -100)
    return x * sigmoid(x * (<floating>1.5957691216057308 * (one + <floating>0.044715 * x * x)))


cdef inline floating gelu_tanh_slope(floating x) noexcept nogil:
    cdef floating one = 1, s, t, u
    x = within(x, 100)
    u = x * (<floating>1.5957691216057308 * (one + <floating>0.044715 * x * x))
    s, t = sigmoid(u), sigmoid(-u)
    return s + s * t * (x * (<floating>1.5957691216057308 * (one + <floating>0.134145 * x * x)))


cdef inline floating silu(floating x) noexcept nogil:
    return at_least(x, -1000) * sigmoid(x)


cdef inline floating silu_slope(floating x) noexcept nogil:
    cdef floating one = 1
    return sigmoid(x) * (one + within(x, 1000) * sigmoid(-x))


cdef inline floating softplus(floating x, floating beta) noexcept nogil:
    """log(1 + e^z) / beta = (max(z, 0) + log(1 + e^-|z|)) / beta."""
    cdef floating z = beta * x
    return (at_least(z, 0) + log1p_unit(exp_nonpositive(-magnitude(z)))) / beta


cdef void forward_block(
    int kind, const floating* x, floating* out, Py_ssize_t COUNT, floating alpha, floating scale
) noexcept nogil:
    cdef Py_ssize_t i
    if kind == ELU_:
        for i in range(COUNT):
            out[i] = elu(x[i], alpha, scale)
    elif kind == GELU_:
        for i in range(COUNT):
            out[i] = gelu(x[i])
    elif kind == GELU_TANH_:
        for i in range(COUNT):
            out[i] = gelu_tanh(x[i])
    elif kind == SILU_:
        for i in range(COUNT):
            out[i] = silu(x[i])
    else:
        for i in range(COUNT):
            out[i] = softplus(x[i], alpha)


def forward(
    int kind,
    const floating[::1] x,      # IN
    floating[::1] out,          # OUT
    double alpha,               # of ELU, and the beta of SOFTPLUS
    double scale,               # of ELU
    int num_threads,
):
    """Apply an activation; NaN stays NaN."""
    cdef Py_ssize_t SIZE = out.shape[0], i
    cdef Listener listener
    listen(&listener)
    for i in prange(0, SIZE, BLOCK, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        forward_block(kind, &x[i], &out[i], min(<Py_ssize_t>BLOCK, SIZE - i), <floating>alpha, <floating>scale)
    raise_if_interrupted(&listener)


cdef void backward_block(
    int kind, const floating* grad, const floating* x, floating* grad_x, Py_ssize_t COUNT, floating alpha,
    floating scale,
) noexcept nogil:
    cdef Py_ssize_t i
    if kind == ELU_:
        for i in range(COUNT):
            grad_x[i] = grad[i] * elu_slope(x[i], alpha, scale)
    elif kind == GELU_:
        for i in range(COUNT):
            grad_x[i] = grad[i] * gelu_slope(x[i])
    elif kind == GELU_TANH_:
        for i in range(COUNT):
            grad_x[i] = grad[i] * gelu_tanh_slope(x[i])
    elif kind == SILU_:
        for i in range(COUNT):
            grad_x[i] = grad[i] * silu_slope(x[i])
    else:
        for i in range(COUNT):
            grad_x[i] = grad[i] * sigmoid(alpha * x[i])


def backward(
    int kind,
    const floating[::1] grad,   # IN
    const floating[::1] x,      # IN  the forward's
    floating[::1] grad_x,       # OUT
    double alpha,
    double scale,
    int num_threads,
):
    """Multiply a gradient by an activation's derivative."""
    cdef Py_ssize_t SIZE = grad_x.shape[0], i
    cdef Listener listener
    listen(&listener)
    for i in prange(0, SIZE, BLOCK, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        backward_block(
            kind, &grad[i], &x[i], &grad_x[i], min(<Py_ssize_t>BLOCK, SIZE - i), <floating>alpha, <floating>scale
        )
    raise_if_interrupted(&listener)
