"""Python's door to the Hex solver of search.h: sets of stones in, outcomes out.

The GIL is released while it searches; Ctrl-C is noticed some times a second. One solver serves one
call at a time; Python reaches it through engine.py.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int8_t, uint64_t
from libc.stdlib cimport free, malloc

from playout.errors import GameError


cdef extern from "search.h" nogil:
    ctypedef struct hexs_entry:
        pass
    ctypedef struct hexs_solver:
        uint64_t nodes
        uint64_t max_nodes
        int stopped
        int (*poll)(void *data) noexcept nogil
        void *poll_data
    int hexs_open(hexs_solver *solver, int size, uint64_t entries)
    void hexs_close(hexs_solver *solver)
    void hexs_clear(hexs_solver *solver)
    void hexs_score_state(hexs_solver *solver, uint64_t first, uint64_t second, int turn, int swap,
                          int8_t illegal, int8_t unknown, int8_t *out)
    int HEXS_MAX_SIZE


cdef enum:
    ILLEGAL = -128
    GIVEN_UP = 127


cdef int poll(void *data) noexcept nogil:
    """Asks Python whether Ctrl-C was pressed, and the solver whether stop() was called."""
    with gil:
        return (<HexSolver>data)._must_stop()


cdef class HexSolver:
    """Who wins positions of Hex, and by which moves.

    Args:
        size: Cells a side, 2 to 8.
        entries: Positions that the table holds, rounded down to a power of two.
        swap: The second player may take over the first stone.
    """

    cdef hexs_solver *solver
    cdef int size, swap
    cdef object pending
    cdef bint stopping

    def __cinit__(self, int size, uint64_t entries, bint swap=False):
        if not 2 <= size <= HEXS_MAX_SIZE:
            raise ValueError(f"size must be 2 to {HEXS_MAX_SIZE}, not {size}")
        self.solver = <hexs_solver *>malloc(sizeof(hexs_solver))
        if self.solver == NULL or hexs_open(self.solver, size, entries) != 0:
            free(self.solver)
            self.solver = NULL
            raise MemoryError(f"no memory for a table of {entries} positions")
        self.solver.poll = poll
        self.solver.poll_data = <void *>self
        self.size, self.swap = size, swap

    def __dealloc__(self):
        if self.solver != NULL:
            hexs_close(self.solver)
            free(self.solver)

    cdef int _must_stop(self) noexcept:
        try:
            PyErr_CheckSignals()
        except BaseException as error:
            self.pending = error
            self.stopping = True
        return self.stopping

    @property
    def nodes(self):
        """Work done so far, in units that take about as long as a position of alpha-beta."""
        return self.solver.nodes

    def stop(self):
        """Makes the call that runs now on another thread give up; it raises InterruptedError."""
        self.stopping = True

    def clear(self):
        """Forgets everything, and counts nodes from 0."""
        hexs_clear(self.solver)
        self.solver.nodes = 0

    def score_moves(self, const uint64_t[::1] first, const uint64_t[::1] second, const int8_t[::1] turn,
                    int8_t[:, ::1] out, *, uint64_t max_nodes, bint each):
        """The outcome of every move of many positions, none of which is over.

        Args:
            first: Stones of the first player, [B]; cell 0 is the lowest bit.
            second: Stones of the second player, [B].
            turn: Who is to move, [B].
            out: Receives 1 or -1 for the side to move, [B, cells]; -128 where a move is illegal.
            max_nodes: The effort for each position; 0 for no limit.
            each: Answers depend on nothing but the position: the table is emptied before each, and moves that
                are not found out within the limit are 127. Otherwise the limit raises a GameError.
        """
        cdef Py_ssize_t row, num_rows = first.shape[0]
        if second.shape[0] != num_rows or turn.shape[0] != num_rows or out.shape[0] != num_rows:
            raise ValueError(f"expected arrays of {num_rows} positions")
        if out.shape[1] != self.size * self.size:
            raise ValueError(f"expected {self.size * self.size} cells, not {out.shape[1]}")
        self.stopping = False
        with nogil:
            for row in range(num_rows):
                if each:
                    hexs_clear(self.solver)
                self.solver.stopped = 0
                self.solver.max_nodes = self.solver.nodes + max_nodes if max_nodes else 0
                hexs_score_state(self.solver, first[row], second[row], turn[row], self.swap,
                                 ILLEGAL, GIVEN_UP, &out[row, 0])
                if self.stopping or (self.solver.stopped and not each):
                    break
        if self.stopping:
            error, self.pending = self.pending, None
            raise error if error is not None else InterruptedError("the solver was stopped")
        if self.solver.stopped and not each:
            raise GameError(f"the solver gave up on a position after {max_nodes} nodes")
