"""The engine protocol: whole games, answers to bad lines, and the command."""

import io
import itertools
import re
import time
from dataclasses import replace

import numpy as np
import playout
import pytest
from playout.agents.players.load import make_player
from playout.agents.players.player import Forfeit
from playout.agents.players.protocols.clock import Clock
from playout.agents.players.protocols.gtp import MAX_LINE, GtpEngine, serve
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
        ("4294967295 name", "=4294967295 playout greedy\n\n"),
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


@pytest.mark.parametrize("protocol", ["gtp", "uci"])
def test_bytes_that_are_no_text_spoil_their_line_alone(protocol, monkeypatch, capsys):
    alive = {"gtp": b"name", "uci": b"isready"}[protocol]
    lines = io.BytesIO(alive + b"\n\xff\xe9\n" + alive + b"\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(lines, encoding="utf-8"))
    assert main(["engine", "uct:10", "--protocol", protocol]) == 0
    said = capsys.readouterr().out
    if protocol == "gtp":
        assert said == "= playout uct:10\n\n? unknown command\n\n= playout uct:10\n\n"
    else:
        first, complaint, last = said.splitlines()
        assert first == last == "readyok" and "unknown command" in complaint


def test_analysis_is_shown_until_another_line_comes():
    game = playout.game("connect_four")
    out = io.StringIO()
    script = "play b 4\nkata-analyze w 5 maxmoves 2 rootInfo true\n7 lz-analyze 5\nshowboard\n"
    serve(GtpEngine(make_player("uct:100", game), game), io.StringIO(script), out)
    played, first, second, board, _ = out.getvalue().split("\n\n", 4)
    assert played == "=" and "\n. . . O" not in board and "X" in board
    head, *lines = first.split("\n")
    assert head == "=" and lines
    kata = (
        r"info move ([1-7]) visits \d+ utility (-?[\d.]+) winrate ([\d.]+) prior [\d.]+ "
        r"lcb [\d.]+ order (\d) pv ([1-7 ]+)"
    )
    for line in lines:
        found = list(re.finditer(kata, line))
        assert [one[4] for one in found] == ["0", "1"][: len(found)] and found
        assert float(found[0][3]) == pytest.approx((1 + float(found[0][2])) / 2, abs=1e-5)
        assert found[0][5].split()[0] == found[0][1]
        assert re.search(r"rootInfo visits \d+ winrate [\d.]+ .*currentPlayer W", line)
    head, *lines = second.split("\n")
    assert head == "=7"
    assert re.match(r"info move [1-7] visits \d+ winrate \d+ prior \d+ lcb \d+ order 0", lines[0])


@pytest.mark.parametrize(
    "command", ["genmove_analyze", "lz-genmove_analyze", "kata-genmove_analyze"]
)
def test_a_move_can_be_made_while_its_search_is_shown(command):
    game = playout.game("connect_four")
    engine, shown = GtpEngine(make_player("uct:200", game), game), []
    engine.emit = shown.append
    answer = engine.answer(f"3 {command} b 1")
    move = re.fullmatch(r"play ([1-7])\n\n", answer)[1]
    assert shown[0] == "=3\n" and shown[-1].startswith(f"info move {move} visits ")
    assert len(engine.states) == 2 and engine.states[1] == game.from_moves(move)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lz-analyze b fast", "fast is not understood"),
        ("kata-analyze interval x", "interval needs a whole number"),
        ("kata-analyze ownership 3", "true or false"),
        ("kata-analyze noise 5", "noise is not understood"),
        ("kata-analyze w", "it is b's turn"),
        ("komi", "a number expected"),
        ("komi seven", "not a number"),
        ("komi nan", "not a number"),
        ("boardsize -3", "whole number"),
        ("boardsize 2", "unacceptable size"),
        ("time_settings 1 2", "3 words expected"),
        ("time_settings -1 2 3", "from 0 to"),
        ("time_left b x 0", "not a number"),
        ("time_left q 3 0", "syntax error"),
        ("reg_genmove w", "it is b's turn"),
        ("fixed_handicap 2", "no handicap stones"),
        ("final_status_list lost", "alive, dead"),
        ("play b pass", "illegal move"),
    ],
)
def test_more_bad_lines_get_one_refusal(engine, line, message):
    shown = []
    engine.emit = shown.append
    answer = engine.answer(line)
    assert answer.startswith("?") and message in answer and answer.count("\n") == 2 and not shown


@pytest.fixture
def expecting(monkeypatch):
    """An engine for Go that resigns, and a list of what it is about to expect of its moves."""
    game, values = playout.game("go(size=5)"), []
    engine = GtpEngine(make_player("uct:20", game), game, resign_below=-0.9)
    think = engine.thinker.think

    def thought(*given, **more):
        return replace(think(*given, **more), value=values.pop(0))

    monkeypatch.setattr(engine.thinker, "think", thought)
    return engine, values


@pytest.mark.parametrize("command", ["genmove", "kata-genmove_analyze"])
def test_a_side_resigns_that_expects_little_at_three_moves_in_a_row(expecting, command):
    engine, values = expecting
    values += [-0.95, -0.95, -0.89, -0.95, 0.5, -0.95, 0.5, -1.0]
    moves = [engine.answer(f"{command} {colour}").split()[-1] for colour in "bbbbwbwb"]
    assert moves[-1] == "resign" and "resign" not in moves[:-1]
    last = len(engine.states)
    values += [-0.95, -0.95]
    assert engine.answer(f"{command} b").split()[-1] == "resign"  # as long as it expects no more
    assert len(engine.states) == last  # nothing was played
    engine.answer("clear_board")
    assert engine.answer(f"{command} b").split()[-1] != "resign"


def test_an_engine_that_was_not_asked_to_never_resigns(expecting):
    engine, values = expecting
    engine.resign_below = -1.0
    values += 4 * [-1.0]
    assert "resign" not in "".join(engine.answer("genmove b") for _ in range(4))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resign-below", "-2"], "--resign-below must be from -1 to 1"),
        (["--resign-below", "-0.9", "--protocol", "uci"], "UCI has no word for resigning"),
    ],
)
def test_resigning_is_for_gtp_and_in_bounds(words, message, capsys):
    assert main(["engine", "uct:5", *words]) == 2
    assert message in capsys.readouterr().err


def test_boards_of_another_size_are_made_where_the_player_can_play_them():
    game = playout.game("connect_four")
    engine = GtpEngine(make_player("uct:20", game), game)
    engine.answer("play b 4")
    assert engine.answer("boardsize 6 5") == "=\n\n"
    assert str(engine.game) == "connect_four(width=6, height=5, run=4)" and len(engine.states) == 1
    assert engine.answer("play b 6") == "=\n\n" and engine.answer("play w 7").startswith("?")
    assert engine.answer("genmove w").startswith("= ")
    # A player that is tied to its game says so, and everything stays as it was.
    engine = GtpEngine(make_player("alphabeta:2", game), game)
    assert engine.answer("boardsize 6 5").startswith("? unacceptable size: alphabeta:2 plays")
    assert engine.game == game


@pytest.mark.slow
def test_time_settings_bound_what_a_move_takes(monkeypatch):
    ticks = itertools.count()  # a clock that goes on by a millisecond whenever it is looked at
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks) / 1000)
    game = playout.game("connect_four")
    engine = GtpEngine(make_player("uct:1000000", game), game)
    for settings in ("time_settings 3 0 0", "time_settings 0 1 10", "time_settings 0 1 1"):
        assert engine.answer(settings) == "=\n\n"
        begun = next(ticks)
        assert engine.answer(f"genmove {'bw'[engine.state.to_play]}").startswith("= ")
        assert next(ticks) - begun < 1500
    assert engine.answer("time_left w 0 1") == "=\n\n"
    begun = next(ticks)
    assert engine.answer(f"genmove {'bw'[engine.state.to_play]}").startswith("= ")
    assert next(ticks) - begun < 700


def test_a_clock_counts_main_time_and_canadian_overtime(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("playout.agents.players.protocols.clock.time.monotonic", lambda: now[0])
    clock = Clock(10.0, 5.0, 2)

    def think(seconds):
        clock.begin()
        now[0] += seconds
        clock.end()

    assert 0.3 < clock.seconds() < 5
    think(4)
    assert clock.main == 6
    think(7)  # a second of the first period, which has one move less
    assert clock.main == 0 and (clock.period_left, clock.stones_left) == (4, 1)
    assert 3 < clock.seconds() < 4
    think(1)
    assert clock.seconds() < 2.5 and clock.stones_left == 2
    clock.set_left(30, 5)
    assert 5 < clock.seconds() < 6
    clock.set_left(60, 0)
    assert clock.main == 60
    absolute = Clock(1.0)
    assert 0.01 <= absolute.seconds() < 0.1
    absolute.set_left(0, 0)
    assert absolute.seconds() == 0.01


def test_a_peer_may_tell_of_overtime_that_no_settings_named(engine, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("playout.agents.players.protocols.clock.time.monotonic", lambda: now[0])
    assert engine.answer("time_left w 30 2") == "=\n\n"
    clock = engine.clocks[1]
    assert 14 < clock.seconds() < 15
    for left, seconds in ((1, 25), (0, 0.01)):  # nobody knows what comes after its moves
        clock.begin()
        now[0] += 2.5
        clock.end()
        assert clock.stones_left == left and clock.seconds() == pytest.approx(seconds, abs=3)
    clock.set_left(30, 10)
    clock.set_left(0, 0)
    assert clock.seconds() == 0.01


def test_games_of_a_session_differ_and_come_again_with_its_seed():
    game = playout.game("go(size=5)")
    begin = ("clear_board", "clear_board", "boardsize 6", "boardsize 5", "komi 0.5", "komi 7.5")

    def moves(seed, command):
        engine = GtpEngine(make_player("uct:30", game, seed=seed), game)

        def one():
            return " ".join(engine.answer(f"{command} {'bw'[ply % 2]}") for ply in range(6))

        found = [one()]
        for line in begin:
            assert engine.answer(line) == "=\n\n"
            engine.answer("clear_board")
            found.append(one())
        return found

    for command in ("genmove", "kata-genmove_analyze"):
        first, second = moves(1, command), moves(2, command)
        assert len({*first, *second}) == 2 * len(first)
        assert moves(1, command) == first


def test_clocks_are_wound_up_when_a_game_begins():
    game = playout.game("connect_four")
    engine = GtpEngine(make_player("uct:20", game), game)
    assert engine.answer("time_settings 600 30 5") == "=\n\n"
    assert engine.answer("kata-set-param maxVisits 33") == "=\n\n"
    whole = engine.clocks[0].seconds()
    for begin in ("clear_board", "boardsize 7 6", "boardsize 6 5"):
        engine.answer("time_left b 1 0")
        engine.answer("time_left w 2 3")
        assert [clock.seconds() < whole / 2 for clock in engine.clocks] == [True, True]
        assert engine.answer(begin) == "=\n\n"
        assert [clock.seconds() for clock in engine.clocks] == [whole, whole], begin
        assert engine.answer("kata-get-param maxVisits") == "= 33\n\n", begin
    engine.answer("time_settings 0 1 0")  # no limit any more
    engine.answer("time_left b 1 0")
    assert engine.answer("clear_board") == "=\n\n" and engine.clocks == [None, None]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["greedy", "--resign-below", "-0.9"], "greedy does not say what it expects"),
        (["greedy", "--protocol", "uci", "--files", "."], "leave --files out"),
    ],
)
def test_options_that_would_do_nothing_are_refused(words, message, capsys):
    assert main(["engine", *words]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and message in said[0]


class Resigner:
    """Gives up at once, as an engine behind it would."""

    name = "resigner"

    def reset(self, seed):
        pass

    def act(self, states):
        raise AssertionError("it is told the moves")

    def act_after(self, states, lines):
        return np.full(len(states), -1, np.int32), {0: Forfeit("resigned", failed=False)}

    def observe(self, states, actions):
        pass

    def close(self):
        pass


def test_an_engine_behind_this_one_may_resign():
    game = playout.game("go(size=5)")
    engine = GtpEngine(Resigner(), game)
    engine.emit = lambda text: None
    for command in ("genmove b", "reg_genmove b", "kgs-genmove_cleanup b"):
        assert engine.answer(command) == "= resign\n\n", command
    assert engine.answer("genmove_analyze b").split()[-2:] == ["play", "resign"]
    assert len(engine.states) == 1
