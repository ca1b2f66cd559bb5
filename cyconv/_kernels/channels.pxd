"""How per-channel passes walk [P, C] memory (P pixels, C channels): rows long enough for vectors, whatever C is.

A row is `R` whole pixels, WIDTH = R * C numbers, so 3 channels vectorise as well as 512: per-channel parameters are
repeated R times (`widen`), per-channel sums are kept R times and added up at the end (`fold`). Rows are grouped into
panels that stay in cache and are summed in the arrays' own precision, panels into chunks summed in double. The number of chunks
depends on the shape only, and they are combined in order: the same bits for any number of threads.
"""

from cython cimport floating
from libc.string cimport memset

cdef enum:
    ROW = 256               # numbers in a row, at least: enough independent sums to hide the latency of an addition
    LONG_ROW = 2048         # numbers beyond which a row need not be a whole number of vectors
    PANEL = 8192            # numbers in a panel, about: 32 KB of float32 stay in the first-level cache
    PANEL_ROWS = 16         # rows in a panel, at least: folding it must not cost more than summing it
    CHUNK = 65536           # numbers in a chunk, at least
    MOST_CHUNKS = 128


cdef inline Py_ssize_t pixels_per_row(Py_ssize_t C) noexcept nogil:
    cdef Py_ssize_t R = 1
    while R * C < ROW or (R * C % 16 != 0 and R * C < LONG_ROW):
        R *= 2
    return R


cdef inline Py_ssize_t pixels_per_panel(Py_ssize_t C) noexcept nogil:
    cdef Py_ssize_t R = pixels_per_row(C)
    return R * max(PANEL_ROWS, PANEL // (R * C))


cdef inline Py_ssize_t chunk_count(Py_ssize_t P, Py_ssize_t C) noexcept nogil:
    return max(1, min(min(P * C // CHUNK, P // pixels_per_row(C)), MOST_CHUNKS))


cdef inline void widen(const floating* values, Py_ssize_t C, Py_ssize_t WIDTH, floating* wide) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(C):
        wide[i] = values[i]
    for i in range(C, WIDTH):
        wide[i] = wide[i - C]


cdef inline void fold(const floating* wide, Py_ssize_t C, Py_ssize_t WIDTH, double* totals) noexcept nogil:
    """totals[c] = sum over r of wide[r * C + c]."""
    cdef Py_ssize_t r, c
    memset(totals, 0, C * sizeof(double))
    for r in range(WIDTH // C):
        for c in range(C):
            totals[c] += wide[r * C + c]


cdef inline void sum_rows(const floating* x, Py_ssize_t COUNT, Py_ssize_t WIDTH, floating* sums) noexcept nogil:
    """sums[j] = sum over rows i of x[i * WIDTH + j]; the last row may end early. Four rows a step save loads of `sums`."""
    cdef const floating* end = x + COUNT
    cdef Py_ssize_t j
    memset(sums, 0, WIDTH * sizeof(floating))
    while end - x >= 4 * WIDTH:
        for j in range(WIDTH):
            sums[j] += (x[j] + x[WIDTH + j]) + (x[2 * WIDTH + j] + x[3 * WIDTH + j])
        x += 4 * WIDTH
    while x < end:
        for j in range(min(WIDTH, end - x)):
            sums[j] += x[j]
        x += WIDTH
