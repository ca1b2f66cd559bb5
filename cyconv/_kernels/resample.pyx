"""Linear maps along both axes of images, given as tables: resizing, padding by what is there, and their adjoints."""

from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memset

from cyconv._kernels.parallel cimport TURN, Listener, interrupted, listen, raise_if_interrupted, this_thread
from cyconv._memory cimport Block


cdef inline void combine(
    const floating* x, Py_ssize_t step, const Py_ssize_t* sources, const double* factors, Py_ssize_t TERMS,
    Py_ssize_t COUNT, floating* out,
) noexcept nogil:
    """out = sum of factors[t] * (COUNT numbers from x + sources[t] * step), two terms a pass."""
    cdef const floating* a
    cdef const floating* b
    cdef floating factor_a, factor_b
    cdef Py_ssize_t t = 2, i
    if TERMS == 0:
        memset(out, 0, COUNT * sizeof(floating))
        return
    a, factor_a = x + sources[0] * step, <floating>factors[0]
    if TERMS == 1:
        for i in range(COUNT):
            out[i] = factor_a * a[i]
        return
    b, factor_b = x + sources[1] * step, <floating>factors[1]
    for i in range(COUNT):
        out[i] = factor_a * a[i] + factor_b * b[i]
    while t < TERMS:
        a, factor_a = x + sources[t] * step, <floating>factors[t]
        for i in range(COUNT):
            out[i] += factor_a * a[i]
        t += 1


cdef void fill_row(
    const floating* x, const Py_ssize_t* sources_h, const double* factors_h, Py_ssize_t TERMS,
    const Py_ssize_t* starts_w, const Py_ssize_t* sources_w, const double* factors_w, Py_ssize_t IW, Py_ssize_t OW,
    Py_ssize_t C, floating* space, floating* out, Listener* listener,
) noexcept nogil:
    """One row of one output: its input rows are combined, then the columns of that; `space` has room for a row."""
    cdef const floating* row = space
    cdef Py_ssize_t ow, j, left = TURN
    if TERMS == 1 and factors_h[0] == 1:
        row = x + sources_h[0] * IW * C
    else:
        combine(x, IW * C, sources_h, factors_h, TERMS, IW * C, space)
    for ow in range(OW):
        j = starts_w[ow]
        left -= (starts_w[ow + 1] - j + 1) * C
        if left < 0:
            if interrupted(listener):
                return
            left = TURN
        combine(row, C, sources_w + j, factors_w + j, starts_w[ow + 1] - j, C, out + ow * C)


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
    cdef Py_ssize_t first
    cdef Block block = Block(num_threads * IW * C * sizeof(floating))
    cdef floating* space = <floating*>block.address
    cdef Listener listener
    listen(&listener)
    for k in prange(N * OH, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        n, oh = k // OH, k % OH
        first = starts_h[oh]
        fill_row(
            &x[n, 0, 0, 0], &sources_h[0] + first, &factors_h[0] + first, starts_h[oh + 1] - first, &starts_w[0],
            &sources_w[0], &factors_w[0], IW, OW, C, space + this_thread() * IW * C, &out[n, oh, 0, 0],
            &listener,
        )
    raise_if_interrupted(&listener)
