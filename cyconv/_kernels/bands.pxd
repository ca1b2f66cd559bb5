"""Lines of an image, kept in L1 so that every lane finds its own group's inputs, for convolution in small groups.

A task walks down a strip of columns for some vectors of channels. It keeps the lines that the filters cover in a band,
arranged as grouped.h reads them, with zeros around: the image is read once and in order, and the line after the next is
asked for in time.
"""

from cython cimport floating
from libc.string cimport memset

from cyconv._kernels.parallel cimport ceil_div

cdef extern from "grouped.h" nogil:
    const Py_ssize_t TILE_ROWS
    const Py_ssize_t tile_pixels "cyconv_tile_pixels"[4]
    bint tile_picks "cyconv_tile_picks"(Py_ssize_t kind)
    ctypedef struct Walk "struct cyconv_walk":
        Py_ssize_t rows, step, spacing, IC, vectors, plane, pixels, channels, w_step, out_step, ahead
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

cdef enum:
    BAND_BYTES = 24 << 10    # three quarters of the smallest L1, for the lines that a task copies or spreads
    LINES_BYTES = 256 << 10  # in L2, for those that it reads in place
    ALIASING = 2048  # bytes between pixels of which few fit in L1 together: a multiple of it shares two of its sets
    VECTORS = 8      # of channels in a task, at most
    MOST_LINES = 64  # that are kept; where the filters reach further, only those of each output row are
    LEAST_ROWS = 8  # of a block, which reads the lines above and below it too, and the first ones unannounced


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
    Py_ssize_t w, before, stop  # the first column, which may lie before the image; those that are in it
    Py_ssize_t* held       # [lines] the line of the image that each is
    Py_ssize_t* where      # [rows] numbers of the lines of the output row; -1 outside the image
    Py_ssize_t* tile       # [F] width of each phase's
    Py_ssize_t* filter     # [T] filters that go with the lines of a phase
    const void*** line     # [T] those lines' pixels
    const void** pixel     # [lines, columns] addresses
    char* numbers          # [task_vectors, lines, IC or 1, columns, L] where lines are copied or spread
    Walk walk


cdef inline Py_ssize_t shared_run(
    Py_ssize_t T, const Py_ssize_t* tap_h, const Py_ssize_t* tap_w, Py_ssize_t step_w,
) noexcept nogil:
    """How many consecutive taps read consecutive pixels, as many as the tile has a kind for."""
    cdef Py_ssize_t length = 1, t, run
    cdef bint fits
    while length < T and tap_h[length] == tap_h[0] and tap_w[length] == tap_w[0] + length:
        length += 1
    for run in range(7, 1, -1):
        fits = run != 6 and length % run == 0 and T % run == 0
        if step_w != 1 and (step_w != 2 or run % 2 == 0):
            fits = False
        for t in range(T):
            if t % run and (tap_h[t] != tap_h[t - 1] or tap_w[t] != tap_w[t - 1] + 1):
                fits = False
        if fits:
            return run
    return 1


cdef inline Py_ssize_t widest(Py_ssize_t room) noexcept nogil:
    """The most pixels of a tile that fit."""
    cdef Py_ssize_t i = 0
    while tile_pixels[i] > room:
        i += 1
    return tile_pixels[i]


cdef inline Py_ssize_t cheapest(Py_ssize_t room) noexcept nogil:
    """The tile that does so many pixels at the least cost, where the last one may do some again: a tile has its own."""
    cdef Py_ssize_t i, best = 1
    for i in range(4):
        if tile_pixels[i] <= room and (
            ceil_div(room, tile_pixels[i]) * (tile_pixels[i] + 1) < ceil_div(room, best) * (best + 1)
        ):
            best = tile_pixels[i]
    return best


cdef inline void set_phase(
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


cdef inline void make_plan(Plan* s, Py_ssize_t L, Py_ssize_t item, Py_ssize_t tasks) noexcept:
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


cdef inline void set_strip(Plan* s, Py_ssize_t column) noexcept:
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


cdef inline char* place_tables(Plan* s, Tables* tables, char* memory, const floating* like) noexcept:
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


cdef inline void set_band(
    Plan* s, Band* band, const Tables* tables, Py_ssize_t block, Py_ssize_t vector_block, char* scratch,
    Py_ssize_t item,
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
    band.walk.w_step = s.T * s.IC * s.L
    band.walk.spacing, band.walk.next_step = s.L if s.band else s.C, s.C
    band.walk.addend, band.walk.done, band.walk.finish = s.addend, band.v0 * s.L, s.finish
    band.walk.filter = band.filter
    band.walk.shift, band.walk.origin = tables.shift + band.v0, tables.origin + band.v0
    band.walk.place = tables.place + band.v0


cdef inline void start_strip(
    Plan* s, Band* band, const Tables* tables, Py_ssize_t first, const floating* like,
) noexcept nogil:
    """Forget the lines of the strip before; point at zeros around those to come, and in a band at its pixels."""
    cdef Py_ssize_t i, j, columns = (min(s.strip, s.QW - first) - 1) * s.step_w + s.span_w
    cdef const void** pixel = band.pixel
    cdef floating* numbers = <floating*>band.numbers
    band.w = first * s.step_w + s.left
    band.before = min(max(-band.w, <Py_ssize_t>0), columns)
    band.stop = max(band.before, min(s.IW - band.w, columns))
    for i in range(s.lines):
        band.held[i] = -1
        for j in range(columns):
            if s.band:
                pixel[j] = numbers + j * s.L
            elif not band.before <= j < band.stop:
                pixel[j] = tables.zeros
        pixel += s.columns
        numbers += s.band // (s.task_vectors * s.lines)
    if s.band and band.stop - band.before < columns:
        numbers = <floating*>band.numbers
        for i in range(s.band // s.plane):
            memset(numbers + i * s.plane, 0, band.before * s.L * sizeof(floating))
            memset(
                numbers + i * s.plane + band.stop * s.L, 0, (columns - band.stop) * s.L * sizeof(floating))


cdef inline void fetch_line(
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


cdef inline const floating* fetch_lines(
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
