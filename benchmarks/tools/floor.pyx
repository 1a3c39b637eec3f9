"""The processor's best arithmetic rates on one core, for the floors that benchmarks state."""

from libc.stdint cimport int64_t

import time

cdef extern from "floor.h" nogil:
    enum:
        FLOOR_LANES
    int ctl_best_isa()
    ctypedef void (*floor_run)(int64_t rounds, double *out) noexcept nogil
    floor_run floor_multiply_add[3]
    floor_run floor_divide[3]


def arithmetic(int repeats=5):
    """Double precision (multiplications and additions a second, divisions a second)."""
    cdef int isa = ctl_best_isa()
    cdef int64_t rounds = 1_000_000
    cdef double ignored
    add, divide = 0.0, 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        floor_multiply_add[isa](rounds, &ignored)
        add = max(add, 2 * FLOOR_LANES * rounds / (time.perf_counter() - start))
        start = time.perf_counter()
        floor_divide[isa](rounds // 4, &ignored)
        divide = max(divide, FLOOR_LANES * (rounds // 4) / (time.perf_counter() - start))
    return add, divide
