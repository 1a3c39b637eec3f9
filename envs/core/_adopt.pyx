"""The border where capsules that anybody may have made are examined, copied and completed.

Everything behind it may trust the table: its sizes are possible, its mandatory functions are there, the
optional ones have their defaults. The rules of the table stand in playout_game.h.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.object cimport PyObject
from cpython.pycapsule cimport (
    PyCapsule_GetContext,
    PyCapsule_GetPointer,
    PyCapsule_IsValid,
    PyCapsule_New,
    PyCapsule_SetContext,
)
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.math cimport isfinite
from libc.stdint cimport int32_t

from playout.errors import GameError

from playout_game cimport (
    PLAYOUT_ALL_FLAGS,
    PLAYOUT_CHANCE,
    PLAYOUT_CHOICE,
    PLAYOUT_GAME_ABI,
    PLAYOUT_GAME_CAPSULE,
    PLAYOUT_GAME_CAPSULE_1,
    PLAYOUT_GAME_FIRST_SIZE,
    PLAYOUT_GENERAL_SUM,
    PLAYOUT_HIDDEN,
    PLAYOUT_INTEGER,
    PLAYOUT_MAX_LEGAL,
    PLAYOUT_MAX_PARAMS,
    PLAYOUT_MAX_PLAYERS,
    PLAYOUT_STEP_REWARDS,
    PLAYOUT_TERMINAL,
    PLAYOUT_HISTORY,
    PLAYOUT_ZERO_SUM,
    playout_adopt,
    playout_default_info_key,
    playout_default_resample,
    playout_game,
    playout_draw,
    playout_param,
    playout_playable,
    playout_rng,
    playout_rng_stream,
)

cdef enum:
    MAX_ACTIONS = 1 << 20
    MAX_STATE = 1 << 20
    MAX_PLANE = 1 << 20
    MIN_ROOM = 1 << 16  # actions that legal() may write in try_play()
    TRIED_GAMES = 32
    TRIED_PLIES = 500  # of each


cdef object parameter_value(const playout_param *param, double value):
    """An int, a float or a word."""
    if param.kind == PLAYOUT_INTEGER:
        return int(value)
    if param.kind == PLAYOUT_CHOICE:
        return param.choices.decode().split(" ")[<int32_t>value]
    return value


def adopt(object capsule):
    """A capsule of the completed copy of the table in a capsule that anybody may have made.

    Raises:
        GameError: says what is wrong with it.
    """
    cdef const playout_game *given = NULL
    cdef playout_game *game
    for version, name in ((1, PLAYOUT_GAME_CAPSULE_1), (2, PLAYOUT_GAME_CAPSULE)):
        if PyCapsule_IsValid(capsule, name):
            given = <const playout_game *>PyCapsule_GetPointer(capsule, name)
            if given.abi != version:
                raise GameError(
                    f"the capsule speaks game ABI {given.abi}, its name says {version}, "
                    f"and this playout speaks 1 to {PLAYOUT_GAME_ABI}: rebuild the game"
                )
    if given == NULL:
        raise GameError(
            f"not a game: expected a PyCapsule named {PLAYOUT_GAME_CAPSULE.decode()!r}, "
            f"got {type(capsule).__name__}"
        )
    examine_border(given)
    game = <playout_game *>PyMem_Calloc(1, sizeof(playout_game))
    if game == NULL:
        raise MemoryError
    playout_adopt(given, game)
    adopted = PyCapsule_New(game, PLAYOUT_GAME_CAPSULE, release)
    Py_INCREF(capsule)  # it owns the context
    PyCapsule_SetContext(adopted, <void *>capsule)
    examine(game)
    return adopted


cdef void release(object adopted) noexcept:
    """The destructor of an adopted capsule."""
    cdef void *given = PyCapsule_GetContext(adopted)
    PyMem_Free(PyCapsule_GetPointer(adopted, PLAYOUT_GAME_CAPSULE))
    Py_XDECREF(<PyObject *>given)


cdef int examine_border(const playout_game *game) except -1:
    """What has to hold before a table may be copied and completed."""
    cdef const char *text
    cdef size_t length = 0
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
    missing = [
        field
        for field, there in (
            ("init", game.init != NULL),
            ("to_play", game.to_play != NULL),
            ("legal", game.legal != NULL),
            ("apply", game.apply != NULL),
            ("returns", game.returns != NULL),
            ("observe", game.observe != NULL),
        )
        if not there
    ]
    if missing:
        raise GameError(f"{raw.decode()}: the table lacks {', '.join(missing)}")
    return 0


cdef int examine(const playout_game *game) except -1:
    """The declarations of a completed table."""
    name = game.name.decode("ascii")

    def need(bint good, str what):
        if not good:
            raise GameError(f"{name}: {what}")

    shape = (game.obs_shape[0], game.obs_shape[1], game.obs_shape[2])
    need(
        1 <= game.num_players <= PLAYOUT_MAX_PLAYERS,
        f"num_players is {game.num_players}, not 1 to {PLAYOUT_MAX_PLAYERS}",
    )
    need(
        1 <= game.num_actions <= MAX_ACTIONS,
        f"num_actions is {game.num_actions}, not 1 to {MAX_ACTIONS}",
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
    sums = game.flags & (PLAYOUT_ZERO_SUM | PLAYOUT_GENERAL_SUM)
    need(
        sums != (PLAYOUT_ZERO_SUM | PLAYOUT_GENERAL_SUM),
        "flags hold both PLAYOUT_ZERO_SUM and PLAYOUT_GENERAL_SUM",
    )
    need(not game.flags & ~PLAYOUT_ALL_FLAGS, f"flags {game.flags:#x} hold bits that mean nothing")
    need(
        1 <= game.max_legal <= game.num_actions,
        f"max_legal is {game.max_legal}, more than num_actions {game.num_actions}"
        if game.max_legal > game.num_actions else f"max_legal is {game.max_legal}",
    )
    need(
        game.max_legal <= PLAYOUT_MAX_LEGAL,
        f"max_legal is {game.max_legal}; at most {PLAYOUT_MAX_LEGAL} actions may be legal at a time "
        "(declare max_legal where a state has fewer than num_actions)",
    )
    need(
        isfinite(game.value_scale) and game.value_scale > 0,
        f"value_scale is {game.value_scale}, not a positive number",
    )
    planes = side_planes(game)
    if planes is not None:
        first, second = planes
        need(
            0 <= first < shape[0] and -1 <= second < shape[0] and first != second,
            f"side_planes are {planes}, not two of the {shape[0]} planes, or one and -1",
        )
        need(game.num_players == 2, f"side_planes tell two players apart, not {game.num_players}")
    need(
        (game.targets != NULL) == (game.target_planes > 0) and 0 <= game.target_planes <= 64,
        f"target_planes is {game.target_planes}, not 1 to 64 where there are targets() and 0 elsewhere",
    )
    need(
        not game.flags & PLAYOUT_HIDDEN or game.info_key != playout_default_info_key,
        "PLAYOUT_HIDDEN is set, but there is no info_key()",
    )
    return 0


cdef object side_planes(const playout_game *game):
    """(a, b), or None where the game does not declare them."""
    planes = (game.side_planes[0], game.side_planes[1])
    return None if planes == (0, 0) else planes


cdef dict parameters(const playout_game *game):
    """What the game was made with, by name, as Python's numbers and words."""
    found = {}
    for i in range(PLAYOUT_MAX_PARAMS):
        if game.parameters == NULL or game.parameters[i].name == NULL:
            break
        found[game.parameters[i].name.decode()] = parameter_value(&game.parameters[i], game.values[i])
    return found


def describe(object capsule) -> dict:
    """The sizes and declarations of an adopted table."""
    cdef const playout_game *game = <const playout_game *>PyCapsule_GetPointer(capsule, PLAYOUT_GAME_CAPSULE)
    return {
        "name": game.name.decode("ascii"),
        "num_players": game.num_players,
        "num_actions": game.num_actions,
        "max_plies": game.max_plies,
        "obs_shape": (game.obs_shape[0], game.obs_shape[1], game.obs_shape[2]),
        "state_size": game.state_size,
        "num_symmetries": game.num_symmetries,
        "params": [game.params[i] for i in range(PLAYOUT_MAX_PARAMS)],
        "parameters": parameters(game),
        "zero_sum": bool(game.flags & PLAYOUT_ZERO_SUM),
        "hidden": bool(game.flags & PLAYOUT_HIDDEN),
        "step_rewards": bool(game.flags & PLAYOUT_STEP_REWARDS),
        "text_leaves_out_history": bool(game.flags & PLAYOUT_HISTORY),
        "value_scale": game.value_scale,
        "has_chance": game.chance != NULL,
        "has_resample": game.resample != playout_default_resample,
        "has_score": game.score != NULL,
        "target_planes": game.target_planes,
        "max_legal": game.max_legal,
        "side_planes": side_planes(game),
        "has_plies_left": game.plies_left != NULL,
    }


def same_context(object one, object other) -> bool:
    """Do two adopted tables stand on the same object of the game's own, or both on none?"""
    cdef const playout_game *first = <const playout_game *>PyCapsule_GetPointer(one, PLAYOUT_GAME_CAPSULE)
    cdef const playout_game *second = <const playout_game *>PyCapsule_GetPointer(other, PLAYOUT_GAME_CAPSULE)
    return first.context == second.context


cdef object first_fault(const playout_game *game, void *state, int32_t *actions):
    """What a few random games do that native code could not bear, in words; None for nothing."""
    cdef float[PLAYOUT_MAX_PLAYERS] values
    cdef playout_rng rng
    cdef int32_t i, count, player, played, ply
    for played in range(TRIED_GAMES):
        rng = playout_rng_stream(played, 0)
        game.init(game, state)
        for ply in range(min(game.max_plies, TRIED_PLIES) + 1):
            player = game.to_play(game, state)
            if player == PLAYOUT_TERMINAL:
                break
            if player >= game.num_players or player < PLAYOUT_CHANCE or (
                    player == PLAYOUT_CHANCE and game.chance == NULL):
                return f"to_play() is {player}"
            count = playout_playable(game, state, actions)
            if count < 1:
                return "no action is legal, but the game is not over"
            if count > game.max_legal:
                return f"{count} actions are legal, more than max_legal {game.max_legal}"
            for i in range(count):
                if actions[i] >= game.num_actions or actions[i] <= (actions[i - 1] if i else -1):
                    return (
                        f"legal() wrote action {actions[i]}: they must rise, "
                        f"and be 0 to {game.num_actions - 1}"
                    )
            if ply == game.max_plies:
                return f"a game goes on after max_plies {game.max_plies}"
            game.apply(game, state, playout_draw(game, state, &rng))
        else:
            continue
        game.returns(game, state, values)
        for i in range(game.num_players):
            if not isfinite(values[i]) or (
                    not game.flags & PLAYOUT_STEP_REWARDS and abs(values[i]) > game.value_scale):
                most = f"{game.value_scale:g}"
                return f"returns() wrote {values[i]}; results lie in [-{most}, {most}]"
    return None


def try_play(object capsule) -> None:
    """Plays a few random games of an adopted table; GameError says what it does that it must not.

    Native code trusts a table: this finds what would bring the process down at once. What is rare only
    check_game finds.
    """
    cdef const playout_game *game = <const playout_game *>PyCapsule_GetPointer(capsule, PLAYOUT_GAME_CAPSULE)
    cdef void *state = PyMem_Calloc(game.state_size, 1)
    cdef int32_t *actions = <int32_t *>PyMem_Calloc(max(game.num_actions, MIN_ROOM), sizeof(int32_t))
    try:
        if state == NULL or actions == NULL:
            raise MemoryError
        fault = first_fault(game, state, actions)
    finally:
        PyMem_Free(state)
        PyMem_Free(actions)
    if fault is not None:
        raise GameError(f"{game.name.decode()}: {fault}; playout.testing.check_game says more")
