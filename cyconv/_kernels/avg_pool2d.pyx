"""Average pooling, plain, adaptive or global, and its gradient.

Images are [N, H, W, C]; windows.pxd describes the tables of windows. A window's divisor is a product over the axes, so
each axis has its table of factors: a mean is the sum times row_scale[oh] * column_scale[ow]. Sums run over lines first,
then over their sums, so that a large window loses little precision. Each task owns what it writes.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memset

from cyconv._kernels.parallel cimport (
    TURN, Listener, ceil_div, interrupted, listen, raise_if_interrupted, share_start,
)
from cyconv._kernels.windows cimport (
    FIRST, ORIGIN, PAIR, STOP, fresh_row, lanes, same_reader, whole_positions, whole_windows,
)
from cyconv._memory cimport Block

cdef extern from "pooling.h" nogil:
    void mean_float "cyconv_mean_window_float"(
        const float* image, Py_ssize_t step_h, Py_ssize_t step_w, const Py_ssize_t* h, const Py_ssize_t* w,
        Py_ssize_t fresh, float scale, Py_ssize_t C, bint whole, float* output)
    void mean_double "cyconv_mean_window_double"(
        const double* image, Py_ssize_t step_h, Py_ssize_t step_w, const Py_ssize_t* h, const Py_ssize_t* w,
        Py_ssize_t fresh, double scale, Py_ssize_t C, bint whole, double* output)
    void spread_float "cyconv_spread_window_float"(
        const float* grad, float scale, Py_ssize_t ROWS, Py_ssize_t LENGTH, Py_ssize_t count, Py_ssize_t C, bint whole,
        float* grad_x)
    void spread_double "cyconv_spread_window_double"(
        const double* grad, double scale, Py_ssize_t ROWS, Py_ssize_t LENGTH, Py_ssize_t count, Py_ssize_t C,
        bint whole, double* grad_x)
    void gather_float "cyconv_gather_pixel_float"(
        const float* total, const double* scale, Py_ssize_t W, Py_ssize_t C, bint whole, float* grad_x)
    void gather_double "cyconv_gather_pixel_double"(
        const double* total, const double* scale, Py_ssize_t W, Py_ssize_t C, bint whole, double* grad_x)

cdef enum:
    LONG = 128      # channels from which on a large window is summed pixel by pixel: memory in one stream is faster
    TAPS = 16       # of a large window
    SHARE = 2048    # channels summed together there, at most: they stay in L1
    LEAST_SHARE = 64  # channels that are worth a task
    PAD = 64        # numbers after a thread's row: room for a vector, and no cache line is shared


cdef void mean_large_window(
    const floating* image, Py_ssize_t step_h, Py_ssize_t step_w, const Py_ssize_t* h, const Py_ssize_t* w,
    floating scale, Py_ssize_t CHANNELS, floating* line, floating* output,
) noexcept nogil:
    """One large window, many channels; several pixels a step: fewer loads and stores of their sum."""
    cdef Py_ssize_t kh, kw, j
    cdef const floating* pixel
    memset(output, 0, CHANNELS * sizeof(floating))
    for kh in range(h[FIRST], h[STOP]):
        memset(line, 0, CHANNELS * sizeof(floating))
        kw = w[FIRST]
        while kw < w[STOP]:
            pixel = image + kh * step_h + kw * step_w
            if kw + 4 <= w[STOP]:
                for j in range(CHANNELS):
                    line[j] += (pixel[j] + pixel[step_w + j]) + (pixel[2 * step_w + j] + pixel[3 * step_w + j])
                kw += 4
            elif kw + 2 <= w[STOP]:
                for j in range(CHANNELS):
                    line[j] += pixel[j] + pixel[step_w + j]
                kw += 2
            else:
                for j in range(CHANNELS):
                    line[j] += pixel[j]
                kw += 1
        for j in range(CHANNELS):
            output[j] += line[j]
    for j in range(CHANNELS):
        output[j] *= scale


cdef void mean_rows(
    const floating* x, Py_ssize_t N, Py_ssize_t IH, Py_ssize_t IW, Py_ssize_t C,
    const Py_ssize_t* rows, const Py_ssize_t* columns, Py_ssize_t OH, Py_ssize_t OW,
    const double* row_scale, const double* column_scale, Py_ssize_t SHARES, Py_ssize_t begin, Py_ssize_t stop,
    floating* line, floating* output, Listener* listener,
) noexcept nogil:
    """Tasks `begin` to `stop`, each an output row or one of SHARES of its channels."""
    cdef Py_ssize_t step = IW * C, task, row, oh, start, ow, ih, at, CHANNELS, WHOLE, fresh, taps, left = 0
    cdef const Py_ssize_t* h
    cdef const Py_ssize_t* w
    cdef const floating* corner
    cdef floating scale
    for task in range(begin, stop):
        row = task // SHARES
        oh = row % OH
        start = share_start(C, SHARES, task % SHARES)
        CHANNELS = share_start(C, SHARES, task % SHARES + 1) - start
        h = rows + 3 * oh
        ih = row // OH * IH + h[ORIGIN]
        fresh = fresh_row(rows, oh)
        WHOLE = whole_windows(columns, OW, IW, 1, C, lanes(x), (N * IH - ih - h[STOP] + 1) * step,
                              (stop - task) * OW * C)
        for ow in range(OW):
            w = columns + 3 * ow
            corner = x + (ih * IW + w[ORIGIN]) * C + start
            at = (row * OW + ow) * C + start
            scale = <floating>(row_scale[oh] * column_scale[ow])
            taps = (h[STOP] - h[FIRST]) * (w[STOP] - w[FIRST])
            left -= taps * CHANNELS
            if left < 0:
                if interrupted(listener):
                    return
                left = TURN
            if C >= LONG and taps >= TAPS:
                mean_large_window(corner, step, C, h, w, scale, CHANNELS, line, output + at)
            elif floating is float:
                mean_float(corner, step, C, h, w, fresh, scale, CHANNELS, ow < WHOLE, output + at)
            else:
                mean_double(corner, step, C, h, w, fresh, scale, CHANNELS, ow < WHOLE, output + at)


def pool(
    const floating[:, :, :, ::1] x,            # IN
    floating[:, :, :, ::1] output,             # OUT
    const double[::1] row_scale,               # IN  [OH]
    const double[::1] column_scale,            # IN  [OW]
    const Py_ssize_t[:, ::1] rows,             # IN  [OH, 3]
    const Py_ssize_t[:, ::1] columns,          # IN  [OW, 3]
    int num_threads,
):
    """Rows are shared out, and their channels too where these are many, or rows fewer than threads."""
    cdef Py_ssize_t N = x.shape[0], IH = x.shape[1], IW = x.shape[2], C = x.shape[3]
    cdef Py_ssize_t OH = output.shape[1], OW = output.shape[2], SHARES = ceil_div(C, SHARE), task, begin, stop
    cdef const floating* image = &x[0, 0, 0, 0]
    cdef const double* scale_h = &row_scale[0]
    cdef const double* scale_w = &column_scale[0]
    cdef const Py_ssize_t* h = &rows[0, 0]
    cdef const Py_ssize_t* w = &columns[0, 0]
    cdef floating* out = &output[0, 0, 0, 0]
    cdef Block lines = Block(num_threads * SHARE * sizeof(floating))
    cdef floating* line
    cdef Listener listener
    listen(&listener)
    if N * OH * SHARES < 2 * num_threads and C >= LEAST_SHARE:
        SHARES = min(C // LEAST_SHARE, ceil_div(2 * num_threads, N * OH))
    for task in prange(num_threads, num_threads=num_threads, schedule="static", nogil=True):
        begin = share_start(N * OH * SHARES, num_threads, task)
        stop = share_start(N * OH * SHARES, num_threads, task + 1)
        line = <floating*>lines.address + task * SHARE
        mean_rows(image, N, IH, IW, C, h, w, OH, OW, scale_h, scale_w, SHARES, begin, stop, line, out, &listener)
    raise_if_interrupted(&listener)


cdef void sum_rows(
    const floating* grad_output, const double* row_scale, Py_ssize_t first, Py_ssize_t stop, Py_ssize_t SIZE,
    floating* total,
) noexcept nogil:
    """The sum of the output rows that read an input row, `first` to `stop`."""
    cdef Py_ssize_t i, e
    cdef const floating* row
    cdef floating scale
    if first == stop:
        memset(total, 0, SIZE * sizeof(floating))
    for i in range(first, stop):
        row = grad_output + i * SIZE
        scale = <floating>row_scale[i]
        if i == first:
            for e in range(SIZE):
                total[e] = row[e] * scale
        else:
            for e in range(SIZE):
                total[e] += row[e] * scale


cdef void spread_rows(
    const floating* source, double row_scale, const double* column_scale, Py_ssize_t OW, Py_ssize_t C,
    const Py_ssize_t* columns, Py_ssize_t ROWS, Py_ssize_t LENGTH, Py_ssize_t WHOLE, floating* grad_x,
) noexcept nogil:
    """Input rows that read the same windows, which do not overlap."""
    cdef Py_ssize_t ow, count
    cdef floating scale
    cdef const Py_ssize_t* w
    cdef floating* pixel
    for ow in range(OW):
        w = columns + 3 * ow
        count = w[STOP] - w[FIRST]
        pixel = grad_x + (w[ORIGIN] + w[FIRST]) * C
        scale = <floating>(row_scale * column_scale[ow])
        if floating is float:
            spread_float(source + ow * C, scale, ROWS, LENGTH, count, C, ow < WHOLE, pixel)
        else:
            spread_double(source + ow * C, scale, ROWS, LENGTH, count, C, ow < WHOLE, pixel)


cdef void gather_row(
    const floating* total, const double* column_scale, const Py_ssize_t* readers, Py_ssize_t WHOLE, Py_ssize_t IW,
    Py_ssize_t C, Py_ssize_t* left, floating* grad_x, Listener* listener,
) noexcept nogil:
    """One input row, whose windows overlap."""
    cdef Py_ssize_t iw, first, W
    for iw in range(IW):
        first = readers[2 * iw]
        W = readers[2 * iw + 1] - first
        left[0] -= W * C
        if left[0] < 0:
            if interrupted(listener):
                return
            left[0] = TURN
        if floating is float:
            gather_float(total + first * C, column_scale + first, W, C, iw < WHOLE, grad_x + iw * C)
        else:
            gather_double(total + first * C, column_scale + first, W, C, iw < WHOLE, grad_x + iw * C)


cdef void gradient_rows(
    const floating* grad_output, Py_ssize_t OH, Py_ssize_t OW, Py_ssize_t C,
    const double* row_scale, const double* column_scale, const Py_ssize_t* columns, const Py_ssize_t* row_readers,
    const Py_ssize_t* readers, Py_ssize_t IH, Py_ssize_t IW, bint apart, bint gaps, Py_ssize_t begin, Py_ssize_t stop,
    floating* total, floating* grad_x, Listener* listener,
) noexcept nogil:
    """Input rows `begin` to `stop` of all images; a row of windows and a block of work space."""
    cdef Py_ssize_t row = begin, LENGTH = IW * C, ih, iw, i, ROWS, left = 0
    cdef Py_ssize_t WHOLE = whole_windows(columns, OW, IW, 1, C, lanes(grad_x), LENGTH, OW * C)
    cdef Py_ssize_t WHOLE_POSITIONS = whole_positions(readers, OW, IW, C, lanes(grad_x), LENGTH, OW * C + PAD)
    cdef const floating* grad
    while row < stop:
        ih = row % IH
        grad = grad_output + row // IH * OH * OW * C
        ROWS = same_reader(row_readers, ih, min(<Py_ssize_t>PAIR, min(IH - ih, stop - row))) if apart else 0
        left -= LENGTH + (row_readers[2 * ih + 1] - row_readers[2 * ih]) * OW * C
        if left < 0:
            if interrupted(listener):
                return
            left = TURN
        if ROWS:
            i = row_readers[2 * ih]
            spread_rows(grad + i * OW * C, row_scale[i], column_scale, OW, C, columns, ROWS, LENGTH, WHOLE,
                        grad_x + row * LENGTH)
        else:
            ROWS = 1
            sum_rows(grad, row_scale, row_readers[2 * ih], row_readers[2 * ih + 1], OW * C, total)
            gather_row(total, column_scale, readers, WHOLE_POSITIONS, IW, C, &left, grad_x + row * LENGTH, listener)
        for i in range(ROWS if gaps else 0):  # columns between windows
            for iw in range(IW):
                if readers[2 * iw] == readers[2 * iw + 1]:
                    memset(grad_x + (row + i) * LENGTH + iw * C, 0, C * sizeof(floating))
        row += ROWS


def pool_backward(
    const floating[:, :, :, ::1] grad_output,  # IN
    floating[:, :, :, ::1] grad_x,             # OUT
    const double[::1] row_scale,               # IN  [OH]
    const double[::1] column_scale,            # IN  [OW]
    const Py_ssize_t[:, ::1] columns,          # IN  [OW, 3]
    const Py_ssize_t[:, ::1] row_readers,      # IN  [IH, 2]
    const Py_ssize_t[:, ::1] column_readers,   # IN  [IW, 2]
    bint apart,                                # whether a window's columns end before the next one's begin
    int num_threads,
):
    """For each input row the rows that read it are added, then their columns. A task is a share of the input rows."""
    cdef Py_ssize_t N = grad_x.shape[0], IH = grad_x.shape[1], IW = grad_x.shape[2], C = grad_x.shape[3]
    cdef Py_ssize_t OH = grad_output.shape[1], OW = grad_output.shape[2], task, begin, stop
    cdef Py_ssize_t STRIDE = OW * C + PAD  # of the threads' rows
    cdef const floating* grad = &grad_output[0, 0, 0, 0]
    cdef const double* scale_h = &row_scale[0]
    cdef const double* scale_w = &column_scale[0]
    cdef const Py_ssize_t* w = &columns[0, 0]
    cdef const Py_ssize_t* h = &row_readers[0, 0]
    cdef const Py_ssize_t* readers = &column_readers[0, 0]
    cdef floating* out = &grad_x[0, 0, 0, 0]
    cdef Block scratch = Block(num_threads * STRIDE * sizeof(floating))
    cdef floating* total
    cdef bint gaps = False
    cdef Listener listener
    for task in range(IW):
        gaps = gaps or readers[2 * task] == readers[2 * task + 1]
    listen(&listener)
    for task in prange(num_threads, num_threads=num_threads, schedule="static", nogil=True):
        begin = share_start(N * IH, num_threads, task)
        stop = share_start(N * IH, num_threads, task + 1)
        total = <floating*>scratch.address + task * STRIDE
        gradient_rows(grad, OH, OW, C, scale_h, scale_w, w, h, readers, IH, IW, apart, gaps, begin, stop, total, out,
                      &listener)
    raise_if_interrupted(&listener)
