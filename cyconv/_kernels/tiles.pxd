"""Outputs in tiles of some pixels a side, and blocks of tiles: where they lie, which pixels they read, what is next."""

from libc.string cimport memcpy, memset

from cyconv._kernels.pack cimport copy_band
from cyconv._kernels.parallel cimport LINE, ceil_div, share_start

cdef enum:
    AHEAD_LINES = 16384  # of an image that are asked for while a block works

cdef struct Blocks:
    # The tiles, and how they are grouped: images, rows and columns of tiles of a block.
    Py_ssize_t n, M, Q, N, tiles_h, tiles_w
    Py_ssize_t images, rows, columns
    Py_ssize_t per_image_h, per_image_w, count        # blocks of an image each way, and in all
    Py_ssize_t slots                                  # tiles that a block has room for

cdef struct Area:
    # One block: images n0..n1, rows of tiles h0..h1, columns w0..w1.
    Py_ssize_t n0, n1, h0, h1, w0, w1, count

cdef struct Source:
    Py_ssize_t line, pixel  # distances where tiles are read

cdef struct Stretch:
    # Memory that is asked for while a block works: `depth` cache lines from each of some places, `step` bytes apart.
    const char* start
    Py_ssize_t places, step, depth

cdef struct Ahead:
    # Cache lines that are asked for next.
    const char* start
    Py_ssize_t step


cdef inline void set_blocks(
    Blocks* b, Py_ssize_t n, Py_ssize_t M, Py_ssize_t N, Py_ssize_t OH, Py_ssize_t OW, Py_ssize_t most,
) noexcept:
    """Blocks of about `most` tiles of MxM outputs of nxn taps: part of a row, whole rows, or whole images."""
    b.n, b.M, b.Q, b.N = n, M, M + n - 1, N
    b.tiles_h, b.tiles_w = ceil_div(OH, b.M), ceil_div(OW, b.M)
    b.images = 1
    b.per_image_w = ceil_div(b.tiles_w, most)
    b.columns = ceil_div(b.tiles_w, b.per_image_w)
    b.rows = max(1, most // b.columns)
    if b.per_image_w == 1 and 2 * b.tiles_h * b.tiles_w <= 3 * most:
        b.rows = b.tiles_h
        b.images = ceil_div(N, ceil_div(N, max(1, most // (b.rows * b.columns))))
    b.per_image_h = ceil_div(b.tiles_h, b.rows)
    b.rows = ceil_div(b.tiles_h, b.per_image_h)
    b.count = ceil_div(N, b.images) * b.per_image_h * b.per_image_w
    b.slots = b.images * b.rows * b.columns


cdef inline Area block_area(Blocks* b, Py_ssize_t block) noexcept nogil:
    cdef Area a
    cdef Py_ssize_t w = block % b.per_image_w, h = block // b.per_image_w % b.per_image_h
    a.n0 = block // b.per_image_w // b.per_image_h * b.images
    a.n1 = min(a.n0 + b.images, b.N)
    a.h0, a.h1 = share_start(b.tiles_h, b.per_image_h, h), share_start(b.tiles_h, b.per_image_h, h + 1)
    a.w0, a.w1 = share_start(b.tiles_w, b.per_image_w, w), share_start(b.tiles_w, b.per_image_w, w + 1)
    a.count = (a.n1 - a.n0) * (a.h1 - a.h0) * (a.w1 - a.w0)
    return a


cdef inline Source copy_area(
    Blocks* b, Area* a, const float* image, Py_ssize_t H, Py_ssize_t W, Py_ssize_t pixel, Py_ssize_t channels,
    Py_ssize_t C, Py_ssize_t top, Py_ssize_t left, Py_ssize_t S, Py_ssize_t border, float* band,
    const float** corners,
) noexcept nogil:
    """Find the pixels under a block's tiles; copied, with zeros outside the image and beyond `channels`, if need be.

    S pixels lie under one of a tile, and under each of the `border` beyond.
    """
    cdef Source source
    cdef Py_ssize_t step = S * b.M, t = 0, n, h, w, i, j
    cdef Py_ssize_t height = (a.h1 - a.h0) * step + S * border, width = (a.w1 - a.w0) * step + S * border
    cdef Py_ssize_t first_h = a.h0 * step - top, first_w = a.w0 * step - left
    cdef bint inside = first_h >= 0 and first_w >= 0 and first_h + height <= H and first_w + width <= W and pixel == C
    cdef const float* corner
    cdef float* target
    source.line, source.pixel = (W * pixel, pixel) if inside and channels == C else (width * C, C)
    for n in range(a.n0, a.n1):
        if inside and channels == C:
            corner = image + ((n * H + first_h) * W + first_w) * pixel
        else:
            corner = target = band + (n - a.n0) * height * width * C
            if channels == C:
                copy_band(image + n * H * W * pixel, H, W, pixel, C, first_h, first_w, height, width, target, C)
            else:
                memset(target, 0, height * width * C * sizeof(float))
                for i in range(max(0, -first_h), min(height, H - first_h)):
                    for j in range(max(0, -first_w), min(width, W - first_w)):
                        memcpy(
                            target + (i * width + j) * C,
                            image + ((n * H + first_h + i) * W + first_w + j) * pixel, channels * sizeof(float))
        for h in range(a.h1 - a.h0):
            for w in range(a.w1 - a.w0):
                corners[t] = corner + h * step * source.line + w * step * source.pixel
                t += 1
    return source


cdef inline Stretch stretch(
    Blocks* b, Py_ssize_t block, const float* image, Py_ssize_t H, Py_ssize_t W, Py_ssize_t pixel, Py_ssize_t channels,
    Py_ssize_t top, Py_ssize_t S, Py_ssize_t border,
) noexcept nogil:
    """The lines of W pixels under a block's tiles, of which some channels are read; none beyond the last block."""
    cdef Stretch lines = Stretch(<const char*>image, 0, pixel * <Py_ssize_t>sizeof(float), 1)
    cdef Area a
    cdef Py_ssize_t first, last
    if block < b.count and b.per_image_w == 1:
        a = block_area(b, block)
        first = a.n0 * H + min(max(0, a.h0 * S * b.M - top), H)
        last = (a.n1 - 1) * H + min(max(0, S * (a.h1 * b.M + border) - top), H)
        lines.start = <const char*>(image + first * W * pixel)
        lines.places = (last - first) * W
        if channels == pixel:
            lines.places = ceil_div(lines.places * lines.step, LINE)
            lines.step = LINE
        else:
            lines.depth = ceil_div(channels * <Py_ssize_t>sizeof(float), LINE)
        if lines.places * lines.depth > AHEAD_LINES:
            lines.places = 0
    return lines


cdef inline const char* line_ahead(
    Stretch* first, Stretch* second, Py_ssize_t at, const char* otherwise,
) noexcept nogil:
    """Cache line `at` of two stretches of consecutive ones, one after the other, and then of something else."""
    if at < first.places:
        return first.start + at * LINE
    if at < first.places + second.places:
        return second.start + (at - first.places) * LINE
    return otherwise


cdef inline Ahead ahead(Stretch* first, Stretch* second, Py_ssize_t at, const char* otherwise) noexcept nogil:
    """Cache lines from the `at`-th on of two stretches, one after the other; before and after, of something else."""
    if at >= first.places * first.depth:
        at -= first.places * first.depth
        first = second
    if 0 <= at < first.places * first.depth:
        return Ahead(first.start + at // first.places * LINE + at % first.places * first.step, first.step)
    return Ahead(otherwise, LINE)


cdef inline Py_ssize_t band_size(Blocks* b, Py_ssize_t S, Py_ssize_t border, Py_ssize_t C) noexcept:
    return b.images * S * (b.rows * b.M + border) * S * (b.columns * b.M + border) * C
