"""Tiles of an output line's pixels, and the taps that they are unrolled for."""

from cyconv._kernels.parallel cimport ceil_div

cdef extern from "lines.h" nogil:
    const Py_ssize_t TILE_ROWS
    const Py_ssize_t tile_pixels "cyconv_tile_pixels"[4]


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
