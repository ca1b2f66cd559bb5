"""Filters of single images with fixed kernels: weighted sums of the lines of an image that goes on over its edges.

The extended image has the rows that `rows` lists and the columns that `columns` lists, -1 being a constant. A task, a
block of output rows in a strip of columns, reads its rows one after another as float or double, so that whatever the
image's numbers, size and order in memory are there is one loop, over whole vectors. The last KH rows are kept, as they
are or, of separable kernels, summed along the row:

    passed[row][i] = sum over t < ALONG of along[t] * line[along_level[t]][i + along_w[t] * C]
    line[0] = the row, line[l + 1][i] = line[l][i] + line[l][i + 2^l * C]: sums of 2^l pixels

and from these each output row is the sum of all passed rows (if running), or

    sum[i] = sum over t < T of weights[t] * kept[oh + tap_h[t]][i + tap_w[t] * C], tap_h from KH on meaning passed rows

over the divisor, or sqrt(sum^2 + other^2) where the taps from `first` on make another sum.
IH IW C: image; OH OW: output; KH KW: the kernel's bounds; T: its taps; L: lanes of a vector.
"""

from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport rint, rintf, sqrt, sqrtf
from libc.string cimport memcpy, memset

from cyconv._kernels.parallel cimport ceil_div, segment_tasks, share_start, this_thread
from cyconv._kernels.simd cimport lanes
from cyconv._memory cimport Block

cdef extern from "filter2d.h" nogil:
    void weighted_sum_float "cyconv_weighted_sum_float"(
        Py_ssize_t TERMS, const float** x, const float* weight, Py_ssize_t COUNT, float* out)
    void weighted_sum_double "cyconv_weighted_sum_double"(
        Py_ssize_t TERMS, const double** x, const double* weight, Py_ssize_t COUNT, double* out)

ctypedef fused pixel:
    unsigned char
    float
    double

cdef enum:
    # A strip's kept rows, which should stay in L2: a Gaussian of 17x17 over 2048x2048x3 uint8 takes 23.4 ms on a thread
    # with 96 KB, 22.1 with 192, 21.5 with 384.
    LINES_BYTES = 256 << 10
    LEAST_STRIP = 128           # numbers in a strip's lines
    MOST_STRIP = 4096
    LEAST_ROWS = 16             # output rows of a task
    TASK_SUMS = 1 << 24         # multiply-adds of a task, about, where kernels are large


cdef struct Plan:
    Py_ssize_t IW, C, OH, OW, KH, KW, T, first, ALONG, LEVELS
    const char* image
    Py_ssize_t image_item, row_step, column_step, channel_step      # bytes of a number, to the next row, ...
    Py_ssize_t before                                   # columns of the extended image before the image's own
    const Py_ssize_t* rows
    const Py_ssize_t* columns
    const Py_ssize_t* along_level
    const Py_ssize_t* along_w
    const Py_ssize_t* tap_h
    const Py_ssize_t* tap_w
    bint running
    double cval, divisor
    Py_ssize_t blocks, strips
    Py_ssize_t RAW                                      # rows kept as they are, or one
    Py_ssize_t LINE, PASSED                             # numbers from a row to the next, and from a sum of it
    Py_ssize_t scratch_bytes                            # per thread
    unsigned char* out
    Py_ssize_t item                                     # bytes of a number there


cdef inline void weighted_sum(
    Py_ssize_t TERMS, const floating** x, const floating* weight, Py_ssize_t COUNT, floating* out,
) noexcept nogil:
    if floating is float:
        weighted_sum_float(TERMS, x, weight, COUNT, out)
    else:
        weighted_sum_double(TERMS, x, weight, COUNT, out)


cdef void load_pixels(
    const pixel* source, Py_ssize_t column_step, Py_ssize_t channel_step, Py_ssize_t COUNT, Py_ssize_t C,
    floating* target,
) noexcept nogil:
    """COUNT pixels that lie `column_step` bytes from each other, their channels `channel_step` bytes."""
    cdef const char* address = <const char*>source
    cdef Py_ssize_t i, c
    if column_step == C * <Py_ssize_t>sizeof(pixel) and (C == 1 or channel_step == sizeof(pixel)):
        for i in range(COUNT * C):
            target[i] = <floating>source[i]
        return
    for i in range(COUNT):
        for c in range(C):
            target[i * C + c] = <floating>(<const pixel*>(address + i * column_step + c * channel_step))[0]


cdef void load(const Plan* s, const char* source, Py_ssize_t COUNT, floating* target) noexcept nogil:
    if s.image_item == 1:
        load_pixels(<const unsigned char*>source, s.column_step, s.channel_step, COUNT, s.C, target)
    elif s.image_item == sizeof(float):
        load_pixels(<const float*>source, s.column_step, s.channel_step, COUNT, s.C, target)
    else:
        load_pixels(<const double*>source, s.column_step, s.channel_step, COUNT, s.C, target)


cdef void load_listed(
    const Plan* s, const char* row, Py_ssize_t start, Py_ssize_t stop, floating* target,
) noexcept nogil:
    """The extended columns from `start` to `stop`, each where the list says."""
    cdef Py_ssize_t j, c
    for j in range(start, stop):
        if s.columns[j] < 0:
            for c in range(s.C):
                target[c] = <floating>s.cval
        else:
            load(s, row + s.columns[j] * s.column_step, 1, target)
        target += s.C


cdef void load_line(
    const Plan* s, Py_ssize_t row, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t L, floating* line,
) noexcept nogil:
    """A row of the extended image, its columns from `start` to `stop`, and zeros that whole vectors may read."""
    cdef Py_ssize_t own_start = min(max(s.before, start), stop)
    cdef Py_ssize_t own_stop = max(own_start, min(s.before + s.IW, stop)), i
    cdef const char* source = s.image + s.rows[row] * s.row_step
    if s.rows[row] < 0:
        for i in range((stop - start) * s.C):
            line[i] = <floating>s.cval
    else:
        load_listed(s, source, start, own_start, line)
        load(s, source + (own_start - s.before) * s.column_step, own_stop - own_start,
             line + (own_start - start) * s.C)
        load_listed(s, source, own_stop, stop, line + (own_stop - start) * s.C)
    memset(line + (stop - start) * s.C, 0, 2 * L * sizeof(floating))


cdef void add(const floating* a, const floating* b, Py_ssize_t COUNT, floating* out) noexcept nogil:
    """out = a + b; it may be either."""
    cdef Py_ssize_t i
    for i in range(COUNT):
        out[i] = a[i] + b[i]


cdef void run_sum(
    floating* ring, Py_ssize_t LINE, Py_ssize_t KH, Py_ssize_t oh, Py_ssize_t m, Py_ssize_t COUNT, floating* since,
    floating* out,
) noexcept nogil:
    """out = sum of the rows oh to oh + KH - 1, for the m-th of consecutive oh (van Herk 1992).

    Every KH rows the lines of the ring become sums of themselves and those behind them; the m-th is joined to the sum
    `since` then, of m rows. Nothing is subtracted, so that neither rounding errors nor infinities are carried along.
    """
    cdef Py_ssize_t i
    cdef floating* own = ring + oh % KH * LINE
    if m % KH == 0:
        for i in range(oh + KH - 2, oh - 1, -1):
            add(ring + i % KH * LINE, ring + (i + 1) % KH * LINE, COUNT, ring + i % KH * LINE)
        memset(since, 0, COUNT * sizeof(floating))
        memcpy(out, own, COUNT * sizeof(floating))
    else:
        add(since, ring + (oh + KH - 1) % KH * LINE, COUNT, since)
        add(since, own, COUNT, out)


cdef void pass_along(
    const Plan* s, floating* row, const floating* factors, Py_ssize_t LOADED, Py_ssize_t COUNT, floating* levels,
    const floating** x, floating* out,
) noexcept nogil:
    """A separable kernel's first pass, over one row."""
    cdef floating* line = row
    cdef Py_ssize_t t
    for t in range(s.LEVELS):
        add(line, line + (s.C << t), LOADED - ((2 << t) - 1) * s.C, levels + t * s.LINE)
        line = levels + t * s.LINE
    for t in range(s.ALONG):
        line = levels + (s.along_level[t] - 1) * s.LINE if s.along_level[t] else row
        x[t] = line + s.along_w[t] * s.C
    weighted_sum(s.ALONG, x, factors + s.T, COUNT, out)


cdef void join(floating* a, const floating* b, Py_ssize_t COUNT) noexcept nogil:
    """a = sqrt(a^2 + b^2)."""
    cdef Py_ssize_t i
    for i in range(COUNT):
        a[i] = sqrtf(a[i] * a[i] + b[i] * b[i]) if floating is float else sqrt(a[i] * a[i] + b[i] * b[i])


cdef inline unsigned char to_byte(floating value) noexcept nogil:
    """The nearest, of two the even one; 0 for NaN."""
    value = value if value > 0 else 0
    value = value if value < 255 else 255
    return <unsigned char><int>(rintf(value) if floating is float else rint(value))


cdef void store_line(
    floating* line, Py_ssize_t COUNT, floating divisor, Py_ssize_t item, unsigned char* out,
) noexcept nogil:
    """out = line / divisor, as bytes, floats or doubles; spoils the line."""
    cdef Py_ssize_t i
    if divisor != 1:
        for i in range(COUNT):
            line[i] /= divisor
    if item == sizeof(floating):
        memcpy(out, line, COUNT * sizeof(floating))
    elif item == 1:
        for i in range(COUNT):
            out[i] = to_byte(line[i])
    else:  # floats of doubles
        for i in range(COUNT):
            (<float*>out)[i] = <float>line[i]


cdef void run_task(const Plan* s, Py_ssize_t task, const floating* factors, char* scratch) noexcept nogil:
    """A block of rows in a strip of columns."""
    cdef Py_ssize_t block = task // s.strips, strip = task % s.strips, L = lanes(factors)
    cdef Py_ssize_t q0 = share_start(s.OH, s.blocks, block), q1 = share_start(s.OH, s.blocks, block + 1)
    cdef Py_ssize_t start = share_start(s.OW, s.strips, strip), stop = share_start(s.OW, s.strips, strip + 1)
    cdef Py_ssize_t COUNT = (stop - start) * s.C, LOADED = COUNT + (s.KW - 1) * s.C + L
    cdef floating* raw = <floating*>scratch
    cdef floating* levels = raw + s.RAW * s.LINE
    cdef floating* passed = levels + s.LEVELS * s.LINE
    cdef floating* total = passed + (s.KH * s.PASSED if s.ALONG else 0)
    cdef floating* other = total + s.PASSED  # of a second sum, or a running one: no kernel has both
    cdef const floating** x = <const floating**>(other + s.PASSED)
    cdef floating* line
    cdef Py_ssize_t row = q0, oh, t
    for oh in range(q0, q1):
        while row < oh + s.KH:
            line = raw + row % s.RAW * s.LINE
            load_line(s, row, start, stop + s.KW - 1, L, line)
            if s.ALONG:
                pass_along(s, line, factors, LOADED, COUNT, levels, x, passed + row % s.KH * s.PASSED)
            row += 1
        if s.running:
            run_sum(passed, s.PASSED, s.KH, oh, oh - q0, COUNT, other, total)
        for t in range(s.T):
            if s.tap_h[t] < s.KH:
                x[t] = raw + (oh + s.tap_h[t]) % s.KH * s.LINE + s.tap_w[t] * s.C
            else:
                x[t] = passed + (oh + s.tap_h[t]) % s.KH * s.PASSED
        if not s.running:
            weighted_sum(s.first, x, factors, COUNT, total)
        if s.first < s.T:
            weighted_sum(s.T - s.first, x + s.first, factors + s.first, COUNT, other)
            join(total, other, COUNT)
        store_line(total, COUNT, <floating>s.divisor, s.item, s.out + (oh * s.OW + start) * s.C * s.item)


cdef inline Py_ssize_t padded(Py_ssize_t numbers, Py_ssize_t item) noexcept:
    """At least so many, in an odd number of cache lines: else rows would share few sets of the cache."""
    return (ceil_div(numbers, 64 // item) | 1) * (64 // item)


cdef void make_plan(Plan* s, Py_ssize_t item, Py_ssize_t L) noexcept:
    """Cut the output into strips whose rows stay in cache, and blocks of rows: by its size alone."""
    cdef Py_ssize_t kept = s.KH, rows = max(<Py_ssize_t>LEAST_ROWS, 4 * s.KH), numbers, t
    s.RAW = 1 if s.ALONG else s.KH
    for t in range(s.T):
        if s.ALONG and s.tap_h[t] < s.KH:
            s.RAW = s.KH
            kept = 2 * s.KH
    numbers = LINES_BYTES // (item * (kept + s.LEVELS + 3))
    numbers = min(max(numbers, <Py_ssize_t>LEAST_STRIP), <Py_ssize_t>MOST_STRIP)
    s.strips = min(s.OW, ceil_div(s.OW * s.C, numbers))
    numbers = ceil_div(s.OW, s.strips) * s.C
    s.LINE = padded(numbers + (s.KW - 1) * s.C + 2 * L, item)
    s.PASSED = padded(numbers + L, item)
    if not s.ALONG:
        rows = max(<Py_ssize_t>1, min(rows, TASK_SUMS // (numbers * max(s.T, <Py_ssize_t>1))))
    s.blocks = ceil_div(s.OH, rows)
    numbers = (s.RAW + s.LEVELS) * s.LINE + ((s.KH if s.ALONG else 0) + 2) * s.PASSED
    s.scratch_bytes = ceil_div(numbers * item + max(s.T, s.ALONG) * <Py_ssize_t>sizeof(void*), 64) * 64 + 64


cdef run(Plan* s, const floating* like, const double[::1] along, const double[::1] weights, int num_threads):
    cdef Py_ssize_t item = sizeof(floating), task, tasks, begin, end, segment, t
    make_plan(s, item, lanes(like))
    cdef Block block = Block(num_threads * s.scratch_bytes + (s.T + s.ALONG) * item)
    cdef char* scratch = <char*>block.address
    cdef floating* factors = <floating*>(scratch + num_threads * s.scratch_bytes)
    for t in range(s.T):
        factors[t] = <floating>weights[t]
    for t in range(s.ALONG):
        factors[s.T + t] = <floating>along[t]
    tasks = s.blocks * s.strips
    segment = segment_tasks(tasks, <double>s.OH * s.OW * s.C * (s.T + s.ALONG + 4), num_threads)
    for begin in range(0, tasks, segment):
        end = min(begin + segment, tasks)
        for task in prange(begin, end, nogil=True, num_threads=num_threads, schedule="static"):
            run_task(s, task, factors, scratch + this_thread() * s.scratch_bytes)
        PyErr_CheckSignals()


def filter2d(
    const pixel[:, :, :] image,             # IN  [IH, IW, C], any strides
    const Py_ssize_t[::1] rows,             # IN  [OH + KH - 1] which row of the image each extended one is, or -1
    const Py_ssize_t[::1] columns,          # IN  [OW + KW - 1] the same of columns
    Py_ssize_t before,                      # columns of the extended image before the image's own
    double cval,                            # what -1 stands for
    const Py_ssize_t[::1] along_level,      # IN  [ALONG] lines of the taps along a row
    const Py_ssize_t[::1] along_w,          # IN  [ALONG] their columns
    const double[::1] along,                # IN  [ALONG] their weights
    Py_ssize_t levels,                      # lines that are sums of 2, 4, ... pixels
    bint running,                           # add up all passed rows; there are no taps then
    const Py_ssize_t[::1] tap_h,            # IN  [T] rows of the taps
    const Py_ssize_t[::1] tap_w,            # IN  [T] columns, 0 in passed rows
    const double[::1] weights,              # IN  [T]
    Py_ssize_t first,                       # taps that make the first sum
    double divisor,
    bint wide,                              # compute in double
    unsigned char[:, ::1] out,              # OUT [OH * OW * C, bytes of a number], of uint8, float or, if wide, double
    Py_ssize_t OH,
    Py_ssize_t OW,
    int num_threads,
):
    """Sum as the module says."""
    cdef Plan s
    s.image, s.image_item = <const char*>&image[0, 0, 0], sizeof(pixel)
    s.row_step, s.column_step, s.channel_step = image.strides[0], image.strides[1], image.strides[2]
    s.IW, s.C, s.OH, s.OW = image.shape[1], image.shape[2], OH, OW
    s.KH, s.KW = rows.shape[0] - OH + 1, columns.shape[0] - OW + 1
    s.T, s.first, s.ALONG, s.LEVELS, s.running = weights.shape[0], first, along.shape[0], levels, running
    s.before, s.cval, s.divisor = before, cval, divisor
    s.rows, s.columns = &rows[0], &columns[0]
    s.along_level = &along_level[0] if s.ALONG else NULL
    s.along_w = &along_w[0] if s.ALONG else NULL
    s.tap_h = &tap_h[0] if s.T else NULL
    s.tap_w = &tap_w[0] if s.T else NULL
    s.out, s.item = &out[0, 0], out.shape[1]
    if wide:
        run(&s, <const double*>NULL, along, weights, num_threads)
    else:
        run(&s, <const float*>NULL, along, weights, num_threads)
