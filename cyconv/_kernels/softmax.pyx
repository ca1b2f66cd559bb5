"""Softmax over the rows of [P, K] memory, and cross-entropy. Each row is shifted by its largest entry."""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport INFINITY, log
from libc.stdint cimport int64_t
from libc.string cimport memset

from cyconv._kernels.parallel cimport this_thread
from cyconv._kernels.vecmath cimport exp
from cyconv._memory cimport Block

cdef enum:
    LANES = 16  # running results, so that a reduction is a vector operation with a fixed order


cdef inline floating largest(const floating* x, Py_ssize_t K) noexcept nogil:
    """The largest number; NaN is passed over, it reaches the result through the sum."""
    cdef floating lanes[LANES]
    cdef Py_ssize_t i, lane
    for lane in range(LANES):
        lanes[lane] = -INFINITY
    for i in range(K // LANES):
        for lane in range(LANES):
            lanes[lane] = x[i * LANES + lane] if x[i * LANES + lane] > lanes[lane] else lanes[lane]
    for i in range(K // LANES * LANES, K):
        lanes[0] = x[i] if x[i] > lanes[0] else lanes[0]
    for lane in range(1, LANES):
        lanes[0] = lanes[lane] if lanes[lane] > lanes[0] else lanes[0]
    return lanes[0]


cdef inline double total(const floating* x, Py_ssize_t K) noexcept nogil:
    cdef double lanes[LANES]
    cdef Py_ssize_t i, lane
    for lane in range(LANES):
        lanes[lane] = 0
    for i in range(K // LANES):
        for lane in range(LANES):
            lanes[lane] += x[i * LANES + lane]
    for i in range(K // LANES * LANES, K):
        lanes[0] += x[i]
    for lane in range(1, LANES):
        lanes[0] += lanes[lane]
    return lanes[0]


cdef inline double exponentials(const floating* x, Py_ssize_t K, floating* out, double* shift) noexcept nogil:
    """out = exp(x - shift), shift the largest entry; return the sum."""
    cdef floating top = largest(x, K)
    cdef Py_ssize_t i
    for i in range(K):
        out[i] = exp(x[i] - top)
    shift[0] = top
    return total(out, K)


# ------------------------------------------------------------------------------------------------------------- softmax

cdef void softmax_row(const floating* x, Py_ssize_t K, floating* out, bint logarithm) noexcept nogil:
    cdef Py_ssize_t i
    cdef double shift, norm = exponentials(x, K, out, &shift)
    cdef floating top = <floating>shift, term = <floating>(log(norm) if logarithm else 1 / norm)
    for i in range(K):
        out[i] = (x[i] - top) - term if logarithm else out[i] * term


def softmax(
    const floating[:, ::1] x,       # IN  [P, K]
    floating[:, ::1] out,           # OUT [P, K]
    bint logarithm,
    int num_threads,
):
    """out = exp(x) / sum of exp(x) along each row, or its logarithm."""
    cdef Py_ssize_t P = x.shape[0], K = x.shape[1], p
    for p in prange(P, nogil=True, num_threads=num_threads, schedule="static"):
        softmax_row(&x[p, 0], K, &out[p, 0], logarithm)


cdef void softmax_backward_row(
    const floating* grad, const floating* y, Py_ssize_t K, floating* grad_x, bint logarithm
) noexcept nogil:
    cdef Py_ssize_t i
    cdef floating inner
    if logarithm:
        inner = <floating>total(grad, K)
        for i in range(K):
            grad_x[i] = grad[i] - exp(y[i]) * inner
    else:
        for i in range(K):
            grad_x[i] = grad[i] * y[i]
        inner = <floating>total(grad_x, K)
        for i in range(K):
            grad_x[i] = (grad[i] - inner) * y[i]


def softmax_backward(
    const floating[:, ::1] grad,    # IN  [P, K]
    const floating[:, ::1] y,       # IN  [P, K] the forward's result
    floating[:, ::1] grad_x,        # OUT [P, K]
    bint logarithm,
    int num_threads,
):
    """grad_x = y * (g - sum of g * y), or g - exp(y) * sum of g for the logarithm."""
    cdef Py_ssize_t P = y.shape[0], K = y.shape[1], p
    for p in prange(P, nogil=True, num_threads=num_threads, schedule="static"):
        softmax_backward_row(&grad[p, 0], &y[p, 0], K, &grad_x[p, 0], logarithm)


# ------------------------------------------------------------------------------------------------------- cross-entropy
# With p = softmax(x), target t, class weights w, smoothing s and W = sum of w:
#   loss = (1 - s) w_t (-log p_t) + (s / K) sum over c of w_c (-log p_c)
#   d loss / d x_c = ((1 - s) w_t + s W / K) p_c - (s / K) w_c - [c = t] (1 - s) w_t

cdef floating cross_entropy_row(
    const floating* x, Py_ssize_t target, const floating* weight, double weights, double smoothing, Py_ssize_t K,
    floating* space,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef double shift, norm = log(exponentials(x, K, space, &shift))
    cdef double loss = (1 - smoothing) * weight[target] * (norm - (x[target] - shift))
    if smoothing > 0:
        for i in range(K):
            space[i] = weight[i] * (x[i] - <floating>shift)
        loss += smoothing / K * (weights * norm - total(space, K))
    return <floating>loss


def cross_entropy(
    const floating[:, ::1] x,       # IN  [P, K]
    const int64_t[::1] target,      # IN  [P], each 0 to K - 1 or ignore_index
    const floating[::1] weight,     # IN  [K]
    int64_t ignore_index,
    double smoothing,
    floating[::1] losses,           # OUT [P]
    int num_threads,
):
    """Loss of each row, 0 for an ignored one."""
    cdef Py_ssize_t P = x.shape[0], K = x.shape[1], p
    cdef double weights = total(&weight[0], K)
    cdef Block block = Block(num_threads * K * sizeof(floating))
    cdef floating* space = <floating*>block.address
    for p in prange(P, nogil=True, num_threads=num_threads, schedule="static"):
        if target[p] == ignore_index:
            losses[p] = 0
        else:
            losses[p] = cross_entropy_row(
                &x[p, 0], target[p], &weight[0], weights, smoothing, K, space + this_thread() * K)


cdef void cross_entropy_backward_row(
    double grad, const floating* x, Py_ssize_t target, const floating* weight, double weights, double smoothing,
    Py_ssize_t K, floating* grad_x,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef double shift, norm = exponentials(x, K, grad_x, &shift)
    cdef double hard = grad * (1 - smoothing) * weight[target], soft = grad * smoothing / K
    cdef floating scale = <floating>((hard + soft * weights) / norm), soft_share = <floating>soft
    for i in range(K):
        grad_x[i] = grad_x[i] * scale - soft_share * weight[i]
    grad_x[target] -= <floating>hard


def cross_entropy_backward(
    const floating[::1] grad,       # IN  [P] of each row's loss
    const floating[:, ::1] x,       # IN  [P, K]
    const int64_t[::1] target,      # IN  [P]
    const floating[::1] weight,     # IN  [K]
    int64_t ignore_index,
    double smoothing,
    floating[:, ::1] grad_x,        # OUT [P, K]
    int num_threads,
):
    """Gradient of the rows' losses by x."""
    cdef Py_ssize_t P = x.shape[0], K = x.shape[1], p
    cdef double weights = total(&weight[0], K)
    for p in prange(P, nogil=True, num_threads=num_threads, schedule="static"):
        if target[p] == ignore_index:
            memset(&grad_x[p, 0], 0, K * sizeof(floating))
        else:
            cross_entropy_backward_row(
                grad[p], &x[p, 0], target[p], &weight[0], weights, smoothing, K, &grad_x[p, 0])
