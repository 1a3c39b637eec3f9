# team.h for extensions that cut their work; each of them has a team of its own to set.

from libc.stdint cimport int64_t


cdef extern from "team.h":
    ctypedef void (*playout_kernel)(const void *, int64_t, int64_t) noexcept nogil
    void playout_set_team(size_t, size_t, size_t) noexcept nogil
    void playout_over_rows(playout_kernel, const void *, int64_t, int) noexcept nogil
