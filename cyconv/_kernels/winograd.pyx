"""Convolution by Winograd's minimal filtering, in float32: 3x3, 5x5 and 2x2 taps of stride 1, or phases of stride 2.

They take 4, 2.8 and 2.6 times fewer multiplications. Outputs come in tiles of MxM, M = 4 or 2, each from a patch of
QxQ pixels for nxn taps, Q = M + n - 1. A task takes a block of some tiles, whose part of the image it copies into a
band with zeros for what lies outside. Row by row of the QxQ points: transform the patches (V), multiply them with the
transformed filters, Q small matrix products, and transform these back along the row (t); last transform along columns
and write. winograd.h has the transforms and their source.

Filters of Sn x Sn taps and stride S are nxn filters of stride 1 over S*S phases of the image, each every S-th pixel,
whose products are added as those of more channels are. The input gradient of stride S is S*S convolutions of stride 1,
each of which writes every S-th pixel.
IC, OC are per group; C, D: IC and OC in whole vectors of L, the rest zeros; K = S*S*C.
"""

from cpython.exc cimport PyErr_CheckSignals
from cython.parallel cimport prange
from libc.string cimport memset

from cyconv._kernels.pack cimport add_transposed
from cyconv._kernels.parallel cimport LINE, ceil_div, segment_tasks, share_start, this_thread
from cyconv._kernels.simd cimport distance, finish_of, lanes
from cyconv._kernels.tiles cimport (
    Ahead, Area, Blocks, Source, Stretch, ahead, band_size, block_area, copy_area, line_ahead, set_blocks,
    stretch)
from cyconv._memory cimport Block

cdef extern from "winograd.h" nogil:
    const Py_ssize_t ROWS "WINOGRAD_ROWS"
    void winograd_image(
        int Q, int i, Py_ssize_t S, const float** corners, Py_ssize_t count, Py_ssize_t line, Py_ssize_t pixel,
        Py_ssize_t C, Py_ssize_t rows, float* V)
    void winograd_gradient(
        int Q, int i, int M, const float** corners, Py_ssize_t count, Py_ssize_t line, Py_ssize_t pixel, Py_ssize_t D,
        float* points)
    void winograd_filter(
        Py_ssize_t n, const float* taps, Py_ssize_t step, float* U, Py_ssize_t row_step, Py_ssize_t half_step,
        Py_ssize_t point_step)
    void winograd_multiply(
        Py_ssize_t W, Py_ssize_t Q, Py_ssize_t M, Py_ssize_t half, const float* a, const float* b, Py_ssize_t a_jump,
        const float* B, Py_ssize_t b_step, Py_ssize_t K, float* sums, int start, const char* ahead,
        int end, float* t, Py_ssize_t tile_step, Py_ssize_t vector_step)
    void winograd_add_products(
        Py_ssize_t W, Py_ssize_t points, const float* a, const float* b, Py_ssize_t a_jump, const float* B,
        Py_ssize_t b_step, Py_ssize_t K, float* sums, int start, const char* ahead, Py_ssize_t ahead_step)
    void winograd_output(
        Py_ssize_t Q, Py_ssize_t M, const float* t, const float* bias, Py_ssize_t addend, int finish, float* out,
        Py_ssize_t out_h, Py_ssize_t out_w, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t lanes)
    void winograd_weight(
        Py_ssize_t n, const float* sums, const Py_ssize_t* offset, float* weights, Py_ssize_t line, Py_ssize_t step)

cdef enum:
    FEW_CHANNELS = 32          # up to which a block's intermediates shall stay in L1, beyond in L2
    BLOCK_FEW = 16             # tiles of a block then
    BLOCK = 48
    FETCH = 8                  # tiles that take as long as bringing a panel's filters: see choose_blocks
    DEPTH = 64                 # of K at a time: their filters of three points stay in L1


cpdef Py_ssize_t tile_side(Py_ssize_t n) noexcept:
    """Return how many outputs a side a tile has for n x n taps."""
    return 2 if n == 5 else 4


cdef inline Py_ssize_t in_vectors(Py_ssize_t channels) noexcept nogil:
    """Channels in whole vectors."""
    cdef Py_ssize_t L = lanes(<const float*>NULL)
    return ceil_div(channels, L) * L


def filters_size(Py_ssize_t G, Py_ssize_t n, Py_ssize_t S, Py_ssize_t rows, Py_ssize_t columns):
    """Return how many numbers `transform_filters` writes."""
    return G * (tile_side(n) + n - 1) ** 2 * S * S * in_vectors(rows) * in_vectors(columns)


def transform_filters(
    const float[::1] taps,   # IN [G, P, S*S, n*n, rows, width] from pack_weights, n = 2, 3 or 5
    Py_ssize_t G, Py_ssize_t n, Py_ssize_t S, Py_ssize_t rows, Py_ssize_t columns,
    float[::1] filters,      # OUT [G, P, Q, 2, K, points, width]: of each row of points two halves, the first of three
    int num_threads,
):
    """Transform packed weights panel by panel."""
    cdef Py_ssize_t L = lanes(&filters[0]), C = in_vectors(rows), D = in_vectors(columns), P = ceil_div(D, 2 * L)
    cdef Py_ssize_t Q = tile_side(n) + n - 1, K = S * S * C, task, g, p, phase, c, k, w, i, width
    cdef const float* source = &taps[0]
    cdef float* target = &filters[0]
    cdef const float* panel
    cdef float* U
    for task in prange(G * P, nogil=True, num_threads=num_threads, schedule="static"):
        g = task // P
        p = task % P
        width = min(2 * L, D - p * 2 * L)
        panel = source + (g * D + p * 2 * L) * S * S * n * n * rows
        U = target + (g * D + p * 2 * L) * Q * Q * K
        for phase in range(S * S):
            for c in range(rows):
                k = phase * C + c
                for w in range(width // L):
                    winograd_filter(
                        n, panel + c * width + w * L, rows * width, U + k * 3 * width + w * L, Q * K * width,
                        (3 * K - (6 - Q) * k) * width, width)
            panel = panel + n * n * rows * width
            for i in range(Q):
                k = phase * C + rows
                memset(U + (i * Q * K + 3 * k) * width, 0, (C - rows) * 3 * width * sizeof(float))
                memset(
                    U + (i * Q * K + 3 * K + (Q - 3) * k) * width, 0, (C - rows) * (Q - 3) * width * sizeof(float))


cdef struct Plan:
    Blocks blocks
    Py_ssize_t IH, IW, IC, OH, OW, OC, C, D, K, G
    Py_ssize_t S, top, left                           # stride, padding
    Py_ssize_t P, splits                              # panels, and the threads' shares of them
    Py_ssize_t slots, tile_step, vector_step          # tiles in whole groups of rows, distances in t
    Py_ssize_t band, V, t, sums, scratch_size         # numbers per thread
    Py_ssize_t out_n, out_h, out_w
    Py_ssize_t addend                                 # bytes from out to it
    int finish                                        # what happens before a pixel is stored


cdef void choose_blocks(Plan* s, Py_ssize_t n, Py_ssize_t N, int num_threads) noexcept:
    """Choose how many tiles make a block, and whether threads share its panels: what keeps all of them busy.

    In multiplications of a tile by a panel: bringing a panel's filters takes as long as FETCH tiles, and transforming
    a tile as long as multiplying it by a panel. (`python -m benchmarks conv --threads 2`: 512 channels @28, 4 images,
    in 4 blocks instead of 16: 1.3 times as fast; @7, 8 images, whose one block two threads share: 1.3 times.)
    """
    cdef Py_ssize_t most = BLOCK_FEW if max(s.IC, s.OC) <= FEW_CHANNELS else BLOCK, tasks, splits, cost, least = 0
    cdef Py_ssize_t best = most, best_splits = 1
    while most >= BLOCK_FEW:
        set_blocks(&s.blocks, n, tile_side(n), N, s.OH, s.OW, most)
        for splits in range(1, min(s.P, <Py_ssize_t>num_threads) + 1):
            tasks = ceil_div(s.blocks.count * s.G * splits, num_threads)
            cost = tasks * (ceil_div(s.P, splits) * (s.blocks.slots + FETCH) + s.blocks.slots)
            if least == 0 or 100 * cost < 95 * least:
                least, best, best_splits = cost, most, splits
        most -= 2 * ROWS
    set_blocks(&s.blocks, n, tile_side(n), N, s.OH, s.OW, best)
    s.splits = best_splits


cdef void make_plan(Plan* s, Py_ssize_t n, Py_ssize_t N, int num_threads) noexcept:
    """Choose the blocks, on which results do not depend, and what they need."""
    cdef Py_ssize_t L = lanes(<const float*>NULL)
    s.C, s.D = in_vectors(s.IC), in_vectors(s.OC)
    s.K = s.S * s.S * s.C
    s.P = ceil_div(s.D, 2 * L)
    choose_blocks(s, n, N, num_threads)
    s.slots = ceil_div(s.blocks.slots, 2 * ROWS) * 2 * ROWS
    s.tile_step = s.blocks.Q * s.blocks.M * L
    s.vector_step = s.slots * s.tile_step
    s.band = band_size(&s.blocks, s.S, n - 1, s.C)
    s.V = s.slots * s.blocks.Q * s.K
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
                        s.blocks.Q, M, t + (v - 2 * p0) * s.vector_step, bias + v * L, s.addend, s.finish,
                        tile + v * L, s.out_h, s.out_w, min(M, s.OH - h * M), min(M, s.OW - w * M),
                        min(L, s.OC - v * L))
                t += s.tile_step


cdef void run_task(
    Plan* s, Py_ssize_t task, const float* x, const float* filters, const float* bias, float* out, float* scratch,
) noexcept nogil:
    """One block of tiles, one group, one share of its panels."""
    cdef Py_ssize_t L = lanes(x), M = s.blocks.M, Q = s.blocks.Q, points
    cdef Py_ssize_t split = task % s.splits, g = task // s.splits % s.G
    cdef Area a = block_area(&s.blocks, task // s.splits // s.G)
    cdef float* band = scratch
    cdef float* V = band + s.band
    cdef float* t = V + s.V
    cdef float* sums = t + s.t
    cdef const float** corners = <const float**>(sums + s.sums)
    cdef Py_ssize_t p0 = share_start(s.P, s.splits, split), p1 = share_start(s.P, s.splits, split + 1)
    cdef Py_ssize_t groups = ceil_div(a.count, ROWS), group = ROWS * Q * s.K, p, W, half, k, count, j, at = 0
    cdef const float* U
    cdef const float* rows
    cdef float* target
    cdef const char* after
    cdef Stretch image = Stretch(NULL, 0, 0, 0), result = image
    cdef int i
    cdef Source source = copy_area(
        &s.blocks, &a, x + g * s.IC, s.IH, s.IW, s.G * s.IC, s.IC, s.C, s.top, s.left, s.S,
        s.blocks.n - 1, band, corners)
    if s.splits == 1 and s.G == 1:
        image = stretch(
            &s.blocks, task + 1, x, s.IH, s.IW, s.IC, s.IC, s.top, s.S, s.blocks.n - 1)
        if s.out_w == s.OC and s.out_h == s.OW * s.OC and s.out_n == s.OH * s.out_h:
            result = stretch(&s.blocks, task, out, s.OH, s.OW, s.OC, s.OC, 0, 1, 0)
    if s.D // L % 2:  # panels of one vector take twice as many tiles at once
        groups = ceil_div(groups, 2) * 2
    for j in range(a.count, groups * ROWS):
        corners[j] = corners[a.count - 1]
    for i in range(Q):
        winograd_image(Q, i, s.S, corners, groups * ROWS, source.line, source.pixel, s.C, ROWS, V)
        for p in range(p0, p1):
            W = min(<Py_ssize_t>2, s.D // L - 2 * p)
            U = filters + (g * s.D + p * 2 * L) * Q * Q * s.K + i * Q * s.K * W * L
            for half in range(2):
                points = Q - 3 if half else 3
                k = 0
                while k < s.K:
                    count = min(<Py_ssize_t>DEPTH, s.K - k)
                    after = <const char*>(U + count * points * W * L)
                    if k + count == s.K and half == 1 and p + 1 < p1:
                        after = <const char*>(filters + (g * s.D + (p + 1) * 2 * L) * Q * Q * s.K + i * s.K * Q * 2 * L)
                    rows = V + k * Q * ROWS + half * 3 * ROWS * L
                    target = t + (p - p0) * 2 * s.vector_step + i * M * L
                    j = 0
                    while j < groups:
                        winograd_multiply(
                            W, Q, M, half, rows, rows + group, ROWS * Q * L - L, U, points * W * L, count,
                            sums + j * ROWS * 6 * L, k == 0, line_ahead(&image, &result, at, after),
                            k + count == s.K, target, s.tile_step, s.vector_step)
                        rows += (3 - W) * group
                        target += (3 - W) * ROWS * s.tile_step
                        at += count
                        after += count * LINE
                        j += 3 - W
                    U += count * points * W * L
                    k += count
    write_outputs(s, &a, t, p0, p1, bias + g * s.D, out + g * s.OC)


def conv(
    const float[:, :, :, ::1] x,     # IN [N, IH, IW, G*IC]
    const float[::1] filters,        # IN from transform_filters
    const float[::1] bias,           # IN [G*OC], or None
    const float[:, :, :, :] addend,  # IN as out, strides too, or None; may be out itself
    Py_ssize_t n, Py_ssize_t S,      # filters of S*n x S*n taps, n = 2, 3 or 5, and stride S
    Py_ssize_t top, Py_ssize_t left, Py_ssize_t G,
    float[:, :, :, :] out,           # OUT [N, OH, OW, G*OC], channels contiguous
    bint relu,
    int num_threads,
):
    """out[n, h, w] = bias + sum over the taps of x[n, S*h - top + kh, S*w - left + kw] @ filter + addend; then relu."""
    cdef Plan s
    cdef Py_ssize_t item = sizeof(float), task, tasks, start, stop, segment, i
    s.IH, s.IW, s.IC, s.G = x.shape[1], x.shape[2], x.shape[3] // G, G
    s.OH, s.OW, s.OC = out.shape[1], out.shape[2], out.shape[3] // G
    s.S, s.top, s.left = S, top, left
    s.out_n, s.out_h, s.out_w = out.strides[0] // item, out.strides[1] // item, out.strides[2] // item
    if x.shape[0] == 0:
        return
    cdef float* target = &out[0, 0, 0, 0]
    cdef const float* other = &addend[0, 0, 0, 0] if addend is not None else NULL
    s.addend, s.finish = distance(other, target), finish_of(other, relu)
    make_plan(&s, n, x.shape[0], num_threads)
    cdef Block scratch = Block((num_threads * s.scratch_size + G * s.D) * item)
    cdef float* work = <float*>scratch.address
    cdef float* padded_bias = work + num_threads * s.scratch_size
    for i in range(G * s.D):
        padded_bias[i] = bias[i // s.D * s.OC + i % s.D] if bias is not None and i % s.D < s.OC else 0
    cdef const float* image = &x[0, 0, 0, 0]
    cdef const float* weights = &filters[0]
    tasks = s.blocks.count * G * s.splits
    segment = segment_tasks(
        tasks, <double>s.blocks.N * s.blocks.tiles_h * s.blocks.tiles_w * s.blocks.Q * s.blocks.Q * G * s.K * s.D,
        num_threads)
    for start in range(0, tasks, segment):
        stop = min(start + segment, tasks)
        for task in prange(start, stop, nogil=True, num_threads=num_threads, schedule="static"):
            run_task(&s, task, image, weights, padded_bias, target, work + this_thread() * s.scratch_size)
        PyErr_CheckSignals()


# The weight gradient, F(3x3, 4x4), F(5x5, 2x2) or F(2x2, 4x4): every MxM tile of grad_output slides over its QxQ patch
# of the image. Products at the points are summed over tiles before the one transform back. A task owns some input
# channels, in all phases, by some output channels of one slice of the tiles; the cut depends on the shape only, and
# slices are added in order.

cdef enum:
    IN_CHUNK = 64    # channels; of stride 2 half of them, in four phases: the task's sums stay in the outer caches
    OUT_CHUNK = 128
    GRADIENT_BLOCK_FEW = 16
    GRADIENT_BLOCK = 48
    SUMS = 8                    # tiles that take as long as reading and writing a block's sums: see choose_slices
    SLICE = 16                  # as transforming and adding a slice's
    TASKS = 16

cdef struct WeightPlan:
    Blocks blocks
    Py_ssize_t IH, IW, IC, OH, OW, OC, C, D, G
    Py_ssize_t S, top, left
    Py_ssize_t slices, ic_chunks, oc_chunks
    Py_ssize_t image_band, gradient_band, V, gradients, scratch_size  # numbers per thread


cdef void sum_task(
    WeightPlan* s, Py_ssize_t task, const float* x, const float* g, float* partial, float* scratch,
) noexcept nogil:
    """One slice's weight gradients between one chunk of input and one of output channels."""
    cdef Py_ssize_t L = lanes(x), n = s.blocks.n, M = s.blocks.M, Q = s.blocks.Q, S = s.S
    cdef Py_ssize_t occ = task % s.oc_chunks, icc = task // s.oc_chunks % s.ic_chunks
    cdef Py_ssize_t group = task // s.oc_chunks // s.ic_chunks % s.G
    cdef Py_ssize_t slice_ = task // s.oc_chunks // s.ic_chunks // s.G
    cdef Py_ssize_t ic0 = share_start(s.C // L, s.ic_chunks, icc) * L
    cdef Py_ssize_t oc0 = share_start(s.D // L, s.oc_chunks, occ) * L
    cdef Py_ssize_t C = share_start(s.C // L, s.ic_chunks, icc + 1) * L - ic0, IC = min(C, s.IC - ic0)
    cdef Py_ssize_t D = share_start(s.D // L, s.oc_chunks, occ + 1) * L - oc0, OC = min(D, s.OC - oc0)
    cdef Py_ssize_t K = S * S * C, room = ceil_div(K, 2 * ROWS) * 2 * ROWS, P = ceil_div(D, 2 * L)
    cdef float* V = scratch + s.image_band + s.gradient_band
    cdef float* gradients = V + s.V
    cdef float* sums = gradients + s.gradients
    cdef const float** patches = <const float**>(sums + 6 * Q * room * D)
    cdef const float** tiles = patches + s.blocks.slots
    cdef Py_ssize_t first = share_start(s.blocks.count, s.slices, slice_), block, p, W, half, points, c, k, w
    cdef Py_ssize_t step = s.IC * s.G * s.D, at
    cdef Py_ssize_t[36] offset
    cdef Area a
    cdef Source image, gradient
    cdef Stretch next_image, next_gradient
    cdef Ahead next_
    cdef const float* rows
    cdef const float* more
    cdef float* target
    cdef int i, j
    for block in range(first, share_start(s.blocks.count, s.slices, slice_ + 1)):
        a = block_area(&s.blocks, block)
        image = copy_area(
            &s.blocks, &a, x + group * s.IC + ic0, s.IH, s.IW, s.G * s.IC, IC, C, s.top, s.left, S, n - 1,
            scratch, patches)
        gradient = copy_area(
            &s.blocks, &a, g + group * s.OC + oc0, s.OH, s.OW, s.G * s.OC, OC, D, 0, 0, 1, 0,
            scratch + s.image_band, tiles)
        next_image = stretch(
            &s.blocks, block + 1, x + group * s.IC + ic0, s.IH, s.IW, s.G * s.IC, IC, s.top, S, n - 1)
        next_gradient = stretch(&s.blocks, block + 1, g + group * s.OC + oc0, s.OH, s.OW, s.G * s.OC, OC, 0, 1, 0)
        # Not before there is need, lest they leave the cache again.
        at = next_image.places * next_image.depth + next_gradient.places * next_gradient.depth
        at = min(0, at - Q * P * 2 * ceil_div(K, ROWS if D > L else 2 * ROWS) * a.count)
        for i in range(Q):
            winograd_image(Q, i, S, patches, a.count, image.line, image.pixel, C, 1, V)
            winograd_gradient(Q, i, M, tiles, a.count, gradient.line, gradient.pixel, D, gradients)
            for p in range(P):
                W = min(<Py_ssize_t>2, D // L - 2 * p)
                for half in range(2):
                    points = Q - 3 if half else 3
                    target = sums + (i * D + p * 2 * L) * 6 * room + half * room * 3 * W * L
                    k = 0
                    while k < K:
                        rows = V + k // L * Q * L + k % L + half * 3 * L
                        more = V + (k + ROWS) // L * Q * L + (k + ROWS) % L + half * 3 * L
                        next_ = ahead(
                            &next_image, &next_gradient, at, <const char*>(target + (k + (3 - W) * ROWS) * 3 * W * L))
                        winograd_add_products(
                            W, points, rows, more if k + ROWS < K else rows, Q * K,
                            gradients + p * 2 * a.count * Q * L + half * 3 * W * L, Q * W * L, a.count,
                            target + k * 3 * W * L, block == first, next_.start, next_.step)
                        at += a.count
                        k += (3 - W) * ROWS
    for p in range(P):
        W = min(<Py_ssize_t>2, D // L - 2 * p)
        for k in range(K):
            c = k % C
            if c >= IC:
                continue
            for i in range(Q):
                for j in range(Q):
                    offset[i * 6 + j] = i * D * 6 * room + (j // 3 * room + k) * 3 * W * L + j % 3 * W * L
            # The phase's first tap; its next ones are S further.
            target = partial + (slice_ * S * n * S * n + k // C // S * S * n + k // C % S) * step
            for w in range(W):
                winograd_weight(
                    n, sums + p * 2 * L * 6 * room + w * L, offset,
                    target + (ic0 + c) * s.G * s.D + group * s.D + oc0 + (2 * p + w) * L, S * S * n * step, S * step)


cdef void choose_slices(WeightPlan* s, Py_ssize_t n, Py_ssize_t N) noexcept:
    """Choose how many tiles make a block, and in how many slices they are summed, by the shape alone.

    What all of 1, 2, 4, 8 and, half as important, 16 threads take together shall be least, in products of one tile:
    reading and writing a block's sums takes as long as SUMS, transforming and adding a slice's as long as SLICE. (5x5,
    48 -> 128 channels @7, 8 images: 3 slices of 48 tiles took 0.84 ms, 8 of 16 1.28 ms. `python -m benchmarks conv
    --threads 1,2`: 256 channels @14, in slices of as many blocks each, 1.25 times as fast on two threads.)
    """
    cdef Py_ssize_t chunks = s.G * s.ic_chunks * s.oc_chunks, wanted = ceil_div(TASKS, chunks), slices, each, cost
    cdef Py_ssize_t few = GRADIENT_BLOCK_FEW, most = few if max(s.IC, s.OC) <= FEW_CHANNELS else GRADIENT_BLOCK
    cdef Py_ssize_t best = most, best_slices = 1, least = 0, threads, fewest
    cdef Py_ssize_t M = tile_side(n), Q = M + n - 1
    cdef double work = <double>N * ceil_div(s.OH, M) * ceil_div(s.OW, M) * Q * Q * s.G * s.S * s.S * s.C * s.D
    while most >= few:
        set_blocks(&s.blocks, n, tile_side(n), N, s.OH, s.OW, most)
        fewest = min(s.blocks.count, 1 + <Py_ssize_t>(work / (4e9 * chunks)))  # 70 ms each: Ctrl-C waits for one
        for slices in range(fewest, max(fewest, min(s.blocks.count, wanted)) + 1):
            each = ceil_div(s.blocks.count, slices) * (s.blocks.slots + SUMS) + SLICE
            cost, threads = 0, 1
            while threads <= 16:
                cost += (2 if threads < 16 else 1) * threads * ceil_div(chunks * slices, threads) * each
                threads *= 2
            if least == 0 or 100 * cost < 95 * least:
                least, best, best_slices = cost, most, slices
        most -= 8
    set_blocks(&s.blocks, n, tile_side(n), N, s.OH, s.OW, best)
    s.slices = best_slices


def weight_gradient(
    const float[:, :, :, ::1] x,            # IN [N, IH, IW, G*IC]
    const float[:, :, :, ::1] grad_output,  # IN [N, OH, OW, G*OC]
    Py_ssize_t n, Py_ssize_t S,             # as in conv
    Py_ssize_t top, Py_ssize_t left, Py_ssize_t G,
    float[:, :, ::1] grad_weight,           # OUT [G*OC, S*n*S*n, IC]
    int num_threads,
):
    """grad_weight[oc, tap, ic] = sum over pixels of x at the tap * grad_output."""
    cdef WeightPlan s
    cdef Py_ssize_t item = sizeof(float), task, tasks, start, stop, segment, j
    cdef Py_ssize_t taps = S * n * S * n, chunk = IN_CHUNK // S, room, most
    s.IH, s.IW, s.IC, s.G = x.shape[1], x.shape[2], x.shape[3] // G, G
    s.OH, s.OW, s.OC = grad_output.shape[1], grad_output.shape[2], grad_output.shape[3] // G
    s.S, s.top, s.left = S, top, left
    s.C, s.D = in_vectors(s.IC), in_vectors(s.OC)
    if x.shape[0] == 0:
        grad_weight[:, :, :] = 0
        return
    s.ic_chunks, s.oc_chunks = ceil_div(s.C, chunk), ceil_div(s.D, OUT_CHUNK)
    choose_slices(&s, n, x.shape[0])
    chunk, most = min(s.C, chunk), min(s.D, <Py_ssize_t>OUT_CHUNK)
    room = S * S * chunk
    s.image_band, s.gradient_band = band_size(&s.blocks, S, n - 1, chunk), band_size(&s.blocks, 1, 0, most)
    s.V, s.gradients = s.blocks.slots * s.blocks.Q * room, s.blocks.slots * s.blocks.Q * most
    s.scratch_size = s.image_band + s.gradient_band + s.V + s.gradients
    s.scratch_size += 6 * s.blocks.Q * (room + 2 * ROWS) * most
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
        tasks,
        <double>s.blocks.N * s.blocks.tiles_h * s.blocks.tiles_w * s.blocks.Q * s.blocks.Q * G * S * S * s.C * s.D,
        num_threads)
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
