"""Max pooling, its gradient, and its partial inverse.

Images are [N, H, W, C]; windows.pxd describes the tables of windows. A winner is the tap kh*KW + kw that held the
maximum: the first of equals, but the last NaN wins over every number, as in PyTorch. Each task owns what it writes and
goes through it in a fixed order, so any number of threads gives the same bits.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport INFINITY
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t
from libc.string cimport memcpy, memset

from cyconv._kernels.parallel cimport ceil_div, share_start
from cyconv._kernels.windows cimport (
    FIRST, ORIGIN, PAIR, STOP, WIDE, block_count, block_start, block_width, last_position, same_window,
    whole_windows, width_t,
)
from cyconv._memory cimport Block

ctypedef fused winner_t:
    uint8_t
    int32_t

cdef enum:
    BAND = 32768   # numbers of a task of scatter_backward, to stay in L2
    CHANNELS = 16  # of a task of unpool: a cache line of float, so that tasks do not share one


cdef union FloatBits:
    float number
    int32_t bits

cdef union DoubleBits:
    double number
    int64_t bits


cdef inline floating pick(bint condition, floating a, floating b) noexcept nogil:
    """a if condition else b, in whole numbers: of that gcc makes branches where loops are short."""
    cdef FloatBits f, g
    cdef DoubleBits d, e
    if floating is float:
        f.number, g.number = a, b
        f.bits = (f.bits & -<int32_t>condition) | (g.bits & ~-<int32_t>condition)
        return f.number
    else:
        d.number, e.number = a, b
        d.bits = (d.bits & -<int64_t>condition) | (e.bits & ~-<int64_t>condition)
        return d.number


cdef inline void max_block(
    const floating* image, Py_ssize_t step_h, Py_ssize_t step_w,
    Py_ssize_t first_h, Py_ssize_t stop_h, Py_ssize_t first_w, Py_ssize_t stop_w, Py_ssize_t KW,
    floating* best, int32_t* winner, floating* output, winner_t* winners, const int width,
) noexcept nogil:
    """One window, `width` channels; the caller's `best` and `winner` end up in registers."""
    cdef const floating* pixel
    cdef floating value
    cdef Py_ssize_t kh, kw
    cdef int32_t tap
    cdef bint wins
    cdef int j
    for j in range(width):
        best[j] = -INFINITY
        winner[j] = <int32_t>(first_h * KW + first_w)
    for kh in range(first_h, stop_h):
        for kw in range(first_w, stop_w):
            pixel = image + kh * step_h + kw * step_w
            tap = <int32_t>(kh * KW + kw)
            for j in range(width):
                value = pixel[j]
                wins = (value > best[j]) | (value != value)
                best[j] = pick(wins, value, best[j])
                winner[j] ^= (winner[j] ^ tap) & -<int32_t>wins  # tap if wins
    for j in range(width):
        output[j] = best[j]
    if winners != NULL:
        for j in range(width):
            winners[j] = <winner_t>winner[j]


cdef void max_rows(
    const width_t* kind, const floating* x, Py_ssize_t N, Py_ssize_t IH, Py_ssize_t IW, Py_ssize_t C,
    const Py_ssize_t* rows, const Py_ssize_t* columns, Py_ssize_t OH, Py_ssize_t OW, Py_ssize_t KH, Py_ssize_t KW,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, Py_ssize_t begin, Py_ssize_t stop,
    floating* output, winner_t* winners,
) noexcept nogil:
    """Output rows `begin` to `stop` of all images."""
    cdef int width = 8 * sizeof(width_t)
    cdef Py_ssize_t step_h = dilation_h * IW * C, step_w = dilation_w * C, row, line, ow, block, c, at, WHOLE
    cdef const Py_ssize_t* h
    cdef const Py_ssize_t* w
    cdef const floating* corner
    cdef floating best[WIDE]
    cdef int32_t winner[WIDE]
    cdef winner_t* win
    cdef bint two
    for row in range(begin, stop):
        h = rows + 3 * (row % OH)
        line = row // OH * IH
        two = KH == 2 and KW == 2 and h[STOP] - h[FIRST] == 2
        WHOLE = whole_windows(columns, OW, IW, dilation_w, C, width,
                              (N * IH - line - last_position(h, dilation_h)) * IW * C, (stop - row) * OW * C)
        for ow in range(OW):
            w = columns + 3 * ow
            at = (row * OW + ow) * C
            corner = x + ((line + h[ORIGIN]) * IW + w[ORIGIN]) * C
            if C < width and ow >= WHOLE:
                for c in range(C):
                    win = winners + at + c if winners != NULL else NULL
                    max_block(corner + c, step_h, step_w, h[FIRST], h[STOP], w[FIRST], w[STOP], KW, best, winner,
                              output + at + c, win, 1)
                continue
            for block in range(block_count(C, width)):
                c = block_start(block, C, width)
                win = winners + at + c if winners != NULL else NULL
                if two and w[STOP] - w[FIRST] == 2:  # constants: no loops are left
                    max_block(corner + c, step_h, step_w, 0, 2, 0, 2, 2, best, winner, output + at + c, win, width)
                else:
                    max_block(corner + c, step_h, step_w, h[FIRST], h[STOP], w[FIRST], w[STOP], KW, best, winner,
                              output + at + c, win, width)


def pool(
    const floating[:, :, :, ::1] x,        # IN
    floating[:, :, :, ::1] output,         # OUT
    winner_t[:, :, :, ::1] winners,        # OUT like output, or empty if nobody wants them
    const Py_ssize_t[:, ::1] rows,         # IN  [OH, 3]
    const Py_ssize_t[:, ::1] columns,      # IN  [OW, 3]
    Py_ssize_t KH, Py_ssize_t KW, Py_ssize_t dilation_h, Py_ssize_t dilation_w, int num_threads,
):
    """A task is a share of the output rows."""
    cdef Py_ssize_t N = x.shape[0], IH = x.shape[1], IW = x.shape[2], C = x.shape[3]
    cdef Py_ssize_t OH = output.shape[1], OW = output.shape[2], task, begin, stop
    cdef const floating* image = &x[0, 0, 0, 0]
    cdef floating* out = &output[0, 0, 0, 0]
    cdef winner_t* winner = &winners[0, 0, 0, 0] if winners.shape[0] else NULL
    cdef const Py_ssize_t* h = &rows[0, 0]
    cdef const Py_ssize_t* w = &columns[0, 0]
    cdef int width = max(16, block_width(C))  # gcc fails with less
    for task in prange(num_threads, num_threads=num_threads, schedule="static", nogil=True):
        begin = share_start(N * OH, num_threads, task)
        stop = share_start(N * OH, num_threads, task + 1)
        if width == 64:
            max_rows(<int64_t*>NULL, image, N, IH, IW, C, h, w, OH, OW, KH, KW, dilation_h, dilation_w, begin, stop,
                     out, winner)
        elif width == 32:
            max_rows(<int32_t*>NULL, image, N, IH, IW, C, h, w, OH, OW, KH, KW, dilation_h, dilation_w, begin, stop,
                     out, winner)
        else:
            max_rows(<int16_t*>NULL, image, N, IH, IW, C, h, w, OH, OW, KH, KW, dilation_h, dilation_w, begin, stop,
                     out, winner)


cdef inline void place_block(
    const floating* grad_output, const winner_t* winners, const Py_ssize_t* h, Py_ssize_t H, Py_ssize_t LENGTH,
    Py_ssize_t KW, Py_ssize_t first, const Py_ssize_t count, Py_ssize_t step,
    floating* grad, int32_t* winner, floating* grad_x, const int width,
) noexcept nogil:
    """One window, `width` channels: to each of its taps, `count` in each of H rows, the gradients that it won."""
    cdef Py_ssize_t i, k
    cdef int32_t tap
    cdef int j
    memcpy(grad, grad_output, width * sizeof(floating))
    for j in range(width):
        winner[j] = winners[j]
    for i in range(H):
        tap = <int32_t>(h[2 * i + 1] * KW + first)
        for k in range(count):
            for j in range(width):
                grad_x[i * LENGTH + k * step + j] = pick(winner[j] == tap + <int32_t>k, grad[j], 0)


cdef void place_rows(
    const width_t* kind, const floating* grad_output, const winner_t* winners, Py_ssize_t OW, Py_ssize_t C,
    const Py_ssize_t* columns, const Py_ssize_t* h, Py_ssize_t H, Py_ssize_t LENGTH, Py_ssize_t KW,
    Py_ssize_t dilation, Py_ssize_t WHOLE, floating* grad_x,
) noexcept nogil:
    """H input rows that one row of windows reads, which do not overlap."""
    cdef int width = 8 * sizeof(width_t)
    cdef Py_ssize_t ow, block, c, at, count, first, step = dilation * C
    cdef floating grad[WIDE]
    cdef int32_t winner[WIDE]
    cdef const Py_ssize_t* w
    cdef floating* pixel
    for ow in range(OW):
        w = columns + 3 * ow
        first, count = w[FIRST], w[STOP] - w[FIRST]
        at = ow * C
        pixel = grad_x + (w[ORIGIN] + first * dilation) * C
        if C < width and ow >= WHOLE:
            for c in range(C):
                if H == 2 and count == 2:
                    place_block(grad_output + at + c, winners + at + c, h, 2, LENGTH, KW, first, 2, step, grad, winner,
                                pixel + c, 1)
                else:
                    place_block(grad_output + at + c, winners + at + c, h, H, LENGTH, KW, first, count, step, grad,
                                winner, pixel + c, 1)
            continue
        for block in range(block_count(C, width)):
            c = block_start(block, C, width)
            if H == 2 and count == 2:  # constants: no loops are left
                place_block(grad_output + at + c, winners + at + c, h, 2, LENGTH, KW, first, 2, step, grad, winner,
                            pixel + c, width)
            else:
                place_block(grad_output + at + c, winners + at + c, h, H, LENGTH, KW, first, count, step, grad, winner,
                            pixel + c, width)


cdef void add_row(
    const width_t* kind, const floating* grad_output, const winner_t* winners, Py_ssize_t OW, Py_ssize_t C,
    const Py_ssize_t* columns, Py_ssize_t tap, Py_ssize_t dilation, floating* grad_x,
) noexcept nogil:
    """Add to an input row what it won of a row of windows, C >= width."""
    cdef int width = 8 * sizeof(width_t), j
    cdef Py_ssize_t ow, block, c, k
    cdef floating grad[WIDE]
    cdef int32_t winner[WIDE]
    cdef const Py_ssize_t* w
    cdef floating* pixel
    for ow in range(OW):
        w = columns + 3 * ow
        for block in range(block_count(C, width)):
            c = block_start(block, C, width)
            for j in range(width):
                grad[j] = grad_output[ow * C + c + j]
            for j in range(width):
                winner[j] = winners[ow * C + c + j]
            for j in range(<int>(block * width - c)):  # channels of the block before
                winner[j] = -1
            for k in range(w[FIRST], w[STOP]):
                pixel = grad_x + (w[ORIGIN] + k * dilation) * C + c
                for j in range(width):
                    pixel[j] += pick(winner[j] == <int32_t>(tap + k), grad[j], 0)


cdef void gradient_rows(
    const width_t* kind, const floating* grad_output, const winner_t* winners, Py_ssize_t OH, Py_ssize_t OW,
    Py_ssize_t C, const Py_ssize_t* columns, const Py_ssize_t* start, const Py_ssize_t* pairs,
    Py_ssize_t IH, Py_ssize_t IW, Py_ssize_t KW, Py_ssize_t dilation, bint apart, const uint8_t* read,
    Py_ssize_t begin, Py_ssize_t stop, floating* grad_x,
) noexcept nogil:
    """Input rows `begin` to `stop` of all images."""
    cdef int width = 8 * sizeof(width_t)
    cdef Py_ssize_t row = begin, LENGTH = IW * C, ih, i, H, ROWS, line, iw
    cdef Py_ssize_t WHOLE = whole_windows(columns, OW, IW, dilation, C, width, LENGTH, OW * C)
    cdef const Py_ssize_t* h
    while row < stop:
        ih = row % IH
        h = pairs + 2 * start[ih]
        H = start[ih + 1] - start[ih]
        ROWS = same_window(start, pairs, ih, min(<Py_ssize_t>PAIR, min(IH - ih, stop - row))) if apart else 0
        if ROWS:
            line = row // IH * OH + h[0]
            place_rows(kind, grad_output + line * OW * C, winners + line * OW * C, OW, C, columns, h, ROWS, LENGTH, KW,
                       dilation, WHOLE, grad_x + row * LENGTH)
            for i in range(ROWS if read != NULL else 0):
                for iw in range(IW):
                    if not read[iw]:
                        memset(grad_x + (row + i) * LENGTH + iw * C, 0, C * sizeof(floating))
        else:
            ROWS = 1
            memset(grad_x + row * LENGTH, 0, LENGTH * sizeof(floating))
            for i in range(H):
                line = row // IH * OH + h[2 * i]
                add_row(kind, grad_output + line * OW * C, winners + line * OW * C, OW, C, columns, h[2 * i + 1] * KW,
                        dilation, grad_x + row * LENGTH)
        row += ROWS


def pool_backward(
    const floating[:, :, :, ::1] grad_output,  # IN
    const winner_t[:, :, :, ::1] winners,      # IN
    floating[:, :, :, ::1] grad_x,             # OUT
    const Py_ssize_t[:, ::1] columns,          # IN  [OW, 3]
    const Py_ssize_t[::1] row_start,           # IN  [IH + 1]
    const Py_ssize_t[:, ::1] row_pairs,        # IN
    Py_ssize_t KW, Py_ssize_t dilation, bint apart, int num_threads,
):
    """A task is a share of the input rows. `apart`: a window's columns end before the next one's begin.

    Fewer than 16 channels must be apart, and their rows read once: they would add to the next pixels.
    """
    cdef Py_ssize_t N = grad_x.shape[0], IH = grad_x.shape[1], IW = grad_x.shape[2], C = grad_x.shape[3]
    cdef Py_ssize_t OH = grad_output.shape[1], OW = grad_output.shape[2], task, begin, stop, ow, k
    cdef const floating* grad = &grad_output[0, 0, 0, 0]
    cdef const winner_t* winner = &winners[0, 0, 0, 0]
    cdef floating* out = &grad_x[0, 0, 0, 0]
    cdef const Py_ssize_t* w = &columns[0, 0]
    cdef const Py_ssize_t* start = &row_start[0]
    cdef const Py_ssize_t* h = &row_pairs[0, 0]
    cdef int width = block_width(C)
    cdef Block read_block = Block(IW)
    cdef uint8_t* read = <uint8_t*>read_block.address  # whether a column is in some window; NULL if all are
    cdef Py_ssize_t unread = IW
    memset(read, 0, IW)
    for ow in range(OW):
        for k in range(w[3 * ow + FIRST], w[3 * ow + STOP]):
            unread -= not read[w[3 * ow + ORIGIN] + k * dilation]
            read[w[3 * ow + ORIGIN] + k * dilation] = 1
    if unread == 0:
        read = NULL
    for task in prange(num_threads, num_threads=num_threads, schedule="static", nogil=True):
        begin = share_start(N * IH, num_threads, task)
        stop = share_start(N * IH, num_threads, task + 1)
        if width == 64:
            gradient_rows(<int64_t*>NULL, grad, winner, OH, OW, C, w, start, h, IH, IW, KW, dilation, apart, read,
                          begin, stop, out)
        elif width == 32:
            gradient_rows(<int32_t*>NULL, grad, winner, OH, OW, C, w, start, h, IH, IW, KW, dilation, apart, read,
                          begin, stop, out)
        elif width == 16:
            gradient_rows(<int16_t*>NULL, grad, winner, OH, OW, C, w, start, h, IH, IW, KW, dilation, apart, read,
                          begin, stop, out)
        else:
            gradient_rows(<int8_t*>NULL, grad, winner, OH, OW, C, w, start, h, IH, IW, KW, dilation, apart, read,
                          begin, stop, out)


cdef void scatter_band(
    const floating* grad_output, const winner_t* winners, const Py_ssize_t* rows, const Py_ssize_t* columns,
    Py_ssize_t OH, Py_ssize_t OW, Py_ssize_t C, Py_ssize_t KW, Py_ssize_t dilation_h, Py_ssize_t step_w,
    const Py_ssize_t* steps, Py_ssize_t LENGTH, Py_ssize_t START, Py_ssize_t HEIGHT, floating* band,
) noexcept nogil:
    """HEIGHT rows, of LENGTH numbers, from row START on: each output's gradient goes to its winner, if it is here."""
    cdef Py_ssize_t oh, ow, c, origin, at, first, stop, step_h = dilation_h * LENGTH
    cdef const floating* grad
    cdef const winner_t* winner
    memset(band, 0, HEIGHT * LENGTH * sizeof(floating))
    for oh in range(OH):
        first = rows[3 * oh + ORIGIN] + rows[3 * oh + FIRST] * dilation_h
        stop = rows[3 * oh + ORIGIN] + (rows[3 * oh + STOP] - 1) * dilation_h + 1
        if stop <= START or first >= START + HEIGHT:
            continue
        for ow in range(OW):
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
