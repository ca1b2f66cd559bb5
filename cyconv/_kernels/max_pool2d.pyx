"""Max pooling, its gradient, and its partial inverse.

Images are [N, H, W, C]; windows.pxd describes the tables of windows. A winner is the tap kh*KW + kw that held the
maximum: the first of equals, but the last NaN wins over every number, as in PyTorch. Each task owns what it writes and
goes through it in a fixed order, so any number of threads gives the same bits.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint8_t

from cyconv._kernels.parallel cimport ceil_div
from cyconv._kernels.windows cimport FIRST, LINE, ORIGIN, STOP, WIDE, Spans, as_spans

ctypedef fused winner_t:
    uint8_t
    int32_t

cdef enum:
    BAND = 32768   # numbers of a task of pool_backward, to stay in L2
    TAPS = 32      # of a window beyond which one addition per number is cheaper than one vector per tap
    CHANNELS = 16  # of a task of unpool: a cache line of float, so that tasks do not share one


cdef inline void max_block(
    const floating* image, Py_ssize_t step_h, Py_ssize_t step_w, const Py_ssize_t* h, const Py_ssize_t* w,
    Py_ssize_t KW, floating* output, winner_t* winners, const int width,
) noexcept nogil:
    """One window, `width` channels."""
    cdef floating best[WIDE]
    cdef int32_t winner[WIDE]
    cdef const floating* pixel
    cdef floating value
    cdef Py_ssize_t kh, kw
    cdef int32_t tap
    cdef bint wins
    cdef int j
    for j in range(width):
        best[j] = -INFINITY
        winner[j] = <int32_t>(h[FIRST] * KW + w[FIRST])
    for kh in range(h[FIRST], h[STOP]):
        for kw in range(w[FIRST], w[STOP]):
            pixel = image + kh * step_h + kw * step_w
            tap = <int32_t>(kh * KW + kw)
            for j in range(width):
                value = pixel[j]
                wins = (value > best[j]) | (value != value)
                best[j] = value if wins else best[j]
                winner[j] = tap if wins else winner[j]
    for j in range(width):
        output[j] = best[j]
    if winners != NULL:
        for j in range(width):
            winners[j] = <winner_t>winner[j]


cdef inline void max_row(
    const floating* image, Py_ssize_t step_h, Py_ssize_t step_w, const Py_ssize_t* h, const Py_ssize_t* columns,
    Py_ssize_t KW, Py_ssize_t OW, Py_ssize_t C, floating* output, winner_t* winners, const int width,
) noexcept nogil:
    cdef Py_ssize_t ow, block, c, at
    cdef const Py_ssize_t* w
    for ow in range(OW):
        w = columns + 3 * ow
        for block in range(ceil_div(C, width)):
            c = min(block * width, C - width)
            at = ow * C + c
            max_block(
                image + w[ORIGIN] * C + c, step_h, step_w, h, w, KW,
                output + at, winners + at if winners != NULL else NULL, width,
            )


cdef void max_spans(
    const floating* image, Py_ssize_t step_h, Py_ssize_t step_w, const Py_ssize_t* h, const Spans* thin, Py_ssize_t KW,
    floating* output, winner_t* winners,
) noexcept nogil:
    """One row of few channels."""
    cdef floating best[LINE]
    cdef int32_t winner[LINE]
    cdef const floating* row
    cdef const int32_t* offsets
    cdef const Py_ssize_t* span
    cdef floating value
    cdef Py_ssize_t line, begin, count, kh, s, j
    cdef int32_t tap
    cdef bint wins
    for line in range(ceil_div(thin.E, LINE)):
        begin = line * LINE
        count = min(<Py_ssize_t>LINE, thin.E - begin)
        offsets = thin.offsets + begin
        for j in range(count):
            best[j] = -INFINITY
            winner[j] = -1
        for kh in range(h[FIRST], h[STOP]):
            for s in range(thin.S):
                span = thin.spans + 3 * s
                row = image + kh * step_h + span[0] * step_w
                tap = <int32_t>(kh * KW + span[0])
                for j in range(max(<Py_ssize_t>0, span[1] - begin), min(count, span[2] - begin)):
                    value = row[offsets[j]]
                    wins = (value > best[j]) | (value != value) | (winner[j] < 0)
                    best[j] = value if wins else best[j]
                    winner[j] = tap if wins else winner[j]
        for j in range(count):
            output[begin + j] = best[j]
        if winners != NULL:
            for j in range(count):
                winners[begin + j] = <winner_t>winner[j]


def pool(
    const floating[:, :, :, ::1] x,        # IN
    floating[:, :, :, ::1] output,         # OUT
    winner_t[:, :, :, ::1] winners,        # OUT like output, or empty if nobody wants them
    const Py_ssize_t[:, ::1] rows,         # IN  [OH, 3]
    const Py_ssize_t[:, ::1] columns,      # IN  [OW, 3]
    const int32_t[::1] offsets,            # IN  [E], empty if channels are many
    const Py_ssize_t[:, ::1] spans,        # IN  [S, 3]
    Py_ssize_t KW, Py_ssize_t dilation_h, Py_ssize_t dilation_w, int num_threads,
):
    cdef Py_ssize_t N = x.shape[0], IW = x.shape[2], C = x.shape[3], OH = output.shape[1], OW = output.shape[2]
    cdef Py_ssize_t step_h = dilation_h * IW * C, step_w = dilation_w * C, task
    cdef Spans thin = as_spans(offsets, spans)
    cdef winner_t* winner = &winners[0, 0, 0, 0] if winners.shape[0] else NULL
    cdef winner_t* win
    cdef const Py_ssize_t* w = &columns[0, 0]
    cdef const Py_ssize_t* h
    cdef const floating* image
    cdef floating* out
    for task in prange(N * OH, num_threads=num_threads, schedule="static", nogil=True):
        h = &rows[task % OH, 0]
        image = &x[task // OH, 0, 0, 0] + h[ORIGIN] * IW * C
        out = &output[0, 0, 0, 0] + task * OW * C
        win = winner + task * OW * C if winner != NULL else NULL
        if thin.E:
            max_spans(image, step_h, step_w, h, &thin, KW, out, win)
        elif C % 64 == 0:
            max_row(image, step_h, step_w, h, w, KW, OW, C, out, win, 64)
        elif C >= 32:
            max_row(image, step_h, step_w, h, w, KW, OW, C, out, win, 32)
        else:
            max_row(image, step_h, step_w, h, w, KW, OW, C, out, win, <int>C)


cdef inline void add_won(
    const floating* grad_output, const winner_t* winners, const Py_ssize_t* w, Py_ssize_t KW,
    Py_ssize_t step_h, Py_ssize_t step_w, Py_ssize_t first, Py_ssize_t stop, floating* target,
) noexcept nogil:
    """One window, WIDE channels: to each tap of lines first to stop the gradients that it won."""
    cdef floating grad[WIDE]
    cdef int32_t winner[WIDE]
    cdef floating* pixel
    cdef Py_ssize_t kh, kw
    cdef int32_t tap
    cdef int j
    for j in range(WIDE):
        grad[j] = grad_output[j]
    for j in range(WIDE):
        winner[j] = winners[j]
    for kh in range(first, stop):
        for kw in range(w[FIRST], w[STOP]):
            pixel = target + kh * step_h + kw * step_w
            tap = <int32_t>(kh * KW + kw)
            for j in range(WIDE):
                pixel[j] += grad[j] if winner[j] == tap else 0


cdef void scatter_band(
    const floating* grad_output, const winner_t* winners, const Py_ssize_t* rows, const Py_ssize_t* columns,
    Py_ssize_t OH, Py_ssize_t OW, Py_ssize_t C, Py_ssize_t KW, Py_ssize_t dilation_h, Py_ssize_t step_w,
    const Py_ssize_t* steps, Py_ssize_t LENGTH, Py_ssize_t START, Py_ssize_t HEIGHT, floating* band,
) noexcept nogil:
    """HEIGHT rows, of LENGTH numbers, from row START on: each output's gradient goes to its winner, if it is here."""
    cdef Py_ssize_t oh, ow, block, blocks, c, origin, at, first, stop, step_h = dilation_h * LENGTH
    cdef const Py_ssize_t* h
    cdef const Py_ssize_t* w
    cdef const floating* grad
    cdef const winner_t* winner
    for at in range(HEIGHT * LENGTH):
        band[at] = 0
    for oh in range(OH):
        h = rows + 3 * oh
        first, stop = h[FIRST], h[STOP]
        while first < stop and h[ORIGIN] + first * dilation_h < START:
            first += 1
        while first < stop and h[ORIGIN] + (stop - 1) * dilation_h >= START + HEIGHT:
            stop -= 1
        if first == stop:
            continue
        for ow in range(OW):
            w = columns + 3 * ow
            origin = (h[ORIGIN] - START) * LENGTH + w[ORIGIN] * C
            grad = grad_output + (oh * OW + ow) * C
            winner = winners + (oh * OW + ow) * C
            blocks = C // WIDE if (stop - first) * (w[STOP] - w[FIRST]) <= TAPS else 0
            for block in range(blocks):
                c = block * WIDE
                add_won(grad + c, winner + c, w, KW, step_h, step_w, first, stop, band + origin + c)
            for c in range(blocks * WIDE, C):
                if winner_t is uint8_t:
                    at = origin + c + steps[winner[c]]
                else:
                    at = origin + c + winner[c] // KW * step_h + winner[c] % KW * step_w
                if 0 <= at < HEIGHT * LENGTH:
                    band[at] += grad[c]


def pool_backward(
    const floating[:, :, :, ::1] grad_output,  # IN
    const winner_t[:, :, :, ::1] winners,      # IN
    floating[:, :, :, ::1] grad_x,             # OUT
    const Py_ssize_t[:, ::1] rows,             # IN  [OH, 3]
    const Py_ssize_t[:, ::1] columns,          # IN  [OW, 3]
    Py_ssize_t KW, Py_ssize_t dilation_h, Py_ssize_t dilation_w, int num_threads,
):
    """A task is a band of input rows, and reads every output row that may have won in it."""
    cdef Py_ssize_t N = grad_x.shape[0], IH = grad_x.shape[1], LENGTH = grad_x.shape[2] * grad_x.shape[3]
    cdef Py_ssize_t OH = grad_output.shape[1], OW = grad_output.shape[2], C = grad_x.shape[3]
    cdef Py_ssize_t step_h = dilation_h * LENGTH, step_w = dilation_w * C
    cdef Py_ssize_t HEIGHT = max(<Py_ssize_t>8, BAND // LENGTH), BANDS = ceil_div(IH, HEIGHT), task, n, first, tap
    cdef Py_ssize_t steps[256]
    for tap in range(256):
        steps[tap] = tap // KW * step_h + tap % KW * step_w
    for task in prange(N * BANDS, num_threads=num_threads, schedule="static", nogil=True):
        n = task // BANDS
        first = task % BANDS * HEIGHT
        scatter_band(
            &grad_output[n, 0, 0, 0], &winners[n, 0, 0, 0], &rows[0, 0], &columns[0, 0], OH, OW, C, KW,
            dilation_h, step_w, steps, LENGTH, first, min(HEIGHT, IH - first), &grad_x[n, first, 0, 0],
        )


def flat_indices(
    const winner_t[:, :, :, ::1] winners,      # IN
    int64_t[:, :, :, ::1] indices,             # OUT position ih*IW + iw of each winner
    const Py_ssize_t[:, ::1] rows,             # IN  [OH, 3]
    const Py_ssize_t[:, ::1] columns,          # IN  [OW, 3]
    Py_ssize_t KW, Py_ssize_t dilation_h, Py_ssize_t dilation_w, Py_ssize_t IW, int num_threads,
):
    cdef Py_ssize_t N = winners.shape[0], OH = winners.shape[1], OW = winners.shape[2], C = winners.shape[3]
    cdef Py_ssize_t task, n, oh, ow, c, ih, iw
    for task in prange(N * OH, num_threads=num_threads, schedule="static", nogil=True):
        n = task // OH
        oh = task % OH
        for ow in range(OW):
            for c in range(C):
                ih = rows[oh, ORIGIN] + winners[n, oh, ow, c] // KW * dilation_h
                iw = columns[ow, ORIGIN] + winners[n, oh, ow, c] % KW * dilation_w
                indices[n, oh, ow, c] = ih * IW + iw


def unpool(
    const floating[:, :, :, ::1] x,            # IN
    const int64_t[:, :, :, ::1] indices,       # IN  valid positions
    floating[:, :, :, ::1] output,             # OUT
    int num_threads,
):
    """Zero, but x at its indices; the last of those that share one. A task is a few channels of an image."""
    cdef Py_ssize_t N = x.shape[0], IH = x.shape[1], IW = x.shape[2], C = x.shape[3]
    cdef Py_ssize_t P = output.shape[1] * output.shape[2], BLOCKS = ceil_div(C, CHANNELS), task, n, c, begin, stop, p
    cdef const int64_t* index
    cdef const floating* source
    cdef floating* target
    for task in prange(N * BLOCKS, num_threads=num_threads, schedule="static", nogil=True):
        n = task // BLOCKS
        begin = task % BLOCKS * CHANNELS
        stop = min(begin + CHANNELS, C)
        target = &output[n, 0, 0, 0]
        source = &x[n, 0, 0, 0]
        index = &indices[n, 0, 0, 0]
        for p in range(P):
            for c in range(begin, stop):
                target[p * C + c] = 0
        for p in range(IH * IW):
            for c in range(begin, stop):
                target[index[p * C + c] * C + c] = source[p * C + c]


def unpool_backward(
    const floating[:, :, :, ::1] grad_output,  # IN
    const int64_t[:, :, :, ::1] indices,       # IN  valid positions
    floating[:, :, :, ::1] grad_x,             # OUT
    int num_threads,
):
    cdef Py_ssize_t N = grad_x.shape[0], IH = grad_x.shape[1], IW = grad_x.shape[2], C = grad_x.shape[3]
    cdef Py_ssize_t task, n, ih, iw, c
    cdef const floating* source
    for task in prange(N * IH, num_threads=num_threads, schedule="static", nogil=True):
        n = task // IH
        ih = task % IH
        source = &grad_output[n, 0, 0, 0]
        for iw in range(IW):
            for c in range(C):
                grad_x[n, ih, iw, c] = source[indices[n, ih, iw, c] * C + c]
