"""Convolution in groups of few channels, depthwise among them: a vector holds one or several groups.

    out[n, qh, qw, o] = bias[o] + addend[n, qh, qw, o]
                      + sum over t, ic of x[n, qh*step_h + tap_h[t], qw*step_w + tap_w[t], o//M*IC + ic] * w[o, t, ic]

with M outputs a group, from a band of lines (bands.pxd).
"""

from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from cython.parallel cimport prange

from cyconv._kernels.bands cimport Band, Phase, Plan, Tables, Walk, cheapest, fetch_lines
from cyconv._kernels.bands cimport make_plan, place_tables, set_band, set_phase, start_strip, table_bytes, widest
from cyconv._kernels.parallel cimport TURN, Listener, interrupted, listen, raise_if_interrupted
from cyconv._kernels.parallel cimport ceil_div, segment_tasks, share_start, this_thread
from cyconv._kernels.simd cimport ADD_ARRAY, distance, finish_of, lanes
from cyconv._memory cimport Block

cdef extern from "grouped.h" nogil:
    void convolve_float "cyconv_convolve_float"(
        Py_ssize_t kind, Py_ssize_t tile, const Walk* walk, const float*** line, const int* index, const float* w,
        const float* bias, float* out, const float* next)
    void convolve_double "cyconv_convolve_double"(
        Py_ssize_t kind, Py_ssize_t tile, const Walk* walk, const double*** line, const long long* index,
        const double* w, const double* bias, double* out, const double* next)

cdef enum:
    TASKS_A_THREAD = 4


cdef void run_task(
    Plan* s, const Phase* phases, const Tables* tables, Py_ssize_t task, const floating* x, const floating* filters,
    const floating* bias, char* scratch, floating* out, Listener* listener,
) noexcept nogil:
    """One block of output rows, some vectors of channels."""
    cdef Py_ssize_t left = 0
    cdef Py_ssize_t block = task // s.vector_blocks, first = 0, q, f, r, t, count, tile, done
    cdef Py_ssize_t q0 = share_start(s.QH, s.blocks_per_image, block % s.blocks_per_image)
    cdef Py_ssize_t q1 = share_start(s.QH, s.blocks_per_image, block % s.blocks_per_image + 1)
    cdef const floating* following
    cdef floating* target
    cdef const char* index = NULL
    cdef const Phase* p
    cdef Band band
    set_band(s, &band, tables, block, task % s.vector_blocks, scratch, sizeof(floating))
    cdef Walk* walk = &band.walk
    walk.out_step = s.out_w
    if s.picked:
        index = tables.index + band.v0 * s.IC * s.L * <Py_ssize_t>sizeof(floating)
    filters += band.v0 * walk.w_step
    while first < s.QW:
        start_strip(s, &band, tables, first, x)
        for f in range(s.F):
            count = min(s.strip, phases[f].QW - first)
            band.tile[f] = cheapest(count) if count > 0 else 0
        for q in range(q0, q1):
            left -= s.strip * s.T * s.IC * s.L * s.task_vectors
            if left < 0:
                if interrupted(listener):
                    return
                left = TURN
            following = fetch_lines(s, &band, tables, q, q + 1 == q1, x)
            walk.ahead = s.out_h if q + 1 < q1 else 0
            for f in range(s.F):
                p = phases + f
                if q >= p.QH or first >= p.QW:
                    continue
                count, done = min(s.strip, p.QW - first), 0
                while done < count:
                    tile, walk.pixels = band.tile[f], count
                    if s.finish & ADD_ARRAY:  # no pixel twice
                        tile = widest(count - done)
                        walk.pixels = (count - done) // tile * tile
                    walk.rows = 0
                    for r in range(p.rows):
                        t = p.first_tap + r * p.run
                        if band.where[tables.tap_row[t]] >= 0:
                            band.line[walk.rows] = (
                                band.pixel + band.where[tables.tap_row[t]] * s.columns + s.tap_w[t] - s.left
                                + done * s.step_w)
                            band.filter[walk.rows] = t * s.IC * s.L
                            walk.rows += 1
                    target = out + band.n * s.out_n + p.out_first + q * s.out_h + (first + done) * s.out_w
                    if floating is float:
                        convolve_float(
                            p.kind, tile, walk, <const float***>band.line, <const int*>index, filters, bias, target,
                            following)
                    else:
                        convolve_double(
                            p.kind, tile, walk, <const double***>band.line, <const long long*>index, filters, bias,
                            target, following)
                    done += walk.pixels
                    following = NULL
        first += s.strip


def filters_shape(const floating[:, :, ::1] filters, Py_ssize_t taps):
    """Return the shape that pack_filters gives so many taps of filters [OC, KH*KW, IC]: [vectors, T, IC, lanes]."""
    cdef Py_ssize_t L = lanes(&filters[0, 0, 0])
    return ceil_div(filters.shape[0], L), taps, filters.shape[2], L


def pack_filters(
    const floating[:, :, ::1] filters,  # IN [OC, KH*KW, IC]
    const Py_ssize_t[::1] positions,    # IN [T] the kernel position of each tap
    floating[:, :, :, ::1] vectors,     # OUT of filters_shape
):
    """Arrange filters as conv_taps wants them: those of a vector's channels side by side."""
    cdef Py_ssize_t OC = filters.shape[0], IC = filters.shape[2], L = vectors.shape[3], count = min(L, OC)
    cdef Py_ssize_t step = filters.shape[1] * IC, v, t, ic, lane
    cdef const floating* source
    cdef floating* target
    for v in range(vectors.shape[0]):
        for t in range(positions.shape[0]):
            source = &filters[max(<Py_ssize_t>0, min(v * L, OC - L)), positions[t], 0]
            target = &vectors[v, t, 0, 0]
            for ic in range(IC):
                for lane in range(count):
                    target[lane] = source[lane * step + ic]
                for lane in range(count, L):
                    target[lane] = 0
                target += L


def conv_taps(
    const floating[:, :, :, ::1] x,        # IN [N, IH, IW, G*IC]
    const floating[:, :, :, ::1] filters,  # IN [vectors, T, IC, L] from pack_filters
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
    cdef Tables tables
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
    s.QH, s.QW, s.regular, s.picks = 0, 0, True, True
    for f in range(F):
        set_phase(
            &s, table + f, phases[f, 0], phases[f, 1], ceil_div(OH - phases[f, 2], phase_h),
            ceil_div(OW - phases[f, 3], phase_w), (phases[f, 2] * OW + phases[f, 3]) * s.OC)
    make_plan(&s, lanes(target), item, TASKS_A_THREAD * num_threads)
    tasks = s.blocks * s.vector_blocks
    cdef Py_ssize_t numbers = s.vectors * s.L
    cdef Block scratch = Block(num_threads * s.scratch_bytes + table_bytes(&s, item) + numbers * item)
    cdef char* threads = <char*>scratch.address
    cdef floating* first = <floating*>place_tables(&s, &tables, threads + num_threads * s.scratch_bytes, target)
    for i in range(numbers):
        first[i] = bias[i] if bias is not None and i < s.OC else 0
    cdef const floating* image = &x[0, 0, 0, 0]
    cdef const floating* weights = &filters[0, 0, 0, 0] if s.T else NULL
    segment = segment_tasks(tasks, <double>s.N * numbers * s.IC * (s.T + 1) * s.QH * s.QW, num_threads)
    cdef Listener listener
    listen(&listener)
    for start in range(0, tasks, segment):
        stop = min(start + segment, tasks)
        for task in prange(start, stop, nogil=True, num_threads=num_threads, schedule="static"):
            run_task(
                &s, table, &tables, task, image, weights, first, threads + this_thread() * s.scratch_bytes, target,
                &listener)
        raise_if_interrupted(&listener)
        PyErr_CheckSignals()
