"""GTP on Go boards: handicap, scores, colours that move twice, komi and sizes."""

from pathlib import Path

import numpy as np
import playout
import pytest
from playout.agents.players.load import make_player
from playout.agents.players.player import Forecast
from playout.agents.players.protocols.gtp import GtpEngine
from playout.agents.players.search import SearchPlayer
from playout.mcts.config import SearchConfig


@pytest.fixture
def engine():
    game = playout.game("go(size=9,komi=7)")
    return GtpEngine(make_player("uct:20", game), game)


def play(engine, text):
    """Plays "b D4 w C3"; everything must be accepted."""
    words = text.split()
    for colour, vertex in zip(words[::2], words[1::2], strict=True):
        assert engine.answer(f"play {colour} {vertex}") == "=\n\n", (colour, vertex)


def test_a_colour_may_move_twice_and_undo_takes_back_one_move(engine):
    play(engine, "b D4 b e5 w C3 w H8 b J9")
    assert engine.answer("play b D4").startswith("? illegal move")
    texts = ("D4", "pass", "E5", "C3", "pass", "H8", "J9")
    state = engine.game.initial_state()
    assert engine.moves == [state.read_action(text) for text in texts]
    for _ in range(5):
        assert engine.answer("undo") == "=\n\n"
    assert engine.answer("undo").startswith("? cannot undo")
    assert engine.state == engine.game.initial_state()
    # Two passes in a row end the game, so that nobody passes for the other then.
    play(engine, "b pass")
    assert engine.answer("play b D4").startswith("? ")


@pytest.mark.parametrize("spec", ["uct:20", "uct:200", "greedy"])
def test_a_colour_out_of_turn_does_not_end_the_game_by_a_second_pass(spec):
    game = playout.game("go(size=5,komi=0)")
    for command in (
        "genmove b",
        "reg_genmove b",
        "kgs-genmove_cleanup b",
        "kata-genmove_analyze b",
    ):
        engine = GtpEngine(make_player(spec, game), game)
        play(engine, "b C3")  # Black is ahead, and a pass of both would win at once
        engine.emit = lambda text: None
        answer = engine.answer(command)
        assert not engine.state.is_terminal and answer.split()[-1].lower() != "pass", command


def test_where_no_other_move_is_left_what_was_left_out_is_played(engine):
    state = engine.state
    assert engine.thinker.think_without(state.legal_actions, state).action in state.legal_actions


def test_the_score_is_that_of_the_rules(engine):
    assert engine.answer("final_score") == "= W+7\n\n"
    play(engine, "b E5")
    assert engine.answer("final_score") == "= B+74\n\n" and not engine.state.is_terminal
    assert engine.answer("komi 6.5") == "=\n\n"
    assert engine.answer("final_score") == "= B+74.5\n\n"
    play(engine, "w A1 b pass w pass")
    assert engine.state.is_terminal and engine.answer("final_score") == "= W+6.5\n\n"
    # A pass of each and no more stones: all that stands on the board lives.
    assert engine.answer("final_status_list alive") == "= E5\nA1\n\n"
    assert engine.answer("final_status_list dead") == "=\n\n"


def test_territory_is_what_the_score_counts(engine):
    wall = [f"{colour} {column}{row}" for row in range(1, 10) for colour, column in ("bD", "wF")]
    play(engine, " ".join(wall))
    for _ in range(2):  # before both have passed, and after
        lists = {
            status: engine.answer(f"final_status_list {status}")[2:].split()
            for status in ("black_territory", "white_territory", "dame", "dead", "seki")
        }
        assert set(lists["black_territory"]) == {f"{c}{r}" for c in "ABC" for r in range(1, 10)}
        assert set(lists["white_territory"]) == {f"{c}{r}" for c in "GHJ" for r in range(1, 10)}
        assert set(lists["dame"]) == {f"E{row}" for row in range(1, 10)}
        assert lists["dead"] == lists["seki"] == [] and all(
            len(set(points)) == len(points) for points in lists.values()
        )
        play(engine, "b pass w pass")
    assert engine.answer("final_score") == "= W+7\n\n"


def test_groups_of_stones_are_lists_of_connected_vertices(engine):
    play(engine, "b A9 b B9 b B8 w A8 w A7 b J1 w H1")
    groups = engine.answer("final_status_list alive")[2:].strip().split("\n")
    found = sorted(sorted(group.split()) for group in groups)
    assert found == [["A7", "A8"], ["A9", "B8", "B9"], ["H1"], ["J1"]]


class Owner(SearchPlayer):
    """Expects of every point that it is the side's that is named."""

    side = 0

    def forecast(self, states):
        owned = np.where(states.to_play() == self.side, 1.0, -1.0).astype(np.float32)
        return Forecast(ownership=np.broadcast_to(owned[:, None, None], (len(states), 5, 5)))


def test_a_cleanup_takes_dead_stones_before_it_passes():
    game = playout.game("go(size=5,komi=0.5)")
    engine = GtpEngine(Owner(game, SearchConfig(algorithm="uct", num_simulations=8)), game)
    wall = " ".join(f"b {column}2" for column in "ABCDE")
    play(engine, f"{wall} w B4 b A4 b C4")  # a white stone among black ones, two liberties left
    play(engine, "w pass b pass")
    assert engine.state.is_terminal
    assert engine.answer("known_command kgs-genmove_cleanup") == "= true\n\n"
    first = engine.answer("kgs-genmove_cleanup b")[2:].strip()
    assert first in ("B3", "B5")
    play(engine, "w pass")
    second = engine.answer("kgs-genmove_cleanup b")[2:].strip()
    assert {first, second} == {"B3", "B5"}
    assert "B4" not in engine.answer("final_status_list alive")
    play(engine, "w pass")
    assert engine.answer("kgs-genmove_cleanup b").startswith("= ")  # there is nothing to take
    assert engine.answer("kgs-genmove_cleanup").startswith("? syntax error")


def test_komi_and_size_make_the_game_anew(engine):
    play(engine, "b D4 w C3")
    assert engine.answer("komi 5.5") == "=\n\n" and len(engine.states) == 3
    assert engine.game.params["komi"] == 5.5 and engine.state.game is engine.game
    assert engine.answer("komi 1e9").startswith("? ")
    assert engine.game.params["komi"] == 5.5
    assert engine.answer("boardsize 13") == "=\n\n"
    assert engine.game.params["size"] == 13 and engine.game.params["komi"] == 5.5
    assert engine.answer("genmove b").startswith("= ")
    for size in ("1", "20", "9 13", "999"):
        assert engine.answer(f"boardsize {size}").startswith("? unacceptable size"), size
    assert len(engine.states) == 2


@pytest.mark.parametrize(
    ("size", "count", "vertices"),
    [
        (9, 2, "C3 G7"),
        (9, 4, "C3 G7 C7 G3"),
        (9, 9, "C3 G7 C7 G3 C5 G5 E3 E7 E5"),
        (19, 3, "D4 Q16 D16"),
        (19, 5, "D4 Q16 D16 Q4 K10"),
        (19, 7, "D4 Q16 D16 Q4 D10 Q10 K10"),
        (19, 8, "D4 Q16 D16 Q4 D10 Q10 K4 K16"),
        (13, 6, "D4 K10 D10 K4 D7 K7"),
        (7, 4, "C3 E5 C5 E3"),
        (8, 3, "C3 F6 C6"),
    ],
)
def test_a_fixed_handicap_stands_where_the_protocol_says(engine, size, count, vertices):
    engine.answer(f"boardsize {size}")
    answer = engine.answer(f"fixed_handicap {count}")
    assert sorted(answer[2:].split()) == sorted(vertices.split())
    assert engine.state.to_play == 1 and len(engine.states) == count + 1
    stones = engine.state.observe(0)
    assert stones[0].sum() == count and stones[1].sum() == 0
    assert engine.answer("fixed_handicap 2") == "? board not empty\n\n"
    assert engine.answer("genmove w").startswith("= ")


def test_a_free_handicap_is_placed_or_given(engine):
    assert engine.answer("set_free_handicap D4 E5 d6") == "=\n\n"
    assert engine.state.to_play == 1 and engine.state.observe(0)[0].sum() == 3
    engine.answer("clear_board")
    for line in ("D4", "D4 D4", "D4 pass", "D4 Z9", ""):
        assert engine.answer(f"set_free_handicap {line}") == "? bad vertex list\n\n"
        assert len(engine.states) == 1
    assert len(engine.answer("place_free_handicap 40")[2:].split()) == 9
    engine.answer("clear_board")
    for count in ("1", "10", "x"):
        assert engine.answer(f"fixed_handicap {count}").startswith("? ")
    engine.answer("boardsize 5")
    assert engine.answer("place_free_handicap 4").startswith("? invalid number of stones")


def test_play_goes_on_after_two_passes_that_players_do_not_agree_on(engine):
    for line in ("play b C3", "play w pass", "play b pass"):
        engine.answer(line)
    assert engine.state.is_terminal and engine.answer("get_komi") == "= 7\n\n"
    assert engine.answer("play w B2") == "=\n\n" and engine.state.observe(0)[:2].sum() == 2
    assert engine.game.from_moves(" ".join(["C3", "B2"])).text == engine.state.text
    for count in (4, 3, 2, 1):
        assert len(engine.states) == count + 1
        assert engine.answer("undo") == "=\n\n"
    assert engine.answer("undo").startswith("? cannot undo")
    assert engine.answer("play w pass") == "=\n\n" and engine.answer("play b pass") == "=\n\n"
    assert engine.answer("genmove w").startswith("= ") and engine.answer("stop") == "=\n\n"


def test_two_passes_hold_until_a_move_is_played(engine):
    play(engine, "b C3 w pass b pass")
    states, shown = engine.states, []
    engine.emit = shown.append
    for line in (
        *("play w Z9", "play w C3", "play w resign", "reg_genmove w", "kata-search_analyze w"),
        *("kata-analyze w 100", "kata-search_analyze 100"),
    ):
        before = len(shown)
        answer = engine.answer(line)
        assert answer.startswith("?") == line.startswith("play") and len(engine.states) == 4
        if not line.startswith(("play", "reg")):
            assert len(shown) > before and "info move" in shown[-1]
        assert engine.states == states and engine.state.is_terminal, line
    # An analysis without a colour is of the side that a move would be asked of.
    engine.answer("kata-analyze rootInfo true")
    assert shown[-1].rstrip().endswith("currentPlayer W")
    assert engine.answer("final_score") == "= B+74\n\n"
    assert engine.answer("genmove w").startswith("= ") and len(engine.states) == 5
    assert len(engine.moves) == 2


def test_files_are_loaded_from_the_one_folder_that_was_allowed(tmp_path):
    game = playout.game("go(size=9,komi=7)")
    (tmp_path / "a.sgf").write_text("(;GM[1]FF[4]SZ[9]KM[5.5];B[ee];W[cc];B[gg])")
    (tmp_path / "setup.sgf").write_text("(;GM[1]FF[4]SZ[9]KM[7]AB[ee][cc]PL[W];W[gg])")
    (tmp_path / "hex.sgf").write_text("(;FF[4]GM[11]SZ[11];B[a1])")
    (tmp_path / "broken.sgf").write_text("(;GM[1]FF[4]SZ[9];B[ee];W[ee])")
    (tmp_path.parent / "outside.sgf").write_text("(;GM[1]FF[4]SZ[9];B[ee])")
    (tmp_path / "link.sgf").symlink_to(tmp_path.parent / "outside.sgf")
    engine = GtpEngine(make_player("uct:20", game), game, files=tmp_path)
    assert engine.answer("loadsgf a.sgf") == "= white\n\n"
    assert engine.game.params["komi"] == 5.5 and len(engine.states) == 4
    assert engine.answer("undo") == "=\n\n" and engine.answer("play b A1") == "=\n\n"
    assert engine.answer("loadsgf a.sgf 2") == "= white\n\n" and len(engine.states) == 2
    assert engine.answer("loadsgf setup.sgf") == "= black\n\n"
    assert engine.state.observe(0)[0].sum() == 2 and engine.answer("genmove b").startswith("= ")
    before = engine.state
    for name in (
        *("../outside.sgf", "link.sgf", "none.sgf", "hex.sgf", "broken.sgf", str(tmp_path)),
        *(f"{tmp_path}/a.sgf", ".", "..", "", "a.sgf 0", "a.sgf x"),
    ):
        answer = engine.answer(f"loadsgf {name}")
        assert answer.startswith("? ") and answer.count("\n") == 2, name
    assert engine.state == before
    plain = GtpEngine(make_player("uct:20", game), game)
    assert plain.answer("loadsgf a.sgf").startswith("? cannot load file: start the engine with")


def test_a_file_without_a_komi_keeps_the_one_that_holds(tmp_path):
    game = playout.game("go(size=9,komi=6.5)")
    (tmp_path / "a.sgf").write_text("(;GM[1]FF[4]SZ[9];B[ee])")
    engine = GtpEngine(make_player("uct:20", game), game, files=tmp_path)
    assert engine.answer("loadsgf a.sgf") == "= white\n\n"
    assert engine.game.params["komi"] == 6.5


def test_a_file_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    game = playout.game("go(size=9)")
    engine = GtpEngine(make_player("uct:20", game), game, files=tmp_path)
    assert engine.answer(f"loadsgf {'a' * 300}.sgf").startswith("? cannot load file: ")
    (tmp_path / "a.sgf").write_text("(;GM[1]FF[4]SZ[9];B[ee])")

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert engine.answer("loadsgf a.sgf") == "? cannot load file: Permission denied\n\n"


@pytest.mark.parametrize("command", ["fixed_handicap 2", "set_free_handicap C3 D4"])
def test_no_handicap_is_put_beside_stones_that_were_set_up(engine, command):
    assert engine.answer("set_position b E5") == "=\n\n"
    assert engine.answer(command).startswith("? board not empty")
