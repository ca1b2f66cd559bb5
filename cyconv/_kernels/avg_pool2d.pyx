"""Average pooling, plain, adaptive or global, and its gradient.

Images are [N, H, W, C]; windows.pxd describes the tables of windows. A window's divisor is a product over the axes, so
each axis has its table of factors: a mean is the sum times row_scale[oh] * column_scale[ow]. Sums run over lines first,
then over their sums, so that a large window loses little precision. Each task owns what it writes.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int32_t

from cyconv._kernels.parallel cimport ceil_div, share_start, this_thread
from cyconv._kernels.windows cimport FIRST, ORIGIN, STOP, WIDE, Spans, as_spans
from cyconv._memory cimport Block


cdef inline void mean_block(
    const floating* image, Py_ssize_t step_h, Py_ssize_t step_w, const Py_ssize_t* h, const Py_ssize_t* w,
    floating scale, floating* output, const int width,
) noexcept nogil:
    """One window, `width` channels."""
    cdef floating total[WIDE]
    cdef floating line[WIDE]
    cdef const floating* pixel
    cdef Py_ssize_t kh, kw
    cdef int j
    for j in range(width):
        total[j] = 0
    for kh in range(h[FIRST], h[STOP]):
        for j in range(width):
            line[j] = 0
        for kw in range(w[FIRST], w[STOP]):
            pixel = image + kh * step_h + kw * step_w
            for j in range(width):
                line[j] += pixel[j]
        for j in range(width):
            total[j] += line[j]
    for j in range(width):
        output[j] = total[j] * scale


cdef inline void mean_row(
    const floating* image, Py_ssize_t step_h, Py_ssize_t C, const Py_ssize_t* h, const Py_ssize_t* columns,
    double row_scale, const double* column_scale, Py_ssize_t OW, Py_ssize_t CHANNELS, floating* output, const int width,
) noexcept nogil:
    """One output row, CHANNELS out of C."""
    cdef Py_ssize_t ow, block, c
    cdef const Py_ssize_t* w
    for ow in range(OW):
        w = columns + 3 * ow
        for block in range(ceil_div(CHANNELS, width)):
            c = min(block * width, CHANNELS - width)
            mean_block(
                image + w[ORIGIN] * C + c, step_h, C, h, w,
                <floating>(row_scale * column_scale[ow]), output + ow * C + c, width,
            )


cdef void mean_spans(
    const floating* image, Py_ssize_t SIZE, Py_ssize_t C, const Py_ssize_t* h, const Spans* thin,
    double row_scale, const double* column_scale, floating* total, floating* output,
) noexcept nogil:
    """One output row of few channels: the sum of its input rows of SIZE numbers, then over columns."""
    cdef Py_ssize_t kh, s, e
    cdef const Py_ssize_t* span
    cdef const floating* row
    for e in range(SIZE):
        total[e] = image[h[FIRST] * SIZE + e]
    for kh in range(h[FIRST] + 1, h[STOP]):
        row = image + kh * SIZE
        for e in range(SIZE):
            total[e] += row[e]
    for e in range(thin.E):
        output[e] = 0
    for s in range(thin.S):
        span = thin.spans + 3 * s
        row = total + span[0] * C
        for e in range(span[1], span[2]):
            output[e] += row[thin.offsets[e]]
    for e in range(thin.E):
        output[e] *= <floating>(row_scale * column_scale[e])


def pool(
    const floating[:, :, :, ::1] x,            # IN
    floating[:, :, :, ::1] output,             # OUT
    const double[::1] row_scale,               # IN  [OH]
    const double[::1] column_scale,            # IN  [OW], or [E] if channels are few
    const Py_ssize_t[:, ::1] rows,             # IN  [OH, 3]
    const Py_ssize_t[:, ::1] columns,          # IN  [OW, 3]
    const int32_t[::1] offsets,                # IN  [E], empty if channels are many
    const Py_ssize_t[:, ::1] spans,            # IN  [S, 3]
    int num_threads,
):
    """A task is an output row, or a share of its channels where rows are fewer than threads."""
    cdef Py_ssize_t N = x.shape[0], IW = x.shape[2], C = x.shape[3], OH = output.shape[1], OW = output.shape[2]
    cdef Py_ssize_t step = IW * C, SHARES = 1, task, row, share, oh, c, CHANNELS
    cdef Spans thin = as_spans(offsets, spans)
    cdef Block scratch = Block(num_threads * step * sizeof(floating) if thin.E else 1)
    cdef floating* totals = <floating*>scratch.address
    cdef const double* scale = &column_scale[0]
    cdef const Py_ssize_t* w = &columns[0, 0]
    cdef const Py_ssize_t* h
    cdef const floating* image
    cdef floating* out
    if N * OH < 2 * num_threads and C >= WIDE:
        SHARES = min(C // WIDE, ceil_div(2 * num_threads, N * OH))
    for task in prange(N * OH * SHARES, num_threads=num_threads, schedule="static", nogil=True):
        row = task // SHARES
        share = task % SHARES
        oh = row % OH
        c = share_start(C, SHARES, share)
        CHANNELS = share_start(C, SHARES, share + 1) - c
        h = &rows[oh, 0]
        image = &x[row // OH, 0, 0, 0] + h[ORIGIN] * step + c
        out = &output[0, 0, 0, 0] + row * OW * C + c
        if thin.E:
            mean_spans(image, step, C, h, &thin, row_scale[oh], scale, totals + this_thread() * step, out)
        elif C % 64 == 0:
            mean_row(image, step, C, h, w, row_scale[oh], scale, OW, CHANNELS, out, 64)
        elif C >= 32:
            mean_row(image, step, C, h, w, row_scale[oh], scale, OW, CHANNELS, out, 32)
        else:
            mean_row(image, step, C, h, w, row_scale[oh], scale, OW, CHANNELS, out, 16)


cdef void sum_rows(
    const floating* grad_output, const double* row_scale, const Py_ssize_t* h, Py_ssize_t H, Py_ssize_t SIZE,
    floating* total,
) noexcept nogil:
    """The sum of the output rows that read an input row."""
    cdef Py_ssize_t i, e
    cdef const floating* row
    cdef floating scale
    for e in range(SIZE):
        total[e] = 0
    for i in range(H):
        row = grad_output + h[2 * i] * SIZE
        scale = <floating>row_scale[h[2 * i]]
        for e in range(SIZE):
            total[e] += row[e] * scale


cdef inline void gather_block(
    const floating* total, const double* column_scale, const Py_ssize_t* w, Py_ssize_t W, Py_ssize_t C,
    floating* grad_x, const int width,
) noexcept nogil:
    """One input pixel, `width` channels: the sum of the W windows that read it."""
    cdef floating block[WIDE]
    cdef const floating* pixel
    cdef floating scale
    cdef Py_ssize_t k
    cdef int j
    for j in range(width):
        block[j] = 0
    for k in range(W):
        pixel = total + w[2 * k] * C
        scale = <floating>column_scale[w[2 * k]]
        for j in range(width):
            block[j] += pixel[j] * scale
    for j in range(width):
        grad_x[j] = block[j]


cdef inline void gather_row(
    const floating* total, const double* column_scale, const Py_ssize_t* start, const Py_ssize_t* pairs,
    Py_ssize_t IW, Py_ssize_t C, floating* grad_x, const int width,
) noexcept nogil:
    cdef Py_ssize_t iw, block, c
    for iw in range(IW):
        for block in range(ceil_div(C, width)):
            c = min(block * width, C - width)
            gather_block(
                total + c, column_scale, pairs + 2 * start[iw], start[iw + 1] - start[iw], C,
                grad_x + iw * C + c, width,
            )


cdef void scatter_spans(
    const floating* total, const double* column_scale, const Spans* thin, Py_ssize_t IW, Py_ssize_t C, floating* grad_x
) noexcept nogil:
    """The same for few channels, window by window."""
    cdef Py_ssize_t s, e
    cdef const Py_ssize_t* span
    cdef floating* target
    for e in range(IW * C):
        grad_x[e] = 0
    for s in range(thin.S):
        span = thin.spans + 3 * s
        target = grad_x + span[0] * C
        for e in range(span[1], span[2]):
            target[thin.offsets[e]] += total[e] * <floating>column_scale[e]


def pool_backward(
    const floating[:, :, :, ::1] grad_output,  # IN
    floating[:, :, :, ::1] grad_x,             # OUT
    const double[::1] row_scale,               # IN  [OH]
    const double[::1] column_scale,            # IN  [OW], or [E] if channels are few
    const Py_ssize_t[::1] row_start,           # IN  [IH + 1]
    const Py_ssize_t[:, ::1] row_pairs,        # IN
    const Py_ssize_t[::1] column_start,        # IN  [IW + 1]
    const Py_ssize_t[:, ::1] column_pairs,     # IN
    const int32_t[::1] offsets,                # IN  [E], empty if channels are many
    const Py_ssize_t[:, ::1] spans,            # IN  [S, 3]
    int num_threads,
):
    """A task is an input row: first the rows that read it are added, then their columns."""
    cdef Py_ssize_t N = grad_x.shape[0], IH = grad_x.shape[1], IW = grad_x.shape[2], C = grad_x.shape[3]
    cdef Py_ssize_t SIZE = grad_output.shape[2] * C, task, ih
    cdef Spans thin = as_spans(offsets, spans)
    cdef Block scratch = Block(num_threads * SIZE * sizeof(floating))
    cdef const double* scale = &column_scale[0]
    cdef const Py_ssize_t* start = &column_start[0]
    cdef const Py_ssize_t* pairs = &column_pairs[0, 0]
    cdef floating* total
    cdef floating* out
    for task in prange(N * IH, num_threads=num_threads, schedule="static", nogil=True):
        ih = task % IH
        total = <floating*>scratch.address + this_thread() * SIZE
        out = &grad_x[0, 0, 0, 0] + task * IW * C
        sum_rows(
            &grad_output[task // IH, 0, 0, 0], &row_scale[0], &row_pairs[0, 0] + 2 * row_start[ih],
            row_start[ih + 1] - row_start[ih], SIZE, total,
        )
        if thin.E:
            scatter_spans(total, scale, &thin, IW, C, out)
        elif C % 64 == 0:
            gather_row(total, scale, start, pairs, IW, C, out, 64)
        elif C >= 32:
            gather_row(total, scale, start, pairs, IW, C, out, 32)
        else:
            gather_row(total, scale, start, pairs, IW, C, out, 16)
