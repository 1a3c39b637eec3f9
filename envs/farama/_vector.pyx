"""Rows of one game as environments: the border between GameVectorEnv (game_vector.py) and game_rows.h.

A step is one pass over the rows without the GIL, or two around the calls of a Python opponent. Actions are
checked first of all, against the masks of the step before, so that an illegal one changes nothing.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

cimport numpy as cnp

import numpy as np

from playout.errors import GameError, IllegalActionError

from playout_game cimport PLAYOUT_GAME_CAPSULE, playout_game

cnp.import_array()

cdef extern from "game_rows.h" nogil:
    enum:
        GR_PADDING
    ctypedef struct gr_rows:
        const playout_game *game
        int32_t num_envs
        int32_t mode
        int32_t opponent
        int32_t player
        int32_t limit
        int32_t plane
        uint8_t *states
        uint64_t *seeds
        uint64_t *episodes
        uint64_t *draws
        int32_t *elapsed
        int32_t *players
        int32_t *to_play
        uint8_t *pending
        uint8_t *moved
        float *obs
        float *final_obs
        uint8_t *final_mask
        int32_t *final_to_play
        uint8_t *mask
        uint8_t *legal
        float *rewards
        float *before
        int32_t *movers
        uint8_t *terminations
        uint8_t *truncations
    int32_t gr_first_illegal(const gr_rows *rows, const int32_t *actions)
    int32_t gr_step(const gr_rows *rows, const int32_t *actions)
    void gr_move_all(const gr_rows *rows, const int32_t *actions)
    int32_t gr_end_rows(const gr_rows *rows)
    void gr_play_rows(const gr_rows *r, int32_t count, const int64_t *rows, const int32_t *actions)
    void gr_start_rows(const gr_rows *rows, const uint8_t *where)
    void gr_observe_all(const gr_rows *rows)

MODES = ("NextStep", "SameStep", "Disabled")
OPPONENTS = ("self", "random", "ask")


cdef object padded_rows(num_rows, num_actions):
    """Zeros [num_rows, num_actions] with GR_PADDING bytes after the last row."""
    size = num_rows * num_actions
    return np.zeros(size + GR_PADDING, np.uint8)[:size].reshape(num_rows, num_actions)


cdef class GameRows:
    """B games in progress; the arrays are buffers that every call overwrites.

    Attributes:
        states: uint8 [B, state_size]; seeds, episodes, draws uint64 [B]; elapsed int32 [B]; pending bool [B].
        players: int32 [B], the agent's (-1 in self-play). to_play: int32 [B], -1 where the game is over.
        obs: float32 [B, C, H, W]; mask: int8 [B, A]; with final_: of rows that ended just now (SAME_STEP).
        rewards: float32 [B]. terminations, truncations: bool [B].
    """

    cdef gr_rows c
    cdef readonly object states, seeds, episodes, elapsed, draws, pending, players
    cdef readonly object final_mask, final_to_play
    cdef readonly object obs, final_obs, mask, rewards, terminations, truncations, to_play
    cdef object _capsule, _legal, _held, _moved, _before, _movers

    def __init__(self, capsule, int num_envs, *, str mode, str opponent, int player, int limit):
        cdef const playout_game *game
        game = <const playout_game *>PyCapsule_GetPointer(capsule, PLAYOUT_GAME_CAPSULE)
        shape = (game.obs_shape[0], game.obs_shape[1], game.obs_shape[2])
        self._capsule = capsule
        self.states = np.zeros((num_envs, game.state_size), np.uint8)
        self.seeds = np.zeros(num_envs, np.uint64)
        self.episodes = np.zeros(num_envs, np.uint64)
        self.draws = np.zeros(num_envs, np.uint64)
        self.elapsed = np.zeros(num_envs, np.int32)
        self.pending = np.zeros(num_envs, np.bool_)
        self.players = np.full(num_envs, -1, np.int32)
        self.to_play = np.zeros(num_envs, np.int32)
        self.obs = np.zeros((num_envs, *shape), np.float32)
        self.final_obs = np.zeros((num_envs, *shape), np.float32)
        self.mask = padded_rows(num_envs, game.num_actions).view(np.int8)
        self.final_mask = np.zeros((num_envs, game.num_actions), np.int8)
        self.final_to_play = np.zeros(num_envs, np.int32)
        self.rewards = np.zeros(num_envs, np.float32)
        self.terminations = np.zeros(num_envs, np.bool_)
        self.truncations = np.zeros(num_envs, np.bool_)
        self._legal = padded_rows(num_envs, game.num_actions)
        self._moved = np.zeros(num_envs, np.uint8)
        self._before = np.zeros(num_envs, np.float32)
        self._movers = np.zeros(num_envs, np.int32)
        self.c.game = game
        self.c.num_envs = num_envs
        self.c.mode = MODES.index(mode)
        self.c.opponent = OPPONENTS.index(opponent)
        self.c.player = player
        self.c.limit = limit
        self.c.plane = shape[0] * shape[1] * shape[2]
        self.c.states = <uint8_t *>cnp.PyArray_DATA(self.states)
        self.c.seeds = <uint64_t *>cnp.PyArray_DATA(self.seeds)
        self.c.episodes = <uint64_t *>cnp.PyArray_DATA(self.episodes)
        self.c.draws = <uint64_t *>cnp.PyArray_DATA(self.draws)
        self.c.elapsed = <int32_t *>cnp.PyArray_DATA(self.elapsed)
        self.c.players = <int32_t *>cnp.PyArray_DATA(self.players)
        self.c.to_play = <int32_t *>cnp.PyArray_DATA(self.to_play)
        self.c.pending = <uint8_t *>cnp.PyArray_DATA(self.pending)
        self.c.moved = <uint8_t *>cnp.PyArray_DATA(self._moved)
        self.c.obs = <float *>cnp.PyArray_DATA(self.obs)
        self.c.final_obs = <float *>cnp.PyArray_DATA(self.final_obs)
        self.c.final_mask = <uint8_t *>cnp.PyArray_DATA(self.final_mask)
        self.c.final_to_play = <int32_t *>cnp.PyArray_DATA(self.final_to_play)
        self.c.mask = <uint8_t *>cnp.PyArray_DATA(self.mask)
        self.c.legal = <uint8_t *>cnp.PyArray_DATA(self._legal)
        self.c.rewards = <float *>cnp.PyArray_DATA(self.rewards)
        self.c.before = <float *>cnp.PyArray_DATA(self._before)
        self.c.movers = <int32_t *>cnp.PyArray_DATA(self._movers)
        self.c.terminations = <uint8_t *>cnp.PyArray_DATA(self.terminations)
        self.c.truncations = <uint8_t *>cnp.PyArray_DATA(self.truncations)

    cdef int raise_error(self) except -1:
        """Raises what a game written in Python has kept."""
        return self.c.game.raise_error(self.c.game) if self.c.game.raise_error != NULL else 0

    cdef const int32_t *checked(self, object actions) except NULL:
        """The actions as int32 [B], legal in every row that takes one."""
        cdef const int32_t *data
        cdef int32_t row
        if not cnp.PyArray_Check(actions):
            actions = np.asarray(actions)
        if cnp.PyArray_NDIM(actions) != 1 or cnp.PyArray_DIM(actions, 0) != self.c.num_envs:
            raise ValueError(f"actions must have shape ({self.c.num_envs},), got {np.shape(actions)}")
        if cnp.PyArray_TYPE(actions) != cnp.NPY_INT32 or not cnp.PyArray_ISCARRAY_RO(actions):
            if actions.dtype.kind not in "iu":
                raise TypeError(f"actions must be whole numbers, got dtype {actions.dtype}")
            self._held = np.clip(actions, -1, self.c.game.num_actions).astype(np.int32)
        else:
            self._held = actions
        data = <const int32_t *>cnp.PyArray_DATA(self._held)
        row = gr_first_illegal(&self.c, data)
        if row >= 0:
            legal = np.flatnonzero(self._legal[row]).tolist()
            if not legal:
                raise GameError(f"environment {row}: every game ends before the agent's first move")
            raise IllegalActionError(
                f"environment {row}: action {actions[row]} is not legal here; legal are {legal}"
            )
        return data

    def step(self, actions):
        """All of a step but Python opponents; returns how many rows began anew (SAME_STEP)."""
        cdef const int32_t *data = self.checked(actions)
        cdef int32_t restarted
        with nogil:
            restarted = gr_step(&self.c, data)
        self.raise_error()
        return restarted

    def begin_step(self, actions):
        """The agents' moves; then come reply() for the rows of waiting(), and end_step()."""
        cdef const int32_t *data = self.checked(actions)
        with nogil:
            gr_move_all(&self.c, data)
        self.raise_error()

    def waiting(self):
        """int64 rows where another player than the agent is to move."""
        return np.flatnonzero((self.to_play >= 0) & (self.to_play != self.players))

    def reply(self, const int64_t[::1] rows, const int32_t[::1] actions):
        """Plays an opponent's move, known to be legal, in each of `rows`."""
        with nogil:
            gr_play_rows(&self.c, <int32_t>rows.shape[0], &rows[0], &actions[0])
        self.raise_error()

    def end_step(self):
        """Flags and observations after the replies; returns how many rows began anew (SAME_STEP)."""
        cdef int32_t restarted
        with nogil:
            restarted = gr_end_rows(&self.c)
        self.raise_error()
        return restarted

    def start(self, where):
        """Starts the next episode of rows with `where` bool [B] set; openings of others and show() follow."""
        cdef const uint8_t[::1] chosen = where.view(np.uint8)
        if chosen.shape[0] != self.c.num_envs:
            raise ValueError(f"the mask of rows must have shape ({self.c.num_envs},)")
        with nogil:
            gr_start_rows(&self.c, &chosen[0])
        self.raise_error()

    def show(self):
        """Writes observations, masks and players to move from the states."""
        with nogil:
            gr_observe_all(&self.c)
        self.raise_error()
