"""Weight gradient of convolution in groups of few channels, depthwise among them, from a band of lines (bands.pxd)."""

from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memcpy, memset

from cyconv._kernels.bands cimport Band, Phase, Plan, Tables, Walk, fetch_lines, first_of
from cyconv._kernels.bands cimport make_plan, place_tables, set_band, set_phase, start_strip, table_bytes, widest
from cyconv._kernels.parallel cimport (
    TURN, Listener, interrupted, listen, raise_if_interrupted, share_start, this_thread,
)
from cyconv._kernels.simd cimport lanes
from cyconv._memory cimport Block

cdef extern from "grouped.h" nogil:
    void multiply_float "cyconv_multiply_float"(
        Py_ssize_t kind, Py_ssize_t tile, const Walk* walk, const float*** line, const int* index, const float* g,
        float* sums, const float* next)
    void multiply_double "cyconv_multiply_double"(
        Py_ssize_t kind, Py_ssize_t tile, const Walk* walk, const double*** line, const long long* index,
        const double* g, double* sums, const double* next)

cdef enum:
    TASKS = 32   # wanted: by the shape alone
    SLICES = 32  # of the sum, at most


cdef void add_block(
    Plan* s, const Phase* p, const Tables* tables, Py_ssize_t block, Py_ssize_t vector_block, const floating* x,
    const floating* grad_output, char* scratch,
    floating* sums,  # [task_vectors, T, IC, L]
    Listener* listener,
) noexcept nogil:
    """Add one block's products to its channels' sums."""
    cdef Py_ssize_t left = 0
    cdef Py_ssize_t first = 0, tile, q, r, t, i, count, done, place
    cdef Py_ssize_t q0 = share_start(s.QH, s.blocks_per_image, block % s.blocks_per_image)
    cdef Py_ssize_t q1 = share_start(s.QH, s.blocks_per_image, block % s.blocks_per_image + 1)
    cdef floating* edge = <floating*>scratch + s.band
    cdef const floating* following
    cdef const floating* g
    cdef const floating* end = grad_output + s.N * s.QH * s.QW * s.OC
    cdef const char* index = NULL
    cdef Band band
    set_band(s, &band, tables, block, vector_block, scratch, sizeof(floating))
    cdef Walk* walk = &band.walk
    walk.rows, walk.ahead = p.rows, s.QW * s.OC
    if s.picked:
        index = tables.index + band.v0 * s.IC * s.L * <Py_ssize_t>sizeof(floating)
    while first < s.QW:
        start_strip(s, &band, tables, first, x)
        count = min(s.strip, s.QW - first)
        for q in range(q0, q1):
            left -= count * s.T * s.IC * s.L * s.task_vectors
            if left < 0:
                if interrupted(listener):
                    return
                left = TURN
            following = fetch_lines(s, &band, tables, q, q + 1 == q1, x)
            done = 0
            while done < count:
                tile, walk.out_step = widest(count - done), s.OC
                walk.pixels = (count - done) // tile * tile
                g = grad_output + ((band.n * s.QH + q) * s.QW + first + done) * s.OC
                if end - g < (walk.pixels - 1) * s.OC + s.L:  # with fewer channels than a vector has numbers
                    memset(edge, 0, tile * s.L * sizeof(floating))
                    for i in range(tile):
                        memcpy(edge + i * s.L, g + i * s.OC, s.OC * sizeof(floating))
                    g, walk.out_step, walk.pixels = edge, s.L, tile
                for r in range(p.rows):
                    t = r * p.run
                    place = band.where[tables.tap_row[t]]
                    band.line[r] = NULL
                    if place >= 0:
                        band.line[r] = band.pixel + place * s.columns + s.tap_w[t] - s.left + done * s.step_w
                if floating is float:
                    multiply_float(
                        p.kind, tile, walk, <const float***>band.line, <const int*>index, g, sums, following)
                else:
                    multiply_double(
                        p.kind, tile, walk, <const double***>band.line, <const long long*>index, g, sums, following)
                done += walk.pixels
                following = NULL
        first += s.strip


cdef void sum_slice(
    Plan* s, const Phase* p, const Tables* tables, Py_ssize_t task, Py_ssize_t slices, Py_ssize_t round_,
    Py_ssize_t rounds, const floating* x, const floating* grad_output, char* scratch, floating* partial,
    Listener* listener,
) noexcept nogil:
    """Sum a round's share of the blocks of one slice, for some vectors of channels."""
    cdef Py_ssize_t v = task // slices, slice_ = task % slices, of_vector = s.T * s.IC * s.L, block
    cdef Py_ssize_t first = share_start(s.blocks, slices, slice_)
    cdef Py_ssize_t count = share_start(s.blocks, slices, slice_ + 1) - first
    cdef Py_ssize_t vectors = min(s.task_vectors, s.vectors - v * s.task_vectors)
    cdef floating* sums = partial + (slice_ * s.vectors + v * s.task_vectors) * of_vector
    if round_ == 0:
        memset(sums, 0, vectors * of_vector * sizeof(floating))
    for block in range(first + share_start(count, rounds, round_), first + share_start(count, rounds, round_ + 1)):
        add_block(s, p, tables, block, v, x, grad_output, scratch, sums, listener)


cdef void add_slices(
    Plan* s, Py_ssize_t v, Py_ssize_t slices,
    floating* partial,      # [slices, vectors, T*IC, L]
    floating* grad_weight,  # OUT [OC, T*IC]
) noexcept nogil:
    """Add the slices of a vector's sums in order, and write each of its channels."""
    cdef Py_ssize_t taps = s.T * s.IC, of_vector = taps * s.L, i, t, o
    cdef floating* sums = partial + v * of_vector
    cdef const floating* more
    for i in range(1, slices):
        more = sums + i * s.vectors * of_vector
        for t in range(of_vector):
            sums[t] += more[t]
    for o in range(v * s.L, min((v + 1) * s.L, s.OC)):
        for t in range(taps):
            grad_weight[o * taps + t] = sums[t * s.L + o - first_of(s, v)]


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
    cdef Tables tables
    cdef Py_ssize_t item = sizeof(floating), task, slices, v, rounds, i
    s.N, s.IH, s.IW, s.C = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    s.OC, s.T, s.IC, s.F = grad_weight.shape[0], grad_weight.shape[1], grad_weight.shape[2], 1
    s.M = s.OC * s.IC // s.C
    s.step_h, s.step_w, s.tap_h, s.tap_w = step_h, step_w, &taps[0, 0], &taps[1, 0]
    if s.N == 0:
        grad_weight[:, :, :] = 0
        return
    s.QH, s.QW, s.regular, s.picks, s.addend, s.finish = 0, 0, True, True, 0, 0
    set_phase(&s, &phase, 0, s.T, grad_output.shape[1], grad_output.shape[2], 0)
    make_plan(&s, lanes(&grad_weight[0, 0, 0]), item, TASKS)
    slices = min(s.blocks, <Py_ssize_t>SLICES)
    cdef Py_ssize_t of_vector = s.T * s.IC * s.L, size = s.vectors * of_vector  # of a slice's sums
    cdef Block scratch = Block(num_threads * s.scratch_bytes + slices * size * item + table_bytes(&s, item))
    cdef char* threads = <char*>scratch.address
    cdef floating* partial = <floating*>(threads + num_threads * s.scratch_bytes)
    place_tables(&s, &tables, <char*>(partial + slices * size), partial)
    cdef const floating* image = &x[0, 0, 0, 0]
    cdef const floating* gradient = &grad_output[0, 0, 0, 0]
    # In rounds of some 10 ms a core, between which a pending Ctrl-C is heard.
    cdef double work = <double>s.N * s.vectors * s.L * s.IC * s.T * s.QH * s.QW
    rounds = 1 + <Py_ssize_t>(work / (5e8 * min(slices, <Py_ssize_t>num_threads)))
    cdef Listener listener
    listen(&listener)
    for i in range(rounds):
        # Slice by slice for each channel: which thread sums it, adds its slices up, too. Another would wait for them.
        for task in prange(s.vector_blocks * slices, nogil=True, num_threads=num_threads, schedule="static"):
            sum_slice(
                &s, &phase, &tables, task, slices, i, rounds, image, gradient,
                threads + this_thread() * s.scratch_bytes, partial, &listener)
        raise_if_interrupted(&listener)
        PyErr_CheckSignals()
    cdef floating* target = &grad_weight[0, 0, 0]
    for v in prange(s.vectors, nogil=True, num_threads=num_threads, schedule="static"):
        add_slices(&s, v, slices, partial, target)
