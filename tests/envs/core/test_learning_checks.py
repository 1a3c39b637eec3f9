"""What games teach: keys of evaluations, scores, targets and side planes, and faults of these."""

import ctypes as c

import numpy as np
import pytest
from playout.envs import from_python
from playout.envs.core.game import NativeGame
from playout.envs.games._games import make
from playout.errors import GameError
from playout.testing import GameCheckError, check_game


class Fences:
    """Two players in turn take the ends of a fence of six posts; more posts at the left win."""

    name, num_players, num_actions, max_plies, obs_shape = "fences", 2, 2, 6, (2, 1, 6)
    side_planes, target_planes = (1, -1), 1

    def initial_state(self):
        return (2,) * 6

    def to_play(self, state):
        return state.count(2) % 2 if 2 in state else -1

    def legal_actions(self, state):
        return [0, 1] if state.count(2) > 1 else [0]

    def apply(self, state, action):
        posts = list(state)
        at = posts.index(2) if action == 0 else 5 - posts[::-1].index(2)
        posts[at] = posts.count(2) % 2
        return tuple(posts)

    def score(self, state):
        margin = state[:3].count(0) - state[:3].count(1)
        return [margin, -margin]

    def returns(self, state):
        return np.sign(self.score(state))

    def observe(self, state, player):
        planes = np.zeros(self.obs_shape)
        planes[0, 0] = state
        planes[1] = state.count(2) % 2
        return planes

    def hash(self, state):
        return str(state)

    def eval_key(self, state):
        return bytes(state)

    def targets(self, state, player):
        return np.where(np.array(state) == player, 1, -1).reshape(1, 1, 6)

    def encode(self, state):
        return bytes(state)

    def decode(self, data):
        return tuple(data)


def changed(**attributes):
    return from_python(type("Changed", (Fences,), attributes)())


def test_a_python_game_declares_what_is_learned_and_how_positions_are_told_apart():
    game = from_python(Fences())
    check_game(game)
    assert game.has_score and game.target_planes == 1
    end = game.from_moves([0, 1, 0, 1, 0, 0])
    assert end.score.tolist() == [3.0, -3.0]
    assert end.targets(1).ravel().tolist() == [-1, -1, -1, 1, 1, 1]
    assert game.initial_state().score.tolist() == [0, 0]  # not over: nothing is asked
    other = changed(eval_key=lambda self, state: ("other", bytes(state)))
    assert other.initial_state().hash == game.initial_state().hash
    assert other.initial_state().eval_key != game.initial_state().eval_key


def test_a_python_game_may_leave_history_out_of_its_text():
    forgetful = {
        "state_text": lambda self, state: str(state.count(2)),
        "read_state": lambda self, text: (2,) * int(text) + (0,) * (6 - int(text)),
    }
    check_game(changed(text_leaves_out_history=True, **forgetful))
    with pytest.raises(GameCheckError, match="its history declares text_leaves_out_history"):
        check_game(changed(**forgetful))


@pytest.mark.parametrize(
    ("attributes", "what"),
    [
        ({"target_planes": 0}, "needs both target_planes and targets"),
        ({"targets": None}, "needs both target_planes and targets"),
        ({"target_planes": 65}, "target_planes must be an integer to 64"),
        ({"target_planes": True}, "target_planes must be"),
        ({"text_leaves_out_history": 1}, "text_leaves_out_history must be True or False"),
    ],
)
def test_what_a_python_game_cannot_teach_is_refused(attributes, what):
    with pytest.raises(GameError, match=what):
        changed(**attributes)


@pytest.mark.parametrize(
    ("attributes", "what"),
    [
        ({"score": lambda self, state: [1]}, r"score\(\) returned \[1.0\]: not 2 numbers"),
        ({"score": lambda self, state: [np.nan, 0]}, "not 2 numbers"),
        ({"targets": lambda self, state, player: np.zeros((1, 6))}, r"targets\(\) returned shape"),
        ({"targets": lambda self, state, player: np.full((1, 1, 6), 2)}, r"up to 2: not \(1, 1, 6"),
    ],
)
def test_what_a_python_game_teaches_wrongly_is_named(attributes, what):
    end = changed(returns=lambda self, state: [0, 0], **attributes).from_moves([0] * 6)
    with pytest.raises(GameError, match=what):
        _ = end.score, end.targets(0)


@pytest.mark.parametrize("method", ["hash", "eval_key"])
def test_a_key_that_is_none_is_named(method):
    state = changed(**{method: lambda self, state: 1.5}).initial_state()
    with pytest.raises(GameError, match=rf"{method}\(\) returned 1.5: not text, bytes"):
        getattr(state, method)


@pytest.mark.parametrize(
    ("attributes", "what"),
    [
        ({"eval_key": lambda self, state: 1}, "eval_key.. 0x.* belongs to another position too"),
        ({"eval_key": lambda self, state: state.count(2)}, "belongs to another position too"),
        ({"hash": lambda self, state: state.count(2)}, "hash.. 0x.* belongs to another position"),
        ({"side_planes": (0, -1)}, r"side_planes \(0, -1\) say that player 1 is to move, to_play"),
    ],
)
def test_check_game_finds_what_would_be_learned_wrongly(attributes, what):
    with pytest.raises(GameCheckError, match=what):
        check_game(changed(**attributes))


SCORE = c.CFUNCTYPE(None, c.c_void_p, c.c_void_p, c.POINTER(c.c_float))
TARGETS = c.CFUNCTYPE(None, c.c_void_p, c.c_void_p, c.c_int32, c.POINTER(c.c_float))


class Tail(c.Structure):
    """The table of playout_game.h from `eval_key` on."""

    _fields_ = [
        *((name, c.c_void_p) for name in ("eval_key", "info_key", "resample", "score", "targets")),
        ("target_planes", c.c_int32),
    ]


def tail_of(capsule):
    """Found by its size: behind target_planes lie four pointers more."""
    get = c.PYFUNCTYPE(c.c_void_p, c.py_object, c.c_char_p)(("PyCapsule_GetPointer", c.pythonapi))
    address = get(capsule, b"playout.game.v2")
    size = c.c_uint32.from_address(address + 4).value
    return Tail.from_address(address + size - 4 * 8 - c.sizeof(Tail))


def many_floats(value, count):
    def write(game, state, *rest):
        rest[-1][0] = value
        for i in range(count):
            rest[-1][i] = value

    return write


@pytest.mark.parametrize(
    ("field", "function", "what"),
    [
        ("score", SCORE(many_floats(float("inf"), 2)), r"score\(\) wrote \[inf, inf\]"),
        ("targets", TARGETS(many_floats(5.0, 16)), "wrote numbers from 5 to 5"),
        ("targets", TARGETS(many_floats(0.5, 17)), r"writes outside \(1, 4, 4\)"),
        ("targets", TARGETS(many_floats(float("nan"), 16)), "wrote numbers from nan"),
    ],
)
def test_check_game_finds_what_a_table_teaches_wrongly(field, function, what):
    capsule = make("othello", size=4)
    check_game(capsule, num_games=2)
    setattr(tail_of(capsule), field, c.cast(function, c.c_void_p))
    with pytest.raises(GameCheckError, match=what):
        check_game(NativeGame(capsule), num_games=3)
