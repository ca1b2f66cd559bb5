"""The weight gradient of a convolution, on the register tile with the image transposed in place.

    grad_weight[oc, t, ic] = sum over n, qh, qw of x[n, qh*step_h + tap_h[t], qw*step_w + tap_w[t], ic]
                                                   * grad_output[n, qh, qw, oc]

Rows of the tile are the M = T*IC numbers of a filter, columns output channels, and k runs over output pixels. The
pixels are cut into slices, whose number depends on the shape only; each slice is summed in order into an array of its
own, and the slices are added in order: the same bits for any number of threads.
"""

from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memcpy, memset

from cyconv._kernels.pack cimport add_transposed, copy_band, copy_planes, pack_panel
from cyconv._kernels.parallel cimport LINE, ceil_div, next_line, segment_tasks, share_start, this_thread
from cyconv._kernels.simd cimport ADD_ARRAY, MOST_ROWS, TILE_ROWS, TILE_VECTORS, finishing_tile, lanes
from cyconv._memory cimport Block

cdef enum:
    BLOCK_BYTES = 512 << 10    # of a block's image band, and of its grad_output: both stay in L2
    BLOCK_PIXELS = 2048
    PACKED_PIXELS = 128        # where the tile's rows are packed: they and a panel stay in L1
    PACKED_TILES = 8           # whose rows are packed at a time: their numbers of a pixel share cache lines
    PACKED_PANELS = 4          # panels that must share the packed rows to pay for them
    PARTIAL_BYTES = 2 << 20    # of all slices' sums
    SLICES = 8
    TASKS = 32
    RUN = 64                   # rows of the sums that are added and transposed in one go


cdef struct Plan:
    Py_ssize_t N, IH, IW, IC, OC, QH, QW, G, M
    Py_ssize_t step_h, step_w, top, left
    Py_ssize_t L, NR, P, padded
    bint band, planar        # image copied with its border; into planes
    bint packed, in_place    # its rows packed; grad_output one panel as it lies
    bint joined              # lines of the band and of grad_output in one run
    Py_ssize_t pixel, line, plane, band_h, band_w, band_size, slab_size, packed_size
    Py_ssize_t block_rows, block_images, blocks_per_image, blocks, slices, splits, tiles
    Py_ssize_t scratch_bytes


cdef Py_ssize_t power_of_two(Py_ssize_t most) noexcept:
    """The largest up to `most`: so many slices are as many for each of 2, 4 or 8 threads."""
    cdef Py_ssize_t found = 1
    while 2 * found <= most:
        found *= 2
    return found


cdef bint is_uneven(Py_ssize_t tasks, int num_threads) noexcept:
    """Whether threads would wait for more than a tenth of the time for the others, of tasks that take equally long."""
    return 10 * tasks < 9 * ceil_div(tasks, num_threads) * num_threads


cdef void make_plan(Plan* s, const Py_ssize_t[:, ::1] taps, Py_ssize_t item, int num_threads) noexcept:
    """Cut the output rows into blocks that fit the cache, the blocks into slices, and each slice's tiles into tasks."""
    cdef Py_ssize_t T = taps.shape[1], bottom = taps[0, 0], right = taps[1, 0], t, rows, pairs
    s.top, s.left = taps[0, 0], taps[1, 0]
    for t in range(T):
        s.top, bottom = min(s.top, taps[0, t]), max(bottom, taps[0, t])
        s.left, right = min(s.left, taps[1, t]), max(right, taps[1, t])
    # With one vector of columns the tile waits for its scalars, least where they follow each other: in planes. Unless
    # its lines suit the tile as they are, k runs over whole lines of the band, past whose ends grad_output is zero.
    s.planar = s.OC <= s.L and s.step_h == s.step_w == 1
    s.band = (
        s.planar or s.G > 1 or s.top < 0 or s.left < 0
        or (s.QH - 1) * s.step_h + bottom >= s.IH or (s.QW - 1) * s.step_w + right >= s.IW)
    s.M = T * s.IC
    s.tiles = ceil_div(s.M, TILE_ROWS)
    s.P = ceil_div(s.OC, s.NR)
    s.padded = ceil_div(s.OC, s.L) * s.L
    s.band_w = (s.QW - 1) * s.step_w + right - s.left + 1
    s.pixel = 1 if s.planar else s.IC
    s.line = (s.band_w if s.band else s.IW) * s.pixel
    s.packed = s.P >= PACKED_PANELS
    s.in_place = s.P == 1 and s.G == 1 and s.OC == s.padded and (not s.planar or s.QW % 8 == 0)
    s.joined = s.planar and not s.in_place
    if s.packed and not s.band:  # packed rows are read once, so the image itself need not stay in L2
        rows = BLOCK_BYTES // (item * s.QW * s.padded)
    else:
        rows = BLOCK_BYTES // (item * max(s.step_h * s.band_w * s.IC, s.QW * s.padded))
    rows = max(1, min(rows, ceil_div(PACKED_PIXELS if s.packed else BLOCK_PIXELS, s.QW)))
    s.block_images = max(1, rows // s.QH)
    s.block_images = ceil_div(s.N, ceil_div(s.N, s.block_images))
    s.blocks_per_image = ceil_div(s.QH, rows) if rows < s.QH else 1
    s.block_rows = ceil_div(s.QH, s.blocks_per_image)
    s.blocks = ceil_div(s.N, s.block_images) * s.blocks_per_image
    s.band_h = (s.block_rows - 1) * s.step_h + bottom - s.top + 1
    s.plane = s.block_images * s.band_h * s.band_w + s.L
    s.band_size = s.plane * s.IC if s.band else 0

    pairs = s.tiles * s.P * s.G
    s.slices = min(SLICES, PARTIAL_BYTES // max(1, s.G * s.M * s.padded * item))
    s.slices = power_of_two(max(1, min(s.blocks, max(s.slices, ceil_div(TASKS, pairs)))))
    s.splits = 1
    while s.splits < min(s.tiles * s.P, num_threads) and is_uneven(s.slices * s.G * s.splits, num_threads):
        s.splits += 1
    rows = s.block_images * s.block_rows
    s.slab_size = rows * (s.band_w if s.joined else s.QW) * s.padded
    s.packed_size = rows * s.QW * PACKED_TILES * MOST_ROWS if s.packed else 0
    s.scratch_bytes = ceil_div(
        (s.band_size + s.slab_size + s.packed_size) * item + LINE
        + s.M * <Py_ssize_t>sizeof(void*) + 2 * rows * <Py_ssize_t>sizeof(Py_ssize_t), 4096) * 4096 + 5 * LINE


cdef void pack_rows(
    Plan* s, const floating** rows, Py_ssize_t t0, Py_ssize_t t1, const Py_ssize_t* line_offset, Py_ssize_t lines,
    const floating* end,  # of the memory that rows point into
    floating* packed,     # OUT [t1 - t0, pixels, MOST_ROWS]
) noexcept nogil:
    """packed[t, pixel, i] = rows[m0 + i] at that pixel: strides of KBs would cost the tile a cache line a number."""
    cdef Py_ssize_t step = s.step_w * s.pixel, size = lines * s.QW * MOST_ROWS, line, qw, t, i, last = 0
    cdef Py_ssize_t first[PACKED_TILES + 1]
    cdef bint whole[PACKED_TILES]
    cdef const floating* source
    for t in range(t1 - t0 + 1):
        first[t] = share_start(s.M, s.tiles, t0 + t)
    for t in range(t1 - t0):
        whole[t] = rows[first[t + 1] - 1] - rows[first[t]] == first[t + 1] - 1 - first[t]
        last = max(last, rows[first[t]] - rows[0])
    # A constant size compiles to one move; the memory's end needs more care.
    last += line_offset[lines - 1] + (s.QW - 1) * step + MOST_ROWS
    for t in range(t1 - t0):
        whole[t] = whole[t] and end - rows[0] >= last
    for line in range(lines):
        for qw in range(s.QW):
            for t in range(t1 - t0):
                source = rows[first[t]] + line_offset[line] + qw * step
                if whole[t]:
                    memcpy(packed + t * size, source, MOST_ROWS * sizeof(floating))
                else:
                    for i in range(first[t + 1] - first[t]):
                        packed[t * size + i] = rows[first[t] + i][line_offset[line] + qw * step]
            packed += MOST_ROWS


cdef void run_task(
    Plan* s, Py_ssize_t task, Py_ssize_t round_, Py_ssize_t rounds, const floating* x, const floating* grad_output,
    const Py_ssize_t* m_offset, floating* partial, char* scratch,
) noexcept nogil:
    """One slice, one group, one share of its (panel, tile) pairs, over a round's share of its blocks in order."""
    cdef Py_ssize_t split = task % s.splits, g = task // s.splits % s.G, slice_ = task // s.splits // s.G
    cdef Py_ssize_t first_pair = share_start(s.P * s.tiles, s.splits, split)
    cdef Py_ssize_t last_pair = share_start(s.P * s.tiles, s.splits, split + 1)
    cdef Py_ssize_t most_lines = s.block_images * s.block_rows
    cdef floating* band = <floating*>scratch
    cdef floating* packed_slab = band + s.band_size
    cdef const floating* slab
    cdef floating* packed = packed_slab + s.slab_size
    cdef const floating** rows = <const floating**>next_line(packed + s.packed_size)
    cdef Py_ssize_t* a_offset = <Py_ssize_t*>(rows + s.M)
    cdef Py_ssize_t* b_offset = a_offset + most_lines
    cdef const floating* packed_rows[MOST_ROWS]
    cdef floating* c_rows[MOST_ROWS]
    cdef floating* sums
    cdef const floating* origin
    cdef Py_ssize_t C = s.G * s.OC, zero = 0, m, block, n0, n1, q0, q1, n, q
    cdef Py_ssize_t lines, p, t, t0, t1, m0, m1, columns, width, i, h, first_line, band_rows, batch, K, a_step
    cdef Py_ssize_t group = PACKED_TILES if s.packed else 1  # tiles that each panel meets while it stays in L1
    cdef const floating* end = packed_slab if s.band else x + s.N * s.IH * s.IW * s.G * s.IC
    for m in range(s.M):
        rows[m] = (<const floating*>band if s.band else x) + m_offset[m]
    cdef Py_ssize_t first_block = share_start(s.blocks, s.slices, slice_)
    cdef Py_ssize_t all_blocks = share_start(s.blocks, s.slices, slice_ + 1) - first_block
    cdef Py_ssize_t stop_block = first_block + share_start(all_blocks, rounds, round_ + 1)
    cdef const char* ahead_g
    cdef const char* ahead_x
    cdef const char* end_g
    cdef const char* end_x
    for block in range(first_block + share_start(all_blocks, rounds, round_), stop_block):
        n0 = block // s.blocks_per_image * s.block_images
        n1 = min(n0 + s.block_images, s.N)
        q0 = share_start(s.QH, s.blocks_per_image, block % s.blocks_per_image)
        q1 = share_start(s.QH, s.blocks_per_image, block % s.blocks_per_image + 1)
        lines = 0
        for n in range(n0, n1):
            origin = x + n * s.IH * s.IW * s.G * s.IC + g * s.IC
            first_line = q0 * s.step_h + s.top
            band_rows = s.band_h - (s.block_rows - q1 + q0) * s.step_h
            if s.planar:
                copy_planes(
                    origin, x + s.N * s.IH * s.IW * s.G * s.IC, s.IH, s.IW, s.G * s.IC, s.IC, first_line, s.left,
                    band_rows, s.band_w, band + (n - n0) * s.band_h * s.line, s.plane)
            elif s.band:
                copy_band(
                    origin, s.IH, s.IW, s.G * s.IC, s.IC, first_line, s.left, band_rows, s.band_w,
                    band + (n - n0) * s.band_h * s.line, s.pixel)
            if s.joined:
                a_offset[lines] = (n - n0) * s.band_h * s.line
                b_offset[lines] = (n - n0) * (q1 - q0) * s.band_w * s.padded
                lines += 1
                for q in range(q0, q1):
                    pack_panel(
                        grad_output + (n * s.QH + q) * s.QW * C + g * s.OC, C, 1, s.QW, s.OC, s.padded,
                        packed_slab + ((n - n0) * (q1 - q0) + q - q0) * s.band_w * s.padded)
                    memset(
                        packed_slab + (((n - n0) * (q1 - q0) + q - q0) * s.band_w + s.QW) * s.padded, 0,
                        (s.band_w - s.QW) * s.padded * sizeof(floating))
                continue
            for q in range(q0, q1):
                if s.band:
                    a_offset[lines] = ((n - n0) * s.band_h + (q - q0) * s.step_h) * s.line
                else:
                    a_offset[lines] = (n * s.IH + q * s.step_h) * s.line
                lines += 1
        slab = packed_slab
        if s.in_place:
            slab = grad_output + (n0 * s.QH + q0) * s.QW * C
        for p in range(0 if s.in_place or s.joined else s.P):
            columns = min(s.NR, s.OC - p * s.NR)
            width = min(s.NR, ceil_div(columns, s.L) * s.L)
            for n in range(n0, n1):
                pack_panel(
                    grad_output + (n * s.QH + q0) * s.QW * C + g * s.OC + p * s.NR, C, 1, (q1 - q0) * s.QW,
                    columns, width, packed_slab + lines * s.QW * p * s.NR + (n - n0) * (q1 - q0) * s.QW * width)
        if s.packed:
            batch, K, a_step = 1, lines * s.QW, MOST_ROWS
        elif s.joined:
            batch, K, a_step = lines, (q1 - q0 - 1) * s.band_w + s.QW, 1
        else:
            batch, K, a_step = lines, s.QW, s.step_w * s.pixel
        # While the tiles work, the next block's memory comes into L2: grad_output's first, then the image's.
        ahead_g = ahead_x = <const char*>slab
        end_g = end_x = ahead_g
        if block + 1 < stop_block and s.G == 1:
            n = (block + 1) // s.blocks_per_image * s.block_images
            q = share_start(s.QH, s.blocks_per_image, (block + 1) % s.blocks_per_image)
            ahead_g = <const char*>(grad_output + (n * s.QH + q) * s.QW * C)
            end_g = ahead_g + min(most_lines, (s.N - n) * s.QH - q) * s.QW * C * <Py_ssize_t>sizeof(floating)
            h = max(q * s.step_h + s.top, 0)
            ahead_x = <const char*>(x + (n * s.IH + h) * s.IW * s.IC)
            end_x = ahead_x + s.IW * s.IC * <Py_ssize_t>sizeof(floating) * min(
                most_lines * s.step_h, (s.N - n) * s.IH - h)
        t0 = first_pair // s.P
        while t0 * s.P < last_pair:
            t1 = min(t0 + group, ceil_div(last_pair, s.P))
            if s.packed:
                pack_rows(s, rows, t0, t1, a_offset, lines, end, packed)
            for p in range(s.P):
                width = min(s.NR, ceil_div(s.OC - p * s.NR, s.L) * s.L)
                sums = partial + ((slice_ * s.G + g) * s.padded + p * s.NR) * s.M
                if not s.joined and not s.packed:
                    for i in range(lines):
                        b_offset[i] = i * s.QW * width
                for t in range(max(t0, ceil_div(first_pair - p, s.P)), min(t1, ceil_div(last_pair - p, s.P))):
                    if ahead_g >= end_g:
                        ahead_g, end_g = ahead_x, end_x
                        ahead_x = end_x
                    m0 = share_start(s.M, s.tiles, t)
                    m1 = share_start(s.M, s.tiles, t + 1)
                    for i in range(m1 - m0):
                        c_rows[i] = sums + (m0 + i) * width
                        packed_rows[i] = packed + (t - t0) * K * MOST_ROWS + i
                    finishing_tile(
                        m1 - m0, batch, K, &packed_rows[0] if s.packed else rows + m0, &zero if s.packed else a_offset,
                        a_step, slab + (0 if s.joined else lines * s.QW * p * s.NR), &zero if s.packed else b_offset,
                        width, c_rows, 0, width, <const floating*>NULL, 0, ADD_ARRAY if block > first_block else 0,
                        ahead_g, 64 if ahead_g < end_g else 0)
                    if ahead_g < end_g:
                        ahead_g += lines * s.QW * 64
            t0 = t1


cdef void add_slices(Plan* s, Py_ssize_t task, const floating* partial, floating* grad_weight) noexcept nogil:
    """Add the slices of one panel's run of rows in order and write them transposed, [panel, m, oc] -> [oc, m]."""
    cdef Py_ssize_t runs = ceil_div(s.M, RUN), m0 = task % runs * RUN, p = task // runs % s.P, g = task // runs // s.P
    cdef Py_ssize_t columns = min(s.NR, s.OC - p * s.NR), width = min(s.NR, ceil_div(columns, s.L) * s.L)
    add_transposed(
        partial + (g * s.padded + p * s.NR) * s.M + m0 * width, width, s.slices, s.G * s.padded * s.M,
        min(<Py_ssize_t>RUN, s.M - m0), columns, grad_weight + (g * s.OC + p * s.NR) * s.M + m0, s.M)


def weight_gradient(
    const floating[:, :, :, ::1] x,            # IN [N, IH, IW, G*IC]
    const floating[:, :, :, ::1] grad_output,  # IN [N, QH, QW, G*OC]
    const Py_ssize_t[:, ::1] taps,             # IN [2, T] displacements in the input, rows above columns
    Py_ssize_t step_h, Py_ssize_t step_w, Py_ssize_t G,
    floating[:, :, ::1] grad_weight,           # OUT [G*OC, T, IC]
    int num_threads,
):
    """Sum over pixels as the module says; x counts as zero outside its bounds."""
    cdef Plan s
    cdef Py_ssize_t item = sizeof(floating), t, i, task, start, stop, segment, rounds
    s.N, s.IH, s.IW, s.IC = x.shape[0], x.shape[1], x.shape[2], x.shape[3] // G
    s.QH, s.QW, s.OC, s.G = grad_output.shape[1], grad_output.shape[2], grad_output.shape[3] // G, G
    s.step_h, s.step_w = step_h, step_w
    if s.N == 0:
        grad_weight[:, :, :] = 0
        return
    cdef floating* target = &grad_weight[0, 0, 0]
    s.L = lanes(target)
    s.NR = TILE_VECTORS * s.L
    make_plan(&s, taps, item, num_threads)

    cdef Py_ssize_t partial_bytes = ceil_div(s.slices * G * s.padded * s.M * item, LINE) * LINE
    cdef Block scratch = Block(num_threads * s.scratch_bytes + partial_bytes + s.M * sizeof(Py_ssize_t))
    cdef char* bands = <char*>scratch.address
    cdef floating* partial = <floating*>(bands + num_threads * s.scratch_bytes)
    cdef Py_ssize_t* m_offset = <Py_ssize_t*>(bands + num_threads * s.scratch_bytes + partial_bytes)
    cdef Py_ssize_t base_h = s.top if s.band else 0, base_w = s.left if s.band else 0
    for t in range(taps.shape[1]):
        for i in range(s.IC):
            m_offset[t * s.IC + i] = (
                (taps[0, t] - base_h) * s.line + (taps[1, t] - base_w) * s.pixel + i * (s.plane if s.planar else 1))

    # In segments of some 10 ms a core, between which a pending Ctrl-C is heard.
    cdef const floating* image = &x[0, 0, 0, 0]
    cdef const floating* gradient = &grad_output[0, 0, 0, 0]
    cdef Py_ssize_t tasks = s.slices * G * s.splits
    cdef double work = <double>s.N * s.QH * s.QW * G * s.OC * s.M
    segment = segment_tasks(tasks, work, num_threads)
    rounds = 1 + <Py_ssize_t>(work / (1e9 * tasks))  # of long tasks: the slices are few
    for start in range(0, tasks, segment):
        stop = min(start + segment, tasks)
        for i in range(rounds):
            for task in prange(start, stop, nogil=True, num_threads=num_threads, schedule="static"):
                run_task(
                    &s, task, i, rounds, image, gradient, m_offset, partial, bands + this_thread() * s.scratch_bytes)
            PyErr_CheckSignals()
    tasks = G * s.P * ceil_div(s.M, RUN)
    for task in prange(tasks, nogil=True, num_threads=num_threads, schedule="static"):
        add_slices(&s, task, partial, target)
