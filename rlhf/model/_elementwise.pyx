"""Element-wise layers on tensors' memory, cut among threads; the arithmetic is _elementwise.h's.

Addresses come from layers.py, which has made sure of types, shapes and contiguity. Each function
works on rows [begin, end) without the GIL, so threads of Python may share a call.
"""

from libc.stdint cimport int64_t, uint16_t


cdef extern from "_elementwise.h":
    ctypedef uint16_t playout_bf16
    ctypedef struct playout_rotary:
        int64_t length, heads, kv_heads, half, table_rows
        const float *cosines
        const float *sines
    void playout_swiglu_f32(const float *, float *, int64_t, int64_t, int64_t) noexcept nogil
    void playout_swiglu_bf16(const playout_bf16 *, playout_bf16 *, int64_t, int64_t, int64_t) noexcept nogil
    void playout_swiglu_back_f32(
        const float *, const float *, float *, int64_t, int64_t, int64_t
    ) noexcept nogil
    void playout_swiglu_back_bf16(
        const playout_bf16 *, const playout_bf16 *, playout_bf16 *, int64_t, int64_t, int64_t
    ) noexcept nogil
    void playout_rms_f32_f32(const float *, float *, float *, int64_t, float, int64_t, int64_t) noexcept nogil
    void playout_rms_f32_bf16(
        const float *, playout_bf16 *, float *, int64_t, float, int64_t, int64_t
    ) noexcept nogil
    void playout_rms_bf16_bf16(
        const playout_bf16 *, playout_bf16 *, float *, int64_t, float, int64_t, int64_t
    ) noexcept nogil
    void playout_rms_back_f32_f32(
        const float *, const float *, const float *, float *, int64_t, int64_t, int64_t
    ) noexcept nogil
    void playout_rms_back_f32_bf16(
        const playout_bf16 *, const playout_bf16 *, const float *, float *, int64_t, int64_t, int64_t
    ) noexcept nogil
    void playout_rms_back_bf16_bf16(
        const playout_bf16 *, const playout_bf16 *, const float *, playout_bf16 *, int64_t, int64_t, int64_t
    ) noexcept nogil
    void playout_rotary_f32(
        const playout_rotary *, float *, float *, float *, float *, int, int64_t, int64_t
    ) noexcept nogil
    void playout_rotary_bf16(
        const playout_rotary *, playout_bf16 *, playout_bf16 *, playout_bf16 *, playout_bf16 *,
        int, int64_t, int64_t
    ) noexcept nogil


def swiglu(size_t gate_up, size_t out, int64_t inner, bint bf16, int64_t begin, int64_t end):
    """`silu(gate) * up` of [rows, 2 inner]."""
    with nogil:
        if bf16:
            playout_swiglu_bf16(<const playout_bf16 *>gate_up, <playout_bf16 *>out, inner, begin, end)
        else:
            playout_swiglu_f32(<const float *>gate_up, <float *>out, inner, begin, end)


def swiglu_back(
    size_t grad, size_t gate_up, size_t out, int64_t inner, bint bf16, int64_t begin, int64_t end
):
    """The gradient [rows, 2 inner] from that of the result."""
    with nogil:
        if bf16:
            playout_swiglu_back_bf16(
                <const playout_bf16 *>grad, <const playout_bf16 *>gate_up,
                <playout_bf16 *>out, inner, begin, end,
            )
        else:
            playout_swiglu_back_f32(
                <const float *>grad, <const float *>gate_up, <float *>out, inner, begin, end
            )


def rms(
    size_t x, size_t y, size_t scale, int64_t n, float eps,
    bint in_bf16, bint out_bf16, int64_t begin, int64_t end,
):
    """`x / sqrt(mean(x^2) + eps)` of rows of `n`; the factors go to `scale`."""
    with nogil:
        if in_bf16:
            playout_rms_bf16_bf16(
                <const playout_bf16 *>x, <playout_bf16 *>y, <float *>scale, n, eps, begin, end
            )
        elif out_bf16:
            playout_rms_f32_bf16(<const float *>x, <playout_bf16 *>y, <float *>scale, n, eps, begin, end)
        else:
            playout_rms_f32_f32(<const float *>x, <float *>y, <float *>scale, n, eps, begin, end)


def rms_back(
    size_t grad, size_t y, size_t scale, size_t out, int64_t n,
    bint in_bf16, bint out_bf16, int64_t begin, int64_t end,
):
    """The gradient of `x` from that of `y`."""
    with nogil:
        if in_bf16:
            playout_rms_back_bf16_bf16(
                <const playout_bf16 *>grad, <const playout_bf16 *>y, <const float *>scale,
                <playout_bf16 *>out, n, begin, end,
            )
        elif out_bf16:
            playout_rms_back_f32_bf16(
                <const playout_bf16 *>grad, <const playout_bf16 *>y, <const float *>scale,
                <float *>out, n, begin, end,
            )
        else:
            playout_rms_back_f32_f32(
                <const float *>grad, <const float *>y, <const float *>scale, <float *>out, n, begin, end
            )


def rotary(
    size_t qkv, size_t q, size_t k, size_t v, size_t cosines, size_t sines,
    tuple shape, bint bf16, bint back, int64_t begin, int64_t end,
):
    """Split into heads and rotate, or back; shape: L, heads, kv heads, D / 2, rows of the tables."""
    cdef playout_rotary m
    m.length, m.heads, m.kv_heads, m.half, m.table_rows = shape
    m.cosines, m.sines = <const float *>cosines, <const float *>sines
    with nogil:
        if bf16:
            playout_rotary_bf16(
                &m, <playout_bf16 *>qkv, <playout_bf16 *>q, <playout_bf16 *>k, <playout_bf16 *>v,
                back, begin, end,
            )
        else:
            playout_rotary_f32(&m, <float *>qkv, <float *>q, <float *>k, <float *>v, back, begin, end)
