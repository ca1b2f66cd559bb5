"""Optimizer updates in place: one pass over a parameter, its gradient and its state."""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport pow, sqrt, sqrtf

cdef enum:
    BLOCK = 8192    # numbers a task takes


cdef inline floating square_root(floating x) noexcept nogil:
    if floating is float:
        return sqrtf(x)
    else:
        return sqrt(x)


# g <- g + weight_decay p
# p <- p - lr g
cdef void sgd_block(
    floating* p, const floating* gradient, Py_ssize_t COUNT, floating lr, floating weight_decay
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(COUNT):
        p[i] -= lr * (gradient[i] + weight_decay * p[i])


# g <- g + weight_decay p
# v <- momentum v + g
# p <- p - lr v,  or  p - lr (g + momentum v)  with Nesterov's look ahead
cdef void momentum_block(
    floating* p, const floating* gradient, floating* v, Py_ssize_t COUNT,
    floating lr, floating momentum, floating weight_decay, bint nesterov,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef floating g
    for i in range(COUNT):
        g = gradient[i] + weight_decay * p[i]
        v[i] = momentum * v[i] + g
        p[i] -= lr * (g + momentum * v[i] if nesterov else v[i])


def sgd(
    floating[::1] parameter,            # IN OUT
    const floating[::1] gradient,       # IN
    floating[::1] velocity,             # IN OUT, zeros before the first step; None without momentum
    double lr,
    double momentum,
    double weight_decay,
    bint nesterov,
    int num_threads,
):
    """Take a step of stochastic gradient descent."""
    cdef Py_ssize_t SIZE = parameter.shape[0], i
    cdef bint plain = velocity is None
    for i in prange(0, SIZE, BLOCK, nogil=True, num_threads=num_threads, schedule="static"):
        if plain:
            sgd_block(&parameter[i], &gradient[i], min(<Py_ssize_t>BLOCK, SIZE - i), <floating>lr,
                      <floating>weight_decay)
        else:
            momentum_block(&parameter[i], &gradient[i], &velocity[i], min(<Py_ssize_t>BLOCK, SIZE - i), <floating>lr,
                           <floating>momentum, <floating>weight_decay, nesterov)


# g <- g + weight_decay p                           (Adam: the penalty is part of the gradient)
# p <- (1 - lr weight_decay) p                      (AdamW: it is not)
# m <- beta1 m + (1 - beta1) g
# v <- beta2 v + (1 - beta2) g^2
# p <- p - lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)
# `penalty` is weight_decay or zero, `decay` is 1 - lr weight_decay or one; `step` is lr / (1 - beta1^t), `correction`
# is 1 / sqrt(1 - beta2^t).
cdef void adam_block(
    floating* p, const floating* gradient, floating* m, floating* v, Py_ssize_t COUNT,
    floating beta1, floating rest1, floating beta2, floating rest2,
    floating step, floating correction, floating eps, floating penalty, floating decay,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef floating g
    for i in range(COUNT):
        g = gradient[i] + penalty * p[i]
        m[i] = beta1 * m[i] + rest1 * g
        v[i] = beta2 * v[i] + rest2 * (g * g)
        p[i] = decay * p[i] - step * m[i] / (square_root(v[i]) * correction + eps)


def adam(
    floating[::1] parameter,            # IN OUT
    const floating[::1] gradient,       # IN
    floating[::1] first_moment,         # IN OUT, zeros before the first step
    floating[::1] second_moment,        # IN OUT, zeros before the first step
    double lr,
    double beta1,
    double beta2,
    double eps,
    double weight_decay,
    long long step,                     # 1 at the first step
    bint decoupled,                     # AdamW
    int num_threads,
):
    """Take a step of Adam (Kingma and Ba 2015) or, decoupled, of AdamW (Loshchilov and Hutter 2019)."""
    cdef Py_ssize_t SIZE = parameter.shape[0], i
    cdef double length = lr / (1 - pow(beta1, step)), correction = 1 / sqrt(1 - pow(beta2, step))
    cdef double penalty = 0 if decoupled else weight_decay, decay = 1 - lr * weight_decay if decoupled else 1
    for i in prange(0, SIZE, BLOCK, nogil=True, num_threads=num_threads, schedule="static"):
        adam_block(&parameter[i], &gradient[i], &first_moment[i], &second_moment[i], min(<Py_ssize_t>BLOCK, SIZE - i),
                   <floating>beta1, <floating>(1 - beta1), <floating>beta2, <floating>(1 - beta2),
                   <floating>length, <floating>correction, <floating>eps, <floating>penalty, <floating>decay)
