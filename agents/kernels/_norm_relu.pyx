"""Batch normalisation with ReLU on tensors' memory; the arithmetic is norm_relu.h's.

Addresses come from norm_relu.py, which has made sure of types, shapes and layout. Without the GIL, so
shards of a batch run side by side.
"""

from libc.math cimport sqrtf
from libc.stdint cimport int64_t, uint16_t


cdef extern from "norm_relu.h":
    ctypedef uint16_t playout_bf16
    void norm_moments(const playout_bf16 *, float *, float *, int64_t, int64_t) noexcept nogil
    void norm_relu_apply(
        const playout_bf16 *, const playout_bf16 *, const float *, const float *, playout_bf16 *,
        int64_t, int64_t,
    ) noexcept nogil
    void norm_relu_sums(
        const playout_bf16 *, const playout_bf16 *, const playout_bf16 *, const float *, float *, float *,
        int64_t, int64_t,
    ) noexcept nogil
    void norm_relu_back(
        const playout_bf16 *, const playout_bf16 *, const playout_bf16 *, const float *, const float *,
        const float *, playout_bf16 *, playout_bf16 *, int64_t, int64_t,
    ) noexcept nogil


def forward(
    size_t x, size_t residual, size_t y, size_t weight, size_t bias, size_t mean, size_t variance,
    size_t work, float eps, int64_t rows, int64_t channels,
):
    """Fills y [rows, channels], mean and variance [channels]; work is [2, channels]."""
    cdef const float *gain = <const float *>weight
    cdef const float *offset = <const float *>bias
    cdef const float *means = <const float *>mean
    cdef const float *variances = <const float *>variance
    cdef float *scale = <float *>work
    cdef float *shift = scale + channels
    cdef int64_t c
    with nogil:
        norm_moments(<const playout_bf16 *>x, <float *>mean, <float *>variance, rows, channels)
        for c in range(channels):
            scale[c] = gain[c] / sqrtf(variances[c] + eps)
            shift[c] = offset[c] - means[c] * scale[c]
        norm_relu_apply(
            <const playout_bf16 *>x, <const playout_bf16 *>residual, scale, shift, <playout_bf16 *>y,
            rows, channels,
        )


def backward(
    size_t grad, size_t x, size_t y, size_t weight, size_t mean, size_t variance, size_t grad_x,
    size_t grad_residual, size_t grad_weight, size_t grad_bias, size_t work, float eps,
    int64_t rows, int64_t channels,
):
    """Fills grad_x, grad_residual (unless it is 0), grad_weight and grad_bias; work is [3, channels]."""
    cdef const float *gain = <const float *>weight
    cdef const float *means = <const float *>mean
    cdef const float *variances = <const float *>variance
    cdef float *products = <float *>grad_weight
    cdef float *sums = <float *>grad_bias
    cdef float *a = <float *>work
    cdef float *b = a + channels
    cdef float *d = b + channels
    cdef float inverse
    cdef int64_t c
    with nogil:
        norm_relu_sums(
            <const playout_bf16 *>grad, <const playout_bf16 *>x, <const playout_bf16 *>y, means,
            sums, products, rows, channels,
        )
        for c in range(channels):
            inverse = 1.0 / sqrtf(variances[c] + eps)
            a[c] = gain[c] * inverse
            b[c] = -a[c] * inverse * inverse * products[c] / <float>rows
            d[c] = -a[c] * sums[c] / <float>rows - b[c] * means[c]
            products[c] *= inverse
        norm_relu_back(
            <const playout_bf16 *>grad, <const playout_bf16 *>x, <const playout_bf16 *>y, a, b, d,
            <playout_bf16 *>grad_x, <playout_bf16 *>grad_residual, rows, channels,
        )
