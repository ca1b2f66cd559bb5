"""Copies into the layouts the register tile wants: panels of B, and zero-bordered bands of an image."""

from cython cimport floating
from libc.string cimport memcpy, memset

from cyconv._kernels.parallel cimport ceil_div
from cyconv._kernels.simd cimport TILE_VECTORS, VECTOR_BYTES, lanes, to_planes, transpose

cdef inline void pack_panel(
    const floating* source, Py_ssize_t row_stride, Py_ssize_t column_stride,  # IN
    Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t width,
    floating* panel,  # OUT [rows, width]
) noexcept nogil:
    """panel[r, j] = source[r * row_stride + j * column_stride], zero for j >= columns."""
    cdef Py_ssize_t r, j, r0, r1, c0 = 0, L = lanes(source)
    cdef const floating* line
    if column_stride == 1 and columns * <Py_ssize_t>sizeof(floating) == TILE_VECTORS * VECTOR_BYTES:
        for r in range(rows):
            memcpy(panel + r * columns, source + r * row_stride, TILE_VECTORS * VECTOR_BYTES)  # a few moves
        return
    if column_stride == 1 and columns * <Py_ssize_t>sizeof(floating) == VECTOR_BYTES:
        for r in range(rows):
            memcpy(panel + r * columns, source + r * row_stride, VECTOR_BYTES)
        return
    if column_stride == 1:
        for r in range(rows):
            memcpy(panel + r * width, source + r * row_stride, columns * sizeof(floating))
            for j in range(columns, width):
                panel[r * width + j] = 0
        return
    if row_stride == 1:
        while c0 + L <= columns:
            for r0 in range(rows // L):
                transpose(source + c0 * column_stride + r0 * L, column_stride, panel + r0 * L * width + c0, width)
            for r in range(rows // L * L, rows):
                for j in range(c0, c0 + L):
                    panel[r * width + j] = source[r + j * column_stride]
            c0 += L
    for r0 in range(0, rows, 16):  # blocks of rows keep both sides of the transpose in L1
        r1 = min(r0 + 16, rows)
        for j in range(c0, columns):
            line = source + j * column_stride
            for r in range(r0, r1):
                panel[r * width + j] = line[r * row_stride]
        if columns < width:
            for r in range(r0, r1):
                for j in range(columns, width):
                    panel[r * width + j] = 0


cdef inline void add_transposed(
    const floating* source, Py_ssize_t source_step, Py_ssize_t slices, Py_ssize_t slice_step,  # IN
    Py_ssize_t rows, Py_ssize_t columns,
    floating* target, Py_ssize_t target_step,  # OUT [columns, rows]
) noexcept nogil:
    """target[j, r] = sum over slices of source[slice, r, j], in order."""
    cdef Py_ssize_t L = lanes(source), r0 = 0, j0, r, j, i, R, J
    cdef floating[256] square
    cdef const floating* corner
    while r0 < rows:
        R = min(L, rows - r0)
        j0 = 0
        while j0 < columns:
            J = min(L, columns - j0)
            corner = source + r0 * source_step + j0
            for r in range(R):
                for j in range(J):
                    square[r * L + j] = corner[r * source_step + j]
                for i in range(1, slices):
                    for j in range(J):
                        square[r * L + j] += corner[i * slice_step + r * source_step + j]
            if R == L and J == L:
                transpose(&square[0], L, target + j0 * target_step + r0, target_step)
            else:
                for j in range(J):
                    for r in range(R):
                        target[(j0 + j) * target_step + r0 + r] = square[r * L + j]
            j0 += L
        r0 += L


cdef inline void copy_band(
    const floating* image,  # IN [H, W, C], first wanted channel
    Py_ssize_t H, Py_ssize_t W, Py_ssize_t C, Py_ssize_t channels,
    Py_ssize_t top, Py_ssize_t left, Py_ssize_t rows, Py_ssize_t columns,
    floating* band, Py_ssize_t pixel,  # OUT [rows, columns, channels], pixels so many numbers apart
) noexcept nogil:
    """Copy image[top:top + rows, left:left + columns, :channels], zero where that lies outside the image."""
    cdef Py_ssize_t r, c, h
    cdef Py_ssize_t first = min(max(-left, 0), columns)
    cdef Py_ssize_t stop = max(first, min(W - left, columns))
    cdef floating* line
    cdef const floating* source
    for r in range(rows):
        line = band + r * columns * pixel
        h = top + r
        if h < 0 or h >= H:
            memset(line, 0, columns * pixel * sizeof(floating))
            continue
        memset(line, 0, first * pixel * sizeof(floating))
        source = image + (h * W + left + first) * C
        if C == channels == pixel:
            memcpy(line + first * channels, source, (stop - first) * channels * sizeof(floating))
        else:
            for c in range(first, stop):
                memcpy(line + c * pixel, source + (c - first) * C, channels * sizeof(floating))
        memset(line + stop * pixel, 0, (columns - stop) * pixel * sizeof(floating))


cdef inline void copy_planes(
    const floating* image, const floating* end,  # IN [H, W, C], first wanted channel; end of the memory it lies in
    Py_ssize_t H, Py_ssize_t W, Py_ssize_t C, Py_ssize_t channels,
    Py_ssize_t top, Py_ssize_t left, Py_ssize_t rows, Py_ssize_t columns,
    floating* band, Py_ssize_t plane,  # OUT [channels, rows, columns], planes so many numbers apart
) noexcept nogil:
    """The same, a plane a channel: band[c, r, w] = image[top + r, left + w, c].

    In rising order and whole vectors, so that nothing depends on a line's length: what is written too much, the next
    line writes again, and after a plane's last line a vector of room must follow. That is zeroed first: convolution
    computes with it too, to no effect, but for numbers so small that the processor would stumble.
    """
    cdef Py_ssize_t L = lanes(image), done = 0, r, c, i, w, count
    cdef Py_ssize_t first = min(max(-left, 0), columns)
    cdef Py_ssize_t stop = max(first, min(W - left, columns))
    cdef const floating* source
    cdef floating* target
    for c in range(channels):
        memset(band + c * plane + rows * columns, 0, VECTOR_BYTES)
    for r in range(rows):
        if top + r < 0 or top + r >= H:
            continue
        zero_planes(band, plane, channels, done, r * columns + first)
        done = r * columns + stop
        for i in range(ceil_div(channels, L)):
            c = i * L
            count = min(L, channels - c)
            w = first
            while w < stop:
                source = image + ((top + r) * W + left + w) * C + c
                target = band + c * plane + r * columns + w
                if end - source >= (L - 1) * C + L:
                    to_planes(source, C, target, plane, count)
                else:
                    copy_pixels(source, C, target, plane, count, min(L, stop - w))
                w += L
    zero_planes(band, plane, channels, done, rows * columns)


cdef inline void copy_pixels(
    const floating* source, Py_ssize_t step, floating* target, Py_ssize_t plane, Py_ssize_t count, Py_ssize_t pixels,
) noexcept nogil:
    """to_planes for fewer pixels than a vector has, reading no more than these."""
    cdef Py_ssize_t c, i
    for c in range(count):
        for i in range(pixels):
            target[c * plane + i] = source[i * step + c]


cdef inline void zero_planes(
    floating* band, Py_ssize_t plane, Py_ssize_t channels, Py_ssize_t first, Py_ssize_t stop,
) noexcept nogil:
    """band[c, first:stop] = 0, and up to a vector more; a constant size compiles to one move."""
    cdef Py_ssize_t c, i
    for c in range(channels):
        i = first
        while i < stop:
            memset(band + c * plane + i, 0, VECTOR_BYTES)
            i += lanes(band)
