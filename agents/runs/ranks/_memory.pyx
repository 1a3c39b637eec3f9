"""Sums over processes through memory that all of them see: each adds up a part, and takes the rest.

The block holds a counter a rank, in cache lines of their own, then a place a rank for its numbers,
then one for sums. A piece of a vector is copied in, all wait, each rank adds up its part in order of
rank, all wait, and the sums are copied out. Nobody writes where another may still read: whoever has
come to a wait has finished what came before it.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #include <sched.h>
    #include <stdint.h>
    #include <time.h>

    static inline void publish(uint64_t *place, uint64_t value) {
        __atomic_store_n(place, value, __ATOMIC_RELEASE);
    }

    static inline uint64_t read_counter(const uint64_t *place) {
        return __atomic_load_n(place, __ATOMIC_ACQUIRE);
    }

    static inline double seconds_now(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    }

    /* Waiting gets cheaper the longer it takes: ranks may be more than cores. */
    static inline void rest(uint64_t times) {
        if (times < 2000) {
    #if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
    #endif
        } else if (times < 20000) {
            sched_yield();
        } else {
            struct timespec pause = {0, times < 30000 ? 100000 : 1000000};
            nanosleep(&pause, NULL);
        }
    }
    """
    void publish(uint64_t *place, uint64_t value) nogil
    uint64_t read_counter(const uint64_t *place) nogil
    double seconds_now() nogil
    void rest(uint64_t times) nogil

ctypedef fused number:
    float
    double
    unsigned char

cdef Py_ssize_t LINE = 64  # bytes


def block_size(int world, Py_ssize_t piece):
    """Bytes of a block for so many ranks and so many bytes of a vector at a time."""
    return LINE * world + piece * (world + 1)


cdef class SharedSum:
    """One rank's side of the block.

    Attributes:
        position: How many numbers of the vector at hand are done.
    """
    cdef unsigned char[::1] block
    cdef unsigned char *counters  # where the block begins
    cdef uint64_t count
    cdef int rank, world, stage
    cdef Py_ssize_t piece
    cdef readonly Py_ssize_t position

    def __init__(self, unsigned char[::1] block, int rank, int world, Py_ssize_t piece):
        """`block` is zeros at first, of `block_size` bytes; `piece` a multiple of 64."""
        if not 0 <= rank < world or piece <= 0 or piece % LINE:
            raise ValueError("no such rank or piece")
        if block.shape[0] < block_size(world, piece):
            raise ValueError("the block is too small")
        self.block, self.rank, self.world, self.piece = block, rank, world, piece
        self.counters = &block[0]

    def add(self, number[::1] vector, double patience):
        """Replace a vector by its sum over all ranks; to be called again until it returns True.

        Args:
            vector: float32, float64 or uint8, of one type and length on all ranks.
            patience: Seconds to wait for the others before it returns False.
        """
        cdef Py_ssize_t size = vector.shape[0]
        cdef number *numbers
        cdef bint done
        if not size:
            return True
        numbers = &vector[0]
        with nogil:
            done = self._pieces(numbers, size, patience)
        return done

    cdef bint _pieces(self, number *vector, Py_ssize_t size, double patience) noexcept nogil:
        cdef Py_ssize_t here, most = self.piece // <Py_ssize_t>sizeof(number)
        while self.position < size:
            here = min(most, size - self.position)
            if not self._piece(vector + self.position, here, patience):
                return False
            self.position = self.position + here
        self.position = 0
        return True

    cdef bint _piece(self, number *vector, Py_ssize_t size, double patience) noexcept nogil:
        cdef unsigned char *places = self.counters + LINE * self.world
        cdef number *sums = <number *>(places + self.piece * self.world)
        cdef number *other
        cdef Py_ssize_t i, begin = size * self.rank // self.world, end = size * (self.rank + 1) // self.world
        cdef int one
        if self.stage == 0:
            memcpy(places + self.piece * self.rank, vector, size * sizeof(number))
            self._arrive()
            self.stage = 1
        if self.stage == 1:
            if not self._wait(patience):
                return False
            memcpy(&sums[begin], (<number *>places) + begin, (end - begin) * sizeof(number))
            for one in range(1, self.world):
                other = <number *>(places + self.piece * one)
                for i in range(begin, end):
                    sums[i] += other[i]
            self._arrive()
            self.stage = 2
        if not self._wait(patience):
            return False
        memcpy(vector, sums, size * sizeof(number))
        self.stage = 0
        return True

    cdef void _arrive(self) noexcept nogil:
        self.count = self.count + 1
        publish(<uint64_t *>(self.counters + LINE * self.rank), self.count)

    cdef bint _wait(self, double patience) noexcept nogil:
        """Whether all ranks have come as far as this one."""
        cdef int one
        cdef uint64_t times = 0
        cdef double until = 0
        for one in range(self.world):
            while read_counter(<uint64_t *>(self.counters + LINE * one)) < self.count:
                rest(times)
                times += 1
                if times % 4096 == 0 or times > 20000:
                    if until == 0:
                        until = seconds_now() + patience
                    elif seconds_now() > until:
                        return False
        return True
