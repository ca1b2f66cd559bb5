"""Convolution to a few channels, as a sum over taps: vectors along pixels, weights broadcast.

    out[n, qh, qw, oc] = relu?(bias[oc] + addend[n, qh, qw, oc]
                               + sum over t, c of x[n, qh + tap_h[t], qw + tap_w[t], c] * weight[oc, t, c])

A handful of output channels would leave most of a vector's lanes idle. So a band of the image is turned into planes,
one a channel, with their border of zeros. There a tap is a distance, and the register tile runs over pixels: its rows
are the filters, its columns whole runs of the band, line ends included, whose results are dropped. A single tap on
whole vectors of channels needs no planes: it takes dot products along these (dots.h).
"""

from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport INFINITY
from libc.string cimport memcpy, memset

from cyconv._kernels.pack cimport copy_planes
from cyconv._kernels.parallel cimport LINE, ceil_div, next_line, segment_tasks, share_start, this_thread
from cyconv._kernels.simd cimport (
    TILE_ROWS, TILE_VECTORS, WIDE_ROWS, lanes, piece, tile, to_pixels, wide_tile, wide_vectors)
from cyconv._kernels.taps cimport run_length
from cyconv._memory cimport Block

cdef extern from "dots.h" nogil:
    void dots_float "cyconv_dots_float"(
        Py_ssize_t M, Py_ssize_t C, const float* x, const float* w, float* out, Py_ssize_t out_step)
    void dots_double "cyconv_dots_double"(
        Py_ssize_t M, Py_ssize_t C, const double* x, const double* w, double* out, Py_ssize_t out_step)

cdef enum:
    BAND_BYTES = 256 << 10  # of a task's planes, in L2
    FEW = 8                 # channels of the image below which a line of taps makes the longer inner loop


cdef struct Plan:
    Py_ssize_t N, IH, IW, C, OC, T, QH, QW          # QH, QW of the largest phase
    Py_ssize_t top, left, band_h, band_w, plane     # of the band around all taps; numbers of a plane
    Py_ssize_t block_rows, blocks_per_image, width  # of the tile, in numbers
    Py_ssize_t scratch_bytes
    bint whole                                      # whether there is one phase, of all rows
    bint dots                                       # whether it takes dot products


cdef struct Phase:
    Py_ssize_t QH, QW, batch, K, a_step, ldb        # of its outputs; of the tile
    Py_ssize_t first                                # number of its offsets before it
    Py_ssize_t out_first


cdef void interleave(
    const floating* planes, Py_ssize_t plane, Py_ssize_t C, Py_ssize_t count,  # IN [C, count]
    const floating* bias, bint relu, const floating* addend,  # IN, laid out as the pixels, or NULL
    floating* pixels, Py_ssize_t step,  # OUT [count, C], pixels so many numbers apart
    const floating* end,                # of the memory that may be written before the next line is
) noexcept nogil:
    """Write a line of pixels, a vector of them at a time."""
    cdef floating buffer[16 * 16]
    cdef floating least = 0 if relu else -INFINITY, value
    cdef Py_ssize_t L = lanes(planes), i = 0, p, c, some
    while i < count:
        some = min(L, count - i)
        if C <= L and addend == NULL and step == C:
            if end - (pixels + i * C) >= (L - 1) * C + piece(planes, C):
                to_pixels(planes + i, plane, C, bias, relu, pixels + i * C, C)
            else:
                to_pixels(planes + i, plane, C, bias, relu, &buffer[0], C)
                memcpy(pixels + i * C, &buffer[0], some * C * sizeof(floating))
        else:
            for p in range(i, i + some):
                for c in range(C):
                    value = planes[c * plane + p] + (bias[c] if bias != NULL else 0)
                    value += addend[p * step + c] if addend != NULL else 0
                    pixels[p * step + c] = least if value < least else value
        i += L


cdef inline void dot_products(
    Plan* s, const floating* pixels, const floating* weight, floating* out, Py_ssize_t out_step,
) noexcept nogil:
    if floating is float:
        dots_float(s.OC, s.C, pixels, weight, out, out_step)
    else:
        dots_double(s.OC, s.C, pixels, weight, out, out_step)


cdef void run_task(
    Plan* s, Py_ssize_t task, const Phase* phases, Py_ssize_t F, const Py_ssize_t* a_offset,
    const Py_ssize_t* b_offset, const floating* x, const floating* weight, const floating* bias,
    const floating* addend, bint relu,
    Py_ssize_t out_n, Py_ssize_t out_h, Py_ssize_t out_w, floating* out, char* scratch,
) noexcept nogil:
    """One block of rows, all phases."""
    cdef Py_ssize_t n = task // s.blocks_per_image, part = task % s.blocks_per_image
    cdef Py_ssize_t q0 = share_start(s.QH, s.blocks_per_image, part)
    cdef Py_ssize_t q1 = share_start(s.QH, s.blocks_per_image, part + 1)
    cdef Py_ssize_t columns = ceil_div(s.block_rows * s.band_w, s.width) * s.width, L = lanes(x)
    cdef floating* band = <floating*>scratch
    cdef floating* result = band + s.C * s.plane + s.width
    cdef const floating** rows = <const floating**>next_line(result + s.OC * columns + L)
    cdef floating** c_rows = <floating**>(rows + s.OC)
    cdef const Phase* phase
    cdef Py_ssize_t f, m, m0, p, q, stop, line
    if s.dots:
        for q in range(q0, q1):
            p = 0
            while p < s.QW:
                p = min(p, s.QW - L)  # the last of them may do some pixels again
                dot_products(
                    s, x + ((n * s.IH + q) * s.IW + p) * s.C, weight, result + (q - q0) * s.QW + p, columns)
                p += L
            line = n * out_n + q * out_h
            interleave(
                result + (q - q0) * s.QW, columns, s.OC, s.QW, bias, relu, addend + line if addend != NULL else NULL,
                out + line, out_w, out + n * out_n + q1 * out_h)
        return
    copy_planes(
        x + n * s.IH * s.IW * s.C, x + s.N * s.IH * s.IW * s.C, s.IH, s.IW, s.C, s.C, q0 + s.top, s.left,
        q1 - q0 + s.band_h - s.block_rows, s.band_w, band, s.plane)
    memset(band + s.C * s.plane, 0, s.width * sizeof(floating))
    for m in range(s.OC):
        rows[m] = weight + m * s.T * s.C
        c_rows[m] = result + m * columns
    for f in range(F):
        phase = phases + f
        stop = min(q1, phase.QH)
        p = 0
        while p < (stop - q0 - 1) * s.band_w + phase.QW:
            if s.OC <= WIDE_ROWS:
                wide_tile(
                    s.OC, phase.batch, phase.K, rows, a_offset + phase.first, phase.a_step, band + p,
                    b_offset + phase.first, phase.ldb, c_rows, p, s.width, <const floating*>NULL, 0)
            else:
                for m in range(ceil_div(s.OC, TILE_ROWS)):
                    m0 = m * TILE_ROWS
                    tile(
                        min(TILE_ROWS, s.OC - m0), phase.batch, phase.K, rows + m0, a_offset + phase.first,
                        phase.a_step, band + p, b_offset + phase.first, phase.ldb, c_rows + m0, p, s.width,
                        <const floating*>NULL, 0)
            p += s.width
        for q in range(q0, stop):
            line = n * out_n + q * out_h + phase.out_first
            interleave(
                result + (q - q0) * s.band_w, columns, s.OC, phase.QW, bias, relu,
                addend + line if addend != NULL else NULL, out + line, out_w,
                out + n * out_n + stop * out_h if s.whole else out + line + phase.QW * s.OC)


def conv_taps(
    const floating[:, :, :, ::1] x,   # IN [N, IH, IW, C]
    const floating[:, :, ::1] weight,  # IN [OC, T, C]
    const floating[::1] bias,         # IN [OC], or None
    const floating[:, :, :, ::1] addend,  # IN [N, OH, OW, OC], or None; may be out itself
    const Py_ssize_t[:, ::1] taps,    # IN [2, T] displacements in the input, rows above columns
    const Py_ssize_t[:, ::1] phases,  # IN [F, 4] first tap, number of taps, first row and column of the output
    Py_ssize_t phase_h, Py_ssize_t phase_w,
    floating[:, :, :, ::1] out,       # OUT [N, OH, OW, OC]
    bint relu, int num_threads,
):
    """Sum over taps as the module says; x counts as zero outside its bounds.

    Each phase fills every phase_h-th row and phase_w-th column with the sum over its own taps.
    """
    cdef Plan s
    cdef Py_ssize_t item = sizeof(floating), F = phases.shape[0], OH = out.shape[1], OW = out.shape[2]
    cdef Py_ssize_t bottom, right, t, i, f, c, run, task, tasks, start, stop, segment, first
    s.N, s.IH, s.IW, s.C, s.OC, s.T = x.shape[0], x.shape[1], x.shape[2], x.shape[3], weight.shape[0], weight.shape[1]
    if s.N == 0:
        return
    s.QH, s.QW = ceil_div(OH, phase_h), ceil_div(OW, phase_w)
    s.top = bottom = taps[0, 0] if s.T else 0
    s.left = right = taps[1, 0] if s.T else 0
    for t in range(s.T):
        s.top, bottom = min(s.top, taps[0, t]), max(bottom, taps[0, t])
        s.left, right = min(s.left, taps[1, t]), max(right, taps[1, t])
    s.width = (wide_vectors(s.OC) if s.OC <= WIDE_ROWS else TILE_VECTORS) * lanes(&out[0, 0, 0, 0])
    s.band_w = s.QW + right - s.left
    s.block_rows = max(1, min(s.QH, BAND_BYTES // (item * s.C * s.band_w) - (bottom - s.top)))
    s.blocks_per_image = max(ceil_div(s.QH, s.block_rows), min(s.QH, ceil_div(3 * num_threads, s.N)))
    s.block_rows = ceil_div(s.QH, s.blocks_per_image)
    s.band_h = s.block_rows + bottom - s.top
    s.plane = s.band_h * s.band_w + lanes(&out[0, 0, 0, 0])
    s.whole = F == 1 and phase_h == 1  # of a larger stride all but one phase may be left out
    s.dots = (
        s.T == 1 and s.whole and phase_w == 1 and taps[0, 0] == taps[1, 0] == 0 and s.QH == s.IH and s.QW == s.IW
        and s.C % lanes(&out[0, 0, 0, 0]) == 0 and s.QW >= lanes(&out[0, 0, 0, 0]))
    # The tile runs over the end of the last plane by less than its width, and a tap's distance is within the plane.
    s.scratch_bytes = ceil_div(
        (s.C * s.plane + s.width + s.OC * (s.block_rows * s.band_w + s.width) + lanes(&out[0, 0, 0, 0])) * item
        + LINE + 2 * s.OC * <Py_ssize_t>sizeof(void*), LINE) * LINE

    cdef Block block = Block(
        num_threads * s.scratch_bytes + F * sizeof(Phase) + 2 * s.T * s.C * sizeof(Py_ssize_t))
    cdef char* bands = <char*>block.address
    cdef Phase* plans = <Phase*>(bands + num_threads * s.scratch_bytes)
    cdef Py_ssize_t* a_offset = <Py_ssize_t*>(plans + F)
    cdef Py_ssize_t* b_offset = a_offset + s.T * s.C
    cdef const floating* start_bias = &bias[0] if bias is not None else NULL
    i = 0
    for f in range(F):
        first = phases[f, 0]
        plans[f].QH, plans[f].QW = ceil_div(OH - phases[f, 2], phase_h), ceil_div(OW - phases[f, 3], phase_w)
        plans[f].out_first = (phases[f, 2] * OW + phases[f, 3]) * s.OC
        plans[f].first = i
        run = run_length(&taps[0, first], &taps[1, first], phases[f, 1]) if phases[f, 1] else 1
        if s.C >= FEW or run <= s.C:
            plans[f].batch, plans[f].K, plans[f].a_step, plans[f].ldb = phases[f, 1], s.C, 1, s.plane
            for t in range(first, first + phases[f, 1]):
                a_offset[i] = t * s.C
                b_offset[i] = (taps[0, t] - s.top) * s.band_w + taps[1, t] - s.left
                i += 1
        else:
            plans[f].batch, plans[f].K, plans[f].a_step, plans[f].ldb = phases[f, 1] // run * s.C, run, s.C, 1
            for t in range(first, first + phases[f, 1]):
                if (t - first) % run:
                    continue
                for c in range(s.C):
                    a_offset[i] = t * s.C + c
                    b_offset[i] = c * s.plane + (taps[0, t] - s.top) * s.band_w + taps[1, t] - s.left
                    i += 1

    cdef const floating* image = &x[0, 0, 0, 0]
    cdef const floating* filters = &weight[0, 0, 0] if s.T else NULL
    cdef const floating* added = &addend[0, 0, 0, 0] if addend is not None else NULL
    cdef floating* target = &out[0, 0, 0, 0]
    cdef Py_ssize_t out_n = OH * OW * s.OC, out_h = phase_h * OW * s.OC, out_w = phase_w * s.OC
    tasks = s.N * s.blocks_per_image
    segment = segment_tasks(tasks, <double>s.N * s.QH * s.QW * s.OC * s.T * s.C, num_threads)
    for start in range(0, tasks, segment):
        stop = min(start + segment, tasks)
        for task in prange(start, stop, nogil=True, num_threads=num_threads, schedule="static"):
            run_task(
                &s, task, plans, F, a_offset, b_offset, image, filters, start_bias, added, relu, out_n, out_h, out_w,
                target, bands + this_thread() * s.scratch_bytes)
        PyErr_CheckSignals()
