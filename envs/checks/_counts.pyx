"""Exhaustive counts of a game's tree through the C table: move sequences, finished games, distinct positions.

A chance outcome is a ply like a move, whatever its probability.
Plain enumeration, exact and without symmetry; published counts of the rules are checked against it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from playout.errors import GameError

from playout_game cimport (
    PLAYOUT_GAME_CAPSULE,
    PLAYOUT_MAX_LEGAL,
    PLAYOUT_MAX_PLAYERS,
    playout_game,
    playout_playable,
)

cdef enum:
    MAX_RESULTS = 256  # different results that one count can tell apart
    STEPS = 1 << 16  # moves between two looks whether somebody wants to interrupt


cdef struct Results:
    int32_t count
    int64_t games[MAX_RESULTS]
    float values[MAX_RESULTS][PLAYOUT_MAX_PLAYERS]


cdef struct Layer:  # distinct states: rows in the order they were found, and a hash table of row numbers
    uint8_t *rows
    int64_t count, room
    int64_t *slots
    uint64_t mask


cdef const playout_game *table_of(object capsule) except NULL:
    return <const playout_game *>PyCapsule_GetPointer(capsule, PLAYOUT_GAME_CAPSULE)


cdef int raise_error(const playout_game *game) except -1:
    return game.raise_error(game) if game.raise_error != NULL else 0


cdef int need_state(const playout_game *game, bytes state) except -1:
    if PyBytes_GET_SIZE(state) != game.state_size:
        raise GameError(f"{game.name.decode()}: a state has {game.state_size} bytes, got {len(state)}")
    return 0


cdef struct Path:  # the states from the first one to where a walk stands, with their moves; grows on the way
    uint8_t *states
    int32_t *actions  # room for max_legal a state
    int32_t *counts  # how many there are
    int32_t *tried  # how many of them were played
    int32_t room
    int64_t steps


cdef void path_close(Path *path) noexcept nogil:
    free(path.states)
    free(path.actions)
    free(path.counts)
    free(path.tried)


cdef void *grown(void *memory, size_t size) except NULL nogil:
    """Larger memory with what was in it; the old one stays where there is none."""
    cdef void *found = realloc(memory, size)
    if found == NULL:
        with gil:
            raise MemoryError
    return found


cdef int path_need(const playout_game *game, Path *path, int32_t plies) except -1 nogil:
    """Makes room for the states after so many plies."""
    cdef size_t room = 16
    if plies < path.room:
        return 0
    while room <= <size_t>plies:
        room *= 2
    path.states = <uint8_t *>grown(path.states, room * game.state_size)
    path.actions = <int32_t *>grown(path.actions, room * game.max_legal * sizeof(int32_t))
    path.counts = <int32_t *>grown(path.counts, room * sizeof(int32_t))
    path.tried = <int32_t *>grown(path.tried, room * sizeof(int32_t))
    path.room = <int32_t>room
    return 0


cdef inline uint8_t *path_state(const playout_game *game, const Path *path, int32_t ply) noexcept nogil:
    return path.states + <size_t>ply * game.state_size


cdef inline void path_open(const playout_game *game, Path *path, int32_t ply) noexcept nogil:
    """Finds the moves of the state after `ply` plies."""
    path.tried[ply] = 0
    path.counts[ply] = playout_playable(
        game, path_state(game, path, ply), path.actions + <size_t>ply * game.max_legal
    )


cdef int path_next(const playout_game *game, Path *path, int32_t ply) except -1 nogil:
    """Plays the next move that was not tried after `ply` plies, and opens what it leads to."""
    cdef int32_t action = path.actions[<size_t>ply * game.max_legal + path.tried[ply]]
    path_need(game, path, ply + 1)
    path.steps += 1
    if path.steps % STEPS == 0:
        with gil:
            PyErr_CheckSignals()
    path.tried[ply] += 1
    memcpy(path_state(game, path, ply + 1), path_state(game, path, ply), game.state_size)
    game.apply(game, path_state(game, path, ply + 1), action)
    path_open(game, path, ply + 1)
    return 0


cdef int64_t count_sequences(const playout_game *game, Path *path, int32_t depth) except -1 nogil:
    """Sequences of exactly `depth` moves; the last ply is counted without being played."""
    cdef int32_t ply = 0
    cdef int64_t total = 0
    while ply >= 0:
        if ply == depth - 1:
            total += path.counts[ply]
        elif path.tried[ply] < path.counts[ply]:
            path_next(game, path, ply)
            ply += 2
        ply -= 1
    return total


cdef int tally(const playout_game *game, const uint8_t *state, Results *results) noexcept nogil:
    """Adds a finished game to those of its result; -1 for too many different ones."""
    cdef float[PLAYOUT_MAX_PLAYERS] values
    cdef int32_t i
    memset(values, 0, sizeof(values))
    game.returns(game, state, values)
    for i in range(results.count):
        if memcmp(results.values[i], values, sizeof(values)) == 0:
            results.games[i] += 1
            return 0
    if results.count == MAX_RESULTS:
        return -1
    memcpy(results.values[results.count], values, sizeof(values))
    results.games[results.count] = 1
    results.count += 1
    return 0


cdef int count_results(const playout_game *game, Path *path, Results *results) except -1 nogil:
    """Tallies every finished game; 1 for too many different results, 2 for too many plies."""
    cdef int32_t ply = 0
    while ply >= 0:
        if path.counts[ply] == 0 and tally(game, path_state(game, path, ply), results) != 0:
            return 1
        if path.tried[ply] < path.counts[ply]:
            if ply == game.max_plies:
                return 2
            path_next(game, path, ply)
            ply += 2
        ply -= 1
    return 0


cdef int layer_open(Layer *layer, int32_t size) noexcept nogil:
    memset(layer, 0, sizeof(Layer))
    layer.room = 1024
    layer.mask = 4095
    layer.rows = <uint8_t *>malloc(layer.room * size)
    layer.slots = <int64_t *>calloc(layer.mask + 1, sizeof(int64_t))
    return 0 if layer.rows != NULL and layer.slots != NULL else -1


cdef void layer_close(Layer *layer) noexcept nogil:
    free(layer.rows)
    free(layer.slots)
    memset(layer, 0, sizeof(Layer))


cdef int layer_grow(const playout_game *game, Layer *layer) noexcept nogil:
    """Doubles the room; the table keeps four slots a row. Slots hold row numbers plus one, zero is free."""
    cdef uint8_t *rows = <uint8_t *>realloc(layer.rows, 2 * layer.room * game.state_size)
    cdef uint64_t slot
    cdef int64_t row
    if rows == NULL:
        return -1
    layer.rows = rows
    layer.room *= 2
    free(layer.slots)
    layer.mask = 4 * <uint64_t>layer.room - 1
    layer.slots = <int64_t *>calloc(layer.mask + 1, sizeof(int64_t))
    if layer.slots == NULL:
        return -1
    for row in range(layer.count):
        slot = game.hash(game, layer.rows + row * game.state_size) & layer.mask
        while layer.slots[slot]:
            slot = (slot + 1) & layer.mask
        layer.slots[slot] = row + 1
    return 0


cdef int layer_add(const playout_game *game, Layer *layer, const uint8_t *state) noexcept nogil:
    """Adds a state unless it is there; -1 without memory."""
    cdef uint64_t slot = game.hash(game, state) & layer.mask
    while layer.slots[slot]:
        if memcmp(layer.rows + (layer.slots[slot] - 1) * game.state_size, state, game.state_size) == 0:
            return 0
        slot = (slot + 1) & layer.mask
    if layer.count == layer.room:
        if layer_grow(game, layer) != 0:
            return -1
        return layer_add(game, layer, state)
    memcpy(layer.rows + layer.count * game.state_size, state, game.state_size)
    layer.count += 1
    layer.slots[slot] = layer.count
    return 0


cdef int layer_next(const playout_game *game, const Layer *old, Layer *new, uint8_t *scratch) noexcept nogil:
    """Fills `new` with all states one move after those of `old`."""
    cdef int32_t[PLAYOUT_MAX_LEGAL] actions
    cdef const uint8_t *state
    cdef int64_t row
    cdef int32_t i, count
    for row in range(old.count):
        state = old.rows + row * game.state_size
        count = playout_playable(game, state, actions)
        for i in range(count):
            memcpy(scratch, state, game.state_size)
            game.apply(game, scratch, actions[i])
            if layer_add(game, new, scratch) != 0:
                return -1
    return 0


cdef int begin(const playout_game *game, bytes state, Path *path) except -1:
    """Opens a path that begins in the state; path_close() it, whatever comes."""
    memset(path, 0, sizeof(Path))
    need_state(game, state)
    path_need(game, path, 0)
    memcpy(path.states, PyBytes_AS_STRING(state), game.state_size)
    path_open(game, path, 0)
    return 0


def perft(object capsule, bytes state, int depth) -> int:
    """The number of sequences of exactly `depth` legal moves."""
    cdef const playout_game *game = table_of(capsule)
    cdef int64_t total = 1
    cdef Path path
    try:
        begin(game, state, &path)
        if depth > 0:
            with nogil:
                total = count_sequences(game, &path, depth)
        raise_error(game)
        return total
    finally:
        path_close(&path)


def games(object capsule, bytes state) -> list:
    """[(results, number of finished games that end with them)] over the whole tree."""
    cdef const playout_game *game = table_of(capsule)
    cdef int code
    cdef Path path
    cdef Results *results = <Results *>calloc(1, sizeof(Results))
    try:
        begin(game, state, &path)
        if results == NULL:
            raise MemoryError
        with nogil:
            code = count_results(game, &path, results)
        raise_error(game)
        if code == 1:
            raise GameError(f"{game.name.decode()}: there are more than {MAX_RESULTS} different results")
        if code == 2:
            raise GameError(f"{game.name.decode()}: a game is longer than max_plies {game.max_plies}")
        return [
            (tuple([results.values[i][player] for player in range(game.num_players)]), results.games[i])
            for i in range(results.count)
        ]
    finally:
        free(results)
        path_close(&path)


def positions(object capsule, bytes state, int plies) -> list:
    """The number of distinct states after 0, 1, ... plies."""
    cdef const playout_game *game = table_of(capsule)
    cdef Layer old, new
    cdef int code
    cdef uint8_t *scratch
    need_state(game, state)
    cdef const uint8_t *start = <const uint8_t *>PyBytes_AS_STRING(state)
    memset(&new, 0, sizeof(Layer))
    scratch = <uint8_t *>malloc(game.state_size)
    counts = [1]
    try:
        if layer_open(&old, game.state_size) != 0 or scratch == NULL or layer_add(game, &old, start) != 0:
            raise MemoryError
        for _ in range(plies):
            if layer_open(&new, game.state_size) != 0:
                raise MemoryError
            with nogil:
                code = layer_next(game, &old, &new, scratch)
            raise_error(game)
            if code != 0:
                raise MemoryError
            counts.append(new.count)
            layer_close(&old)
            old = new
            memset(&new, 0, sizeof(Layer))
        return counts
    finally:
        layer_close(&old)
        layer_close(&new)
        free(scratch)
