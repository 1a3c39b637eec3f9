"""The choice of experts and the ways of rows on tensors' memory; the arithmetic is _experts.h's.

Addresses come from routing.py and mixing.py, which have made sure of types, shapes and contiguity,
and say how many threads of torch's team share the tokens. Every token is computed alone: results do
not depend on the cut.
"""

from libc.stdint cimport int64_t, uint16_t
from team cimport playout_over_rows, playout_set_team


cdef extern from "_experts.h":
    ctypedef uint16_t playout_bf16
    ctypedef struct playout_router:
        int64_t experts, count
        int normalise
    void playout_route_rows(
        const playout_router *, const float *, float *, float *, float *, int64_t *, int64_t, int64_t
    ) noexcept nogil
    void playout_route_back(
        const playout_router *, const float *, const float *, const int64_t *, const float *,
        const float *, const float *, float *, int64_t, int64_t
    ) noexcept nogil
    void playout_places(const int64_t *, int64_t *, int64_t *, int64_t) noexcept nogil
    void playout_spread_f32(
        const float *, const int64_t *, float *, int64_t, int64_t, int64_t, int64_t
    ) noexcept nogil
    void playout_spread_bf16(
        const playout_bf16 *, const int64_t *, playout_bf16 *, int64_t, int64_t, int64_t, int64_t
    ) noexcept nogil
    void playout_collect_f32(
        const float *, const float *, const int64_t *, float *, int64_t, int64_t, int64_t, int64_t
    ) noexcept nogil
    void playout_collect_bf16(
        const playout_bf16 *, const float *, const int64_t *, playout_bf16 *,
        int64_t, int64_t, int64_t, int64_t
    ) noexcept nogil
    void playout_collect_back_f32(
        const float *, const float *, const float *, const int64_t *, float *, float *,
        int64_t, int64_t, int64_t, int64_t
    ) noexcept nogil
    void playout_collect_back_bf16(
        const playout_bf16 *, const playout_bf16 *, const float *, const int64_t *, playout_bf16 *,
        float *, int64_t, int64_t, int64_t, int64_t
    ) noexcept nogil


cdef struct Job:  # what a kernel works on; each has its own of these
    size_t x, rows, out, grad
    const float *logits
    float *probabilities
    float *log_sums
    float *weights
    int64_t *chosen
    const int64_t *places
    float *by_weights
    const float *by_probabilities
    const float *by_log_sums
    int64_t count, n
    bint bf16
    playout_router router


def use_team(size_t parallel, size_t number, size_t size):
    """Share tokens with the threads that these functions of OpenMP's run (processor.py)."""
    playout_set_team(parallel, number, size)


cdef void _route(const void *data, int64_t begin, int64_t end) noexcept nogil:
    cdef const Job *j = <const Job *>data
    playout_route_rows(
        &j.router, j.logits, j.probabilities, j.log_sums, j.weights, j.chosen, begin, end
    )


def route(tuple where, tuple shape, int64_t tokens, int threads):
    """Softmax of the router's logits and the best experts; shape: E, experts a token, normalised.

    `where` lie logits, probabilities, logarithms of sums, weights and experts.
    """
    cdef Job job
    job.router.experts, job.router.count, job.router.normalise = shape
    job.logits, job.probabilities = <const float *><size_t>where[0], <float *><size_t>where[1]
    job.log_sums, job.weights = <float *><size_t>where[2], <float *><size_t>where[3]
    job.chosen = <int64_t *><size_t>where[4]
    with nogil:
        playout_over_rows(_route, &job, tokens, threads)


cdef void _route_back(const void *data, int64_t begin, int64_t end) noexcept nogil:
    cdef const Job *j = <const Job *>data
    playout_route_back(
        &j.router, j.probabilities, j.weights, j.chosen, j.by_weights, j.by_probabilities,
        j.by_log_sums, <float *>j.grad, begin, end,
    )


def route_back(tuple where, tuple shape, int64_t tokens, int threads):
    """The gradient of the logits.

    `where` lie probabilities, weights, experts, the gradients of weights, probabilities and
    logarithms of sums, each 0 for none, and the result.
    """
    cdef Job job
    job.router.experts, job.router.count, job.router.normalise = shape
    job.probabilities, job.weights = <float *><size_t>where[0], <float *><size_t>where[1]
    job.chosen, job.by_weights = <int64_t *><size_t>where[2], <float *><size_t>where[3]
    job.by_probabilities = <const float *><size_t>where[4]
    job.by_log_sums, job.grad = <const float *><size_t>where[5], where[6]
    with nogil:
        playout_over_rows(_route_back, &job, tokens, threads)


def places(tuple where, int64_t pairs):
    """Rows of pairs of token and expert; `where` lie experts, the first row of each, and the result."""
    cdef size_t chosen, following, out
    chosen, following, out = where
    with nogil:
        playout_places(<const int64_t *>chosen, <int64_t *>following, <int64_t *>out, pairs)


cdef void _spread(const void *data, int64_t begin, int64_t end) noexcept nogil:
    cdef const Job *j = <const Job *>data
    if j.bf16:
        playout_spread_bf16(
            <const playout_bf16 *>j.x, j.places, <playout_bf16 *>j.rows, j.count, j.n, begin, end
        )
    else:
        playout_spread_f32(<const float *>j.x, j.places, <float *>j.rows, j.count, j.n, begin, end)


def spread(tuple where, tuple shape, int64_t tokens, int threads):
    """Tokens to the rows of their pairs; shape: pairs a token, width, whether in bfloat16.

    `where` lie tokens, places and rows.
    """
    cdef Job job
    job.count, job.n, job.bf16 = shape
    job.x, job.places, job.rows = where[0], <const int64_t *><size_t>where[1], where[2]
    with nogil:
        playout_over_rows(_spread, &job, tokens, threads)


cdef void _collect(const void *data, int64_t begin, int64_t end) noexcept nogil:
    cdef const Job *j = <const Job *>data
    if j.bf16:
        playout_collect_bf16(
            <const playout_bf16 *>j.rows, j.weights, j.places, <playout_bf16 *>j.out,
            j.count, j.n, begin, end,
        )
    else:
        playout_collect_f32(
            <const float *>j.rows, j.weights, j.places, <float *>j.out, j.count, j.n, begin, end
        )


def collect(tuple where, tuple shape, int64_t tokens, int threads):
    """The sum of a token's rows; shape as in `spread`.

    `where` lie rows, weights, or 0 where rows are added as they are, places and sums.
    """
    cdef Job job
    job.count, job.n, job.bf16 = shape
    job.rows, job.weights = where[0], <float *><size_t>where[1]
    job.places, job.out = <const int64_t *><size_t>where[2], where[3]
    with nogil:
        playout_over_rows(_collect, &job, tokens, threads)


cdef void _collect_back(const void *data, int64_t begin, int64_t end) noexcept nogil:
    cdef const Job *j = <const Job *>data
    if j.bf16:
        playout_collect_back_bf16(
            <const playout_bf16 *>j.grad, <const playout_bf16 *>j.rows, j.weights, j.places,
            <playout_bf16 *>j.out, j.by_weights, j.count, j.n, begin, end,
        )
    else:
        playout_collect_back_f32(
            <const float *>j.grad, <const float *>j.rows, j.weights, j.places, <float *>j.out,
            j.by_weights, j.count, j.n, begin, end,
        )


def collect_back(tuple where, tuple shape, int64_t tokens, int threads):
    """The gradients of rows and weights from that of their sums; shape as in `spread`.

    `where` lie the gradient, rows, weights, places, and the gradients of rows and weights.
    """
    cdef Job job
    job.count, job.n, job.bf16 = shape
    job.grad, job.rows, job.weights = where[0], where[1], <float *><size_t>where[2]
    job.places, job.out = <const int64_t *><size_t>where[3], where[4]
    job.by_weights = <float *><size_t>where[5]
    with nogil:
        playout_over_rows(_collect_back, &job, tokens, threads)
