"""The tables that tell a kernel where windows lie, made by functional/_windows.py.

Along one axis, `windows` [O, 3] holds for each window the ORIGIN (position of tap 0; negative in the padding) and its
taps inside the input, FIRST to STOP. For the way back, each input position gathers from the windows that read it: rows
start[i] to start[i + 1] of `pairs` [M, 2] are its (window, tap), windows ascending.

Where channels are many, vectors run along them, and a block of `width` stays in registers while all taps pass. `width`
is a constant after inlining, the largest that fits the channels well; the last block is moved back to end at the last
channel, which costs less than a scalar tail.

Few channels would fill no vector. There, vectors run along the whole output row of E = OW*C elements: element e reads
`offsets[e]` (of tap 0, from the start of the input row), and `spans` [S, 3] are the runs (kw, first e, stop e) in which
tap kw lies inside the input.
"""

from libc.stdint cimport int32_t

cdef enum:
    ORIGIN = 0
    FIRST = 1
    STOP = 2

cdef enum:
    WIDE = 64   # the largest block; bytes of that many channels fill a vector, as gcc wants it
    LINE = 128  # elements of a row of few channels taken at a time

cdef struct Spans:
    Py_ssize_t E
    const int32_t* offsets
    Py_ssize_t S
    const Py_ssize_t* spans


cdef inline Spans as_spans(const int32_t[::1] offsets, const Py_ssize_t[:, ::1] spans) noexcept nogil:
    """Take the addresses of the tables, which are empty where channels are many."""
    cdef Spans s
    s.E, s.S = offsets.shape[0], spans.shape[0]
    s.offsets = &offsets[0] if s.E else NULL
    s.spans = &spans[0, 0] if s.S else NULL
    return s
