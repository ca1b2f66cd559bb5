"""Depthwise convolution as a sum over taps: one filter a channel, vectors over channels.

    out[n, qh, qw, c] = bias[c] + addend[n, qh, qw, c]
                      + sum over t of x[n, qh*step_h + tap_h[t], qw*step_w + tap_w[t], c] * weight[t, c]

The image is read in place. A task walks down a block of output rows, a tile of columns and a few channels at a time,
so that the lines that a filter covers stay in L1 from one row to the next.
"""

from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memset

from cyconv._kernels.lines cimport shared_run, tile_pixels, widest
from cyconv._kernels.parallel cimport ceil_div, share_start, this_thread
from cyconv._kernels.simd cimport ADD_ARRAY, RELU, distance, finish_of, lanes
from cyconv._memory cimport Block

cdef extern from "depthwise.h" nogil:
    void filter_float "cyconv_filter_float"(
        Py_ssize_t kind, Py_ssize_t pixels, Py_ssize_t rows, const float** x, const float** w, Py_ssize_t w_step,
        Py_ssize_t channels, Py_ssize_t done, const float* bias, Py_ssize_t addend, int finish,
        float* out, Py_ssize_t out_step, Py_ssize_t ahead)
    void filter_double "cyconv_filter_double"(
        Py_ssize_t kind, Py_ssize_t pixels, Py_ssize_t rows, const double** x, const double** w, Py_ssize_t w_step,
        Py_ssize_t channels, Py_ssize_t done, const double* bias, Py_ssize_t addend, int finish,
        double* out, Py_ssize_t out_step, Py_ssize_t ahead)
    void products_float "cyconv_products_float"(
        Py_ssize_t kind, Py_ssize_t pixels, Py_ssize_t rows, const float** x, Py_ssize_t channels,
        const float* g, Py_ssize_t g_step, float* sums, Py_ssize_t sums_step)
    void products_double "cyconv_products_double"(
        Py_ssize_t kind, Py_ssize_t pixels, Py_ssize_t rows, const double** x, Py_ssize_t channels,
        const double* g, Py_ssize_t g_step, double* sums, Py_ssize_t sums_step)

cdef enum:
    VECTORS = 8          # of channels in a task: three lines of 16 pixels of them take half of L1
    TASKS = 64           # wanted, so that uneven ones still balance; by the shape alone
    LEAST_ROWS = 8       # of a block, which reads the lines above and below it too
    SLICES = 32          # of the weight gradient's sum, at most
    SEGMENT = 200000000  # multiply-adds a thread between two looks for a pending Ctrl-C


cdef struct Plan:
    Py_ssize_t N, IH, IW, QH, QW, C, T
    Py_ssize_t step_h, step_w, first_tap
    Py_ssize_t run, rows, kind, column_step         # taps that share pixels, runs of them, the tile's kind
    Py_ssize_t channels, channel_blocks             # of a task; the last may have fewer
    Py_ssize_t blocks_per_image, blocks
    Py_ssize_t out_n, out_h, out_w, out_first       # steps, and where the outputs start
    Py_ssize_t scratch_bytes
    Py_ssize_t addend                               # bytes from out to it
    int finish                                      # what happens before a result is stored
    const Py_ssize_t* tap_h
    const Py_ssize_t* tap_w


cdef void make_plan(Plan* s, Py_ssize_t L, Py_ssize_t item) noexcept:
    """Cut the work into tasks, by the shape alone."""
    cdef Py_ssize_t stride
    s.run = shared_run(s.T, s.tap_h, s.tap_w, s.step_w)
    s.rows = s.T // s.run
    stride = s.step_w if s.run > 1 else 1
    s.column_step = 1 if s.run > 1 else s.step_w
    s.kind = s.run + 8 * stride
    s.channels = min(s.C, VECTORS * L)
    s.channel_blocks = ceil_div(s.C, s.channels)
    s.blocks_per_image = max(1, min(ceil_div(TASKS, s.N * s.channel_blocks), s.QH // LEAST_ROWS))
    s.blocks = s.N * s.blocks_per_image
    cdef Py_ssize_t pixels = s.rows * ((tile_pixels[0] - 1) * stride + s.run)
    s.scratch_bytes = ceil_div(
        pixels * <Py_ssize_t>(sizeof(void*) + sizeof(Py_ssize_t)) + s.rows * <Py_ssize_t>sizeof(void*), 64) * 64


cdef void set_offsets(Plan* s, Py_ssize_t first, Py_ssize_t columns, Py_ssize_t* offset) noexcept nogil:
    """Distances from the start of their line of a tile's pixels, -1 for those outside."""
    cdef Py_ssize_t r, j, w
    for r in range(s.rows):
        for j in range(columns):
            w = first * s.step_w + s.tap_w[r * s.run] + j * s.column_step
            offset[r * columns + j] = w * s.C if 0 <= w < s.IW else -1


cdef inline void set_line(
    const floating* line, const Py_ssize_t* offset, Py_ssize_t columns, const floating* zeros, const floating** pixels,
) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(columns):
        pixels[j] = line + offset[j] if offset[j] >= 0 else zeros


cdef inline Py_ssize_t columns_of(Plan* s, Py_ssize_t pixels) noexcept nogil:
    return (pixels - 1) * (s.kind // 8) + s.run


cdef void run_task(
    Plan* s, Py_ssize_t task, const floating* x, const floating* weight, const floating* bias, const floating* zeros,
    char* scratch, floating* out,
) noexcept nogil:
    """One block of output rows, some vectors of channels."""
    cdef Py_ssize_t block = task // s.channel_blocks, n = block // s.blocks_per_image
    cdef Py_ssize_t start = task % s.channel_blocks * s.channels
    cdef Py_ssize_t c0 = min(start, s.C - lanes(x)), channels = min(s.channels, s.C - c0)
    cdef Py_ssize_t q0 = share_start(s.QH, s.blocks_per_image, block % s.blocks_per_image)
    cdef Py_ssize_t q1 = share_start(s.QH, s.blocks_per_image, block % s.blocks_per_image + 1)
    cdef Py_ssize_t pixels = widest(s.QW), columns = columns_of(s, pixels), first = 0, q, r, h, rows
    cdef const floating** table = <const floating**>scratch
    cdef const floating** filters = table + s.rows * columns
    cdef Py_ssize_t* offset = <Py_ssize_t*>(filters + s.rows)
    cdef floating* target
    while first < s.QW:
        if s.finish & ADD_ARRAY:
            pixels = widest(s.QW - first)
            columns = columns_of(s, pixels)
        else:
            first = min(first, s.QW - pixels)  # the last tile may do some pixels of the one before it again
        set_offsets(s, first, columns, offset)
        for q in range(q0, q1):
            rows = 0
            for r in range(s.rows):
                h = q * s.step_h + s.tap_h[r * s.run]
                if 0 <= h < s.IH:
                    set_line(
                        x + (n * s.IH + h) * s.IW * s.C + c0, offset + r * columns, columns, zeros,
                        table + rows * columns)
                    filters[rows] = weight + (s.first_tap + r * s.run) * s.C + c0
                    rows += 1
            target = out + n * s.out_n + s.out_first + q * s.out_h + first * s.out_w + c0
            if floating is float:
                filter_float(
                    s.kind, pixels, rows, table, filters, s.C, channels, start - c0, bias + c0, s.addend, s.finish,
                    target, s.out_w, s.out_h if q + 1 < q1 and s.step_w == 1 else 0)
            else:
                filter_double(
                    s.kind, pixels, rows, table, filters, s.C, channels, start - c0, bias + c0, s.addend, s.finish,
                    target, s.out_w, s.out_h if q + 1 < q1 and s.step_w == 1 else 0)
        first += pixels


cdef void run_narrow(
    Plan* s, Py_ssize_t n, const floating* x, const floating* weight, const floating* bias, floating* out,
) noexcept nogil:
    """One image of fewer channels than a vector has numbers."""
    cdef Py_ssize_t q, qw, c, t, h, w
    cdef floating total
    cdef floating* target
    for q in range(s.QH):
        for qw in range(s.QW):
            for c in range(s.C):
                total = bias[c]
                for t in range(s.T):
                    h = q * s.step_h + s.tap_h[t]
                    w = qw * s.step_w + s.tap_w[t]
                    if 0 <= h < s.IH and 0 <= w < s.IW:
                        total += x[((n * s.IH + h) * s.IW + w) * s.C + c] * weight[(s.first_tap + t) * s.C + c]
                target = out + n * s.out_n + s.out_first + q * s.out_h + qw * s.out_w + c
                if s.finish & ADD_ARRAY:
                    total += (<const floating*>(<const char*>target + s.addend))[0]
                target[0] = 0 if s.finish & RELU and total < 0 else total


def conv_taps(
    const floating[:, :, :, ::1] x,     # IN [N, IH, IW, C]
    const floating[:, ::1] weight,      # IN [T, C]
    const floating[::1] bias,           # IN [C], or None
    const floating[:, :, :, ::1] addend,  # IN [N, OH, OW, C], or None; may be out itself
    const Py_ssize_t[:, ::1] taps,      # IN [2, T] displacements in the input, rows above columns
    Py_ssize_t step_h, Py_ssize_t step_w,
    const Py_ssize_t[:, ::1] phases,    # IN [F, 4] first tap, number of taps, first row and column of the output
    Py_ssize_t phase_h, Py_ssize_t phase_w,
    floating[:, :, :, ::1] out,         # OUT [N, OH, OW, C]
    bint relu,
    int num_threads,
):
    """Sum over taps as the module says; x counts as zero outside its bounds.

    Each phase fills every phase_h-th row and phase_w-th column with the sum over its own taps, of negative results with
    zero where `relu` asks for it.
    """
    cdef Py_ssize_t item = sizeof(floating), F = phases.shape[0], C = x.shape[3], OH = out.shape[1], OW = out.shape[2]
    cdef Py_ssize_t task, tasks, start, stop, segment, i, f, scratch_bytes = 0
    if x.shape[0] == 0:
        return
    cdef floating* target = &out[0, 0, 0, 0]
    cdef const floating* other = &addend[0, 0, 0, 0] if addend is not None else NULL
    cdef bint narrow = C < lanes(target)
    cdef Block plan_block = Block(F * sizeof(Plan))
    cdef Plan* plans = <Plan*>plan_block.address
    cdef Plan* s
    for f in range(F):
        s = plans + f
        s.N, s.IH, s.IW, s.C = x.shape[0], x.shape[1], x.shape[2], C
        s.QH, s.QW = ceil_div(OH - phases[f, 2], phase_h), ceil_div(OW - phases[f, 3], phase_w)
        s.step_h, s.step_w = step_h, step_w
        s.out_n, s.out_h, s.out_w = OH * OW * C, phase_h * OW * C, phase_w * C
        s.out_first = (phases[f, 2] * OW + phases[f, 3]) * C
        s.addend, s.finish = distance(other, target), finish_of(other, relu)
        s.T, s.first_tap = phases[f, 1], phases[f, 0]
        if s.T:
            s.tap_h, s.tap_w = &taps[0, s.first_tap], &taps[1, s.first_tap]
        make_plan(s, lanes(target), item)
        s.blocks_per_image, s.blocks = plans.blocks_per_image, plans.blocks
        scratch_bytes = max(scratch_bytes, s.scratch_bytes)
    tasks = plans.N if narrow else plans.blocks * plans.channel_blocks
    cdef Block scratch = Block(num_threads * scratch_bytes + (C + plans.channels) * item)
    cdef char* tables = <char*>scratch.address
    cdef floating* zeros = <floating*>(tables + num_threads * scratch_bytes)
    cdef floating* first = zeros + plans.channels
    memset(zeros, 0, plans.channels * item)
    for i in range(C):
        first[i] = bias[i] if bias is not None else 0
    cdef const floating* image = &x[0, 0, 0, 0]
    cdef const floating* weights = &weight[0, 0] if weight.shape[0] else NULL
    cdef double work = <double>x.shape[0] * C * (weight.shape[0] * plans.QH * plans.QW + OH * OW)
    segment = max(num_threads, <Py_ssize_t>(tasks * min(1.0, <double>SEGMENT * num_threads / work)))
    for start in range(0, tasks, segment):
        stop = min(start + segment, tasks)
        for task in prange(start, stop, nogil=True, num_threads=num_threads, schedule="static"):
            for f in range(F):
                if narrow:
                    run_narrow(plans + f, task, image, weights, first, target)
                else:
                    run_task(
                        plans + f, task, image, weights, first, zeros, tables + this_thread() * scratch_bytes, target)
        PyErr_CheckSignals()


cdef void add_block(
    Plan* s, Py_ssize_t block, Py_ssize_t channel_block, const floating* x, const floating* grad_output,
    const floating* zeros, char* scratch,
    floating* sums,  # [vectors, T, L]
) noexcept nogil:
    """Add one block's products to its channels' sums."""
    cdef Py_ssize_t n = block // s.blocks_per_image, L = lanes(x)
    cdef Py_ssize_t c0 = min(channel_block * s.channels, s.C - L), channels = min(s.channels, s.C - c0)
    cdef Py_ssize_t q0 = share_start(s.QH, s.blocks_per_image, block % s.blocks_per_image)
    cdef Py_ssize_t q1 = share_start(s.QH, s.blocks_per_image, block % s.blocks_per_image + 1)
    cdef Py_ssize_t first = 0, pixels, columns, q, r, h, j
    cdef const floating** table = <const floating**>scratch
    cdef const floating* g
    cdef Py_ssize_t* offset
    while first < s.QW:
        pixels = widest(s.QW - first)
        columns = columns_of(s, pixels)
        offset = <Py_ssize_t*>(table + s.rows * columns)
        set_offsets(s, first, columns, offset)
        for q in range(q0, q1):
            for r in range(s.rows):
                h = q * s.step_h + s.tap_h[r * s.run]
                if 0 <= h < s.IH:
                    set_line(
                        x + (n * s.IH + h) * s.IW * s.C + c0, offset + r * columns, columns, zeros,
                        table + r * columns)
                else:
                    for j in range(columns):
                        table[r * columns + j] = zeros
            g = grad_output + ((n * s.QH + q) * s.QW + first) * s.C + c0
            if floating is float:
                products_float(s.kind, pixels, s.rows, table, channels, g, s.C, sums, s.T * L)
            else:
                products_double(s.kind, pixels, s.rows, table, channels, g, s.C, sums, s.T * L)
        first += pixels


cdef void add_narrow(
    Plan* s, Py_ssize_t block, const floating* x, const floating* grad_output,
    floating* sums,  # [T, L]
) noexcept nogil:
    """The same for fewer channels than a vector has numbers."""
    cdef Py_ssize_t n = block // s.blocks_per_image, L = lanes(x), q, qw, c, t, h, w
    cdef const floating* g
    for q in range(
        share_start(s.QH, s.blocks_per_image, block % s.blocks_per_image),
        share_start(s.QH, s.blocks_per_image, block % s.blocks_per_image + 1),
    ):
        for qw in range(s.QW):
            g = grad_output + ((n * s.QH + q) * s.QW + qw) * s.C
            for t in range(s.T):
                h = q * s.step_h + s.tap_h[t]
                w = qw * s.step_w + s.tap_w[t]
                if 0 <= h < s.IH and 0 <= w < s.IW:
                    for c in range(s.C):
                        sums[t * L + c] += x[((n * s.IH + h) * s.IW + w) * s.C + c] * g[c]


def weight_gradient(
    const floating[:, :, :, ::1] x,            # IN [N, IH, IW, C]
    const floating[:, :, :, ::1] grad_output,  # IN [N, QH, QW, C]
    const Py_ssize_t[:, ::1] taps,             # IN [2, T]
    Py_ssize_t step_h, Py_ssize_t step_w,
    floating[:, ::1] grad_weight,              # OUT [C, T]
    int num_threads,
):
    """grad_weight[c, t] = sum over pixels of x at the tap * grad_output; blocks summed in slices set by the shape."""
    cdef Plan s
    cdef Py_ssize_t item = sizeof(floating), task, slices, slice_, block, c, t, v, rounds, i, first, count, L
    s.N, s.IH, s.IW, s.C = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    s.QH, s.QW = grad_output.shape[1], grad_output.shape[2]
    s.step_h, s.step_w = step_h, step_w
    if s.N == 0:
        grad_weight[:, :] = 0
        return
    L = lanes(&grad_weight[0, 0])
    cdef bint narrow = s.C < L
    s.T, s.first_tap, s.tap_h, s.tap_w = taps.shape[1], 0, &taps[0, 0], &taps[1, 0]
    make_plan(&s, L, item)
    slices = min(s.blocks, <Py_ssize_t>SLICES)
    cdef Py_ssize_t size = ceil_div(s.C, L) * s.T * L  # of a slice's sums
    cdef Block scratch = Block(num_threads * s.scratch_bytes + (slices * size + s.channels) * item)
    cdef char* tables = <char*>scratch.address
    cdef floating* partial = <floating*>(tables + num_threads * s.scratch_bytes)
    cdef floating* zeros = partial + slices * size
    memset(partial, 0, (slices * size + s.channels) * item)
    cdef const floating* image = &x[0, 0, 0, 0]
    cdef const floating* gradient = &grad_output[0, 0, 0, 0]
    # In rounds of some 10 ms a core, between which a pending Ctrl-C is heard.
    rounds = 1 + <Py_ssize_t>(<double>s.N * s.QH * s.QW * s.C * s.T / (2e8 * min(slices, <Py_ssize_t>num_threads)))
    for i in range(rounds):
        for task in prange(slices * s.channel_blocks, nogil=True, num_threads=num_threads, schedule="static"):
            slice_ = task // s.channel_blocks
            c = task % s.channel_blocks
            first = share_start(s.blocks, slices, slice_)
            count = share_start(s.blocks, slices, slice_ + 1) - first
            for block in range(first + share_start(count, rounds, i), first + share_start(count, rounds, i + 1)):
                if narrow:
                    add_narrow(&s, block, image, gradient, partial + slice_ * size)
                else:
                    add_block(
                        &s, block, c, image, gradient, zeros, tables + this_thread() * s.scratch_bytes,
                        partial + slice_ * size + c * VECTORS * s.T * L)
        PyErr_CheckSignals()
    for i in range(1, slices):
        for t in range(size):
            partial[t] += partial[i * size + t]
    for c in range(s.C):
        v = c // L
        for t in range(s.T):
            grad_weight[c, t] = partial[(v * s.T + t) * L + c - (0 if narrow else min(v * L, s.C - L))]
