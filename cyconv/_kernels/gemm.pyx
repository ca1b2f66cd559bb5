"""Matrix product on the register tile, any strides: C = A @ B.

Only the smaller operand is packed. The larger one, usually a layer's weights, is read once, in place.
"""

from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from cython.parallel cimport prange

from cyconv._kernels.pack cimport pack_panel
from cyconv._kernels.parallel cimport ceil_div, share_start
from cyconv._kernels.simd cimport TILE_ROWS, TILE_VECTORS, lanes, tile
from cyconv._memory cimport Block

cdef enum:
    MOST_ROWS = 16            # bounds TILE_ROWS
    MOST_COLUMNS = 64         # bounds TILE_VECTORS * lanes
    CHUNK = 2048              # of K: a panel's chunk is 256 KB in float32 and stays in L2
    PANELS_BYTES = 512 << 10  # panels that stay in L2 while rows of A pass by


cdef struct Strides:
    Py_ssize_t a_row
    Py_ssize_t a_column
    Py_ssize_t c_row
    Py_ssize_t c_column


cdef void multiply_tile(
    const floating* a, const floating* panel, floating* c, Strides* s,
    Py_ssize_t m, Py_ssize_t K, Py_ssize_t columns, Py_ssize_t width, bint accumulate,
) noexcept nogil:
    """One register tile; where C's columns are not contiguous, through a buffer that is then scattered."""
    cdef const floating* rows[MOST_ROWS]
    cdef floating* c_rows[MOST_ROWS]
    cdef floating buffer[MOST_ROWS * MOST_COLUMNS]
    cdef Py_ssize_t zero = 0
    cdef Py_ssize_t i, j
    for i in range(m):
        rows[i] = a + i * s.a_row
        c_rows[i] = c + i * s.c_row if s.c_column == 1 else buffer + i * MOST_COLUMNS
    if s.c_column == 1:
        tile(
            m, 1, K, rows, &zero, s.a_column, panel, &zero, width, c_rows, 0, columns, <const floating*>NULL,
            accumulate)
        return
    tile(m, 1, K, rows, &zero, s.a_column, panel, &zero, width, c_rows, 0, columns, <const floating*>NULL, 0)
    for j in range(columns):
        for i in range(m):
            if accumulate:
                c[i * s.c_row + j * s.c_column] += buffer[i * MOST_COLUMNS + j]
            else:
                c[i * s.c_row + j * s.c_column] = buffer[i * MOST_COLUMNS + j]


cdef void multiply_block(
    const floating* a, const floating* panels, floating* c, Strides* s,
    Py_ssize_t M, Py_ssize_t K, Py_ssize_t N, Py_ssize_t first, Py_ssize_t last, bint accumulate,
) noexcept nogil:
    """Rows 0..M of C, columns of panels first..last, for one chunk of K."""
    cdef Py_ssize_t L = lanes(a)
    cdef Py_ssize_t NR = TILE_VECTORS * L
    cdef Py_ssize_t group = max(1, PANELS_BYTES // max(1, K * NR * <Py_ssize_t>sizeof(floating)))
    cdef Py_ssize_t tiles = ceil_div(M, TILE_ROWS)
    cdef Py_ssize_t p0, p, t, m0, m1, columns
    p0 = first
    while p0 < last:
        for t in range(tiles):
            m0 = share_start(M, tiles, t)
            m1 = share_start(M, tiles, t + 1)
            for p in range(p0, min(p0 + group, last)):
                columns = min(NR, N - p * NR)
                multiply_tile(
                    a + m0 * s.a_row, panels + p * NR * K,
                    c + m0 * s.c_row + p * NR * s.c_column, s,
                    m1 - m0, K, columns, min(NR, ceil_div(columns, L) * L), accumulate)
        p0 += group


def gemm(
    const floating[:, :] A,  # IN [M, K]
    const floating[:, :] B,  # IN [K, N]
    floating[:, :] C,        # OUT [M, N]
    bint accumulate,         # C += A @ B instead of C = A @ B
    int num_threads,
):
    """C = A @ B, or C += A @ B; summed over k in order (in chunks of 2048), whatever the number of threads."""
    if A.shape[0] < B.shape[1]:  # C.T = B.T @ A.T packs A, the smaller one
        multiply(B.T, A.T, C.T, accumulate, num_threads)
    else:
        multiply(A, B, C, accumulate, num_threads)


cdef int multiply(
    const floating[:, :] A, const floating[:, :] B, floating[:, :] C, bint accumulate, int num_threads,
) except -1:
    cdef Py_ssize_t M = A.shape[0], K = A.shape[1], N = B.shape[1]
    cdef Py_ssize_t item = sizeof(floating)
    if M == 0 or N == 0:
        return 0
    cdef Strides s = Strides(A.strides[0] // item, A.strides[1] // item, C.strides[0] // item, C.strides[1] // item)
    cdef Py_ssize_t b_row = B.strides[0] // item, b_column = B.strides[1] // item
    cdef const floating* a = &A[0, 0] if K else NULL
    cdef const floating* b = &B[0, 0] if K else NULL
    cdef floating* c = &C[0, 0]
    cdef Py_ssize_t L = lanes(a)
    cdef Py_ssize_t NR = TILE_VECTORS * L
    cdef Py_ssize_t P = ceil_div(N, NR)
    cdef Block scratch = Block(min(K, CHUNK) * ceil_div(N, L) * L * item)
    cdef floating* panels = <floating*>scratch.address
    # In segments of some 10 ms a core, between which a pending Ctrl-C is heard.
    cdef Py_ssize_t segments = 1 + <Py_ssize_t>(<double>M * N * min(K, CHUNK) / (1e9 * num_threads))
    cdef Py_ssize_t row_blocks = min(ceil_div(M, TILE_ROWS), num_threads * segments)
    cdef Py_ssize_t splits = min(P, ceil_div(num_threads, row_blocks))
    cdef Py_ssize_t tasks = row_blocks * splits, segment = max(num_threads, ceil_div(tasks, segments))
    cdef Py_ssize_t task, p, k0 = 0, KC, block, split, m0, columns, start, stop
    while True:
        KC = min(CHUNK, K - k0)
        for p in prange(P, nogil=True, num_threads=num_threads, schedule="static"):
            columns = min(NR, N - p * NR)
            pack_panel(
                b + k0 * b_row + p * NR * b_column, b_row, b_column,
                KC, columns, min(NR, ceil_div(columns, L) * L), panels + p * NR * KC)
        for start in range(0, tasks, segment):
            stop = min(start + segment, tasks)
            for task in prange(start, stop, nogil=True, num_threads=num_threads, schedule="static"):
                block = task // splits
                split = task % splits
                m0 = share_start(M, row_blocks, block)
                multiply_block(
                    a + m0 * s.a_row + k0 * s.a_column, panels, c + m0 * s.c_row, &s,
                    share_start(M, row_blocks, block + 1) - m0, KC, N,
                    share_start(P, splits, split), share_start(P, splits, split + 1), accumulate or k0 > 0)
            PyErr_CheckSignals()
        k0 += CHUNK
        if k0 >= K:
            return 0
