"""Convolution in groups of few channels, depthwise among them: a vector holds one or several groups.

    out[n, qh, qw, o] = bias[o] + addend[n, qh, qw, o]
                      + sum over t, ic of x[n, qh*step_h + tap_h[t], qw*step_w + tap_w[t], o//M*IC + ic] * w[o, t, ic]

with M outputs a group. A task walks down a strip of columns for some vectors of output channels. It keeps the lines
that the filters cover in a band in L1, so arranged that every lane finds its own group's inputs (grouped.h), with zeros
around. The image is read once and in order, and the line after the next is asked for in time.
"""

from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memcpy, memset

from cyconv._kernels.lines cimport TILE_ROWS, cheapest, shared_run, widest
from cyconv._kernels.pack cimport pack_panel
from cyconv._kernels.parallel cimport ceil_div, segment_tasks, share_start, this_thread
from cyconv._kernels.simd cimport ADD_ARRAY, distance, finish_of, lanes
from cyconv._memory cimport Block

cdef extern from "grouped.h" nogil:
    bint tile_picks "cyconv_tile_picks"(Py_ssize_t kind)
    ctypedef struct Walk "struct cyconv_walk":
        Py_ssize_t rows, step, spacing, IC, vectors, plane, pixels, channels, w_step, sums_step, out_step, ahead
        Py_ssize_t next_line, next_step, addend, done
        const Py_ssize_t* filter
        const Py_ssize_t* shift
        const Py_ssize_t* origin
        const Py_ssize_t* place
        int finish
    void copy_float "cyconv_copy_float"(
        Py_ssize_t vectors, Py_ssize_t count, const float* source, Py_ssize_t step, const Py_ssize_t* origin,
        float* target, const Py_ssize_t* shift)
    void copy_double "cyconv_copy_double"(
        Py_ssize_t vectors, Py_ssize_t count, const double* source, Py_ssize_t step, const Py_ssize_t* origin,
        double* target, const Py_ssize_t* shift)
    void spread_float "cyconv_spread_float"(
        Py_ssize_t sources, Py_ssize_t IC, Py_ssize_t count, const float* source, Py_ssize_t step, const float* end,
        const int* index, float* target, Py_ssize_t plane)
    void spread_double "cyconv_spread_double"(
        Py_ssize_t sources, Py_ssize_t IC, Py_ssize_t count, const double* source, Py_ssize_t step, const double* end,
        const long long* index, double* target, Py_ssize_t plane)
    void convolve_float "cyconv_convolve_float"(
        Py_ssize_t kind, Py_ssize_t tile, const Walk* walk, const float*** line, const int* index, const float* w,
        const float* bias, float* out, const float* next)
    void convolve_double "cyconv_convolve_double"(
        Py_ssize_t kind, Py_ssize_t tile, const Walk* walk, const double*** line, const long long* index,
        const double* w, const double* bias, double* out, const double* next)
    void multiply_float "cyconv_multiply_float"(
        Py_ssize_t kind, Py_ssize_t tile, const Walk* walk, const float*** line, const int* index, const float* g,
        float* sums, const float* next)
    void multiply_double "cyconv_multiply_double"(
        Py_ssize_t kind, Py_ssize_t tile, const Walk* walk, const double*** line, const long long* index,
        const double* g, double* sums, const double* next)

cdef enum:
    BAND_BYTES = 24 << 10    # three quarters of the smallest L1, for the lines that a task copies or spreads
    LINES_BYTES = 256 << 10  # in L2, for those that it reads in place
    ALIASING = 2048     # bytes between pixels of which few fit in L1 together: a multiple of it shares two of its sets
    VECTORS = 8         # of channels in a task, at most
    MOST_LINES = 64     # that are kept; where the filters reach further, only those of each output row are
    TASKS = 32          # of the weight gradient, wanted: by the shape alone
    TASKS_A_THREAD = 4  # of the others
    LEAST_ROWS = 8      # of a block, which reads the lines above and below it too, and the first ones unannounced
    SLICES = 32         # of the weight gradient's sum, at most


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
    Py_ssize_t rows, lines                          # of the image that an output row needs, that are kept
    Py_ssize_t strip, columns                       # of outputs done together, and of the image for these
    Py_ssize_t sources                              # vectors that a pixel's numbers come from; 3 for any more
    bint regular, picks                             # whether tiles' outer pixels alone lie outside; can pick
    bint copied, spread, picked                     # what becomes of the image's lines; whether tiles do pick
    Py_ssize_t plane, band                          # numbers of a line's plane in the band, and of the whole band
    Py_ssize_t scratch_bytes
    Py_ssize_t out_n, out_h, out_w
    Py_ssize_t addend                               # bytes from out to it
    int finish                                      # what happens before a result is stored
    const Py_ssize_t* tap_h
    const Py_ssize_t* tap_w


cdef struct Tables:
    Py_ssize_t* row      # [rows] displacement of the lines that taps read
    Py_ssize_t* tap_row  # [T] number of each tap's
    Py_ssize_t* place    # [vectors] the first channel of a vector of outputs
    Py_ssize_t* origin   # [vectors] the first of the image's that it needs
    Py_ssize_t* shift    # [vectors] where it is, from where a table of pixels points
    char* index          # [vectors, IC, L] what each lane needs from there: int or, for double, long long
    char* zeros          # [C]


cdef struct Band:  # a thread's lines of a strip of columns
    Py_ssize_t n, v0
    Py_ssize_t w, before, stop, columns  # the first column, which may lie before the image; those that are in it; all
    Py_ssize_t* held       # [lines] the line of the image that each is
    Py_ssize_t* where      # [rows] numbers of the lines of the output row; -1 outside the image
    Py_ssize_t* tile       # [F] width of each phase's
    Py_ssize_t* filter     # [T] filters that go with the lines of a phase
    const void*** line     # [T] those lines' pixels
    const void** pixel     # [lines, columns] addresses
    char* numbers          # [task_vectors, lines, IC or 1, columns, L] where lines are copied or spread
    Walk walk


cdef void set_phase(
    Plan* s, Phase* phase, Py_ssize_t first_tap, Py_ssize_t T, Py_ssize_t QH, Py_ssize_t QW, Py_ssize_t out_first,
) noexcept:
    cdef Py_ssize_t t, right
    phase.first_tap, phase.QH, phase.QW, phase.out_first = first_tap, QH, QW, out_first
    phase.run = shared_run(T, s.tap_h + first_tap, s.tap_w + first_tap, s.step_w)
    phase.rows = T // phase.run
    phase.kind = phase.run + 8 * (s.step_w if phase.run > 1 else 1)
    s.picks = s.picks and tile_picks(phase.kind)
    for t in range(first_tap, first_tap + T, phase.run):
        right = (QW - 1) * s.step_w + s.tap_w[t] + phase.run - s.IW
        s.regular = s.regular and max(-s.tap_w[t], right) <= phase.run // 2
    s.QH, s.QW = max(s.QH, QH), max(s.QW, QW)


cdef inline Py_ssize_t first_of(Plan* s, Py_ssize_t v) noexcept nogil:
    """The first output channel of a vector; those that do not fill the last one are covered by one that ends there."""
    return max(<Py_ssize_t>0, min(v * s.L, s.OC - s.L))


cdef void make_plan(Plan* s, Py_ssize_t L, Py_ssize_t item, Py_ssize_t tasks) noexcept:
    """Cut the work into about so many tasks; the phases are set."""
    cdef Py_ssize_t t, v, i, first, last, bottom = 0, right = 0
    s.L, s.vectors = L, ceil_div(s.OC, L)
    s.top, s.left, s.sources, s.rows = 0, 0, 1, 0
    for t in range(s.T):
        s.top, bottom = min(s.top, s.tap_h[t]) if t else s.tap_h[0], max(bottom, s.tap_h[t]) if t else s.tap_h[0]
        s.left, right = min(s.left, s.tap_w[t]) if t else s.tap_w[0], max(right, s.tap_w[t]) if t else s.tap_w[0]
        i = t - 1
        while i >= 0 and s.tap_h[i] != s.tap_h[t]:
            i -= 1
        s.rows += i < 0
    s.span_h, s.span_w = bottom - s.top + 1, right - s.left + 1
    for v in range(s.vectors):
        first, last = first_of(s, v) // s.M, (min(first_of(s, v) + L, s.OC) - 1) // s.M
        s.sources = max(s.sources, min(<Py_ssize_t>3, ceil_div((last - first + 1) * s.IC, L)))
    s.spread = s.C < L or s.sources > 1 or (s.M > 1 if s.IC == 1 else not s.picks)
    s.picked = not s.spread and s.IC > 1
    s.copied = not s.spread and (s.picked or s.C * item % ALIASING == 0 or not s.regular)
    s.lines = s.span_h if s.span_h <= MOST_LINES else s.rows
    set_strip(s, s.lines * (s.IC if s.spread else 1) * L * item)
    s.columns = (s.strip - 1) * s.step_w + s.span_w
    s.plane = s.columns * L
    s.band = s.task_vectors * s.lines * (s.IC if s.spread else 1) * s.plane if s.spread or s.copied else 0
    s.vector_blocks = ceil_div(s.vectors, s.task_vectors)
    s.blocks_per_image = max(1, min(ceil_div(tasks, s.N * s.vector_blocks), s.QH // LEAST_ROWS))
    s.blocks = s.N * s.blocks_per_image
    s.scratch_bytes = ceil_div(
        (s.band + TILE_ROWS * L) * item + (s.lines + s.rows + s.F + s.T) * <Py_ssize_t>sizeof(Py_ssize_t)
        + (s.T + s.lines * s.columns) * <Py_ssize_t>sizeof(void*), 64) * 64


cdef void set_strip(Plan* s, Py_ssize_t column) noexcept:
    """Choose how many vectors and columns a task does together; a column's lines take so many bytes of each vector."""
    cdef Py_ssize_t strips, most = (BAND_BYTES if s.spread or s.copied else LINES_BYTES) // column
    cdef Py_ssize_t whole = (s.QW - 1) * s.step_w + s.span_w
    # Long lines come before many vectors, but for the two that memory hands out at a time.
    s.task_vectors = min(s.vectors, min(<Py_ssize_t>VECTORS, max(<Py_ssize_t>2, most // whole)))
    s.strip = max((most // s.task_vectors - s.span_w) // s.step_w + 1, s.span_w, <Py_ssize_t>TILE_ROWS)
    strips = ceil_div(s.QW, s.strip // TILE_ROWS * TILE_ROWS)
    s.strip = min(s.QW, ceil_div(ceil_div(s.QW, strips), TILE_ROWS) * TILE_ROWS)


cdef inline Py_ssize_t table_bytes(Plan* s, Py_ssize_t item) noexcept:
    return (s.rows + s.T + 3 * s.vectors) * <Py_ssize_t>sizeof(Py_ssize_t) + (s.vectors * s.IC * s.L + s.C) * item


cdef char* place_tables(Plan* s, Tables* tables, char* memory, const floating* like) noexcept:
    """Fill the tables; return where the memory goes on."""
    cdef Py_ssize_t v, ic, lane, number, i, t, rows = 0, item = sizeof(floating)
    tables.row = <Py_ssize_t*>memory
    tables.tap_row = tables.row + s.rows
    tables.place = tables.tap_row + s.T
    tables.origin = tables.place + s.vectors
    tables.shift = tables.origin + s.vectors
    tables.index = <char*>(tables.shift + s.vectors)
    tables.zeros = tables.index + s.vectors * s.IC * s.L * item
    memset(tables.zeros, 0, s.C * item)
    for t in range(s.T):
        i = rows - 1
        while i >= 0 and tables.row[i] != s.tap_h[t]:
            i -= 1
        if i < 0:
            tables.row[rows] = s.tap_h[t]
            i = rows
            rows += 1
        tables.tap_row[t] = i
    for v in range(s.vectors):
        tables.place[v] = first_of(s, v)
        tables.origin[v] = tables.place[v] // s.M * s.IC
        if not s.spread:  # whole vectors are read
            tables.origin[v] = min(tables.origin[v], s.C - s.L)
        tables.shift[v] = v % s.task_vectors * (s.band // s.task_vectors) if s.band else tables.origin[v]
        for ic in range(s.IC if s.spread or s.picked else 0):
            for lane in range(s.L):
                number = tables.place[v] + lane
                number = number // s.M * s.IC + ic - tables.origin[v] if number < s.OC else 0
                i = (v * s.IC + ic) * s.L + lane
                if floating is float:
                    (<int*>tables.index)[i] = <int>number
                else:
                    (<long long*>tables.index)[i] = number
    return tables.zeros + s.C * item


cdef void set_band(
    Plan* s, Band* band, const Tables* tables, Py_ssize_t block, Py_ssize_t vector_block, char* scratch, Py_ssize_t item,
) noexcept nogil:
    """Begin a task in a thread's scratch memory."""
    band.n, band.v0 = block // s.blocks_per_image, vector_block * s.task_vectors
    band.numbers = scratch
    band.held = <Py_ssize_t*>(scratch + (s.band + TILE_ROWS * s.L) * item)
    band.where = band.held + s.lines
    band.tile = band.where + s.rows
    band.filter = band.tile + s.F
    band.line = <const void***>(band.filter + s.T)
    band.pixel = <const void**>(band.line + s.T)
    band.walk.step, band.walk.IC, band.walk.plane = s.step_w, s.IC, s.plane
    band.walk.vectors, band.walk.channels = min(s.task_vectors, s.vectors - band.v0), min(s.L, s.OC)
    band.walk.w_step = band.walk.sums_step = s.T * s.IC * s.L
    band.walk.spacing, band.walk.next_step = s.L if s.band else s.C, s.C
    band.walk.addend, band.walk.done, band.walk.finish = s.addend, band.v0 * s.L, s.finish
    band.walk.filter = band.filter
    band.walk.shift, band.walk.origin = tables.shift + band.v0, tables.origin + band.v0
    band.walk.place = tables.place + band.v0


cdef void start_strip(
    Plan* s, Band* band, const Tables* tables, Py_ssize_t first, const floating* like,
) noexcept nogil:
    """Forget the lines of the strip before; point at zeros around those to come, and in a band at its pixels."""
    cdef Py_ssize_t i, j
    cdef const void** pixel = band.pixel
    cdef floating* numbers = <floating*>band.numbers
    band.columns = (min(s.strip, s.QW - first) - 1) * s.step_w + s.span_w
    band.w = first * s.step_w + s.left
    band.before = min(max(-band.w, <Py_ssize_t>0), band.columns)
    band.stop = max(band.before, min(s.IW - band.w, band.columns))
    for i in range(s.lines):
        band.held[i] = -1
        for j in range(band.columns):
            if s.band:
                pixel[j] = numbers + j * s.L
            elif not band.before <= j < band.stop:
                pixel[j] = tables.zeros
        pixel += s.columns
        numbers += s.band // (s.task_vectors * s.lines)
    if s.band and band.stop - band.before < band.columns:
        numbers = <floating*>band.numbers
        for i in range(s.band // s.plane):
            memset(numbers, 0, band.before * s.L * sizeof(floating))
            memset(numbers + band.stop * s.L, 0, (band.columns - band.stop) * s.L * sizeof(floating))
            numbers += s.plane


cdef void fetch_line(
    Plan* s, Band* band, const Tables* tables, Py_ssize_t h, Py_ssize_t place, const floating* x,
) noexcept nogil:
    """Make line h of the image the one at `place`."""
    cdef Py_ssize_t j, v, number
    cdef const floating* source = x + ((band.n * s.IH + h) * s.IW + band.w) * s.C
    cdef const void** pixel = band.pixel + place * s.columns
    cdef floating* target = <floating*>band.numbers + place * (s.band // (s.task_vectors * s.lines)) + band.before * s.L
    cdef const floating* end = x + s.N * s.IH * s.IW * s.C
    band.held[place] = h
    if not s.band:
        for j in range(band.before, band.stop):
            pixel[j] = source + j * s.C
        return
    source += band.before * s.C
    if s.copied:
        if floating is float:
            copy_float(
                band.walk.vectors, band.stop - band.before, source, s.C, band.walk.origin, target, band.walk.shift)
        else:
            copy_double(
                band.walk.vectors, band.stop - band.before, source, s.C, band.walk.origin, target, band.walk.shift)
        return
    for v in range(band.walk.vectors):
        number = (band.v0 + v) * s.IC * s.L
        if floating is float:
            spread_float(
                s.sources, s.IC, band.stop - band.before, source + band.walk.origin[v], s.C, end,
                <const int*>tables.index + number, target + band.walk.shift[v], s.plane)
        else:
            spread_double(
                s.sources, s.IC, band.stop - band.before, source + band.walk.origin[v], s.C, end,
                <const long long*>tables.index + number, target + band.walk.shift[v], s.plane)


cdef const floating* fetch_lines(
    Plan* s, Band* band, const Tables* tables, Py_ssize_t q, bint last, const floating* x,
) noexcept nogil:
    """Fetch all lines that output row q needs; return what the next row will need, or NULL."""
    cdef Py_ssize_t i, h, place
    for i in range(s.rows):
        h = q * s.step_h + tables.row[i]
        place = -1
        if 0 <= h < s.IH:
            place = <unsigned int>h % <unsigned int>s.lines if s.span_h == s.lines else i
            if band.held[place] != h:
                fetch_line(s, band, tables, h, place, x)
        band.where[i] = place
    h = q * s.step_h + s.top + s.span_h
    if last or not 0 <= h < s.IH:
        return NULL
    band.walk.next_line = s.IW * s.C if h + 1 < s.IH else 0
    return x + ((band.n * s.IH + h) * s.IW + max(band.w, <Py_ssize_t>0)) * s.C


cdef void run_task(
    Plan* s, const Phase* phases, const Tables* tables, Py_ssize_t task, const floating* x, const floating* filters,
    const floating* bias, char* scratch, floating* out,
) noexcept nogil:
    """One block of output rows, some vectors of channels."""
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
    cdef Py_ssize_t OC = filters.shape[0], IC = filters.shape[2], L = vectors.shape[3], v, t, first
    for v in range(vectors.shape[0]):
        first = max(<Py_ssize_t>0, min(v * L, OC - L))
        for t in range(positions.shape[0]):
            pack_panel(
                &filters[first, positions[t], 0], 1, filters.shape[1] * IC, IC, min(L, OC), L, &vectors[v, t, 0, 0])


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
    for start in range(0, tasks, segment):
        stop = min(start + segment, tasks)
        for task in prange(start, stop, nogil=True, num_threads=num_threads, schedule="static"):
            run_task(
                &s, table, &tables, task, image, weights, first, threads + this_thread() * s.scratch_bytes, target)
        PyErr_CheckSignals()


cdef void add_block(
    Plan* s, const Phase* p, const Tables* tables, Py_ssize_t block, Py_ssize_t vector_block, const floating* x,
    const floating* grad_output, char* scratch,
    floating* sums,  # [task_vectors, T, IC, L]
) noexcept nogil:
    """Add one block's products to its channels' sums."""
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
    cdef Py_ssize_t item = sizeof(floating), task, slices, slice_, block, v, o, t, rounds, i, first, count
    s.N, s.IH, s.IW, s.C = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    s.OC, s.T, s.IC, s.F = grad_weight.shape[0], grad_weight.shape[1], grad_weight.shape[2], 1
    s.M = s.OC * s.IC // s.C
    s.step_h, s.step_w, s.tap_h, s.tap_w = step_h, step_w, &taps[0, 0], &taps[1, 0]
    if s.N == 0:
        grad_weight[:, :, :] = 0
        return
    s.QH, s.QW, s.regular, s.picks = 0, 0, True, True
    set_phase(&s, &phase, 0, s.T, grad_output.shape[1], grad_output.shape[2], 0)
    make_plan(&s, lanes(&grad_weight[0, 0, 0]), item, TASKS)
    slices = min(s.blocks, <Py_ssize_t>SLICES)
    cdef Py_ssize_t of_vector = s.T * s.IC * s.L, size = s.vectors * of_vector  # of a slice's sums
    cdef Block scratch = Block(num_threads * s.scratch_bytes + slices * size * item + table_bytes(&s, item))
    cdef char* threads = <char*>scratch.address
    cdef floating* partial = <floating*>(threads + num_threads * s.scratch_bytes)
    place_tables(&s, &tables, <char*>(partial + slices * size), partial)
    memset(partial, 0, slices * size * item)
    cdef const floating* image = &x[0, 0, 0, 0]
    cdef const floating* gradient = &grad_output[0, 0, 0, 0]
    # In rounds of some 10 ms a core, between which a pending Ctrl-C is heard.
    cdef double work = <double>s.N * s.vectors * s.L * s.IC * s.T * s.QH * s.QW
    rounds = 1 + <Py_ssize_t>(work / (5e8 * min(slices, <Py_ssize_t>num_threads)))
    for i in range(rounds):
        for task in prange(slices * s.vector_blocks, nogil=True, num_threads=num_threads, schedule="static"):
            slice_ = task // s.vector_blocks
            v = task % s.vector_blocks
            first = share_start(s.blocks, slices, slice_)
            count = share_start(s.blocks, slices, slice_ + 1) - first
            for block in range(first + share_start(count, rounds, i), first + share_start(count, rounds, i + 1)):
                add_block(
                    &s, &phase, &tables, block, v, image, gradient, threads + this_thread() * s.scratch_bytes,
                    partial + slice_ * size + v * s.task_vectors * of_vector)
        PyErr_CheckSignals()
    for i in range(1, slices):
        for t in range(size):
            partial[t] += partial[i * size + t]
    for o in range(s.OC):
        v = o // s.L
        for t in range(s.T):
            for i in range(s.IC):
                grad_weight[o, t, i] = partial[v * of_vector + (t * s.IC + i) * s.L + o - first_of(&s, v)]
