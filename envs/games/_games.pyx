"""The games of this folder by name: their parameters, examined, and the capsules that they make."""

from operator import index

from playout.errors import ConfigError

from playout_game cimport (
    PLAYOUT_CHOICE,
    PLAYOUT_INTEGER,
    PLAYOUT_MAX_PARAMS,
    playout_game,
    playout_game_capsule,
    playout_param,
)

cdef extern from "playout_maker.h" nogil:
    ctypedef struct playout_maker:
        const char *name
        const playout_param *params
        const char *(*make)(playout_game *, const double *) noexcept nogil
    const char PLAYOUT_NO_MEMORY[]

cdef extern from "all.h" nogil:
    const playout_maker *MAKERS[]
    const int NUM_MAKERS


cdef const playout_maker *maker_of(str name) except NULL:
    cdef int i
    for i in range(NUM_MAKERS):
        if MAKERS[i].name.decode() == name:
            return MAKERS[i]
    raise ConfigError(f"no game is named {name!r}; known are {', '.join(names())}")


cdef list words(const playout_param *param):
    return param.choices.decode().split(" ")


cdef object shown(const playout_param *param):
    """The default as an int, a float or a word."""
    if param.kind == PLAYOUT_CHOICE:
        return words(param)[<int>param.value]
    return int(param.value) if param.kind == PLAYOUT_INTEGER else param.value


cdef double number(str name, const playout_param *param, object value) except? -1:
    """The number that stands for `value` in the game's table; ConfigError says which values it takes."""
    key = param.name.decode()
    if param.kind == PLAYOUT_CHOICE:
        if value not in words(param):
            raise ConfigError(f"{name}: {key} must be one of {', '.join(words(param))}, got {value!r}")
        return words(param).index(value)
    if not isinstance(value, (bool, int, float, str)):  # integers of other kinds, such as NumPy's
        try:
            value = index(value)
        except TypeError:
            pass  # the error below shows what it is
    whole = param.kind == PLAYOUT_INTEGER
    switch = whole and param.low == 0 and param.high == 1
    if (isinstance(value, bool) and not switch) or not isinstance(value, int if whole else (int, float)):
        raise ConfigError(f"{name}: {key} must be {'an integer' if whole else 'a number'}, got {value!r}")
    if not param.low <= value <= param.high:
        raise ConfigError(f"{name}: {key} must be {param.low:g} to {param.high:g}, got {value!r}")
    return value


def names() -> list:
    """The names of all games."""
    return [MAKERS[i].name.decode() for i in range(NUM_MAKERS)]


def parameters(str name) -> dict:
    """The parameters of a game, by name, and their defaults."""
    cdef const playout_param *param = maker_of(name).params
    found = {}
    while param.name != NULL:
        found[param.name.decode()] = shown(param)
        param += 1
    return found


def make(str name, /, **params):
    """A capsule of the game.

    Raises:
        ConfigError: An unknown name or parameter, a value out of its range, or values that cannot be
            played together.
    """
    cdef const playout_maker *maker = maker_of(name)
    cdef const playout_param *param = maker.params
    cdef double[PLAYOUT_MAX_PARAMS] values
    cdef playout_game game
    cdef const char *refused
    cdef int i = 0
    while param[i].name != NULL:
        key = param[i].name.decode()
        values[i] = number(name, &param[i], params.pop(key)) if key in params else param[i].value
        i += 1
    if params:
        known = ", ".join(parameters(name))
        takes = f"it takes {known}" if known else "it takes none"
        raise ConfigError(f"{name} has no parameter {next(iter(params))!r}: {takes}")
    refused = maker.make(&game, values)
    if refused == PLAYOUT_NO_MEMORY:
        raise MemoryError
    if refused != NULL:
        given = ", ".join(f"{param[j].name.decode()}={values[j]:g}" for j in range(i))
        raise ConfigError(f"{name} cannot be played with {given}: {refused.decode()}")
    game.parameters = maker.params
    for j in range(i):
        game.values[j] = values[j]
    return playout_game_capsule(&game)
