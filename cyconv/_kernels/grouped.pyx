"""Convolution in groups of few channels, or with several filters a channel: a vector holds several groups.

    out[n, qh, qw, o] = bias[o] + addend[n, qh, qw, o]
                      + sum over t, ic of x[n, qh*step_h + tap_h[t], qw*step_w + tap_w[t], o//M*IC + ic] * w[o, t, ic]

with M outputs a group. A task walks down a strip of columns for some vectors of output channels. It keeps the lines
that the filters cover in a band, spread so that every lane finds its own group's inputs (grouped.h), zeros around.
"""

from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memcpy, memset

from cyconv._kernels.lines cimport TILE_ROWS, shared_run, tile_pixels, widest
from cyconv._kernels.parallel cimport ceil_div, segment_tasks, share_start, this_thread
from cyconv._kernels.simd cimport distance, finish_of, lanes
from cyconv._memory cimport Block

cdef extern from "grouped.h" nogil:
    void spread_float "cyconv_spread_float"(
        Py_ssize_t sources, Py_ssize_t IC, Py_ssize_t count, const float* source, Py_ssize_t step, const float* end,
        const void* index, float* target, Py_ssize_t plane, Py_ssize_t ahead)
    void spread_double "cyconv_spread_double"(
        Py_ssize_t sources, Py_ssize_t IC, Py_ssize_t count, const double* source, Py_ssize_t step, const double* end,
        const void* index, double* target, Py_ssize_t plane, Py_ssize_t ahead)
    void convolve_float "cyconv_convolve_float"(
        Py_ssize_t kind, Py_ssize_t tile, Py_ssize_t step, Py_ssize_t rows, Py_ssize_t IC, const float** x,
        Py_ssize_t plane, const float** w, const float* bias, Py_ssize_t addend, int finish,
        float* out, Py_ssize_t out_step, Py_ssize_t pixels, Py_ssize_t channels, Py_ssize_t ahead)
    void convolve_double "cyconv_convolve_double"(
        Py_ssize_t kind, Py_ssize_t tile, Py_ssize_t step, Py_ssize_t rows, Py_ssize_t IC, const double** x,
        Py_ssize_t plane, const double** w, const double* bias, Py_ssize_t addend, int finish,
        double* out, Py_ssize_t out_step, Py_ssize_t pixels, Py_ssize_t channels, Py_ssize_t ahead)
    void multiply_float "cyconv_multiply_float"(
        Py_ssize_t kind, Py_ssize_t tile, Py_ssize_t rows, Py_ssize_t step, Py_ssize_t IC, const float** x,
        Py_ssize_t plane, const float* g, Py_ssize_t g_step, float* sums)
    void multiply_double "cyconv_multiply_double"(
        Py_ssize_t kind, Py_ssize_t tile, Py_ssize_t rows, Py_ssize_t step, Py_ssize_t IC, const double** x,
        Py_ssize_t plane, const double* g, Py_ssize_t g_step, double* sums)

cdef enum:
    BAND_BYTES = 16384       # a third of L1, for the bands of several vectors whose numbers lie in the same cache lines
    MOST_BAND_BYTES = 32768  # of one vector (groups of 8, 3x3, stride 2: half as wide a tile is 1.3 times as fast)
    TASKS = 64               # wanted, so that uneven ones still balance; by the shape alone
    LEAST_ROWS = 8           # of a block, which spreads the lines above and below it too
    SLICES = 32              # of the weight gradient's sum, at most


cdef struct Phase:  # outputs that lie in the same way to the filter's taps
    Py_ssize_t QH, QW, first_tap
    Py_ssize_t run, rows, kind      # taps that share pixels, runs of them, the tile's kind
    Py_ssize_t out_first            # where the outputs start


cdef struct Plan:
    Py_ssize_t N, IH, IW, C, OC, IC, M, T, F
    Py_ssize_t step_h, step_w
    Py_ssize_t top, span_h, left, span_w            # of all taps: the first, and how far they reach
    Py_ssize_t QH, QW                               # of the phase that has most
    Py_ssize_t L, vectors, task_vectors, vector_blocks
    Py_ssize_t blocks_per_image, blocks
    Py_ssize_t narrow                               # the widest tile used, by its place in tile_pixels
    Py_ssize_t plane, line                          # numbers of a spread line's plane, and of its planes together
    Py_ssize_t sources                              # vectors that a spread pixel's numbers come from; 3 for any more
    Py_ssize_t scratch_bytes
    Py_ssize_t out_n, out_h, out_w
    Py_ssize_t addend                               # bytes from out to it
    int finish                                      # what happens before a result is stored
    const Py_ssize_t* tap_h
    const Py_ssize_t* tap_w


cdef void set_phase(
    Plan* s, Phase* phase, Py_ssize_t first_tap, Py_ssize_t T, Py_ssize_t QH, Py_ssize_t QW, Py_ssize_t out_first,
) noexcept:
    phase.first_tap, phase.QH, phase.QW, phase.out_first = first_tap, QH, QW, out_first
    phase.run = shared_run(T, s.tap_h + first_tap, s.tap_w + first_tap, s.step_w)
    phase.rows = T // phase.run
    phase.kind = phase.run + 8 * (s.step_w if phase.run > 1 else 1)
    s.QH, s.QW = max(s.QH, QH), max(s.QW, QW)


cdef void make_plan(Plan* s, Py_ssize_t L, Py_ssize_t item) noexcept:
    """Cut the work into tasks, by the shape alone; the phases are set."""
    cdef Py_ssize_t t, v, first, last, bottom = 0, right = 0
    s.L, s.vectors, s.top, s.left, s.sources = L, ceil_div(s.OC, L), 0, 0, 1
    for t in range(s.T):
        s.top, bottom = min(s.top, s.tap_h[t]) if t else s.tap_h[0], max(bottom, s.tap_h[t]) if t else s.tap_h[0]
        s.left, right = min(s.left, s.tap_w[t]) if t else s.tap_w[0], max(right, s.tap_w[t]) if t else s.tap_w[0]
    s.span_h, s.span_w = bottom - s.top + 1, right - s.left + 1
    for v in range(s.vectors):
        first, last = v * L // s.M, (min(v * L + L, s.OC) - 1) // s.M
        s.sources = max(s.sources, min(<Py_ssize_t>3, ceil_div((last - first + 1) * s.IC, L)))
    s.narrow = 0  # a tile of half the width where the band of a whole one would not leave L1 room for the weights
    while True:
        s.plane = ((tile_pixels[s.narrow] - 1) * s.step_w + s.span_w) * L
        s.line = s.IC * s.plane
        if s.narrow == 1 or s.span_h * s.line * item <= MOST_BAND_BYTES:
            break
        s.narrow = 1
    s.task_vectors = max(1, min(s.vectors, BAND_BYTES // (s.span_h * s.line * item)))
    s.vector_blocks = ceil_div(s.vectors, s.task_vectors)
    s.blocks_per_image = max(1, min(ceil_div(TASKS, s.N * s.vector_blocks), s.QH // LEAST_ROWS))
    s.blocks = s.N * s.blocks_per_image
    cdef Py_ssize_t lines = s.task_vectors * s.span_h
    s.scratch_bytes = ceil_div(
        (lines * s.line + TILE_ROWS * L) * item
        + 2 * max(s.T, 1) * <Py_ssize_t>sizeof(void*) + lines * <Py_ssize_t>sizeof(Py_ssize_t), 64) * 64


cdef struct Band:  # a thread's spread lines of a strip of columns
    Py_ssize_t n, v0
    Py_ssize_t w, columns  # the first, which may lie before the image
    Py_ssize_t* held       # [task_vectors, span_h] the line that lies there


cdef void set_index(Plan* s, Py_ssize_t* base, void* index, const floating* like) noexcept:
    """Fill base[v], the first channel that vector v of outputs needs, and index[v, ic, lane] from there."""
    cdef Py_ssize_t v, ic, lane, place, i
    for v in range(s.vectors):
        base[v] = v * s.L // s.M * s.IC
        for ic in range(s.IC):
            for lane in range(s.L):
                place = (v * s.L + lane) // s.M * s.IC + ic - base[v] if v * s.L + lane < s.OC else 0
                i = (v * s.IC + ic) * s.L + lane
                if floating is float:
                    (<int*>index)[i] = <int>place
                else:
                    (<long long*>index)[i] = place


cdef void fill_line(
    Plan* s, Band* band, Py_ssize_t h, Py_ssize_t v, const floating* x, const Py_ssize_t* base, const char* index,
    floating* line,  # [IC, columns, L]
) noexcept nogil:
    """Spread line h of the image for vector v of the outputs."""
    cdef Py_ssize_t L = s.L, ic
    cdef Py_ssize_t before = min(max(-band.w, <Py_ssize_t>0), band.columns)
    cdef Py_ssize_t stop = max(before, min(s.IW - band.w, band.columns))
    cdef const floating* source = x + ((band.n * s.IH + h) * s.IW + band.w + before) * s.C + base[v]
    cdef const floating* end = x + s.N * s.IH * s.IW * s.C
    cdef Py_ssize_t ahead = s.step_h * s.IW * s.C if h + s.step_h < s.IH else 0
    cdef const char* lane = index + v * s.IC * L * <Py_ssize_t>sizeof(floating)
    if floating is float:
        spread_float(s.sources, s.IC, stop - before, source, s.C, end, lane, line + before * L, s.plane, ahead)
    else:
        spread_double(s.sources, s.IC, stop - before, source, s.C, end, lane, line + before * L, s.plane, ahead)
    if before or stop < band.columns:
        for ic in range(s.IC):
            memset(line + ic * s.plane, 0, before * L * sizeof(floating))
            memset(line + ic * s.plane + stop * L, 0, (band.columns - stop) * L * sizeof(floating))


cdef inline floating* spread_line(
    Plan* s, Band* band, Py_ssize_t h, Py_ssize_t v, const floating* x, const Py_ssize_t* base, const char* index,
    floating* lines,  # [task_vectors, span_h, IC, columns, L]
) noexcept nogil:
    """Where line h of the image lies spread for vector v of the outputs."""
    cdef Py_ssize_t place = (v - band.v0) * s.span_h + <unsigned int>h % <unsigned int>s.span_h
    if band.held[place] != h:
        band.held[place] = h
        fill_line(s, band, h, v, x, base, index, lines + place * s.line)
    return lines + place * s.line


cdef inline void start_strip(Plan* s, Band* band, Py_ssize_t first, Py_ssize_t tile) noexcept nogil:
    cdef Py_ssize_t i
    band.w = first * s.step_w + s.left
    band.columns = (tile - 1) * s.step_w + s.span_w
    for i in range(s.task_vectors * s.span_h):
        band.held[i] = -1


cdef inline Py_ssize_t fitting(Plan* s, Py_ssize_t room) noexcept nogil:
    """Pixels of the tile that does best: the widest of which three quarters have room."""
    cdef Py_ssize_t i = s.narrow
    while 3 * tile_pixels[i] > 4 * room:
        i += 1
    return tile_pixels[i]


cdef void run_task(
    Plan* s, const Phase* phases, Py_ssize_t task, const floating* x, const floating* filters, const floating* bias,
    const Py_ssize_t* base, const char* index, char* scratch, floating* out,
) noexcept nogil:
    """One block of output rows, some vectors of channels."""
    cdef Py_ssize_t block = task // s.vector_blocks, v, first = 0, tile, q, f, r, t, h, rows, L = s.L
    cdef Py_ssize_t q0 = share_start(s.QH, s.blocks_per_image, block % s.blocks_per_image)
    cdef Py_ssize_t q1 = share_start(s.QH, s.blocks_per_image, block % s.blocks_per_image + 1)
    cdef floating* lines = <floating*>scratch
    cdef const floating** pixels = <const floating**>(lines + s.task_vectors * s.span_h * s.line + TILE_ROWS * L)
    cdef const floating** taps = pixels + s.T
    cdef const Phase* p
    cdef floating* target
    cdef Band band
    cdef Py_ssize_t count, channels, ahead
    band.n, band.v0 = block // s.blocks_per_image, task % s.vector_blocks * s.task_vectors
    band.held = <Py_ssize_t*>(taps + s.T)
    while first < s.QW:
        tile = fitting(s, s.QW - first)
        start_strip(s, &band, first, tile)
        for q in range(q0, q1):
            ahead = s.out_h if q + 1 < q1 else 0
            for v in range(band.v0, min(band.v0 + s.task_vectors, s.vectors)):
                channels = min(L, s.OC - v * L)
                for f in range(s.F):
                    p = phases + f
                    if q >= p.QH or first >= p.QW:
                        continue
                    rows = 0
                    for r in range(p.rows):
                        t = p.first_tap + r * p.run
                        h = q * s.step_h + s.tap_h[t]
                        if 0 <= h < s.IH:
                            pixels[rows] = spread_line(
                                s, &band, h, v, x, base, index, lines) + (s.tap_w[t] - s.left) * L
                            taps[rows] = filters + (v * s.T + t) * s.IC * L
                            rows += 1
                    target = out + band.n * s.out_n + p.out_first + q * s.out_h + first * s.out_w + v * L
                    count = min(tile, p.QW - first)
                    if floating is float:
                        convolve_float(
                            p.kind, tile, s.step_w, rows, s.IC, pixels, s.plane, taps, bias + v * L, s.addend,
                            s.finish, target, s.out_w, count, channels, ahead)
                    else:
                        convolve_double(
                            p.kind, tile, s.step_w, rows, s.IC, pixels, s.plane, taps, bias + v * L, s.addend,
                            s.finish, target, s.out_w, count, channels, ahead)
        first += tile


def vector_lanes(const floating[::1] like):
    """Return how many channels of `like`'s type a vector holds."""
    return lanes(&like[0])


def conv_taps(
    const floating[:, :, :, ::1] x,        # IN [N, IH, IW, G*IC]
    const floating[:, :, :, ::1] filters,  # IN [vectors, T, IC, L], channel o's in lane o%L of vector o//L
    const floating[::1] bias,              # IN [OC], or None
    const floating[:, :, :, ::1] addend,   # IN [N, OH, OW, OC], or None; may be out itself
    const Py_ssize_t[:, ::1] taps,         # IN [2, T] displacements in the input, rows above columns
    Py_ssize_t step_h, Py_ssize_t step_w,
    const Py_ssize_t[:, ::1] phases,       # IN [F, 4] first tap, number of taps, first row and column of the output
    Py_ssize_t phase_h, Py_ssize_t phase_w,
    floating[:, :, :, ::1] out,            # OUT [N, OH, OW, OC]
    bint relu,
    int num_threads,
):
    """Sum over taps and a group's inputs as the module says; x counts as zero outside its bounds.

    Each phase fills every phase_h-th row and phase_w-th column with the sum over its own taps, of negative results with
    zero where `relu` asks for it.
    """
    cdef Py_ssize_t item = sizeof(floating), F = phases.shape[0], OH = out.shape[1], OW = out.shape[2]
    cdef Py_ssize_t task, tasks, start, stop, segment, i, f
    cdef Plan s
    if x.shape[0] == 0:
        return
    cdef floating* target = &out[0, 0, 0, 0]
    cdef const floating* other = &addend[0, 0, 0, 0] if addend is not None else NULL
    cdef Block phase_block = Block(F * sizeof(Phase))
    cdef Phase* table = <Phase*>phase_block.address
    s.N, s.IH, s.IW, s.C = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    s.OC, s.IC, s.T, s.F = out.shape[3], filters.shape[2], taps.shape[1], F
    s.M = s.OC * s.IC // s.C
    s.step_h, s.step_w = step_h, step_w
    s.out_n, s.out_h, s.out_w = OH * OW * s.OC, phase_h * OW * s.OC, phase_w * s.OC
    s.addend, s.finish = distance(other, target), finish_of(other, relu)
    s.tap_h = s.tap_w = NULL
    if s.T:
        s.tap_h, s.tap_w = &taps[0, 0], &taps[1, 0]
    s.QH = s.QW = 0
    for f in range(F):
        set_phase(
            &s, table + f, phases[f, 0], phases[f, 1], ceil_div(OH - phases[f, 2], phase_h),
            ceil_div(OW - phases[f, 3], phase_w), (phases[f, 2] * OW + phases[f, 3]) * s.OC)
    make_plan(&s, lanes(target), item)
    tasks = s.blocks * s.vector_blocks
    cdef Py_ssize_t numbers = s.vectors * s.L
    cdef Block scratch = Block(
        num_threads * s.scratch_bytes + numbers * (s.IC + 1) * item + s.vectors * sizeof(Py_ssize_t))
    cdef char* threads = <char*>scratch.address
    cdef char* index = threads + num_threads * s.scratch_bytes
    cdef floating* first = <floating*>(index + numbers * s.IC * item)
    cdef Py_ssize_t* base = <Py_ssize_t*>(first + numbers)
    set_index(&s, base, index, target)
    for i in range(numbers):
        first[i] = bias[i] if bias is not None and i < s.OC else 0
    cdef const floating* image = &x[0, 0, 0, 0]
    cdef const floating* weights = &filters[0, 0, 0, 0] if s.T else NULL
    segment = segment_tasks(tasks, <double>s.N * numbers * s.IC * (s.T + 1) * s.QH * s.QW, num_threads)
    for start in range(0, tasks, segment):
        stop = min(start + segment, tasks)
        for task in prange(start, stop, nogil=True, num_threads=num_threads, schedule="static"):
            run_task(
                &s, table, task, image, weights, first, base, index, threads + this_thread() * s.scratch_bytes, target)
        PyErr_CheckSignals()


cdef void add_block(
    Plan* s, const Phase* p, Py_ssize_t block, Py_ssize_t vector_block, const floating* x, const floating* grad_output,
    const floating* zeros, const Py_ssize_t* base, const char* index, char* scratch,
    floating* sums,  # [task_vectors, T, IC, L]
) noexcept nogil:
    """Add one block's products to its channels' sums."""
    cdef Py_ssize_t v, first = 0, tile, q, r, t, h, i, channels, step, L = s.L
    cdef Py_ssize_t q0 = share_start(s.QH, s.blocks_per_image, block % s.blocks_per_image)
    cdef Py_ssize_t q1 = share_start(s.QH, s.blocks_per_image, block % s.blocks_per_image + 1)
    cdef floating* lines = <floating*>scratch
    cdef floating* edge = lines + s.task_vectors * s.span_h * s.line
    cdef const floating** pixels = <const floating**>(edge + TILE_ROWS * L)
    cdef const floating* g
    cdef floating* target
    cdef Band band
    band.n, band.v0 = block // s.blocks_per_image, vector_block * s.task_vectors
    band.held = <Py_ssize_t*>(pixels + 2 * s.T)
    while first < s.QW:
        tile = widest(min(s.QW - first, tile_pixels[s.narrow]))
        start_strip(s, &band, first, tile)
        for q in range(q0, q1):
            for v in range(band.v0, min(band.v0 + s.task_vectors, s.vectors)):
                for r in range(p.rows):
                    t = r * p.run
                    h = q * s.step_h + s.tap_h[t]
                    pixels[r] = zeros
                    if 0 <= h < s.IH:
                        pixels[r] = spread_line(s, &band, h, v, x, base, index, lines) + (s.tap_w[t] - s.left) * L
                channels, step = s.OC - v * L, s.OC
                g = grad_output + ((band.n * s.QH + q) * s.QW + first) * s.OC + v * L
                if channels < L:
                    memset(edge, 0, tile * L * sizeof(floating))
                    for i in range(tile):
                        memcpy(edge + i * L, g + i * s.OC, channels * sizeof(floating))
                    g, step = edge, L
                target = sums + (v - band.v0) * s.T * s.IC * L
                if floating is float:
                    multiply_float(p.kind, tile, p.rows, s.step_w, s.IC, pixels, s.plane, g, step, target)
                else:
                    multiply_double(p.kind, tile, p.rows, s.step_w, s.IC, pixels, s.plane, g, step, target)
        first += tile


def weight_gradient(
    const floating[:, :, :, ::1] x,            # IN [N, IH, IW, G*IC]
    const floating[:, :, :, ::1] grad_output,  # IN [N, QH, QW, OC]
    const Py_ssize_t[:, ::1] taps,             # IN [2, T], T > 0
    Py_ssize_t step_h, Py_ssize_t step_w,
    floating[:, :, ::1] grad_weight,           # OUT [OC, T, IC]
    int num_threads,
):
    """grad_weight[o, t, ic] = sum over pixels of x at the tap * grad_output; in slices set by the shape."""
    cdef Plan s
    cdef Phase phase
    cdef Py_ssize_t item = sizeof(floating), task, slices, slice_, block, v, o, t, rounds, i, first, count
    s.N, s.IH, s.IW, s.C = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    s.OC, s.T, s.IC, s.F = grad_weight.shape[0], grad_weight.shape[1], grad_weight.shape[2], 1
    s.M = s.OC * s.IC // s.C
    s.step_h, s.step_w, s.tap_h, s.tap_w = step_h, step_w, &taps[0, 0], &taps[1, 0]
    if s.N == 0:
        grad_weight[:, :, :] = 0
        return
    s.QH = s.QW = 0
    set_phase(&s, &phase, 0, s.T, grad_output.shape[1], grad_output.shape[2], 0)
    make_plan(&s, lanes(&grad_weight[0, 0, 0]), item)
    slices = min(s.blocks, <Py_ssize_t>SLICES)
    cdef Py_ssize_t of_vector = s.T * s.IC * s.L, size = s.vectors * of_vector  # of a slice's sums
    cdef Py_ssize_t numbers = s.vectors * s.L * s.IC
    cdef Block scratch = Block(
        num_threads * s.scratch_bytes + (slices * size + s.line + numbers) * item + s.vectors * sizeof(Py_ssize_t))
    cdef char* threads = <char*>scratch.address
    cdef floating* partial = <floating*>(threads + num_threads * s.scratch_bytes)
    cdef floating* zeros = partial + slices * size
    cdef char* index = <char*>(zeros + s.line)
    cdef Py_ssize_t* base = <Py_ssize_t*>(index + numbers * item)
    memset(partial, 0, (slices * size + s.line) * item)
    set_index(&s, base, index, partial)
    cdef const floating* image = &x[0, 0, 0, 0]
    cdef const floating* gradient = &grad_output[0, 0, 0, 0]
    # In rounds of some 10 ms a core, between which a pending Ctrl-C is heard.
    cdef double work = <double>s.N * numbers * s.T * s.QH * s.QW
    rounds = 1 + <Py_ssize_t>(work / (5e8 * min(slices, <Py_ssize_t>num_threads)))
    for i in range(rounds):
        for task in prange(slices * s.vector_blocks, nogil=True, num_threads=num_threads, schedule="static"):
            slice_ = task // s.vector_blocks
            v = task % s.vector_blocks
            first = share_start(s.blocks, slices, slice_)
            count = share_start(s.blocks, slices, slice_ + 1) - first
            for block in range(first + share_start(count, rounds, i), first + share_start(count, rounds, i + 1)):
                add_block(
                    &s, &phase, block, v, image, gradient, zeros, base, index,
                    threads + this_thread() * s.scratch_bytes, partial + slice_ * size + v * s.task_vectors * of_vector)
        PyErr_CheckSignals()
    for i in range(1, slices):
        for t in range(size):
            partial[t] += partial[i * size + t]
    for o in range(s.OC):
        for t in range(s.T):
            for i in range(s.IC):
                grad_weight[o, t, i] = partial[((o // s.L * s.T + t) * s.IC + i) * s.L + o % s.L]
