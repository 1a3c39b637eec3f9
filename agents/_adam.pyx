"""One Adam step over flat float32 arrays: the gradient's norm, then everything else in one pass."""

from libc.math cimport sqrt, sqrtf


def squared_norm(const float[::1] grad):
    """Sum of squares in double precision, in eight fixed lanes: vectorised and reproducible."""
    cdef double[8] lanes
    cdef Py_ssize_t i, j, n = grad.shape[0]
    cdef double total = 0.0
    with nogil:
        for j in range(8):
            lanes[j] = 0.0
        for i in range(0, n - 7, 8):
            for j in range(8):
                lanes[j] += <double>grad[i + j] * <double>grad[i + j]
        for i in range(n - n % 8, n):
            total += <double>grad[i] * <double>grad[i]
        for j in range(8):
            total += lanes[j]
    return total


def adam_step(
    float[::1] param,
    const float[::1] grad,
    float[::1] exp_avg,
    float[::1] exp_avg_sq,
    long step,
    double scale,
    double lr,
    double beta1,
    double beta2,
    double eps,
    double weight_decay,
):
    """Update `param` in place from `scale * grad`; `step` counts from 1; decay is decoupled (AdamW)."""
    cdef double correction1 = 1.0 - beta1 ** step
    cdef double correction2 = 1.0 - beta2 ** step
    cdef float rate = <float>(lr / correction1)
    cdef float root = <float>(1.0 / sqrt(correction2))
    cdef float keep = <float>(1.0 - lr * weight_decay)
    cdef float b1 = <float>beta1, b2 = <float>beta2
    cdef float c1 = <float>(1.0 - beta1), c2 = <float>(1.0 - beta2)
    cdef float e = <float>eps, s = <float>scale
    cdef float g
    cdef Py_ssize_t i, n = param.shape[0]
    with nogil:
        for i in range(n):
            g = grad[i] * s
            exp_avg[i] = b1 * exp_avg[i] + c1 * g
            exp_avg_sq[i] = b2 * exp_avg_sq[i] + c2 * g * g
            param[i] = param[i] * keep - rate * exp_avg[i] / (sqrtf(exp_avg_sq[i]) * root + e)
