"""What a game declares about itself, and what stands in where it does not: NativeGame's properties.

The table of an older header ends before the declarations; it must load and play as before.
"""

import ctypes as c

import numpy as np
import playout
import pytest
from playout.envs import from_python
from playout.envs.core.game import NativeGame, State
from playout.envs.games._games import make
from playout.errors import GameError
from playout.mcts import Search, SearchConfig
from playout.testing import GameCheckError, check_game

CAPSULE, FIRST_CAPSULE = b"playout.game.v2", b"playout.game.v1"
FIRST_SIZE = 352  # bytes of playout_game before it had declarations
FLAGS = FIRST_SIZE  # where they begin: flags, max_legal, side_planes

get_pointer = c.pythonapi.PyCapsule_GetPointer
get_pointer.restype, get_pointer.argtypes = c.c_void_p, [c.py_object, c.c_char_p]
new_capsule = c.pythonapi.PyCapsule_New
new_capsule.restype, new_capsule.argtypes = c.py_object, [c.c_void_p, c.c_char_p, c.c_void_p]


def shortened(capsule):
    """The table as an older header has it, with bytes behind it that nobody may read."""
    table = c.string_at(get_pointer(capsule, CAPSULE), FIRST_SIZE)
    size = FIRST_SIZE.to_bytes(4, "little")
    abi = (1).to_bytes(4, "little")
    memory = c.create_string_buffer(abi + size + table[8:] + b"\xff" * 64)
    return new_capsule(c.addressof(memory), FIRST_CAPSULE, None), memory


class Duel:
    """One of two players takes 1 or 2 of five counters; who takes the last wins."""

    name, num_players, num_actions, max_plies, obs_shape = "duel", 2, 2, 5, (2, 1, 5)

    def initial_state(self):
        return (5, 0)

    def to_play(self, state):
        return state[1] if state[0] else -1

    def legal_actions(self, state):
        return [0, 1] if state[0] > 1 else [0]

    def apply(self, state, action):
        return (state[0] - 1 - action, 1 - state[1])

    def returns(self, state):
        return [1, -1] if state[1] else [-1, 1]

    def observe(self, state, player):
        planes = np.zeros(self.obs_shape)
        planes[0, 0, : state[0]] = 1
        planes[1] = player
        return planes

    def encode(self, state):
        return bytes(state)

    def decode(self, data):
        left, player = data
        if left > 5 or player > 1:
            raise ValueError("not a state")
        return (left, player)


def declared(**attributes):
    return from_python(type("Declared", (Duel,), attributes)())


@pytest.mark.parametrize("name", ["connect_four", "connect_four(width=5, height=4)", "tic_tac_toe"])
def test_the_built_in_games_declare_themselves(name):
    game = playout.game(name)
    assert game.zero_sum
    assert not game.has_chance
    assert game.max_legal == game.num_actions
    states = game.batch(300)
    played = states.random_plies(np.arange(300) % (game.max_plies + 1), 5)
    left = game.plies_left(states)
    over = states.is_terminal()
    assert left.dtype == np.int32
    assert (left[over] == 0).all()
    assert np.array_equal(left[~over], (game.max_plies - played)[~over])
    first, second = game.side_planes
    planes = states.observe().sum(axis=(2, 3))
    side = np.clip(planes[:, second] - planes[:, first], 0, 1)
    assert np.array_equal(side[~over], states.to_play()[~over])


@pytest.mark.parametrize("name", ["tic_tac_toe", "connect_four"])
def test_a_table_of_the_first_header_loads_declares_nothing_and_plays_the_same(name):
    original = make(name)  # owns what the copied table points to
    capsule, memory = shortened(original)
    old, new = NativeGame(capsule), NativeGame(original)
    assert old.zero_sum
    assert not old.has_chance
    assert old.max_legal == old.num_actions
    assert old.side_planes is None
    assert old.prover is None
    assert old.plies_left(old.batch(2)) is None
    check_game(old, num_games=2)
    config = SearchConfig(algorithm="uct", num_simulations=50)
    found = [Search(game, config, num_trees=1, seed=3).run(game.batch(1)) for game in (old, new)]
    assert np.array_equal(found[0].visits, found[1].visits)
    del memory, original


def test_a_table_shorter_than_the_first_header_is_refused():
    capsule, memory = shortened(make("tic_tac_toe"))
    size = (FIRST_SIZE - 8).to_bytes(4, "little")
    memory[4:8] = size
    with pytest.raises(GameError, match=f"344 bytes, at least {FIRST_SIZE}"):
        NativeGame(capsule)


@pytest.mark.parametrize(
    ("place", "values", "what"),
    [
        (0, [3], "both PLAYOUT_ZERO_SUM and PLAYOUT_GENERAL_SUM"),
        (4, [10], "max_legal is 10, more than num_actions 9"),
        (8, [0, 2], r"side_planes are \(0, 2\), not two of the 2 planes"),
        (8, [-1, 0], r"side_planes are \(-1, 0\)"),
        (8, [1, 1], r"side_planes are \(1, 1\)"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(place, values, what):
    capsule = make("tic_tac_toe")
    address = get_pointer(capsule, CAPSULE) + FLAGS + place
    (c.c_int32 * len(values)).from_address(address)[:] = values
    with pytest.raises(GameError, match=what):
        playout.game(capsule)


def test_a_python_game_that_declares_nothing_gets_the_defaults():
    game = from_python(Duel())
    assert game.zero_sum
    assert not game.has_chance
    assert game.max_legal == 2
    assert game.side_planes is None
    assert game.prover is None
    assert game.plies_left(game.batch(1)) is None
    assert not from_python(type("Alone", (Duel,), {"num_players": 1})()).zero_sum
    assert not from_python(type("Three", (Duel,), {"num_players": 3})()).zero_sum


def test_a_python_game_declares_by_attributes():
    def prover(game):
        return game

    game = declared(
        zero_sum=False,
        max_legal=2,
        side_planes=(1, -1),
        prover=staticmethod(prover),
        plies_left=lambda self, state: state[0],
    )
    assert not game.zero_sum
    assert game.side_planes == (1, -1)
    assert game.prover is prover
    states = game.batch(6)
    states.random_plies(np.arange(6), 1)
    assert game.plies_left(states).tolist() == [state.to_bytes()[4] for state in states]
    assert game.plies_left(states.data[:2]).tolist() == game.plies_left(states)[:2].tolist()


@pytest.mark.parametrize(
    ("attributes", "what"),
    [
        ({"zero_sum": "yes"}, "zero_sum must be True or False, got 'yes'"),
        ({"max_legal": 3}, "max_legal must be an integer from 1 to num_actions 2"),
        ({"max_legal": True}, "max_legal"),
        ({"side_planes": (0, 1, 2)}, "side_planes must be two integers"),
        ({"side_planes": (0, 5)}, r"side_planes are \(0, 5\), not two of the 2 planes"),
        ({"side_planes": (1, -1), "num_players": 3}, "two players apart, not 3"),
    ],
)
def test_a_python_game_with_an_impossible_declaration_is_refused(attributes, what):
    with pytest.raises(GameError, match=what):
        declared(**attributes)


@pytest.mark.parametrize("left", [-1, 6, 2.5, None])
def test_a_bound_of_plies_out_of_range_is_named(left):
    game = declared(plies_left=lambda self, state: left)
    with pytest.raises(GameError, match=r"duel: plies_left\(\) returned"):
        game.plies_left(game.batch(1))


def test_more_legal_actions_than_declared_are_named():
    game = declared(max_legal=1)
    with pytest.raises(GameError, match=r"returned 2 actions, more than max_legal 1"):
        _ = game.initial_state().legal_actions


def test_check_game_reports_results_that_do_not_add_up_to_zero_unless_that_is_declared():
    def returns(self, state):
        return [0.3, 0.9]

    for attributes in ({}, {"zero_sum": True}):
        with pytest.raises(GameCheckError, match="do not add up to 0; declare zero_sum = False"):
            check_game(declared(returns=returns, **attributes))
    check_game(declared(returns=returns, zero_sum=False))


def test_check_game_reports_a_bound_of_plies_that_does_not_hold():
    check_game(declared(plies_left=lambda self, state: state[0]))
    for wrong in (lambda self, state: 3, lambda self, state: max(0, state[0] - 1)):
        with pytest.raises(GameCheckError, match=r"plies_left\(\) is"):
            check_game(declared(plies_left=wrong))


def test_check_game_reports_an_encoding_that_does_not_invert_as_that():
    def forget_the_player(self, data):
        return (data[0], 0)

    def refuse(self, data):
        raise ValueError("not mine")

    first = Duel().initial_state()
    for decode, what in (
        (forget_the_player, "is another state: to_play"),
        (refuse, "raises ValueError: not mine"),
    ):
        with pytest.raises(GameCheckError, match=rf"decode\(encode\(state\)\) {what}"):
            check_game(declared(decode=decode, initial_state=lambda self: first))


class Wide(Duel):
    """Only the first two of 400 actions are ever legal; counts what is asked."""

    name, num_actions = "wide", 400
    refused = 0

    def action_text(self, state, action):
        if action > 1:
            raise LookupError(f"action {action} has no notation")
        return "ab"[action]


def test_illegal_actions_are_not_written_by_split_moves():
    game = from_python(Wide())
    assert game.split_moves("ab") == ["a", "b"]
    assert game.from_moves("aba").text == game.from_moves(["a", "b", "a"]).text


def test_check_game_tries_a_bounded_number_of_actions_a_state(monkeypatch):
    tried = []
    monkeypatch.setattr(State, "apply", _counting(State.apply, tried))
    report = check_game(Wide(), num_games=8)
    assert len(tried) < 50 * report.states
    assert len({action for action in tried if action > 1}) > 200  # in turn, all come up


def _counting(apply, tried):
    def counted(self, action):
        tried.append(action)
        return apply(self, action)

    return counted


def test_plies_left_refuses_bytes_of_another_shape():
    game = playout.game("tic_tac_toe")
    with pytest.raises(ValueError, match=r"uint8 \[B, 8\]"):
        game.plies_left(np.zeros((2, 16), np.uint8))


def test_a_prover_is_found_by_name_when_it_is_asked_for():
    game = NativeGame(make("tic_tac_toe"), prover="playout.errors:GameError")
    assert game.prover is GameError
    assert NativeGame(make("tic_tac_toe"), prover=dict).prover is dict
