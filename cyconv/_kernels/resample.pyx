"""Linear maps along both axes of images, given as tables: resizing, padding by what is there, and their adjoints."""

from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memset


cdef void add_scaled(const floating* x, Py_ssize_t C, floating factor, floating* out) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(C):
        out[c] += factor * x[c]


cdef void fill_row(
    const floating* x, const Py_ssize_t* starts_h, const Py_ssize_t* sources_h, const double* factors_h,
    const Py_ssize_t* starts_w, const Py_ssize_t* sources_w, const double* factors_w, Py_ssize_t row, Py_ssize_t OW,
    Py_ssize_t C, floating* out,
) noexcept nogil:
    """One row of one output: x and out point at its first pixels, `row` is the length of an input row."""
    cdef Py_ssize_t i, j, ow
    memset(out, 0, OW * C * sizeof(floating))
    for i in range(starts_h[0], starts_h[1]):
        for ow in range(OW):
            for j in range(starts_w[ow], starts_w[ow + 1]):
                add_scaled(
                    x + sources_h[i] * row + sources_w[j] * C, C, <floating>(factors_h[i] * factors_w[j]), out + ow * C
                )


def resample(
    const floating[:, :, :, ::1] x,         # IN  [N, IH, IW, C]
    const Py_ssize_t[::1] starts_h,         # IN  [OH + 1] where each output row's terms start in the next two
    const Py_ssize_t[::1] sources_h,        # IN  input rows
    const double[::1] factors_h,            # IN  what they are multiplied by
    const Py_ssize_t[::1] starts_w,         # IN  [OW + 1] the same of the columns
    const Py_ssize_t[::1] sources_w,        # IN
    const double[::1] factors_w,            # IN
    floating[:, :, :, ::1] out,             # OUT [N, OH, OW, C]
    int num_threads,
):
    """out[n, oh, ow] = sum over the terms of row oh and column ow of factor_h * factor_w * x[n, source_h, source_w]."""
    cdef Py_ssize_t N = out.shape[0], OH = out.shape[1], OW = out.shape[2], C = out.shape[3], IW = x.shape[2], k, n, oh
    for k in prange(N * OH, nogil=True, num_threads=num_threads, schedule="static"):
        n, oh = k // OH, k % OH
        fill_row(
            &x[n, 0, 0, 0], &starts_h[oh], &sources_h[0], &factors_h[0], &starts_w[0], &sources_w[0], &factors_w[0],
            IW * C, OW, C, &out[n, oh, 0, 0],
        )
