"""What ends a game within two plies, for many states of any game without the GIL; answers from outcomes."""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int8_t, int32_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from playout_game cimport (
    PLAYOUT_GAME_CAPSULE,
    PLAYOUT_MAX_LEGAL,
    PLAYOUT_MAX_PLAYERS,
    PLAYOUT_TERMINAL,
    playout_game,
)

cdef enum:
    GIVEN_UP = 127
    ILLEGAL = -128


cdef bint wins(const playout_game *game, const void *state, int32_t player) noexcept nogil:
    """Is the game over, and the best possible result the player's?"""
    cdef float[PLAYOUT_MAX_PLAYERS] returns
    if game.to_play(game, state) != PLAYOUT_TERMINAL:
        return False
    memset(returns, 0, sizeof(returns))
    game.returns(game, state, returns)
    return returns[player] >= 1


cdef void try_plies(const playout_game *game, const uint8_t *state, uint8_t *scratch, int plies,
                    int8_t *outcomes) noexcept nogil:
    """Writes what is found of the actions of one state; scratch has room for two more states."""
    cdef int32_t[PLAYOUT_MAX_LEGAL] actions
    cdef int32_t[PLAYOUT_MAX_LEGAL] replies
    cdef int32_t player = game.to_play(game, state)
    cdef int32_t i, j, count, num_replies, other
    cdef size_t size = game.state_size
    cdef uint8_t *after = scratch
    cdef uint8_t *last = scratch + size
    cdef bint any_win = False
    memset(outcomes, <uint8_t>ILLEGAL, game.num_actions)
    if player < 0:
        return
    count = game.legal(game, state, actions)
    for i in range(count):
        outcomes[actions[i]] = GIVEN_UP
        memcpy(after, state, size)
        game.apply(game, after, actions[i])
        if wins(game, after, player):
            outcomes[actions[i]] = 1
            any_win = True
    if any_win or plies < 2:
        return
    for i in range(count):
        memcpy(after, state, size)
        game.apply(game, after, actions[i])
        other = game.to_play(game, after)
        if other < 0 or other == player:  # over, a chance node, or the same side again
            continue
        num_replies = game.legal(game, after, replies)
        for j in range(num_replies):
            memcpy(last, after, size)
            game.apply(game, last, replies[j])
            if wins(game, last, other):
                outcomes[actions[i]] = -1
                break


def look_ahead(object capsule, const uint8_t[:, ::1] states, int plies, int8_t[:, ::1] outcomes):
    """What every action leads to, as far as one or two plies tell.

    Args:
        capsule: The game's table.
        states: States, [B, state_size].
        plies: 1 for wins at once; 2 also for actions after which a reply wins, which are not looked for
            where a state has a winning action.
        outcomes: Receives, [B, A], 1, -1, or 127 where nothing is found; -128 where an action is not legal.
    """
    cdef const playout_game *game = <const playout_game *>PyCapsule_GetPointer(capsule, PLAYOUT_GAME_CAPSULE)
    cdef Py_ssize_t row, size = states.shape[0], num_actions = game.num_actions
    if (states.shape[1] != game.state_size or outcomes.shape[0] != size
            or outcomes.shape[1] != num_actions):
        raise ValueError(f"expected states [B, {game.state_size}] and outcomes [B, {num_actions}]")
    cdef uint8_t *scratch = <uint8_t *>malloc(2 * game.state_size)
    if scratch == NULL:
        raise MemoryError("no memory for two states")
    with nogil:
        for row in range(size):
            try_plies(game, &states[row, 0], scratch, plies, &outcomes[row, 0])
    free(scratch)


def answer_proven(const int8_t[:, ::1] outcomes, int32_t[::1] rows, float certain, uint8_t[:, ::1] losing,
                  float[:, ::1] logits, float[::1] values):
    """Answers the rows whose outcome is known, and keeps the others.

    Args:
        outcomes: Of M rows, as provers give them, [M, A].
        rows: Which rows of the arrays below they are, [M]; those that stay open move to the front.
        certain: Logit of the best actions; that of the others is its negative.
        losing: Actions that are found to lose are marked in rows that stay open, [B, A].
        logits: Receives answers, [B, A]: all 0 where every action loses.
        values: Receives 1, 0 or -1, [B].

    Returns:
        How many rows stay open.
    """
    cdef Py_ssize_t i, action, row, kept = 0, count = outcomes.shape[0], num_actions = outcomes.shape[1]
    cdef int8_t best, outcome
    cdef bint unknown
    if (rows.shape[0] != count or losing.shape[1] != num_actions or logits.shape[1] != num_actions
            or losing.shape[0] < logits.shape[0] or values.shape[0] != logits.shape[0]):
        raise ValueError(f"expected outcomes [{count}, {num_actions}] of so many rows")
    for i in range(count):
        row = rows[i]
        best, unknown = -1, False
        for action in range(num_actions):
            outcome = outcomes[i, action]
            if outcome == GIVEN_UP:
                unknown = True
            elif outcome > best:
                best = outcome
        if best < 1 and unknown:
            for action in range(num_actions):
                if outcomes[i, action] == -1:
                    losing[row, action] = 1
            rows[kept] = <int32_t>row
            kept += 1
            continue
        values[row] = best
        for action in range(num_actions):
            logits[row, action] = 0 if best < 0 else certain if outcomes[i, action] == best else -certain
    return kept


def scatter_answers(const int32_t[::1] rows, const float[:, ::1] answers, const float[::1] answer_values,
                    const uint8_t[:, ::1] losing, float certain, float[:, ::1] logits,
                    float[::1] values):
    """Puts a network's answers into their rows; actions that lose at once get less than all others.

    Args:
        rows: Where the answers belong, [M].
        answers: Logits, [M, A].
        answer_values: [M].
        losing: Which actions lose at once, [B, A].
        certain: By how much less than the least logit they get.
        logits: Receives the answers, [B, A].
        values: Receives the values, [B].
    """
    cdef Py_ssize_t i, action, row, count = rows.shape[0], num_actions = logits.shape[1]
    cdef float least
    if (answers.shape[0] != count or answer_values.shape[0] != count or answers.shape[1] != num_actions
            or losing.shape[1] != num_actions):
        raise ValueError(f"expected answers [{count}, {num_actions}] and values [{count}]")
    for i in range(count):
        row = rows[i]
        values[row] = answer_values[i]
        least = answers[i, 0]
        for action in range(num_actions):
            if answers[i, action] < least:
                least = answers[i, action]
        for action in range(num_actions):
            logits[row, action] = least - certain if losing[row, action] else answers[i, action]
