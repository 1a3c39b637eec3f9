"""Engines that others have written, on both sides of the protocols; skipped where not installed."""

import re
import subprocess
import sys

import playout
import pytest
from playout.agents.players.external.player import ExternalPlayer
from playout.agents.players.external.process import find_command
from playout.agents.players.external.spec import EngineOptions
from playout.agents.players.load import make_player
from playout.agents.players.protocols.gtp import GtpEngine
from playout.agents.players.protocols.gtp_go import fixed_points
from playout.agents.rating.arena import play_match
from playout.errors import ConfigError

pytestmark = pytest.mark.peer


def program(name):
    """The path of an installed program; the test is skipped where there is none."""
    try:
        return find_command(name)[0]
    except ConfigError:
        pytest.skip(f"{name} is not installed")


def meet(spec, other, game, games, **options):
    """A match of an engine that must not break down, and its score."""
    player = ExternalPlayer(spec, game, EngineOptions(processes=2, **options))
    try:
        match = play_match(player, make_player(other, game), game, games)
    finally:
        player.close()
    assert match.forfeits(spec) == {} and len(match.games) == games
    return match


def test_handicap_stones_are_those_of_gnu_go():
    gnugo = program("gnugo")
    for size in (7, 8, 9, 11, 12, 13, 19):
        script = "".join(
            f"boardsize {size}\nclear_board\nfixed_handicap {count}\n" for count in range(2, 10)
        )
        command = [gnugo, "--mode", "gtp"]
        said = subprocess.run(command, input=script, text=True, capture_output=True).stdout
        answers = said.split("\n\n")[2::3]
        for count, answer in zip(range(2, 10), answers, strict=True):
            points = fixed_points(size, count)
            assert answer.startswith("?") == (not points), (size, count)
            if points:
                start = playout.game(f"go(size={size})").initial_state()
                texts = [start.action_text(row * size + column) for row, column in points]
                assert sorted(answer[2:].split()) == sorted(texts), (size, count)


@pytest.mark.slow
def test_gnu_go_takes_dead_stones_before_it_passes_and_scores_as_we_do():
    gnugo = program("gnugo")
    game = playout.game("go(size=7,komi=7)")
    spec = "gtp:gnugo --mode gtp --level 1 --chinese-rules --positional-superko"
    match = meet(spec, "random", game, 6)
    assert match.score(spec)[0] == 6
    command = [gnugo, "--mode", "gtp", "--chinese-rules"]
    for played in match.games:
        engine = GtpEngine(make_player("random", game), game)
        script = "boardsize 7\nkomi 7\n"
        for action in played.moves:
            state = engine.state
            script += f"play {'bw'[state.to_play]} {state.action_text(action)}\n"
            engine.step([action])
        script += "final_score\nquit\n"
        said = subprocess.run(command, input=script, text=True, capture_output=True).stdout
        theirs = re.findall(r"^= (0|[BW]\+[\d.]+)$", said, re.M)[-1]
        ours = engine.answer("final_score")[2:].strip()
        assert ours[0] == theirs[0] and float(ours[2:]) == float(theirs[2:])


@pytest.mark.slow
def test_grhino_plays_othello_and_passes_where_it_must():
    program("gtp-rhino")
    match = meet("gtp:gtp-rhino", "greedy", playout.game("othello"), 8)
    assert match.score("gtp:gtp-rhino")[0] >= 6
    passes = [move == 64 for game in match.games for move in game.moves]
    assert any(passes)


def test_fairy_stockfish_plays_breakthrough():
    program("fairy-stockfish")
    spec = "uci:fairy-stockfish?nodes=300"
    assert meet(spec, "greedy", playout.game("breakthrough"), 4).score(spec)[0] == 4


@pytest.mark.slow
def test_stockfish_of_limited_strength_beats_random_moves_at_chess():
    program("stockfish")
    spec = "uci:stockfish?UCI_Elo=1320&nodes=200"
    match = meet(spec, "random", playout.game("chess(notation=san)"), 6)
    # It errs on purpose, by a clock that nobody can set: games may end in a draw.
    won, drawn, _ = match.score(spec)
    assert won + 0.5 * drawn >= 4.5


def test_python_chess_drives_our_engine_as_any_other():
    chess = pytest.importorskip("chess")
    engine = pytest.importorskip("chess.engine")
    command = [sys.executable, "-m", "playout", "engine", "uct:50", "--game", "chess"]
    limit = engine.Limit
    with engine.SimpleEngine.popen_uci([*command, "--protocol", "uci"], timeout=60) as ours:
        board = chess.Board()
        for _ in range(20):  # python-chess refuses what is no legal move
            played = ours.play(board, limit(nodes=20), info=engine.INFO_ALL)
            assert played.info["nodes"] == 20
            board.push(played.move)
        lines = ours.analyse(board, limit(nodes=60), multipv=3)
        assert len(lines) == 3 and all(line["pv"][0] in board.legal_moves for line in lines)
        assert len({line["pv"][0] for line in lines}) == 3
        mate = chess.Board("7k/R7/6K1/8/8/8/8/8 w - - 0 1")
        best = ours.play(mate, limit(nodes=400), info=engine.INFO_ALL)
        assert best.move.uci() == "a7a8" and best.info["score"].white() == engine.Mate(1)
        only = ours.play(mate, limit(nodes=10), root_moves=[chess.Move.from_uci("g6f6")])
        assert only.move.uci() == "g6f6"
        for bounds in (limit(time=0.2), limit(white_clock=5, black_clock=5, white_inc=0.1)):
            assert ours.play(board, bounds).move in board.legal_moves
        with ours.analysis(board) as analysis:  # endless until it is left
            assert next(iter(analysis))["nodes"] > 0
        assert {"Hash", "Clear Hash", "UCI_AnalyseMode"} <= set(ours.options)
        ours.configure({"Simulations": 30, "Threads": 2, "Hash": 64, "Clear Hash": None})
        assert ours.play(board, limit(), info=engine.INFO_ALL).info["nodes"] == 30
        again = chess.Board()
        for text in ["g1f3", "g8f6", "f3g1", "f6g8"] * 2:  # a draw that nobody claims
            again.push_uci(text)
        assert not again.is_game_over()
        assert ours.play(again, limit(nodes=5)).move in again.legal_moves
        over = ours.analyse(chess.Board("7k/6Q1/6K1/8/8/8/8/8 b - - 0 1"), limit(nodes=5))
        assert over["score"].relative == engine.Mate(0)


class Controller:
    """A GTP 2 program under a controller that takes nothing but what the protocol allows."""

    def __init__(self, command):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe)
        self.number = 0

    def ask(self, line):
        """An answer: its status, the number that was given, its text, and one empty line."""
        self.number += 1
        self.process.stdin.write(f"{self.number} {line}\n".encode())
        self.process.stdin.flush()
        lines = []
        while (read := self.process.stdout.readline()) != b"\n":
            assert read.endswith(b"\n") and b"\r" not in read, (line, read)
            lines.append(read.decode())
        status, _, text = "".join(lines).partition(" ")
        assert status.strip() == f"={self.number}", (line, lines)
        return text.rstrip("\n")

    def close(self):
        self.ask("quit")
        rest, _ = self.process.communicate(timeout=30)
        assert rest == b"" and self.process.returncode == 0


@pytest.mark.parametrize("ours_is", ["b", "w"])
def test_a_strict_controller_plays_our_engine_beside_gnu_go_and_sgfmill_counts(ours_is):
    boards = pytest.importorskip("sgfmill.boards")
    common = pytest.importorskip("sgfmill.common")
    rules = ["--chinese-rules", "--positional-superko", "--capture-all-dead"]
    gnugo = Controller([program("gnugo"), "--mode", "gtp", "--level", "1", *rules])
    ours = Controller([sys.executable, "-m", "playout", "engine", "uct:20", "--game", "go(size=9)"])
    try:
        plays_a_whole_game(ours, gnugo, ours_is, boards.Board(9), common.move_from_vertex)
    finally:
        for one in (ours, gnugo):
            one.process.kill()


def plays_a_whole_game(ours, gnugo, ours_is, board, read_vertex):
    """Until both have passed; the board says who has won, and both programs end as asked."""
    players = {ours_is: ours, "w" if ours_is == "b" else "b": gnugo}
    for one in (ours, gnugo):
        assert one.ask("protocol_version") == "2" and "genmove" in one.ask("list_commands").split()
        for line in ("boardsize 9", "clear_board", "komi 6.5"):
            assert one.ask(line) == ""
    color, passes, moves = "b", 0, 0
    while passes < 2 and moves < 160:
        mover, other = players[color], players["w" if color == "b" else "b"]
        vertex = mover.ask(f"genmove {color}").lower()
        assert vertex != "resign"
        assert other.ask(f"play {color} {vertex}") == ""
        passes = passes + 1 if vertex == "pass" else 0
        if vertex != "pass":  # a point that is taken is refused by both
            board.play(*read_vertex(vertex, 9), color)
        moves, color = moves + 1, "w" if color == "b" else "b"
    assert moves > 20 and passes == 2
    margin = board.area_score() - 6.5
    winner, points = ours.ask("final_score").split("+")
    assert winner == ("B" if margin > 0 else "W") and float(points) == abs(margin)
    for one in (ours, gnugo):
        one.close()
