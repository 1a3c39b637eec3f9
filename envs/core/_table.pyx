"""One state at a time through the game table: what `State` and `NativeGame` stand on.

Tables come from _adopt.pyx, which has examined and completed them.
States are bytes objects of exactly state_size. Batches of states stand in _batch.pyx, text in _text.pyx.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, uint64_t

import numpy as np

from playout.errors import GameError, IllegalActionError

from playout_game cimport (
    PLAYOUT_CHANCE,
    PLAYOUT_GAME_CAPSULE,
    PLAYOUT_MAX_LEGAL,
    PLAYOUT_STEP_REWARDS,
    PLAYOUT_TERMINAL,
    playout_game,
    playout_playable,
    playout_rng,
    playout_rng_stream,
)

TERMINAL = PLAYOUT_TERMINAL
CHANCE = PLAYOUT_CHANCE

cdef enum:
    SHOWN = 100  # legal actions that a message lists

cdef const playout_game *table_of(object capsule) except NULL:
    return <const playout_game *>PyCapsule_GetPointer(capsule, PLAYOUT_GAME_CAPSULE)


cdef int raise_error(const playout_game *game) except -1:
    return game.raise_error(game) if game.raise_error != NULL else 0


def raise_pending(object capsule):
    """Raises the exception that a callback of a Python game kept, if there is one."""
    raise_error(table_of(capsule))


def calls_python(object capsule) -> bool:
    """Is the game written in Python?"""
    return table_of(capsule).raise_error != NULL


cdef const char *state_of(const playout_game *game, bytes state) except NULL:
    if PyBytes_GET_SIZE(state) != game.state_size:
        raise GameError(
            f"{game.name.decode()}: a state has {game.state_size} bytes, got {PyBytes_GET_SIZE(state)}"
        )
    return PyBytes_AS_STRING(state)


cdef int need_player(const playout_game *game, int player) except -1:
    if not 0 <= player < game.num_players:
        raise GameError(f"{game.name.decode()}: player {player} is not 0 to {game.num_players - 1}")
    return 0


cdef int need_action(const playout_game *game, const char *state, int action) except -1:
    """Raises IllegalActionError unless `action` may be played."""
    cdef int32_t[PLAYOUT_MAX_LEGAL] actions
    cdef int32_t i, count
    if game.is_legal(game, state, action):
        return 0
    count = playout_playable(game, state, actions)
    raise_error(game)
    if game.to_play(game, state) == PLAYOUT_TERMINAL:
        raise IllegalActionError(
            f"{game.name.decode()}: the game is over, action {action} cannot be played"
        )
    some = f"{[actions[i] for i in range(min(count, SHOWN))]}"
    if count > SHOWN:
        some = f"{some[:-1]}, ...] ({count})"
    raise IllegalActionError(f"{game.name.decode()}: action {action} is not legal here; legal are {some}")


def initial(object capsule) -> bytes:
    """The first state of a game."""
    cdef const playout_game *game = table_of(capsule)
    cdef bytes state = bytes(game.state_size)
    game.init(game, PyBytes_AS_STRING(state))
    raise_error(game)
    return state


def to_play(object capsule, bytes state) -> int:
    """The player to move, TERMINAL or CHANCE."""
    cdef const playout_game *game = table_of(capsule)
    cdef int32_t player = game.to_play(game, state_of(game, state))
    raise_error(game)
    return player


def legal(object capsule, bytes state) -> list:
    """The legal actions in rising order; at a chance node its outcomes."""
    cdef const playout_game *game = table_of(capsule)
    cdef int32_t[PLAYOUT_MAX_LEGAL] actions
    cdef int32_t count = playout_playable(game, state_of(game, state), actions)
    raise_error(game)
    return [actions[i] for i in range(count)]


def outcomes(object capsule, bytes state) -> list:
    """[(action, probability)] of a chance node; nothing elsewhere."""
    cdef const playout_game *game = table_of(capsule)
    cdef int32_t[PLAYOUT_MAX_LEGAL] actions
    cdef double[PLAYOUT_MAX_LEGAL] probs
    cdef int32_t count = 0
    cdef const char *data = state_of(game, state)
    if game.chance != NULL and game.to_play(game, data) == PLAYOUT_CHANCE:
        count = game.chance(game, data, actions, probs)
    raise_error(game)
    return [(actions[i], probs[i]) for i in range(count)]


def apply(object capsule, bytes state, int action) -> bytes:
    """The state after a legal action."""
    cdef const playout_game *game = table_of(capsule)
    cdef const char *old = state_of(game, state)
    cdef bytes new
    need_action(game, old, action)
    new = PyBytes_FromStringAndSize(old, game.state_size)
    game.apply(game, PyBytes_AS_STRING(new), action)
    raise_error(game)
    return new


def returns(object capsule, bytes state):
    """float32 [P]: the result of a finished game, zeros before; of rewards along the way their sum so far."""
    cdef const playout_game *game = table_of(capsule)
    cdef const char *data = state_of(game, state)
    values = np.zeros(game.num_players, np.float32)
    cdef float[::1] view = values
    if game.flags & PLAYOUT_STEP_REWARDS or game.to_play(game, data) == PLAYOUT_TERMINAL:
        game.returns(game, data, &view[0])
    raise_error(game)
    return values


def observe(object capsule, bytes state, int player):
    """float32 [C, H, W] as `player` sees the state."""
    cdef const playout_game *game = table_of(capsule)
    cdef const char *data = state_of(game, state)
    need_player(game, player)
    obs = np.zeros((game.obs_shape[0], game.obs_shape[1], game.obs_shape[2]), np.float32)
    cdef float[:, :, ::1] view = obs
    game.observe(game, data, player, &view[0, 0, 0])
    raise_error(game)
    return obs


def hash_of(object capsule, bytes state) -> int:
    """The 64-bit hash of the position."""
    cdef const playout_game *game = table_of(capsule)
    cdef uint64_t value = game.hash(game, state_of(game, state))
    raise_error(game)
    return value


def eval_key(object capsule, bytes state) -> int:
    """64 bits of all that an evaluation of the position depends on."""
    cdef const playout_game *game = table_of(capsule)
    cdef uint64_t value = game.eval_key(game, state_of(game, state))
    raise_error(game)
    return value


def info_key(object capsule, bytes state, int player) -> int:
    """64 bits of all that `player` knows in this state."""
    cdef const playout_game *game = table_of(capsule)
    cdef const char *data = state_of(game, state)
    need_player(game, player)
    cdef uint64_t value = game.info_key(game, data, player)
    raise_error(game)
    return value


def resample(object capsule, bytes state, int player, uint64_t seed, uint64_t stream, *, int fill=0) -> bytes:
    """A state that `player` cannot tell from this one, written over bytes of `fill`."""
    cdef const playout_game *game = table_of(capsule)
    cdef const char *data = state_of(game, state)
    cdef playout_rng rng = playout_rng_stream(seed, stream)
    need_player(game, player)
    new = bytes([fill]) * game.state_size
    game.resample(game, data, player, &rng, PyBytes_AS_STRING(new))
    raise_error(game)
    return new


def score(object capsule, bytes state):
    """float32 [P]: the game's own score of a finished state; None where it has none."""
    cdef const playout_game *game = table_of(capsule)
    cdef const char *data = state_of(game, state)
    if game.score == NULL:
        return None
    values = np.zeros(game.num_players, np.float32)
    cdef float[::1] view = values
    if game.to_play(game, data) == PLAYOUT_TERMINAL:
        game.score(game, data, &view[0])
    raise_error(game)
    return values


def targets(object capsule, bytes state, int player):
    """float32 [T, H, W]: what a finished state teaches beside its result, as `player` sees it; or None."""
    cdef const playout_game *game = table_of(capsule)
    cdef const char *data = state_of(game, state)
    need_player(game, player)
    if game.targets == NULL:
        return None
    planes = np.zeros((game.target_planes, game.obs_shape[1], game.obs_shape[2]), np.float32)
    cdef float[:, :, ::1] view = planes
    if game.to_play(game, data) == PLAYOUT_TERMINAL:
        game.targets(game, data, player, &view[0, 0, 0])
    raise_error(game)
    return planes


cdef int need_symmetry(const playout_game *game, int k) except -1:
    if not 0 <= k < game.num_symmetries:
        raise GameError(f"{game.name.decode()}: symmetry {k} is not 0 to {game.num_symmetries - 1}")
    return 0


def symmetry(object capsule, bytes state, int k) -> bytes:
    """The state as symmetry `k` shows it."""
    cdef const playout_game *game = table_of(capsule)
    cdef const char *old = state_of(game, state)
    cdef bytes new
    need_symmetry(game, k)
    new = bytes(game.state_size)
    game.symmetry(game, old, k, PyBytes_AS_STRING(new))
    raise_error(game)
    return new


def symmetry_key(object capsule, bytes state, int k) -> int:
    """eval_key of the state as symmetry `k` shows it; the game's own way to tell it, where it has one."""
    cdef const playout_game *game = table_of(capsule)
    cdef const char *data = state_of(game, state)
    cdef uint64_t value
    need_symmetry(game, k)
    if game.symmetry_key == NULL:
        return eval_key(capsule, symmetry(capsule, state, k))
    value = game.symmetry_key(game, data, k)
    raise_error(game)
    return value


def symmetry_action(object capsule, int k, int action) -> int:
    """Where symmetry `k` moves an action."""
    cdef const playout_game *game = table_of(capsule)
    if not 0 <= k < game.num_symmetries or not 0 <= action < game.num_actions:
        raise GameError(f"{game.name.decode()}: no symmetry {k} or no action {action}")
    cdef int32_t moved = game.symmetry_action(game, k, action)
    raise_error(game)
    return moved


def is_state(object capsule, bytes state) -> bool:
    """Can play reach these bytes?"""
    cdef const playout_game *game = table_of(capsule)
    cdef int32_t code
    if PyBytes_GET_SIZE(state) != game.state_size:
        return False
    code = game.check(game, PyBytes_AS_STRING(state))
    raise_error(game)
    return code == 0
