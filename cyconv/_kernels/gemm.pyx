"""Matrix product on the register tile, any strides: C = relu?(A @ B + bias + addend).

Only the smaller operand is packed. The larger one, usually a layer's weights, is read once, in place. A few rows that
meet columns which lie contiguously, a layer's weights again, are dot products: a tile would leave most lanes idle.
"""

from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport INFINITY
from libc.string cimport memcpy

from cyconv._kernels.pack cimport pack_panel
from cyconv._kernels.parallel cimport ceil_div, segment_tasks, share_start
from cyconv._kernels.simd cimport (
    MOST_ROWS, TILE_ROWS, TILE_VECTORS, VECTOR_BYTES, distance, finish_of, finishing_tile, lanes, to_planes)
from cyconv._memory cimport Block

cdef extern from "gemm.h" nogil:
    void dot_lines_float "cyconv_dot_lines_float"(
        const float* a, Py_ssize_t K, const float* b, Py_ssize_t b_row, Py_ssize_t rows, float* sums)
    void dot_lines_double "cyconv_dot_lines_double"(
        const double* a, Py_ssize_t K, const double* b, Py_ssize_t b_row, Py_ssize_t rows, double* sums)

cdef enum:
    FEW_ROWS = 4              # of A, up to which dot products are faster than the tile
    MOST_COLUMNS = 64         # bounds TILE_VECTORS * lanes
    CHUNK = 2048              # of K: a panel's chunk is 256 KB in float32 and stays in L2
    PANELS_BYTES = 512 << 10  # panels that stay in L2 while rows of A pass by


cdef struct Strides:
    Py_ssize_t a_row
    Py_ssize_t a_column
    Py_ssize_t c_row
    Py_ssize_t c_column
    Py_ssize_t d_row     # of the addend
    Py_ssize_t d_column
    bint by_row          # the bias has a number for each row of C, else for each column


cdef void scatter_turned(
    const floating* buffer, Py_ssize_t m, Py_ssize_t columns,  # IN [m, columns], rows MOST_COLUMNS apart
    floating* c, Py_ssize_t c_column,                          # OUT [columns, m], columns so many numbers apart
) noexcept nogil:
    """c[j, i] = buffer[i, j]."""
    cdef floating square[16 * 16]
    cdef Py_ssize_t L = lanes(buffer), half = L // 2, i = 0, j, k, J, count
    cdef floating* target
    while i < m:
        count = min(L, m - i)
        j = 0
        while j < columns:
            J = min(L, columns - j)
            to_planes(buffer + i * MOST_COLUMNS + j, MOST_COLUMNS, &square[0], L, J)
            for k in range(J):
                target = c + (j + k) * c_column + i
                if count >= half:  # two moves of a constant size, which may overlap
                    memcpy(target, &square[k * L], VECTOR_BYTES // 2)
                    memcpy(target + count - half, &square[k * L + count - half], VECTOR_BYTES // 2)
                else:
                    memcpy(target, &square[k * L], count * sizeof(floating))
            j += L
        i += L


cdef void multiply_tile(
    const floating* a, const floating* panel, const floating* bias, const floating* addend, floating* c, Strides* s,
    Py_ssize_t m, Py_ssize_t K, Py_ssize_t columns, Py_ssize_t width, bint relu,
) noexcept nogil:
    """One register tile; where C's columns or the addend do not suit it, through a buffer that is then scattered."""
    cdef const floating* rows[MOST_ROWS]
    cdef floating* c_rows[MOST_ROWS]
    cdef floating buffer[MOST_ROWS * MOST_COLUMNS]
    cdef floating value, least = 0 if relu else -INFINITY
    cdef Py_ssize_t zero = 0, i, j
    cdef bint direct = s.c_column == 1 and (bias == NULL or not s.by_row) and (
        addend == NULL or (s.d_row == s.c_row and s.d_column == 1))
    cdef const floating* added = addend
    if not direct:
        added = &buffer[0] if bias != NULL and s.by_row else NULL
    for i in range(m):
        rows[i] = a + i * s.a_row
        c_rows[i] = c + i * s.c_row if direct else buffer + i * MOST_COLUMNS
        if not direct and added != NULL:
            for j in range(width):
                buffer[i * MOST_COLUMNS + j] = bias[i]
    finishing_tile(
        m, 1, K, rows, &zero, s.a_column, panel, &zero, width, c_rows, 0, columns if direct else width,
        NULL if s.by_row else bias, distance(added, c_rows[0]), finish_of(added, relu and (direct or addend == NULL)),
        <const char*>panel, 0)
    if direct:
        return
    if addend == NULL and s.c_row == 1:
        scatter_turned(&buffer[0], m, columns, c, s.c_column)
        return
    for j in range(columns):
        for i in range(m):
            value = buffer[i * MOST_COLUMNS + j] + (addend[i * s.d_row + j * s.d_column] if addend != NULL else 0)
            c[i * s.c_row + j * s.c_column] = least if value < least else value


cdef void multiply_block(
    const floating* a, const floating* panels, const floating* bias, const floating* addend, floating* c, Strides* s,
    Py_ssize_t M, Py_ssize_t K, Py_ssize_t N, Py_ssize_t first, Py_ssize_t last, bint relu,
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
                    bias + (m0 if s.by_row else p * NR) if bias != NULL else NULL,
                    addend + m0 * s.d_row + p * NR * s.d_column if addend != NULL else NULL,
                    c + m0 * s.c_row + p * NR * s.c_column, s,
                    m1 - m0, K, columns, min(NR, ceil_div(columns, L) * L), relu)
        p0 += group


cdef void dot_block(
    const floating* a, const floating* b, Py_ssize_t b_column, const floating* bias, const floating* addend,
    floating* c, const Strides* s, Py_ssize_t M, Py_ssize_t K, Py_ssize_t columns, bint relu,
) noexcept nogil:
    """All rows of C, at most a vector of its columns."""
    cdef floating sums[MOST_COLUMNS]
    cdef floating value, least = 0 if relu else -INFINITY
    cdef Py_ssize_t i, j
    for i in range(M):
        if floating is float:
            dot_lines_float(a + i * s.a_row, K, b, b_column, columns, &sums[0])
        else:
            dot_lines_double(a + i * s.a_row, K, b, b_column, columns, &sums[0])
        for j in range(columns):
            value = sums[j] + (bias[j] if bias != NULL else 0)
            value += addend[i * s.d_row + j * s.d_column] if addend != NULL else 0
            c[i * s.c_row + j * s.c_column] = least if value < least else value


def gemm(
    const floating[:, :] A,         # IN [M, K]
    const floating[:, :] B,         # IN [K, N]
    const floating[::1] bias,       # IN [N], or None
    const floating[:, :] addend,    # IN [M, N], or None; may be C itself
    floating[:, :] C,               # OUT [M, N]
    bint relu, int num_threads,
):
    """Multiply as the module says, in an order of additions that does not depend on the number of threads."""
    cdef const floating[:, :] turned = None
    cdef Py_ssize_t item = sizeof(floating)
    if A.shape[0] <= FEW_ROWS and B.strides[0] == item:
        multiply_few(A, B, bias, addend, C, relu, num_threads)
    elif A.shape[0] < B.shape[1]:  # C.T = B.T @ A.T packs A, the smaller one
        if addend is not None:
            turned = addend.T
        multiply(B.T, A.T, bias, True, turned, C.T, relu, num_threads)
    else:
        multiply(A, B, bias, False, addend, C, relu, num_threads)


cdef int multiply_few(
    const floating[:, :] A, const floating[:, :] B, const floating[::1] bias, const floating[:, :] addend,
    floating[:, :] C, bint relu, int num_threads,
) except -1:
    """Few rows: dot products, summed in as many parts as a vector has lanes."""
    cdef Py_ssize_t M = A.shape[0], K = A.shape[1], N = B.shape[1], item = sizeof(floating)
    if M == 0 or N == 0:
        return 0
    cdef Strides s = Strides(
        A.strides[0] // item, 1, C.strides[0] // item, C.strides[1] // item, 0, 0, False)
    cdef const floating* added = NULL
    cdef const floating* start_bias = NULL
    if addend is not None:
        added = &addend[0, 0]
        s.d_row, s.d_column = addend.strides[0] // item, addend.strides[1] // item
    if bias is not None:
        start_bias = &bias[0]
    cdef Py_ssize_t b_column = B.strides[1] // item, L = lanes(start_bias), tasks = ceil_div(N, L)
    cdef Py_ssize_t task, start, stop, i, j
    cdef const floating* a = &A[0, 0] if K else NULL
    cdef const floating* b = &B[0, 0] if K else NULL
    cdef floating* c = &C[0, 0]
    cdef Block copied = None
    if A.strides[1] != item:  # the same sums for any strides
        copied = Block(M * K * item)
        for i in range(M):
            for j in range(K):
                (<floating*>copied.address)[i * K + j] = A[i, j]
        a, s.a_row = <floating*>copied.address, K
    cdef Py_ssize_t segment = segment_tasks(tasks, <double>M * N * K, num_threads)
    for start in range(0, tasks, segment):
        stop = min(start + segment, tasks)
        for task in prange(start, stop, nogil=True, num_threads=num_threads, schedule="static"):
            j = task * L
            dot_block(
                a, b + j * b_column, b_column, start_bias + j if start_bias != NULL else NULL,
                added + j * s.d_column if added != NULL else NULL, c + j * s.c_column, &s, M, K, min(L, N - j), relu)
        PyErr_CheckSignals()
    return 0


cdef int multiply(
    const floating[:, :] A, const floating[:, :] B, const floating[::1] bias, bint by_row,
    const floating[:, :] addend, floating[:, :] C, bint relu, int num_threads,
) except -1:
    cdef Py_ssize_t M = A.shape[0], K = A.shape[1], N = B.shape[1]
    cdef Py_ssize_t item = sizeof(floating), j
    if M == 0 or N == 0:
        return 0
    cdef Strides s = Strides(
        A.strides[0] // item, A.strides[1] // item, C.strides[0] // item, C.strides[1] // item, 0, 0, by_row)
    cdef const floating* added = NULL
    if addend is not None:
        added = &addend[0, 0]
        s.d_row, s.d_column = addend.strides[0] // item, addend.strides[1] // item
    cdef Py_ssize_t b_row = B.strides[0] // item, b_column = B.strides[1] // item
    cdef const floating* a = &A[0, 0] if K else NULL
    cdef const floating* b = &B[0, 0] if K else NULL
    cdef floating* c = &C[0, 0]
    cdef Py_ssize_t L = lanes(a)
    cdef Py_ssize_t NR = TILE_VECTORS * L
    cdef Py_ssize_t P = ceil_div(N, NR)
    # The tile reads whole vectors of the bias.
    cdef Py_ssize_t padded = ceil_div(N, L) * L
    cdef Block scratch = Block((min(K, CHUNK) + 1) * padded * item)
    cdef floating* panels = <floating*>scratch.address
    cdef floating* starts = panels + min(K, CHUNK) * padded
    cdef const floating* start_bias = NULL
    if bias is not None and by_row:
        start_bias = &bias[0]
    elif bias is not None:
        for j in range(padded):
            starts[j] = bias[j] if j < N else 0
        start_bias = starts
    # In segments of some 10 ms a core, between which a pending Ctrl-C is heard.
    cdef Py_ssize_t segments = 1 + <Py_ssize_t>(<double>M * N * min(K, CHUNK) / (1e9 * num_threads))
    cdef Py_ssize_t row_blocks = min(ceil_div(M, TILE_ROWS), num_threads * segments)
    cdef Py_ssize_t splits = min(P, ceil_div(num_threads, row_blocks))
    cdef Py_ssize_t tasks = row_blocks * splits, segment = max(num_threads, ceil_div(tasks, segments))
    cdef Py_ssize_t task, p, k0 = 0, KC, block, split, m0, columns, start, stop
    cdef bint last
    while True:
        KC = min(CHUNK, K - k0)
        last = k0 + KC == K
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
                    a + m0 * s.a_row + k0 * s.a_column, panels,
                    (start_bias + m0 if by_row else start_bias) if last and start_bias != NULL else NULL,
                    added + m0 * s.d_row if added != NULL else NULL, c + m0 * s.c_row, &s,
                    share_start(M, row_blocks, block + 1) - m0, KC, N,
                    share_start(P, splits, split), share_start(P, splits, split + 1), relu and last)
            PyErr_CheckSignals()
        k0 += CHUNK
        added = c  # the further chunks are added to the first
        s.d_row, s.d_column = s.c_row, s.c_column
        if k0 >= K:
            return 0
