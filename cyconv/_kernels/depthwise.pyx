"""Depthwise convolution as a sum over taps: one filter a channel, vectors over channels.

    out[n, qh, qw, c] = bias[c] + sum over t of x[n, qh*step_h + tap_h[t], qw*step_w + tap_w[t], c] * weight[t, c]

A block of output rows and a few channels at a time: their part of the image is copied, with its border of zeros, into
a band that stays in the inner caches. So no pixel is special, and the tile's reads lie close together.
"""

from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memset

from cyconv._kernels.pack cimport copy_band
from cyconv._kernels.parallel cimport ceil_div, share_start, this_thread
from cyconv._kernels.simd cimport DEPTHWISE_TAPS, depthwise_pixels, depthwise_products, lanes
from cyconv._memory cimport Block

cdef enum:
    BAND_BYTES = 192 << 10  # of a block's band, in L2
    VECTORS = 4             # of channels in a band: long runs of memory, and the lines that a filter covers fit L1
    PIXELS = 56             # that the weight gradient runs over before it changes channels
    SLICES = 32             # of the weight gradient's sum, at most
    SEGMENT = 200000000     # multiply-adds a thread between two looks for a pending Ctrl-C


cdef struct Plan:
    Py_ssize_t N, IH, IW, QH, QW, C, T
    Py_ssize_t step_h, step_w, top, left
    Py_ssize_t channels, channel_blocks            # of a band; the last may have fewer
    Py_ssize_t band_h, band_w, band_size           # pixels, pixels, numbers
    Py_ssize_t block_rows, blocks_per_image, blocks
    Py_ssize_t out_n, out_h, out_w


cdef void make_plan(Plan* s, const Py_ssize_t[:, ::1] taps, Py_ssize_t L, Py_ssize_t item) noexcept:
    """Cut the output into blocks of rows whose band fits the cache; by the shape alone."""
    cdef Py_ssize_t bottom = 0, right = 0, t, rows
    s.top = s.left = 0
    for t in range(s.T):
        s.top = min(s.top, taps[0, t]) if t else taps[0, t]
        s.left = min(s.left, taps[1, t]) if t else taps[1, t]
        bottom = max(bottom, taps[0, t]) if t else taps[0, t]
        right = max(right, taps[1, t]) if t else taps[1, t]
    s.channels = min(s.C, VECTORS * L)
    s.channel_blocks = ceil_div(s.C, s.channels)
    s.band_w = (s.QW - 1) * s.step_w + right - s.left + 1
    rows = max(1, (BAND_BYTES // (s.band_w * s.channels * item) - (bottom - s.top)) // s.step_h)
    s.blocks_per_image = ceil_div(s.QH, rows)
    s.block_rows = ceil_div(s.QH, s.blocks_per_image)
    s.blocks = s.N * s.blocks_per_image
    s.band_h = (s.block_rows - 1) * s.step_h + bottom - s.top + 1
    s.band_size = ceil_div(s.band_h * s.band_w * s.channels * item, 64) * 64 // item


cdef Py_ssize_t load_band(
    Plan* s, Py_ssize_t block, Py_ssize_t c0, Py_ssize_t channels, const floating* x, floating* band,
) noexcept nogil:
    """Copy a block's part of the image; return how many output rows the block has."""
    cdef Py_ssize_t n = block // s.blocks_per_image, part = block % s.blocks_per_image
    cdef Py_ssize_t q0 = share_start(s.QH, s.blocks_per_image, part)
    cdef Py_ssize_t rows = share_start(s.QH, s.blocks_per_image, part + 1) - q0
    copy_band(
        x + n * s.IH * s.IW * s.C + c0, s.IH, s.IW, s.C, channels, q0 * s.step_h + s.top, s.left,
        s.band_h - (s.block_rows - rows) * s.step_h, s.band_w, band)
    return rows


cdef void set_offsets(
    Plan* s, const Py_ssize_t* tap_h, const Py_ssize_t* tap_w, Py_ssize_t channels, Py_ssize_t* offset,
) noexcept nogil:
    """Distances in the band of each tap from the pixel of tap (top, left)."""
    cdef Py_ssize_t t
    for t in range(s.T):
        offset[t] = ((tap_h[t] - s.top) * s.band_w + tap_w[t] - s.left) * channels


cdef void run_task(
    Plan* s, Py_ssize_t task, const floating* x, const floating* weight, const floating* bias,
    const Py_ssize_t* tap_h, const Py_ssize_t* tap_w, Py_ssize_t* offset, floating* band, floating* out,
) noexcept nogil:
    """One block of output rows, some vectors of channels; channels left over go one by one."""
    cdef Py_ssize_t block = task // s.channel_blocks, c0 = task % s.channel_blocks * s.channels
    cdef Py_ssize_t channels = min(s.channels, s.C - c0), step = s.step_w * channels
    cdef Py_ssize_t vectors = channels // lanes(x)
    cdef Py_ssize_t rows = load_band(s, block, c0, channels, x, band), row, c, qw, t
    cdef Py_ssize_t q0 = share_start(s.QH, s.blocks_per_image, block % s.blocks_per_image)
    cdef floating* target
    cdef const floating* line
    cdef floating total
    set_offsets(s, tap_h, tap_w, channels, offset)
    for row in range(rows):
        line = band + row * s.step_h * s.band_w * channels
        target = out + block // s.blocks_per_image * s.out_n + (q0 + row) * s.out_h + c0
        depthwise_pixels(vectors, s.QW, s.T, line, step, offset, weight + c0, s.C, bias + c0, target, s.out_w)
        for qw in range(s.QW):
            for c in range(vectors * lanes(x), channels):
                total = bias[c0 + c]
                for t in range(s.T):
                    total += line[qw * step + offset[t] + c] * weight[t * s.C + c0 + c]
                target[qw * s.out_w + c] = total


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
    cdef Py_ssize_t item = sizeof(floating), task, tasks, start, stop, segment, i
    s.N, s.IH, s.IW, s.C = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    s.QH, s.QW, s.T = out.shape[1], out.shape[2], taps.shape[1]
    s.step_h, s.step_w = step_h, step_w
    s.out_n, s.out_h, s.out_w = out.strides[0] // item, out.strides[1] // item, out.strides[2] // item
    if s.N == 0 or s.QH == 0 or s.QW == 0:
        return
    cdef floating* target = &out[0, 0, 0, 0]
    make_plan(&s, taps, lanes(target), item)
    tasks = s.blocks * s.channel_blocks
    cdef Block scratch = Block(num_threads * (s.band_size * item + s.T * sizeof(Py_ssize_t)) + s.C * item)
    cdef floating* bands = <floating*>scratch.address
    cdef Py_ssize_t* offsets = <Py_ssize_t*>(bands + num_threads * s.band_size)
    cdef floating* first = <floating*>(offsets + num_threads * s.T)
    for i in range(s.C):
        first[i] = bias[i] if bias is not None else 0
    cdef const floating* image = &x[0, 0, 0, 0]
    cdef const floating* weights = &weight[0, 0] if s.T else NULL
    cdef const Py_ssize_t* tap_h = &taps[0, 0] if s.T else NULL
    cdef const Py_ssize_t* tap_w = &taps[1, 0] if s.T else NULL
    segment = max(num_threads, <Py_ssize_t>(
        tasks * min(1.0, <double>SEGMENT * num_threads / (<double>s.N * s.QH * s.QW * s.C * (s.T + 1)))))
    for start in range(0, tasks, segment):
        stop = min(start + segment, tasks)
        for task in prange(start, stop, nogil=True, num_threads=num_threads, schedule="static"):
            run_task(
                &s, task, image, weights, first, tap_h, tap_w, offsets + this_thread() * s.T,
                bands + this_thread() * s.band_size, target)
        PyErr_CheckSignals()


cdef void add_block(
    Plan* s, Py_ssize_t block, Py_ssize_t c0, const floating* x, const floating* grad_output,
    const Py_ssize_t* tap_h, const Py_ssize_t* tap_w, Py_ssize_t run, Py_ssize_t* offset, floating* band,
    floating* sums,  # [T, C]
) noexcept nogil:
    """Add one block's products to its channels' sums, `run` taps at a time."""
    cdef Py_ssize_t channels = min(s.channels, s.C - c0), step = s.step_w * channels
    cdef Py_ssize_t vectors = channels // lanes(x)
    cdef Py_ssize_t line = s.step_h * s.band_w * channels
    cdef Py_ssize_t rows = load_band(s, block, c0, channels, x, band), c, t, row = 0, qw, v, lines, L = lanes(x)
    cdef Py_ssize_t q0 = share_start(s.QH, s.blocks_per_image, block % s.blocks_per_image)
    cdef const floating* g = grad_output + (block // s.blocks_per_image * s.QH + q0) * s.QW * s.C + c0
    cdef floating total
    set_offsets(s, tap_h, tap_w, channels, offset)
    while row < rows:  # a few lines at a time stay in L1 for all taps and vectors
        lines = min(rows - row, ceil_div(PIXELS, s.QW))
        for v in range(vectors):
            t = 0
            while t < s.T:
                depthwise_products(
                    min(run, s.T - t), lines, s.QW, band + row * line + v * L, line, step, offset + t,
                    g + row * s.QW * s.C + v * L, s.QW * s.C, s.C, sums + t * s.C + c0 + v * L, s.C)
                t += run
        row += lines
    for t in range(s.T):
        for c in range(vectors * L, channels):
            total = 0
            for row in range(rows):
                for qw in range(s.QW):
                    total += band[row * line + qw * step + offset[t] + c] * g[(row * s.QW + qw) * s.C + c]
            sums[t * s.C + c0 + c] += total


def weight_gradient(
    const floating[:, :, :, ::1] x,            # IN [N, IH, IW, C]
    const floating[:, :, :, ::1] grad_output,  # IN [N, QH, QW, C]
    const Py_ssize_t[:, ::1] taps,             # IN [2, T]
    Py_ssize_t step_h, Py_ssize_t step_w,
    Py_ssize_t KW,                             # taps of a filter's row
    floating[:, ::1] grad_weight,              # OUT [C, T]
    int num_threads,
):
    """grad_weight[c, t] = sum over pixels of x at the tap * grad_output; blocks summed in slices set by the shape."""
    cdef Plan s
    cdef Py_ssize_t item = sizeof(floating), task, slices, slice_, block, c0, c, t, run, rounds, i, first, count
    s.N, s.IH, s.IW, s.C = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    s.QH, s.QW, s.T = grad_output.shape[1], grad_output.shape[2], taps.shape[1]
    s.step_h, s.step_w = step_h, step_w
    if s.N == 0:
        grad_weight[:, :] = 0
        return
    make_plan(&s, taps, lanes(&grad_weight[0, 0]), item)
    slices = min(s.blocks, <Py_ssize_t>SLICES)
    run = s.T if s.T <= DEPTHWISE_TAPS else min(KW, DEPTHWISE_TAPS)
    cdef Block scratch = Block(
        num_threads * (s.band_size * item + s.T * sizeof(Py_ssize_t)) + slices * s.T * s.C * item)
    cdef floating* bands = <floating*>scratch.address
    cdef Py_ssize_t* offsets = <Py_ssize_t*>(bands + num_threads * s.band_size)
    cdef floating* partial = <floating*>(offsets + num_threads * s.T)
    cdef const floating* image = &x[0, 0, 0, 0]
    cdef const floating* gradient = &grad_output[0, 0, 0, 0]
    cdef const Py_ssize_t* tap_h = &taps[0, 0]
    cdef const Py_ssize_t* tap_w = &taps[1, 0]
    memset(partial, 0, slices * s.T * s.C * item)
    # In rounds of some 10 ms a core, between which a pending Ctrl-C is heard.
    rounds = 1 + <Py_ssize_t>(<double>s.N * s.QH * s.QW * s.C * s.T / (2e8 * min(slices, <Py_ssize_t>num_threads)))
    for i in range(rounds):
        for task in prange(slices * s.channel_blocks, nogil=True, num_threads=num_threads, schedule="static"):
            slice_ = task // s.channel_blocks
            c0 = task % s.channel_blocks * s.channels
            first = share_start(s.blocks, slices, slice_)
            count = share_start(s.blocks, slices, slice_ + 1) - first
            for block in range(first + share_start(count, rounds, i), first + share_start(count, rounds, i + 1)):
                add_block(
                    &s, block, c0, image, gradient, tap_h, tap_w, run, offsets + this_thread() * s.T,
                    bands + this_thread() * s.band_size, partial + slice_ * s.T * s.C)
        PyErr_CheckSignals()
    for i in range(1, slices):
        for t in range(s.T * s.C):
            partial[t] += partial[i * s.T * s.C + t]
    for c in range(s.C):
        for t in range(s.T):
            grad_weight[c, t] = partial[t * s.C + c]
