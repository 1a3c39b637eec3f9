"""Alpha-beta over a game's function table: exact on small games, to a given depth on others.

Two players, what one gains the other loses; sides need not alternate. Values are in [-1, 1] for the side to
move, in units of the game's value_scale. A transposition table (alphabeta_table.h) keeps bounds and best
actions by the game's own hash. Actions are tried in this order: the table's, the one that refuted a sibling
position, then by how often they refuted elsewhere. Not for games with chance. Used by alphabeta.py.
"""

from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport NAN
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from playout_game cimport (
    PLAYOUT_CHANCE,
    PLAYOUT_GAME_CAPSULE,
    PLAYOUT_MAX_LEGAL,
    PLAYOUT_MAX_PLAYERS,
    PLAYOUT_TERMINAL,
    playout_finish,
    playout_game,
    playout_rng,
    playout_rng_stream,
)

from playout.errors import GameError

cdef enum:
    EXACT_DEPTH = 30000
    POLL_AFTER = 1 << 16  # units of work; a node is one
    ROLLOUT_WORK = 16  # a random game takes as long as some nodes
    STOPPED = 1
    CHANCE_NODE = 2
    NOT_ZERO_SUM = 3
    TOO_MANY = 4
    TOO_LONG = 5

cdef extern from "alphabeta_table.h" nogil:
    ctypedef struct ab_entry:
        pass
    uint64_t ab_pack(float value, int32_t depth, int32_t action, int32_t kind)
    float ab_value(uint64_t fact)
    int32_t ab_action(uint64_t fact)
    uint64_t ab_recall(ab_entry *table, uint64_t mask, uint64_t key, int32_t depth)
    void ab_remember(ab_entry *table, uint64_t mask, uint64_t key, uint64_t fact)
    int32_t AB_LOWER, AB_UPPER

# A search under way. States and lists of actions are one a ply, allocated beforehand.
cdef struct Search:
    const playout_game *game
    ab_entry *table
    uint64_t mask
    uint8_t *states   # [max_ply + 3, state_size]
    int32_t *actions  # [max_ply + 3, A]
    int32_t *killers  # [max_ply + 3]
    int32_t *history  # [2, A]
    uint64_t nodes
    uint64_t work  # since the last poll
    uint64_t max_nodes
    uint64_t seed
    int32_t rollouts
    int32_t fault
    int32_t max_ply
    void *owner


cdef int poll(Search *s) noexcept nogil:
    s.work = 0
    with gil:
        return (<AlphaBetaCore>s.owner)._must_stop()


cdef float horizon(Search *s, uint8_t *state, int32_t player) noexcept nogil:
    """The guess where depth ends: 0, or the mean of random games numbered by the position's hash."""
    cdef float[PLAYOUT_MAX_PLAYERS] values
    cdef const playout_game *game = s.game
    cdef playout_rng rng
    cdef int32_t _i
    cdef float total = 0
    if s.rollouts == 0:
        return 0
    rng = playout_rng_stream(s.seed, game.hash(game, state))
    cdef uint8_t *scratch = state + game.state_size  # the next ply's place, free here
    for _i in range(s.rollouts):
        memcpy(scratch, state, game.state_size)
        playout_finish(game, scratch, &rng, values)
        total += values[player]
    return total / s.rollouts / <float>game.value_scale


cdef void order(Search *s, int32_t *actions, int32_t count, int32_t first, int32_t second,
                int32_t player) noexcept nogil:
    """Sorts actions, in place: `first`, `second`, then by past success."""
    cdef int32_t i, j, action
    cdef int64_t rank
    cdef const int32_t *history = s.history + player * s.game.num_actions
    for i in range(1, count):
        action = actions[i]
        rank = rank_of(history, action, first, second)
        j = i
        while j > 0 and rank_of(history, actions[j - 1], first, second) < rank:
            actions[j] = actions[j - 1]
            j -= 1
        actions[j] = action


cdef inline int64_t rank_of(const int32_t *history, int32_t action, int32_t first,
                            int32_t second) noexcept nogil:
    if action == first:
        return 1 << 40
    if action == second:
        return 1 << 39
    return history[action]


cdef float leaf(Search *s, const uint8_t *state, int32_t player) noexcept nogil:
    """The result of a finished game for `player`, in units of value_scale."""
    cdef float[PLAYOUT_MAX_PLAYERS] values
    s.game.returns(s.game, state, values)
    if values[0] + values[1] > 1e-6 or values[0] + values[1] < -1e-6:
        s.fault = NOT_ZERO_SUM
    return values[player] / <float>s.game.value_scale


cdef float best_known(Search *s, const uint8_t *state, uint8_t *child, const int32_t *actions, int32_t count,
                      int32_t player, int32_t deeper) noexcept nogil:
    """What one action surely brings, by ending the game or by what is known of its child; -2 if nothing."""
    cdef const playout_game *game = s.game
    cdef int32_t i, next_player
    cdef uint64_t fact
    cdef float value, best = -2
    for i in range(count):
        memcpy(child, state, game.state_size)
        game.apply(game, child, actions[i])
        next_player = game.to_play(game, child)
        if next_player == PLAYOUT_TERMINAL:
            value = leaf(s, child, player)
        else:
            fact = ab_recall(s.table, s.mask, game.hash(game, child), deeper)
            if next_player == player and fact & AB_LOWER:
                value = ab_value(fact)
            elif next_player == 1 - player and fact & AB_UPPER:
                value = -ab_value(fact)
            else:
                continue
        best = max(best, value)
        if best >= 1:
            break
    return best


cdef float negamax(Search *s, int32_t ply, int32_t player, int32_t depth, float alpha,
                   float beta) noexcept nogil:
    """The value of states[ply] for `player`, whose turn it is: exact inside (alpha, beta), else a bound."""
    cdef const playout_game *game = s.game
    cdef uint8_t *state = s.states + <size_t>ply * game.state_size
    cdef uint8_t *child = state + game.state_size
    cdef int32_t *actions = s.actions + <size_t>ply * game.num_actions
    cdef int32_t count, i, next_player, kind
    cdef int32_t best_action = -1, known_action = -1
    cdef float value, best = -2, low = alpha
    cdef uint64_t key, fact
    # To the end of the game the depth is no part of the question; a guess belongs to its depth.
    cdef int32_t deeper = depth if depth == EXACT_DEPTH else depth - 1
    s.nodes += 1
    s.work += 1 if depth else 1 + ROLLOUT_WORK * <uint64_t>s.rollouts
    if s.work > POLL_AFTER and poll(s):
        s.fault = STOPPED
    if s.nodes == s.max_nodes:
        s.fault = TOO_MANY
    if ply > s.max_ply:
        s.fault = TOO_LONG
    if s.fault:
        return 0
    if depth == 0:
        return horizon(s, state, player)

    key = game.hash(game, state)
    fact = ab_recall(s.table, s.mask, key, depth)
    if fact & 3:
        value = ab_value(fact)
        kind = fact & 3
        if kind == (AB_LOWER | AB_UPPER):
            return value
        if (kind & AB_LOWER and value >= beta) or (kind & AB_UPPER and value <= alpha):
            return value
        known_action = ab_action(fact)

    count = game.legal(game, state, actions)
    if deeper > 0:
        value = best_known(s, state, child, actions, count, player, deeper)
        if value >= beta or s.fault:
            return value
    order(s, actions, count, known_action, s.killers[ply], player)
    for i in range(count):
        memcpy(child, state, game.state_size)
        game.apply(game, child, actions[i])
        next_player = game.to_play(game, child)
        if next_player == PLAYOUT_TERMINAL:
            value = leaf(s, child, player)
        elif next_player == PLAYOUT_CHANCE:
            s.fault = CHANCE_NODE
            return 0
        elif next_player == player:
            value = negamax(s, ply + 1, player, deeper, low, beta)
        else:
            value = -negamax(s, ply + 1, next_player, deeper, -beta, -low)
        if s.fault:
            return 0
        if value > best:
            best = value
            best_action = actions[i]
            low = max(low, best)
            if best >= beta:
                s.killers[ply] = best_action
                if s.history[player * game.num_actions + best_action] < 1 << 30:
                    s.history[player * game.num_actions + best_action] += 1 + min(depth, 64)
                break

    kind = (AB_LOWER if best > alpha else 0) | (AB_UPPER if best < beta else 0)
    ab_remember(s.table, s.mask, key, ab_pack(best, depth, best_action, kind))
    return best


cdef class AlphaBetaCore:
    """Alpha-beta over the table of a game of two players.

    Args:
        capsule: The game's capsule.
        table_mb: Size of the transposition table in MiB.
        max_nodes: Gives up on a position after so many nodes; 0 never does.
    """

    cdef object capsule
    cdef object pending
    cdef bint stopping
    cdef Search prepared
    cdef tuple guess  # what the guesses in the table were made of
    cdef readonly uint64_t nodes

    def __cinit__(self, object capsule, *, unsigned int table_mb=64, uint64_t max_nodes=0):
        cdef const playout_game *game
        cdef uint64_t size = 1 << 10
        game = <const playout_game *>PyCapsule_GetPointer(capsule, PLAYOUT_GAME_CAPSULE)
        self.capsule = capsule
        if game.num_players != 2:
            raise ValueError(f"alpha-beta needs two players, this game has {game.num_players}")
        while size * 2 * sizeof(ab_entry) <= <uint64_t>table_mb << 20:
            size *= 2
        self.prepared.game = game
        self.prepared.mask = size - 1
        self.prepared.max_nodes = max_nodes
        self.prepared.owner = <void *>self
        self.prepared.table = <ab_entry *>calloc(size, sizeof(ab_entry))
        if self.prepared.table == NULL:
            raise MemoryError(f"no memory for a table of {table_mb} MiB")

    def __dealloc__(self):
        free(self.prepared.table)

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
        """Forgets everything."""
        memset(self.prepared.table, 0, (self.prepared.mask + 1) * sizeof(ab_entry))
        self.nodes = 0
        self.guess = None

    def solve(self, const uint8_t[:, ::1] states, float[:, ::1] out, *, int depth=-1, int rollouts=0,
              uint64_t seed=0, uint64_t give_up=0):
        """The value for the side to move after each action of many positions.

        Args:
            states: States, [B, state_size].
            out: Receives the values, [B, A]; NaN where an action is not legal.
            depth: Plies to look ahead, the action itself included; -1 looks to the end of the game.
            rollouts: Random games that judge a position at the horizon; without any it counts as 0.
            seed: Numbers those games.
            give_up: Leaves a position after so many nodes, with NaN in its whole row; 0 never does.
        """
        if depth >= 0 and self.guess != (rollouts, seed):
            self.clear()
            self.guess = (rollouts, seed)
        self._solve(self.prepared, states, out, depth, rollouts, seed, give_up, False)

    def prove(self, const uint8_t[:, ::1] states, float[:, ::1] out, *, uint64_t give_up):
        """`solve` to the end of the game, but each position for itself, with a table of its own."""
        cdef Search s = self.prepared
        cdef uint64_t size = 1 << 8
        while size < give_up and size <= self.prepared.mask:
            size *= 2
        s.mask = size - 1
        s.table = <ab_entry *>calloc(size, sizeof(ab_entry))
        try:
            self._solve(s, states, out, -1, 0, 0, max(give_up, 1), True)
        finally:
            free(s.table)

    cdef _solve(self, Search s, const uint8_t[:, ::1] states, float[:, ::1] out, int depth, int rollouts,
                uint64_t seed, uint64_t give_up, bint apart):
        """Fills `out`; `apart`: nothing is remembered from one position to the next."""
        cdef const playout_game *game = s.game
        cdef int32_t depth_left = EXACT_DEPTH if depth < 0 else min(depth, EXACT_DEPTH - 1)
        cdef uint64_t limit = give_up if give_up else self.prepared.max_nodes
        cdef int32_t max_ply = min(game.max_plies, depth_left)
        cdef Py_ssize_t row, action, plies = max_ply + 3
        if (states.shape[1] != game.state_size or out.shape[0] != states.shape[0]
                or out.shape[1] != game.num_actions):
            raise ValueError(f"expected states [B, {game.state_size}] and values [B, {game.num_actions}]")
        if depth == 0:
            raise ValueError("depth must be at least 1")
        s.states = <uint8_t *>calloc(plies, game.state_size)
        s.actions = <int32_t *>calloc(plies * game.num_actions, sizeof(int32_t))
        s.killers = <int32_t *>calloc(plies, sizeof(int32_t))
        s.history = <int32_t *>calloc(2 * game.num_actions, sizeof(int32_t))
        s.rollouts, s.seed, s.max_ply = rollouts, seed, max_ply
        self.stopping = False
        try:
            if not (s.table and s.states and s.actions and s.killers and s.history):
                raise MemoryError("no memory for the search")
            with nogil:
                for row in range(states.shape[0]):
                    if limit:
                        s.max_nodes = s.nodes + limit
                    if apart:
                        memset(s.table, 0, (s.mask + 1) * sizeof(ab_entry))
                        memset(s.killers, 0, plies * sizeof(int32_t))
                        memset(s.history, 0, 2 * game.num_actions * sizeof(int32_t))
                    root_values(&s, &states[row, 0], depth_left, &out[row, 0])
                    if give_up and s.fault == TOO_MANY:
                        s.fault = 0
                        for action in range(game.num_actions):
                            out[row, action] = NAN
                    if s.fault:
                        break
        finally:
            free(s.states)
            free(s.actions)
            free(s.killers)
            free(s.history)
        self.nodes += s.nodes
        self._raise(s.fault)

    cdef int _raise(self, int32_t fault) except -1:
        if self.stopping:
            error, self.pending = self.pending, None
            raise error if error is not None else InterruptedError("the solver was stopped")
        if fault == CHANCE_NODE:
            raise GameError("alpha-beta cannot play a game with dice")
        if fault == NOT_ZERO_SUM:
            raise GameError("alpha-beta needs a game in which the two results add up to zero")
        if fault == TOO_LONG:
            raise GameError(f"a game went on for more than its max_plies, or {EXACT_DEPTH}")
        if fault == TOO_MANY:
            raise GameError(f"the solver gave up on a position after {self.prepared.max_nodes} nodes")
        return 0


cdef void root_values(Search *s, const uint8_t *state, int32_t depth, float *out) noexcept nogil:
    """Fills out[A] with the value of every legal action."""
    cdef const playout_game *game = s.game
    cdef int32_t[PLAYOUT_MAX_LEGAL] actions
    cdef int32_t i, count, next_player
    cdef int32_t player = game.to_play(game, state)
    cdef uint8_t *child = s.states
    cdef int32_t deeper = depth if depth == EXACT_DEPTH else depth - 1
    for i in range(game.num_actions):
        out[i] = NAN
    if player == PLAYOUT_CHANCE:
        s.fault = CHANCE_NODE
        return
    if player == PLAYOUT_TERMINAL:
        return
    count = game.legal(game, state, actions)
    for i in range(count):
        memcpy(child, state, game.state_size)
        game.apply(game, child, actions[i])
        next_player = game.to_play(game, child)
        if next_player == PLAYOUT_TERMINAL:
            out[actions[i]] = leaf(s, child, player)
        elif next_player == PLAYOUT_CHANCE:
            s.fault = CHANCE_NODE
        elif next_player == player:
            out[actions[i]] = negamax(s, 0, player, deeper, -1, 1)
        else:
            out[actions[i]] = -negamax(s, 0, next_player, deeper, -1, 1)
        if s.fault:
            return
