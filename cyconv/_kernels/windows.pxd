"""The tables that tell a kernel where windows lie, made by functional/_windows.py, and how channels fill vectors.

Along one axis, `windows` [O, 3] holds for each window the ORIGIN (position of tap 0; negative in the padding) and its
taps inside the input, FIRST to STOP. For the way back, each input position gathers from the windows that read it.
Without dilation these follow each other: `readers` [I, 2] holds the first and the last + 1. In general rows start[i] to
start[i + 1] of `pairs` [M, 2] are a position's (window, tap), windows ascending.

Vectors run along the channels; see pooling.h.

Few channels do not fill a vector. There, it goes on into the next pixels, and what it writes to them is wrong, but they
follow and put it right. Only where the memory ends, or the rows that follow are another thread's, has it no room: the
windows or positions from there on are not WHOLE.
"""

from cython cimport floating

cdef extern from "simd.h" nogil:
    const Py_ssize_t VECTOR_BYTES

cdef enum:
    ORIGIN = 0
    FIRST = 1
    STOP = 2

cdef enum:
    PAIR = 2    # rows written at once: more would be too many streams


cdef inline Py_ssize_t lanes(const floating* kind) noexcept nogil:
    """How many numbers a vector holds."""
    return VECTOR_BYTES // <Py_ssize_t>sizeof(floating)


cdef inline Py_ssize_t last_position(const Py_ssize_t* window, Py_ssize_t dilation) noexcept nogil:
    """The position of a window's last tap inside the input."""
    return window[ORIGIN] + (window[STOP] - 1) * dilation


cdef inline Py_ssize_t whole_windows(
    const Py_ssize_t* columns, Py_ssize_t OW, Py_ssize_t IW, Py_ssize_t dilation, Py_ssize_t C, Py_ssize_t width,
    Py_ssize_t IMAGE_ROOM, Py_ssize_t WINDOW_ROOM,
) noexcept nogil:
    """How many windows of a row are whole, when so many numbers follow the starts of the image's and windows' rows."""
    cdef Py_ssize_t ow
    if C >= width or (IMAGE_ROOM >= IW * C + width and WINDOW_ROOM >= OW * C + width):
        return OW
    for ow in range(OW):
        if last_position(columns + 3 * ow, dilation) * C + width > IMAGE_ROOM or ow * C + width > WINDOW_ROOM:
            return ow
    return OW


cdef inline Py_ssize_t whole_positions(
    const Py_ssize_t* readers, Py_ssize_t OW, Py_ssize_t IW, Py_ssize_t C, Py_ssize_t width, Py_ssize_t IMAGE_ROOM,
    Py_ssize_t WINDOW_ROOM,
) noexcept nogil:
    """How many positions of a row are whole, likewise."""
    cdef Py_ssize_t iw
    if C >= width or (IMAGE_ROOM >= IW * C + width and WINDOW_ROOM >= OW * C + width):
        return IW
    for iw in range(IW):
        if iw * C + width > IMAGE_ROOM:
            return iw
        if readers[2 * iw] < readers[2 * iw + 1] and (readers[2 * iw + 1] - 1) * C + width > WINDOW_ROOM:
            return iw
    return IW


cdef inline Py_ssize_t same_window(
    const Py_ssize_t* start, const Py_ssize_t* pairs, Py_ssize_t i, Py_ssize_t most
) noexcept nogil:
    """How many positions from i on, at most `most`, are read by one and the same window only; 0 if not even i is."""
    cdef Py_ssize_t count = 0
    cdef const Py_ssize_t* pair = pairs + 2 * start[i]
    while count < most and start[i + count + 1] - start[i] == count + 1 and pair[2 * count] == pair[0]:
        count += 1
    return count


cdef inline Py_ssize_t same_reader(const Py_ssize_t* readers, Py_ssize_t i, Py_ssize_t most) noexcept nogil:
    """The same, of tables without dilation."""
    cdef Py_ssize_t count = 0, window = readers[2 * i]
    while count < most and readers[2 * (i + count)] == window and readers[2 * (i + count) + 1] == window + 1:
        count += 1
    return count


cdef inline Py_ssize_t fresh_row(const Py_ssize_t* rows, Py_ssize_t oh) noexcept nogil:
    """The tap from which on a window's rows come after those of the window before."""
    return 0 if oh == 0 else rows[3 * oh - 3 + ORIGIN] + rows[3 * oh - 3 + STOP] - rows[3 * oh + ORIGIN]
