"""Depthwise convolution as a sum over taps: one filter a channel, vectors over channels, no copy of the image.

    out[n, qh, qw, c] = bias[c] + sum over t of x[n, qh*step_h + tap_h[t], qw*step_w + tap_w[t], c] * weight[t, c]

A tile of a few output pixels by some channels stays in registers while the taps pass. Where taps fall outside the
image they are left out, by rows for a whole line and by columns for the pixels near its ends.
"""

from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from cython.parallel cimport prange

from cyconv._kernels.parallel cimport ceil_div, share_start, this_thread
from cyconv._memory cimport Block

cdef enum:
    CHANNELS = 32    # of a tile
    PIXELS = 4       # of a tile
    SLICES = 32      # of the weight gradient's sum, at most


cdef struct Plan:
    Py_ssize_t N, IH, IW, QH, QW, C, T
    Py_ssize_t step_h, step_w
    Py_ssize_t first_inner, last_inner  # output columns all of whose taps lie inside the image
    Py_ssize_t out_n, out_h, out_w


cdef void find_inner(Plan* s, const Py_ssize_t[:, ::1] taps) noexcept:
    """Output columns qw with 0 <= qw*step_w + tap_w < IW for every tap."""
    cdef Py_ssize_t t
    s.first_inner, s.last_inner = 0, s.QW
    for t in range(s.T):
        if taps[1, t] < 0:
            s.first_inner = max(s.first_inner, ceil_div(-taps[1, t], s.step_w))
        if s.IW - taps[1, t] <= 0:
            s.last_inner = 0
        else:
            s.last_inner = min(s.last_inner, ceil_div(s.IW - taps[1, t], s.step_w))
    s.first_inner = min(s.first_inner, s.QW)
    s.last_inner = max(s.last_inner, s.first_inner)


cdef inline void pixels_tile(
    Py_ssize_t count, Py_ssize_t channels, Py_ssize_t T, Py_ssize_t step,
    const floating* x, const Py_ssize_t* offset,  # [T] distances of the taps from x
    const floating* weight, const Py_ssize_t* weight_offset, const floating* bias,
    floating* out, Py_ssize_t out_step,
) noexcept nogil:
    """`count` pixels by `channels` channels; both are constants where it is inlined with constants."""
    cdef floating total[PIXELS][CHANNELS]
    cdef const floating* source
    cdef const floating* w
    cdef Py_ssize_t i, c, t
    for i in range(count):
        for c in range(channels):
            total[i][c] = bias[c]
    for t in range(T):
        source = x + offset[t]
        w = weight + weight_offset[t]
        for i in range(count):
            for c in range(channels):
                total[i][c] += source[i * step + c] * w[c]
    for i in range(count):
        for c in range(channels):
            out[i * out_step + c] = total[i][c]


cdef inline void run_pixels(
    Py_ssize_t count, Py_ssize_t channels, Py_ssize_t T, Py_ssize_t step,
    const floating* x, const Py_ssize_t* offset, const floating* weight, const Py_ssize_t* weight_offset,
    const floating* bias, floating* out, Py_ssize_t out_step,
) noexcept nogil:
    """Cut a run of pixels into register tiles."""
    cdef Py_ssize_t i = 0
    if channels == CHANNELS:
        while i + PIXELS <= count:
            pixels_tile(PIXELS, CHANNELS, T, step, x + i * step, offset, weight, weight_offset, bias,
                        out + i * out_step, out_step)
            i += PIXELS
        while i < count:
            pixels_tile(1, CHANNELS, T, step, x + i * step, offset, weight, weight_offset, bias,
                        out + i * out_step, out_step)
            i += 1
    else:
        while i < count:
            pixels_tile(1, channels, T, step, x + i * step, offset, weight, weight_offset, bias,
                        out + i * out_step, out_step)
            i += 1


cdef void run_line(
    Plan* s, Py_ssize_t n, Py_ssize_t q, const floating* x, const floating* weight, const floating* bias,
    const Py_ssize_t* tap_h, const Py_ssize_t* tap_w, Py_ssize_t* offset, floating* out,
) noexcept nogil:
    """One line of output, all channels; `offset` has room for 4*T numbers."""
    cdef Py_ssize_t* weight_offset = offset + s.T
    cdef Py_ssize_t* edge_offset = offset + 2 * s.T
    cdef Py_ssize_t* edge_weight = offset + 3 * s.T
    cdef Py_ssize_t t, row, column, inside = 0, edge, c, qw, channels, step = s.step_w * s.C
    cdef const floating* image = x + n * s.IH * s.IW * s.C
    cdef floating* target = out + n * s.out_n + q * s.out_h
    for t in range(s.T):
        row = q * s.step_h + tap_h[t]
        if 0 <= row < s.IH:
            offset[inside] = (row * s.IW + tap_w[t]) * s.C
            weight_offset[inside] = t * s.C
            inside += 1
    c = 0
    while c < s.C:
        channels = min(<Py_ssize_t>CHANNELS, s.C - c)
        run_pixels(
            s.last_inner - s.first_inner, channels, inside, step, image + s.first_inner * step + c, offset,
            weight + c, weight_offset, bias + c, target + s.first_inner * s.out_w + c, s.out_w)
        c += CHANNELS
    qw = 0
    while qw < s.QW:
        if qw == s.first_inner and s.last_inner > qw:
            qw = s.last_inner
            continue
        edge = 0
        for t in range(s.T):
            row = q * s.step_h + tap_h[t]
            column = qw * s.step_w + tap_w[t]
            if 0 <= row < s.IH and 0 <= column < s.IW:
                edge_offset[edge] = (row * s.IW + column) * s.C
                edge_weight[edge] = t * s.C
                edge += 1
        c = 0
        while c < s.C:
            channels = min(<Py_ssize_t>CHANNELS, s.C - c)
            run_pixels(1, channels, edge, 0, image + c, edge_offset, weight + c, edge_weight, bias + c,
                       target + qw * s.out_w + c, s.out_w)
            c += CHANNELS
        qw += 1


def conv_taps(
    const floating[:, :, :, ::1] x,   # IN [N, IH, IW, C]
    const floating[:, ::1] weight,    # IN [T, C]
    const floating[::1] bias,         # IN [C], or None
    const Py_ssize_t[:, ::1] taps,    # IN [2, T] displacements in the input, rows above columns
    Py_ssize_t step_h, Py_ssize_t step_w,
    floating[:, :, :, :] out,         # OUT [N, QH, QW, C], channels contiguous, any other strides
    int num_threads,
):
    """Sum over taps as the module says; x counts as zero outside its bounds."""
    cdef Plan s
    cdef Py_ssize_t item = sizeof(floating), line, start, stop, segment, i
    s.N, s.IH, s.IW, s.C = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    s.QH, s.QW, s.T = out.shape[1], out.shape[2], taps.shape[1]
    s.step_h, s.step_w = step_h, step_w
    s.out_n, s.out_h, s.out_w = out.strides[0] // item, out.strides[1] // item, out.strides[2] // item
    if s.N == 0 or s.QH == 0 or s.QW == 0:
        return
    find_inner(&s, taps)
    cdef Block scratch = Block(num_threads * 4 * s.T * sizeof(Py_ssize_t) + s.C * item)
    cdef floating* start_value = <floating*>scratch.address
    cdef Py_ssize_t* offsets = <Py_ssize_t*>(<char*>scratch.address + ceil_div(s.C * item, 8) * 8)
    for i in range(s.C):
        start_value[i] = bias[i] if bias is not None else 0
    cdef const floating* image = &x[0, 0, 0, 0]
    cdef const floating* weights = &weight[0, 0] if s.T else NULL
    cdef const Py_ssize_t* tap_h = &taps[0, 0] if s.T else NULL
    cdef const Py_ssize_t* tap_w = &taps[1, 0] if s.T else NULL
    cdef floating* target = &out[0, 0, 0, 0]
    cdef Py_ssize_t lines = s.N * s.QH
    segment = max(num_threads, <Py_ssize_t>(lines * min(1.0, 2e8 * num_threads / (<double>lines * s.QW * s.C * (s.T + 1)))))
    for start in range(0, lines, segment):
        stop = min(start + segment, lines)
        for line in prange(start, stop, nogil=True, num_threads=num_threads, schedule="static"):
            run_line(&s, line // s.QH, line % s.QH, image, weights, start_value, tap_h, tap_w,
                     offsets + this_thread() * 4 * s.T, target)
        PyErr_CheckSignals()


cdef inline void add_products(
    Py_ssize_t channels, Py_ssize_t count, const floating* x, Py_ssize_t x_step,
    const floating* g, Py_ssize_t g_step, floating* total,
) noexcept nogil:
    """total[c] += sum over count pixels of x[c] * g[c], in order, four partial sums to hide the latency."""
    cdef floating part[4][CHANNELS]
    cdef Py_ssize_t i, j, c
    for j in range(4):
        for c in range(channels):
            part[j][c] = 0
    i = 0
    while i + 4 <= count:
        for j in range(4):
            for c in range(channels):
                part[j][c] += x[(i + j) * x_step + c] * g[(i + j) * g_step + c]
        i += 4
    while i < count:
        for c in range(channels):
            part[0][c] += x[i * x_step + c] * g[i * g_step + c]
        i += 1
    for c in range(channels):
        total[c] += (part[0][c] + part[1][c]) + (part[2][c] + part[3][c])


cdef void add_line(
    Plan* s, Py_ssize_t n, Py_ssize_t q, const floating* x, const floating* grad_output,
    const Py_ssize_t* tap_h, const Py_ssize_t* tap_w, floating* sums,
) noexcept nogil:
    """Add one output line's products to sums [T, C]."""
    cdef Py_ssize_t t, row, first, last, c
    cdef const floating* line = grad_output + (n * s.QH + q) * s.QW * s.C
    cdef const floating* source
    for t in range(s.T):
        row = q * s.step_h + tap_h[t]
        if row < 0 or row >= s.IH or tap_w[t] >= s.IW:
            continue
        first = ceil_div(-tap_w[t], s.step_w) if tap_w[t] < 0 else 0
        last = min(s.QW, ceil_div(s.IW - tap_w[t], s.step_w))
        source = x + ((n * s.IH + row) * s.IW + tap_w[t]) * s.C
        c = 0
        while c + CHANNELS <= s.C:
            add_products(CHANNELS, last - first, source + first * s.step_w * s.C + c, s.step_w * s.C,
                         line + first * s.C + c, s.C, sums + t * s.C + c)
            c += CHANNELS
        if c < s.C:
            add_products(s.C - c, last - first, source + first * s.step_w * s.C + c, s.step_w * s.C,
                         line + first * s.C + c, s.C, sums + t * s.C + c)


def weight_gradient(
    const floating[:, :, :, ::1] x,            # IN [N, IH, IW, C]
    const floating[:, :, :, ::1] grad_output,  # IN [N, QH, QW, C]
    const Py_ssize_t[:, ::1] taps,             # IN [2, T]
    Py_ssize_t step_h, Py_ssize_t step_w,
    floating[:, ::1] grad_weight,              # OUT [C, T]
    int num_threads,
):
    """grad_weight[c, t] = sum over pixels of x at the tap * grad_output; lines summed in slices set by the shape."""
    cdef Plan s
    cdef Py_ssize_t item = sizeof(floating), slice_, line, c, t, lines, slices
    cdef floating total
    s.N, s.IH, s.IW, s.C = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    s.QH, s.QW, s.T = grad_output.shape[1], grad_output.shape[2], taps.shape[1]
    s.step_h, s.step_w = step_h, step_w
    if s.N == 0:
        grad_weight[:, :] = 0
        return
    lines = s.N * s.QH
    slices = min(lines, <Py_ssize_t>SLICES)
    cdef Block scratch = Block(slices * s.T * s.C * item)
    cdef floating* partial = <floating*>scratch.address
    cdef const floating* image = &x[0, 0, 0, 0]
    cdef const floating* gradient = &grad_output[0, 0, 0, 0]
    cdef const Py_ssize_t* tap_h = &taps[0, 0]
    cdef const Py_ssize_t* tap_w = &taps[1, 0]
    for slice_ in prange(slices, nogil=True, num_threads=num_threads, schedule="static"):
        for t in range(s.T * s.C):
            partial[slice_ * s.T * s.C + t] = 0
        for line in range(share_start(lines, slices, slice_), share_start(lines, slices, slice_ + 1)):
            add_line(&s, line // s.QH, line % s.QH, image, gradient, tap_h, tap_w, partial + slice_ * s.T * s.C)
    PyErr_CheckSignals()
    for c in range(s.C):
        for t in range(s.T):
            total = 0
            for slice_ in range(slices):
                total += partial[(slice_ * s.T + t) * s.C + c]
            grad_weight[c, t] = total
