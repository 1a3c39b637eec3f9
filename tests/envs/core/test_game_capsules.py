"""Capsules that anybody may hand in: malformed ones are refused, check_game finds faulty ones.

The faults are put in through ctypes, which replaces single functions of tic-tac-toe's table.
"""

import ctypes as c

import numpy as np
import playout
import pytest
from playout.envs.core.game import NativeGame
from playout.envs.games._games import make as make_by_name
from playout.errors import GameError, IllegalActionError
from playout.testing import GameCheckError, check_game

P, INT, F = c.c_void_p, c.c_int32, c.POINTER(c.c_float)


def make():
    """A capsule of tic-tac-toe."""
    return make_by_name("tic_tac_toe")


class Table(c.Structure):
    """playout_game of playout_game.h."""


KINDS = {
    "init": c.CFUNCTYPE(None, P, P),
    "to_play": c.CFUNCTYPE(INT, P, P),
    "legal": c.CFUNCTYPE(INT, P, P, c.POINTER(INT)),
    "apply": c.CFUNCTYPE(None, P, P, INT),
    "returns": c.CFUNCTYPE(None, P, P, F),
    "observe": c.CFUNCTYPE(None, P, P, INT, F),
    "hash": c.CFUNCTYPE(c.c_uint64, P, P),
    "symmetry": c.CFUNCTYPE(None, P, P, INT, P),
    "symmetry_action": c.CFUNCTYPE(INT, P, INT, INT),
    "write_action": c.CFUNCTYPE(INT, P, P, INT, c.POINTER(c.c_char)),
    "read_action": c.CFUNCTYPE(INT, P, P, c.c_char_p),
    "write_state": c.CFUNCTYPE(INT, P, P, c.POINTER(c.c_char)),
    "read_state": c.CFUNCTYPE(INT, P, P, c.c_char_p),
    "write_board": c.CFUNCTYPE(INT, P, P, c.POINTER(c.c_char)),
    "check": c.CFUNCTYPE(INT, P, P),
    "chance": P,
    "playout": c.CFUNCTYPE(None, P, P, P, F),
    "destroy": P,
    "raise_error": P,
}
SIZES = "num_players num_actions max_plies channels height width state_size num_symmetries"
Table._fields_ = [
    ("abi", c.c_uint32),
    ("struct_size", c.c_uint32),
    ("name", c.c_char * 64),
    *[(name, INT) for name in SIZES.split()],
    ("params", INT * 8),
    ("context", P),
    *KINDS.items(),
    ("reserved", P * 7),
    ("flags", c.c_uint32),
    ("max_legal", INT),
    ("side_planes", INT * 2),
    ("plies_left", P),
    ("parameters", P),
    ("values", c.c_double * 8),
    ("value_scale", c.c_double),
    *((name, P) for name in ["is_legal", "eval_key", "info_key", "resample", "score", "targets"]),
    ("target_planes", INT),
    *((name, P) for name in ["write_view", "state_faults", "write_goal", "symmetry_key"]),
]

get_pointer = c.pythonapi.PyCapsule_GetPointer
get_pointer.restype, get_pointer.argtypes = P, [c.py_object, c.c_char_p]
new_capsule = c.pythonapi.PyCapsule_New
new_capsule.restype, new_capsule.argtypes = c.py_object, [P, c.c_char_p, P]

OWN, ALL = 0, 1  # the two uint32 of a state


@pytest.fixture
def faulty():
    """Makes tic-tac-toe with some fields set to other values or functions."""
    alive = []

    def build(**changes):
        capsule = make()
        table = Table.from_address(get_pointer(capsule, b"playout.game.v2"))
        original = {name: getattr(table, name) for name in KINDS}
        for name, value in changes.items():
            if callable(value):
                # A Structure's function field has to be read before it is replaced.
                address = c.cast(original[name], P).value
                value = KINDS[name](value(KINDS[name](address)))
                alive.append(value)
            setattr(table, name, value)
        alive.append(capsule)
        return capsule

    yield build
    alive.clear()


def test_a_game_that_writes_actions_and_does_not_read_them_reads_those_that_may_be_played(faulty):
    capsule = faulty()
    Table.from_address(get_pointer(capsule, b"playout.game.v2")).read_action = KINDS[
        "read_action"
    ]()
    state = NativeGame(capsule).initial_state().apply(4)
    assert [state.read_action(text) for text in "19"] == [0, 8]
    for text in ("5", "0", "11", ""):  # the fifth cell is taken
        with pytest.raises(IllegalActionError):
            state.read_action(text)


def test_a_table_from_before_goals_is_silent_about_them(faulty):
    assert "three in a row" in NativeGame(faulty()).goal
    assert NativeGame(faulty(struct_size=Table.write_goal.offset)).goal == ""


def test_the_table_in_this_file_is_the_one_of_the_header(faulty):
    table = Table.from_address(get_pointer(faulty(), b"playout.game.v2"))
    assert table.struct_size == c.sizeof(Table)
    assert table.name == b"tic_tac_toe"
    assert (table.num_actions, table.state_size, table.num_symmetries) == (9, 8, 8)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"abi": 3}, "ABI 3.*speaks 1 to 2"),
        ({"abi": 0}, "ABI 0"),
        ({"struct_size": 8}, "8 bytes"),
        ({"struct_size": 2**31}, "bytes"),
        ({"name": b""}, "name"),
        ({"name": b"x" * 64}, "name"),
        ({"name": b"tic tac"}, "identifier"),
        ({"name": "été".encode()}, "identifier"),
        ({"num_players": 0}, "num_players is 0"),
        ({"num_players": 9}, "num_players is 9"),
        ({"num_actions": -1}, "num_actions is -1"),
        ({"num_actions": 2**21}, "num_actions is 2097152"),
        ({"num_actions": 5000, "max_legal": 5000}, "max_legal is 5000; at most 4096"),
        ({"max_legal": 10}, "max_legal is 10, more than num_actions 9"),
        ({"flags": 3}, "both"),
        ({"flags": 64}, "bits that mean nothing"),
        ({"flags": 4}, "no info_key"),
        ({"value_scale": -1.0}, "value_scale is -1"),
        ({"target_planes": 1}, "target_planes is 1"),
        ({"max_plies": 0}, "max_plies"),
        ({"height": 0}, "obs_shape"),
        ({"channels": 2**30, "height": 2**30}, "too large"),
        ({"state_size": 12}, "state_size is 12"),
        ({"state_size": 0}, "state_size"),
        ({"state_size": 2**30}, "state_size"),
        ({"num_symmetries": 0}, "num_symmetries"),
        ({"legal": KINDS["legal"](0)}, "lacks legal"),
        ({"init": KINDS["init"](0), "apply": KINDS["apply"](0)}, "lacks init, apply"),
    ],
)
def test_a_table_with_impossible_sizes_is_refused(changes, what):
    capsule = make()
    table = Table.from_address(get_pointer(capsule, b"playout.game.v2"))
    for name, value in changes.items():
        setattr(table, name, value)
    with pytest.raises(GameError, match=what):
        playout.game(capsule)


def test_what_is_not_a_game_capsule_is_refused():
    other = new_capsule(c.addressof(Table()), b"something.else", None)
    with pytest.raises(GameError, match=r"PyCapsule named 'playout.game.v2'"):
        playout.game(other)
    for thing in (None, 3, b"connect_four", object(), ["connect_four"]):
        with pytest.raises(GameError, match="is not a game"):
            playout.game(thing)
        with pytest.raises(GameError, match="not a game"):
            NativeGame(thing)


def words(state):
    return c.cast(state, c.POINTER(c.c_uint32))


def swapped(original):
    def legal(game, state, actions):
        count = original(game, state, actions)
        if count > 1:
            actions[0], actions[1] = actions[1], actions[0]
        return count

    return legal


def twice(original):
    def legal(game, state, actions):
        count = original(game, state, actions)
        if count > 1:
            actions[1] = actions[0]
        return count

    return legal


def too_far(original):
    def legal(game, state, actions):
        count = original(game, state, actions)
        if count:
            actions[count - 1] = 9
        return count

    return legal


def after_the_end(original):
    def legal(game, state, actions):
        count = original(game, state, actions)
        actions[0] = actions[0] if count else 0
        return count or 1

    return legal


def none_at_last(original):
    def legal(game, state, actions):
        count = original(game, state, actions)
        return 0 if count == 1 else count

    return legal


def drifting(original):
    calls = [0]

    def apply(game, state, action):
        calls[0] += 1
        original(game, state, action)
        words(state)[ALL] |= (calls[0] & 1) << 20

    return apply


def partial_init(original):
    def init(game, state):
        words(state)[ALL] = 0

    return init


def large(original):
    def returns(game, state, values):
        values[0], values[1] = 2.0, -2.0

    return returns


def one_too_many(original):
    def observe(game, state, player, obs):
        original(game, state, player, obs)
        obs[18] = 0.0

    return observe


def one_too_few(original):
    def observe(game, state, player, obs):
        last = obs[17]
        original(game, state, player, obs)
        obs[17] = last

    return observe


def not_a_number(original):
    def observe(game, state, player, obs):
        original(game, state, player, obs)
        obs[0] = float("nan")

    return observe


def not_turned(original):
    def observe(game, state, player, obs):
        original(game, state, player, obs)
        obs[0] = 5.0 * obs[0]

    return observe


def half_symmetry(original):
    def symmetry(game, state, k, out):
        original(game, state, k, out)
        if k == 3:
            words(out)[OWN] = words(state)[OWN]

    return symmetry


def wrong_symmetry(original):
    def symmetry(game, state, k, out):
        original(game, state, 2 if k == 3 else k, out)

    return symmetry


def biased(original):
    def run(game, state, rng, values):
        values[0], values[1] = 1.0, -1.0

    return run


def forgetful(original):
    def write_state(game, state, text):
        for i, letter in enumerate(b".../.../...\0"):
            text[i] = letter
        return 11

    return write_state


def same_letter(original):
    def write_action(game, state, action, text):
        return original(game, state, max(action, 1), text)

    return write_action


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"legal": swapped}, "rising order"),
        ({"legal": twice}, "rising order"),
        ({"legal": too_far}, "num_actions is 9"),
        ({"legal": after_the_end}, "at the end|after the end"),
        ({"legal": none_at_last}, "no action is legal but"),
        ({"to_play": lambda original: lambda g, s: 7}, "to_play.. is 7"),
        ({"apply": drifting}, "second call|check.. refuses"),
        ({"init": partial_init}, "init.. leaves bytes"),
        ({"returns": large}, r"must lie in \[-1, 1\]"),
        ({"observe": one_too_many}, "writes outside"),
        ({"observe": one_too_few}, "unwritten"),
        ({"observe": not_a_number}, "not finite"),
        ({"observe": not_turned}, "changes the numbers"),
        ({"hash": lambda original: lambda g, s: 1}, "belongs to another position"),
        ({"symmetry": half_symmetry}, "symmetry 3|symmetry 1|refuses"),
        ({"symmetry": wrong_symmetry}, "symmetry"),
        ({"symmetry_action": lambda original: lambda g, k, a: a}, "disagree|not.*symmetry"),
        ({"symmetry_action": lambda original: lambda g, k, a: 0}, "not a permutation"),
        ({"write_state": forgetful}, "gives another state"),
        ({"write_action": same_letter}, "takes for|are written"),
        ({"read_state": lambda original: lambda g, s, t: -1}, "refuses"),
        ({"check": lambda original: lambda g, s: -1}, "check.. refuses"),
        ({"playout": biased}, "must draw uniformly"),
        ({"max_plies": 8}, "goes on after max_plies=8"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_check_game_finds_the_fault(faulty, changes, what):
    capsule = faulty(**changes)
    with pytest.raises(GameCheckError, match=what):
        check_game(capsule, num_games=40, seed=1)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"max_legal": 4}, "9 actions are legal, more than max_legal 4"),
        ({"legal": too_far}, "wrote action 9: they must rise, and be 0 to 8"),
        ({"legal": twice}, "they must rise"),
        ({"legal": none_at_last}, "no action is legal, but the game is not over"),
        ({"to_play": lambda original: lambda g, s: 7}, "to_play.. is 7"),
        ({"returns": large}, r"wrote 2.0; results lie in \[-1, 1\]"),
        ({"max_plies": 5}, "goes on after max_plies 5"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_table_that_native_code_could_not_bear_is_refused_when_it_is_loaded(
    faulty, changes, what
):
    with pytest.raises(GameError, match=what):
        playout.game(faulty(**changes))


def test_a_sound_game_with_callbacks_passes(faulty):
    capsule = faulty(hash=lambda original: lambda game, state: original(game, state) ^ 1)
    report = check_game(capsule, num_games=3)
    assert report.games == 3
    assert "states of 3 random games agree" in str(report)


def test_messages_name_the_moves_that_lead_there(faulty):
    with pytest.raises(GameCheckError, match=r"tic_tac_toe: after the moves '\d( \d)+'"):
        check_game(faulty(returns=large))


def test_a_capsule_outlives_the_game_object(faulty):
    capsule = faulty()
    states = NativeGame(capsule).batch(3)
    del capsule
    states.apply(np.array([0, 1, 2]))
    assert states.legal_mask().sum() == 24
