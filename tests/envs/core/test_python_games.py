"""Games written in Python behind the C table: the examples, and every way to get one wrong."""

import importlib.util
import threading
from functools import cache
from pathlib import Path

import numpy as np
import playout
import pytest
from playout.envs import Game, StateBatch, from_python
from playout.envs.core.game import NativeGame
from playout.errors import GameError, IllegalActionError
from playout.testing import check_game, count_games, perft

EXAMPLE = Path(__file__).parents[3] / "examples" / "python_game.py"
spec = importlib.util.spec_from_file_location("python_game_example", EXAMPLE)
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)
Nim, PegSolitaire = example.Nim, example.PegSolitaire


class Race:
    """The smallest game: two players count up by one or two; whoever says six wins."""

    name, num_players, num_actions, max_plies, obs_shape = "race", 2, 2, 6, (1, 1, 1)

    def initial_state(self):
        return (0, 0)

    def to_play(self, state):
        return -1 if state[1] >= 6 else state[0]

    def legal_actions(self, state):
        return [0, 1] if state[1] < 5 else [0]

    def apply(self, state, action):
        return (1 - state[0], state[1] + 1 + action)

    def returns(self, state):
        return [1, -1] if state[0] == 1 else [-1, 1]

    def observe(self, state, player):
        return np.full((1, 1, 1), state[1] / 6)

    def encode(self, state):
        return bytes(state)

    def decode(self, data):
        player, number = data
        if player > 1 or number > 6:
            raise ValueError("not a state")
        return (player, number)


def broken(**changes):
    return type("Broken", (Race,), changes)()


@pytest.mark.parametrize(
    "game", [Nim(), Nim((2, 3), players=3), PegSolitaire(), Race()], ids=lambda game: game.name
)
def test_the_examples_keep_every_promise(game):
    assert isinstance(game, Game)
    check_game(game, num_games=5)


def test_the_check_blames_the_method_whose_answer_is_no_number():
    for name in ("returns", "observe"):
        game = broken(**{name: lambda self, *state: ["a", "b"]})
        with pytest.raises(GameError, match=rf"^race: {name}\(\): ValueError") as caught:
            check_game(game, num_games=1)
        assert "decode" not in str(caught.value)


def test_a_python_game_plays_as_its_own_methods_say():
    game = Nim((3, 4), players=3)
    native = playout.game(game)
    states = native.batch(20)
    states.random_plies(np.arange(20) % 8, 4)
    for state in states:
        own = game.decode(state.to_bytes()[4:7])
        assert state.to_play == game.to_play(own)
        assert state.legal_actions == (game.legal_actions(own) if any(own[1:]) else [])
        assert np.array_equal(state.observe(0), game.observe(own, 0))
        if state.is_terminal:
            assert np.allclose(state.returns, game.returns(own))
    assert np.array_equal(states.observe(), [state.observe() for state in states])


def test_nim_is_won_by_the_side_that_theory_names():
    game = playout.game(Nim((2, 3, 3)))

    @cache
    def wins(data):
        state = game.from_bytes(data)
        return any(not wins(state.apply(action).to_bytes()) for action in state.legal_actions)

    states = game.batch(60)
    states.random_plies(np.arange(60) % 6, 1)
    for state in states:
        sticks = state.to_bytes()[5:8]
        balance = 0
        for pile in sticks:
            balance ^= pile % 4
        assert wins(state.to_bytes()) == (balance != 0)


def test_peg_solitaire_has_the_published_number_of_games_and_solutions():
    # From the corner hole: 568,630 games, 29,760 of which leave one peg.
    game = PegSolitaire()

    @cache
    def count(state):
        jumps = game.legal_actions(state)
        if not jumps:
            return 1, int(state.bit_count() == 1)
        parts = [count(game.apply(state, jump)) for jump in jumps]
        return sum(games for games, _ in parts), sum(solved for _, solved in parts)

    assert count(game.initial_state()) == (568_630, 29_760)


def test_counts_work_on_python_games():
    assert [perft(Race(), depth) for depth in (0, 1, 2, 5, 6)] == [1, 2, 4, 6, 1]
    counts = count_games(Race())
    assert sum(counts.values()) == 13  # ways to write six as an ordered sum of ones and twos
    assert set(counts) == {(1.0, -1.0), (-1.0, 1.0)}


def explode(self, state, *rest):
    raise RuntimeError("the rules have a hole")


@pytest.mark.parametrize("method", ["to_play", "legal_actions", "apply", "observe", "returns"])
def test_an_exception_in_a_callback_comes_out_of_the_call(method):
    game = playout.game(broken(**{method: explode}))
    with pytest.raises(GameError, match="raised RuntimeError: the rules have a hole") as caught:
        states = game.batch(4)
        states.random_plies(6, 0)
        states.observe()
        states.returns()
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert str(caught.value).startswith("race: ") and " in the state " in str(caught.value)
    # The fault is told once; the next call starts afresh.
    assert len(game.batch(2)) == 2


@pytest.mark.parametrize(
    ("method", "answer", "text"),
    [
        ("legal_actions", ["a"], r"legal_actions\(\) returned \['a'\]: not actions, in the state"),
        ("legal_actions", None, r"legal_actions\(\) returned None: not actions, in the state"),
        ("observe", "a", r"observe\(\): ValueError: .*, in the state"),
        ("encode", None, r"encode\(\) returned NoneType, not bytes"),
    ],
)
def test_an_answer_that_is_none_names_the_method_and_the_state(method, answer, text):
    def late(self, state, *rest):
        return answer if state[1] > 1 else getattr(Race, method)(self, state, *rest)

    game = playout.game(broken(**{method: late}))
    with pytest.raises(GameError, match=rf"^race: {text}") as caught:
        states = game.batch(4)
        states.random_plies(3, 0)
        states.observe()
    assert "\n" not in str(caught.value)


def test_a_keyboard_interrupt_is_not_lost():
    def interrupted(self, state):
        raise KeyboardInterrupt

    game = playout.game(broken(legal_actions=interrupted))
    with pytest.raises(KeyboardInterrupt):
        game.batch(2).random_plies(3, 0)


class Mutable(Race):
    def initial_state(self):
        return [0, 0]

    def apply(self, state, action):
        state[0], state[1] = 1 - state[0], state[1] + 1 + action
        return state

    def decode(self, data):
        return list(data)


@pytest.mark.parametrize(
    ("game", "what"),
    [
        (broken(to_play=lambda self, s: 5), "to_play.. returned 5"),
        (broken(to_play=lambda self, s: None), "to_play.. returned None"),
        (broken(to_play=lambda self, s: -2), "to_play.. returned -2"),
        (broken(legal_actions=lambda self, s: []), "returned none"),
        (broken(legal_actions=lambda self, s: [0, 0]), "distinct"),
        (broken(legal_actions=lambda self, s: [2]), "0 to 1"),
        (broken(legal_actions=lambda self, s: [-1]), "0 to 1"),
        (broken(apply=lambda self, s, a: None), "returned None"),
        (broken(returns=lambda self, s: [1]), "not 2 numbers"),
        (broken(returns=lambda self, s: [3, -3]), r"\[-1, 1\]"),
        (broken(returns=lambda self, s: [float("nan"), 0]), r"\[-1, 1\]"),
        (broken(observe=lambda self, s, p: np.zeros((1, 2, 1))), "obs_shape"),
        (broken(observe=lambda self, s, p: np.full((1, 1, 1), np.nan)), "NaN"),
        (broken(encode=lambda self, s: bytes(s) + bytes(s[1] > 2)), "state_bytes"),
        (Mutable(), "changed the state"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_answers_are_named(game, what):
    with pytest.raises(GameError, match=f"race: .*{what}"):
        states = playout.game(game).batch(4)
        states.random_plies(6, 0)
        states.observe()
        states.returns()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"name": "two words"}, "identifier"),
        ({"name": 3}, "identifier"),
        ({"num_players": 0}, "num_players"),
        ({"num_players": 9}, "num_players"),
        ({"num_actions": 2.0}, "num_actions"),
        ({"num_actions": 10**6}, "num_actions"),
        ({"max_plies": True}, "max_plies"),
        ({"obs_shape": (1, 1)}, "obs_shape"),
        ({"obs_shape": (1, 0, 1)}, "obs_shape"),
        ({"encode": lambda self, s: "text"}, "not bytes"),
        ({"state_bytes": 1}, "state_bytes"),
        ({"state_bytes": 2**30}, "state_bytes"),
        ({"num_symmetries": 2}, "not all of"),
        ({"state_text": lambda self, s: ""}, "not all of"),
        ({"apply": None}, "lacks apply"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_object_that_is_no_game_is_refused(changes, what):
    with pytest.raises(GameError, match=what):
        from_python(broken(**changes))


def test_what_lacks_everything_is_told_what_is_missing():
    with pytest.raises(GameError, match="lacks to_play, apply, returns, observe, encode, decode"):
        playout.game(type("Empty", (), {"initial_state": print, "legal_actions": print})())


def test_foreign_bytes_and_text_are_refused():
    game = playout.game(Race())
    for data in (b"\xff" * 8, b"\3\0\0\0" + b"\0" * 4, b"\2\0\0\0\0\1\0\1", b"\2\0\0\0\5\0\0\0"):
        with pytest.raises(GameError, match="not a state"):
            game.from_bytes(data)
    for text in ("", "zz", "0", "09ff", "000"):
        with pytest.raises(GameError, match="not a position"):
            game.from_text(text)
    assert game.from_text("0102").to_bytes() == b"\2\0\0\0\1\2\0\0"
    with pytest.raises(IllegalActionError):
        game.from_moves("0 5")


def test_threads_may_play_one_python_game_at_once():
    game = playout.game(Nim())
    expected = game.batch(30)
    expected.random_plies(20, 7)
    found = [None] * 4

    def run(index):
        states = game.batch(30)
        states.random_plies(20, 7)
        found[index] = states.data.tobytes()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected.data.tobytes()] * 4


def test_the_adaptor_is_freed_with_its_game():
    import gc
    import weakref

    game = Nim()
    gone = weakref.ref(game)
    native = playout.game(game)
    states = StateBatch(native, 3)
    states.random_plies(5, 0)
    del game, native, states
    gc.collect()
    assert gone() is None


def test_the_example_runs(capsys):
    example.main()
    assert capsys.readouterr().out.count("searched:") == 3


class Decides(Race):
    """A race that somebody wins whoever says six."""

    def __init__(self, first):
        self._first = first

    def returns(self, state):
        return [1, -1] if self._first else [-1, 1]


def test_games_whose_rules_nothing_stored_tells_apart_are_not_equal():
    true, false = Decides(True), Decides(False)
    one, other = playout.game(true), playout.game(false)
    assert one != other and one == playout.game(true) and one == playout.game(one)
    assert NativeGame(one.capsule) == one != NativeGame(other.capsule)
    with pytest.raises(ValueError, match="different games"):
        StateBatch.from_states([one.initial_state(), other.initial_state()])
    assert playout.game(Nim((2, 3))) == playout.game(Nim((2, 3))) != playout.game(Nim((2, 4)))
    assert from_python(Nim((2, 3))) != from_python(Nim((2, 4)))
    assert playout.game("tic_tac_toe") != one
