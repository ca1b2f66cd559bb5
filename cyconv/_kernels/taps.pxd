"""What several kernels ask of a list of taps, given as their displacements, rows apart from columns."""


cdef inline Py_ssize_t run_length(const Py_ssize_t* tap_h, const Py_ssize_t* tap_w, Py_ssize_t T) noexcept nogil:
    """How many consecutive taps read consecutive pixels: they merge into one longer k loop."""
    cdef Py_ssize_t length = 1, t
    while length < T and tap_h[length] == tap_h[0] and tap_w[length] == tap_w[0] + length:
        length += 1
    if T % length:
        return 1
    for t in range(T):
        if t % length and (tap_h[t] != tap_h[t - 1] or tap_w[t] != tap_w[t - 1] + 1):
            return 1
    return length
