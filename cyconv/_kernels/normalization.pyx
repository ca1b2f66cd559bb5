"""Batch normalisation over [P, C] memory: one pass for the per-channel sums, then one that writes.

Statistics are gathered panel by panel as count, mean and M2 (the sum of squared deviations), and merged in double by
    mean = mean_a + delta n_b / n,  M2 = M2_a + M2_b + delta^2 n_a n_b / n,  delta = mean_b - mean_a, n = n_a + n_b
(Chan, Golub and LeVeque 1979). A panel's sums are taken about the mean of the panels before it, so memory is read
once. A centre far off costs digits of M2_b, about eps n_b delta^2, but then the term delta^2 n_a n_b / n is as large:
the merged variance is right to a few units in the last place, wherever the mean lies.

Both directions are one parallel region of three loops: each task sums its chunks; each merges all chunks of its
channels; each writes its pixels, the last ones first, since the second-level cache still holds those.
"""

from cython cimport floating
from cython.parallel cimport parallel, prange
from libc.math cimport sqrt
from libc.string cimport memset

from cyconv._kernels.channels cimport chunk_count, fold, pixels_per_panel, pixels_per_row, sum_rows, widen
from cyconv._kernels.parallel cimport Listener, ceil_div, interrupted, listen, raise_if_interrupted, share_start
from cyconv._memory cimport Block

cdef extern from "rows.h" nogil:
    void moments_float "cyconv_moments_float"(
        const float* x, const float* center, Py_ssize_t count, Py_ssize_t width, float* first, float* second)
    void moments_double "cyconv_moments_double"(
        const double* x, const double* center, Py_ssize_t count, Py_ssize_t width, double* first, double* second)
    void gradients_float "cyconv_gradients_float"(
        const float* grad, const float* x, const float* scale, const float* shift, const float* center,
        Py_ssize_t count, Py_ssize_t width, float* first, float* second)
    void gradients_double "cyconv_gradients_double"(
        const double* grad, const double* x, const double* scale, const double* shift, const double* center,
        Py_ssize_t count, Py_ssize_t width, double* first, double* second)
    void normalize_float "cyconv_normalize_float"(
        const float* x, const float* scale, const float* shift, const float* residual, float* out,
        Py_ssize_t count, Py_ssize_t width, int relu)
    void normalize_double "cyconv_normalize_double"(
        const double* x, const double* scale, const double* shift, const double* residual, double* out,
        Py_ssize_t count, Py_ssize_t width, int relu)
    void propagate_float "cyconv_propagate_float"(
        const float* grad, const float* x, const float* scale, const float* shift, const float* a, const float* b,
        const float* d, Py_ssize_t count, Py_ssize_t width, int centred, float* grad_x)
    void propagate_double "cyconv_propagate_double"(
        const double* grad, const double* x, const double* scale, const double* shift, const double* a,
        const double* b, const double* d, Py_ssize_t count, Py_ssize_t width, int centred, double* grad_x)
    void merge "cyconv_merge"(
        double* mean, double* m2, const double* mean_b, const double* m2_b, Py_ssize_t C, Py_ssize_t seen,
        Py_ssize_t count)
    void merge_sums_float "cyconv_merge_sums_float"(
        double* mean, double* m2, const float* center, const float* first, const float* second, Py_ssize_t C,
        Py_ssize_t seen, Py_ssize_t count)
    void merge_sums_double "cyconv_merge_sums_double"(
        double* mean, double* m2, const double* center, const double* first, const double* second, Py_ssize_t C,
        Py_ssize_t seen, Py_ssize_t count)

cdef enum:
    FIRST_ROWS = 8      # whose mean is the first panel's centre


# ---------------------------------------------------------------------------------------------------------- statistics

cdef void chunk_moments(
    const floating* x, Py_ssize_t PIXELS, Py_ssize_t C, floating* work, double* mean, double* m2
) noexcept nogil:
    """Gather mean and M2 of a chunk; three rows of work space."""
    cdef Py_ssize_t R = pixels_per_row(C), WIDTH = R * C, PANEL = pixels_per_panel(C), p = 0, c
    cdef Py_ssize_t COUNT = min(FIRST_ROWS * R, PIXELS)
    cdef floating* center = work
    cdef floating* first = work + WIDTH
    cdef floating* second = work + 2 * WIDTH
    sum_rows(x, COUNT * C, WIDTH, first)
    fold(first, C, WIDTH)
    for c in range(C):
        mean[c] = first[c] / COUNT
        m2[c] = 0
    while p < PIXELS:
        COUNT = min(PANEL, PIXELS - p)
        widen(mean, C, WIDTH, center)
        if floating is float:
            moments_float(x + p * C, center, COUNT * C, WIDTH, first, second)
        else:
            moments_double(x + p * C, center, COUNT * C, WIDTH, first, second)
        fold(first, C, WIDTH)
        fold(second, C, WIDTH)
        if floating is float:
            merge_sums_float(mean, m2, center, first, second, C, p, COUNT)
        else:
            merge_sums_double(mean, m2, center, first, second, C, p, COUNT)
        p += COUNT


cdef void merge_chunks(
    double* means, double* m2s, Py_ssize_t P, Py_ssize_t C, Py_ssize_t CHUNKS, Py_ssize_t begin, Py_ssize_t stop,
    double* mean, double* variance,
) noexcept nogil:
    """Merge the moments [CHUNKS, C] of channels `begin` to `stop` into the first chunk's."""
    cdef Py_ssize_t k, c, start, COUNT
    for k in range(1, CHUNKS):
        start = share_start(P, CHUNKS, k)
        COUNT = share_start(P, CHUNKS, k + 1) - start
        merge(means + begin, m2s + begin, means + k * C + begin, m2s + k * C + begin, stop - begin, start, COUNT)
    for c in range(begin, stop):
        mean[c] = means[c]
        variance[c] = m2s[c] / P


# ------------------------------------------------------------------------------------------------------------- forward

cdef void scale_and_shift(
    const double* mean, const double* variance, const floating* weight, const floating* bias, double eps,
    Py_ssize_t begin, Py_ssize_t stop, double* scale, double* shift,
) noexcept nogil:
    """The normalisation of channels `begin` to `stop` as x scale + shift."""
    cdef Py_ssize_t c
    for c in range(begin, stop):
        scale[c] = (weight[c] if weight != NULL else 1) / sqrt(variance[c] + eps)
        shift[c] = (bias[c] if bias != NULL else 0) - mean[c] * scale[c]


cdef void normalize_share(
    const floating* x, const double* scale, const double* shift, const floating* residual, floating* out,
    Py_ssize_t begin, Py_ssize_t stop, Py_ssize_t C, bint relu, floating* wide, Listener* listener,
) noexcept nogil:
    """Normalise pixels `begin` to `stop`, backwards; two rows of work space."""
    cdef Py_ssize_t WIDTH = pixels_per_row(C) * C, PANEL = pixels_per_panel(C), panel, p, COUNT
    cdef const floating* added
    widen(scale, C, WIDTH, wide)
    widen(shift, C, WIDTH, wide + WIDTH)
    for panel in range(ceil_div(stop - begin, PANEL) - 1, -1, -1):
        if interrupted(listener):
            return
        p = begin + panel * PANEL
        COUNT = min(PANEL, stop - p) * C
        added = residual + p * C if residual != NULL else NULL
        if floating is float:
            normalize_float(x + p * C, wide, wide + WIDTH, added, out + p * C, COUNT, WIDTH, relu)
        else:
            normalize_double(x + p * C, wide, wide + WIDTH, added, out + p * C, COUNT, WIDTH, relu)


def forward(
    const floating[:, ::1] x,           # IN  [P, C]
    double[::1] mean,                   # OUT [C] if `training`, else IN
    double[::1] variance,               # OUT [C] if `training`, else IN; biased: divided by P
    const floating[::1] weight,         # IN  [C] or None
    const floating[::1] bias,           # IN  [C] or None
    double eps,
    const floating[:, ::1] residual,    # IN  [P, C] or None
    floating[:, ::1] out,               # OUT [P, C] or None: the statistics are all that is wanted
    bint relu,
    bint training,
    int num_threads,
):
    """out = (x - mean) / sqrt(variance + eps) * weight + bias (+ residual), negative numbers made zero if `relu`."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], WIDTH = pixels_per_row(C) * C, CHUNKS = chunk_count(P, C)
    cdef Py_ssize_t task, k, start
    cdef const floating* gamma = &weight[0] if weight is not None else NULL
    cdef const floating* beta = &bias[0] if bias is not None else NULL
    cdef const floating* added = &residual[0, 0] if residual is not None else NULL
    cdef floating* target = &out[0, 0] if out is not None else NULL
    cdef Block work_block = Block(num_threads * 3 * WIDTH * sizeof(floating))
    cdef Block channels_block = Block(2 * (1 + CHUNKS) * C * sizeof(double))
    cdef floating* work = <floating*>work_block.address
    cdef double* scale = <double*>channels_block.address
    cdef double* shift = scale + C
    cdef double* means = shift + C
    cdef double* m2s = means + CHUNKS * C
    cdef Listener listener
    listen(&listener)
    with nogil, parallel(num_threads=num_threads):
        if training:
            for task in prange(num_threads, schedule="static"):
                for k in range(share_start(CHUNKS, num_threads, task), share_start(CHUNKS, num_threads, task + 1)):
                    if interrupted(&listener):
                        break
                    start = share_start(P, CHUNKS, k)
                    chunk_moments(&x[start, 0], share_start(P, CHUNKS, k + 1) - start, C, work + task * 3 * WIDTH,
                                  means + k * C, m2s + k * C)
        for task in prange(num_threads, schedule="static"):
            if training:
                merge_chunks(means, m2s, P, C, CHUNKS, share_start(C, num_threads, task),
                             share_start(C, num_threads, task + 1), &mean[0], &variance[0])
            scale_and_shift(&mean[0], &variance[0], gamma, beta, eps, share_start(C, num_threads, task),
                            share_start(C, num_threads, task + 1), scale, shift)
        if target != NULL:
            for task in prange(num_threads, schedule="static"):
                normalize_share(&x[0, 0], scale, shift, added, target, share_start(P, num_threads, task),
                                share_start(P, num_threads, task + 1), C, relu, work + task * 3 * WIDTH,
                                &listener)
    raise_if_interrupted(&listener)


# ----------------------------------------------------------------------------------------------------------- backwards

cdef inline floating* widened_mask(
    const double* mask, Py_ssize_t C, Py_ssize_t WIDTH, floating* rows
) noexcept nogil:
    """Fill two rows with the ReLU's scale and shift, [2, C] in `mask`; return them, or NULL without a ReLU."""
    if mask == NULL:
        return NULL
    widen(mask, C, WIDTH, rows)
    widen(mask + C, C, WIDTH, rows + WIDTH)
    return rows


cdef void gradient_chunk(
    const floating* grad, const floating* x, const double* mask, const double* mean,
    Py_ssize_t PIXELS, Py_ssize_t C, floating* work, double* sum_g, double* sum_gx,
) noexcept nogil:
    """Sum up a chunk; five rows of work space."""
    cdef Py_ssize_t WIDTH = pixels_per_row(C) * C, PANEL = pixels_per_panel(C), p = 0, c, COUNT
    cdef floating* center = work
    cdef floating* first = work + WIDTH
    cdef floating* second = work + 2 * WIDTH
    cdef floating* scale = widened_mask(mask, C, WIDTH, work + 3 * WIDTH)
    memset(sum_g, 0, C * sizeof(double))
    memset(sum_gx, 0, C * sizeof(double))
    widen(mean, C, WIDTH, center)
    while p < PIXELS:
        COUNT = min(PANEL, PIXELS - p) * C
        if floating is float:
            gradients_float(grad + p * C, x + p * C, scale, work + 4 * WIDTH, center, COUNT, WIDTH, first, second)
        else:
            gradients_double(grad + p * C, x + p * C, scale, work + 4 * WIDTH, center, COUNT, WIDTH, first, second)
        fold(first, C, WIDTH)
        fold(second, C, WIDTH)
        for c in range(C):
            sum_g[c] += first[c]
            sum_gx[c] += second[c]
        p += PANEL


cdef void gradient_factors(
    double* sums_g, double* sums_gx, const double* mean, const double* variance, const floating* weight, double eps,
    Py_ssize_t P, Py_ssize_t C, Py_ssize_t CHUNKS, Py_ssize_t begin, Py_ssize_t stop,
    double* factors, floating* grad_weight, floating* grad_bias,
) noexcept nogil:
    """Merge the sums [CHUNKS, C] of channels `begin` to `stop`; see `backward` for the factors a, b and d."""
    cdef Py_ssize_t k, c
    cdef double sum_gx, r
    for k in range(1, CHUNKS):
        for c in range(begin, stop):
            sums_g[c] += sums_g[k * C + c]
            sums_gx[c] += sums_gx[k * C + c]
    for c in range(begin, stop):
        r = 1 / sqrt(variance[c] + eps)
        sum_gx = (sums_gx[c] - (mean[c] - <floating>mean[c]) * sums_g[c]) * r  # the centre was rounded
        factors[c] = weight[c] * r if weight != NULL else r
        factors[C + c] = factors[c] * r * sum_gx / -P
        factors[2 * C + c] = factors[c] * sums_g[c] / -P - factors[C + c] * mean[c]
        grad_bias[c] = <floating>sums_g[c]
        if grad_weight != NULL:
            grad_weight[c] = <floating>sum_gx


cdef void input_gradient_share(
    const floating* grad, const floating* x, const double* mask, const double* factors,
    Py_ssize_t begin, Py_ssize_t stop, Py_ssize_t C, bint training, floating* work, floating* grad_x,
    Listener* listener,
) noexcept nogil:
    """The gradient of pixels `begin` to `stop`, backwards; five rows of work space."""
    cdef Py_ssize_t WIDTH = pixels_per_row(C) * C, PANEL = pixels_per_panel(C), panel, p, i, COUNT
    cdef floating* b = work + WIDTH
    cdef floating* d = b + WIDTH
    cdef floating* scale = widened_mask(mask, C, WIDTH, work + 3 * WIDTH)
    for i in range(3):
        widen(factors + i * C, C, WIDTH, work + i * WIDTH)
    for panel in range(ceil_div(stop - begin, PANEL) - 1, -1, -1):
        if interrupted(listener):
            return
        p = begin + panel * PANEL
        COUNT = min(PANEL, stop - p) * C
        if floating is float:
            propagate_float(grad + p * C, x + p * C, scale, work + 4 * WIDTH, work, b, d, COUNT, WIDTH, training,
                            grad_x + p * C)
        else:
            propagate_double(grad + p * C, x + p * C, scale, work + 4 * WIDTH, work, b, d, COUNT, WIDTH, training,
                             grad_x + p * C)


def backward(
    const floating[:, ::1] grad,    # IN  [P, C]
    const floating[:, ::1] x,       # IN  [P, C]
    const double[::1] mean,         # IN  [C]
    const double[::1] variance,     # IN  [C]
    const floating[::1] weight,     # IN  [C] or None
    const floating[::1] bias,       # IN  [C] or None
    double eps,
    bint relu,                      # whether a ReLU stands behind
    bint training,                  # whether mean and variance are those of x
    floating[:, ::1] grad_x,        # OUT [P, C]
    floating[::1] grad_weight,      # OUT [C] or None
    floating[::1] grad_bias,        # OUT [C]
    int num_threads,
):
    """grad_x = g * a + x * b + d: the formula of `batch_norm_backward`, sorted by what stands behind g and x."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], WIDTH = pixels_per_row(C) * C, CHUNKS = chunk_count(P, C)
    cdef Py_ssize_t task, k, start
    cdef const floating* gamma = &weight[0] if weight is not None else NULL
    cdef const floating* beta = &bias[0] if bias is not None else NULL
    cdef floating* grad_gamma = &grad_weight[0] if grad_weight is not None else NULL
    cdef Block work_block = Block(num_threads * 5 * WIDTH * sizeof(floating))
    cdef Block channels_block = Block((5 + 2 * CHUNKS) * C * sizeof(double))
    cdef floating* work = <floating*>work_block.address
    cdef double* factors = <double*>channels_block.address
    cdef double* mask = factors + 3 * C if relu else NULL
    cdef double* sums_g = factors + 5 * C
    cdef double* sums_gx = sums_g + CHUNKS * C
    if relu:
        scale_and_shift(&mean[0], &variance[0], gamma, beta, eps, 0, C, mask, mask + C)
    cdef Listener listener
    listen(&listener)
    with nogil, parallel(num_threads=num_threads):
        for task in prange(num_threads, schedule="static"):
            for k in range(share_start(CHUNKS, num_threads, task), share_start(CHUNKS, num_threads, task + 1)):
                if interrupted(&listener):
                    break
                start = share_start(P, CHUNKS, k)
                gradient_chunk(&grad[start, 0], &x[start, 0], mask, &mean[0],
                               share_start(P, CHUNKS, k + 1) - start, C, work + task * 5 * WIDTH,
                               sums_g + k * C, sums_gx + k * C)
        for task in prange(num_threads, schedule="static"):
            gradient_factors(sums_g, sums_gx, &mean[0], &variance[0], gamma, eps, P, C, CHUNKS,
                             share_start(C, num_threads, task), share_start(C, num_threads, task + 1),
                             factors, grad_gamma, &grad_bias[0])
        for task in prange(num_threads, schedule="static"):
            input_gradient_share(&grad[0, 0], &x[0, 0], mask, factors, share_start(P, num_threads, task),
                                 share_start(P, num_threads, task + 1), C, training, work + task * 5 * WIDTH,
                                 &grad_x[0, 0], &listener)
    raise_if_interrupted(&listener)
