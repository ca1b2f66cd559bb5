"""Max pooling, its gradient, and its partial inverse.

Images are [N, H, W, C]; windows.pxd describes the tables of windows. A winner is the tap kh*KW + kw that held the
maximum: the first of equals, but the last NaN wins over every number, as in PyTorch. Each task owns what it writes and
goes through it in a fixed order, so any number of threads gives the same bits.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memset

from cyconv._kernels.parallel cimport (
    TURN, Listener, ceil_div, interrupted, listen, raise_if_interrupted, share_start,
)
from cyconv._kernels.windows cimport (
    FIRST, ORIGIN, PAIR, STOP, fresh_row, lanes, last_position, same_window, whole_windows,
)

cdef extern from "pooling.h" nogil:
    void max_float "cyconv_max_window_float"(
        const float* image, Py_ssize_t step_h, Py_ssize_t step_w, const Py_ssize_t* h, const Py_ssize_t* w,
        Py_ssize_t KW, Py_ssize_t fresh, Py_ssize_t C, bint whole, float* output, uint8_t* bytes, int32_t* words)
    void max_double "cyconv_max_window_double"(
        const double* image, Py_ssize_t step_h, Py_ssize_t step_w, const Py_ssize_t* h, const Py_ssize_t* w,
        Py_ssize_t KW, Py_ssize_t fresh, Py_ssize_t C, bint whole, double* output, uint8_t* bytes, int32_t* words)
    void route_float "cyconv_route_window_float"(
        const float* grad, const uint8_t* bytes, const int32_t* words, Py_ssize_t ROWS, Py_ssize_t LENGTH,
        Py_ssize_t count, Py_ssize_t step, Py_ssize_t tap, Py_ssize_t KW, Py_ssize_t C, bint whole, float* grad_x)
    void route_double "cyconv_route_window_double"(
        const double* grad, const uint8_t* bytes, const int32_t* words, Py_ssize_t ROWS, Py_ssize_t LENGTH,
        Py_ssize_t count, Py_ssize_t step, Py_ssize_t tap, Py_ssize_t KW, Py_ssize_t C, bint whole, double* grad_x)
    void collect_float "cyconv_collect_pixel_float"(
        const float* grad, const uint8_t* bytes, const int32_t* words, const Py_ssize_t* h, Py_ssize_t H,
        const Py_ssize_t* w, Py_ssize_t W, Py_ssize_t LENGTH, Py_ssize_t C, Py_ssize_t KW, float* grad_x)
    void collect_double "cyconv_collect_pixel_double"(
        const double* grad, const uint8_t* bytes, const int32_t* words, const Py_ssize_t* h, Py_ssize_t H,
        const Py_ssize_t* w, Py_ssize_t W, Py_ssize_t LENGTH, Py_ssize_t C, Py_ssize_t KW, double* grad_x)

ctypedef fused winner_t:
    uint8_t
    int32_t

cdef enum:
    BAND = 32768   # numbers of a task of scatter_backward, to stay in L2
    CHANNELS = 16  # of a task of unpool: a cache line of float, so that tasks do not share one


cdef inline uint8_t* as_bytes(winner_t* winners) noexcept nogil:
    """The winners if they are bytes, else NULL."""
    return <uint8_t*>winners if winner_t is uint8_t else NULL


cdef inline int32_t* as_words(winner_t* winners) noexcept nogil:
    return <int32_t*>winners if winner_t is int32_t else NULL


cdef void max_rows(
    const floating* x, Py_ssize_t N, Py_ssize_t IH, Py_ssize_t IW, Py_ssize_t C,
    const Py_ssize_t* rows, const Py_ssize_t* columns, Py_ssize_t OH, Py_ssize_t OW, Py_ssize_t KW,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, Py_ssize_t begin, Py_ssize_t stop,
    floating* output, winner_t* winners, Listener* listener,
) noexcept nogil:
    """Output rows `begin` to `stop` of all images."""
    cdef Py_ssize_t step_h = dilation_h * IW * C, step_w = dilation_w * C, row, line, ow, at, WHOLE, fresh, left = 0
    cdef const Py_ssize_t* h
    cdef const Py_ssize_t* w
    cdef const floating* corner
    cdef winner_t* win
    for row in range(begin, stop):
        h = rows + 3 * (row % OH)
        line = row // OH * IH
        fresh = fresh_row(rows, row % OH)
        WHOLE = whole_windows(columns, OW, IW, dilation_w, C, lanes(x),
                              (N * IH - line - last_position(h, dilation_h)) * IW * C, (stop - row) * OW * C)
        for ow in range(OW):
            w = columns + 3 * ow
            at = (row * OW + ow) * C
            corner = x + ((line + h[ORIGIN]) * IW + w[ORIGIN]) * C
            win = winners + at if winners != NULL else NULL
            left -= (h[STOP] - h[FIRST]) * (w[STOP] - w[FIRST]) * C
            if left < 0:
                if interrupted(listener):
                    return
                left = TURN
            if floating is float:
                max_float(corner, step_h, step_w, h, w, KW, fresh, C, ow < WHOLE, output + at, as_bytes(win),
                          as_words(win))
            else:
                max_double(corner, step_h, step_w, h, w, KW, fresh, C, ow < WHOLE, output + at, as_bytes(win),
                           as_words(win))


def pool(
    const floating[:, :, :, ::1] x,        # IN
    floating[:, :, :, ::1] output,         # OUT
    winner_t[:, :, :, ::1] winners,        # OUT like output, or empty if nobody wants them
    const Py_ssize_t[:, ::1] rows,         # IN  [OH, 3]
    const Py_ssize_t[:, ::1] columns,      # IN  [OW, 3]
    Py_ssize_t KW, Py_ssize_t dilation_h, Py_ssize_t dilation_w, int num_threads,
):
    """A task is a share of the output rows."""
    cdef Py_ssize_t N = x.shape[0], IH = x.shape[1], IW = x.shape[2], C = x.shape[3]
    cdef Py_ssize_t OH = output.shape[1], OW = output.shape[2], task, begin, stop
    cdef const floating* image = &x[0, 0, 0, 0]
    cdef floating* out = &output[0, 0, 0, 0]
    cdef winner_t* winner = &winners[0, 0, 0, 0] if winners.shape[0] else NULL
    cdef const Py_ssize_t* h = &rows[0, 0]
    cdef const Py_ssize_t* w = &columns[0, 0]
    cdef Listener listener
    listen(&listener)
    for task in prange(num_threads, num_threads=num_threads, schedule="static", nogil=True):
        begin = share_start(N * OH, num_threads, task)
        stop = share_start(N * OH, num_threads, task + 1)
        max_rows(image, N, IH, IW, C, h, w, OH, OW, KW, dilation_h, dilation_w, begin, stop, out, winner,
                 &listener)
    raise_if_interrupted(&listener)


cdef void route_rows(
    const floating* grad_output, const winner_t* winners, Py_ssize_t OW, Py_ssize_t C, const Py_ssize_t* columns,
    Py_ssize_t first_h, Py_ssize_t ROWS, Py_ssize_t LENGTH, Py_ssize_t KW, Py_ssize_t dilation, Py_ssize_t WHOLE,
    floating* grad_x,
) noexcept nogil:
    """ROWS input rows that one row of windows reads, which do not overlap."""
    cdef Py_ssize_t ow, count, tap, step = dilation * C
    cdef const Py_ssize_t* w
    cdef floating* pixel
    cdef winner_t* win
    for ow in range(OW):
        w = columns + 3 * ow
        count = w[STOP] - w[FIRST]
        tap = first_h * KW + w[FIRST]
        pixel = grad_x + (w[ORIGIN] + w[FIRST] * dilation) * C
        win = <winner_t*>winners + ow * C
        if floating is float:
            route_float(grad_output + ow * C, as_bytes(win), as_words(win), ROWS, LENGTH, count, step, tap, KW, C,
                        ow < WHOLE, pixel)
        else:
            route_double(grad_output + ow * C, as_bytes(win), as_words(win), ROWS, LENGTH, count, step, tap, KW, C,
                         ow < WHOLE, pixel)


cdef void gradient_rows(
    const floating* grad_output, const winner_t* winners, Py_ssize_t OH, Py_ssize_t OW, Py_ssize_t C,
    const Py_ssize_t* columns, const Py_ssize_t* start, const Py_ssize_t* pairs, const Py_ssize_t* column_start,
    const Py_ssize_t* column_pairs, Py_ssize_t IH, Py_ssize_t IW, Py_ssize_t KW, Py_ssize_t dilation, bint apart,
    Py_ssize_t begin, Py_ssize_t stop, floating* grad_x, Listener* listener,
) noexcept nogil:
    """Input rows `begin` to `stop` of all images."""
    cdef Py_ssize_t row = begin, LENGTH = IW * C, ih, i, H, W, ROWS, iw, line, left = 0
    cdef Py_ssize_t WHOLE = whole_windows(columns, OW, IW, dilation, C, lanes(grad_x), LENGTH, OW * C)
    cdef const Py_ssize_t* h
    cdef const Py_ssize_t* w
    cdef const floating* grad
    cdef winner_t* win
    while row < stop:
        ih = row % IH
        h = pairs + 2 * start[ih]
        H = start[ih + 1] - start[ih]
        ROWS = same_window(start, pairs, ih, min(<Py_ssize_t>PAIR, min(IH - ih, stop - row))) if apart else 0
        line = row // IH * OH
        left -= LENGTH
        if left < 0:
            if interrupted(listener):
                return
            left = TURN
        if ROWS:
            line += h[0]
            route_rows(grad_output + line * OW * C, winners + line * OW * C, OW, C, columns, h[1], ROWS, LENGTH, KW,
                       dilation, WHOLE, grad_x + row * LENGTH)
            for i in range(ROWS if column_start[IW] < IW else 0):  # columns between windows
                for iw in range(IW):
                    if column_start[iw] == column_start[iw + 1]:
                        memset(grad_x + (row + i) * LENGTH + iw * C, 0, C * sizeof(floating))
        elif H == 0:
            ROWS = 1
            memset(grad_x + row * LENGTH, 0, LENGTH * sizeof(floating))
        else:
            ROWS = 1
            grad = grad_output + line * OW * C
            win = <winner_t*>winners + line * OW * C
            for iw in range(IW):
                w = column_pairs + 2 * column_start[iw]
                W = column_start[iw + 1] - column_start[iw]
                left -= H * W * C
                if left < 0:
                    if interrupted(listener):
                        return
                    left = TURN
                if floating is float:
                    collect_float(grad, as_bytes(win), as_words(win), h, H, w, W, OW * C, C, KW,
                                  grad_x + row * LENGTH + iw * C)
                else:
                    collect_double(grad, as_bytes(win), as_words(win), h, H, w, W, OW * C, C, KW,
                                   grad_x + row * LENGTH + iw * C)
        row += ROWS


def pool_backward(
    const floating[:, :, :, ::1] grad_output,  # IN
    const winner_t[:, :, :, ::1] winners,      # IN
    floating[:, :, :, ::1] grad_x,             # OUT
    const Py_ssize_t[:, ::1] columns,          # IN  [OW, 3]
    const Py_ssize_t[::1] row_start,           # IN  [IH + 1]
    const Py_ssize_t[:, ::1] row_pairs,        # IN
    const Py_ssize_t[::1] column_start,        # IN  [IW + 1]
    const Py_ssize_t[:, ::1] column_pairs,     # IN
    Py_ssize_t KW, Py_ssize_t dilation, bint apart, int num_threads,
):
    """A task is a share of the input rows. `apart`: a window's columns end before the next one's begin.

    Fewer than 16 channels must be apart, and their rows read once: they would add to the next pixels.
    """
    cdef Py_ssize_t N = grad_x.shape[0], IH = grad_x.shape[1], IW = grad_x.shape[2], C = grad_x.shape[3]
    cdef Py_ssize_t OH = grad_output.shape[1], OW = grad_output.shape[2], task, begin, stop
    cdef const floating* grad = &grad_output[0, 0, 0, 0]
    cdef const winner_t* winner = &winners[0, 0, 0, 0]
    cdef floating* out = &grad_x[0, 0, 0, 0]
    cdef const Py_ssize_t* w = &columns[0, 0]
    cdef const Py_ssize_t* start = &row_start[0]
    cdef const Py_ssize_t* h = &row_pairs[0, 0]
    cdef const Py_ssize_t* w_start = &column_start[0]
    cdef const Py_ssize_t* pairs = &column_pairs[0, 0]
    cdef Listener listener
    listen(&listener)
    for task in prange(num_threads, num_threads=num_threads, schedule="static", nogil=True):
        begin = share_start(N * IH, num_threads, task)
        stop = share_start(N * IH, num_threads, task + 1)
        gradient_rows(grad, winner, OH, OW, C, w, start, h, w_start, pairs, IH, IW, KW, dilation, apart, begin, stop,
                      out, &listener)
    raise_if_interrupted(&listener)


cdef void scatter_band(
    const floating* grad_output, const winner_t* winners, const Py_ssize_t* rows, const Py_ssize_t* columns,
    Py_ssize_t OH, Py_ssize_t OW, Py_ssize_t C, Py_ssize_t KW, Py_ssize_t dilation_h, Py_ssize_t step_w,
    const Py_ssize_t* steps, Py_ssize_t LENGTH, Py_ssize_t START, Py_ssize_t HEIGHT, floating* band,
    Listener* listener,
) noexcept nogil:
    """HEIGHT rows, of LENGTH numbers, from row START on: each output's gradient goes to its winner, if it is here."""
    cdef Py_ssize_t oh, ow, c, origin, at, first, stop, step_h = dilation_h * LENGTH, left = 0
    cdef const floating* grad
    cdef const winner_t* winner
    memset(band, 0, HEIGHT * LENGTH * sizeof(floating))
    for oh in range(OH):
        first = rows[3 * oh + ORIGIN] + rows[3 * oh + FIRST] * dilation_h
        stop = rows[3 * oh + ORIGIN] + (rows[3 * oh + STOP] - 1) * dilation_h + 1
        if stop <= START or first >= START + HEIGHT:
            continue
        for ow in range(OW):
            left -= C
            if left < 0:
                if interrupted(listener):
                    return
                left = TURN
            origin = (rows[3 * oh + ORIGIN] - START) * LENGTH + columns[3 * ow + ORIGIN] * C
            grad = grad_output + (oh * OW + ow) * C
            winner = winners + (oh * OW + ow) * C
            for c in range(C):
                if winner_t is uint8_t:
                    at = origin + c + steps[winner[c]]
                else:
                    at = origin + c + winner[c] // KW * step_h + winner[c] % KW * step_w
                if 0 <= at < HEIGHT * LENGTH:
                    band[at] += grad[c]


def scatter_backward(
    const floating[:, :, :, ::1] grad_output,  # IN
    const winner_t[:, :, :, ::1] winners,      # IN
    floating[:, :, :, ::1] grad_x,             # OUT
    const Py_ssize_t[:, ::1] rows,             # IN  [OH, 3]
    const Py_ssize_t[:, ::1] columns,          # IN  [OW, 3]
    Py_ssize_t KW, Py_ssize_t dilation_h, Py_ssize_t dilation_w, int num_threads,
):
    """The same, one addition per output: for windows so large that a pixel is read by very many.

    A task is a band of input rows, and reads every output row that may have won in it.
    """
    cdef Py_ssize_t N = grad_x.shape[0], IH = grad_x.shape[1], LENGTH = grad_x.shape[2] * grad_x.shape[3]
    cdef Py_ssize_t OH = grad_output.shape[1], OW = grad_output.shape[2], C = grad_x.shape[3]
    cdef Py_ssize_t step_h = dilation_h * LENGTH, step_w = dilation_w * C
    cdef Py_ssize_t HEIGHT = max(<Py_ssize_t>8, BAND // LENGTH), BANDS = ceil_div(IH, HEIGHT), task, n, first, tap
    cdef Py_ssize_t steps[256]
    cdef Listener listener
    listen(&listener)
    for tap in range(256):
        steps[tap] = tap // KW * step_h + tap % KW * step_w
    for task in prange(N * BANDS, num_threads=num_threads, schedule="static", nogil=True):
        n = task // BANDS
        first = task % BANDS * HEIGHT
        scatter_band(
            &grad_output[n, 0, 0, 0], &winners[n, 0, 0, 0], &rows[0, 0], &columns[0, 0], OH, OW, C, KW,
            dilation_h, step_w, steps, LENGTH, first, min(HEIGHT, IH - first), &grad_x[n, first, 0, 0], &listener,
        )
    raise_if_interrupted(&listener)


def flat_indices(
    const winner_t[:, :, :, ::1] winners,      # IN
    int64_t[:, :, :, ::1] indices,             # OUT position ih*IW + iw of each winner
    const Py_ssize_t[:, ::1] rows,             # IN  [OH, 3]
    const Py_ssize_t[:, ::1] columns,          # IN  [OW, 3]
    Py_ssize_t KW, Py_ssize_t dilation_h, Py_ssize_t dilation_w, Py_ssize_t IW, int num_threads,
):
    cdef Py_ssize_t N = winners.shape[0], OH = winners.shape[1], OW = winners.shape[2], C = winners.shape[3]
    cdef Py_ssize_t task, n, oh, ow, c, ih, iw
    cdef Listener listener
    listen(&listener)
    for task in prange(N * OH, num_threads=num_threads, schedule="static", nogil=True):
        if interrupted(&listener):
            continue
        n = task // OH
        oh = task % OH
        for ow in range(OW):
            for c in range(C):
                ih = rows[oh, ORIGIN] + winners[n, oh, ow, c] // KW * dilation_h
                iw = columns[ow, ORIGIN] + winners[n, oh, ow, c] % KW * dilation_w
                indices[n, oh, ow, c] = ih * IW + iw
    raise_if_interrupted(&listener)


def unpool(
    const floating[:, :, :, ::1] x,            # IN
    const int64_t[:, :, :, ::1] indices,       # IN  valid positions
    floating[:, :, :, ::1] output,             # OUT
    int num_threads,
):
    """Zero, but x at its indices; the last of those that share one.

    A task is an image, or a few of its channels where images are fewer than threads.
    """
    cdef Py_ssize_t N = x.shape[0], P = x.shape[1] * x.shape[2], C = x.shape[3]
    cdef Py_ssize_t SIZE = output.shape[1] * output.shape[2] * C
    cdef Py_ssize_t BLOCKS = 1 if N >= num_threads else ceil_div(C, CHANNELS), task, n, c, begin, stop, p
    cdef const int64_t* index
    cdef const floating* source
    cdef floating* target
    cdef Listener listener
    listen(&listener)
    for task in prange(N * BLOCKS, num_threads=num_threads, schedule="static", nogil=True):
        if interrupted(&listener):
            continue
        n = task // BLOCKS
        begin = task % BLOCKS * CHANNELS
        stop = C if BLOCKS == 1 else min(begin + CHANNELS, C)
        target = &output[n, 0, 0, 0]
        source = &x[n, 0, 0, 0]
        index = &indices[n, 0, 0, 0]
        if BLOCKS == 1:
            memset(target, 0, SIZE * sizeof(floating))
        else:
            for p in range(SIZE // C):
                for c in range(begin, stop):
                    target[p * C + c] = 0
        for p in range(P):
            for c in range(begin, stop):
                target[index[p * C + c] * C + c] = source[p * C + c]
    raise_if_interrupted(&listener)


def unpool_backward(
    const floating[:, :, :, ::1] grad_output,  # IN
    const int64_t[:, :, :, ::1] indices,       # IN  valid positions
    floating[:, :, :, ::1] grad_x,             # OUT
    int num_threads,
):
    cdef Py_ssize_t N = grad_x.shape[0], IH = grad_x.shape[1], IW = grad_x.shape[2], C = grad_x.shape[3]
    cdef Py_ssize_t task, n, ih, iw, c
    cdef const floating* source
    cdef Listener listener
    listen(&listener)
    for task in prange(N * IH, num_threads=num_threads, schedule="static", nogil=True):
        if interrupted(&listener):
            continue
        n = task // IH
        ih = task % IH
        source = &grad_output[n, 0, 0, 0]
        for iw in range(IW):
            for c in range(C):
                grad_x[n, ih, iw, c] = source[indices[n, ih, iw, c] * C + c]
    raise_if_interrupted(&listener)
