"""The C search behind one class: checks shapes, hands over buffers, releases the GIL for the work.

SearchCore trusts its caller (mcts/search.py) with the meaning of arguments, not with their shapes. States are
rows of bytes that belong to the game; nothing here knows a game's rules beyond its table of functions.
"""
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

import numpy as np

from playout.errors import GameError, IllegalActionError, SearchError


from playout_game cimport (
    PLAYOUT_GAME_ABI,
    PLAYOUT_GAME_CAPSULE,
    PLAYOUT_STEP_REWARDS,
    PLAYOUT_ZERO_SUM,
    playout_game,
)

cdef extern from "tree/result.h" nogil:
    ctypedef struct mcts_config:
        int32_t algorithm, leaves_per_step, max_considered, num_rollouts
        int32_t prove, reuse, count_reused, fpu_parent, rescale, cache_symmetric, dense_edges
        float c_base, c_init, fpu, virtual_loss, dirichlet_alpha, dirichlet_fraction, forced_playouts
        float gumbel_scale, c_visit, c_scale, uct_c
    ctypedef struct mcts_tree:
        uint64_t searches, used, capacity
        int32_t num_nodes
        uint8_t begun, evaluated, done
        int64_t all_sims, hits
    ctypedef struct mcts_cache:
        pass
    ctypedef struct mcts_search:
        mcts_config config
        mcts_tree *trees
        mcts_cache cache
        int32_t num_trees, num_rows, value_width
        float *obs
        uint8_t *mask
        uint8_t *states
        int32_t *to_play
        const float *logits
        const float *values
        int out_of_memory
    ctypedef struct mcts_result:
        float *weights
        float *q
        float *log_prior
        int32_t *visits
        float value
        int32_t action, nodes, proven
    int mcts_search_create(
        mcts_search *, const playout_game *, const mcts_config *, int32_t, int32_t, uint64_t, int64_t)
    void mcts_search_free(mcts_search *)
    void mcts_cache_clear(mcts_cache *)
    size_t mcts_cache_bytes(const mcts_cache *)
    int mcts_begin_tree(mcts_search *, int32_t, const void *, int32_t, int32_t, const uint8_t *)
    int mcts_may_play(const mcts_search *, int32_t, int32_t)
    int mcts_advance_tree(mcts_search *, int32_t, int32_t, int32_t, int32_t)
    int32_t mcts_ask(mcts_search *)
    int32_t mcts_bad_row(mcts_search *)
    int32_t mcts_tell(mcts_search *)
    int32_t mcts_uct(mcts_search *, double)
    void mcts_read_result(const mcts_search *, int32_t, double, mcts_result *)
    int32_t mcts_variation(const mcts_search *, int32_t, int32_t, int32_t *, int32_t)
    void mcts_root_state(const mcts_search *, int32_t, void *)

ALGORITHMS = ("puct", "gumbel", "uct")  # in the order of the numbers in tree/tree.h


cdef const playout_game *table_of(capsule) except NULL:
    cdef const playout_game *game = <const playout_game *>PyCapsule_GetPointer(capsule, PLAYOUT_GAME_CAPSULE)
    if game.abi != PLAYOUT_GAME_ABI:
        raise GameError(f"the game speaks ABI {game.abi}, this search speaks {PLAYOUT_GAME_ABI}: rebuild it")
    return game


cdef class SearchCore:
    """All trees of one Search; rows are indices of trees, arrays are C-contiguous."""

    cdef mcts_search search
    cdef const playout_game *game
    cdef object capsule
    cdef readonly object obs, mask, states, to_play
    cdef readonly bint waiting
    cdef bint created, working

    def __cinit__(self, capsule, config, int32_t num_trees, int32_t threads, uint64_t seed):
        cdef mcts_config c
        cdef int64_t rows = <int64_t>num_trees * <int64_t>config.leaves_per_step
        cdef int64_t cache_size = config.cache_size
        self.capsule = capsule
        self.game = table_of(capsule)
        c.algorithm = ALGORITHMS.index(config.algorithm)
        c.leaves_per_step = config.leaves_per_step
        c.max_considered = config.max_considered
        c.num_rollouts = config.num_rollouts
        c.prove = config.prove and self.game.chance == NULL and self.game.value_scale >= 1 and (
            not self.game.flags & PLAYOUT_STEP_REWARDS) and (
            self.game.num_players == 1 or (self.game.num_players == 2 and self.game.flags & PLAYOUT_ZERO_SUM))
        c.reuse = config.reuse_subtree
        c.count_reused = config.count_reused
        c.fpu_parent = config.fpu_mode == "parent"
        c.rescale = config.rescale_q
        c.cache_symmetric = config.cache_symmetric
        c.dense_edges = config.dense_edges
        c.c_base, c.c_init, c.fpu = config.c_base, config.c_init, config.fpu
        c.virtual_loss = config.virtual_loss
        c.dirichlet_alpha, c.dirichlet_fraction = config.dirichlet_alpha, config.dirichlet_fraction
        c.forced_playouts = config.forced_playouts
        c.gumbel_scale, c.c_visit, c.c_scale, c.uct_c = (
            config.gumbel_scale, config.c_visit, config.c_scale, config.uct_c)
        self.created = True
        if mcts_search_create(&self.search, self.game, &c, num_trees, threads, seed, cache_size):
            raise MemoryError(f"no memory for {num_trees} trees and a cache of {cache_size} positions")
        self.mask = np.zeros((rows, self.game.num_actions), np.uint8)
        self.states = np.zeros((rows, self.game.state_size), np.uint8)
        self.to_play = np.zeros(rows, np.int32)
        self.obs = None
        self.search.mask = <uint8_t *><size_t>self.mask.ctypes.data
        self.search.states = <uint8_t *><size_t>self.states.ctypes.data
        self.search.to_play = <int32_t *><size_t>self.to_play.ctypes.data

    def __dealloc__(self):
        if self.created:
            mcts_search_free(&self.search)

    cdef int enter(self) except -1:
        """Refuses calls from two threads at once, and those between ask and tell."""
        if self.working:
            raise SearchError("this search is at work in another thread: give each thread its own")
        if self.waiting:
            raise SearchError("leaves wait for their evaluations: call tell(), or cancel() to start anew")
        return 0

    cdef int leave(self) except -1:
        self.working = False
        if self.search.out_of_memory:
            self.search.out_of_memory = 0
            raise MemoryError("no memory for the trees: use fewer trees or simulations")
        return 0

    def begin(self, const uint8_t[:, ::1] states, const int32_t[::1] rows, const int32_t[::1] budgets,
              const uint8_t[::1] noise, const uint8_t[:, ::1] allowed=None):
        """New roots for these rows, with the moves allowed by action or all."""
        cdef Py_ssize_t i
        cdef int failed = 0
        cdef bint limited = allowed is not None
        cdef const uint8_t *only = NULL
        self.enter()
        self.working = True
        with nogil:
            for i in range(rows.shape[0]):
                if limited:
                    only = &allowed[i, 0]
                failed |= mcts_begin_tree(&self.search, rows[i], &states[i, 0], budgets[i], noise[i], only)
        self.working = False
        if failed:
            raise MemoryError("no memory for the trees: use fewer trees or simulations")

    def advance(self, const int32_t[::1] actions, const int32_t[::1] rows, const int32_t[::1] budgets,
                const uint8_t[::1] noise):
        """Plays an action at the root of each of these rows; refuses all if one cannot be played."""
        cdef Py_ssize_t i
        cdef int failed = 0
        self.enter()
        for i in range(rows.shape[0]):
            if not self.search.trees[rows[i]].begun:
                raise SearchError(f"row {rows[i]}: no search was begun")
            if not mcts_may_play(&self.search, rows[i], actions[i]):
                raise IllegalActionError(f"row {rows[i]}: action {actions[i]} is not legal at the root")
        self.working = True
        with nogil:
            for i in range(rows.shape[0]):
                failed |= mcts_advance_tree(&self.search, rows[i], actions[i], budgets[i], noise[i])
        self.working = False
        if failed:
            raise MemoryError("no memory for the trees: use fewer trees or simulations")

    def ask(self, bint observe):
        """One step; returns how many rows of the buffers are to be evaluated."""
        cdef int32_t rows
        self.enter()
        if observe and self.obs is None:
            self.obs = np.zeros((len(self.to_play), self.game.obs_shape[0], self.game.obs_shape[1],
                                 self.game.obs_shape[2]), np.float32)
        self.search.obs = <float *><size_t>self.obs.ctypes.data if observe else NULL
        self.working = True
        with nogil:
            rows = mcts_ask(&self.search)
        self.waiting = rows > 0
        self.leave()
        return rows

    def tell(self, const float[:, ::1] logits, const float[:, ::1] values):
        """Evaluations of the rows that ask() gave: (first row that is not finite or -1, trees not done)."""
        cdef int32_t bad, left = 0
        self.search.logits = &logits[0, 0]
        self.search.values = &values[0, 0]
        self.search.value_width = <int32_t>values.shape[1]
        if self.working:
            raise SearchError("this search is at work in another thread: give each thread its own")
        self.working = True
        with nogil:
            bad = mcts_bad_row(&self.search)
            if bad < 0:
                left = mcts_tell(&self.search)
        self.working = False
        self.waiting = bad >= 0
        return bad, left

    def cancel(self):
        """Forgets all searches under way; every row must be begun again."""
        for i in range(self.search.num_trees):
            self.search.trees[i].begun = 0
        self.waiting = False

    def rollouts(self, double seconds):
        """Searches with rollouts for about this time; returns how many trees are left to do."""
        cdef int32_t left
        self.enter()
        self.working = True
        with nogil:
            left = mcts_uct(&self.search, seconds)
        self.leave()
        PyErr_CheckSignals()
        return left

    def result(self, const int32_t[::1] rows, const double[::1] temperatures):
        """Arrays (action, weights, visits, q, value, proven, nodes, log_prior) for these rows."""
        cdef Py_ssize_t i, n = rows.shape[0], actions = self.game.num_actions
        cdef mcts_result one
        self.enter()
        for i in range(n):
            if not self.search.trees[rows[i]].begun or not self.search.trees[rows[i]].evaluated:
                raise SearchError(f"row {rows[i]}: nothing searched yet, call begin(), then ask() and tell()")
        weights, q = np.zeros((n, actions), np.float32), np.zeros((n, actions), np.float32)
        log_prior = np.full((n, actions), -np.inf, np.float32)
        visits, action = np.zeros((n, actions), np.int32), np.zeros(n, np.int32)
        value, nodes, proven = np.zeros(n, np.float32), np.zeros(n, np.int32), np.zeros(n, np.int8)
        cdef float[:, ::1] weights_, q_, log_prior_
        cdef int32_t[:, ::1] visits_
        weights_, q_, log_prior_, visits_ = weights, q, log_prior, visits
        cdef float[::1] value_ = value
        cdef int32_t[::1] action_ = action, nodes_ = nodes
        cdef signed char[::1] proven_ = proven
        with nogil:
            for i in range(n):
                one.weights, one.q, one.log_prior = &weights_[i, 0], &q_[i, 0], &log_prior_[i, 0]
                one.visits = &visits_[i, 0]
                mcts_read_result(&self.search, rows[i], temperatures[i], &one)
                action_[i], value_[i], nodes_[i] = one.action, one.value, one.nodes
                proven_[i] = <signed char>one.proven
        return action, weights, visits, q, value, proven, nodes, log_prior

    def variation(self, int32_t row, int32_t action, int32_t size):
        """The expected line that begins with `action`."""
        line = np.zeros(max(size, 1), np.int32)
        cdef int32_t[::1] line_ = line
        cdef int32_t length = mcts_variation(&self.search, row, action, &line_[0], size)
        return line[:length].tolist()

    def root_states(self):
        """The positions at the roots, uint8 [B, state_size]."""
        out = np.zeros((self.search.num_trees, self.game.state_size), np.uint8)
        cdef uint8_t[:, ::1] out_ = out
        for i in range(self.search.num_trees):
            if not self.search.trees[i].begun:
                raise SearchError(f"row {i}: no search was begun, so there is no position: call begin()")
            mcts_root_state(&self.search, i, &out_[i, 0])
        return out

    def field(self, name):
        """One number a tree: "done", "begun", "searches", "sims", "hits" or "bytes"."""
        cdef int32_t i, n = self.search.num_trees
        out = np.zeros(n, np.int64)
        cdef int64_t[::1] out_ = out
        cdef int which = ("done", "begun", "searches", "sims", "hits", "bytes").index(name)
        for i in range(n):
            if which == 0:
                out_[i] = self.search.trees[i].done or not self.search.trees[i].begun
            elif which == 1:
                out_[i] = self.search.trees[i].begun
            elif which == 2:
                out_[i] = <int64_t>self.search.trees[i].searches
            elif which == 3:
                out_[i] = self.search.trees[i].all_sims
            elif which == 4:
                out_[i] = self.search.trees[i].hits
            else:
                out_[i] = <int64_t>self.search.trees[i].capacity * 64
        return out

    def set_searches(self, const int64_t[::1] counts):
        """Sets the counters that name the random streams."""
        cdef int32_t i
        for i in range(self.search.num_trees):
            self.search.trees[i].searches = <uint64_t>counts[i]

    def cache_bytes(self):
        """Bytes that the cache takes when it is full."""
        return mcts_cache_bytes(&self.search.cache)

    def clear_cache(self):
        """Forgets all remembered evaluations."""
        mcts_cache_clear(&self.search.cache)
