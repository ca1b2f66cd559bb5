"""Batch normalisation over [P, C] memory: per-channel statistics, one pass to normalise, two passes backwards.

Statistics are gathered panel by panel as count, mean and M2 (the sum of squared deviations), and merged in double by
    mean = mean_a + delta n_b / n,  M2 = M2_a + M2_b + delta^2 n_a n_b / n,  delta = mean_b - mean_a, n = n_a + n_b
(Chan, Golub and LeVeque 1979). A panel's sums are taken about the mean of the panels before it, so memory is read
once. A centre far off costs digits of M2_b, about eps n_b delta^2, but then the term delta^2 n_a n_b / n is as large:
the merged variance is right to a few units in the last place, wherever the mean lies.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memset

from cyconv._kernels.channels cimport (
    chunk_count, fold, pixels_per_panel, pixels_per_row, sum_rows, widen,
)
from cyconv._kernels.parallel cimport ceil_div, share_start, this_thread
from cyconv._memory cimport Block


# ---------------------------------------------------------------------------------------------------------- statistics

cdef void deviation_rows(
    const floating* x, const floating* center, Py_ssize_t COUNT, Py_ssize_t WIDTH, floating* first, floating* second
) noexcept nogil:
    """first[j] = sum of d, second[j] = sum of d * d, d = x - center, over the rows; two rows a step."""
    cdef const floating* end = x + COUNT
    cdef floating d0, d1
    cdef Py_ssize_t j
    memset(first, 0, WIDTH * sizeof(floating))
    memset(second, 0, WIDTH * sizeof(floating))
    while end - x >= 2 * WIDTH:
        for j in range(WIDTH):
            d0 = x[j] - center[j]
            d1 = x[WIDTH + j] - center[j]
            first[j] += d0 + d1
            second[j] += d0 * d0 + d1 * d1
        x += 2 * WIDTH
    while x < end:
        for j in range(min(WIDTH, end - x)):
            d0 = x[j] - center[j]
            first[j] += d0
            second[j] += d0 * d0
        x += WIDTH


cdef inline void merge_moments(
    double* mean, double* m2, Py_ssize_t SEEN, double mean_b, double m2_b, Py_ssize_t COUNT
) noexcept nogil:
    cdef double share = <double>COUNT / (SEEN + COUNT), delta = mean_b - mean[0]
    mean[0] += delta * share
    m2[0] += m2_b + delta * delta * share * SEEN


cdef void chunk_moments(
    const floating* x, Py_ssize_t PIXELS, Py_ssize_t C, floating* work, double* mean, double* m2
) noexcept nogil:
    """Gather mean and M2 of a chunk; three rows of work space."""
    cdef Py_ssize_t WIDTH = pixels_per_row(C) * C, PANEL = pixels_per_panel(C), COUNT = min(PANEL, PIXELS), p = 0, c
    cdef floating* center = work
    cdef floating* first = work + WIDTH
    cdef floating* second = work + 2 * WIDTH
    cdef double inverse
    sum_rows(x, COUNT * C, WIDTH, first)
    fold(first, C, WIDTH)
    for c in range(C):
        mean[c] = first[c] / COUNT
        m2[c] = 0
    while p < PIXELS:
        COUNT = min(PANEL, PIXELS - p)
        inverse = 1.0 / COUNT
        widen(mean, C, WIDTH, center)
        deviation_rows(x + p * C, center, COUNT * C, WIDTH, first, second)
        fold(first, C, WIDTH)
        fold(second, C, WIDTH)
        for c in range(C):
            merge_moments(&mean[c], &m2[c], p, center[c] + first[c] * inverse,
                          second[c] - first[c] * (first[c] * inverse), COUNT)
        p += COUNT


def statistics(
    const floating[:, ::1] x,   # IN  [P, C]
    double[::1] mean,           # OUT [C]
    double[::1] variance,       # OUT [C], biased: divided by P
    int num_threads,
):
    """Mean and variance of each channel."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], WIDTH = pixels_per_row(C) * C, CHUNKS = chunk_count(P, C)
    cdef Py_ssize_t k, c, start, COUNT
    cdef Block work_block = Block(num_threads * 3 * WIDTH * sizeof(floating))
    cdef Block moments_block = Block(CHUNKS * 2 * C * sizeof(double))
    cdef floating* work = <floating*>work_block.address
    cdef double* means = <double*>moments_block.address
    cdef double* m2s = means + CHUNKS * C
    for k in prange(CHUNKS, nogil=True, num_threads=num_threads, schedule="static"):
        start = share_start(P, CHUNKS, k)
        chunk_moments(&x[start, 0], share_start(P, CHUNKS, k + 1) - start, C, work + this_thread() * 3 * WIDTH,
                      means + k * C, m2s + k * C)
    for k in range(1, CHUNKS):
        start = share_start(P, CHUNKS, k)
        COUNT = share_start(P, CHUNKS, k + 1) - start
        for c in range(C):
            merge_moments(&means[c], &m2s[c], start, means[k * C + c], m2s[k * C + c], COUNT)
    for c in range(C):
        mean[c] = means[c]
        variance[c] = m2s[c] / P


# ----------------------------------------------------------------------------------------------------------- normalise

cdef void normalize_rows(
    const floating* x, const floating* scale, const floating* shift, const floating* residual, floating* out,
    Py_ssize_t COUNT, Py_ssize_t WIDTH, bint relu,
) noexcept nogil:
    cdef Py_ssize_t row, i, j, LENGTH
    for row in range(ceil_div(COUNT, WIDTH)):
        i = row * WIDTH
        LENGTH = min(WIDTH, COUNT - i)
        for j in range(LENGTH):
            out[i + j] = x[i + j] * scale[j] + shift[j]
        # What follows finds the row in the first-level cache.
        if residual != NULL:
            for j in range(LENGTH):
                out[i + j] += residual[i + j]
        if relu:
            for j in range(LENGTH):
                out[i + j] = 0 if out[i + j] < 0 else out[i + j]


def normalize(
    const floating[:, ::1] x,           # IN  [P, C]
    const double[::1] scale,            # IN  [C]
    const double[::1] shift,            # IN  [C]
    const floating[:, ::1] residual,    # IN  [P, C] or None
    floating[:, ::1] out,               # OUT [P, C]
    bint relu,
    int num_threads,
):
    """out = x * scale + shift (+ residual), negative numbers replaced by zero if `relu`."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], WIDTH = pixels_per_row(C) * C, PANEL = pixels_per_panel(C)
    cdef Py_ssize_t panel, p
    cdef bint adding = residual is not None
    cdef Block block = Block(2 * WIDTH * sizeof(floating))
    cdef floating* wide = <floating*>block.address
    widen(&scale[0], C, WIDTH, wide)
    widen(&shift[0], C, WIDTH, wide + WIDTH)
    for panel in prange(ceil_div(P, PANEL), nogil=True, num_threads=num_threads, schedule="static"):
        p = panel * PANEL
        normalize_rows(&x[p, 0], wide, wide + WIDTH, &residual[p, 0] if adding else NULL, &out[p, 0],
                       min(PANEL, P - p) * C, WIDTH, relu)


# ----------------------------------------------------------------------------------------------------------- backwards

cdef inline const floating* masked(
    const floating* grad, const floating* output, floating* row, Py_ssize_t LENGTH
) noexcept nogil:
    """Return `grad`, or, behind a ReLU, `row` with those gradients whose output was not cut off."""
    cdef floating g
    cdef Py_ssize_t j
    if output == NULL:
        return grad
    for j in range(LENGTH):
        g = grad[j]  # read in any case, or the loop has a branch
        row[j] = 0 if output[j] <= 0 else g
    return row


cdef void gradient_rows(
    const floating* grad, const floating* x, const floating* output, const floating* center,
    Py_ssize_t COUNT, Py_ssize_t WIDTH, floating* space, floating* first, floating* second,
) noexcept nogil:
    """first[j] = sum of g, second[j] = sum of g * (x - center), over the rows; four rows a step."""
    cdef Py_ssize_t i = 0, j, LENGTH
    cdef const floating* g
    memset(first, 0, WIDTH * sizeof(floating))
    memset(second, 0, WIDTH * sizeof(floating))
    while i < COUNT:
        LENGTH = 4 * WIDTH if COUNT - i >= 4 * WIDTH else min(WIDTH, COUNT - i)
        g = masked(grad + i, NULL if output == NULL else output + i, space, LENGTH)
        if LENGTH == 4 * WIDTH:
            # Two loops: gcc gives up on proving that more than a handful of pointers do not overlap.
            for j in range(WIDTH):
                first[j] += (g[j] + g[WIDTH + j]) + (g[2 * WIDTH + j] + g[3 * WIDTH + j])
            for j in range(WIDTH):
                second[j] += (
                    (g[j] * (x[j] - center[j]) + g[WIDTH + j] * (x[WIDTH + j] - center[j]))
                    + (g[2 * WIDTH + j] * (x[2 * WIDTH + j] - center[j])
                       + g[3 * WIDTH + j] * (x[3 * WIDTH + j] - center[j]))
                )
        else:
            for j in range(LENGTH):
                first[j] += g[j]
                second[j] += g[j] * (x[j] - center[j])
        x += LENGTH
        i += LENGTH


cdef void gradient_chunk(
    const floating* grad, const floating* x, const floating* output, const floating* center,
    Py_ssize_t PIXELS, Py_ssize_t C, floating* work, double* sum_g, double* sum_gx,
) noexcept nogil:
    """Sum up a chunk; six rows of work space."""
    cdef Py_ssize_t WIDTH = pixels_per_row(C) * C, PANEL = pixels_per_panel(C), p = 0, c
    cdef floating* first = work
    cdef floating* second = work + WIDTH
    memset(sum_g, 0, C * sizeof(double))
    memset(sum_gx, 0, C * sizeof(double))
    while p < PIXELS:
        gradient_rows(grad + p * C, x + p * C, NULL if output == NULL else output + p * C, center,
                      min(PANEL, PIXELS - p) * C, WIDTH, work + 2 * WIDTH, first, second)
        fold(first, C, WIDTH)
        fold(second, C, WIDTH)
        for c in range(C):
            sum_g[c] += first[c]
            sum_gx[c] += second[c]
        p += PANEL


def gradient_sums(
    const floating[:, ::1] grad,    # IN  [P, C]
    const floating[:, ::1] x,       # IN  [P, C]
    const floating[:, ::1] output,  # IN  [P, C] of the ReLU behind, or None without one
    const double[::1] mean,         # IN  [C]
    double[::1] sum_g,              # OUT [C]
    double[::1] sum_gx,             # OUT [C]
    int num_threads,
):
    """sum_g = sum over p of g, sum_gx = sum over p of g * (x - mean)."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], WIDTH = pixels_per_row(C) * C, CHUNKS = chunk_count(P, C)
    cdef Py_ssize_t k, c, start
    cdef bint masking = output is not None
    cdef Block work_block = Block((1 + num_threads * 6) * WIDTH * sizeof(floating))
    cdef Block sums_block = Block(CHUNKS * 2 * C * sizeof(double))
    cdef floating* center = <floating*>work_block.address
    cdef floating* work = center + WIDTH
    cdef double* sums_g = <double*>sums_block.address
    cdef double* sums_gx = sums_g + CHUNKS * C
    widen(&mean[0], C, WIDTH, center)
    for k in prange(CHUNKS, nogil=True, num_threads=num_threads, schedule="static"):
        start = share_start(P, CHUNKS, k)
        gradient_chunk(&grad[start, 0], &x[start, 0], &output[start, 0] if masking else NULL, center,
                       share_start(P, CHUNKS, k + 1) - start, C, work + this_thread() * 6 * WIDTH,
                       sums_g + k * C, sums_gx + k * C)
    for k in range(1, CHUNKS):
        for c in range(C):
            sums_g[c] += sums_g[k * C + c]
            sums_gx[c] += sums_gx[k * C + c]
    for c in range(C):
        sum_g[c] = sums_g[c]
        sum_gx[c] = sums_gx[c] - (mean[c] - center[c]) * sums_g[c]  # the centre was rounded


cdef void input_gradient_rows(
    const floating* grad, const floating* x, const floating* output, const floating* wide,
    Py_ssize_t COUNT, Py_ssize_t WIDTH, floating* row, floating* grad_x,
) noexcept nogil:
    cdef const floating* a = wide
    cdef const floating* b = wide + WIDTH
    cdef const floating* d = wide + 2 * WIDTH
    cdef const floating* g
    cdef Py_ssize_t i = 0, j, LENGTH
    while i < COUNT:
        LENGTH = min(WIDTH, COUNT - i)
        g = masked(grad + i, NULL if output == NULL else output + i, row, LENGTH)
        for j in range(LENGTH):
            grad_x[i + j] = g[j] * a[j] + (x[i + j] * b[j] + d[j])
        i += WIDTH


def input_gradient(
    const floating[:, ::1] grad,    # IN  [P, C]
    const floating[:, ::1] x,       # IN  [P, C]
    const floating[:, ::1] output,  # IN  [P, C] of the ReLU behind, or None without one
    const double[:, ::1] factors,   # IN  [3, C]: a, b, d
    floating[:, ::1] grad_x,        # OUT [P, C]
    int num_threads,
):
    """grad_x = g * a + x * b + d."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], WIDTH = pixels_per_row(C) * C, PANEL = pixels_per_panel(C)
    cdef Py_ssize_t panel, p, i
    cdef bint masking = output is not None
    cdef Block block = Block((3 + num_threads) * WIDTH * sizeof(floating))
    cdef floating* wide = <floating*>block.address
    for i in range(3):
        widen(&factors[i, 0], C, WIDTH, wide + i * WIDTH)
    for panel in prange(ceil_div(P, PANEL), nogil=True, num_threads=num_threads, schedule="static"):
        p = panel * PANEL
        input_gradient_rows(&grad[p, 0], &x[p, 0], &output[p, 0] if masking else NULL, wide, min(PANEL, P - p) * C,
                            WIDTH, wide + (3 + this_thread()) * WIDTH, &grad_x[p, 0])
