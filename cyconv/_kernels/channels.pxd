"""How per-channel passes walk [P, C] memory (P pixels, C channels): rows long enough for vectors, whatever C is.

A row is `R` whole pixels, WIDTH = R * C numbers, so 3 channels vectorise as well as 512: per-channel parameters are
repeated R times (`widen`), per-channel sums are kept R times and added up at the end (`fold`). Rows are grouped into
panels, summed in the arrays' own precision, panels into chunks, summed in double. The number of chunks depends on the
shape only, and they are combined in order: the same bits for any number of threads. It is a power of two, which most
numbers of threads share evenly, and a chunk holds a panel at least, or folding would cost more than summing.
"""

from cython cimport floating
from libc.string cimport memcpy

cdef extern from "rows.h" nogil:
    void sum_rows_float "cyconv_sum_rows_float"(const float* x, Py_ssize_t count, Py_ssize_t width, float* sums)
    void sum_rows_double "cyconv_sum_rows_double"(const double* x, Py_ssize_t count, Py_ssize_t width, double* sums)

cdef enum:
    ROW = 256               # numbers in a row, at least: enough independent sums to hide the latency of an addition
    LONG_ROW = 2048         # numbers beyond which a row need not be a whole number of vectors
    PANEL_ROWS = 64         # folding a panel must cost little beside summing it
    CHUNK = 32768           # numbers in a chunk, at least: as many as are worth a thread
    MOST_CHUNKS = 128


cdef inline Py_ssize_t pixels_per_row(Py_ssize_t C) noexcept nogil:
    """R, a power of two."""
    cdef Py_ssize_t R = 1
    if C == 0:
        return 1
    while R * C < ROW or (R * C % 16 != 0 and R * C < LONG_ROW):
        R *= 2
    return R


cdef inline Py_ssize_t pixels_per_panel(Py_ssize_t C) noexcept nogil:
    return PANEL_ROWS * pixels_per_row(C)


cdef inline Py_ssize_t chunk_count(Py_ssize_t P, Py_ssize_t C) noexcept nogil:
    cdef Py_ssize_t most = min(min(P * C // CHUNK, P // pixels_per_panel(C)), MOST_CHUNKS), count = 1
    while 2 * count <= most:
        count *= 2
    return count


cdef inline void widen(const double* values, Py_ssize_t C, Py_ssize_t WIDTH, floating* wide) noexcept nogil:
    """wide[r * C + c] = values[c]."""
    cdef Py_ssize_t length = C, c
    for c in range(C):
        wide[c] = <floating>values[c]
    while length < WIDTH:
        memcpy(wide + length, wide, length * sizeof(floating))
        length *= 2


cdef inline void fold(floating* wide, Py_ssize_t C, Py_ssize_t WIDTH) noexcept nogil:
    """wide[c] = sum over r of wide[r * C + c], halves added to halves; destroys the rest."""
    cdef Py_ssize_t half = WIDTH, i
    while half > C:
        half //= 2
        for i in range(half):
            wide[i] += wide[half + i]


cdef inline void sum_rows(const floating* x, Py_ssize_t COUNT, Py_ssize_t WIDTH, floating* sums) noexcept nogil:
    """sums[j] = sum over rows i of x[i * WIDTH + j]; the last row may end early."""
    if floating is float:
        sum_rows_float(x, COUNT, WIDTH, sums)
    else:
        sum_rows_double(x, COUNT, WIDTH, sums)
