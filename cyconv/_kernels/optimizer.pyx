"""Optimizer updates in place: one pass over a parameter, its gradient and its state."""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport fabs, fabsf, pow, sqrt, sqrtf

from cyconv._kernels.parallel cimport ceil_div
from cyconv._memory cimport Block

cdef enum:
    BLOCK = 8192    # numbers a task takes
    LANES = 8       # running sums, so that a sum is a vector operation with a fixed order


cdef inline floating square_root(floating x) noexcept nogil:
    if floating is float:
        return sqrtf(x)
    else:
        return sqrt(x)


cdef inline floating magnitude(floating x) noexcept nogil:
    if floating is float:
        return fabsf(x)
    else:
        return fabs(x)


# In every rule below g is the gradient plus weight_decay p, unless it says otherwise.

# --------------------------------------------------------------------------------------- stochastic gradient descent

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


# ------------------------------------------------------------------------------------ Adagrad, Adadelta, and RMSprop

# s <- s + g^2
# p <- p - lr g / (sqrt(s) + eps)
cdef void adagrad_block(
    floating* p, const floating* gradient, floating* s, Py_ssize_t COUNT,
    floating lr, floating eps, floating weight_decay,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef floating g
    for i in range(COUNT):
        g = gradient[i] + weight_decay * p[i]
        s[i] += g * g
        p[i] -= lr * g / (square_root(s[i]) + eps)


def adagrad(
    floating[::1] parameter,            # IN OUT
    const floating[::1] gradient,       # IN
    floating[::1] squares,              # IN OUT, sum of the squared gradients
    double lr,
    double eps,
    double weight_decay,
    int num_threads,
):
    """Take a step of Adagrad (Duchi, Hazan and Singer 2011)."""
    cdef Py_ssize_t SIZE = parameter.shape[0], i
    for i in prange(0, SIZE, BLOCK, nogil=True, num_threads=num_threads, schedule="static"):
        adagrad_block(&parameter[i], &gradient[i], &squares[i], min(<Py_ssize_t>BLOCK, SIZE - i),
                      <floating>lr, <floating>eps, <floating>weight_decay)


# s <- rho s + (1 - rho) g^2
# d = sqrt(u + eps) / sqrt(s + eps) g
# u <- rho u + (1 - rho) d^2
# p <- p - lr d
cdef void adadelta_block(
    floating* p, const floating* gradient, floating* s, floating* u, Py_ssize_t COUNT,
    floating lr, floating rho, floating rest, floating eps, floating weight_decay,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef floating g, d
    for i in range(COUNT):
        g = gradient[i] + weight_decay * p[i]
        s[i] = rho * s[i] + rest * (g * g)
        d = square_root(u[i] + eps) / square_root(s[i] + eps) * g
        u[i] = rho * u[i] + rest * (d * d)
        p[i] -= lr * d


def adadelta(
    floating[::1] parameter,            # IN OUT
    const floating[::1] gradient,       # IN
    floating[::1] squares,              # IN OUT, average of the squared gradients, zeros before the first step
    floating[::1] updates,              # IN OUT, average of the squared updates, zeros before the first step
    double lr,
    double rho,
    double eps,
    double weight_decay,
    int num_threads,
):
    """Take a step of Adadelta (Zeiler 2012)."""
    cdef Py_ssize_t SIZE = parameter.shape[0], i
    for i in prange(0, SIZE, BLOCK, nogil=True, num_threads=num_threads, schedule="static"):
        adadelta_block(&parameter[i], &gradient[i], &squares[i], &updates[i], min(<Py_ssize_t>BLOCK, SIZE - i),
                       <floating>lr, <floating>rho, <floating>(1 - rho), <floating>eps, <floating>weight_decay)


# s <- alpha s + (1 - alpha) g^2
# a <- alpha a + (1 - alpha) g,  r = sqrt(s - a^2)      (centered; otherwise r = sqrt(s))
# b <- momentum b + g / (r + eps)
# p <- p - lr b                                         (without momentum p - lr g / (r + eps))
cdef void rmsprop_block(
    floating* p, const floating* gradient, floating* s, floating* a, floating* b, Py_ssize_t COUNT,
    floating lr, floating alpha, floating rest, floating eps, floating weight_decay, floating momentum,
    bint centered, bint moving,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef floating g, variance
    for i in range(COUNT):
        g = gradient[i] + weight_decay * p[i]
        s[i] = alpha * s[i] + rest * (g * g)
        variance = s[i]
        if centered:
            a[i] = alpha * a[i] + rest * g
            variance = s[i] - a[i] * a[i]
            variance = 0 if variance < 0 else variance      # rounding
        g = g / (square_root(variance) + eps)
        if moving:
            b[i] = momentum * b[i] + g
            g = b[i]
        p[i] -= lr * g


def rmsprop(
    floating[::1] parameter,            # IN OUT
    const floating[::1] gradient,       # IN
    floating[::1] squares,              # IN OUT, average of the squared gradients, zeros before the first step
    floating[::1] average,              # IN OUT, average of the gradients, likewise; None unless centered
    floating[::1] velocity,             # IN OUT, likewise; None without momentum
    double lr,
    double alpha,
    double eps,
    double weight_decay,
    double momentum,
    int num_threads,
):
    """Take a step of RMSprop (Tieleman and Hinton 2012), centered (Graves 2013) if there is an average."""
    cdef Py_ssize_t SIZE = parameter.shape[0], i
    cdef bint centered = average is not None, moving = velocity is not None
    if SIZE == 0:
        return
    cdef floating* a = &parameter[0]    # any address: it is not used
    cdef floating* b = &parameter[0]
    if centered:
        a = &average[0]
    if moving:
        b = &velocity[0]
    for i in prange(0, SIZE, BLOCK, nogil=True, num_threads=num_threads, schedule="static"):
        rmsprop_block(&parameter[i], &gradient[i], &squares[i], a + i, b + i, min(<Py_ssize_t>BLOCK, SIZE - i),
                      <floating>lr, <floating>alpha, <floating>(1 - alpha), <floating>eps, <floating>weight_decay,
                      <floating>momentum, centered, moving)


# --------------------------------------------------------------------------------------------------- Adam's relatives

# g <- g + weight_decay p                           (Adam: the penalty is part of the gradient)
# p <- (1 - lr weight_decay) p                      (AdamW: it is not)
# m <- beta1 m + (1 - beta1) g
# v <- beta2 v + (1 - beta2) g^2
# p <- p - lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)
# `penalty` is weight_decay or zero, `decay` is 1 - lr weight_decay or one; `step` is lr / (1 - beta1^t), `correction`
# is 1 / sqrt(1 - beta2^t). AMSGrad: the largest v so far, w, stands in the place of v.
cdef void adam_block(
    floating* p, const floating* gradient, floating* m, floating* v, floating* w, Py_ssize_t COUNT, bint amsgrad,
    floating beta1, floating rest1, floating beta2, floating rest2,
    floating step, floating correction, floating eps, floating penalty, floating decay,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef floating g, square
    for i in range(COUNT):
        g = gradient[i] + penalty * p[i]
        m[i] = beta1 * m[i] + rest1 * g
        v[i] = beta2 * v[i] + rest2 * (g * g)
        square = v[i]
        if amsgrad:
            w[i] = w[i] if w[i] > square else square
            square = w[i]
        p[i] = decay * p[i] - step * m[i] / (square_root(square) * correction + eps)


def adam(
    floating[::1] parameter,            # IN OUT
    const floating[::1] gradient,       # IN
    floating[::1] first_moment,         # IN OUT, zeros before the first step
    floating[::1] second_moment,        # IN OUT, zeros before the first step
    floating[::1] largest,              # IN OUT, second moment at its largest; None unless AMSGrad
    double lr,
    double beta1,
    double beta2,
    double eps,
    double weight_decay,
    long long step,                     # 1 at the first step
    bint decoupled,                     # AdamW
    int num_threads,
):
    """Take a step of Adam (Kingma and Ba 2015) or, decoupled, of AdamW (Loshchilov and Hutter 2019).

    With the largest second moments it is AMSGrad (Reddi, Kale and Kumar 2018).
    """
    cdef Py_ssize_t SIZE = parameter.shape[0], i
    cdef double length = lr / (1 - pow(beta1, step)), correction = 1 / sqrt(1 - pow(beta2, step))
    cdef double penalty = 0 if decoupled else weight_decay, decay = 1 - lr * weight_decay if decoupled else 1
    cdef bint amsgrad = largest is not None
    if SIZE == 0:
        return
    cdef floating* w = &parameter[0]    # any address: it is not used
    if amsgrad:
        w = &largest[0]
    for i in prange(0, SIZE, BLOCK, nogil=True, num_threads=num_threads, schedule="static"):
        adam_block(&parameter[i], &gradient[i], &first_moment[i], &second_moment[i], w + i,
                   min(<Py_ssize_t>BLOCK, SIZE - i), amsgrad,
                   <floating>beta1, <floating>(1 - beta1), <floating>beta2, <floating>(1 - beta2),
                   <floating>length, <floating>correction, <floating>eps, <floating>penalty, <floating>decay)


# m <- beta1 m + (1 - beta1) g
# u <- max(beta2 u, |g| + eps)
# p <- p - lr / (1 - beta1^t) m / u
cdef void adamax_block(
    floating* p, const floating* gradient, floating* m, floating* u, Py_ssize_t COUNT,
    floating beta1, floating rest1, floating beta2, floating step, floating eps, floating weight_decay,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef floating g, faded, size
    for i in range(COUNT):
        g = gradient[i] + weight_decay * p[i]
        m[i] = beta1 * m[i] + rest1 * g
        faded, size = beta2 * u[i], magnitude(g) + eps
        u[i] = faded if faded > size else size
        p[i] -= step * m[i] / u[i]


def adamax(
    floating[::1] parameter,            # IN OUT
    const floating[::1] gradient,       # IN
    floating[::1] first_moment,         # IN OUT, zeros before the first step
    floating[::1] norm,                 # IN OUT, zeros before the first step
    double lr,
    double beta1,
    double beta2,
    double eps,
    double weight_decay,
    long long step,                     # 1 at the first step
    int num_threads,
):
    """Take a step of Adamax (Kingma and Ba 2015, section 7.1)."""
    cdef Py_ssize_t SIZE = parameter.shape[0], i
    cdef double length = lr / (1 - pow(beta1, step))
    for i in prange(0, SIZE, BLOCK, nogil=True, num_threads=num_threads, schedule="static"):
        adamax_block(&parameter[i], &gradient[i], &first_moment[i], &norm[i], min(<Py_ssize_t>BLOCK, SIZE - i),
                     <floating>beta1, <floating>(1 - beta1), <floating>beta2, <floating>length, <floating>eps,
                     <floating>weight_decay)


# m <- beta1 m + (1 - beta1) g
# v <- beta2 v + (1 - beta2) g^2
# p <- p - (now g + next m) / (sqrt(v / (1 - beta2^t)) + eps)
# `now` and `next` are lr times the corrected shares of this gradient and of the momentum after it.
cdef void nadam_block(
    floating* p, const floating* gradient, floating* m, floating* v, Py_ssize_t COUNT,
    floating beta1, floating rest1, floating beta2, floating rest2,
    floating now, floating next, floating correction, floating eps, floating weight_decay,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef floating g
    for i in range(COUNT):
        g = gradient[i] + weight_decay * p[i]
        m[i] = beta1 * m[i] + rest1 * g
        v[i] = beta2 * v[i] + rest2 * (g * g)
        p[i] -= (now * g + next * m[i]) / (square_root(v[i]) * correction + eps)


def nadam(
    floating[::1] parameter,            # IN OUT
    const floating[::1] gradient,       # IN
    floating[::1] first_moment,         # IN OUT, zeros before the first step
    floating[::1] second_moment,        # IN OUT, zeros before the first step
    double now,                         # lr times the share of the gradient
    double next,                        # lr times the share of the first moment
    double beta1,
    double beta2,
    double eps,
    double weight_decay,
    long long step,                     # 1 at the first step
    int num_threads,
):
    """Take a step of NAdam (Dozat 2016)."""
    cdef Py_ssize_t SIZE = parameter.shape[0], i
    cdef double correction = 1 / sqrt(1 - pow(beta2, step))
    for i in prange(0, SIZE, BLOCK, nogil=True, num_threads=num_threads, schedule="static"):
        nadam_block(&parameter[i], &gradient[i], &first_moment[i], &second_moment[i], min(<Py_ssize_t>BLOCK, SIZE - i),
                    <floating>beta1, <floating>(1 - beta1), <floating>beta2, <floating>(1 - beta2),
                    <floating>now, <floating>next, <floating>correction, <floating>eps, <floating>weight_decay)


# m <- beta1 m + (1 - beta1) g
# v <- beta2 v + (1 - beta2) g^2
# p <- p - clip(lr sqrt(1 - beta2^t) / (1 - beta1^t) / (sqrt(v) + eps), lower, upper) m
cdef void adabound_block(
    floating* p, const floating* gradient, floating* m, floating* v, Py_ssize_t COUNT,
    floating beta1, floating rest1, floating beta2, floating rest2,
    floating step, floating lower, floating upper, floating eps, floating weight_decay,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef floating g, rate
    for i in range(COUNT):
        g = gradient[i] + weight_decay * p[i]
        m[i] = beta1 * m[i] + rest1 * g
        v[i] = beta2 * v[i] + rest2 * (g * g)
        rate = step / (square_root(v[i]) + eps)
        rate = lower if rate < lower else rate
        rate = upper if rate > upper else rate
        p[i] -= rate * m[i]


def adabound(
    floating[::1] parameter,            # IN OUT
    const floating[::1] gradient,       # IN
    floating[::1] first_moment,         # IN OUT, zeros before the first step
    floating[::1] second_moment,        # IN OUT, zeros before the first step
    double lr,
    double lower,                       # bounds of each number's own rate
    double upper,
    double beta1,
    double beta2,
    double eps,
    double weight_decay,
    long long step,                     # 1 at the first step
    int num_threads,
):
    """Take a step of AdaBound (Luo et al. 2019)."""
    cdef Py_ssize_t SIZE = parameter.shape[0], i
    cdef double length = lr * sqrt(1 - pow(beta2, step)) / (1 - pow(beta1, step))
    for i in prange(0, SIZE, BLOCK, nogil=True, num_threads=num_threads, schedule="static"):
        adabound_block(&parameter[i], &gradient[i], &first_moment[i], &second_moment[i],
                       min(<Py_ssize_t>BLOCK, SIZE - i), <floating>beta1, <floating>(1 - beta1), <floating>beta2,
                       <floating>(1 - beta2), <floating>length, <floating>lower, <floating>upper, <floating>eps,
                       <floating>weight_decay)


# ------------------------------------------------------------------------------------------------- norms and averages

cdef double squared_norm_block(const floating* x, Py_ssize_t COUNT) noexcept nogil:
    cdef double lanes[LANES]
    cdef Py_ssize_t i, lane
    for lane in range(LANES):
        lanes[lane] = 0
    for i in range(COUNT // LANES):
        for lane in range(LANES):
            lanes[lane] += <double>x[i * LANES + lane] * x[i * LANES + lane]
    for i in range(COUNT // LANES * LANES, COUNT):
        lanes[0] += <double>x[i] * x[i]
    for lane in range(1, LANES):
        lanes[0] += lanes[lane]
    return lanes[0]


def squared_norm(
    const floating[::1] x,      # IN
    int num_threads,
):
    """Return the sum of x**2, in double."""
    cdef Py_ssize_t SIZE = x.shape[0], BLOCKS = ceil_div(SIZE, BLOCK), k, i
    cdef Block block = Block(BLOCKS * sizeof(double))
    cdef double* sums = <double*>block.address
    cdef double total = 0
    for k in prange(BLOCKS, nogil=True, num_threads=num_threads, schedule="static"):
        i = k * BLOCK
        sums[k] = squared_norm_block(&x[i], min(<Py_ssize_t>BLOCK, SIZE - i))
    for k in range(BLOCKS):
        total += sums[k]
    return total


cdef void average_block(floating* average, const floating* x, Py_ssize_t COUNT, floating rest) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(COUNT):
        average[i] += rest * (x[i] - average[i])


def average(
    floating[::1] average,      # IN OUT
    const floating[::1] x,      # IN
    double decay,
    int num_threads,
):
    """average = decay * average + (1 - decay) * x."""
    cdef Py_ssize_t SIZE = x.shape[0], i
    for i in prange(0, SIZE, BLOCK, nogil=True, num_threads=num_threads, schedule="static"):
        average_block(&average[i], &x[i], min(<Py_ssize_t>BLOCK, SIZE - i), <floating>(1 - decay))
