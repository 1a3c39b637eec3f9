"""UCI: whole sessions, limits, stopping, options, and what bad lines get."""

import io
import itertools
import re
import time

import playout
import pytest
from playout.agents.players.load import make_player
from playout.agents.players.protocols.lines import LineReader
from playout.agents.players.protocols.thinking import PROBE, Limits, Thinker
from playout.agents.players.protocols.uci import MAX_LINE, UciEngine, centipawns, serve
from playout.agents.players.search import SearchPlayer, playing_search
from playout.cli import main
from playout.mcts.evaluators import UniformEvaluator


@pytest.fixture
def four():
    return playout.game("connect_four")


def talk(engine, *lines):
    """What the engine says to these lines."""
    out = []
    engine.emit = out.append
    for line in lines:
        engine.take(line)
    return out


def test_a_session_is_answered_in_form(four):
    engine = UciEngine(make_player("greedy", four), four)
    said = talk(engine, "uci")
    assert said[0].startswith("id name playout") and said[-1] == "uciok"
    assert "option name MultiPV type spin default 1 min 1 max 256" in said
    assert talk(engine, "isready", "ucinewgame", "debug on") == ["readyok"]
    # Greedy must block a fourth stone, and then must win.
    assert talk(engine, "position startpos moves 1 2 1 2 1", "go")[-1] == "bestmove 1"
    assert talk(engine, "position startpos moves 1 2 1 2 1 3", "go nodes 5")[-1] == "bestmove 1"
    text = four.from_moves("121213").text
    assert talk(engine, f"position fen {text}", "go movetime 10")[-1] == "bestmove 1"
    assert talk(engine, f"position fen {text} moves 1", "go") == [
        "info string the game is over",
        "bestmove (none)",
    ]
    talk(engine, "quit")
    assert not engine.running


def test_lines_of_a_search_say_what_it_found(four):
    engine = UciEngine(make_player("uct:400", four), four)
    talk(engine, "setoption name multipv value 3", "setoption name UCI_ShowWDL value true")
    *infos, best = talk(engine, "position startpos moves 1 2", "go nodes 300")
    form = (
        r"info depth (\d+) seldepth \d+ multipv (\d) score cp (-?\d+) wdl (\d+) 0 (\d+) "
        r"nodes 300 nps \d+ time \d+ pv ([1-7 ]+)"
    )
    found = [re.fullmatch(form, line) for line in infos[-3:]]
    assert all(found) and [one[2] for one in found] == ["1", "2", "3"]
    assert best == f"bestmove {found[0][6].split()[0]}"
    for one in found:
        assert int(one[4]) + int(one[5]) == 1000 and int(one[1]) == len(one[6].split())
        assert (int(one[4]) > 500) == (int(one[3]) > 0) or int(one[3]) == 0
    # X wins by playing 1, the only move on that line: a proof, one move long.
    said = talk(engine, "position startpos moves 1 2 1 2 1 3", "go")
    assert "score mate 1 " in said[0] and said[-1] == "bestmove 1"


def test_centipawns_are_even_at_zero_rise_and_end():
    assert centipawns(0.0) == 0 and centipawns(1.0) == -centipawns(-1.0) > 3000
    assert centipawns(9 / 11) == 400  # ten wins to one loss


@pytest.mark.slow
def test_limits_are_kept(four, monkeypatch):
    engine = UciEngine(make_player("uct:100", four), four)
    talk(engine, "position startpos")

    def nodes(*lines):
        said = talk(engine, *lines)
        return int(re.search(r"nodes (\d+)", said[-2])[1])

    assert nodes("go") == 100 and nodes("go nodes 250") == 250
    assert nodes("setoption name Simulations value 70", "go") == 70
    assert nodes("setoption name Simulations value 0", "go") == 100
    assert len(talk(engine, "go depth 3")[-2].split(" pv ")[1].split()) >= 3
    ticks = itertools.count()  # a clock that goes on by a millisecond whenever it is looked at
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks) / 1000)
    for words, least, most in (
        ("movetime 300", 0.1, 0.5),
        ("wtime 3000 btime 10 winc 100", 0.05, 0.4),
        ("wtime 10 btime 10 movestogo 1", 0.0, 0.2),
        ("movetime 200 wtime 300000 btime 300000", 0.05, 0.4),
    ):
        begun = next(ticks)
        talk(engine, f"go {words}")
        assert least <= (next(ticks) - begun) / 1000 <= most, words
    monkeypatch.undo()
    assert talk(engine, "go searchmoves 7 nodes 50")[-1] == "bestmove 7"


def test_a_search_of_some_moves_speaks_of_these_alone(four):
    chess = playout.game("chess")
    mate = "position startpos moves f2f3 e7e5 g2g4"
    for spec in ("uct:200", "random", "greedy"):
        engine = UciEngine(make_player(spec, chess), chess)
        talk(engine, mate, "setoption name MultiPV value 9")
        for words in ("a7a6", "a7a6 b8c6 nodes 300", "a7a6 nodes 1 "):
            *infos, best = talk(engine, f"go searchmoves {words}")
            shown = [line.split(" pv ")[1].split()[0] for line in infos]
            assert shown and set(shown) <= {"a7a6", "b8c6"} and best == f"bestmove {shown[0]}"
            assert not any(" mate 1 " in line for line in infos)
    # X wins by 1, and whoever may not play that must block at 2: 7 loses, though it is named first.
    engine = UciEngine(make_player("uct:200", four), four)
    said = talk(engine, "position startpos moves 1 2 1 2 1 2", "go nodes 1 searchmoves 7 7 2 7")
    assert said[-1] == "bestmove 2" and len(said) == 2 and " pv 2" in said[0]


def test_a_search_of_some_moves_spends_all_it_has_on_them():
    chess = playout.game("chess")
    state = chess.from_moves("f2f3 e7e5 g2g4")
    only = [state.read_action(move) for move in ("a7a6", "b8c6", "h7h5")]
    network = SearchPlayer(chess, playing_search(64), UniformEvaluator())
    for player in (make_player("uct:200", chess), network):
        thinker = Thinker(player, chess)
        for limits in (Limits(simulations=90), Limits(simulations=90, depth=99), Limits()):
            found = thinker.think_among(only, state, limits, watch=lambda now: False)
            assert {one.action for one in found.candidates} == set(only)
            made = 90 if limits.any else thinker.usual_simulations
            assert sum(one.visits for one in found.candidates) == found.simulations == made


def test_an_endless_search_ends_at_stop_and_answers_while_it_runs(four):
    out = io.StringIO()
    engine = UciEngine(make_player("uct:100", four), four)
    serve(engine, io.StringIO("go infinite\nisready\nstop\nisready\ngo infinite\nquit\n"), out)
    said = out.getvalue().splitlines()
    kinds = [line.split()[0] for line in said if not line.startswith("info")]
    assert kinds == ["readyok", "bestmove", "readyok", "bestmove"] and not engine.running
    # The end of input ends an endless search, and lets others finish.
    out = io.StringIO()
    serve(UciEngine(make_player("uct:100", four), four), io.StringIO("go nodes 5000\n"), out)
    assert "nodes 5000" in out.getvalue() and "bestmove" in out.getvalue()
    serve(UciEngine(make_player("uct:100", four), four), io.StringIO("go infinite"), io.StringIO())


def test_pondering_is_refused_and_nothing_is_lost(four):
    engine = UciEngine(make_player("uct:50", four), four)
    said = talk(engine, "position startpos moves 4", "go ponder nodes 30")
    assert len(said) == 1 and "pondering is not supported" in said[0]
    assert talk(engine, "ponderhit")[-1].startswith("bestmove ")
    assert talk(engine, "ponderhit", "stop") == []
    talk(engine, "go ponder wtime 1000")
    assert talk(engine, "stop")[-1].startswith("bestmove ")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fly", "unknown command 'fly'"),
        ("position", "write it as"),
        ("position fen", "write it as"),
        ("position fen nonsense", "not a position"),
        ("position startpos moves 1 9", "move 2 (9): illegal move"),
        ("position startpos moves 0000", "move 1 (0000): there is no passing now"),
        ("position startpos moves 1 2 1 2 1 2 1 2", "move 8 (2): the game is over"),
        ("setoption Hash 3", "write it as"),
        ("setoption name Hash value 3", "no such option: Hash"),  # greedy does not search
        ("setoption name MultiPV value 0", "from 1 to 256"),
        ("setoption name MultiPV value many", "whole number"),
        ("setoption name UCI_ShowWDL value 1", "true or false"),
        ("setoption name UCI_Variant value chess", "can only be connect_four"),
        ("x" * (2 * MAX_LINE), "unknown command"),
        ("\x00\x01\x07fly", "unknown command 'fly'"),
    ],
)
def test_bad_lines_get_one_complaint_and_change_nothing(four, line, message):
    engine = UciEngine(make_player("greedy", four), four)
    talk(engine, "position startpos moves 1 2 1 2 1")
    said = talk(engine, line)
    assert len(said) == 1 and said[0].startswith("info string") and message in said[0]
    assert "\n" not in said[0] and len(said[0]) < 300
    assert talk(engine, "go")[-1] == "bestmove 1"


def test_words_of_go_that_nobody_knows_are_ignored(four):
    said = talk(UciEngine(make_player("uct:9", four), four), "go fast nodes 3")
    assert said[0] == "info string go: 'fast' is not understood"
    assert " nodes 3 " in said[1] and said[-1].split()[1] in "1234567"
    said = talk(UciEngine(make_player("uct:9", four), four), "go searchmoves 2 mate 3 nodes 4")
    assert said[0] == "info string go: 'mate' is not understood"
    assert " nodes 4 " in said[1] and said[1:][-1] == "bestmove 2"


def test_perft_counts_below_each_move():
    chess = playout.game("chess")
    said = talk(UciEngine(make_player("random", chess), chess), "go perft 2", "go perft x")
    assert said[:-2].count("e2e4: 20") == 1 and len(said) == 23
    assert said[20].strip() == "Nodes searched: 400"
    out = io.StringIO()
    engine = UciEngine(make_player("random", chess), chess)
    serve(engine, io.StringIO("go perft 1\nquit\n"), out)  # a script may leave before the end
    assert "Nodes searched: 20" in out.getvalue()
    assert said[21].startswith("info string go perft") and said[22] == "bestmove (none)"


def test_chess_goes_on_where_nobody_claims_a_draw():
    chess = playout.game("chess")
    engine = UciEngine(make_player("uct:9", chess), chess)
    knights = "g1f3 g8f6 f3g1 f6g8 " * 2
    for position in (
        f"startpos moves {knights}",
        f"startpos moves {knights} e2e4 e7e5",
        f"startpos moves {knights} e2e4 e7e5 {knights}",
        "fen 4k3/8/8/8/8/8/8/4KQ2 w - - 100 120",
        "fen 4k3/8/8/8/8/8/8/4KQ2 w - - 99 120 moves f1f2 e8d8",
        "fen 4k3/8/8/8/8/8/8/4KQ2 w - - 117 120",
    ):
        said = talk(engine, f"position {position}", "go nodes 4")
        assert said[0].startswith("info depth") and "(none)" not in said[-1], position


@pytest.mark.parametrize(
    ("fen", "score"),
    [
        ("7k/6Q1/6K1/8/8/8/8/8 b - - 0 1", "mate 0"),
        ("7k/6Q1/6K1/8/8/8/8/8 b - - 100 80", "mate 0"),
        ("7k/5Q2/6K1/8/8/8/8/8 b - - 0 1", "cp 0"),
    ],
)
def test_the_end_of_a_game_of_chess_has_a_score(fen, score):
    chess = playout.game("chess")
    said = talk(UciEngine(make_player("random", chess), chess), f"position fen {fen}", "go")
    assert said[1:] == [f"info depth 0 score {score}", "bestmove (none)"]


@pytest.mark.parametrize("words", ["nodes x", "movetime", "searchmoves 9", "nodes --3"])
def test_go_with_bad_words_still_gives_an_answer(four, words):
    said = talk(UciEngine(make_player("greedy", four), four), f"go {words}")
    assert said[0].startswith("info string go") or "searchmoves" in said[0]
    assert said[-1] == "bestmove (none)"


def test_input_is_read_ahead_and_cut(four):
    reader = LineReader(io.StringIO("a" * 100 + "\nb\n"), limit=10)
    assert reader.next() == "a" * 10 and reader.next() == "b\n"
    assert reader.next() is None and reader.next() is None and reader.waiting


def test_the_command_speaks_uci(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("uci\nposition startpos\ngo\nquit\n"))
    assert main(["engine", "uct:10", "--protocol", "uci", "--game", "tic_tac_toe"]) == 0
    assert re.search(r"uciok\ninfo .*\nbestmove \d\n$", capsys.readouterr().out)
    with pytest.raises(SystemExit):
        main(["engine", "uct:10", "--protocol", "xboard"])


def test_only_options_that_do_something_are_offered(four):
    def names(spec, **options):
        said = talk(UciEngine(make_player(spec, four), four, **options), "uci")
        return {re.match(r"option name (.+) type", line)[1] for line in said if "type" in line}

    plain = {"MultiPV", "Move Overhead", "UCI_ShowWDL", "UCI_Variant"}
    searching = plain | {"Hash", "Clear Hash", "Simulations", "UCI_AnalyseMode"}
    assert names("greedy") == plain
    assert names("uct:50") == searching
    asked = []

    def with_threads(count):
        asked.append(count)
        return make_player("uct:60", four)

    assert names("uct:50", with_threads=with_threads) == searching | {"Threads"}
    engine = UciEngine(make_player("uct:50", four), four, with_threads=with_threads)
    lines = (
        "Hash value 1",
        "Simulations value 90",
        "Threads value 2",
        "UCI_AnalyseMode value true",
    )
    assert not talk(engine, *(f"setoption name {line}" for line in lines))
    assert asked == [2] and engine.thinker.memory == 1  # what was set before stays
    assert engine.thinker.evenly and engine.thinker.player.config.num_simulations == 60
    assert "nodes 90" in talk(engine, "go")[-2]


def test_memory_bounds_the_tree_and_can_be_cleared(four):
    engine = UciEngine(make_player("uct:50", four), four)
    most = engine.thinker.most_simulations
    assert talk(engine, "setoption name Hash value 0") == [
        "info string Hash must be from 1 to 1048576, not 0"
    ]
    talk(engine, "setoption name hash value 1")
    small = engine.thinker.most_simulations
    assert 1000 <= small < most
    assert f"nodes {small} " in talk(engine, f"go nodes {10 * small}")[-2]
    # Whichever of the two options comes first.
    assert not talk(engine, f"setoption name Simulations value {10 * small}")
    assert engine.thinker.simulations == small
    assert not talk(engine, "setoption name Hash value 2048", "setoption name Hash value 1")
    assert engine.thinker.simulations == small
    talk(engine, "position startpos moves 4", "go nodes 300", "position startpos moves 4 4")
    searching = engine.thinker._searching
    assert searching._search is not None
    talk(engine, "setoption name Clear Hash")
    assert searching._search is None


def test_games_of_a_session_differ_and_come_again_with_its_seed():
    game = playout.game("gomoku(size=9)")

    def seen(seed):
        engine = UciEngine(make_player("uct:30", game, seed=seed), game)
        begin = (
            "isready",
            "ucinewgame",
            "setoption name Clear Hash",
            "setoption name Hash value 9",
        )
        talk(engine, "setoption name UCI_AnalyseMode value true")
        return [talk(engine, one, "go nodes 200")[-2].split(" pv ")[1] for one in begin]

    assert len({*seen(1), *seen(2)}) == 8 and seen(1) == seen(1)


def test_an_analysis_looks_at_all_moves_evenly_within_the_same_limits(four):
    def seen(*lines):
        engine = UciEngine(make_player("uct:200", four), four)
        talk(engine, "setoption name MultiPV value 7", *lines)
        said = talk(engine, "go nodes 400")
        return said[-1], [line for line in said if "multipv" in line]

    assert len(seen("setoption name UCI_AnalyseMode value true")[1]) == 7
    assert seen()[0].startswith("bestmove")


def test_the_first_timed_move_is_stopped_while_it_still_measures_its_speed(four):
    player = SearchPlayer(four, playing_search(32), UniformEvaluator(), name="uniform")
    asked = []

    def stop_once(thought):
        asked.append(thought().simulations)
        return len(asked) == 1

    found = Thinker(player, four).think(four.initial_state(), Limits(seconds=5.0), watch=stop_once)
    assert len(asked) == 1 and found.simulations < PROBE
