"""Analyses over GTP: moves that are avoided or allowed, answers in form, searches that fail."""

import io
import re

import playout
import pytest
from playout.agents.players.load import make_player
from playout.agents.players.protocols.gtp import GtpEngine, serve
from playout.agents.players.search import SearchPlayer, playing_search
from playout.errors import DivergedError
from playout.mcts.evaluators import UniformEvaluator


def engine_of(spec, game="go(size=5)"):
    game = playout.game(game)
    return GtpEngine(make_player(spec, game), game)


def answers(engine, *lines):
    """Each command's answer; lines that all come at once get as many, each with a head."""
    out = io.StringIO()
    serve(engine, io.StringIO("\n".join(lines) + "\n"), out)
    found = out.getvalue().split("\n\n")
    assert found.pop() == "" and len(found) == len(lines), out.getvalue()
    assert all(re.match("[=?]", one) for one in found), out.getvalue()
    return found


def shown(answer):
    """Moves of an answer's reports, and their visits."""
    return {
        move: int(visits)
        for line in answer.splitlines()
        for move, visits in re.findall(r"info move (\S+) visits (\d+)", line)
    }


@pytest.mark.parametrize("spec", ["uct:40", "greedy", "random", "alphabeta:1"])
@pytest.mark.parametrize("command", ["kata-genmove_analyze", "lz-genmove_analyze"])
def test_an_allowed_move_is_searched_and_played_whoever_plays(spec, command):
    found, board = answers(engine_of(spec), f"{command} b allow b A1,E5 1", "showboard")
    reported = shown(found)
    assert reported and set(reported) <= {"A1", "E5"}
    assert found.splitlines()[-1].split()[1] in reported
    if spec == "uct:40":  # all of the search, and not what an unrestricted one spends there
        assert sum(reported.values()) == 40
    assert board.startswith("=")


def test_avoided_moves_take_nothing_of_an_analysis():
    engine = engine_of("uct:40")
    first, second, last = answers(
        engine, "kata-analyze b 1 avoid b C3,B2,pass 1", "lz-analyze allow b d4 9", "name"
    )
    assert shown(first) and not {"C3", "B2", "pass"} & set(shown(first))
    assert set(shown(second)) == {"D4"} and last == "= playout uct:40"
    # What holds for the other colour, or names taken points too, changes nothing.
    engine.answer("play b C3")
    found, *_ = answers(engine, "kata-search_analyze w avoid b A1 1 allow w C3,E5 1", "name")
    assert set(shown(found)) == {"E5"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("allow b C3 1", "leave no legal move"),  # a stone lies there
        ("allow b A1 1 avoid b a1 1", "leave no legal move"),
        ("avoid b Z99 1", "'Z99' is no move"),
        ("allow b A1,there 1", "'there' is no move"),
    ],
)
def test_moves_that_are_none_and_sets_without_any_are_refused(words, message):
    engine = engine_of("uct:10")
    engine.answer("play b C3")
    for command in ("kata-genmove_analyze", "lz-analyze", "kata-search_analyze"):
        (found,) = answers(engine, f"{command} b {words}")
        assert found.startswith("?") and message in found and len(engine.states) == 2


class Failing(UniformEvaluator):
    """Gives up after some answers."""

    def __init__(self, answers):
        super().__init__()
        self.left = answers

    def evaluate(self, leaves):
        if not self.left:
            raise DivergedError("the network answers NaN")
        self.left -= 1
        return super().evaluate(leaves)


@pytest.mark.parametrize("command", ["kata-genmove_analyze b 0", "kata-search_analyze b 0"])
def test_a_search_that_fails_is_refused_or_ends_what_it_has_said(command, capsys):
    game = playout.game("go(size=5)")
    for possible in (0, 5):
        player = SearchPlayer(game, playing_search(64), Failing(possible))
        found, name = answers(GtpEngine(player, game), f"7 {command}", "8 name")
        assert name.startswith("=8 ")
        if possible:
            assert found.startswith("=7\ninfo move") and "play" not in found
            assert "the network answers NaN" in capsys.readouterr().err
        else:
            assert found == "?7 the network answers NaN"
