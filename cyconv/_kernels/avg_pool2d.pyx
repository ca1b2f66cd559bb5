"""Average pooling, plain, adaptive or global, and its gradient.

Images are [N, H, W, C]; windows.pxd describes the tables of windows. A window's divisor is a product over the axes, so
each axis has its table of factors: a mean is the sum times row_scale[oh] * column_scale[ow]. Sums run over lines first,
then over their sums, so that a large window loses little precision. Each task owns what it writes.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t
from libc.string cimport memset

from cyconv._kernels.parallel cimport ceil_div, share_start
from cyconv._kernels.windows cimport (
    FIRST, ORIGIN, PAIR, STOP, WIDE, block_count, block_start, block_width, same_window, whole_positions,
    whole_windows, width_t,
)
from cyconv._memory cimport Block

cdef enum:
    LONG = 128      # channels from which on a large window is summed pixel by pixel: memory in one stream is faster
    TAPS = 16       # of a large window
    SHARE = 2048    # channels summed together there, at most: they stay in L1


cdef inline void mean_block(
    const floating* image, Py_ssize_t step_h, Py_ssize_t step_w,
    Py_ssize_t first_h, Py_ssize_t stop_h, Py_ssize_t first_w, Py_ssize_t stop_w,
    floating scale, floating* line, floating* total, floating* output, const int width,
) noexcept nogil:
    """One window, `width` channels; the caller's `line` and `total` end up in registers."""
    cdef const floating* pixel
    cdef Py_ssize_t kh, kw
    cdef int j
    for j in range(width):
        total[j] = 0
    for kh in range(first_h, stop_h):
        for j in range(width):
            line[j] = 0
        for kw in range(first_w, stop_w):
            pixel = image + kh * step_h + kw * step_w
            for j in range(width):
                line[j] += pixel[j]
        for j in range(width):
            total[j] += line[j]
    for j in range(width):
        output[j] = total[j] * scale


cdef void mean_window(
    const floating* image, Py_ssize_t step_h, Py_ssize_t step_w, const Py_ssize_t* h, const Py_ssize_t* w,
    floating scale, Py_ssize_t CHANNELS, floating* line, floating* output,
) noexcept nogil:
    """One large window, many channels; four pixels a step: fewer loads and stores of their sum."""
    cdef Py_ssize_t kh, kw, j
    cdef const floating* pixel
    memset(output, 0, CHANNELS * sizeof(floating))
    for kh in range(h[FIRST], h[STOP]):
        memset(line, 0, CHANNELS * sizeof(floating))
        kw = w[FIRST]
        while kw + 4 <= w[STOP]:
            pixel = image + kh * step_h + kw * step_w
            for j in range(CHANNELS):
                line[j] += (pixel[j] + pixel[step_w + j]) + (pixel[2 * step_w + j] + pixel[3 * step_w + j])
            kw += 4
        while kw < w[STOP]:
            pixel = image + kh * step_h + kw * step_w
            for j in range(CHANNELS):
                line[j] += pixel[j]
            kw += 1
        for j in range(CHANNELS):
            output[j] += line[j]
    for j in range(CHANNELS):
        output[j] *= scale


cdef void mean_rows(
    const width_t* kind, const floating* x, Py_ssize_t N, Py_ssize_t IH, Py_ssize_t IW, Py_ssize_t C,
    const Py_ssize_t* rows, const Py_ssize_t* columns, Py_ssize_t OH, Py_ssize_t OW,
    const double* row_scale, const double* column_scale, Py_ssize_t SHARES, Py_ssize_t begin, Py_ssize_t stop,
    floating* line, floating* output,
) noexcept nogil:
    """Tasks `begin` to `stop`, each an output row or one of SHARES of its channels."""
    cdef int width = 8 * sizeof(width_t)
    cdef Py_ssize_t step = IW * C, task, row, oh, start, ow, ih, block, c, at, CHANNELS, WHOLE
    cdef const Py_ssize_t* h
    cdef const Py_ssize_t* w
    cdef floating sums[WIDE]
    cdef floating totals[WIDE]
    cdef const floating* corner
    cdef floating scale
    for task in range(begin, stop):
        row = task // SHARES
        oh = row % OH
        start = share_start(C, SHARES, task % SHARES)
        CHANNELS = share_start(C, SHARES, task % SHARES + 1) - start
        h = rows + 3 * oh
        ih = row // OH * IH + h[ORIGIN]
        WHOLE = whole_windows(columns, OW, IW, 1, C, width, (N * IH - ih - h[STOP] + 1) * step, (stop - task) * OW * C)
        for ow in range(OW):
            w = columns + 3 * ow
            corner = x + (ih * IW + w[ORIGIN]) * C + start
            at = (row * OW + ow) * C + start
            scale = <floating>(row_scale[oh] * column_scale[ow])
            if C >= LONG and (h[STOP] - h[FIRST]) * (w[STOP] - w[FIRST]) >= TAPS:
                mean_window(corner, step, C, h, w, scale, CHANNELS, line, output + at)
                continue
            if C < width and ow >= WHOLE:
                for c in range(C):
                    mean_block(corner + c, step, C, h[FIRST], h[STOP], w[FIRST], w[STOP], scale, sums, totals,
                               output + at + c, 1)
                continue
            for block in range(block_count(CHANNELS, width)):
                c = block_start(block, CHANNELS, width)
                if h[FIRST] == 0 and h[STOP] == 2 and w[FIRST] == 0 and w[STOP] == 2:  # constants: no loops are left
                    mean_block(corner + c, step, C, 0, 2, 0, 2, scale, sums, totals, output + at + c, width)
                else:
                    mean_block(corner + c, step, C, h[FIRST], h[STOP], w[FIRST], w[STOP], scale, sums, totals,
                               output + at + c, width)


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
    cdef int width = block_width(C)
    cdef Block lines = Block(num_threads * SHARE * sizeof(floating))
    cdef floating* line
    if N * OH * SHARES < 2 * num_threads and C >= WIDE:
        SHARES = min(C // WIDE, ceil_div(2 * num_threads, N * OH))
    for task in prange(num_threads, num_threads=num_threads, schedule="static", nogil=True):
        begin = share_start(N * OH * SHARES, num_threads, task)
        stop = share_start(N * OH * SHARES, num_threads, task + 1)
        line = <floating*>lines.address + task * SHARE
        if width == 64:
            mean_rows(<int64_t*>NULL, image, N, IH, IW, C, h, w, OH, OW, scale_h, scale_w, SHARES, begin, stop, line,
                      out)
        elif width == 32:
            mean_rows(<int32_t*>NULL, image, N, IH, IW, C, h, w, OH, OW, scale_h, scale_w, SHARES, begin, stop, line,
                      out)
        elif width == 16:
            mean_rows(<int16_t*>NULL, image, N, IH, IW, C, h, w, OH, OW, scale_h, scale_w, SHARES, begin, stop, line,
                      out)
        else:
            mean_rows(<int8_t*>NULL, image, N, IH, IW, C, h, w, OH, OW, scale_h, scale_w, SHARES, begin, stop, line,
                      out)


cdef void sum_rows(
    const floating* grad_output, const double* row_scale, const Py_ssize_t* h, Py_ssize_t H, Py_ssize_t SIZE,
    floating* total,
) noexcept nogil:
    """The sum of the output rows that read an input row."""
    cdef Py_ssize_t i, e
    cdef const floating* row
    cdef floating scale
    if H == 0:
        memset(total, 0, SIZE * sizeof(floating))
    for i in range(H):
        row = grad_output + h[2 * i] * SIZE
        scale = <floating>row_scale[h[2 * i]]
        if i == 0:
            for e in range(SIZE):
                total[e] = row[e] * scale
        else:
            for e in range(SIZE):
                total[e] += row[e] * scale


cdef inline void gather_block(
    const floating* total, const double* column_scale, const Py_ssize_t* w, Py_ssize_t W, Py_ssize_t C,
    floating* block, floating* grad_x, const int width,
) noexcept nogil:
    """One input pixel, `width` channels: the sum of the W windows that read it."""
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


cdef inline void place_block(
    const floating* source, floating scale, const Py_ssize_t ROWS, Py_ssize_t LENGTH, const Py_ssize_t count,
    Py_ssize_t C, floating* block, floating* grad_x, const int width,
) noexcept nogil:
    """One window, `width` channels: the same to each of its pixels, `count` in each row."""
    cdef Py_ssize_t i, k
    cdef int j
    for j in range(width):
        block[j] = source[j] * scale
    for i in range(ROWS):
        for k in range(count):
            for j in range(width):
                grad_x[i * LENGTH + k * C + j] = block[j]


cdef void place_rows(
    const width_t* kind, const floating* source, double row_scale, const double* column_scale, Py_ssize_t OW,
    Py_ssize_t C, const Py_ssize_t* columns, Py_ssize_t ROWS, Py_ssize_t LENGTH, Py_ssize_t WHOLE, floating* grad_x,
) noexcept nogil:
    """Input rows that read the same windows, which do not overlap."""
    cdef int width = 8 * sizeof(width_t)
    cdef Py_ssize_t ow, block, c, count
    cdef floating numbers[WIDE]
    cdef floating scale
    cdef const Py_ssize_t* w
    cdef floating* pixel
    for ow in range(OW):
        w = columns + 3 * ow
        count = w[STOP] - w[FIRST]
        pixel = grad_x + (w[ORIGIN] + w[FIRST]) * C
        scale = <floating>(row_scale * column_scale[ow])
        if C < width and ow >= WHOLE:
            for c in range(C):
                place_block(source + ow * C + c, scale, ROWS, LENGTH, count, C, numbers, pixel + c, 1)
            continue
        for block in range(block_count(C, width)):
            c = block_start(block, C, width)
            if ROWS == 2 and count == 2:  # constants: no loops are left
                place_block(source + ow * C + c, scale, 2, LENGTH, 2, C, numbers, pixel + c, width)
            else:
                place_block(source + ow * C + c, scale, ROWS, LENGTH, count, C, numbers, pixel + c, width)


cdef void gather_row(
    const width_t* kind, const floating* total, const double* column_scale, const Py_ssize_t* start,
    const Py_ssize_t* pairs, Py_ssize_t WHOLE, Py_ssize_t IW, Py_ssize_t C, floating* grad_x,
) noexcept nogil:
    """One input row, whose windows overlap."""
    cdef int width = 8 * sizeof(width_t)
    cdef Py_ssize_t iw, block, c, W
    cdef floating numbers[WIDE]
    cdef const Py_ssize_t* w
    for iw in range(IW):
        w = pairs + 2 * start[iw]
        W = start[iw + 1] - start[iw]
        if C < width and iw >= WHOLE:
            for c in range(C):
                gather_block(total + c, column_scale, w, W, C, numbers, grad_x + iw * C + c, 1)
            continue
        for block in range(block_count(C, width)):
            c = block_start(block, C, width)
            gather_block(total + c, column_scale, w, W, C, numbers, grad_x + iw * C + c, width)


cdef void gradient_rows(
    const width_t* kind, const floating* grad_output, Py_ssize_t OH, Py_ssize_t OW, Py_ssize_t C,
    const double* row_scale, const double* column_scale, const Py_ssize_t* columns, const Py_ssize_t* row_start,
    const Py_ssize_t* row_pairs, const Py_ssize_t* start, const Py_ssize_t* pairs, Py_ssize_t IH, Py_ssize_t IW,
    bint apart, Py_ssize_t begin, Py_ssize_t stop, floating* total, floating* grad_x,
) noexcept nogil:
    """Input rows `begin` to `stop` of all images; a row of windows and a block of work space."""
    cdef int width = 8 * sizeof(width_t)
    cdef Py_ssize_t row = begin, LENGTH = IW * C, ih, iw, i, ROWS
    cdef Py_ssize_t WHOLE = whole_windows(columns, OW, IW, 1, C, width, LENGTH, OW * C)
    cdef Py_ssize_t WHOLE_POSITIONS = whole_positions(start, pairs, OW, IW, C, width, LENGTH, OW * C + WIDE)
    cdef const floating* grad
    while row < stop:
        ih = row % IH
        grad = grad_output + row // IH * OH * OW * C
        ROWS = same_window(row_start, row_pairs, ih, min(<Py_ssize_t>PAIR, min(IH - ih, stop - row))) if apart else 0
        if ROWS:
            i = row_pairs[2 * row_start[ih]]
            place_rows(kind, grad + i * OW * C, row_scale[i], column_scale, OW, C, columns, ROWS, LENGTH, WHOLE,
                       grad_x + row * LENGTH)
        else:
            ROWS = 1
            sum_rows(grad, row_scale, row_pairs + 2 * row_start[ih], row_start[ih + 1] - row_start[ih], OW * C, total)
            gather_row(kind, total, column_scale, start, pairs, WHOLE_POSITIONS, IW, C, grad_x + row * LENGTH)
        for i in range(ROWS if start[IW] < IW else 0):  # columns between windows
            for iw in range(IW):
                if start[iw] == start[iw + 1]:
                    memset(grad_x + (row + i) * LENGTH + iw * C, 0, C * sizeof(floating))
        row += ROWS


def pool_backward(
    const floating[:, :, :, ::1] grad_output,  # IN
    floating[:, :, :, ::1] grad_x,             # OUT
    const double[::1] row_scale,               # IN  [OH]
    const double[::1] column_scale,            # IN  [OW]
    const Py_ssize_t[:, ::1] columns,          # IN  [OW, 3]
    const Py_ssize_t[::1] row_start,           # IN  [IH + 1]
    const Py_ssize_t[:, ::1] row_pairs,        # IN
    const Py_ssize_t[::1] column_start,        # IN  [IW + 1]
    const Py_ssize_t[:, ::1] column_pairs,     # IN
    bint apart,                                # whether a window's columns end before the next one's begin
    int num_threads,
):
    """For each input row the rows that read it are added, then their columns. A task is a share of the input rows."""
    cdef Py_ssize_t N = grad_x.shape[0], IH = grad_x.shape[1], IW = grad_x.shape[2], C = grad_x.shape[3]
    cdef Py_ssize_t OH = grad_output.shape[1], OW = grad_output.shape[2], task, begin, stop
    cdef Py_ssize_t STRIDE = OW * C + WIDE  # of the threads' rows: room for a block, and no cache line is shared
    cdef const floating* grad = &grad_output[0, 0, 0, 0]
    cdef const double* scale_h = &row_scale[0]
    cdef const double* scale_w = &column_scale[0]
    cdef const Py_ssize_t* w = &columns[0, 0]
    cdef const Py_ssize_t* h_start = &row_start[0]
    cdef const Py_ssize_t* h = &row_pairs[0, 0]
    cdef const Py_ssize_t* start = &column_start[0]
    cdef const Py_ssize_t* pairs = &column_pairs[0, 0]
    cdef floating* out = &grad_x[0, 0, 0, 0]
    cdef int width = block_width(C)
    cdef Block scratch = Block(num_threads * STRIDE * sizeof(floating))
    cdef floating* total
    for task in prange(num_threads, num_threads=num_threads, schedule="static", nogil=True):
        begin = share_start(N * IH, num_threads, task)
        stop = share_start(N * IH, num_threads, task + 1)
        total = <floating*>scratch.address + task * STRIDE
        if width == 64:
            gradient_rows(<int64_t*>NULL, grad, OH, OW, C, scale_h, scale_w, w, h_start, h, start, pairs, IH, IW,
                          apart, begin, stop, total, out)
        elif width == 32:
            gradient_rows(<int32_t*>NULL, grad, OH, OW, C, scale_h, scale_w, w, h_start, h, start, pairs, IH, IW,
                          apart, begin, stop, total, out)
        elif width == 16:
            gradient_rows(<int16_t*>NULL, grad, OH, OW, C, scale_h, scale_w, w, h_start, h, start, pairs, IH, IW,
                          apart, begin, stop, total, out)
        else:
            gradient_rows(<int8_t*>NULL, grad, OH, OW, C, scale_h, scale_w, w, h_start, h, start, pairs, IH, IW,
                          apart, begin, stop, total, out)
