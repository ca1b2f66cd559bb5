"""Copies, sums and random masks: passes over memory whose only cost is the memory."""

from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from cyconv._kernels.channels cimport chunk_count, fold, pixels_per_panel, pixels_per_row, sum_rows
from cyconv._kernels.parallel cimport (
    Listener, ceil_div, interrupted, listen, raise_if_interrupted, share_start, this_thread,
)
from cyconv._memory cimport Block

cdef enum:
    BLOCK = 16384   # numbers one task of a flat loop takes
    SHORT = 2048    # numbers that are summed in their own precision
    LANES = 16      # running sums of a reduction: a vector operation with a fixed order
    TILE = 16       # side of a transposed tile: one cache line of float32


# ---------------------------------------------------------------------------------------------------------------- copy

cdef inline void copy_tile(
    const floating* source, Py_ssize_t source_row, Py_ssize_t source_column,
    floating* target, Py_ssize_t target_row, Py_ssize_t target_column,
    Py_ssize_t ROWS, Py_ssize_t COLUMNS,
) noexcept nogil:
    cdef Py_ssize_t i, j
    for j in range(COLUMNS):
        for i in range(ROWS):
            target[i * target_row + j * target_column] = source[i * source_row + j * source_column]


cdef void copy_rows(
    const floating* source, Py_ssize_t source_row, Py_ssize_t source_column,
    floating* target, Py_ssize_t target_row, Py_ssize_t target_column,
    Py_ssize_t ROWS, Py_ssize_t COLUMNS,
) noexcept nogil:
    """Copy ROWS <= TILE rows, a square tile at a time, so that whole cache lines are used on both sides."""
    cdef Py_ssize_t tile, j, WIDTH
    for tile in range(ceil_div(COLUMNS, TILE)):
        j = tile * TILE
        WIDTH = min(<Py_ssize_t>TILE, COLUMNS - j)
        if source_row == 1 and target_column == 1:  # a transposition: constant strides make it twice as fast
            copy_tile(source + j * source_column, 1, source_column, target + j, target_row, 1, ROWS, WIDTH)
        else:
            copy_tile(source + j * source_column, source_row, source_column,
                      target + j * target_column, target_row, target_column, ROWS, WIDTH)


def copy(
    const floating[:, :, :, :] source,  # IN  [A, B, ROWS, COLUMNS], any strides; rows best contiguous here,
    floating[:, :, :, :] target,        # OUT the same shape, any strides; columns best contiguous here
    int num_threads,
):
    """Copy between any two memory orders."""
    cdef Py_ssize_t A = target.shape[0], B = target.shape[1], ROWS = target.shape[2], COLUMNS = target.shape[3]
    cdef Py_ssize_t ITEM = sizeof(floating), TILES = ceil_div(ROWS, TILE)
    cdef Py_ssize_t task, a, b, row
    if COLUMNS == 0:
        return
    cdef Listener listener
    listen(&listener)
    for task in prange(A * B * TILES, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        a = task // (B * TILES)
        b = task // TILES % B
        row = task % TILES * TILE
        copy_rows(&source[a, b, row, 0], source.strides[2] // ITEM, source.strides[3] // ITEM,
                  &target[a, b, row, 0], target.strides[2] // ITEM, target.strides[3] // ITEM,
                  min(<Py_ssize_t>TILE, ROWS - row), COLUMNS)
    raise_if_interrupted(&listener)


# ---------------------------------------------------------------------------------------------------------------- sums

cdef void add_block(const floating* a, const floating* b, floating* out, Py_ssize_t COUNT) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(COUNT):
        out[i] = a[i] + b[i]


def add(
    const floating[::1] a,      # IN
    const floating[::1] b,      # IN
    floating[::1] out,          # OUT
    int num_threads,
):
    """out = a + b."""
    cdef Py_ssize_t SIZE = out.shape[0], i
    cdef Listener listener
    listen(&listener)
    for i in prange(0, SIZE, BLOCK, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        add_block(&a[i], &b[i], &out[i], min(<Py_ssize_t>BLOCK, SIZE - i))
    raise_if_interrupted(&listener)


cdef void sum_chunk(
    const floating* x, Py_ssize_t PIXELS, Py_ssize_t C, floating* sums, double* total
) noexcept nogil:
    cdef Py_ssize_t WIDTH = pixels_per_row(C) * C, PANEL = pixels_per_panel(C), p = 0, c
    memset(total, 0, C * sizeof(double))
    while p < PIXELS:
        sum_rows(x + p * C, min(PANEL, PIXELS - p) * C, WIDTH, sums)
        fold(sums, C, WIDTH)
        for c in range(C):
            total[c] += sums[c]
        p += PANEL


def sum_channels(
    const floating[:, ::1] x,   # IN  [P, C]
    floating[::1] out,          # OUT [C]
    int num_threads,
):
    """out[c] = sum over p of x[p, c]: the gradient of a bias."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], WIDTH = pixels_per_row(C) * C, CHUNKS = chunk_count(P, C)
    cdef Py_ssize_t k, c, start
    cdef Block totals_block = Block(CHUNKS * C * sizeof(double))
    cdef Block sums_block = Block(num_threads * WIDTH * sizeof(floating))
    cdef double* totals = <double*>totals_block.address
    cdef floating* sums = <floating*>sums_block.address
    if P * C == 0:
        out[:] = 0
        return
    cdef Listener listener
    listen(&listener)
    for k in prange(CHUNKS, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        start = share_start(P, CHUNKS, k)
        sum_chunk(&x[start, 0], share_start(P, CHUNKS, k + 1) - start, C,
                  sums + this_thread() * WIDTH, totals + k * C)
    raise_if_interrupted(&listener)
    for k in range(1, CHUNKS):
        for c in range(C):
            totals[c] += totals[k * C + c]
    for c in range(C):
        out[c] = <floating>totals[c]


# -------------------------------------------------------------------------------------------------------- differences

cdef void scaled_difference_block(
    const floating* a, const floating* b, floating* out, Py_ssize_t COUNT, floating scale
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(COUNT):
        out[i] = (a[i] - b[i]) * scale


def scaled_difference(
    const floating[::1] a,      # IN
    const floating[::1] b,      # IN
    floating[::1] out,          # OUT
    double scale,
    int num_threads,
):
    """out = (a - b) * scale."""
    cdef Py_ssize_t SIZE = out.shape[0], i
    cdef Listener listener
    listen(&listener)
    for i in prange(0, SIZE, BLOCK, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        scaled_difference_block(&a[i], &b[i], &out[i], min(<Py_ssize_t>BLOCK, SIZE - i), <floating>scale)
    raise_if_interrupted(&listener)


cdef double squared_distance_block(const floating* a, const floating* b, Py_ssize_t COUNT) noexcept nogil:
    cdef double lanes[LANES]
    cdef double difference
    cdef Py_ssize_t i, lane
    for lane in range(LANES):
        lanes[lane] = 0
    for i in range(COUNT // LANES):
        for lane in range(LANES):
            difference = <double>a[i * LANES + lane] - b[i * LANES + lane]
            lanes[lane] += difference * difference
    for i in range(COUNT // LANES * LANES, COUNT):
        difference = <double>a[i] - b[i]
        lanes[0] += difference * difference
    for lane in range(1, LANES):
        lanes[0] += lanes[lane]
    return lanes[0]


def squared_distance(
    const floating[::1] a,      # IN
    const floating[::1] b,      # IN
    int num_threads,
):
    """Return the sum of (a - b)**2, in double."""
    cdef Py_ssize_t SIZE = a.shape[0], BLOCKS = ceil_div(SIZE, BLOCK), k, i
    cdef Block block = Block(BLOCKS * sizeof(double))
    cdef double* sums = <double*>block.address
    cdef double total = 0
    cdef Listener listener
    listen(&listener)
    for k in prange(BLOCKS, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        i = k * BLOCK
        sums[k] = squared_distance_block(&a[i], &b[i], min(<Py_ssize_t>BLOCK, SIZE - i))
    raise_if_interrupted(&listener)
    for k in range(BLOCKS):
        total += sums[k]
    return total


cdef double smooth_distance_block(
    const floating* a, const floating* b, Py_ssize_t COUNT, floating beta, floating inverse
) noexcept nogil:
    """Sum of min(d, beta)**2 / (2 beta) + max(d - beta, 0), d = |a - b|: both parts at once, and no branch."""
    cdef floating lanes[LANES]
    cdef floating d, small
    cdef double total = 0
    cdef Py_ssize_t part, i, lane, start, stop
    for part in range(ceil_div(COUNT, SHORT)):
        start = part * SHORT
        stop = min(start + SHORT, COUNT)
        for lane in range(LANES):
            lanes[lane] = 0
        for i in range((stop - start) // LANES):
            for lane in range(LANES):
                d = a[start + i * LANES + lane] - b[start + i * LANES + lane]
                d = d if d > 0 else -d
                small = beta if d > beta else d
                lanes[lane] += small * small * inverse + (d - small)
        for i in range(start + (stop - start) // LANES * LANES, stop):
            d = a[i] - b[i]
            d = d if d > 0 else -d
            small = beta if d > beta else d
            lanes[0] += small * small * inverse + (d - small)
        for lane in range(LANES):
            total += lanes[lane]
    return total


def smooth_distance(
    const floating[::1] a,      # IN
    const floating[::1] b,      # IN
    double beta,
    int num_threads,
):
    """Return the sum of d**2 / (2 beta) where d = |a - b| is below beta, else of d - beta / 2, in double."""
    cdef Py_ssize_t SIZE = a.shape[0], BLOCKS = ceil_div(SIZE, BLOCK), k, i
    cdef Block block = Block(BLOCKS * sizeof(double))
    cdef double* sums = <double*>block.address
    cdef double total = 0, inverse = 0.5 / beta if beta > 0 else 0
    cdef Listener listener
    listen(&listener)
    for k in prange(BLOCKS, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        i = k * BLOCK
        sums[k] = smooth_distance_block(&a[i], &b[i], min(<Py_ssize_t>BLOCK, SIZE - i), <floating>beta,
                                        <floating>inverse)
    raise_if_interrupted(&listener)
    for k in range(BLOCKS):
        total += sums[k]
    return total


def add_rows(
    const floating[:, ::1] rows,        # IN  [M, D]
    const int64_t[::1] indices,         # IN  [M] valid rows of `table`
    floating[:, ::1] table,             # OUT [K, D] what it holds, and the rows added in their order
    int num_threads,
):
    """table[indices[i]] += rows[i]. A task is some of the columns."""
    cdef Py_ssize_t M = rows.shape[0], D = rows.shape[1], task, i, d, begin, stop
    cdef const floating* source
    cdef floating* target
    for task in prange(num_threads, nogil=True, num_threads=num_threads, schedule="static"):
        begin, stop = share_start(D, num_threads, task), share_start(D, num_threads, task + 1)
        for i in range(M):
            source = &rows[i, 0]
            target = &table[indices[i], 0]
            for d in range(begin, stop):
                target[d] += source[d]


# ------------------------------------------------------------------------------------------------------------- dropout

cdef inline uint64_t splitmix64(uint64_t seed, uint64_t index) noexcept nogil:
    """Number `index` of the SplitMix64 sequence of `seed` (Steele, Lea and Flood 2014): no state, any order."""
    cdef uint64_t z = seed + (index + 1) * <uint64_t>0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


cdef void dropout_block(
    const floating* x, floating* out, Py_ssize_t COUNT, uint64_t seed, uint64_t offset, int64_t threshold,
    floating scale,
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(COUNT):
        out[i] = x[i] * (scale if <int64_t>(splitmix64(seed, offset + <uint64_t>i) >> 32) >= threshold else 0)


def dropout(
    const floating[::1] x,      # IN
    floating[::1] out,          # OUT
    uint64_t seed,
    uint64_t offset,            # number in the sequence that the first element takes
    int64_t threshold,          # of 2**32: an element whose upper 32 random bits are below it is dropped
    double scale,
    int num_threads,
):
    """out = x * scale where kept, x * 0 where dropped."""
    cdef Py_ssize_t SIZE = out.shape[0], i
    cdef Listener listener
    listen(&listener)
    for i in prange(0, SIZE, BLOCK, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        dropout_block(&x[i], &out[i], min(<Py_ssize_t>BLOCK, SIZE - i), seed, offset + <uint64_t>i, threshold,
                      <floating>scale)
    raise_if_interrupted(&listener)
