"""Local response normalisation over neighbouring channels of [P, C] memory, and its gradient."""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport pow, sqrt, sqrtf
from libc.string cimport memset

from cyconv._kernels.parallel cimport (
    Listener, ceil_div, interrupted, listen, raise_if_interrupted, this_thread, turn,
)
from cyconv._memory cimport Block


cdef inline floating root(floating x) noexcept nogil:
    if floating is float:
        return sqrtf(x)
    else:
        return sqrt(x)


cdef void powers(const floating* base, Py_ssize_t C, double beta, floating* out) noexcept nogil:
    """out = base^-beta; AlexNet's beta, 3/4, is made of square roots."""
    cdef Py_ssize_t c
    cdef floating r, one = 1
    if beta == 0.75:
        for c in range(C):
            r = root(base[c])
            out[c] = one / (r * root(r))
    else:
        for c in range(C):
            out[c] = <floating>pow(base[c], -beta)


cdef void add_window(const floating* values, Py_ssize_t C, Py_ssize_t before, Py_ssize_t after, floating* out) \
        noexcept nogil:
    """out[c] += values[c - before] + ... + values[c + after], as far as there are such channels."""
    cdef Py_ssize_t offset, c
    for offset in range(-before, after + 1):
        for c in range(max(0, -offset), min(C, C - offset)):
            out[c] += values[c + offset]


cdef void bases(
    const floating* x, Py_ssize_t C, Py_ssize_t before, Py_ssize_t after, floating factor, floating k,
    floating* squares, floating* base,
) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(C):
        squares[c] = x[c] * x[c]
    memset(base, 0, C * sizeof(floating))
    add_window(squares, C, before, after, base)
    for c in range(C):
        base[c] = k + factor * base[c]


cdef inline Py_ssize_t pixels_per_task(Py_ssize_t P, Py_ssize_t C, Py_ssize_t window, int num_threads) noexcept nogil:
    return max(<Py_ssize_t>1, min(turn(C * (window + 16)), ceil_div(P, num_threads)))


cdef void forward_pixels(
    const floating* x, Py_ssize_t PIXELS, Py_ssize_t C, Py_ssize_t before, Py_ssize_t after, floating factor,
    double beta, floating k, floating* space, floating* out, Listener* listener,
) noexcept nogil:
    cdef Py_ssize_t _p, c
    if interrupted(listener):
        return
    for _p in range(PIXELS):
        bases(x, C, before, after, factor, k, out, space)
        powers(space, C, beta, out)
        for c in range(C):
            out[c] *= x[c]
        x += C
        out += C


def forward(
    const floating[:, ::1] x,       # IN  [P, C]
    Py_ssize_t before,              # channels before each that count
    Py_ssize_t after,               # channels after it
    double factor,                  # of the sum of squares
    double beta,
    double k,
    floating[:, ::1] out,           # OUT [P, C]
    int num_threads,
):
    """out = x / (k + factor * sum of squares of the channels around)^beta."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], p, STEP = pixels_per_task(P, C, before + after, num_threads)
    cdef Block block = Block(num_threads * C * sizeof(floating))
    cdef floating* space = <floating*>block.address
    cdef Listener listener
    listen(&listener)
    for p in prange(0, P, STEP, nogil=True, num_threads=num_threads, schedule="static"):
        forward_pixels(
            &x[p, 0], min(STEP, P - p), C, before, after, <floating>factor, beta, <floating>k,
            space + this_thread() * C, &out[p, 0], &listener,
        )
    raise_if_interrupted(&listener)


cdef void backward_pixels(
    const floating* grad, const floating* x, Py_ssize_t PIXELS, Py_ssize_t C, Py_ssize_t before, Py_ssize_t after,
    floating factor, double beta, floating k, floating* space, floating* grad_x, Listener* listener,
) noexcept nogil:
    """With s the base: grad_x_i = grad_i s_i^-beta - 2 beta factor x_i sum over windows with i of grad x s^-beta-1."""
    cdef floating* base = space
    cdef floating* power = space + C
    cdef floating* around = space + 2 * C
    cdef floating scale = <floating>(2 * beta) * factor
    cdef Py_ssize_t _p, c
    if interrupted(listener):
        return
    for _p in range(PIXELS):
        bases(x, C, before, after, factor, k, power, base)
        powers(base, C, beta, power)
        for c in range(C):
            base[c] = grad[c] * x[c] * power[c] / base[c]
        memset(around, 0, C * sizeof(floating))
        add_window(base, C, after, before, around)
        for c in range(C):
            grad_x[c] = grad[c] * power[c] - scale * x[c] * around[c]
        grad += C
        x += C
        grad_x += C


def backward(
    const floating[:, ::1] grad,    # IN  [P, C]
    const floating[:, ::1] x,       # IN  [P, C]
    Py_ssize_t before,
    Py_ssize_t after,
    double factor,
    double beta,
    double k,
    floating[:, ::1] grad_x,        # OUT [P, C]
    int num_threads,
):
    """Gradient of `forward` by x."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], p, STEP = pixels_per_task(P, C, 2 * (before + after), num_threads)
    cdef Block block = Block(num_threads * 3 * C * sizeof(floating))
    cdef floating* space = <floating*>block.address
    cdef Listener listener
    listen(&listener)
    for p in prange(0, P, STEP, nogil=True, num_threads=num_threads, schedule="static"):
        backward_pixels(
            &grad[p, 0], &x[p, 0], min(STEP, P - p), C, before, after, <floating>factor, beta, <floating>k,
            space + this_thread() * 3 * C, &grad_x[p, 0], &listener,
        )
    raise_if_interrupted(&listener)
