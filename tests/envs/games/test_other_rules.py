"""Go, dice and cards at random beside OpenSpiel and GNU Backgammon; letters of either case."""

import random

import playout
import pytest
from playout.benchmarks.tools.peers import other_rules
from playout.benchmarks.tools.peers.rules import play_beside
from playout.envs.core.registry import games
from playout.errors import PlayoutError


@pytest.mark.peer
@pytest.mark.parametrize(
    ("name", "package", "num_games", "positions"),
    [
        ("go(size=5)", "pyspiel", 100, 1000),
        ("go(size=9)", "pyspiel", 30, 1000),
        ("game_2048", "pyspiel", 4, 400),
        ("backgammon", "pyspiel", 3, 60),
        ("backgammon", "gnubg_nn", 3, 60),
    ],
)
def test_others_play_go_and_dice_alike(name, package, num_games, positions):
    pytest.importorskip(package)
    found = play_beside(name, package, num_games, seed=31)
    assert found.games == num_games and found.positions > positions


@pytest.mark.peer
@pytest.mark.parametrize("name", other_rules.CARDS)
def test_openspiel_plays_the_same_card_games_and_tells_players_the_same(name):
    pytest.importorskip("pyspiel")
    known = other_rules.GAMES[name, "pyspiel"].keywords["known"]
    known.clear()
    assert play_beside(name, "pyspiel", 300, seed=11).positions > 900 and len(known) > 20


@pytest.mark.peer
@pytest.mark.parametrize(("side", "message"), [("here", "only there"), ("there", "only here")])
def test_a_player_who_knows_more_on_one_side_is_found(side, message):
    pytest.importorskip("pyspiel")
    rng, known = random.Random(11), {}
    for _ in range(50):
        other_rules.cards("kuhn_poker", rng, known)
    known = {key: "something else" if key[0] == side else kept for key, kept in known.items()}
    with pytest.raises(AssertionError, match=f"told apart {message}"):
        other_rules.cards("kuhn_poker", rng, known)


@pytest.mark.parametrize("name", sorted({info.name for info in games()} - {"chess"}))
def test_moves_are_read_in_letters_of_either_case(name):
    game, rng = playout.game(name), random.Random(5)
    for _ in range(3):
        state = game.initial_state()
        for _ in range(60):
            if state.is_terminal:
                break
            actions = state.legal_actions or [action for action, _ in state.chance_outcomes]
            for action in actions:
                text = state.action_text(action)
                for written in (text.upper(), text.lower(), text.swapcase(), text.title()):
                    assert state.read_action(written) == action, written
            state = state.apply(rng.choice(actions))


def test_men_come_from_the_bar_in_capitals():
    men = playout.game("backgammon").from_text(
        "XGID=-b----E-C---eE---c-e----AA:0:0:1:11:0:0:0:0:10"
    )
    assert men.read_action("BAR/24") == men.read_action("bar/24")
    with pytest.raises(PlayoutError):
        men.read_action("barn/24")
