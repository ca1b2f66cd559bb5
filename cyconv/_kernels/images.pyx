"""Convolution of many small images of few channels: vectors along images.

    out[n, qh, qw, oc] = relu?(bias[oc] + addend[n, qh, qw, oc]
                               + sum over kh, kw, c of x[n, qh + kh - top, qw + kw - left, c] * weight[oc, kh, kw, c])

Lines of ten pixels, or pixels of six channels, do not fill vectors; a vector's worth of images does, whatever their
size. So a group of them is turned round, each number of an image becoming a line of as many numbers as a vector has
lanes. There weights are scalars, no lane is ever idle, and taps that read beyond the border are left out. The last
group may overlap the one before it; the lanes of images that belong to that one are not written, or zero.
"""

from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport INFINITY
from libc.string cimport memmove, memset

from cyconv._kernels.parallel cimport ceil_div, segment_tasks, share_start, this_thread
from cyconv._kernels.simd cimport lanes, to_planes
from cyconv._memory cimport Block

cdef extern from "images.h" nogil:
    const Py_ssize_t IMAGES_ROWS
    const Py_ssize_t SUMS_ROWS
    const Py_ssize_t SUMS_VECTORS
    Py_ssize_t images_vectors "cyconv_images_vectors"(Py_ssize_t M)
    void images_tile_float "cyconv_images_tile_float"(
        Py_ssize_t M, Py_ssize_t V, Py_ssize_t c_pixel, Py_ssize_t batch, Py_ssize_t K,
        const float* A, Py_ssize_t a_step, const float* B, Py_ssize_t b_step, Py_ssize_t pixel,
        const float* bias, bint relu, float* C)
    void images_tile_double "cyconv_images_tile_double"(
        Py_ssize_t M, Py_ssize_t V, Py_ssize_t c_pixel, Py_ssize_t batch, Py_ssize_t K,
        const double* A, Py_ssize_t a_step, const double* B, Py_ssize_t b_step, Py_ssize_t pixel,
        const double* bias, bint relu, double* C)
    void sums_tile_float "cyconv_sums_tile_float"(
        Py_ssize_t M, Py_ssize_t V, Py_ssize_t batch, Py_ssize_t K, const float* A, Py_ssize_t a_step,
        Py_ssize_t a_pixel, const float* B, Py_ssize_t b_step, Py_ssize_t b_pixel, float* C, Py_ssize_t c_row)
    void sums_tile_double "cyconv_sums_tile_double"(
        Py_ssize_t M, Py_ssize_t V, Py_ssize_t batch, Py_ssize_t K, const double* A, Py_ssize_t a_step,
        Py_ssize_t a_pixel, const double* B, Py_ssize_t b_step, Py_ssize_t b_pixel, double* C, Py_ssize_t c_row)

cdef enum:
    BAND_BYTES = 512 << 10   # of a task's lines, in L2
    INNER_BYTES = 48 << 10   # of the lines that the weight gradient's tiles share, in L1, if its sums fit there too
    SLICES = 8               # of the weight gradient's groups, each with sums of its own


cdef struct Plan:
    Py_ssize_t N, IH, IW, C, OC, KH, KW, top, left, QH, QW
    Py_ssize_t L, groups, blocks, block_rows, inner_rows, slices
    Py_ssize_t band_w, line          # pixels and numbers of a band's line, with its border
    Py_ssize_t scratch               # numbers a thread


def vector_lanes(const floating[::1] like):
    """Return how many images of `like`'s type a vector holds: fewer are not taken."""
    return lanes(&like[0])


cdef void turn_line(
    const floating* source, Py_ssize_t image, Py_ssize_t count,  # IN [L, count], images so many numbers apart
    const floating* end,                                          # of the memory it lies in
    floating* target,                                             # OUT [count, L]
) noexcept nogil:
    """target[i, n] = source[n, i]."""
    cdef Py_ssize_t L = lanes(source), i = 0, j, n, some
    while i < count:
        some = min(L, count - i)
        if end - (source + i) >= (L - 1) * image + L:
            to_planes(source + i, image, target + i * L, L, some)
        else:
            for j in range(i, i + some):
                for n in range(L):
                    target[j * L + n] = source[n * image + j]
        i += L


cdef void fill_band(
    Plan* s, const floating* x, Py_ssize_t n0, Py_ssize_t q0, Py_ssize_t q1, floating* band,
) noexcept nogil:
    """Turn the lines of the images n0.. that the output rows q0..q1 read, with a border of zeros."""
    cdef Py_ssize_t image = s.IH * s.IW * s.C, pixel = s.C * s.L, right = s.band_w - s.left - s.IW, r, h
    cdef floating* line
    for r in range(q1 - q0 + s.KH - 1):
        h = q0 - s.top + r
        line = band + r * s.line
        if h < 0 or h >= s.IH:
            memset(line, 0, s.line * sizeof(floating))
            continue
        memset(line, 0, s.left * pixel * sizeof(floating))
        turn_line(
            x + n0 * image + h * s.IW * s.C, image, s.IW * s.C, x + s.N * image, line + s.left * pixel)
        memset(line + (s.left + s.IW) * pixel, 0, right * pixel * sizeof(floating))


cdef void turn_back(
    const floating* lines, Py_ssize_t skip, Py_ssize_t count,  # IN [count <= L, L], of which `skip` lanes are left out
    const floating* addend, bint relu,                         # IN as out, or NULL
    floating* out, Py_ssize_t image,                           # OUT [L - skip, count], images so many numbers apart
) noexcept nogil:
    """out[n, i] = relu?(addend[n, i] + lines[i, skip + n])."""
    cdef floating buffer[16 * 16]
    cdef floating least = 0 if relu else -INFINITY, value
    cdef Py_ssize_t L = lanes(lines), n, i
    if count == L and addend == NULL:
        to_planes(lines + skip, L, out, image, L - skip)
        return
    to_planes(lines + skip, L, &buffer[0], L, L - skip)
    for n in range(L - skip):
        for i in range(count):
            value = buffer[n * L + i] + (addend[n * image + i] if addend != NULL else 0)
            out[n * image + i] = least if value < least else value


cdef void convolve_row(
    Plan* s, Py_ssize_t q, const floating* band, const floating* weight, const floating* bias, bint relu,
    floating* result,
) noexcept nogil:
    """One output row of a group: result[qw, oc, lane]; `band` begins at the row's first line."""
    cdef Py_ssize_t first = max(0, s.top - q), stop = min(s.KH, s.IH + s.top - q)
    cdef Py_ssize_t parts = ceil_div(s.OC, IMAGES_ROWS), pixel = s.C * s.L, taps = s.KH * s.KW * s.C
    cdef Py_ssize_t part, m0, M, t, tiles, w0, w1, k0, k1
    for part in range(parts):
        m0 = share_start(s.OC, parts, part)
        M = share_start(s.OC, parts, part + 1) - m0
        tiles = ceil_div(s.QW, images_vectors(M))
        for t in range(tiles):
            w0 = share_start(s.QW, tiles, t)
            w1 = share_start(s.QW, tiles, t + 1)
            k0 = max(0, s.left - w1 + 1)  # columns of the filter that some pixel of the tile reads the image with
            k1 = min(s.KW, s.IW + s.left - w0)
            images_tile(
                M, w1 - w0, s.OC * s.L, stop - first, (k1 - k0) * s.C,
                weight + m0 * taps + (first * s.KW + k0) * s.C * M, s.KW * s.C * M,
                band + first * s.line + (w0 + k0) * pixel, s.line, pixel,
                bias + m0 if bias != NULL else NULL, relu, result + (w0 * s.OC + m0) * s.L)


cdef inline void images_tile(
    Py_ssize_t M, Py_ssize_t V, Py_ssize_t c_pixel, Py_ssize_t batch, Py_ssize_t K, const floating* A,
    Py_ssize_t a_step, const floating* B, Py_ssize_t b_step, Py_ssize_t pixel, const floating* bias, bint relu,
    floating* C,
) noexcept nogil:
    if floating is float:
        images_tile_float(M, V, c_pixel, batch, K, A, a_step, B, b_step, pixel, bias, relu, C)
    else:
        images_tile_double(M, V, c_pixel, batch, K, A, a_step, B, b_step, pixel, bias, relu, C)


cdef void run_convolution(
    Plan* s, Py_ssize_t task, const floating* x, const floating* weight, const floating* bias, const floating* addend,
    bint relu, floating* out, floating* band,
) noexcept nogil:
    """One block of rows of a group of images."""
    cdef Py_ssize_t L = lanes(x), group = task // s.blocks, n0 = min(group * L, s.N - L), skip = group * L - n0
    cdef Py_ssize_t q0 = share_start(s.QH, s.blocks, task % s.blocks), image = s.QH * s.QW * s.OC
    cdef Py_ssize_t q1 = share_start(s.QH, s.blocks, task % s.blocks + 1)
    cdef floating* result = band + (s.block_rows + s.KH - 1) * s.line
    cdef Py_ssize_t at = (n0 + skip) * image + q0 * s.QW * s.OC, waiting = 0, done, q
    fill_band(s, x, n0, q0, q1, band)
    for q in range(q0, q1):
        convolve_row(
            s, q, band + (q - q0) * s.line, weight, bias, relu and addend == NULL, result + waiting * L)
        waiting += s.QW * s.OC
        done = 0
        while waiting - done >= (1 if q + 1 == q1 else L):
            turn_back(
                result + done * L, skip, min(L, waiting - done), addend + at if addend != NULL else NULL, relu,
                out + at, image)
            at += min(L, waiting - done)
            done += min(L, waiting - done)
        memmove(result, result + done * L, (waiting - done) * L * sizeof(floating))
        waiting -= done


cdef void make_plan(Plan* s, Py_ssize_t item, Py_ssize_t wanted) noexcept:
    """Cut the images into groups and, where their lines outgrow the cache or the tasks are few, blocks of rows."""
    s.groups = ceil_div(s.N, s.L)
    s.band_w = s.QW + s.KW - 1
    s.line = s.band_w * s.C * s.L
    s.block_rows = max(1, min(s.QH, BAND_BYTES // (s.line * item) - s.KH + 1))
    s.blocks = max(ceil_div(s.QH, s.block_rows), min(s.QH, ceil_div(wanted, s.groups)))
    s.block_rows = ceil_div(s.QH, s.blocks)


def convolve(
    const floating[:, :, :, ::1] x,       # IN [N, IH, IW, C], N at least vector_lanes
    const floating[:, :, :, ::1] weight,  # IN [OC, KH, KW, C]
    const floating[::1] bias,             # IN [OC], or None
    const floating[:, :, :, ::1] addend,  # IN [N, QH, QW, OC], or None; may be out itself
    Py_ssize_t top, Py_ssize_t left,      # of the padding, not negative, nor what is left for the other sides
    floating[:, :, :, ::1] out,           # OUT [N, QH, QW, OC]
    bint relu, int num_threads,
):
    """Convolve with stride 1 as the module says."""
    cdef Plan s
    cdef Py_ssize_t item = sizeof(floating), parts, part, m, m0, M, k, start, stop, segment, task, tasks, taps
    s.N, s.IH, s.IW, s.C, s.top, s.left = x.shape[0], x.shape[1], x.shape[2], x.shape[3], top, left
    s.OC, s.KH, s.KW, s.QH, s.QW = weight.shape[0], weight.shape[1], weight.shape[2], out.shape[1], out.shape[2]
    s.L = lanes(&out[0, 0, 0, 0])
    make_plan(&s, item, 3 * num_threads if num_threads > 1 else 1)
    # Lines are turned back a vector of them at a time: up to one less waits for the next row, and as many are read.
    s.scratch = (s.block_rows + s.KH - 1) * s.line + (s.QW * s.OC + 3 * s.L) * s.L
    taps = s.KH * s.KW * s.C
    cdef Block block = Block((num_threads * s.scratch + s.OC * taps) * item)
    cdef floating* bands = <floating*>block.address
    cdef floating* filters = bands + num_threads * s.scratch
    cdef const floating* w = &weight[0, 0, 0, 0]
    parts = ceil_div(s.OC, IMAGES_ROWS)
    for part in range(parts):  # [part, tap, oc in part]
        m0 = share_start(s.OC, parts, part)
        M = share_start(s.OC, parts, part + 1) - m0
        for m in range(M):
            for k in range(taps):
                filters[m0 * taps + k * M + m] = w[(m0 + m) * taps + k]

    cdef const floating* image = &x[0, 0, 0, 0]
    cdef const floating* starts = &bias[0] if bias is not None else NULL
    cdef const floating* added = &addend[0, 0, 0, 0] if addend is not None else NULL
    cdef floating* target = &out[0, 0, 0, 0]
    tasks = s.groups * s.blocks
    segment = segment_tasks(tasks, <double>s.N * s.QH * s.QW * s.OC * taps, num_threads)
    for start in range(0, tasks, segment):
        stop = min(start + segment, tasks)
        for task in prange(start, stop, nogil=True, num_threads=num_threads, schedule="static"):
            run_convolution(
                &s, task, image, filters, starts, added, relu, target, bands + this_thread() * s.scratch)
        PyErr_CheckSignals()


cdef void add_products(
    Plan* s, Py_ssize_t lines, const floating* band, const floating* grad, floating* sums,
) noexcept nogil:
    """sums[oc, kh, kw, c, lane] += grad[q, qw, oc, lane] * band[q + kh, qw + kw, c, lane] over so many lines."""
    cdef Py_ssize_t pixel = s.C * s.L, taps = s.KH * s.KW * s.C, across = s.KW * s.C, part, t, kh, m0, v0
    cdef Py_ssize_t parts = ceil_div(s.OC, SUMS_ROWS), tiles = ceil_div(across, SUMS_VECTORS)
    for part in range(parts):
        m0 = share_start(s.OC, parts, part)
        for kh in range(s.KH):
            for t in range(tiles):
                v0 = share_start(across, tiles, t)
                sums_tile(
                    share_start(s.OC, parts, part + 1) - m0, share_start(across, tiles, t + 1) - v0, lines, s.QW,
                    grad + m0 * s.L, s.QW * s.OC * s.L, s.OC * s.L, band + kh * s.line + v0 * s.L, s.line, pixel,
                    sums + (m0 * taps + kh * across + v0) * s.L, taps * s.L)


cdef inline void sums_tile(
    Py_ssize_t M, Py_ssize_t V, Py_ssize_t batch, Py_ssize_t K, const floating* A, Py_ssize_t a_step,
    Py_ssize_t a_pixel, const floating* B, Py_ssize_t b_step, Py_ssize_t b_pixel, floating* C, Py_ssize_t c_row,
) noexcept nogil:
    if floating is float:
        sums_tile_float(M, V, batch, K, A, a_step, a_pixel, B, b_step, b_pixel, C, c_row)
    else:
        sums_tile_double(M, V, batch, K, A, a_step, a_pixel, B, b_step, b_pixel, C, c_row)


cdef void run_gradient(
    Plan* s, Py_ssize_t slice_, Py_ssize_t round_, const floating* x, const floating* grad_output, floating* sums,
    floating* band,
) noexcept nogil:
    """One slice's groups of images, of which a round takes one."""
    cdef Py_ssize_t L = lanes(x), n0, skip, block, q0, q1, q, i, image = s.QH * s.QW * s.OC
    cdef Py_ssize_t group = share_start(s.groups, s.slices, slice_) + round_
    cdef floating* grad = band + (s.block_rows + s.KH - 1) * s.line
    if group >= share_start(s.groups, s.slices, slice_ + 1):
        return
    n0 = min(group * L, s.N - L)
    skip = group * L - n0
    for block in range(s.blocks):
        q0 = share_start(s.QH, s.blocks, block)
        q1 = share_start(s.QH, s.blocks, block + 1)
        fill_band(s, x, n0, q0, q1, band)
        turn_line(
            grad_output + n0 * image + q0 * s.QW * s.OC, image, (q1 - q0) * s.QW * s.OC, grad_output + s.N * image,
            grad)
        if skip:
            for i in range((q1 - q0) * s.QW * s.OC):
                memset(grad + i * L, 0, skip * sizeof(floating))
        q = q0
        while q < q1:
            add_products(
                s, min(s.inner_rows, q1 - q), band + (q - q0) * s.line, grad + (q - q0) * s.QW * s.OC * L, sums)
            q += s.inner_rows


def weight_gradient(
    const floating[:, :, :, ::1] x,            # IN [N, IH, IW, C], N at least vector_lanes
    const floating[:, :, :, ::1] grad_output,  # IN [N, QH, QW, OC]
    Py_ssize_t top, Py_ssize_t left,           # as `convolve`
    floating[:, :, :, ::1] grad_weight,        # OUT [OC, KH, KW, C]
    int num_threads,
):
    """grad_weight[oc, kh, kw, c] = sum over n, qh, qw of x[n, qh + kh - top, qw + kw - left, c] * grad_output[.., oc].

    Groups of images are shared out to slices, whose number depends on the shape only, and their sums added in order.
    """
    cdef Plan s
    cdef Py_ssize_t item = sizeof(floating), size, i, n, task, round_
    s.N, s.IH, s.IW, s.C, s.top, s.left = x.shape[0], x.shape[1], x.shape[2], x.shape[3], top, left
    s.OC, s.KH, s.KW = grad_weight.shape[0], grad_weight.shape[1], grad_weight.shape[2]
    s.QH, s.QW = grad_output.shape[1], grad_output.shape[2]
    s.L = lanes(&grad_weight[0, 0, 0, 0])
    make_plan(&s, item, 1)
    s.slices = min(s.groups, <Py_ssize_t>SLICES)
    size = s.OC * s.KH * s.KW * s.C
    s.inner_rows = s.block_rows
    if size * s.L * item <= INNER_BYTES:
        s.inner_rows = max(1, (INNER_BYTES // item - (s.KH - 1) * s.line) // (s.line + s.QW * s.OC * s.L))
    s.scratch = (s.block_rows + s.KH - 1) * s.line + s.block_rows * s.QW * s.OC * s.L
    cdef Block block = Block((num_threads * s.scratch + s.slices * size * s.L) * item)
    cdef floating* bands = <floating*>block.address
    cdef floating* sums = bands + num_threads * s.scratch
    cdef const floating* image = &x[0, 0, 0, 0]
    cdef const floating* gradient = &grad_output[0, 0, 0, 0]
    cdef floating* target = &grad_weight[0, 0, 0, 0]
    cdef floating total
    memset(sums, 0, s.slices * size * s.L * item)
    for round_ in range(ceil_div(s.groups, s.slices)):
        for task in prange(s.slices, nogil=True, num_threads=num_threads, schedule="static"):
            run_gradient(
                &s, task, round_, image, gradient, sums + task * size * s.L, bands + this_thread() * s.scratch)
        PyErr_CheckSignals()
    for task in range(1, s.slices):
        for i in range(size * s.L):
            sums[i] += sums[task * size * s.L + i]
    for i in range(size):
        total = 0
        for n in range(s.L):
            total += sums[i * s.L + n]
        target[i] = total
