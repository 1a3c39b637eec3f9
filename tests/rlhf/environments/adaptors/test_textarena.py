"""Games of TextArena as environments, beside the library played directly."""

import random
import sys

import numpy as np
import pytest
from playout.errors import ConfigError
from playout.rlhf.environments.adaptors.arena_moves import listed_moves
from playout.rlhf.environments.load import load_environment


@pytest.mark.parametrize(
    ("text", "moves"),
    [
        ("Board\nAvailable Moves: '[0]', '[4]'", ["[0]", "[4]"]),
        ("Your available actions are: '[check]', '[bet]'", ["[check]", "[bet]"]),
        ("Valid moves: 'a1', 'b2'", ["[a1]", "[b2]"]),
        ("Available Moves: [a]\nAvailable Moves: [b]", ["[b]"]),
        ("Enter your guess, for example [5].", []),
    ],
)
def test_listed_moves_are_those_of_the_last_list(text, moves):
    assert listed_moves(text) == moves


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "textarena", None)
    with pytest.raises(ConfigError, match=r"pip install 'playout\[textarena\]'"):
        load_environment("textarena:TicTacToe-v0")


@pytest.mark.peer
def test_a_game_of_one_player_runs_as_in_the_library():
    arena = pytest.importorskip("textarena")
    factory = load_environment("textarena:GuessTheNumber-v0", {"max_number": 8, "max_turns": 5})
    environment = factory()
    prompt = environment.reset(None, 11)
    theirs = arena.make("GuessTheNumber-v0-raw", max_number=8, max_turns=5)
    random.seed(11)
    theirs.reset(num_players=1, seed=11)
    assert prompt == theirs.get_observation()[1][0][1]
    for guess in (1, 8, 4, 3, 5):
        step = environment.step(str(guess))  # the brackets are added
        done, _ = theirs.step(f"[{guess}]")
        assert step.done == done
        if done:
            break
        assert step.reply == theirs.get_observation()[1][-1][1]
    assert step.reward == theirs.close()[0][0]
    assert environment.metrics()["turns"] == theirs.state.turn


@pytest.mark.peer
def test_the_seed_alone_decides_a_game_and_the_process_keeps_its_random_numbers():
    pytest.importorskip("textarena")
    factory = load_environment("textarena:KuhnPoker-v0", {})

    def game(seed, noise):
        environment, said = factory(), []
        said.append(environment.reset(None, seed))
        for _ in range(30):
            for _ in range(noise):  # other episodes take their turns in between
                random.random()
            offered = environment.answers()
            step = environment.step(sorted(offered)[0])
            said.append((step.reply, step.reward))
            if step.done:
                return said
        raise AssertionError("no end")

    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    expected = random.Random(3).random(), np.random.RandomState(3).rand()
    first = game(5, 0)
    assert (random.random(), np.random.rand()) == expected  # noqa: NPY002
    assert game(5, 2) == first
    assert any(game(seed, 0) != first for seed in range(3))


@pytest.mark.peer
@pytest.mark.parametrize("name", ["ConnectFour-v0", "Nim-v0", "IteratedRockPaperScissors-v0"])
def test_an_opponent_finds_legal_moves_where_the_game_lists_none(name):
    pytest.importorskip("textarena")
    factory = load_environment(f"textarena:{name}", {"seat": 1})
    environment = factory()
    prompt = environment.reset(None, 1)
    assert environment.answers() is None
    assert "invalid" not in prompt
    step = environment.step("no move at all")
    assert not step.done and "invalid" in step.reply
    step = environment.step("no move at all")
    assert step.done and step.reward == -1
    assert environment.metrics() == {"turns": 2.0, "won": 0.0, "invalid": 1.0}


@pytest.mark.peer
def test_a_policy_that_has_both_seats_gets_a_reward_for_each():
    pytest.importorskip("textarena")
    environment = load_environment("textarena:ConnectFour-v0", {"opponent": "self"})()
    environment.reset(None, 0)
    movers = []
    for column in (0, 1, 0, 1, 0, 1, 0):
        movers.append(environment.role())
        step = environment.step(f"[col {column}]")
    assert movers == ["player 0", "player 1"] * 3 + ["player 0"]
    assert step.done and step.reward == {"player 0": 1.0, "player 1": -1.0}


@pytest.mark.peer
@pytest.mark.parametrize(
    ("name", "options", "fault"),
    [
        ("GuesTheNumber-v0", {}, "did you mean GuessTheNumber-v0"),
        ("GuessTheNumber-v0", {"highest": 3}, "no option 'highest'; it has .*max_number"),
        ("ConnectFour-v0", {"seat": 2}, "no seat 2"),
        (
            "ConnectFour-v0",
            {"opponent": "best"},
            "opponent must be random, self or module:function",
        ),
        ("ConnectFour-v0", {"players": 3}, "cannot be begun"),
    ],
)
def test_wrong_names_and_options_are_one_line(name, options, fault):
    pytest.importorskip("textarena")
    with pytest.raises(ConfigError, match=fault) as caught:
        load_environment(f"textarena:{name}", options)
    assert "\n" not in str(caught.value)
