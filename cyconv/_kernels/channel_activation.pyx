"""Activations that know their channel, over [P, C] memory: PReLU and maxout."""

from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int32_t
from libc.string cimport memset

from cyconv._kernels.channels cimport chunk_count, fold, pixels_per_row, widen
from cyconv._kernels.parallel cimport Listener, interrupted, listen, raise_if_interrupted, share_start
from cyconv._memory cimport Block

# --------------------------------------------------------------------------------------------------------------- PReLU

cdef void prelu_rows(const floating* x, Py_ssize_t COUNT, Py_ssize_t WIDTH, const floating* slopes, floating* out) \
        noexcept nogil:
    cdef Py_ssize_t i = 0, j
    while i < COUNT:
        for j in range(min(WIDTH, COUNT - i)):
            out[i + j] = x[i + j] * slopes[j] if x[i + j] < 0 else x[i + j]
        i += WIDTH


def prelu(
    const floating[:, ::1] x,       # IN  [P, C]
    const double[::1] slopes,       # IN  [C]
    floating[:, ::1] out,           # OUT [P, C]
    int num_threads,
):
    """Multiply negative numbers by their channel's slope."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], WIDTH = pixels_per_row(C) * C, CHUNKS = chunk_count(P, C), k
    cdef Py_ssize_t start
    cdef Block block = Block(WIDTH * sizeof(floating))
    cdef floating* wide = <floating*>block.address
    widen(&slopes[0], C, WIDTH, wide)
    cdef Listener listener
    listen(&listener)
    for k in prange(CHUNKS, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        start = share_start(P, CHUNKS, k)
        prelu_rows(&x[start, 0], (share_start(P, CHUNKS, k + 1) - start) * C, WIDTH, wide, &out[start, 0])
    raise_if_interrupted(&listener)


cdef void prelu_backward_rows(
    const floating* grad, const floating* x, Py_ssize_t COUNT, Py_ssize_t WIDTH, const floating* slopes,
    floating* grad_x, double* sums,
) noexcept nogil:
    cdef Py_ssize_t i = 0, j
    cdef floating product
    memset(sums, 0, WIDTH * sizeof(double))
    while i < COUNT:
        for j in range(min(WIDTH, COUNT - i)):
            product = grad[i + j] * x[i + j]
            sums[j] += 0 if x[i + j] > 0 else product
            grad_x[i + j] = grad[i + j] if x[i + j] > 0 else grad[i + j] * slopes[j]
        i += WIDTH


def prelu_backward(
    const floating[:, ::1] grad,    # IN  [P, C]
    const floating[:, ::1] x,       # IN  [P, C]
    const double[::1] slopes,       # IN  [C]
    floating[:, ::1] grad_x,        # OUT [P, C]
    double[::1] grad_slopes,        # OUT [C]
    int num_threads,
):
    """Gradients of `prelu` by x and by the slopes."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], WIDTH = pixels_per_row(C) * C, CHUNKS = chunk_count(P, C), k, c
    cdef Py_ssize_t start
    cdef Block block = Block(CHUNKS * WIDTH * sizeof(double) + WIDTH * sizeof(floating))
    cdef double* sums = <double*>block.address
    cdef floating* wide = <floating*>(sums + CHUNKS * WIDTH)
    widen(&slopes[0], C, WIDTH, wide)
    cdef Listener listener
    listen(&listener)
    for k in prange(CHUNKS, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        start = share_start(P, CHUNKS, k)
        prelu_backward_rows(
            &grad[start, 0], &x[start, 0], (share_start(P, CHUNKS, k + 1) - start) * C, WIDTH, wide, &grad_x[start, 0],
            sums + k * WIDTH,
        )
        fold(sums + k * WIDTH, C, WIDTH)
    raise_if_interrupted(&listener)
    for c in range(C):
        grad_slopes[c] = 0
        for k in range(CHUNKS):
            grad_slopes[c] += sums[k * WIDTH + c]


# -------------------------------------------------------------------------------------------------------------- maxout

cdef void maxout_row(const floating* x, Py_ssize_t UNITS, Py_ssize_t PIECES, floating* out, int32_t* winners) \
        noexcept nogil:
    """The first of equals wins, and NaN over every number."""
    cdef Py_ssize_t unit, piece
    cdef const floating* pieces
    for unit in range(UNITS):
        pieces = x + unit * PIECES
        winners[unit] = 0
        for piece in range(1, PIECES):
            if pieces[piece] > pieces[winners[unit]] or (pieces[piece] != pieces[piece]
                                                         and pieces[winners[unit]] == pieces[winners[unit]]):
                winners[unit] = <int32_t>piece
        out[unit] = pieces[winners[unit]]


def maxout(
    const floating[:, ::1] x,       # IN  [P, UNITS * PIECES]
    floating[:, ::1] out,           # OUT [P, UNITS]
    int32_t[:, ::1] winners,        # OUT [P, UNITS] which piece it is
    int num_threads,
):
    """Keep the largest of each run of pieces."""
    cdef Py_ssize_t P = out.shape[0], UNITS = out.shape[1], PIECES = x.shape[1] // max(1, UNITS), p
    cdef Listener listener
    listen(&listener)
    for p in prange(P, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        maxout_row(&x[p, 0], UNITS, PIECES, &out[p, 0], &winners[p, 0])
    raise_if_interrupted(&listener)


cdef void maxout_backward_row(const floating* grad, const int32_t* winners, Py_ssize_t UNITS, Py_ssize_t PIECES,
                              floating* grad_x) noexcept nogil:
    cdef Py_ssize_t unit
    memset(grad_x, 0, UNITS * PIECES * sizeof(floating))
    for unit in range(UNITS):
        grad_x[unit * PIECES + winners[unit]] = grad[unit]


def maxout_backward(
    const floating[:, ::1] grad,        # IN  [P, UNITS]
    const int32_t[:, ::1] winners,      # IN  [P, UNITS]
    floating[:, ::1] grad_x,            # OUT [P, UNITS * PIECES]
    int num_threads,
):
    """Hand each gradient to the piece that won."""
    cdef Py_ssize_t P = grad.shape[0], UNITS = grad.shape[1], PIECES = grad_x.shape[1] // max(1, UNITS), p
    cdef Listener listener
    listen(&listener)
    for p in prange(P, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        maxout_backward_row(&grad[p, 0], &winners[p, 0], UNITS, PIECES, &grad_x[p, 0])
    raise_if_interrupted(&listener)
