"""Sums over the pixels of each image and channel, and linear maps with a factor for each: what group, instance and
layer normalisation are made of. Layer normalisation of vectors, one row at a time.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memset

from cyconv._kernels.channels cimport fold, pixels_per_row, widen
from cyconv._kernels.parallel cimport (
    Listener, ceil_div, interrupted, listen, raise_if_interrupted, share_start, this_thread,
)
from cyconv._memory cimport Block

cdef extern from "layer_rows.h" nogil:
    void layer_float "cyconv_layer_float"(
        const float* x, const float* weight, const float* bias, Py_ssize_t K, double eps, float* out)
    void layer_double "cyconv_layer_double"(
        const double* x, const double* weight, const double* bias, Py_ssize_t K, double eps, double* out)
    void layer_backward_float "cyconv_layer_backward_float"(
        const float* grad, const float* x, const float* weight, Py_ssize_t K, double eps, float* grad_x,
        float* by_weight, float* by_bias)
    void layer_backward_double "cyconv_layer_backward_double"(
        const double* grad, const double* x, const double* weight, Py_ssize_t K, double eps, double* grad_x,
        double* by_weight, double* by_bias)

cdef enum:
    CHUNK = 32768           # numbers of an image that are worth a thread
    MOST_CHUNKS = 16
    SLICES = 32             # of the sums of rows, at most
    COLUMNS = 4096          # of these sums that are worth a thread


cdef void sum_chunk(
    const floating* a, const floating* b, Py_ssize_t COUNT, Py_ssize_t C, Py_ssize_t WIDTH, const double* mean_a,
    const double* mean_b, floating* wide, double* sums,
) noexcept nogil:
    """sums[c] = sum of (a - mean_a)(b - mean_b), without b that of a alone; `wide` has room for two rows."""
    cdef floating* wide_b = wide + WIDTH
    cdef Py_ssize_t i = 0, j
    widen(mean_a, C, WIDTH, wide)
    widen(mean_b, C, WIDTH, wide_b)
    memset(sums, 0, WIDTH * sizeof(double))
    while i < COUNT:
        if b is NULL:
            for j in range(min(WIDTH, COUNT - i)):
                sums[j] += a[i + j]
        else:
            for j in range(min(WIDTH, COUNT - i)):
                sums[j] += (a[i + j] - wide[j]) * (b[i + j] - wide_b[j])
        i += WIDTH
    fold(sums, C, WIDTH)


def sums(
    const floating[:, :, ::1] a,        # IN  [N, P, C]
    const floating[:, :, ::1] b,        # IN  or None
    const double[:, ::1] mean_a,        # IN  [N, C]
    const double[:, ::1] mean_b,        # IN  [N, C]
    double[:, ::1] out,                 # OUT [N, C]
    int num_threads,
):
    """Sum (a - mean_a)(b - mean_b) over the pixels of each image, or a alone."""
    cdef Py_ssize_t N = a.shape[0], P = a.shape[1], C = a.shape[2], WIDTH = pixels_per_row(C) * C
    cdef Py_ssize_t CHUNKS = max(1, min(P * C // CHUNK, <Py_ssize_t>MOST_CHUNKS)), k, n, part, start, stop, c
    cdef Py_ssize_t ROOM = WIDTH * (sizeof(double) + 2 * sizeof(floating))
    cdef Block block = Block(N * CHUNKS * C * sizeof(double) + num_threads * ROOM)
    cdef double* partial = <double*>block.address
    cdef char* rooms = <char*>(partial + N * CHUNKS * C)
    cdef double* own
    cdef const floating* other
    cdef Listener listener
    listen(&listener)
    for k in prange(N * CHUNKS, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        n, part = k // CHUNKS, k % CHUNKS
        start, stop = share_start(P, CHUNKS, part) * C, share_start(P, CHUNKS, part + 1) * C
        own = <double*>(rooms + this_thread() * ROOM)
        other = NULL if b is None else &b[n, 0, 0] + start
        sum_chunk(
            &a[n, 0, 0] + start, other, stop - start, C, WIDTH, &mean_a[n, 0], &mean_b[n, 0],
            <floating*>(own + WIDTH), own,
        )
        for c in range(C):
            partial[k * C + c] = own[c]
    raise_if_interrupted(&listener)
    for n in range(N):
        for c in range(C):
            out[n, c] = 0
            for part in range(CHUNKS):
                out[n, c] += partial[(n * CHUNKS + part) * C + c]


cdef void scale_chunk(
    const floating* a, const floating* b, Py_ssize_t COUNT, Py_ssize_t C, Py_ssize_t WIDTH, const double* factor_a,
    const double* mean_b, const double* factor_b, const double* shift, floating* wide, floating* out,
) noexcept nogil:
    """out = factor_a * a + factor_b * (b - mean_b) + shift; without b, factor_a * (a - mean_b) + shift."""
    cdef floating* factors = wide + WIDTH
    cdef floating* means = wide + 2 * WIDTH
    cdef floating* shifts = wide + 3 * WIDTH
    cdef Py_ssize_t i = 0, j
    widen(factor_a, C, WIDTH, wide)
    widen(factor_b, C, WIDTH, factors)
    widen(mean_b, C, WIDTH, means)
    widen(shift, C, WIDTH, shifts)
    while i < COUNT:
        if b is NULL:
            for j in range(min(WIDTH, COUNT - i)):
                out[i + j] = wide[j] * (a[i + j] - means[j]) + shifts[j]
        else:
            for j in range(min(WIDTH, COUNT - i)):
                out[i + j] = wide[j] * a[i + j] + (factors[j] * (b[i + j] - means[j]) + shifts[j])
        i += WIDTH


def scale(
    const floating[:, :, ::1] a,        # IN  [N, P, C]
    const floating[:, :, ::1] b,        # IN  or None
    const double[:, ::1] factor_a,      # IN  [N, C]
    const double[:, ::1] mean_b,        # IN  [N, C]
    const double[:, ::1] factor_b,      # IN  [N, C]
    const double[:, ::1] shift,         # IN  [N, C]
    floating[:, :, ::1] out,            # OUT [N, P, C]
    int num_threads,
):
    """out = factor_a * a + factor_b * (b - mean_b) + shift; without b, factor_a * (a - mean_b) + shift."""
    cdef Py_ssize_t N = a.shape[0], P = a.shape[1], C = a.shape[2], WIDTH = pixels_per_row(C) * C
    cdef Py_ssize_t CHUNKS = max(1, min(P * C // CHUNK, <Py_ssize_t>MOST_CHUNKS)), k, n, start, stop
    cdef Block block = Block(num_threads * 4 * WIDTH * sizeof(floating))
    cdef floating* rooms = <floating*>block.address
    cdef const floating* other
    cdef Listener listener
    listen(&listener)
    for k in prange(N * CHUNKS, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        n = k // CHUNKS
        start, stop = share_start(P, CHUNKS, k % CHUNKS) * C, share_start(P, CHUNKS, k % CHUNKS + 1) * C
        other = NULL if b is None else &b[n, 0, 0] + start
        scale_chunk(
            &a[n, 0, 0] + start, other, stop - start, C, WIDTH, &factor_a[n, 0], &mean_b[n, 0], &factor_b[n, 0],
            &shift[n, 0], rooms + this_thread() * 4 * WIDTH, &out[n, 0, 0] + start,
        )
    raise_if_interrupted(&listener)


# ------------------------------------------------------------------------------------------------ layer normalisation

def layer(
    const floating[:, ::1] x,           # IN  [ROWS, K]
    const floating[::1] weight,         # IN  [K]
    const floating[::1] bias,           # IN  [K]
    double eps,
    floating[:, ::1] out,               # OUT [ROWS, K]
    int num_threads,
):
    """Bring each row to mean 0 and variance 1, then scale and shift its elements."""
    cdef Py_ssize_t ROWS = x.shape[0], K = x.shape[1], row
    cdef Listener listener
    listen(&listener)
    for row in prange(ROWS, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        if floating is float:
            layer_float(&x[row, 0], &weight[0], &bias[0], K, eps, &out[row, 0])
        else:
            layer_double(&x[row, 0], &weight[0], &bias[0], K, eps, &out[row, 0])
    raise_if_interrupted(&listener)


def layer_backward(
    const floating[:, ::1] grad,        # IN  [ROWS, K], at least one row
    const floating[:, ::1] x,           # IN  [ROWS, K]
    const floating[::1] weight,         # IN  [K]
    double eps,
    floating[:, ::1] grad_x,            # OUT [ROWS, K]
    floating[::1] grad_weight,          # OUT [K]
    floating[::1] grad_bias,            # OUT [K]
    int num_threads,
):
    """Gradients of `layer`; those of the parameters are sums of slices of rows, cut by the shape alone."""
    cdef Py_ssize_t ROWS = x.shape[0], K = x.shape[1], SUMS = min(ROWS, <Py_ssize_t>SLICES), task, row, part, j
    cdef Block block = Block(2 * SUMS * K * sizeof(floating))
    cdef floating* by_weight = <floating*>block.address
    cdef floating* by_bias = by_weight + SUMS * K
    cdef floating* own
    cdef floating* other
    cdef Listener listener
    listen(&listener)
    for task in prange(SUMS, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        own, other = by_weight + task * K, by_bias + task * K
        memset(own, 0, K * sizeof(floating))
        memset(other, 0, K * sizeof(floating))
        for row in range(share_start(ROWS, SUMS, task), share_start(ROWS, SUMS, task + 1)):
            if floating is float:
                layer_backward_float(
                    &grad[row, 0], &x[row, 0], &weight[0], K, eps, &grad_x[row, 0], own, other)
            else:
                layer_backward_double(
                    &grad[row, 0], &x[row, 0], &weight[0], K, eps, &grad_x[row, 0], own, other)
    raise_if_interrupted(&listener)
    for task in prange(ceil_div(K, COLUMNS), nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        for j in range(task * COLUMNS, min(K, (task + 1) * COLUMNS)):
            grad_weight[j] = by_weight[j]
            grad_bias[j] = by_bias[j]
        for part in range(1, SUMS):
            for j in range(task * COLUMNS, min(K, (task + 1) * COLUMNS)):
                grad_weight[j] += by_weight[part * K + j]
                grad_bias[j] += by_bias[part * K + j]
    raise_if_interrupted(&listener)
