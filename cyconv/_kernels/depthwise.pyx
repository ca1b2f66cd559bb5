"""Depthwise convolution as a sum over taps: one filter a channel, vectors over channels, no copy of the image.

    out[n, qh, qw, c] = bias[c] + sum over t of x[n, qh*step_h + tap_h[t], qw*step_w + tap_w[t], c] * weight[t, c]

A tile of a few output pixels by some channels stays in registers while the taps pass. Where taps fall outside the
image they are left out, by rows for a whole line and by columns for the pixels near its ends.
"""

from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memset

from cyconv._kernels.parallel cimport ceil_div, share_start, this_thread
from cyconv._kernels.simd cimport DEPTHWISE_TAPS, depthwise_pixels, depthwise_products, lanes
from cyconv._memory cimport Block

cdef enum:
    SLICES = 32  # of the weight gradient's sum, at most


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


cdef void run_pixels(
    Py_ssize_t count, Py_ssize_t C, Py_ssize_t T, Py_ssize_t step,
    const floating* x, const Py_ssize_t* offset, const floating* weight, const Py_ssize_t* weight_offset,
    const floating* bias, floating* out, Py_ssize_t out_step,
) noexcept nogil:
    """A run of pixels that share their taps, all channels: vectors by two, by one, and the rest one by one."""
    cdef Py_ssize_t L = lanes(x), c = 0, i, t
    cdef int vectors
    cdef floating total
    while c + L <= C:
        vectors = 2 if c + 2 * L <= C else 1
        depthwise_pixels(
            count, vectors, T, x + c, step, offset, weight + c, weight_offset, bias + c, out + c, out_step)
        c += vectors * L
    for c in range(c, C):
        for i in range(count):
            total = bias[c]
            for t in range(T):
                total += x[i * step + offset[t] + c] * weight[weight_offset[t] + c]
            out[i * out_step + c] = total


cdef void run_line(
    Plan* s, Py_ssize_t n, Py_ssize_t q, const floating* x, const floating* weight, const floating* bias,
    const Py_ssize_t* tap_h, const Py_ssize_t* tap_w, Py_ssize_t* offset, floating* out,
) noexcept nogil:
    """One line of output, all channels; `offset` has room for 4*T numbers."""
    cdef Py_ssize_t* weight_offset = offset + s.T
    cdef Py_ssize_t* edge_offset = offset + 2 * s.T
    cdef Py_ssize_t* edge_weight = offset + 3 * s.T
    cdef Py_ssize_t t, row, column, inside = 0, edge, qw, step = s.step_w * s.C
    cdef const floating* image = x + n * s.IH * s.IW * s.C
    cdef floating* target = out + n * s.out_n + q * s.out_h
    for t in range(s.T):
        row = q * s.step_h + tap_h[t]
        if 0 <= row < s.IH:
            offset[inside] = (row * s.IW + tap_w[t]) * s.C
            weight_offset[inside] = t * s.C
            inside += 1
    run_pixels(
        s.last_inner - s.first_inner, s.C, inside, step, image + s.first_inner * step, offset, weight, weight_offset,
        bias, target + s.first_inner * s.out_w, s.out_w)
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
        run_pixels(
            1, s.C, edge, 0, image, edge_offset, weight, edge_weight, bias, target + qw * s.out_w, s.out_w)
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


cdef void add_run(
    Plan* s, Py_ssize_t T, Py_ssize_t count, const floating* x, const Py_ssize_t* offset, const floating* g,
    floating* sums,
) noexcept nogil:
    """sums[t, c] += sum over `count` pixels of x at tap t * grad_output, for T consecutive taps, all channels."""
    cdef Py_ssize_t L = lanes(x), step = s.step_w * s.C, c = 0, i, t
    cdef floating total
    while c + L <= s.C:
        depthwise_products(T, count, x + c, step, offset, g + c, s.C, sums + c, s.C)
        c += L
    for c in range(c, s.C):
        for t in range(T):
            total = 0
            for i in range(count):
                total += x[i * step + offset[t] + c] * g[i * s.C + c]
            sums[t * s.C + c] += total


cdef void add_line(
    Plan* s, Py_ssize_t n, Py_ssize_t q, const floating* x, const floating* grad_output,
    const Py_ssize_t* tap_h, const Py_ssize_t* tap_w, Py_ssize_t* offset, floating* sums,
) noexcept nogil:
    """Add one output line's products to sums [T, C]: inner columns for runs of taps, the others tap by tap."""
    cdef const floating* line = grad_output + (n * s.QH + q) * s.QW * s.C
    cdef const floating* image = x + n * s.IH * s.IW * s.C
    cdef Py_ssize_t step = s.step_w * s.C, t0 = 0, t, qw, row, column, count
    while t0 < s.T:
        row = q * s.step_h + tap_h[t0]
        count = 0
        while t0 + count < s.T and count < DEPTHWISE_TAPS:
            row = q * s.step_h + tap_h[t0 + count]
            if row < 0 or row >= s.IH:
                break
            offset[count] = (row * s.IW + tap_w[t0 + count]) * s.C
            count += 1
        if count == 0:  # a tap above or below the image
            t0 += 1
            continue
        add_run(
            s, count, s.last_inner - s.first_inner, image + s.first_inner * step, offset,
            line + s.first_inner * s.C, sums + t0 * s.C)
        for t in range(count):
            qw = 0
            while qw < s.QW:
                if qw == s.first_inner and s.last_inner > qw:
                    qw = s.last_inner
                    continue
                column = qw * s.step_w + tap_w[t0 + t]
                if 0 <= column < s.IW:
                    add_run(s, 1, 1, image + qw * step, offset + t, line + qw * s.C, sums + (t0 + t) * s.C)
                qw += 1
        t0 += count


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
    cdef Py_ssize_t item = sizeof(floating), slice_, line, c, t, lines, slices, rounds, i, first, count
    cdef floating total
    s.N, s.IH, s.IW, s.C = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    s.QH, s.QW, s.T = grad_output.shape[1], grad_output.shape[2], taps.shape[1]
    s.step_h, s.step_w = step_h, step_w
    if s.N == 0:
        grad_weight[:, :] = 0
        return
    lines = s.N * s.QH
    slices = min(lines, <Py_ssize_t>SLICES)
    find_inner(&s, taps)
    cdef Block scratch = Block(num_threads * DEPTHWISE_TAPS * sizeof(Py_ssize_t) + slices * s.T * s.C * item)
    cdef Py_ssize_t* offsets = <Py_ssize_t*>scratch.address
    cdef floating* partial = <floating*>(offsets + num_threads * DEPTHWISE_TAPS)
    cdef const floating* image = &x[0, 0, 0, 0]
    cdef const floating* gradient = &grad_output[0, 0, 0, 0]
    cdef const Py_ssize_t* tap_h = &taps[0, 0]
    cdef const Py_ssize_t* tap_w = &taps[1, 0]
    memset(partial, 0, slices * s.T * s.C * item)
    # In rounds of some 10 ms a core, between which a pending Ctrl-C is heard.
    rounds = 1 + <Py_ssize_t>(<double>lines * s.QW * s.C * s.T / (2e8 * min(slices, <Py_ssize_t>num_threads)))
    for i in range(rounds):
        for slice_ in prange(slices, nogil=True, num_threads=num_threads, schedule="static"):
            first = share_start(lines, slices, slice_)
            count = share_start(lines, slices, slice_ + 1) - first
            for line in range(first + share_start(count, rounds, i), first + share_start(count, rounds, i + 1)):
                add_line(
                    &s, line // s.QH, line % s.QH, image, gradient, tap_h, tap_w,
                    offsets + this_thread() * DEPTHWISE_TAPS, partial + slice_ * s.T * s.C)
        PyErr_CheckSignals()
    for c in range(s.C):
        for t in range(s.T):
            total = 0
            for slice_ in range(slices):
                total += partial[(slice_ * s.T + t) * s.C + c]
            grad_weight[c, t] = total
