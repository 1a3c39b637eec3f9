"""Python's door to the Connect Four solver of solver.h: bitboards in, scores out.

A call works on its own copy of the solver and shares only the transposition table, so calls may run on
several threads at once. The GIL is released; Ctrl-C is noticed some times a second. Python reaches
it through engine.py.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport log2
from libc.stdint cimport int8_t, uint64_t
from libc.string cimport memset

from playout.errors import GameError


cdef extern from "solver.h" nogil:
    ctypedef struct c4_table:
        uint64_t *words
        uint64_t clusters_mask
    ctypedef struct c4_solver:
        int width
        int height
        uint64_t board
        uint64_t bottom
        c4_table *table
        uint64_t nodes
        uint64_t max_nodes
        int stopped
        int (*poll)(void *data) noexcept nogil
        void *poll_data
    int c4_table_open(c4_table *table, int width, int height, uint64_t num_bytes)
    void c4_table_close(c4_table *table)
    void c4_solver_open(c4_solver *solver, int width, int height, c4_table *table)
    int c4_score(c4_solver *solver, uint64_t own, uint64_t all, int alpha, int beta)
    void c4_score_moves(c4_solver *solver, uint64_t own, uint64_t all, int outcome, int8_t *scores)
    int C4_MAX_WIDTH


cdef extern from *:
    int popcount "__builtin_popcountll"(uint64_t word) noexcept nogil


cdef enum:
    GIVEN_UP = 127


cdef int poll(void *data) noexcept nogil:
    """Asks Python whether Ctrl-C was pressed, and the solver whether stop() was called."""
    with gil:
        return (<ConnectFourSolver>data)._must_stop()


cdef class ConnectFourSolver:
    """Exact scores of Connect Four positions, four in a row, on a board of the given size.

    Args:
        width: Columns, 1 to 32.
        height: Rows; width * (height + 1) must not exceed 64.
        table_mb: Size of the transposition table in MiB, rounded down to a power of two.
        max_nodes: Gives up on a position after so many nodes; 0 never does.
    """

    cdef c4_table table
    cdef c4_solver prepared
    cdef uint64_t max_nodes
    cdef object pending
    cdef bint stopping
    cdef readonly object nodes

    def __cinit__(self, int width, int height, *, int table_mb=64, uint64_t max_nodes=0):
        if not (1 <= width <= C4_MAX_WIDTH and 1 <= height and width * (height + 1) <= 64):
            raise ValueError(f"a board of {width}x{height} does not fit: width * (height + 1) is above 64")
        if not 1 <= table_mb <= 1 << 20:
            raise ValueError(f"table_mb must be from 1 to {1 << 20}, not {table_mb}")
        if c4_table_open(&self.table, width, height, <uint64_t>table_mb << 20) != 0:
            raise MemoryError(f"no memory for a table of {table_mb} MiB")
        c4_solver_open(&self.prepared, width, height, &self.table)
        self.prepared.poll = poll
        self.prepared.poll_data = <void *>self
        self.max_nodes = max_nodes
        self.nodes = 0

    def __dealloc__(self):
        c4_table_close(&self.table)

    cdef int _must_stop(self) noexcept:
        try:
            PyErr_CheckSignals()
        except BaseException as error:
            self.pending = error
            self.stopping = True
        return self.stopping

    def stop(self):
        """Makes the calls that run now on other threads give up; they raise InterruptedError."""
        self.stopping = True

    def clear(self):
        """Forgets everything: the next answer takes as long as the first."""
        memset(self.table.words, 0, (self.table.clusters_mask + 1) * 64)
        self.nodes = 0

    def score(self, uint64_t own, uint64_t all, int alpha=-64, int beta=64):
        """The score for the side to move, clipped to [alpha, beta].

        Args:
            own: Stones of the side to move; bit column * (height + 1) + row, row 0 at the bottom.
            all: Stones of both sides. The position must not be over.
            alpha: Lower end of what is asked.
            beta: Upper end; (-1, 1) asks for the outcome alone.
        """
        cdef c4_solver solver = self.prepared
        cdef int value
        self._check(own, all)
        if alpha >= beta:
            raise ValueError(f"alpha must be below beta, not {alpha} and {beta}")
        self.stopping = False
        solver.max_nodes = self.max_nodes
        with nogil:
            value = c4_score(&solver, own, all, alpha, beta)
        self._finish(solver.nodes, solver.stopped)
        return value

    def score_moves(self, const uint64_t[::1] own, const uint64_t[::1] all, int8_t[:, ::1] out, *,
                    bint outcome=False):
        """Scores every move of many positions.

        Args:
            own: Stones of the side to move, [B].
            all: Stones of both sides, [B].
            out: Receives the scores for the side to move after each move, [B, width]; -128 in full columns.
            outcome: Only -1, 0 or 1 is wanted, which is much quicker.
        """
        cdef Py_ssize_t row, num_rows = own.shape[0]
        cdef c4_solver solver = self.prepared
        if all.shape[0] != num_rows or out.shape[0] != num_rows or out.shape[1] != solver.width:
            raise ValueError(f"expected arrays of {num_rows} positions and {solver.width} columns")
        for row in range(num_rows):
            self._check(own[row], all[row])
        self.stopping = False
        with nogil:
            for row in range(num_rows):
                if self.max_nodes:
                    solver.max_nodes = solver.nodes + self.max_nodes
                c4_score_moves(&solver, own[row], all[row], outcome, &out[row, 0])
                if solver.stopped:
                    break
        self._finish(solver.nodes, solver.stopped)

    def prove(self, const uint64_t[::1] own, const uint64_t[::1] all, int8_t[:, ::1] out, *,
              uint64_t max_nodes):
        """The outcome of every move of many positions, each proven for itself with little effort.

        Args:
            own: Stones of the side to move, [B].
            all: Stones of both sides, [B].
            out: Receives -1, 0 or 1 for the side to move, [B, width]; -128 in full columns, 127 in all
                columns of positions that were given up.
            max_nodes: Gives up on a position after so many nodes.
        """
        cdef Py_ssize_t row, num_rows = own.shape[0]
        cdef c4_table table
        cdef c4_solver solver = self.prepared
        # More empty cells are hardly ever searched within max_nodes: not worth the attempt.
        cdef int most_left = 14 + <int>(1.5 * log2(1.0 + max_nodes))
        if all.shape[0] != num_rows or out.shape[0] != num_rows or out.shape[1] != solver.width:
            raise ValueError(f"expected arrays of {num_rows} positions and {solver.width} columns")
        for row in range(num_rows):
            self._check(own[row], all[row])
        # Each position finds an empty table, so that its answer depends on nothing else.
        if c4_table_open(&table, solver.width, solver.height, 16 * max_nodes) != 0:
            raise MemoryError("no memory for a table")
        solver.poll = NULL
        solver.table = &table
        with nogil:
            for row in range(num_rows):
                solver.stopped = popcount(solver.board & ~all[row]) > most_left
                if not solver.stopped:
                    memset(table.words, 0, (table.clusters_mask + 1) * 64)
                    solver.nodes, solver.max_nodes = 0, max_nodes
                    c4_score_moves(&solver, own[row], all[row], True, &out[row, 0])
                if solver.stopped:
                    memset(&out[row, 0], GIVEN_UP, solver.width)
        c4_table_close(&table)

    cdef int _check(self, uint64_t own, uint64_t all) except -1:
        """Stones on the board, without gaps below them; whether play can reach them is not asked."""
        cdef uint64_t board = self.prepared.board, bottom = self.prepared.bottom
        # Added to the lowest cells, a column without gaps carries into one single bit just above its stones.
        if own & ~all or all & ~board or (all + bottom) & all:
            raise ValueError(f"stones {own:#x} of {all:#x} are not a position of this board")
        return 0

    cdef int _finish(self, uint64_t nodes, int stopped) except -1:
        self.nodes += nodes
        if self.stopping:
            error, self.pending = self.pending, None
            raise error if error is not None else InterruptedError("the solver was stopped")
        if stopped:
            raise GameError(f"the solver gave up on a position after {self.max_nodes} nodes")
        return 0
