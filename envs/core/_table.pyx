"""One state at a time through the game table: what `State` and `NativeGame` stand on.

Also the border where foreign capsules are examined, so that everything behind it may trust the table.
States are bytes objects of exactly state_size. Batches of states stand in _batch.pyx.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid
from libc.stdint cimport int32_t, uint32_t, uint64_t

import numpy as np

from playout.errors import GameError, IllegalActionError

from playout_game cimport (
    PLAYOUT_CHANCE,
    PLAYOUT_GAME_ABI,
    PLAYOUT_GAME_CAPSULE,
    PLAYOUT_GAME_FIRST_SIZE,
    PLAYOUT_GENERAL_SUM,
    PLAYOUT_MAX_ACTIONS,
    PLAYOUT_MAX_PLAYERS,
    PLAYOUT_TERMINAL,
    PLAYOUT_TEXT_SIZE,
    PLAYOUT_ZERO_SUM,
    playout_game,
    playout_game_flags,
    playout_has_plies_left,
    playout_max_legal,
    playout_playable,
    playout_side_planes,
    playout_zero_sum,
)

TERMINAL = PLAYOUT_TERMINAL
CHANCE = PLAYOUT_CHANCE

cdef enum:
    MAX_STATE = 1 << 20
    MAX_PLANE = 1 << 20


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


def describe(object capsule) -> dict:
    """Examines a capsule that anybody may have made and returns its sizes; GameError says what is wrong."""
    cdef const playout_game *game
    cdef const char *text
    cdef size_t length = 0
    if not PyCapsule_IsValid(capsule, PLAYOUT_GAME_CAPSULE):
        raise GameError(
            f"not a game: expected a PyCapsule named {PLAYOUT_GAME_CAPSULE.decode()!r}, "
            f"got {type(capsule).__name__}"
        )
    game = table_of(capsule)
    if game.abi != PLAYOUT_GAME_ABI:
        raise GameError(
            f"the capsule speaks game ABI {game.abi}, this playout speaks {PLAYOUT_GAME_ABI}: "
            "rebuild the game"
        )
    if game.struct_size < PLAYOUT_GAME_FIRST_SIZE or game.struct_size > 65536:
        raise GameError(
            f"the capsule's table has {game.struct_size} bytes, at least {PLAYOUT_GAME_FIRST_SIZE} are "
            "needed: call playout_game_begin() first"
        )
    text = game.name
    while length < sizeof(game.name) and text[length] != 0:
        length += 1
    raw = PyBytes_FromStringAndSize(text, length)
    if not raw or length == sizeof(game.name) or not raw.isascii() or not raw.decode("ascii").isidentifier():
        raise GameError(f"the game's name {raw!r} is not a short identifier such as b'connect_four'")
    name = raw.decode("ascii")

    def need(bint good, str what):
        if not good:
            raise GameError(f"{name}: {what}")

    shape = (game.obs_shape[0], game.obs_shape[1], game.obs_shape[2])
    need(
        1 <= game.num_players <= PLAYOUT_MAX_PLAYERS,
        f"num_players is {game.num_players}, not 1 to {PLAYOUT_MAX_PLAYERS}",
    )
    need(
        1 <= game.num_actions <= PLAYOUT_MAX_ACTIONS,
        f"num_actions is {game.num_actions}, not 1 to {PLAYOUT_MAX_ACTIONS}",
    )
    need(game.max_plies >= 1, f"max_plies is {game.max_plies}, not at least 1")
    need(min(shape) >= 1, f"obs_shape is {shape}; every side must be at least 1")
    need(
        max(shape) <= MAX_PLANE and shape[0] * shape[1] * shape[2] <= MAX_PLANE,
        f"obs_shape {shape} is too large",
    )
    need(
        0 < game.state_size <= MAX_STATE and game.state_size % 8 == 0,
        f"state_size is {game.state_size}, not a multiple of 8 up to {MAX_STATE}",
    )
    need(game.num_symmetries >= 1, f"num_symmetries is {game.num_symmetries}, not at least 1")
    missing = [
        field
        for field, there in (
            ("init", game.init != NULL),
            ("to_play", game.to_play != NULL),
            ("legal", game.legal != NULL),
            ("apply", game.apply != NULL),
            ("returns", game.returns != NULL),
            ("observe", game.observe != NULL),
            ("hash", game.hash != NULL),
            ("symmetry", game.symmetry != NULL),
            ("symmetry_action", game.symmetry_action != NULL),
            ("write_action", game.write_action != NULL),
            ("read_action", game.read_action != NULL),
            ("write_state", game.write_state != NULL),
            ("read_state", game.read_state != NULL),
            ("write_board", game.write_board != NULL),
            ("check", game.check != NULL),
        )
        if not there
    ]
    need(not missing, f"the table lacks {', '.join(missing)}")
    cdef int32_t[2] planes
    cdef uint32_t sums = playout_game_flags(game) & (PLAYOUT_ZERO_SUM | PLAYOUT_GENERAL_SUM)
    cdef int32_t most = playout_max_legal(game)
    need(
        sums != (PLAYOUT_ZERO_SUM | PLAYOUT_GENERAL_SUM),
        "flags hold both PLAYOUT_ZERO_SUM and PLAYOUT_GENERAL_SUM",
    )
    need(most <= game.num_actions, f"max_legal is {most}, more than num_actions {game.num_actions}")
    side_planes = None
    if playout_side_planes(game, planes):
        side_planes = (planes[0], planes[1])
        need(
            0 <= planes[0] < shape[0] and -1 <= planes[1] < shape[0] and planes[0] != planes[1],
            f"side_planes are {side_planes}, not two of the {shape[0]} planes, or one and -1",
        )
        need(game.num_players == 2, f"side_planes tell two players apart, not {game.num_players}")
    return {
        "name": name,
        "num_players": game.num_players,
        "num_actions": game.num_actions,
        "max_plies": game.max_plies,
        "obs_shape": shape,
        "state_size": game.state_size,
        "num_symmetries": game.num_symmetries,
        "params": [game.params[i] for i in range(8)],
        "zero_sum": playout_zero_sum(game),
        "has_chance": game.chance != NULL,
        "max_legal": most,
        "side_planes": side_planes,
        "has_plies_left": playout_has_plies_left(game),
    }


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
    cdef int32_t[PLAYOUT_MAX_ACTIONS] actions
    cdef int32_t count = playout_playable(game, state, actions)
    cdef int32_t i
    for i in range(count):
        if actions[i] == action:
            return 0
    raise_error(game)
    if game.to_play(game, state) == PLAYOUT_TERMINAL:
        raise IllegalActionError(
            f"{game.name.decode()}: the game is over, action {action} cannot be played"
        )
    raise IllegalActionError(
        f"{game.name.decode()}: action {action} is not legal here; "
        f"legal are {[actions[i] for i in range(count)]}"
    )


def initial(object capsule) -> bytes:
    """The first state of a game."""
    cdef const playout_game *game = table_of(capsule)
    cdef bytes state = PyBytes_FromStringAndSize(NULL, game.state_size)
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
    cdef int32_t[PLAYOUT_MAX_ACTIONS] actions
    cdef int32_t count = playout_playable(game, state_of(game, state), actions)
    raise_error(game)
    return [actions[i] for i in range(count)]


def outcomes(object capsule, bytes state) -> list:
    """[(action, probability)] of a chance node; nothing elsewhere."""
    cdef const playout_game *game = table_of(capsule)
    cdef int32_t[PLAYOUT_MAX_ACTIONS] actions
    cdef double[PLAYOUT_MAX_ACTIONS] probs
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
    """float32 [P]: the result of a finished game, zeros before."""
    cdef const playout_game *game = table_of(capsule)
    cdef const char *data = state_of(game, state)
    values = np.zeros(game.num_players, np.float32)
    cdef float[::1] view = values
    if game.to_play(game, data) == PLAYOUT_TERMINAL:
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


def symmetry(object capsule, bytes state, int k) -> bytes:
    """The state as symmetry `k` shows it."""
    cdef const playout_game *game = table_of(capsule)
    cdef const char *old = state_of(game, state)
    cdef bytes new
    if not 0 <= k < game.num_symmetries:
        raise GameError(f"{game.name.decode()}: symmetry {k} is not 0 to {game.num_symmetries - 1}")
    new = bytes(game.state_size)
    game.symmetry(game, old, k, PyBytes_AS_STRING(new))
    raise_error(game)
    return new


def symmetry_action(object capsule, int k, int action) -> int:
    """Where symmetry `k` moves an action."""
    cdef const playout_game *game = table_of(capsule)
    if not 0 <= k < game.num_symmetries or not 0 <= action < game.num_actions:
        raise GameError(f"{game.name.decode()}: no symmetry {k} or no action {action}")
    cdef int32_t moved = game.symmetry_action(game, k, action)
    raise_error(game)
    return moved


cdef str text_of(const playout_game *game, const char *text, int32_t length):
    raise_error(game)
    if not 0 <= length < PLAYOUT_TEXT_SIZE:
        raise GameError(
            f"{game.name.decode()}: a text of {length} characters does not fit into {PLAYOUT_TEXT_SIZE}"
        )
    return text[:length].decode("utf-8", "replace")


def write_action(object capsule, bytes state, int action) -> str:
    """The notation of an action."""
    cdef const playout_game *game = table_of(capsule)
    cdef const char *data = state_of(game, state)
    cdef char[PLAYOUT_TEXT_SIZE] text
    if not 0 <= action < game.num_actions:
        raise GameError(f"{game.name.decode()}: action {action} is not 0 to {game.num_actions - 1}")
    return text_of(game, text, game.write_action(game, data, action, text))


def read_action(object capsule, bytes state, str text) -> int:
    """The action that `text` names; IllegalActionError if it names none."""
    cdef const playout_game *game = table_of(capsule)
    cdef const char *data = state_of(game, state)
    cdef bytes raw = text.encode("utf-8", "replace")
    cdef int32_t action = -1
    if len(raw) < PLAYOUT_TEXT_SIZE and b"\0" not in raw:
        action = game.read_action(game, data, raw)
    raise_error(game)
    if not 0 <= action < game.num_actions:
        raise IllegalActionError(f"{game.name.decode()}: {text[:40]!r} is not an action")
    return action


def write_state(object capsule, bytes state) -> str:
    """The state as one line of text."""
    cdef const playout_game *game = table_of(capsule)
    cdef char[PLAYOUT_TEXT_SIZE] text
    return text_of(game, text, game.write_state(game, state_of(game, state), text))


def write_board(object capsule, bytes state) -> str:
    """The state as several lines for people."""
    cdef const playout_game *game = table_of(capsule)
    cdef char[PLAYOUT_TEXT_SIZE] text
    return text_of(game, text, game.write_board(game, state_of(game, state), text))


def read_state(object capsule, str text) -> bytes:
    """The state that a line of text describes; GameError if play cannot reach it."""
    cdef const playout_game *game = table_of(capsule)
    cdef bytes state = bytes(game.state_size)
    cdef bytes raw = text.encode("utf-8", "replace")
    cdef int32_t code = -1
    if len(raw) < PLAYOUT_TEXT_SIZE and b"\0" not in raw:
        code = game.read_state(game, PyBytes_AS_STRING(state), raw)
    raise_error(game)
    if code != 0:
        raise GameError(f"{game.name.decode()}: {text[:100]!r} is not a position of this game")
    return state


def is_state(object capsule, bytes state) -> bool:
    """Can play reach these bytes?"""
    cdef const playout_game *game = table_of(capsule)
    cdef int32_t code
    if PyBytes_GET_SIZE(state) != game.state_size:
        return False
    code = game.check(game, PyBytes_AS_STRING(state))
    raise_error(game)
    return code == 0
