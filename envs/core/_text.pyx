"""States and actions as text, through the game table: notation, one line of a state, a board for people."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t

from playout.errors import GameError, IllegalActionError

from playout_game cimport PLAYOUT_GAME_CAPSULE, PLAYOUT_TEXT_SIZE, playout_game


cdef const playout_game *table_of(object capsule) except NULL:
    return <const playout_game *>PyCapsule_GetPointer(capsule, PLAYOUT_GAME_CAPSULE)


cdef int raise_error(const playout_game *game) except -1:
    return game.raise_error(game) if game.raise_error != NULL else 0


cdef const char *state_of(const playout_game *game, bytes state) except NULL:
    if PyBytes_GET_SIZE(state) != game.state_size:
        raise GameError(
            f"{game.name.decode()}: a state has {game.state_size} bytes, got {PyBytes_GET_SIZE(state)}"
        )
    return PyBytes_AS_STRING(state)


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


def write_view(object capsule, bytes state, int player) -> str:
    """What `player` sees of the board, as several lines for people."""
    cdef const playout_game *game = table_of(capsule)
    cdef const char *data = state_of(game, state)
    cdef char[PLAYOUT_TEXT_SIZE] text
    if not 0 <= player < game.num_players:
        raise GameError(f"{game.name.decode()}: player {player} is not 0 to {game.num_players - 1}")
    return text_of(game, text, game.write_view(game, data, player, text))


def write_goal(object capsule) -> str:
    """What ends the game and who has won then, in words; empty where the game does not say it."""
    cdef const playout_game *game = table_of(capsule)
    cdef char[PLAYOUT_TEXT_SIZE] text
    if game.write_goal == NULL:
        return ""
    return text_of(game, text, game.write_goal(game, text))


cdef str fault_of(const playout_game *game, int32_t code):
    """What the game says of a text that it refused with `code`, after a colon; nothing if nothing."""
    cdef int32_t i
    if game.state_faults == NULL or code > -2:
        return ""
    for i in range(-1 - code):
        if game.state_faults[i] == NULL:
            return ""
    return f": {game.state_faults[-2 - code].decode()}"


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
        reason = fault_of(game, code)
        raise GameError(f"{game.name.decode()}: {text[:100]!r} is not a position of this game{reason}")
    return state
