"""The tables that tell a kernel where windows lie, made by functional/_windows.py, and how channels fill vectors.

Along one axis, `windows` [O, 3] holds for each window the ORIGIN (position of tap 0; negative in the padding) and its
taps inside the input, FIRST to STOP. For the way back, each input position gathers from the windows that read it: rows
start[i] to start[i + 1] of `pairs` [M, 2] are its (window, tap), windows ascending.

Vectors run along the channels, and a block of `width` stays in registers while all taps pass. `width` is a constant:
the bits of a type, `width_t`, which makes each width a function of its own. The largest that fits the channels well is
taken; the last block is moved back to end at the last channel, which costs less than a scalar tail.

Few channels do not fill a block. There, a block goes on into the next pixels, and what it writes to them is wrong, but
they follow and put it right. Only where the memory ends, or the rows that follow are another thread's, has a block no
room: the windows or positions from there on are not WHOLE, and take their channels one by one.
"""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t

ctypedef fused width_t:
    int8_t
    int16_t
    int32_t
    int64_t

cdef enum:
    ORIGIN = 0
    FIRST = 1
    STOP = 2

cdef enum:
    PAIR = 2    # rows written at once: more would be too many streams
    WIDE = 64   # the largest block; bytes of that many channels fill a vector, as gcc wants it


cdef inline int block_width(Py_ssize_t C) noexcept nogil:
    return 64 if C % 64 == 0 else 32 if C >= 32 else 16 if C > 8 else 8


cdef inline Py_ssize_t block_count(Py_ssize_t C, const int width) noexcept nogil:
    return 1 if width == 8 else (C + width - 1) // width


cdef inline Py_ssize_t block_start(Py_ssize_t block, Py_ssize_t C, const int width) noexcept nogil:
    return 0 if width == 8 else max(0, min(block * width, C - width))


cdef inline Py_ssize_t last_position(const Py_ssize_t* window, Py_ssize_t dilation) noexcept nogil:
    """The position of a window's last tap inside the input."""
    return window[ORIGIN] + (window[STOP] - 1) * dilation


cdef inline Py_ssize_t whole_windows(
    const Py_ssize_t* columns, Py_ssize_t OW, Py_ssize_t IW, Py_ssize_t dilation, Py_ssize_t C, const int width,
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
    const Py_ssize_t* start, const Py_ssize_t* pairs, Py_ssize_t OW, Py_ssize_t IW, Py_ssize_t C, const int width,
    Py_ssize_t IMAGE_ROOM, Py_ssize_t WINDOW_ROOM,
) noexcept nogil:
    """How many positions of a row are whole, likewise."""
    cdef Py_ssize_t iw
    if C >= width or (IMAGE_ROOM >= IW * C + width and WINDOW_ROOM >= OW * C + width):
        return IW
    for iw in range(IW):
        if iw * C + width > IMAGE_ROOM:
            return iw
        if start[iw] < start[iw + 1] and pairs[2 * start[iw + 1] - 2] * C + width > WINDOW_ROOM:
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
