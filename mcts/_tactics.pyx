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


cdef void look(const playout_game *game, const uint8_t *state, uint8_t *scratch, uint8_t *won,
               uint8_t *losing, uint8_t *legal) noexcept nogil:
    """One state; scratch has room for two more."""
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
        if other < 0 or other == player:  # over, dice, or the same side again: no danger at once
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
        legal: All 0 where the game is over or dice are to roll.
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
            look(game, &states[row, 0], scratch, &won[row, 0], &losing[row, 0], &legal[row, 0])
    free(scratch)
