"""Copy the windows of an image side by side (im2col), and add them back where they came from (col2im).

Images are [N, G, H, W, C] with contiguous C: G is 1 to keep channels together, or all channels with C = 1 to
keep them apart. `columns` is [N, G, OH*OW, KH*KW*C] with contiguous rows. windows.pxd describes the tables of windows.
Giving output positions and taps each other's roles (kernel <-> output, stride <-> dilation) writes the transposed
matrix, which is what unfold wants.
"""

from cython cimport floating
from cython.parallel cimport prange

from cyconv._kernels.parallel cimport TURN, Listener, interrupted, listen, raise_if_interrupted, this_thread
from cyconv._kernels.windows cimport FIRST, ORIGIN, STOP
from cyconv._memory cimport Block


cdef inline void fill_zero(floating* target, Py_ssize_t COUNT) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(COUNT):
        target[i] = 0


cdef inline void copy_taps(
    const floating* source, Py_ssize_t step, floating* target, Py_ssize_t TAPS, Py_ssize_t C
) noexcept nogil:
    """Copy TAPS runs of C numbers that lie `step` apart; one long run if they touch."""
    cdef Py_ssize_t i, tap
    if step == C:
        for i in range(TAPS * C):
            target[i] = source[i]
    elif C == 1:
        for tap in range(TAPS):
            target[tap] = source[tap * step]
    else:
        for tap in range(TAPS):
            for i in range(C):
                target[tap * C + i] = source[tap * step + i]


cdef void copy_windows(
    const floating* image, Py_ssize_t step_h, Py_ssize_t step_w,   # first pixel that tap 0 of the row reads
    const Py_ssize_t* h, const Py_ssize_t* columns, Py_ssize_t pixel,
    Py_ssize_t OW, Py_ssize_t KH, Py_ssize_t KW, Py_ssize_t C,
    floating* target, Py_ssize_t target_step, Listener* listener,
) noexcept nogil:
    cdef Py_ssize_t ow, kh, LINE = KW * C, left = TURN
    cdef const Py_ssize_t* w
    cdef floating* line
    for ow in range(OW):
        w = columns + 3 * ow
        left -= KH * LINE
        if left < 0:
            if interrupted(listener):
                return
            left = TURN
        for kh in range(KH):
            line = target + ow * target_step + kh * LINE
            if kh < h[FIRST] or kh >= h[STOP]:
                fill_zero(line, LINE)
            else:
                fill_zero(line, w[FIRST] * C)
                copy_taps(
                    image + kh * step_h + w[ORIGIN] * pixel + w[FIRST] * step_w, step_w,
                    line + w[FIRST] * C, w[STOP] - w[FIRST], C,
                )
                fill_zero(line + w[STOP] * C, (KW - w[STOP]) * C)


def im2col(
    const floating[:, :, :, :, :] x,          # IN
    floating[:, :, :, :] columns,             # OUT
    const Py_ssize_t[:, ::1] row_windows,     # IN  [OH, 3]
    const Py_ssize_t[:, ::1] column_windows,  # IN  [OW, 3]
    Py_ssize_t KH, Py_ssize_t KW, Py_ssize_t dilation_h, Py_ssize_t dilation_w, int num_threads,
):
    cdef Py_ssize_t N = x.shape[0], G = x.shape[1], C = x.shape[4], ITEM = sizeof(floating)
    cdef Py_ssize_t OH = row_windows.shape[0], OW = column_windows.shape[0]
    cdef Py_ssize_t line = x.strides[2] // ITEM, pixel = x.strides[3] // ITEM
    cdef Py_ssize_t task, n, oh, g
    cdef Listener listener
    listen(&listener)
    for task in prange(N * OH * G, num_threads=num_threads, schedule="static", nogil=True):
        if interrupted(&listener):
            continue
        n = task // (OH * G)
        oh = task // G % OH
        g = task % G
        copy_windows(
            &x[n, g, 0, 0, 0] + row_windows[oh, ORIGIN] * line, dilation_h * line, dilation_w * pixel,
            &row_windows[oh, 0], &column_windows[0, 0], pixel, OW, KH, KW, C,
            &columns[n, g, oh * OW, 0], columns.strides[2] // ITEM, &listener,
        )
    raise_if_interrupted(&listener)


cdef inline void add_taps(
    const floating* source, floating* target, Py_ssize_t step, Py_ssize_t TAPS, Py_ssize_t C
) noexcept nogil:
    """The adjoint of copy_taps."""
    cdef Py_ssize_t i, tap
    if step == C:
        for i in range(TAPS * C):
            target[i] += source[i]
    elif C == 1:
        for tap in range(TAPS):
            target[tap * step] += source[tap]
    else:
        for tap in range(TAPS):
            for i in range(C):
                target[tap * step + i] += source[tap * C + i]


cdef void add_windows(
    const floating* columns, Py_ssize_t source_step, const Py_ssize_t* pairs, Py_ssize_t PAIRS,
    const Py_ssize_t* column_windows, Py_ssize_t dilation_w,
    Py_ssize_t OW, Py_ssize_t KW, Py_ssize_t IW, Py_ssize_t C, floating* row, Listener* listener,
) noexcept nogil:
    """One image row: zero, plus the taps of each (window, tap) pair that reads it, windows in order."""
    cdef Py_ssize_t pair, ow, left = TURN
    cdef const Py_ssize_t* w
    cdef const floating* line
    fill_zero(row, IW * C)
    for pair in range(PAIRS):
        for ow in range(OW):
            w = column_windows + 3 * ow
            left -= (w[STOP] - w[FIRST]) * C
            if left < 0:
                if interrupted(listener):
                    return
                left = TURN
            line = columns + (pairs[2 * pair] * OW + ow) * source_step + pairs[2 * pair + 1] * KW * C
            add_taps(
                line + w[FIRST] * C, row + (w[ORIGIN] + w[FIRST] * dilation_w) * C, dilation_w * C,
                w[STOP] - w[FIRST], C,
            )


def col2im(
    const floating[:, :, :, :] columns,       # IN  contiguous rows
    floating[:, :, :, :, :] x,                # OUT contiguous channels
    const Py_ssize_t[::1] row_start,          # IN  [IH + 1]
    const Py_ssize_t[:, ::1] row_pairs,       # IN
    const Py_ssize_t[:, ::1] column_windows,  # IN  [OW, 3]
    Py_ssize_t KW, Py_ssize_t dilation_w, int num_threads,
):
    """Each task owns a row of x, summed in a contiguous buffer where its pixels do not touch."""
    cdef Py_ssize_t N = x.shape[0], G = x.shape[1], IH = x.shape[2], IW = x.shape[3], C = x.shape[4]
    cdef Py_ssize_t ITEM = sizeof(floating), OW = column_windows.shape[0], pixel = x.strides[3] // ITEM
    cdef Block buffer = Block(num_threads * IW * C * ITEM if pixel != C else 1)
    cdef floating* rows = <floating*>buffer.address
    cdef floating* row
    cdef floating* target
    cdef Py_ssize_t task, n, ih, g, iw, c
    cdef Listener listener
    listen(&listener)
    for task in prange(N * IH * G, num_threads=num_threads, schedule="static", nogil=True):
        if interrupted(&listener):
            continue
        n = task // (IH * G)
        ih = task // G % IH
        g = task % G
        target = &x[n, g, ih, 0, 0]
        row = target if pixel == C else rows + this_thread() * IW * C
        add_windows(
            &columns[n, g, 0, 0], columns.strides[2] // ITEM,
            &row_pairs[0, 0] + 2 * row_start[ih], row_start[ih + 1] - row_start[ih],
            &column_windows[0, 0], dilation_w, OW, KW, IW, C, row, &listener,
        )
        if row != target:
            for iw in range(IW):
                for c in range(C):
                    target[iw * pixel + c] = row[iw * C + c]
    raise_if_interrupted(&listener)
