"""The tables that tell a kernel where windows lie, made by functional/_windows.py.

Along one axis, `windows` [O, 3] holds for each window the ORIGIN (position of tap 0; negative in the padding) and its taps
inside the input, FIRST to STOP. For the way back, each input position gathers from the windows that read it: rows start[i]
to start[i + 1] of `pairs` [M, 2] are its (window, tap), windows ascending.
"""

cdef enum:
    ORIGIN = 0
    FIRST = 1
    STOP = 2

cdef enum:
    WIDE = 32  # channels of a block kept in registers: two AVX-512 vectors of float overlap two dependency chains
