"""The gates of a long short-term memory at one time step, and their gradients. Rows are sequences: [N, H], [N, 4 H]."""

from cython cimport floating
from cython.parallel cimport prange

from cyconv._kernels.parallel cimport Listener, interrupted, listen, raise_if_interrupted
from cyconv._kernels.vecmath cimport sigmoid, tanh


cdef void step_row(
    const floating* from_input, const floating* from_hidden, const floating* before, Py_ssize_t H, floating* gates,
    floating* cells, floating* squashed, floating* hidden,
) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(4 * H):
        gates[j] = from_input[j] + from_hidden[j]
    for j in range(2 * H):
        gates[j] = sigmoid(gates[j])
    for j in range(2 * H, 3 * H):
        gates[j] = tanh(gates[j])
    for j in range(3 * H, 4 * H):
        gates[j] = sigmoid(gates[j])
    for j in range(H):
        cells[j] = gates[H + j] * before[j] + gates[j] * gates[2 * H + j]
    for j in range(H):
        squashed[j] = tanh(cells[j])
    for j in range(H):
        hidden[j] = gates[3 * H + j] * squashed[j]


def step(
    const floating[:, ::1] from_input,      # IN  [N, 4 H] what the input adds to the gates, and the bias
    const floating[:, ::1] from_hidden,     # IN  [N, 4 H] what the hidden state adds
    const floating[:, ::1] before,          # IN  [N, H] cells before the step
    floating[:, ::1] gates,                 # OUT [N, 4 H] input, forget, candidate, output, after their activations
    floating[:, ::1] cells,                 # OUT [N, H]
    floating[:, ::1] squashed,              # OUT [N, H] tanh of the cells
    floating[:, ::1] hidden,                # OUT [N, H]
    int num_threads,
):
    """c = f c' + i g, h = o tanh(c)."""
    cdef Py_ssize_t N = before.shape[0], H = before.shape[1], n
    cdef Listener listener
    listen(&listener)
    for n in prange(N, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        step_row(&from_input[n, 0], &from_hidden[n, 0], &before[n, 0], H, &gates[n, 0], &cells[n, 0], &squashed[n, 0],
                 &hidden[n, 0])
    raise_if_interrupted(&listener)


cdef void step_backward_row(
    const floating* grad_h, const floating* grad_output, const floating* gates, const floating* before,
    const floating* squashed, Py_ssize_t H, floating* grad_c, floating* grad_z,
) noexcept nogil:
    cdef floating i, f, g, o, s, by_hidden, by_cell, one = 1
    cdef Py_ssize_t j
    for j in range(H):
        i, f, g, o, s = gates[j], gates[H + j], gates[2 * H + j], gates[3 * H + j], squashed[j]
        by_hidden = grad_h[j] + grad_output[j]
        by_cell = grad_c[j] + by_hidden * o * (one - s * s)
        grad_z[j] = by_cell * g * (i * (one - i))
        grad_z[H + j] = by_cell * before[j] * (f * (one - f))
        grad_z[2 * H + j] = by_cell * i * (one - g * g)
        grad_z[3 * H + j] = by_hidden * s * (o * (one - o))
        grad_c[j] = by_cell * f


def step_backward(
    const floating[:, ::1] grad_h,          # IN  [N, H] of the hidden state, by the next step
    const floating[:, :] grad_output,       # IN  [N, H] of the hidden state as the result; H contiguous
    const floating[:, ::1] gates,           # IN  [N, 4 H]
    const floating[:, ::1] before,          # IN  [N, H] cells before the step
    const floating[:, ::1] squashed,        # IN  [N, H]
    floating[:, ::1] grad_c,                # IN, OUT [N, H] of the cells after the step, then before it
    floating[:, ::1] grad_z,                # OUT [N, 4 H] of the gates before their activations
    int num_threads,
):
    """Gradient of `step`."""
    cdef Py_ssize_t N = before.shape[0], H = before.shape[1], n
    cdef Listener listener
    listen(&listener)
    for n in prange(N, nogil=True, num_threads=num_threads, schedule="static"):
        if interrupted(&listener):
            continue
        step_backward_row(&grad_h[n, 0], &grad_output[n, 0], &gates[n, 0], &before[n, 0], &squashed[n, 0], H,
                          &grad_c[n, 0], &grad_z[n, 0])
    raise_if_interrupted(&listener)
