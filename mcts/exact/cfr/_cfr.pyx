"""The tree of a small game (tree.h), and passes over it (sweep.h), for solver.py and policy.py."""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

import numpy as np

from playout.errors import ConfigError, GameError

from playout_game cimport PLAYOUT_GAME_CAPSULE, playout_game

cdef extern from "sweep.h" nogil:
    enum:
        CFR_OK
        CFR_NO_MEMORY
        CFR_TOO_LARGE
        CFR_ACTIONS
    ctypedef struct cfr_info:
        uint64_t key
        int32_t player, slot, count
    ctypedef struct cfr_tree:
        int64_t num_nodes, num_infos, num_slots, num_ends, num_chance
        cfr_info *infos
        int32_t *slot_actions
        uint8_t *info_states
    ctypedef struct cfr_scratch:
        double *others
        double *own
        double *value
        int32_t *best
        int32_t *stack
    int cfr_build(cfr_tree *t, const playout_game *game, int64_t limit)
    void cfr_free(cfr_tree *t)
    double cfr_expect(const cfr_tree *t, int32_t player, const double *policy, cfr_scratch *s)
    void cfr_iterate(const cfr_tree *t, double weight, double *policy, double *regrets, double *sums,
                     cfr_scratch *s)
    double cfr_best_response(const cfr_tree *t, int32_t player, const double *policy, cfr_scratch *s)


ctypedef double (*cfr_result)(const cfr_tree *, int32_t, const double *, cfr_scratch *) noexcept nogil


cdef class Tree:
    """All histories of a game, and its information sets; one call at a time.

    Attributes:
        counts: (chance nodes, decisions, ends).
        players: int32 [I], whose information set it is.
        slots: int32 [I + 1], where its actions begin among all slots.
        actions: int32 [S].
        keys: uint64 [I], as `key_of` makes them.
        states: uint8 [I, state_size], one state of each.
    """

    cdef cfr_tree tree
    cdef cfr_scratch scratch
    cdef object capsule
    cdef int32_t num_players
    cdef readonly tuple counts
    cdef readonly object players, slots, actions, keys, states

    def __init__(self, object capsule, *, int64_t max_histories):
        """Walks through the game.

        Raises:
            ConfigError: There are more histories. GameError: Keys of information are contradictory.
        """
        cdef const playout_game *game
        cdef int code
        game = <const playout_game *>PyCapsule_GetPointer(capsule, PLAYOUT_GAME_CAPSULE)
        self.capsule, self.num_players = capsule, game.num_players
        with nogil:
            code = cfr_build(&self.tree, game, max_histories)
        if game.raise_error != NULL:
            game.raise_error(game)
        name = game.name.decode()
        if code == CFR_NO_MEMORY:
            raise MemoryError
        if code == CFR_TOO_LARGE:
            raise ConfigError(f"{name} has more than {max_histories:,} histories, too many to go through")
        if code == CFR_ACTIONS:
            raise GameError(f"{name}: states with the same info_key() have different legal actions")
        if code != CFR_OK:
            raise GameError(f"{name}: info_key() forgets what a player knew or did before")
        self.scratch.others = <double *>PyMem_Calloc(self.tree.num_nodes, sizeof(double))
        self.scratch.own = <double *>PyMem_Calloc(self.tree.num_nodes, sizeof(double))
        self.scratch.value = <double *>PyMem_Calloc(self.tree.num_nodes, sizeof(double))
        self.scratch.best = <int32_t *>PyMem_Calloc(self.tree.num_infos + 1, sizeof(int32_t))
        self.scratch.stack = <int32_t *>PyMem_Calloc(self.tree.num_nodes, sizeof(int32_t))
        if not (self.scratch.others and self.scratch.own and self.scratch.value and self.scratch.best
                and self.scratch.stack):
            raise MemoryError
        self.describe(game.state_size)

    def __dealloc__(self):
        cfr_free(&self.tree)
        PyMem_Free(self.scratch.others)
        PyMem_Free(self.scratch.own)
        PyMem_Free(self.scratch.value)
        PyMem_Free(self.scratch.best)
        PyMem_Free(self.scratch.stack)

    cdef int describe(self, int32_t state_size) except -1:
        cdef int64_t infos = self.tree.num_infos, slots = self.tree.num_slots, k
        cdef int32_t[::1] players = np.empty(infos, np.int32), begins = np.empty(infos + 1, np.int32)
        cdef uint64_t[::1] keys = np.empty(infos, np.uint64)
        cdef int32_t[::1] actions = np.empty(slots, np.int32)
        cdef uint8_t[:, ::1] states = np.empty((infos, state_size), np.uint8)
        for k in range(infos):
            players[k], begins[k] = self.tree.infos[k].player, self.tree.infos[k].slot
            keys[k] = self.tree.infos[k].key
        begins[infos] = <int32_t>slots
        if infos:
            memcpy(&actions[0], self.tree.slot_actions, slots * sizeof(int32_t))
            memcpy(&states[0, 0], self.tree.info_states, infos * state_size)
        decisions = self.tree.num_nodes - self.tree.num_ends - self.tree.num_chance
        self.counts = (self.tree.num_chance, decisions, self.tree.num_ends)
        self.players, self.slots, self.keys = np.asarray(players), np.asarray(begins), np.asarray(keys)
        self.actions, self.states = np.asarray(actions), np.asarray(states)
        return 0

    cdef int need(self, const double[::1] policy) except -1:
        if policy.shape[0] != self.tree.num_slots:
            raise ValueError(f"a policy has {self.tree.num_slots} numbers here, not {policy.shape[0]}")
        return 0

    def iterate(self, double[::1] policy, double[::1] regrets, double[::1] sums, *, int64_t first,
                int64_t count):
        """CFR+ iterations number first, first + 1, ...; all three arrays [S] are changed.

        Args:
            policy: The newest policy.
            regrets: Of every action, cut at 0.
            sums: The policies so far, each times its iteration and the own probability of coming there.
            first: Number of the first iteration, from 1 up.
            count: How many.
        """
        cdef int64_t k
        self.need(policy)
        self.need(regrets)
        self.need(sums)
        if self.tree.num_slots == 0:
            return
        with nogil:
            for k in range(count):
                cfr_iterate(&self.tree, <double>(first + k), &policy[0], &regrets[0], &sums[0], &self.scratch)

    cdef object of_players(self, cfr_result result, const double[::1] policy):
        """float64 [P]: every player's `result` where the others play `policy` [S]."""
        cdef double[::1] out = np.zeros(self.num_players)
        cdef const double *given = NULL
        cdef int32_t player
        self.need(policy)
        if policy.shape[0]:
            given = &policy[0]
        for player in range(self.num_players):
            with nogil:
                out[player] = result(&self.tree, player, given, &self.scratch)
        return np.asarray(out)

    def values(self, const double[::1] policy):
        """float64 [P]: every player's expected result where all play `policy` [S]."""
        return self.of_players(cfr_expect, policy)

    def best_responses(self, const double[::1] policy):
        """float64 [P]: what each player gets where it alone answers `policy` [S] as well as can be."""
        return self.of_players(cfr_best_response, policy)
