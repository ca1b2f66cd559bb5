"""The register tile of simd.h, one name for both element types."""

from cython cimport floating

cdef extern from "simd.h" nogil:
    const Py_ssize_t VECTOR_BYTES
    const Py_ssize_t TILE_ROWS
    const Py_ssize_t TILE_VECTORS
    void tile_float "cyconv_tile_float"(
        Py_ssize_t M, Py_ssize_t batch, Py_ssize_t K,
        const float** rows, const Py_ssize_t* a_offset, Py_ssize_t a_step,
        const float* B, const Py_ssize_t* b_offset, Py_ssize_t ldb,
        float** c_rows, Py_ssize_t c_offset, Py_ssize_t columns, const float* bias, int accumulate)
    void tile_double "cyconv_tile_double"(
        Py_ssize_t M, Py_ssize_t batch, Py_ssize_t K,
        const double** rows, const Py_ssize_t* a_offset, Py_ssize_t a_step,
        const double* B, const Py_ssize_t* b_offset, Py_ssize_t ldb,
        double** c_rows, Py_ssize_t c_offset, Py_ssize_t columns, const double* bias, int accumulate)
    const Py_ssize_t DEPTHWISE_TAPS
    void pixels_float "cyconv_pixels_float"(
        Py_ssize_t vectors, Py_ssize_t count, Py_ssize_t taps,
        const float* x, Py_ssize_t x_step, const Py_ssize_t* offset,
        const float* weight, Py_ssize_t weight_step, const float* bias, float* out, Py_ssize_t out_step)
    void products_float "cyconv_products_float"(
        Py_ssize_t taps, Py_ssize_t lines, Py_ssize_t count, const float* x, Py_ssize_t x_line, Py_ssize_t x_step,
        const Py_ssize_t* offset, const float* g, Py_ssize_t g_line, Py_ssize_t g_step,
        float* sums, Py_ssize_t sums_step)
    void pixels_double "cyconv_pixels_double"(
        Py_ssize_t vectors, Py_ssize_t count, Py_ssize_t taps,
        const double* x, Py_ssize_t x_step, const Py_ssize_t* offset,
        const double* weight, Py_ssize_t weight_step, const double* bias, double* out, Py_ssize_t out_step)
    void products_double "cyconv_products_double"(
        Py_ssize_t taps, Py_ssize_t lines, Py_ssize_t count, const double* x, Py_ssize_t x_line, Py_ssize_t x_step,
        const Py_ssize_t* offset, const double* g, Py_ssize_t g_line, Py_ssize_t g_step,
        double* sums, Py_ssize_t sums_step)


cdef inline Py_ssize_t lanes(const floating* element) noexcept nogil:
    """Numbers in a vector."""
    return VECTOR_BYTES // <Py_ssize_t>sizeof(floating)


cdef inline void tile(
    Py_ssize_t M, Py_ssize_t batch, Py_ssize_t K,
    const floating** rows, const Py_ssize_t* a_offset, Py_ssize_t a_step,
    const floating* B, const Py_ssize_t* b_offset, Py_ssize_t ldb,
    floating** c_rows, Py_ssize_t c_offset, Py_ssize_t columns, const floating* bias, int accumulate,
) noexcept nogil:
    """C[M, columns] = start + sum over batch and K of A * B, as simd.h says."""
    if floating is float:
        tile_float(
            M, batch, K, rows, a_offset, a_step, B, b_offset, ldb, c_rows, c_offset, columns, bias, accumulate)
    else:
        tile_double(
            M, batch, K, rows, a_offset, a_step, B, b_offset, ldb, c_rows, c_offset, columns, bias, accumulate)


cdef inline void depthwise_pixels(
    Py_ssize_t vectors, Py_ssize_t count, Py_ssize_t taps,
    const floating* x, Py_ssize_t x_step, const Py_ssize_t* offset,
    const floating* weight, Py_ssize_t weight_step, const floating* bias, floating* out, Py_ssize_t out_step,
) noexcept nogil:
    """A run of pixels, some vectors of channels, as simd.h says."""
    if floating is float:
        pixels_float(vectors, count, taps, x, x_step, offset, weight, weight_step, bias, out, out_step)
    else:
        pixels_double(vectors, count, taps, x, x_step, offset, weight, weight_step, bias, out, out_step)


cdef inline void depthwise_products(
    Py_ssize_t taps, Py_ssize_t lines, Py_ssize_t count, const floating* x, Py_ssize_t x_line, Py_ssize_t x_step,
    const Py_ssize_t* offset, const floating* g, Py_ssize_t g_line, Py_ssize_t g_step,
    floating* sums, Py_ssize_t sums_step,
) noexcept nogil:
    """Sums of products over lines of pixels for up to nine taps, one vector of channels, as simd.h says."""
    if floating is float:
        products_float(taps, lines, count, x, x_line, x_step, offset, g, g_line, g_step, sums, sums_step)
    else:
        products_double(taps, lines, count, x, x_line, x_step, offset, g, g_line, g_step, sums, sums_step)
