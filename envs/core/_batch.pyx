"""Many states at a time through the game table: what `StateBatch` stands on.

States are the rows of a uint8 array [B, state_size]. Every function makes one pass without the GIL;
arguments were shaped and typed by state_batch.py, so that this file only loops. `where` picks rows
(uint8 [B]; an empty array means all). Random numbers of row b come from the stream streams[b] alone, so
that results do not depend on how a batch is cut.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

from playout_game cimport (
    PLAYOUT_CHANCE,
    PLAYOUT_GAME_CAPSULE,
    PLAYOUT_MAX_LEGAL,
    PLAYOUT_MAX_PLAYERS,
    PLAYOUT_STEP_REWARDS,
    PLAYOUT_TERMINAL,
    playout_draw,
    playout_finish,
    playout_game,
    playout_playable,
    playout_resolve_chance,
    playout_rng,
    playout_rng_stream,
)


cdef const playout_game *table_of(object capsule, const uint8_t[:, ::1] states) except NULL:
    """The game's table, after a look at the width of its states' rows."""
    cdef const playout_game *game
    game = <const playout_game *>PyCapsule_GetPointer(capsule, PLAYOUT_GAME_CAPSULE)
    if states.shape[1] != game.state_size:
        name = game.name.decode()
        raise ValueError(f"{name}: a state has {game.state_size} bytes, the rows have {states.shape[1]}")
    return game


cdef int raise_error(const playout_game *game) except -1:
    return game.raise_error(game) if game.raise_error != NULL else 0


cdef inline void write_mask(const playout_game *game, const void *state, uint8_t *mask) noexcept nogil:
    cdef int32_t[PLAYOUT_MAX_LEGAL] actions
    cdef int32_t i
    cdef int32_t count = playout_playable(game, state, actions)
    memset(mask, 0, game.num_actions)
    for i in range(count):
        mask[actions[i]] = 1


cdef inline int32_t viewer(const playout_game *game, const void *state, int32_t player) noexcept nogil:
    """`player`, or for -1 the side to move, or player 0 where nobody is."""
    if player < 0:
        player = game.to_play(game, state)
    return player if player >= 0 else 0


cdef int32_t first_illegal(const playout_game *game, const uint8_t[:, ::1] states, const int32_t[::1] actions,
                           const uint8_t[::1] where, bint skip_finished) noexcept nogil:
    """The first row whose action may not be played, or -1."""
    cdef int32_t row
    cdef bint found
    for row in range(<int32_t>states.shape[0]):
        if where.shape[0] and not where[row]:
            continue
        found = 0 <= actions[row] < game.num_actions and game.is_legal(game, &states[row, 0], actions[row])
        if not found and skip_finished:
            found = game.to_play(game, &states[row, 0]) == PLAYOUT_TERMINAL
        if not found:
            return row
    return -1


def fill(object capsule, uint8_t[:, ::1] states, const uint8_t[::1] where) -> None:
    """Sets rows to the first state."""
    cdef const playout_game *game = table_of(capsule, states)
    cdef int32_t row
    with nogil:
        for row in range(<int32_t>states.shape[0]):
            if where.shape[0] == 0 or where[row]:
                game.init(game, &states[row, 0])
    raise_error(game)


def to_play(object capsule, const uint8_t[:, ::1] states, int32_t[::1] out) -> None:
    """Writes the player to move, TERMINAL or CHANCE."""
    cdef const playout_game *game = table_of(capsule, states)
    cdef int32_t row
    with nogil:
        for row in range(<int32_t>states.shape[0]):
            out[row] = game.to_play(game, &states[row, 0])
    raise_error(game)


def plies_left(object capsule, const uint8_t[:, ::1] states, int32_t[::1] out) -> None:
    """Writes the most plies that are still to come; for games that declare it."""
    cdef const playout_game *game = table_of(capsule, states)
    cdef int32_t row
    with nogil:
        for row in range(<int32_t>states.shape[0]):
            out[row] = game.plies_left(game, &states[row, 0])
    raise_error(game)


def legal_mask(object capsule, const uint8_t[:, ::1] states, uint8_t[:, ::1] out) -> None:
    """Writes 1 where an action is legal."""
    cdef const playout_game *game = table_of(capsule, states)
    cdef int32_t row
    with nogil:
        for row in range(<int32_t>states.shape[0]):
            write_mask(game, &states[row, 0], &out[row, 0])
    raise_error(game)


def apply(object capsule, uint8_t[:, ::1] states, const int32_t[::1] actions,
          const uint8_t[::1] where) -> int:
    """Plays one action a row; returns -1, or the first row with an illegal one, having changed nothing."""
    cdef const playout_game *game = table_of(capsule, states)
    cdef int32_t row, bad
    with nogil:
        bad = first_illegal(game, states, actions, where, False)
        if bad < 0:
            for row in range(<int32_t>states.shape[0]):
                if where.shape[0] == 0 or where[row]:
                    game.apply(game, &states[row, 0], actions[row])
    raise_error(game)
    return bad


def observe(object capsule, const uint8_t[:, ::1] states, const int32_t[::1] players,
            float[:, ::1] out) -> None:
    """Writes planes as players[b] sees them (-1: the side to move)."""
    cdef const playout_game *game = table_of(capsule, states)
    cdef int32_t row
    with nogil:
        for row in range(<int32_t>states.shape[0]):
            game.observe(game, &states[row, 0], viewer(game, &states[row, 0], players[row]), &out[row, 0])
    raise_error(game)


def returns(object capsule, const uint8_t[:, ::1] states, float[:, ::1] out) -> None:
    """Writes results of finished states, zeros elsewhere; with rewards along the way their sums so far."""
    cdef const playout_game *game = table_of(capsule, states)
    cdef int32_t row
    with nogil:
        for row in range(<int32_t>states.shape[0]):
            if game.flags & PLAYOUT_STEP_REWARDS or game.to_play(game, &states[row, 0]) == PLAYOUT_TERMINAL:
                game.returns(game, &states[row, 0], &out[row, 0])
            else:
                memset(&out[row, 0], 0, game.num_players * sizeof(float))
    raise_error(game)


def scores(object capsule, const uint8_t[:, ::1] states, float[:, ::1] out) -> None:
    """Writes the game's own scores of finished states, zeros elsewhere; for games that have them."""
    cdef const playout_game *game = table_of(capsule, states)
    cdef int32_t row
    with nogil:
        for row in range(<int32_t>states.shape[0]):
            memset(&out[row, 0], 0, game.num_players * sizeof(float))
            if game.to_play(game, &states[row, 0]) == PLAYOUT_TERMINAL:
                game.score(game, &states[row, 0], &out[row, 0])
    raise_error(game)


def targets(object capsule, const uint8_t[:, ::1] states, const int32_t[::1] players,
            float[:, ::1] out) -> None:
    """Writes what finished states teach players[b], zeros elsewhere; for games that have targets."""
    cdef const playout_game *game = table_of(capsule, states)
    cdef int32_t row
    with nogil:
        for row in range(<int32_t>states.shape[0]):
            memset(&out[row, 0], 0, out.shape[1] * sizeof(float))
            if game.to_play(game, &states[row, 0]) == PLAYOUT_TERMINAL:
                game.targets(game, &states[row, 0], players[row], &out[row, 0])
    raise_error(game)


def hashes(object capsule, const uint8_t[:, ::1] states, uint64_t[::1] out) -> None:
    """Writes the hash of every row."""
    cdef const playout_game *game = table_of(capsule, states)
    cdef int32_t row
    with nogil:
        for row in range(<int32_t>states.shape[0]):
            out[row] = game.hash(game, &states[row, 0])
    raise_error(game)


def info_keys(object capsule, const uint8_t[:, ::1] states, const int32_t[::1] players,
              uint64_t[::1] out) -> None:
    """Writes what players[b] (-1: the side to move) knows in row b."""
    cdef const playout_game *game = table_of(capsule, states)
    cdef int32_t row
    with nogil:
        for row in range(<int32_t>states.shape[0]):
            out[row] = game.info_key(game, &states[row, 0], viewer(game, &states[row, 0], players[row]))
    raise_error(game)


def resample(object capsule, const uint8_t[:, ::1] states, const int32_t[::1] players, uint64_t seed,
             const uint64_t[::1] streams, uint8_t[:, ::1] out) -> None:
    """Writes a state that players[b] (-1: the side to move) cannot tell from row b."""
    cdef const playout_game *game = table_of(capsule, states)
    cdef int32_t row, player
    cdef playout_rng rng
    with nogil:
        for row in range(<int32_t>states.shape[0]):
            rng = playout_rng_stream(seed, streams[row])
            player = viewer(game, &states[row, 0], players[row])
            game.resample(game, &states[row, 0], player, &rng, &out[row, 0])
    raise_error(game)


def eval_keys(object capsule, const uint8_t[:, ::1] states, uint64_t[::1] out) -> None:
    """Writes the evaluation key of every row."""
    cdef const playout_game *game = table_of(capsule, states)
    cdef int32_t row
    with nogil:
        for row in range(<int32_t>states.shape[0]):
            out[row] = game.eval_key(game, &states[row, 0])
    raise_error(game)


def chance_probs(object capsule, const uint8_t[:, ::1] states, double[:, ::1] out) -> None:
    """Writes the probability of every outcome of chance, zeros in rows where nobody throws dice."""
    cdef const playout_game *game = table_of(capsule, states)
    cdef int32_t[PLAYOUT_MAX_LEGAL] actions
    cdef double[PLAYOUT_MAX_LEGAL] probs
    cdef int32_t row, i, count
    with nogil:
        for row in range(<int32_t>states.shape[0]):
            memset(&out[row, 0], 0, game.num_actions * sizeof(double))
            if game.chance == NULL or game.to_play(game, &states[row, 0]) != PLAYOUT_CHANCE:
                continue
            count = game.chance(game, &states[row, 0], actions, probs)
            for i in range(count):
                out[row, actions[i]] = probs[i]
    raise_error(game)


def symmetry(object capsule, const uint8_t[:, ::1] states, const int32_t[::1] k, uint8_t[:, ::1] out) -> None:
    """Writes row b as symmetry k[b] shows it."""
    cdef const playout_game *game = table_of(capsule, states)
    cdef int32_t row
    with nogil:
        for row in range(<int32_t>states.shape[0]):
            game.symmetry(game, &states[row, 0], k[row], &out[row, 0])
    raise_error(game)


def random_actions(object capsule, const uint8_t[:, ::1] states, uint64_t seed, const uint64_t[::1] streams,
                   uint64_t counter, int32_t[::1] out) -> None:
    """Writes a uniformly random legal action a row, -1 on finished states."""
    cdef const playout_game *game = table_of(capsule, states)
    cdef playout_rng rng
    cdef int32_t row
    with nogil:
        for row in range(<int32_t>states.shape[0]):
            rng = playout_rng_stream(seed, streams[row])
            rng.counter = counter
            out[row] = playout_draw(game, &states[row, 0], &rng)
    raise_error(game)


def resolve_chance(object capsule, uint8_t[:, ::1] states, uint64_t seed, const uint64_t[::1] streams,
                   uint64_t counter, int32_t[::1] played) -> None:
    """Draws chance outcomes until a player is to move or the game is over; writes how many a row."""
    cdef const playout_game *game = table_of(capsule, states)
    cdef playout_rng rng
    cdef int32_t row
    with nogil:
        for row in range(<int32_t>states.shape[0]):
            rng = playout_rng_stream(seed, streams[row])
            rng.counter = counter
            played[row] = playout_resolve_chance(game, &states[row, 0], &rng)
    raise_error(game)


def random_plies(object capsule, uint8_t[:, ::1] states, const int32_t[::1] plies, uint64_t seed,
                 const uint64_t[::1] streams, int32_t[::1] played) -> None:
    """Plays up to plies[b] random moves a row and writes how many there were before the end."""
    cdef const playout_game *game = table_of(capsule, states)
    cdef playout_rng rng
    cdef int32_t row, _ply, action
    with nogil:
        for row in range(<int32_t>states.shape[0]):
            rng = playout_rng_stream(seed, streams[row])
            played[row] = 0
            for _ply in range(plies[row]):
                action = playout_draw(game, &states[row, 0], &rng)
                if action < 0:
                    break
                game.apply(game, &states[row, 0], action)
                played[row] += 1
    raise_error(game)


def playouts(object capsule, const uint8_t[:, ::1] states, uint64_t seed, const uint64_t[::1] streams,
             int32_t count, uint8_t[::1] scratch, float[:, ::1] out) -> None:
    """Writes the mean result of `count` random games from every row."""
    cdef const playout_game *game = table_of(capsule, states)
    cdef playout_rng rng
    cdef float[PLAYOUT_MAX_PLAYERS] values
    cdef double[PLAYOUT_MAX_PLAYERS] total
    cdef int32_t row, _i, player
    with nogil:
        for row in range(<int32_t>states.shape[0]):
            rng = playout_rng_stream(seed, streams[row])
            for player in range(game.num_players):
                total[player] = 0.0
            for _i in range(count):
                memcpy(&scratch[0], &states[row, 0], game.state_size)
                playout_finish(game, &scratch[0], &rng, values)
                for player in range(game.num_players):
                    total[player] += values[player]
            for player in range(game.num_players):
                out[row, player] = <float>(total[player] / count)
    raise_error(game)


def step(object capsule, uint8_t[:, ::1] states, const int32_t[::1] actions, const uint8_t[::1] where,
         bint reset_finished, float[:, ::1] obs, uint8_t[:, ::1] mask, float[::1] rewards,
         float[:, ::1] results, uint8_t[::1] ended, int32_t[::1] players) -> int:
    """One ply of every row and all that an environment tells about it, in one pass.

    Empty outputs are left out. Rows that are over on entry restart instead of moving if `reset_finished`.
    With rewards along the way, a reward is what the mover's returns have grown by.
    Returns -1 or the first bad row.
    """
    cdef const playout_game *game = table_of(capsule, states)
    cdef float[PLAYOUT_MAX_PLAYERS] values, before
    cdef int32_t row, bad, mover, player
    cdef bint over
    cdef bint along = (game.flags & PLAYOUT_STEP_REWARDS) != 0
    with nogil:
        bad = first_illegal(game, states, actions, where, reset_finished)
        for row in range(<int32_t>states.shape[0] if bad < 0 else 0):
            if where.shape[0] and not where[row]:
                continue
            mover = game.to_play(game, &states[row, 0])
            memset(before, 0, sizeof(before))
            if mover == PLAYOUT_TERMINAL:
                game.init(game, &states[row, 0])
            else:
                if along:
                    game.returns(game, &states[row, 0], before)
                game.apply(game, &states[row, 0], actions[row])
            player = game.to_play(game, &states[row, 0])
            over = player == PLAYOUT_TERMINAL
            memset(values, 0, sizeof(values))
            if over or along:
                game.returns(game, &states[row, 0], values)
            if rewards.shape[0]:
                rewards[row] = values[mover] - before[mover] if mover >= 0 else 0.0
            if results.shape[0]:
                memcpy(&results[row, 0], values, game.num_players * sizeof(float))
            if ended.shape[0]:
                ended[row] = over
            if players.shape[0]:
                players[row] = player
            if obs.shape[0]:
                game.observe(game, &states[row, 0], player if player >= 0 else 0, &obs[row, 0])
            if mask.shape[0]:
                write_mask(game, &states[row, 0], &mask[row, 0])
    raise_error(game)
    return bad
