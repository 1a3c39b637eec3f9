"""Element-wise layers on tensors' memory, cut among threads; arithmetic of _elementwise.h, lm_head.h.

Addresses come from elementwise.py, which has made sure of types, shapes and contiguity, and says how
many threads of torch's team share the rows. Every row is computed alone: results do not depend on
the cut.
"""

from libc.stdint cimport int64_t, uint16_t
from team cimport playout_over_rows, playout_set_team


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
    int PLAYOUT_FOLD
    void playout_fold_f32(const float *, const float *, float *, int64_t, int64_t, int64_t) noexcept nogil
    void playout_fold_bf16(
        const float *, const float *, playout_bf16 *, int64_t, int64_t, int64_t
    ) noexcept nogil
    void playout_fold_back_f32(
        const float *, const float *, const float *, float *, float *, int64_t, int64_t, int64_t, int64_t
    ) noexcept nogil
    void playout_fold_back_bf16(
        const playout_bf16 *, const float *, const float *, float *, float *, int64_t, int64_t, int64_t,
        int64_t
    ) noexcept nogil


cdef extern from "lm_head.h":
    void playout_likelihood_f32(
        const float *, const int64_t *, float *, float *, float *, int64_t, int64_t, int64_t
    ) noexcept nogil
    void playout_likelihood_bf16(
        const playout_bf16 *, const int64_t *, float *, float *, float *, int64_t, int64_t, int64_t
    ) noexcept nogil
    void playout_likelihood_back_f32(
        float *, const int64_t *, const float *, const float *, const float *, const float *,
        const float *, int64_t, int64_t, int64_t
    ) noexcept nogil
    void playout_likelihood_back_bf16(
        playout_bf16 *, const int64_t *, const float *, const float *, const float *, const float *,
        const float *, int64_t, int64_t, int64_t
    ) noexcept nogil


cdef struct Job:  # what a kernel works on; each has its own of these
    size_t grad, x, y, scale, q, k, v
    const int64_t *targets
    float *logprobs
    float *entropies
    float *lse
    const float *outer
    const float *spread
    size_t gain, sums
    int64_t n, rows
    float eps
    bint in_bf16, bf16, back
    playout_rotary rotary


def use_team(size_t parallel, size_t number, size_t size):
    """Share rows with the threads that these functions of OpenMP's run (processor.py)."""
    playout_set_team(parallel, number, size)


cdef void _swiglu(const void *data, int64_t begin, int64_t end) noexcept nogil:
    cdef const Job *j = <const Job *>data
    if j.bf16:
        playout_swiglu_bf16(<const playout_bf16 *>j.x, <playout_bf16 *>j.y, j.n, begin, end)
    else:
        playout_swiglu_f32(<const float *>j.x, <float *>j.y, j.n, begin, end)


def swiglu(size_t gate_up, size_t out, int64_t inner, bint bf16, int64_t rows, int threads):
    """`silu(gate) * up` of [rows, 2 inner]."""
    cdef Job job
    job.x, job.y, job.n, job.bf16 = gate_up, out, inner, bf16
    with nogil:
        playout_over_rows(_swiglu, &job, rows, threads)


cdef void _swiglu_back(const void *data, int64_t begin, int64_t end) noexcept nogil:
    cdef const Job *j = <const Job *>data
    if j.bf16:
        playout_swiglu_back_bf16(
            <const playout_bf16 *>j.grad, <const playout_bf16 *>j.x, <playout_bf16 *>j.y, j.n, begin, end
        )
    else:
        playout_swiglu_back_f32(
            <const float *>j.grad, <const float *>j.x, <float *>j.y, j.n, begin, end
        )


def swiglu_back(
    size_t grad, size_t gate_up, size_t out, int64_t inner, bint bf16, int64_t rows, int threads
):
    """The gradient [rows, 2 inner] from that of the result."""
    cdef Job job
    job.grad, job.x, job.y, job.n, job.bf16 = grad, gate_up, out, inner, bf16
    with nogil:
        playout_over_rows(_swiglu_back, &job, rows, threads)


cdef void _rms(const void *data, int64_t begin, int64_t end) noexcept nogil:
    cdef const Job *j = <const Job *>data
    cdef float *scale = <float *>j.scale
    if j.in_bf16:
        playout_rms_bf16_bf16(
            <const playout_bf16 *>j.x, <playout_bf16 *>j.y, scale, j.n, j.eps, begin, end
        )
    elif j.bf16:
        playout_rms_f32_bf16(<const float *>j.x, <playout_bf16 *>j.y, scale, j.n, j.eps, begin, end)
    else:
        playout_rms_f32_f32(<const float *>j.x, <float *>j.y, scale, j.n, j.eps, begin, end)


def rms(
    size_t x, size_t y, size_t scale, int64_t n, float eps,
    bint in_bf16, bint out_bf16, int64_t rows, int threads,
):
    """`x / sqrt(mean(x^2) + eps)` of rows of `n`; the factors go to `scale`."""
    cdef Job job
    job.x, job.y, job.scale, job.n, job.eps = x, y, scale, n, eps
    job.in_bf16, job.bf16 = in_bf16, out_bf16
    with nogil:
        playout_over_rows(_rms, &job, rows, threads)


cdef void _rms_back(const void *data, int64_t begin, int64_t end) noexcept nogil:
    cdef const Job *j = <const Job *>data
    cdef const float *scale = <const float *>j.scale
    if j.in_bf16:
        playout_rms_back_bf16_bf16(
            <const playout_bf16 *>j.grad, <const playout_bf16 *>j.y, scale, <playout_bf16 *>j.x,
            j.n, begin, end,
        )
    elif j.bf16:
        playout_rms_back_f32_bf16(
            <const playout_bf16 *>j.grad, <const playout_bf16 *>j.y, scale, <float *>j.x,
            j.n, begin, end,
        )
    else:
        playout_rms_back_f32_f32(
            <const float *>j.grad, <const float *>j.y, scale, <float *>j.x, j.n, begin, end
        )


def rms_back(
    size_t grad, size_t y, size_t scale, size_t out, int64_t n,
    bint in_bf16, bint out_bf16, int64_t rows, int threads,
):
    """The gradient of `x` from that of `y`."""
    cdef Job job
    job.grad, job.y, job.scale, job.x, job.n = grad, y, scale, out, n
    job.in_bf16, job.bf16 = in_bf16, out_bf16
    with nogil:
        playout_over_rows(_rms_back, &job, rows, threads)


cdef void _rotary(const void *data, int64_t begin, int64_t end) noexcept nogil:
    cdef const Job *j = <const Job *>data
    if j.bf16:
        playout_rotary_bf16(
            &j.rotary, <playout_bf16 *>j.x, <playout_bf16 *>j.q, <playout_bf16 *>j.k,
            <playout_bf16 *>j.v, j.back, begin, end,
        )
    else:
        playout_rotary_f32(
            &j.rotary, <float *>j.x, <float *>j.q, <float *>j.k, <float *>j.v, j.back, begin, end
        )


def rotary(
    size_t qkv, size_t q, size_t k, size_t v, size_t cosines, size_t sines,
    tuple shape, bint bf16, bint back, int64_t rows, int threads,
):
    """Split into heads and rotate, or back; shape: L, heads, kv heads, D / 2, rows of the tables."""
    cdef Job job
    cdef playout_rotary *m = &job.rotary
    m.length, m.heads, m.kv_heads, m.half, m.table_rows = shape
    m.cosines, m.sines = <const float *>cosines, <const float *>sines
    job.x, job.q, job.k, job.v, job.bf16, job.back = qkv, q, k, v, bf16, back
    with nogil:
        playout_over_rows(_rotary, &job, rows, threads)


cdef void _likelihood(const void *data, int64_t begin, int64_t end) noexcept nogil:
    cdef const Job *j = <const Job *>data
    if j.bf16:
        playout_likelihood_bf16(
            <const playout_bf16 *>j.x, j.targets, j.logprobs, j.entropies, j.lse, j.n, begin, end
        )
    else:
        playout_likelihood_f32(
            <const float *>j.x, j.targets, j.logprobs, j.entropies, j.lse, j.n, begin, end
        )


def likelihood(
    size_t logits, size_t targets, tuple out, int64_t n, bint bf16, int64_t rows, int threads
):
    """Of rows of `n` logits, to `out`: log-probabilities of the targets, entropies, log sum exp."""
    cdef Job job
    job.x, job.targets, job.n, job.bf16 = logits, <const int64_t *>targets, n, bf16
    job.logprobs, job.entropies = <float *><size_t>out[0], <float *><size_t>out[1]
    job.lse = <float *><size_t>out[2]
    with nogil:
        playout_over_rows(_likelihood, &job, rows, threads)


cdef void _likelihood_back(const void *data, int64_t begin, int64_t end) noexcept nogil:
    cdef const Job *j = <const Job *>data
    if j.bf16:
        playout_likelihood_back_bf16(
            <playout_bf16 *>j.x, j.targets, j.logprobs, j.entropies, j.lse, j.outer, j.spread,
            j.n, begin, end,
        )
    else:
        playout_likelihood_back_f32(
            <float *>j.x, j.targets, j.logprobs, j.entropies, j.lse, j.outer, j.spread,
            j.n, begin, end,
        )


def likelihood_back(
    size_t logits, size_t targets, tuple found, size_t outer, size_t spread, int64_t n, bint bf16,
    int64_t rows, int threads,
):
    """Logits become the gradient of `outer` log-probabilities and `spread` entropies, as `found`."""
    cdef Job job
    job.x, job.targets, job.n, job.bf16 = logits, <const int64_t *>targets, n, bf16
    job.logprobs, job.entropies = <float *><size_t>found[0], <float *><size_t>found[1]
    job.lse = <float *><size_t>found[2]
    job.outer, job.spread = <const float *>outer, <const float *>spread
    with nogil:
        playout_over_rows(_likelihood_back, &job, rows, threads)


FOLD = PLAYOUT_FOLD


cdef void _fold(const void *data, int64_t begin, int64_t end) noexcept nogil:
    cdef const Job *j = <const Job *>data
    cdef const float *weight = <const float *>j.x
    if j.bf16:
        playout_fold_bf16(weight, <const float *>j.gain, <playout_bf16 *>j.y, j.n, begin, end)
    else:
        playout_fold_f32(weight, <const float *>j.gain, <float *>j.y, j.n, begin, end)


def fold(size_t weight, size_t gain, size_t out, int64_t n, bint bf16, int64_t rows, int threads):
    """`weight * gain` of rows of `n`, float32, rounded to bfloat16 if asked."""
    cdef Job job
    job.x, job.gain, job.y, job.n, job.bf16 = weight, gain, out, n, bf16
    with nogil:
        playout_over_rows(_fold, &job, rows, threads)


cdef void _fold_back(const void *data, int64_t begin, int64_t end) noexcept nogil:
    cdef const Job *j = <const Job *>data
    cdef const float *weight = <const float *>j.x
    cdef const float *gain = <const float *>j.gain
    cdef float *out = <float *>j.y
    cdef float *sums = <float *>j.sums
    if j.bf16:
        playout_fold_back_bf16(
            <const playout_bf16 *>j.grad, weight, gain, out, sums, j.n, j.rows, begin, end
        )
    else:
        playout_fold_back_f32(
            <const float *>j.grad, weight, gain, out, sums, j.n, j.rows, begin, end
        )


def fold_back(
    size_t grad, size_t weight, size_t gain, size_t out, size_t sums, int64_t n, bint bf16,
    int64_t rows, int threads,
):
    """The gradient of the weight, and of the gain in parts, [ceil(rows / FOLD), n], to be added."""
    cdef Job job
    job.grad, job.x, job.gain, job.y, job.sums = grad, weight, gain, out, sums
    job.n, job.rows, job.bf16 = n, rows, bf16
    with nogil:
        playout_over_rows(_fold_back, &job, (rows + PLAYOUT_FOLD - 1) // PLAYOUT_FOLD, threads)
