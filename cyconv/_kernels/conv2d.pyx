"""Convolution as a sum over taps, on the register tile; images are read in place or from a zero-bordered band.

    out[n, qh, qw, :] = bias + sum over t of x[n, qh*step_h + tap_h[t], qw*step_w + tap_w[t], :] @ panel[t] + addend

Forward convolution has one tap per kernel position. The input gradient (and so transposed convolution) of stride s is
s*s such sums, each with step 1, its share of the taps, and every s-th pixel of the output: no zeros are inserted.
N IC IH IW: input; OC QH QW: output; G groups (IC, OC are per group); T taps; L lanes of a vector; P panels.
"""

from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from cython.parallel cimport prange

from cyconv._kernels.pack cimport copy_band, pack_panel
from cyconv._kernels.parallel cimport LINE, ceil_div, next_line, segment_tasks, share_start, this_thread
from cyconv._kernels.simd cimport TILE_ROWS, TILE_VECTORS, distance, finish_of, finishing_tile, lanes
from cyconv._kernels.taps cimport run_length
from cyconv._memory cimport Block

cdef enum:
    BAND_BYTES = 256 << 10        # an image band that shares L2 with a panel of weights
    LARGE_BAND_BYTES = 1408 << 10  # when the weights outgrow L2: fewer passes over them
    LARGE_WEIGHT_BYTES = 1 << 20
    PANELS_BYTES = 512 << 10
    FETCH = 8                      # pixels whose sums in a panel take as long as bringing its weights
    LARGE_FETCH = 24               # from beyond L2
    BLOCK_PIXELS = 1024
    LARGE_BLOCK_PIXELS = 4096
    SET_BYTES = 4096
    SHARING_PANELS = 4             # panels that must share a band which is only copied to set its pixels apart


cdef struct Plan:
    Py_ssize_t N, IH, IW, IC, OC, QH, QW, G
    Py_ssize_t step_h, step_w, top, left                 # top, left: smallest tap displacements
    Py_ssize_t runs, K                                   # runs of taps that lie contiguously, numbers in each
    Py_ssize_t L, NR, P
    bint band                                            # copy into zero-bordered bands, or read in place
    Py_ssize_t pixel, line                               # distances of pixels and lines where the tile reads
    Py_ssize_t band_h, band_w, block_rows, block_images, blocks_per_image, blocks, splits
    Py_ssize_t band_size, pixels, scratch_bytes          # per thread
    Py_ssize_t out_n, out_h, out_w
    Py_ssize_t addend                                    # bytes from out to it
    int finish                                           # what the tile does before it stores


def pack_weights(
    const floating[:, :, :, ::1] weight,  # IN [G*OC, KH, KW, IC]
    const Py_ssize_t[::1] taps,           # IN [T] positions kh*KW + kw, in the order of the kernel's taps
    Py_ssize_t G,
    bint transposed,                      # columns are input channels (for the input gradient)
    floating[::1] panels,                 # OUT [G, P, T, rows, width]
    int num_threads,
):
    """Re-lay the weights in panels of one tile's width; the last panel of a group may be narrower."""
    cdef Py_ssize_t OC = weight.shape[0] // G, S = weight.shape[1] * weight.shape[2], IC = weight.shape[3]
    cdef Py_ssize_t T = taps.shape[0]
    cdef Py_ssize_t columns = IC if transposed else OC, rows = OC if transposed else IC
    cdef Py_ssize_t L = lanes(&panels[0]), NR = TILE_VECTORS * L
    cdef Py_ssize_t P = ceil_div(columns, NR), padded = ceil_div(columns, L) * L
    cdef Py_ssize_t row_stride = S * IC if transposed else 1, column_stride = 1 if transposed else S * IC
    cdef const floating* w = &weight[0, 0, 0, 0]
    cdef floating* target = &panels[0]
    cdef Py_ssize_t task, g, p, t, count, width
    for task in prange(G * P, nogil=True, num_threads=num_threads, schedule="static"):
        g = task // P
        p = task % P
        count = min(NR, columns - p * NR)
        width = min(NR, ceil_div(count, L) * L)
        for t in range(T):
            pack_panel(
                w + g * OC * S * IC + taps[t] * IC + p * NR * column_stride, row_stride, column_stride,
                rows, count, width, target + (g * padded + p * NR) * T * rows + t * rows * width)


def packed_size(Py_ssize_t G, Py_ssize_t T, Py_ssize_t rows, Py_ssize_t columns, const floating[::1] like):
    """Return how many numbers `pack_weights` writes."""
    cdef Py_ssize_t L = lanes(&like[0])
    return G * T * rows * ceil_div(columns, L) * L


cdef void set_blocks(Plan* s, Py_ssize_t rows) noexcept:
    """Cut the output into blocks of so many rows, of one image or whole ones of several."""
    s.block_images = max(1, rows // s.QH)
    s.block_images = ceil_div(s.N, ceil_div(s.N, s.block_images))
    s.blocks_per_image = ceil_div(s.QH, rows) if rows < s.QH else 1
    s.block_rows = ceil_div(s.QH, s.blocks_per_image)
    s.blocks = ceil_div(s.N, s.block_images) * s.blocks_per_image


cdef void choose_blocks(Plan* s, Py_ssize_t most, bint large, int num_threads) noexcept:
    """Choose among blocks of `most` rows and shorter ones, whose panels threads may share, what keeps all threads busy.

    Costs are in quarters of a pixel's sums in one panel; such a quarter brings a pixel into a band. (`python -m
    benchmarks conv --threads 2`: 1x1, 2048 -> 512 channels @7, 8 images, in 4 blocks instead of 3: 1.13 times as fast.)
    """
    cdef Py_ssize_t fetch = LARGE_FETCH if large else FETCH
    cdef Py_ssize_t rows = most, best = most, best_splits = 1, splits, tasks, pixels, cost, least = 0
    while True:
        set_blocks(s, rows)
        pixels = s.block_images * s.block_rows * s.QW
        for splits in range(1, min(s.P, <Py_ssize_t>num_threads) + 1):
            tasks = ceil_div(s.blocks * s.G * splits, num_threads)
            cost = tasks * (4 * ceil_div(s.P, splits) * (pixels + fetch) + (pixels if s.band else 0))
            if least == 0 or 100 * cost < 95 * least:
                least, best, best_splits = cost, rows, splits
        if rows <= ceil_div(most, 8) or rows * s.QW < 4 * TILE_ROWS:
            break
        rows -= ceil_div(most, 8)
    set_blocks(s, best)
    s.splits = best_splits


cdef void make_plan(Plan* s, const Py_ssize_t[:, ::1] taps, Py_ssize_t item, int num_threads) noexcept:
    """Choose blocks of output rows whose band fits the cache, and how threads share them. Bits never depend on it."""
    cdef Py_ssize_t T = taps.shape[1], bottom = 0, right = 0, merged = 1, t, rows
    s.top = s.left = 0
    for t in range(T):
        s.top = min(s.top, taps[0, t]) if t else taps[0, t]
        s.left = min(s.left, taps[1, t]) if t else taps[1, t]
        bottom = max(bottom, taps[0, t]) if t else taps[0, t]
        right = max(right, taps[1, t]) if t else taps[1, t]
    s.band = T > 0 and (
        s.G > 1 or s.top < 0 or s.left < 0
        or (s.QH - 1) * s.step_h + bottom >= s.IH or (s.QW - 1) * s.step_w + right >= s.IW)
    s.P = ceil_div(s.OC, s.NR)
    s.pixel = s.IC
    # Rows of a tile multiples of 4 KB apart compete for one set of L1, which may have fewer lines than a tile has rows.
    if T and s.P >= SHARING_PANELS and s.step_w * s.IC * item % SET_BYTES == 0:
        s.band = True
        s.pixel += s.L
    elif T:
        merged = run_length(&taps[0, 0], &taps[1, 0], T)
    s.runs = T // merged
    s.K = merged * s.IC
    s.band_w = (s.QW - 1) * s.step_w + right - s.left + 1
    s.line = (s.band_w if s.band else s.IW) * s.pixel

    # Weights that outgrow L2 are read once for each block, so blocks are large then and threads share the panels.
    cdef bint large = T * s.IC * s.OC * item > LARGE_WEIGHT_BYTES
    rows = (LARGE_BAND_BYTES if large else BAND_BYTES) // max(1, s.step_h * s.band_w * s.pixel * item)
    rows = max(1, min(rows, ceil_div(LARGE_BLOCK_PIXELS if large else BLOCK_PIXELS, s.QW)))
    choose_blocks(s, rows, large, num_threads)
    s.band_h = (s.block_rows - 1) * s.step_h + bottom - s.top + 1
    s.band_size = s.block_images * s.band_h * s.line if s.band else 0
    s.pixels = s.block_images * s.block_rows * s.QW
    s.scratch_bytes = s.band_size * item + LINE + 2 * s.pixels * <Py_ssize_t>sizeof(void*)
    s.scratch_bytes = ceil_div(s.scratch_bytes, 4096) * 4096 + 5 * LINE


cdef void run_task(
    Plan* s, Py_ssize_t task, const floating* x, const floating* panels, const floating* bias,
    const Py_ssize_t* a_offset, const Py_ssize_t* b_offset, floating* out, char* scratch,
) noexcept nogil:
    """One block of output rows, one group, one share of the panels."""
    cdef Py_ssize_t split = task % s.splits, g = task // s.splits % s.G, block = task // s.splits // s.G
    cdef Py_ssize_t n0 = block // s.blocks_per_image * s.block_images, n1 = min(n0 + s.block_images, s.N)
    cdef Py_ssize_t q0 = share_start(s.QH, s.blocks_per_image, block % s.blocks_per_image)
    cdef Py_ssize_t q1 = share_start(s.QH, s.blocks_per_image, block % s.blocks_per_image + 1)
    cdef floating* band = <floating*>scratch
    cdef const floating** rows = <const floating**>next_line(band + s.band_size)
    cdef floating** c_rows = <floating**>(rows + s.pixels)
    cdef const floating* origin
    cdef floating* target
    cdef Py_ssize_t n, q, qw, pixel = 0
    for n in range(n0, n1):
        if s.band:
            copy_band(
                x + n * s.IH * s.IW * s.G * s.IC + g * s.IC, s.IH, s.IW, s.G * s.IC, s.IC,
                q0 * s.step_h + s.top, s.left, (q1 - q0 - 1) * s.step_h + s.band_h - (s.block_rows - 1) * s.step_h,
                s.band_w, band + (n - n0) * s.band_h * s.line, s.pixel)
        for q in range(q0, q1):
            if s.band:
                origin = band + ((n - n0) * s.band_h + (q - q0) * s.step_h) * s.line
            else:
                origin = x + (n * s.IH + q * s.step_h) * s.line
            target = out + n * s.out_n + q * s.out_h + g * s.OC
            for qw in range(s.QW):
                rows[pixel] = origin + qw * s.step_w * s.pixel
                c_rows[pixel] = target + qw * s.out_w
                pixel += 1

    cdef Py_ssize_t first = share_start(s.P, s.splits, split), last = share_start(s.P, s.splits, split + 1)
    cdef Py_ssize_t depth = s.runs * s.K, padded = ceil_div(s.OC, s.L) * s.L
    cdef Py_ssize_t group = max(1, PANELS_BYTES // max(1, depth * s.NR * <Py_ssize_t>sizeof(floating)))
    cdef Py_ssize_t tiles = ceil_div(pixel, TILE_ROWS), p0, p, t, i0, i1, i2, columns, width
    cdef const char* ahead
    cdef const char* ahead_x
    cdef const char* end
    cdef const char* end_x
    p0 = first
    while p0 < last:
        for t in range(tiles):
            i0 = share_start(pixel, tiles, t)
            i1 = share_start(pixel, tiles, t + 1)
            # While this tile works, the next one's results and, of a 1x1 filter, pixels come into L2.
            ahead = end = ahead_x = end_x = <const char*>panels
            if t + 1 < tiles and s.G == 1 and group >= last - first:
                i2 = share_start(pixel, tiles, t + 2)
                if s.splits == 1 and c_rows[i2 - 1] == c_rows[i1] + (i2 - i1 - 1) * s.OC:
                    ahead = <const char*>c_rows[i1]
                    end = <const char*>(c_rows[i2 - 1] + s.OC)
                if not s.band and s.runs == 1 and rows[i2 - 1] == rows[i1] + (i2 - i1 - 1) * s.K:
                    ahead_x = <const char*>rows[i1]
                    end_x = <const char*>(rows[i2 - 1] + s.K)
            for p in range(p0, min(p0 + group, last)):
                columns = min(s.NR, s.OC - p * s.NR)
                width = min(s.NR, ceil_div(columns, s.L) * s.L)
                if ahead >= end:
                    ahead, end, ahead_x = ahead_x, end_x, end_x
                finishing_tile(
                    i1 - i0, s.runs, s.K, rows + i0, a_offset, 1,
                    panels + (g * padded + p * s.NR) * depth, b_offset + (s.runs if width < s.NR else 0), width,
                    c_rows + i0, p * s.NR, columns,
                    bias + g * padded + p * s.NR if bias != NULL else NULL, s.addend, s.finish,
                    ahead, 64 if ahead < end else 0)
                ahead += s.runs * s.K * 64
        p0 += group


def conv_taps(
    const floating[:, :, :, ::1] x,      # IN [N, IH, IW, G*IC]
    const floating[::1] panels,          # IN from pack_weights
    const floating[::1] bias,            # IN [G*OC], or None
    const floating[:, :, :, :] addend,   # IN as out, strides too, or None; may be out itself
    const Py_ssize_t[:, ::1] taps,       # IN [2, T] displacements in the input, rows above columns
    Py_ssize_t step_h, Py_ssize_t step_w, Py_ssize_t G,
    floating[:, :, :, :] out,            # OUT [N, QH, QW, G*OC], channels contiguous, any other strides
    bint relu,
    int num_threads,
):
    """Sum over taps as the module says, of negative results zero with `relu`; x counts as zero outside its bounds."""
    cdef Plan s
    cdef Py_ssize_t item = sizeof(floating), T = taps.shape[1], i, j, task, start, stop, segment
    s.N, s.IH, s.IW, s.IC = x.shape[0], x.shape[1], x.shape[2], x.shape[3] // G
    s.QH, s.QW, s.OC, s.G = out.shape[1], out.shape[2], out.shape[3] // G, G
    s.step_h, s.step_w = step_h, step_w
    s.out_n, s.out_h, s.out_w = out.strides[0] // item, out.strides[1] // item, out.strides[2] // item
    if s.N == 0 or s.QH == 0 or s.QW == 0 or s.OC == 0:
        return
    cdef floating* target = &out[0, 0, 0, 0]
    cdef const floating* other = &addend[0, 0, 0, 0] if addend is not None else NULL
    s.addend, s.finish = distance(other, target), finish_of(other, relu)
    s.L = lanes(&panels[0])
    s.NR = TILE_VECTORS * s.L
    make_plan(&s, taps, item, num_threads)

    cdef Py_ssize_t padded = ceil_div(s.OC, s.L) * s.L
    cdef Block scratch = Block(3 * s.runs * sizeof(Py_ssize_t) + G * padded * item + 64 + num_threads * s.scratch_bytes)
    cdef char* bands = <char*>scratch.address
    cdef Py_ssize_t* a_offset = <Py_ssize_t*>(bands + num_threads * s.scratch_bytes)
    cdef Py_ssize_t* b_offset = a_offset + s.runs
    cdef floating* padded_bias = NULL
    cdef Py_ssize_t base_h = s.top if s.band else 0, base_w = s.left if s.band else 0
    cdef Py_ssize_t narrow = min(s.NR, ceil_div(s.OC - (s.P - 1) * s.NR, s.L) * s.L)
    for i in range(s.runs):
        j = i * (T // s.runs)
        a_offset[i] = (taps[0, j] - base_h) * s.line + (taps[1, j] - base_w) * s.pixel
        b_offset[i] = i * s.K * s.NR
        b_offset[s.runs + i] = i * s.K * narrow
    if bias is not None:
        padded_bias = <floating*>(b_offset + 2 * s.runs)
        for i in range(G):
            for j in range(padded):
                padded_bias[i * padded + j] = bias[i * s.OC + j] if j < s.OC else 0

    cdef Py_ssize_t tasks = s.blocks * G * s.splits
    cdef double work = <double>s.N * s.QH * s.QW * G * s.OC * (T * s.IC + 1)
    segment = segment_tasks(tasks, work, num_threads)
    cdef const floating* image = &x[0, 0, 0, 0] if T else NULL
    cdef const floating* weights = &panels[0]
    for start in range(0, tasks, segment):
        stop = min(start + segment, tasks)
        for task in prange(start, stop, nogil=True, num_threads=num_threads, schedule="static"):
            run_task(
                &s, task, image, weights, padded_bias, a_offset, b_offset, target,
                bands + this_thread() * s.scratch_bytes)
        PyErr_CheckSignals()
