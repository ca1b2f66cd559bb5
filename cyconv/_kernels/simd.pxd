"""The register tile of simd.h, one name for both element types."""

from cython cimport floating

cdef extern from "simd.h" nogil:
    const Py_ssize_t VECTOR_BYTES
    const Py_ssize_t TILE_ROWS
    const Py_ssize_t TILE_VECTORS
    const Py_ssize_t WIDE_ROWS
    const int ADD_ARRAY
    const int RELU
    Py_ssize_t wide_vectors "cyconv_wide_vectors"(Py_ssize_t M)
    void tile_float "cyconv_tile_float"(
        Py_ssize_t M, Py_ssize_t batch, Py_ssize_t K,
        const float** rows, const Py_ssize_t* a_offset, Py_ssize_t a_step,
        const float* B, const Py_ssize_t* b_offset, Py_ssize_t ldb,
        float** c_rows, Py_ssize_t c_offset, Py_ssize_t columns, const float* bias, Py_ssize_t addend, int finish,
        const char* ahead, Py_ssize_t ahead_step)
    void tile_double "cyconv_tile_double"(
        Py_ssize_t M, Py_ssize_t batch, Py_ssize_t K,
        const double** rows, const Py_ssize_t* a_offset, Py_ssize_t a_step,
        const double* B, const Py_ssize_t* b_offset, Py_ssize_t ldb,
        double** c_rows, Py_ssize_t c_offset, Py_ssize_t columns, const double* bias, Py_ssize_t addend, int finish,
        const char* ahead, Py_ssize_t ahead_step)
    void wide_tile_float "cyconv_wide_tile_float"(
        Py_ssize_t M, Py_ssize_t batch, Py_ssize_t K,
        const float** rows, const Py_ssize_t* a_offset, Py_ssize_t a_step,
        const float* B, const Py_ssize_t* b_offset, Py_ssize_t ldb,
        float** c_rows, Py_ssize_t c_offset, Py_ssize_t columns, const float* bias, Py_ssize_t addend, int finish,
        const char* ahead, Py_ssize_t ahead_step)
    void wide_tile_double "cyconv_wide_tile_double"(
        Py_ssize_t M, Py_ssize_t batch, Py_ssize_t K,
        const double** rows, const Py_ssize_t* a_offset, Py_ssize_t a_step,
        const double* B, const Py_ssize_t* b_offset, Py_ssize_t ldb,
        double** c_rows, Py_ssize_t c_offset, Py_ssize_t columns, const double* bias, Py_ssize_t addend, int finish,
        const char* ahead, Py_ssize_t ahead_step)
    void transpose_float "cyconv_transpose_float"(
        const float* source, Py_ssize_t source_step, float* target, Py_ssize_t target_step)
    void transpose_double "cyconv_transpose_double"(
        const double* source, Py_ssize_t source_step, double* target, Py_ssize_t target_step)
    Py_ssize_t piece_float "cyconv_piece_float"(Py_ssize_t count)
    Py_ssize_t piece_double "cyconv_piece_double"(Py_ssize_t count)
    void to_planes_float "cyconv_to_planes_float"(
        const float* source, Py_ssize_t step, float* target, Py_ssize_t plane, Py_ssize_t count)
    void to_planes_double "cyconv_to_planes_double"(
        const double* source, Py_ssize_t step, double* target, Py_ssize_t plane, Py_ssize_t count)
    void to_pixels_float "cyconv_to_pixels_float"(
        const float* source, Py_ssize_t plane, Py_ssize_t count, const float* bias, int relu,
        float* target, Py_ssize_t step)
    void to_pixels_double "cyconv_to_pixels_double"(
        const double* source, Py_ssize_t plane, Py_ssize_t count, const double* bias, int relu,
        double* target, Py_ssize_t step)


cdef enum:
    MOST_ROWS = 16  # bounds TILE_ROWS, for arrays of a constant size


cdef inline Py_ssize_t lanes(const floating* element) noexcept nogil:
    """Numbers in a vector."""
    return VECTOR_BYTES // <Py_ssize_t>sizeof(floating)


cdef inline int finish_of(const floating* addend, bint relu) noexcept nogil:
    """What a tile does before it stores."""
    return (ADD_ARRAY if addend != NULL else 0) | (RELU if relu else 0)


cdef inline Py_ssize_t distance(const floating* addend, const floating* out) noexcept nogil:
    """Bytes from an element of out to the addend's, which has the same strides; 0 without one."""
    return <const char*>addend - <const char*>out if addend != NULL else 0


cdef inline void tile(
    Py_ssize_t M, Py_ssize_t batch, Py_ssize_t K,
    const floating** rows, const Py_ssize_t* a_offset, Py_ssize_t a_step,
    const floating* B, const Py_ssize_t* b_offset, Py_ssize_t ldb,
    floating** c_rows, Py_ssize_t c_offset, Py_ssize_t columns, const floating* bias, int accumulate,
) noexcept nogil:
    """C[M, columns] = start + sum over batch and K of A * B, as simd.h says."""
    if floating is float:
        tile_float(
            M, batch, K, rows, a_offset, a_step, B, b_offset, ldb, c_rows, c_offset, columns, bias, 0, accumulate,
            <const char*>B, 0)
    else:
        tile_double(
            M, batch, K, rows, a_offset, a_step, B, b_offset, ldb, c_rows, c_offset, columns, bias, 0, accumulate,
            <const char*>B, 0)


cdef inline void finishing_tile(
    Py_ssize_t M, Py_ssize_t batch, Py_ssize_t K,
    const floating** rows, const Py_ssize_t* a_offset, Py_ssize_t a_step,
    const floating* B, const Py_ssize_t* b_offset, Py_ssize_t ldb,
    floating** c_rows, Py_ssize_t c_offset, Py_ssize_t columns, const floating* bias, Py_ssize_t addend, int finish,
    const char* ahead, Py_ssize_t ahead_step,
) noexcept nogil:
    """All that simd.h has: `finish` says whether what lies `addend` bytes from C is added, and whether relu follows."""
    if floating is float:
        tile_float(
            M, batch, K, rows, a_offset, a_step, B, b_offset, ldb, c_rows, c_offset, columns, bias, addend, finish,
            ahead, ahead_step)
    else:
        tile_double(
            M, batch, K, rows, a_offset, a_step, B, b_offset, ldb, c_rows, c_offset, columns, bias, addend, finish,
            ahead, ahead_step)


cdef inline void wide_tile(
    Py_ssize_t M, Py_ssize_t batch, Py_ssize_t K,
    const floating** rows, const Py_ssize_t* a_offset, Py_ssize_t a_step,
    const floating* B, const Py_ssize_t* b_offset, Py_ssize_t ldb,
    floating** c_rows, Py_ssize_t c_offset, Py_ssize_t columns, const floating* bias, int accumulate,
) noexcept nogil:
    """The same for at most WIDE_ROWS rows of wide_vectors(M) vectors each."""
    if floating is float:
        wide_tile_float(
            M, batch, K, rows, a_offset, a_step, B, b_offset, ldb, c_rows, c_offset, columns, bias, 0, accumulate,
            <const char*>B, 0)
    else:
        wide_tile_double(
            M, batch, K, rows, a_offset, a_step, B, b_offset, ldb, c_rows, c_offset, columns, bias, 0, accumulate,
            <const char*>B, 0)


cdef inline void transpose(
    const floating* source, Py_ssize_t source_step, floating* target, Py_ssize_t target_step,
) noexcept nogil:
    """target[j, i] = source[i, j] for a square of a vector's side."""
    if floating is float:
        transpose_float(source, source_step, target, target_step)
    else:
        transpose_double(source, source_step, target, target_step)


cdef inline Py_ssize_t piece(const floating* element, Py_ssize_t count) noexcept nogil:
    """Numbers of a pixel that to_pixels writes for `count` channels, at most a vector of them."""
    return piece_float(count) if floating is float else piece_double(count)


cdef inline void to_planes(
    const floating* source, Py_ssize_t step, floating* target, Py_ssize_t plane, Py_ssize_t count,
) noexcept nogil:
    """target[c * plane + i] = source[i * step + c] for `count` channels of a vector of pixels; reads whole vectors."""
    if floating is float:
        to_planes_float(source, step, target, plane, count)
    else:
        to_planes_double(source, step, target, plane, count)


cdef inline void to_pixels(
    const floating* source, Py_ssize_t plane, Py_ssize_t count, const floating* bias, bint relu,
    floating* target, Py_ssize_t step,
) noexcept nogil:
    """target[i * step + c] = relu?(source[c * plane + i] + bias[c]); a pixel's excess is for the next to overwrite."""
    if floating is float:
        to_pixels_float(source, plane, count, bias, relu, target, step)
    else:
        to_pixels_double(source, plane, count, bias, relu, target, step)
