"""What wins, in the games' own words: of compiled games, of Python classes, of silent capsules."""

import importlib.util
from pathlib import Path

import playout
import pytest
from playout.envs.catalogue import GAMES
from playout.envs.core.rules import MAX_GOAL
from playout.errors import GameError

EXAMPLE = Path(__file__).parents[3] / "examples" / "python_game.py"


def nim(**changes):
    spec = importlib.util.spec_from_file_location("goal_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return type("Nim", (module.Nim,), changes)()


@pytest.mark.parametrize("name", GAMES)
def test_every_game_says_what_wins_in_a_line(name):
    goal = playout.game(name).goal
    assert 20 < len(goal) <= 300 and goal.isprintable() and goal.isascii()
    assert goal[0].isupper() and goal.endswith(".") and ".." not in goal and "  " not in goal


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("connect_four(width=5, height=4, run=3)", "has 3 in a row"),
        ("mnk(m=7, n=7, k=4)", "has 4 or more in a row"),
        ("gomoku(rule=exact)", "has exactly 5 in a row"),
        ("hex(size=5, swap=1)", "taking it over"),
        ("go(size=5, komi=6.5)", "Player 2 has 6.5 more for moving second."),
        ("go(size=5, komi=-3)", "Player 1 has 3 more for moving first."),
        ("chess", "for the third time, 50 moves"),
        ("chess(draws=automatic, max_plies=100)", "fifth time, 75 moves of each without"),
        ("chess(max_plies=100)", "the end of move 50"),
        ("backgammon", "twice as much"),
        ("liars_dice(sides=4)", "face 4 counts"),
    ],
)
def test_the_numbers_of_a_goal_are_the_games_own(name, said):
    assert said in playout.game(name).goal


@pytest.mark.parametrize(
    ("name", "unsaid"),
    [("go(size=5, komi=0)", "more for"), ("hex", "taking"), ("backgammon(gammons=0)", "twice")],
)
def test_what_is_not_played_is_not_said(name, unsaid):
    assert unsaid not in playout.game(name).goal


def test_a_game_in_python_says_it_or_is_silent():
    assert playout.game(nim()).goal == "Who takes the last stick wins."
    assert playout.game(nim(goal="Wer zuletzt nimmt, gewinnt: größer ist besser.")).goal.endswith(
        "größer ist besser."
    )
    for silent in ("", None, 7, (2, 3)):  # of that name a game may have something else
        assert playout.game(nim(goal=silent)).goal == ""


@pytest.mark.parametrize(
    "goal", ["two\nlines", " blanks around ", "x" * (MAX_GOAL + 1), "half \ud800"]
)
def test_a_text_that_is_no_sentence_is_refused(goal):
    with pytest.raises(GameError, match=r"Nim.goal must be a text of one line"):
        playout.game(nim(goal=goal))


def test_a_class_without_the_attribute_is_a_game_as_before():
    silent = nim()
    del type(silent).__mro__[1].goal
    assert playout.game(silent).goal == ""
