"""The engine protocol: whole games, answers to bad lines, and the command."""

import io

import playout
import pytest
from playout.agents.players.gtp import MAX_LINE, GtpEngine, serve
from playout.agents.players.load import make_player
from playout.agents.players.simple import GreedyPlayer
from playout.cli import main


@pytest.fixture
def engine():
    game = playout.game("connect_four")
    return GtpEngine(GreedyPlayer(seed=0), game)


def test_a_session_is_answered_in_form(engine):
    script = [
        ("protocol_version", "= 2\n\n"),
        ("7 name", "=7 playout greedy\n\n"),
        ("play b 1", "=\n\n"),
        ("play w 2", "=\n\n"),
        ("play black 1", "=\n\n"),
        ("play white 2", "=\n\n"),
        ("play b 1 # a comment", "=\n\n"),
        ("12 genmove w", "=12 1\n\n"),  # greedy must block
        ("undo", "=\n\n"),
        ("play w 3", "=\n\n"),
        ("genmove b", "= 1\n\n"),  # and must win
        ("final_score", "= B+1\n\n"),
        ("genmove w", "? the game is over\n\n"),
        ("clear_board", "=\n\n"),
        ("boardsize 7", "=\n\n"),
        ("known_command genmove", "= true\n\n"),
        ("known_command fly", "= false\n\n"),
        ("", ""),
        ("# nothing", ""),
    ]
    for line, expected in script:
        assert engine.answer(line + "\n") == expected, line
    assert "showboard" in engine.answer("list_commands")
    assert ". . . . . . ." in engine.answer("showboard")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fly", "unknown command"),
        ("3", "a command is missing"),
        ("play", "syntax error"),
        ("play b", "syntax error"),
        ("play green 4", "syntax error"),
        ("play b 9", "illegal move"),
        ("play b \x00\x01x", "illegal move"),
        ("play w 4", "it is b's turn"),
        ("genmove w", "it is b's turn"),
        ("genmove b w", "syntax error"),
        ("undo", "cannot undo"),
        ("boardsize 19", "unacceptable size"),
        ("final_score", "not over"),
        ("x" * 100_000, "unknown command"),
    ],
)
def test_bad_lines_get_one_refusal_and_change_nothing(engine, line, message):
    answer = engine.answer(line)
    assert answer.startswith("?") and message in answer and answer.endswith("\n\n")
    assert answer.count("\n") == 2
    assert engine.answer("genmove b").startswith("= ")


def test_serving_stops_at_quit_and_at_the_end_and_bounds_lines(engine):
    out = io.StringIO()
    serve(engine, io.StringIO("a" * (3 * MAX_LINE) + "\nversion\nquit\nversion\n"), out)
    answers = out.getvalue().split("\n\n")
    assert answers[0].startswith("? unknown") and answers[1].startswith("= 0")
    assert answers[2] == "=" and answers[3] == ""
    out = io.StringIO()
    serve(GtpEngine(GreedyPlayer(), engine.game), io.StringIO("version"), out)
    assert out.getvalue().startswith("= ")


def test_two_engines_play_a_game_that_ends():
    game = playout.game("connect_four")
    engines = [GtpEngine(make_player(spec, game), game) for spec in ("greedy", "uct:50")]
    for ply in range(42):
        colour = "bw"[ply % 2]
        move = engines[ply % 2].answer(f"genmove {colour}")[2:].strip()
        assert engines[1 - ply % 2].answer(f"play {colour} {move}") == "=\n\n"
        if engines[0].answer("final_score").startswith("="):
            break
    scores = {engine.answer("final_score") for engine in engines}
    assert len(scores) == 1 and scores.pop()[:3] in ("= B", "= W", "= 0")


def test_the_command_serves_standard_input(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("name\nquit\n"))
    assert main(["engine", "uct:10"]) == 0
    assert capsys.readouterr().out == "= playout uct:10\n\n=\n\n"
    assert main(["engine", "human"]) == 2
    assert main(["engine", "nobody"]) == 2
    assert "no player" in capsys.readouterr().err
