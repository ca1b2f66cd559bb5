"""Softmax over the rows of [P, K] memory, and cross-entropy. Each row is shifted by its largest entry."""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport log
from libc.stdint cimport int64_t
from libc.string cimport memset

from cyconv._kernels.parallel cimport Listener, ceil_div, interrupted, listen, raise_if_interrupted, this_thread
from cyconv._kernels.vecmath cimport exp_nonpositive
from cyconv._memory cimport Block

cdef extern from "sums.h" nogil:
    float largest_float "cyconv_largest_float"(const float* a, Py_ssize_t K)
    double largest_double "cyconv_largest_double"(const double* a, Py_ssize_t K)
    double sum_float "cyconv_sum_float"(const float* a, const float* b, Py_ssize_t K)
    double sum_double "cyconv_sum_double"(const double* a, const double* b, Py_ssize_t K)
    void softmax_backward_float "cyconv_softmax_backward_float"(
        const float* grad, const float* y, Py_ssize_t rows, Py_ssize_t K, float* grad_x)
    void softmax_backward_double "cyconv_softmax_backward_double"(
        const double* grad, const double* y, Py_ssize_t rows, Py_ssize_t K, double* grad_x)

cdef enum:
    TASK = 2048         # numbers a task takes, about: they stay in the first-level cache
    MOST_ROWS = 64      # rows a task takes, at most


cdef inline Py_ssize_t rows_per_task(Py_ssize_t K) noexcept nogil:
    return max(1, min(TASK // K, MOST_ROWS))


cdef inline floating largest(const floating* x, Py_ssize_t K) noexcept nogil:
    """The largest number; NaN is passed over, it reaches the result through the sum."""
    if floating is float:
        return largest_float(x, K)
    else:
        return largest_double(x, K)


cdef inline double total(const floating* x, Py_ssize_t K) noexcept nogil:
    if floating is float:
        return sum_float(x, NULL, K)
    else:
        return sum_double(x, NULL, K)


cdef void exponentials(
    const floating* x, Py_ssize_t ROWS, Py_ssize_t K, floating* out, floating* tops, double* norms
) noexcept nogil:
    """out = exp(x - top), top the largest entry of each row, norms the sums. One loop over all rows: no short tails."""
    cdef Py_ssize_t row, i
    for row in range(ROWS):
        tops[row] = largest(x + row * K, K)
        for i in range(row * K, row * K + K):
            out[i] = x[i] - tops[row]
    for i in range(ROWS * K):
        out[i] = exp_nonpositive(out[i])
    for row in range(ROWS):
        norms[row] = total(out + row * K, K)


# ------------------------------------------------------------------------------------------------------------- softmax

cdef void softmax_rows(const floating* x, Py_ssize_t ROWS, Py_ssize_t K, floating* out, bint logarithm) noexcept nogil:
    cdef floating tops[MOST_ROWS]
    cdef double norms[MOST_ROWS]
    cdef floating term
    cdef Py_ssize_t row, i
    exponentials(x, ROWS, K, out, tops, norms)
    for row in range(ROWS):
        term = <floating>(log(norms[row]) if logarithm else 1 / norms[row])
        for i in range(row * K, row * K + K):
            out[i] = (x[i] - tops[row]) - term if logarithm else out[i] * term


def softmax(
    const floating[:, ::1] x,       # IN  [P, K]
    floating[:, ::1] out,           # OUT [P, K]
    bint logarithm,
    int num_threads,
):
    """out = exp(x) / sum of exp(x) along each row, or its logarithm."""
    cdef Py_ssize_t P = x.shape[0], K = x.shape[1], ROWS = rows_per_task(K), task, p
    cdef Listener listener
    listen(&listener)
    for task in prange(ceil_div(P, ROWS), nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        p = task * ROWS
        softmax_rows(&x[p, 0], min(ROWS, P - p), K, &out[p, 0], logarithm)
    raise_if_interrupted(&listener)


cdef void log_softmax_backward_rows(
    const floating* grad, const floating* y, Py_ssize_t ROWS, Py_ssize_t K, floating* grad_x
) noexcept nogil:
    cdef Py_ssize_t row, i
    cdef floating inner
    for i in range(ROWS * K):
        grad_x[i] = exp_nonpositive(y[i])
    for row in range(ROWS):
        inner = <floating>total(grad + row * K, K)
        for i in range(row * K, row * K + K):
            grad_x[i] = grad[i] - grad_x[i] * inner


def softmax_backward(
    const floating[:, ::1] grad,    # IN  [P, K]
    const floating[:, ::1] y,       # IN  [P, K] the forward's result
    floating[:, ::1] grad_x,        # OUT [P, K]
    bint logarithm,
    int num_threads,
):
    """grad_x = y * (g - sum of g * y), or g - exp(y) * sum of g for the logarithm."""
    cdef Py_ssize_t P = y.shape[0], K = y.shape[1], ROWS = rows_per_task(K), task, p, count
    cdef Listener listener
    listen(&listener)
    for task in prange(ceil_div(P, ROWS), nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        p = task * ROWS
        count = min(ROWS, P - p)
        if logarithm:
            log_softmax_backward_rows(&grad[p, 0], &y[p, 0], count, K, &grad_x[p, 0])
        elif floating is float:
            softmax_backward_float(&grad[p, 0], &y[p, 0], count, K, &grad_x[p, 0])
        else:
            softmax_backward_double(&grad[p, 0], &y[p, 0], count, K, &grad_x[p, 0])
    raise_if_interrupted(&listener)


# ------------------------------------------------------------------------------------------------------- cross-entropy
# With p = softmax(x), target t, class weights w, smoothing s and W = sum of w:
#   loss = (1 - s) w_t (-log p_t) + (s / K) sum over c of w_c (-log p_c)
#   d loss / d x_c = ((1 - s) w_t + s W / K) p_c - (s / K) w_c - [c = t] (1 - s) w_t

cdef void cross_entropy_rows(
    const floating* x, const int64_t* target, const floating* weight, Py_ssize_t ROWS, Py_ssize_t K,
    int64_t ignore_index, double smoothing, floating* space, floating* losses,
) noexcept nogil:
    cdef floating tops[MOST_ROWS]
    cdef double norms[MOST_ROWS]
    cdef double norm, loss
    cdef Py_ssize_t row, t, i
    exponentials(x, ROWS, K, space, tops, norms)
    for row in range(ROWS):
        t = target[row]
        if t == ignore_index:
            losses[row] = 0
            continue
        norm = log(norms[row])
        loss = (1 - smoothing) * weight[t] * (norm - (<double>x[row * K + t] - tops[row]))
        if smoothing > 0:
            for i in range(K):
                space[i] = weight[i] * (<floating>norm - (x[row * K + i] - tops[row]))
            loss += smoothing / K * total(space, K)
        losses[row] = <floating>loss


def survey(const int64_t[::1] target, Py_ssize_t K, int64_t ignore_index):
    """Return how many labels count, and where the first is that is neither 0 to K - 1 nor ignored, -1 for nowhere."""
    cdef Py_ssize_t count = 0, bad = -1, p
    for p in range(target.shape[0]):
        if target[p] != ignore_index:
            count += 1
            if bad < 0 and not 0 <= target[p] < K:
                bad = p
    return count, bad


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
    cdef Py_ssize_t P = x.shape[0], K = x.shape[1], ROWS = rows_per_task(K), task, p
    cdef Block block = Block(num_threads * ROWS * K * sizeof(floating))
    cdef floating* space = <floating*>block.address
    cdef Listener listener
    listen(&listener)
    for task in prange(ceil_div(P, ROWS), nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        p = task * ROWS
        cross_entropy_rows(&x[p, 0], &target[p], &weight[0], min(ROWS, P - p), K, ignore_index, smoothing,
                           space + this_thread() * ROWS * K, &losses[p])
    raise_if_interrupted(&listener)


cdef void cross_entropy_backward_rows(
    const floating* grad, const floating* x, const int64_t* target, const floating* weight, Py_ssize_t ROWS,
    Py_ssize_t K, int64_t ignore_index, double smoothing, double weights, floating* grad_x,
) noexcept nogil:
    cdef floating tops[MOST_ROWS]
    cdef double norms[MOST_ROWS]
    cdef double hard
    cdef floating scale, soft
    cdef Py_ssize_t row, t, i
    exponentials(x, ROWS, K, grad_x, tops, norms)
    for row in range(ROWS):
        t = target[row]
        if t == ignore_index:
            memset(grad_x + row * K, 0, K * sizeof(floating))
            continue
        hard = grad[row] * (1 - smoothing) * weight[t]
        soft = <floating>(grad[row] * smoothing / K)
        scale = <floating>((hard + soft * weights) / norms[row])
        for i in range(K):
            grad_x[row * K + i] = grad_x[row * K + i] * scale - soft * weight[i]
        grad_x[row * K + t] -= <floating>hard


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
    cdef Py_ssize_t P = x.shape[0], K = x.shape[1], ROWS = rows_per_task(K), task, p
    cdef double weights = total(&weight[0], K)
    cdef Listener listener
    listen(&listener)
    for task in prange(ceil_div(P, ROWS), nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        p = task * ROWS
        cross_entropy_backward_rows(&grad[p], &x[p, 0], &target[p], &weight[0], min(ROWS, P - p), K, ignore_index,
                                    smoothing, weights, &grad_x[p, 0])
    raise_if_interrupted(&listener)
