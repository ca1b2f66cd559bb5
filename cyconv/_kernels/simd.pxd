"""The register tile of simd.h, for both element types."""

from cython cimport floating

cdef extern from "simd.h" nogil:
    const int TILE_ROWS
    const int TILE_VECTORS
    Py_ssize_t lanes "cyconv_lanes"(const floating* pointer)
    void tile "cyconv_tile"(
        Py_ssize_t m, Py_ssize_t batch, Py_ssize_t K,
        const floating** rows, const Py_ssize_t* a_offset, Py_ssize_t a_step,
        const floating* B, const Py_ssize_t* b_offset, Py_ssize_t ldb,
        floating** c_rows, Py_ssize_t c_offset, Py_ssize_t columns,
        const floating* bias, int accumulate)
