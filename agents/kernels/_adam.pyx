"""One Adam step over flat float32 arrays: the gradient's norm, then everything else in one pass."""

from libc.math cimport sqrt

cdef extern from "adam.h" nogil:
    ctypedef struct adam_rates:
        float scale, beta1, rest1, beta2, rest2, keep, rate, root, eps
    int mlp_best_isa()
    ctypedef double (*squares_t)(const float *, Py_ssize_t) noexcept nogil
    ctypedef void (*update_t)(
        float *, const float *, float *, float *, Py_ssize_t, const adam_rates *
    ) noexcept nogil
    squares_t adam_squares[3]
    update_t adam_update[3]

cdef int ISA = mlp_best_isa()


def squared_norm(const float[::1] grad):
    """Sum of squares in double precision, in eight fixed lanes: vectorised and reproducible."""
    cdef double total = 0.0
    if grad.shape[0]:
        with nogil:
            total = adam_squares[ISA](&grad[0], grad.shape[0])
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
    cdef adam_rates rates
    rates.scale, rates.eps = <float>scale, <float>eps
    rates.beta1, rates.rest1 = <float>beta1, <float>(1.0 - beta1)
    rates.beta2, rates.rest2 = <float>beta2, <float>(1.0 - beta2)
    rates.keep = <float>(1.0 - lr * weight_decay)
    rates.rate = <float>(lr / (1.0 - beta1 ** step))
    rates.root = <float>(1.0 / sqrt(1.0 - beta2 ** step))
    if param.shape[0]:
        with nogil:
            adam_update[ISA](
                &param[0], &grad[0], &exp_avg[0], &exp_avg_sq[0], param.shape[0], &rates
            )
