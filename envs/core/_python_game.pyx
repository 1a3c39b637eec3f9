"""A game written in Python behind the C function table: one table whose functions take the GIL and call back.

A state's bytes are the length of the encoded state in four bytes, the encoded state, and zeros. Decoded
states are kept in a bounded table, so that one position is decoded once. The first exception of a callback
is kept, harmless values are returned from then on (the game looks finished), and raise_error() raises it
at the Python border. What a game may leave out, and whether its answers are proper, says rules.py.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from playout.errors import GameError

from playout_game cimport (
    PLAYOUT_CHANCE, PLAYOUT_GAME_CAPSULE, PLAYOUT_GENERAL_SUM, PLAYOUT_HIDDEN, PLAYOUT_HISTORY,
    PLAYOUT_STEP_REWARDS, PLAYOUT_TERMINAL, PLAYOUT_TEXT_SIZE, PLAYOUT_ZERO_SUM, playout_game,
    playout_game_begin, playout_game_capsule, playout_rng, playout_rng_next,
)

cdef enum:
    UNASKED = -3  # an entry's player
    HEAD = 4
    KEPT = 8192  # decoded states
    WATCHED = 2000  # first moves of a game that are watched for changing the state they are played in


cdef class Entry:
    """A decoded state with what was asked about it."""

    cdef object state
    cdef int32_t player
    cdef list actions  # None: not asked yet
    cdef list probs  # at a chance node, of its outcomes


cdef class Adaptor:
    """What a table's context points to."""

    cdef object game, rules
    cdef object error, where
    cdef dict kept
    cdef int32_t room, watched

    cdef Entry keep(self, bytes raw, object state):
        cdef Entry entry = Entry.__new__(Entry)
        entry.state, entry.player = state, UNASKED
        if len(self.kept) >= KEPT:
            self.kept.clear()
        self.kept[raw] = entry
        return entry

    cdef bytes raw(self, const void *state):
        cdef uint32_t length
        memcpy(&length, state, HEAD)
        if length > <uint32_t>self.room:
            raise GameError(f"the state bytes claim a length of {length}, more than {self.room}")
        return PyBytes_FromStringAndSize(<const char *>state + HEAD, length)

    cdef Entry entry(self, const void *state):
        cdef bytes raw = self.raw(state)
        found = self.kept.get(raw)
        return self.keep(raw, self.game.decode(raw)) if found is None else <Entry>found

    cdef int store(self, object state, void *out) except -1:
        raw = self.game.encode(state)
        if not isinstance(raw, bytes):
            raise GameError(f"encode() returned {type(raw).__name__}, not bytes")
        if PyBytes_GET_SIZE(raw) > self.room:
            raise GameError(
                f"encode() returned {len(raw)} bytes, more than {self.room}: "
                "set state_bytes to the most it can return"
            )
        cdef uint32_t length = <uint32_t>PyBytes_GET_SIZE(raw)
        memset(out, 0, (HEAD + self.room + 7) // 8 * 8)
        memcpy(out, &length, HEAD)
        memcpy(<char *>out + HEAD, PyBytes_AS_STRING(raw), length)
        if raw not in self.kept:
            self.keep(raw, state)
        return 0

    cdef int32_t player(self, Entry entry) except -4:
        if entry.player == UNASKED:
            entry.player = self.rules.to_play(entry.state)
        return entry.player

    cdef list legal(self, Entry entry):
        if entry.actions is None:
            if self.player(entry) == PLAYOUT_CHANCE:
                entry.actions, entry.probs = self.rules.outcomes(entry.state)
            else:
                entry.actions = [] if entry.player < 0 else self.rules.legal_actions(entry.state)
        return entry.actions

    cdef int move(self, void *state, int32_t action) except -1:
        cdef Entry entry = self.entry(state)
        new = self.game.apply(entry.state, action)
        if new is None:
            raise GameError("apply() returned None: it must return the new state")
        if self.watched > 0:
            self.watched -= 1
            if self.game.encode(entry.state) != self.raw(state):
                raise GameError("apply() changed the state it was given: it must return a new one")
        return self.store(new, state)


cdef inline Adaptor of(const playout_game *game):
    return <Adaptor>game.context


cdef inline size_t cells(const playout_game *game) noexcept:
    return <size_t>game.obs_shape[1] * game.obs_shape[2]


cdef int fail(const playout_game *game, object error, const void *state=NULL) except? 0:
    """Keeps the first error, and the state it is about."""
    adaptor = of(game)
    if adaptor.error is None:
        adaptor.error = error
        adaptor.where = b"" if state == NULL else (<const char *>state)[:game.state_size]
    return -1


cdef object ask(const playout_game *game, const void *state, str what, tuple rest, object otherwise=0):
    """What `rules.what` answers about a state, or NULL; after an error, which is kept, `otherwise`."""
    adaptor = of(game)
    if adaptor.error is not None:
        return otherwise
    try:
        return getattr(adaptor.rules, what)(*(() if state == NULL else (adaptor.entry(state).state,)), *rest)
    except BaseException as error:
        fail(game, error, state)
        return otherwise


cdef void ask_floats(const playout_game *game, const void *state, str what, tuple rest, float *out, size_t n):
    cdef const float[::1] given
    found = ask(game, state, what, rest, None)
    memset(out, 0, n * sizeof(float))
    if found is not None:
        given = found.reshape(-1)
        memcpy(out, &given[0], n * sizeof(float))


cdef void ask_state(const playout_game *game, const void *state, str what, tuple rest, void *out):
    found = ask(game, state, what, rest, None)
    memcpy(out, state, game.state_size)
    try:
        if found is not None:
            of(game).store(found, out)
    except BaseException as error:
        fail(game, error, state)


cdef void py_init(const playout_game *game, void *state) noexcept with gil:
    memset(state, 0, game.state_size)
    try:
        of(game).store(of(game).game.initial_state(), state)
    except BaseException as error:
        fail(game, error)


cdef int32_t py_to_play(const playout_game *game, const void *state) noexcept with gil:
    adaptor = of(game)
    if adaptor.error is not None:
        return PLAYOUT_TERMINAL
    try:
        return adaptor.player(adaptor.entry(state))
    except BaseException as error:
        fail(game, error, state)
        return PLAYOUT_TERMINAL


cdef int32_t py_chance(const playout_game *game, const void *state, int32_t *actions,
                       double *probs) noexcept with gil:
    cdef int32_t i
    cdef Entry entry  # held: another thread may make room in the table meanwhile
    adaptor = of(game)
    if adaptor.error is not None:
        return 0
    try:
        entry = adaptor.entry(state)
        found = adaptor.legal(entry)
        for i in range(len(found)):
            actions[i] = found[i]
            if probs != NULL:
                probs[i] = entry.probs[i]
        return <int32_t>len(found)
    except BaseException as error:
        fail(game, error, state)
        return 0


cdef int32_t py_legal(const playout_game *game, const void *state, int32_t *actions) noexcept with gil:
    return py_chance(game, state, actions, NULL)


cdef int32_t py_plies_left(const playout_game *game, const void *state) noexcept with gil:
    return ask(game, state, "plies_left", ())


cdef void py_apply(const playout_game *game, void *state, int32_t action) noexcept with gil:
    adaptor = of(game)
    if adaptor.error is not None:
        return
    try:
        adaptor.move(state, action)
    except BaseException as error:
        fail(game, error, state)


cdef void py_returns(const playout_game *game, const void *state, float *values) noexcept with gil:
    ask_floats(game, state, "returns", (), values, game.num_players)


cdef void py_observe(const playout_game *game, const void *state, int32_t player,
                     float *obs) noexcept with gil:
    ask_floats(game, state, "observe", (player,), obs, game.obs_shape[0] * cells(game))


cdef void py_score(const playout_game *game, const void *state, float *scores) noexcept with gil:
    ask_floats(game, state, "score", (), scores, game.num_players)


cdef void py_targets(const playout_game *game, const void *state, int32_t player,
                     float *planes) noexcept with gil:
    ask_floats(game, state, "targets", (player,), planes, game.target_planes * cells(game))


cdef uint64_t py_hash(const playout_game *game, const void *state) noexcept with gil:
    return ask(game, state, "hash", ())


cdef uint64_t py_eval_key(const playout_game *game, const void *state) noexcept with gil:
    return ask(game, state, "eval_key", ())


cdef uint64_t py_info_key(const playout_game *game, const void *state, int32_t player) noexcept with gil:
    return ask(game, state, "info_key", (player,))


cdef void py_resample(const playout_game *game, const void *state, int32_t player, playout_rng *rng,
                      void *out) noexcept with gil:
    ask_state(game, state, "resample", (player, playout_rng_next(rng)), out)


cdef void py_symmetry(const playout_game *game, const void *state, int32_t k, void *out) noexcept with gil:
    ask_state(game, state, "symmetry", (k,), out)


cdef int32_t py_symmetry_action(const playout_game *game, int32_t k, int32_t action) noexcept with gil:
    return action if k == 0 else ask(game, NULL, "symmetry_action", (k, action), action)


cdef int32_t write(const playout_game *game, const void *state, str what, tuple rest, char *text):
    """Text that `rules` knows by the name `what`."""
    cdef bytes raw
    text[0] = 0
    try:
        raw = str(ask(game, state, what, rest, "")).encode()
        if len(raw) >= PLAYOUT_TEXT_SIZE:
            raise GameError(f"a text of {len(raw)} bytes is too long; {PLAYOUT_TEXT_SIZE - 1} fit")
        memcpy(text, PyBytes_AS_STRING(raw), len(raw) + 1)
        return <int32_t>len(raw)
    except BaseException as error:
        fail(game, error)
        return 0


cdef int32_t py_write_action(const playout_game *game, const void *state, int32_t action,
                             char *text) noexcept with gil:
    return write(game, state, "action_text", (action,), text)


cdef int32_t py_read_action(const playout_game *game, const void *state, const char *text) noexcept with gil:
    adaptor = of(game)
    try:
        entry = adaptor.entry(state)
        action = adaptor.rules.read_action(entry.state, (<bytes>text).decode(), adaptor.legal(entry))
        return -1 if action is None else action
    except (ValueError, IndexError, KeyError):
        return -1
    except BaseException as error:
        fail(game, error)
        return -1


cdef int32_t py_write_state(const playout_game *game, const void *state, char *text) noexcept with gil:
    return write(game, state, "state_text", (), text)


cdef int32_t py_write_board(const playout_game *game, const void *state, char *text) noexcept with gil:
    return write(game, state, "board_text", (), text)


cdef int32_t py_write_view(const playout_game *game, const void *state, int32_t player,
                           char *text) noexcept with gil:
    return write(game, state, "view_text", (player,), text)


cdef int32_t py_write_goal(const playout_game *game, char *text) noexcept with gil:
    cdef bytes raw = of(game).rules.goal.encode()
    memcpy(text, PyBytes_AS_STRING(raw), len(raw) + 1)
    return <int32_t>len(raw)


cdef int32_t py_read_state(const playout_game *game, void *state, const char *text) noexcept with gil:
    adaptor = of(game)
    memset(state, 0, game.state_size)
    try:
        adaptor.store(adaptor.rules.read_state((<bytes>text).decode()), state)
    except BaseException as error:
        return refuse(game, error)
    return py_check(game, state)


cdef int32_t py_check(const playout_game *game, const void *state) noexcept with gil:
    adaptor = of(game)
    cdef bytes again = bytes(game.state_size)
    cdef bytes given = PyBytes_FromStringAndSize(<const char *>state, game.state_size)
    try:
        raw = adaptor.raw(state)
        decoded = adaptor.game.decode(raw)
        adaptor.store(decoded, PyBytes_AS_STRING(again))
        if again != given:
            return -1
        adaptor.legal(adaptor.entry(state))
        return 0 if adaptor.rules.is_reachable(decoded) else -1
    except BaseException as error:
        return refuse(game, error)


cdef int32_t refuse(const playout_game *game, object error):
    """Bytes and text from outside may make decode() raise anything: that is an answer, not a fault."""
    if not isinstance(error, Exception):
        fail(game, error)
    return -1


cdef int32_t py_raise_error(const playout_game *game) except -1:
    adaptor = of(game)
    error, adaptor.error = adaptor.error, None
    if error is not None:
        adaptor.kept.clear()
        raise adaptor.rules.located(error, adaptor.where)
    return 0


cdef void py_destroy(playout_game *game) noexcept with gil:
    Py_DECREF(<object>game.context)


def forget(object capsule):
    """Drops the decoded states of a capsule, if make() made it."""
    cdef const playout_game *game = <const playout_game *>PyCapsule_GetPointer(capsule, PLAYOUT_GAME_CAPSULE)
    if game.raise_error == py_raise_error:
        of(game).kept.clear()


def make(object game, object rules, int state_bytes):
    """A capsule of a Python object that python_game.py has looked at; `rules` is its Rules."""
    cdef playout_game table
    cdef Adaptor adaptor = Adaptor.__new__(Adaptor)
    playout_game_begin(&table, str(game.name).encode())
    table.num_players, table.num_actions, table.max_plies = game.num_players, game.num_actions, game.max_plies
    table.obs_shape[0], table.obs_shape[1], table.obs_shape[2] = game.obs_shape
    table.state_size = (HEAD + state_bytes + 7) // 8 * 8
    table.num_symmetries = getattr(game, "num_symmetries", 1)
    adaptor.game, adaptor.rules = game, rules
    adaptor.kept, adaptor.room, adaptor.watched = {}, state_bytes, WATCHED
    table.init, table.to_play, table.legal, table.apply = py_init, py_to_play, py_legal, py_apply
    table.returns, table.observe, table.check = py_returns, py_observe, py_check
    table.symmetry, table.symmetry_action, table.destroy = py_symmetry, py_symmetry_action, py_destroy
    table.write_action, table.read_action, table.raise_error = py_write_action, py_read_action, py_raise_error
    table.write_state, table.read_state, table.write_board = py_write_state, py_read_state, py_write_board
    table.chance = py_chance if rules.has("chance") else table.chance
    table.plies_left = py_plies_left if rules.has("plies_left") else table.plies_left
    table.write_view = py_write_view if rules.has("view_text") else table.write_view
    table.write_goal = py_write_goal if rules.goal else table.write_goal
    table.info_key = py_info_key if rules.hidden else table.info_key
    table.resample = py_resample if rules.has("resample") else table.resample
    table.hash = py_hash if rules.has("hash") else table.hash
    table.eval_key = py_eval_key if rules.has("eval_key") else table.eval_key
    table.score = py_score if rules.has("score") else table.score
    table.targets = py_targets if rules.target_planes else table.targets
    table.flags = PLAYOUT_ZERO_SUM if rules.zero_sum else PLAYOUT_GENERAL_SUM
    table.flags |= PLAYOUT_HIDDEN * rules.hidden | PLAYOUT_STEP_REWARDS * rules.step_rewards
    table.flags |= PLAYOUT_HISTORY * rules.text_leaves_out_history
    table.target_planes = rules.target_planes
    table.value_scale, table.max_legal = rules.value_scale, rules.max_legal
    table.side_planes[0], table.side_planes[1] = rules.side_planes or (0, 0)
    table.context = <void *>adaptor
    Py_INCREF(adaptor)
    try:
        return playout_game_capsule(&table)
    except MemoryError:
        Py_DECREF(adaptor)
        raise
