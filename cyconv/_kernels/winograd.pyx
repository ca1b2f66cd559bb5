"""3x3 and 5x5 convolution of stride 1 by Winograd's minimal filtering: 4 and 2.8 times fewer multiplications, float32.

Outputs come in tiles of MxM, M = 4 or 2, each from a patch of 6x6. A task takes a block of some tiles, whose part of
the image it copies into a band with zeros for what lies outside. Row by row of the 6x6 points: transform the patches
(V), multiply them with the transformed filters, six small matrix products, and transform these back along the row (t);
last transform along columns and write. winograd.h has the transforms and their source.
IC, OC are per group; C, D: IC and OC in whole vectors of L, the rest zeros.
"""

from cpython.exc cimport PyErr_CheckSignals
from cython.parallel cimport prange
from libc.string cimport memcpy, memset

from cyconv._kernels.pack cimport add_transposed, copy_band
from cyconv._kernels.parallel cimport ceil_div, segment_tasks, share_start, this_thread
from cyconv._kernels.simd cimport distance, finish_of, lanes
from cyconv._memory cimport Block

cdef extern from "winograd.h" nogil:
    const Py_ssize_t ROWS "WINOGRAD_ROWS"
    const Py_ssize_t AHEAD_STEP "WINOGRAD_AHEAD"
    void winograd_image(
        int i, const float* d, Py_ssize_t line, Py_ssize_t pixel, Py_ssize_t C, float* V, Py_ssize_t vector_step,
        Py_ssize_t point_step)
    void winograd_gradient(
        int i, int n, const float* g, Py_ssize_t line, Py_ssize_t pixel, float* D, Py_ssize_t point_step)
    void winograd_filter(
        int n, const float* taps, Py_ssize_t step, float* U, Py_ssize_t row_step, Py_ssize_t half_step,
        Py_ssize_t point_step)
    void winograd_multiply(
        Py_ssize_t W, Py_ssize_t M, Py_ssize_t half, const float* a, const float* b, Py_ssize_t a_jump,
        const float* B, Py_ssize_t b_step, Py_ssize_t K, float* sums, int start, const char* ahead, int end, float* t,
        Py_ssize_t tile_step, Py_ssize_t vector_step)
    void winograd_add_products(
        Py_ssize_t W, const float* a, const float* b, Py_ssize_t a_jump, const float* B, Py_ssize_t b_step,
        Py_ssize_t K, float* sums, int start, const char* ahead)
    void winograd_output(
        Py_ssize_t M, const float* t, const float* bias, Py_ssize_t addend, int finish, float* out, Py_ssize_t out_h,
        Py_ssize_t out_w, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t lanes)
    void winograd_weight(Py_ssize_t n, const float* sums, const Py_ssize_t* offset, float* weights, Py_ssize_t step)

cdef enum:
    POINTS = 36
    FEW_CHANNELS = 32          # up to which a block's intermediates shall stay in L1, beyond in L2
    BLOCK_FEW = 16             # tiles of a block then
    BLOCK = 48
    DEPTH = 64                 # input channels at a time: their filters of three points stay in L1
    AHEAD_BYTES = 256 << 10    # of an image that are asked for while a block works

cdef struct Blocks:
    # How tiles are grouped: images, rows and columns of tiles of a block.
    Py_ssize_t N, M, tiles_h, tiles_w
    Py_ssize_t images, rows, columns
    Py_ssize_t per_image_h, per_image_w, count        # blocks of an image each way, and in all
    Py_ssize_t slots                                  # tiles that a block has room for

cdef struct Area:
    # One block: images n0..n1, rows of tiles h0..h1, columns w0..w1.
    Py_ssize_t n0, n1, h0, h1, w0, w1, count

cdef struct Source:
    Py_ssize_t line, pixel  # distances where tiles are read

cdef struct Stretch:
    # Memory that is asked for while a block works.
    const char* start
    Py_ssize_t bytes


cdef void set_blocks(Blocks* b, Py_ssize_t N, Py_ssize_t M, Py_ssize_t OH, Py_ssize_t OW, Py_ssize_t most) noexcept:
    """Blocks of about `most` tiles: part of a row, whole rows, or whole images."""
    b.N, b.M = N, M
    b.tiles_h, b.tiles_w = ceil_div(OH, M), ceil_div(OW, M)
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


cdef Area block_area(Blocks* b, Py_ssize_t block) noexcept nogil:
    cdef Area a
    cdef Py_ssize_t w = block % b.per_image_w, h = block // b.per_image_w % b.per_image_h
    a.n0 = block // b.per_image_w // b.per_image_h * b.images
    a.n1 = min(a.n0 + b.images, b.N)
    a.h0, a.h1 = share_start(b.tiles_h, b.per_image_h, h), share_start(b.tiles_h, b.per_image_h, h + 1)
    a.w0, a.w1 = share_start(b.tiles_w, b.per_image_w, w), share_start(b.tiles_w, b.per_image_w, w + 1)
    a.count = (a.n1 - a.n0) * (a.h1 - a.h0) * (a.w1 - a.w0)
    return a


cdef Source copy_area(
    Blocks* b, Area* a, const float* image, Py_ssize_t H, Py_ssize_t W, Py_ssize_t pixel, Py_ssize_t channels,
    Py_ssize_t C, Py_ssize_t top, Py_ssize_t left, Py_ssize_t border, float* band, const float** corners,
) noexcept nogil:
    """Find the pixels under a block's tiles; copied, with zeros outside the image and beyond `channels`, if need be."""
    cdef Source source
    cdef Py_ssize_t height = (a.h1 - a.h0) * b.M + border, width = (a.w1 - a.w0) * b.M + border, t = 0, n, h, w, i, j
    cdef Py_ssize_t first_h = a.h0 * b.M - top, first_w = a.w0 * b.M - left
    cdef bint inside = first_h >= 0 and first_w >= 0 and first_h + height <= H and first_w + width <= W
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
                corners[t] = corner + h * b.M * source.line + w * b.M * source.pixel
                t += 1
    return source


cdef Stretch stretch(
    Blocks* b, Py_ssize_t block, const float* image, Py_ssize_t H, Py_ssize_t line, Py_ssize_t top, Py_ssize_t border,
) noexcept nogil:
    """The lines of pixels, `line` numbers each, under a block's tiles; none beyond the last block."""
    cdef Stretch lines = Stretch(<const char*>image, 0)
    cdef Area a
    cdef Py_ssize_t first, last
    if block < b.count and b.per_image_w == 1:
        a = block_area(b, block)
        first = a.n0 * H + min(max(0, a.h0 * b.M - top), H)
        last = (a.n1 - 1) * H + min(max(0, a.h1 * b.M - top + border), H)
        lines = Stretch(<const char*>(image + first * line), (last - first) * line * <Py_ssize_t>sizeof(float))
        if lines.bytes > AHEAD_BYTES:
            lines.bytes = 0
    return lines


cdef inline const char* address_ahead(
    Stretch* first, Stretch* second, Py_ssize_t at, const char* otherwise,
) noexcept nogil:
    """Byte `at` of two stretches, which are asked for one after the other, and then of something else."""
    if at < first.bytes:
        return first.start + at
    if at < first.bytes + second.bytes:
        return second.start + at - first.bytes
    return otherwise


cdef Py_ssize_t band_size(Blocks* b, Py_ssize_t border, Py_ssize_t C) noexcept:
    return b.images * (b.rows * b.M + border) * (b.columns * b.M + border) * C


cdef inline Py_ssize_t in_vectors(Py_ssize_t channels) noexcept nogil:
    """Channels in whole vectors."""
    cdef Py_ssize_t L = lanes(<const float*>NULL)
    return ceil_div(channels, L) * L


def filters_size(Py_ssize_t G, Py_ssize_t rows, Py_ssize_t columns):
    """Return how many numbers `transform_filters` writes."""
    return G * POINTS * in_vectors(rows) * in_vectors(columns)


def transform_filters(
    const float[::1] taps,   # IN [G, P, T, rows, width] from pack_weights, T = 9 or 25
    Py_ssize_t G, Py_ssize_t T, Py_ssize_t rows, Py_ssize_t columns,
    float[::1] filters,      # OUT [G, P, 6, 2, C, 3, width]: of each row of points two halves
    int num_threads,
):
    """Transform packed weights panel by panel."""
    cdef Py_ssize_t L = lanes(&filters[0]), C = in_vectors(rows), D = in_vectors(columns), P = ceil_div(D, 2 * L)
    cdef int n = 3 if T == 9 else 5
    cdef Py_ssize_t task, g, p, k, w, i, width
    cdef const float* source = &taps[0]
    cdef float* target = &filters[0]
    cdef const float* panel
    cdef float* U
    for task in prange(G * P, nogil=True, num_threads=num_threads, schedule="static"):
        g = task // P
        p = task % P
        width = min(2 * L, D - p * 2 * L)
        panel = source + (g * D + p * 2 * L) * T * rows
        U = target + (g * D + p * 2 * L) * POINTS * C
        for k in range(rows):
            for w in range(width // L):
                winograd_filter(
                    n, panel + k * width + w * L, rows * width, U + k * 3 * width + w * L, 6 * C * width,
                    3 * C * width, width)
        if rows < C:
            for i in range(12):
                memset(U + (i * C + rows) * 3 * width, 0, (C - rows) * 3 * width * sizeof(float))


cdef struct Plan:
    Blocks blocks
    Py_ssize_t IH, IW, IC, OH, OW, OC, C, D, G
    Py_ssize_t top, left                              # padding
    Py_ssize_t P, splits                              # panels, and the threads' shares of them
    Py_ssize_t slots, tile_step, vector_step          # tiles in whole groups of rows, distances in t
    Py_ssize_t band, V, t, sums, scratch_size         # numbers per thread
    Py_ssize_t out_n, out_h, out_w
    Py_ssize_t addend                                 # bytes from out to it
    int finish                                        # what happens before a pixel is stored


cdef void make_plan(Plan* s, Py_ssize_t N, Py_ssize_t M, int num_threads) noexcept:
    """Choose how many tiles make a block; results do not depend on it."""
    cdef Py_ssize_t L = lanes(<const float*>NULL), most = BLOCK_FEW if max(s.IC, s.OC) <= FEW_CHANNELS else BLOCK
    cdef Py_ssize_t wanted = 3 * num_threads if num_threads > 1 else 1  # tasks, so that uneven ones still balance
    s.C, s.D = in_vectors(s.IC), in_vectors(s.OC)
    s.P = ceil_div(s.D, 2 * L)
    set_blocks(&s.blocks, N, M, s.OH, s.OW, most)
    if s.blocks.count * s.G < wanted and most > BLOCK_FEW:
        set_blocks(&s.blocks, N, M, s.OH, s.OW, BLOCK_FEW)
    s.splits = min(s.P, ceil_div(wanted, s.blocks.count * s.G))
    s.slots = ceil_div(s.blocks.slots, 2 * ROWS) * 2 * ROWS
    s.tile_step, s.vector_step = 6 * M * L, s.slots * 6 * M * L
    s.band = band_size(&s.blocks, 6 - M, s.C)
    s.V = s.slots * 6 * s.C
    s.t = ceil_div(s.P, s.splits) * 2 * s.vector_step
    s.sums = s.slots * 6 * L
    s.scratch_size = s.band + s.V + s.t + s.sums + s.slots * <Py_ssize_t>(sizeof(void*) // sizeof(float))
    s.scratch_size = ceil_div(s.scratch_size, 1024) * 1024 + 80  # threads apart, lines off multiples of 4 KB


cdef void write_outputs(
    Plan* s, Area* a, const float* t, Py_ssize_t p0, Py_ssize_t p1, const float* bias, float* out,
) noexcept nogil:
    """Transform a block's columns and store what lies in the image."""
    cdef Py_ssize_t L = lanes(t), M = s.blocks.M, n, h, w, v
    cdef float* tile
    for n in range(a.n0, a.n1):
        for h in range(a.h0, a.h1):
            for w in range(a.w0, a.w1):
                tile = out + n * s.out_n + h * M * s.out_h + w * M * s.out_w
                for v in range(2 * p0, min(2 * p1, s.D // L)):
                    winograd_output(
                        M, t + (v - 2 * p0) * s.vector_step, bias + v * L, s.addend, s.finish, tile + v * L, s.out_h,
                        s.out_w, min(M, s.OH - h * M), min(M, s.OW - w * M), min(L, s.OC - v * L))
                t += s.tile_step


cdef void run_task(
    Plan* s, Py_ssize_t task, const float* x, const float* filters, const float* bias, float* out, float* scratch,
) noexcept nogil:
    """One block of tiles, one group, one share of its panels."""
    cdef Py_ssize_t L = lanes(x), M = s.blocks.M, split = task % s.splits, g = task // s.splits % s.G
    cdef Area a = block_area(&s.blocks, task // s.splits // s.G)
    cdef float* band = scratch
    cdef float* V = band + s.band
    cdef float* t = V + s.V
    cdef float* sums = t + s.t
    cdef const float** corners = <const float**>(sums + s.sums)
    cdef Py_ssize_t p0 = share_start(s.P, s.splits, split), p1 = share_start(s.P, s.splits, split + 1)
    cdef Py_ssize_t groups = ceil_div(a.count, ROWS), p, W, half, k, K, j, at = 0
    cdef const float* U
    cdef const float* rows
    cdef const char* after
    cdef Stretch image = Stretch(NULL, 0), result = Stretch(NULL, 0)
    cdef int i
    cdef Source source = copy_area(
        &s.blocks, &a, x + g * s.IC, s.IH, s.IW, s.G * s.IC, s.IC, s.C, s.top, s.left, 6 - M, band, corners)
    if s.splits == 1 and s.G == 1:
        image = stretch(&s.blocks, task + 1, x, s.IH, s.IW * s.IC, s.top, 6 - M)
        if s.out_w == s.OC and s.out_h == s.OW * s.OC and s.out_n == s.OH * s.out_h:
            result = stretch(&s.blocks, task, out, s.OH, s.out_h, 0, 0)
    if s.D // L % 2:  # panels of one vector take twice as many tiles at once
        groups = ceil_div(groups, 2) * 2
    for j in range(a.count, groups * ROWS):
        corners[j] = corners[a.count - 1]
    for i in range(6):
        for j in range(groups * ROWS):
            winograd_image(
                i, corners[j], source.line, source.pixel, s.C, V + j // ROWS * ROWS * 6 * s.C + j % ROWS * L,
                ROWS * 6 * L, ROWS * L)
        for p in range(p0, p1):
            W = min(<Py_ssize_t>2, s.D // L - 2 * p)
            for half in range(2):
                U = filters + (g * s.D + p * 2 * L) * POINTS * s.C + (i * 2 + half) * s.C * 3 * W * L
                k = 0
                while k < s.C:
                    K = min(<Py_ssize_t>DEPTH, s.C - k)
                    after = <const char*>(U + K * 3 * W * L)
                    if k + K == s.C and half == 1 and p + 1 < p1:
                        after = <const char*>(filters + (g * s.D + (p + 1) * 2 * L) * POINTS * s.C + i * s.C * 12 * L)
                    j = 0
                    while j < groups:
                        rows = V + j * ROWS * 6 * s.C + k * 6 * ROWS + half * 3 * ROWS * L
                        winograd_multiply(
                            W, M, half, rows, rows + ROWS * 6 * s.C, ROWS * 6 * L - L, U, 3 * W * L, K,
                            sums + j * ROWS * 6 * L, k == 0, address_ahead(&image, &result, at, after), k + K == s.C,
                            t + (p - p0) * 2 * s.vector_step + j * ROWS * s.tile_step + i * M * L, s.tile_step,
                            s.vector_step)
                        at += K * AHEAD_STEP
                        after += K * AHEAD_STEP
                        j += 3 - W
                    U += K * 3 * W * L
                    k += K
    write_outputs(s, &a, t, p0, p1, bias + g * s.D, out + g * s.OC)


def conv(
    const float[:, :, :, ::1] x,     # IN [N, IH, IW, G*IC]
    const float[::1] filters,        # IN from transform_filters
    const float[::1] bias,           # IN [G*OC], or None
    const float[:, :, :, :] addend,  # IN as out, strides too, or None; may be out itself
    Py_ssize_t size,                 # of the filter: 3 or 5
    Py_ssize_t top, Py_ssize_t left, Py_ssize_t G,
    float[:, :, :, :] out,           # OUT [N, OH, OW, G*OC], channels contiguous
    bint relu,
    int num_threads,
):
    """out[n, h, w] = bias + sum over the taps of x[n, h - top + kh, w - left + kw] @ filter + addend; then relu."""
    cdef Plan s
    cdef Py_ssize_t item = sizeof(float), task, tasks, start, stop, segment, i
    s.IH, s.IW, s.IC, s.G = x.shape[1], x.shape[2], x.shape[3] // G, G
    s.OH, s.OW, s.OC = out.shape[1], out.shape[2], out.shape[3] // G
    s.top, s.left = top, left
    s.out_n, s.out_h, s.out_w = out.strides[0] // item, out.strides[1] // item, out.strides[2] // item
    if x.shape[0] == 0:
        return
    cdef float* target = &out[0, 0, 0, 0]
    cdef const float* other = &addend[0, 0, 0, 0] if addend is not None else NULL
    s.addend, s.finish = distance(other, target), finish_of(other, relu)
    make_plan(&s, x.shape[0], 7 - size, num_threads)
    cdef Block scratch = Block((num_threads * s.scratch_size + G * s.D) * item)
    cdef float* work = <float*>scratch.address
    cdef float* padded_bias = work + num_threads * s.scratch_size
    for i in range(G * s.D):
        padded_bias[i] = bias[i // s.D * s.OC + i % s.D] if bias is not None and i % s.D < s.OC else 0
    cdef const float* image = &x[0, 0, 0, 0]
    cdef const float* weights = &filters[0]
    tasks = s.blocks.count * G * s.splits
    segment = segment_tasks(
        tasks, <double>s.blocks.N * s.blocks.tiles_h * s.blocks.tiles_w * POINTS * G * s.C * s.D, num_threads)
    for start in range(0, tasks, segment):
        stop = min(start + segment, tasks)
        for task in prange(start, stop, nogil=True, num_threads=num_threads, schedule="static"):
            run_task(&s, task, image, weights, padded_bias, target, work + this_thread() * s.scratch_size)
        PyErr_CheckSignals()


# The weight gradient, F(3x3, 4x4) or F(5x5, 2x2): every MxM tile of grad_output slides over its 6x6 patch of the image.
# Products at the 36 points are summed over tiles before the one transform back. A task owns some input by some output
# channels of one slice of the tiles; the cut depends on the shape only, and slices are added in order.

cdef enum:
    IN_CHUNK = 64    # channels: the task's sums stay in L2
    OUT_CHUNK = 128
    GRADIENT_BLOCK_FEW = 16
    GRADIENT_BLOCK = 48
    TASKS = 16

cdef struct WeightPlan:
    Blocks blocks
    Py_ssize_t IH, IW, IC, OH, OW, OC, C, D, G
    Py_ssize_t top, left
    Py_ssize_t slices, ic_chunks, oc_chunks
    Py_ssize_t image_band, gradient_band, V, gradients, scratch_size  # numbers per thread


cdef void sum_task(
    WeightPlan* s, Py_ssize_t task, const float* x, const float* g, float* partial, float* scratch,
) noexcept nogil:
    """One slice's weight gradients between one chunk of input and one of output channels."""
    cdef Py_ssize_t L = lanes(x), M = s.blocks.M, taps = (7 - M) * (7 - M)
    cdef Py_ssize_t occ = task % s.oc_chunks, icc = task // s.oc_chunks % s.ic_chunks
    cdef Py_ssize_t group = task // s.oc_chunks // s.ic_chunks % s.G
    cdef Py_ssize_t slice_ = task // s.oc_chunks // s.ic_chunks // s.G
    cdef Py_ssize_t ic0 = share_start(s.C // L, s.ic_chunks, icc) * L
    cdef Py_ssize_t oc0 = share_start(s.D // L, s.oc_chunks, occ) * L
    cdef Py_ssize_t C = share_start(s.C // L, s.ic_chunks, icc + 1) * L - ic0, IC = min(C, s.IC - ic0)
    cdef Py_ssize_t D = share_start(s.D // L, s.oc_chunks, occ + 1) * L - oc0, OC = min(D, s.OC - oc0)
    cdef Py_ssize_t room = ceil_div(C, 2 * ROWS) * 2 * ROWS, P = ceil_div(D, 2 * L)
    cdef float* V = scratch + s.image_band + s.gradient_band
    cdef float* gradients = V + s.V
    cdef float* sums = gradients + s.gradients
    cdef const float** patches = <const float**>(sums + POINTS * room * D)
    cdef const float** tiles = patches + s.blocks.slots
    cdef Py_ssize_t first = share_start(s.blocks.count, s.slices, slice_), block, t, p, W, half, c, w, step
    cdef Py_ssize_t[POINTS] offset
    cdef Area a
    cdef Source image, gradient
    cdef Stretch next_image = Stretch(NULL, 0), next_gradient = Stretch(NULL, 0)
    cdef Py_ssize_t at
    cdef const float* rows
    cdef const float* more
    cdef float* target
    cdef int i, j
    for block in range(first, share_start(s.blocks.count, s.slices, slice_ + 1)):
        a = block_area(&s.blocks, block)
        image = copy_area(
            &s.blocks, &a, x + group * s.IC + ic0, s.IH, s.IW, s.G * s.IC, IC, C, s.top, s.left, 6 - M, scratch,
            patches)
        gradient = copy_area(
            &s.blocks, &a, g + group * s.OC + oc0, s.OH, s.OW, s.G * s.OC, OC, D, 0, 0, 0, scratch + s.image_band,
            tiles)
        if C == s.C and D == s.D and s.G == 1:
            next_image = stretch(&s.blocks, block + 1, x, s.IH, s.IW * s.IC, s.top, 6 - M)
            next_gradient = stretch(&s.blocks, block + 1, g, s.OH, s.OW * s.OC, 0, 0)
        at = 0
        for i in range(6):
            for t in range(a.count):
                winograd_image(i, patches[t], image.line, image.pixel, C, V + t * 6 * C, 6 * L, L)
                for c in range(D // L):
                    W = min(<Py_ssize_t>2, D // L - c // 2 * 2)
                    winograd_gradient(
                        i, M, tiles[t] + c * L, gradient.line, gradient.pixel,
                        gradients + (c // 2 * 2 * a.count + t * W) * 6 * L + c % 2 * L, W * L)
            for p in range(P):
                W = min(<Py_ssize_t>2, D // L - 2 * p)
                for half in range(2):
                    target = sums + (i * D + p * 2 * L) * 6 * room + half * room * 3 * W * L
                    c = 0
                    while c < C:
                        rows = V + c // L * 6 * L + c % L + half * 3 * L
                        more = V + (c + ROWS) // L * 6 * L + (c + ROWS) % L + half * 3 * L
                        winograd_add_products(
                            W, rows, more if c + ROWS < C else rows, 6 * C,
                            gradients + p * 2 * a.count * 6 * L + half * 3 * W * L, 6 * W * L, a.count,
                            target + c * 3 * W * L, block == first,
                            address_ahead(&next_image, &next_gradient, at, <const char*>target))
                        at += a.count * AHEAD_STEP
                        c += (3 - W) * ROWS
    step = s.IC * s.G * s.D
    for p in range(P):
        W = min(<Py_ssize_t>2, D // L - 2 * p)
        for i in range(6):
            for j in range(6):
                offset[i * 6 + j] = i * D * 6 * room + j // 3 * room * 3 * W * L + j % 3 * W * L
        for c in range(IC):
            for w in range(W):
                winograd_weight(
                    7 - M, sums + p * 2 * L * 6 * room + c * 3 * W * L + w * L, offset,
                    partial + slice_ * taps * step + (ic0 + c) * s.G * s.D + group * s.D + oc0 + (2 * p + w) * L, step)


def weight_gradient(
    const float[:, :, :, ::1] x,            # IN [N, IH, IW, G*IC]
    const float[:, :, :, ::1] grad_output,  # IN [N, OH, OW, G*OC]
    Py_ssize_t size,                        # of the filter: 3 or 5
    Py_ssize_t top, Py_ssize_t left, Py_ssize_t G,
    float[:, :, ::1] grad_weight,           # OUT [G*OC, size*size, IC]
    int num_threads,
):
    """grad_weight[oc, tap, ic] = sum over pixels of x at the tap * grad_output."""
    cdef WeightPlan s
    cdef Py_ssize_t item = sizeof(float), task, tasks, start, stop, segment, j
    cdef Py_ssize_t M = 7 - size, taps = size * size, room, most
    s.IH, s.IW, s.IC, s.G = x.shape[1], x.shape[2], x.shape[3] // G, G
    s.OH, s.OW, s.OC = grad_output.shape[1], grad_output.shape[2], grad_output.shape[3] // G
    s.top, s.left = top, left
    s.C, s.D = in_vectors(s.IC), in_vectors(s.OC)
    if x.shape[0] == 0:
        grad_weight[:, :, :] = 0
        return
    set_blocks(
        &s.blocks, x.shape[0], M, s.OH, s.OW,
        GRADIENT_BLOCK_FEW if max(s.IC, s.OC) <= FEW_CHANNELS else GRADIENT_BLOCK)
    s.ic_chunks, s.oc_chunks = ceil_div(s.C, IN_CHUNK), ceil_div(s.D, OUT_CHUNK)
    s.slices = min(s.blocks.count, ceil_div(TASKS, G * s.ic_chunks * s.oc_chunks))
    room, most = min(s.C, <Py_ssize_t>IN_CHUNK), min(s.D, <Py_ssize_t>OUT_CHUNK)
    s.image_band, s.gradient_band = band_size(&s.blocks, 6 - M, room), band_size(&s.blocks, 0, most)
    s.V, s.gradients = s.blocks.slots * 6 * room, s.blocks.slots * 6 * most
    s.scratch_size = s.image_band + s.gradient_band + s.V + s.gradients + POINTS * (room + 2 * ROWS) * most
    s.scratch_size += 2 * s.blocks.slots * <Py_ssize_t>(sizeof(void*) // sizeof(float))
    s.scratch_size = ceil_div(s.scratch_size, 1024) * 1024 + 80

    cdef Py_ssize_t weights = taps * s.IC * G * s.D
    cdef Block scratch = Block((num_threads * s.scratch_size + s.slices * weights) * item)
    cdef float* work = <float*>scratch.address
    cdef float* partial = work + num_threads * s.scratch_size
    cdef const float* image = &x[0, 0, 0, 0]
    cdef const float* gradient = &grad_output[0, 0, 0, 0]
    cdef float* target = &grad_weight[0, 0, 0]
    tasks = s.slices * G * s.ic_chunks * s.oc_chunks
    segment = segment_tasks(
        tasks, <double>s.blocks.N * s.blocks.tiles_h * s.blocks.tiles_w * POINTS * G * s.C * s.D, num_threads)
    for start in range(0, tasks, segment):
        stop = min(start + segment, tasks)
        for task in prange(start, stop, nogil=True, num_threads=num_threads, schedule="static"):
            sum_task(&s, task, image, gradient, partial, work + this_thread() * s.scratch_size)
        PyErr_CheckSignals()
    tasks = ceil_div(s.OC, 16)
    for task in prange(G * tasks, nogil=True, num_threads=num_threads, schedule="static"):
        j = task % tasks * 16
        add_transposed(
            partial + task // tasks * s.D + j, G * s.D, s.slices, weights, taps * s.IC,
            min(<Py_ssize_t>16, s.OC - j), target + (task // tasks * s.OC + j) * taps * s.IC, taps * s.IC)
