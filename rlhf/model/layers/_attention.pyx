"""Attention on tensors' memory, heads cut among threads; arithmetic of attention.h.

Addresses come from attention.py, which has made sure of types, shapes and contiguity, and says how
many threads of torch's team share the heads. Results do not depend on the cut.
"""

from libc.stdint cimport int64_t
from team cimport playout_over_rows, playout_set_team


cdef extern from "attention.h":
    ctypedef struct playout_attention:
        const void *q
        const void *k
        const void *v
        void *out
        float *lse
        const void *grad
        void *by_q
        void *by_k
        void *by_v
        const unsigned char *mask
        int64_t heads, kv_heads, length, size, mask_rows, window
        float scale
        int bf16, causal, failed
    ctypedef void (*playout_attention_t)(playout_attention *, int64_t, int64_t) noexcept nogil
    const playout_attention_t[3] playout_attention_forward
    const playout_attention_t[3] playout_attention_backward
    int mlp_best_isa() noexcept nogil


cdef struct Job:
    playout_attention *attention
    int isa


cdef int best = mlp_best_isa()
ISA = best


def use_team(size_t parallel, size_t number, size_t size):
    """Share heads with the threads that these functions of OpenMP's run (processor.py)."""
    playout_set_team(parallel, number, size)


cdef void _forward(const void *data, int64_t begin, int64_t end) noexcept nogil:
    cdef const Job *job = <const Job *>data
    playout_attention_forward[job.isa](job.attention, begin, end)


cdef void _backward(const void *data, int64_t begin, int64_t end) noexcept nogil:
    cdef const Job *job = <const Job *>data
    playout_attention_backward[job.isa](job.attention, begin, end)


cdef void _fill(playout_attention *a, tuple where, tuple shape, size_t mask, float scale, bint bf16):
    cdef size_t q, k, v, lse
    q, k, v, lse = where
    a.q, a.k, a.v, a.lse = <const void *>q, <const void *>k, <const void *>v, <float *>lse
    a.heads, a.kv_heads, a.length, a.size, a.mask_rows, a.window, a.causal = shape
    a.mask = <const unsigned char *>mask
    a.scale, a.bf16, a.failed = scale, bf16, 0


def attend(
    tuple where, size_t out, tuple shape, size_t mask, float scale, bint bf16, int64_t units,
    int threads, int isa=2,
):
    """Attention of `units` heads of keys; `where` lie queries, keys, values and logs of sums.

    The shape: query heads, key heads, length, size of a head, rows of a mask, window, causal. No
    other instruction set than that of index `isa` or less is used.
    """
    cdef playout_attention a
    _fill(&a, where, shape, mask, scale, bf16)
    a.out = <void *>out
    cdef Job job = Job(&a, min(best, isa))
    with nogil:
        playout_over_rows(_forward, &job, units, threads)
    if a.failed:
        raise MemoryError("no memory for attention")


def attend_back(
    tuple where, tuple gradients, tuple shape, size_t mask, float scale, bint bf16, int64_t units,
    int threads, int isa=2,
):
    """Gradients of queries, keys and values; theirs and that of the result lie at `gradients`."""
    cdef playout_attention a
    cdef size_t grad, by_q, by_k, by_v
    _fill(&a, where, shape, mask, scale, bf16)
    grad, by_q, by_k, by_v = gradients
    a.grad, a.by_q, a.by_k, a.by_v = <const void *>grad, <void *>by_q, <void *>by_k, <void *>by_v
    cdef Job job = Job(&a, min(best, isa))
    with nogil:
        playout_over_rows(_backward, &job, units, threads)
    if a.failed:
        raise MemoryError("no memory for attention")
