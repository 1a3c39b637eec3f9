"""What ends a game within two plies, for many states of any game, without the GIL."""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from playout_game cimport (
    PLAYOUT_GAME_CAPSULE,
    PLAYOUT_MAX_ACTIONS,
    PLAYOUT_MAX_PLAYERS,
    PLAYOUT_TERMINAL,
    playout_game,
)


cdef bint wins(const playout_game *game, const void *state, int32_t player) noexcept nogil:
    """Is the game over, and the best possible result the player's?"""
    cdef float[PLAYOUT_MAX_PLAYERS] returns
    if game.to_play(game, state) != PLAYOUT_TERMINAL:
        return False
    memset(returns, 0, sizeof(returns))
    game.returns(game, state, returns)
    return returns[player] >= 1


cdef void try_two_plies(const playout_game *game, const uint8_t *state, uint8_t *scratch, uint8_t *won,
                        uint8_t *losing, uint8_t *legal) noexcept nogil:
    """Marks the actions of one state; scratch has room for two more states."""
    cdef int32_t[PLAYOUT_MAX_ACTIONS] actions
    cdef int32_t[PLAYOUT_MAX_ACTIONS] replies
    cdef int32_t player = game.to_play(game, state)
    cdef int32_t i, j, count, num_replies, other
    cdef size_t size = game.state_size
    cdef uint8_t *after = scratch
    cdef uint8_t *last = scratch + size
    cdef bint any_win = False
    if player < 0:
        return
    count = game.legal(game, state, actions)
    for i in range(count):
        legal[actions[i]] = 1
        memcpy(after, state, size)
        game.apply(game, after, actions[i])
        if wins(game, after, player):
            won[actions[i]] = 1
            any_win = True
    if any_win:
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
                losing[actions[i]] = 1
                break


def two_plies(object capsule, const uint8_t[:, ::1] states, uint8_t[:, ::1] won, uint8_t[:, ::1] losing,
              uint8_t[:, ::1] legal):
    """Marks legal actions, actions that win at once, and actions after which a reply can win.

    Args:
        capsule: The game's table.
        states: States, [B, state_size].
        won: Receives 1 or 0, [B, A], as do the others.
        losing: Not looked for where a state has a winning action.
        legal: All 0 where the game is over and at chance nodes.
    """
    cdef const playout_game *game = <const playout_game *>PyCapsule_GetPointer(capsule, PLAYOUT_GAME_CAPSULE)
    cdef Py_ssize_t row, size = states.shape[0], num_actions = game.num_actions
    if (states.shape[1] != game.state_size or won.shape[0] != size or losing.shape[0] != size
            or legal.shape[0] != size or won.shape[1] != num_actions or losing.shape[1] != num_actions
            or legal.shape[1] != num_actions):
        raise ValueError(f"expected states [B, {game.state_size}] and answers [B, {num_actions}]")
    if size == 0:
        return
    cdef uint8_t *scratch = <uint8_t *>malloc(2 * game.state_size)
    if scratch == NULL:
        raise MemoryError("no memory for two states")
    with nogil:
        memset(&won[0, 0], 0, size * num_actions)
        memset(&losing[0, 0], 0, size * num_actions)
        memset(&legal[0, 0], 0, size * num_actions)
        for row in range(size):
            try_two_plies(game, &states[row, 0], scratch, &won[row, 0], &losing[row, 0], &legal[row, 0])
    free(scratch)


def resolve(object capsule, const uint8_t[:, ::1] states, const float[:, ::1] obs, float certain,
            float[:, ::1] logits, float[::1] values, uint8_t[:, ::1] losing, int32_t[::1] rows,
            float[:, ::1] open_obs, uint8_t[:, ::1] open_states, uint8_t[:, ::1] open_mask,
            int32_t[::1] open_to_play):
    """Answers the states that end within two plies, and packs the others for a network.

    Args:
        capsule: The game's table.
        states: States, [B, state_size].
        obs: What the network sees of them, [B, F], or None.
        certain: Logit of winning actions; that of the others is its negative.
        logits: Receives answers, [B, A], of resolved rows: all 0 where every action loses.
        values: Receives 1 or -1, [B], of resolved rows.
        losing: Receives which actions lose at once, [B, A].
        rows: Receives the numbers of the M rows that are not resolved, [B].
        open_obs: Receives their rows of obs, as the following receive what their names say.
        open_states: [B, state_size].
        open_mask: Legal actions, [B, A].
        open_to_play: [B].

    Returns:
        M.
    """
    cdef const playout_game *game = <const playout_game *>PyCapsule_GetPointer(capsule, PLAYOUT_GAME_CAPSULE)
    cdef Py_ssize_t row, i, size = states.shape[0], num_actions = game.num_actions, open_count = 0
    cdef Py_ssize_t features = 0 if obs is None else obs.shape[1]
    if (size == 0 or states.shape[1] != game.state_size or logits.shape[0] != size
            or values.shape[0] != size or losing.shape[0] < size or rows.shape[0] < size
            or open_states.shape[0] < size or open_mask.shape[0] < size or open_to_play.shape[0] < size
            or logits.shape[1] != num_actions or losing.shape[1] != num_actions
            or open_states.shape[1] != game.state_size or open_mask.shape[1] != num_actions):
        raise ValueError(f"expected states [B, {game.state_size}], answers [B, {num_actions}], B at least 1")
    if features and (obs.shape[0] != size or open_obs.shape[0] < size or open_obs.shape[1] != features):
        raise ValueError(f"expected observations [{size}, {features}] and room for as many")
    cdef uint8_t[PLAYOUT_MAX_ACTIONS] won
    cdef uint8_t *scratch = <uint8_t *>malloc(2 * game.state_size)
    cdef bint any_win, all_lose
    if scratch == NULL:
        raise MemoryError("no memory for two states")
    with nogil:
        for row in range(size):
            memset(won, 0, num_actions)
            memset(&losing[row, 0], 0, num_actions)
            memset(&open_mask[open_count, 0], 0, num_actions)
            try_two_plies(game, &states[row, 0], scratch, won, &losing[row, 0], &open_mask[open_count, 0])
            any_win, all_lose = False, True
            for i in range(num_actions):
                if won[i]:
                    any_win = True
                if open_mask[open_count, i] and not losing[row, i]:
                    all_lose = False
            if any_win or all_lose:
                values[row] = 1 if any_win else -1
                for i in range(num_actions):
                    logits[row, i] = 0 if not any_win else certain if won[i] else -certain
                continue
            rows[open_count] = <int32_t>row
            open_to_play[open_count] = game.to_play(game, &states[row, 0])
            memcpy(&open_states[open_count, 0], &states[row, 0], game.state_size)
            if features:
                memcpy(&open_obs[open_count, 0], &obs[row, 0], features * sizeof(float))
            open_count += 1
    free(scratch)
    return open_count


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
