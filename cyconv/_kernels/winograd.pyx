"""3x3 convolution of stride 1 by Winograd's minimal filtering: four times fewer multiplications, in float32.

Outputs come in tiles of 4x4, each from a patch of 6x6. For a block of tiles that fits the cache: transform the patches
(V), multiply them at each of the 36 points with the transformed filters (36 products of matrices, on the register
tile), transform back and write. winograd.h has the transforms and their source. Channels are multiples of a vector.
"""

from cpython.exc cimport PyErr_CheckSignals
from cython.parallel cimport prange
from libc.string cimport memset

from cyconv._kernels.pack cimport add_transposed
from cyconv._kernels.parallel cimport ceil_div, share_start, this_thread
from cyconv._kernels.simd cimport TILE_ROWS, TILE_VECTORS, distance, finish_of, lanes, tile
from cyconv._memory cimport Block

cdef extern from "winograd.h" nogil:
    void winograd_image(const float** pixels, Py_ssize_t C, float* transformed, Py_ssize_t plane)
    void winograd_filter(const float* taps, Py_ssize_t size, float* transformed)
    void winograd_output(
        const float* products, Py_ssize_t plane, Py_ssize_t C, const float* bias, Py_ssize_t addend, int finish,
        float** pixels)
    void winograd_gradient(const float** pixels, Py_ssize_t C, float* transformed, Py_ssize_t plane)
    void winograd_weight(const float* products, Py_ssize_t plane, Py_ssize_t C, float* weights, Py_ssize_t step)

cdef enum:
    POINTS = 36
    IMAGE_BYTES = 1 << 20          # of a block's transformed patches: half of a usual L2
    PRODUCT_BYTES = 512 << 10      # of a block's products before they are transformed back
    LARGE_FILTER_BYTES = 4 << 20   # filters that stream from the outer cache: larger blocks, fewer passes
    LARGE_BLOCK = 56


cdef struct Plan:
    Py_ssize_t N, IH, IW, IC, OH, OW, OC
    Py_ssize_t top, left                              # padding
    Py_ssize_t tiles_h, tiles_w, tiles, block, blocks, splits
    Py_ssize_t row, plane                             # distances in V
    Py_ssize_t product_row, product_plane, panels     # in M, and its panels at a time
    Py_ssize_t NR, P
    Py_ssize_t scratch_size                           # numbers per thread
    Py_ssize_t out_n, out_h, out_w
    Py_ssize_t addend                                 # bytes from out to it
    int finish                                        # what happens before a pixel is stored


def transform_filters(
    const float[::1] taps,   # IN [P, 9, rows, width] from pack_weights
    Py_ssize_t rows, Py_ssize_t columns,
    float[::1] filters,      # OUT [P, 36, rows, width]
    int num_threads,
):
    """Transform packed weights panel by panel."""
    cdef Py_ssize_t NR = TILE_VECTORS * lanes(&filters[0]), P = ceil_div(columns, NR), p
    cdef const float* source = &taps[0]
    cdef float* target = &filters[0]
    for p in prange(P, nogil=True, num_threads=num_threads, schedule="static"):
        winograd_filter(
            source + p * NR * 9 * rows, rows * min(NR, columns - p * NR), target + p * NR * POINTS * rows)


cdef void make_plan(Plan* s, int num_threads) noexcept:
    """Choose how many tiles make a block; results do not depend on it."""
    cdef Py_ssize_t L = lanes(<const float*>NULL), most = TILE_ROWS
    s.NR = TILE_VECTORS * L
    s.P = ceil_div(s.OC, s.NR)
    s.tiles_h, s.tiles_w = ceil_div(s.OH, 4), ceil_div(s.OW, 4)
    s.tiles = s.N * s.tiles_h * s.tiles_w
    s.row = s.IC + L  # off the multiples of 4 KB, whose cache lines compete
    s.block = max(1, IMAGE_BYTES // (POINTS * s.row * <Py_ssize_t>sizeof(float) * most)) * most
    cdef bint large = POINTS * s.IC * s.OC * <Py_ssize_t>sizeof(float) > LARGE_FILTER_BYTES
    if large:
        s.block = max(s.block, LARGE_BLOCK)
    elif num_threads > 1:  # tasks enough for all threads, uneven ones too
        s.block = min(s.block, max(most, ceil_div(ceil_div(s.tiles, 3 * num_threads), most) * most))
    s.block = min(s.block, s.tiles)
    s.blocks = ceil_div(s.tiles, s.block)
    # Large filters are read once for each block, so threads share the panels of one.
    s.splits = min(s.P, ceil_div(2 * num_threads, s.blocks)) if large and num_threads > 1 else 1
    s.plane = s.block * s.row + L
    s.panels = PRODUCT_BYTES // (POINTS * s.block * s.NR * <Py_ssize_t>sizeof(float))
    s.panels = max(1, min(ceil_div(s.P, s.splits), s.panels))
    s.product_row = s.panels * s.NR
    s.product_plane = s.block * s.product_row + L
    s.scratch_size = POINTS * (s.plane + s.product_plane) + 2 * s.block * <Py_ssize_t>(sizeof(void*) // sizeof(float))


cdef void find_patch(Plan* s, Py_ssize_t t, const float* x, const float* zeros, const float** pixels) noexcept nogil:
    """Addresses of the 36 pixels under tile t, of zeros where they lie outside the image."""
    cdef Py_ssize_t n = t // (s.tiles_h * s.tiles_w), i, j, h, w
    cdef Py_ssize_t h0 = t // s.tiles_w % s.tiles_h * 4 - s.top, w0 = t % s.tiles_w * 4 - s.left
    for i in range(6):
        h = h0 + i
        for j in range(6):
            w = w0 + j
            if 0 <= h < s.IH and 0 <= w < s.IW:
                pixels[i * 6 + j] = x + ((n * s.IH + h) * s.IW + w) * s.IC
            else:
                pixels[i * 6 + j] = zeros


cdef void run_block(
    Plan* s, Py_ssize_t task, const float* x, const float* filters, const float* bias, const float* zeros,
    const Py_ssize_t* point_offset, float* out, float* scratch,
) noexcept nogil:
    """One block of tiles, one share of the output channels."""
    cdef Py_ssize_t block = task // s.splits, split = task % s.splits
    cdef float* V = scratch
    cdef float* M = V + POINTS * s.plane
    cdef const float** rows = <const float**>(M + POINTS * s.product_plane)
    cdef float** c_rows = <float**>(rows + s.block)
    cdef const float* patch[POINTS]
    cdef float* pixels[16]
    cdef Py_ssize_t t0 = share_start(s.tiles, s.blocks, block)
    cdef Py_ssize_t count = share_start(s.tiles, s.blocks, block + 1) - t0
    cdef Py_ssize_t groups = ceil_div(count, TILE_ROWS), zero = 0
    cdef Py_ssize_t t, k, p0, p, last, stop, point, g, i0, i1, columns, n, h, w
    for t in range(count):
        find_patch(s, t0 + t, x, zeros, patch)
        winograd_image(patch, s.IC, V + t * s.row, s.plane)
        rows[t] = V + t * s.row
        c_rows[t] = M + t * s.product_row
    p0 = share_start(s.P, s.splits, split)
    last = share_start(s.P, s.splits, split + 1)
    while p0 < last:
        stop = min(p0 + s.panels, last)
        for point in range(POINTS):
            for g in range(groups):
                i0 = share_start(count, groups, g)
                i1 = share_start(count, groups, g + 1)
                for p in range(p0, stop):
                    columns = min(s.NR, s.OC - p * s.NR)
                    tile(
                        i1 - i0, 1, s.IC, rows + i0, point_offset + point, 1,
                        filters + (p * s.NR * POINTS + point * columns) * s.IC, &zero, columns,
                        c_rows + i0, point * s.product_plane + (p - p0) * s.NR, columns, <const float*>NULL, 0)
        columns = min((stop - p0) * s.NR, s.OC - p0 * s.NR)
        for t in range(count):
            n = (t0 + t) // (s.tiles_h * s.tiles_w)
            for k in range(16):
                h = (t0 + t) // s.tiles_w % s.tiles_h * 4 + k // 4
                w = (t0 + t) % s.tiles_w * 4 + k % 4
                pixels[k] = NULL
                if h < s.OH and w < s.OW:
                    pixels[k] = out + n * s.out_n + h * s.out_h + w * s.out_w + p0 * s.NR
            winograd_output(
                M + t * s.product_row, s.product_plane, columns, bias + p0 * s.NR if bias != NULL else NULL,
                s.addend, s.finish, pixels)
        p0 = stop


def conv3x3(
    const float[:, :, :, ::1] x,   # IN [N, IH, IW, IC]
    const float[::1] filters,      # IN from transform_filters
    const float[::1] bias,         # IN [OC], or None
    const float[:, :, :, :] addend,  # IN as out, strides too, or None; may be out itself
    Py_ssize_t top, Py_ssize_t left,
    float[:, :, :, :] out,         # OUT [N, OH, OW, OC], channels contiguous
    bint relu,
    int num_threads,
):
    """out[n, h, w] = bias + sum over the 3x3 taps of x[n, h - top + kh, w - left + kw] @ filter + addend; then relu."""
    cdef Plan s
    cdef Py_ssize_t item = sizeof(float), task, tasks, start, stop, segment, i
    s.N, s.IH, s.IW, s.IC = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    s.OH, s.OW, s.OC = out.shape[1], out.shape[2], out.shape[3]
    s.top, s.left = top, left
    s.out_n, s.out_h, s.out_w = out.strides[0] // item, out.strides[1] // item, out.strides[2] // item
    if s.N == 0:
        return
    cdef float* target = &out[0, 0, 0, 0]
    cdef const float* other = &addend[0, 0, 0, 0] if addend is not None else NULL
    s.addend, s.finish = distance(other, target), finish_of(other, relu)
    make_plan(&s, num_threads)
    cdef Block scratch = Block((num_threads * s.scratch_size + s.IC) * item + POINTS * sizeof(Py_ssize_t))
    cdef Py_ssize_t* point_offset = <Py_ssize_t*>scratch.address
    cdef float* zeros = <float*>(point_offset + POINTS)
    cdef float* work = zeros + s.IC
    for i in range(POINTS):
        point_offset[i] = i * s.plane
    memset(zeros, 0, s.IC * item)
    cdef const float* image = &x[0, 0, 0, 0]
    cdef const float* weights = &filters[0]
    cdef const float* first = &bias[0] if bias is not None else NULL
    cdef double operations = <double>s.tiles * POINTS * s.IC * s.OC
    tasks = s.blocks * s.splits
    segment = max(num_threads, <Py_ssize_t>(tasks * min(1.0, 1e9 * num_threads / operations)))
    for start in range(0, tasks, segment):
        stop = min(start + segment, tasks)
        for task in prange(start, stop, nogil=True, num_threads=num_threads, schedule="static"):
            run_block(
                &s, task, image, weights, first, zeros, point_offset, target,
                work + this_thread() * s.scratch_size)
        PyErr_CheckSignals()


# The weight gradient, F(3x3, 4x4): every 4x4 tile of grad_output slides over its 6x6 patch of the image. Products at
# the 36 points are summed over tiles before the one transform back. A task owns some input by some output channels of
# one slice of the tiles; the cut depends on the shape only, and slices are added in order.

cdef enum:
    CHUNK = 64       # channels a side: the task's 36 sums of 64x64 stay in L2
    CHUNK_TILES = 48
    TASKS = 16


cdef struct WeightPlan:
    Py_ssize_t N, IH, IW, IC, OH, OW, OC
    Py_ssize_t top, left
    Py_ssize_t tiles_h, tiles_w, tiles, blocks, slices
    Py_ssize_t ic_chunks, oc_chunks, row, plane, sum_plane
    Py_ssize_t scratch_size


cdef void find_gradient(
    WeightPlan* s, Py_ssize_t t, const float* g, const float* zeros, const float** pixels,
) noexcept nogil:
    """Addresses of tile t's 16 pixels of grad_output, of zeros where they lie outside."""
    cdef Py_ssize_t n = t // (s.tiles_h * s.tiles_w), k, h, w
    for k in range(16):
        h = t // s.tiles_w % s.tiles_h * 4 + k // 4
        w = t % s.tiles_w * 4 + k % 4
        pixels[k] = g + ((n * s.OH + h) * s.OW + w) * s.OC if h < s.OH and w < s.OW else zeros


cdef void sum_task(
    WeightPlan* s, Py_ssize_t task, const float* x, const float* g, const float* zeros,
    const Py_ssize_t* point_offset, float* partial, float* scratch,
) noexcept nogil:
    """One slice's weight gradients between one chunk of input and one of output channels."""
    cdef Py_ssize_t L = lanes(x), NR = TILE_VECTORS * L
    cdef Py_ssize_t occ = task % s.oc_chunks, icc = task // s.oc_chunks % s.ic_chunks
    cdef Py_ssize_t part = task // s.oc_chunks // s.ic_chunks
    cdef Py_ssize_t ic0 = share_start(s.IC // L, s.ic_chunks, icc) * L
    cdef Py_ssize_t oc0 = share_start(s.OC // L, s.oc_chunks, occ) * L
    cdef Py_ssize_t IC = share_start(s.IC // L, s.ic_chunks, icc + 1) * L - ic0
    cdef Py_ssize_t OC = share_start(s.OC // L, s.oc_chunks, occ + 1) * L - oc0
    cdef float* V = scratch
    cdef float* D = V + POINTS * s.plane
    cdef float* sums = D + POINTS * s.plane
    cdef const float* patch[POINTS]
    cdef const float* rows[CHUNK]
    cdef float* c_rows[CHUNK]
    cdef Plan image
    cdef Py_ssize_t first = share_start(s.blocks, s.slices, part), zero = 0
    cdef Py_ssize_t groups = ceil_div(IC, TILE_ROWS), block, t, t0, count, point, i, i0, i1, j0
    image.tiles_h, image.tiles_w, image.top, image.left = s.tiles_h, s.tiles_w, s.top, s.left
    image.IH, image.IW, image.IC = s.IH, s.IW, s.IC
    for i in range(IC):
        rows[i] = V + i
        c_rows[i] = sums + i * OC
    for block in range(first, share_start(s.blocks, s.slices, part + 1)):
        t0 = share_start(s.tiles, s.blocks, block)
        count = share_start(s.tiles, s.blocks, block + 1) - t0
        for t in range(count):
            find_patch(&image, t0 + t, x + ic0, zeros, patch)
            winograd_image(patch, IC, V + t * s.row, s.plane)
            find_gradient(s, t0 + t, g + oc0, zeros, patch)
            winograd_gradient(patch, OC, D + t * s.row, s.plane)
        for point in range(POINTS):
            for i in range(groups):
                i0 = share_start(IC, groups, i)
                i1 = share_start(IC, groups, i + 1)
                j0 = 0
                while j0 < OC:
                    tile(
                        i1 - i0, 1, count, rows + i0, point_offset + point, s.row, D + point * s.plane + j0, &zero,
                        s.row, c_rows + i0, point * s.sum_plane + j0, min(NR, OC - j0), <const float*>NULL,
                        block > first)
                    j0 += NR
    for i in range(IC):
        winograd_weight(
            sums + i * OC, s.sum_plane, OC, partial + ((part * 9) * s.IC + ic0 + i) * s.OC + oc0, s.IC * s.OC)


def weight_gradient3x3(
    const float[:, :, :, ::1] x,            # IN [N, IH, IW, IC]
    const float[:, :, :, ::1] grad_output,  # IN [N, OH, OW, OC]
    Py_ssize_t top, Py_ssize_t left,
    float[:, :, ::1] grad_weight,           # OUT [OC, 9, IC]
    int num_threads,
):
    """grad_weight[oc, tap, ic] = sum over pixels of x at the tap * grad_output."""
    cdef WeightPlan s
    cdef Py_ssize_t item = sizeof(float), L = lanes(&grad_weight[0, 0, 0]), widest, task, tasks, start, stop, segment, i
    s.N, s.IH, s.IW, s.IC = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    s.OH, s.OW, s.OC = grad_output.shape[1], grad_output.shape[2], grad_output.shape[3]
    s.top, s.left = top, left
    if s.N == 0:
        grad_weight[:, :, :] = 0
        return
    s.tiles_h, s.tiles_w = ceil_div(s.OH, 4), ceil_div(s.OW, 4)
    s.tiles = s.N * s.tiles_h * s.tiles_w
    s.blocks = ceil_div(s.tiles, CHUNK_TILES)
    s.ic_chunks, s.oc_chunks = ceil_div(s.IC, CHUNK), ceil_div(s.OC, CHUNK)
    s.slices = min(s.blocks, ceil_div(TASKS, s.ic_chunks * s.oc_chunks))
    widest = CHUNK + L
    s.row = widest
    s.plane = min(s.tiles, <Py_ssize_t>CHUNK_TILES) * s.row + L
    s.sum_plane = CHUNK * CHUNK + L
    s.scratch_size = POINTS * (2 * s.plane + s.sum_plane)

    cdef Py_ssize_t weights = 9 * s.IC * s.OC
    cdef Block scratch = Block(
        (num_threads * s.scratch_size + max(s.IC, s.OC) + s.slices * weights) * item + POINTS * sizeof(Py_ssize_t))
    cdef Py_ssize_t* point_offset = <Py_ssize_t*>scratch.address
    cdef float* zeros = <float*>(point_offset + POINTS)
    cdef float* partial = zeros + max(s.IC, s.OC)
    cdef float* work = partial + s.slices * weights
    for i in range(POINTS):
        point_offset[i] = i * s.plane
    memset(zeros, 0, max(s.IC, s.OC) * item)
    cdef const float* image = &x[0, 0, 0, 0]
    cdef const float* gradient = &grad_output[0, 0, 0, 0]
    cdef float* target = &grad_weight[0, 0, 0]
    tasks = s.slices * s.ic_chunks * s.oc_chunks
    segment = max(num_threads, <Py_ssize_t>(
        tasks * min(1.0, 1e9 * num_threads / (<double>s.tiles * POINTS * s.IC * s.OC))))
    for start in range(0, tasks, segment):
        stop = min(start + segment, tasks)
        for task in prange(start, stop, nogil=True, num_threads=num_threads, schedule="static"):
            sum_task(
                &s, task, image, gradient, zeros, point_offset, partial, work + this_thread() * s.scratch_size)
        PyErr_CheckSignals()
    for task in prange(ceil_div(s.OC, 16), nogil=True, num_threads=num_threads, schedule="static"):
        add_transposed(
            partial + task * 16, s.OC, s.slices, weights, 9 * s.IC, min(<Py_ssize_t>16, s.OC - task * 16),
            target + task * 16 * 9 * s.IC, 9 * s.IC)
